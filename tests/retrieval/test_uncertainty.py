"""Intervals, tests and what a test set can resolve, against simulations and exact counts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.uncertainty import interval_over_classes


def test_an_interval_holds_the_mean_and_is_that_of_classes_not_queries() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(20), 50)
    # All queries of a class fare alike: twenty observations, not a thousand.
    value = (rng.random(20) < 0.6)[classes][:, None].astype(float)
    low, high = interval_over_classes(value, classes)
    assert low[0] < value.mean() < high[0]
    over_classes = high[0] - low[0]
    low, high = interval_over_classes(value, np.arange(1000))
    assert over_classes > 3 * (high[0] - low[0])
    # The textbook width for twenty equal classes: 2 x 1.96 standard errors.
    per_class = value.reshape(20, 50).mean(axis=1)
    expected = 2 * 1.96 * per_class.std() / np.sqrt(20)
    assert 0.8 * expected < over_classes < 1.2 * expected


@given(st.integers(0, 5))
def test_an_interval_depends_on_its_seed_alone(seed: int) -> None:
    values, labels = np.random.default_rng(1).random((30, 2)), np.arange(30) % 7
    first = interval_over_classes(values, labels, seed=seed)
    np.testing.assert_array_equal(first, interval_over_classes(values, labels, seed=seed))
    # The order of the queries and the names of the classes change nothing that matters.
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_allclose(first, interval_over_classes(values[order], labels[order], seed=seed))


def test_a_certain_measure_has_no_width_and_no_query_gives_no_interval() -> None:
    low, high = interval_over_classes(np.ones((12, 1)), np.arange(12) % 3)
    assert low[0] == high[0] == 1.0
    low, high = interval_over_classes(np.zeros((0, 2)), np.zeros(0))
    assert np.isnan([*low, *high]).all()
