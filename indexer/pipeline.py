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
    pixels: np.ndarray | None = None


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
    with _Reader(source, uris, embedder.image_size, known) as reader, _Embedding(embedder) as embedding:
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
                    embedding.add(outcome.sha256, read.pixels)
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

    def __init__(self, source: ImageSource, uris: Sequence[str], size: int, known: set[bytes]) -> None:
        workers = os.cpu_count() or 1
        self._source, self._uris, self._size, self._known = source, uris, size, known
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
                if self._stop.is_set():
                    return
                self._ahead.put(self._pool.submit(self._decode, position, data))
            self._ahead.put(_END)
        except BaseException as error:  # handed to the consumer, who raises it
            self._ahead.put(error)

    def _decode(self, position: int, data: bytes | ImageError) -> _Read:
        try:
            if isinstance(data, ImageError):
                return _Read(Outcome(position, reason=str(data)))
            sha256 = hashlib.sha256(data).digest()
            if sha256 in self._known:
                width, height = measure(data)
                return _Read(Outcome(position, sha256, width, height))
            picture = decode(data, size=self._size)
            return _Read(Outcome(position, sha256, picture.width, picture.height), picture.pixels)
        except ImageError as error:
            return _Read(Outcome(position, reason=str(error)))
        finally:
            self._raw.release()


class _Embedding:
    """Gathers pictures into batches and embeds them in threads; a full queue makes ``add`` wait."""

    def __init__(self, embedder: Embeds) -> None:
        self._embedder = embedder
        self._pool = ThreadPoolExecutor(EMBED_THREADS, thread_name_prefix="embed")
        self._free = threading.Semaphore(EMBED_THREADS + 1)
        self._keys: list[bytes] = []
        self._pending: list[np.ndarray] = []
        self._batches: list[Future[np.ndarray]] = []

    def __enter__(self) -> _Embedding:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, sha256: bytes, pixels: np.ndarray) -> None:
        self._keys.append(sha256)
        self._pending.append(pixels)
        if len(self._pending) == BATCH:
            self._submit()

    def finish(self) -> tuple[list[bytes], np.ndarray]:
        """Wait for everything added since the last call: keys, and (n, dim) float32."""
        self._submit()
        vectors = [batch.result() for batch in self._batches]
        keys = self._keys
        self._keys, self._batches = [], []
        return keys, np.concatenate(vectors) if vectors else np.zeros((0, self._embedder.dim), np.float32)

    def _submit(self) -> None:
        if not self._pending:
            return
        images, self._pending = self._pending, []
        self._free.acquire()
        self._batches.append(self._pool.submit(self._embed, images))

    def _embed(self, images: list[np.ndarray]) -> np.ndarray:
        try:
            return self._embedder.embed(images)
        finally:
            self._free.release()
