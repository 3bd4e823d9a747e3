"""Where the relevant images of each query stand in its full, exact ranking of the gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.full_ranking import FullRanking
from retrieval.neighbours import Budget, check_integers, check_vectors, torch_device
from retrieval.shortlist import Gallery

MOST: Final = 1 << 28
"""Right images of all queries together: some 60 bytes each until the report is written, 16 GB."""


@dataclass(frozen=True)
class Ranks:
    """The ranks of all relevant images, query by query, one after the other.

    Every retrieval metric is a function of these. Rank 1 is the nearest; the query itself has no rank.

    Attributes:
        offsets: (n + 1,) int64, ascending from 0: query i has ``ranks[offsets[i] : offsets[i + 1]]``.
        ranks: (offsets[-1],) int64, ascending within a query; ``NEVER`` for those that a search did not return, which
            an exact one never leaves out.
        places: (offsets[-1],) int64, where in the gallery the image of each rank stands.
        candidates: (n,) int64, how many images the ranking of each query has.
    """

    offsets: np.ndarray
    ranks: np.ndarray
    places: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def relevant(self) -> np.ndarray:
        """How many relevant images each query has, (n,) int64."""
        return np.diff(self.offsets)


NEVER: Final = int(np.iinfo(np.int64).max)
"""The rank of what was not returned."""


def relevant_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    device: str = "cpu",
    budget: Budget = Budget(),
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Ranks:
    """Rank the whole gallery for each query, exactly, and say where the images of its class stand.

    Similarity is that of ``retrieval.neighbours.top_k``: it depends on the pair alone, ties are broken by id, the
    lower first, and an image with the query's id is left out. So tiles, threads, order and device change nothing.

    Args:
        queries: (n, d) float32 or float16, L2-normalised.
        gallery: (m, d) float32 or float16, L2-normalised; may be memory-mapped.
        query_labels: (n,) integers, none negative.
        gallery_labels: (m,) integers; images with a negative one are relevant to no query.
        query_ids: (n,) integers.
        gallery_ids: (m,) integers, none negative, none twice.
        device: "cpu", "cuda" or "cuda:N"; "auto" takes CUDA where torch is in memory already and sees it.
        budget: working memory beside the arguments and the answer, and threads. The answer has 16 bytes for each right
            image of each query.
        progress: called with queries done and queries in all.

    Raises:
        InputError: vectors that are not (n, d) float16 or float32, of two dimensions d, or not finite; labels or ids
            that do not fit; more than ``MOST`` right images; a device that is not there.
    """
    check_vectors(queries, "queries")
    check_vectors(gallery, "gallery")
    n, (m, d) = len(queries), gallery.shape
    if queries.shape[1] != d:
        raise InputError(f"the queries have dimension {queries.shape[1]} and the gallery has {d}")
    query_labels, query_ids = check_integers(query_labels, n, "query_labels"), check_integers(query_ids, n, "query_ids")
    gallery_labels = check_integers(gallery_labels, m, "gallery_labels")
    gallery_ids = check_integers(gallery_ids, m, "gallery_ids")
    if n and query_labels.min() < 0:
        raise InputError("query_labels must not be negative; leave out queries without a label")
    if m and gallery_ids.min() < 0:
        raise InputError("gallery_ids must not be negative")
    if len(np.unique(gallery_ids)) < m:
        raise InputError("two images of the gallery have the same id")
    where = torch_device(device)
    own = positions_of(query_ids, gallery_ids)
    relevance = _Relevance(query_labels, gallery_labels, own)
    offsets = np.concatenate([[0], np.cumsum(relevance.counts)])
    if offsets[-1] > MOST:
        raise InputError(
            f"{n:,} queries have {offsets[-1]:,} right images in all, and the ranks of {MOST:,} fit in memory; "
            "ask with fewer queries, or by finer classes"
        )
    found = Ranks(
        offsets,
        np.empty(offsets[-1], np.int64),
        np.empty(offsets[-1], np.int64),
        np.where(own >= 0, m - 1, m),
    )

    def store(some: np.ndarray, its_offsets: np.ndarray, ranks: np.ndarray, places: np.ndarray) -> None:
        targets = _spread(offsets[some], its_offsets)
        found.ranks[targets], found.places[targets] = ranks, places

    if n and m:
        FullRanking(
            Gallery(gallery, gallery_ids),
            relevance.counts,
            relevance.places,
            own,
            store=store,
            device=where,
            budget=budget,
            progress=progress,
        ).run(queries)
    return found


class _Relevance:
    """Which images of the gallery are relevant to each query."""

    def __init__(self, query_labels: np.ndarray, gallery_labels: np.ndarray, own: np.ndarray) -> None:
        self._places = np.argsort(gallery_labels, kind="stable")
        ordered = gallery_labels[self._places]
        self._first = np.searchsorted(ordered, query_labels, side="left")
        self._own = np.where((own >= 0) & (gallery_labels[own] == query_labels) if len(ordered) else False, own, -1)
        size = np.searchsorted(ordered, query_labels, side="right") - self._first
        self.counts = size - (self._own >= 0)  # (n,)

    def places(self, query: int) -> np.ndarray:
        """Positions of the images relevant to a query, ascending."""
        own = self._own[query]
        places = self._places[self._first[query] : self._first[query] + self.counts[query] + (own >= 0)]
        return places if own < 0 else places[places != own]


def positions_of(ids: np.ndarray, gallery_ids: np.ndarray) -> np.ndarray:
    """Where in the gallery ids stand: int64 in the shape of ``ids``, -1 where they do not; ``gallery_ids`` (m,)."""
    if len(gallery_ids) == 0:
        return np.full(ids.shape, -1, np.int64)
    by_id = np.argsort(gallery_ids, kind="stable")
    at = by_id[np.minimum(np.searchsorted(gallery_ids, ids, sorter=by_id), len(by_id) - 1)]
    return np.where(gallery_ids[at] == ids, at, -1)


def ranks_of_found(
    positions: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, *, own: np.ndarray
) -> Ranks:
    """Say where relevant images stand among what an approximate search returned; the others have the rank ``NEVER``.

    Args:
        positions: (n, k) int64, in the gallery, nearest first, -1 in empty slots.
        query_labels: (n,) int64, none negative.
        gallery_labels: (m,) int64.
        own: (n,) int64, where each query stands in the gallery and is not to be found, -1 nowhere.
    """
    relevance = _Relevance(query_labels, gallery_labels, own)
    offsets = np.concatenate([[0], np.cumsum(relevance.counts)])
    ranks, places = np.full(offsets[-1], NEVER, np.int64), np.empty(offsets[-1], np.int64)
    for query in range(len(positions)):
        listed = positions[query][(positions[query] >= 0) & (positions[query] != own[query])]
        right = np.flatnonzero(gallery_labels[listed] == query_labels[query])
        start, stop = offsets[query], offsets[query + 1]
        ranks[start : start + len(right)], places[start : start + len(right)] = right + 1, listed[right]
        places[start + len(right) : stop] = np.setdiff1d(relevance.places(query), listed[right], assume_unique=True)
    return Ranks(offsets, ranks, places, np.where(own >= 0, len(gallery_labels) - 1, len(gallery_labels)))


def joined(parts: Sequence[tuple[np.ndarray, Ranks]]) -> Ranks:
    """Put the ranks of some queries each together: [(places of the queries, ascending; their ranks)] → those of all."""
    if len(parts) == 1:
        return parts[0][1]
    n = sum(len(some) for some, _ in parts)
    counts, candidates = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for some, part in parts:
        counts[some], candidates[some] = part.relevant, part.candidates
    offsets = np.concatenate([[0], np.cumsum(counts)])
    ranks, places = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
    for some, part in parts:
        targets = _spread(offsets[some], part.offsets)
        ranks[targets], places[targets] = part.ranks, part.places
    return Ranks(offsets, ranks, places, candidates)


def _spread(starts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where the entries of a ragged array go, whose rows begin at ``offsets`` and are to begin at ``starts``."""
    return np.repeat(starts - offsets[:-1], np.diff(offsets)) + np.arange(offsets[-1])
