"""Pairs of copies → groups of copies, without chains: all of a group are copies of one and the same picture of it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np


def group_by_best(pairs: np.ndarray, rank: np.ndarray, strength: np.ndarray | None = None) -> np.ndarray:
    """Gather what belongs together around the best of it.

    Connected components would chain: a cut to the left is a copy of the whole, the whole of a cut to the right, and a
    collage of everything. So within a component the best one takes what is paired with it, and of what is left the best
    again, until nothing is left. What is paired with several of these goes to the one it is paired with most strongly.

    Args:
        pairs: (m, 2) integers, places of things that are copies of each other; neither order nor repetition matters.
        rank: (n,) integers, each once; the lowest is the best of all.
        strength: (m,) of the pairs; None: all are alike, and the best of several takes it.

    Returns:
        (n,) int64: the place of the best of its group for every thing, its own place where it is in no group or is the
        best itself.
    """
    n = len(rank)
    best = np.arange(n, dtype=np.int64)
    near: dict[int, dict[int, float]] = defaultdict(dict)
    both = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).tolist()
    for (one, other), value in zip(both, np.zeros(len(both)) if strength is None else strength, strict=True):
        if one != other:
            near[one][other] = near[other][one] = max(float(value), near[one].get(other, -np.inf))
    # In order of rank the first that nobody has taken is the best of what is left of its component.
    found: set[int] = set()
    for place in sorted(near, key=lambda at: int(rank[at])):
        ahead = [other for other in near[place] if other in found]
        if ahead:
            best[place] = max(ahead, key=lambda other: (near[place][other], -int(rank[other])))
        else:
            found.add(place)
    return best


def components(pairs: np.ndarray, n: int) -> np.ndarray:
    """Number what hangs together: (n,) int64, equal where pairs lead from one to the other, the lowest place of it."""
    parent = np.arange(n, dtype=np.int64)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for one, other in np.asarray(pairs, dtype=np.int64).reshape(-1, 2).tolist():
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return np.array([root(place) for place in range(n)], dtype=np.int64)
