"""Edits of all colours at once are explained, whatever they are; a product in another colour is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from retrieval.copies import WINDOW, overlay
from retrieval.edits import edited
from retrieval.local_features import describe
from retrieval.recolouring import DARK, HIGH, LOW, NOTHING, Colours, changed, fit_change, unexplained
from tests.retrieval.scenes import scene, studio

RED, BLUE, GREEN = (190, 40, 50), (50, 70, 190), (40, 140, 70)
LINE = 0.6
"""About what planted copies draw."""

changes = st.tuples(
    *([st.floats(0.7, 1.3)] * 3),
    *([st.floats(-0.15, 0.15)] * 3),
    *(st.floats(0.0, 1.7), st.floats(-0.3, 0.3), st.floats(0.0, 1.0)),
).map(np.array)


def by_hand(colour: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The change of one colour (3,), written out."""
    red, green, blue = colour
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    grey = (1 - change[8]) * (red + green + blue) / 3 + change[8] * brightness
    out = []
    for gain, shift, level in zip(change[:3], change[3:6], colour, strict=True):
        moved = gain * (grey + change[6] * (level - grey)) + shift
        out.append(min(1.0, max(DARK, moved)) ** np.exp(change[7]))
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
    """By what it does, as several changes may do the same; on three tenths that are something else."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(0.1, 0.9, (3, 800)).astype(np.float32)
    other = changed(colours, change)
    other[:, :240] = rng.random((3, 240))
    found, error = fit_change(colours, other, np.full(800, 1 / 800, np.float32), tied=False)
    off = np.abs(changed(colours, found) - changed(colours, change))[:, 240:]
    assert np.quantile(off, 0.9) < 10 / 255
    assert 0 <= error < 0.3 * 60 / 255 + 10 / 255
    assert (found >= LOW).all() and (found <= HIGH).all()


@given(changes)
@settings(max_examples=30, deadline=None)
def test_tied_shifts_are_one(change: np.ndarray) -> None:
    colours = np.random.default_rng(0).uniform(0.1, 0.9, (3, 300)).astype(np.float32)
    found, _ = fit_change(colours, changed(colours, change), np.full(300, 1 / 300, np.float32))
    assert np.ptp(found[3:6]) < 0.01


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
    pixels = studio(3, BLUE)
    labelled = pixels.copy()
    labelled[130:170, 130:190] = (250, 220, 0)
    colours = compared(pixels, labelled)
    assert colours.on_ground
    assert colours.foreign[140:160, 140:180].min() > 0.9
    assert colours.foreign[:120].max() < 0.1 and colours.foreign[180:].max() < 0.1
    # Only what looks alike can have another colour: of a label, nothing does.
    seen = np.ones(pixels.shape[:2], bool)
    likeness = np.ones(pixels.shape[:2], np.float32)
    likeness[125:175, 125:195] = 0
    weights = np.full(seen.sum(), 10, np.float32)
    assert colours.doubt(weights, likeness[seen], seen) == 0
    assert colours.doubt(weights, np.ones(seen.sum(), np.float32), seen) > 0


def _by_place(pixels: np.ndarray, name: str) -> np.ndarray:
    """Edits that no one change of colours explains."""
    height, width = pixels.shape[:2]
    levels = pixels / 255.0
    if name == "vignette":
        down, across = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1) - 0.5
        levels = levels * (1 - 0.6 * (down**2 + across**2))[..., None]
    elif name == "light from one side":
        levels = levels * np.linspace(1, 0.75, width)[None, :, None]
    elif name == "a curve for each channel":
        levels = np.stack([levels[..., 0] ** 0.8, levels[..., 1] ** 1.1, 0.12 + 0.76 * levels[..., 2]], axis=2)
    else:
        levels = 0.75 * levels + 0.25 * np.array([1.0, 0.7, 0.3])
    return (255 * np.clip(levels, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("name", ["vignette", "light from one side", "a curve for each channel", "a tint over it"])
def test_edits_that_are_not_the_same_everywhere_or_not_in_the_model_leave_copies(name: str) -> None:
    for seed in range(4):
        pixels = scene(seed)
        assert min(both_ways(pixels, _by_place(pixels, name))) > 0.75, seed
    if name in ("a tint over it", "a curve for each channel"):  # where the white ground is tinted too
        assert min(both_ways(studio(1, RED), _by_place(studio(1, RED), name))) > 0.75


@pytest.mark.parametrize("part", [0.2, 0.25, 0.45])
def test_a_flat_thing_in_the_middle_is_no_ground(part: float) -> None:
    """However large: the rest has the colours it had, and cannot speak for the thing."""
    pixels = scene(4)
    high, wide = round(240 * np.sqrt(part)), round(320 * np.sqrt(part))
    shots = []
    for colour in ((190, 40, 50), (60, 80, 190)):
        shot = pixels.copy()
        shot[40 : 40 + high, 50 : 50 + wide] = colour
        shots.append(shot)
    colours = compared(*shots)
    assert not colours.on_ground
    assert colours.foreign[60 : 20 + high, 70 : 30 + wide].min() > 0.9


@pytest.mark.parametrize("quality", [90, 60])
def test_thin_coloured_lines_survive_coarse_colours(quality: int) -> None:
    """A JPEG keeps colours at half the size, so that those of a line are not what they were."""
    rng = np.random.default_rng(0)
    picture = Image.new("RGB", (320, 240), (252, 252, 252))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        draw.line([tuple(rng.integers(10, 230, 2).tolist()) for _ in range(3)], fill=(20, 20, 230), width=2)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    assert min(both_ways(np.asarray(picture), np.asarray(Image.open(file).convert("RGB")))) > 0.75


def test_a_picture_of_one_colour_has_nothing_foreign() -> None:
    even = np.full((60, 80, 3), 90, np.uint8)
    colours = compared(even, even)
    assert not colours.foreign.any()
    speck = even.copy()
    speck[30, 40] = (250, 0, 0)
    for one, other in ((even, speck), (speck, even), (speck, speck), (even, scene(3, 80, 60))):
        assert np.isfinite(compared(one, other).foreign).all()
