"""Rankings by brute force: what the engine and the formulas are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from retrieval.ranks import NEVER, Ranks

KINDS = ("random", "tied", "duplicated", "single-image classes", "long-tailed")


@dataclass(frozen=True)
class Case:
    """Queries that each have a relevant image, against a gallery.

    Attributes:
        similarities: (n, g) float64.
        query_labels: (n,) int64.
        gallery_labels: (g,) int64, -2 for an unlabelled distractor.
        query_ids: (n,) int64; a gallery image of the same id is the query itself.
        gallery_ids: (g,) int64, all different.
        vectors: of queries (n, dim) and gallery (g, dim) float32, whose products the similarities are.
    """

    similarities: np.ndarray
    query_labels: np.ndarray
    gallery_labels: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    vectors: tuple[np.ndarray, np.ndarray]

    def orders(self) -> list[list[int]]:
        """The places of the gallery from nearest to farthest, of each query: ties by id, itself left out."""
        return [
            sorted(
                (place for place in range(len(self.gallery_ids)) if self.gallery_ids[place] != own),
                key=lambda place, row=row: (-row[place], self.gallery_ids[place]),
            )
            for row, own in zip(self.similarities.tolist(), self.query_ids.tolist(), strict=True)
        ]

    def relevance(self) -> list[list[bool]]:
        """Whether each image of each query's ranking is relevant, nearest first."""
        return [
            [bool(self.gallery_labels[place] == label) for place in order]
            for order, label in zip(self.orders(), self.query_labels, strict=True)
        ]


def rank_by_force(case: Case) -> Ranks:
    """Rank every relevant image of every query with Python's sort."""
    ranks, places, lengths = [], [], [0]
    orders = case.orders()
    for order, label in zip(orders, case.query_labels, strict=True):
        found = [(rank, place) for rank, place in enumerate(order, 1) if case.gallery_labels[place] == label]
        ranks += [rank for rank, _ in found]
        places += [place for _, place in found]
        lengths.append(len(found))
    return Ranks(
        offsets=np.cumsum(lengths),
        ranks=np.array(ranks, dtype=np.int64),
        places=np.array(places, dtype=np.int64),
        candidates=np.array([len(order) for order in orders], dtype=np.int64),
    )


def forget(ranks: Ranks, deeper_than: int) -> Ranks:
    """The same ranks as of a search that returned only so many images."""
    return Ranks(
        offsets=ranks.offsets,
        ranks=np.where(ranks.ranks > deeper_than, NEVER, ranks.ranks),
        places=ranks.places,
        candidates=ranks.candidates,
    )


def make_case(kind: str, seed: int, *, images: int = 30, leave_one_out: bool = True) -> Case:
    """Draw a case of one of ``KINDS``; a query without a relevant image is left out of it.

    "tied": similarities take a few values. "duplicated": each vector is there about three times, often under another
    label. "single-image classes": no class has more than one image in the gallery that is relevant to a query.
    "long-tailed": a few classes have most images, and some images have no label.
    """
    rng = np.random.default_rng(seed)
    dim = 8
    tail = np.maximum(1, images // (3 * np.arange(1, images + 1)))  # class sizes: a third, a sixth, a ninth, ...
    labels = {
        "single-image classes": np.arange(images) // 2 if leave_one_out else rng.permutation(images),
        "long-tailed": rng.permutation(np.repeat(np.arange(images), tail)[:images]),
    }.get(kind, rng.integers(0, max(2, images // 6), images))
    vectors = rng.standard_normal((images, dim)) + 0.7 * rng.standard_normal((images, dim))[labels % images]
    if kind == "tied":
        vectors = np.eye(dim)[rng.integers(0, 4, images)] + np.eye(dim)[rng.integers(0, 4, images)]
    elif kind == "duplicated":
        vectors = vectors[rng.integers(0, max(2, images // 3), images)]
    if kind != "tied":  # whole numbers: their products are exact in float32 too, however they are summed
        vectors = np.round(vectors * 8)
    vectors = vectors.astype(np.float32)
    ids = rng.permutation(images * 3)[:images]
    gallery_labels = labels.copy()
    if kind == "long-tailed":
        gallery_labels[rng.random(images) < 0.1] = -2
    if leave_one_out:
        chosen, query_ids, query_labels, queries = np.arange(images), ids, gallery_labels, vectors
    else:
        chosen = rng.permutation(images)[: max(2, images // 2)]
        query_ids, query_labels = ids[chosen] + images * 3, labels[chosen]
        queries = vectors[chosen] if kind == "tied" else np.roll(vectors[chosen], 1, axis=1)
    others = (gallery_labels == query_labels[:, None]) & (ids != query_ids[:, None])
    measured = others.any(axis=1) & (query_labels >= 0)
    queries = queries[measured]
    return Case(
        similarities=queries.astype(np.float64) @ vectors.T.astype(np.float64),
        query_labels=query_labels[measured],
        gallery_labels=gallery_labels,
        query_ids=query_ids[measured],
        gallery_ids=ids,
        vectors=(queries, vectors),
    )


def cases(*kinds: str) -> st.SearchStrategy[Case]:
    """Cases of every kind, or of those named, with at least one query."""
    return st.builds(
        make_case,
        st.sampled_from(kinds or KINDS),
        st.integers(0, 2**32 - 1),
        images=st.integers(6, 40),
        leave_one_out=st.booleans(),
    ).filter(lambda case: len(case.query_ids) > 0)
