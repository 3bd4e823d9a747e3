"""Read → decode → embed → cache, all at once: the one road from a source's uris to vectors.

One thread reads, a pool decodes, two threads embed (one resizes while the other computes), and the caller's
thread writes. Every hand-over is bounded, so memory does not grow with the number of images.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from indexer.catalogue import Embeds
from indexer.vectors import VectorCache
from retrieval.errors import ImageError
from retrieval.images import decode, measure
from retrieval.sources import ImageSource

BATCH: Final = 32
EMBED_THREADS: Final = 2
MEMORY: Final = 512 * 2**20  # bytes of decoded pictures under way
_END: Final = None


@dataclass(frozen=True)
class Outcome:
    """What became of one uri.

    Attributes:
        position: of the uri in what was asked for.
        sha256: of the bytes, 32 bytes; empty when they could not be read.
        width: pixels after orientation, 0 when refused.
        height: likewise.
        reason: why it was refused; None when it has a vector.
    """

    position: int
    sha256: bytes = b""
    width: int = 0
    height: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class _Read:
    outcome: Outcome
    bytes: int  # of the memory it holds until it is embedded or passed over
    pixels: np.ndarray | None = None


class _Memory:
    """Bytes of decoded pictures under way; who wants more than is free waits.

    Taken in the order of the uris by one thread, so that the picture whose turn it is never waits for a later one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._changed = threading.Condition()

    def take(self, bytes: int) -> int:
        """Wait until ``bytes`` are free; a picture counts for half of the limit at most. Returns what was taken."""
        bytes = min(bytes, self.limit // 2)
        with self._changed:
            self._changed.wait_for(lambda: self._used + bytes <= self.limit)
            self._used += bytes
        return bytes

    def give_back(self, bytes: int) -> None:
        with self._changed:
            self._used -= bytes
            self._changed.notify_all()


def embed_uris(
    source: ImageSource,
    uris: Sequence[str],
    embedder: Embeds,
    cache: VectorCache,
    *,
    chunk: int,
    on_done: Callable[[Outcome], object] = lambda _: None,
) -> Iterator[list[Outcome]]:
    """Give every image a vector in the cache, embedding nothing twice.

    Args:
        source: where the uris lead.
        uris: what to read, in the order wanted.
        embedder: whose vectors.
        cache: of that embedder; vectors are in it before the chunk that needs them is yielded.
        chunk: images between two writes of the cache.
        on_done: called with each outcome in the caller's thread, for progress.

    Yields:
        Outcomes in the order of ``uris``, at most ``chunk`` at a time. When the caller is interrupted
        (KeyboardInterrupt), what was embedded until then is written to the cache before the interrupt goes on.
    """
    known = cache.keys()
    memory = _Memory(MEMORY)
    with (
        _Reader(source, uris, embedder.image_size, known, memory) as reader,
        _Embedding(embedder, memory) as embedding,
    ):
        waiting: list[Outcome] = []

        def write() -> list[Outcome]:
            keys, vectors = embedding.finish()
            cache.append(keys, vectors)
            done = list(waiting)
            waiting.clear()
            return done

        try:
            for read in reader:
                outcome = read.outcome
                if read.pixels is not None and outcome.sha256 not in known:
                    known.add(outcome.sha256)
                    embedding.add(outcome.sha256, read)
                else:
                    memory.give_back(read.bytes)
                waiting.append(outcome)
                on_done(outcome)
                if len(waiting) >= chunk:
                    yield write()
            if waiting:
                yield write()
        except KeyboardInterrupt:
            write()
            raise


class _Reader:
    """Reads and decodes ahead of the consumer, in order, a bounded number of images ahead."""

    def __init__(self, source: ImageSource, uris: Sequence[str], size: int, known: set[bytes], memory: _Memory) -> None:
        workers = os.cpu_count() or 1
        self._source, self._uris, self._size, self._known, self._memory = source, uris, size, known, memory
        # Raw bytes in flight are few (one may be 64 MiB); decoded pictures are small, and wait for a batch or two.
        self._raw = threading.Semaphore(2 * workers)
        self._ahead: queue.Queue[Future[_Read] | BaseException | None] = queue.Queue(maxsize=2 * BATCH)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._thread = threading.Thread(target=self._run, name="read", daemon=True)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._raw.release(1_000)
        self._memory.give_back(2**60)
        while self._thread.is_alive():  # a reader that waits for a free place must find one
            try:
                self._ahead.get(timeout=0.05)
            except queue.Empty:
                continue
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[_Read]:
        while (ahead := self._ahead.get()) is not _END:
            if isinstance(ahead, BaseException):
                raise ahead
            yield ahead.result()

    def _run(self) -> None:
        try:
            for position, data in enumerate(self._source.read_many(self._uris)):
                self._raw.acquire()
                held = self._memory.take(self._decoded_bytes(data))
                if self._stop.is_set():
                    return
                self._ahead.put(self._pool.submit(self._decode, position, data, held))
            self._ahead.put(_END)
        except BaseException as error:  # handed to the consumer, who raises it
            self._ahead.put(error)

    def _decoded_bytes(self, data: bytes | ImageError) -> int:
        """Say from its header what a picture will take when decoded; long thin ones are reduced little."""
        if isinstance(data, ImageError):
            return 0
        try:
            width, height = measure(data)
        except ImageError:
            return 0
        factor = max(1, min(width, height) // (2 * self._size))
        return 3 * width * height // factor**2

    def _decode(self, position: int, data: bytes | ImageError, held: int) -> _Read:
        try:
            if isinstance(data, ImageError):
                return _Read(Outcome(position, reason=str(data)), held)
            sha256 = hashlib.sha256(data).digest()
            if sha256 in self._known:
                width, height = measure(data)
                return _Read(Outcome(position, sha256, width, height), held)
            picture = decode(data, size=self._size)
            return _Read(Outcome(position, sha256, picture.width, picture.height), held, picture.pixels)
        except ImageError as error:
            return _Read(Outcome(position, reason=str(error)), held)
        finally:
            self._raw.release()


class _Embedding:
    """Gathers pictures into batches and embeds them in threads; when enough are under way ``add`` waits.

    An interrupt may come at any line: a picture stands with its key in one place, and leaves it only when its
    batch stands in the next.
    """

    def __init__(self, embedder: Embeds, memory: _Memory) -> None:
        self._embedder = embedder
        self._memory = memory
        self._pool = ThreadPoolExecutor(EMBED_THREADS, thread_name_prefix="embed")
        self._free = threading.Semaphore(EMBED_THREADS + 1)
        self._pending: list[tuple[bytes, _Read]] = []
        self._batches: list[tuple[list[bytes], Future[np.ndarray]]] = []

    def __enter__(self) -> _Embedding:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, sha256: bytes, read: _Read) -> None:
        self._pending.append((sha256, read))
        # Large pictures make small batches: what waits here is memory that the reader cannot have.
        if len(self._pending) >= BATCH or sum(read.bytes for _, read in self._pending) >= self._memory.limit // 4:
            self._submit()

    def finish(self) -> tuple[list[bytes], np.ndarray]:
        """Wait for everything added since the last call: keys, and (n, dim) float32."""
        self._submit()
        vectors = [batch.result() for _, batch in self._batches]
        keys = [key for some, _ in self._batches for key in some]
        self._batches = []
        return keys, np.concatenate(vectors) if vectors else np.zeros((0, self._embedder.dim), np.float32)

    def _submit(self) -> None:
        if not self._pending:
            return
        self._free.acquire()
        batch, keys = [read for _, read in self._pending], [key for key, _ in self._pending]
        future = self._pool.submit(self._embed, batch)
        self._batches, self._pending = [*self._batches, (keys, future)], []

    def _embed(self, batch: list[_Read]) -> np.ndarray:
        try:
            return self._embedder.embed([read.pixels for read in batch if read.pixels is not None])
        finally:
            self._free.release()
            self._memory.give_back(sum(read.bytes for read in batch))
