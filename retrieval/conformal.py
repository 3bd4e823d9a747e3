"""Sets of labels that hold the right one as often as was asked, whatever the probabilities are worth.

Split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World", 2005): a nonconformity is computed
for pictures that were held out of all fitting; a set has every label whose nonconformity is no higher than that of the
wanted share of them. If pictures to come are exchangeable with those, a set holds the right label with at least the
probability asked for, and with at most 1 / (n + 1) more.

The nonconformity is that of adaptive sets (Romano et al., NeurIPS 2020): the probability of all that is likelier than
the label; here "none of these" is always likelier, with the probability of the picture being of no known label. So a
set is empty where a picture looks foreign, and grows where labels are hard to tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.errors import InputError

MOST: Final = 5000  # nonconformities that are kept
TIE: Final = 1e-9


def nonconformities(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Give the nonconformity of each label of each picture, (n, c) float64 in [0, 1].

    Args:
        probabilities: (n, c), rows summing to 1.
        known: (n,), probability of being of any of the labels.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    found = np.empty_like(before)
    np.put_along_axis(found, order, np.maximum(before, 0.0), axis=1)
    return np.asarray((1 - known)[:, None] + known[:, None] * found)


@dataclass(frozen=True)
class Conformal:
    """Nonconformities of right labels, ascending.

    Attributes:
        values: of all held-out pictures.
        by_label: label → those of its pictures.
    """

    values: tuple[float, ...]
    by_label: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, values: np.ndarray, labels: list[str]) -> Conformal:
        """Keep the nonconformities (n,) of the right labels of n pictures, in the order of the pictures."""
        values, labels = values[:MOST], labels[:MOST]
        by_label: dict[str, list[float]] = {}
        for value, label in zip(values.tolist(), labels, strict=True):
            by_label.setdefault(label, []).append(value)
        return cls(
            tuple(sorted(values.tolist())), {label: tuple(sorted(by_label[label])) for label in sorted(by_label)}
        )

    def limit(self, coverage: float) -> float:
        """Give the nonconformity up to which labels are in a set.

        Raises:
            InputError: too few pictures were held out for sets of this coverage.
        """
        return _limit(self.values, coverage, "there are")

    def limits(self, coverage: float, labels: list[str]) -> np.ndarray:
        """Give the limit of each label, (c,), so that the coverage holds for the pictures of each.

        Raises:
            InputError: too few pictures of a label were held out.
        """
        return np.array([_limit(self.by_label.get(label, ()), coverage, f"of {label} there are") for label in labels])


def _limit(values: tuple[float, ...], coverage: float, of: str) -> float:
    if not 0 < coverage < 1:
        raise InputError(f"coverage must be above 0 and below 1, not {coverage:g}")
    place = math.ceil((len(values) + 1) * coverage - TIE)
    if place > len(values):
        needed = math.ceil(coverage / (1 - coverage) * (1 - TIE))
        raise InputError(
            f"sets that cover {100 * coverage:g} % need {needed:,} pictures to be calibrated on, and {of} "
            f"{len(values):,}; calibrate with more, or ask for less coverage"
        )
    return values[place - 1]


def sets(found: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Say which labels are in the set of each picture: nonconformities (n, c) → (n, c) bool."""
    return np.asarray(found <= limit + TIE)
