"""What runtimes make of an embedder for this machine: converted networks and measured choices, kept between runs.

A folder of the user (``LOOKALIKE_CACHE``, else the system's place for caches) and in it one an embedder's digest.
All of it can be made anew: what is damaged is made again, and what cannot be written is made each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import platformdirs

LEFT_OVER: Final = 24 * 3600.0
"""Seconds after which a half-made conversion is nobody's."""
SEAL: Final = "files.json"
"""Written last into a conversion: name → SHA-256 of each of its files."""


def cache_folder() -> Path:
    """Where conversions are kept; need not exist."""
    named = os.environ.get("LOOKALIKE_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("lookalike", appauthor=False))


class Conversions:
    """The conversions and notes of one embedder.

    Attributes:
        folder: of this embedder, ``<cache>/<digest>``.
    """

    def __init__(self, digest: str, *, cache: Path | None = None) -> None:
        self.folder = (cache or cache_folder()) / digest
        self._own: Path | None = None

    def fetch(self, name: str, make: Callable[[Path], object]) -> Path:
        """Give the folder of a conversion, made when it is not there or not what was written.

        Args:
            name: of what it is and of the versions that made it; another version is another conversion.
            make: writes the files of the conversion into the empty folder it is given.

        Returns:
            A folder whose files are those that ``make`` wrote; to be read, not to be changed.
        """
        kept = self.folder / name
        if _sealed(kept):
            return kept
        self._sweep()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self.folder))
        except OSError:  # a home that cannot be written
            made = self._for_this_process() / name
            if not _sealed(made):
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                _make(made, make)
            return made
        try:
            _make(made, make)
            return self._keep(made, kept)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a note; None when there is none that can be read."""
        try:
            note = json.loads((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) else None

    def write(self, name: str, note: dict[str, Any]) -> bool:
        """Write a note whole or not at all; says whether it is kept."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".tmp", delete=False) as file:
                json.dump(note, file, indent=2, sort_keys=True)
            Path(file.name).replace(self.folder / f"{name}.json")
        except OSError:
            return False
        return True

    def _keep(self, made: Path, kept: Path) -> Path:
        for _ in range(2):
            with contextlib.suppress(OSError):
                made.rename(kept)
                return kept
            if _sealed(kept):  # another process was faster
                return kept
            shutil.rmtree(kept, ignore_errors=True)
        return shutil.copytree(made, self._for_this_process() / kept.name, dirs_exist_ok=True)

    def _sweep(self) -> None:
        """Remove what processes that were killed have left, once it is old enough to be no other's work."""
        with contextlib.suppress(OSError):
            for left in [*self.folder.glob(".*.*"), *self.folder.glob("*.tmp")]:
                if time.time() - left.stat().st_mtime > LEFT_OVER:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def _for_this_process(self) -> Path:
        if self._own is None:
            self._own = Path(tempfile.mkdtemp(prefix="lookalike-"))
            weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        return self._own


def _make(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder)
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / SEAL).write_text(json.dumps(sums))


def _sealed(folder: Path) -> bool:
    try:
        sums = json.loads((folder / SEAL).read_bytes())
        return bool(sums) and all(_sha256(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
