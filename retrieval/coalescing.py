"""Coalescing: concurrent requests become batches, without a thread of its own and without waiting for company.

A network answers eight pictures in little more time than one. Who finds a free place runs at once, alone if need
be; those who come meanwhile queue, and the first of them who gets a place runs for all that fit. So a lone caller
never waits, and the batches grow with the load.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class _Request:
    rows: np.ndarray
    changed: threading.Condition  # answered, or perhaps its turn
    outcome: np.ndarray | Exception | None = None
    left: bool = False  # its caller has gone, with an answer or interrupted

    def fits(self, other: _Request) -> bool:
        return self.rows.dtype == other.rows.dtype and self.rows.shape[1:] == other.rows.shape[1:]


class Coalescer:
    """Concurrent calls become batches: who comes while all workers are busy joins the next batch.

    Served in the order of arrival: the first of the queue is in the next batch, and only rows of another dtype or
    shape, which have to wait for a run of their own, are passed over.

    An error of ``run`` in a batch of several requests is not theirs to share: each is run again on its own, and an
    error then reaches the caller whose rows they are. When a caller who runs for others is interrupted
    (KeyboardInterrupt), the others go back to the head of the queue and one of them runs for the rest.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], *, at_once: int = 1, batch: int = 8) -> None:
        """Prepare; nothing runs yet.

        Args:
            run: (n, ...) → (n, dim), row by row in the same order, n at most ``batch``, and 0 only when nobody asked
                for more; called in the threads of the callers, by at most ``at_once`` at a time. It must
                neither write into its input nor call this object.
            at_once: how many runs may be under way together, at least 1.
            batch: rows in a run at most, at least 1.
        """
        assert at_once >= 1 and batch >= 1, (at_once, batch)
        self._run, self._at_once, self._batch = run, at_once, batch
        self._lock = threading.Lock()
        self._queue: list[_Request] = []
        self._led: dict[_Request, list[_Request]] = {}  # who runs → for whom, itself included; one entry a run

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Give every row its result.

        Args:
            rows: (n, ...); more than ``batch`` rows queue again for each ``batch`` of them, so that a large request
                does not hold up small ones. No rows at all are a request too: ``run`` knows what comes of them.

        Returns:
            (n, dim) in the order of ``rows``; it may be a view of what ``run`` gave for several callers.

        Raises:
            Exception: what ``run`` raised for these rows.
        """
        if len(rows) <= self._batch:
            return self._ask(rows)
        starts = range(0, len(rows), self._batch)
        return np.concatenate([self._ask(rows[start : start + self._batch]) for start in starts])

    @property
    def waiting(self) -> int:
        """Requests that wait for a place at this moment."""
        return len(self._queue)

    def _ask(self, rows: np.ndarray) -> np.ndarray:
        request = _Request(rows, threading.Condition(self._lock))
        try:
            with self._lock:
                self._queue.append(request)
                request.changed.wait_for(lambda: request.outcome is not None or self._is_turn_of(request))
                batch = self._gather(request) if request.outcome is None else []
            if batch:
                self._answer(batch)
            if isinstance(request.outcome, Exception):
                raise request.outcome
            assert request.outcome is not None
            return request.outcome
        finally:
            self._leave(request)
            request.outcome = None  # an error holds this frame, and would hold the rows through the request

    def _is_turn_of(self, request: _Request) -> bool:
        return len(self._led) < self._at_once and bool(self._queue) and self._queue[0] is request

    def _gather(self, leader: _Request) -> list[_Request]:
        """Take from the queue what runs with its first request; needs the lock."""
        batch, places = [leader], self._batch - len(leader.rows)
        for request in self._queue[1:]:
            if not request.fits(leader):
                continue
            if len(request.rows) > places:
                break
            batch.append(request)
            places -= len(request.rows)
        # An interrupt between these lines leaves some in both places; _leave puts each in one.
        self._led[leader] = batch
        self._queue = [request for request in self._queue if request not in batch]
        self._wake_first()
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        """Run for all of a batch, and for each alone when that fails."""
        try:
            results = self._checked([request.rows for request in batch])
        except Exception as error:
            if len(batch) == 1:
                self._deliver([(batch[0], error)])
                return
        else:
            ends = np.cumsum([len(request.rows) for request in batch])
            self._deliver(list(zip(batch, np.split(results, ends[:-1]), strict=True)))
            return
        for request in batch:
            self._answer([request])

    def _checked(self, parts: list[np.ndarray]) -> np.ndarray:
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        results = self._run(rows)
        assert len(results) == len(rows), f"{len(rows)} rows gave {len(results)} results"
        return results

    def _deliver(self, outcomes: list[tuple[_Request, np.ndarray | Exception]]) -> None:
        with self._lock:
            for request, outcome in outcomes:
                request.outcome = outcome
                request.changed.notify()

    def _leave(self, request: _Request) -> None:
        """Free the place of a request, whether it waited or ran, and queue again whom it ran for in vain."""
        with self._lock:
            batch = self._led.get(request, [])
            request.left = True
            unanswered = [other for other in batch if other.outcome is None and not other.left]
            rest = [other for other in self._queue if not other.left and other not in unanswered]
            self._queue = unanswered + rest
            self._led.pop(request, None)
            self._wake_first()

    def _wake_first(self) -> None:
        if self._queue and len(self._led) < self._at_once:
            self._queue[0].changed.notify()
