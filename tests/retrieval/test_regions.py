"""Outlines of what two pictures share: known cases, and properties against points that are mapped one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.regions import area, inverse, region

WHOLE = {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)}
sides = st.integers(1, 5000)
sizes = st.tuples(sides, sides)


@st.composite
def transforms(draw: st.DrawFn) -> np.ndarray:
    """Turned, mirrored, scaled each way by 0.1 to 10, and moved: (2, 3)."""
    angle, slant = (draw(st.floats(-np.pi, np.pi)) for _ in range(2))
    scales = [draw(st.floats(0.1, 10)) for _ in range(2)]
    mirror = draw(st.sampled_from([1.0, -1.0]))
    move = [draw(st.floats(-3000, 3000)) for _ in range(2)]
    return np.column_stack([_turn(angle) @ np.diag([scales[0], mirror * scales[1]]) @ _turn(slant), move])


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def corners(outline: np.ndarray) -> set[tuple[float, float]]:
    return {(round(float(x), 9) + 0.0, round(float(y), 9) + 0.0) for x, y in outline}


def test_itself_is_all_of_it() -> None:
    assert corners(region([1, 0, 0, 0, 1, 0], (640, 480), (640, 480))) == WHOLE


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        ([-1, 0, 639, 0, 1, 0], (640, 480)),  # mirrored: the last column comes to the first
        ([1, 0, 0, 0, -1, 479], (640, 480)),
        ([0, -1, 479, 1, 0, 0], (480, 640)),  # a quarter turn
        ([0, 1, 0, 1, 0, 0], (480, 640)),
        ([0.5, 0, -0.25, 0, 0.5, -0.25], (320, 240)),  # half as large: the middle of pixel 0 was at 0.5
    ],
    ids=["mirrored", "upside down", "quarter turn", "transposed", "halved"],
)
def test_flips_turns_and_scales_show_all_of_each_other(transform: list[float], size: tuple[int, int]) -> None:
    assert corners(region(transform, (640, 480), size)) == WHOLE
    back = inverse(transform)
    assert back is not None
    assert corners(region(back, size, (640, 480))) == WHOLE


def test_a_cut_is_a_box_in_the_original_and_all_of_itself() -> None:
    cut = [1, 0, -64, 0, 1, -120]  # 320 x 240 of 640 x 480, from column 64 and row 120
    assert corners(region(cut, (640, 480), (320, 240))) == WHOLE
    back = inverse(cut)
    assert back is not None
    assert corners(region(back, (320, 240), (640, 480))) == {(0.1, 0.25), (0.6, 0.25), (0.6, 0.75), (0.1, 0.75)}


def test_what_stands_over_the_edge_is_clipped() -> None:
    turn = np.column_stack([_turn(np.pi / 4), (49.5, 49.5 - np.sqrt(2) * 49.5)])
    outline = region(turn, (100, 100), (100, 100))
    assert len(outline) == 8  # two squares about one middle, one of them turned by an eighth
    assert area(outline) == pytest.approx(2 * (np.sqrt(2) - 1), abs=1e-9)


@pytest.mark.parametrize(
    "transform",
    [
        [0, 0, 5, 0, 0, 5],
        [1, 2, 0, 2, 4, 0],
        [np.nan, 0, 0, 0, 1, 0],
        [np.inf, 0, 0, 0, 1, 0],
        [1, 0, 0, 0],
        [],
    ],
    ids=["point", "line", "nan", "inf", "four numbers", "nothing"],
)
def test_what_is_no_transform_shows_nothing(transform: list[float]) -> None:
    assert region(transform, (640, 480), (640, 480)).shape == (0, 2)
    assert inverse(transform) is None


@pytest.mark.parametrize("transform", [[1, 0, 700, 0, 1, 0], [1e300, 0, 1e308, 0, 1e300, -1e308]])
def test_what_lies_beside_it_shows_nothing(transform: list[float]) -> None:
    assert region(transform, (640, 480), (640, 480)).shape == (0, 2)


@given(st.lists(st.floats(), min_size=6, max_size=6), sizes, sizes)
def test_any_six_numbers_give_an_outline_within_the_picture(
    transform: list[float], one: tuple[int, int], other: tuple[int, int]
) -> None:
    outline = region(transform, one, other)
    assert ((outline >= 0) & (outline <= 1)).all()
    assert len(outline) == 0 or 3 <= len(outline) <= 8


@given(transforms(), sizes, sizes)
def test_both_sides_see_the_same_region(transform: np.ndarray, one: tuple[int, int], other: tuple[int, int]) -> None:
    back = inverse(transform)
    assert back is not None
    np.testing.assert_allclose(inverse(back), transform, rtol=1e-6, atol=1e-6)
    seen = area(region(transform, one, other)) * other[0] * other[1]
    mapped = area(region(back, other, one)) * one[0] * one[1] * abs(np.linalg.det(transform[:, :2]))
    # What is below the least area of one of the two is nothing there.
    least = 2e-6 * max(other[0] * other[1], one[0] * one[1] * abs(np.linalg.det(transform[:, :2])))
    assert seen == pytest.approx(mapped, rel=1e-6, abs=least)


@given(transforms(), sizes, sizes, st.integers(0, 2**32 - 1))
def test_inside_is_what_maps_back_into_the_other(
    transform: np.ndarray, one: tuple[int, int], other: tuple[int, int], seed: int
) -> None:
    outline = region(transform, one, other)
    places = np.random.default_rng(seed).random((200, 2))
    back = inverse(transform)
    assert back is not None
    from_there = ((places * other - 0.5) @ back[:, :2].T + back[:, 2] + 0.5) / one
    depth = np.minimum(from_there, 1 - from_there).min(axis=1)  # above 0: within the other picture
    clear = np.abs(depth) > 1e-6
    np.testing.assert_array_equal(_within(places, outline)[clear], (depth > 0)[clear])


def _within(places: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Whether points (m, 2) lie in a convex polygon (n, 2): on the same side of all of its edges."""
    if not len(outline):
        return np.zeros(len(places), bool)
    edges = np.roll(outline, -1, axis=0) - outline
    to = places[:, None] - outline
    sides = edges[:, 0] * to[..., 1] - edges[:, 1] * to[..., 0]
    return (sides >= 0).all(axis=1) | (sides <= 0).all(axis=1)
