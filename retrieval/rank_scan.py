"""Counting who comes before the relevant images of a block of queries, tile by tile, exactly.

A float32 product tells of nearly every gallery image whether it is nearer than a relevant one. The few whose product
lies within the error bound of a relevant one's similarity are compared pair by pair, as ``retrieval.shortlist`` does,
so ranks depend on nothing but the pairs: not on tiles, threads, batch or device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from retrieval.scan import Part, aligned
from retrieval.shortlist import PAIR_CHUNK, TINY, Gallery, as_float32, pair_similarities

CHUNK: Final = 128
"""Numbers of a vector that one float32 product sums; short sums have small errors, so that few pairs are in doubt."""
COUNTED: Final = 32
"""Relevant images of a query up to which comparing with each is quicker than sorting."""
DOUBTS: Final = 1 << 16  # settled together
WORD: Final = 8  # truth values that are summed side by side in one 64-bit number

Doubts = tuple[np.ndarray, np.ndarray, np.ndarray]  # positions, columns, products, (n,) each


class Wanted:
    """A block of queries with the images whose ranks are wanted.

    Attributes:
        queries: (b, d) float32.
        offsets: (b + 1,) int64 into the others.
        places: (t,) int64, positions of the relevant images, ascending within a query.
        ids: (t,) int64, theirs.
        similarities: (t,) float32, theirs to the query, exact.
        columns: (t,) int64, the query of each.
        before: (t,) int64, how many gallery images were found to come before each; filled by ``RankScan``.
    """

    def __init__(self, queries: np.ndarray, offsets: np.ndarray, places: np.ndarray, gallery: Gallery) -> None:
        self.queries, self.offsets, self.places = queries, offsets, places
        self._gallery = gallery
        self.ids = gallery.ids_of(places)
        self.columns = np.repeat(np.arange(len(queries)), np.diff(offsets))
        self.similarities = self.exact(places, self.columns)
        self.before = np.zeros(len(places), np.int64)

    def exact(self, positions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """True similarities of pairs, (n,) float32."""
        values = np.empty(len(positions), np.float32)
        step = max(1, PAIR_CHUNK // self.queries.shape[1])
        for start in range(0, len(positions), step):
            some = slice(start, start + step)
            values[some] = pair_similarities(self.queries[columns[some]], self._gallery.take(positions[some]))
        return values

    def bounds(self, norm: float) -> tuple[np.ndarray, np.ndarray]:
        """Products from which an image may, and beyond which it surely does, come before each: (t,) float32, twice.

        The error of a product summed in chunks, each in whatever order, is at most
        ``(CHUNK + chunks + 8) 2^-24 |q| |g|`` (Higham, section 3.1, as in ``retrieval.shortlist``).
        """
        d = self.queries.shape[1]
        lengths = np.sqrt(np.vecdot(self.queries.astype(np.float64), self.queries.astype(np.float64)))
        relative = (min(d, CHUNK) + -(-d // CHUNK) + 8) * 2.0**-24 * 1.01
        error = (relative * lengths * norm + 2 * d * TINY * (1 + lengths + norm))[self.columns]
        wide = self.similarities.astype(np.float64)
        # The similarity itself was rounded once.
        error = error + np.spacing(np.abs(self.similarities)).astype(np.float64)
        low = np.nextafter((wide - error).astype(np.float32), np.float32(-np.inf))
        high = np.nextafter((wide + error).astype(np.float32), np.float32(np.inf))
        return low, high

    def leave_out(self, own: np.ndarray) -> None:
        """Take the queries themselves out of the counts; ``own`` (b,) int64 is where each stands, -1 nowhere."""
        columns = np.flatnonzero(own >= 0)
        if len(columns) == 0:
            return
        similarity = np.full(len(own), -np.inf, np.float32)
        similarity[columns] = self.exact(own[columns], columns)
        id = np.full(len(own), -1, np.int64)
        id[columns] = self._gallery.ids_of(own[columns])
        self.before -= precede(similarity[self.columns], id[self.columns], self.similarities, self.ids)

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Ranks from 1 and places of the relevant images, (t,) each, ascending by rank within a query."""
        order = np.lexsort((self.before, self.columns))
        return self.before[order] + 1, self.places[order]

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


def precede(similarity: np.ndarray, id: np.ndarray, other: np.ndarray, other_id: np.ndarray) -> np.ndarray:
    """Whether an image comes before another in a ranking: nearer, or as near with the lower id; elementwise."""
    return np.asarray((similarity > other) | ((similarity == other) & (id < other_id)))


class RankScan:
    """One thread's way through the tiles of a gallery, for one block of queries.

    Args:
        wanted: the block; its ``before`` is added to.
        part: the gallery, all of it.
        norm: no vector of it is longer.
        tile: vectors that are compared at once.
        sort: whether to sort products instead of comparing them with each relevant image.
    """

    def __init__(self, wanted: Wanted, part: Part, *, norm: float, tile: int, sort: bool) -> None:
        self._wanted, self._part, self._sort = wanted, part, sort
        b, d = wanted.queries.shape
        self._wide = -(-b // WORD) * WORD
        self._low, self._high = wanted.bounds(norm)
        self._columns = np.zeros((d, self._wide), np.float32)
        self._columns[:, :b] = wanted.queries.T
        widens = part.gallery.vectors.dtype != np.float32 or part.gallery.scales is not None
        self._rows = aligned(tile if widens else 0, d)
        self._product, self._piece = aligned(tile, self._wide), aligned(tile, self._wide)
        if not sort:
            counts = np.diff(wanted.offsets)
            self._slots = [np.flatnonzero(counts > slot) for slot in range(counts.max(initial=0))]
            self._masks = np.empty((3, tile, self._wide // WORD), np.uint64)
        self._doubts = _Doubts(wanted, part.gallery, self._high)
        self.finish = self._doubts.settle

    def scan(self, start: int, stop: int) -> None:
        """Count a tile; call ``finish`` after the last."""
        kept, scales = self._part.tile(start, stop)
        rows = as_float32(kept, scales, self._rows[: stop - start])
        product = self._multiply(rows)
        for positions, columns, values in self._sorted(product) if self._sort else self._compared(product):
            self._doubts.add(positions + start, columns, values)

    def _multiply(self, rows: np.ndarray) -> np.ndarray:
        product, piece = self._product[: len(rows)], self._piece[: len(rows)]
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(rows[:, :CHUNK], self._columns[:CHUNK], out=product)
            for first in range(CHUNK, rows.shape[1], CHUNK):
                some = slice(first, first + CHUNK)
                np.matmul(rows[:, some], self._columns[some], out=piece)
                np.add(product, piece, out=product)
        return product

    def _compared(self, product: np.ndarray) -> Iterator[Doubts]:
        """Compare a tile's products with each relevant image; yield who is in doubt."""
        wanted, size = self._wanted, len(product)
        surely, maybe, doubt = (mask[:size] for mask in self._masks)
        doubt[:] = 0
        low, high = (np.full(self._wide, np.inf, np.float32) for _ in range(2))
        for slot, columns in enumerate(self._slots):
            at = wanted.offsets[columns] + slot
            if slot and len(columns) < len(self._slots[slot - 1]):
                low[:], high[:] = np.inf, np.inf
            low[columns], high[columns] = self._low[at], self._high[at]
            np.greater(product, high, out=surely.view(np.bool_))
            np.greater_equal(product, low, out=maybe.view(np.bool_))
            wanted.before[at] += _sums(surely)[columns]
            np.bitwise_xor(surely, maybe, out=maybe)
            np.bitwise_or(doubt, maybe, out=doubt)
        words = np.flatnonzero(doubt)
        word, byte = np.nonzero(doubt.ravel()[words].view(np.uint8).reshape(-1, WORD))
        codes = words[word] * WORD + byte
        if len(codes):
            positions, columns = np.divmod(codes, self._wide)
            yield positions, columns, product.ravel()[codes]

    def _sorted(self, product: np.ndarray) -> Iterator[Doubts]:
        """Sort a tile's products query by query; yield who is in doubt."""
        wanted = self._wanted
        for column in range(len(wanted.queries)):
            span = slice(wanted.offsets[column], wanted.offsets[column + 1])
            values = np.ascontiguousarray(product[:, column])
            order = np.argsort(values)
            values = values[order]
            first = np.searchsorted(values, self._low[span], side="left")
            last = np.searchsorted(values, self._high[span], side="right")
            wanted.before[span] += len(values) - last
            # Bands overlap where similarities are as good as equal: each image once.
            edges = np.bincount(first, minlength=len(values) + 1) - np.bincount(last, minlength=len(values) + 1)
            inside = np.flatnonzero(np.cumsum(edges) > 0)
            if len(inside):
                yield order[inside], np.full(len(inside), column), values[inside]


class _Doubts:
    """Images whose products lie too near to a relevant one's to tell who comes first, until they are compared."""

    def __init__(self, wanted: Wanted, gallery: Gallery, high: np.ndarray) -> None:
        self._wanted, self._gallery, self._high = wanted, gallery, high
        self._waiting: list[Doubts] = []
        self._count = 0

    def add(self, positions: np.ndarray, columns: np.ndarray, products: np.ndarray) -> None:
        """Take in images, (n,) each: where in the gallery, of which query, and what was compared so far."""
        self._waiting.append((positions, columns, products))
        self._count += len(positions)
        if self._count >= DOUBTS:
            self.settle()

    def settle(self) -> None:
        """Count those that come before by true similarity, in place of those that did by their product."""
        if not self._waiting:
            return
        wanted = self._wanted
        positions, columns, products = (np.concatenate(arrays) for arrays in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        exact, ids = wanted.similarities_of(positions, columns), self._gallery.ids_of(positions)
        wanted.before += _count_before(columns, exact, ids, wanted.columns, wanted.similarities, wanted.ids)
        later, first = np.ones(len(positions), np.int64), np.zeros(len(wanted.places), np.int64)
        wanted.before -= _count_before(columns, products, later, wanted.columns, self._high, first)


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


def _sums(words: np.ndarray) -> np.ndarray:
    """Sum truth values along the first axis: (n, w) uint64 of eight bytes 0 or 1 each → (8 w,) int64."""
    sums = np.zeros(words.shape[1] * WORD, np.int64)
    for start in range(0, len(words), 255):  # no more, or a byte would flow over
        sums += np.add.reduce(words[start : start + 255], axis=0).view(np.uint8)
    return sums


class TorchRankScan:
    """The same through torch, on one device: each tile is sorted there, and what is in doubt comes over."""

    def __init__(self, wanted: Wanted, part: Part, device: str, *, norm: float) -> None:
        import torch

        self._torch: Any = torch
        self._wanted, self._part, self._device = wanted, part, device
        low, high = wanted.bounds(norm)
        counts = np.diff(wanted.offsets)
        self._slots = np.arange(len(wanted.places)) - np.repeat(wanted.offsets[:-1], counts)
        # Queries with fewer relevant images look for infinity, which nothing is beyond.
        padded = np.full((2, len(counts), int(counts.max(initial=1))), np.inf, np.float32)
        padded[0, wanted.columns, self._slots], padded[1, wanted.columns, self._slots] = low, high
        self._queries = torch.from_numpy(np.array(wanted.queries)).to(device)
        self._low, self._high = (torch.from_numpy(side).to(device) for side in padded)
        self._before = torch.zeros(self._low.shape, dtype=torch.int64, device=device)
        self._doubts = _Doubts(wanted, part.gallery, high)

    def scan(self, start: int, stop: int) -> None:
        """Count a tile; call ``finish`` after the last."""
        torch = self._torch
        kept, scales = self._part.tile(start, stop)
        rows = torch.from_numpy(np.array(kept)).to(self._device).to(torch.float32)
        if scales is not None:
            rows *= torch.from_numpy(np.array(scales)).to(self._device)[:, None]
        product = self._queries[:, :CHUNK] @ rows[:, :CHUNK].T  # (b, tile)
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

    def finish(self) -> None:
        """Settle what is in doubt."""
        self._doubts.settle()
        self._wanted.before += self._before.cpu().numpy()[self._wanted.columns, self._slots]
