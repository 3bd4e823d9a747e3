"""Planted copies: what each edit does to a picture, and that the seed decides all of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retrieval.edits import EDITS, STRENGTHS, edited
from tests.retrieval.scenes import even, scene

PIXELS = scene(1, 200, 150)
every = pytest.mark.parametrize("name", EDITS)
strengths = pytest.mark.parametrize("strength", STRENGTHS)


def made(name: str, strength: int, seed: int = 0, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return edited(pixels, name, strength, np.random.default_rng(seed))


def off(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def place_of(part: np.ndarray, whole: np.ndarray) -> tuple[int, int]:
    """Row and column at which a part is found in a whole, pixel for pixel."""
    height, width = part.shape[:2]
    for top, left in np.argwhere((whole == part[0, 0]).all(axis=2)).tolist():
        if np.array_equal(whole[top : top + height, left : left + width], part):
            return top, left
    raise AssertionError("it is not there")


@every
@strengths
def test_the_seed_decides_the_edit(name: str, strength: int) -> None:
    first = made(name, strength)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and first.flags.c_contiguous
    assert np.array_equal(first, made(name, strength))
    assert not np.array_equal(first, PIXELS)


@pytest.mark.parametrize("name", ["recolour", "crop", "rotate", "frame", "overlay", "screenshot"])
@strengths
def test_another_seed_makes_another_copy(name: str, strength: int) -> None:
    assert len({made(name, strength, seed).tobytes() for seed in range(12)}) > 1


@every
@strengths
def test_nothing_is_written_to(name: str, strength: int) -> None:
    pixels = PIXELS.copy()
    pixels.flags.writeable = False
    made(name, strength, pixels=pixels)
    assert np.array_equal(pixels, PIXELS)


@every
@strengths
@pytest.mark.parametrize("size", [(16, 16), (16, 300), (300, 16), (17, 23)])
def test_small_and_narrow_pictures_can_be_edited(name: str, strength: int, size: tuple[int, int]) -> None:
    for seed in range(5):
        found = made(name, strength, seed, np.ascontiguousarray(scene(2, *size)))
        assert found.dtype == np.uint8 and min(found.shape[:2]) >= 11  # a screenshot may be drawn at 70 %
        assert made(name, strength, seed, even(200, *size)).size


@every
@strengths
def test_views_of_arrays_can_be_edited(name: str, strength: int) -> None:
    for view in (PIXELS[::-1, ::-1], PIXELS.transpose(1, 0, 2), PIXELS[::2, ::2]):
        assert np.array_equal(made(name, strength, pixels=view), made(name, strength, pixels=view.copy()))


def test_edits_are_done_one_after_the_other() -> None:
    rng = np.random.default_rng(5)
    by_hand = edited(edited(PIXELS, "crop", 2, rng), "recolour", 2, rng)
    assert np.array_equal(made("crop+recolour", 2, 5), by_hand)
    assert not np.array_equal(by_hand, made("recolour+crop", 2, 5))


def test_threads_make_the_same_copies() -> None:
    jobs = [(name, strength, seed) for name in EDITS for strength in STRENGTHS for seed in range(2)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda job: made(*job), jobs))
    assert all(np.array_equal(one, made(*job)) for one, job in zip(found, jobs, strict=True))


def test_stronger_compression_and_recolouring_change_more() -> None:
    for name in ("recompress", "recolour"):
        changes = [np.mean([off(made(name, strength, seed), PIXELS) for seed in range(10)]) for strength in STRENGTHS]
        assert 0.5 < changes[0] < changes[1] < changes[2]


def test_a_resized_picture_keeps_its_shape_and_its_look() -> None:
    for strength, scale in zip(STRENGTHS, (0.7, 0.45, 0.25), strict=True):
        found = made("resize", strength)
        assert found.shape == (round(150 * scale), round(200 * scale), 3)
        assert np.abs(found.mean(axis=(0, 1)) - PIXELS.mean(axis=(0, 1))).max() < 1.5
    assert min(made("resize", 3, pixels=scene(2, 60, 40)).shape[:2]) == 24  # no smaller than can be recognised


@strengths
def test_a_cut_is_a_part_of_the_picture_that_keeps_at_least_half(strength: int) -> None:
    kept = (0.85, 0.67, 0.5)[strength - 1]
    for seed in range(12):
        found = made("crop", strength, seed)
        place_of(found, PIXELS)
        share = found.shape[0] * found.shape[1] / (150 * 200)
        assert share == pytest.approx(kept, abs=0.01)


def test_flips_are_left_to_right_top_to_bottom_and_about_the_diagonal() -> None:
    assert np.array_equal(made("flip", 1), PIXELS[:, ::-1])
    assert np.array_equal(made("flip", 2), PIXELS[::-1])
    assert np.array_equal(made("flip", 3), PIXELS.swapaxes(0, 1))


def test_mild_turns_are_quarters_and_others_cut_nothing_off() -> None:
    quarters = {np.rot90(PIXELS, number).tobytes() for number in (1, 2, 3)}
    assert {made("rotate", 1, seed).tobytes() for seed in range(20)} == quarters
    for strength, (least, most) in ((2, (3, 10)), (3, (12, 35))):
        for seed in range(10):
            height, width = made("rotate", strength, seed).shape[:2]
            turns = np.radians(np.linspace(least, most, 200))
            heights, widths = 200 * np.sin(turns) + 150 * np.cos(turns), 200 * np.cos(turns) + 150 * np.sin(turns)
            # The box about the whole picture turned by some angle of that range.
            assert min(np.hypot(heights - height, widths - width)) < 2


@strengths
def test_a_frame_goes_around_the_whole_picture(strength: int) -> None:
    for seed in range(8):
        found = made("frame", strength, seed)
        top, left = place_of(PIXELS, found)
        bottom, right = found.shape[0] - 150 - top, found.shape[1] - 200 - left
        margin = round((0.06, 0.15, 0.3)[strength - 1] * 150)
        assert all(1 <= side < 2 * margin for side in (top, left, bottom, right))
        around = np.ones(found.shape[:2], bool)
        around[top : top + 150, left : left + 200] = False
        assert len(np.unique(found[around], axis=0)) == 1  # of one colour


def test_what_is_written_on_a_picture_leaves_most_of_it() -> None:
    for seed in range(8):
        words, watermark, labels = (made("overlay", strength, seed) for strength in STRENGTHS)
        for found in (words, watermark, labels):
            assert found.shape == PIXELS.shape
        changed = [(found != PIXELS).any(axis=2).mean() for found in (words, watermark, labels)]
        assert 0 < changed[0] < 0.1
        assert changed[0] < changed[1] < 0.6
        assert 0.1 < changed[2] <= 0.3
        # A watermark lets half of the light through.
        assert np.abs(watermark.astype(int) - PIXELS).max() <= 129


@strengths
def test_a_screenshot_is_mostly_the_picture(strength: int) -> None:
    filled = (0.85, 0.65, 0.5)[strength - 1]
    for seed in range(8):
        height, width = made("screenshot", strength, seed).shape[:2]
        areas = [(150 * 200 / filled) * scale**2 for scale in (0.7, 1.3)]
        assert 0.95 * areas[0] <= height * width <= 1.05 * areas[1]
