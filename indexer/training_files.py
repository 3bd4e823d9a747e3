"""The folder of a training: what may be in it, who may write it, and what is written while it runs and at its end.

``model.json`` and ``weights.safetensors`` are the embedder; ``report.html`` tells how it came about; below ``training``
lie ``last.ckpt`` (to go on from), ``metrics.csv`` (an epoch a row) and ``recipe.json`` (every choice and why).
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from indexer.files import TEMPORARY_PREFIX, read_json, sweep, write_bytes, write_json
from indexer.place import ABOUT_FILE, LOCK, held, lock_of, looking
from retrieval.choosing import Choice
from retrieval.errors import BusyError, CatalogueError, DamagedError, InputError
from retrieval.recipe import CHECKPOINT

if TYPE_CHECKING:
    from retrieval.course import Row
    from retrieval.embedder import Embedder

TRAINING: Final = "training"
METRICS: Final = "metrics.csv"
RECIPE: Final = "recipe.json"
PAGE: Final = "report.html"
MODEL, WEIGHTS = "model.json", "weights.safetensors"
_OURS: Final = frozenset({TRAINING, MODEL, WEIGHTS, PAGE, LOCK})
_SCORES: Final = ("recall_at_1", "map_at_r", "knn", "head")
PATIENCE: Final = 60
"""Seconds that the other processes of a run wait for the first to make it."""


def check_out(out: Path, *sources: Path, restart: bool = False) -> None:
    """Refuse a folder that holds anything but a training, before a long run.

    Args:
        out: the folder, which need not be there.
        sources: what is learned from; the folder may not lie in one.
        restart: whether an embedder that is there may be trained anew.

    Raises:
        InputError: it holds other things, is a file, would be read as a part of what is learned from, or holds a
            finished embedder without what its run could go on from.
        CatalogueError: it is a catalogue, or cannot be looked at or written.
    """
    with looking(out):
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file, and an embedder is a folder; name a new one with --out")
        inside = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
        nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    for source in sources:
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"the embedder {out} would lie inside the folder {source}; put it somewhere else")
    if ABOUT_FILE in inside:
        raise CatalogueError(f"{out} is a catalogue; name another folder for the embedder with --out")
    if {MODEL, WEIGHTS} & inside and TRAINING not in inside:
        raise InputError(f"{out} holds an embedder that was not trained there; name another folder with --out")
    if MODEL in inside and not restart and not (out / TRAINING / CHECKPOINT).is_file():
        raise InputError(
            f"{out} holds a trained embedder, whose {CHECKPOINT} was deleted: give --restart to train it anew, or "
            "another --out"
        )
    foreign = sorted(name for name in inside - _OURS if not name.startswith(TEMPORARY_PREFIX))
    if foreign:
        raise InputError(f"{out} holds other things, such as {foreign[0]}; name a new or an empty folder with --out")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise CatalogueError(f"cannot write {out}: {nearest} may not be written; name another folder with --out")


@contextlib.contextmanager
def training_folder(out: Path, *, leading: bool, restart: bool = False) -> Iterator[Path]:
    """Hold the folder of a training, and give the place of its checkpoint; what an earlier run left stays.

    Args:
        out: made when it is not there.
        leading: whether this is the first, or only, process of the run; the others write nothing.
        restart: as for ``check_out``.

    Raises:
        BusyError: another run writes it.
        InputError: it holds other things, or a finished embedder without what its run could go on from.
        CatalogueError: it cannot be written.
    """
    place = out / TRAINING
    if not leading:
        _await_beginning(place)
        yield place
        return
    check_out(out, restart=restart)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogueError(f"cannot make {out}: {error.strerror or error}") from error
    with held(lock_of(out), out):
        try:
            check_out(out, restart=restart)
            sweep(out)
            try:
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise CatalogueError(f"cannot write {place}: {error.strerror or error}") from error
            yield place
        finally:
            _leave_nothing(out)


def _leave_nothing(out: Path) -> None:
    """Take away the folder of a run that was refused before it wrote anything."""
    with contextlib.suppress(OSError):  # what is not empty stays
        (out / TRAINING).rmdir()
        if [entry.name for entry in out.iterdir()] == [LOCK]:
            (out / LOCK).unlink()
            out.rmdir()


def _await_beginning(place: Path) -> None:
    """Wait for the first process, which makes the folder."""
    until = time.monotonic() + PATIENCE
    while not place.is_dir():
        if time.monotonic() > until:
            raise BusyError(f"{place} was not made ready by the first process of this run; look at what that one says")
        time.sleep(0.05)


def save_embedder(embedder: Embedder, out: Path) -> None:
    """Write an embedder's files, or leave none that could be taken for one."""
    with looking(out):
        # Weights of one training beside the description of another would load and be neither.
        (out / MODEL).unlink(missing_ok=True)
    embedder.save(out, write=write_bytes)


def read_about(place: Path) -> dict[str, Any] | None:
    """What was written of the command and the machine of a finished run; None where nothing was."""
    try:
        about = read_json(place / RECIPE).get("about")
    except (DamagedError, OSError):
        return None
    return about if isinstance(about, dict) else None


def write_recipe(place: Path, choices: Sequence[Choice], about: Mapping[str, Any]) -> None:
    """Write every choice with its reason, and what it was made for."""
    made = {choice.field: {"value": choice.value, "why": choice.why} for choice in choices}
    write_json(place / RECIPE, {"choices": made, **about})


class Metrics:
    """``metrics.csv``, a row an epoch; what an earlier part of the run wrote stays.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.DictReader(file))

    def add(self, row: Row) -> None:
        """Write an epoch in its place; those after it are of another time and go."""
        self._rows = [known for known in self._rows if _epoch(known) < row.epoch]
        self._rows.append(flat(row))
        self._write()

    def replace(self, rows: Sequence[Row]) -> None:
        """Write all epochs."""
        self._rows = [flat(row) for row in rows]
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_bytes(self._path, text.getvalue().encode())


def flat(row: Row) -> dict[str, Any]:
    """Write an epoch as one row of a table; a score that there was none of is empty."""
    values: dict[str, Any] = {"epoch": row.epoch, "loss": row.loss}
    values |= {f"loss {name}": value for name, value in row.parts.items()}
    values |= {name: getattr(row, name) for name in ("lr", "image_size", "images_per_second", "seconds")}
    return values | {name: None if row.score is None else getattr(row.score, name) for name in _SCORES}


def _epoch(row: Mapping[str, Any]) -> int:
    try:
        return int(row["epoch"])
    except (KeyError, TypeError, ValueError):
        return 0
