"""Where the relevant images of each query stand in its full, exact ranking of the gallery."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.machine import cores
from retrieval.neighbours import (
    DEVICE_QUERIES,
    SMALL,
    THREAD_BYTES,
    Budget,
    check_integers,
    check_vectors,
    together,
    torch_device,
)
from retrieval.rank_scan import COUNTED, RankScan, TorchRankScan, Wanted
from retrieval.scan import LONGEST, Part, longest, one_blas_thread, true_float32
from retrieval.shortlist import Gallery, as_float32

QUERIES_AT_ONCE: Final = 256
TILE: Final = 1024
"""Vectors compared at once with as many as ``QUERIES_AT_ONCE``: products and masks stay in a core's own cache."""
SORTED_QUERIES: Final = 32
SORTED_TILE: Final = 1 << 14
"""Where products are sorted, long runs for few queries."""
DEVICE_NUMBERS: Final = 1 << 24  # of a tile's product on a GPU, some 40 bytes each


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
        budget: working memory beside the arguments and the answer, and threads.
        progress: called with queries done and queries in all.

    Raises:
        InputError: vectors that are not (n, d) float16 or float32, of two dimensions d, or not finite; labels or ids
            that do not fit; a device that is not there.
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
    found = Ranks(
        offsets,
        np.empty(offsets[-1], np.int64),
        np.empty(offsets[-1], np.int64),
        np.where(own >= 0, m - 1, m),
    )
    if n and m:
        part = Part(Gallery(gallery, gallery_ids), None)
        _Ranking(part, relevance, found, device=where, budget=budget, progress=progress).run(queries, own)
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


class _Ranking:
    """The plan: which queries together, how many threads, which tiles."""

    def __init__(
        self,
        part: Part,
        relevance: _Relevance,
        found: Ranks,
        *,
        device: str | None,
        budget: Budget,
        progress: Callable[[int, int], object],
    ) -> None:
        self._part, self._relevance, self._found = part, relevance, found
        self._device, self._budget, self._progress = device, budget, progress
        self._norm = _longest(part.gallery)
        self._done = 0
        self._lock = threading.Lock()

    def run(self, queries: np.ndarray, own: np.ndarray) -> None:
        """Fill the ranks of all queries; ``own`` (n,) int64 is where each stands in the gallery, -1 nowhere."""
        work = len(queries) * len(self._part) * queries.shape[1]
        memory = max(1, self._budget.memory) * 2**20
        threads = 1 if self._device is not None or work < SMALL else self._budget.threads or cores()
        threads = max(1, min(threads, memory // THREAD_BYTES))
        blocks = self._blocks()
        stop = threading.Event()
        queue = itertools.count()

        def work_off() -> None:
            while (number := next(queue)) < len(blocks) and not stop.is_set():
                self._rank(queries, own, blocks[number], memory // threads, stop)
                with self._lock:
                    self._done += len(blocks[number])
                    self._progress(self._done, len(queries))

        settings = true_float32() if self._device is not None else one_blas_thread() if threads > 1 else nullcontext()
        with settings:
            if blocks:
                together([work_off] * min(threads, len(blocks)), stop)

    def _blocks(self) -> list[np.ndarray]:
        """Queries with equally many relevant images together, so that none waits for the others' comparisons."""
        counts = self._relevance.counts
        order = np.argsort(counts, kind="stable")
        asked = order[counts[order] > 0]
        with self._lock:
            self._done += len(order) - len(asked)
        border = int(np.searchsorted(counts[asked], COUNTED, side="right"))
        if self._device is not None:
            size = max(1, min(DEVICE_QUERIES, DEVICE_NUMBERS // max(1, int(counts.max(initial=1)))))
            return [asked[start : start + size] for start in range(0, len(asked), size)]
        few, many = asked[:border], asked[border:]
        blocks = [few[start : start + QUERIES_AT_ONCE] for start in range(0, len(few), QUERIES_AT_ONCE)]
        return blocks + [many[start : start + SORTED_QUERIES] for start in range(0, len(many), SORTED_QUERIES)]

    def _rank(
        self, queries: np.ndarray, own: np.ndarray, block: np.ndarray, memory: int, stop: threading.Event
    ) -> None:
        counts = self._relevance.counts[block]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.concatenate([self._relevance.places(query) for query in block.tolist()])
        numbers = as_float32(queries[block], None, np.empty((len(block), queries.shape[1]), np.float32))
        _check_length(numbers)
        wanted = Wanted(numbers, offsets, places, self._part.gallery)
        scan: RankScan | TorchRankScan
        if self._device is not None:
            tile = max(1, DEVICE_NUMBERS // len(block))
            scan = TorchRankScan(wanted, self._part, self._device, norm=self._norm)
        else:
            sort = bool(counts.max() > COUNTED)
            # A number of a tile costs 8 bytes of products and 3 of masks; the tile itself 4 more where it widens.
            most = memory // 2 // (11 * len(block) + 4 * numbers.shape[1])
            tile = max(8, min(self._budget.tile or (SORTED_TILE if sort else TILE), most, len(self._part)))
            scan = RankScan(wanted, self._part, norm=self._norm, tile=tile, sort=sort)
        for start in range(0, len(self._part), tile):
            if stop.is_set():
                return
            scan.scan(start, min(start + tile, len(self._part)))
        scan.finish()
        wanted.leave_out(own[block])
        ranks, ranked_places = wanted.ranked()
        targets = _spread(self._found.offsets[block], offsets)
        self._found.ranks[targets], self._found.places[targets] = ranks, ranked_places


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


def _longest(gallery: Gallery) -> float:
    """No vector is longer; raises InputError where numbers are infinite or NaN."""
    rows = np.empty((TILE, gallery.vectors.shape[1]), np.float32)
    found = 0.0
    for start in range(0, len(gallery.vectors), TILE):
        kept = gallery.vectors[start : start + TILE]
        found = max(found, longest(as_float32(kept, None, rows[: len(kept)]), kept))
    return found


def _check_length(queries: np.ndarray) -> None:
    if not (np.vecdot(queries, queries, dtype=np.float64) < LONGEST**2).all():
        raise InputError("the queries hold infinite, NaN or far too large numbers; they must have length 1")


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
