"""How a saree is shown: hung, gathered on a rail, folded, fanned out, near the lens, or worn (``saree_figure``).

A presentation lays cloth on a ``Stage``. Each shows field, border and pallu, so that no design is hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.datasets.saree_cloth import PALLU
from retrieval.datasets.saree_figure import worn
from retrieval.datasets.saree_scene import clouds
from retrieval.datasets.saree_stage import Stage, at_edges, pleats, slopes


def hung(stage: Stage, rng: np.random.Generator) -> None:
    """The pallu hangs from a rail: borders down both sides, the end and its tassels below."""
    half = rng.uniform(0.42, 0.52)
    top, bottom = -0.86, rng.uniform(0.68, 0.78)
    down = np.clip((stage.y - top) / np.float32(bottom - top), 0, 1)
    spread = np.float32(half) * (rng.uniform(0.82, 0.95) + (1 - 0.9) * down)
    across = (stage.x / spread + 1) / 2
    folds = rng.uniform(3.2, 5.5)
    fold = pleats(stage, rng, across, folds=folds, depth=0.31 * half / folds)
    edge = np.float32(0.012) * clouds(rng, stage.height, 1, cells=(4, 1))
    inside = np.minimum(spread - np.abs(stage.x) + edge, np.float32(1))
    hem_line = np.float32(bottom) + fold.height[int((bottom - stage.y[0, 0]) / stage.pixel) - 1] * np.float32(0.35)
    stage.rod(rng, top, 0.026, half + 0.09)
    left, right = at_edges(fold.arc, inside > 0)
    v = (fold.arc - left) / np.maximum(right - left, 1e-3)
    scale = 1 / (2 * half) * rng.uniform(0.98, 1.08)
    u = (hem_line[None, :] - stage.y) * np.float32(scale)
    crown = np.clip((stage.y - np.float32(top - 0.04)) / np.float32(0.07), 0, 1)
    cover = stage.cover(np.minimum(np.minimum(inside, hem_line[None, :] - stage.y), stage.y - np.float32(top - 0.04)))
    shade = fold.shade * (0.55 + 0.45 * np.sqrt(crown))
    stage.tassels(
        rng, -float(spread.max()) + 0.02, float(spread.max()) - 0.02, hem_line - 0.01, length=rng.uniform(0.09, 0.14)
    )
    stage.lay(
        u,
        np.clip(v, 0, 0.999),
        cover,
        lean_x=fold.lean_x,
        lean_y=fold.lean_y - (1 - crown) * 0.9,
        shade=shade,
        scale=scale * 1.2,
    )


def gathered(stage: Stage, rng: np.random.Generator) -> None:
    """The length hangs from a rail in pleats: the border runs along the hem, the pallu at one side."""
    half = float(-stage.x[0, 0]) * rng.uniform(0.78, 0.88)
    top, bottom = -0.84, rng.uniform(0.7, 0.84)
    down = np.clip((stage.y - top) / np.float32(bottom - top), 0, 1)
    spread = np.float32(half) * (rng.uniform(0.66, 0.9) * (1 - down) + down) ** np.float32(0.8)
    across = (stage.x / spread + 1) / 2
    folds = rng.uniform(4.5, 7.5)
    fold = pleats(stage, rng, across, folds=folds, depth=0.3 * half / folds, wander=0.07)
    inside = spread - np.abs(stage.x) + np.float32(0.01) * clouds(rng, stage.height, 1, cells=(4, 1))
    row = min(int((bottom - stage.y[0, 0]) / stage.pixel) - 1, stage.height - 1)
    hem = np.float32(bottom) + fold.height[row] * np.float32(0.5)
    stage.rod(rng, top, 0.026, min(half + 0.06, float(-stage.x[0, 0]) - 0.06))
    left, right = at_edges(fold.arc, inside > 0)
    share = (fold.arc - left) / np.maximum(right - left, 1e-3)
    scale = 0.98 / (bottom - top)
    start = rng.uniform(0.02, 0.12)
    u = np.float32(start) + share * np.float32(min(3.0 * half * scale, 1.75))
    if rng.random() < 0.5:
        u = np.float32(start) + (1 - share) * np.float32(min(3.0 * half * scale, 1.75))
    v = 1 - (hem[None, :] - stage.y) * np.float32(scale)
    crown = np.clip((stage.y - np.float32(top - 0.04)) / np.float32(0.07), 0, 1)
    cover = stage.cover(np.minimum(np.minimum(inside, hem[None, :] - stage.y), stage.y - np.float32(top - 0.04)))
    shade = fold.shade * (0.55 + 0.45 * np.sqrt(crown))
    stage.lay(
        u,
        np.clip(v, 0, 0.999),
        cover,
        lean_x=fold.lean_x,
        lean_y=fold.lean_y - (1 - crown) * 0.9,
        shade=shade,
        scale=scale * 1.2,
    )


def _panel(
    stage: Stage,
    rng: np.random.Generator,
    centre: tuple[float, float],
    size: tuple[float, float],
    turn: float,
    *,
    u: tuple[float, float],
    v: tuple[float, float],
    upright: bool = False,
    shadow: float = 0.02,
    shade: float = 1.0,
    relief: float = 0.02,
    below: bool = False,
) -> None:
    """Lay one flat fold: a rectangle about ``centre``, turned by degrees.

    u and v run from first to last over its breadth and height, or the reverse where it stands ``upright``;
    of a fold ``below`` others only the lower part is drawn, and none has creases where ``relief`` is 0.
    """
    angle = np.deg2rad(turn)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    window = stage.window(centre, float(np.hypot(*size)) / 2 + 4 * shadow)
    if below:
        first = int((centre[1] + size[1] * 0.3 - stage.y[0, 0]) / stage.pixel)
        window = slice(min(max(first, window[0].start), window[0].stop - 2), window[0].stop), window[1]
    dx, dy = stage.x[:, window[1]] - np.float32(centre[0]), stage.y[window[0]] - np.float32(centre[1])
    height, width = len(dy), dx.shape[1]
    p, q = (dx * c + dy * s) / np.float32(size[0] / 2), (dy * c - dx * s) / np.float32(size[1] / 2)
    lean_x, lean_y = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    if relief:
        bulge = clouds(rng, height, width, cells=(3, 3))
        p, q = p * (1 + np.float32(0.006) * bulge), q * (1 + np.float32(0.008) * bulge)
        creases = clouds(rng, height, width, cells=(5, 4)) * np.float32(relief) + bulge * np.float32(relief * 2)
        lean_y, lean_x = slopes(creases, -stage.pixel)
    inside_p, inside_q = (1 - np.abs(p)) * np.float32(size[0] / 2), (1 - np.abs(q)) * np.float32(size[1] / 2)
    cover = stage.cover(np.minimum(inside_p, inside_q))
    # the cloth turns down at the fold
    turned_p = np.sign(p) * np.maximum(0, 1 - inside_p / np.float32(0.035)) ** 2 * (inside_p > -0.02)
    turned_q = np.sign(q) * np.maximum(0, 1 - inside_q / np.float32(0.035)) ** 2 * (inside_q > -0.02)
    lean_x -= (turned_p * c - turned_q * s) * np.float32(1.1)
    lean_y -= (turned_p * s + turned_q * c) * np.float32(1.1)
    a, b = ((q + 1) / 2, (p + 1) / 2) if upright else ((p + 1) / 2, (q + 1) / 2)
    stage.lay(
        u[0] + (u[1] - u[0]) * a,
        np.clip(v[0] + (v[1] - v[0]) * b, 0, 0.999),
        cover,
        lean_x=lean_x,
        lean_y=lean_y,
        shade=shade,
        scale=abs(v[1] - v[0]) / (size[0] if upright else size[1]),
        shadow=shadow,
        window=window,
    )


def folded(stage: Stage, rng: np.random.Generator) -> None:
    """A folded saree on a table: the field and border, and the pallu laid across it."""
    wide = stage.width > stage.height
    breadth = rng.uniform(1.45, 1.6) if wide else rng.uniform(1.1, 1.22)
    tall = breadth * (rng.uniform(0.58, 0.66) if wide else rng.uniform(0.95, 1.1))
    turn = rng.uniform(-6, 6)
    share = rng.uniform(0.55, 0.68)
    across = share * breadth / tall
    for i in (3, 2, 1):
        slip = rng.normal(0, 0.006)
        _panel(
            stage,
            rng,
            (slip - 0.004 * i, 0.02 + 0.019 * i),
            (breadth * (1 + 0.006 * i), tall),
            turn + rng.normal(0, 0.5),
            u=(1.0, 1.0 + across),
            v=(1 - share, 1),
            shade=0.8 - 0.08 * i,
            relief=0,
            below=True,
        )
    start = PALLU + rng.uniform(0.05, 0.4)
    _panel(stage, rng, (0, 0), (breadth, tall), turn, u=(start, start + across), v=(1 - share, 1.0), shadow=0.012)
    side = rng.choice((-1.0, 1.0))
    if rng.random() < 0.5:
        w = breadth * rng.uniform(0.44, 0.52)
        long = tall * rng.uniform(0.93, 1.0)
        tilt = turn + rng.uniform(-3, 3)
        for i in (2, 1):
            _panel(
                stage,
                rng,
                (side * (breadth - w) * 0.42 - side * 0.012 * i, 0.02),
                (w, long),
                tilt,
                u=(long / w * 0.56 + 0.03, 0.03),
                v=(0.44, 1),
                upright=True,
                shade=0.75,
                relief=0,
                below=True,
            )
        ends = (0.44, 1.0) if side > 0 else (1.0, 0.44)
        _panel(
            stage,
            rng,
            (side * (breadth - w) * 0.42, 0.02),
            (w, long),
            tilt,
            u=(long / w * 0.56 + 0.0, 0.0),
            v=ends,
            upright=True,
            shadow=0.03,
        )
    else:
        w, long = breadth * rng.uniform(0.5, 0.58), tall * rng.uniform(0.95, 1.05)
        ends = (0.42, 1.0) if side > 0 else (1.0, 0.42)
        _panel(
            stage,
            rng,
            (side * breadth * 0.17, tall * 0.05),
            (w, long),
            turn + side * rng.uniform(14, 30),
            u=(long / w * 0.58, 0.0),
            v=ends,
            upright=True,
            shadow=0.04,
        )


def close(stage: Stage, rng: np.random.Generator) -> None:
    """Near the lens: the corner where field, pallu and border meet, in soft folds."""
    span = rng.uniform(0.42, 0.56)
    angle = np.deg2rad(rng.uniform(-28, 28) + rng.choice((0, 0, 90, -90)))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    slope = rng.uniform(-0.6, 0.6)
    along = stage.x * np.float32(np.cos(slope)) + stage.y * np.float32(np.sin(slope))
    bend = clouds(rng, stage.height, stage.width, cells=(1.4, 1.4))
    phase = along * np.float32(rng.uniform(3.2, 6.5)) + bend * np.float32(0.9) + np.float32(rng.uniform(0, 6.3))
    height = (np.sin(phase) + 0.3 * np.sin(2 * phase + 0.6)) * np.float32(rng.uniform(0.05, 0.095))
    height += clouds(rng, stage.height, stage.width, cells=(6, 6)) * np.float32(0.006)
    lean_y, lean_x = slopes(height, stage.pixel)
    x, y = stage.x + height * np.float32(0.7), stage.y + height * np.float32(0.9)
    u = np.float32(PALLU + rng.uniform(-0.1, 0.08)) + (x * c - y * s) * np.float32(span)
    v = np.float32(rng.uniform(0.72, 0.8)) + (x * s + y * c) * np.float32(span)
    shade = np.clip(0.84 + 0.24 * np.sin(phase), 0.5, 1.05)
    past = np.float32(1) - v
    cover = stage.cover(past / np.float32(span))
    stage.lay(u, np.clip(v, 0, 0.999), cover, lean_x=lean_x, lean_y=lean_y, shade=shade, scale=span)


def fanned(stage: Stage, rng: np.random.Generator) -> None:
    """Pleats fanned out from a corner, the border along the arc, the pallu in the first pleats."""
    side = rng.choice((-1.0, 1.0))
    middle = (side * rng.uniform(0.3, 0.5), rng.uniform(0.78, 0.9))
    dx, dy = (stage.x - np.float32(middle[0])) * np.float32(-side), np.float32(middle[1]) - stage.y
    radius = np.sqrt(dx * dx + dy * dy)
    theta = np.arctan2(dx, np.maximum(dy, 1e-4) + 0 * dx)
    theta = np.where(
        dy > 0, theta, np.where(dx > 0, np.float32(np.pi) - np.arctan2(dx, np.maximum(-dy, 1e-4)), np.float32(-3))
    )
    first, last = np.deg2rad(rng.uniform(-42, -30)), np.deg2rad(rng.uniform(78, 92))
    count = int(rng.integers(10, 15))
    place = (theta - np.float32(first)) / np.float32(last - first) * count
    index = np.clip(np.floor(place), 0, count - 1)
    within = place - index
    wave = np.where(within < 0.5, within * 2, 2 - within * 2)
    reach = rng.uniform(1.28, 1.4)
    edge = np.float32(reach) - np.float32(0.035) * (1 - wave) + np.float32(0.006) * np.sin(index * 2.4)
    inner = np.float32(0.1)
    inside = np.minimum(
        np.minimum(edge - radius, radius - inner),
        np.minimum(place, count - place) * np.float32((last - first) / count) * radius,
    )
    cover = stage.cover(inside)
    scale = rng.uniform(0.68, 0.76)
    pitch = (last - first) / count * reach * scale
    u = np.float32(0.03) + (index + within) * np.float32(pitch * 1.02)
    v = 1 - (edge - radius) * np.float32(scale)
    flank = (
        np.where(within < 0.5, np.float32(1), np.float32(-1))
        * np.clip(np.minimum(within, 1 - within) * 6, 0, 1)
        * np.clip(np.abs(within - 0.5) * 10, 0.2, 1)
    )
    steep = np.float32(0.75) * flank * np.clip(radius * 1.6, 0.5, 1)
    lean_x, lean_y = steep * np.cos(theta) * np.float32(-side), steep * np.sin(theta)
    shade = (0.62 + 0.4 * wave) * np.clip(0.55 + radius * 0.7, 0, 1)
    stage.lay(u, np.clip(v, 0, 0.999), cover, lean_x=lean_x, lean_y=lean_y, shade=shade, scale=scale * 1.1)


PRESENTATIONS: dict[str, Callable[[Stage, np.random.Generator], None]] = {
    "close": close, "fanned": fanned, "folded": folded, "gathered": gathered, "hung": hung, "worn": worn,
}  # fmt: skip
