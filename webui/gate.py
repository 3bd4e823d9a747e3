"""Gate: how many searches run at once, how many wait, and for how long."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

from retrieval.errors import OverloadedError


class Gate:
    """Lets a number of threads in at once; some others queue, but not for ever.

    Args:
        places: threads inside at once.
        wait: seconds a thread may queue.
        queue: threads that may queue at once.
    """

    def __init__(self, places: int, *, wait: float, queue: int) -> None:
        self._places = threading.BoundedSemaphore(places)
        # Those inside and those who wait.
        self._admitted = threading.BoundedSemaphore(places + queue)
        self._wait = wait

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            OverloadedError: none became free in time, or the queue is full.
        """
        busy = OverloadedError(max(1, math.ceil(self._wait)))
        if not self._admitted.acquire(blocking=False):
            raise busy
        try:
            if not self._places.acquire(timeout=self._wait):
                raise busy
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._admitted.release()
