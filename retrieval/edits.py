"""Edits that leave a picture the same photograph: for planting copies whose originals are known.

Pure functions of pixels, strength and a random generator, so that the same seed plants the same copies. Each keeps at
least half of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retrieval.images import decode, encode_jpeg
from retrieval.local_features import opencv

if TYPE_CHECKING:
    from numpy.random import Generator

STRENGTHS: Final = (1, 2, 3)
"""Mild, plain, strong."""
WORDS: Final = ("SALE", "NEW", "shop.example", "-30 %", "SAMPLE", "only today", "(c) 2026", "best price")


def edited(pixels: np.ndarray, name: str, strength: int, rng: Generator) -> np.ndarray:
    """Edit a picture.

    Args:
        pixels: (height, width, 3) uint8, sides of at least 16; not written to.
        name: of ``EDITS``, or several joined with "+", done one after the other.
        strength: of ``STRENGTHS``.
        rng: where, how much and in which colour.

    Returns:
        (height, width, 3) uint8, of another size where the edit changes it.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    for each in name.split("+"):
        pixels = np.ascontiguousarray(EDITS[each](pixels, strength, rng))
    return pixels


def _recompress(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    return decode(encode_jpeg(pixels, quality=(60, 30, 12)[strength - 1])).pixels


def _resize(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    cv2 = opencv()
    scale = max((0.7, 0.45, 0.25)[strength - 1], 24 / min(pixels.shape[:2]))
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _recolour(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    amount = (0.12, 0.25, 0.4)[strength - 1]
    levels = pixels.astype(np.float32) / 255
    if strength == 3 and rng.random() < 0.5:  # black and white, or sepia
        tint = np.array([1.0, 1.0, 1.0] if rng.random() < 0.5 else [1.07, 0.95, 0.78], np.float32)
        levels = levels.mean(axis=2, keepdims=True) * tint
    else:
        grey = levels.mean(axis=2, keepdims=True)
        levels = grey + (levels - grey) * (1 + amount * rng.uniform(-1.5, 1.5))  # saturation
        levels = levels * (1 + amount * rng.uniform(-0.5, 0.5, 3))  # white balance
    levels = (levels - 0.5) * (1 + amount * rng.uniform(-0.8, 0.8)) + 0.5  # contrast
    levels = np.clip(levels, 0, 1) ** (1 + amount * rng.uniform(-1.0, 1.0))  # gamma
    return np.asarray(np.clip(levels * 255 + 0.5, 0, 255), np.uint8)


def _crop(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    kept = (0.85, 0.67, 0.5)[strength - 1]
    slant = np.exp(rng.uniform(-0.5, 0.5) * -np.log(kept))  # how much more of the height goes than of the width
    high = min(1.0, np.sqrt(kept) * slant)
    wide = min(1.0, kept / high)
    rows, columns = max(16, round(high * height)), max(16, round(wide * width))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return pixels[top : top + rows, left : left + columns]


def _flip(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    return (pixels[:, ::-1], pixels[::-1], pixels.transpose(1, 0, 2))[strength - 1]


def _rotate(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    if strength == 1:
        return np.rot90(pixels, int(rng.integers(1, 4)))
    cv2 = opencv()
    height, width = pixels.shape[:2]
    degrees = rng.choice([-1, 1]) * (rng.uniform(3, 10) if strength == 2 else rng.uniform(12, 35))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(degrees), 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = int(width * cosine + height * sine), int(width * sine + height * cosine)  # nothing is cut off
    turn[:, 2] += (np.array(size) - (width, height)) / 2
    ground = [float(level) for level in rng.choice([[255] * 3, [0] * 3, [128] * 3])]
    return np.asarray(cv2.warpAffine(pixels, turn, size, flags=cv2.INTER_CUBIC, borderValue=ground))


def _frame(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    margin = max(2, round((0.06, 0.15, 0.3)[strength - 1] * min(height, width)))
    sides = np.array([margin] * 4) if rng.random() < 0.5 else rng.integers(1, 2 * margin, 4)
    top, bottom, left, right = sides.tolist()
    framed = np.empty((height + top + bottom, width + left + right, 3), np.uint8)
    framed[:] = rng.integers(256, size=3) if rng.random() < 0.5 else 255 * rng.integers(2)
    framed[top : top + height, left : left + width] = pixels
    return framed


def _overlay(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    cv2 = opencv()
    height, width = pixels.shape[:2]
    drawn = pixels.copy()
    shorter = min(height, width)
    if strength == 1:  # a few words in a corner
        _words(cv2, drawn, rng, (int(0.04 * width), int((0.1 if rng.random() < 0.5 else 0.95) * height)), shorter / 300)
        return drawn
    if strength == 2:  # a watermark all over
        for row in range(shorter // 6, height, max(8, shorter // 3)):
            for column in range(0, width, max(8, shorter // 2)):
                _words(cv2, drawn, rng, (column, row), shorter / 360)
        return np.asarray(cv2.addWeighted(drawn, 0.5, pixels, 0.5, 0))
    for _ in range(2):  # labels stuck on, each an eighth of the picture
        rows, columns = round(0.25 * height), round(0.5 * width)
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        drawn[top : top + rows, left : left + columns] = rng.integers(256, size=3)
        _words(cv2, drawn, rng, (left + columns // 10, top + 2 * rows // 3), shorter / 150)
    return drawn


def _screenshot(pixels: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    """A page with bars, buttons and lines of text around the picture, which fills 85, 65 or 50 % of it."""
    cv2 = opencv()
    height, width = pixels.shape[:2]
    filled = (0.85, 0.65, 0.5)[strength - 1]
    wide = int(width * rng.uniform(1.0, np.sqrt(1 / filled)))
    high = max(height + 2, int(height * width / filled / wide))
    dark = bool(rng.random() < 0.4)
    page = np.full((high, wide, 3), 24 if dark else 250, np.uint8)
    top, left = int(rng.uniform(0.2, 0.6) * (high - height)), int(rng.uniform(0, 1) * (wide - width))
    bar = max(1, top // 3)
    page[:bar] = rng.integers(256, size=3)
    ink = 200 if dark else 60
    line = max(4, (high - top - height) // 5)
    for at in range(top + height + line, high - 1, line):  # lines of text
        page[at : at + max(1, line // 3), wide // 20 : int(wide * rng.uniform(0.4, 0.95))] = ink
    _words(cv2, page, rng, (wide // 20, max(8, int(0.8 * top))), max(0.2, top / 80))
    page[top : top + height, left : left + width] = pixels
    scale = float(rng.uniform(0.7, 1.3))
    page = np.asarray(cv2.resize(page, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return decode(encode_jpeg(page, quality=80)).pixels


def _words(cv2: Any, pixels: np.ndarray, rng: Generator, place: tuple[int, int], scale: float) -> None:
    colour = [int(level) for level in rng.integers(256, size=3)]
    text = str(rng.choice(WORDS))
    cv2.putText(pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, max(0.2, scale), colour, max(1, int(2 * scale)))


EDITS: Final[dict[str, Callable[[np.ndarray, int, Generator], np.ndarray]]] = {
    "recompress": _recompress,
    "resize": _resize,
    "recolour": _recolour,
    "crop": _crop,
    "flip": _flip,
    "rotate": _rotate,
    "frame": _frame,
    "overlay": _overlay,
    "screenshot": _screenshot,
}
"""Name → function of pixels, strength and generator."""
