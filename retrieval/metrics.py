"""Retrieval metrics, a query at a time, from the labels of its neighbours; means and intervals over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

RESAMPLES: Final = 2000


def recall_at_k(neighbour_labels: np.ndarray, query_labels: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Say for each query whether one of its K nearest neighbours has its label.

    Recall@K of a test set, as the field uses the word since Jegou et al. (TPAMI 2011), is the mean over queries:
    the share with at least one relevant image among the K nearest. It is not the share of relevant images found.

    Args:
        neighbour_labels: (n, k) int64, nearest first, the query itself excluded; -1 in empty slots.
        query_labels: (n,) int64, none negative.
        ks: the values of K, each at most k.

    Returns:
        (n, len(ks)) bool.
    """
    assert max(ks) <= neighbour_labels.shape[1] and min(ks) >= 1
    relevant = neighbour_labels == query_labels[:, None]  # (n, k)
    found_by = np.logical_or.accumulate(relevant, axis=1)  # (n, k)
    return np.asarray(found_by[:, [k - 1 for k in ks]])


def interval_over_classes(
    values: np.ndarray, labels: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap a confidence interval of means by drawing classes, not queries.

    Queries of one class rise and fall together, so an interval over queries would be too narrow.

    Args:
        values: (n, m), what each query scored, m measures.
        labels: (n,) the class of each query, any integers.
        confidence: share of resamples inside the interval.
        seed: of the resampling.

    Returns:
        Lower and upper ends, (m,) each; both NaN when there is no query.
    """
    if len(values) == 0:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    classes, place = np.unique(labels, return_inverse=True)
    count = np.bincount(place).astype(np.float64)  # (c,)
    total = np.zeros((len(classes), values.shape[1]))  # (c, m)
    np.add.at(total, place, values.astype(np.float64))
    drawn = np.random.default_rng(seed).multinomial(len(classes), np.full(len(classes), 1 / len(classes)), RESAMPLES)
    means = (drawn @ total) / (drawn @ count)[:, None]  # (resamples, m)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high
