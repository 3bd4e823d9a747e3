"""Going through a gallery tile by tile: a float32 matrix product, and who reaches a bound.

On the CPU a thread takes a tile small enough that product and comparison stay in its cache, and BLAS runs on one
thread inside it; on CUDA torch does the same with large tiles. Both only propose: ``retrieval.shortlist`` decides.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from retrieval.errors import InputError
from retrieval.shortlist import Block, Gallery, as_float32

FOLDS: Final = 3  # times a tile's product is folded in half before it is compared
LONGEST: Final = 1e15  # vectors beyond this length would overflow a float32 product
WIDEST_HALF: Final = 65504.0  # the largest float16
GROUP: Final = 8  # vectors whose squares are summed together where they are short
LONG_SUM: Final = 512  # numbers from which a sum of squares runs at full speed by itself
HITS_AT_ONCE: Final = 1 << 18  # that a device hands over in one piece

# (n,) int64, place x queries of the block + query; (n,) float32, similarities; the length no vector of the tile exceeds
Hits = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class Part:
    """The vectors of a gallery that may be found, in order: all of them, or those at ``chosen`` (n,) int64."""

    gallery: Gallery
    chosen: np.ndarray | None

    def __len__(self) -> int:
        return len(self.gallery.vectors) if self.chosen is None else len(self.chosen)

    def positions(self, places: np.ndarray) -> np.ndarray:
        """Places in the part → positions in the gallery."""
        return places if self.chosen is None else self.chosen[places]

    def tile(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Vectors of places ``start`` to ``stop`` as they are kept, and their scales."""
        where: Any = slice(start, stop) if self.chosen is None else self.chosen[start:stop]
        scales = self.gallery.scales
        return self.gallery.vectors[where], None if scales is None else scales[where]


class CpuScan:
    """One thread's way through tiles, with buffers of its own."""

    def __init__(self, part: Part, block: Block, tile: int) -> None:
        self._part, self._block = part, block
        self._columns = np.ascontiguousarray(block.queries.T)  # (d, b)
        b, d = block.queries.shape
        self._rows = np.empty((tile if self._widens(part.gallery) else 0, d), np.float32)
        self._product = np.empty((tile, b), np.float32)
        self._folded = np.empty((tile // 2, b), np.float32)
        self._mask = np.empty((tile, b), np.bool_)
        self._bounds, self._norm, self._reached = np.empty(0, np.float32), 0.0, np.empty(0, np.float32)

    @staticmethod
    def _widens(gallery: Gallery) -> bool:
        return gallery.vectors.dtype != np.float32 or gallery.scales is not None

    def product(self, start: int, stop: int) -> tuple[np.ndarray, float]:
        """Similarities of a tile, (stop - start, b) float32, valid until the next call; its longest vector.

        Raises:
            InputError: the tile holds an infinite or NaN number.
        """
        kept, scales = self._part.tile(start, stop)
        rows = as_float32(kept, scales, self._rows[: stop - start])
        product = np.matmul(rows, self._columns, out=self._product[: stop - start])
        norm = self._part.gallery.norm  # a look at the lengths after the product finds the tile in the cache
        return product, longest(rows, kept) if norm is None else norm

    def hits(self, start: int, stop: int, bounds: Callable[[], np.ndarray]) -> Iterator[Hits]:
        """Yield who may reach a bound: all whose true similarity does, and few others.

        Args:
            start: first place of the tile.
            stop: end of the tile.
            bounds: gives (b,) float32, the similarity to reach.

        Raises:
            InputError: the tile holds an infinite or NaN number.
        """
        product, norm = self.product(start, stop)
        reach = self._reach(bounds(), norm)
        # Few reach it. The larger of two halves is had at twice the speed of a comparison, and of a folded tile
        # only an eighth must be compared; groups that reach the bound are then opened.
        folded, times = product, 0
        while times < FOLDS and len(folded) % 2 == 0 and len(folded):
            half = len(folded) // 2
            folded = np.maximum(folded[:half], folded[half:], out=self._folded[:half])
            times += 1
        mask = np.greater_equal(folded, reach, out=self._mask[: len(folded)])
        found = np.flatnonzero(mask)
        if len(found) == 0:
            return
        b = len(reach)
        members = found + np.arange(2**times)[:, None] * (len(folded) * b)
        values = product.ravel()[members]
        kept = values >= reach[found % b]
        yield members[kept] + start * b, values[kept], norm

    def _reach(self, bounds: np.ndarray, norm: float) -> np.ndarray:
        # Bounds and lengths change seldom, tiles come by the thousand.
        if bounds is not self._bounds or norm > self._norm:
            self._bounds, self._norm = bounds, max(self._norm, norm * 1.01)
            self._reached = (bounds - self._block.error(self._norm)).astype(np.float32)
        return self._reached


class TorchScan:
    """The same through torch, on one device."""

    def __init__(self, part: Part, block: Block, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._part, self._block, self._device = part, block, device
        self._queries = torch.from_numpy(block.queries).to(device)

    def hits(self, start: int, stop: int, bounds: Callable[[], np.ndarray]) -> Iterator[Hits]:
        """Yield who may reach a bound, as ``CpuScan.hits`` does; asks for the bound again before each piece."""
        torch = self._torch
        kept, scales = self._part.tile(start, stop)
        # A copy, since torch warns of memory that cannot be written to, such as a file's.
        rows = torch.from_numpy(np.array(kept)).to(self._device).to(torch.float32)
        if scales is not None:
            rows *= torch.from_numpy(np.array(scales)).to(self._device)[:, None]
        norm = self._part.gallery.norm
        if norm is None:
            norm = _inflate(float(rows.square().sum(dim=1).max()), rows.shape[1])
        product = self._queries @ rows.T  # (b, tile)
        piece, begin = stop - start, 0
        while begin < product.shape[1]:
            reach = torch.from_numpy((bounds() - self._block.error(norm)).astype(np.float32)).to(self._device)
            mask = product[:, begin : begin + piece] >= reach[:, None]
            if piece > 1 and int(mask.sum()) > HITS_AT_ONCE:  # not adapted yet, or ties: in smaller pieces
                piece = max(1, min(piece // 2, HITS_AT_ONCE // product.shape[0]))
                continue
            columns, places = mask.nonzero(as_tuple=True)
            places += begin
            codes = (places + start) * len(product) + columns
            yield codes.cpu().numpy(), product[columns, places].cpu().numpy(), norm
            begin += piece


def longest(rows: np.ndarray, kept: np.ndarray) -> float:
    """Bound the length of the longest vector of a tile, after a look at its numbers.

    Args:
        rows: (n, d) float32.
        kept: (n, d), the same before conversion.

    Raises:
        InputError: infinite, NaN or absurdly large numbers.
    """
    n, d = rows.shape
    if d < LONG_SUM and n % GROUP == 0 and rows.flags.c_contiguous:
        rows = rows.reshape(n // GROUP, GROUP * d)  # a group's sum bounds each of its members, in half the time
    square = float(np.vecdot(rows, rows).max(initial=0.0))  # infinite or NaN when any number is, or when too large
    return _inflate(square, d, halves=kept if kept.dtype == np.float16 else None)


def _inflate(square: float, d: int, *, halves: np.ndarray | None = None) -> float:
    # Widening gives an infinite or NaN float16 as a number of 65536 and more.
    if not square < LONGEST**2 or (halves is not None and square > WIDEST_HALF**2 and not np.isfinite(halves).all()):
        raise InputError("the gallery holds infinite, NaN or far too large numbers; its vectors must have length 1")
    # The sum of squares has an error too, and squares may have vanished below the smallest float32.
    return float(np.sqrt(square * 1.001 + d * 2.0**-126))


class _Borrowed:
    """A process-wide setting that overlapping users share: the first in changes it, the last out restores it.

    Two users who each restored what they had found would leave the setting changed for good when they overlap.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0
        self._restore: Callable[[], object] = lambda: None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._restore = self._change()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._restore()


@functools.cache
def _blas() -> ThreadpoolController:
    # Made once: finding the libraries takes milliseconds, and NumPy's stands in memory from the start.
    return ThreadpoolController().select(user_api="blas")


def _one_blas_thread() -> Callable[[], object]:
    restore: Callable[[], object] = _blas().limit(limits=1).restore_original_limits
    return restore


def _true_float32() -> Callable[[], object]:
    import torch

    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"  # TF32 keeps 10 bits of 23, and the error bound would not hold

    def restore() -> None:
        matmul.fp32_precision = before

    return restore


one_blas_thread = _Borrowed(_one_blas_thread)
true_float32 = _Borrowed(_true_float32)
