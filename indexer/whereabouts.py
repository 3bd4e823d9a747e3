"""Where files stand and where they are to stand: plain paths that no symlink leads to, and folders for them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from indexer.files import sync_folder
from indexer.moving import Hindrance, hindrances, state_of
from retrieval.sources import Root


def plain_file(root: str, relative: str) -> Path:
    """The path of a regular file that is there and that no symlink leads to.

    Args:
        root: absolute and free of symlinks.
        relative: POSIX, relative to it.

    Raises:
        Hindrance: there is no such file.
    """
    with hindrances():
        real = Root(Path(root)).file(relative)
    if Path(real) != Path(root, relative) or ".." in relative.split("/"):
        raise Hindrance("a symlink leads to it, and symlinks are not followed")
    return Path(real)


def place_for(root: str, relative: str) -> Path:
    """The path of a file that may be gone, with its folder as well, if no symlink leads there.

    Args:
        root: absolute and free of symlinks.
        relative: POSIX, relative to it.

    Raises:
        Hindrance: there is no such place.
    """
    place = Path(root, relative)
    with hindrances():
        there = state_of(Path(root))
        if there is None:
            raise Hindrance(f"{root} is not there; try again once it is")
        if not stat.S_ISDIR(there.st_mode):
            raise Hindrance(f"{root} is no folder")
        if ".." in relative.split("/") or not place.is_relative_to(root):
            raise Hindrance("it would lie outside its source")
        if Path(os.path.realpath(place.parent)) != place.parent:
            raise Hindrance("a symlink leads to its place, and symlinks are not followed")
    return place


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing, each of them known to be on disk when this returns.

    Returns:
        Those that were made, the lowest first.

    Raises:
        OSError: it cannot be made; none of them is left.
    """
    missing = []
    while state_of(folder) is None:
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    try:
        for one in reversed(missing):
            one.mkdir()
            made.insert(0, one)
            with contextlib.suppress(PermissionError):  # a folder that may be written but not read
                sync_folder(one.parent)
    except OSError:
        for one in made:
            with contextlib.suppress(OSError):  # somebody has put something into it
                one.rmdir()
        raise
    return made


def tidy(folder: Path, made: Collection[Path]) -> None:
    """Take away the folders below one, it, and those of ``made`` above, if empty; none where a symlink leads to it."""
    if Path(os.path.realpath(folder)) != folder:
        return
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # something is left in it
            Path(place).rmdir()
    with contextlib.suppress(OSError):
        for above in folder.parents:
            if above not in made:
                break
            above.rmdir()
