"""What a picture shows, without the even ground around it: a photo on a page, a product on white.

A network sees a small photo on a large white page as a page, and so does a layout. So such a picture is looked at once
more without what is around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retrieval.local_features import opencv

LOOKED: Final = 400
"""Longer side, in pixels, at which the ground is told from what stands on it."""
GROUND: Final = 0.2
"""Share of a picture that is one even colour, at least, for it to be a ground."""
MOST: Final = 0.5
"""Share of a picture that is left, at most, for it to be worth another look."""
LEAST: Final = 0.01
"""Share that is left at least: what is smaller is a logo, or a speck."""
SHORTEST: Final = 24
"""Shorter side, in pixels, of what is left."""
_EVEN: Final = 6  # levels between neighbours on even ground, after JPEG
_OTHER: Final = 16  # levels from the colour of the ground
_THIN: Final = 7  # lines of text and rules are no higher, of LOOKED
_GAP: Final = 5  # between parts of one thing
_SPECK: Final = 0.03  # share of a line beside the box that may differ without being part of what it shows


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half open."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """In pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """What lies in it: a view, not a copy."""
        return pixels[self.top : self.bottom, self.left : self.right]


def shown(pixels: np.ndarray) -> Box | None:
    """Find the largest thing that stands on even ground.

    Bars and lines of text beside it are left out as far as there is ground between.

    Args:
        pixels: (height, width, 3) uint8.

    Returns:
        Where it is, to about a ``LOOKED``-th of the longer side; None where there is no such ground, or where hardly
        anything would be left, or hardly anything left out.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    height, width = pixels.shape[:2]
    zoom = min(1.0, LOOKED / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    other = _off_ground(cv2, small)
    if other is None:
        return None
    box = _largest(cv2, other, small)
    if box is None:
        return None
    box = _grown(box, other.astype(bool))
    down, across = height / size[1], width / size[0]
    whole = Box(
        int(box.top * down), int(np.ceil(box.bottom * down)), int(box.left * across), int(np.ceil(box.right * across))
    )
    shorter = min(whole.bottom - whole.top, whole.right - whole.left)
    return whole if shorter >= SHORTEST and LEAST <= whole.area / (height * width) <= MOST else None


def _off_ground(cv2: Any, pixels: np.ndarray) -> np.ndarray | None:
    """Where a picture is not of the colour of its ground: (height, width) uint8, 0 or 1; None where it has none."""
    kernel = np.ones((3, 3), np.uint8)
    even = _highest(cv2, cv2.subtract(cv2.dilate(pixels, kernel), cv2.erode(pixels, kernel))) <= _EVEN
    flat = pixels[even]
    if len(flat) < GROUND * even.size:
        return None
    bins = (flat >> 3).astype(np.int32) @ np.array([1024, 32, 1])
    ground = np.median(flat[bins == np.bincount(bins).argmax()], axis=0).astype(np.uint8)
    off = _highest(cv2, cv2.absdiff(pixels, np.broadcast_to(ground, pixels.shape)))
    if (even & (off <= _OTHER)).sum() < GROUND * even.size:
        return None
    return np.asarray(off > _OTHER, np.uint8)


def _highest(cv2: Any, pixels: np.ndarray) -> np.ndarray:
    """Of the three channels: (height, width) uint8."""
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _largest(cv2: Any, other: np.ndarray, pixels: np.ndarray) -> Box | None:
    """The box of the thing that shows most, of what is left when bars and all that is thin are taken away."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    kernel = np.ones((3, 3), np.uint8)
    busy = np.asarray(cv2.subtract(cv2.dilate(grey, kernel), cv2.erode(grey, kernel)) > _EVEN, np.uint8)
    thick = cv2.morphologyEx(other, cv2.MORPH_OPEN, np.ones((_THIN, _THIN), np.uint8))
    thick = _without_bars(cv2, thick, busy)
    joined = cv2.morphologyEx(thick, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    shows = np.bincount(labels.ravel(), weights=busy.ravel(), minlength=count)
    shows[0] = 0
    left, top, wide, high, _ = stats[int(shows.argmax())].tolist()
    return Box(top, top + high, left, left + wide) if shows.any() else None


def _without_bars(cv2: Any, thick: np.ndarray, busy: np.ndarray) -> np.ndarray:
    """Take away what reaches from edge to edge and has nothing on it: its outline alone looks like a thing."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    across = (stats[:, cv2.CC_STAT_WIDTH] == thick.shape[1]) | (stats[:, cv2.CC_STAT_HEIGHT] == thick.shape[0])
    inside = cv2.erode(thick, np.ones((5, 5), np.uint8), borderValue=1)
    shows = np.bincount(labels.ravel(), weights=(inside & busy).ravel(), minlength=count)
    bars = across & (shows <= _SPECK * stats[:, cv2.CC_STAT_AREA])
    bars[0] = False
    return np.where(bars[labels], np.uint8(0), thick)


def _grown(box: Box, other: np.ndarray) -> Box:
    """A box with the lines beside it that are not of the ground, which opening took away."""
    top, bottom, left, right = box.top, box.bottom, box.left, box.right
    height, width = other.shape
    for _ in range(_THIN):
        if top > 0 and other[top - 1, left:right].mean() > _SPECK:
            top -= 1
        if bottom < height and other[bottom, left:right].mean() > _SPECK:
            bottom += 1
        if left > 0 and other[top:bottom, left - 1].mean() > _SPECK:
            left -= 1
        if right < width and other[top:bottom, right].mean() > _SPECK:
            right += 1
    return Box(top, bottom, left, right)
