"""Concurrent requests get exactly their own rows back, in few runs, whatever goes wrong in a run."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.coalescing import Coalescer


def rows_of(*numbers, dtype=np.float64):
    return np.array(numbers, dtype).reshape(-1, 1)


def answer_to(rows):
    """What ``double`` gives: different for every row, and of two columns."""
    return np.hstack([rows * 2, rows + 1])


class Recorder:
    """A run that keeps what it was given, and counts how many are under way."""

    def __init__(self):
        self.batches, self.under_way, self.most = [], 0, 0
        self._lock = threading.Lock()

    def __call__(self, rows):
        with self._lock:
            self.batches.append(rows[:, 0].tolist())
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0)  # let others in
        with self._lock:
            self.under_way -= 1
        return answer_to(rows)


class Gate(Recorder):
    """Runs stop here until they are let through; ``entered`` says that one stands before the gate."""

    def __init__(self):
        super().__init__()
        self.entered, self.opened = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, rows):
        with self._lock:
            self.batches.append(rows[:, 0].tolist())
        self.entered.release()
        self.opened.acquire()
        return self.finish(rows)

    def finish(self, rows):
        return answer_to(rows)


class Interrupted(Gate):
    """The second run is interrupted."""

    def finish(self, rows):
        if len(self.batches) == 2:
            raise KeyboardInterrupt
        return super().finish(rows)


class Callers:
    """Calls in threads of their own, which queue in the order in which they were made."""

    def __init__(self, coalescer):
        self.coalescer, self.threads = coalescer, []

    def call(self, rows, *, queued=None, name=None):
        """Start a call; with ``queued``, return when so many requests wait."""
        future = Future()

        def work():
            try:
                future.set_result(self.coalescer(rows))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=work, name=name)
        thread.start()
        self.threads.append(thread)
        while queued is not None and self.coalescer.waiting != queued:
            time.sleep(0)
        return future

    def join(self):
        for thread in self.threads:
            thread.join()


def held_up(gate, *, batch=8):
    """A coalescer whose only place is taken by a run of the row 0 before the gate."""
    callers = Callers(Coalescer(gate, batch=batch))
    first = callers.call(rows_of(0))
    gate.entered.acquire()
    return callers, first


@pytest.fixture
def strike(monkeypatch):
    """Interrupt the thread named "doomed" where it waits in the queue, as Ctrl-C does to the main thread.

    One named "slow" wakes then, whatever happened before.
    """
    waiting, struck = threading.Condition.wait, threading.Lock()
    struck.acquire()

    def wait(self, timeout=None):
        me = threading.current_thread()
        if me.name not in ("doomed", "slow"):
            return waiting(self, timeout)
        self.release()
        struck.acquire()
        self.acquire()
        if me.name == "doomed":
            raise KeyboardInterrupt
        me.name = "woken"  # the gate, too, is waited for with a condition

    monkeypatch.setattr(threading.Condition, "wait", wait)
    return struck.release


def test_a_lone_caller_runs_at_once_and_alone():
    run = Recorder()
    rows = rows_of(1, 2, 3)
    np.testing.assert_array_equal(Coalescer(run)(rows), answer_to(rows))
    assert run.batches == [[1, 2, 3]]


def test_who_comes_during_a_run_is_gathered_in_the_next():
    gate = Gate()
    callers, first = held_up(gate)
    others = [callers.call(rows_of(number, -number), queued=number) for number in (1, 2, 3)]
    gate.opened.release(2)
    callers.join()
    assert gate.batches == [[0], [1, -1, 2, -2, 3, -3]]
    np.testing.assert_array_equal(first.result(), answer_to(rows_of(0)))
    for number, future in enumerate(others, start=1):
        np.testing.assert_array_equal(future.result(), answer_to(rows_of(number, -number)))


def test_the_queue_is_served_in_order_and_no_batch_is_too_large():
    gate = Gate()
    callers, _ = held_up(gate, batch=4)
    for place, rows in enumerate([rows_of(1, 2), rows_of(3, 4, 5), rows_of(6), rows_of(7)], start=1):
        callers.call(rows, queued=place)
    gate.opened.release(4)
    callers.join()
    # 6 would fit beside 1 and 2, but 3 came before it.
    assert gate.batches == [[0], [1, 2], [3, 4, 5, 6], [7]]


@pytest.mark.parametrize("other", [rows_of(9, dtype=np.float32), np.array([[9.0, 9.0]]), np.array([[[9.0]]])])
def test_rows_of_another_kind_run_separately(other):
    gate = Gate()
    gate.finish = lambda rows: rows
    callers, _ = held_up(gate)
    asked = [rows_of(1), other, rows_of(2), other]
    futures = [callers.call(rows, queued=place) for place, rows in enumerate(asked, start=1)]
    gate.opened.release(3)
    callers.join()
    assert [len(batch) for batch in gate.batches] == [1, 2, 2]
    for rows, future in zip(asked, futures, strict=True):
        np.testing.assert_array_equal(future.result(), rows)
        assert future.result().dtype == rows.dtype


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 16, 21])
def test_large_requests_are_split(n):
    run = Recorder()
    rows = rows_of(*range(n))
    np.testing.assert_array_equal(Coalescer(run)(rows), answer_to(rows))
    assert [len(batch) for batch in run.batches] == [8] * (n // 8) + ([n % 8] if n % 8 or not n else [])


def test_no_rows_travel_with_others():
    gate = Gate()
    callers, _ = held_up(gate)
    none, one = callers.call(rows_of(), queued=1), callers.call(rows_of(1), queued=2)
    gate.opened.release(2)
    callers.join()
    assert none.result().shape == (0, 2)
    np.testing.assert_array_equal(one.result(), answer_to(rows_of(1)))


def test_a_small_request_does_not_wait_for_all_of_a_large_one():
    gate = Gate()
    callers, _ = held_up(gate, batch=2)
    callers.call(rows_of(1, 2, 3, 4), queued=1)
    small = callers.call(rows_of(9), queued=2)
    gate.opened.release(4)
    callers.join()
    assert small.done()
    assert gate.batches == [[0], [1, 2], [9], [3, 4]]


@settings(max_examples=25)
@given(
    sizes=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=5), min_size=1, max_size=12),
    at_once=st.integers(1, 3),
    batch=st.integers(1, 9),
    bad=st.sets(st.integers(0, 40), max_size=4),
)
def test_many_threads_get_their_own_rows_back(sizes, at_once, batch, bad):
    run = Recorder()

    def fragile(rows):
        results = run(rows)
        if found := bad & set(rows[:, 0].tolist()):
            raise ValueError(sorted(found))
        return results

    coalescer = Coalescer(fragile, at_once=at_once, batch=batch)
    start = threading.Barrier(len(sizes))
    numbers = iter(random.Random(0).sample(range(1000), 800))
    asked = [[rows_of(*(next(numbers) for _ in range(size))) for size in caller] for caller in sizes]

    def call(requests):
        start.wait()
        for rows in requests:
            wrong = bad & set(rows[:, 0].tolist())
            try:
                np.testing.assert_array_equal(coalescer(rows), answer_to(rows))
            except ValueError as error:
                assert set(error.args[0]) <= wrong  # never an error of somebody else's rows
                assert wrong
            else:
                assert not wrong

    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(call, asked))
    assert run.most <= at_once
    assert max(map(len, run.batches)) <= batch
    assert coalescer.waiting == 0


def test_as_many_run_as_may_and_no_more():
    gate = Gate()
    coalescer = Coalescer(gate, at_once=2)
    callers = Callers(coalescer)
    for number in (1, 2):
        callers.call(rows_of(number))
        gate.entered.acquire()  # both stand before the gate together
    callers.call(rows_of(3), queued=1)
    callers.call(rows_of(4), queued=2)
    assert not gate.entered.acquire(blocking=False)
    gate.opened.release(3)
    callers.join()
    assert gate.batches == [[1], [2], [3, 4]]


def test_two_places_that_come_free_together_are_both_taken(strike):
    gate = Gate()
    callers = Callers(Coalescer(gate, at_once=2))
    running = [callers.call(rows_of(number)) for number in (1, 2)]
    for _ in running:
        gate.entered.acquire()
    callers.call(rows_of(3), queued=1, name="slow")
    callers.call(rows_of(4, dtype=np.float32), queued=2)
    gate.opened.release(2)
    for future in running:
        future.result()
    strike()
    for _ in range(2):
        gate.entered.acquire()  # the other kind runs beside the first of the queue, not after it
    gate.opened.release(2)
    callers.join()


def test_a_bad_request_fails_alone():
    class Fragile(Gate):
        def finish(self, rows):
            if (rows < 0).any():
                raise ValueError(f"cannot take {rows[:, 0].tolist()}")
            return answer_to(rows)

    gate = Fragile()
    callers, _ = held_up(gate)
    futures = [callers.call(rows_of(number), queued=abs(number)) for number in (1, -2, 3, -4)]
    gate.opened.release(10)
    callers.join()
    assert gate.batches == [[0], [1, -2, 3, -4], [1], [-2], [3], [-4]]
    for number in (1, 3):
        np.testing.assert_array_equal(futures[number - 1].result(), answer_to(rows_of(number)))
    for number in (2, 4):
        error = futures[number - 1].exception()
        assert str(error) == f"cannot take [-{number}.0]"
        assert error.__context__ is None


def test_a_run_that_loses_rows_is_found_out():
    with pytest.raises(AssertionError, match="3 rows gave 2 results"):
        Coalescer(lambda rows: rows[1:])(rows_of(1, 2, 3))


def test_an_interrupt_of_who_runs_leaves_nobody_hanging():
    gate = Interrupted()
    callers, _ = held_up(gate)
    futures = [callers.call(rows_of(number), queued=number) for number in (1, 2, 3)]
    gate.opened.release(10)
    callers.join()
    assert isinstance(futures[0].exception(), KeyboardInterrupt)
    for number in (2, 3):
        np.testing.assert_array_equal(futures[number - 1].result(), answer_to(rows_of(number)))
    assert gate.batches == [[0], [1, 2, 3], [2, 3]]


def test_an_interrupt_while_each_runs_alone_takes_no_answer_back():
    class BadThenInterrupted(Gate):
        def finish(self, rows):
            if len(rows) == 3:
                raise ValueError("one of them is bad")
            if rows[0, 0] == 3 and self.batches.count([3]) == 1:
                second.result()  # its caller has the answer and is gone
                raise KeyboardInterrupt
            return answer_to(rows)

    gate = BadThenInterrupted()
    callers, _ = held_up(gate)
    first, second, third = (callers.call(rows_of(number), queued=number) for number in (1, 2, 3))
    gate.opened.release(10)
    callers.join()
    assert isinstance(first.exception(), KeyboardInterrupt)
    np.testing.assert_array_equal(second.result(), answer_to(rows_of(2)))
    np.testing.assert_array_equal(third.result(), answer_to(rows_of(3)))
    assert gate.batches == [[0], [1, 2, 3], [1], [2], [3], [3]]


def test_who_is_interrupted_while_waiting_is_forgotten(strike):
    gate = Gate()
    callers, _ = held_up(gate)
    callers.call(rows_of(1), queued=1)
    doomed = callers.call(rows_of(2), queued=2, name="doomed")
    third = callers.call(rows_of(3), queued=3)
    strike()
    assert isinstance(doomed.exception(), KeyboardInterrupt)
    gate.opened.release(10)
    callers.join()
    assert gate.batches == [[0], [1, 3]]
    np.testing.assert_array_equal(third.result(), answer_to(rows_of(3)))


def test_who_left_during_a_run_is_not_queued_again(strike):
    """Nobody would ever run for the one who left, and all who come later would stand behind it."""
    gate = Interrupted()
    callers, _ = held_up(gate)
    leader = callers.call(rows_of(1), queued=1)
    doomed = callers.call(rows_of(2), queued=2, name="doomed")
    gate.opened.release()
    gate.entered.acquire()  # the run of both has begun
    strike()
    assert isinstance(doomed.exception(), KeyboardInterrupt)
    gate.opened.release(10)
    assert isinstance(leader.exception(), KeyboardInterrupt)
    np.testing.assert_array_equal(callers.call(rows_of(5)).result(), answer_to(rows_of(5)))
    callers.join()
    assert gate.batches == [[0], [1, 2], [5]]
