"""Every byte we write ourselves: a temporary file beside the target, flush, fsync, rename.

A reader therefore sees the old file or the new one, never a part of either, and a writer killed at any
moment leaves at most a temporary file that ``sweep`` removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from retrieval.errors import CatalogueError, DamagedError, LookalikeError

TEMPORARY_PREFIX = ".writing-"


def _umask() -> int:
    # It can be read only by setting it, and that only while no other thread makes files: once, at import.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


UMASK = _umask()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes ``path`` when the block ends, and vanishes when it fails.

    Args:
        path: the target; its folder is made when it is not there.

    Yields:
        A binary file to write to.

    Raises:
        CatalogueError: the disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is its owner's alone; what we write is for whoever may read the folder.
        temporary.chmod(0o666 & ~UMASK)
        temporary.replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> LookalikeError:
    """Say in one sentence why ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CatalogueError(f"the disk is full: {path} was not written; free some space and run the command again")
    return CatalogueError(f"cannot write {path}: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable; does nothing where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all; raises what ``atomic_write`` raises."""
    with atomic_write(path) as file:
        file.write(data)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON with sorted keys, so that equal values are equal bytes."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DamagedError: the file is missing, is no JSON, or is no object.
        CatalogueError: it may not be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing") from error
    except PermissionError as error:
        raise CatalogueError(f"cannot read {path}: permission denied; ask its owner") from error
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is damaged: a JSON object was expected")
    return value


def sha256_of(path: Path) -> str:
    """Hash a file's bytes: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path, *, lock: str | None = None) -> int:
    """Remove temporary files that killed writers left below ``folder``; call it only under the folder's lock.

    Args:
        folder: of ours.
        lock: name of a lock file; a folder below that has one of its own is left to whoever holds it. None: none is.

    Returns:
        How many were removed.
    """
    stale = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if lock is None or not Path(place, name, lock).exists()]
        stale += [Path(place, name) for name in names if name.startswith(TEMPORARY_PREFIX)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
