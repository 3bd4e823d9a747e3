"""Closed outlines from a few numbers: smooth curves, swept discs, petals; what the motifs are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Outline = NDArray[np.float64]
Shape = tuple[str, Outline]
Motif = tuple[Shape, ...]


def outline_of(points: Sequence[tuple[float, float]], *, steps: int = 6) -> Outline:
    """Round a polygon off: a closed Catmull-Rom curve through ``points``, (len(points) * steps, 2)."""
    knots = np.asarray(points, dtype=np.float64)
    before, after, later = np.roll(knots, 1, 0), np.roll(knots, -1, 0), np.roll(knots, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (part[:, None, :] for part in (before, knots, after, later))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return curve.reshape(-1, 2)


def sweep(path: Sequence[tuple[float, float]] | Outline, radii: Sequence[float], *, steps: int = 7) -> Outline:
    """Outline of a disc of changing radius drawn along a smooth open path: necks, trunks, stems, paisleys.

    Args:
        path: points (n, 2) the disc passes through.
        radii: its radius at each of them.
        steps: points drawn between two given ones.
    """
    knots = np.asarray(path, dtype=np.float64)
    at = np.linspace(0, len(knots) - 1, (len(knots) - 1) * steps + 1)
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    i = np.minimum(at.astype(int), len(knots) - 2)
    t = (at - i)[:, None]
    p0, p1, p2, p3 = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    centre = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    radius = np.interp(at, np.arange(len(knots)), radii)[:, None]
    along = np.gradient(centre, axis=0)
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return np.vstack([centre + across * radius, (centre - across * radius)[::-1]])


def disc(x: float, y: float, radius: float, *, squash: float = 1.0, points: int = 20) -> Outline:
    """A circle, or an ellipse ``squash`` times as high as wide."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * squash * np.sin(angle)], axis=1)


def petal(angle: float, length: float, width: float, *, x: float = 0, y: float = 0, start: float = 0) -> Outline:
    """A pointed petal or leaf from (x, y).

    Args:
        angle: degrees clockwise from upright.
        length: from the base to the tip.
        width: at the widest place.
        x: of the base.
        y: of the base.
        start: how far from the base it begins.
    """
    t = np.linspace(0, 1, 9)
    half = width / 2 * np.sin(np.pi * t**0.8) ** 0.9
    along = start + (length - start) * t
    side = np.concatenate([half, -half[::-1]])
    up = np.concatenate([along, along[::-1]])
    turn = np.deg2rad(angle)
    return np.stack([x + side * np.cos(turn) + up * np.sin(turn), y + side * np.sin(turn) - up * np.cos(turn)], axis=1)


def ring_of_petals(count: int, length: float, width: float, *, start: float = 0.1, turn: float = 0) -> list[Outline]:
    """Petals all round the origin, ``turn`` degrees from upright."""
    return [petal(turn + 360 * i / count, length, width, start=start) for i in range(count)]
