"""The body of a saree: butas, jaal, checks, ikat squares, tied dots, leheriya waves; one repeat each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from retrieval.datasets.saree_outlines import disc
from retrieval.datasets.saree_tiles import Palette, Pixels, Tile, ogee


@dataclass(frozen=True)
class Field:
    """The body between the borders.

    Attributes:
        kind: a key of ``FIELDS``.
        pitch: width and height of a repeat, shares of the cloth's width.
        motif: a key of ``MOTIFS``, for kinds that use one.
        size: of the motif, half its height, over the pitch's height.
        ink: of lines.
        style: what else the kind offers.
        swap: inks of the motif drawn as others.
    """

    kind: str
    pitch: tuple[float, float] = (0.15, 0.15)
    motif: str = ""
    size: float = 0.3
    ink: str = "zari"
    style: str = ""
    swap: Mapping[str, str] = field(default_factory=dict)


def _empty(t: Tile, f: Field) -> None:
    pass


def _buttas(t: Tile, f: Field) -> None:
    size = t.height * f.size / 2
    t.motif(f.motif, t.width / 4, t.height / 4, size, swap=f.swap)
    t.motif(f.motif, t.width * 3 / 4, t.height * 3 / 4, size, mirror=f.style == "mirrored", swap=f.swap)
    if f.style == "strewn":
        for x, y in ((0.75, 0.25), (0.25, 0.75)):
            t.motif("star", t.width * x, t.height * y, size * 0.3)


def _jaal(t: Tile, f: Field) -> None:
    ogee(t, f.ink, t.width * 0.028)
    for x, y in ((0.5, 0.5), (0.0, 0.0)):
        t.motif(f.motif, t.width * x, t.height * y, t.width * f.size, swap=f.swap)
    for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)):
        t.dot("accent", t.width * x, t.height * y, t.width * 0.035)


def _squares(t: Tile, f: Field) -> None:
    w, h = t.width, t.height
    for at in (0.06, 0.12):
        t.bar(f.ink, w * at - w * 0.014, -1, w * at + w * 0.014, h + 1)
        t.bar(f.ink, -1, h * at - h * 0.014, w + 1, h * at + h * 0.014)
    if f.motif:
        t.motif(f.motif, w * 0.59, h * 0.59, h * f.size, swap=f.swap)


def _stripes(t: Tile, f: Field) -> None:
    w = t.width
    for at, wide, ink in ((0.1, 0.05, f.ink), (0.5, 0.12, "second"), (0.42, 0.025, f.ink), (0.58, 0.025, f.ink)):
        t.bar(ink, w * (at - wide / 2), -1, w * (at + wide / 2), t.height + 1)
    if f.motif:
        t.motif(f.motif, w * 0.8, t.height / 2, t.height * f.size, swap=f.swap)


def _slanted(t: Tile, f: Field) -> None:
    w, h = t.width, t.height
    for i in range(4):
        t.motif(f.motif, w * (i + 0.5) / 4, h * (i + 0.5) / 4, h * f.size / 4, turn=20, swap=f.swap)
        t.motif("star", w * (i + 0.5) / 4 + w * 0.5, h * (i + 0.5) / 4, h * f.size / 12)


def _lattice(t: Tile, f: Field) -> None:
    """Squares of the double ikat: a frame of steps, the motif and a stepped lozenge in turn."""
    w, h = t.width, t.height
    for k in range(2):
        for edge, ink in ((0, f.ink), (0.02, "accent")):
            t.bar(ink, w * (k / 2 + edge), -1, w * (k / 2 + edge + 0.014), h + 1)
            t.bar(ink, -1, h * (k / 2 + edge), w + 1, h * (k / 2 + edge + 0.014))
    for x, y, name in ((0.26, 0.26, f.motif), (0.76, 0.76, f.motif), (0.76, 0.26, f.style), (0.26, 0.76, f.style)):
        t.motif(name, w * x, h * y, h * f.size / 2, swap=f.swap)


def _knots(t: Tile, f: Field) -> None:
    """Bandhani: resist dots, pale rings about a dark heart, set in the pattern ``style``."""
    w, h = t.width, t.height
    radius = h * f.size

    def knot(x: float, y: float, ink: str = "zari") -> None:
        t.fill(ink, disc(x, y, radius, squash=0.85, points=10))
        t.dot("dark", x, y, radius * 0.38)

    if f.style == "ekdali":
        for i in range(6):
            for j in range(6):
                knot(w * (i + 0.5 * (j % 2) + 0.25) / 6, h * (j + 0.5) / 6, "accent" if (i + j) % 3 == 0 else "zari")
    elif f.style == "chaubandi":
        for x, y in ((0.25, 0.25), (0.75, 0.75)):
            for dx, dy in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
                knot(w * x + dx * radius * 1.6, h * y + dy * radius * 1.6, "accent")
                knot(w * x + dx * radius * 4.1, h * y + dy * radius * 4.1)
            for ex, ey in ((0.0, -4.6), (0.0, 4.6), (4.6, 0.0), (-4.6, 0.0)):
                knot(w * x + ex * radius, h * y + ey * radius)
    elif f.style == "medallion":
        for count, reach, ink in ((8, 0.12, "accent"), (14, 0.2, "zari"), (24, 0.33, "zari"), (28, 0.39, "accent")):
            for a in np.linspace(0, 2 * np.pi, count, endpoint=False):
                knot(w / 2 + w * reach * np.cos(a), h / 2 + h * reach * np.sin(a), ink)
        knot(w / 2, h / 2)
        for a in np.linspace(0, 2 * np.pi, 8, endpoint=False):
            knot(w * 0.09 * np.cos(a), h * 0.09 * np.sin(a), "second")
    else:
        for i in range(10):
            x = (i + 0.5) / 10
            for row, ink in ((0.2, "zari"), (0.28, "accent"), (0.7, "zari"), (0.78, "accent")):
                knot(w * x, h * (row + 0.09 * np.sin(2 * np.pi * x)), ink)


def _waves_field(t: Tile, f: Field) -> None:
    """Leheriya: slanting stripes of the resist dye; ``style`` is slant, crossed, zigzag or wide."""
    w, h = t.width, t.height
    inks = (
        ("zari", "accent", "ground", "second", "zari", "ground") if f.style != "wide" else ("zari", "second", "accent")
    )
    count = len(inks)
    for slot in range(-count, 2 * count):
        ink, x = inks[slot % count], w * slot / count
        thick = w / count * (0.62 if f.style != "wide" else 0.5)
        if f.style == "zigzag":
            t.fill(
                ink, [(x, 0), (x + thick, 0), (x + thick + w / 3, h / 2), (x + thick, h), (x, h), (x + w / 3, h / 2)]
            )
        else:
            t.fill(ink, [(x, 0), (x + thick, 0), (x + thick + w, h), (x + w, h)])
    if f.style == "crossed":
        for slot in range(-count, 2 * count, 2):
            x = w * slot / count
            t.fill("ground", [(x, h), (x + w / count * 0.45, h), (x + w / count * 0.45 + w, 0), (x + w, 0)])


FIELDS: dict[str, Callable[[Tile, Field], None]] = {
    "buttas": _buttas, "jaal": _jaal, "knots": _knots, "lattice": _lattice, "leheriya": _waves_field,
    "plain": _empty, "slanted": _slanted, "squares": _squares, "stripes": _stripes,
}  # fmt: skip


def body(pattern: Field, palette: Palette, *, width: int, height: int, unit: int) -> Pixels:
    """Weave a field: (height, width, 4) uint8, whole repeats across."""
    tile = Tile(round(pattern.pitch[0] * unit), round(pattern.pitch[1] * unit), palette, "ground", wrap=True)
    FIELDS[pattern.kind](tile, pattern)
    return tile.repeated(width, height)
