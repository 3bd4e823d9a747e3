"""Local features of a picture, and the correspondences of two: SIFT, compared as RootSIFT.

The only door to OpenCV, which is loaded when it is first needed.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retrieval.errors import MissingExtraError

SIDE: Final = 224
"""Longer side, in pixels, that pictures are brought to before anything is compared."""
FEATURES: Final = 300
"""Keypoints of a picture, the strongest."""
CONTRAST: Final = 0.02  # half of SIFT's own threshold: plain products have few corners
RATIO: Final = 0.85
"""Lowe's ratio: the best correspondence must be nearer than this share of the second best."""
SHORTEST: Final = 8

# Descriptors are 4 rows x 4 columns x 8 directions in the frame of the keypoint; in a mirror rows and directions turn
# round, so a mirrored picture's descriptors are these in another order, up to interpolation.
_MIRRORED: Final = np.arange(128).reshape(4, 4, 8)[::-1][:, :, (-np.arange(8)) % 8].ravel()


@dataclass(frozen=True)
class LocalFeatures:
    """What is compared of a picture.

    Attributes:
        points: (n, 2) float32, x and y of the keypoints in pixels of ``picture``.
        descriptors: (n, 128) float32 of length 1, RootSIFT.
        picture: (height, width, 3) uint8 sRGB, longer side ``SIDE``.
        zoom: pixels of ``picture`` for a pixel of the original; above 1 the original was smaller.
    """

    points: np.ndarray
    descriptors: np.ndarray
    picture: np.ndarray
    zoom: float


def opencv() -> Any:
    """Load OpenCV.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _loaded()


@functools.cache
def _loaded() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "duplicates", "Finding edited copies") from error
    cv2.setNumThreads(1)  # pictures are compared side by side, in threads of ours
    return cv2


_OF_THREAD = threading.local()


def describe(pixels: np.ndarray) -> LocalFeatures:
    """Find keypoints and their descriptors (Lowe, IJCV 2004; RootSIFT: Arandjelovic and Zisserman, CVPR 2012).

    May be called from many threads.

    Args:
        pixels: (height, width, 3) uint8, sRGB.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    height, width = pixels.shape[:2]
    zoom = SIDE / max(height, width)
    size = max(SHORTEST, round(width * zoom)), max(SHORTEST, round(height * zoom))
    picture = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    if not hasattr(_OF_THREAD, "sift"):
        _OF_THREAD.sift = cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    found, raw = _OF_THREAD.sift.detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
    if raw is None:
        return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), picture, zoom)
    points = np.array([point.pt for point in found[:FEATURES]], np.float32)
    raw = raw[:FEATURES]
    descriptors = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-6))
    return LocalFeatures(points, descriptors, picture, zoom)


def correspond(a: LocalFeatures, b: LocalFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Pair keypoints that are each other's nearest and pass the ratio test; as they are, or with ``a`` in a mirror.

    Returns:
        Places in ``a`` and in ``b``, (m,) int64 each, of whichever of the two gives more pairs.
    """
    plain = _mutual(a.descriptors, b.descriptors)
    mirrored = _mutual(a.descriptors[:, _MIRRORED], b.descriptors)
    return plain if len(plain[0]) >= len(mirrored[0]) else mirrored


def _mutual(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(a) < 2 or len(b) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = a @ b.T  # (n, m)
    places = np.arange(len(a))
    best = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[best] == places
    first = similarity[places, best]
    similarity[places, best] = -1.0
    second = similarity.max(axis=1)
    # Of vectors of length 1 the squared distance is 2 - 2 s.
    clear = (1.0 - first) < RATIO**2 * (1.0 - second)
    chosen = np.flatnonzero(mutual & clear)
    return chosen, best[chosen]
