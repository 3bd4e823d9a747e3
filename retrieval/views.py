"""Other views of a picture, by which its copies are found before they are looked at: turned, mirrored, cut, shrunk.

A network sees that a picture is the same however it was saved, but not when it was turned, and less and less of it when
it was cut or framed. So copies are searched with the vectors of several views. Where nothing was cut, the layout says
the same for nothing: where the light and the dark are, on a coarse grid that can be turned and mirrored as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from retrieval.local_features import opencv

GRID: Final = 12
"""Rows and columns of a layout."""
KEPT: Final = 0.72
"""Share of each side that a cut view keeps: half of the picture."""

View = Callable[[np.ndarray], np.ndarray]
"""(height, width, 3) uint8 → the same of another size; nothing is written to."""


def turned(quarters: int, *, mirrored: bool = False) -> View:
    """The view that is turned by quarters anticlockwise, after being mirrored left to right or not."""
    return lambda pixels: np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)


def cut(down: float, across: float) -> View:
    """The view of a window with ``KEPT`` of both sides; 0 is at the top and at the left, 1 at the other end."""

    def window(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        high, wide = max(1, round(KEPT * height)), max(1, round(KEPT * width))
        top, left = round(down * (height - high)), round(across * (width - wide))
        return pixels[top : top + high, left : left + wide]

    return window


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """The view as if more had been around it: what a picture may have looked like before it was cut."""
    height, width = pixels.shape[:2]
    down, across = min(height // 6, height - 1), min(width // 6, width - 1)
    return np.pad(pixels, ((down, down), (across, across), (0, 0)), mode="reflect")


_TURNED: Final = tuple(turned(quarters) for quarters in (1, 2, 3))
_MIRRORED: Final = tuple(turned(quarters, mirrored=True) for quarters in (0, 1, 2, 3))
_CORNERS: Final = tuple(cut(down, across) for down in (0, 1) for across in (0, 1))

EFFORTS: Final[Mapping[str, tuple[View, ...]]] = {
    "quick": (),
    "usual": (*_TURNED, cut(0.5, 0.5), shrunk),
    "thorough": (*_TURNED, *_MIRRORED, cut(0.5, 0.5), *_CORNERS, shrunk),
}
"""How hard copies are looked for → the views beside the picture itself, each an embedding. Networks that learned from
mirrored pictures see a mirrored one as the same, so the usual effort leaves mirrors to the layout."""


def layout(pixels: np.ndarray) -> np.ndarray:
    """Where a picture is light and where it is dark.

    Args:
        pixels: (height, width, 3) uint8.

    Returns:
        (GRID, GRID) float32, mean grey of each place less that of the picture; of length 1, or zero where all is even.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    grey = cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2)
    grey -= grey.mean()
    length = float(np.linalg.norm(grey))
    even: bool = length < GRID  # less than a level a place
    return np.zeros_like(grey) if even else grey / length


def dihedral(layouts: np.ndarray) -> np.ndarray:
    """Turn and mirror layouts in all eight ways: (n, GRID, GRID) → (8, n, GRID, GRID)."""
    both = (layouts, layouts[:, :, ::-1])
    return np.stack([np.rot90(one, quarters, axes=(1, 2)) for one in both for quarters in range(4)])
