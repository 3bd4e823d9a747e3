"""Sets of labels: their coverage, by counting over many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.conformal import Conformal, nonconformities, sets
from retrieval.errors import InputError


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_nonconformity_is_the_mass_before_a_label(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    shares, known = rng.dirichlet(np.ones(classes), 5), rng.random(5)
    found = nonconformities(shares, known)
    for row in range(5):
        for code in range(classes):
            before = sum(share for share in shares[row] if share > shares[row, code])
            assert found[row, code] == pytest.approx(1 - known[row] + known[row] * before, abs=1e-9)
    assert found.min() >= 0 and found.max() <= 1 + 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_the_limit_is_the_quantile_of_split_conformal_prediction(values: list[float], coverage: float) -> None:
    conformal = Conformal.of(np.array(values), ["a"] * len(values))
    rank = math.ceil((len(values) + 1) * coverage - 1e-9)
    if rank > len(values):
        with pytest.raises(InputError, match=r"need [0-9,]+ pictures to be calibrated on"):
            conformal.limit(coverage)
    else:
        assert conformal.limit(coverage) == sorted(values)[rank - 1]
        assert conformal.limits(coverage, ["a"]).tolist() == [sorted(values)[rank - 1]]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("accuracy", [0.5, 0.99])
def test_sets_cover_what_was_asked_on_the_average(coverage: float, accuracy: float) -> None:
    rng = np.random.default_rng(3)
    covered, sizes = [], []
    for _ in range(400):
        # Probabilities that are wrong about themselves: coverage must not depend on them.
        true = rng.integers(6, size=160)
        shares = rng.dirichlet(np.ones(6), 160)
        shares[np.arange(160), true] += np.where(rng.random(160) < accuracy, 3, 0)
        shares /= shares.sum(axis=1, keepdims=True)
        found = nonconformities(shares, rng.random(160))
        own = np.take_along_axis(found, true[:, None], axis=1)[:, 0]
        limit = Conformal.of(own[:99], ["a"] * 99).limit(coverage)
        within = sets(found[99:], limit)
        covered.append(within[np.arange(61), true[99:]].mean())
        sizes.append(within.sum(axis=1).mean())
    # Between coverage and 1 / (n + 1) more; the mean of 400 draws of 61 is within a point of that.
    assert coverage - 0.01 <= np.mean(covered) <= coverage + 0.02
    assert np.mean(sizes) < 6


def test_classes_cover_each_for_itself() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 0.2, 100), rng.uniform(0.5, 1, 100)])
    conformal = Conformal.of(values, ["easy"] * 100 + ["hard"] * 100)
    easy, hard = conformal.limits(0.9, ["easy", "hard"]).tolist()
    assert easy < 0.2 < 0.5 < hard
    with pytest.raises(InputError, match="need 9 pictures to be calibrated on, and of new there are 0"):
        conformal.limits(0.9, ["easy", "new"])


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 2.0])
def test_what_is_no_coverage(coverage: float) -> None:
    with pytest.raises(InputError, match="coverage must be above 0 and below 1"):
        Conformal.of(np.zeros(9), ["a"] * 9).limit(coverage)
