"""Read → decode → prepare → embed → cache, all at once: the one road from a source's uris to vectors.

One thread reads, some decode and prepare, one gathers batches, some embed, and the caller's thread writes and
commits while all of that goes on. Every hand-over is bounded, so memory does not grow with the number of images.
The embedding threads say how much they wait, and by that decoding is given more or fewer threads.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from indexer.decoding import DecodeAhead, Decoded, Memory, Outcome
from indexer.embeds import Embeds
from indexer.profile import NO_PROFILE, Profile
from indexer.vectors import VectorCache
from retrieval.errors import CatalogueError, LookalikeError
from retrieval.sources import ImageSource

__all__ = ["Outcome", "embed_uris"]

BATCH: Final = 64
"""Pictures a call of ``embed``: a GPU takes them at once, a CPU in parts."""
SAMPLE: Final = 64
"""Pictures that the embedder is tuned with, as far as there are so many."""
MEMORY: Final = 512 * 2**20  # bytes of decoded pictures under way
EMBEDDED: Final = 64
"""Batches of vectors that may wait for the writer."""
ADJUST_EVERY: Final = 8
HUNGRY, SATED = 0.05, 0.01
"""Share of their time that the embedding threads wait for pictures, above and below which decoding is adjusted."""


@dataclass
class _Batch:
    outcomes: list[Outcome] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    pictures: list[Decoded] = field(default_factory=list)
    vectors: Future[np.ndarray] = field(default_factory=Future)
    tried: bool = False  # by a thread that was killed over it

    def embedded(self) -> bool:
        """Wait, and say whether there are vectors."""
        try:
            return self.vectors.exception() is None
        except CancelledError:
            return False

    def let_go(self, memory: Memory) -> None:
        """Forget the pictures, and give back the memory that they held."""
        held = sum(picture.bytes for picture in self.pictures)
        self.pictures.clear()
        memory.give_back(held)


def embed_uris(
    source: ImageSource,
    uris: Sequence[str],
    embedder: Embeds,
    cache: VectorCache,
    *,
    chunk: int,
    on_done: Callable[[Outcome], object] = lambda _: None,
    notice: Callable[[str], object] = lambda _: None,
    profile: Profile = NO_PROFILE,
) -> Generator[list[Outcome], None, None]:
    """Give every image a vector in the cache, embedding nothing twice.

    Args:
        source: where the uris lead.
        uris: what to read, in the order wanted.
        embedder: whose vectors.
        cache: of that embedder; vectors are in it before the chunk that needs them is yielded.
        chunk: images between two writes of the cache.
        on_done: called with each outcome in the caller's thread, for progress.
        notice: told, in a thread of the pipeline's, what takes long before the first picture is embedded.
        profile: told where the time goes.

    Yields:
        Outcomes in the order of ``uris``, at most ``chunk`` at a time. Whatever ends it before all are done, an
        interrupt, an error or ``close``, what was embedded until then is written to the cache first; so who may not
        write any more must have closed it (``contextlib.closing``).
    """
    memory = Memory(MEMORY)
    known = cache.keys()
    ready: list[_Batch] = []

    def write() -> list[Outcome]:
        keys = [key for batch in ready for key in batch.keys]
        with profile.stage("write", images=len(keys)):
            if keys:
                vectors = np.concatenate([batch.vectors.result() for batch in ready if batch.keys])
                cache.append(keys, vectors, runtime=embedder.runtime)
        outcomes = [outcome for batch in ready for outcome in batch.outcomes]
        ready.clear()
        return outcomes

    with (
        DecodeAhead(source, uris, embedder, known=known, memory=memory, profile=profile) as ahead,
        _Embedding(
            ahead, embedder, memory, known=known, expected=len(uris), chunk=chunk, notice=notice, profile=profile
        ) as embedding,
    ):
        try:
            for batch in embedding:
                ready.append(batch)
                for outcome in batch.outcomes:
                    on_done(outcome)
                if sum(len(batch.outcomes) for batch in ready) >= chunk:
                    yield write()
            if ready:
                yield write()
        except BaseException:  # the caller's end of it (GeneratorExit) too
            ready.extend(embedding.finish())
            with contextlib.suppress(CatalogueError):  # a full disk, say, has been told already
                write()
            raise


class _Embedding:
    """Gathers pictures into batches and embeds them in threads; iterate over it for the batches in order."""

    def __init__(
        self,
        ahead: DecodeAhead,
        embedder: Embeds,
        memory: Memory,
        *,
        known: set[bytes],
        expected: int,
        chunk: int,
        notice: Callable[[str], object],
        profile: Profile,
    ) -> None:
        self._ahead, self._embedder, self._memory = ahead, embedder, memory
        self._known, self._expected, self._chunk = known, expected, chunk
        self._notice, self._profile = notice, profile
        self._tasks: queue.Queue[_Batch | None] = queue.Queue(maxsize=1)
        self._batches: queue.Queue[_Batch | BaseException | None] = queue.Queue(maxsize=EMBEDDED)
        self._awaited: _Batch | None = None  # taken from the line, and not yet embedded
        self._stop = threading.Event()
        self._gatherer = threading.Thread(target=self._gather, name="gather", daemon=True)
        self._embedders: dict[int, threading.Thread] = {}
        self._passed = 0  # outcomes handed on
        self._counting = threading.Lock()
        self._waited, self._done, self._since = 0.0, 0, 0.0  # since the threads were last shared out, by all together

    def __enter__(self) -> _Embedding:
        self._gatherer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()
        self._gatherer.join()
        for _ in self._embedders:
            self._tasks.put(None)
        for number in self._embedders:
            while (thread := self._embedders[number]).is_alive():  # or the one that has taken its place
                thread.join()

    def __iter__(self) -> Iterator[_Batch]:
        while (batch := self._batches.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            self._awaited = batch
            if batch.keys:
                batch.vectors.result()
            self._awaited = None
            yield batch

    def finish(self) -> list[_Batch]:
        """Gather no more; waits for what is being embedded, and gives the batches that nobody has taken yet."""
        self._stop.set()
        left = [] if self._awaited is None else [self._awaited]  # whoever waited for it was interrupted
        self._awaited = None
        while self._gatherer.is_alive() or not self._batches.empty():
            try:
                batch = self._batches.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(batch, _Batch):
                left.append(batch)
        return [batch for batch in left if batch.keys and batch.embedded()]  # the others are left for the next run

    def _gather(self) -> None:
        try:
            pending, waiting = _Batch(), list[_Batch]()  # those that wait for the embedder to be tuned
            handed = 0  # outcomes handed on since the last chunk was full
            for decoded in self._ahead:
                if self._stop.is_set():
                    return
                sha256 = decoded.outcome.sha256
                pending.outcomes.append(decoded.outcome)
                if decoded.pixels is not None and sha256 not in self._known:
                    self._known.add(sha256)
                    pending.keys.append(sha256)
                    pending.pictures.append(decoded)
                else:
                    self._memory.give_back(decoded.bytes)
                handed += 1
                if handed % self._chunk and len(pending.outcomes) < 8 * BATCH and not self._enough(pending):
                    continue
                waiting.append(pending)
                pending = _Batch()
                fresh = [picture for batch in waiting for picture in batch.pictures]
                # What waits here is memory that the reader cannot have.
                held = sum(picture.bytes for picture in fresh)
                full = len(fresh) >= SAMPLE or held >= self._memory.limit // 4 or len(waiting) >= SAMPLE
                if self._embedders or not fresh or full:
                    waiting = self._hand_on(waiting)
            self._hand_on([*waiting, pending])
            self._batches.put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            self._batches.put(error)

    def _tell(self, text: str) -> None:
        if self._stop.is_set():
            raise InterruptedError("nobody waits for this any more")
        self._notice(text)

    def _enough(self, batch: _Batch) -> bool:
        held = sum(picture.bytes for picture in batch.pictures)
        return len(batch.pictures) >= BATCH or held >= self._memory.limit // 8

    def _hand_on(self, batches: list[_Batch]) -> list[_Batch]:
        pictures = [picture.pixels for batch in batches for picture in batch.pictures if picture.pixels is not None]
        if pictures and not self._embedders:
            seen = sum(len(batch.outcomes) for batch in batches) + self._passed
            expected = max(len(pictures), round(self._expected * len(pictures) / seen))
            with self._profile.stage("tune", images=0):
                self._embedder.tune(pictures, expected=expected, notice=self._tell)
            self._since = time.perf_counter()
            for number in range(self._embedder.at_once):
                self._hire(number)
        for batch in batches:
            if batch.keys:
                self._put(batch)
            else:
                batch.vectors.set_result(np.zeros((0, self._embedder.dim), np.float32))
            if batch.outcomes:
                self._batches.put(batch)
            self._passed += len(batch.outcomes)
        return []

    def _put(self, batch: _Batch) -> None:
        while not self._stop.is_set():
            try:
                self._tasks.put(batch, timeout=0.05)
                return
            except queue.Full:
                continue
        batch.vectors.cancel()
        batch.let_go(self._memory)  # or the reader may wait for it, and the gatherer for the reader

    def _hire(self, number: int, batch: _Batch | None = None) -> None:
        thread = threading.Thread(target=self._embed, args=(number, batch), name=f"embed-{number}", daemon=True)
        self._embedders[number] = thread
        thread.start()

    def _embed(self, number: int, batch: _Batch | None) -> None:
        try:
            while True:
                if batch is None:
                    began = time.perf_counter()
                    with self._profile.waiting("embed"):
                        batch = self._tasks.get()
                    if batch is None:
                        return
                    with self._counting:
                        self._waited += time.perf_counter() - began
                try:
                    pixels = [picture.pixels for picture in batch.pictures if picture.pixels is not None]
                    with self._profile.stage("embed", images=len(pixels)):
                        batch.vectors.set_result(self._embedder.embed(pixels, prepared=True))
                except (Exception, KeyboardInterrupt) as error:  # handed to the consumer, who raises it
                    batch.vectors.set_exception(error)
                batch.let_go(self._memory)
                batch = None
                self._share_out()
        except BaseException as error:  # this thread is being killed: another takes its place, and its batch once
            if batch is not None and (batch.tried or batch.vectors.done()):
                if not batch.vectors.done():
                    lost = LookalikeError(f"two threads were killed while they embedded ({type(error).__name__})")
                    lost.__cause__ = error
                    batch.vectors.set_exception(lost)
                batch.let_go(self._memory)
                batch = None
            if batch is not None:
                batch.tried = True
            self._hire(number, batch)

    def _share_out(self) -> None:
        """Give decoding a thread more when embedding waits for pictures, and one less when they pile up."""
        with self._counting:
            self._done += 1
            if self._done % ADJUST_EVERY:
                return
            now = time.perf_counter()
            share = self._waited / ((now - self._since) * len(self._embedders))
            self._waited, self._since = 0.0, now
        if share > HUNGRY and not self._ahead.full:
            self._ahead.allow(self._ahead.workers + 1)
        elif share < SATED and self._ahead.full:
            self._ahead.allow(self._ahead.workers - 1)
