"""Whether a picture's pixels are its own, or were drawn between those of a smaller one.

Photographs have about the same grain at every size: one that was made smaller is as rough from pixel to pixel as it
was, one that was made larger is smoother, in the direction it was drawn out in. That alone would also take a soft photo
for an enlargement of its own thumbnail, so one of two more things must speak: that the other direction is not smoother
too, or the beat of interpolation, by which pixels near to those of the smaller picture are rougher than those between
(Gallagher, CRV 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.local_features import opencv

MIDDLE: Final = 1024
"""Pixels in the middle of a picture, in width and in height, that are looked at."""
CALM: Final = 20.0
"""Levels of second difference beyond which an edge is no rougher."""
SMOOTHER: Final = 0.8
"""Fall of the slope, over the logarithm of the factor, from which pixels may be interpolated; 1.2 to 1.4 is usual."""
BEAT: Final = 0.75
"""Logarithm of the beat's height over what is around it from which it is one."""
LARGER: Final = 1.03
"""Factor from which a picture is larger than another."""
STRETCHED: Final = 1.05
"""Ratio of the factors of the two directions from which one was stretched."""
CONTRAST, EVEN = 2500.0, 25.0
"""Variance of grey levels that is usual, and one below which a picture is even and its noise no sharpness."""
_OBLIQUE: Final = 0.05  # sine of the angle from which the directions of two pictures are not each other's
_TREND: Final = 9  # columns; what changes more slowly is the picture's
_LEAST: Final = 48  # columns, below which no beat is told
_FINE: Final = 4  # times as many frequencies as columns
_NEAR, _APART, _AROUND = 1.2, 3.0, 24.0  # of the beat, in frequencies, and of what it is measured against
_JPEG: Final = np.arange(1, 5) / 8  # frequencies of its blocks


@dataclass(frozen=True)
class Grain:
    """How rough a picture is.

    Attributes:
        slopes: (2,) float32, across and down: logarithm of the energy of second differences over that of first ones.
        profiles: mean second difference of every column across, and of every row down, float32, levels.
    """

    slopes: np.ndarray
    profiles: tuple[np.ndarray, np.ndarray]

    def to_bytes(self) -> bytes:
        """Pack it, with half the precision."""
        across, down = self.profiles
        return np.concatenate([self.slopes, [len(across)], across, down]).astype("<f2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Grain:
        """Read what ``to_bytes`` wrote.

        Raises:
            ValueError: it is not that.
        """
        values = np.frombuffer(data, "<f2").astype(np.float32)
        if len(values) < 3 or not np.isfinite(values).all() or not 0 <= values[2] <= len(values) - 3:
            raise ValueError("this is no grain of a picture")
        across = 3 + int(values[2])
        return cls(values[:2], (values[3:across], values[across:]))


def sharpness(picture: np.ndarray, zoom: float) -> float:
    """Mean square of the Laplacian of grey levels, at a contrast that is usual.

    So a copy with more contrast is no sharper than its original.

    Args:
        picture: (height, width, 3) uint8, at the size at which all are compared.
        zoom: pixels of it for one of the original; of one that was made larger the same Laplacian is less sharp.
    """
    cv2 = opencv()
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steep = float(np.square(cv2.Laplacian(grey, cv2.CV_32F)).mean())
    return steep * CONTRAST / (float(grey.var()) + EVEN) / max(1.0, zoom) ** 2


def grain_of(pixels: np.ndarray) -> Grain:
    """Measure a picture: (height, width, 3) uint8."""
    cv2 = opencv()
    top, left = (max(0, (side - MIDDLE) // 2) for side in pixels.shape[:2])
    middle = np.ascontiguousarray(pixels[top : top + MIDDLE, left : left + MIDDLE])
    grey = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slopes, profiles = [], []
    for axis in (1, 0):
        first = np.diff(grey, axis=axis)
        second = np.abs(np.diff(first, axis=axis))
        # Half a level, so that an even ground has a slope of 0, as has what is too narrow for differences.
        roughness, contrast = (float(np.square(part).sum()) / max(1, part.size) + 0.5 for part in (second, first))
        slopes.append(np.log(roughness / contrast) if second.size else 0.0)
        profiles.append(np.minimum(second, CALM).mean(axis=1 - axis))
    return Grain(np.array(slopes, np.float32), (profiles[0], profiles[1]))


def interpolated(one: Grain, other: Grain, linear: np.ndarray) -> tuple[float, float]:
    """Tell whether the second of two copies was made larger than the first, or stretched.

    Args:
        one: the first.
        other: the second.
        linear: (2, 2), from x and y in the first to those in the second.

    Returns:
        Of the second's width and height, how many times more pixels it has there than the first gave it; 1 where they
        are its own, as far as can be told.
    """
    crossed = bool(np.trace(np.abs(linear)) < np.trace(np.abs(linear[::-1])))
    factors = np.linalg.norm(linear, axis=1)
    if np.abs(linear[::-1] if not crossed else linear).diagonal().max() > _OBLIQUE * factors.max():
        return 1.0, 1.0
    slopes = one.slopes[::-1] if crossed else one.slopes
    smoother = slopes - other.slopes
    far = int(factors[1] > factors[0])
    high, low = float(factors[far]), float(factors[1 - far])
    if high <= LARGER:
        return 1.0, 1.0
    found = [1.0, 1.0]
    if high > STRETCHED * low:
        askew = (slopes + other.slopes) / 2
        if smoother[far] - smoother[1 - far] > SMOOTHER * np.log(high / max(1.0, low)) and (
            askew[far] < askew[1 - far] or _beat([other.profiles[far]], [high]) > BEAT
        ):
            found[far] = high
            if low > LARGER and smoother[1 - far] > SMOOTHER * np.log(low):
                found[1 - far] = low
    elif smoother.mean() > SMOOTHER * np.log(np.sqrt(high * low)) and _beat(other.profiles, factors) > BEAT:
        found = factors.tolist()
    return found[0], found[1]


def _beat(profiles: tuple[np.ndarray, ...] | list[np.ndarray], factors: np.ndarray | list[float]) -> float:
    """Height of the beat of a picture that was made larger by factors, by its profiles; -inf where none is told."""
    heights = []
    for profile, factor in zip(profiles, factors, strict=True):
        n = len(profile)
        beat = abs(1 / factor - round(1 / factor))
        if n < _LEAST or np.abs(beat - _JPEG).min() < 0.012 or beat < 0.05:
            continue
        padded = np.pad(profile, _TREND // 2, mode="edge")
        level = profile - np.convolve(padded, np.full(_TREND, 1 / _TREND), "valid")
        power = np.square(np.abs(np.fft.rfft(level * np.hanning(n), _FINE * n)))
        frequencies = np.fft.rfftfreq(_FINE * n)
        off = np.abs(frequencies - beat) * n
        blocks = np.abs(frequencies[:, None] - _JPEG).min(axis=1) * n
        around = power[(off < _AROUND) & (off > _APART) & (blocks > 2)]
        if len(around):
            heights.append(power[off < _NEAR].max() / max(float(around.mean()), 1e-9))
    return 0.5 * float(np.log(np.mean(heights))) if heights and np.mean(heights) > 0 else -np.inf
