"""From which agreement on a pair is called a copy, so that as many of those called so are copies as somebody wants."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from retrieval.errors import InputError
from retrieval.uncertainty import interval_of_share

FLOOR: Final = 0.5
"""Agreement below which nothing is called a copy, whatever was wanted: less than half of what is seen is the same."""

CAUTIOUS: Final = 0.8
"""The line where nothing is known of any pair: from here on other pictures seldom agree."""
BESIDE: Final = 0.05
"""Agreement within which known pairs say how sure another one is."""
SPARE: Final = 0.01
"""Share of the planted copies that a stricter line may lose."""


@dataclass(frozen=True)
class Threshold:
    """Where the line is, and what is known of it.

    Attributes:
        wanted: share of right ones among those called copies that was asked for, in (0, 1).
        agreement: pairs from this one on are called copies, in [0, 1].
        precision: share of right ones among the pairs known to be right or wrong from there on; 1 where there is none.
        low: lower end of its 95 % interval (Wilson); 0 where there is none.
        high: upper end.
        recall: share of the planted copies that are found and called so.
        planted: copies that were planted.
        judged: pairs that somebody has judged.
        ambiguous: pairs that were left out, since they may be copies that nobody planted.
        reached: whether the wanted precision is reached; if not, the line is where it is highest.
    """

    wanted: float
    agreement: float
    precision: float
    low: float
    high: float
    recall: float
    planted: int
    judged: int
    ambiguous: int
    reached: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """Pairs of which it is known whether they are copies.

    Attributes:
        agreement: (m,) float64 in [0, 1].
        right: (m,) bool.
        weight: (m,) float64 in [0, 1], how surely that is known; a pair of 0 counts for nothing.
        best: (p,) float64, of each planted copy the agreement with its original; 0 where it was not found.
        judged: how many of the pairs, the last ones, somebody has judged; the others are of planted copies.
        ambiguous: pairs that were left out.
    """

    agreement: np.ndarray
    right: np.ndarray
    weight: np.ndarray
    best: np.ndarray
    judged: int = 0
    ambiguous: int = 0

    def precision_from(self, agreement: np.ndarray) -> np.ndarray:
        """Share of right ones among the pairs at or above each of (k,) values; 1 where there is none."""
        order = np.argsort(-self.agreement, kind="stable")
        weight = self.weight[order]
        right = np.concatenate([[0.0], np.cumsum(weight * self.right[order])])
        every = np.concatenate([[0.0], np.cumsum(weight)])
        above = np.searchsorted(-self.agreement[order], -np.asarray(agreement), side="right")
        return np.asarray(np.where(every[above] == 0, 1.0, right[above] / np.maximum(every[above], 1e-9)))

    def sure(self, agreement: np.ndarray) -> np.ndarray:
        """How sure it is that pairs are copies: the share of right among those that agree as much, within ``BESIDE``.

        Args:
            agreement: (k,) of the pairs.

        Returns:
            (k,) float64 in (0, 1), by Laplace's rule of succession: never certain, and 0.5 where nothing is known.
        """
        order = np.argsort(self.agreement, kind="stable")
        weight, ordered = self.weight[order], self.agreement[order]
        right = np.concatenate([[0.0], np.cumsum(weight * self.right[order])])
        every = np.concatenate([[0.0], np.cumsum(weight)])
        first = np.searchsorted(ordered, np.asarray(agreement) - BESIDE)
        last = np.searchsorted(ordered, np.asarray(agreement) + BESIDE, side="right")
        return np.asarray((right[last] - right[first] + 1) / (every[last] - every[first] + 2))


def choose_threshold(evidence: Evidence, *, wanted: float) -> Threshold:
    """Choose an agreement from which pairs are right as often as wanted, and no lower than ``FLOOR``.

    Of all that are, the lowest would find the most copies. But planted copies are few, and what is seen of wrong pairs
    is less: so of those that lose hardly more, ``SPARE`` of the planted copies, the highest.

    Raises:
        InputError: a wanted precision that is no share.
    """
    if not 0.0 < wanted < 1.0:
        raise InputError(f"a precision is more than 0 and less than 1, such as 0.99; {wanted} is not")
    lines = np.concatenate([[FLOOR], np.unique(evidence.agreement[evidence.agreement > FLOOR])])
    precision = evidence.precision_from(lines)
    recall = (evidence.best[:, None] >= lines).mean(axis=0) if len(evidence.best) else np.zeros(len(lines))
    good = precision >= wanted
    if good.any():
        line = float(lines[good & (recall >= recall[good].max() - SPARE)].max())
    else:
        line = float(lines[np.argmax(precision)])
    known = len(evidence.agreement) > 0
    line = line if known else CAUTIOUS
    above = evidence.agreement >= line
    right = int((above & evidence.right).sum())
    of = right + int(np.ceil(evidence.weight[above & ~evidence.right].sum()))
    low, high = interval_of_share(right, of) if of else (0.0, 1.0)
    share = float(evidence.precision_from(np.array([line]))[0])
    return Threshold(
        wanted=wanted,
        agreement=line,
        precision=share,
        low=low,
        high=max(high, share),  # what is wrong in part was counted as a whole
        recall=float((evidence.best >= line).mean()) if len(evidence.best) else 0.0,
        planted=len(evidence.best),
        judged=evidence.judged,
        ambiguous=evidence.ambiguous,
        reached=known and bool(good.any()),
    )
