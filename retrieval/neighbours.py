"""Exact nearest neighbours by similarity: tiled, in bounded memory, the same answer on every machine.

A batch of queries is multiplied with tiles of the gallery in float32 (``retrieval.scan``); whoever may be among
the k nearest goes on a shortlist, where true similarities decide (``retrieval.shortlist``). Nothing is
approximate: the answer is that of a float64 comparison of all pairs, rounded to float32, ties by id.
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.machine import cores
from retrieval.scan import FOLD, LONGEST, SPAN, CpuScan, Hits, Part, TorchScan, one_blas_thread, true_float32
from retrieval.shortlist import Block, Gallery, Shortlist

QUERIES_AT_ONCE: Final = 256  # a block of the CPU: enough for BLAS, few enough for the cache
DEVICE_QUERIES: Final = 4096  # a block of a GPU: the gallery crosses the bus once a block
DEVICE_NUMBERS: Final = 1 << 26  # of a tile's product on a GPU: 256 MiB of its memory
PRODUCT_NUMBERS: Final = 1 << 19  # of a tile's product: 2 MiB; smaller ones stay in cache but cost more calls
TILE_BYTES: Final = 1 << 21  # of a tile's vectors as float32
ENTRY_BYTES: Final = 96  # of a shortlist's entry while it is sorted
GATHERED: Final = 1024  # hits that go on the shortlist together
HIT_BYTES: Final = 256  # of the share, so that hits on their way to the shortlist take a quarter of it at most
SAMPLE: Final = 8192  # vectors that the first bounds come from
THREAD_BYTES: Final = 1 << 24  # least share of the memory that a thread works with
SMALL: Final = 1 << 24  # multiplications below which one thread is done before a second has started


@dataclass(frozen=True)
class Budget:
    """What a search may use; no choice here changes an answer.

    Attributes:
        memory: MiB of working memory beside the arguments and the answer; more is taken only where k is so large
            that two shortlists of one query (200 bytes an entry) do not fit. A GPU's own memory is not counted: it
            gives about 400 MiB.
        threads: of the CPU; None: all that the process may run on.
        block: queries searched together; None: chosen.
        tile: vectors compared at once; None: chosen.
    """

    memory: int = 256
    threads: int | None = None
    block: int | None = None
    tile: int | None = None


def top_k(
    queries: np.ndarray,
    gallery: np.ndarray | Gallery,
    k: int,
    *,
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    exclude_self: bool = False,
    query_groups: np.ndarray | None = None,
    gallery_groups: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
    device: str = "cpu",
    budget: Budget = Budget(),
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of a gallery for each query.

    The similarity of a pair is its dot product, for L2-normalised vectors the cosine, rounded to float32 (that of
    two equal vectors may therefore be 1 ± 2e-7). It depends on the pair alone, so batch, order, ``budget`` and
    ``device`` change nothing.

    Args:
        queries: (n, d) float32 or float16, L2-normalised.
        gallery: (m, d) float32 or float16, L2-normalised; may be memory-mapped. Or a ``Gallery``, which has its ids.
        k: how many to find, at least 1; may exceed m.
        query_ids: (n,) integers, needed for ``exclude_self``.
        gallery_ids: (m,) integers, not negative; the positions 0 to m - 1 when not given.
        exclude_self: leave out vectors whose id is the query's.
        query_groups: (n,) integers, in place of ``exclude_self``: leave out vectors of the query's group.
        gallery_groups: (m,) integers, needed for ``query_groups``.
        allowed: (m,) bool, which vectors may be found; all when not given.
        device: "cpu", "cuda" or "cuda:N"; "auto" takes CUDA where torch is in memory already and sees it.
        budget: memory, threads and tiles.

    Returns:
        ids (n, k) int64, nearest first, ties by id, the lower first, -1 in empty slots; similarities (n, k) float32,
        -inf in empty slots.

    Raises:
        InputError: vectors that are not (n, d) float16 or float32, of two dimensions d, or not finite; ids, mask or
            k that do not fit; a device that is not there.
    """
    gallery = _as_gallery(gallery, gallery_ids)
    m, d = gallery.vectors.shape
    check_vectors(queries, "queries")
    if queries.shape[1] != d:
        raise InputError(f"the queries have dimension {queries.shape[1]} and the gallery has {d}")
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    own = None
    if query_groups is not None:
        if gallery_groups is None or exclude_self:
            raise InputError("leaving out groups needs gallery_groups, and no exclude_self")
        own = check_integers(query_groups, len(queries), "query_groups")
        gallery = replace(gallery, groups=check_integers(gallery_groups, m, "gallery_groups"))
    if exclude_self:
        if query_ids is None:
            raise InputError("leaving out the query itself needs query_ids")
        own = check_integers(query_ids, len(queries), "query_ids")
    chosen = None
    if allowed is not None:
        if allowed.dtype != np.bool_ or allowed.shape != (m,):
            raise InputError(f"allowed must be ({m},) bool, not {allowed.shape} {allowed.dtype}")
        chosen = None if allowed.all() else np.flatnonzero(allowed)
    where = torch_device(device)
    ids = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    part = Part(gallery, chosen)
    if len(queries) and len(part):
        search = _Search(part, min(k, len(part)), len(queries), device=where, budget=budget)
        search.run(np.asarray(queries), own, ids, similarities)
    return ids, similarities


class _Search:
    """The plan of one search: how many threads, which blocks of queries, which tiles of the gallery."""

    def __init__(self, part: Part, k: int, n: int, *, device: str | None, budget: Budget) -> None:
        self._part, self._k, self._device = part, k, device
        d = part.gallery.vectors.shape[1]
        memory = max(1, budget.memory) * 2**20
        threads = 1 if device is not None or n * len(part) * d < SMALL else budget.threads or cores()
        # Rather fewer threads than tiles too small to be quick.
        self._threads = max(1, min(threads, memory // THREAD_BYTES))
        share = memory // self._threads
        entries = share // 2 // ENTRY_BYTES
        most = QUERIES_AT_ONCE if device is None else DEVICE_QUERIES
        block = budget.block or max(1, min(most, entries // (4 * k)))
        # Blocks of one size, and as many as share out evenly among the threads.
        blocks = -(-n // block)
        if blocks > self._threads:
            blocks = -(-blocks // self._threads) * self._threads
        self._block = -(-n // blocks)
        self._capacity = max(entries, 2 * k * self._block)
        self._most = share // HIT_BYTES
        numbers = min(PRODUCT_NUMBERS, self._most) if device is None else DEVICE_NUMBERS
        rows = (TILE_BYTES if device is None else share // 8) // (4 * d)
        tile = max(8, min(numbers // self._block, rows))
        whole = FOLD * max(1, SPAN // self._block)  # what is compared without a rest
        self._tile = budget.tile or (tile // whole * whole if tile >= whole else tile // 8 * 8)

    def run(self, queries: np.ndarray, own: np.ndarray | None, ids: np.ndarray, similarities: np.ndarray) -> None:
        """Fill the first columns of ``ids`` and ``similarities``, (n, k) each; ``own`` is (n,) int64 or None."""
        starts = range(0, len(queries), self._block)
        apart = len(starts) >= self._threads > 1  # a thread a block, else all threads on each block
        stop = threading.Event()
        queue = itertools.count()

        def work() -> None:
            while (number := next(queue)) < len(starts) and not stop.is_set():
                some = slice(starts[number], starts[number] + self._block)
                block = _block(queries[some], None if own is None else own[some])
                found = self._search(block, 1 if apart else self._threads, stop)
                ids[some, : self._k], similarities[some, : self._k] = found

        with self._settings():
            together([work] * (self._threads if apart else 1), stop)

    def _settings(self) -> AbstractContextManager[None]:
        if self._device is not None:
            return true_float32()
        return one_blas_thread() if self._threads > 1 else nullcontext()

    def _search(self, block: Block, threads: int, stop: threading.Event) -> tuple[np.ndarray, np.ndarray]:
        bounds = _Bounds(self._first_bounds(block))
        queue = itertools.count()
        parts: list[Shortlist] = []
        lengths: list[float] = []

        def work() -> None:
            shortlist, longest = self._scan(block, bounds, queue, stop)
            parts.append(shortlist)
            lengths.append(longest)

        together([work] * threads, stop)
        for part in parts[1:]:
            parts[0].merge(part)
        if self._part.gallery.norm is None and not stop.is_set():
            # All tiles were seen; later blocks need not look at lengths again.
            self._part = replace(self._part, gallery=replace(self._part.gallery, norm=max(lengths)))
        return parts[0].result()

    def _scan(
        self, block: Block, bounds: _Bounds, queue: Iterator[int], stop: threading.Event
    ) -> tuple[Shortlist, float]:
        """Compare a block with the tiles that the queue gives; return who may be nearest, and the longest vector."""
        part = self._part
        shortlist = Shortlist(block, part.gallery, self._k, capacity=self._capacity)
        scan: CpuScan | TorchScan
        if self._device is not None:
            scan = TorchScan(part, block, self._device, most=self._most)
        else:
            scan = CpuScan(part, block, self._tile)
        waiting: list[Hits] = []  # until they are enough to be worth a dozen calls of NumPy
        many = 0

        def take_in() -> None:
            places, columns = np.divmod(np.concatenate([codes for codes, _ in waiting]), len(block.queries))
            values = np.concatenate([values for _, values in waiting])
            shortlist.add(part.positions(places), columns, values, norm=scan.longest)
            if shortlist.is_due:
                bounds.rise(shortlist.shrink())

        while (start := next(queue) * self._tile) < len(part) and not stop.is_set():
            for hits in scan.hits(start, min(start + self._tile, len(part)), bounds):
                waiting.append(hits)
                many += len(hits[0])
                if many >= GATHERED:
                    take_in()
                    waiting, many = [], 0
        if waiting:
            take_in()
        return shortlist, scan.longest

    def _first_bounds(self, block: Block) -> np.ndarray:
        """Bound from below what the k-th best will be, from a sample: (b,) float32, -inf where it is too small."""
        size, k = max(SAMPLE, 16 * self._k), self._k
        bounds = np.full(len(block.queries), -np.inf, np.float32)
        if len(self._part) < 32 * size:
            size = len(self._part) // 32
        if size < 16 * k:
            return bounds
        # The k-th best of the best of groups is no better than the k-th best of all, and quicker to have.
        tile = min(self._tile, PRODUCT_NUMBERS // QUERIES_AT_ONCE)
        fold = math.gcd(1 << (size // (16 * k)).bit_length() - 1, tile)
        places = np.arange(size // fold * fold) * (len(self._part) // size)
        sample = Part(self._part.gallery, self._part.positions(places))
        for start in range(0, len(bounds), QUERIES_AT_ONCE):
            some = block.part(slice(start, start + QUERIES_AT_ONCE))
            scan, best = CpuScan(sample, some, tile), []
            for first in range(0, len(sample), tile):
                last = min(first + tile, len(sample))
                product = scan.product(first, last)
                if some.own is not None:
                    groups = sample.gallery.groups_of(sample.positions(np.arange(first, last)))
                    product[groups[:, None] == some.own] = -np.inf
                best.append(product.reshape(fold, -1, len(some.queries)).max(axis=0))
            bests = np.ascontiguousarray(np.concatenate(best).T)
            worst = np.partition(bests, -k, axis=1)[:, -k]
            bounds[start : start + QUERIES_AT_ONCE] = worst - some.error(scan.longest, sample.gallery.slack)
        return bounds


class _Bounds:
    """The similarity that each query of a block has k candidates for already; threads raise it together."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self._lock = threading.Lock()

    def __call__(self) -> np.ndarray:
        return self._values

    def rise(self, values: np.ndarray) -> None:
        """Raise the bounds to ``values`` (b,) float32 where those are higher."""
        with self._lock:
            self._values = np.maximum(self._values, values)


def together(jobs: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Run jobs, a thread each; when one fails, or Ctrl-C comes, the others are told to stop and waited for."""
    if len(jobs) == 1:
        return jobs[0]()
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="neighbours") as pool:
        try:
            futures = [pool.submit(job) for job in jobs]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
        except BaseException:
            stop.set()
            raise


def _block(queries: np.ndarray, own: np.ndarray | None) -> Block:
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    wide = queries.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))  # n: query, d: dimension
    if not (norms < LONGEST).all():
        raise InputError("the queries hold infinite, NaN or far too large numbers; they must have length 1")
    return Block(queries, norms, own)


def check_vectors(vectors: np.ndarray, name: str) -> None:
    """Raise InputError unless vectors are (n, d) float16 or float32."""
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype not in (np.float16, np.float32):
        raise InputError(f"the {name} must be (n, d) float16 or float32, not {vectors.shape} {vectors.dtype}")


def check_integers(values: np.ndarray, n: int, name: str) -> np.ndarray:
    """Give (n,) integers as int64; raise InputError for anything else."""
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise InputError(f"{name} must be ({n},) integers, not {values.shape} {values.dtype}")
    return values.astype(np.int64, copy=False)


def _as_gallery(gallery: np.ndarray | Gallery, ids: np.ndarray | None) -> Gallery:
    if isinstance(gallery, Gallery):
        assert ids is None, "a Gallery has its ids"
        return gallery
    check_vectors(gallery, "gallery")
    if ids is not None:
        ids = check_integers(ids, len(gallery), "gallery_ids")
        if len(ids) and ids.min() < 0:
            raise InputError("gallery_ids must not be negative: -1 marks an empty slot")
    return Gallery(np.asarray(gallery), ids)


def torch_device(device: str) -> str | None:
    """Name torch's device; None: NumPy on the CPU."""
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules):
        return None
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else None
    if device == "torch-cpu":  # for tests: the way of a GPU without one
        return "cpu"
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise InputError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise InputError("CUDA is not usable on this machine (run lookalike doctor); choose --device cpu")
    if int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device
