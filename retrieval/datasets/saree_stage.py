"""The stage cloth is laid on, lit and folded into pleats.

Each presentation says, for every pixel of an enlarged stage, which place of the flat cloth it shows (u along, v
across), how the surface leans there, and how much of the pixel it covers; ``Stage.lay`` looks the cloth up, lights it
and lays it over what lies there. The stage measures 2 along the longer side, the origin in the middle, x right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.datasets.saree_cloth import Cloth
from retrieval.datasets.saree_outlines import Floats
from retrieval.datasets.saree_scene import Light, blurred, clouds, shifted

ENLARGED = 2
_TONE = np.arange(256, dtype=np.float32) / 255
LIGHT_OF = _TONE**2


Window = tuple[slice, slice]
EVERYWHERE: Window = (slice(None), slice(None))


class Stage:
    """An empty picture to lay cloth on; ``planes`` (4, height, width) holds light times coverage, and coverage."""

    def __init__(self, width: int, height: int, cloth: Cloth, light: Light) -> None:
        """Set up a stage for a picture of ``width`` x ``height`` pixels."""
        self.width, self.height, self.cloth, self.light = width * ENLARGED, height * ENLARGED, cloth, light
        longer = max(width, height)
        self.pixel = 2 / (longer * ENLARGED)
        self.x = ((np.arange(self.width, dtype=np.float32) + 0.5) * self.pixel - width / longer)[None, :]
        self.y = ((np.arange(self.height, dtype=np.float32) + 0.5) * self.pixel - height / longer)[:, None]
        self.planes = np.zeros((4, self.height, self.width), np.float32)

    def cover(self, inside: Floats) -> Floats:
        """Coverage from a signed distance to the edge, positive inside: soft over one pixel."""
        share: Floats = np.clip(inside / np.float32(self.pixel) + 0.5, 0, 1)
        return share

    def window(self, centre: tuple[float, float], reach: float) -> Window:
        """Rows and columns within ``reach`` of a place, to lay something small without touching the rest."""
        left, top = (centre[0] - reach - self.x[0, 0]) / self.pixel, (centre[1] - reach - self.y[0, 0]) / self.pixel
        size = 2 * reach / self.pixel
        return (
            slice(int(np.clip(top, 0, self.height - 2)), int(np.clip(top + size, 2, self.height))),
            slice(int(np.clip(left, 0, self.width - 2)), int(np.clip(left + size, 2, self.width))),
        )

    def lay(
        self,
        u: Floats,
        v: Floats,
        cover: Floats,
        *,
        lean_x: Floats | float = 0.0,
        lean_y: Floats | float = 0.0,
        shade: Floats | float = 1.0,
        scale: float,
        shadow: float = 0.0,
        window: Window = EVERYWHERE,
    ) -> None:
        """Lay cloth.

        Args:
            u: place along the cloth, in its widths, (height, width) of the window.
            v: place across it, 0 to 1.
            cover: coverage, 0 to 1.
            lean_x: slope of the surface to the right.
            lean_y: slope downwards.
            shade: share of the light that reaches the place.
            scale: widths of cloth in one unit of the stage.
            shadow: how far its shadow falls on what lies below, units of the stage.
            window: rows and columns of the stage that the arrays stand for.
        """
        planes = self.planes[:, *window]
        if shadow:
            soft = blurred(cover, shadow / self.pixel)
            dx, dy = round(-self.light.x * shadow / self.pixel), round(-self.light.y * shadow / self.pixel)
            planes[:3] *= 1 - np.float32(0.6) * shifted(soft, dx, dy)
        rows, columns = np.flatnonzero(cover.max(axis=1) > 0), np.flatnonzero(cover.max(axis=0) > 0)
        if not len(rows):
            return
        part = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

        def cut(value: Floats | float) -> Floats:
            return np.broadcast_to(np.asarray(value, np.float32), cover.shape)[part]

        over = cut(cover)
        target = planes[:, *part]
        target *= 1 - over
        target[3] += over
        for plane, lit in zip(
            target, self._lit(cut(u), cut(v), cut(lean_x), cut(lean_y), cut(shade), scale), strict=False
        ):
            plane += lit * over

    def _lit(
        self, u: Floats, v: Floats, lean_x: Floats, lean_y: Floats, shade: Floats, scale: float
    ) -> Iterator[Floats]:
        """Light from each place: red, green, blue."""
        texels = self.cloth.sample(np.maximum(u, 0), v, texel=scale * self.pixel)
        metal = _TONE[texels >> 24]
        light, finish = self.light, self.cloth.finish
        norm = 1 / np.sqrt(1 + lean_x * lean_x + lean_y * lean_y)
        facing = np.maximum(
            (np.float32(light.z) - lean_x * np.float32(light.x) - lean_y * np.float32(light.y)) * norm, 0
        )
        half_z = float(np.sqrt((1 + light.z) / 2))
        glance = (
            np.float32(half_z) - lean_x * np.float32(light.x / 2 / half_z) - lean_y * np.float32(light.y / 2 / half_z)
        )
        broad = np.maximum(glance * norm, 0) ** 4
        tight = broad * broad
        tight *= tight
        bright = (np.float32(light.fill) + np.float32(1.05) * facing) * shade
        # light that has been thrown from fold to fold is deeper in colour
        deep = np.maximum(np.float32(0.3) - np.float32(0.3) * bright, 0) * bright
        silk = tight * shade * (1 - metal) * np.float32(0.44 * finish.sheen)
        bright *= 1 - np.float32(0.3) * metal
        bright += (broad * broad * np.float32(0.45) + tight * np.float32(1.15)) * shade * metal - deep
        for shift in (0, 8, 16):
            place = (texels >> shift) & 255
            colour, tone = LIGHT_OF[place], _TONE[place]
            yield colour * (bright + deep * colour) + (tone * np.float32(0.8) + np.float32(0.1)) * silk

    def tassels(self, rng: np.random.Generator, x0: float, x1: float, hem: Floats, *, length: float) -> None:
        """Hang a fringe of knotted threads below ``hem``, a height for each column, between x0 and x1."""
        count = round((x1 - x0) / 0.035)
        ink = self.cloth.palette["zari"] if rng.random() < 0.5 else self.cloth.palette["border"]
        colour = LIGHT_OF[list(ink[:3])]
        for at in np.linspace(x0 + 0.015, x1 - 0.015, max(count, 2)) + rng.normal(0, 0.002, max(count, 2)):
            column = int(np.clip((at - self.x[0, 0]) / self.pixel, 0, self.width - 1))
            top = float(hem[column])
            long = length * rng.uniform(0.85, 1.1)
            low, high = (int(np.clip((y - self.y[0, 0]) / self.pixel, 0, self.height)) for y in (top, top + long))
            left, right = (
                max(0, column - round(0.016 / self.pixel)),
                min(self.width, column + round(0.016 / self.pixel) + 1),
            )
            if high <= low or right <= left:
                continue
            t = (self.y[low:high] - top) / np.float32(long)
            sway = np.float32(rng.normal(0, 0.006)) * t
            half = np.where(
                t < 0.3, 0.0028 + 0.004 * np.exp(-(((t - 0.24) / 0.06) ** 2)), 0.0045 + 0.005 * (t - 0.3)
            ).astype(np.float32)
            off = (self.x[:, left:right] - np.float32(at) - sway) / half
            cover = np.clip((1 - np.abs(off)) * half / np.float32(self.pixel) + 0.5, 0, 1) * (t < 1)
            strands = 0.75 + 0.25 * np.cos(off * 7)
            self.paint(
                cover,
                colour,
                cover * strands * (0.95 - 0.35 * off * np.float32(np.sign(-self.light.x) or 1.0)),
                (slice(low, high), slice(left, right)),
            )

    def rod(self, rng: np.random.Generator, y: float, radius: float, half: float) -> None:
        """Hang a rail of brass or dark wood, ``half`` to each side, on two cords."""
        colour = np.asarray((0.62, 0.42, 0.14) if rng.random() < 0.5 else (0.17, 0.085, 0.045), np.float32)
        peak = float(self.y[0, 0]) - 0.25
        above = slice(0, max(1, int((y - self.y[0, 0]) / self.pixel)))
        share = (self.y[above] - np.float32(peak)) / np.float32(y - peak)
        for side in (-1, 1):
            cord = self.cover(np.float32(0.0045) - np.abs(self.x - np.float32(side * (half - 0.05)) * share))
            self.paint(cord, (0.3, 0.22, 0.13), cord, (above, slice(None)))
        near = slice(
            *(
                int(np.clip((y + reach - self.y[0, 0]) / self.pixel, 0, self.height))
                for reach in (-2 * radius, 2 * radius)
            )
        )
        past = np.abs(self.x) - np.float32(half)
        knob = np.sqrt(np.maximum(1 - (past / np.float32(radius * 1.5) - 0.5) ** 2 / 0.85, 0)) * np.float32(
            radius * 1.35
        )
        wide = np.where(past > 0, knob, np.float32(radius))
        off = (self.y[near] - np.float32(y)) / np.maximum(wide, 1e-4)
        cover = self.cover((1 - np.abs(off)) * wide) * (past < radius * 2.0)
        shine = (
            0.25
            + 0.9 * np.maximum(0, 1 - (off + 0.35) ** 2)
            + 1.1 * np.exp(-np.minimum(((off + 0.42) / 0.14) ** 2, 50))
        )
        self.paint(cover, colour, shine * cover, (near, slice(None)))

    def paint(
        self, cover: Floats, colour: Sequence[float] | Floats, light: Floats, window: Window = EVERYWHERE
    ) -> None:
        """Lay something of one colour: ``light`` is coverage times brightness, (height, width) of the window."""
        planes = self.planes[:, *window]
        planes *= 1 - cover
        planes[3] += cover
        for plane, share in zip(planes, colour, strict=False):
            plane += light * np.float32(share)

    def finished(self) -> NDArray[np.uint8]:
        """The picture at its own size: (height, width, 4) uint8, colours in the eye's scale."""
        eye = np.empty((self.height, self.width, 4), np.uint8)
        cover = np.clip(self.planes[3], 0, 1)
        for i, light in enumerate(self.planes[:3]):
            eye[..., i] = np.sqrt(np.clip(light / (1 + np.float32(0.16) * light), 0, 1) * cover) * np.float32(255)
        eye[..., 3] = cover * np.float32(255)
        return np.asarray(Image.fromarray(eye, "CMYK").reduce(ENLARGED))


def slopes(height: Floats, pixel: float) -> tuple[Floats, Floats]:
    """Slopes of a surface downwards and to the right, both (height, width)."""
    down, right = np.empty_like(height), np.empty_like(height)
    np.subtract(height[2:], height[:-2], out=down[1:-1])
    np.subtract(height[:, 2:], height[:, :-2], out=right[:, 1:-1])
    down[0], down[-1] = down[1], down[-2]
    right[:, 0], right[:, -1] = right[:, 1], right[:, -2]
    down *= np.float32(0.5 / pixel)
    right *= np.float32(0.5 / pixel)
    return down, right


@dataclass(frozen=True)
class Pleats:
    """Vertical folds: height of the surface, its slopes, and the share of light in the valleys, all (height, width)."""

    height: Floats
    lean_x: Floats
    lean_y: Floats
    shade: Floats
    arc: Floats


def pleats(
    stage: Stage, rng: np.random.Generator, across: Floats, *, folds: float, depth: float, wander: float = 0.1
) -> Pleats:
    """Fold a sheet.

    Args:
        stage: where.
        rng: the picture's own.
        across: place over the sheet's breadth, 0 to 1 between its edges, (height, width).
        folds: how many.
        depth: of a fold, in stage units.
        wander: how far a fold strays from the vertical, in folds.
    """
    crisp = stage.cloth.finish.crisp
    stray = clouds(rng, stage.height, stage.width, cells=(1.6, folds / 3)) * np.float32(wander * 2 * np.pi)
    uneven = clouds(rng, 1, 256, cells=(1, folds / 2.5))[0] * np.float32(1.1)
    phase = across * np.float32(2 * np.pi * folds) + stray
    phase += np.interp(np.clip(across[across.shape[0] // 2], 0, 1), np.linspace(0, 1, 256), uneven).astype(np.float32)[
        None, :
    ]
    wave = np.sin(phase)
    ridge = wave + np.float32(0.3 * crisp) * np.sin(2 * phase + np.float32(0.7)) * np.float32(0.6)
    size = 1 + np.float32(0.22) * clouds(rng, stage.height, stage.width, cells=(2, folds / 2))
    height = ridge * size * np.float32(depth)
    lean_y, lean_x = slopes(height, stage.pixel)
    arc = np.cumsum(np.sqrt(1 + lean_x * lean_x), axis=1, dtype=np.float32) * np.float32(stage.pixel)
    shade = np.clip(np.float32(0.78) + np.float32(0.3) * wave, 0.4, 1.05)
    return Pleats(height, lean_x, lean_y, shade, arc)


def at_edges(arc: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Arc length at the left and right edge of each row, (height, 1)."""
    first = np.argmax(inside, axis=1)
    last = inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    rows = np.arange(len(arc))
    return arc[rows, first][:, None], arc[rows, last][:, None]
