"""Where the time of an index run went: busy and waiting seconds of each stage, as a table, as text and drawn.

Measuring costs a few microseconds a block and a bounded amount of memory, however long the run: each thread adds
up for itself, into bins of time that grow with the run, and the sums are joined when somebody looks.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from indexer.profile_picture import TEXT_COLUMNS, draw_profile, write_profile

STAGES: Final = ("load", "tune", "read", "decode", "prepare", "embed", "write", "screen", "commit")
"""Shown in this order; others follow in the order in which they appeared."""
PROFILE_SCHEMA: Final = pa.schema(
    [
        ("stage", pa.string()),
        ("images", pa.int64()),
        ("busy_s", pa.float64()),  # wall-clock seconds at work, summed over the stage's threads
        ("cpu_s", pa.float64()),  # of these, on the processor in these very threads
        ("waiting_s", pa.float64()),  # for input or for a free place, summed over the threads
        ("images_per_s", pa.float64()),  # images a busy second; null when it was never busy
        ("threads", pa.int64()),  # that worked at it; one that comes after another ended counts in its place
        ("share", pa.float64()),  # busy_s of what these threads had from the first second to the last, in [0, 1]
    ]
)
BIN: Final = 0.05  # seconds, at first
MAX_BINS: Final = 512  # even, so that pairs can be merged
PICTURE_COLUMNS: Final = 240  # fewer than there are bins once bins have been merged


class Profile:
    """Busy seconds of each stage, from any thread.

    Time is counted from when the profile was made to the end of the last block. A block within another of the
    same thread stops the outer one's clock, so that no second is counted twice.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.perf_counter, cpu_clock: Callable[[], float] = time.thread_time
    ) -> None:
        """Start counting.

        Args:
            clock: seconds that never go back.
            cpu_clock: seconds of processor time of the thread that calls.
        """
        self._clock, self._cpu_clock = clock, cpu_clock
        self._began = clock()
        self._lock = threading.Lock()
        self._records: list[_Record] = []
        self._names = dict.fromkeys(STAGES)
        self._local = threading.local()

    def stage(self, name: str, *, images: int = 1) -> AbstractContextManager[None]:
        """Count a block as work of a stage.

        Args:
            name: of the stage.
            images: that the block deals with; counted when it ends, by an error too.
        """
        return _Block(self, name, images, busy=True)

    def waiting(self, name: str) -> AbstractContextManager[None]:
        """Count a block as a stage's waiting for input or for a free place."""
        return _Block(self, name, 0, busy=False)

    def table(self) -> pa.Table:
        """Give a row a stage, after ``PROFILE_SCHEMA``; blocks that have not ended are not in it."""
        return _table(*self._measure())

    def text(self) -> str:
        """Show the table, the bottleneck in a sentence, and a lane of blocks a stage: the higher, the busier."""
        elapsed, stages = self._measure()
        busy, _ = _heights(elapsed, stages, TEXT_COLUMNS)
        return write_profile(_table(elapsed, stages), elapsed, busy)

    def picture(self) -> str:
        """Draw the same as a standalone SVG document, waiting included."""
        elapsed, stages = self._measure()
        columns = max(1, min(PICTURE_COLUMNS, round(elapsed / BIN)))
        return draw_profile(_table(elapsed, stages), elapsed, *_heights(elapsed, stages, columns))

    def _measure(self) -> tuple[float, dict[str, list[_Lane]]]:
        """Copy what is known now: seconds of the run, and for each stage what each thread did for it."""
        with self._lock:
            records, names = list(self._records), list(self._names)
        stages: dict[str, list[_Lane]] = {name: [] for name in names}
        elapsed = 0.0
        for record in records:
            with record.lock:
                elapsed = max(elapsed, record.end)
                for name, lane in record.lanes.items():
                    stages.setdefault(name, []).append(copy.deepcopy(lane))
        return elapsed, {name: lanes for name, lanes in stages.items() if lanes}

    def _record(self) -> _Record:
        """Find the record of this thread; a new thread takes over that of one that has ended, if there is one."""
        record: _Record | None = getattr(self._local, "record", None)
        if record is None:
            with self._lock:
                record = next((known for known in self._records if not known.thread.is_alive()), None)
                if record is None:
                    record = _Record()
                    self._records.append(record)
                record.thread, record.open = threading.current_thread(), []
            self._local.record = record
        return record


class _NoProfile(Profile):
    """Measures nothing; its contexts cost next to nothing."""

    _NOTHING: Final = contextlib.nullcontext()

    def stage(self, name: str, *, images: int = 1) -> AbstractContextManager[None]:
        return self._NOTHING

    def waiting(self, name: str) -> AbstractContextManager[None]:
        return self._NOTHING


NO_PROFILE: Final[Profile] = _NoProfile()
"""For when nobody asked."""


class _Bins:
    """Seconds by time of the run; twice as wide whenever there would be too many."""

    def __init__(self) -> None:
        self.width = BIN
        self.seconds: list[float] = []

    def add(self, begin: float, end: float) -> None:
        while end > MAX_BINS * self.width:
            self.seconds = _pairs(self.seconds)
            self.width *= 2
        first, last = int(begin / self.width), min(int(end / self.width), MAX_BINS - 1)
        if last >= len(self.seconds):
            self.seconds.extend([0.0] * (last + 1 - len(self.seconds)))
        for place in range(first, last):
            edge = (place + 1) * self.width
            self.seconds[place] += edge - begin
            begin = edge
        self.seconds[last] += end - begin

    def columns(self, elapsed: float, count: int) -> np.ndarray:
        """Spread over ``count`` equal parts of the run: seconds in each, (count,) float64."""
        if not self.seconds:
            return np.zeros(count)
        # The last bin is over when the run is.
        edges = np.minimum(np.arange(len(self.seconds) + 1) * self.width, elapsed)
        sums = np.concatenate([[0.0], np.cumsum(self.seconds)])
        return np.diff(np.interp(np.linspace(0, elapsed, count + 1), edges, sums))


def _pairs(seconds: list[float]) -> list[float]:
    even = [*seconds, 0.0] if len(seconds) % 2 else seconds
    return [one + other for one, other in zip(even[::2], even[1::2], strict=True)]


@dataclass
class _Lane:
    """What one thread did for one stage."""

    images: int = 0
    busy: float = 0.0
    cpu: float = 0.0
    waiting: float = 0.0
    worked: bool = False  # or only waited
    work: _Bins = field(default_factory=_Bins)
    waits: _Bins = field(default_factory=_Bins)


@dataclass(eq=False)
class _Record:
    """What one thread did; only that thread writes to it, under ``lock`` because others read."""

    thread: threading.Thread = field(default_factory=threading.current_thread)
    lock: threading.Lock = field(default_factory=threading.Lock)
    lanes: dict[str, _Lane] = field(default_factory=dict)
    open: list[_Block] = field(default_factory=list)  # the last one's clock runs
    end: float = 0.0  # of its last block, seconds of the run


class _Block:
    """The context of a block; entered once."""

    __slots__ = ("_busy", "_cpu_since", "_images", "_name", "_profile", "_record", "_since")

    def __init__(self, profile: Profile, name: str, images: int, *, busy: bool) -> None:
        self._profile, self._name, self._images, self._busy = profile, name, images, busy

    def __enter__(self) -> None:
        self._record = record = self._profile._record()
        now, cpu = self._profile._clock(), self._profile._cpu_clock()
        if record.open:
            record.open[-1]._charge(now, cpu)
        record.open.append(self)
        self._since, self._cpu_since = now, cpu

    def __exit__(self, *_: object) -> None:
        record = self._record
        now, cpu = self._profile._clock(), self._profile._cpu_clock()
        if record.open and record.open[-1] is self:
            self._charge(now, cpu, self._images)
            record.open.pop()
            if record.open:
                record.open[-1]._since, record.open[-1]._cpu_since = now, cpu
        elif self in record.open:  # left before a block that was opened later, as generators do: its clock stands still
            self._since, self._cpu_since = now, cpu
            self._charge(now, cpu, self._images)
            record.open.remove(self)

    def _charge(self, now: float, cpu: float, images: int = 0) -> None:
        record, began = self._record, self._profile._began
        with record.lock:
            lane = record.lanes.get(self._name)
            if lane is None:
                lane = record.lanes[self._name] = _Lane()
                with self._profile._lock:
                    self._profile._names.setdefault(self._name)
            if self._busy:
                lane.worked = True
                lane.images += images
                lane.busy += now - self._since
                lane.cpu += cpu - self._cpu_since
                lane.work.add(self._since - began, now - began)
            else:
                lane.waiting += now - self._since
                lane.waits.add(self._since - began, now - began)
            record.end = now - began


def _threads(lanes: list[_Lane]) -> int:
    return sum(lane.worked for lane in lanes)


def _table(elapsed: float, stages: dict[str, list[_Lane]]) -> pa.Table:
    rows = []
    for name, lanes in stages.items():
        images, threads = sum(lane.images for lane in lanes), _threads(lanes)
        busy = sum(lane.busy for lane in lanes)
        row = {
            "stage": name,
            "images": images,
            "busy_s": busy,
            "cpu_s": sum(lane.cpu for lane in lanes),
            "waiting_s": sum(lane.waiting for lane in lanes),
            "images_per_s": images / busy if busy > 0 else None,
            "threads": threads,
            "share": busy / (elapsed * threads) if elapsed > 0 and threads else 0.0,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PROFILE_SCHEMA)


def _heights(elapsed: float, stages: dict[str, list[_Lane]], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of its threads' time that each stage was busy, and waited, in each column: (stages, columns) in [0, 1]."""
    busy, waiting = np.zeros((len(stages), columns)), np.zeros((len(stages), columns))
    for place, lanes in enumerate(stages.values()):
        for lane in lanes:
            busy[place] += lane.work.columns(elapsed, columns)
            waiting[place] += lane.waits.columns(elapsed, columns)
        of_all = elapsed / columns * max(1, _threads(lanes)) or 1.0
        busy[place], waiting[place] = busy[place] / of_all, waiting[place] / of_all
    # Threads that only waited count for none, so that all together may exceed what there is.
    busy = np.clip(busy, 0, 1)
    return busy, np.clip(waiting, 0, 1 - busy)
