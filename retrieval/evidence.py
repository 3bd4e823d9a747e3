"""What speaks for a label of a picture: its nearest labelled neighbours, and what a classifier head says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.neighbours import top_k

K: Final = 50
"""Neighbours that are looked at; how many of them vote is fitted."""
NUMBERS: Final = 1 << 24  # of neighbours' vectors at a time: 64 MiB


@dataclass(frozen=True)
class LabelledGallery:
    """Labelled vectors that vote.

    Attributes:
        vectors: (m, dim) float32, L2-normalised.
        codes: (m,) int64, places in ``labels``; no image without a label is among them.
        labels: c of them, sorted.
    """

    vectors: np.ndarray
    codes: np.ndarray
    labels: Sequence[str]

    @property
    def counts(self) -> np.ndarray:
        """(c,) int64, images of each label."""
        return np.bincount(self.codes, minlength=len(self.labels))


@dataclass(frozen=True)
class Evidence:
    """What is known of n pictures.

    Attributes:
        places: (n, K) int64, of neighbours in the gallery, nearest first; -1 in empty slots.
        codes: (n, K) int64, their labels; -1 in empty slots.
        similarities: (n, K) float32, cosine; -inf in empty slots.
        copies: (n, K) float32, of each neighbour the cosine to the most similar nearer neighbour of its label; -inf
            where there is none: what is nearly 1 is a second picture of one moment.
        logits: (n, h) float32 of the classifier head; None without one.
    """

    places: np.ndarray
    codes: np.ndarray
    similarities: np.ndarray
    copies: np.ndarray
    logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, some: np.ndarray | slice) -> Evidence:
        """That of some of the pictures."""
        return Evidence(
            self.places[some],
            self.codes[some],
            self.similarities[some],
            self.copies[some],
            None if self.logits is None else self.logits[some],
        )


def gather(
    queries: np.ndarray,
    gallery: LabelledGallery,
    *,
    without: tuple[np.ndarray, np.ndarray] | None = None,
    logits: np.ndarray | None = None,
    k: int = K,
    device: str = "cpu",
) -> Evidence:
    """Find the nearest labelled neighbours of pictures, by exact search.

    Args:
        queries: (n, dim) float32, L2-normalised.
        gallery: what votes.
        without: (n,) and (m,) int64, not negative: a query does not find what has its number. For leave-one-out
            numbers of pictures, where copies have one number; for leaving classes out their codes.
        logits: (n, h) of the classifier head.
        k: neighbours.
        device: where neighbours are computed.
    """
    own, others = (None, None) if without is None else without
    places, similarities = top_k(
        queries,
        gallery.vectors,
        min(k, len(gallery.codes)),
        query_groups=own,
        gallery_groups=others,
        device=device,
    )
    codes = np.where(places >= 0, gallery.codes[places], -1)
    return Evidence(places, codes, similarities, copies_among(places, codes, gallery.vectors), logits)


def copies_among(places: np.ndarray, codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Give of each neighbour the largest cosine to a nearer neighbour of the same label; see ``Evidence.copies``."""
    n, k = places.shape
    found = np.full((n, k), -np.inf, np.float32)
    nearer = np.tri(k, k, -1, dtype=bool)
    step = max(1, NUMBERS // max(1, k * vectors.shape[1]))
    for start in range(0, n, step):
        some = slice(start, start + step)
        near = vectors[places[some]].astype(np.float32)  # (b, k, dim)
        cosines = near @ near.transpose(0, 2, 1)  # (b, k, k)
        same = (codes[some][:, :, None] == codes[some][:, None, :]) & nearer
        found[some] = np.where(same, cosines, -np.inf).max(axis=2, initial=-np.inf)
    return np.where(codes >= 0, found, -np.inf).astype(np.float32)


def counted(evidence: Evidence, *, k: int, same_from: float) -> np.ndarray:
    """Give the labels of the neighbours that vote: the k nearest, of near copies only the nearest.

    Args:
        evidence: of n pictures.
        k: voters.
        same_from: cosine from which two pictures of one label are copies.

    Returns:
        (n, K) int64; -1 where a neighbour does not vote.
    """
    kept = (evidence.codes >= 0) & (evidence.copies < same_from)
    return np.where(kept & (np.cumsum(kept, axis=1) <= k), evidence.codes, -1)
