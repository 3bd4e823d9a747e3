"""Search: pictures, vectors or ids → a table of hits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from retrieval import images as pictures
from retrieval.errors import ImageError, InputError, NotFoundError
from retrieval.folders import printable
from retrieval.images import DEFAULT_LIMITS
from retrieval.sources import ImageSource

HITS_SCHEMA: Final = pa.schema(
    [
        # which query: the path or id as given, else "image 0", "vector 0", ...
        pa.field("query", pa.string(), nullable=False),
        # from 1, nearest first; ties stand in the order of `row`
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        # cosine, in [-1, 1], higher is nearer
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
"""A hit a row, queries in the order given; the user's own columns follow."""


def search(
    catalogue: Catalogue,
    *,
    images: Sequence[bytes | Path] | None = None,
    vectors: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    k: int = 10,
) -> pa.Table:
    """Find the items most like some pictures, vectors or other items.

    An indexed image finds itself first: items of the very same bytes as the query, or the item whose id was
    given, come before all others.

    Args:
        catalogue: to search; moves on to its newest version first.
        images: encoded pictures, or paths of them; bytes that are in the catalogue need no network.
        vectors: (n, dim) of the catalogue's embedder, any length but zero.
        ids: of items.
        k: hits a query; fewer when the catalogue has fewer items.

    Returns:
        The hits; see ``HITS_SCHEMA``.

    Raises:
        InputError: not exactly one of ``images``, ``vectors``, ``ids``; k below 1; vectors of another shape.
        ImageError: a picture that cannot be read.
        NotFoundError: an unknown id.
        DamagedError: vectors, items or the embedder on disk are not what was written.
        EmbedderError: the embedder cannot be used here.
        MissingExtraError: the catalogue's index needs a package that is not installed.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    catalogue.refresh()
    items, index = catalogue.snapshot()
    rows: np.ndarray = items.column("row").to_numpy()
    names, queries, selves = queries_of(catalogue, items, images=images, vectors=vectors, ids=ids)
    found, similarity = index.search(queries, k)
    found, similarity = _selves_first(found, similarity, selves)
    hit = found >= 0
    position = np.searchsorted(rows, found[hit])
    columns = {
        "query": pa.array(np.repeat(np.array(names, dtype=object), hit.sum(axis=1)), pa.string()),
        "rank": pa.array((np.cumsum(hit, axis=1))[hit], pa.int32()),
        "similarity": pa.array(similarity[hit], pa.float32()),
    }
    taken = items.take(pa.array(position))
    ours = {name: columns[name] if name in columns else taken.column(name) for name in HITS_SCHEMA.names}
    theirs = {name: taken.column(name) for name in items.column_names if name not in ours and name != "sha256"}
    return pa.table({**ours, **theirs})


def queries_of(
    catalogue: Catalogue,
    items: pa.Table,
    *,
    images: Sequence[bytes | Path] | None = None,
    vectors: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Embed what is asked for, which ``search`` describes.

    Returns:
        What each query is called; (n, dim) float32, L2-normalised; and of each the rows of the items that it is.
    """
    if sum(given is not None for given in (images, vectors, ids)) != 1:
        raise InputError("give exactly one of images, vectors and ids")
    if images is not None:
        return _from_images(catalogue, items, images)
    if ids is not None:
        return _from_ids(catalogue, items, ids)
    queries = _normalised(np.asarray(vectors), catalogue.dim)
    return [f"vector {i}" for i in range(len(queries))], queries, [np.zeros(0, np.int64)] * len(queries)


def item(catalogue: Catalogue, id: str) -> pa.Table:
    """Look up one item: a table of one row.

    Raises:
        NotFoundError: there is none with that id.
    """
    items = catalogue.items()
    position = pc.index(items.column("id"), pa.scalar(id, pa.string())).as_py()
    if position < 0:
        raise NotFoundError(f"{catalogue.path.name} has no item with the id {id!r}")
    return items.slice(position, 1)


def thumbnail(catalogue: Catalogue, id: str, *, size: int = 256) -> bytes:
    """Draw an item's picture small, as a JPEG without metadata.

    Args:
        catalogue: where the item is.
        id: of the item.
        size: of the longest side, pixels.

    Raises:
        NotFoundError: no such item.
        ImageError: its file is gone, or is another than was indexed.
    """
    row = item(catalogue, id).to_pylist()[0]
    with ImageSource(Path(row["source"])) as source:
        data = source.read(row["uri"])
    if hashlib.sha256(data).digest() != row["sha256"]:
        raise ImageError(f"{row['uri']} has changed since it was indexed; index its source again")
    return pictures.thumbnail(data, size=size)


def read_picture(path: Path) -> bytes:
    """Read a query picture's bytes, after a look at its size.

    Raises:
        ImageError: there is no such file, or it is too large to be a picture.
    """
    name = printable(os.fspath(path))
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder; name the pictures in it")
        if not path.is_file():
            raise ImageError(f"there is no file {name}")
        if path.stat().st_size > DEFAULT_LIMITS.max_bytes:
            raise ImageError(f"{name} has more than {DEFAULT_LIMITS.max_bytes // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror or error}") from error


def check_pictures(paths: Sequence[Path]) -> None:
    """Look at query pictures, so that a bad one is told before the network is loaded or anything is written.

    Raises:
        ImageError: one cannot be read; the message names it.
    """
    for path in paths:
        name = printable(os.fspath(path))
        try:
            pictures.decode(read_picture(path), size=1)
        except ImageError as error:
            raise ImageError(str(error) if name in str(error) else f"{name}: {error}") from error


def _from_images(
    catalogue: Catalogue, items: pa.Table, images: Sequence[bytes | Path]
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    names, encoded = [], []
    for number, image in enumerate(images):
        names.append(f"image {number}" if isinstance(image, bytes) else printable(os.fspath(image)))
        encoded.append(image if isinstance(image, bytes) else read_picture(image))
    sha256 = [hashlib.sha256(data).digest() for data in encoded]
    rows = items.column("row").to_numpy()
    owner = _places(items.column("sha256"), sha256)
    selves = [rows[owner == sha256.index(key)] for key in sha256]
    queries = np.zeros((len(encoded), catalogue.dim), dtype=np.float32)
    seen = np.array([len(own) > 0 for own in selves], dtype=bool)
    if seen.any():
        stored, present = catalogue.vectors.read(pa.array(sha256, pa.binary()))
        seen &= present
        queries[seen] = stored[seen]
    fresh = np.flatnonzero(~seen)
    if len(fresh):
        embedder = catalogue.embedder()
        decoded = []
        for number in fresh.tolist():
            try:
                decoded.append(pictures.decode(encoded[number], size=embedder.image_size).pixels)
            except ImageError as error:
                raise ImageError(f"{names[number]}: {error}") from error
        queries[fresh] = embedder.embed(decoded)
    return names, _normalised(queries, catalogue.dim), selves


def _from_ids(
    catalogue: Catalogue, items: pa.Table, ids: Sequence[str]
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    owner = _places(items.column("id"), ids)
    found = np.flatnonzero(owner >= 0)
    position = {ids[owner[place]]: int(place) for place in found}
    unknown = [id for id in ids if id not in position]
    if unknown:
        raise NotFoundError(f"{catalogue.path.name} has no item with the id {unknown[0]!r}")
    taken = items.select(["row", "sha256"]).take(pa.array([position[id] for id in ids], pa.int64()))
    vectors, present = catalogue.vectors.read(taken.column("sha256"))
    if not present.all():
        lost = ids[int(np.flatnonzero(~present)[0])]
        raise NotFoundError(f"the item {lost!r} has no vector; index its source again")
    rows = taken.column("row").to_numpy()
    return list(ids), _normalised(vectors, catalogue.dim), [rows[i : i + 1] for i in range(len(rows))]


def _places(column: pa.ChunkedArray, wanted: Sequence[str] | Sequence[bytes]) -> np.ndarray:
    """For every value of a column its first place in ``wanted``, or -1; hashes the few, not the many."""
    place = pc.index_in(column, value_set=pa.array(wanted, column.type))
    return np.asarray(pc.fill_null(place, -1).to_numpy())


def _normalised(vectors: np.ndarray, dim: int) -> np.ndarray:
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InputError(f"vectors must be (n, {dim}), not {vectors.shape}")
    wide = vectors.astype(np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise InputError("vectors must be finite and not zero")
    return np.asarray(wide / norms, dtype=np.float32)


def _selves_first(found: np.ndarray, similarity: np.ndarray, selves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Put each query's own rows before all others; (n, k) in, (n, k) out."""
    found, similarity = found.copy(), similarity.copy()
    k = found.shape[1]
    for query, own in enumerate(selves):
        if len(own) == 0:
            continue
        others = ~np.isin(found[query], own)
        own = own[:k]
        similarity[query] = np.concatenate([np.ones(len(own), np.float32), similarity[query][others]])[:k]
        found[query] = np.concatenate([own, found[query][others]])[:k]
    return found, similarity
