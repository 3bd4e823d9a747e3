"""The plan of a full ranking: which queries together, which tiles, how many threads, how much memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Final, TypeVar

import numpy as np

from retrieval.crowd_scan import BinningScan, TorchScan
from retrieval.errors import InputError
from retrieval.machine import cores
from retrieval.neighbours import DEVICE_QUERIES, SMALL, THREAD_BYTES, Budget, together
from retrieval.rank_scan import WORD, CountingScan, Side, Wanted
from retrieval.scan import LONGEST, longest, one_blas_thread, true_float32
from retrieval.shortlist import Gallery, as_float32

COUNTED: Final = 32
"""Relevant images of a query up to which comparing products with each is quicker than counting them by bins."""
WIDTH: Final = 1024
HEIGHT: Final = 256
"""Columns and rows of a tile whose products are compared: products and masks stay in a core's own cache."""
BINNED_QUERIES: Final = 32
BINNED_TILE: Final = 1 << 15
"""Where products are counted by bins, long runs for few queries."""
DEVICE_NUMBERS: Final = 1 << 24  # of a tile's product on a GPU, some 40 bytes each
LOOK: Final = 1024  # vectors whose lengths are looked at together

Block = TypeVar("Block")
Store = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], object]
"""Told which queries (b,), their offsets (b + 1,), ranks and places (offsets[-1],)."""


class FullRanking:
    """Ranks of the relevant images of many queries in one gallery.

    Args:
        gallery: all images.
        counts: (n,) int64, how many relevant images each query has.
        places: query → their positions in the gallery, ascending.
        own: (n,) int64, where in the gallery each query stands and is not to be ranked, -1 nowhere.
        store: told what was found.
        device: torch's name of it; None: NumPy on the CPU.
        budget: memory, threads and rows of a tile; no choice here changes an answer.
        progress: called with queries done and queries in all, as far as the work has gone.
    """

    def __init__(
        self,
        gallery: Gallery,
        counts: np.ndarray,
        places: Callable[[int], np.ndarray],
        own: np.ndarray,
        *,
        store: Store,
        device: str | None,
        budget: Budget,
        progress: Callable[[int, int], object],
    ) -> None:
        self._gallery, self._counts, self._places, self._own, self._store = gallery, counts, places, own, store
        self._device, self._budget, self._progress = device, budget, progress
        self._memory = max(1, budget.memory) * 2**20
        self._norm = _longest(gallery)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._done, self._all = 0, 1

    def run(self, queries: np.ndarray) -> None:
        """Rank for all queries, (n, d) float32 or float16, that have a relevant image."""
        size = len(self._gallery.vectors)
        threads = 1
        if self._device is None and len(queries) * size * queries.shape[1] >= SMALL:
            threads = max(1, min(self._budget.threads or cores(), self._memory // THREAD_BYTES))
        # Queries with equally many relevant images together, so that none waits for the others' comparisons.
        order = np.argsort(self._counts, kind="stable")
        order = order[self._counts[order] > 0]
        self._done, self._all = 0, max(1, len(order) * size)
        few = order[self._counts[order] <= COUNTED]
        many = order[self._counts[order] > COUNTED]
        at_once = BINNED_QUERIES
        if self._device is not None:
            few, many = order[:0], order
            at_once = max(1, min(DEVICE_QUERIES, DEVICE_NUMBERS // max(1, int(self._counts.max(initial=1)))))
        with true_float32() if self._device is not None else one_blas_thread() if threads > 1 else nullcontext():
            group = max(WORD, self._memory // 2 // (4 * queries.shape[1]))
            for start in range(0, len(few), group):
                self._rank_few(queries, few[start : start + group], threads)
            blocks = [many[start : start + at_once] for start in range(0, len(many), at_once)]
            self._share_out(blocks, lambda block: self._rank_many(queries, block, self._memory // threads), threads)
        self._progress(len(queries), len(queries))

    def _rank_few(self, queries: np.ndarray, group: np.ndarray, threads: int) -> None:
        """Rank for queries with few relevant images."""
        # First those that are images of the gallery: to each other they are both, and one product serves both.
        inside = self._is_inside(queries, group)
        group = np.concatenate([group[inside], group[~inside]])
        wanted, both = self._wanted(queries, group), int(inside.sum())
        own = self._own[group]
        # Products of 8 bytes and masks of 3; bounds and columns of 4 for each slot and each dimension.
        memory = self._memory // 2 // threads
        whole = -(-len(group) // WORD) * WORD
        height = -(-(self._budget.tile or HEIGHT) // WORD) * WORD
        most = max(WORD, memory // (11 * height + 4 * queries.shape[1]) // WORD * WORD)
        if whole <= min(WIDTH, most):
            # All of them are the columns of every tile; few columns leave room for more rows.
            width = whole
            height = self._budget.tile or max(height, min(WIDTH * HEIGHT, memory // 11) // width)
        else:
            # A block of columns is some tiles of rows wide, so that no tile is on both sides of its edge.
            height = min(height, WIDTH, most)
            width = min(WIDTH, most) // height * height
        rows = [Side(wanted, some, own[some], height) for some in _slices(0, both, height)]
        rest = np.setdiff1d(np.arange(len(self._gallery.vectors)), own[:both], assume_unique=True)
        blocks = [*_slices(0, both, width), *_slices(both, len(group), width)]
        before = np.zeros(len(wanted.places), np.int64)
        local = threading.local()
        scans: list[CountingScan] = []

        def work(block: slice) -> None:
            if not hasattr(local, "scan"):
                local.scan = CountingScan(wanted, self._gallery, width=width, height=height)
                with self._lock:
                    scans.append(local.scan)
            scan: CountingScan = local.scan
            scan.turn_to(Side(wanted, block, own[block], width))
            size = block.stop - block.start
            for side in rows:
                if block.start < both and side.block.start >= block.stop:
                    break  # these meet the block as columns, with its images as rows
                if self._stop.is_set():
                    return
                earlier = block.start < both and side.block.stop <= block.start
                scan.scan(wanted.queries[side.block], side.positions, side=side if earlier else None)
                self._advance(size * len(side.positions) * (2 if earlier else 1))
            for kept, positions in self._tiles(rest, height):
                if self._stop.is_set():
                    return
                scan.scan(kept, positions)
                self._advance(size * len(positions))

        # The longest first: a block meets the rows before it.
        self._share_out(blocks[::-1], work, threads)
        if self._stop.is_set():
            return
        for scan in scans:
            scan.finish()
            before += scan.before
        self._tell(wanted, before, group)

    def _rank_many(self, queries: np.ndarray, block: np.ndarray, memory: int) -> None:
        """Rank for a block of queries with many relevant images, or on a GPU."""
        wanted, size = self._wanted(queries, block), len(self._gallery.vectors)
        if self._device is not None:
            tile = max(1, DEVICE_NUMBERS // len(block))
            torch_scan = TorchScan(wanted, self._gallery, self._device)
            for start in range(0, size, tile):
                torch_scan.scan(self._gallery.vectors[start : start + tile], start)
                self._advance(len(block) * min(tile, size - start))
            self._tell(wanted, torch_scan.finish(), block)
            return
        most = memory // 2 // (40 * len(block) + 4 * queries.shape[1])
        tile = max(8, min(self._budget.tile or BINNED_TILE, most, size))
        scan = BinningScan(wanted, self._gallery, tile=tile)
        for kept, positions in self._tiles(np.arange(size), tile):
            if self._stop.is_set():
                return
            scan.scan(kept, int(positions[0]))
            self._advance(len(block) * len(positions))
        self._tell(wanted, scan.finish(), block)

    def _share_out(self, blocks: Sequence[Block], work: Callable[[Block], object], threads: int) -> None:
        queue = itertools.count()

        def work_off() -> None:
            while (number := next(queue)) < len(blocks) and not self._stop.is_set():
                work(blocks[number])

        if blocks:
            together([work_off] * min(threads, len(blocks)), self._stop)

    def _wanted(self, queries: np.ndarray, some: np.ndarray) -> Wanted:
        offsets = np.concatenate([[0], np.cumsum(self._counts[some])])
        places = np.concatenate([self._places(query) for query in some.tolist()])
        numbers = as_float32(queries[some], None, np.empty((len(some), queries.shape[1]), np.float32))
        if not (np.vecdot(numbers, numbers, dtype=np.float64) < LONGEST**2).all():
            raise InputError("the queries hold infinite, NaN or far too large numbers; they must have length 1")
        return Wanted(numbers, offsets, places, self._gallery, norm=self._norm)

    def _tell(self, wanted: Wanted, before: np.ndarray, queries: np.ndarray) -> None:
        before = before - wanted.before_by(self._own[queries])
        self._store(queries, wanted.offsets, *wanted.ranked(before))

    def _is_inside(self, queries: np.ndarray, some: np.ndarray) -> np.ndarray:
        """Whether each query is an image of the gallery, number by number, and no other query is it: (k,) bool."""
        own = self._own[some]
        inside = np.zeros(len(some), np.bool_)
        inside[np.unique(own, return_index=True)[1]] = True
        inside &= own >= 0
        for start in range(0, len(some), LOOK):
            part = slice(start, start + LOOK)
            which = np.flatnonzero(inside[part]) + start
            same = (queries[some[which]] == self._gallery.vectors[own[which]]).all(axis=1)
            inside[which] = same
        return np.asarray(inside)

    def _tiles(self, positions: np.ndarray, tile: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vectors of some positions, ascending, as float32, and the positions."""
        vectors = self._gallery.vectors
        whole = len(positions) == len(vectors)
        for start in range(0, len(positions), tile):
            some = positions[start : start + tile]
            kept = vectors[start : start + tile] if whole else vectors[some]
            yield as_float32(kept, None, np.empty((len(some), vectors.shape[1]), np.float32)), some

    def _advance(self, pairs: int) -> None:
        with self._lock:
            self._done += pairs
            n = len(self._counts)
            self._progress(min(n, n * self._done // self._all), n)


def _slices(start: int, stop: int, width: int) -> list[slice]:
    return [slice(at, min(at + width, stop)) for at in range(start, stop, width)]


def _longest(gallery: Gallery) -> float:
    """No vector is longer; raises InputError where numbers are infinite or NaN."""
    rows = np.empty((LOOK, gallery.vectors.shape[1]), np.float32)
    found = 0.0
    for start in range(0, len(gallery.vectors), LOOK):
        kept = gallery.vectors[start : start + LOOK]
        found = max(found, longest(as_float32(kept, None, rows[: len(kept)]), kept))
    return found
