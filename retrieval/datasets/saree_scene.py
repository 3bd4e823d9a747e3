"""Where a saree is photographed and with what: backdrops, light, camera; drawn with NumPy and Pillow.

Pictures are float32 (height, width, 3), 0 to 1, in the eye's scale (gamma 2: the square is proportional to light).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retrieval.datasets.saree_outlines import Floats


def clouds(rng: np.random.Generator, height: int, width: int, *, cells: tuple[float, float]) -> Floats:
    """Smooth noise of mean 0 and deviation near 1, (height, width); ``cells`` down and across."""
    rows, columns = max(2, round(cells[0]) + 3), max(2, round(cells[1]) + 3)
    knots = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    edge = 1.0
    box = (edge, edge, columns - edge, rows - edge)
    return np.asarray(knots.resize((width, height), Image.Resampling.BICUBIC, box=box)) * np.float32(1.25)


@dataclass(frozen=True)
class Light:
    """One soft lamp: the unit vector towards it (x right, y down, z to the viewer), its warmth, and the fill."""

    x: float
    y: float
    z: float
    warmth: float
    fill: float
    exposure: float

    @classmethod
    def any(cls, rng: np.random.Generator) -> Light:
        """A lamp from above, left or right."""
        side = rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 0.72)
        high = -rng.uniform(0.15, 0.6)
        length = float(np.sqrt(side**2 + high**2 + 0.55))
        return cls(
            side / length,
            high / length,
            0.55**0.5 / length,
            rng.normal(0.01, 0.035),
            rng.uniform(0.18, 0.33),
            rng.uniform(0.96, 1.15),
        )


def _two_tones(height: int, width: int, low: tuple[float, ...], high: tuple[float, ...], mix: Floats) -> Floats:
    t = np.clip(mix, 0, 1)[..., None]
    return (np.asarray(low, np.float32) * (1 - t) + np.asarray(high, np.float32) * t).astype(np.float32)


def _studio(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = (
        ((0.80, 0.78, 0.75), (0.96, 0.95, 0.93)),
        ((0.52, 0.57, 0.58), (0.80, 0.83, 0.83)),
        ((0.66, 0.54, 0.48), (0.92, 0.83, 0.76)),
        ((0.22, 0.21, 0.24), (0.46, 0.44, 0.47)),
        ((0.60, 0.62, 0.52), (0.87, 0.87, 0.79)),
    )
    low, high = tones[rng.integers(len(tones))]
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None, :], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    glow = np.exp(-((x - rng.uniform(-0.4, 0.4)) ** 2 * 0.9 + (y - rng.uniform(-0.5, 0.1)) ** 2 * 0.8))
    floor = 1 / (1 + np.exp(-(y - rng.uniform(0.55, 0.8)) * 9))
    return _two_tones(height, width, low, high, (glow * (1 - 0.35 * floor) + 0.18 * floor).astype(np.float32))


def _plaster(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = ((0.86, 0.79, 0.68), (0.74, 0.50, 0.38), (0.56, 0.66, 0.66), (0.82, 0.80, 0.77), (0.80, 0.62, 0.34))
    tone = np.asarray(tones[rng.integers(len(tones))], np.float32)
    relief = clouds(rng, height, width, cells=(3, 3)) * 0.03 + clouds(rng, height, width, cells=(14, 12)) * 0.016
    grain = clouds(rng, height, width, cells=(height / 4, width / 4)) * 0.012
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    wall: Floats = tone * (1 + relief + grain + x * np.float32(rng.uniform(-0.12, 0.12)))[..., None]
    return wall.astype(np.float32)


def _wood(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = (
        ((0.30, 0.18, 0.11), (0.52, 0.34, 0.21)),
        ((0.50, 0.36, 0.24), (0.74, 0.57, 0.40)),
        ((0.62, 0.53, 0.42), (0.82, 0.74, 0.62)),
    )
    low, high = tones[rng.integers(len(tones))]
    planks = int(rng.integers(3, 6))
    y = np.arange(height) * planks / height
    offset = rng.uniform(-0.16, 0.16, planks + 1)[y.astype(int)][:, None]
    rings = np.sin(clouds(rng, height, width, cells=(planks * 3, 1.4)) * 5 + y[:, None] * 9)
    fibre = clouds(rng, height, width, cells=(height / 1.6, 5))
    seam = np.exp(-((np.minimum(y % 1, 1 - y % 1) / planks * height / 1.3) ** 2))[:, None]
    return _two_tones(
        height, width, low, high, (0.5 + offset + 0.13 * rings + 0.09 * fibre - 0.6 * seam).astype(np.float32)
    )


def _marble(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = (
        ((0.62, 0.61, 0.61), (0.95, 0.94, 0.92)),
        ((0.55, 0.62, 0.58), (0.85, 0.90, 0.86)),
        ((0.48, 0.44, 0.40), (0.93, 0.88, 0.80)),
    )
    low, high = tones[rng.integers(len(tones))]
    bend = clouds(rng, height, width, cells=(4, 4))
    veins = np.abs(
        clouds(rng, height, width, cells=(3, 3)) + 0.35 * bend + 0.14 * clouds(rng, height, width, cells=(18, 18))
    )
    fine = np.abs(clouds(rng, height, width, cells=(6, 5)) + 0.3 * bend)
    strength = np.clip(0.2 + 0.3 * clouds(rng, height, width, cells=(3, 3)), 0, 0.6)
    mix = 0.92 - strength * np.exp(-veins / 0.14) - 0.5 * strength * np.exp(-fine / 0.07) + 0.06 * bend
    return _two_tones(height, width, low, high, mix.astype(np.float32))


def _mat(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = (((0.52, 0.40, 0.24), (0.86, 0.75, 0.54)), ((0.42, 0.30, 0.20), (0.70, 0.55, 0.38)))
    low, high = tones[rng.integers(len(tones))]
    pitch = max(4, round(height / rng.uniform(34, 46)))
    i, j = np.arange(height)[:, None], np.arange(width)[None, :]
    over = ((i // pitch + j // (pitch * 2)) % 2).astype(np.float32)
    across = np.sin(np.pi * ((i % pitch) + 0.5) / pitch)
    along = np.sin(np.pi * ((j % (pitch * 2)) + 0.5) / (pitch * 2))
    tint = rng.normal(0, 0.06, (height // pitch + 1, width // (2 * pitch) + 1))[i // pitch, j // (2 * pitch)]
    mix = 0.2 + over * 0.35 * across * (0.5 + 0.5 * along) + (1 - over) * (0.12 + 0.35 * across * along) + tint
    return _two_tones(height, width, low, high, mix + 0.05 * clouds(rng, height, width, cells=(3, 3)))


def _linen(rng: np.random.Generator, height: int, width: int) -> Floats:
    tones = ((0.88, 0.85, 0.79), (0.70, 0.69, 0.66), (0.35, 0.37, 0.42))
    tone = np.asarray(tones[rng.integers(len(tones))], np.float32)
    threads = (
        rng.normal(0, 0.022, (height, 1)) + rng.normal(0, 0.022, (1, width)) + rng.normal(0, 0.012, (height, width))
    )
    return (tone * (1 + threads + 0.035 * clouds(rng, height, width, cells=(3, 2)))[..., None]).astype(np.float32)


BACKDROPS: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "linen": _linen, "marble": _marble, "mat": _mat, "plaster": _plaster, "studio": _studio, "wood": _wood,
}  # fmt: skip


def blurred(mask: Floats, radius: float) -> Floats:
    """A mask from 0 to 1, softened; worked out at a quarter of the size."""
    height, width = mask.shape
    small = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8)).resize(
        (max(1, width // 4), max(1, height // 4)), Image.Resampling.BILINEAR
    )
    soft = small.filter(ImageFilter.GaussianBlur(radius / 4)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(soft).astype(np.float32) / 255


def shifted(mask: Floats, right: int, down: int) -> Floats:
    """A mask moved, with nothing coming in from the sides."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    to_y, to_x = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_y, from_x = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
    moved[to_y, to_x] = mask[from_y, from_x]
    return moved


def camera(
    rng: np.random.Generator, width: int, height: int, *, turn: float, zoom: tuple[float, float], tilt: float
) -> list[float]:
    """Coefficients of a mild perspective for ``Image.transform``: rotation, scale, shift, tilt."""
    angle = np.deg2rad(rng.uniform(-turn, turn))
    scale = 1 / rng.uniform(*zoom)
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    spin = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * [
        [scale],
        [scale],
        [1],
    ]
    lean = np.eye(3)
    lean[2, :2] = rng.uniform(-tilt, tilt, 2) / max(width, height)
    shift = np.eye(3)
    shift[:2, 2] = rng.uniform(-0.03, 0.03, 2) * (width, height)
    back = np.linalg.inv(centre)
    matrix = back @ shift @ spin @ lean @ centre
    return list((matrix / matrix[2, 2]).ravel()[:8])


def photograph(
    rng: np.random.Generator,
    cloth: NDArray[np.uint8],
    light: Light,
    *,
    backdrop: str,
    lens: list[float] | None,
    lift: float,
) -> bytes:
    """Set the draped cloth before a backdrop, take the picture, and return it as JPEG.

    Args:
        rng: the picture's own.
        cloth: (height, width, 4) uint8: red, green, blue times coverage, and coverage.
        light: the lamp.
        backdrop: a key of ``BACKDROPS``.
        lens: coefficients from ``camera``, or none.
        lift: how far the cloth stands off the backdrop, share of the picture's height.
    """
    height, width = cloth.shape[:2]
    layer = Image.fromarray(cloth, "CMYK")
    if lens is not None:
        layer = layer.transform((width, height), Image.Transform.PERSPECTIVE, lens, Image.Resampling.BICUBIC)
    planes = np.asarray(layer).astype(np.float32) / 255
    cover = planes[..., 3]
    if cover.min() < 0.999:
        scene = BACKDROPS[backdrop](rng, height, width)
        wide, tight = blurred(cover, height * 0.05), blurred(cover, height * 0.012)
        dx, dy = round(-light.x * lift * height), round(-light.y * lift * height)
        shade = 1 - 0.5 * shifted(wide, dx, dy) - 0.22 * shifted(tight, dx // 3, dy // 3)
        y, x = (
            np.linspace(-1, 1, height, dtype=np.float32)[:, None],
            np.linspace(-1, 1, width, dtype=np.float32)[None, :],
        )
        shade *= 1 + 0.1 * (x * light.x + y * light.y)
        if rng.random() < 0.16:
            shade *= _window(rng, x, y)
        picture = planes[..., :3] + scene * (shade * (1 - cover))[..., None]
    else:
        picture = planes[..., :3].copy()
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    picture *= (1 - rng.uniform(0.02, 0.1) * (x * x + y * y))[..., None]
    picture *= np.asarray([1 + light.warmth, 1, 1 - light.warmth * 1.3], np.float32) * np.float32(light.exposure)
    picture += rng.normal(0, rng.uniform(0.003, 0.011), (height, width, 1)).astype(np.float32)
    done = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8), "RGB")
    if rng.random() < 0.3:
        done = done.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.75) * height / 400))
    file = io.BytesIO()
    done.save(file, "JPEG", quality=int(rng.integers(85, 93)))
    return file.getvalue()


def _window(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Light falling through a window: soft slanting panes on the backdrop."""
    slant = x * 0.8 + y * rng.uniform(0.25, 0.6) + rng.uniform(-1, 1)
    panes: Floats = 1 / (1 + np.exp(-np.sin(slant * 5.2) * 6))
    return 0.8 + 0.2 * panes
