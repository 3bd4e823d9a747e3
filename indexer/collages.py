"""Pictures that show several others side by side: collages, and photographs that were cut in several ways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from indexer.copy_tables import Pairs, unordered
from retrieval.copies import HALF
from retrieval.regions import inverse, region

PART: Final = 0.6
"""Share of a picture up to which another one is only a part of it: the half of two side by side, and some."""
MEETING: Final = 0.1
"""Share of the smaller of two parts up to which they meet without being of one and the same place."""

_Box = tuple[float, float, float, float]


def in_parts(copies: Pairs, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Say which pairs are a picture and one of several others, no copies of each other, in different parts of it.

    Whether that picture was put together from the others, or they were cut from it, nobody can see; in a collage each
    is worth keeping.

    Args:
        copies: of nodes.
        sizes: width and height of every node.

    Returns:
        (m,) bool.
    """
    parts: dict[int, list[tuple[int, int, _Box]]] = defaultdict(
        list
    )  # of a node: pair, the other node, where it stands
    for at in np.flatnonzero(copies.row >= 0).tolist():
        one, other = copies.places[at].tolist()
        over = copies.told(at)[1]
        if over is None:
            continue
        for whole, part, side in ((one, other, 0), (other, one, 1)):
            if over.covered[side] <= PART and over.covered[1 - side] >= HALF:
                transform = inverse(over.transform) if side == 0 else over.transform
                outline = np.zeros((0, 2)) if transform is None else region(transform, sizes[part], sizes[whole])
                if len(outline):
                    low, high = outline.min(axis=0), outline.max(axis=0)
                    parts[whole].append((at, part, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))))
    known = set(unordered(copies.places).tolist()) if len(copies) else set()
    found = np.zeros(len(copies), bool)
    for several in parts.values():
        if any(
            _meeting(box, beside) <= MEETING and int(unordered(np.array([[part, other]]))[0]) not in known
            for number, (_, part, box) in enumerate(several)
            for _, other, beside in several[:number]
        ):
            found[[at for at, _, _ in several]] = True
    return found


def _meeting(one: _Box, other: _Box) -> float:
    """Share of the smaller of two boxes, left, top, right and bottom, that is in both."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    least = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0.0, wide) * max(0.0, high) / max(least, 1e-12)
