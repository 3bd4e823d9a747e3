"""The saree worn: a dress form in a blouse, pleats from the waist, the pallu over the shoulder."""

from __future__ import annotations

import numpy as np

from retrieval.datasets.saree_cloth import PALLU
from retrieval.datasets.saree_stage import LIGHT_OF, Stage, at_edges, pleats


def worn(stage: Stage, rng: np.random.Generator) -> None:
    """On a dress form, in the Gujarati way: pleats from the waist, the pallu over the shoulder and spread in front."""
    waist, floor = -0.2, rng.uniform(0.86, 0.93)
    side = rng.choice((-1.0, 1.0))
    _form(stage, side)
    # the skirt
    down = np.clip((stage.y - np.float32(waist)) / np.float32(floor - waist), 0, 1)
    spread = (
        np.float32(0.165)
        + np.float32(0.085) * np.minimum(down * 3.4, 1) ** np.float32(0.7)
        + np.float32(rng.uniform(0.12, 0.2)) * down ** np.float32(1.3)
    )
    across = (stage.x / spread + 1) / 2
    folds = rng.uniform(5.5, 8)
    fold = pleats(stage, rng, across, folds=folds, depth=0.075 / folds * 2.2, wander=0.05)
    inside = spread - np.abs(stage.x)
    row = min(int((floor - stage.y[0, 0]) / stage.pixel) - 1, stage.height - 1)
    hem = np.float32(floor) + fold.height[row] * np.float32(0.6) - np.float32(0.05) * (stage.x[0] / 0.4) ** 2
    left, right = at_edges(fold.arc, inside > 0)
    share = (fold.arc - left) / np.maximum(right - left, 1e-3)
    scale = 0.94 / (floor - waist)
    u = np.float32(PALLU + rng.uniform(0.1, 0.5)) + share * np.float32(1.15)
    v = 1 - (hem[None, :] - stage.y) * np.float32(scale)
    barrel = (stage.x / spread) * np.float32(0.8)
    cover = stage.cover(np.minimum(np.minimum(inside, hem[None, :] - stage.y), stage.y - np.float32(waist - 0.01)))
    stage.lay(
        u,
        np.clip(v, 0, 0.999),
        cover,
        lean_x=fold.lean_x + barrel,
        lean_y=fold.lean_y,
        shade=fold.shade,
        scale=scale * 1.15,
    )
    # the pallu, fanning out from the shoulder
    end = rng.uniform(0.16, 0.26)
    top = -0.7
    fall = np.clip((stage.y - np.float32(top)) / np.float32(end - top), 0, 1)
    middle = np.float32(-side * 0.165) * (1 - fall) ** np.float32(1.2) + np.float32(side * 0.02) * fall
    half = np.float32(0.07) + np.float32(0.235) * fall ** np.float32(0.75)
    across = ((stage.x - middle) / half + 1) / 2
    fold = pleats(stage, rng, across, folds=rng.uniform(3, 4.5), depth=0.012, wander=0.05)
    bow = np.float32(0.07) * (1 - ((stage.x - middle) / half) ** 2)
    ends = np.float32(end) + bow
    inside = np.minimum(half - np.abs(stage.x - middle), ends - stage.y)
    shoulder = (
        stage.y - np.float32(top) - np.float32(0.5) * np.abs(stage.x - np.float32(-side * 0.165)) ** np.float32(1.5)
    )
    left, right = at_edges(fold.arc, half - np.abs(stage.x - middle) > 0)
    v = (fold.arc - left) / np.maximum(right - left, 1e-3)
    u = (ends - stage.y) * np.float32(1.45)
    cover = stage.cover(np.minimum(inside, shoulder))
    roll = np.clip(1 - shoulder / np.float32(0.1), 0, 1)
    stage.lay(
        u,
        np.clip(v, 0, 0.999),
        cover,
        lean_x=fold.lean_x * np.float32(0.9) + (stage.x / np.float32(0.5)),
        lean_y=fold.lean_y - roll * np.float32(0.9),
        shade=fold.shade,
        scale=1.9,
        shadow=0.035,
    )


def _form(stage: Stage, side: float) -> None:
    """The dress form in a blouse: neck of turned wood, shoulders, short sleeves edged with zari."""
    part = slice(0, int((-0.05 - stage.y[0, 0]) / stage.pixel)), slice(None)
    x, y = np.abs(stage.x), stage.y[part[0]]
    knots_y = (-0.9, -0.885, -0.865, -0.8, -0.755, -0.72, -0.66, -0.56, -0.44, -0.32, -0.2, -0.1)
    knots_x = (0.0, 0.03, 0.07, 0.068, 0.075, 0.16, 0.215, 0.205, 0.19, 0.155, 0.15, 0.2)
    outline = np.interp(y[:, 0], knots_y, knots_x, left=-1, right=-1).astype(np.float32)[:, None]
    round_x = np.clip(stage.x / np.maximum(outline, 0.02), -1, 1)
    facing = np.sqrt(1 - round_x * round_x * np.float32(0.9))
    light = np.float32(stage.light.fill) + np.float32(0.95) * np.maximum(
        facing * np.float32(stage.light.z) + round_x * np.float32(stage.light.x), 0
    )
    cover = stage.cover(outline - x) * (y > -0.9) * (y < -0.08)
    linen, wood = (0.66, 0.56, 0.43), (0.16, 0.075, 0.035)
    stage.paint(cover, linen, cover * light, part)
    cap = cover * (y < -0.855)
    stage.paint(cap, wood, cap * light * np.float32(1.2), part)
    blouse, trim = (LIGHT_OF[list(stage.cloth.palette[ink][:3])] for ink in ("border", "zari"))
    neckline = np.float32(-0.6) - np.float32(0.17) * np.clip(x / np.float32(0.115), 0, 1) ** 4
    body = cover * stage.cover(y - neckline) * stage.cover(np.float32(-0.3) - y)
    edge = body * np.maximum(1 - stage.cover(y - neckline - np.float32(0.018)), stage.cover(y + np.float32(0.318)))
    stage.paint(body, blouse, body * light, part)
    stage.paint(edge, trim, edge * light * np.float32(1.1), part)
    for way in (-1, 1):
        px, py = stage.x * np.float32(way) - np.float32(0.15), y + np.float32(0.655)
        along = np.clip((px * np.float32(0.43) + py * np.float32(0.9)) / np.float32(0.24), 0, 1)
        aside = px - along * np.float32(0.24 * 0.43)
        width = np.float32(0.085) - np.float32(0.022) * along
        from_axis = np.hypot(aside, py - along * np.float32(0.24 * 0.9))
        sleeve = stage.cover(
            np.minimum(width - from_axis, np.float32(0.235) - (px * np.float32(0.43) + py * np.float32(0.9)))
        )
        turned = np.clip(aside / width, -1, 1) * np.float32(way)
        facing = np.sqrt(1 - np.float32(0.9) * turned * turned) * np.float32(stage.light.z) + turned * np.float32(
            stage.light.x
        )
        glow = np.float32(stage.light.fill) + np.float32(0.95) * np.maximum(facing, 0)
        stage.paint(sleeve, blouse, sleeve * glow, part)
        band = sleeve * stage.cover(px * np.float32(0.43) + py * np.float32(0.9) - np.float32(0.208))
        stage.paint(band, trim, band * glow, part)
