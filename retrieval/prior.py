"""What is known of a picture besides: how much likelier each label is in a region, a month, a shop.

Counts of labels for each value of a column, smoothed towards the labels' shares in all; the probabilities of a picture
are multiplied with how much more frequent a label is for its value than in all (as Mac Aodha et al., ICCV 2019, do with
a learned prior). The smoothing is what makes each item's label most probable for its value, itself left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

NOT_COUNTED: Final = -1
SMOOTHINGS: Final = tuple(float(2**power) for power in range(-1, 15))


@dataclass(frozen=True)
class Prior:
    """Counts of c labels for each of v values.

    Attributes:
        values: v strings, sorted.
        counts: (v, c) int64.
        smoothing: images that the labels' shares in all count for.
    """

    values: Sequence[str]
    counts: np.ndarray
    smoothing: float

    @classmethod
    def of(cls, values: Sequence[str | None], codes: np.ndarray, classes: int) -> Prior:
        """Count items with labels (n,) int64 and a value each; those without a value say nothing."""
        names = sorted({value for value in values if value is not None})
        place = {name: at for at, name in enumerate(names)}
        at = np.array([place.get(value, -1) if value is not None else -1 for value in values], dtype=np.int64)
        cells = at[at >= 0] * classes + codes[at >= 0]
        counts = np.bincount(cells, minlength=len(names) * classes).reshape(len(names), classes)
        return cls(names, counts, _smoothing(counts))

    def factors(self, values: Sequence[str | None], *, counted: np.ndarray | None = None) -> np.ndarray:
        """Give what to multiply the probabilities of each label with, (n, c); 1 for a value that no item has.

        Args:
            values: n of them; None: nothing is known.
            counted: (n,) int64, the label of a picture that is itself among the items of its value, and is left out of
                them; ``NOT_COUNTED`` of one that is not. None: none is.
        """
        place = {name: at for at, name in enumerate(self.values)}
        at = np.array([place.get(value, -1) if value is not None else -1 for value in values], dtype=np.int64)
        heard = np.flatnonzero(at >= 0)
        own = self.counts[at[heard]]  # (heard, c), a copy
        if counted is not None:
            itself = counted[heard]
            rows = np.flatnonzero(itself != NOT_COUNTED)
            own[rows, itself[rows]] -= 1
        of_all = _shares(self.counts)
        found = np.ones((len(at), self.counts.shape[1]))
        found[heard] = (own + self.smoothing * of_all) / (own.sum(axis=1, keepdims=True) + self.smoothing) / of_all
        return found


def with_factors(probabilities: np.ndarray, factors: np.ndarray | None) -> np.ndarray:
    """Multiply probabilities (n, c) with factors (n, c), rows summing to 1 again; None: as they are."""
    if factors is None:
        return probabilities
    found = probabilities * factors
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _shares(counts: np.ndarray) -> np.ndarray:
    # One more of each, so that a label which no item with a value has is not impossible.
    whole = counts.sum(axis=0) + 1.0
    return np.asarray(whole / whole.sum())


def _smoothing(counts: np.ndarray) -> float:
    of_all = _shares(counts)
    there = counts > 0
    wide = np.broadcast_to(of_all, counts.shape)[there]
    whole = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)[there]
    own = counts[there]

    def loss(smoothing: float) -> float:
        return float(-(own * np.log((own - 1 + smoothing * wide) / (whole - 1 + smoothing))).sum())

    return min(SMOOTHINGS, key=loss)
