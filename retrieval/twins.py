"""The same picture twice: leakage from training into the test, and labels that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

from retrieval.report import Pair

SAME: Final = "same bytes"
NEARLY: Final = "nearly the same vector"
NEAR: Final = 0.97
"""Cosine similarity from which two pictures of different classes or parts may be one, saved or cut anew. Of the
cars, by the bundled embedder, all pairs above it are."""
WITHIN: Final = 8
"""Members of a group of equal pictures that are paired with each other; of larger groups each with the first."""


def same_bytes(
    ids: Sequence[str], parts: Sequence[str], labels: Sequence[str | None], digests: Sequence[bytes | None]
) -> list[Pair]:
    """Pair images whose files are equal byte for byte.

    Args:
        ids: n strings.
        parts: n, the part of the split that each is in.
        labels: n; None where there is none.
        digests: n SHA-256; None where the image could not be read.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(place)
    found = []
    for places in groups.values():
        pairs: Iterable[tuple[int, int]] = (
            combinations(places, 2) if len(places) <= WITHIN else ((places[0], other) for other in places[1:])
        )
        for first, second in pairs:
            if (ids[first], parts[first]) != (ids[second], parts[second]):
                where = f"{parts[first]}/{parts[second]}"
                names = (labels[first] or "", labels[second] or "")
                found.append(Pair(ids[first], ids[second], where, names, SAME, 1.0))
    return found


def in_order(pairs: Iterable[Pair]) -> list[Pair]:
    """Sort pairs, what harms a number most first: across parts, then contradicting labels, then the rest."""

    def key(pair: Pair) -> tuple[bool, bool, bool, float, str, str]:
        first, _, second = pair.where.partition("/")
        return (not pair.conflicting, first == second, pair.kind != SAME, -pair.similarity, pair.first, pair.second)

    return sorted(pairs, key=key)
