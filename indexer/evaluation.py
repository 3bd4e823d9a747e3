"""Measure a catalogue: leave-one-out within it, or the pictures of another source against it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from indexer.catalogue import Catalogue
from indexer.embeds import Embeds
from indexer.ingest import COMMIT_EVERY
from indexer.pipeline import Outcome, embed_uris
from retrieval.errors import InputError
from retrieval.evaluation import KS, Labelled, Report, evaluate
from retrieval.manifest import REJECTED_SCHEMA, Manifest
from retrieval.model_card import model_card
from retrieval.sources import ImageSource


def evaluate_catalogue(
    catalogue: Catalogue,
    *,
    queries: Manifest | None = None,
    label: str = "label",
    ks: Sequence[int] = KS,
    embedder: Embeds | None = None,
    progress: Callable[[int, int, int], object] = lambda done, total, rejected: None,
    notice: Callable[[str], object] = lambda _: None,
) -> tuple[Report, pa.Table]:
    """Measure Recall@K by exact search, whatever index the catalogue has.

    The vectors of ``queries`` go into the cache, so measuring again embeds nothing; they become no items. A query is
    left out of its own gallery when an item has its id and its bytes.

    Args:
        catalogue: the gallery.
        queries: None measures leave-one-out within the catalogue.
        label: the column that holds the class, in the catalogue and in the queries.
        ks: values of K.
        embedder: the catalogue's own when None.
        progress: called with images done, images in all, images rejected so far.
        notice: told what takes long before the first query is embedded.

    Returns:
        The report, whose card of the embedder also says how many vectors each runtime computed (``runtimes``), and
        the queries that were refused (columns ``uri``, ``reason``).

    Raises:
        InputError: there is nothing to measure, or the queries have no such column.
        NotFoundError: the catalogue has no such column.
        BusyError: the queries need embedding while another process writes the catalogue.
    """
    items = catalogue.items(list(dict.fromkeys(["id", "sha256", label])))
    vectors, present = catalogue.vectors.read(items.column("sha256"))
    lost = int((~present).sum())
    if lost:
        raise InputError(f"{lost} items of {catalogue.path} have no vector; index their source again first")
    gallery = Labelled(vectors, items.column("id").to_pylist(), _labels(items, label))
    folder = catalogue.path / "embedder" / catalogue.digest
    if queries is None:
        how = f"leave-one-out within {catalogue.path.name}, class = {label}, exact search"
        card = {**model_card(folder, catalogue.digest), "runtimes": catalogue.vectors.runtimes()}
        return evaluate(
            gallery, gallery, protocol=how, embedder=card, ks=ks, device=catalogue.device
        ), REJECTED_SCHEMA.empty_table()
    if label not in queries.table.column_names:
        raise InputError(f"the queries have no column {label!r}; they have {', '.join(queries.table.column_names)}")
    known = dict(zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True))
    given, refused = _embed(catalogue, queries, embedder or catalogue.embedder(), label, known, progress, notice)
    card = {**model_card(folder, catalogue.digest), "runtimes": catalogue.vectors.runtimes()}
    how = f"queries of {queries.listing.name} against {catalogue.path.name}, class = {label}, exact search"
    return evaluate(given, gallery, protocol=how, embedder=card, ks=ks, device=catalogue.device), refused


def _embed(
    catalogue: Catalogue,
    queries: Manifest,
    embedder: Embeds,
    label: str,
    known: dict[str, bytes],
    progress: Callable[[int, int, int], object],
    notice: Callable[[str], object],
) -> tuple[Labelled, pa.Table]:
    outcomes: list[Outcome] = []
    total = queries.table.num_rows + queries.rejected.num_rows
    refused = queries.rejected.num_rows

    def on_done(outcome: Outcome) -> None:
        nonlocal refused
        refused += outcome.reason is not None
        progress(len(queries.rejected) + outcome.position + 1, total, refused)

    with catalogue.writing(), ImageSource(queries.root) as source:
        uris = queries.table.column("uri").to_pylist()
        cache = catalogue.vectors
        chunks = embed_uris(source, uris, embedder, cache, chunk=COMMIT_EVERY, on_done=on_done, notice=notice)
        with contextlib.closing(chunks):
            for chunk in chunks:
                outcomes.extend(chunk)
        catalogue.vectors.compact()
    good = [outcome for outcome in outcomes if outcome.reason is None]
    bad = [outcome for outcome in outcomes if outcome.reason is not None]
    vectors, present = catalogue.vectors.read(pa.array([outcome.sha256 for outcome in good], pa.binary()))
    assert present.all()
    part = queries.table.take(pa.array([outcome.position for outcome in good], pa.int64()))
    uris_of_bad = queries.table.column("uri").take(pa.array([outcome.position for outcome in bad], pa.int64()))
    late = pa.table([uris_of_bad, pa.array([outcome.reason for outcome in bad], pa.string())], schema=REJECTED_SCHEMA)
    ids = part.column("id").to_pylist()
    # Two folders may both have an Apple/001.jpg: an id is the same image only when the bytes are the same too.
    ids = [
        id if known.get(id, outcome.sha256) == outcome.sha256 else f"\0query {id}"
        for id, outcome in zip(ids, good, strict=True)
    ]
    labelled = Labelled(np.asarray(vectors), ids, _labels(part, label))
    return labelled, pa.concat_tables([queries.rejected, late])


def _labels(table: pa.Table, name: str) -> list[str | None]:
    values: list[Any] = table.column(name).to_pylist()
    return [None if value is None else str(value) for value in values]
