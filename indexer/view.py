"""The view: an index that shows one version of the items, and can always be made again from the vectors.

On disk, for kinds worth storing, ``index/<embedder digest>/``: ``vectors.index``, ``rows.npy`` and, written
last, ``view.json`` (factory string, items version, row count, SHA-256 of both). A view that is behind catches
up; one that is lost or damaged is built again, and says so. The exact index is not stored: it would be a
second copy of the vectors, and it opens from them in the same time.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from indexer.files import read_json, sha256_of, write_bytes, write_json
from indexer.index import INDEX_KINDS, VectorIndex, index_kind
from indexer.vectors import VectorCache
from retrieval.errors import CannotRemoveError, DamagedError, InputError

EXACT: Final = "exact"
VIEW_FILE: Final = "view.json"
INDEX_FILE: Final = "vectors.index"
ROWS_FILE: Final = "rows.npy"


class ViewWarning(UserWarning):
    """A stored view could not be used and was built again."""


@dataclass(frozen=True)
class View:
    """An index, the rows in it, (n,) int64, ascending, and its specification, "exact" where another cannot be yet."""

    index: VectorIndex
    rows: np.ndarray
    spec: str


def open_view(folder: Path, *, spec: str, items: pa.Table, vectors: VectorCache, device: str) -> View:
    """Open or build the index that shows ``items``.

    Args:
        folder: where a stored view may lie.
        spec: "exact" or a FAISS factory string.
        items: columns ``row`` and ``sha256``, ascending in ``row``.
        vectors: the cache; items without a vector there are left out.
        device: where the index runs.

    Raises:
        DamagedError: the vectors are damaged.
        MissingExtraError: the kind of index needs a package that is not installed.
    """
    rows = items.column("row").to_numpy()
    kind = INDEX_KINDS[index_kind(spec)]
    stored: tuple[VectorIndex, np.ndarray] | None = None
    if (folder / VIEW_FILE).is_file():
        try:
            about = read_json(folder / VIEW_FILE)
            if about.get("factory") == spec:
                for name in (INDEX_FILE, ROWS_FILE):
                    if about.get("sha256", {}).get(name) != sha256_of(folder / name):
                        raise DamagedError(f"{folder / name} is not the file that was written")
                have = np.load(folder / ROWS_FILE, allow_pickle=False)
                stored = kind.load(folder / INDEX_FILE, device), have
        except (DamagedError, OSError, ValueError) as error:
            warnings.warn(f"the stored index is damaged and is built again ({error})", ViewWarning, stacklevel=2)
    if stored is not None:
        index, have = stored
        gone = np.setdiff1d(have, rows, assume_unique=True)
        new = ~np.isin(rows, have, assume_unique=True)
        try:
            if len(gone):
                index.remove(gone)
            added = _add(index, items.filter(pa.array(new)), vectors)
            return View(index, np.union1d(np.setdiff1d(have, gone, assume_unique=True), added), spec)
        except CannotRemoveError:
            pass  # built again below
    index = kind.build(vectors.dim, spec, device)
    try:
        return View(index, _add(index, items, vectors), spec)
    except InputError as error:
        if spec == EXACT:
            raise
        # Such as too few vectors to train on: a growing catalogue gets there.
        warnings.warn(f"the index {spec} cannot be built yet, and search is exact ({error})", ViewWarning, stacklevel=2)
    index = INDEX_KINDS[EXACT].build(vectors.dim, EXACT, device)
    return View(index, _add(index, items, vectors), EXACT)


def is_stored(spec: str) -> bool:
    """Whether an index of this specification is worth a file."""
    return bool(INDEX_KINDS[index_kind(spec)].stored)


def save_view(folder: Path, view: View, *, version: int) -> None:
    """Store a view of a version of the items, ``view.json`` last.

    Args:
        folder: ``index/<embedder digest>``.
        view: what ``open_view`` gave.
        version: of the items.

    Raises:
        CatalogueError: the disk is full or the folder cannot be written.
    """
    view.index.save(folder / INDEX_FILE)
    buffer = io.BytesIO()
    np.save(buffer, view.rows, allow_pickle=False)
    write_bytes(folder / ROWS_FILE, buffer.getvalue())
    write_json(
        folder / VIEW_FILE,
        {
            "factory": view.spec,
            "items_version": version,
            "rows": len(view.rows),
            "sha256": {name: sha256_of(folder / name) for name in (INDEX_FILE, ROWS_FILE)},
        },
    )


def _add(index: VectorIndex, items: pa.Table, vectors: VectorCache) -> np.ndarray:
    rows: np.ndarray = items.column("row").to_numpy()
    if len(rows) == 0:
        return rows
    matrix, present = vectors.read(items.column("sha256"))
    if not present.all():
        rows, matrix = rows[present], matrix[present]
    index.add(rows, matrix)
    return rows
