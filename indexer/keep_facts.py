"""What the rules for which copy to keep look at, and what of it the copies of a picture say about it.

That is whether it is framed, cut, stretched or made larger, beside them, and whether it is clearly sharper, or its file
clearly larger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from indexer.keep_best import Candidate
from retrieval.copies import WHOLE, Overlay, framed
from retrieval.grain import LARGER, Grain, interpolated
from retrieval.grouping import components

ALIKE: Final = 0.98
"""Share of the pixels of the largest from which a picture is as large: what an overlay does not know more exactly."""
CLEARLY: Final = 0.5
"""Share of the largest from which a file is as large, or a picture as sharp: an edit may have so much more, by its
contrast, the edges of its blocks, or how it was saved anew."""
EXACT: Final = 0.03
"""Deviation of an overlay's scale from the ratio of the sizes up to which it is that ratio."""


@dataclass(frozen=True)
class Standing:
    """How a picture stands beside its copies.

    Attributes:
        framed: whether it seems to have a frame or a page around what they show.
        scaled: whether it seems to be one of them made larger or stretched.
        pixels: of those that are its own; as many for all of its copies that have about as many.
        hidden: share of a copy that it does not show, at most, frames and pages left out, in [0, 1].
        size: bytes of the file; as many for all of its copies that have about as many.
        sharpness: as of ``FINGERPRINTS_SCHEMA``; the same for all of its copies that are about as sharp.
    """

    framed: bool
    scaled: bool
    pixels: int
    hidden: float
    size: int
    sharpness: float


def candidate_of(
    facts: Mapping[str, Any],
    standing: Standing | None,
    *,
    row: int,
    uri: str,
    grey: bool,
    modified: float | None = None,
    id: str = "",
) -> Candidate:
    """Join what is known of a picture to what the rules of ``indexer.keep_best`` look at.

    Args:
        facts: width and height, pixels, and bytes, format, sharpness, metadata and resaved as of
            ``FINGERPRINTS_SCHEMA``.
        standing: beside its copies; None where it has none.
        row: of the item, or the place by which the first of equals is told.
        uri: of the item.
        grey: whether it has no colours.
        modified: when the file was last written, seconds since 1970; None where nothing says so.
        id: of the item, where that is another name than the uri.
    """
    return Candidate(
        row=row,
        uri=uri,
        width=facts["width"],
        height=facts["height"],
        bytes=facts["bytes"],
        format=facts["format"],
        sharpness=facts["sharpness"] if standing is None else standing.sharpness,
        metadata=facts["metadata"],
        framed=standing is not None and standing.framed,
        modified=modified,
        grey=grey,
        pixels=None if standing is None else standing.pixels,
        size=None if standing is None else standing.size,
        scaled=standing is not None and standing.scaled,
        hidden=0.0 if standing is None else standing.hidden,
        resaved=facts["resaved"],
        id=id,
    )


def standings(
    sizes: Sequence[tuple[int, int]],
    facts: Sequence[Mapping[str, Any]],
    pairs: Iterable[tuple[int, int, Overlay | None]],
    grain: Callable[[int], Grain],
) -> dict[int, Standing]:
    """Tell how pictures stand beside their copies.

    Args:
        sizes: width and height of every picture, pixels.
        facts: of every picture, ``bytes`` and ``sharpness`` as for ``candidate_of``.
        pairs: places of two that are copies, and how the first lies over the second; None: as it is.
        grain: of the picture at a place; asked where one of two is the larger.

    Returns:
        By the place of every picture that is in a pair.
    """
    with_frame = set[int]()
    hidden: dict[int, float] = defaultdict(float)
    factors: dict[int, tuple[float, float]] = {}
    both = []
    for one, other, over in pairs:
        both.append((one, other))
        if over is None:
            continue
        for at, beside, side in ((one, other, 0), (other, one, 1)):
            if framed(over.covered[side], over.beyond[side]):
                with_frame.add(at)
            elif over.covered[side] < WHOLE:
                hidden[beside] = max(hidden[beside], 1 - over.covered[side])
        for at, beside, laid in ((one, other, over.swapped()), (other, one, over)):
            linear = _exactly(laid, sizes[beside], sizes[at])
            if np.linalg.norm(linear, axis=1).max() > LARGER:
                found = interpolated(grain(beside), grain(at), linear)
                # Beside its thumbnail it may be larger than it is beside what it was made of.
                if max(found) > 1 and np.prod(found) < np.prod(factors.get(at, (np.inf, 1))):
                    factors[at] = found
    places = sorted({place for pair in both for place in pair})
    own = {at: sizes[at][0] * sizes[at][1] / float(np.prod(factors.get(at, (1, 1)))) for at in places}
    together = components(np.array(both, np.int64), len(sizes))
    pixels = {at: round(level) for at, level in _levelled(own, {at: together[at] for at in places}, ALIKE).items()}
    # What is put behind for more than that says nothing of the sharpness and the bytes of others.
    alike = {at: (together[at], pixels[at], at in with_frame, at in factors) for at in places}
    size, sharp = (
        _levelled({at: float(facts[at][name]) for at in places}, alike, CLEARLY) for name in ("bytes", "sharpness")
    )
    return {
        at: Standing(at in with_frame, at in factors, pixels[at], hidden[at], round(size[at]), sharp[at])
        for at in places
    }


def _exactly(over: Overlay, first: tuple[int, int], second: tuple[int, int]) -> np.ndarray:
    """The linear part of an overlay of two pictures, scaled by their sizes where all of both is shown: (2, 2)."""
    linear = over.transform[:, :2]
    crossed = np.trace(np.abs(linear)) < np.trace(np.abs(linear[::-1]))
    factors = np.linalg.norm(linear, axis=1)
    wanted = np.array(second) / (first[::-1] if crossed else first)
    if min(over.covered) < WHOLE or (factors < 1e-6).any() or (np.abs(wanted / factors - 1) > EXACT).any():
        return linear
    exact: np.ndarray = linear * (wanted / factors)[:, None]
    return exact


def _levelled(own: Mapping[int, float], belongs: Mapping[int, Hashable], alike: float) -> dict[int, float]:
    """Give pictures that belong together and have about as much of something the same number, that of the largest."""
    levels: dict[int, float] = {}
    heads: dict[Hashable, float] = {}  # of what belongs together
    for at in sorted(own, key=lambda place: (-own[place], place)):
        head = heads.get(belongs[at])
        if head is None or own[at] < alike * head:
            head = heads[belongs[at]] = own[at]
        levels[at] = head
    return levels
