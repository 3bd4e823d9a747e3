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
"""Cosine similarity from which two pictures of different classes may be one, saved or cut anew: candidates, as the
embedder sees them. Of the cars, by the bundled embedder, all pairs above it are."""
WITHIN: Final = 8
"""Members of a group of equal pictures that are paired with each other; of larger groups the first of each part and
label with all others."""


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
        pairs = set(combinations(places, 2))
        if len(places) > WITHIN:
            heads = {(parts[place], labels[place]): place for place in reversed(places)}.values()
            pairs = {(min(head, other), max(head, other)) for head in heads for other in places if other != head}
        for first, second in sorted(pairs):
            if (ids[first], parts[first]) != (ids[second], parts[second]):
                where = f"{parts[first]}/{parts[second]}"
                names = (labels[first] or "", labels[second] or "")
                found.append(Pair(ids[first], ids[second], where, names, SAME, 1.0))
    return found


def in_order(pairs: Iterable[Pair]) -> list[Pair]:
    """Sort pairs, what harms a number most first: the same bytes across parts, with other labels, then the rest."""

    def key(pair: Pair) -> tuple[bool, bool, bool, float, str, str]:
        return (pair.kind != SAME, not pair.leaking, not pair.conflicting, -pair.similarity, pair.first, pair.second)

    return sorted(pairs, key=key)
