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

FOLD: Final = 16  # vectors of a group that is first compared by its best
SPAN: Final = 4096  # numbers that the best of groups are taken of in one stride
LINE: Final = 64  # bytes of a cache line, and of the widest vector register
LONGEST: Final = 1e15  # vectors beyond this length would overflow a float32 product
WIDEST_HALF: Final = 65504.0  # the largest float16
GROUP: Final = 8  # vectors whose squares are summed together where they are short
LONG_SUM: Final = 512  # numbers from which a sum of squares runs at full speed by itself

Hits = tuple[np.ndarray, np.ndarray]  # (n,) int64, place x queries of the block + query; (n,) float32, similarities


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
        """Vectors of places ``start`` to ``stop`` as they are kept, and the scales that cannot be left out here."""
        where: Any = slice(start, stop) if self.chosen is None else self.chosen[start:stop]
        scales = None if self.gallery.slack else self.gallery.scales
        return self.gallery.vectors[where], None if scales is None else scales[where]


class CpuScan:
    """One thread's way through tiles, with buffers of its own.

    Attributes:
        longest: no vector seen so far is longer.
    """

    def __init__(self, part: Part, block: Block, tile: int) -> None:
        self._part, self._block = part, block
        self._columns = np.ascontiguousarray(block.queries.T)  # (d, b)
        b, d = block.queries.shape
        self._rows = aligned(tile if self._widens(part.gallery) else 0, d)
        self._product = aligned(tile, b)
        self._span = max(1, min(SPAN // b, tile // FOLD))  # vectors side by side that a group has one of
        self._best = aligned(tile // (FOLD * self._span), self._span * b)
        self._mask = np.empty((tile, b), np.bool_)
        self.longest = part.gallery.norm or 0.0
        self._bounds: np.ndarray | None = None
        self._reach = np.empty(0, np.float32)

    @staticmethod
    def _widens(gallery: Gallery) -> bool:
        return gallery.vectors.dtype != np.float32 or gallery.scales is not None

    def product(self, start: int, stop: int) -> np.ndarray:
        """Similarities of a tile, (stop - start, b) float32, valid until the next call.

        Raises:
            InputError: the tile holds an infinite or NaN number.
        """
        kept, scales = self._part.tile(start, stop)
        rows = as_float32(kept, scales, self._rows[: stop - start])
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are refused below
            product = np.matmul(rows, self._columns, out=self._product[: stop - start])
        if self._part.gallery.norm is None:  # after the product, which has brought the tile into the cache
            norm = longest(rows, kept)
            if norm > self.longest:
                self.longest, self._bounds = norm * 1.01, None
        return product

    def hits(self, start: int, stop: int, bounds: Callable[[], np.ndarray]) -> Iterator[Hits]:
        """Yield who may reach a bound: all whose true similarity does, and few others.

        Args:
            start: first place of the tile.
            stop: end of the tile.
            bounds: gives (b,) float32, the similarity to reach.

        Raises:
            InputError: the tile holds an infinite or NaN number.
        """
        product = self.product(start, stop)
        if bounds() is not self._bounds:  # they change seldom, tiles come by the thousand
            self._bounds = bounds()
            self._reach = (self._bounds - self._block.error(self.longest, self._part.gallery.slack)).astype(np.float32)
        reach = self._reach
        rows = FOLD * self._span
        whole = len(product) // rows * rows
        for first, last, fold, span in ((0, whole, FOLD, self._span), (whole, len(product), 1, len(product) - whole)):
            if first < last:
                codes, values = self._reaching(product[first:last], reach, fold, span * len(reach))
                if len(codes):
                    yield codes + (start + first) * len(reach), values

    def _reaching(self, product: np.ndarray, reach: np.ndarray, fold: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes and values of a product's numbers that reach a bound; ``fold * width`` divides their number."""
        b = len(reach)
        numbers = product.ravel()
        # Few reach it, so groups of vectors are compared by their best, and only groups that reach it are opened.
        groups = numbers.reshape(-1, fold, width)
        best = np.maximum.reduce(groups, axis=1, out=self._best[: len(groups)]) if fold > 1 else groups
        mask = np.greater_equal(best.reshape(-1, b), reach, out=self._mask[: best.size // b])
        found = np.flatnonzero(mask)
        members = found + (found // width * (fold - 1) + np.arange(fold)[:, None]) * width
        values = numbers[members]
        kept = values >= reach[found % b]
        return members[kept], values[kept]


class TorchScan:
    """The same through torch, on one device, which hands over at most ``most`` hits at once.

    Attributes:
        longest: no vector seen so far is longer.
    """

    def __init__(self, part: Part, block: Block, device: str, *, most: int) -> None:
        import torch

        self._torch: Any = torch
        self._part, self._block, self._device, self._most = part, block, device, most
        self._queries = torch.from_numpy(block.queries).to(device)
        self.longest = part.gallery.norm or 0.0

    def hits(self, start: int, stop: int, bounds: Callable[[], np.ndarray]) -> Iterator[Hits]:
        """Yield who may reach a bound, as ``CpuScan.hits`` does; asks for the bound again before each piece."""
        torch = self._torch
        kept, scales = self._part.tile(start, stop)
        # A copy, since torch warns of memory that cannot be written to, such as a file's.
        rows = torch.from_numpy(np.array(kept)).to(self._device).to(torch.float32)
        if scales is not None:
            rows *= torch.from_numpy(np.array(scales)).to(self._device)[:, None]
        if self._part.gallery.norm is None:
            self.longest = max(self.longest, _inflate(float(rows.square().sum(dim=1).max()), rows.shape[1]))
        product = self._queries @ rows.T  # (b, tile)
        piece, begin = stop - start, 0
        while begin < product.shape[1]:
            reach = torch.from_numpy(
                (bounds() - self._block.error(self.longest, self._part.gallery.slack)).astype(np.float32)
            ).to(self._device)
            mask = product[:, begin : begin + piece] >= reach[:, None]
            if piece > 1 and int(mask.sum()) > self._most:  # not adapted yet, or ties: in smaller pieces
                piece = max(1, min(piece // 2, self._most // product.shape[0]))
                continue
            columns, places = mask.nonzero(as_tuple=True)
            places += begin
            codes = (places + start) * len(product) + columns
            yield codes.cpu().numpy(), product[columns, places].cpu().numpy()
            begin += piece


def aligned(rows: int, columns: int) -> np.ndarray:
    """Make room for (rows, columns) float32 at a cache line's edge, where wide loads are a third quicker."""
    room = np.empty(4 * rows * columns + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + 4 * rows * columns].view(np.float32).reshape(rows, columns)


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
