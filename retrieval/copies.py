"""Whether one picture was made from another, and how: the two laid over each other, and compared place by place.

A copy is the same photograph: turned, mirrored, cut, scaled, recoloured, framed or written on, what is left of it lies
over the original to within a pixel and has its light and dark in the same places. Another photograph of the same thing
lies over it only nearly: the camera has moved, and near things before far ones. That is what is measured here, by what
is seen at each place, beside one change of all colours (``retrieval.recolouring``), and by how the local features lie
(``retrieval.bending``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from retrieval.bending import bend, one_a_place
from retrieval.local_features import LocalFeatures, correspond, opencv
from retrieval.recolouring import unexplained

LEAST_MATCHES: Final = 6
"""Correspondences below which nothing is fitted."""
WITHIN: Final = 3.0
"""Pixels of the compared pictures within which a correspondence supports a fit."""
EXACT, NEAR = 1.2, 10.0
"""Pixels within which a correspondence of a copy lies, and within which it says anything about how exactly."""
PARALLAX: Final = 3.3
"""Times ``EXACT`` within which a correspondence says how things are bent; what lies farther off is an error."""
STRAIGHT, BENT = 5.0, 10.0
"""``bend`` up to which two pictures may be one photograph, and from which they are two."""
STRETCHED: Final = 3.0
"""Widest ratio of the two scales of a fit."""
SCALES: Final = (0.1, 10.0)
WINDOW: Final = 7
"""Side, in pixels, of the windows that are compared."""
NOISE: Final = 30.0
"""Variance, of grey levels, that is nothing but noise."""
TEXTURE: Final = 4.0
"""Deviation of grey levels from which a window shows anything; windows count by it, up to ``STRONG``."""
STRONG: Final = 20.0
LEAST_TEXTURE: Final = 40
"""Windows below which too little is seen to say anything."""
HOPELESS: Final = 0.3
"""Agreement of light and dark below which colours are not looked at."""
SAMPLED: Final = 2000  # pixels that the change of colour is told by
HALF: Final = 0.5
WHOLE: Final = 0.96
"""Share of a picture from which on all of it is shown."""
FEW: Final = 4
MANY: Final = 0.3
"""Share of pixels beside the ``FEW`` commonest colours below which what is around a picture is a frame or a page."""
SCALED: Final = 0.03
RECOLOURED: Final = 8.0
"""Levels of median change from which colours were changed; strong compression stays below."""
WRITTEN_ON: Final = 0.8


@dataclass(frozen=True)
class Overlay:
    """One picture laid over another.

    Attributes:
        agreement: in [0, 1]: how much the two agree where they overlap, times how exactly they lie over each other,
            and 0 where they do so only with a bend, or what stands on a ground is the same in another colour. A copy
            has nearly 1, another photograph of the same scene 0.
        matches: local features that lie over each other.
        transform: (2, 3) float64, from pixels of the first picture to pixels of the second, x and y, both as large as
            the originals are.
        covered: share of the first and share of the second picture that the other one shows, in [0, 1].
        colour: change of colour, in levels of 0 to 255, that half of the places where they overlap exceed.
        beyond: of the first and of the second picture the share of what the other one does not show that has none of
            its four commonest colours, in [0, 1]: a cut leaves photograph behind, a frame or a page has few colours.
    """

    agreement: float
    matches: int
    transform: np.ndarray
    covered: tuple[float, float]
    colour: float
    beyond: tuple[float, float]

    @classmethod
    def none(cls) -> Overlay:
        """Of two pictures that have nothing in common."""
        return cls(0.0, 0, np.eye(3)[:2], (0.0, 0.0), 0.0, (0.0, 0.0))

    @classmethod
    def same(cls) -> Overlay:
        """Of two pictures of the same pixels."""
        return cls(1.0, 0, np.eye(3)[:2], (1.0, 1.0), 0.0, (0.0, 0.0))

    def is_copy(self, line: float) -> bool:
        """Whether one picture is a copy of the other, by an agreement that makes one; as ``are_copies``."""
        return bool(are_copies(np.array([self.agreement]), np.array([self.covered]), line)[0])

    def swapped(self) -> Overlay:
        """The same with the second picture first."""
        back = np.linalg.inv(np.vstack([self.transform, [0, 0, 1]]))[:2]
        return replace(self, transform=back, covered=self.covered[::-1], beyond=self.beyond[::-1])


def overlay(a: LocalFeatures, b: LocalFeatures) -> Overlay | None:
    """Lay one picture over another, if local features say how.

    May be called from many threads.

    Args:
        a: the first, as ``describe`` gives it.
        b: the second.

    Returns:
        None where they have too little in common.
    """
    cv2 = opencv()
    in_a, in_b = correspond(a, b)
    if len(in_a) < LEAST_MATCHES:
        return None
    from_a, to_b = a.points[in_a], b.points[in_b]
    fit, _ = cv2.estimateAffine2D(
        from_a, to_b, method=cv2.RANSAC, ransacReprojThreshold=WITHIN, maxIters=1000, confidence=0.99
    )
    if fit is None or not np.isfinite(fit).all():
        return None
    large, small = np.linalg.svd(fit[:, :2], compute_uv=False)
    scale = float(np.sqrt(large * small))
    if not SCALES[0] < scale < SCALES[1] or large > STRETCHED * small:
        return None
    # In pixels of whichever of the two is drawn larger, and no finer than the coarser of the originals.
    aside = (from_a @ fit[:, :2].T + fit[:, 2] - to_b).astype(np.float64) / max(1.0, scale)
    off = np.linalg.norm(aside, axis=1)
    exact = EXACT * max(1.0, 0.6 * max(a.zoom, b.zoom / scale))
    matches = int((off < exact).sum())
    if matches < LEAST_MATCHES:
        return None
    rigid = matches / int((off < max(NEAR, 2 * exact)).sum())
    laid = _Laid.of(cv2, a, b, fit)
    agreement, colour = laid.agreement(cv2)
    if rigid * agreement >= HOPELESS:
        some = off < PARALLAX * exact
        rigid *= _straight(bend(*one_a_place(from_a[some].astype(np.float64), aside[some])))
    transform = _scaling(1 / b.zoom, 1 / b.zoom) @ np.vstack([fit, [0, 0, 1]]) @ _scaling(a.zoom, a.zoom)
    beyond = (0.0, 0.0)
    if rigid * agreement >= HOPELESS:
        back = np.asarray(cv2.invertAffineTransform(fit))
        beyond = _beyond(cv2, a.picture, b.picture, back), _beyond(cv2, b.picture, a.picture, fit)
    return Overlay(rigid * agreement, matches, transform[:2], laid.covered, colour, beyond)


def _straight(bent: float) -> float:
    """How far a bend leaves it open that two pictures are one photograph, in [0, 1]."""
    return float(np.clip((BENT - bent) / (BENT - STRAIGHT), 0.0, 1.0))


def are_copies(agreement: np.ndarray, covered: np.ndarray, line: float) -> np.ndarray:
    """Which pairs are a picture and its copy: they agree by ``line`` or more, and half of one is shown by the other.

    What shows less of both is a detail that two photographs share, such as the bars of two screenshots.

    Args:
        agreement: (n,), as of ``Overlay``.
        covered: (n, 2), as of ``Overlay``.
        line: agreement that makes a copy.

    Returns:
        (n,) bool.
    """
    return np.asarray((agreement >= line) & (covered.max(axis=1) >= HALF))


def framed(covered: np.ndarray | float, beyond: np.ndarray | float) -> np.ndarray:
    """Whether pictures seem to have a frame or a page around what the other one shows, by ``Overlay``'s numbers."""
    return (np.asarray(covered) < WHOLE) & (np.asarray(beyond) < MANY)


def how_made(found: Overlay, size: tuple[int, int]) -> str:
    """Say how the second picture was made from the first.

    Args:
        found: of the two.
        size: width and height of the first, pixels.

    Returns:
        Such as "mirrored, turned by 90° clockwise, cut to 62 %, recoloured"; "saved anew" where nothing else is seen.
    """
    linear = found.transform[:, :2]
    said = []
    mirrored = np.linalg.det(linear) < 0
    linear = linear * (-1, 1) if mirrored else linear
    # Clockwise, as y goes down.
    degrees = round(float(np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))))
    if mirrored:
        said.append("mirrored top to bottom" if abs(degrees) == 180 else "mirrored")
    if degrees and not (mirrored and abs(degrees) == 180):
        side = "" if abs(degrees) == 180 else " clockwise" if degrees > 0 else " anticlockwise"
        said.append(f"turned by {abs(degrees)}°{side}")
    if framed(found.covered[0], found.beyond[0]):
        said.append("without the frame or page around it")
    elif found.covered[0] < WHOLE:
        said.append(f"cut to {found.covered[0]:.0%}".replace("%", " %"))
    if framed(found.covered[1], found.beyond[1]):
        said.append("with a frame or a page around it")
    elif found.covered[1] < WHOLE:
        said.append("with more around it")
    large, small = np.linalg.svd(linear, compute_uv=False)
    if large > (1 + SCALED) * small:
        said.append("stretched")
    scale = float(np.sqrt(large * small))
    if abs(scale - 1) > SCALED and max(size) * abs(scale - 1) > 2:
        said.append(f"scaled to {scale:.0%}".replace("%", " %"))
    if found.colour > RECOLOURED:
        said.append("recoloured")
    if found.agreement < WRITTEN_ON and found.colour <= RECOLOURED:
        said.append("written on or much compressed")
    return ", ".join(said) or "saved anew"


def _beyond(cv2: Any, picture: np.ndarray, other: np.ndarray, transform: np.ndarray) -> float:
    """Share of rarer colours in what ``other`` does not show of a picture; ``transform`` leads from it to that."""
    size = picture.shape[1], picture.shape[0]
    mask = np.full(other.shape[:2], 255, np.uint8)
    shown = cv2.warpAffine(mask, transform, size, flags=cv2.INTER_NEAREST)
    for margin in (WINDOW, 3):  # what a thin edge was is seen only near the border
        outside = cv2.dilate(shown, np.ones((margin, margin), np.uint8)) == 0
        if int(outside.sum()) >= LEAST_TEXTURE:
            break
    else:
        return 0.0
    cells = (picture[outside] >> 5).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.sort(np.bincount(cells))[::-1]
    return float(1 - counts[:FEW].sum() / counts.sum())


@dataclass(frozen=True)
class _Laid:
    """Both pictures in one frame: (3, height, width) float32 each, and where both are: (height, width) uint8."""

    first: np.ndarray
    second: np.ndarray
    both: np.ndarray
    covered: tuple[float, float]

    @classmethod
    def of(cls, cv2: Any, a: LocalFeatures, b: LocalFeatures, fit: np.ndarray) -> _Laid:
        """Draw ``a`` over ``b``, no finer than either was taken, and moved to where the grey levels fit best."""
        scale = float(np.sqrt(abs(np.linalg.det(fit[:, :2]))))
        # Pixels of the frame for one of b: at most one, and none finer than one of a, or than one of either original.
        fine = min(1.0, 1 / scale, 1 / b.zoom, 1 / (scale * a.zoom))
        second, of_b = _smaller(cv2, b.picture, fine)
        first, of_a = _smaller(cv2, a.picture, min(1.0, fine * scale))
        whole = _scaling(*of_b) @ np.vstack([fit, [0, 0, 1]]) @ _scaling(1 / of_a[0], 1 / of_a[1])
        size = second.shape[1], second.shape[0]
        mask = np.full(first.shape[:2], 255, np.uint8)
        moved = whole[:2]
        over = cv2.warpAffine(mask, moved, size, flags=cv2.INTER_NEAREST)
        drawn = cv2.warpAffine(first, moved, size, flags=cv2.INTER_LINEAR)
        inter = float((over > 0).sum())
        area = abs(np.linalg.det(moved[:, :2])) * mask.size
        covered = float(min(1.0, inter / max(area, 1.0))), float(inter / over.size)
        return cls(_channels(drawn), _channels(second), over, covered)

    def agreement(self, cv2: Any) -> tuple[float, float]:
        """How much they agree, in [0, 1], and the median change of colour in levels."""

        def mean(values: np.ndarray) -> np.ndarray:
            return np.asarray(cv2.boxFilter(values, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT))

        one, other = self.first.mean(axis=0), self.second.mean(axis=0)
        middle, centre = mean(one), mean(other)
        spread = np.maximum(mean(one * one) - middle * middle, 0)
        width = np.maximum(mean(other * other) - centre * centre, 0)
        likeness = (mean(one * other) - middle * centre) / np.sqrt(spread * width + NOISE)
        kernel = np.ones((WINDOW, WINDOW), np.uint8)
        within = cv2.erode(self.both, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        strength = np.sqrt(np.maximum(spread, width))
        seen = within & (strength > TEXTURE)
        if int(seen.sum()) < LEAST_TEXTURE:
            return 0.0, 0.0
        weights = np.minimum(strength[seen], STRONG)
        some = _sample(within)
        change = float(np.median(np.abs(self.first[:, *some] - self.second[:, *some]).mean(axis=0)))
        rough = float((weights * np.maximum(likeness[seen], 0)).sum() / weights.sum())
        if rough < HOPELESS:
            return rough, change
        likeness = np.maximum(likeness[seen], 0)
        colours = unexplained(self.first, self.second, self.both > 0, within, WINDOW)
        values = likeness * (1 - colours.foreign[seen])
        same = 1 - colours.doubt(weights, likeness, seen)
        return same * float((weights * values).sum() / weights.sum()), change


def _channels(picture: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 → (3, height, width) float32: sums over channels are several times faster so."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)


def _sample(within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of ``SAMPLED`` places, evenly spread over those that are true."""
    rows, columns = np.nonzero(within)
    step = max(1, len(rows) // SAMPLED)
    return rows[::step], columns[::step]


def _scaling(x: float, y: float) -> np.ndarray:
    """The change of coordinates when a picture is scaled: (3, 3). Pixels are squares, and a coordinate their middle."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _smaller(cv2: Any, picture: np.ndarray, scale: float) -> tuple[np.ndarray, tuple[float, float]]:
    """Bring a picture to a share of its size; also what that came to in width and height, after rounding."""
    height, width = picture.shape[:2]
    size = max(WINDOW, round(width * scale)), max(WINDOW, round(height * scale))
    if size == (width, height):
        return picture, (1.0, 1.0)
    drawn = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return drawn, (size[0] / width, size[1] / height)
