"""What is kept of a catalogue's copies, and bringing it up to date: every item looked at, candidates compared."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from indexer.candidates import look_at_items, new_items
from indexer.catalogue import Catalogue
from indexer.comparing import Compared, compare, outstanding, worth_keeping
from indexer.files import read_json, sweep, write_json
from indexer.fingerprints import Fingerprints
from indexer.known_pairs import KnownPairs, table_of
from indexer.place import Called, held, lock_of
from retrieval.errors import DamagedError, InputError
from retrieval.views import EFFORTS

METHOD: Final = 5
"""Of looking and comparing: raised whenever the same pictures would be seen otherwise, so that all is done anew."""
_RUN: Final = "run.json"
_AWAY: Final = "away.json"

Bars = Callable[[str, str], AbstractContextManager[Callable[[int, int, int], object]]]
"""Name and unit of a progress bar → the bar: told what is done, all of it, and how many could not be read."""


@contextlib.contextmanager
def no_bar(what: str, unit: str) -> Iterator[Callable[[int, int, int], object]]:
    """Show nothing."""
    yield lambda done, total, refused: None


def check_effort(effort: str) -> None:
    """Raise InputError for an effort that does not exist."""
    if effort not in EFFORTS:
        raise InputError(f"there is no effort {effort!r}; there are {', '.join(EFFORTS)}")


def folder_of(catalogue: Catalogue, effort: str) -> Path:
    """Where what was looked at and compared is kept."""
    return catalogue.path / "duplicates" / f"{catalogue.digest[:16]}-{METHOD}-{effort}"


@contextlib.contextmanager
def locked(folder: Path, called: Called) -> Iterator[None]:
    """Hold the lock of such a folder of a catalogue, made where it is not there.

    Raises:
        BusyError: another process looks for duplicates here.
        CatalogueError: it cannot be written.
    """
    with contextlib.suppress(OSError):  # said by the lock
        folder.mkdir(parents=True, exist_ok=True)
    with held(lock_of(folder), folder, called):
        sweep(folder)
        _remove_older(folder)
        yield


def _remove_older(folder: Path) -> None:
    """Remove what earlier methods have seen with the same embedder, which nobody reads any more."""
    digest, _, effort = folder.name.split("-")
    for older in folder.parent.glob(f"{digest}-*-{effort}"):
        number = older.name.split("-")[1]
        if number.isdigit() and int(number) < METHOD:
            shutil.rmtree(older, ignore_errors=True)


def look_through(
    catalogue: Catalogue,
    folder: Path,
    *,
    effort: str,
    pool: ThreadPoolExecutor,
    bars: Bars,
    notice: Callable[[str], object],
) -> Fingerprints:
    """Look at every item that was not looked at; stopped, it goes on there.

    An item that was gone and came back is looked at again: what came meanwhile has it for no candidate.
    """
    fingerprints = Fingerprints(folder / "looked")
    if fingerprints.damaged:
        notice(f"damaged blocks of {folder / 'looked'}, moved aside and made anew: {len(fingerprints.damaged)}")
    away = _away(folder)
    there = set(catalogue.items(["sha256"]).column("sha256").to_pylist())
    fingerprints.stale |= away & there
    away |= set(fingerprints.columns(["sha256"]).column("sha256").to_pylist()) - there
    _write_away(folder, away)
    total = new_items(catalogue, fingerprints).num_rows
    if total:
        with bars("look", "images") as bar:
            count = _counter(bar, total)
            look_at_items(catalogue, fingerprints, effort=effort, pool=pool, progress=count, notice=notice)
        fingerprints.stale.clear()
        _write_away(folder, away - there)
    return fingerprints


def _away(folder: Path) -> set[bytes]:
    """SHA-256 of what was seen once and was no item when others were looked at, which have not met it."""
    with contextlib.suppress(DamagedError, KeyError, ValueError):
        return {bytes.fromhex(sha256) for sha256 in read_json(folder / _AWAY)["away"]}
    return set()


def _write_away(folder: Path, away: set[bytes]) -> None:
    if away != _away(folder):
        write_json(folder / _AWAY, {"away": sorted(sha256.hex() for sha256 in away)})


def compare_through(
    folder: Path, fingerprints: Fingerprints, *, pool: ThreadPoolExecutor, bars: Bars
) -> tuple[Compared, KnownPairs]:
    """Compare all candidates that were not compared; stopped, it goes on there.

    Returns:
        Where what came of it is kept, and all that is known.
    """
    compared = Compared(folder / "pairs")
    known = compared.read()  # before what is there is counted: blocks that are damaged are compared again
    total = sum(len(pairs) for _, pairs in outstanding(fingerprints, compared))
    if total:
        with bars("compare", "pairs") as bar:
            count = _counter(bar, total)
            for name, pairs in outstanding(fingerprints, compared):
                table = table_of(
                    (pair, over)
                    for pair, over in compare(pairs, fingerprints, pool=pool, progress=count)
                    if over is not None and worth_keeping(over)
                )
                compared.write(table, name)
                known.add(table)
    return compared, known


def remember_run(folder: Path, *, row: int, unread: Sequence[int], version: int, agreement: float) -> None:
    """Remember what a run came to.

    What an earlier run has seen stays seen: an item that was set aside meanwhile and is brought back has its old row.

    Args:
        folder: as ``folder_of``.
        row: the highest that it has seen.
        unread: rows of the items that it could not look at, which are new to the run that can.
        version: of the catalogue.
        agreement: from where on pairs are copies.

    Raises:
        CatalogueError: the disk is full or cannot be written.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    before = last_run(folder)
    row = row if before is None else max(row, int(before["row"]))
    told = {"row": row, "unread": list(unread), "version": version, "agreement": agreement, "when": when}
    write_json(folder / _RUN, told)


def last_run(folder: Path) -> dict[str, Any] | None:
    """What ``remember_run`` wrote; None where there was no run, or its file is damaged."""
    with contextlib.suppress(DamagedError):
        found = read_json(folder / _RUN)
        if {"row", "version", "agreement"} <= found.keys():
            return found
    return None


def _counter(bar: Callable[[int, int, int], object], total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        bar(done, total, 0)

    return count
