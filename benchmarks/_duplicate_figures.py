"""What found pairs are worth, given the truth: pure functions of arrays.

A pair is named by the places (a, b) of its files in the truth. It is

- right: an original and a copy of it;
- right besides: two copies of one original. It counts for precision, and nobody misses it;
- outside: of originals known to be the same photograph, or of their copies; it counts for nothing;
- wrong: of two photographs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

WRONG, RIGHT, BESIDES, OUTSIDE = 0, 1, 2, 3
CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Truth:
    """What is known of each file.

    Attributes:
        names: of the files, ascending.
        photo: (n,) int64, the same number for the same photograph.
        original: (n,) int64, the same number for an original and its copies.
        edit: "" for an original; two edits are joined with "+".
        strength: (n,) int64; 0 for an original.
    """

    names: Sequence[str]
    photo: np.ndarray
    original: np.ndarray
    edit: Sequence[str]
    strength: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int, int, str, int]]) -> Truth:
        """Take rows of name, photograph, original, edit and strength, in ascending order of the names."""
        names, photo, original, edit, strength = zip(*rows, strict=True)
        assert list(names) == sorted(set(names)), "names are in order, none twice"
        return cls(names, np.array(photo), np.array(original), edit, np.array(strength))

    @property
    def planted(self) -> np.ndarray:
        """Which files are copies: (n,) bool."""
        return np.asarray(self.strength > 0)

    def cell(self, edit: str, strength: int | None = None) -> np.ndarray:
        """Which files are copies of that kind: (n,) bool. "+" means two edits, and "*" any single one."""
        several = np.array(["+" in each for each in self.edit])
        if edit == "+":
            return several
        of_edit = self.planted & ~several if edit == "*" else np.array([each == edit for each in self.edit])
        return of_edit if strength is None else of_edit & (self.strength == strength)


@dataclass(frozen=True)
class Pairs:
    """Pairs that somebody found.

    Attributes:
        a: (m,) int64, places in the truth.
        b: (m,) int64, above ``a``; no pair twice.
        nearness: (m,) float64, higher is nearer; NaN where it was not told.
    """

    a: np.ndarray
    b: np.ndarray
    nearness: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, nearness: np.ndarray) -> Pairs:
        """Take pairs in any order; of one that comes twice the nearest stays, and nothing is paired with itself."""
        a, b = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
        order = np.lexsort([-nearness, b, a])
        a, b, nearness = a[order], b[order], np.asarray(nearness, np.float64)[order]
        again = np.zeros(len(a), bool)
        again[1:] = (a[1:] == a[:-1]) & (b[1:] == b[:-1])
        keep = ~again & (a != b)
        return cls(a[keep], b[keep], nearness[keep])

    def take(self, chosen: np.ndarray) -> Pairs:
        """Some of them."""
        return Pairs(self.a[chosen], self.b[chosen], self.nearness[chosen])

    def __len__(self) -> int:
        return len(self.a)


def judge(truth: Truth, pairs: Pairs) -> np.ndarray:
    """What each pair is: (m,) int64 of ``RIGHT``, ``BESIDES``, ``OUTSIDE``, ``WRONG``."""
    a, b = pairs.a, pairs.b
    same = truth.photo[a] == truth.photo[b]
    of_one = truth.original[a] == truth.original[b]
    direct = truth.planted[a] != truth.planted[b]
    return np.select([same & of_one & direct, same & of_one, same], [RIGHT, BESIDES, OUTSIDE], WRONG)


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval; NaN where there was nothing to count."""

    value: float
    low: float
    high: float
    right: int
    of: int

    def __str__(self) -> str:
        if self.of == 0:
            return "-"
        return f"{100 * self.value:.1f} ({100 * self.low:.1f}-{100 * self.high:.1f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "right": self.right, "of": self.of}


def share(right: np.ndarray, cluster: np.ndarray) -> Share:
    """Share of trials that went right, with an interval that knows that trials of one cluster go alike.

    The trials are worth as many independent ones as would give the variance between clusters, never more than there
    are; of those the exact interval is taken (Korn and Graubard, Survey Methodology 1998). Where all went the same
    way there is no variance, and each cluster counts as one trial.

    Args:
        right: (n,) bool.
        cluster: (n,) int64, such as the original.
    """
    from scipy.stats import beta

    n, k = len(right), int(np.sum(right))
    if n == 0:
        return Share(float("nan"), float("nan"), float("nan"), 0, 0)
    value = k / n
    _, of = np.unique(cluster, return_inverse=True)
    m = int(of.max()) + 1
    if 0 < k < n and m > 1:
        off = np.bincount(of, weights=right - value, minlength=m)
        variance = m / (m - 1) * float((off**2).sum()) / n**2
        worth = min(float(n), value * (1 - value) / variance) if variance > 0 else float(n)
    else:
        worth = float(m)
    tail = (1 - CONFIDENCE) / 2
    hits = value * worth
    low = float(beta.ppf(tail, hits, worth - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, worth - hits)) if hits < worth else 1.0
    return Share(value, low, high, k, n)


@dataclass(frozen=True)
class Figures:
    """How good some pairs are.

    Attributes:
        recall: of the copies of a kind, those found with their original.
        linked: the same, or by way of other copies of it: those that would come into one group with it.
        precision: of the pairs found, those that are right or right besides.
        strict: the same without pairs that are right besides.
    """

    recall: Share
    linked: Share
    precision: Share
    strict: Share

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name).to_dict() for name in ("recall", "linked", "precision", "strict")}


def figures(truth: Truth, pairs: Pairs, kind: np.ndarray | None = None) -> Figures:
    """Measure pairs; with ``kind``, (n,) bool, only copies of that kind and the pairs that have one in them.

    Without it all pairs count, those of two originals too.
    """
    what = judge(truth, pairs)
    found = np.zeros(len(truth.names), bool)
    direct = what == RIGHT
    found[pairs.a[direct]] = True
    found[pairs.b[direct]] = True
    wanted = truth.planted if kind is None else kind
    linked = _linked(truth, pairs.take((what == RIGHT) | (what == BESIDES)))
    counts = np.ones(len(pairs), bool) if kind is None else kind[pairs.a] | kind[pairs.b]
    side = pairs.a if kind is None else np.where(kind[pairs.a], pairs.a, pairs.b)
    cluster = truth.original[side]
    seen = counts & (what != OUTSIDE)
    firm = seen & (what != BESIDES)
    return Figures(
        share(found[wanted], truth.original[wanted]),
        share(linked[wanted], truth.original[wanted]),
        share(what[seen] != WRONG, cluster[seen]),
        share(what[firm] == RIGHT, cluster[firm]),
    )


def _linked(truth: Truth, pairs: Pairs) -> np.ndarray:
    """Which files a chain of pairs leads to their original from: (n,) bool."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(truth.names)
    _, component = connected_components(coo_array((np.ones(len(pairs), bool), (pairs.a, pairs.b)), shape=(n, n)))
    of_original = dict(zip(truth.original[~truth.planted].tolist(), component[~truth.planted].tolist(), strict=True))
    wanted = np.array([of_original[place] for place in truth.original.tolist()])
    return np.asarray(wanted == component)


def best_point(truth: Truth, pairs: Pairs, *, precision: float) -> float | None:
    """Find, in hindsight, the lowest nearness from which on pairs are right as often as wanted; None: there is none.

    Recall never falls as the line is lowered, so no other line with that precision finds more.
    """
    order = np.argsort(-pairs.nearness, kind="stable")
    nearness = pairs.nearness[order]
    what = judge(truth, pairs)[order]
    right = np.cumsum((what == RIGHT) | (what == BESIDES))
    wrong = np.cumsum(what == WRONG)
    last = np.append(nearness[1:] != nearness[:-1], True) if len(nearness) else np.zeros(0, bool)
    good = last & ~np.isnan(nearness) & (right > 0) & (right >= precision * (right + wrong))
    return float(nearness[np.flatnonzero(good)[-1]]) if good.any() else None
