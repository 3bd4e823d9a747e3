"""A report on disk: report.html to look at, report.json and queries.parquet to compute with."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.files import TEMPORARY_PREFIX, atomic_write, read_json, sha256_of
from indexer.place import looking
from indexer.report_page import report_page
from indexer.report_pictures import Picture
from retrieval.errors import CatalogueError, DamagedError, InputError
from retrieval.machine import cores, processor, version
from retrieval.model_card import name_of
from retrieval.report import NON_STANDARD, Report

PAGE: Final = "report.html"
VALUES: Final = "report.json"
QUERIES: Final = "queries.parquet"
_VERSIONS: Final = ("lookalike", "torch", "timm", "numpy", "scikit-learn", "openvino", "onnxruntime")


def about_run() -> dict[str, Any]:
    """Say what command ran, when, with which versions, on what machine."""
    return {
        "command": shlex.join(["lookalike", *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "versions": {name: installed for name in _VERSIONS if (installed := version(name))},
        "processor": processor(),
        "cores": cores(),
    }


def check_folder(folder: Path, *, title: str | None = None, digest: str | None = None) -> None:
    """Raise before a long run where a report could not be written to a folder, or would overwrite other things.

    Args:
        folder: for the report.
        title: of it; None where that is not known yet. A report of another title is not overwritten.
        digest: of the embedder; None likewise.

    Raises:
        InputError: there is something else in the folder, or another experiment's report.
        CatalogueError: it cannot be written.
    """
    with looking(folder):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, and a report is a folder; name another with --out")
        inside = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if VALUES in inside:
        foreign = not _is_report(folder / VALUES)
    else:  # or what a writer that was killed has left
        foreign = any(name not in (PAGE, QUERIES) and not name.startswith(TEMPORARY_PREFIX) for name in inside)
    if foreign:
        raise InputError(f"{folder} holds other things than a report; name a new folder with --out")
    if VALUES in inside and title is not None:
        values = read_json(folder / VALUES)
        old, by = str(values.get("title")), values.get("embedder", {})
        if old.removesuffix(NON_STANDARD) != title or by.get("digest") != digest:
            raise InputError(
                f"{folder} holds the report of {old} by {name_of(by)}, digest {str(by.get('digest'))[:12]}; "
                "name another folder with --out, or remove that one"
            )
    if not nearest.is_dir():
        raise CatalogueError(f"cannot write {folder}: {nearest} is a file; name another folder with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CatalogueError(f"cannot write {folder}: {nearest} may not be written; name another folder with --out")


def _is_report(path: Path) -> bool:
    try:
        return {"format", "title", "queries_file"} <= read_json(path).keys()
    except DamagedError:
        return False


def write_report(folder: Path, report: Report, queries: pa.Table, picture: Picture) -> None:
    """Write the three files of a report, all or none; report.json comes last and says which queries it was made of.

    Args:
        folder: made when it is not there; an older report in it is replaced, and kept when this one cannot be written.
        report: what was measured.
        queries: a row a query.
        picture: gives small pictures of images by id.

    Raises:
        CatalogueError: the disk is full or the folder cannot be written.
    """
    write_sealed(folder, report.to_dict(), report_page(report, picture), queries)


def write_sealed(folder: Path, values: dict[str, Any], page: str, queries: pa.Table) -> None:
    """Do what ``write_report`` does with any report's values and page."""
    buffer = io.BytesIO()
    pq.write_table(queries, buffer, compression="zstd")
    rows = buffer.getvalue()
    sealed = {"name": QUERIES, "sha256": hashlib.sha256(rows).hexdigest()}
    whole = {**values, "queries_file": sealed}
    contents = {
        VALUES: (json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        PAGE: page.encode(),
        QUERIES: rows,
    }
    with contextlib.ExitStack() as files:
        for name, data in contents.items():
            file = files.enter_context(atomic_write(folder / name))
            file.write(data)
            # All must be on the disk before the first takes its place: they do so at the end, in reverse.
            file.flush()
            os.fsync(file.fileno())


def read_report(path: Path) -> tuple[Report, pa.Table]:
    """Read a report.

    Args:
        path: of report.json, or of the folder it is in.

    Raises:
        InputError: there is none, or it is another kind of file.
        DamagedError: the queries beside it are missing, or are not those it was written with.
    """
    if path.is_dir():
        path = path / VALUES
    if not path.is_file():
        raise InputError(f"there is no report {path}; lookalike evaluate ... --out DIR writes one")
    try:
        values = read_json(path)
    except DamagedError as error:
        raise InputError(f"{path} is no report of lookalike evaluate") from error
    try:
        report = Report.from_dict(values)
    except InputError as error:
        raise InputError(f"{path} is {error}") from error
    beside = path.parent / QUERIES
    sealed = values.get("queries_file")
    if not isinstance(sealed, dict) or not beside.is_file():
        raise DamagedError(f"{beside} is missing; copy it together with {path.name}")
    if sha256_of(beside) != sealed.get("sha256"):
        raise DamagedError(f"{beside} is not the file that {path.name} was written with; evaluate again")
    return report, pq.read_table(beside)
