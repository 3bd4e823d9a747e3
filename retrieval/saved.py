"""Whether a picture was saved as a JPEG before, with less quality than it has now.

A JPEG rounds the frequencies of its blocks to multiples of a step. Saved anew with a finer one they still lie near
those multiples (Lukas and Fridrich, DFRWS 2003), in the blocks that were: mirrored or turned, these begin elsewhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from retrieval.local_features import opencv

NEAR: Final = 0.15
"""Mean distance from multiples, in steps, below which a picture was rounded to them; 0.25 is chance."""
COARSER: Final = 8
"""Points of quality below which one that a picture seems to have had is another than it has."""
QUALITIES: Final = range(40, 91, 2)
_BLOCKS: Final = 512
_SOME: Final = 20  # coefficients of a frequency, below which it says nothing
_KINDS: Final = 4  # frequencies that must say something
_FREQUENCIES: Final = np.array([(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 3), (3, 0), (1, 2), (2, 1)])
_TURNED: Final = [1, 0, 2, 4, 3, 6, 5, 8, 7]  # each with down and across changed for each other
# Of these, the steps of brightness of the JPEG standard, annex K, for a quality of 50.
_STEPS: Final = np.array([11, 12, 12, 10, 14, 16, 14, 14, 13])
_PLACE: Final = np.arange(8)
_COSINES: Final = np.cos((2 * _PLACE[None] + 1) * _PLACE[:, None] * np.pi / 16) * np.where(
    _PLACE[:, None] == 0, np.sqrt(1 / 8), 0.5
)


def steps_of(quality: int) -> np.ndarray:
    """Steps of some frequencies at a quality of libjpeg's: (9,) int64."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps: np.ndarray = np.clip((_STEPS * percent + 50) // 100, 1, 255)
    return steps


def saved_before(pixels: np.ndarray, steps: np.ndarray | None) -> bool:
    """Tell whether a picture was a JPEG of less quality.

    Args:
        pixels: (height, width, 3) uint8.
        steps: (8, 8) of its own brightness, by frequency down and across; None: it is no JPEG.

    Returns:
        Also False where too little is seen, or the quality was above ``QUALITIES``.
    """
    cv2 = opencv()
    own = 100
    if steps is not None:
        given = steps[_FREQUENCIES[:, 0], _FREQUENCIES[:, 1]]
        own = min(range(1, 101), key=lambda quality: float(np.abs(steps_of(quality) - given).sum()))
    coarser = [quality for quality in QUALITIES if quality <= own - COARSER]
    height, width = pixels.shape[:2]
    if not coarser or min(height, width) < 32:
        return False
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    grids = {(down, across) for down in (0, height % 8) for across in (0, width % 8)}
    return any(_is_rounded(grey[down:, across:], coarser) for down, across in sorted(grids))


def _is_rounded(grey: np.ndarray, qualities: list[int]) -> bool:
    rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
    blocks = grey[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    blocks = blocks[:: max(1, len(blocks) // _BLOCKS)].astype(np.float32) - 128
    spectra = _COSINES.astype(np.float32) @ blocks @ _COSINES.T.astype(np.float32)
    frequencies = spectra[:, _FREQUENCIES[:, 0], _FREQUENCIES[:, 1]].T  # (9, n)
    return any(
        _near(turned, steps_of(quality)) for quality in qualities for turned in (frequencies, frequencies[_TURNED])
    )


def _near(frequencies: np.ndarray, steps: np.ndarray) -> bool:
    distances = []
    for values, step in zip(frequencies, steps, strict=True):
        large = values[np.abs(values) > 0.6 * step] / step
        if step >= 4 and len(large) > _SOME:
            distances.append(float(np.abs(large - np.rint(large)).mean()))
    return len(distances) >= _KINDS and float(np.mean(distances)) < NEAR
