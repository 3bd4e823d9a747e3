"""The repeats a saree is woven from, and the bands of its borders and pallus; ``saree_fields`` has the body.

A ``Tile`` is one repeat, drawn enlarged and then reduced. It has four planes: red, green, blue, and metal, the share of
zari (metal thread) in the weave, which takes light unlike silk. Pillow's mode CMYK holds them, four planes that are
reduced independently, where RGBA would weight the colours by the fourth.

A painter draws one tile from a ``Band``. In it, y = 0 is the side towards the body and y = height the
outer edge; motifs stand towards the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from retrieval.datasets.saree_motifs import motif
from retrieval.datasets.saree_outlines import disc, petal, sweep

Ink = tuple[int, int, int, int]
Palette = Mapping[str, Ink]
Pixels = NDArray[np.uint8]

ENLARGED = 3


@dataclass(frozen=True)
class Band:
    """One strip of a border or pallu.

    Attributes:
        kind: a key of ``BANDS``.
        thickness: share of the cloth's width.
        ink: of the ornament.
        on: of the strip's own ground.
        motif: a key of ``MOTIFS``, for kinds that use one.
        pitch: length of a repeat over the thickness.
        swap: inks of the motif drawn as others.
    """

    kind: str
    thickness: float
    ink: str = "zari"
    on: str = "border"
    motif: str = ""
    pitch: float = 1.0
    swap: Mapping[str, str] = field(default_factory=dict)


class Tile:
    """One repeat to draw on, in pixels of the finished tile; what leaves by one side enters by the other."""

    def __init__(self, width: int, height: int, palette: Palette, ground: str, *, wrap: bool = False) -> None:
        """Begin a tile of one ink; ``wrap`` repeats it vertically too, as fields do."""
        self.width, self.height, self.palette, self.ground = max(width, 2), max(height, 2), palette, ground
        self._image = Image.new("CMYK", (self.width * ENLARGED, self.height * ENLARGED), palette[ground])
        self._draw = ImageDraw.Draw(self._image)
        self._rows = (-1, 0, 1) if wrap else (0,)

    def fill(self, ink: str, points: Any) -> None:
        """Fill the outline ``points`` (n, 2)."""
        outline = np.asarray(points, dtype=np.float64)
        low, high = outline.min(0), outline.max(0)
        for row in self._rows:
            for column in (-1, 0, 1):
                dx, dy = column * self.width, row * self.height
                if low[0] + dx < self.width and high[0] + dx > 0 and low[1] + dy < self.height and high[1] + dy > 0:
                    self._draw.polygon(
                        list(map(tuple, (outline + np.array((dx, dy))) * ENLARGED)), fill=self.palette[ink]
                    )

    def bar(self, ink: str, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fill a rectangle."""
        self.fill(ink, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def line(self, ink: str, points: Sequence[tuple[float, float]], width: float) -> None:
        """Draw a smooth line through ``points``."""
        self.fill(ink, sweep(points, [width / 2] * len(points)))

    def dot(self, ink: str, x: float, y: float, radius: float) -> None:
        """Fill a disc."""
        self.fill(ink, disc(x, y, radius, points=14))

    def motif(
        self,
        name: str,
        x: float,
        y: float,
        size: float,
        *,
        turn: float = 0,
        mirror: bool = False,
        swap: Mapping[str, str] | None = None,
    ) -> None:
        """Draw a motif centred at (x, y), ``size`` pixels from its middle to its edge, turned by ``turn`` degrees."""
        angle = np.deg2rad(turn)
        matrix = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))]) * size
        flip = np.array((-1.0 if mirror else 1.0, 1.0))
        for ink, outline in motif(name):
            ink = (swap or {}).get(ink, ink)
            self.fill(self.ground if ink == "ground" else ink, (outline * flip) @ matrix + (x, y))

    def finished(self) -> Pixels:
        """The tile, (height, width, 4) uint8."""
        return np.asarray(self._image.reduce(ENLARGED))

    def repeated(self, width: int, height: int) -> Pixels:
        """Whole repeats side by side, stretched by a hair to ``width`` x ``height`` pixels."""
        tile = self.finished()
        across, down = max(1, round(width / self.width)), max(1, round(height / self.height))
        sheet = np.tile(tile, (down, across, 1))
        if sheet.shape[:2] != (height, width):
            sheet = np.asarray(Image.fromarray(sheet, "CMYK").resize((width, height), Image.Resampling.BILINEAR))
        return sheet


def _plain(t: Tile, b: Band) -> None:
    pass


def _lines(t: Tile, b: Band) -> None:
    count = 3
    for i in range(count):
        y = t.height * (i + 0.5) / count
        t.bar(b.ink, -1, y - t.height / count / 4, t.width + 1, y + t.height / count / 4)


def _temple(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    steps = 5
    for i in range(steps):
        y, half = h * (i + 0.35) / steps, w * 0.5 * (i + 0.7) / steps
        t.bar(b.ink, w / 2 - half, y, w / 2 + half, h + 1)
    t.dot(b.ink, w / 2, h * 0.05, w * 0.05)


def _peaks(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    t.fill(b.ink, [(0, h), (w / 2, 0), (w, h)])
    t.fill(b.on, [(w * 0.28, h), (w / 2, h * 0.42), (w * 0.72, h)])
    t.fill("accent", [(w * 0.38, h), (w / 2, h * 0.62), (w * 0.62, h)])


def _rudraksha(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    t.bar(b.ink, -1, 0, w + 1, h * 0.12)
    t.bar(b.ink, -1, h * 0.88, w + 1, h)
    t.dot(b.ink, w / 2, h / 2, h * 0.3)
    t.dot(b.on, w / 2, h / 2, h * 0.14)
    t.dot(b.ink, 0, h / 2, h * 0.08)


def _vine(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    x = np.linspace(-0.1, 1.1, 25)
    t.line(b.ink, [(w * i, h * (0.5 + 0.24 * np.sin(2 * np.pi * i))) for i in x], h * 0.07)
    for at, y, side in ((0.25, 0.74, 1), (0.75, 0.26, -1)):
        t.motif("rosette", w * at, h * (0.5 - side * 0.14), h * 0.28, swap=b.swap)
        for turn in (-55, 55):
            t.fill("second", petal(turn if side < 0 else 180 - turn, h * 0.36, h * 0.16, x=w * at, y=h * y))
    for at in (0.0, 0.5):
        t.fill(b.ink, petal(90 + (40 if at else -40), h * 0.42, h * 0.16, x=w * at - h * 0.1, y=h / 2))


def _row(t: Tile, b: Band) -> None:
    t.motif(b.motif, t.width / 2, t.height / 2, t.height * 0.44, swap=b.swap)


def _pairs(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    t.motif(b.motif, w * 0.27, h / 2, h * 0.43, swap=b.swap)
    t.motif(b.motif, w * 0.73, h / 2, h * 0.43, mirror=True, swap=b.swap)
    t.motif("tulip", 0, h * 0.6, h * 0.3, swap=b.swap)
    t.motif("star", w / 2, h * 0.16, h * 0.1)


def _arches(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    t.motif("courtier", w / 2, h / 2, min(h, w) * 0.47, swap=b.swap)
    t.motif("sprig", 0, h / 2, h * 0.3, swap=b.swap)


def _chatai(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    for i in range(4):
        for j in range(2):
            x, y = w * (i + 0.5) / 4, h * (j + 0.5) / 2
            across, up = (w / 9, h / 14) if (i + j) % 2 else (w / 30, h / 4.4)
            for k in (-1, 0, 1):
                dx, dy = (0, k * h / 6) if (i + j) % 2 else (k * w / 12, 0)
                t.bar(b.ink, x + dx - across, y + dy - up / 1.6, x + dx + across, y + dy + up / 1.6)


def _diamonds(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    t.motif(b.motif or "diamond", w / 2, h / 2, h * 0.46, swap=b.swap)
    t.dot(b.ink, 0, h * 0.14, h * 0.07)
    t.dot(b.ink, 0, h * 0.86, h * 0.07)
    t.dot("accent", 0, h / 2, h * 0.09)


def _waves(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    for i, ink in enumerate((b.ink, "accent", b.ink)):
        y = h * (0.22 + 0.28 * i)
        t.line(
            ink,
            [
                (-w * 0.25, y + h * 0.1),
                (0, y - h * 0.1),
                (w * 0.25, y + h * 0.1),
                (w * 0.5, y - h * 0.1),
                (w * 0.75, y + h * 0.1),
                (w, y - h * 0.1),
                (w * 1.25, y + h * 0.1),
            ],
            h * 0.11,
        )


def _checks(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    for j in range(3):
        for i in range(4):
            if (i + j) % 2:
                t.bar(b.ink, w * i / 4, h * j / 3, w * (i + 1) / 4, h * (j + 1) / 3)


def _chevrons(t: Tile, b: Band) -> None:
    w, h = t.width, t.height
    for i, ink in enumerate((b.ink, "accent", b.ink, "second")):
        x = w * i / 4
        t.fill(
            ink,
            [
                (x, 0),
                (x + w * 0.13, 0),
                (x + w * 0.13 + h * 0.5, h / 2),
                (x + w * 0.13, h),
                (x, h),
                (x + h * 0.5, h / 2),
            ],
        )


def _jaal_band(t: Tile, b: Band) -> None:
    ogee(t, b.ink, t.height * 0.035)
    t.motif(b.motif, t.width / 2, t.height / 2, min(t.width, t.height) * 0.3, swap=b.swap)
    t.motif(b.motif, 0, 0, min(t.width, t.height) * 0.3, swap=b.swap)
    t.motif(b.motif, 0, t.height, min(t.width, t.height) * 0.3, swap=b.swap)


BANDS: dict[str, Callable[[Tile, Band], None]] = {
    "arches": _arches, "chatai": _chatai, "checks": _checks, "chevrons": _chevrons, "diamonds": _diamonds,
    "jaal": _jaal_band, "lines": _lines, "pairs": _pairs, "peaks": _peaks, "plain": _plain, "row": _row,
    "rudraksha": _rudraksha, "temple": _temple, "vine": _vine, "waves": _waves,
}  # fmt: skip


def ogee(t: Tile, ink: str, width: float) -> None:
    """Draw the pointed lattice of a jaal, two cells a tile."""
    y = np.linspace(-0.1, 1.1, 29)
    for side in (1, -1):
        t.line(ink, [(t.width * (0.25 + side * 0.25 * np.cos(2 * np.pi * i)), t.height * i) for i in y], width)
        t.line(ink, [(t.width * (0.75 - side * 0.25 * np.cos(2 * np.pi * i)), t.height * i) for i in y], width)


def strip(band: Band, palette: Palette, *, length: int, thickness: int, unit: int) -> Pixels:
    """Weave a band: (thickness, length, 4) uint8; ``unit`` is the cloth's width in pixels, which sizes the repeats."""
    tile = Tile(round(band.pitch * band.thickness * unit), thickness, palette, band.on)
    BANDS[band.kind](tile, band)
    return tile.repeated(length, thickness)
