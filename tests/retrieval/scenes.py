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


def studio(
    seed: int, colour: tuple[int, int, int], width: int = 320, height: int = 240, *, part: float = 1.0
) -> np.ndarray:
    """Draw a product on white: a bag with a handle, a buckle and stitches.

    Args:
        seed: which product; its form and grain are the same in every colour.
        colour: of the bag, levels of 0 to 255 where it is in full light.
        width: pixels.
        height: pixels.
        part: share of the bag, from the top, that has the colour; the rest is black.

    Returns:
        (height, width, 3) uint8, sRGB.
    """
    rng = np.random.default_rng((seed, 7))
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    left, right, top = 0.3 + 0.08 * rng.random(), 0.7 - 0.08 * rng.random(), 0.4 + 0.05 * rng.random()
    bag = (x > left + 0.1 * (y - top)) & (x < right - 0.1 * (y - top)) & (y > top) & (y < 0.9)
    from_middle = np.hypot((x - 0.5) / (right - left) * 2.4, (y - top) / 0.25)
    handle = (from_middle < 1) & (from_middle > 0.8) & (y < top)
    light = 1.0 - 0.5 * np.abs(x - 0.45) + 0.01 * rng.normal(size=(height, width))
    for crease in rng.uniform(left, right, 5):
        light -= 0.25 * np.exp(-np.square((x - crease - 0.05 * np.sin(9 * y)) / 0.006))
    stitches = (np.abs(y - top - 0.05) < 0.006) & ((x * width) % 8 < 4)
    levels = np.full((height, width, 3), 252.0)
    fill = np.where((y < top + part * (0.9 - top))[..., None], np.array(colour, float), 25.0)
    levels[bag | handle] = (fill * light[..., None])[bag | handle]
    levels[bag & stitches] = 225
    buckle = np.hypot((x - 0.5) * width / height, y - top - 0.17) < 0.06
    levels[buckle] = np.array([170, 140, 60]) * (0.7 + 0.6 * rng.random((height, width, 1)))[buckle]
    return np.clip(levels, 0, 255).astype(np.uint8)
