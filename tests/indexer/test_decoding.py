"""Reading and decoding ahead: order, lost workers, bounds, and that no thread outlives its run."""

from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import decoding
from indexer.decoding import Decoded, Memory, Outcome
from retrieval.errors import ImageError
from tests.embedders import ColourEmbedder
from tests.indexer.stages import (
    CORES,
    DAMAGED,
    PATIENCE,
    Ledger,
    Preparing,
    Shelf,
    ahead_of,
    check,
    picture,
    stage_threads,
    wait,
    whole,
)

pytestmark = [pytest.mark.timeout(20), pytest.mark.usefixtures("no_thread_is_left", "four_cores")]


def test_order_is_that_of_the_uris_though_the_first_are_done_last() -> None:
    done = [threading.Event() for _ in range(13)]

    def backwards(number: int) -> None:
        if number % CORES != CORES - 1:
            wait(done[number + 1])
        done[number].set()

    shelf = Shelf([picture(n) for n in range(3 * CORES)])
    check(whole(ahead_of(shelf, Preparing(backwards))), list(range(3 * CORES)))


def test_a_refused_picture_between_good_ones_keeps_its_place() -> None:
    shelf = Shelf([picture(0), DAMAGED, picture(2, 30, 20), ImageError("no such file"), b"", picture(5)])
    memory = Ledger()
    found = whole(ahead_of(shelf, memory=memory), memory)
    assert [decoded.outcome.position for decoded in found] == list(range(6))
    assert [decoded.pixels is None for decoded in found] == [False, True, False, True, True, False]
    assert [decoded.outcome.reason is None for decoded in found] == [True, False, True, False, False, True]
    assert found[3].outcome == Outcome(3, reason="no such file")
    assert (found[2].outcome.width, found[2].outcome.height) == (30, 20)
    assert memory.used == 0


def test_what_turns_out_damaged_gives_its_memory_back() -> None:
    spoilt = bytearray(picture(1, 30, 30))
    spoilt[len(spoilt) // 2] ^= 255  # its header promises well
    memory = Ledger(limit=6000)
    found = whole(ahead_of(Shelf([picture(0), *[bytes(spoilt)] * 20, picture(2)]), memory=memory), memory)
    assert [decoded.outcome.reason is None for decoded in found] == [True, *[False] * 20, True]
    assert memory.peak >= 2700
    assert memory.used == 0


def test_what_is_known_is_measured_and_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf([picture(0), picture(1, 30, 20)])
    monkeypatch.setattr(decoding, "decode", lambda *_, **__: pytest.fail("decoded"))
    found = whole(ahead_of(shelf, known={hashlib.sha256(data).digest() for data in shelf.contents}))  # type: ignore[arg-type]
    assert [decoded.pixels for decoded in found] == [None, None]
    assert found[1].outcome == Outcome(1, hashlib.sha256(picture(1, 30, 20)).digest(), 30, 20)


def test_an_error_of_the_embedder_is_not_tried_again() -> None:
    seen = []

    def fail(number: int) -> None:
        seen.append(number)
        if number == 5:
            raise ValueError("of five")

    with pytest.raises(ValueError, match="of five"):
        whole(ahead_of(Shelf([picture(n) for n in range(300)]), Preparing(fail)))
    assert seen.count(5) == 1


def test_an_error_of_the_reader_comes_after_what_it_has_read() -> None:
    def before(number: int) -> None:
        if number == 7:
            raise OSError("the disk is gone")

    found = []
    with (
        pytest.raises(OSError, match="the disk is gone"),
        ahead_of(Shelf([picture(n) for n in range(300)], before=before)) as ahead,
    ):
        for decoded in ahead:
            found.append(decoded)
    check(found, list(range(7)))


@pytest.mark.parametrize("cores", [1, CORES])
@pytest.mark.parametrize("taken", [0, 1, 50])
def test_leaving_early_with_full_queues_ends_all_threads(
    cores: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "cores", lambda: cores)
    full = threading.Event()
    reached = decoding.AHEAD + taken
    shelf = Shelf([picture(n) for n in range(400)], before=lambda number: full.set() if number == reached else None)
    with ahead_of(shelf) as ahead:
        decoded = iter(ahead)
        for _ in range(taken):
            next(decoded)
        wait(full)
        assert len(stage_threads("decode")) == cores
    assert not stage_threads()


def test_leaving_early_while_the_reader_waits_for_memory_ends_all_threads() -> None:
    waiting = threading.Event()

    class Small(Memory):
        def take(self, bytes: int) -> int:
            if self._used + bytes > self.limit:
                waiting.set()
            return super().take(bytes)

    with ahead_of(Shelf([picture(n) for n in range(400)]), memory=Small(1000)) as ahead:
        next(iter(ahead))
        wait(waiting)
    assert not stage_threads()


def test_leaving_by_an_error_of_the_consumer_ends_all_threads() -> None:
    with pytest.raises(ZeroDivisionError), ahead_of(Shelf([picture(n) for n in range(400)])) as ahead:
        for _ in ahead:
            raise ZeroDivisionError
    assert not stage_threads()


@pytest.mark.parametrize(("asked", "given"), [(-3, 1), (0, 1), (1, 1), (3, 3), (4, 4), (5, 4), (100, 4)])
def test_threads_are_at_least_one_and_at_most_one_a_core(asked: int, given: int) -> None:
    ahead = ahead_of(Shelf([]))
    assert ahead.workers == CORES
    ahead.allow(asked)
    assert ahead.workers == given


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_so_many_decode_side_by_side_as_are_allowed(workers: int) -> None:
    count = 5 * workers
    together, done = threading.Barrier(workers), threading.Event()
    lock = threading.Lock()
    now = most = over = 0

    def during(number: int) -> None:
        nonlocal now, most, over
        if number == count:
            return
        with lock:
            now += 1
            most = max(most, now)
        together.wait(PATIENCE)  # never met if fewer decode
        with lock:
            now -= 1
            over += 1
        if over == count:
            done.set()

    # When the source has been read to its end, all may help with what is left: one picture, which comes last.
    shelf = Shelf([picture(n) for n in range(count + 1)], before=lambda n: wait(done) if n == count else None)
    ahead = ahead_of(shelf, Preparing(during))
    ahead.allow(1)
    ahead.allow(workers)
    check(whole(ahead), list(range(count + 1)))
    assert most == workers


def test_workers_that_were_sent_to_wait_are_called_back() -> None:
    together, stuck = threading.Barrier(CORES), threading.Event()
    ahead = ahead_of(
        # The reader has read as much as it may, so nothing else wakes them.
        Shelf([picture(n) for n in range(60)], before=lambda number: stuck.set() if number == 5 * CORES else None),
        Preparing(lambda number: together.wait(PATIENCE) if number >= CORES else None),
    )
    ahead.allow(1)
    with ahead:
        decoded = iter(ahead)
        found = [next(decoded) for _ in range(CORES)]
        wait(stuck)
        ahead.allow(CORES)
        found += decoded
    check(found, list(range(60)))


@pytest.mark.parametrize("cores", [2, 32])
def test_decoding_is_not_called_ahead_by_what_waits_to_be_decoded(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "cores", lambda: cores)
    read, go_on = threading.Event(), threading.Event()
    stuck = min(4 * cores, decoding.AHEAD)  # the reader has read so many, and waits for a worker
    shelf = Shelf([picture(n) for n in range(450)], before=lambda number: read.set() if number == stuck else None)
    with ahead_of(shelf, Preparing(lambda _: wait(go_on))) as ahead:
        wait(read)
        assert not ahead.full
        go_on.set()
        while not ahead.full:
            time.sleep(0.001)
        assert len(list(ahead)) == 450
        assert not ahead.full


class Shrinking(ColourEmbedder):
    """Prepares to 4 x 4."""

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[:4, :4])


def test_memory_is_bounded_and_prepared_pictures_give_back_what_they_no_longer_hold() -> None:
    memory = Ledger(limit=200_000)
    sizes = [(20, 1000) if n % 3 else (8, 8) for n in range(60)]  # 60,000 bytes each, reduced little
    shelf = Shelf([picture(n, *size) for n, size in enumerate(sizes)])
    with ahead_of(shelf, Shrinking(), memory=memory) as ahead:
        found = list(ahead)  # nothing is given back but by preparation
        assert memory.used == sum(decoded.bytes for decoded in found) == 60 * 48
        assert all(decoded.pixels is not None and decoded.bytes == decoded.pixels.nbytes for decoded in found)
    assert 100_000 < memory.peak <= 200_000


def test_a_picture_larger_than_the_memory_passes_alone() -> None:
    memory = Ledger(limit=10_000)
    shelf = Shelf([picture(n, 30, 1000) for n in range(9)])
    assert len(whole(ahead_of(shelf, memory=memory), memory)) == 9
    assert memory.peak <= 10_000


def test_a_second_try_does_not_give_memory_back_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between preparing and handing on."""
    killed = []

    def dying(*arguments: object) -> Decoded:
        if not killed:
            killed.append(1)
            raise SystemExit
        return Decoded(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "Decoded", dying)
    memory = Ledger()
    with ahead_of(Shelf([picture(0)]), Shrinking(), memory=memory) as ahead:
        (found,) = ahead
        assert memory.used == found.bytes == 48


@settings(max_examples=80)
@given(
    kinds=st.lists(st.sampled_from(["good", "damaged", "missing", "copy", "known"]), max_size=30),
    cores=st.integers(1, 5),
    allowed=st.integers(1, 5),
    limit=st.integers(400, 3000),
    ahead_at_most=st.integers(1, 20),
    killing=st.sets(st.integers(0, 30), max_size=4),
)
def test_any_mix_comes_out_as_one_thread_would_have_it(
    kinds: list[str], cores: int, allowed: int, limit: int, ahead_at_most: int, killing: set[int]
) -> None:
    contents: list[bytes | ImageError] = []
    for number, kind in enumerate(kinds):
        data = picture(number // 2 if kind == "copy" else number)
        contents.append({"damaged": DAMAGED, "missing": ImageError("no such file")}.get(kind, data))
    known = {hashlib.sha256(picture(n)).digest() for n, kind in enumerate(kinds) if kind == "known"}
    dying = set(killing)

    def die_once(number: int) -> None:
        if number in dying:
            dying.discard(number)
            raise SystemExit

    memory = Ledger(limit)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "cores", lambda: cores)
        patched.setattr(decoding, "AHEAD", ahead_at_most)
        ahead = ahead_of(Shelf(contents), Preparing(die_once), memory=memory, known=known)
        ahead.allow(allowed)
        with ahead:
            found = []
            for decoded in ahead:
                found.append(decoded)
                memory.give_back(decoded.bytes)
            assert memory.used == 0
    assert memory.peak <= limit
    for position, (data, decoded) in enumerate(zip(contents, found, strict=True)):
        outcome = decoded.outcome
        assert outcome.position == position
        if isinstance(data, ImageError) or data == DAMAGED:
            assert (decoded.pixels, outcome.sha256, outcome.width) == (None, b"", 0)
            assert outcome.reason
        else:
            digest = hashlib.sha256(data).digest()
            assert outcome == Outcome(position, digest, 8, 8)
            assert (decoded.pixels is None) == (digest in known)
