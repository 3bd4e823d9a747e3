"""Motifs with life in them: peacock, parrot, elephant, fish, horse and rider, the noble in his arch."""

from __future__ import annotations

import numpy as np

from retrieval.datasets.saree_outlines import Motif, Shape, disc, outline_of, petal, ring_of_petals, sweep


def peacock() -> Motif:
    """Mor: a peacock in profile facing right, the train of eyed feathers swept back and down."""
    shapes: list[Shape] = []
    train = ((-152, 1.12), (-136, 1.26), (-120, 1.3), (-104, 1.28), (-88, 1.2), (-72, 1.04))
    for angle, length in train:
        shapes.append(("ground", petal(angle, length * 1.03, 0.42, x=0.28, y=0.2)))
        shapes.append(("zari", petal(angle, length, 0.34, x=0.28, y=0.2)))
        shapes.append(("ground", petal(angle, length * 0.66, 0.07, x=0.28, y=0.2, start=0.3)))
    for angle, length in train:
        turn = np.deg2rad(angle)
        x, y = 0.28 + np.sin(turn) * length * 0.76, 0.2 - np.cos(turn) * length * 0.76
        shapes += [("second", disc(x, y, 0.13)), ("accent", disc(x, y, 0.075)), ("zari", disc(x, y, 0.03, points=8))]
    body = sweep(
        [(-0.02, 0.42), (0.3, 0.4), (0.5, 0.12), (0.44, -0.28), (0.5, -0.6), (0.62, -0.7)],
        [0.1, 0.27, 0.25, 0.13, 0.1, 0.12],
    )
    wing = outline_of([(0.04, 0.36), (0.3, 0.12), (0.52, 0.16), (0.44, 0.44), (0.2, 0.52)])
    shapes += [
        ("zari", body),
        ("second", wing),
        ("zari", petal(-80, 0.3, 0.1, x=0.44, y=0.34)),
        ("accent", np.array([(0.68, -0.79), (0.94, -0.66), (0.68, -0.61)])),
        ("ground", disc(0.61, -0.72, 0.035, points=8)),
    ]
    for dx in (-0.14, 0.0, 0.14):
        shapes += [
            ("zari", sweep([(0.56, -0.8), (0.54 + dx, -0.95)], [0.018, 0.018])),
            ("accent", disc(0.54 + dx, -0.96, 0.05, points=8)),
        ]
    for dx in (0.2, 0.4):
        shapes.append(("zari", sweep([(dx, 0.62), (dx + 0.02, 0.98)], [0.035, 0.03])))
    return tuple(shapes)


def parrot() -> Motif:
    """Muniya: a parrot on a twig, beak turned down."""
    body = sweep(
        [(-0.62, 0.95), (-0.42, 0.5), (-0.12, 0.05), (0.16, -0.35), (0.3, -0.6)], [0.05, 0.14, 0.36, 0.3, 0.26]
    )
    wing = outline_of([(-0.5, 0.55), (-0.2, 0.35), (0.06, -0.2), (-0.2, -0.22), (-0.42, 0.1)])
    beak = outline_of([(0.5, -0.72), (0.74, -0.55), (0.66, -0.3), (0.5, -0.46)], steps=5)
    twig = sweep([(-0.5, 0.62), (0.1, 0.5), (0.85, 0.62)], [0.04, 0.05, 0.03])
    return (
        ("second", twig),
        ("zari", petal(40, 0.5, 0.2, x=0.5, y=0.55)),
        ("zari", petal(140, 0.45, 0.2, x=0.4, y=0.55)),
        ("zari", body),
        ("zari", disc(0.28, -0.62, 0.29)),
        ("second", wing),
        ("accent", beak),
        ("ground", disc(0.34, -0.66, 0.08, points=10)),
        ("dark", disc(0.35, -0.66, 0.04, points=8)),
    )


def elephant() -> Motif:
    """Gaja: a caparisoned elephant walking right, the trunk raised."""
    body = outline_of(
        [
            (-0.86, -0.05),
            (-0.6, -0.4),
            (-0.1, -0.46),
            (0.3, -0.4),
            (0.48, -0.05),
            (0.36, 0.3),
            (-0.2, 0.38),
            (-0.72, 0.32),
        ]
    )
    legs = [
        np.array([(x, 0.1), (x + 0.23, 0.1), (x + 0.22, 0.92), (x - 0.01, 0.92)]) for x in (-0.84, -0.5, 0.06, 0.36)
    ]
    trunk = sweep([(0.55, -0.1), (0.82, 0.16), (0.98, -0.05), (0.92, -0.42)], [0.22, 0.13, 0.09, 0.06])
    cloth = outline_of([(-0.56, -0.46), (0.12, -0.48), (0.16, 0.2), (-0.2, 0.3), (-0.58, 0.2)], steps=4)
    ear = outline_of([(0.34, -0.42), (0.56, -0.2), (0.42, 0.16), (0.24, -0.1)], steps=5)
    seat = outline_of([(-0.5, -0.5), (-0.44, -0.78), (-0.22, -0.96), (0.0, -0.78), (0.06, -0.5)], steps=4)
    tail = sweep([(-0.84, -0.1), (-0.98, 0.2), (-0.94, 0.5)], [0.04, 0.03, 0.05])
    return (
        ("zari", tail),
        *(("zari", leg) for leg in legs),
        ("zari", body),
        ("zari", disc(0.52, -0.22, 0.3)),
        ("zari", trunk),
        ("accent", cloth),
        ("zari", (cloth - (-0.2, -0.1)) * 0.7 + (-0.2, -0.1)),
        ("second", (cloth - (-0.2, -0.1)) * 0.5 + (-0.2, -0.1)),
        ("second", ear),
        ("second", seat),
        ("zari", (seat - (-0.22, -0.7)) * 0.5 + (-0.22, -0.7)),
        ("ground", disc(0.64, -0.3, 0.045, points=8)),
        ("ground", petal(115, 0.32, 0.1, x=0.6, y=0.0)),
    )


def rider() -> Motif:
    """A horse and its rider, as on the narrative pallus of Bishnupur."""
    horse = outline_of(
        [
            (-0.8, 0.0),
            (-0.5, -0.12),
            (0.1, -0.06),
            (0.42, -0.5),
            (0.66, -0.62),
            (0.94, -0.32),
            (0.84, -0.22),
            (0.62, -0.3),
            (0.52, 0.1),
            (0.34, 0.32),
            (-0.3, 0.28),
            (-0.66, 0.34),
        ],
        steps=5,
    )
    legs = [
        sweep(path, [0.11, 0.07, 0.05])
        for path in (
            [(-0.66, 0.2), (-0.56, 0.55), (-0.7, 0.95)],
            [(-0.45, 0.25), (-0.34, 0.6), (-0.4, 0.95)],
            [(0.3, 0.2), (0.36, 0.6), (0.24, 0.95)],
            [(0.42, 0.12), (0.74, 0.4), (0.66, 0.72)],
        )
    ]
    tail = sweep([(-0.78, 0.05), (-0.96, 0.2), (-0.94, 0.6)], [0.05, 0.08, 0.03])
    torso = outline_of([(-0.24, -0.1), (-0.22, -0.55), (0.08, -0.55), (0.16, -0.1)], steps=4)
    arm = sweep([(0.02, -0.45), (0.22, -0.3), (0.4, -0.34)], [0.06, 0.05, 0.05])
    return (
        ("zari", tail),
        *(("zari", leg) for leg in legs),
        ("zari", horse),
        ("accent", torso),
        ("accent", arm),
        ("second", outline_of([(-0.3, -0.1), (0.2, -0.1), (0.16, 0.16), (-0.26, 0.16)], steps=4)),
        ("zari", disc(-0.05, -0.7, 0.15)),
        ("accent", outline_of([(-0.24, -0.74), (-0.06, -0.98), (0.14, -0.76), (-0.04, -0.8)], steps=4)),
        ("ground", disc(0.74, -0.42, 0.035, points=8)),
    )


def courtier() -> Motif:
    """A seated noble smelling a flower, within a scalloped arch: the pallu figure of Baluchari."""
    arch = outline_of(
        [
            (-0.95, 0.98),
            (-0.95, -0.3),
            (-0.66, -0.62),
            (-0.36, -0.7),
            (0, -1.0),
            (0.36, -0.7),
            (0.66, -0.62),
            (0.95, -0.3),
            (0.95, 0.98),
        ],
        steps=4,
    )
    robe = outline_of(
        [(-0.62, 0.8), (-0.42, 0.42), (-0.26, -0.06), (0.18, -0.06), (0.3, 0.42), (0.62, 0.66), (0.5, 0.84)], steps=5
    )
    arm = sweep([(0.12, 0.06), (0.36, 0.26), (0.42, -0.06)], [0.08, 0.07, 0.05])
    return (
        ("zari", arch),
        ("ground", (arch - (0, 0.1)) * 0.86 + (0, 0.1)),
        ("second", robe),
        ("zari", sweep([(-0.3, 0.4), (0.32, 0.44)], [0.06, 0.06])),
        ("zari", arm),
        ("zari", disc(-0.02, -0.24, 0.17)),
        ("accent", outline_of([(-0.24, -0.28), (-0.04, -0.55), (0.2, -0.32), (-0.02, -0.36)], steps=4)),
        *(("accent", p + np.array((0.44, -0.16))) for p in ring_of_petals(5, 0.13, 0.11)),
        ("zari", np.array([(-0.8, 0.8), (0.8, 0.8), (0.8, 0.88), (-0.8, 0.88)])),
    )


def fish() -> Motif:
    """Machhi: a fish, head to the right."""
    body = outline_of([(-0.55, 0.0), (-0.1, -0.42), (0.5, -0.38), (0.96, 0.0), (0.5, 0.38), (-0.1, 0.42)])
    fins = outline_of([(-0.95, -0.45), (-0.5, 0.0), (-0.95, 0.45), (-0.74, 0.0)], steps=4)
    scales = [
        ("ground", sweep([(x, -0.26), (x + 0.1, 0), (x, 0.26)], [0.03, 0.04, 0.03])) for x in (-0.26, -0.02, 0.22)
    ]
    return (
        ("zari", fins),
        ("second", petal(-20, 0.7, 0.3, x=0.2, y=-0.1)),
        ("zari", body),
        *scales,
        ("accent", disc(0.62, -0.08, 0.1)),
    )
