"""Decoding threads that are killed: replaced, their picture tried once more, and nothing lost."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

from indexer import decoding
from retrieval.errors import LookalikeError
from tests.embedders import ColourEmbedder
from tests.indexer.stages import (
    CORES,
    PATIENCE,
    Ledger,
    Preparing,
    Shelf,
    ahead_of,
    check,
    number_of,
    picture,
    stage_threads,
    wait,
    whole,
)

pytestmark = [pytest.mark.timeout(20), pytest.mark.usefixtures("no_thread_is_left", "four_cores")]


def kill(ident: int) -> None:
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit)) == 1


class Victims:
    """Kills the threads that come with picture 5, so many times."""

    def __init__(self, how: str, times: int) -> None:
        self.how, self.times = how, times
        self.killed: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __call__(self, number: int) -> None:
        with self._lock:
            if number != 5 or len(self.killed) == self.times:
                return
            self.killed.append(threading.current_thread())
        if self.how == "async":
            kill(threading.get_ident())
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:  # killed here
                pass
        raise SystemExit


def arrange(how: str, times: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Victims, ColourEmbedder]:
    victims = Victims(how, times)
    if how != "decode":
        return victims, Preparing(victims)
    real = decoding.decode

    def decode(data: bytes, *, size: int) -> object:
        decoded = real(data, size=size)
        victims(number_of(decoded.pixels))
        return decoded

    monkeypatch.setattr(decoding, "decode", decode)
    return victims, ColourEmbedder()


@pytest.mark.parametrize("how", ["prepare", "decode", "async"])
@pytest.mark.parametrize("cores", [1, CORES])
def test_a_worker_killed_over_a_picture_is_replaced_and_nothing_is_lost(
    how: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "cores", lambda: cores)
    victims, embedder = arrange(how, 1, monkeypatch)
    memory = Ledger()
    shelf = Shelf([picture(n) for n in range(300)])
    found = []
    with ahead_of(shelf, embedder, memory=memory) as ahead:
        for decoded in ahead:
            found.append(decoded)
            memory.give_back(decoded.bytes)
            if len(found) == 10:
                (killed,) = victims.killed
                killed.join(PATIENCE)
                assert killed not in stage_threads("decode")
                assert sorted(t.name for t in stage_threads("decode")) == [f"decode-{n}" for n in range(cores)]
    check(found, list(range(300)))
    assert memory.used == 0


def test_a_worker_killed_over_the_last_picture_is_replaced_though_the_others_have_gone() -> None:
    def die_alone(_: int) -> None:
        if not killed:
            while len(stage_threads()) > 1:
                time.sleep(0.0005)
            killed.append(1)
            raise SystemExit

    for _ in range(20):
        killed: list[int] = []
        check(whole(ahead_of(Shelf([picture(0)]), Preparing(die_alone))), [0])


def test_workers_killed_while_they_wait_are_replaced() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def before(number: int) -> None:
        if number == 6:
            waiting.set()
            wait(go_on)

    shelf = Shelf([picture(n) for n in range(12)], before=before)
    with ahead_of(shelf) as ahead:
        decoded = iter(ahead)
        found = [next(decoded) for _ in range(6)]
        wait(waiting)
        idle = stage_threads("decode")
        for thread in idle:
            assert thread.ident is not None
            kill(thread.ident)
        go_on.set()
        found += decoded
    check(found, list(range(12)))
    assert not any(thread.is_alive() for thread in idle)


@pytest.mark.parametrize("how", ["prepare", "decode", "async"])
def test_a_picture_that_kills_twice_ends_the_run_with_an_error_that_names_it(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims, embedder = arrange(how, 2, monkeypatch)
    shelf = Shelf([picture(n) for n in range(300)])
    found = []
    # Not SystemExit, which would end a command without a word and with 0.
    with pytest.raises(LookalikeError, match="'5'"), ahead_of(shelf, embedder) as ahead:
        for decoded in ahead:
            found.append(decoded)
    check(found, list(range(5)))
    assert len(victims.killed) == 2
