"""Motifs of Indian weaving as outlines: paisley, lotus, peacock, elephant, sprig and their kin.

A motif is a tuple of ``Shape``: an ink's name and a closed outline, painted in order, each over the last. Outlines
are float64 arrays (n, 2) of x, y in a box from -1 to 1, y downwards, the motif standing upright. Inks are
names ("zari", "accent", "second", "ground", "dark"): a tradition's palette says what they look like, and
"ground" lets the cloth show through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from retrieval.datasets.saree_creatures import courtier, elephant, fish, parrot, peacock, rider
from retrieval.datasets.saree_outlines import Motif, Outline, disc, outline_of, petal, ring_of_petals, sweep

_KALKA = outline_of(
    [
        (-0.1, 0.98), (-0.55, 0.82), (-0.78, 0.36), (-0.66, -0.14), (-0.34, -0.56), (0.08, -0.86), (0.5, -0.92),
        (0.76, -0.66), (0.66, -0.42), (0.46, -0.6), (0.26, -0.52), (0.22, -0.28), (0.42, 0.04),
        (0.54, 0.42), (0.36, 0.82),
    ],
    steps=5,
)  # fmt: skip
_BULB = np.array([-0.11, 0.4])


def _teardrop(scale: float = 1.0) -> Outline:
    """The paisley's outline, a bulb whose tip curls over to the right, shrunk towards the bulb's heart."""
    shape: Outline = (_KALKA - _BULB) * scale + _BULB
    return shape


def paisley() -> Motif:
    """Ambi or kalka: nested teardrops with a blossom in the bulb."""
    flower = [("accent", leaf + np.array((-0.12, 0.42))) for leaf in ring_of_petals(6, 0.25, 0.16, start=0.04)]
    return (
        ("zari", _teardrop()),
        ("ground", _teardrop(0.84)),
        ("second", _teardrop(0.73)),
        ("zari", _teardrop(0.56)),
        ("ground", disc(-0.12, 0.42, 0.28)),
        *flower,
        ("zari", disc(-0.12, 0.42, 0.07)),
    )


def mango() -> Motif:
    """A small plain paisley for fields: one outline, one heart, a stalk with two leaves."""
    return (
        ("zari", _teardrop(0.94)),
        ("second", _teardrop(0.6)),
        ("zari", disc(-0.13, 0.45, 0.13)),
        ("zari", petal(60, 0.55, 0.22, x=0.2, y=0.98)),
        ("zari", petal(-60, 0.5, 0.2, x=-0.5, y=0.98)),
    )


def rosette() -> Motif:
    """A blossom seen from above: eight petals over eight."""
    return (
        *(("zari", p) for p in ring_of_petals(8, 0.98, 0.5)),
        *(("second", p) for p in ring_of_petals(8, 0.8, 0.28, start=0.25)),
        ("accent", disc(0, 0, 0.3)),
        ("zari", disc(0, 0, 0.17)),
    )


def star() -> Motif:
    """A fine star of twelve rays with a ring."""
    return (
        *(("zari", p) for p in ring_of_petals(12, 0.98, 0.24, start=0.4)),
        ("zari", disc(0, 0, 0.5)),
        ("ground", disc(0, 0, 0.38)),
        *(("accent", p) for p in ring_of_petals(6, 0.36, 0.2, start=0)),
    )


def coin() -> Motif:
    """Ashrafi: a gold coin with a milled edge."""
    return (
        *(
            ("zari", disc(0.84 * np.cos(a), 0.84 * np.sin(a), 0.14))
            for a in np.linspace(0, 2 * np.pi, 18, endpoint=False)
        ),
        ("zari", disc(0, 0, 0.76)),
        ("ground", disc(0, 0, 0.6)),
        ("zari", disc(0, 0, 0.5)),
        *(("second", p) for p in ring_of_petals(5, 0.4, 0.24, start=0.05)),
    )


def lotus() -> Motif:
    """A lotus from the side: seven petals fanned over a stem and two leaves."""
    back = [("zari", petal(a, 1.32, 0.5, y=0.55)) for a in (-78, 78, -52, 52, -26, 26, 0)]
    front = [("accent", petal(a, 1.1, 0.27, y=0.55, start=0.25)) for a in (-78, 78, -52, 52, -26, 26, 0)]
    cup = outline_of([(-0.5, 0.42), (0, 0.34), (0.5, 0.42), (0.28, 0.72), (0, 0.8), (-0.28, 0.72)])
    return (
        *back,
        *front,
        ("second", cup),
        ("zari", petal(118, 0.9, 0.26, y=0.78)),
        ("zari", petal(-118, 0.9, 0.26, y=0.78)),
    )


def sprig() -> Motif:
    """Buti: a flowering sprig, a bent stem with leaves and one blossom."""
    stem = sweep([(-0.15, 0.98), (0.12, 0.55), (0.02, 0.1), (0, -0.25)], [0.05, 0.05, 0.045, 0.04])
    leaves = [
        petal(a, n, 0.24, x=x, y=y)
        for a, n, x, y in ((62, 0.72, 0.08, 0.62), (-58, 0.74, 0.1, 0.5), (52, 0.6, 0.05, 0.2), (-55, 0.6, 0.04, 0.12))
    ]
    bloom = [p + np.array((0, -0.5)) for p in ring_of_petals(6, 0.46, 0.34)]
    return (
        ("zari", stem),
        *(("second", leaf) for leaf in leaves),
        *(("zari", p) for p in bloom),
        ("accent", disc(0, -0.5, 0.19)),
        ("zari", disc(0, -0.5, 0.08)),
    )


def tulip() -> Motif:
    """A single tulip with two long leaves, as in fine muslin."""
    cup = outline_of(
        [
            (-0.3, -0.55),
            (-0.12, -0.4),
            (0, -0.95),
            (0.12, -0.4),
            (0.3, -0.55),
            (0.28, -0.05),
            (0, 0.16),
            (-0.28, -0.05),
        ],
        steps=5,
    )
    return (
        ("zari", sweep([(0, 0.1), (0.03, 0.5), (-0.03, 0.98)], [0.045, 0.045, 0.05])),
        ("zari", cup),
        ("accent", cup * 0.55 + (0, -0.08)),
        ("second", petal(38, 0.95, 0.24, y=0.85)),
        ("second", petal(-38, 0.95, 0.24, y=0.85)),
    )


def diamond() -> Motif:
    """Three nested lozenges."""
    box = np.array([(0.0, -1.0), (0.8, 0.0), (0.0, 1.0), (-0.8, 0.0)])
    return (("zari", box), ("ground", box * 0.76), ("second", box * 0.6), ("accent", box * 0.3))


def stepped_diamond() -> Motif:
    """A lozenge of steps, as tied-and-dyed yarn draws it, with a flower of squares."""

    def steps(count: int, scale: float) -> Outline:
        up = np.arange(count + 1) / count
        quarter = [p for i in range(count) for p in ((up[i], 1 - up[i]), (up[i + 1], 1 - up[i]))]
        first = np.array(quarter)
        corners = [first, (first * (1, -1))[::-1], first * (-1, -1), (first * (-1, 1))[::-1]]
        return np.vstack(corners) * scale

    square = np.array([(-0.12, -0.12), (0.12, -0.12), (0.12, 0.12), (-0.12, 0.12)])
    dots = [("accent", square + np.array((x, y))) for x, y in ((0.22, 0), (-0.22, 0), (0, 0.22), (0, -0.22))]
    return (("zari", steps(7, 1)), ("ground", steps(6, 0.8)), ("second", steps(5, 0.66)), *dots, ("zari", square))


def conch() -> Motif:
    """Shankha: a conch with its whorls."""
    shell = outline_of(
        [
            (-0.1, -0.95),
            (0.32, -0.6),
            (0.66, -0.1),
            (0.5, 0.4),
            (0.12, 0.7),
            (-0.1, 0.98),
            (-0.2, 0.6),
            (-0.58, 0.2),
            (-0.52, -0.4),
        ]
    )
    mouth = outline_of([(0.22, -0.3), (0.44, 0.0), (0.3, 0.4), (0.02, 0.6), (0.06, 0.1)], steps=5)
    whorls = [sweep([(-0.46, y), (-0.1, y - 0.14), (0.2, y - 0.04)], [0.03, 0.05, 0.02]) for y in (-0.4, -0.12, 0.16)]
    return (("zari", shell), ("second", mouth), *(("ground", w) for w in whorls))


def wheel() -> Motif:
    """Chakra: a wheel of eight spokes."""
    return (
        ("zari", disc(0, 0, 0.98, points=28)),
        ("ground", disc(0, 0, 0.8, points=28)),
        *(("zari", p) for p in ring_of_petals(8, 0.84, 0.2, start=0)),
        ("second", disc(0, 0, 0.34)),
        ("accent", disc(0, 0, 0.17)),
    )


def leaf_tree() -> Motif:
    """A pan leaf, heart-shaped, with a sprig inside: the betel leaf of Patan."""
    heart = outline_of(
        [
            (0, 0.98),
            (-0.6, 0.5),
            (-0.9, 0.0),
            (-0.76, -0.55),
            (-0.34, -0.72),
            (0, -0.4),
            (0.34, -0.72),
            (0.76, -0.55),
            (0.9, 0.0),
            (0.6, 0.5),
        ]
    )
    veins = [("accent", petal(a, 0.55, 0.17, y=y)) for y in (0.55, 0.1) for a in (-50, 50)]
    return (
        ("zari", heart),
        ("ground", heart * 0.82),
        ("second", heart * 0.68),
        ("zari", sweep([(0, 0.8), (0, -0.3)], [0.05, 0.05])),
        *veins,
        ("accent", petal(0, 0.5, 0.24, y=-0.02)),
    )


MOTIFS: dict[str, Callable[[], Motif]] = {
    "coin": coin, "conch": conch, "courtier": courtier, "diamond": diamond, "elephant": elephant, "fish": fish,
    "leaf tree": leaf_tree, "lotus": lotus, "mango": mango, "paisley": paisley, "parrot": parrot, "peacock": peacock,
    "rider": rider, "rosette": rosette, "sprig": sprig, "star": star, "stepped diamond": stepped_diamond,
    "tulip": tulip, "wheel": wheel,
}  # fmt: skip


@cache
def motif(name: str) -> Motif:
    """The motif of that name, drawn once a process; raises KeyError for a name not in ``MOTIFS``."""
    return MOTIFS[name]()
