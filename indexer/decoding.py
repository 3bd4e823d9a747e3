"""Reading and decoding ahead: from a source's uris to pictures of the network's size, in order, by several threads.

How many threads decode is not a constant: whoever consumes asks for more or fewer by what it measures.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import numpy as np

from indexer.embeds import Embeds
from indexer.profile import NO_PROFILE, Profile
from retrieval.errors import ImageError, LookalikeError
from retrieval.images import decode, measure
from retrieval.machine import cores
from retrieval.sources import ImageSource

AHEAD: Final = 96
"""Pictures decoded ahead of the consumer: some batches, so that a slow picture holds nobody up. More on many cores."""


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
class Decoded:
    """A uri that was read.

    Attributes:
        outcome: of it, provided that it can be embedded.
        bytes: of the memory it holds until it is embedded or passed over.
        pixels: as the embedder's ``prepare`` gave them; None when there is nothing to embed.
    """

    outcome: Outcome
    bytes: int
    pixels: np.ndarray | None = None


class Memory:
    """Bytes of pictures under way; who wants more than is free waits.

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
        """Free what was taken."""
        with self._changed:
            self._used -= bytes
            self._changed.notify_all()


@dataclass
class _Task:
    position: int
    data: bytes | ImageError
    held: int
    done: Future[Decoded]
    tries: int = 0


class _Tasks:
    """A line of tasks for numbered workers, of whom only those below ``limit`` are served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: deque[_Task] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, task: _Task, *, first: bool = False) -> None:
        with self._changed:
            (self._waiting.appendleft if first else self._waiting.append)(task)
            self._changed.notify_all()

    def get(self, worker: int) -> _Task | None:
        """Wait for a task; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._waiting and worker < self.limit))
            return self._waiting.popleft() if self._waiting else None

    def allow(self, limit: int) -> None:
        with self._changed:
            self.limit = limit
            self._changed.notify_all()

    def close(self, *, drop: bool) -> None:
        """End the line; what waits in it is still served, unless dropped."""
        with self._changed:
            self._closed = True
            if drop:
                self._waiting.clear()
            self._changed.notify_all()


class DecodeAhead:
    """Iterate over it, in a ``with``: a ``Decoded`` for every uri, in order.

    A worker that is killed is replaced, and the picture it had in hand tried once more by another.
    """

    def __init__(
        self,
        source: ImageSource,
        uris: Sequence[str],
        embedder: Embeds,
        *,
        known: set[bytes],
        memory: Memory,
        profile: Profile = NO_PROFILE,
    ) -> None:
        """Prepare; reading begins with the ``with``.

        Args:
            source: where the uris lead.
            uris: what to read.
            embedder: brings pictures to their size.
            known: SHA-256 of images that need no decoding; may grow meanwhile.
            memory: that decoded pictures take; the consumer gives back ``Decoded.bytes`` of each.
            profile: told where the time goes.
        """
        self._source, self._uris, self._embedder = source, uris, embedder
        self._known, self._memory, self._profile = known, memory, profile
        self._most = cores()
        self._tasks = _Tasks(self._most)
        # Raw bytes in flight are few (one may be 64 MiB); decoded pictures are small, and wait for a batch or two.
        self._raw = threading.Semaphore(4 * self._most)
        # Twice the raw ones at least: `full` must not be reached by pictures that wait to be decoded.
        self._room = max(AHEAD, 8 * self._most)
        self._ahead: queue.Queue[Future[Decoded] | BaseException | None] = queue.Queue(maxsize=self._room)
        self._stop = threading.Event()
        self._workers: list[threading.Thread] = []
        self._reader = threading.Thread(target=self._read, name="read", daemon=True)

    @property
    def workers(self) -> int:
        """Threads that decode now."""
        return self._tasks.limit

    @property
    def full(self) -> bool:
        """Whether decoding is well ahead of the consumer."""
        return self._ahead.qsize() >= self._room * 3 // 4

    def allow(self, workers: int) -> None:
        """Let so many threads decode, at least one and at most one a core."""
        self._tasks.allow(min(max(1, workers), self._most))

    def __enter__(self) -> DecodeAhead:
        for number in range(self._most):
            self._hire(number)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._raw.release(1_000)
        self._memory.give_back(2**60)
        while self._reader.is_alive():  # a reader that waits for a free place must find one
            try:
                self._ahead.get(timeout=0.05)
            except queue.Empty:
                continue
        self._tasks.close(drop=True)
        for worker in self._workers:
            worker.join()

    def __iter__(self) -> Iterator[Decoded]:
        while (ahead := self._ahead.get()) is not None:
            if isinstance(ahead, BaseException):
                raise ahead
            yield ahead.result()

    def _read(self) -> None:
        try:
            reading = iter(self._source.read_many(self._uris))
            for position in range(len(self._uris)):
                with self._profile.stage("read"):
                    data = next(reading)
                    wanted = self._decoded_bytes(data)
                with self._profile.waiting("read"):
                    self._raw.acquire()
                    held = self._memory.take(wanted)
                    if self._stop.is_set():
                        return
                    done: Future[Decoded] = Future()
                    self._tasks.put(_Task(position, data, held, done))
                    self._ahead.put(done)
            self._ahead.put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            self._ahead.put(error)
        finally:
            self._tasks.close(drop=False)

    def _decoded_bytes(self, data: bytes | ImageError) -> int:
        """Say from its header what a picture will take when decoded; long thin ones are reduced little."""
        if isinstance(data, ImageError):
            return 0
        try:
            width, height = measure(data)
        except ImageError:
            return 0
        factor = max(1, min(width, height) // (2 * self._embedder.image_size))
        return 3 * width * height // factor**2

    def _hire(self, number: int) -> None:
        worker = threading.Thread(target=self._work, args=(number,), name=f"decode-{number}", daemon=True)
        self._workers.append(worker)
        worker.start()

    def _work(self, number: int) -> None:
        task: _Task | None = None
        try:
            while True:
                with self._profile.waiting("decode"):
                    task = self._tasks.get(number)
                if task is None:
                    return
                try:
                    task.done.set_result(self._decode(task))
                except Exception as error:
                    task.done.set_exception(error)
                self._raw.release()
                task = None
        except BaseException as error:  # this thread is being killed: another takes its place, and its picture
            if task is not None:
                self._rescue(task, error)  # first: at the end of a run, a new thread that finds no task goes home
            self._hire(number)

    def _rescue(self, task: _Task, error: BaseException) -> None:
        """Put back a picture whose worker was killed; the second time it is the picture's fault."""
        if task.tries == 0 and not task.done.done():
            task.tries = 1
            self._tasks.put(task, first=True)
            return
        if not task.done.done():  # as an error of ours: a SystemExit would end a command without a word
            what = f"two threads were killed over the image {self._uris[task.position]!r} ({type(error).__name__})"
            lost = LookalikeError(f"{what}; take it out of the source, or run the command again")
            lost.__cause__ = error
            task.done.set_exception(lost)
        self._raw.release()

    def _decode(self, task: _Task) -> Decoded:
        position, data, held = task.position, task.data, task.held
        if isinstance(data, ImageError):
            return Decoded(Outcome(position, reason=str(data)), held)
        try:
            with self._profile.stage("decode"):
                sha256 = hashlib.sha256(data).digest()
                if sha256 in self._known:
                    width, height = measure(data)
                    return Decoded(Outcome(position, sha256, width, height), held)
                picture = decode(data, size=self._embedder.image_size)
        except ImageError as error:
            return Decoded(Outcome(position, reason=str(error)), held)
        with self._profile.stage("prepare"):
            pixels = self._embedder.prepare(picture.pixels)
        if pixels.nbytes < held:
            task.held = pixels.nbytes  # first: a second try must not give it back again
            self._memory.give_back(held - pixels.nbytes)
            held = pixels.nbytes
        return Decoded(Outcome(position, sha256, picture.width, picture.height), held, pixels)
