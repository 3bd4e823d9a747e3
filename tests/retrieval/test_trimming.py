"""What stands on even ground: found where there is ground, and as it is; nothing found where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from retrieval.trimming import LOOKED, MOST, SHORTEST, Box, shown
from tests.retrieval.scenes import even, scene

GROUNDS = ((255, 255, 255), (236, 236, 238), (24, 24, 28), (30, 90, 160))


def on_page(
    pixels: np.ndarray, size: tuple[int, int], place: tuple[int, int], ground: tuple[int, int, int] = GROUNDS[0]
) -> np.ndarray:
    """(height, width, 3): a picture on a page of (width, height), its corner at (left, top)."""
    page = np.empty((size[1], size[0], 3), np.uint8)
    page[:] = ground
    left, top = place
    page[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return page


def assert_near(found: Box | None, expected: Box, page: np.ndarray) -> None:
    """Every side within three of the pixels at which is looked."""
    assert found is not None
    off = 3 * max(1.0, max(page.shape[:2]) / LOOKED)
    sides = [(found.top, expected.top), (found.bottom, expected.bottom)]
    sides += [(found.left, expected.left), (found.right, expected.right)]
    assert all(abs(one - other) <= off for one, other in sides), (found, expected)


def with_text_and_bars(page: np.ndarray, box: Box, ink: int) -> np.ndarray:
    """The same page with a bar above and below, and lines of text where there is room for them."""
    picture = Image.fromarray(page)
    draw = ImageDraw.Draw(picture)
    height, width = page.shape[:2]
    step = height // 40
    draw.rectangle((0, 0, width, step), fill=(200, 40, 90))
    draw.rectangle((0, height - step, width, height), fill=(20, 120, 60))
    for top in [
        *range(3 * step, box.top - 3 * step, 2 * step),
        *range(box.bottom + 2 * step, height - 4 * step, 2 * step),
    ]:
        draw.text(
            (width // 20, top), "two for the price of one, only today and tomorrow" * 2, (ink,) * 3, font_size=step
        )
    return np.asarray(picture)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_picture_on_a_page_is_found_where_it_is(data: st.DataObject) -> None:
    wide, high = data.draw(st.integers(60, 300), "wide"), data.draw(st.integers(60, 300), "high")
    across, down = data.draw(st.floats(1.5, 2.6), "across"), data.draw(st.floats(1.5, 2.6), "down")
    size = int(wide * across), int(high * down)
    # At the edge of the page too, on one side or on two.
    left, top = data.draw(st.integers(0, size[0] - wide), "left"), data.draw(st.integers(0, size[1] - high), "top")
    ground = data.draw(st.sampled_from(GROUNDS), "ground")
    page = on_page(scene(data.draw(st.integers(0, 50), "scene"), wide, high), size, (left, top), ground)
    before = page.copy()
    assert_near(shown(page), Box(top, top + high, left, left + wide), page)
    assert (page == before).all()


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("text", [False, True])
def test_a_screenshot_is_trimmed_to_its_photo(ground: tuple[int, int, int], text: bool) -> None:
    page = on_page(scene(3, 348, 500), (800, 1400), (60, 430), ground)
    box = Box(430, 930, 60, 408)
    if text:
        page = with_text_and_bars(page, box, ink=220 if sum(ground) < 300 else 40)
    assert_near(shown(page), box, page)


def test_a_product_on_white_is_its_own_box() -> None:
    picture = Image.new("RGB", (400, 600), "white")
    ImageDraw.Draw(picture).ellipse((120, 200, 279, 399), fill=(150, 60, 40))
    page = np.asarray(picture)
    assert_near(shown(page), Box(200, 400, 120, 280), page)


def test_of_what_a_box_says_the_pixels_are_given() -> None:
    page = on_page(scene(1, 100, 80), (300, 300), (40, 90))
    box = Box(90, 170, 40, 140)
    assert (box.of(page) == scene(1, 100, 80)).all()
    assert box.area == 8000


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500), st.integers(30, 500), st.integers(30, 500))
def test_a_photo_without_ground_has_nothing_to_trim(seed: int, width: int, height: int) -> None:
    assert shown(scene(seed, width, height)) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_page_shows_nothing(level: int) -> None:
    assert shown(even(level, 300, 200)) is None


def test_a_page_of_text_shows_nothing() -> None:
    page = with_text_and_bars(np.full((1400, 800, 3), 255, np.uint8), Box(700, 700, 0, 0), ink=40)
    assert shown(page) is None


def test_a_thin_frame_is_not_worth_another_look() -> None:
    """Its picture fills more than ``MOST``."""
    side = int(300 * np.sqrt(MOST)) + 12
    margin = (300 - side) // 2
    assert shown(on_page(scene(2, side, side), (300, 300), (margin, margin))) is None
    side -= 36
    assert shown(on_page(scene(2, side, side), (300, 300), (margin, margin))) is not None


def test_a_logo_is_not_worth_another_look() -> None:
    assert shown(on_page(scene(2, 60, 60), (1000, 1000), (20, 20))) is None
    small = SHORTEST - 4
    assert shown(on_page(scene(2, small, small), (60, 60), (20, 20))) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (5, 40)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 200, np.uint8)
    pixels.flags.writeable = False
    assert shown(pixels) is None
