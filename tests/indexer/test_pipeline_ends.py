"""How the road from uris to vectors ends before its end: by errors, interrupts and callers who leave."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from indexer import pipeline
from indexer.pipeline import Outcome
from indexer.vectors import VectorCache
from retrieval.errors import LookalikeError
from tests.indexer.stages import (
    Embedding,
    Shelf,
    check_vectors,
    digest,
    drawn,
    embed,
    picture,
    stage_threads,
    stored,
    wait,
)

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_thread_is_left")]


def test_an_error_of_the_embedder_reaches_the_caller_and_what_was_yielded_stays(
    cache: VectorCache, fours: None
) -> None:
    def fail(numbers: list[int]) -> None:
        if 8 in numbers:
            raise MemoryError("no memory")

    done: list[int] = []
    with pytest.raises(MemoryError, match="no memory"):
        for outcomes in embed(drawn(200), Embedding(fail), cache, chunk=4):
            done += [outcome.position for outcome in outcomes]
    assert done == list(range(8))
    assert not stage_threads()
    check_vectors(cache, [n for n in range(200) if digest(n) in set(stored(cache))])
    assert {digest(n) for n in range(8)} <= set(stored(cache))


def test_an_error_of_the_reader_reaches_the_caller(cache: VectorCache, fours: None) -> None:
    def fail(number: int) -> None:
        if number == 100:
            raise OSError("the disk is gone")

    shelf = Shelf([picture(n) for n in range(200)], before=fail)
    done = 0
    with pytest.raises(OSError, match="the disk is gone"):
        for outcomes in embed(shelf, Embedding(), cache, chunk=4):
            done += len(outcomes)
    assert not stage_threads()
    kept = len(stored(cache))
    assert kept >= done
    check_vectors(cache, range(kept))


def test_an_interrupt_while_progress_is_shown_keeps_what_was_embedded(cache: VectorCache, fours: None) -> None:
    embedder = Embedding(at_once=2)

    def interrupt(outcome: Outcome) -> None:
        if outcome.position == 17:
            raise KeyboardInterrupt

    done = 0
    with pytest.raises(KeyboardInterrupt):
        for outcomes in embed(drawn(300), embedder, cache, chunk=10, on_done=interrupt):
            done += len(outcomes)
    assert done == 10
    assert not stage_threads()
    assert embedder.seen >= 20
    check_vectors(cache, range(embedder.seen))  # all of it, and nothing twice
    again = Embedding()
    assert sum(len(outcomes) for outcomes in embed(drawn(300), again, cache, chunk=10)) == 300
    assert again.seen == 300 - embedder.seen
    check_vectors(cache, range(300))


@pytest.mark.parametrize(("error", "told"), [(KeyboardInterrupt, KeyboardInterrupt), (SystemExit, LookalikeError)])
def test_an_interrupt_within_the_embedder_keeps_the_finished_batches(
    cache: VectorCache, fours: None, error: type[BaseException], told: type[BaseException]
) -> None:
    def interrupt(numbers: list[int]) -> None:
        if 20 in numbers:
            raise error

    done = 0
    with pytest.raises(told):
        for outcomes in embed(drawn(300), Embedding(interrupt), cache, chunk=12):
            done += len(outcomes)
    assert done == 12
    assert not stage_threads()
    kept = stored(cache)
    assert len(kept) == len(set(kept))
    assert {digest(n) for n in range(20)} <= set(kept)
    assert not {digest(n) for n in range(20, 24)} & set(kept)
    list(embed(drawn(300), Embedding(), cache, chunk=12))
    check_vectors(cache, range(300))


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_embedding_thread_killed_over_a_batch_is_replaced_and_nothing_is_lost(
    cache: VectorCache, fours: None, at_once: int
) -> None:
    killed: list[threading.Thread] = []

    def kill(numbers: list[int]) -> None:
        if 20 in numbers and not killed:
            killed.append(threading.current_thread())
            raise SystemExit

    done = [
        outcome.position
        for part in embed(drawn(100), Embedding(kill, at_once=at_once), cache, chunk=12)
        for outcome in part
    ]
    assert done == list(range(100))
    assert len(killed) == 1
    check_vectors(cache, range(100))


def test_an_embedding_thread_killed_while_it_waits_is_replaced(cache: VectorCache, fours: None) -> None:
    reached, killed = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == 40:
            reached.set()
            wait(killed)

    shelf = Shelf([picture(n) for n in range(100)], before=hold)
    chunks = embed(shelf, Embedding(), cache, chunk=12)
    done = list(next(chunks))
    wait(reached)
    (victim,) = stage_threads("embed")
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident or 0), ctypes.py_object(SystemExit))
    killed.set()  # the victim notices when the next batch wakes it
    for outcomes in chunks:
        done += outcomes
    assert [outcome.position for outcome in done] == list(range(100))
    assert not victim.is_alive()
    check_vectors(cache, range(100))


def test_an_interrupt_while_another_batch_fails_is_still_the_interrupt(cache: VectorCache, fours: None) -> None:
    """What is left over may have failed in any way."""
    failed = threading.Event()

    def fail(numbers: list[int]) -> None:
        if 8 in numbers:
            failed.set()
            raise SystemExit

    def interrupt(outcome: Outcome) -> None:
        if outcome.position == 5:
            wait(failed)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(embed(drawn(100), Embedding(fail), cache, chunk=50, on_done=interrupt))
    assert not stage_threads()
    assert {digest(n) for n in range(8)} <= set(stored(cache))


def test_an_interrupt_while_a_batch_is_embedded_keeps_that_batch(
    cache: VectorCache, fours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's thread is there most of the time, since the network is what takes longest."""
    caller, real = threading.current_thread(), Future.result
    interrupted = threading.Event()

    def result(self: Future[Any], timeout: float | None = None) -> Any:
        if threading.current_thread() is caller and not interrupted.is_set() and not self.done():
            interrupted.set()
            raise KeyboardInterrupt
        return real(self, timeout)

    embedder = Embedding(lambda numbers: wait(interrupted) if 8 in numbers else None)
    monkeypatch.setattr(Future, "result", result)
    done = 0
    with pytest.raises(KeyboardInterrupt):
        for outcomes in embed(drawn(100), embedder, cache, chunk=8):
            for outcome in outcomes:
                done = outcome.position + 1
            interrupted.clear() if done < 8 else None
    assert interrupted.is_set()
    assert not stage_threads()
    check_vectors(cache, range(embedder.seen))


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_early_ends_all_threads_and_keeps_what_was_yielded(cache: VectorCache, fours: None, taken: int) -> None:
    chunks = embed(drawn(400), Embedding(at_once=2), cache, chunk=6)
    for _ in range(taken):
        next(chunks)
    chunks.close()
    assert not stage_threads()
    assert {digest(n) for n in range(6 * taken)} <= set(stored(cache))


def test_an_error_of_the_caller_ends_all_threads(cache: VectorCache, fours: None) -> None:
    chunks = embed(drawn(400), Embedding(at_once=2), cache, chunk=6)
    with pytest.raises(ZeroDivisionError), contextlib.closing(chunks):
        for _ in chunks:
            raise ZeroDivisionError
    assert not stage_threads()


def test_leaving_while_large_pictures_fill_the_memory_ends(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is given up must give back its memory: else the reader waits for it, and all wait for the reader."""
    monkeypatch.setattr(pipeline, "MEMORY", 8000)
    monkeypatch.setattr(pipeline, "SAMPLE", 2)
    sizes = {7: (8, 500), 8: (8, 500)}  # each as much as half of the memory
    shelf = Shelf([picture(n, *sizes.get(n, (8, 8))) for n in range(12)])
    entered, left, stopped = threading.Event(), threading.Event(), threading.Event()
    put, finish, calls = pipeline._Embedding._put, pipeline._Embedding.finish, iter(range(100))

    def watched_put(self: Any, batch: Any) -> None:
        fourth = next(calls) == 3  # after one that was yielded, one that is being embedded, and one that waits
        if fourth:
            entered.set()
        put(self, batch)
        if fourth:
            left.set()

    def watched_finish(self: Any) -> Any:
        self._stop.set()
        wait(left)
        stopped.set()
        return finish(self)

    monkeypatch.setattr(pipeline._Embedding, "_put", watched_put)
    monkeypatch.setattr(pipeline._Embedding, "finish", watched_finish)
    chunks = embed(shelf, Embedding(lambda numbers: wait(stopped) if 2 in numbers else None), cache, chunk=2)
    next(chunks)
    wait(entered)
    chunks.close()
    assert not stage_threads()
