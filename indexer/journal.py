"""The journal of what was done about duplicates: a file a run, from which everything can be brought back.

``duplicates/journal/<run>.jsonl`` in the catalogue, one JSON object a line:

    {"format": 2, "run": ..., "action": ..., "version": 7, "time": ..., "quarantine": {...}, "made": [...]}
                                                                              always there, whole
    {"do": 0, "ids": [...], "source": ..., "uri": ..., "sha256": ..., ...}    on disk before the file is touched
    {"done": 0}                                                               the file is where it should be
    {"left": 0, "reason": ...}                                                it could not be; it is as it was
    {"applied": {"done": ..., "skipped": ..., "bytes": ..., "version": ...}}  the run is over
    {"back": 0}                                                               an undo has brought it back
    {"undone": {"files": ..., "items": ..., "skipped": ...}}                  an undo is over

``<run>.parquet`` beside it holds the items that the run took out of the catalogue, written before they are.
``quarantine`` is source → the run's folder for its files, absolute or relative to the catalogue; null where no file is
moved (in format 1 one folder, of all sources). ``made`` are the folders that had to be made for it.
A line is only an intent: what became of it is read off the files, so that a kill between any two steps loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from indexer.catalogue import Catalogue
from indexer.files import write_bytes, write_error
from indexer.whereabouts import make_folder
from retrieval.errors import DamagedError, NotFoundError
from retrieval.folders import ASIDE, RUN

FORMAT: Final = 2
READ: Final = (1, 2)
"""Formats that can be read; the first had one quarantine for all sources."""
LISTED: Final = 10
"""Runs that a message names."""
FOLDER: Final = Path("duplicates") / "journal"

State = Literal["applied", "nothing done", "interrupted", "partly undone", "undone"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""Of a run. Interrupted: it was killed or failed half-way, and is not wholly undone. Partly undone: it came to its end,
and an undo could not bring back everything."""


@dataclass
class Record:
    """What a journal says.

    Attributes:
        path: of the journal.
        header: its first line.
        intents: number → what was to be done to a file, or to an item where no file is touched.
        done: numbers of intents that were carried out.
        left: number → why it was not.
        back: numbers that an undo has brought back.
        applied: what the run came to; None: it was killed or failed.
        undone: what each undo that came to its end came to.
    """

    path: Path
    header: dict[str, Any]
    intents: dict[int, dict[str, Any]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)
    back: set[int] = field(default_factory=set)
    applied: dict[str, Any] | None = None
    undone: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run(self) -> str:
        """Names the run."""
        return str(self.header["run"])

    @property
    def action(self) -> str:
        """What was done: "move", "link", "forget"."""
        return str(self.header["action"])

    @property
    def rows_path(self) -> Path:
        """Where the items are that the run took out of the catalogue; there is no such file where it took out none."""
        return self.path.with_suffix(".parquet")

    @property
    def state(self) -> State:
        """How the run stands."""
        if self.undone and not self.undone[-1]["skipped"]:
            return "undone"
        if self.applied is None:
            return "interrupted"
        if self.undone:
            return "partly undone"
        return "applied" if self.applied["done"] else "nothing done"

    def outstanding(self) -> dict[int, dict[str, Any]]:
        """The intents of which something may have to be brought back."""
        return {
            number: intent
            for number, intent in self.intents.items()
            if number not in self.left and number not in self.back
        }


@dataclass(frozen=True)
class Run:
    """A run as its user sees it.

    Attributes:
        run: names it.
        action: "move", "link" or "forget".
        state: one of ``STATES``.
        time: when it began, ISO 8601 in UTC.
        done: items it moved, linked or took out of the catalogue; of an interrupted run, those it had begun with.
        version: of the items, before it.
        quarantines: where it moved files; none where it moved none.
        journal: its file.
    """

    run: str
    action: str
    state: State
    time: str
    done: int
    version: int
    quarantines: tuple[Path, ...]
    journal: Path

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["quarantines"] = list(map(str, self.quarantines))
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


class Journal:
    """An open journal, to be closed. Only who holds the catalogue's lock has one.

    Attributes:
        path: the file.
        run: names the run.

    Raises:
        CatalogueError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, path.stem
        try:
            # A line that a killed writer left half was not waited for, so nothing was done about it.
            whole = path.read_bytes().rpartition(b"\n")[0]
            os.truncate(path, len(whole) + 1)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise write_error(path, error) from error

    @classmethod
    def begin(
        cls, catalogue: Catalogue, *, run: str, action: str, quarantine: Mapping[str, Path] | None, made: Sequence[Path]
    ) -> Journal:
        """Begin the journal of a new run.

        Args:
            catalogue: locked.
            run: what ``next_run`` gave.
            action: what will be done.
            quarantine: source → the run's folder for its files; None where none is moved.
            made: folders that were made for it.

        Raises:
            CatalogueError: the disk is full or cannot be written.
        """
        path = catalogue.path / FOLDER / f"{run}.jsonl"
        time = datetime.now(UTC).isoformat(timespec="seconds")
        header = {"format": FORMAT, "run": run, "action": action, "version": catalogue.version, "time": time}
        ours = catalogue.path.resolve()

        def within(place: Path) -> str:  # a catalogue may be moved, and what is in it goes with it
            return (place.relative_to(ours) if place.is_relative_to(ours) else place).as_posix()

        places = None if quarantine is None else {source: within(place) for source, place in quarantine.items()}
        try:
            make_folder(path.parent)
        except OSError as error:
            raise write_error(path, error) from error
        write_bytes(path, _line({**header, "quarantine": places, "made": list(map(within, made))}))
        return cls(path)

    def write(self, *lines: Mapping[str, Any], sync: bool = False) -> None:
        """Add lines.

        Args:
            lines: see the head of this room.
            sync: return only when they are on disk.

        Raises:
            CatalogueError: the disk is full or cannot be written.
        """
        data = memoryview(b"".join(map(_line, lines)))
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if sync:
                os.fsync(self._file)
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def next_run(catalogue: Catalogue, quarantines: Iterable[Path] = ()) -> str:
    """Name a new run: a number that grows, so that the latest is known whatever the clock says, and the time.

    Args:
        catalogue: locked.
        quarantines: folders that will hold one of this name.
    """
    names = [path.stem for path in _journals(catalogue)]
    names += [path.name for place in quarantines if place.is_dir() for path in place.iterdir()]
    numbers = [int(found[1]) for name in names if (found := RUN.fullmatch(name))]
    return f"{max(numbers, default=0) + 1:04d}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def temporary_name(run: str, number: int) -> str:
    """Name the temporary file of an intent, so that an undo finds what a kill has left; hidden, so never indexed."""
    return f".lookalike-{run}-{number}"


def records(catalogue: Catalogue) -> list[Record]:
    """The runs of a catalogue, newest first.

    Raises:
        DamagedError: a journal is not what was written.
    """
    return [read_record(path) for path in reversed(_journals(catalogue))]


def record_of(catalogue: Catalogue, run: str) -> Record:
    """The journal of one run.

    Raises:
        NotFoundError: there is no such run.
        DamagedError: its journal is not what was written.
    """
    for path in _journals(catalogue):
        if path.stem == run:
            return read_record(path)
    raise NotFoundError(f"{catalogue.called} has no run {run!r} of duplicates; {listed(catalogue)}")


def listed(catalogue: Catalogue) -> str:
    """Name the runs that there are, newest first, and where files of others stand, as a clause.

    Raises:
        DamagedError: a journal is not what was written.
    """
    known = runs(catalogue)
    called = catalogue.called
    besides = stray(called.paths, {run.run for run in known}) if called.kept else ""
    besides = f", but {besides}" if besides else ""
    if not known:
        return f"there are no runs{besides}"
    named = [
        f"{run.run} ({run.action}, {datetime.fromisoformat(run.time):%Y-%m-%d %H:%M} UTC, {run.state})"
        for run in known[:LISTED]
    ]
    more = f", and {len(known) - LISTED:,} older" if len(known) > LISTED else ""
    return f"there {'is' if len(known) == 1 else 'are'} {', '.join(named)}{more}{besides}"


def stray(folders: Iterable[Path], known: Collection[str] = ()) -> str:
    """Tell of files that were set aside inside folders by runs that nothing is known of, as a clause; "" of none.

    The journals of what is kept for folders are in a cache, and kept by the names of the folders.

    Args:
        folders: of pictures.
        known: runs of which there is a journal.
    """
    places: list[Path] = []
    for folder in folders:
        with contextlib.suppress(OSError):  # there is none, or it may not be looked into
            inside = sorted((folder / ASIDE).iterdir())
            places += [place for place in inside if RUN.fullmatch(place.name) and place.name not in known]
    places = [place for place in places if any(files for _, _, files in os.walk(place))]
    if not places:
        return ""
    return (
        f"copies stand in {' and '.join(map(str, places))}, set aside by a run that is not known any more, or was of "
        "these folders by another name or with another folder; undo it with those that were named then, or move "
        "them back by hand: they lie there under the paths they had"
    )


def runs(catalogue: Catalogue) -> list[Run]:
    """What was done about duplicates, newest first.

    Raises:
        DamagedError: a journal is not what was written.
    """
    return [_shown(catalogue, record) for record in records(catalogue)]


def quarantine_of(catalogue: Catalogue, record: Record, source: str) -> Path | None:
    """The folder that a run moved files of a source to; None where it moved none."""
    places = record.header["quarantine"]
    place = places.get(source) if isinstance(places, dict) else places
    return None if place is None else catalogue.path.resolve() / place


def quarantines_of(catalogue: Catalogue, record: Record) -> tuple[Path, ...]:
    """All folders that a run moved files to, each once."""
    places = record.header["quarantine"]
    known = places.values() if isinstance(places, dict) else () if places is None else (places,)
    return tuple(dict.fromkeys(catalogue.path.resolve() / place for place in known))


def made_by(catalogue: Catalogue, record: Record) -> set[Path]:
    """The folders that were made for the quarantines of a run."""
    return {catalogue.path.resolve() / place for place in record.header.get("made", ())}


def read_record(path: Path) -> Record:
    """Read a journal; a last line that was cut is not there.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        first, *rest = path.read_bytes().rpartition(b"\n")[0].split(b"\n")
        header = json.loads(first)
        if header["format"] not in READ:
            raise DamagedError(
                f"{path} has journal format {header['format']}; this version of lookalike reads up to {FORMAT}"
            )
        record = Record(path, header)
        for line in rest:
            _take(record, json.loads(line))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({error}); restore it from a copy") from error
    return record


def _take(record: Record, line: dict[str, Any]) -> None:
    if "do" in line:
        record.intents[line["do"]] = line
    elif "done" in line:
        record.done.add(line["done"])
    elif "left" in line:
        record.left[line["left"]] = line["reason"]
    elif "back" in line:
        record.back.add(line["back"])
    elif "applied" in line:
        record.applied = line["applied"]
    else:
        record.undone.append(line["undone"])


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _journals(catalogue: Catalogue) -> list[Path]:
    """In the order in which they were begun."""
    found = [path for path in (catalogue.path / FOLDER).glob("*.jsonl") if RUN.fullmatch(path.stem)]
    return sorted(found, key=lambda path: (int(path.stem.partition("-")[0]), path.stem))


def _shown(catalogue: Catalogue, record: Record) -> Run:
    begun = sum(len(intent["ids"]) for number, intent in record.intents.items() if number not in record.left)
    return Run(
        run=record.run,
        action=record.action,
        state=record.state,
        time=str(record.header["time"]),
        done=begun if record.applied is None else int(record.applied["done"]),
        version=int(record.header["version"]),
        quarantines=quarantines_of(catalogue, record),
        journal=record.path,
    )
