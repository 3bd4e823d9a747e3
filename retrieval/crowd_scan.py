"""Counting who comes before the relevant images of queries that have many of them, tile by tile, exactly.

Products are counted by bins, and only those in the bins of a relevant image's bounds are sorted (``BinningScan``); a
GPU sorts them all (``TorchScan``). What lies within the bounds is compared pair by pair, see ``retrieval.rank_scan``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from retrieval.rank_scan import CHUNK, DOUBTS, Doubts, Wanted, multiply
from retrieval.shortlist import TINY, Gallery

BINS: Final = 1 << 14
MORE_BINS: Final = 1 << 16
STEEPEST: Final = 2.0**100
FEW_A_QUERY: Final = 256  # relevant images, on average, up to which the fewer bins hold few candidates


class BinningScan:
    """One thread's way through the tiles of a gallery, for a block of queries with many relevant images.

    Args:
        wanted: the block.
        gallery: what is scanned.
        tile: vectors that are compared at once, at most.
    """

    def __init__(self, wanted: Wanted, gallery: Gallery, *, tile: int) -> None:
        self._wanted, n = wanted, len(wanted.queries)
        self._room = np.empty((3, n * tile), np.float32)
        self._before = np.zeros(len(wanted.places), np.int64)
        self._doubts = _Crowd(wanted, gallery)
        starts = wanted.offsets[:-1]
        self._bins = BINS if len(wanted.places) < FEW_A_QUERY * n else MORE_BINS
        self._base = np.minimum.reduceat(wanted.low, starts)
        reach = np.maximum.reduceat(wanted.high, starts) - self._base
        # Finite for a query of no length too, all of whose bounds are equal.
        self._scale = np.minimum((self._bins - 2) / np.maximum(reach.astype(np.float64), TINY), STEEPEST).astype(
            np.float32
        )
        rows = wanted.columns
        base, scale = self._base[rows], self._scale[rows]
        lowest, self._highest = (self._bin(side, rows, base, scale) for side in (wanted.low.copy(), wanted.high.copy()))
        self._touched = _covered(lowest, self._highest + 1, n * self._bins)
        self._low, self._high = _keys(wanted.low, rows), _keys(wanted.high, rows)

    def scan(self, rows: np.ndarray, start: int) -> None:
        """Count a tile: rows (r, d) float32, the images from position ``start`` on."""
        # All queries together, so that threads seldom meet in the interpreter.
        n, r = len(self._wanted.queries), len(rows)
        product, piece, scaled = (room[: n * r].reshape(n, r) for room in self._room)
        multiply(self._wanted.queries, rows.T, product, piece)
        np.copyto(scaled, product)
        each = np.arange(n)[:, None]
        placed = self._bin(scaled, each, self._base[:, None], self._scale[:, None]).ravel()
        counts = np.bincount(placed, minlength=n * self._bins).reshape(n, self._bins)
        above = r - np.cumsum(counts, axis=1)
        some = np.flatnonzero(self._touched[placed])
        queries, places = np.divmod(some, r)
        values = product.ravel()[some]
        keys = _keys(values, queries)
        order = np.argsort(keys)
        keys, bins = keys[order], placed[some[order]]
        first = np.searchsorted(keys, self._low, side="left")
        last = np.searchsorted(keys, self._high, side="right")
        # Those in higher bins; and of those in its own bin, the higher products.
        self._before += above.ravel()[self._highest] + np.searchsorted(bins, self._highest, side="right") - last
        inside = order[np.flatnonzero(_covered(first, last, len(keys)))]
        self._doubts.add(places[inside] + start, queries[inside], values[inside])

    def finish(self) -> np.ndarray:
        """Settle what is in doubt, after the last tile; (t,) int64, how many come before each relevant image."""
        return np.asarray(self._before + self._doubts.settled())

    def _bin(self, values: np.ndarray, queries: np.ndarray, base: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Bins of products, which are overwritten: 0 of a query's below all of its bounds, the last one above them.

        Bins never fall as products rise, rounding and all, so most of the order can be read off them.
        """
        np.subtract(values, base, out=values)
        np.multiply(values, scale, out=values)
        np.add(values, np.float32(1), out=values)
        np.clip(values, 0, self._bins - 1, out=values)
        placed = values.astype(np.int64)
        placed += queries * self._bins
        return placed


def _keys(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Numbers in the order of queries, and of float32 values within a query: int64."""
    bits = (values + np.float32(0)).view(np.int32)  # one zero, not two
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return np.asarray((queries.astype(np.int64) << 32) + ordered + 2**31)


def _covered(first: np.ndarray, last: np.ndarray, size: int) -> np.ndarray:
    """Which of ``size`` places lie in one of the ranges from ``first`` to before ``last``, (t,) each: (size,) bool."""
    edges = np.bincount(first, minlength=size + 1) - np.bincount(last, minlength=size + 1)
    return np.asarray(np.cumsum(edges[:size]) > 0)


class TorchScan:
    """The same through torch, on one device: each tile is sorted there, and what is in doubt comes over."""

    def __init__(self, wanted: Wanted, gallery: Gallery, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._wanted, self._device = wanted, device
        counts = np.diff(wanted.offsets)
        self._slots = np.arange(len(wanted.places)) - np.repeat(wanted.offsets[:-1], counts)
        # Queries with fewer relevant images look for infinity, which nothing is beyond.
        padded = np.full((2, len(counts), int(counts.max(initial=1))), np.inf, np.float32)
        padded[0, wanted.columns, self._slots] = wanted.low
        padded[1, wanted.columns, self._slots] = wanted.high
        self._queries = torch.from_numpy(np.array(wanted.queries)).to(device)
        self._low, self._high = (torch.from_numpy(side).to(device) for side in padded)
        self._before = torch.zeros(self._low.shape, dtype=torch.int64, device=device)
        self._doubts = _Crowd(wanted, gallery)

    def scan(self, kept: np.ndarray, start: int) -> None:
        """Count a tile: kept (r, d) float32 or float16, the images from position ``start`` on."""
        torch = self._torch
        # A copy, since torch warns of memory that cannot be written to, such as a file's.
        rows = torch.from_numpy(np.array(kept)).to(self._device).to(torch.float32)
        product = self._queries[:, :CHUNK] @ rows[:, :CHUNK].T  # (b, r)
        for first in range(CHUNK, rows.shape[1], CHUNK):
            product += self._queries[:, first : first + CHUNK] @ rows[:, first : first + CHUNK].T
        values, order = product.sort(dim=1)
        first = torch.searchsorted(values, self._low)
        last = torch.searchsorted(values, self._high, right=True)
        self._before += values.shape[1] - last
        edges = torch.zeros((len(values), values.shape[1] + 1), dtype=torch.int32, device=self._device)
        one = torch.ones((), dtype=torch.int32, device=self._device).expand_as(first)
        edges.scatter_add_(1, first, one)
        edges.scatter_add_(1, last, -one)
        columns, at = (edges.cumsum(dim=1)[:, :-1] > 0).nonzero(as_tuple=True)
        positions = order[columns, at] + start
        self._doubts.add(positions.cpu().numpy(), columns.cpu().numpy(), values[columns, at].cpu().numpy())

    def finish(self) -> np.ndarray:
        """Settle what is in doubt, after the last tile; (t,) int64, how many come before each relevant image."""
        counted: np.ndarray = self._before.cpu().numpy()[self._wanted.columns, self._slots]
        return np.asarray(counted + self._doubts.settled())


class _Crowd:
    """Images in doubt of queries that have many relevant images: sorted together with them, not compared with each."""

    def __init__(self, wanted: Wanted, gallery: Gallery) -> None:
        self._wanted, self._gallery = wanted, gallery
        self._waiting: list[Doubts] = []
        self._count = 0
        self._before = np.zeros(len(wanted.places), np.int64)

    def add(self, positions: np.ndarray, columns: np.ndarray, products: np.ndarray) -> None:
        """Take in images, (n,) each: where in the gallery, of which query, and what was compared so far."""
        if len(positions):
            self._waiting.append((positions, columns, products))
            self._count += len(positions)
        if self._count >= DOUBTS:
            self._settle()

    def settled(self) -> np.ndarray:
        """What is to be added to the counts: (t,) int64."""
        if self._waiting:
            self._settle()
        return self._before

    def _settle(self) -> None:
        """Count those that come before by true similarity, in place of those that did by their product."""
        wanted = self._wanted
        positions, columns, products = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        exact, ids = wanted.similarities_of(positions, columns), self._gallery.ids_of(positions)
        self._before += _count_before(columns, exact, ids, wanted.columns, wanted.similarities, wanted.ids)
        later, first = np.ones(len(positions), np.int64), np.zeros(len(wanted.places), np.int64)
        self._before -= _count_before(columns, products, later, wanted.columns, wanted.high, first)


def _count_before(
    columns: np.ndarray,
    similarities: np.ndarray,
    ids: np.ndarray,
    other_columns: np.ndarray,
    other: np.ndarray,
    other_ids: np.ndarray,
) -> np.ndarray:
    """Count for each of some images how many of a crowd come before it in the same query: (t,) int64.

    Args:
        columns: (n,) int64, the query of each of the crowd.
        similarities: (n,) float32.
        ids: (n,) int64.
        other_columns: (t,) int64, ascending.
        other: (t,) float32.
        other_ids: (t,) int64.
    """
    crowd = np.repeat([0, 1], [len(other), len(similarities)])
    query = np.concatenate([other_columns, columns])
    # At equal keys an image comes before itself in the crowd, so that it does not count itself.
    order = np.lexsort((crowd, np.concatenate([other_ids, ids]), -np.concatenate([other, similarities]), query))
    counts = np.empty(len(order), np.int64)
    counts[order] = np.cumsum(crowd[order])
    earlier = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=int(query.max(initial=0)) + 1))])
    return np.asarray(counts[: len(other)] - earlier[other_columns])
