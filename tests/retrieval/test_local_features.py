"""Local features: where they lie, that turned and mirrored pictures correspond, and what is said without OpenCV."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval import local_features
from retrieval.copies import overlay
from retrieval.edits import edited
from retrieval.errors import MissingExtraError
from retrieval.local_features import FEATURES, SIDE, LocalFeatures, correspond, describe, opencv
from retrieval.views import layout
from tests.retrieval.scenes import even, scene

PIXELS = scene(11)


def same(one: LocalFeatures, other: LocalFeatures) -> bool:
    return (
        np.array_equal(one.points, other.points)
        and np.array_equal(one.descriptors, other.descriptors)
        and np.array_equal(one.picture, other.picture)
        and one.zoom == other.zoom
    )


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (640, 100), (60, 45), (224, 224)])
def test_pictures_are_brought_to_one_size_and_features_lie_in_them(size: tuple[int, int]) -> None:
    found = describe(scene(3, *size))
    height, width = found.picture.shape[:2]
    assert max(height, width) == SIDE and found.picture.dtype == np.uint8
    assert found.zoom == SIDE / max(size)
    assert (width, height) == tuple(round(side * found.zoom) for side in size)
    n = len(found.points)
    assert 20 < n <= FEATURES
    assert found.points.shape == (n, 2) and found.points.dtype == np.float32
    assert found.descriptors.shape == (n, 128) and found.descriptors.dtype == np.float32
    assert (found.points >= 0).all() and (found.points <= (width, height)).all()
    assert np.linalg.norm(found.descriptors, axis=1) == pytest.approx(1, abs=1e-4)
    assert found.descriptors.min() >= 0  # roots


def test_a_picture_corresponds_to_itself_point_by_point() -> None:
    found = describe(PIXELS)
    one, other = correspond(found, found)
    assert np.array_equal(found.points[one], found.points[other])
    assert len(one) > 0.8 * len(np.unique(found.points, axis=0))


def test_features_lie_at_the_middle_of_what_they_see() -> None:
    """A point of a turned picture is the turned point: no half a pixel is lost."""
    pixels = scene(5, SIDE, SIDE)
    plain = describe(pixels)
    for turn, map_back in (
        (pixels[:, ::-1], lambda p: (SIDE - 1 - p[:, 0], p[:, 1])),
        (pixels[::-1], lambda p: (p[:, 0], SIDE - 1 - p[:, 1])),
        (np.rot90(pixels), lambda p: (SIDE - 1 - p[:, 1], p[:, 0])),
        (pixels.transpose(1, 0, 2), lambda p: (p[:, 1], p[:, 0])),
    ):
        other = describe(turn)
        one, two = correspond(plain, other)
        assert len(one) > 60
        off = plain.points[one] - np.stack(map_back(other.points[two]), axis=1)
        assert np.abs(np.median(off, axis=0)).max() < 0.05
        assert (np.linalg.norm(off, axis=1) < 1).mean() > 0.95


def test_other_pictures_hardly_correspond() -> None:
    found = describe(PIXELS)
    for seed in range(20, 26):
        assert len(correspond(found, describe(scene(seed)))[0]) < 30


def test_correspondences_are_pairs_one_to_one() -> None:
    a, b = describe(PIXELS), describe(edited(PIXELS, "crop+flip", 2, np.random.default_rng(0)))
    one, other = correspond(a, b)
    assert one.shape == other.shape
    assert len(set(one.tolist())) == len(one) and len(set(other.tolist())) == len(other)
    assert {(x, y) for x, y in zip(one, other, strict=True)} == _nearest_and_clear(a, b, mirrored=True)


def _nearest_and_clear(a: LocalFeatures, b: LocalFeatures, *, mirrored: bool) -> set[tuple[int, int]]:
    """Lowe's ratio test and mutual neighbours, point by point."""
    descriptors = a.descriptors
    if mirrored:  # four rows of four cells of eight directions: the rows turn round, and so do the directions
        cells = descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
        descriptors = cells[..., [0, 7, 6, 5, 4, 3, 2, 1]].reshape(-1, 128)
    apart = np.linalg.norm(descriptors[:, None] - b.descriptors, axis=2)
    found = set()
    for one in range(len(apart)):
        nearest = int(apart[one].argmin())
        first, second = np.partition(apart[one], 1)[:2]
        if apart[:, nearest].argmin() == one and first < 0.85 * second:
            found.add((one, nearest))
    return found


@pytest.mark.parametrize("pixels", [even(), even(0, 1, 1), even(255, 500, 3)], ids=["even", "one pixel", "narrow"])
def test_what_is_even_has_no_features(pixels: np.ndarray) -> None:
    found = describe(pixels)
    assert found.points.shape == (0, 2) and found.descriptors.shape == (0, 128)
    for a, b in ((found, found), (found, describe(PIXELS)), (describe(PIXELS), found)):
        one, other = correspond(a, b)
        assert len(one) == len(other) == 0


@pytest.mark.parametrize("size", [(16, 16), (1, 300), (300, 1), (1, 1), (2, 2), (1000, 3)])
def test_tiny_and_narrow_pictures_are_described(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    found = describe(pixels)
    assert max(found.picture.shape[:2]) == SIDE and len(found.points) == len(found.descriptors)
    correspond(found, describe(PIXELS))
    assert overlay(found, describe(PIXELS)) is None


def test_nothing_is_written_to() -> None:
    pixels = scene(6)
    pixels.flags.writeable = False
    a, b = describe(pixels), describe(scene(6)[:, ::-1])
    for found in (a, b):
        for array in (found.points, found.descriptors, found.picture):
            array.flags.writeable = False
    correspond(a, b)
    assert overlay(a, b) is not None


def test_views_of_arrays_are_described_as_their_copies() -> None:
    for view in (PIXELS[::-1], PIXELS[:, ::-1], np.rot90(PIXELS), PIXELS[::2, ::2]):
        assert same(describe(view), describe(view.copy()))


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [scene(seed, 160, 120) for seed in range(3)]
    alone = [describe(pixels) for pixels in pictures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(describe, pictures * 4))
    assert all(same(one, other) for one, other in zip(found, alone * 4, strict=True))


@pytest.fixture
def without_opencv(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where OpenCV is not installed."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    local_features._loaded.cache_clear()
    yield
    local_features._loaded.cache_clear()


@pytest.mark.usefixtures("without_opencv")
def test_without_opencv_the_message_names_what_to_install() -> None:
    for call in (
        opencv,
        lambda: describe(PIXELS),
        lambda: layout(PIXELS),
        lambda: edited(PIXELS, "resize", 1, np.random.default_rng(0)),
    ):
        with pytest.raises(MissingExtraError, match=r"opencv-python-headless.*pip install 'lookalike\[duplicates\]'"):
            call()


def test_opencv_is_not_loaded_before_it_is_needed() -> None:
    rooms = "retrieval.local_features, retrieval.copies, retrieval.edits, retrieval.views"
    code = f"import sys, {rooms}; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(local_features.__file__).parents[1])
