"""What lies in a folder: the pictures, and everything else with the reason why it is none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from retrieval.errors import ImageError
from retrieval.formats import HEAD, sniff
from retrieval.sources import Root

IMAGE_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
) | {".avif", ".avifs"}
"""Files with these names are taken as pictures and looked at when they are read; of others, the first bytes decide."""
PARQUET_SUFFIXES: Final = frozenset({".parquet", ".pq"})
ASIDE: Final = ".lookalike-quarantine"
"""A hidden folder in which copies of the pictures beside it are set aside: ours, and no input."""
RUN: Final = re.compile(r"(\d{4,})-\d{8}T\d{6}Z")
"""Name of a folder of copies that one run has set aside, wherever that is: no input either."""
_OF_SOURCE: Final = re.compile(r"\d+-")


@dataclass
class Contents:
    """What a folder holds, all paths POSIX, relative to it and sorted.

    Attributes:
        images: files to decode.
        parquet: Parquet files.
        rejected: path and reason of everything else; a folder that is not entered is one entry.
        aside: whether copies of its pictures are set aside in it.
    """

    images: list[str] = field(default_factory=list)
    parquet: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    aside: bool = False


def look_into(folder: Path) -> Contents:
    """List a folder and the folders below it.

    Symlinked folders are not entered, so a loop ends where it begins; symlinks to files are taken when they end
    within ``folder``. Names that begin with a dot are hidden and not taken, nor is what was set aside (``RUN``);
    ``ASIDE`` is not even rejected.

    Args:
        folder: absolute.
    """
    contents = Contents()
    root = Root(folder)
    waiting = [""]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(f"{root.path}/{place}") as entries:
                for entry in entries:
                    path = place + entry.name
                    try:
                        _sort_in(entry, path, root, contents, waiting)
                    except ImageError as error:
                        contents.rejected.append((printable(path), str(error)))
                    except OSError as error:
                        contents.rejected.append((printable(path), _reason(error)))
        except OSError as error:
            contents.rejected.append((printable(place.rstrip("/")) or ".", f"a folder: {_reason(error)}"))
    contents.images.sort()
    contents.parquet.sort()
    contents.rejected.sort()
    return contents


def printable(name: str) -> str:
    """Write a file name as text: bytes that are no UTF-8 become ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _sort_in(entry: os.DirEntry[str], path: str, root: Root, contents: Contents, waiting: list[str]) -> None:
    """Put one entry where it belongs; raises ImageError or OSError with the reason why it is no picture."""
    is_folder = entry.is_dir(follow_symlinks=False)
    if is_folder and entry.name == ASIDE:
        contents.aside = True
        return
    if is_folder and _is_run(entry):
        raise ImageError("a folder of copies that were set aside")
    if entry.name.startswith("."):
        raise ImageError("a hidden folder" if is_folder else "a hidden file")
    if is_folder:
        waiting.append(path + "/")
        return
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        raise ImageError("the file name is not UTF-8; rename the file") from None
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ImageError("the name of a folder above it is not UTF-8; rename the folder") from None
    if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
        if entry.is_symlink() and entry.is_dir():
            raise ImageError("a symlinked folder, which is not followed")
        try:
            root.file(path)
        except ImageError as error:
            raise ImageError("a symlink to nothing" if str(error) == "no such file" else str(error)) from error
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a Path for each of a million files costs seconds
    if suffix in IMAGE_SUFFIXES:
        contents.images.append(path)
    elif suffix in PARQUET_SUFFIXES:
        contents.parquet.append(path)
    else:
        with Path(f"{root.path}/{path}").open("rb") as file:
            sniff(file.read(HEAD))
        contents.images.append(path)


def _is_run(entry: os.DirEntry[str]) -> bool:
    if RUN.fullmatch(entry.name) is None:
        return False
    with os.scandir(entry) as inside:  # a folder of each source
        return all(_OF_SOURCE.match(one.name) and one.is_dir(follow_symlinks=False) for one in inside)


def _reason(error: OSError) -> str:
    return "permission denied" if isinstance(error, PermissionError) else (error.strerror or str(error)).lower()
