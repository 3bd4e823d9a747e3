"""Tables with a history: the items, which are the truth, and the rejected inputs.

The only door to deltalake. A ``VersionedTable`` is a Delta table of which every write is one atomic commit;
a version of the items table names a state of the whole catalogue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from retrieval.errors import BusyError, CatalogueError, DamagedError, InputError, LookalikeError, NotFoundError

ITEMS_SCHEMA: Final = pa.schema(
    [
        # given once, never used again: the id inside an index
        pa.field("row", pa.int64(), nullable=False),
        # the user's key, else the path relative to the source; unique
        pa.field("id", pa.string(), nullable=False),
        # POSIX path relative to `source`, or `file.parquet#row=N`
        pa.field("uri", pa.string(), nullable=False),
        # absolute POSIX path of the folder the item was read from
        pa.field("source", pa.string(), nullable=False),
        # of the image's bytes, 32 bytes: the key of its vector
        pa.field("sha256", pa.binary(), nullable=False),
        # pixels, after EXIF orientation
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        # a path whose parents are the coarser labels; null: unlabelled
        pa.field("label", pa.string()),
    ]
)
"""An image a row; the user's own columns follow, typed as they came."""

CORRECTED_FROM: Final = "corrected_from"
"""A column that the first correction of a label adds: the label that the source gives, "" for none, where a correction
took its place; null: none did."""

DUPLICATE_OF: Final = "duplicate_of"
"""A column that indexing with copies flagged adds: the id of the item that this one is a copy of; null: of none."""

REJECTED_SCHEMA: Final = pa.schema(
    [
        # absolute POSIX path of the folder that uris are relative to
        pa.field("source", pa.string(), nullable=False),
        # absolute POSIX path of the folder or list that named the input
        pa.field("listing", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        # one clause: why this input is no item
        pa.field("reason", pa.string(), nullable=False),
        pa.field("when", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""An input a row that did not become an item; a later run over the same listing that accepts it removes the row."""

# Old versions stay readable until the user removes them, not until a clock runs out.
_CONFIGURATION: Final[dict[str, str | None]] = {"delta.logRetentionDuration": "interval 36500 days"}
_METADATA_PREFIX: Final = "lookalike."


class VersionedTable:
    """A Delta table of which every write is one commit with metadata of ours."""

    def __init__(self, path: Path, table: DeltaTable) -> None:
        self.path = path
        self._table = table

    @classmethod
    def create(cls, path: Path, schema: pa.Schema, metadata: Mapping[str, str]) -> VersionedTable:
        """Create an empty table whose version 0 carries ``metadata``."""
        with _delta_errors(path):
            table = DeltaTable.create(
                str(path),
                schema,
                configuration=_CONFIGURATION,
                commit_properties=_properties(metadata),
            )
        return cls(path, table)

    @classmethod
    def open(cls, path: Path, *, version: int | None = None) -> VersionedTable:
        """Open a table, at its newest or at an earlier version.

        Raises:
            NotFoundError: there is no such version.
            DamagedError: there is no table, or its log cannot be read.
        """
        with _delta_errors(path):
            newest = DeltaTable(str(path))
            if version is None or version == newest.version():
                return cls(path, newest)
            if not 0 <= version < newest.version():
                raise NotFoundError(f"{path} has no version {version}: they go from 0 to {newest.version()}")
            return cls(path, DeltaTable(str(path), version=version))

    @property
    def version(self) -> int:
        """The version that this object shows."""
        return int(self._table.version())

    def superseded(self) -> bool:
        """Whether there is a newer version, told from the file that begins it: a look costs microseconds."""
        return (self.path / "_delta_log" / f"{self.version + 1:020d}.json").exists()

    def schema(self) -> pa.Schema:
        """The columns and their types."""
        with _delta_errors(self.path):
            return pa.schema(self._table.schema().to_arrow())

    def metadata(self) -> dict[str, str]:
        """What the commit of this version was written with, without the prefix of its keys."""
        with _delta_errors(self.path):
            newest = DeltaTable(str(self.path))
            # An object at an earlier version numbers the commits wrongly (deltalake 1.6), so the newest is asked.
            commits = newest.history(1 + newest.version() - self.version)
        return _own_metadata(next(commit for commit in commits if commit["version"] == self.version))

    def history(self) -> list[dict[str, Any]]:
        """Describe the versions, newest first: version, timestamp (ms since 1970), operation, metadata."""
        with _delta_errors(self.path):
            commits = DeltaTable(str(self.path)).history()
        return [
            {
                "version": int(commit["version"]),
                "timestamp": int(commit["timestamp"]),
                "operation": str(commit["operation"]),
                "metadata": _own_metadata(commit),
            }
            for commit in commits
        ]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read this version whole, or some of its columns; the order of the rows is not fixed.

        Raises:
            DamagedError: a file of the table is missing or cut.
        """
        with _delta_errors(self.path):
            # Through Arrow's own file system: with deltalake's, threads of Arrow still hold Python objects when the
            # interpreter ends, and about one process in ten aborts.
            table = self._table.to_pyarrow_table(
                columns=None if columns is None else list(columns),
                filesystem=fs.SubTreeFileSystem(str(self.path), fs.LocalFileSystem()),
            )
        # Delta may give views; everything above this room works on plain strings and binaries.
        return table.cast(pa.schema([pa.field(field.name, _plain(field.type)) for field in table.schema]))

    def append(self, rows: pa.Table, metadata: Mapping[str, str]) -> None:
        """Add rows in one commit; columns the table does not have yet are added to it."""
        with _delta_errors(self.path):
            write_deltalake(
                self._table,
                rows,
                mode="append",
                schema_mode="merge",
                commit_properties=_properties(metadata),
            )
            self._table.update_incremental()

    def merge(self, rows: pa.Table, *, on: Sequence[str], metadata: Mapping[str, str]) -> None:
        """Replace the rows that agree with ``rows`` in the columns ``on``, and add the others, in one commit.

        Columns that ``rows`` does not have keep their values; new ones are added empty in a commit before.
        """
        predicate = " AND ".join(f"target.{_quoted(name)} = source.{_quoted(name)}" for name in on)
        values = {_quoted(name): f"source.{_quoted(name)}" for name in rows.column_names}
        if not set(rows.column_names) <= set(self.schema().names):
            # A merge that also adds columns loses the values of non-nullable ones (deltalake 1.6): columns first.
            self.append(rows.slice(0, 0), metadata)
        with _delta_errors(self.path):
            (
                self._table.merge(
                    rows,
                    predicate,
                    source_alias="source",
                    target_alias="target",
                    commit_properties=_properties(metadata),
                )
                .when_matched_update(values)
                .when_not_matched_insert(values)
                .execute()
            )
            self._table.update_incremental()

    def remove(self, rows: pa.Table, *, metadata: Mapping[str, str]) -> None:
        """Remove the rows that agree with ``rows`` in all of its columns, in one commit."""
        predicate = " AND ".join(f"target.{_quoted(name)} = source.{_quoted(name)}" for name in rows.column_names)
        with _delta_errors(self.path):
            (
                self._table.merge(
                    rows,
                    predicate,
                    source_alias="source",
                    target_alias="target",
                    commit_properties=_properties(metadata),
                )
                .when_matched_delete()
                .execute()
            )
            self._table.update_incremental()

    def restore(self, version: int, metadata: Mapping[str, str]) -> None:
        """Make the newest version equal to an earlier one, as a new commit."""
        with _delta_errors(self.path):
            self._table.restore(version, commit_properties=_properties(metadata))
            self._table.update_incremental()

    def compact(self, metadata: Mapping[str, str], *, files: int = 64) -> None:
        """Join small files when there are more than ``files`` of them; earlier versions stay readable."""
        with _delta_errors(self.path):
            if len(self._table.file_uris()) > files:
                self._table.optimize.compact(commit_properties=_properties(metadata))
                self._table.update_incremental()


def numbered(rows: pa.Table, next_row: int) -> tuple[pa.Table, int]:
    """Give items whose ``row`` is null the numbers from ``next_row`` on; returns them and the next free number."""
    row = rows.column("row").to_numpy(zero_copy_only=False).astype(np.float64)
    new = np.isnan(row)
    given = np.where(new, next_row + np.cumsum(new) - 1, row).astype(np.int64)
    at = rows.column_names.index("row")
    return rows.set_column(at, ITEMS_SCHEMA.field("row"), pa.array(given)), next_row + int(new.sum())


def fit_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give the columns of ``rows`` the types and the spelling that ``schema`` has for them; other columns stay.

    Delta holds "Price" and "price" for one name, so a column that differs only in that takes the first spelling.

    Raises:
        InputError: values of a column do not fit the type it already has.
    """
    spelling = {name.lower(): name for name in schema.names}
    rows = rows.rename_columns([spelling.get(name.lower(), name) for name in rows.column_names])
    for position, name in enumerate(rows.column_names):
        if name not in schema.names:
            continue
        wanted = _plain(schema.field(name).type)
        have = rows.schema.field(name).type
        if have == wanted:
            continue
        try:
            cast = pc.cast(rows.column(name), wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"column {name!r} is {wanted} in the catalogue but {have} in this source, and its values do not fit; "
                "rename the column or correct the values"
            ) from error
        rows = rows.set_column(position, pa.field(name, wanted), cast)
    return rows


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    return kind


def _properties(metadata: Mapping[str, str]) -> CommitProperties:
    return CommitProperties(custom_metadata={_METADATA_PREFIX + key: value for key, value in metadata.items()})


def _own_metadata(commit: Mapping[str, Any]) -> dict[str, str]:
    return {
        key.removeprefix(_METADATA_PREFIX): str(value)
        for key, value in commit.items()
        if key.startswith(_METADATA_PREFIX)
    }


@contextlib.contextmanager
def _delta_errors(path: Path) -> Iterator[None]:
    """Say deltalake's and Arrow's errors in the terms of a catalogue."""
    try:
        yield
    except LookalikeError:
        raise
    except TableNotFoundError as error:
        raise DamagedError(f"{path} is no table: its log is missing") from error
    except CommitFailedError as error:
        raise BusyError(f"another process wrote {path} at the same moment; run the command again") from error
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise _plainly(path, error) from error
    except Exception as error:
        # deltalake raises bare Exception for storage errors; anything else is a mistake of ours.
        if type(error) is not Exception:
            raise
        raise _plainly(path, error) from error


def _plainly(path: Path, error: Exception) -> LookalikeError:
    text = " ".join(str(error).split())
    if "No space left" in text or "os error 28" in text:
        return CatalogueError(f"the disk is full: {path} was not changed; free some space and run the command again")
    if "Permission denied" in text or "Read-only file system" in text:
        return CatalogueError(f"cannot write {path}: permission denied")
    return DamagedError(f"{path} is damaged or cannot be read: {text[:300]}; lookalike verify says more")
