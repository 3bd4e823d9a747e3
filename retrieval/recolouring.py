"""Whether the colours of one picture come from those of another by an edit, or are those of another thing.

Most edits change all of a picture at once: exposure, contrast, tone, white balance, saturation, or grey. A product that
is sold in red and in blue is shot on the same ground, and no such change leads from one to the other: where it explains
the ground it does not explain the product. So the change is fitted to both in equal shares, however small the product,
and what it does not explain is looked at on the product alone, window by window. What was stuck on a picture differs
too, but there nothing of the picture is left; where light and dark lie as before and only the colour does not, it is
the product's. Where nothing is a ground, nothing tells a vignette from another thing, and much more is let pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retrieval.local_features import opencv

SAMPLED: Final = 1000
"""Pixels of the ground, and of what stands on it, that a change is fitted to."""
STEPS: Final = 6
"""Of Gauss and Newton."""
RIDGE: Final = 3e-4
"""How much a change weighs that is not needed, beside mean squared errors of colours in [0, 1]."""
TRUSTED, MOST = 12.0 / 255, 0.6
"""Error, of colours in [0, 1], from which on a pixel counts for less in the fit, or that share's where it is more."""
WORST: Final = 60.0 / 255
"""The same, above which it does not matter how large it is, when fits are held against each other."""
LOW: Final = np.array([*[0.3] * 3, *[-0.6] * 3, 0.0, np.log(0.5), 0.0])
HIGH: Final = np.array([*[3.0] * 3, *[0.6] * 3, 2.5, np.log(2.0), 1.0])
NOTHING: Final = np.array([*[1.0] * 3, *[0.0] * 3, 1.0, 0.0, 0.5])
"""Gain and shift of each channel, saturation, logarithm of gamma, and which grey: the bounds, and what changes nothing.

Of the greys 0 is the mean of the channels, 1 their brightness as of ``LUMA``.
"""
GAINS, SHIFTS, SATURATION, GAMMA, GREY = slice(0, 3), slice(3, 6), 6, 7, 8
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as most editors have it
TIED: Final = 10.0
"""What it costs that the shifts of the channels differ, as ``RIDGE``, where the ground has the same colour in both."""
TINTED: Final = 8.0
"""Levels from which on the ground has another colour, so that all of the picture was changed."""
DARK: Final = 1e-3  # in [0, 1], below which all is black: a logarithm of nothing has no slope
FLAT, AROUND = 0.2, 0.5
"""Share of what two pictures share, and of its edge, from which on one colour is a ground that things stand on."""
ON_IT, OFF_IT = 12.0, 24.0
"""Levels up to which a pixel is ground, and from which it is none."""
LEAST: Final = 30
"""Pixels on a ground below which there is nothing to see on it."""
SPREAD: Final = 0.6
"""Deviations within a window that its mean may be off by chance."""
ALIKE, FOREIGN = 4.0, 14.0
"""Levels up to which the colour of a window is explained, and from which it is another, spread taken off."""
ALIKE_THERE, FOREIGN_THERE = 12.0, 60.0
"""The same where there is no ground to tell a change of the light in one place from one of the thing."""
SURE: Final = 0.8
"""Likeness of light and dark from which on a window shows the same thing in both pictures."""
SOME, MUCH = 0.03, 0.12
"""Share of such windows with another colour from which on doubt begins, and from which it is another thing."""
FEWEST: Final = 0.4
"""Share of all windows that is taken for that of such windows where it is less: of a few a doubt is none."""
LITTLE, ENOUGH = 0.15, 0.35
"""Share of a window that is product up to which its colour says nothing, and from which on it counts in full: a JPEG
keeps colours at half the size, so that thin lines have others."""


@dataclass(frozen=True)
class Colours:
    """What no edit explains of two pictures' colours, by the window around every pixel.

    Attributes:
        foreign: (height, width) float32 in [0, 1], 0 where the colour is explained, 1 where it is another.
        shown: (height, width) float32 in [0, 1], whether enough of the window is product, its edges left out.
        on_ground: whether there is a ground.
    """

    foreign: np.ndarray
    shown: np.ndarray
    on_ground: bool

    def doubt(self, weights: np.ndarray, likeness: np.ndarray, seen: np.ndarray) -> float:
        """How far the pictures show the same thing in another colour, in [0, 1].

        Args:
            weights: (n,) float32, of the windows that are ``seen``.
            likeness: (n,) float32, how much light and dark in them are alike, up to 1.
            seen: (height, width) bool, n of it true.
        """
        if not self.on_ground:
            return 0.0
        every = float(weights.sum())
        weights = weights * (likeness > SURE) * self.shown[seen]
        share = float((weights * self.foreign[seen]).sum()) / max(float(weights.sum()), FEWEST * every, 1e-9)
        return float(np.clip((share - SOME) / (MUCH - SOME), 0, 1))


def unexplained(first: np.ndarray, second: np.ndarray, both: np.ndarray, within: np.ndarray, window: int) -> Colours:
    """Compare the colours of two pictures beside the best change of all colours, whichever of them was changed.

    May be called from many threads.

    Args:
        first: (3, height, width) float32, levels of 0 to 255.
        second: (3, height, width) float32, laid over it.
        both: (height, width) bool, where both are.
        within: (height, width) bool, where windows lie in both; some of it true.
        window: side of the windows, pixels.
    """
    cv2 = opencv()
    a, b = first / np.float32(255), second / np.float32(255)
    figure, ground = _figure(cv2, first, second, both, within)
    places, weights = _sample(figure, ground, within)
    in_a, in_b = a.reshape(3, -1)[:, places], b.reshape(3, -1)[:, places]
    on_ground = bool(ground.any())
    tinted = on_ground and float(np.abs(np.median((second - first)[:, ground], axis=1)).max()) > TINTED
    there, error = fit_change(in_a, in_b, weights, tied=not tinted)
    back, error_back = fit_change(in_b, in_a, weights, tied=not tinted)
    # Colours that were taken away, or cut off at black or white, do not come back: either may be the edit.
    left = changed(a, there) - b if error <= error_back else changed(b, back) - a

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.boxFilter(values, -1, (window, window), borderType=cv2.BORDER_REFLECT))

    shown = mean(figure)
    off = np.zeros_like(shown)
    # Where nothing is shown nothing is divided by nothing, and what comes of it does not count.
    for channel in left * np.float32(255):
        middle = mean(channel * figure) / (shown + 0.02)
        spread = np.sqrt(np.maximum(mean(channel * channel * figure) / (shown + 0.02) - middle * middle, 0))
        np.maximum(off, np.abs(middle) - SPREAD * spread, out=off)
    alike, foreign = (ALIKE, FOREIGN) if on_ground else (ALIKE_THERE, FOREIGN_THERE)
    enough = np.clip((shown - LITTLE) / (ENOUGH - LITTLE), 0, 1)
    return Colours(enough * np.clip((off - alike) / (foreign - alike), 0, 1), enough, on_ground)


def fit_change(a: np.ndarray, b: np.ndarray, weights: np.ndarray, *, tied: bool = True) -> tuple[np.ndarray, float]:
    """Fit the change of colours that leads from some pixels to others, robustly and from no change on.

    The model: saturation about a grey, a gain and a shift of each channel, cut off at black and white, gamma. Damped
    least squares by Gauss and Newton, weighed anew in every step (Geman and McClure), so that what the change does not
    explain has little say; of all steps the best, since what is cut off in one and not in the next may never settle.

    Args:
        a: (3, n) float32 in [0, 1].
        b: (3, n) float32 in [0, 1].
        weights: (n,) float32, sum 1.
        tied: whether the shift is one for all channels, as of brightness and contrast. With three, and gains, any two
            colours become any other two, which only what tints a white ground as well is known to do.

    Returns:
        (9,) float64, as of ``NOTHING``, within ``LOW`` and ``HIGH``; and what it leaves: the mean error of the worst
        channel, in [0, 1], none of it counted as more than ``WORST``.
    """
    ridge = RIDGE * np.eye(len(NOTHING))
    if tied:
        ridge[SHIFTS, SHIFTS] += TIED * (np.eye(3) - 1 / 3)
    change = best = NOTHING
    least = np.inf
    for step in range(1 + STEPS):
        now, slopes = _slopes(a, change)
        left = b - now
        off = np.abs(left).max(axis=0)
        error = float((np.minimum(off, np.float32(WORST)) * weights).sum())
        if error < least:
            best, least = change, error
        if step == STEPS:
            break
        typical = max(TRUSTED, _quantile(off, weights, MOST))
        trusted = weights / np.square(1 + np.square(off / np.float32(typical)))
        flat = (slopes * trusted).reshape(len(NOTHING), -1)
        normal = (flat @ slopes.reshape(len(NOTHING), -1).T).astype(np.float64) + ridge
        towards = (flat @ left.ravel()).astype(np.float64) - ridge @ (change - NOTHING)
        change = np.clip(change + np.linalg.solve(normal, towards), LOW, HIGH)
    return best, least


def changed(colours: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Apply a change, as ``fit_change`` gives it, to colours (3, ...) float32 in [0, 1]."""
    levels, _, _ = _levels(colours, change)
    return np.asarray(np.clip(levels, DARK, 1) ** np.float32(np.exp(change[GAMMA])))


def _levels(colours: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours before they are cut off and bent, with their saturation only, and their grey."""
    gains, shifts = (change[part].astype(np.float32).reshape(3, *[1] * (colours.ndim - 1)) for part in (GAINS, SHIFTS))
    mix = np.float32(1 - change[GREY]) / 3 + np.float32(change[GREY]) * LUMA
    grey = np.tensordot(mix, colours, 1)
    saturated = grey + np.float32(change[SATURATION]) * (colours - grey)
    return gains * saturated + shifts, saturated, grey


def _slopes(colours: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changed colours (3, n), and how they go with each number of the change: (9, 3, n)."""
    levels, saturated, grey = _levels(colours, change)
    cut = np.clip(levels, DARK, 1)
    gamma = np.float32(np.exp(change[GAMMA]))
    now = cut**gamma
    by_level = np.where(cut == levels, gamma * now / cut, 0)
    by_gained = by_level * change[GAINS, None].astype(np.float32)
    slopes = np.zeros((len(NOTHING), *colours.shape), np.float32)
    slopes[range(3), range(3)] = by_level * saturated
    slopes[range(3, 6), range(3)] = by_level
    slopes[SATURATION] = by_gained * (colours - grey)
    slopes[GAMMA] = now * np.log(cut) * gamma
    slopes[GREY] = by_gained * np.float32(1 - change[SATURATION]) * (LUMA @ colours - colours.mean(axis=0))
    return now, slopes


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    at = int(np.searchsorted(np.cumsum(weights[order]), share))
    return float(values[order][min(at, len(order) - 1)])


def _figure(
    cv2: Any, first: np.ndarray, second: np.ndarray, both: np.ndarray, within: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far pixels stand on a ground of one colour: (height, width) float32 in [0, 1]; and whether they are ground.

    All of what both show, where neither has a ground. Edges of things are left out: there a part of a pixel's shift
    is another colour.
    """
    off = [np.abs(picture - _commonest(picture, within)[:, None, None]).max(axis=0) for picture in (first, second)]
    ground = (np.maximum(*off) < ON_IT) & both
    edge = within & (cv2.erode(within.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) == 0)
    if ground[within].mean() < FLAT or ground[edge].mean() < AROUND:
        return both.astype(np.float32), np.zeros_like(both)
    figure = np.clip((np.minimum(*off) - ON_IT) / (OFF_IT - ON_IT), 0, 1) * both
    return np.asarray(cv2.erode(figure.astype(np.float32), np.ones((3, 3), np.uint8))), ground


def _commonest(picture: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Colour (3,) that most of a picture (3, height, width) has."""
    colours = picture[:, within]
    cells = (colours.astype(np.int64) >> 4).T @ np.array([256, 16, 1])
    most = np.bincount(cells).argmax()
    return np.asarray(np.median(colours[:, cells == most], axis=1))


def _sample(figure: np.ndarray, ground: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n,) in flattened pictures, evenly spread, and their weights: half of all for the ground, if there is."""
    of_ground = np.flatnonzero(ground & within)
    of_figure = np.flatnonzero((figure > 0.5) & within)
    if len(of_figure) < LEAST:
        of_figure = np.flatnonzero(~ground & within)
    enough = [part for part in (of_ground, of_figure) if len(part) >= LEAST] or [np.flatnonzero(within)]
    parts = [part[:: -(-len(part) // SAMPLED)] for part in enough]
    weights = [np.full(len(part), 1 / len(parts) / len(part), np.float32) for part in parts]
    return np.concatenate(parts), np.concatenate(weights)
