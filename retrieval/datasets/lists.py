"""Official lists read with distrust: text, and which images a folder holds.

Whatever is wrong with a file ends as a ProtocolError that names it and, in a text, the line. Names that lead out of the
root are refused before anything is opened.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from retrieval.datasets.protocol import SPLIT_SCHEMA, Part, Reading
from retrieval.errors import ProtocolError
from retrieval.folders import look_into

MAX_TEXT_BYTES: Final = 512 * 2**20
"""Of a text; the largest official one, the annotations of iNaturalist's training images, has some 130 MiB."""


class Row(NamedTuple):
    """An image that a list names.

    Attributes:
        id: its official name.
        file: POSIX, relative to the root.
        label: its class, coarser classes first.
        part: one of ``retrieval.datasets.protocol.PARTS``.
        box: x, y, width and height to cut to, in pixels from 0; None leaves the image whole.
    """

    id: str
    file: str
    label: str
    part: str
    box: tuple[int, int, int, int] | None = None


def find(root: Path, layout: str, *places: str) -> Path:
    """Find a list, or a folder, in the places where it is usual.

    Args:
        root: of the data set.
        layout: the sentence that says what the root must hold.
        places: POSIX, relative to the root, the official one first.

    Raises:
        ProtocolError: it is in none of them.
    """
    for place in places:
        if os.path.exists(root / place):  # noqa: PTH110 - false, not an error, for a name that no system can have
            return root / place
    raise ProtocolError(f"{root} has no {places[0]}. {layout}")


def folder_of(path: Path, root: Path) -> str:
    """Give the folder of a list that ``find`` found, POSIX, relative to the root; "" or with a slash at its end.

    Args:
        path: of the list.
        root: of the data set.
    """
    folder = path.parent.relative_to(root).as_posix()
    return "" if folder == "." else f"{folder}/"


def refuse_boxes(boxes: bool, title: str) -> None:
    """Refuse to cut the images of a data set that has no annotated boxes.

    Args:
        boxes: what is asked for.
        title: of the data set.

    Raises:
        ProtocolError: boxes are asked for.
    """
    if boxes:
        raise ProtocolError(f"{title} has no annotated boxes to cut to; run without them")


def lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a list, with their numbers from 1, without the empty ones and the space around them.

    Args:
        path: of the list; UTF-8.

    Raises:
        ProtocolError: it cannot be read, is too large, is not UTF-8, or is empty.
    """
    numbered = enumerate(text(path).split("\n"), 1)
    found = [(number, stripped) for number, line in numbered if (stripped := line.strip())]
    if not found:
        raise ProtocolError(f"{path} is empty; get it anew from the data set's source")
    return found


def matches(
    path: Path, pattern: re.Pattern[str], form: str, *, header: re.Pattern[str] | None = None
) -> Iterator[tuple[int, re.Match[str]]]:
    """Read a list each line of which has the same form.

    Args:
        path: of the list.
        pattern: what a whole line matches.
        form: the same for people: ``image id, class id``.
        header: what the lines before the first of that form match; None where there are none.

    Raises:
        ProtocolError: a line has another form, or ``lines`` raises it.
    """
    begun = header is None
    for number, line in lines(path):
        match = pattern.fullmatch(line)
        if match is None:
            if begun or header is None or not header.fullmatch(line):
                raise damaged(path, number, f"is not `{form}`")
            continue
        begun = True
        yield number, match


@dataclass(frozen=True)
class Listing:
    """A list whose lines are found by their first group.

    Attributes:
        path: of the list.
        found: first group → number of the line, and the line, in the order of the list.
    """

    path: Path
    found: dict[str, tuple[int, re.Match[str]]]

    def of(self, key: str) -> tuple[int, re.Match[str]]:
        """Find a line; its number and the line itself.

        Args:
            key: its first group.

        Raises:
            ProtocolError: there is none.
        """
        if key not in self.found:
            raise ProtocolError(f"{self.path} has no line for {key[:80]!r}; get it anew from the data set's source")
        return self.found[key]

    def box(self, key: str) -> tuple[int, int, int, int]:
        """Take the corners of a line, its groups after the first, as x, y, width and height, counted from 0.

        Args:
            key: its first group.

        Raises:
            ProtocolError: there is none, or the box is empty.
        """
        number, corners = self.of(key)
        left, top, right, bottom = map(int, corners.groups()[1:])
        return box_between(left, top, right, bottom, self.path, number)


def listing(path: Path, pattern: re.Pattern[str], form: str, *, header: re.Pattern[str] | None = None) -> Listing:
    """Read a list in which no two lines have the same first group.

    Args:
        path: of the list.
        pattern: as for ``matches``.
        form: as for ``matches``.
        header: as for ``matches``.

    Raises:
        ProtocolError: two have, or ``matches`` raises it.
    """
    found: dict[str, tuple[int, re.Match[str]]] = {}
    for number, match in matches(path, pattern, form, header=header):
        if match[1] in found:
            raise damaged(path, number, f"names {match[1][:80]!r} again")
        found[match[1]] = number, match
    return Listing(path, found)


def text(path: Path) -> str:
    """Read a text.

    Args:
        path: of the file; UTF-8, with or without a byte order mark.

    Raises:
        ProtocolError: it cannot be read, is too large, or is not UTF-8.
    """
    data = bounded(path, MAX_TEXT_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(path, data.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error


def damaged(path: Path, number: int, reason: str) -> ProtocolError:
    """Word what is wrong with a line.

    Args:
        path: of the list.
        number: of the line, from 1.
        reason: a predicate: "is not UTF-8".
    """
    return ProtocolError(f"line {number} of {path} {reason}; get the list anew from the data set's source")


def inside(name: str, path: Path, number: int) -> str:
    """Make a name that a list gives POSIX and free of dots, or refuse it.

    Args:
        name: of a file, relative to the folder that the list means.
        path: of the list.
        number: of the line, or entry, from 1.

    Raises:
        ProtocolError: it is absolute, climbs with ``..``, or is no name.
    """
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or ":" in parts[0] or "\0" in name:
        raise damaged(path, number, f"names a file outside the root, {name[:80]!r}")
    kept = [part for part in parts if part not in ("", ".")]
    if not kept:
        raise damaged(path, number, "names no file")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise damaged(path, number, "names a file by what is no text") from error
    return "/".join(kept)


def segment(name: str) -> str:
    """Make a class's name one step of a label's path: ``F/A-18`` becomes ``F-A-18``.

    Args:
        name: as the list has it.
    """
    return name.strip().replace("/", "-")


def image_files(root: Path, folder: str) -> set[str]:
    """List the images in a folder and the folders below it, POSIX, relative to the root.

    Hidden files and symlinked folders are not taken; a file with the name of an image that cannot be one, such as a
    symlink out of the folder, is not there.

    Args:
        root: of the data set.
        folder: POSIX, relative to the root; "" is the root. One that is not there holds nothing.
    """
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    return {prefix + name for name in look_into((root / folder).absolute()).images}


def reading(
    rows: Sequence[Row], root: Path, folders: Iterable[str], *, also: Iterable[str] = (), source: Path | None = None
) -> Reading:
    """Compare what the lists name with what the folders hold, and make the table of it.

    Args:
        rows: in the order of the lists.
        root: of the data set.
        folders: where its images lie, POSIX, relative to the root.
        also: files that the lists name and that are in no part of this task.
        source: the list, for the error.

    Raises:
        ProtocolError: a list names an image twice in one part, or a box holds nothing.
    """
    there: set[str] = set()
    for folder in folders:
        there |= image_files(root, folder)
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.part, row.id) in seen:
            raise ProtocolError(
                f"{source or root} lists {row.id!r} twice in {row.part}; get the list anew from the data set's source"
            )
        seen.add((row.part, row.id))
        if row.box is not None and min(row.box[2:]) < 1:
            raise ProtocolError(f"the annotated box of {row.id!r} under {root} is empty")
    kept = [row for row in rows if row.file in there]
    named = {row.file for row in rows} | set(also)
    table = pa.table(
        [
            pa.array([row.id for row in kept], pa.string()),
            pa.array([row.file + fragment(row.box) for row in kept], pa.string()),
            pa.array([row.label for row in kept], pa.string()),
            pa.array([row.part for row in kept], pa.string()),
        ],
        schema=SPLIT_SCHEMA,
    )
    return Reading(table, missing=sorted(named - there), extra=sorted(there - named))


def halves(classes: Iterable[str]) -> dict[str, Part]:
    """Split sorted classes for search among unseen ones: the first half trains, the second is searched.

    Args:
        classes: as the data set sorts them, by name or by number with leading zeros; repeated ones count once.
    """
    ordered = sorted(set(classes))
    return {name: "train" if place < len(ordered) // 2 else "test" for place, name in enumerate(ordered)}


def fragment(box: tuple[int, int, int, int] | None) -> str:
    """Write a box as the end of a uri: ``#xywh=10,20,300,200``; nothing for None.

    Args:
        box: x, y, width and height, in pixels from 0.
    """
    return "" if box is None else "#xywh={},{},{},{}".format(*box)


def box_between(
    left: float, top: float, right: float, bottom: float, path: Path, number: int, *, first: int = 1
) -> tuple[int, int, int, int]:
    """Make a box of its outermost pixels, which belong to it.

    Args:
        left: column.
        top: row.
        right: column.
        bottom: row.
        path: of the list, for the error.
        number: of its line.
        first: what the first pixel is counted as: 1 in MATLAB.

    Raises:
        ProtocolError: it is empty.
    """
    if right < left or bottom < top:
        raise damaged(path, number, "has an empty box")
    x, y = max(0, math.floor(left) - first), max(0, math.floor(top) - first)
    return x, y, math.ceil(right) - first + 1 - x, math.ceil(bottom) - first + 1 - y


def bounded(path: Path, limit: int) -> bytes:
    """Read a file that has no more than ``limit`` bytes; raises ProtocolError."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ProtocolError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > limit:
        raise ProtocolError(f"{path} is larger than {limit / 2**20:,.0f} MiB, which no official list is")
    return data
