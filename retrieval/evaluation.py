"""Evaluation: labelled queries against a labelled gallery → a Report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from retrieval.errors import InputError
from retrieval.metrics import recall_from_labels
from retrieval.neighbours import top_k
from retrieval.uncertainty import interval_over_classes

KS: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class Labelled:
    """Vectors with what they are.

    Attributes:
        vectors: (n, dim) float16 or float32.
        ids: n strings; equal ids are the same image.
        labels: n strings, None where there is none.
    """

    vectors: np.ndarray
    ids: Sequence[str]
    labels: Sequence[str | None]


@dataclass(frozen=True)
class Report:
    """Recall@K and what it rests on.

    Attributes:
        recall: K → share of the measured queries with one of their class among the K nearest.
        interval: K → 95 % confidence interval, by bootstrap over classes.
        queries: measured.
        classes: of the measured queries.
        left_out: queries whose class has no other image in the gallery; not measured.
        unlabelled: queries without a label; not measured.
        gallery: images searched.
        protocol: how, in words.
        embedder: its digest and what it is.
    """

    recall: dict[int, float]
    interval: dict[int, tuple[float, float]]
    queries: int
    classes: int
    left_out: int
    unlabelled: int
    gallery: int
    protocol: str
    embedder: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON values: the Ks become strings."""
        values = asdict(self)
        values["recall"] = {str(k): value for k, value in self.recall.items()}
        values["interval"] = {str(k): list(ends) for k, ends in self.interval.items()}
        return values


def evaluate(
    queries: Labelled,
    gallery: Labelled,
    *,
    protocol: str,
    embedder: dict[str, Any],
    ks: Sequence[int] = KS,
    device: str = "cpu",
) -> Report:
    """Measure Recall@K of queries against a gallery by exact search.

    A query is never its own neighbour: gallery images with its id are excluded. Ties are broken by id, in the
    order of its characters, so the order of the inputs changes nothing.

    Args:
        queries: may be the gallery itself (leave-one-out).
        gallery: its unlabelled images stay in as distractors.
        protocol: a sentence for the report.
        embedder: for the report.
        ks: values of K, each at least 1.
        device: where neighbours are computed.

    Raises:
        InputError: there is nothing to measure.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"K must be at least 1; got {list(ks)}")
    order = {id: place for place, id in enumerate(sorted({*queries.ids, *gallery.ids}))}
    query_ids = np.array([order[id] for id in queries.ids], dtype=np.int64)
    gallery_ids = np.array([order[id] for id in gallery.ids], dtype=np.int64)
    names = sorted({label for label in (*queries.labels, *gallery.labels) if label is not None})
    code: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    query_codes = np.array([code.get(label, -1) for label in queries.labels], dtype=np.int64)
    # Never equal to a query's label, and not the -1 of an empty slot either.
    gallery_codes = np.array([code.get(label, -2) for label in gallery.labels], dtype=np.int64)

    labelled = query_codes >= 0
    relevant = np.bincount(gallery_codes[gallery_codes >= 0], minlength=len(names))
    own = dict(zip(gallery_ids.tolist(), gallery_codes.tolist(), strict=True))
    itself = np.array([own.get(id, -2) for id in query_ids.tolist()], dtype=np.int64) == query_codes
    others = np.where(labelled, relevant[query_codes] if len(names) else 0, 0) - (itself & labelled)
    measured = labelled & (others > 0)
    if not measured.any():
        raise InputError(
            "there is nothing to measure: no query has a label that another image of the gallery has too "
            f"({len(queries.ids)} queries, {int((~labelled).sum())} of them without a label)"
        )
    neighbours, _ = top_k(
        _unit(queries.vectors[measured]),
        _unit(gallery.vectors),
        max(ks),
        query_ids=query_ids[measured],
        gallery_ids=gallery_ids,
        exclude_self=True,
        device=device,
    )
    by_id = np.full(len(order) + 1, -1, dtype=np.int64)  # the last place is that of an empty slot's id, -1
    by_id[gallery_ids] = gallery_codes
    found = recall_from_labels(by_id[neighbours], query_codes[measured], ks)
    share = found.mean(axis=0)
    low, high = interval_over_classes(found, query_codes[measured]) or (share, share)  # of one class there is none
    return Report(
        recall={k: float(share[at]) for at, k in enumerate(ks)},
        interval={k: (float(low[at]), float(high[at])) for at, k in enumerate(ks)},
        queries=int(measured.sum()),
        classes=len(np.unique(query_codes[measured])),
        left_out=int((labelled & ~measured).sum()),
        unlabelled=int((~labelled).sum()),
        gallery=len(gallery.ids),
        protocol=protocol,
        embedder=embedder,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    # Rounding to float16 moves the length of a stored vector by up to 5e-4, which would reorder near ties.
    wide = vectors.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide
