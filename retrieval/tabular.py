"""CSV, TSV and Parquet files → a listing: the user's columns, typed, and where each row's image is.

Image bytes inside Parquet are not read here, only pointed at.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from retrieval.columns import Columns, Roles, assign_roles, find_image, holds_bytes, read_types
from retrieval.errors import ManifestError
from retrieval.sources import parquet_uri

_BLOCK_BYTES: Final = 32 * 2**20
"""One CSV record must fit in it."""


@dataclass(frozen=True)
class Listing:
    """What a list of images says, a row an image; nothing is checked yet.

    Attributes:
        table: the user's columns, without image bytes. Text of a CSV is typed; the columns of ``roles`` are not.
        roles: which column is which.
        places: of each row, the uri of bytes inside Parquet; None where ``paths`` counts.
        paths: of each row, the path as it is written; None: the row has no image.
        files: name of each file and the first row of ``table`` that it gave.
        rejected: place and reason of lines and columns that did not come along.
    """

    table: pa.Table
    roles: Roles
    places: Sequence[str | None]
    paths: Sequence[str | None]
    files: Sequence[tuple[str, int]]
    rejected: Sequence[tuple[str, str]]

    def origin(self, row: int) -> str:
        """Say where a row of ``table`` came from: ``list.csv#row=3``, counted from 0."""
        name, first = self.files[bisect_right(self.files, row, key=lambda file: file[1]) - 1]
        return parquet_uri(name, row - first)


def read_csv(path: Path, columns: Columns) -> Listing:
    """Read a CSV or TSV file (RFC 4180, UTF-8, names in the first line).

    A ``.csv`` whose first line has no comma may be separated by semicolons or tabs. Empty values are null; lines
    with too many or too few values are rejected. Types are those of ``retrieval.columns.read_types``.

    Args:
        path: ends in ``.csv`` or ``.tsv``.
        columns: what the caller named.

    Raises:
        ManifestError: it is empty, no UTF-8, no CSV, or has no column for the image.
    """
    names, delimiter, blank = _read_header(path)
    roles = assign_roles(pa.schema([(name, pa.string()) for name in names]), columns, str(path))
    rejected: list[tuple[str, str]] = []

    def on_ragged(row: pacsv.InvalidRow) -> str:
        # Counted without blank lines, the names being the first.
        record = "" if row.number is None else f"#record={row.number}"
        reason = f"{row.actual_columns} values where the first line names {row.expected_columns}"
        rejected.append((f"{path.name}{record}", reason))
        return "skip"

    with _manifest_errors(path, "CSV"):
        table = pacsv.read_csv(
            path,
            # Without threads, so that refused lines have their numbers.
            read_options=pacsv.ReadOptions(
                column_names=names,
                skip_rows=blank,
                skip_rows_after_names=1,
                use_threads=False,
                block_size=_BLOCK_BYTES,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names}, null_values=[""], strings_can_be_null=True
            ),
        )
    _check_quotes(path, delimiter)
    if table.num_rows == 0 and not rejected:
        raise ManifestError(f"{path} has a first line but no rows")
    meant = {roles.image, roles.id, roles.label, roles.split}
    for place, name in enumerate(names):
        if name not in meant:
            table = table.set_column(place, name, read_types(table.column(place)))
    paths = table.column(roles.image).to_pylist()
    return Listing(table, roles, [None] * len(paths), paths, [(path.name, 0)], rejected)


def read_parquet(files: Sequence[tuple[str, Path]], columns: Columns) -> Listing:
    """Read Parquet files of one schema, or of schemas that can be joined.

    Args:
        files: the uri that each file has, relative to the root, and its place.
        columns: what the caller named.

    Raises:
        ManifestError: one cannot be read, the schemas do not agree, there is no row, or no column for the image.
    """
    schemas = []
    for _, path in files:
        with _manifest_errors(path, "Parquet"):
            schemas.append(pq.read_schema(path))
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive").with_metadata(schemas[0].metadata)
    except pa.ArrowException as error:
        raise ManifestError(f"the Parquet files around {files[0][1]} do not have the same columns: {error}") from error
    roles = assign_roles(schema, columns, str(files[0][1]))
    left_out = [field for field in schema if field.name != roles.image and holds_bytes(field.type)]
    rejected = [
        (f"{files[0][0]}#column={field.name}", f"a column of {field.type}, which does not come along")
        for field in left_out
    ]
    drop = {field.name for field in left_out} | ({roles.image} if roles.leaf else set())
    column = None if roles.image == find_image(schema) else roles.image
    tables: list[pa.Table] = []
    places: list[str | None] = []
    paths: list[str | None] = []
    starts: list[tuple[str, int]] = []
    for (uri, path), own in zip(files, schemas, strict=True):
        starts.append((uri, len(paths)))
        with _manifest_errors(path, "Parquet"), pq.ParquetFile(path) as file:
            wanted = [name for name in own.names if name not in drop]
            table = file.read(columns=wanted).select(wanted)
            tables.append(table)
            if roles.image not in own.names:
                places += [None] * table.num_rows
                paths += [None] * table.num_rows
                continue
            if roles.leaf is None:
                places += [None] * table.num_rows
                paths += table.column(roles.image).cast(pa.string()).to_pylist()
                continue
            missing = _rows_without_bytes(file, roles)
            places += [None if row in missing else parquet_uri(uri, row, column) for row in range(table.num_rows)]
            paths += [missing.get(row) for row in range(table.num_rows)]
    if not paths:
        raise ManifestError(f"{files[0][1]} has no rows")
    table = pa.concat_tables(tables, promote_options="permissive")
    return Listing(table.replace_schema_metadata(schema.metadata), roles, places, paths, starts, rejected)


def _rows_without_bytes(file: pq.ParquetFile, roles: Roles) -> dict[int, str | None]:
    """Find the rows whose image bytes are null, each with its path where a Hugging Face struct has one.

    The file's statistics answer for most files; only parts with nulls are streamed, in small batches.
    """
    assert roles.leaf is not None
    missing: dict[int, str | None] = {}
    start = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        leaves = [group.column(place) for place in range(group.num_columns)]
        about = next((leaf.statistics for leaf in leaves if leaf.path_in_schema == roles.leaf), None)
        if about is None or not about.has_null_count or about.null_count:
            has_path = any(leaf.path_in_schema == f"{roles.image}.path" for leaf in leaves)
            wanted = [roles.leaf, f"{roles.image}.path"] if has_path else [roles.leaf]
            row = start
            for batch in file.iter_batches(batch_size=64, row_groups=[number], columns=wanted, use_threads=False):
                values = batch.column(0)
                for place in range(len(values)):
                    value = values[place]
                    inside = value.is_valid and (not pa.types.is_struct(value.type) or value["bytes"].is_valid)
                    if not inside:
                        path = value["path"].as_py() if has_path and value.is_valid else None
                        missing[row + place] = None if path is None else str(path)
                row += len(values)
        start += group.num_rows
    return missing


def _read_header(path: Path) -> tuple[list[str], str, int]:
    """Read the names in the first line, what separates them, and how many blank lines stand before it.

    Empty names become ``column_1`` and so on.
    """
    with _manifest_errors(path, "CSV"):
        with path.open("rb") as raw:
            head = raw.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ManifestError(f"{path} is UTF-16, not UTF-8; save it as UTF-8 and run again")
        names: list[str] = []
        used, blank = ",", 0
        for delimiter in ("\t",) if path.suffix.lower() == ".tsv" else (",", ";", "\t"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                before = 0
                for found in csv.reader(file, delimiter=delimiter):
                    if found:
                        break
                    before += 1
                else:
                    raise ManifestError(f"{path} is empty")
            if not names or len(found) > len(names) == 1:
                names, used, blank = found, delimiter, before
    return [name or f"column_{place}" for place, name in enumerate(names, 1)], used, blank


def _check_quotes(path: Path, delimiter: str) -> None:
    """Refuse a file in which a quote is never closed: the rest of its lines would be one value, and no row."""
    with _manifest_errors(path, "CSV"):
        with path.open("rb") as raw:
            if sum(block.count(b'"') for block in iter(lambda: raw.read(_BLOCK_BYTES), b"")) % 2 == 0:
                return
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            line = 1
            try:
                for _ in reader:
                    line = reader.line_num + 1
            except csv.Error as error:
                if "unexpected end" in str(error) or "field limit" in str(error):
                    raise ManifestError(
                        f"a quote in line {line} of {path} or below is never closed; close it and run again"
                    ) from error


@contextmanager
def _manifest_errors(path: Path, kind: str) -> Iterator[None]:
    """Say what the system and Arrow raise in one sentence with the file's name."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except (pa.ArrowException, csv.Error, ValueError) as error:
        if "UTF8" in str(error):
            raise _not_utf8(path) from error
        raise ManifestError(f"cannot read {path} as {kind}: {' '.join(str(error).split())[:300]}") from error
    except OSError as error:
        text = error.strerror or " ".join(str(error).split())[:300]
        raise ManifestError(f"cannot read {path}: {text}") from error


def _not_utf8(path: Path) -> ManifestError:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return ManifestError(f"line {number} of {path} is not UTF-8; save the file as UTF-8 and run again")
    return ManifestError(f"{path} is not UTF-8; save it as UTF-8 and run again")
