"""Views by which copies are found: what each shows, and layouts that turn with their pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.views import EFFORTS, GRID, KEPT, cut, dihedral, layout, shrunk, turned
from tests.retrieval.scenes import even, scene

PIXELS = scene(4, 160, 120)
sides = st.integers(1, 40)


def turns(pixels: np.ndarray) -> list[np.ndarray]:
    """A picture in all eight ways: as it is, then mirrored; each turned by none to three quarters."""
    return [np.rot90(one, quarters) for one in (pixels, pixels[:, ::-1]) for quarters in range(4)]


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(160, 120), (120, 160), (12, 12), (500, 333), (97, 31)])
def test_the_layout_of_a_turned_picture_is_the_turned_layout(size: tuple[int, int]) -> None:
    pixels = scene(7, *size)
    of_layout = dihedral(layout(pixels)[None])
    assert of_layout.shape == (8, 1, GRID, GRID)
    for number, turn in enumerate(turns(pixels)):
        # A level of rounding in each of the places.
        assert of_layout[number, 0] == pytest.approx(layout(np.ascontiguousarray(turn)), abs=0.01)
        assert of_layout[number, 0] == pytest.approx(layout(turn), abs=0.01)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_eight_ways_are_those_of_the_square_and_each_is_undone_by_one(seed: int, n: int) -> None:
    layouts = np.random.default_rng(seed).normal(size=(n, GRID, GRID)).astype(np.float32)
    ways = dihedral(layouts)
    assert ways.shape == (8, n, GRID, GRID)
    assert (ways[0] == layouts).all()
    assert len({way.tobytes() for way in ways}) == 8
    for way in ways:
        assert any((back == layouts).all() for back in dihedral(way))
        assert {again.tobytes() for again in dihedral(way)} == {one.tobytes() for one in ways}


@given(st.integers(0, 2**32 - 1), sides, sides)
def test_a_layout_has_length_one_and_no_mean(seed: int, height: int, width: int) -> None:
    found = layout(noise(seed, height, width))
    assert found.shape == (GRID, GRID) and found.dtype == np.float32
    length = float(np.linalg.norm(found))
    assert length == pytest.approx(1, abs=1e-5) or not found.any()
    assert abs(found.mean()) < 1e-5


def test_a_layout_is_mean_grey_place_by_place() -> None:
    pixels = scene(9, 12 * 9, 12 * 7)
    places = pixels.astype(np.float64).mean(axis=2).reshape(GRID, 7, GRID, 9).mean(axis=(1, 3))
    places -= places.mean()
    assert layout(pixels) == pytest.approx(places / np.linalg.norm(places), abs=0.005)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_what_is_even_has_no_layout(level: int) -> None:
    assert not layout(even(level)).any()
    barely = even(level)
    barely[:24] = abs(level - 1)  # a level lighter or darker
    assert not layout(barely).any()


def test_brighter_or_with_more_contrast_the_layout_stays() -> None:
    pixels = scene(2)
    changed = (pixels.astype(np.float64) * 0.6 + 30).astype(np.uint8)
    assert (layout(changed) * layout(pixels)).sum() > 0.999
    assert (layout(scene(3)) * layout(pixels)).sum() < 0.7


def test_turned_views_are_the_eight_ways() -> None:
    expected = turns(PIXELS)
    for mirrored in (False, True):
        for quarters in range(4):
            assert (turned(quarters, mirrored=mirrored)(PIXELS) == expected[4 * mirrored + quarters]).all()
    assert (turned(1)(PIXELS)[0, 0] == PIXELS[0, -1]).all()  # anticlockwise: the right end comes up


@given(sides, sides, st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1]))
def test_a_cut_keeps_half_of_the_picture_where_it_says(height: int, width: int, down: float, across: float) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(height)[:, None], np.arange(width)
    found = cut(down, across)(pixels)
    high, wide = found.shape[:2]
    assert abs(high - KEPT * height) <= 0.5 or high == 1
    assert abs(wide - KEPT * width) <= 0.5 or wide == 1
    top, left = int(found[0, 0, 0]), int(found[0, 0, 1])
    assert (found == pixels[top : top + high, left : left + wide]).all()
    assert abs(top - down * (height - high)) <= 0.5 and abs(left - across * (width - wide)) <= 0.5
    assert KEPT**2 > 0.5


@given(st.integers(0, 2**32 - 1), sides, sides)
def test_shrunk_has_the_picture_in_its_middle(seed: int, height: int, width: int) -> None:
    pixels = noise(seed, height, width)
    found = shrunk(pixels)
    down, across = (found.shape[0] - height) // 2, (found.shape[1] - width) // 2
    assert found.shape == (height + 2 * down, width + 2 * across, 3)
    assert (found[down : down + height, across : across + width] == pixels).all()
    if min(height, width) >= 6:
        assert found.shape[0] > height and found.shape[1] > width


def test_more_effort_looks_at_more() -> None:
    assert list(EFFORTS) == ["quick", "usual", "thorough"]
    shown = [[view(PIXELS) for view in views] for views in EFFORTS.values()]
    quick, usual, thorough = ({(view.shape, view.tobytes()) for view in views} for views in shown)
    assert quick < usual < thorough
    assert [len(quick), len(usual), len(thorough)] == [len(views) for views in shown]  # no view twice
    assert (PIXELS.shape, PIXELS.tobytes()) not in thorough  # the picture itself is beside them
    assert {(turn.shape, turn.tobytes()) for turn in turns(PIXELS)[1:]} <= thorough


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (16, 16), (2, 3), (5, 6)])
def test_tiny_pictures_have_all_views_and_nothing_is_written_to(size: tuple[int, int]) -> None:
    pixels = noise(1, *size)
    pixels.flags.writeable = False
    for view in EFFORTS["thorough"]:
        found = view(pixels)
        assert found.dtype == np.uint8 and found.ndim == 3 and found.size > 0
        assert np.isfinite(layout(found)).all()


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [scene(seed, 90, 70) for seed in range(6)] * 10
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(layout, pictures))
    assert all((one == layout(pixels)).all() for one, pixels in zip(found, pictures, strict=True))
