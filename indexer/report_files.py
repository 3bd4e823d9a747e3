"""A report on disk: report.html to look at, report.json and queries.parquet to compute with."""

from __future__ import annotations

import io
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.files import read_json, sha256_of, write_bytes, write_json
from indexer.report_page import report_page
from indexer.report_pictures import Picture
from retrieval.errors import CatalogueError, DamagedError, InputError
from retrieval.machine import cores, processor, version
from retrieval.report import Report

PAGE: Final = "report.html"
VALUES: Final = "report.json"
QUERIES: Final = "queries.parquet"
_VERSIONS: Final = ("lookalike", "torch", "timm", "numpy", "scikit-learn", "openvino", "onnxruntime")


def about_run() -> dict[str, Any]:
    """Say what command ran, when, with which versions, on what machine."""
    name = Path(sys.argv[0]).name
    return {
        "command": shlex.join(["lookalike" if name.startswith("lookalike") else name, *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "versions": {name: installed for name in _VERSIONS if (installed := version(name))},
        "processor": processor(),
        "cores": cores(),
    }


def check_folder(folder: Path) -> None:
    """Raise before a long run where a report could not be written to a folder, or would overwrite other things."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a report is a folder; name another with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / VALUES).is_file():
        raise InputError(f"{folder} holds other things than a report; name a new folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogueError(f"cannot write {folder}: {error.strerror or error}") from error


def write_report(folder: Path, report: Report, queries: pa.Table, picture: Picture) -> None:
    """Write the three files of a report; report.json comes last and seals the others.

    Args:
        folder: made when it is not there; an older report in it is replaced.
        report: what was measured.
        queries: a row a query.
        picture: gives small pictures of images by id.

    Raises:
        CatalogueError: the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()
    pq.write_table(queries, buffer, compression="zstd")
    write_bytes(folder / QUERIES, buffer.getvalue())
    write_bytes(folder / PAGE, report_page(report, picture).encode())
    sealed = {"name": QUERIES, "sha256": sha256_of(folder / QUERIES)}
    write_json(folder / VALUES, {**report.to_dict(), "queries_file": sealed})


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
