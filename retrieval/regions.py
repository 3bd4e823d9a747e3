"""Where one picture lies in another: the outline of what both show, as a page draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

LEAST_AREA: Final = 1e-6
"""Share of a picture below which nothing of it is shown."""
_NOTHING: Final = np.zeros((0, 2))


def region(transform: Sequence[float] | np.ndarray, size_from: tuple[int, int], size_to: tuple[int, int]) -> np.ndarray:
    """Outline, in one picture, what it shows of another.

    Args:
        transform: (2, 3), or its 6 numbers row by row: pixels of the other picture, x and y, to pixels of this one. A
            coordinate is the middle of a pixel, so that a picture goes from -0.5 to its size - 0.5.
        size_from: width and height of the other picture.
        size_to: width and height of this one.

    Returns:
        (n, 2) float64, the corners of a convex polygon in their order, x and y as shares of this picture's width and
        height, in [0, 1]; (0, 2) where it shows nothing, or the transform is none.
    """
    turn = _three(transform)
    if turn is None:
        return _NOTHING
    width, height = size_from
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        outline = (corners @ turn[:2, :2].T + turn[:2, 2] + 0.5) / np.array(size_to)
        for axis in (0, 1):
            outline = _beyond(outline, outline[:, axis])
            outline = _beyond(outline, 1 - outline[:, axis])
    if not np.isfinite(outline).all() or area(outline) < LEAST_AREA:
        return _NOTHING
    clipped: np.ndarray = np.clip(outline, 0, 1)
    return clipped


def inverse(transform: Sequence[float] | np.ndarray) -> np.ndarray | None:
    """Turn a transform round: (2, 3) float64, or None where it flattens the picture or is none."""
    turn = _three(transform)
    if turn is None:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        back = np.linalg.inv(turn)[:2]
    return back if np.isfinite(back).all() else None


def area(outline: np.ndarray) -> float:
    """Area of a polygon of corners (n, 2), whichever way round they go."""
    x, y = outline[:, 0], outline[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _three(transform: Sequence[float] | np.ndarray) -> np.ndarray | None:
    """A transform as (3, 3), or None where it is not six finite numbers or flattens the picture to a line."""
    given = np.asarray(transform, dtype=np.float64)
    if given.size != 6 or not np.isfinite(given).all():
        return None
    turn = np.vstack([given.reshape(2, 3), [0, 0, 1]])
    large, small = np.linalg.svd(turn[:2, :2], compute_uv=False)
    return turn if small > 1e-9 * large else None


def _beyond(outline: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Keep of a convex polygon (n, 2) what is on one side of a line (Sutherland and Hodgman, CACM 1974).

    ``side`` is (n,), the distance of each corner from the line, and not negative on the side that is kept.
    """
    kept = []
    for at in range(len(outline)):
        here, before = side[at], side[at - 1]
        if (here >= 0) != (before >= 0):
            kept.append(outline[at - 1] + (outline[at] - outline[at - 1]) * (before / (before - here)))
        if here >= 0:
            kept.append(outline[at])
    return np.array(kept) if kept else _NOTHING
