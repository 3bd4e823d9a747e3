"""The folder of a catalogue: whether one can be made there, how it begins, and who may look at it and write it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import filelock

from indexer.embeds import Embeds
from indexer.files import TEMPORARY_PREFIX, write_bytes, write_json
from indexer.items import ITEMS_SCHEMA, REJECTED_SCHEMA, VersionedTable
from retrieval.errors import BusyError, CatalogueError

ABOUT_FILE: Final = "catalogue.json"
LOCK: Final = ".lock"
TABLES: Final = ("items", "rejected")


@dataclass(frozen=True)
class Called:
    """What a catalogue is called in messages: by words that its user has typed, or would.

    Attributes:
        paths: its folder; or, where it is kept for folders of pictures, those.
        kept: whether it is kept for folders, in a cache that its user need not know of.
    """

    paths: tuple[Path, ...]
    kept: bool = False

    def __str__(self) -> str:
        return " and ".join(map(str, self.paths))

    @property
    def words(self) -> str:
        """As arguments of a command."""
        return shlex.join(map(str, self.paths))


def lock_of(path: Path) -> filelock.FileLock:
    """The lock of the catalogue at ``path``; taking it does not wait."""
    return filelock.FileLock(path / LOCK, timeout=0)


def check_place(path: Path, *, locked: bool) -> None:
    """Raise CatalogueError unless a catalogue can be made at ``path``: nothing is there, or an empty folder.

    Args:
        path: the folder.
        locked: whether its lock is held. Without it another process may be making a catalogue there at this moment,
            so what bears our names is left to the look with the lock.
    """
    with looking(path):
        if (path / ABOUT_FILE).exists():
            raise CatalogueError(f"{path} is a catalogue already; open it instead")
        if path.exists() and not path.is_dir():
            raise CatalogueError(f"{path} is a file, and a catalogue is a folder; name a new one")
        fits = _is_leftover if locked else _is_ours
        if path.is_dir() and not all(fits(entry) for entry in path.iterdir()):
            raise CatalogueError(f"{path} holds other things; name a new or an empty folder for the catalogue")


def lay_out(path: Path, embedder: Embeds, about: dict[str, Any]) -> None:
    """Make an empty catalogue; call it with the lock held.

    Args:
        path: the folder.
        embedder: will embed everything in it.
        about: what ``catalogue.json`` will hold.

    Raises:
        CatalogueError: there is something in the folder, or it cannot be written.
    """
    check_place(path, locked=True)
    # What a creation that was killed half-way has left may be of another embedder.
    for leftover in TABLES:
        shutil.rmtree(path / leftover, ignore_errors=True)
    embedder.save(path / "embedder" / embedder.digest, write=write_bytes)
    metadata = {"embedder": embedder.digest, "dim": str(embedder.dim), "next_row": "0"}
    # catalogue.json comes last: without it there is no catalogue.
    for table, schema, its_metadata in (("rejected", REJECTED_SCHEMA, {}), ("items", ITEMS_SCHEMA, metadata)):
        VersionedTable.create(path / table, schema, its_metadata)
    write_json(path / ABOUT_FILE, about)


def _is_ours(entry: Path) -> bool:
    return entry.name in (*TABLES, "embedder", LOCK) or entry.name.startswith(TEMPORARY_PREFIX)


def _is_leftover(entry: Path) -> bool:
    """Whether a creation that was killed half-way has left this, and not the user."""
    if not _is_ours(entry):
        return False
    if entry.name in TABLES:
        return entry.is_dir() and all(inside.name == "_delta_log" for inside in entry.iterdir())
    if entry.name == "embedder":
        return entry.is_dir() and all(len(inside.name) == 64 for inside in entry.iterdir())
    return entry.is_file()


@contextlib.contextmanager
def held(lock: filelock.FileLock, path: Path, called: Called | None = None) -> Iterator[None]:
    """Hold a catalogue's lock; the system lets go of it when the process dies.

    Args:
        lock: of ``lock_of``.
        path: the folder that is written.
        called: the catalogue that it belongs to.

    Raises:
        BusyError: another process holds it.
        CatalogueError: the folder cannot be written.
    """
    try:
        lock.acquire()
    except filelock.Timeout as error:
        doing = f"at work on {called}" if called is not None and called.kept else f"writing {path}"
        raise BusyError(f"another process is {doing}; wait for it to end") from error
    except OSError as error:
        raise CatalogueError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def looking(path: Path) -> Iterator[None]:
    """Say in a sentence why a folder cannot even be looked at."""
    try:
        os.fspath(path).encode()
        yield
    except UnicodeEncodeError as error:
        raise CatalogueError(f"the name {os.fsencode(path)!r} is not valid UTF-8; choose another") from error
    except OSError as error:
        raise CatalogueError(f"cannot use {str(path)[:200]}: {error.strerror or error}") from error
