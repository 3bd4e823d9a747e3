"""Looking at pictures once: what is kept of each, and which others may be copies of it.

Candidates come from the catalogue's own index, asked with the stored vector and with vectors of other views
(``retrieval.views``, and ``retrieval.trimming`` where there is something to trim), and from the layouts of what was
looked at before. A similarity says little by itself: some pictures are near to everything. So it counts by how far it
lies above what the view has with a background, a sample of the catalogue (score normalisation, as in the Image
Similarity Challenge: Douze et al., arXiv 2106.09672).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.embeds import Embeds
from indexer.fingerprints import Fingerprints, pack
from indexer.layouts import LAYOUTS_SCHEMA, Layouts
from indexer.pipeline import SAMPLE
from retrieval.errors import ImageError
from retrieval.grain import grain_of, sharpness
from retrieval.images import decode, jpeg_steps, metadata_bytes
from retrieval.local_features import LocalFeatures, describe
from retrieval.saved import saved_before
from retrieval.sources import ImageSource
from retrieval.trimming import shown
from retrieval.views import EFFORTS, layout

BLOCK: Final = 128
"""Pictures a block: what is done again, at most, after a run was stopped, and twice as many are in memory."""
NEAREST: Final = 5
"""Neighbours a view."""
LAYOUTS: Final = 5
"""Neighbours by layout, of all eight ways to turn and mirror it."""
CANDIDATES: Final = 12
"""Pictures of the neighbours of all views that are compared."""
BACKGROUND: Final = 1000
FOREMOST: Final = 10
"""Pictures of the background, the nearest, whose mean similarity a view's are measured by."""


@dataclass(frozen=True)
class Seen:
    """A picture that was looked at.

    Attributes:
        sha256: of its bytes, 32 bytes.
        features: its local features; None where it could not be read.
        views: other views of it, prepared for the embedder.
        row: as of ``FINGERPRINTS_SCHEMA``, without candidates.
    """

    sha256: bytes
    features: LocalFeatures | None
    views: Sequence[np.ndarray]
    row: dict[str, Any]


def look(data: bytes | ImageError, sha256: bytes, embedder: Embeds, effort: str) -> Seen:
    """Look at one picture; may be called from many threads.

    Args:
        data: its bytes, or why there are none.
        sha256: what they should be.
        embedder: prepares the views.
        effort: of ``EFFORTS``.
    """
    try:
        if isinstance(data, ImageError):
            raise data
        if hashlib.sha256(data).digest() != sha256:
            raise ImageError("has changed since it was indexed; index its source again")
        decoded = decode(data)
        metadata, steps = metadata_bytes(data), jpeg_steps(data)
    except ImageError as error:
        return _unread(sha256, str(error))
    seen = look_at_pixels(decoded.pixels, sha256, embedder, effort)
    resaved = saved_before(decoded.pixels, steps)
    seen.row.update(bytes=len(data), format=decoded.format, metadata=metadata, resaved=resaved)
    return seen


def look_at_pixels(pixels: np.ndarray, sha256: bytes, embedder: Embeds, effort: str) -> Seen:
    """Look at one picture that has been decoded: (height, width, 3) uint8; otherwise as ``look``."""
    features = describe(pixels)
    box = shown(pixels)
    trimmed = [] if box is None else [np.ascontiguousarray(box.of(pixels))]
    row = {
        "sha256": sha256,
        "reason": None,
        "pixels": hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest(),
        "sharpness": sharpness(features.picture, features.zoom),
        "grain": grain_of(pixels).to_bytes(),
        "layout": layout(features.picture).astype("<f2").tobytes(),
        "shown": layout(trimmed[0]).astype("<f2").tobytes() if trimmed else None,
        **pack(features),
    }
    views = trimmed + [np.ascontiguousarray(view(pixels)) for view in EFFORTS[effort]]
    return Seen(sha256, features, [embedder.prepare(view) for view in views], row)


class Finder:
    """Finds candidates in a catalogue for pictures that were looked at.

    Args:
        catalogue: to find them in, as it is now.
        fingerprints: of what was looked at; grows meanwhile.
        seed: of the background.
    """

    def __init__(self, catalogue: Catalogue, fingerprints: Fingerprints, *, seed: int = 0) -> None:
        items, self._index = catalogue.snapshot()
        digests = items.column("sha256").to_pylist()
        rows = items.column("row").to_numpy()
        first = {sha256: place for place, sha256 in reversed(list(enumerate(digests)))}
        self._of_row = dict(zip(rows.tolist(), digests, strict=True))
        # Of equal bytes one is enough, or a hundred copies of one file would be all the neighbours there are.
        self._allowed = None if len(first) == len(digests) else np.sort(rows[list(first.values())])
        self._next = int(rows.max(initial=-1)) + 1
        self._random, self._met = np.random.default_rng(seed), len(digests)
        some = self._random.permutation(len(digests))[:BACKGROUND]
        vectors, present = catalogue.vectors.read(pa.array([digests[at] for at in some.tolist()], pa.binary()))
        self._background = vectors[present].astype(np.float32)
        known = fingerprints.columns(LAYOUTS_SCHEMA.names)
        there = pc.is_in(known.column("sha256"), value_set=pa.array(list(first), pa.binary()))
        self._layouts = Layouts(known.filter(there))

    def find(
        self, seen: Sequence[Seen], stored: np.ndarray, embedder: Embeds, *, remember: bool = True
    ) -> list[dict[bytes, float]]:
        """Find candidates for pictures, their own bytes left out.

        Args:
            seen: n pictures; those that could not be read have none.
            stored: (n, dim) vectors of the pictures as they are.
            embedder: of the catalogue.
            remember: whether they are candidates, by their layout, of what comes later and of each other.

        Returns:
            SHA-256 of the candidates of each, the likeliest first, with the cosine of the vectors of both pictures as
            they are; NaN where only another view or the layout found it.
        """
        views = [view for one in seen for view in one.views]
        embedded = embedder.embed(views, prepared=True) if views else np.zeros((0, stored.shape[1]), np.float32)
        asked = np.flatnonzero([one.features is not None for one in seen])  # by their own vectors
        queries = np.concatenate([stored[asked].astype(np.float32), embedded])
        owner = np.concatenate([asked, np.repeat(np.arange(len(seen)), [len(one.views) for one in seen])])
        rows, similarity = self._index.search(queries, NEAREST + 1, self._allowed)
        margin = similarity - self._usual(queries)[:, None]
        likeliest: list[dict[bytes, float]] = [{} for _ in seen]
        cosine: list[dict[bytes, float]] = [{} for _ in seen]
        for query, at in enumerate(owner.tolist()):
            for row, value, above in zip(
                rows[query].tolist(), similarity[query].tolist(), margin[query].tolist(), strict=True
            ):
                if row >= 0 and (other := self._of_row[row]) != seen[at].sha256:
                    likeliest[at][other] = max(above, likeliest[at].get(other, -np.inf))
                    if query < len(asked):
                        cosine[at][other] = value
        if remember:
            self._layouts.add([one.row for one in seen])
        alike = self._layouts.nearest([one.row for one in seen], LAYOUTS)
        candidates = []
        for at, one in enumerate(seen):
            best = sorted(likeliest[at].items(), key=lambda of: (-of[1], of[0]))[:CANDIDATES]
            every = [] if one.features is None else dict.fromkeys([other for other, _ in best] + alike[at])
            candidates.append({other: cosine[at].get(other, np.nan) for other in every})
        return candidates

    def add(self, looked: Sequence[Mapping[str, Any]], vectors: np.ndarray) -> None:
        """Find what has become items since, too; the index is changed, so the catalogue must have let go of it.

        Args:
            looked: rows of n pictures, as of ``FINGERPRINTS_SCHEMA``, which ``find`` was not to remember.
            vectors: (n, dim) of these.
        """
        self._layouts.add(looked)
        rows = np.arange(self._next, self._next + len(looked), dtype=np.int64)
        self._next += len(looked)
        self._index.add(rows, vectors)
        self._of_row.update(zip(rows.tolist(), (row["sha256"] for row in looked), strict=True))
        if self._allowed is not None:
            self._allowed = np.concatenate([self._allowed, rows])
        # The background stays a sample of all, each item as likely to be in it (Vitter's algorithm R).
        room = max(0, BACKGROUND - len(self._background))
        wide = vectors.astype(np.float32)
        self._background = np.concatenate([self._background, wide[:room]])
        for at in range(room, len(wide)):
            place = int(self._random.integers(self._met + at + 1))
            if place < BACKGROUND:
                self._background[place] = wide[at]
        self._met += len(looked)

    def forget(self, gone: Collection[bytes]) -> None:
        """Find no longer what no item has any more, by SHA-256; it would take the places of what is there."""
        if gone:
            self._layouts.forget(gone)
            rows = [row for row, sha256 in self._of_row.items() if sha256 in gone]
            allowed = np.array(sorted(self._of_row), np.int64) if self._allowed is None else self._allowed
            self._allowed = allowed[~np.isin(allowed, rows)]

    def _usual(self, queries: np.ndarray) -> np.ndarray:
        """Mean similarity with the nearest of the background: (n,) float32."""
        if not len(self._background):
            return np.zeros(len(queries), np.float32)
        foremost = min(FOREMOST, len(self._background))
        similarity = queries @ self._background.T
        nearest: np.ndarray = np.partition(similarity, -foremost, axis=1)[:, -foremost:].mean(axis=1)
        return nearest


def beside(seen: Sequence[Seen], stored: np.ndarray) -> list[dict[bytes, float]]:
    """Find candidates for pictures among each other: what comes in together, and no index has yet.

    Args:
        seen: n pictures; those that could not be read have none and are none.
        stored: (n, dim) vectors of the pictures as they are.

    Returns:
        As ``Finder.find``.
    """
    found: list[dict[bytes, float]] = [{} for _ in seen]
    places = [at for at, one in enumerate(seen) if one.row["reason"] is None]
    unit = stored[places].astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : max(0, min(NEAREST, len(places) - 1))]
    rows = [seen[at].row for at in places]
    layouts = Layouts(LAYOUTS_SCHEMA.empty_table())
    layouts.add(rows)
    for number, (at, alike) in enumerate(zip(places, layouts.nearest(rows, LAYOUTS), strict=True)):
        of_one = {seen[places[to]].sha256: float(similarity[number, to]) for to in nearest[number].tolist()}
        found[at] = dict.fromkeys(alike, np.nan) | of_one
    return found


def look_at_items(
    catalogue: Catalogue,
    fingerprints: Fingerprints,
    *,
    effort: str,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
    notice: Callable[[str], object],
) -> None:
    """Look at every item of a catalogue that was not looked at yet, block by block.

    Args:
        catalogue: stays at the version it has.
        fingerprints: where blocks are added.
        effort: of ``EFFORTS``.
        pool: reads and decodes.
        progress: told how many more are done.
        notice: told what takes long before the first picture is embedded.

    Raises:
        CatalogueError: the disk is full or cannot be written.
    """
    todo = new_items(catalogue, fingerprints)
    finder = Finder(catalogue, fingerprints)
    embedder = catalogue.embedder()
    tuned = False
    further = _further(catalogue, todo)
    for looked in _blocks(todo, embedder, effort, pool):
        seen = [_elsewhere(one, further.get(one.sha256, ()), embedder, effort) for one in looked]
        sample = [view for one in seen for view in one.views]
        if sample and not tuned:
            expected = max(len(sample), round(todo.num_rows * len(sample) / len(seen)))
            embedder.tune(sample[:SAMPLE], expected=expected, notice=notice)
            tuned = True
        keys = pa.array([one.sha256 for one in seen], pa.binary())
        stored, present = catalogue.vectors.read(keys)
        for at, there in enumerate(present.tolist()):
            if not there and seen[at].features is not None:
                seen[at] = _unread(seen[at].sha256, "has no vector; index its source again")
        found = finder.find(seen, stored, embedder)
        fingerprints.add(
            [
                row
                for row in with_candidates(seen, found)
                if row["reason"] is None or row["reason"] != fingerprints.reason(row["sha256"])
            ]
        )
        progress(len(seen))


def with_candidates(seen: Sequence[Seen], candidates: Sequence[Mapping[bytes, float]]) -> list[dict[str, Any]]:
    """Write what was seen and what was found as rows of ``FINGERPRINTS_SCHEMA``."""
    rows = []
    for one, of_one in zip(seen, candidates, strict=True):
        similarities = np.array(list(of_one.values()), "<f4").tobytes()
        found = {"candidates": b"".join(of_one), "similarities": similarities}
        rows.append(one.row if one.row["reason"] is not None else one.row | found)
    return rows


def new_items(catalogue: Catalogue, fingerprints: Fingerprints) -> pa.Table:
    """The items whose bytes were not looked at yet, or could not be read, the first of each; in ascending row."""
    items = catalogue.items(["uri", "source", "sha256"])
    wanted, met = [], set[bytes]()
    for place, sha256 in enumerate(items.column("sha256").to_pylist()):
        if sha256 not in met and not fingerprints.seen(sha256):
            wanted.append(place)
        met.add(sha256)
    return items.take(pa.array(wanted, pa.int64()))


def _unread(sha256: bytes, reason: str) -> Seen:
    return Seen(sha256, None, (), {"sha256": sha256, "reason": reason})


def _further(catalogue: Catalogue, todo: pa.Table) -> dict[bytes, list[dict[str, Any]]]:
    """The other items of the same bytes, by these."""
    items = catalogue.items(["uri", "source", "sha256"])
    items = items.filter(pc.is_in(items.column("sha256"), value_set=todo.column("sha256").combine_chunks()))
    further: dict[bytes, list[dict[str, Any]]] = {}
    met = set[bytes]()
    for place, sha256 in enumerate(items.column("sha256").to_pylist()):
        if sha256 in met:
            further.setdefault(sha256, []).extend(items.slice(place, 1).to_pylist())
        met.add(sha256)
    return further


def _elsewhere(one: Seen, items: Sequence[dict[str, Any]], embedder: Embeds, effort: str) -> Seen:
    """What could not be read of one item, read of another of the same bytes."""
    for row in items:
        if one.features is not None:
            break
        with ImageSource(Path(row["source"])) as source, contextlib.suppress(ImageError):
            again = look(source.read(row["uri"]), one.sha256, embedder, effort)
            one = one if again.features is None else again
    return one


def _blocks(todo: pa.Table, embedder: Embeds, effort: str, pool: ThreadPoolExecutor) -> Iterator[list[Seen]]:
    """Look at blocks of pictures, the next one while this one is embedded."""

    def begin(rows: list[dict[str, Any]]) -> list[Future[Seen]]:
        begun = []
        for folder, some in groupby(rows, key=lambda row: row["source"]):
            of_folder = list(some)
            with ImageSource(Path(folder)) as source:
                for row, data in zip(of_folder, source.read_many(row["uri"] for row in of_folder), strict=True):
                    begun.append(pool.submit(look, data, row["sha256"], embedder, effort))
        return begun

    begun: list[Future[Seen]] = []
    try:
        for start in range(0, todo.num_rows, BLOCK):
            before, begun = begun, begin(todo.slice(start, BLOCK).to_pylist())
            if before:
                yield [future.result() for future in before]
        if begun:
            yield [future.result() for future in begun]
    finally:
        for future in begun:
            future.cancel()
