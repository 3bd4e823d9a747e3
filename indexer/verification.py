"""Verify: read a catalogue whole and say what is not as it was written."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.calibrating import calibration_of
from indexer.catalogue import Catalogue
from indexer.embeds import digest_of
from indexer.files import read_json, sha256_of
from indexer.view import VIEW_FILE
from retrieval.errors import DamagedError, ImageError
from retrieval.sources import ImageSource

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        where: a path or an id.
        what: one clause.
        remedy: what to do.
        fatal: whether an item or the embedder is lost, rather than work that can be done again.
    """

    where: str
    what: str
    remedy: str
    fatal: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return {"where": self.where, "what": self.what, "remedy": self.remedy, "fatal": self.fatal}


def verify(
    catalogue: Catalogue,
    *,
    sources: bool = False,
    repair: bool = False,
    progress: Callable[[int, int, int], object] = lambda done, total, rejected: None,
) -> list[Problem]:
    """Check items, embedder, vectors and stored view, and on request every source image.

    Args:
        catalogue: to check.
        sources: read every image again and compare its SHA-256.
        repair: move damaged vector files and a damaged view aside, so that the next ``index`` makes them anew.
        progress: called with images done, images in all and problems so far, while sources are read.

    Returns:
        The problems; empty when all is well.
    """
    # Whoever repairs must not move aside what a writer is just making.
    with catalogue.writing() if repair else contextlib.nullcontext():
        problems = _embedder(catalogue)
        damaged = catalogue.vectors.verify()
        for part, what in damaged:
            problems.append(Problem(str(part), what, "lookalike verify --repair, then index the sources again"))
        view_problems = _view(catalogue)
        problems += view_problems
        problems += _calibration(catalogue)
        try:
            problems += _items(catalogue)
            if not damaged:
                problems += _coverage(catalogue)
            if sources:
                problems += _sources(catalogue, progress)
        except DamagedError as error:
            what = "cannot be read whole: " + str(error).split(": ", 1)[-1]
            problems.append(Problem("items", what, "restore the file, or roll back to an earlier version", fatal=True))
        if repair:
            for part, _ in damaged:
                part.rename(part.with_suffix(DAMAGED_SUFFIX))
            if view_problems:
                stored = catalogue.path / "index" / catalogue.digest / VIEW_FILE
                stored.rename(stored.with_suffix(DAMAGED_SUFFIX))
    return problems


def _items(catalogue: Catalogue) -> list[Problem]:
    items = catalogue.items()
    problems = []
    for name in ("row", "id"):
        column = items.column(name)
        if pc.count_distinct(column).as_py() != len(column):
            problems.append(
                Problem("items", f"two items share a {name}", "roll back to an earlier version", fatal=True)
            )
    lengths = pc.unique(pc.binary_length(items.column("sha256"))).to_pylist()
    if lengths not in ([], [32]):
        problems.append(
            Problem("items", "a sha256 is not 32 bytes long", "roll back to an earlier version", fatal=True)
        )
    return problems


def _embedder(catalogue: Catalogue) -> list[Problem]:
    folder = catalogue.path / "embedder" / catalogue.digest
    try:
        digest = digest_of(folder)
    except OSError as error:
        return [Problem(str(folder), f"cannot be read: {error.strerror}", "restore it from a copy", fatal=True)]
    if digest != catalogue.digest:
        return [Problem(str(folder), "is not the embedder that was saved", "restore it from a copy", fatal=True)]
    return []


def _calibration(catalogue: Catalogue) -> list[Problem]:
    try:
        calibration_of(catalogue)
    except DamagedError as error:
        what, _, remedy = str(error).partition("; ")
        return [Problem("calibration", what, remedy)]
    return []


def _view(catalogue: Catalogue) -> list[Problem]:
    folder = catalogue.path / "index" / catalogue.digest
    if not (folder / VIEW_FILE).exists():
        return []
    try:
        for name, sha256 in dict(read_json(folder / VIEW_FILE)["sha256"]).items():
            if sha256_of(folder / name) != sha256:
                raise DamagedError(f"{name} is not the file that was written")
    except (DamagedError, OSError, KeyError, TypeError, ValueError) as error:
        return [Problem(str(folder), str(error), "lookalike verify --repair; it is built again when it is needed")]
    return []


def _coverage(catalogue: Catalogue) -> list[Problem]:
    keys = catalogue.vectors.keys()
    items = catalogue.items(["id", "sha256"])
    lost = [
        id
        for id, sha256 in zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True)
        if sha256 not in keys
    ]
    if not lost:
        return []
    return [Problem("vectors", f"{len(lost)} items have no vector (first: {lost[0]!r})", "index their sources again")]


def _sources(catalogue: Catalogue, progress: Callable[[int, int, int], object]) -> list[Problem]:
    items = catalogue.items(["id", "uri", "source", "sha256"])
    problems: list[Problem] = []
    done = 0
    for root in pc.unique(items.column("source")).to_pylist():
        mine = items.filter(pc.equal(items.column("source"), pa.scalar(root, pa.string())))
        with ImageSource(Path(root)) as source:
            reads = source.read_many(mine.column("uri").to_pylist())
            for id, sha256, data in zip(
                mine.column("id").to_pylist(), mine.column("sha256").to_pylist(), reads, strict=True
            ):
                if isinstance(data, ImageError):
                    problems.append(Problem(id, str(data), f"bring the file back to {root}, or index the source again"))
                elif hashlib.sha256(data).digest() != sha256:
                    problems.append(Problem(id, "has changed since it was indexed", f"index {root} again"))
                done += 1
                progress(done, items.num_rows, len(problems))
    return problems
