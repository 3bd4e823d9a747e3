"""Edits of all colours at once are explained, whatever they are; a product in another colour is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from retrieval.copies import WINDOW, overlay
from retrieval.edits import edited
from retrieval.local_features import describe
from retrieval.recolouring import DARK, HIGH, LOW, NOTHING, Colours, changed, fit_change, unexplained
from tests.retrieval.scenes import scene, studio

RED, BLUE, GREEN = (190, 40, 50), (50, 70, 190), (40, 140, 70)
LINE = 0.6
"""About what planted copies draw."""

changes = st.tuples(
    *([st.floats(0.7, 1.3)] * 3), st.floats(-0.15, 0.15), st.floats(0.0, 1.7), st.floats(-0.3, 0.3)
).map(np.array)


def by_hand(colour: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The change of one colour (3,), written out."""
    grey = sum(colour) / 3
    out = []
    for gain, level in zip(change[:3], colour, strict=True):
        moved = gain * (grey + change[4] * (level - grey)) + change[3]
        out.append(min(1.0, max(DARK, moved)) ** np.exp(change[5]))
    return np.array(out)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    found = overlay(describe(one), describe(other))
    return 0.0 if found is None else found.agreement


def both_ways(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    return agreement(one, other), agreement(other, one)


def compared(one: np.ndarray, other: np.ndarray) -> Colours:
    everywhere = np.ones(one.shape[:2], bool)
    first, second = (np.ascontiguousarray(p.transpose(2, 0, 1), np.float32) for p in (one, other))
    return unexplained(first, second, everywhere, everywhere, WINDOW)


@given(changes, st.integers(0, 1000))
def test_a_change_is_what_is_written_out(change: np.ndarray, seed: int) -> None:
    colours = np.random.default_rng(seed).random((3, 5)).astype(np.float32)
    done = changed(colours, change)
    for at in range(5):
        assert done[:, at] == pytest.approx(by_hand(colours[:, at].astype(float), change), abs=1e-4)


@given(changes)
@settings(max_examples=60, deadline=None)
def test_a_change_that_was_made_is_found(change: np.ndarray) -> None:
    """By what it does, as several changes may do the same; on two fifths that are something else too."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(0.1, 0.9, (3, 800)).astype(np.float32)
    other = changed(colours, change)
    other[:, :240] = rng.random((3, 240))
    found, error = fit_change(colours, other, np.full(800, 1 / 800, np.float32))
    off = np.abs(changed(colours, found) - changed(colours, change))[:, 240:]
    assert np.quantile(off, 0.9) < 10 / 255
    assert 0 <= error < 0.3 * 60 / 255 + 10 / 255
    assert (found >= LOW).all() and (found <= HIGH).all()


def test_of_the_same_colours_there_is_no_change() -> None:
    colours = np.random.default_rng(1).random((3, 300)).astype(np.float32)
    change, error = fit_change(colours, colours, np.full(300, 1 / 300, np.float32))
    assert change == pytest.approx(NOTHING, abs=1e-6) and error == pytest.approx(0, abs=1e-6)
    pixels = scene(1)
    assert not compared(pixels, pixels).foreign.any()


@pytest.mark.parametrize("other", [BLUE, GREEN])
@pytest.mark.parametrize("seed", range(3))
def test_a_product_in_another_colour_is_no_copy(seed: int, other: tuple[int, int, int]) -> None:
    assert max(both_ways(studio(seed, RED), studio(seed, other))) < LINE
    assert min(both_ways(studio(seed, RED), studio(seed, RED))) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_nor_is_one_of_which_a_part_has_another_colour(seed: int) -> None:
    assert max(both_ways(studio(seed, RED, part=0.35), studio(seed, BLUE, part=0.35))) < LINE


def _pillow(pixels: np.ndarray, name: str) -> np.ndarray:
    """Edits of all colours by another library than planted copies are made with."""
    picture = Image.fromarray(pixels)
    if name == "grey":
        return np.asarray(picture.convert("L").convert("RGB"))
    if name == "compressed":
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=60)
        return np.asarray(Image.open(file).convert("RGB"))
    kind, amount = name.split()
    return np.asarray(getattr(ImageEnhance, kind)(picture).enhance(float(amount)))


@pytest.mark.parametrize(
    "name",
    [
        "grey",
        "Color 0.3",
        "Color 1.8",
        "Brightness 0.6",
        "Brightness 1.4",
        "Contrast 0.6",
        "Contrast 1.5",
        "compressed",
    ],
)
@pytest.mark.parametrize("colour", [RED, GREEN])
def test_an_edit_of_all_colours_leaves_a_copy_of_a_studio_shot(name: str, colour: tuple[int, int, int]) -> None:
    for seed in range(3):
        pixels = studio(seed, colour)
        assert min(both_ways(pixels, _pillow(pixels, name))) > 0.7, seed


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_planted_changes_of_colour_leave_copies(strength: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng((seed, strength))
        for pixels in (scene(seed), studio(seed, BLUE)):
            assert min(both_ways(pixels, edited(pixels, "recolour", strength, rng))) > 0.75, seed


def test_a_label_that_is_stuck_on_casts_no_doubt_on_the_colours() -> None:
    pixels = scene(5)
    labelled = pixels.copy()
    labelled[60:120, 80:240] = (250, 220, 0)
    colours = compared(pixels, labelled)
    assert colours.foreign[70:110, 90:230].mean() > 0.8
    assert colours.foreign[130:].max() == 0
    # Only what looks alike can have another colour: of a label, nothing does.
    seen = np.ones(pixels.shape[:2], bool)
    likeness = np.ones(pixels.shape[:2], np.float32)
    likeness[57:123, 77:243] = 0
    weights = np.full(seen.sum(), 10, np.float32)
    assert colours.doubt(weights, likeness[seen], seen) == 0
    assert colours.doubt(weights, np.ones(seen.sum(), np.float32), seen) > 0


def test_a_picture_of_one_colour_has_nothing_foreign() -> None:
    even = np.full((60, 80, 3), 90, np.uint8)
    colours = compared(even, even)
    assert not colours.foreign.any()
    assert np.isfinite(compared(even, scene(3, 80, 60)).foreign).all()
