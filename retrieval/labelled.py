"""Vectors with ids and labels, and the same in numbers that ranks and metrics are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.errors import InputError


@dataclass(frozen=True)
class Labelled:
    """Vectors with what they are.

    Attributes:
        vectors: (n, dim) float16 or float32.
        ids: n strings, none twice; equal ids of queries and gallery are the same image.
        labels: n strings, None where there is none.
    """

    vectors: np.ndarray
    ids: Sequence[str]
    labels: Sequence[str | None]


@dataclass(frozen=True)
class Coded:
    """Queries and gallery in numbers, and which queries can be measured.

    Attributes:
        queries: (q, dim) float32, L2-normalised, the measured ones, ascending by id.
        gallery: (m, dim) float32, L2-normalised.
        query_ids: (q,) int64, in the order of the ids' characters.
        gallery_ids: (m,) int64.
        query_codes: (q,) int64, places in ``names``.
        gallery_codes: (m,) int64; negative where there is no label.
        names: the labels, sorted.
        places: (q,) int64, where the measured queries stood in what was given.
        left_out: queries with a label that no other image of the gallery has.
        unlabelled: queries without a label.
    """

    queries: np.ndarray
    gallery: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_codes: np.ndarray
    gallery_codes: np.ndarray
    names: Sequence[str]
    places: np.ndarray
    left_out: int
    unlabelled: int


def code(queries: Labelled, gallery: Labelled) -> Coded:
    """Turn ids and labels into numbers, normalise vectors, and leave out what cannot be measured.

    Raises:
        InputError: an id stands twice on one side, a vector is zero, or there is nothing to measure.
    """
    for name, side in (("queries", queries), ("gallery", gallery)):
        _refuse_twins(name, side)
    order = {id: place for place, id in enumerate(sorted({*queries.ids, *gallery.ids}))}
    query_ids = np.array([order[id] for id in queries.ids], dtype=np.int64)
    gallery_ids = np.array([order[id] for id in gallery.ids], dtype=np.int64)
    names = sorted({label for label in (*queries.labels, *gallery.labels) if label is not None})
    number: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    query_codes = np.array([number.get(label, -1) for label in queries.labels], dtype=np.int64)
    gallery_codes = np.array([number.get(label, -1) for label in gallery.labels], dtype=np.int64)

    labelled = query_codes >= 0
    relevant = np.bincount(gallery_codes[gallery_codes >= 0], minlength=len(names))
    own = dict(zip(gallery_ids.tolist(), gallery_codes.tolist(), strict=True))
    itself = np.array([own.get(id, -1) for id in query_ids.tolist()], dtype=np.int64) == query_codes
    others = np.where(labelled, relevant[query_codes] if len(names) else 0, 0) - (itself & labelled)
    measured = labelled & (others > 0)
    if not measured.any():
        raise InputError(
            "there is nothing to measure: no query has a label that another image of the gallery has too "
            f"({len(queries.ids):,} queries, {int((~labelled).sum()):,} of them without a label; {len(gallery.ids):,} "
            f"images in the gallery, {int((gallery_codes < 0).sum()):,} of them without a label)"
        )
    places = np.flatnonzero(measured)
    places = places[np.argsort(query_ids[places])]
    normal = unit_length(gallery.vectors, gallery.ids)
    asked = [queries.ids[at] for at in places.tolist()]
    return Coded(
        # Where the two are one set, one copy is enough.
        queries=normal[places] if queries.vectors is gallery.vectors else unit_length(queries.vectors[places], asked),
        gallery=normal,
        query_ids=query_ids[places],
        gallery_ids=gallery_ids,
        query_codes=query_codes[places],
        gallery_codes=gallery_codes,
        names=names,
        places=places,
        left_out=int((labelled & ~measured).sum()),
        unlabelled=int((~labelled).sum()),
    )


def code_alone(queries: Labelled, classes: Sequence[str]) -> Coded:
    """Do what ``code`` does where nothing is searched: a query is measured if its label is one of ``classes``.

    Args:
        queries: with their labels.
        classes: sorted; ``names`` of what comes back, whose gallery is empty.

    Raises:
        InputError: an id stands twice, a vector is zero, or there is nothing to measure.
    """
    _refuse_twins("queries", queries)
    number: dict[str | None, int] = {name: place for place, name in enumerate(classes)}
    known = [place for place, label in enumerate(queries.labels) if label in number]
    unlabelled = sum(label is None for label in queries.labels)
    if not known:
        raise InputError(
            "there is nothing to measure: no query has a label that is one of the "
            f"{len(classes):,} classes ({len(queries.ids):,} queries, {unlabelled:,} of them without a label)"
        )
    places = np.array(sorted(known, key=lambda place: queries.ids[place]), dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    return Coded(
        queries=unit_length(queries.vectors[places], [queries.ids[place] for place in places.tolist()]),
        gallery=np.empty((0, queries.vectors.shape[1]), np.float32),
        query_ids=np.arange(len(places)),
        gallery_ids=none,
        query_codes=np.array([number[queries.labels[place]] for place in places.tolist()], dtype=np.int64),
        gallery_codes=none,
        names=classes,
        places=places,
        left_out=len(queries.ids) - len(known) - unlabelled,
        unlabelled=unlabelled,
    )


def _refuse_twins(name: str, side: Labelled) -> None:
    if len(set(side.ids)) < len(side.ids):
        raise InputError(f"two images of the {name} have the same id")


def unit_length(vectors: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Bring stored vectors to length 1: (n, dim) float32.

    Args:
        vectors: (n, dim) float16 or float32.
        ids: n strings, for the message.

    Raises:
        InputError: a vector is zero or not finite.
    """
    # Rounding to float16 moves the length of a stored vector by up to 5e-4, which would reorder near ties.
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~((lengths[:, 0] > 0) & np.isfinite(lengths[:, 0])))
    if len(bad):
        raise InputError(
            f"the vectors of {len(bad)} images, such as {ids[bad[0]]}, are zero or not finite; embed them again"
        )
    wide /= lengths
    return wide
