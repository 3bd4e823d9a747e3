"""What is bent and what is not: noise alone seldom bends, a camera that moved does, and no straight fit hides it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f

from retrieval.bending import LEAST, PLACE, bend, one_a_place

SIDE = 224.0


def places(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, 1)).uniform(0, SIDE, (n, 2))


def noise(n: int, seed: int, deviation: float = 0.4) -> np.ndarray:
    return np.random.default_rng((seed, 2)).normal(0, deviation, (n, 2))


def moved(points: np.ndarray, pixels: float) -> np.ndarray:
    """What a scene does that is near in the middle when the camera moves aside, in the mean square so many pixels."""
    depth = np.square(points[:, 1] / SIDE - 0.5)
    return np.stack([depth - depth.mean(), np.zeros(len(points))], axis=1) / depth.std() * pixels


def test_noise_alone_is_distributed_as_f() -> None:
    """Weights leave the tail a little heavier than that of equal ones."""
    values = np.array([bend(places(60, seed), noise(60, seed)) for seed in range(400)])
    assert 0.7 < np.median(values) < 1.3
    assert (values > f.isf(0.05, 6, 108)).mean() < 0.12
    assert values.max() < 6.0


@pytest.mark.parametrize(("n", "pixels"), [(40, 1.0), (120, 0.6), (300, 0.4)])
def test_parallax_is_seen_the_smaller_the_more_there_is_to_see_it_by(n: int, pixels: float) -> None:
    values = [bend(places(n, seed), noise(n, seed) + moved(places(n, seed), pixels)) for seed in range(50)]
    assert min(values) > 12.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(LEAST, 200),
    straight=st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=4),
    away=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
def test_a_straight_fit_that_is_not_the_best_makes_no_difference(
    seed: int, n: int, straight: list[float], away: tuple[float, float]
) -> None:
    points, off = places(n, seed), noise(n, seed) + moved(places(n, seed), 0.3)
    other = off + points @ np.array(straight).reshape(2, 2) + away
    assert bend(points, other) == pytest.approx(bend(points, off), rel=1e-4, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), turn=st.floats(0, 6.28), scale=st.floats(0.2, 5))
def test_it_is_the_same_however_the_picture_is_turned_and_scaled(seed: int, turn: float, scale: float) -> None:
    points, off = places(80, seed), noise(80, seed) + moved(places(80, seed), 0.3)
    turning = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert bend(scale * points @ turning, off) == pytest.approx(bend(points, off), rel=1e-3, abs=1e-6)


def test_some_gross_errors_neither_bend_nor_hide_a_bend() -> None:
    points = places(100, 0)
    wrong = np.zeros((100, 2))
    wrong[:8] = np.random.default_rng(3).uniform(-4, 4, (8, 2))
    assert bend(points, noise(100, 0) + wrong) < 6.0
    assert bend(points, noise(100, 0) + moved(points, 1.0) + wrong) > 12.0


@pytest.mark.parametrize("n", [0, 1, LEAST - 1])
def test_few_say_nothing(n: int) -> None:
    assert bend(places(n, 0), np.square(places(n, 1))) == 1.0


def test_points_that_are_one_or_on_a_line_do_not_fail() -> None:
    line = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    for points in (np.zeros((30, 2)), line):
        assert 0.0 <= bend(points, noise(30, 0)) < 6.0
        assert bend(points, np.zeros((30, 2))) < 6.0


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), often=st.integers(1, 4))
def test_what_is_in_one_place_counts_once(seed: int, n: int, often: int) -> None:
    points, off = places(n, seed), noise(n, seed)
    alone = one_a_place(points, off)
    again = one_a_place(np.repeat(points, often, axis=0), np.repeat(off, often, axis=0))
    for one, other in zip(alone, again, strict=True):
        assert one.shape == other.shape and one == pytest.approx(other)
    squares = {tuple(square) for square in np.floor(points / PLACE).astype(int).tolist()}
    assert len(alone[0]) == len(squares)
    for square, middle, mean in zip(sorted(squares), *alone, strict=True):
        inside = (np.floor(points / PLACE).astype(int) == square).all(axis=1)
        assert middle == pytest.approx(points[inside].mean(axis=0)) and mean == pytest.approx(off[inside].mean(axis=0))


def test_corners_that_are_found_in_several_directions_bend_nothing() -> None:
    """As they do when each of them counts."""
    plain, merged = [], []
    for seed in range(200):
        points, off = (np.repeat(values, 4, axis=0) for values in (places(30, seed), noise(30, seed)))
        plain.append(bend(points, off))
        merged.append(bend(*one_a_place(points, off)))
    assert np.mean(np.array(plain) > 5) > 0.25
    assert np.mean(np.array(merged) > 5) < 0.05 and np.mean(np.array(merged) != 1.0) > 0.5
