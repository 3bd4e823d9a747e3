"""Photographs drawn by hand: full of corners, no two alike, and another view of the same things."""

from __future__ import annotations

import numpy as np
from PIL import Image


def scene(seed: int, width: int = 320, height: int = 240, *, moved: float = 0.0) -> np.ndarray:
    """Draw boxes and discs before a cloudy ground.

    Args:
        seed: which picture.
        width: pixels.
        height: pixels.
        moved: how far the camera moved, as a share of the width: each thing moves by another part of it, as near things
            do before far ones.

    Returns:
        (height, width, 3) uint8, sRGB.
    """
    rng = np.random.default_rng(seed)
    levels = np.full((height, width, 3), 128.0)
    for cells, depth in ((3, 45), (9, 25), (40, 10)):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            drawn = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            levels[..., channel] += depth * np.asarray(drawn)
    y, x = np.mgrid[:height, :width]
    for number in range(60):
        left, top = rng.uniform(-0.05, 1) * width, rng.uniform(-0.05, 1) * height
        left += moved * width * rng.uniform(-1, 1)
        high, wide = rng.uniform(0.03, 0.16, 2) * min(width, height)
        inside = (abs(x - left) < wide) & (abs(y - top) < high)
        if number % 3 == 0:
            inside = ((x - left) / wide) ** 2 + ((y - top) / high) ** 2 < 1
        levels[inside] = 0.25 * levels[inside] + 0.75 * rng.uniform(0, 255, 3)
    levels += rng.normal(0, 2, (height, width, 1))
    return np.clip(levels, 0, 255).astype(np.uint8)


def even(level: int = 90, width: int = 64, height: int = 48) -> np.ndarray:
    """(height, width, 3) uint8 of one grey."""
    return np.full((height, width, 3), level, np.uint8)
