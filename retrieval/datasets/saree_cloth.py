"""The flat cloth of a design: field, borders and pallu woven together, at three scales, ready to be draped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.datasets.saree_designs import TRADITIONS, Finish
from retrieval.datasets.saree_fields import body
from retrieval.datasets.saree_outlines import Floats
from retrieval.datasets.saree_tiles import Band, Palette, Pixels, strip

Texels = NDArray[np.uint32]

PALLU = 0.78
"""Length of the pallu, in widths of the cloth."""

REPEAT = 1.2
"""Length of the field that is woven, in widths of the cloth; the rest of the saree repeats it."""


@dataclass(frozen=True)
class Cloth:
    """A saree laid flat.

    Attributes:
        levels: texels (height, length) uint32, red in the lowest byte, then green, blue, metal; full size,
            half, quarter.
        border: width of one border, in widths of the cloth.
        finish: how it takes light.
        palette: its inks.
    """

    levels: tuple[Texels, ...]
    border: float
    finish: Finish
    palette: Palette

    def sample(self, u: Floats, v: Floats, *, texel: float) -> Texels:
        """Look up the cloth.

        Args:
            u: widths of the cloth from the pallu's end, at least 0; any shape.
            v: widths from the upper selvedge, 0 to 1; the same shape.
            texel: how much cloth one pixel shows, in widths; chooses the level.

        Returns:
            Texels in the shape of ``u``.
        """
        finest = len(self.levels[0])
        level = int(np.clip(np.floor(np.log2(max(texel * finest, 1e-6)) + 0.35), 0, len(self.levels) - 1))
        texels = self.levels[level]
        height, length = texels.shape
        along = np.where(u < PALLU, u, PALLU + np.mod(u - PALLU, np.float32(REPEAT)))
        column = np.clip((along * np.float32(length / (PALLU + REPEAT))).astype(np.int32), 0, length - 1)
        row = np.clip((v * np.float32(height)).astype(np.int32), 0, height - 1)
        found: Texels = texels.ravel().take(row * np.int32(length) + column)
        return found


def _bands(bands: tuple[Band, ...], palette: Palette, *, length: int, unit: int, total: int) -> Pixels:
    """Weave bands one beside the other: (total, length, 4), the first band at row 0."""
    ends = np.cumsum([band.thickness for band in bands])
    rows = np.round(ends / ends[-1] * total).astype(int)
    parts = [
        strip(band, palette, length=length, thickness=int(end - start), unit=unit)
        for band, start, end in zip(bands, [0, *rows[:-1]], rows, strict=True)
        if end > start
    ]
    return np.concatenate(parts)


def _bleed(sheet: Pixels, reach: int, rng: np.random.Generator) -> Pixels:
    """Let the dye of tied yarn run: neighbouring threads are shifted by a little, both ways, and edges feather."""
    if reach < 1:
        return sheet
    height, width = sheet.shape[:2]
    for axis, count in ((0, height), (1, width)):
        drift = np.cumsum(rng.integers(-1, 2, count))
        shift = np.clip(drift - np.convolve(np.pad(drift, 8, mode="edge"), np.ones(17) / 17, "valid"), -reach, reach)
        shift = np.round(shift + rng.normal(0, reach / 2.2, count)).astype(int)
        if axis == 0:
            sheet = sheet[np.arange(height)[:, None], (np.arange(width)[None, :] + shift[:, None]) % width]
        else:
            sheet = sheet[(np.arange(height)[:, None] + shift[None, :]) % height, np.arange(width)[None, :]]
    mixed = sheet.astype(np.uint16)
    return ((mixed * 2 + np.roll(mixed, 1, 1) + np.roll(mixed, 1, 0)) // 4).astype(np.uint8)


def _thread(sheet: Pixels, finish: Finish, ground: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Give flat colours the look of a weave: threads, slubs, glitter of zari, relief of what is raised."""
    height, length = sheet.shape[:2]
    planes = [np.ascontiguousarray(sheet[..., i]) for i in range(4)]
    metal = planes[3].astype(np.float32) * np.float32(1 / 255)
    weft = rng.standard_normal((height, 1), np.float32) * np.float32(0.012 + 0.03 * finish.slub)
    warp = rng.standard_normal((1, length), np.float32) * np.float32(0.012 + 0.022 * finish.slub)
    gain = 1 + weft + warp
    gain[::2, ::2] += np.float32(0.03)
    gain[1::2, 1::2] -= np.float32(0.03)
    spark = rng.standard_normal((height, length // 3 + 1), np.float32).repeat(3, axis=1)[:, :length]
    ribs = np.where(np.arange(height) % 3 == 0, np.float32(-0.16), np.float32(0.07))[:, None]
    gain += metal * (spark * np.float32(0.12) + ribs)
    raised = np.zeros((height, length), np.int16)
    for plane, level in zip(planes, ground[:3], strict=False):
        raised += np.abs(plane.astype(np.int16) - np.int16(level))
    step = np.minimum(raised, 150)
    relief = (step[1:, 1:] - step[:-1, :-1]).astype(np.float32)
    gain[1:, 1:] += relief * np.float32(0.34 * finish.pucker / 150)
    return np.stack([*(np.clip(plane * gain, 0, 255).astype(np.uint8) for plane in planes[:3]), planes[3]], axis=2)


@lru_cache(maxsize=4)
def weave(tradition: int, design: int, colourway: int, unit: int) -> Cloth:
    """Weave a design.

    Args:
        tradition: place in ``TRADITIONS``.
        design: place among the tradition's designs.
        colourway: place among its palettes.
        unit: width of the cloth in pixels.
    """
    kind = TRADITIONS[tradition]
    plan, palette = kind.designs[design], kind.palettes[colourway]
    rng = np.random.Generator(np.random.PCG64([tradition, design, colourway]))
    pallu, repeat = round(PALLU * unit), round(REPEAT * unit)
    field = body(plan.field, palette, width=repeat, height=unit, unit=unit)
    width = sum(band.thickness for band in plan.border)
    depth = max(1, round(width * unit))
    end = np.zeros((pallu, unit, 4), np.uint8)
    end[:, depth : unit - depth] = _bands(plan.pallu, palette, length=unit - 2 * depth, unit=unit, total=pallu)
    reach = round(kind.finish.ikat * unit)
    sheet = np.concatenate([_bleed(end, reach, rng)[::-1].transpose(1, 0, 2), _bleed(field, reach, rng)], axis=1)
    edge = _bleed(_bands(plan.border, palette, length=pallu + repeat, unit=unit, total=depth), reach, rng)
    sheet[-len(edge) :], sheet[: len(edge)] = edge, edge[::-1]
    sheet = _thread(sheet, kind.finish, palette["ground"], rng)
    levels = []
    for factor in (1, 2, 4):
        reduced = sheet if factor == 1 else np.asarray(Image.fromarray(sheet, "CMYK").reduce(factor))
        levels.append(np.ascontiguousarray(reduced).view("<u4")[..., 0])
    return Cloth(tuple(levels), width, kind.finish, palette)
