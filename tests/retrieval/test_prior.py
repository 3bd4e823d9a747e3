"""A prior of what is known besides, by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.prior import NOT_COUNTED, Prior


@given(st.lists(st.tuples(st.sampled_from(["north", "south", None]), st.integers(0, 3)), min_size=1, max_size=40))
def test_factors_by_hand(rows: list[tuple[str | None, int]]) -> None:
    values, codes = [value for value, _ in rows], np.array([code for _, code in rows])
    prior = Prior.of(values, codes, 4)
    found = prior.factors(["north", "south", "nowhere", None])
    with_value = [(value, code) for value, code in rows if value is not None]
    of_all = np.array([1 + sum(code == c for _, code in with_value) for c in range(4)], float)
    of_all /= of_all.sum()
    for row, value in enumerate(["north", "south"]):
        own = np.array([sum(pair == (value, c) for pair in with_value) for c in range(4)], float)
        wanted = (own + prior.smoothing * of_all) / (own.sum() + prior.smoothing) / of_all
        np.testing.assert_allclose(found[row], wanted if own.sum() else 1)
    np.testing.assert_allclose(found[2:], 1)
    # In the mean over what is most frequent nothing is won or lost.
    assert (found @ of_all)[:2] == pytest.approx(1)


def test_much_is_made_of_a_value_that_says_much_and_little_of_one_that_says_nothing() -> None:
    codes = np.repeat(np.arange(4), 50)
    telling = Prior.of([f"region {code}" for code in codes], codes, 4)
    assert telling.factors(["region 2"])[0].argmax() == 2
    assert telling.factors(["region 2"])[0, 2] > 3.5
    idle = Prior.of([f"shop {at % 7}" for at in range(200)], codes, 4)
    np.testing.assert_allclose(idle.factors(["shop 3"]), 1, atol=0.1)


@given(st.lists(st.tuples(st.sampled_from(["north", "south"]), st.integers(0, 3)), min_size=2, max_size=40))
def test_an_item_has_no_say_in_its_own(rows: list[tuple[str, int]]) -> None:
    values, codes = [value for value, _ in rows], np.array([code for _, code in rows])
    prior = Prior.of(values, codes, 4)
    found = prior.factors([values[0], "elsewhere", values[0]], counted=np.array([codes[0], codes[0], NOT_COUNTED]))
    counts = prior.counts.copy()
    counts[prior.values.index(values[0]), codes[0]] -= 1
    of_all = 1.0 + np.bincount(codes, minlength=4)
    of_all /= of_all.sum()
    own = counts[prior.values.index(values[0])]
    np.testing.assert_allclose(found[0], (own + prior.smoothing * of_all) / (own.sum() + prior.smoothing) / of_all)
    np.testing.assert_allclose(found[1], 1)
    np.testing.assert_allclose(found[2], prior.factors([values[0]])[0])
