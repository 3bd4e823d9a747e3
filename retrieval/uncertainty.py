"""How sure a measured number is: intervals, tests and what a test set can resolve, by classes and not by queries."""

from __future__ import annotations

from typing import Final

import numpy as np

RESAMPLES: Final = 2000


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
