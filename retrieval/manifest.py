"""A folder, CSV, Parquet or list → one table with a row an image, and the inputs that are none.

Files are found and looked up here, but not opened: whether a picture can be decoded shows when it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from retrieval.columns import Columns, as_text, assign_roles, class_names, own_name, storable
from retrieval.datasets.grocery import read_list
from retrieval.errors import ImageError, ManifestError
from retrieval.folders import IMAGE_SUFFIXES, PARQUET_SUFFIXES, Contents, look_into, printable
from retrieval.sources import Root
from retrieval.tabular import Listing, read_csv, read_parquet

__all__ = ["FOUND", "MANIFEST_SCHEMA", "REJECTED_SCHEMA", "Columns", "Manifest", "read_manifest"]

MANIFEST_SCHEMA: Final = pa.schema(
    [
        # the user's key, else the uri; unique; with the caller's prefix before it
        pa.field("id", pa.string(), nullable=False),
        # POSIX path relative to the root, or `file.parquet#row=N`
        pa.field("uri", pa.string(), nullable=False),
        # a path whose parents are the coarser labels; null: unlabelled
        pa.field("label", pa.string()),
    ]
)
"""An image a row; the user's own columns follow, typed as they came, ``split`` among them where there is one."""

REJECTED_SCHEMA: Final = pa.schema(
    [
        # as the source names it: a path, or `list.csv#row=N` where there is none
        pa.field("uri", pa.string(), nullable=False),
        # one clause
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""An input a row that is no image of the manifest."""

FOUND: Final = Columns()
"""No column is named: all are found by their usual names."""
_READABLE: Final = "a folder, a .csv, .tsv or .parquet file, or a .txt list of the Grocery dataset"


@dataclass(frozen=True)
class Manifest:
    """The images of one source.

    Attributes:
        table: ``MANIFEST_SCHEMA`` and the user's own columns; folders are sorted by uri, lists keep their order.
        rejected: ``REJECTED_SCHEMA``. Every input is a row of one of the two.
        root: absolute and free of symlinks; uris are relative to it.
        listing: the folder or file it was read from, absolute and free of symlinks.
    """

    table: pa.Table
    rejected: pa.Table
    root: Path
    listing: Path


def read_manifest(
    source: str | Path, *, columns: Columns = FOUND, root: Path | None = None, prefix: str = ""
) -> Manifest:
    """Read a source of images.

    - A folder: every picture below it; its label is the folder path, ``Fruit/Apple/Granny-Smith``, and null for
      files directly in it. A folder of Parquet files and no pictures is read as one Parquet source.
    - ``.csv``, ``.tsv``, ``.parquet``, ``.pq``: the columns that ``columns`` names, or those that
      ``retrieval.columns.assign_roles`` finds. Paths are relative to ``root``; Windows and POSIX separators mean the
      same. All other columns come along, in types that ``retrieval.columns.storable`` gives.
    - ``.txt``: a list of the Grocery Store Dataset.

    What is no picture, is not there, lies outside the root or repeats an id becomes a row of ``rejected``.

    Args:
        source: the folder or file.
        columns: names of columns, where they are not the usual ones; not for folders.
        root: the folder that paths in the source are relative to; the source's own folder when None.
        prefix: put before every id, so that two sources with the same names can be in one catalogue.

    Raises:
        ManifestError: the source is not there, is of no kind above, cannot be read, is empty, or a named column is
            not in it.
    """
    source = Path(source)
    try:
        os.fspath(source).encode()
        is_folder, is_there = source.is_dir(), source.exists()
    except UnicodeEncodeError as error:
        raise ManifestError(f"the name {printable(os.fspath(source))} is not valid UTF-8; rename it first") from error
    except OSError as error:
        raise ManifestError(f"cannot read {source}: {error.strerror or error}") from error
    table, rejected, base = _read(source, is_folder, is_there, columns, root, prefix)
    return Manifest(table, rejected, base, source.resolve())


def _read(
    source: Path, is_folder: bool, is_there: bool, columns: Columns, root: Path | None, prefix: str
) -> tuple[pa.Table, pa.Table, Path]:
    if is_folder:
        return _from_folder(source.resolve(), columns, source.resolve() if root is None else root.resolve(), prefix)
    suffix = source.suffix.lower()
    if not is_there:
        raise ManifestError(f"there is no file or folder {source}")
    base = Root(source.resolve().parent if root is None else root)
    if suffix in (".csv", ".tsv"):
        return _from_listing(read_csv(source, columns), base, prefix)
    if suffix in PARQUET_SUFFIXES:
        path = source.resolve()
        return _from_listing(read_parquet([(_relative(path, base.path), path)], columns), base, prefix)
    if suffix == ".txt":
        return _from_listing(_read_grocery(source, columns), base, prefix)
    if suffix in IMAGE_SUFFIXES:
        raise ManifestError(f"{source} is one picture; give the folder that it is in")
    raise ManifestError(f"{source} is no source of images: give {_READABLE}")


def _from_folder(folder: Path, columns: Columns, root: Path, prefix: str) -> tuple[pa.Table, pa.Table, Path]:
    base = _relative(folder, root)
    before = "" if base == "." else base + "/"
    contents = look_into(folder)
    if contents.parquet and not contents.images:
        listing = read_parquet([(before + path, folder / path) for path in contents.parquet], columns)
        return _from_listing(listing, Root(root), prefix, also=_below(before, contents))
    if columns != FOUND:
        raise ManifestError(f"{folder} is a folder of pictures and has no columns to name; leave those options out")
    also = _below(before, contents)
    also += [(before + path, "a Parquet file among pictures; give its path as a source") for path in contents.parquet]
    if not contents.images and not also and not contents.aside:
        raise ManifestError(f"there are no pictures in {folder}: it is empty")
    uris = [before + path for path in contents.images]
    labels = [path.rpartition("/")[0] or None for path in contents.images]
    ids = [prefix + uri for uri in uris] if prefix else uris
    table = pa.table([ids, uris, labels], schema=MANIFEST_SCHEMA)
    return table, _rejected(sorted(also)), root


def _from_listing(
    listing: Listing, root: Root, prefix: str, *, also: Sequence[tuple[str, str]] = ()
) -> tuple[pa.Table, pa.Table, Path]:
    """Look every image up, give every row an id, and keep the rows that have both."""
    table, roles, where = listing.table, listing.roles, listing.files[0][0]
    rejected = [*also, *listing.rejected]

    def text(name: str | None) -> pa.ChunkedArray | None:
        if name is None:
            return None
        return as_text(table.column(name), name, where, classes=class_names(table.schema, name))

    keys, labels, splits = text(roles.id), text(roles.label), text(roles.split)
    kept, ids, uris = _accept(listing, None if keys is None else keys.to_pylist(), root, prefix, rejected)
    chosen = pa.array(kept, pa.int64())
    data = [pa.array(ids, pa.string()), pa.array(uris, pa.string())]
    data.append(pa.nulls(len(kept), pa.string()) if labels is None else labels.take(chosen))
    fields = list(MANIFEST_SCHEMA)
    taken = [] if splits is None else ["split"]
    for position, name in enumerate(table.column_names, 1):
        if name == roles.split and splits is not None:
            fields.append(pa.field("split", pa.string()))
            data.append(splits.take(chosen))
            continue
        if name in (roles.image, roles.id, roles.label):
            continue
        values = storable(table.column(name))
        if values is None:
            kind = table.schema.field(name).type
            rejected.append((f"{where}#column={name}", f"a column of {kind}, which does not come along"))
            continue
        taken.append(own_name(name, taken, position))
        fields.append(pa.field(taken[-1], values.type))
        data.append(values.take(chosen))
    return pa.table(data, schema=pa.schema(fields)), _rejected(rejected), root.path


def _accept(
    listing: Listing, keys: Sequence[str | None] | None, root: Root, prefix: str, rejected: list[tuple[str, str]]
) -> tuple[list[int], list[str], list[str]]:
    """Choose the rows that are images; the others are added to ``rejected``. Rows, ids and uris, in order."""
    kept: list[int] = []
    ids: list[str] = []
    uris: list[str] = []
    first: dict[str, str] = {}
    for row, (place, path) in enumerate(zip(listing.places, listing.paths, strict=True)):
        name = place or path
        if name is None:
            rejected.append((listing.origin(row), "no image in this row"))
            continue
        try:
            uri = place if place is not None else root.locate(name)
        except ImageError as error:
            rejected.append((name or listing.origin(row), str(error)))
            continue
        key = uri if keys is None else keys[row]
        if key is None:
            rejected.append((uri, f"no id in column {listing.roles.id!r}"))
        elif key in first:
            rejected.append((uri, f"the id {key!r} is there already, of {first[key]}"))
        else:
            first[key] = uri
            kept.append(row)
            ids.append(prefix + key)
            uris.append(uri)
    return kept, ids, uris


def _read_grocery(path: Path, columns: Columns) -> Listing:
    table, rejected = read_list(path)
    roles = assign_roles(table.schema, columns, str(path))
    paths = table.column(roles.image).to_pylist()
    return Listing(table, roles, [None] * len(paths), paths, [(path.name, 0)], rejected)


def _below(before: str, contents: Contents) -> list[tuple[str, str]]:
    return [(before + path, reason) for path, reason in contents.rejected]


def _relative(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise ManifestError(f"{path} lies outside the root {root}; give a root that holds it")
    return path.relative_to(root).as_posix()


def _rejected(rows: Sequence[tuple[str, str]]) -> pa.Table:
    return pa.table([[uri for uri, _ in rows], [reason for _, reason in rows]], schema=REJECTED_SCHEMA)
