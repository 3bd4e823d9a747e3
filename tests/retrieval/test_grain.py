"""Pixels that were drawn between others are told from those that a camera took, and soft photos from enlarged ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retrieval.grain import Grain, grain_of, interpolated
from retrieval.images import decode, encode_jpeg

WIDTH, HEIGHT = 360, 270
SEEDS = range(6)


def photograph(seed: int, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """Detail of every size, as much of each, as photographs have; through a JPEG."""
    rng = np.random.default_rng(seed)
    width, height = size
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / width)
    planes = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.normal(size=(height, width)))
        plane = np.fft.irfft2(noise / frequency, s=(height, width))
        planes.append(128 + 45 * plane / plane.std())
    return through_jpeg(np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8))


def through_jpeg(pixels: np.ndarray, quality: int = 90) -> np.ndarray:
    return decode(encode_jpeg(np.ascontiguousarray(pixels), quality=quality)).pixels


def scaled(pixels: np.ndarray, across: float, down: float, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    size = round(across * pixels.shape[1]), round(down * pixels.shape[0])
    return through_jpeg(np.asarray(cv2.resize(pixels, size, interpolation=how)))


def told(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Of two pictures of which each shows all of the other, upright."""
    linear = np.diag([other.shape[1] / one.shape[1], other.shape[0] / one.shape[0]])
    return interpolated(grain_of(one), grain_of(other), linear)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
@pytest.mark.parametrize("factor", [1.2, 1.4, 1.9])
def test_stretching_is_told(seed: int, how: int, factor: float) -> None:
    original = photograph(seed)
    wide, high = scaled(original, factor, 1, how), scaled(original, 1, factor, how)
    assert told(original, wide) == (pytest.approx(factor, abs=0.01), 1.0)
    assert told(original, high) == (1.0, pytest.approx(factor, abs=0.01))
    assert told(wide, original) == told(high, original) == (1.0, 1.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [1.2, 1.4, 1.9])
def test_pressing_together_makes_no_stretched_one_of_the_original(seed: int, factor: float) -> None:
    original = photograph(seed)
    for pressed in (scaled(original, 1 / factor, 1, cv2.INTER_AREA), scaled(original, 1, 1 / factor, cv2.INTER_AREA)):
        assert told(pressed, original) == (1.0, 1.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [1.2, 1.45, 1.8])
def test_enlarging_is_told_and_making_smaller_is_not_taken_for_it(seed: int, factor: float) -> None:
    original = photograph(seed)
    larger, smaller = scaled(original, factor, factor), scaled(original, 1 / factor, 1 / factor, cv2.INTER_AREA)
    assert told(original, larger) == pytest.approx((factor, factor), abs=0.01)
    assert told(smaller, original) == (1.0, 1.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [1.4, 1.8])
def test_a_soft_photo_is_no_enlargement_of_its_thumbnail(seed: int, factor: float) -> None:
    soft = through_jpeg(np.asarray(cv2.GaussianBlur(photograph(seed), (0, 0), 1.0)))
    assert told(scaled(soft, 1 / factor, 1 / factor, cv2.INTER_AREA), soft) == (1.0, 1.0)
    assert told(scaled(soft, 1 / factor, 1, cv2.INTER_AREA), soft) == (1.0, 1.0)


def test_directions_are_followed_when_it_was_turned() -> None:
    original = photograph(0)
    turned = np.ascontiguousarray(np.rot90(scaled(original, 1.4, 1)))
    linear = np.array([[0.0, 1.0], [-1.4, 0.0]])
    assert interpolated(grain_of(original), grain_of(turned), linear) == (1.0, pytest.approx(1.4))


def test_nothing_is_said_where_directions_are_not_each_others() -> None:
    original, larger = photograph(0), scaled(photograph(0), 1.45, 1.45)
    angle = np.radians(10)
    oblique = 1.45 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert interpolated(grain_of(original), grain_of(larger), oblique) == (1.0, 1.0)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (16, 2000), (2000, 16), (5000, 40)])
def test_small_even_and_large_pictures_have_a_grain(size: tuple[int, int]) -> None:
    even = np.full((*size, 3), 90, np.uint8)
    grain = grain_of(even)
    assert grain.slopes.tolist() == [0.0, 0.0]
    assert [len(profile) for profile in grain.profiles] == [max(0, min(side, 1024) - 2) for side in size[::-1]]
    assert interpolated(grain, grain, np.diag([1.5, 1.5])) == (1.0, 1.0)


def test_it_comes_back_nearly_as_it_was() -> None:
    grain = grain_of(photograph(0))
    again = Grain.from_bytes(grain.to_bytes())
    np.testing.assert_allclose(again.slopes, grain.slopes, atol=1e-3)
    for there, given in zip(again.profiles, grain.profiles, strict=True):
        np.testing.assert_allclose(there, given, rtol=1e-3)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0" * 7, np.array([0, 0, 5, 1], "<f2").tobytes()])
def test_what_is_no_grain_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Grain.from_bytes(data)
