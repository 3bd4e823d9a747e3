"""Counting who comes before the relevant images of queries, tile by tile, exactly.

A float32 product tells of nearly every gallery image whether it is nearer than a relevant one. The few whose product
lies within the error bound of a relevant one's similarity are compared pair by pair, as ``retrieval.shortlist`` does,
so ranks depend on nothing but the pairs: not on tiles, threads, batch or device.

Queries with few relevant images are compared with each (``CountingScan``); where the rows of a tile are queries
themselves, as in leave-one-out, one product serves both. For those with many there is ``retrieval.crowd_scan``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from retrieval.scan import aligned
from retrieval.shortlist import TINY, Gallery, similarities_at

CHUNK: Final = 128
"""Numbers of a vector that one float32 product sums; short sums have small errors, so that few pairs are in doubt."""
DOUBTS: Final = 1 << 16  # settled together
SPAN: Final = 8192  # products that are compared in one stride: short strides cost as much as what they compare
WORD: Final = 8  # truth values that are summed side by side in one 64-bit number
LANES: Final = 255  # that can be summed before a byte of such a number flows over

Doubts = tuple[np.ndarray, np.ndarray, np.ndarray]  # positions, queries, products, (n,) each


class Wanted:
    """Queries with the images whose ranks are wanted.

    Attributes:
        queries: (b, d) float32.
        offsets: (b + 1,) int64 into the others.
        places: (t,) int64, positions of the relevant images, ascending within a query.
        ids: (t,) int64, theirs.
        similarities: (t,) float32, theirs to the query, exact.
        columns: (t,) int64, the query of each.
        low: (t,) float32, the product from which an image may come before each.
        high: (t,) float32, the product beyond which it surely does.
    """

    def __init__(
        self, queries: np.ndarray, offsets: np.ndarray, places: np.ndarray, gallery: Gallery, *, norm: float
    ) -> None:
        self.queries, self.offsets, self.places = queries, offsets, places
        self._gallery = gallery
        self.ids = gallery.ids_of(places)
        self.columns = np.repeat(np.arange(len(queries)), np.diff(offsets))
        self.similarities = self.exact(places, self.columns)
        self.low, self.high = self._bounds(norm)

    def exact(self, positions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """True similarities of pairs, (n,) float32."""
        return similarities_at(self.queries, columns, self._gallery, positions)

    def similarities_of(self, positions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """True similarities of pairs; those of relevant images are known, the others are computed."""
        # A code per pair, ascending, since places ascend within a query and queries one after the other.
        size = np.int64(len(self._gallery.vectors))
        codes, known = columns * size + positions, self.columns * size + self.places
        at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        values: np.ndarray = self.similarities[at]
        other = np.flatnonzero(known[at] != codes)
        values[other] = self.exact(positions[other], columns[other])
        return values

    def before_by(self, own: np.ndarray) -> np.ndarray:
        """Say of each relevant image whether its query itself comes before it: (t,) bool.

        Args:
            own: (b,) int64, where in the gallery each query stands, -1 nowhere.
        """
        columns = np.flatnonzero(own >= 0)
        similarity, id = np.full(len(own), -np.inf, np.float32), np.full(len(own), -1, np.int64)
        similarity[columns] = self.exact(own[columns], columns)
        id[columns] = self._gallery.ids_of(own[columns])
        return precede(similarity[self.columns], id[self.columns], self.similarities, self.ids)

    def ranked(self, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ranks from 1 and places of the relevant images, ascending by rank within a query, (t,) each.

        Args:
            before: (t,) int64, how many come before each.
        """
        order = np.lexsort((before, self.columns))
        return before[order] + 1, self.places[order]

    def _bounds(self, norm: float) -> tuple[np.ndarray, np.ndarray]:
        # The error of a product summed in chunks, each in whatever order, is at most
        # (CHUNK + chunks + 8) 2^-24 |q| |g| (Higham, section 3.1, as in retrieval.shortlist).
        d = self.queries.shape[1]
        lengths = np.sqrt(np.vecdot(self.queries, self.queries, dtype=np.float64))
        relative = (min(d, CHUNK) + -(-d // CHUNK) + 8) * 2.0**-24 * 1.01
        error = (relative * lengths * norm + 2 * d * TINY * (1 + lengths + norm))[self.columns]
        # The similarity itself was rounded once.
        error = error + np.spacing(np.abs(self.similarities)).astype(np.float64)
        exact = self.similarities.astype(np.float64)
        low = np.nextafter((exact - error).astype(np.float32), np.float32(-np.inf))
        high = np.nextafter((exact + error).astype(np.float32), np.float32(np.inf))
        return low, high


def precede(similarity: np.ndarray, id: np.ndarray, other: np.ndarray, other_id: np.ndarray) -> np.ndarray:
    """Whether an image comes before another in a ranking: nearer, or as near with the lower id; elementwise."""
    return np.asarray((similarity > other) | ((similarity == other) & (id < other_id)))


def multiply(rows: np.ndarray, columns: np.ndarray, product: np.ndarray, piece: np.ndarray) -> None:
    """Fill ``product`` (r, b) with rows (r, d) @ columns (d, b), summed in chunks; ``piece`` (r, b) is written to."""
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that were looked at before
        np.matmul(rows[:, :CHUNK], columns[:CHUNK], out=product)
        for first in range(CHUNK, rows.shape[1], CHUNK):
            some = slice(first, first + CHUNK)
            np.matmul(rows[:, some], columns[some], out=piece)
            np.add(product, piece, out=product)


class Side:
    """A block of queries, as the columns or the rows of a tile.

    Attributes:
        block: which of ``Wanted.queries``.
        positions: (n,) int64, where in the gallery they stand, -1 nowhere.
        low: (s, width) float32, the bounds of the first relevant image of each, then those of the second, ...; infinite
            where a query has no more, which nothing is beyond.
        high: likewise.
        slots: for each of the s, which of the block have it, and where in ``Wanted`` it stands.
    """

    def __init__(self, wanted: Wanted, block: slice, positions: np.ndarray, width: int) -> None:
        self.block, self.positions = block, positions
        offsets = wanted.offsets[block.start : block.stop + 1]
        counts = np.diff(offsets)
        self.low, self.high = (np.full((int(counts.max(initial=0)), width), np.inf, np.float32) for _ in range(2))
        self.slots: list[tuple[np.ndarray, np.ndarray]] = []
        for slot in range(len(self.low)):
            which = np.flatnonzero(counts > slot)
            at = offsets[which] + slot
            self.low[slot, which], self.high[slot, which] = wanted.low[at], wanted.high[at]
            self.slots.append((which, at))


class CountingScan:
    """One thread's way through tiles whose columns are queries with few relevant images.

    Args:
        wanted: all such queries.
        gallery: their gallery.
        width: columns of a tile, a multiple of eight, at most 2,040.
        height: rows of a tile, at most.

    Attributes:
        before: (t,) int64, how many of the images scanned so far come before each relevant one; whole after ``finish``.
    """

    def __init__(self, wanted: Wanted, gallery: Gallery, *, width: int, height: int) -> None:
        assert width % WORD == 0 and width <= WORD * LANES
        self._wanted, self._gallery, self._width = wanted, gallery, width
        self._span = max(1, min(SPAN // width, height))
        tall = -(-height // self._span) * self._span
        self._product, self._piece = aligned(tall, width), aligned(height, width)
        self._masks = np.empty((3, tall * width // WORD), np.uint64)
        self._columns = np.zeros((wanted.queries.shape[1], width), np.float32)
        self._waiting: list[Doubts] = []
        self._count = 0
        self.before = np.zeros(len(wanted.places), np.int64)

    def turn_to(self, side: Side) -> None:
        """Make a block of the queries the columns of the tiles to come."""
        queries = self._wanted.queries[side.block]
        self._columns[:, : len(queries)] = queries.T
        self._columns[:, len(queries) :] = 0
        self._side, self._size = side, len(queries)
        self._low, self._high = (np.tile(bounds, self._span) for bounds in (side.low, side.high))

    def scan(self, rows: np.ndarray, positions: np.ndarray, *, side: Side | None = None) -> None:
        """Count a tile.

        Args:
            rows: (r, d) float32, images of the gallery.
            positions: (r,) int64, where in the gallery they stand.
            side: the rows as queries, to which the columns are images of the gallery; None: they are none, or the
                columns themselves.
        """
        r, width = len(rows), self._width
        tall = -(-r // self._span) * self._span
        multiply(rows, self._columns, self._product[:r], self._piece[:r])
        self._product[r:tall] = -np.inf  # nearer than nothing
        self._down(self._product[:tall].reshape(-1, self._span * width), positions)
        if side is not None:
            self._product[:r, self._size :] = -np.inf
            self._across(self._product[:r], side)

    def finish(self) -> None:
        """Settle what is in doubt; call it after the last tile."""
        if not self._waiting:
            return
        positions, queries, products = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        wanted = self._wanted
        exact, ids = wanted.similarities_of(positions, queries), self._gallery.ids_of(positions)
        start, count = wanted.offsets[queries], np.diff(wanted.offsets)[queries]
        for slot in range(int(count.max())):
            which = np.flatnonzero(count > slot)
            at, product = start[which] + slot, products[which]
            doubtful = (product >= wanted.low[at]) & (product <= wanted.high[at])
            which, at = which[doubtful], at[doubtful]
            first = precede(exact[which], ids[which], wanted.similarities[at], wanted.ids[at])
            np.add.at(self.before, at[first], 1)

    def _down(self, numbers: np.ndarray, positions: np.ndarray) -> None:
        """Count for the columns: numbers (groups, span * width), a row of the tile after the other."""
        surely, maybe, doubt = (mask[: numbers.size // WORD].reshape(len(numbers), -1) for mask in self._masks)
        doubt[:] = 0
        for (which, at), low, high in zip(self._side.slots, self._low, self._high, strict=True):
            np.greater(numbers, high, out=surely.view(np.bool_))
            np.greater_equal(numbers, low, out=maybe.view(np.bool_))
            sums = np.zeros(self._span * self._width, np.int64)
            for first in range(0, len(surely), LANES):
                sums += np.add.reduce(surely[first : first + LANES], axis=0).view(np.uint8)
            self.before[at] += sums.reshape(self._span, -1).sum(axis=0)[which]
            np.bitwise_xor(surely, maybe, out=maybe)
            np.bitwise_or(doubt, maybe, out=doubt)
        rows, columns = self._set(doubt)
        self._doubt(positions[rows], self._side.block.start + columns, numbers.ravel()[rows * self._width + columns])

    def _across(self, product: np.ndarray, side: Side) -> None:
        """Count for the rows: product (r, width)."""
        r = len(product)
        surely, maybe, doubt = (mask[: product.size // WORD].reshape(r, -1) for mask in self._masks)
        doubt[:] = 0
        for (which, at), low, high in zip(side.slots, side.low, side.high, strict=True):
            np.greater(product, high[:r, None], out=surely.view(np.bool_))
            np.greater_equal(product, low[:r, None], out=maybe.view(np.bool_))
            sums = np.add.reduce(surely, axis=1).view(np.uint8).reshape(r, WORD).sum(axis=1, dtype=np.int64)
            self.before[at] += sums[which]
            np.bitwise_xor(surely, maybe, out=maybe)
            np.bitwise_or(doubt, maybe, out=doubt)
        rows, columns = self._set(doubt)
        self._doubt(self._side.positions[columns], side.block.start + rows, product[rows, columns])

    def _set(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the tile's truth values that are set."""
        some = np.flatnonzero(words.ravel() != 0)  # of truth values it is six times as quick as of numbers
        word, byte = np.nonzero(words.ravel()[some].view(np.uint8).reshape(-1, WORD))
        rows, columns = np.divmod(some[word] * WORD + byte, self._width)
        return rows, columns

    def _doubt(self, positions: np.ndarray, queries: np.ndarray, products: np.ndarray) -> None:
        if len(positions):
            self._waiting.append((positions, queries, products))
            self._count += len(positions)
            if self._count >= DOUBTS:
                self.finish()
