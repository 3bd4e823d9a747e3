"""Labels of pictures by a catalogue: neighbours and head → answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import pyarrow as pa

from indexer.calibrating import Kept, calibration_of
from indexer.catalogue import Catalogue
from indexer.index import ExactIndex, VectorIndex
from indexer.search import queries_of
from indexer.voters import LabelledItems, head_of, labelled_items, prior_factors, unit_vectors_of
from retrieval.answers import ANSWERS_SCHEMA, Asked, answer
from retrieval.errors import InputError
from retrieval.evidence import Evidence, K, copies_among
from retrieval.labelled import unit_length

LABELS_SCHEMA: Final = pa.schema(
    [
        *ANSWERS_SCHEMA,
        # the nearest labelled item, its label, and cosine similarity in [-1, 1]; null: the index returned none
        pa.field("nearest", pa.string()),
        pa.field("nearest_label", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)
"""A picture a row, in the order given."""


def label(
    catalogue: Catalogue,
    *,
    images: Sequence[bytes | Path] | None = None,
    vectors: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    asked: Asked | None = None,
    known: dict[str, str] | None = None,
    kept: Kept | None = None,
) -> pa.Table:
    """Say what pictures are, by the labelled items of a catalogue and its embedder's classifier head.

    A new item with a label counts at once; nothing is trained. An item that is asked for by its id is left out of its
    own vote; a picture whose bytes are an item's is told by that item.

    Args:
        catalogue: whose items vote; moves on to its newest version first.
        images: encoded pictures, or paths of them.
        vectors: (n, dim) of the catalogue's embedder, any length but zero.
        ids: of items.
        asked: what is wanted of an answer; None: what ``Asked`` says.
        known: column → what all these pictures have in it, such as a region; makes labels that items with the same
            value have more probable.
        kept: the calibration; None: the one in force.

    Returns:
        ``LABELS_SCHEMA``.

    Raises:
        InputError: not exactly one of ``images``, ``vectors``, ``ids``; no labels, or one only; no calibration; what
            is asked for cannot be had; no item has a value of ``known``.
        ImageError: a picture that cannot be read.
        NotFoundError: an unknown id or column.
        DamagedError: what stands on disk is not what was written.
    """
    asked = asked or Asked()
    catalogue.refresh()
    items, index = catalogue.snapshot()
    head = head_of(catalogue)
    labelled = labelled_items(catalogue, head, items=items)
    kept = kept or calibration_of(catalogue)
    if kept is None:
        raise InputError(f"the labels of {catalogue.path} are not calibrated; run lookalike calibrate {catalogue.path}")
    asked.check(labelled.vocabulary)
    names, queries, selves = queries_of(catalogue, items, images=images, vectors=vectors, ids=ids)
    rows = labelled.table.column("row").to_numpy()
    extra = max(map(len, selves), default=0) if ids is not None else 0
    allowed = None if labelled.every else rows
    found, similarities = index.search(queries, min(K + extra, len(rows)), allowed=allowed)
    if ids is not None:
        found, similarities = _without_selves(found, similarities, selves)
    evidence = _evidence(catalogue, index, labelled, found[:, :K], similarities[:, :K])
    if head is not None:
        evidence = Evidence(
            evidence.places, evidence.codes, evidence.similarities, evidence.copies, head.logits(queries)
        )
    given = {column: [value] * len(names) for column, value in (known or {}).items()}
    factors = prior_factors(labelled, given, own=ids, unheard=_refused)
    answers = answer(names, evidence, labelled.vocabulary, kept.calibration, asked=asked, factors=factors)
    there = evidence.places[:, 0] >= 0
    nearest = labelled.table.select(["id", "label"]).take(pa.array(np.maximum(evidence.places[:, 0], 0)))
    columns_of_nearest = [
        pa.array(nearest.column("id").to_pylist(), pa.string(), mask=~there),
        pa.array(nearest.column("label").to_pylist(), pa.string(), mask=~there),
        pa.array(evidence.similarities[:, 0], pa.float32(), mask=~there),
    ]
    return pa.table([*answers.columns, *columns_of_nearest], schema=LABELS_SCHEMA)


def _refused(why: str) -> NoReturn:
    raise InputError(why)


def _without_selves(
    found: np.ndarray, similarities: np.ndarray, selves: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Move each query's own rows out of what was found: (n, k) in, (n, k) out, empty slots last."""
    own = np.array([np.isin(row, mine) for row, mine in zip(found, selves, strict=True)], dtype=bool)
    order = np.argsort(own, axis=1, kind="stable")
    kept = np.take_along_axis(np.where(own, -1, found), order, axis=1)
    return kept, np.take_along_axis(np.where(own, -np.inf, similarities), order, axis=1)


def _evidence(
    catalogue: Catalogue, index: VectorIndex, labelled: LabelledItems, found: np.ndarray, similarities: np.ndarray
) -> Evidence:
    """What rows of the index say, as places among the labelled items."""
    rows = labelled.table.column("row").to_numpy()
    places = np.where(found >= 0, np.searchsorted(rows, found), -1)
    near = np.unique(places[places >= 0])
    items = labelled.table.select(["id", "sha256"]).take(pa.array(near))
    vectors, there = index.read(rows[near]) if isinstance(index, ExactIndex) else (None, np.zeros(1, dtype=bool))
    # The exact index has them in memory; from the disk a few cost as much as many.
    near_vectors = (
        unit_length(vectors, items.column("id").to_pylist())
        if vectors is not None and there.all()
        else unit_vectors_of(catalogue, items)
    )
    own = np.where(places >= 0, labelled.codes[places], -1)
    copies = copies_among(np.where(places >= 0, np.searchsorted(near, places), -1), own, near_vectors)
    return Evidence(places, own, similarities.astype(np.float32), copies)
