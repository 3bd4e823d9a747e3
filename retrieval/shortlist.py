"""The shortlist of an exact search: what may still be among the k nearest, and who is.

A float32 matrix product gives each similarity with an error of at most ``(d + 8) 2^-24 |q| |g|``, in whatever
order it is summed (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1; the 8 is for
the roundings around it). So whoever lies further than twice that below the k-th best cannot be among the k
nearest, and the rest is settled pair by pair: products in float64, where those of float32 numbers are exact, a
fixed order of summation, one rounding to float32, ties by id. The answer is therefore a function of the pair
alone: equal vectors get equal similarities wherever they stand, and neither tiles, threads, batch nor device show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

PAIR_CHUNK: Final = 1 << 17  # numbers of a float64 product taken at once: 1 MiB, so that it stays in cache
FIRST_SHRINK: Final = 4096  # entries before the first sorting; raising the bounds early saves more than it costs
CROWD: Final = 4096  # entries from which it pays to ask whether a product in float64 can refuse them
HALF_TO_SINGLE: Final = 2.0**112  # between the exponents of float16 and of float32
MOST_DRIFT: Final = 2.0**-13  # of scales, so that leaving them out lets few more pass
TINY: Final = 2.0**-126  # the smallest normal float32: products below it may be lost


@dataclass(frozen=True)
class Gallery:
    """Vectors to search in, as they are kept.

    Attributes:
        vectors: (m, d) float32 or float16, L2-normalised up to their own rounding; may be memory-mapped.
        ids: (m,) int64, not negative; None: the positions.
        scales: (m,) float32, what a float16 vector is multiplied with in float32 before anything else; None: 1.
        norm: no vector, scaled or not, is longer than this, and all numbers are finite; None: not known, looked at in
            passing.
        drift: no scale is further from 1; when that is small, scaling waits for the shortlist. None: not known.
        groups: (m,) int64, what a query of the same group does not find; None: the ids.
    """

    vectors: np.ndarray
    ids: np.ndarray | None = None
    scales: np.ndarray | None = None
    norm: float | None = None
    drift: float | None = None
    groups: np.ndarray | None = None

    @property
    def slack(self) -> float:
        """How far a scale may be from 1 where candidates are compared without it; 0 where they are not."""
        return self.drift if self.scales is not None and self.drift is not None and self.drift <= MOST_DRIFT else 0.0

    def ids_of(self, positions: np.ndarray) -> np.ndarray:
        """The ids at some positions, int64."""
        return positions if self.ids is None else self.ids[positions]

    def groups_of(self, positions: np.ndarray) -> np.ndarray:
        """The groups at some positions, int64."""
        return self.ids_of(positions) if self.groups is None else self.groups[positions]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Copy the vectors at some positions, (n, d) float32, scaled."""
        scales = None if self.scales is None else self.scales[positions]
        return as_float32(
            self.vectors[positions], scales, np.empty((len(positions), self.vectors.shape[1]), np.float32)
        )


@dataclass(frozen=True)
class Block:
    """Queries that are searched together.

    Attributes:
        queries: (b, d) float32, C-contiguous.
        norms: (b,) float64, their lengths.
        own: (b,) int64, the group that each query must not find; None: nothing is left out.
    """

    queries: np.ndarray
    norms: np.ndarray
    own: np.ndarray | None

    def part(self, some: slice) -> Block:
        """Some of the queries as a block of their own."""
        return Block(self.queries[some], self.norms[some], None if self.own is None else self.own[some])

    def error(self, norm: float, slack: float = 0.0) -> np.ndarray:
        """Bound the error of a float32 product with a vector no longer than ``norm``, not scaled: (b,) float64."""
        d = self.queries.shape[1]
        relative = ((d + 8) * 2.0**-24 + slack) * 1.01
        return np.asarray(relative * self.norms * norm + 2 * d * TINY * (1 + self.norms + norm))


def as_float32(vectors: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """Give vectors as float32, scaled.

    Args:
        vectors: (n, d) float32 or float16.
        scales: (n,) float32, or None.
        out: (n, d) float32, C-contiguous, written to unless ``vectors`` can be given as they are.

    Returns:
        ``vectors`` themselves, or ``out``. Infinite and NaN float16 numbers come as numbers of 65536 and more.
    """
    if vectors.dtype == np.float32:
        if scales is None:
            return vectors
        np.multiply(vectors, scales[:, None], out=out)
        return out
    if not _keeps_subnormals():
        np.copyto(out, vectors)
        if scales is not None:
            np.multiply(out, scales[:, None], out=out)
        return out
    # NumPy converts a float16 in 1.3 ns; its bits moved into a float32's places and the exponent corrected by
    # a product take 0.2 ns: 16 → 32 bits with the sign spread, mantissa and exponent up, spread sign cut to one bit.
    bits = out.view(np.int32)
    np.copyto(bits, vectors.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(~0x70000000), out=bits)
    factor = np.float32(HALF_TO_SINGLE) if scales is None else (scales * np.float32(HALF_TO_SINGLE))[:, None]
    np.multiply(out, factor, out=out)
    return out


def pair_similarities(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Score pairs the one way that counts: exact products, one order of summation, one rounding.

    Args:
        queries: (n, d) float32.
        vectors: (n, d) float32.

    Returns:
        (n,) float32, the dot product of each pair; depends on nothing but the pair.
    """
    products = np.empty(queries.shape, np.float64)  # in C order whatever the order of the others
    np.multiply(queries, vectors, out=products, dtype=np.float64)
    # Along a contiguous last axis NumPy sums pairwise, in an order that only the length decides.
    return np.asarray(np.add.reduce(products, axis=1)).astype(np.float32)


def similarities_at(queries: np.ndarray, columns: np.ndarray, gallery: Gallery, positions: np.ndarray) -> np.ndarray:
    """Score pairs that are named, so many at a time that their products stay in cache.

    Args:
        queries: (b, d) float32.
        columns: (n,) int64, the query of each pair.
        gallery: all images.
        positions: (n,) int64, the image of each pair.

    Returns:
        (n,) float32, see ``pair_similarities``.
    """
    values = np.empty(len(positions), np.float32)
    step = max(1, PAIR_CHUNK // queries.shape[1])
    for start in range(0, len(positions), step):
        some = slice(start, start + step)
        values[some] = pair_similarities(queries[columns[some]], gallery.take(positions[some]))
    return values


class Shortlist:
    """What may still be among the k nearest of each query of a block, over a part of the gallery."""

    def __init__(self, block: Block, gallery: Gallery, k: int, *, capacity: int) -> None:
        self._block, self._gallery, self._k, self._capacity = block, gallery, k, capacity
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._kept = self._size = 0
        self._norm = 0.0
        size = len(block.queries)
        self._worst = np.full(size, -np.inf, np.float32)  # similarity and id of the k-th best, once settled
        self._worst_id = np.full(size, np.iinfo(np.int64).max)

    def add(self, positions: np.ndarray, columns: np.ndarray, values: np.ndarray, *, norm: float) -> None:
        """Take in candidates.

        Args:
            positions: (n,) int64, in the gallery.
            columns: (n,) int64, the query in the block.
            values: (n,) float32, similarity within ``Block.error(norm, gallery.slack)``.
            norm: no vector among them is longer.
        """
        self._norm = max(self._norm, norm)
        if self._block.own is not None:
            other = self._gallery.groups_of(positions) != self._block.own[columns]
            positions, columns, values = positions[other], columns[other], values[other]
        if len(positions) > CROWD and np.isfinite(self._worst).any():
            hopeful = self._hopeful(positions, columns)
            positions, columns, values = positions[hopeful], columns[hopeful], values[hopeful]
        if len(positions):
            self._parts.append((positions, columns, values))
            self._size += len(positions)

    def merge(self, other: Shortlist) -> None:
        """Take in another shortlist of the same block, over another part of the gallery."""
        self._norm = max(self._norm, other._norm)
        self._parts += other._parts
        self._size += other._size

    @property
    def is_due(self) -> bool:
        """Whether enough came in since the last time that ``shrink`` is worth its sorting."""
        return self._size >= min(self._capacity, max(FIRST_SHRINK, 2 * self._kept))

    def shrink(self) -> np.ndarray:
        """Drop who cannot be among the k nearest any more.

        Returns:
            (b,) float32: at least k candidates of each query truly have this similarity; -inf where fewer came.
        """
        error = self._block.error(self._norm, self._gallery.slack)
        bound = self._cut(2 * error)
        if self._size > self._capacity // 2:  # ties, or as good as: only exact similarities can part them
            self._settle()
            bound = np.maximum(bound, (self._worst - error).astype(np.float32))
        self._kept = self._size
        return bound

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Settle who is nearest.

        Returns:
            ids (b, k) int64, nearest first, ties by id, -1 in empty slots; similarities (b, k) float32, -inf there.
        """
        ids = np.full((len(self._block.queries), self._k), -1, np.int64)
        similarities = np.full(ids.shape, -np.inf, np.float32)
        self._cut(2 * self._block.error(self._norm, self._gallery.slack))
        positions, columns, values = self._settle()
        slot = _ranks(columns, len(ids))
        ids[columns, slot] = self._gallery.ids_of(positions)
        similarities[columns, slot] = values
        return ids, similarities

    def _gather(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._parts:
            self._parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        if len(self._parts) > 1:
            parts, self._parts = self._parts, []
            self._parts = [tuple(np.concatenate(column) for column in zip(*parts, strict=True))]  # type: ignore[list-item]
        return self._parts[0]

    def _keep(self, positions: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        self._parts, self._size = [(positions, columns, values)], len(positions)

    def _cut(self, slack: np.ndarray) -> np.ndarray:
        """Keep who is at most ``slack`` (b,) below the k-th best value; return the k-th best less half of it."""
        positions, columns, values = self._gather()
        order = np.argsort(-values)
        # 16 bits are sorted by radix, in one pass that keeps the order of values.
        order = order[np.argsort(columns[order].astype(np.uint16), kind="stable")]
        positions, columns, values = positions[order], columns[order], values[order]
        count = np.bincount(columns, minlength=len(slack))
        full = count >= self._k
        worst = np.full(len(slack), -np.inf)
        worst[full] = values[(np.cumsum(count) - count)[full] + self._k - 1]
        keep = values >= (worst - slack).astype(np.float32)[columns]
        self._keep(positions[keep], columns[keep], values[keep])
        return (worst - slack / 2).astype(np.float32)

    def _settle(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Replace values by true similarities and keep the k best of each query, sorted."""
        positions, columns, _ = self._gather()
        values = similarities_at(self._block.queries, columns, self._gallery, positions)
        ids = self._gallery.ids_of(positions)
        order = np.lexsort((ids, -values, columns))
        order = order[_ranks(columns[order], len(self._worst)) < self._k]
        positions, columns, values = positions[order], columns[order], values[order]
        self._keep(positions, columns, values)
        last = _ranks(columns, len(self._worst)) == self._k - 1
        self._worst[columns[last]] = values[last]
        self._worst_id[columns[last]] = self._gallery.ids_of(positions[last])
        return positions, columns, values

    def _hopeful(self, positions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Say who of a crowd may beat the settled k-th best: (n,) bool.

        Thousands of equal vectors are all within the error of the k-th best; scoring pair by pair would be right
        but thirty times slower than this product in float64, whose own error decides almost always.
        """
        rows, row = np.unique(positions, return_inverse=True)
        used, column = np.unique(columns, return_inverse=True)
        if len(positions) * 16 < len(rows) * len(used):
            return np.ones(len(positions), dtype=bool)
        product = self._gallery.take(rows).astype(np.float64) @ self._block.queries[used].astype(np.float64).T
        # The bound for float64 is 2^29 times smaller; adding it and rounding give what the similarity cannot exceed.
        most = (product[row, column] + self._block.error(self._norm)[columns] * 2.0**-28).astype(np.float32)
        worst = self._worst[columns]
        first = self._gallery.ids_of(positions) < self._worst_id[columns]
        return np.asarray((most > worst) | ((most == worst) & first))


def _ranks(columns: np.ndarray, size: int) -> np.ndarray:
    """Number the entries of each column from 0; ``columns`` ascends and is below ``size``."""
    count = np.bincount(columns, minlength=size)
    return np.asarray(np.arange(len(columns)) - (np.cumsum(count) - count)[columns])


def _keeps_subnormals() -> bool:
    """Whether this thread computes with subnormal numbers; code built with -ffast-math may have turned them off."""
    return bool(np.multiply(np.full(1, 2.0**-140, np.float32), np.float32(HALF_TO_SINGLE))[0] > 0)
