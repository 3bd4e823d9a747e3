"""What is worth looking at in an evaluation: failures, hubs, pictures saved twice, a map."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from retrieval.labelled import Labelled
from retrieval.projection import embedding_map, spread_over_classes
from retrieval.report import Failure, Hit, Hub, Pair, Point
from retrieval.twins import NEAR, NEARLY

SHOWN: Final = 5
"""Hits of a failure."""
FAILURES: Final = 48
HUBS: Final = 24
TOO_OFTEN: Final = 4.0
"""A hub is a gallery image that is found this many times as often as it would be if all were found equally often."""


def failures_of(
    table: pa.Table, gallery: Labelled, gallery_codes: np.ndarray, neighbours: np.ndarray, similarities: np.ndarray
) -> tuple[list[Failure], int]:
    """Pick the queries whose nearest image is wrong, the most similar wrong one first.

    Args:
        table: ``QUERIES_SCHEMA``, q rows.
        gallery: m images.
        gallery_codes: (m,) int64.
        neighbours: (q, k) int64, positions in the gallery, -1 in empty slots.
        similarities: (q, k).

    Returns:
        At most ``FAILURES`` of them, each of another query class as far as that goes, and how many there are.
    """
    ranks = table.column("ranks").combine_chunks()
    first = ranks.flatten().take(ranks.offsets[:-1]).fill_null(0).to_numpy()
    wrong = np.flatnonzero(first != 1)
    order = wrong[np.argsort(-similarities[wrong, 0], kind="stable")]
    # One of each class before a second of any: ten shots of one bad apple teach less than ten classes.
    labels = table.column("label").to_pylist()
    turn: dict[str, int] = {}
    turns = []
    for row in order.tolist():
        turns.append(turn.setdefault(labels[row], 0))
        turn[labels[row]] += 1
    chosen = order[np.argsort(turns, kind="stable")[:FAILURES]]
    rows = table.take(pa.array(chosen)).to_pylist()
    found = []
    for row, at in zip(rows, chosen.tolist(), strict=True):
        got = [
            Hit(
                gallery.ids[place],
                gallery.labels[place],
                rank,
                float(similarity),
                gallery.labels[place] == row["label"],
            )
            for rank, (place, similarity) in enumerate(
                zip(neighbours[at, :SHOWN].tolist(), similarities[at, :SHOWN].tolist(), strict=True), 1
            )
            if place >= 0
        ]
        right = None
        if row["right"] is not None:
            right = Hit(row["right"], row["label"], row["ranks"][0], row["right_similarity"], True)
        found.append(Failure(row["id"], row["label"], got, right))
    return found, len(wrong)


def hubs_of(gallery: Labelled, query_codes: np.ndarray, gallery_codes: np.ndarray, neighbours: np.ndarray) -> list[Hub]:
    """Find the images that are among the nearest of too many queries (Radovanović et al., JMLR 2010).

    Args:
        gallery: m images.
        query_codes: (q,) int64.
        gallery_codes: (m,) int64.
        neighbours: (q, k) int64, positions in the gallery, -1 in empty slots.
    """
    real = neighbours >= 0
    places = neighbours[real]
    right = (gallery_codes[neighbours] == query_codes[:, None])[real]
    count = np.bincount(places, minlength=len(gallery.ids))
    by_right = np.bincount(places[right], minlength=len(gallery.ids))
    expected = len(places) / len(gallery.ids)
    often = [at for at in np.argsort(-count, kind="stable")[:HUBS].tolist() if count[at] > max(2, TOO_OFTEN * expected)]
    return [Hub(gallery.ids[at], gallery.labels[at], int(count[at]), int(by_right[at])) for at in often]


def near_pairs(
    table: pa.Table, gallery: Labelled, neighbours: np.ndarray, similarities: np.ndarray, *, one_set: bool
) -> list[Pair]:
    """Pair queries with gallery images of other classes that may be the same picture, as the embedder sees them.

    Of one class, shots that are nearly the same are as they should be, and a good embedder makes them so.

    Args:
        table: ``QUERIES_SCHEMA``, q rows.
        gallery: m images.
        neighbours: (q, k) int64, positions in the gallery, -1 in empty slots.
        similarities: (q, k).
        one_set: whether queries and gallery are the same images, so that a pair comes from both its ends.
    """
    ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
    where = "test/test" if one_set else "query/gallery"
    found: dict[tuple[str, str], Pair] = {}
    for row, slot in np.argwhere((similarities >= NEAR) & (neighbours >= 0)).tolist():
        place = int(neighbours[row, slot])
        first, second = ids[row], gallery.ids[place]
        names = (labels[row], gallery.labels[place] or "")
        if names[0] == names[1] or not names[1]:
            continue
        if one_set and second < first:
            first, second, names = second, first, (names[1], names[0])
        similarity = float(similarities[row, slot])
        found.setdefault((first, second), Pair(first, second, where, names, NEARLY, similarity))
    return list(found.values())


def points_of(table: pa.Table, queries: np.ndarray, query_codes: np.ndarray, most: int) -> list[Point]:
    """Lay out some of the queries, (q, dim), on a map: of every class as many as of any, as far as it has them."""
    chosen = spread_over_classes(query_codes, most)
    ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
    layout = embedding_map(queries[chosen])
    return [Point(ids[at], labels[at], float(x), float(y)) for at, (x, y) in zip(chosen.tolist(), layout, strict=False)]
