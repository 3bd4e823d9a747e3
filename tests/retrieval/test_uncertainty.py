"""Intervals, tests and what a test set can resolve, against simulations and exact counts."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from retrieval import uncertainty
from retrieval.uncertainty import (
    difference_over_seeds,
    interval_over_classes,
    over_seeds,
    paired_permutation,
    resolvable,
    resolvable_paired,
    standard_error_over_classes,
)


def clustered(
    rng: np.random.Generator, sizes: np.ndarray, *, mean: float = 0.0, shared: float = 0.1, own: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Values of queries whose classes differ by ``shared`` and which differ within a class by ``own``, and classes."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    effects = rng.normal(mean, shared, len(sizes))
    return effects[labels] + rng.normal(0, own, len(labels)), labels


def true_error(sizes: np.ndarray, *, shared: float = 0.1, own: float = 0.2) -> float:
    """The standard error of the mean over all queries of ``clustered``, by arithmetic."""
    return math.sqrt((shared**2 * (sizes**2).sum() + own**2 * sizes.sum()) / sizes.sum() ** 2)


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


def test_an_interval_at_95_percent_holds_the_truth_about_as_often() -> None:
    held = by_queries = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        chance = rng.beta(3, 1.5, 60)  # of a right answer, class by class; 2/3 on average
        labels = np.repeat(np.arange(60), rng.integers(1, 20, 60))
        right = (rng.random(len(labels)) < chance[labels])[:, None]
        low, high = interval_over_classes(right, labels, seed=trial)
        held += low[0] <= 2 / 3 <= high[0]
        low, high = interval_over_classes(right, np.arange(len(labels)), seed=trial)
        by_queries += low[0] <= 2 / 3 <= high[0]
    assert 0.91 <= held / 200 <= 0.985
    assert by_queries / 200 < 0.85  # what taking the queries one by one would give


@given(st.integers(0, 5))
def test_an_interval_depends_on_its_seed_alone(seed: int) -> None:
    values, labels = np.random.default_rng(1).random((30, 2)), np.arange(30) % 7
    first = interval_over_classes(values, labels, seed=seed)
    np.testing.assert_array_equal(first, interval_over_classes(values, labels, seed=seed))
    assert not np.array_equal(first, interval_over_classes(values, labels, seed=seed + 1))
    # The order of the queries and the names of the classes change nothing that matters.
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_allclose(first, interval_over_classes(values[order], labels[order] + 5, seed=seed))
    # Nor do the measures beside it.
    np.testing.assert_array_equal(np.array(first)[:, 1:], interval_over_classes(values[:, 1:], labels, seed=seed))


def test_a_certain_measure_has_no_width_and_one_class_no_interval() -> None:
    low, high = interval_over_classes(np.ones((12, 1)), np.arange(12) % 3)
    assert low[0] == high[0] == 1.0
    for values, labels in ((np.ones((5, 2)), np.zeros(5)), (np.zeros((0, 2)), np.zeros(0))):
        for function in (interval_over_classes, standard_error_over_classes, resolvable, resolvable_paired):
            assert function(values, labels) is None


@given(st.integers(0, 2**32 - 1))
def test_a_wider_confidence_gives_a_wider_interval(seed: int) -> None:
    values, labels = clustered(np.random.default_rng(seed), np.full(12, 3))
    narrow = interval_over_classes(values[:, None], labels, confidence=0.5)
    wide = interval_over_classes(values[:, None], labels, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_resamples_drawn_in_parts_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = clustered(np.random.default_rng(0), np.random.default_rng(1).integers(1, 5, 40))
    whole = interval_over_classes(values[:, None], labels)
    compared = paired_permutation(values, values[::-1], labels)
    monkeypatch.setattr(uncertainty, "NUMBERS", 40 * 7)
    np.testing.assert_allclose(whole, interval_over_classes(values[:, None], labels), rtol=1e-12)
    assert not compared.exact
    assert abs(compared.p - paired_permutation(values, values[::-1], labels).p) < 0.03


def test_the_classes_of_a_large_benchmark_take_little_memory() -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(np.concatenate([np.arange(11316), rng.integers(0, 11316, 40000)]))
    values = rng.random((len(labels), 3))
    tracemalloc.start()
    try:
        interval_over_classes(values, labels)
        paired_permutation(values[:, 0], values[:, 1], labels, resamples=999)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("classes", [3, 8, 150])
def test_the_standard_error_is_that_of_the_mean_of_class_means(classes: int) -> None:
    """For classes of one size it is the textbook's, sample standard deviation over root c, also for few of them."""
    values, labels = clustered(np.random.default_rng(classes), np.full(classes, 4))
    means = values.reshape(classes, 4).mean(axis=1)
    wanted = means.std(ddof=1) / math.sqrt(classes)
    errors = [standard_error_over_classes(values[:, None], labels, seed=seed)[0] for seed in range(5)]
    assert np.mean(errors) == pytest.approx(wanted, rel=0.02)


def test_what_is_resolvable_is_found_in_four_of_five_trials() -> None:
    sizes = np.random.default_rng(0).integers(1, 10, 300)
    values, labels = clustered(np.random.default_rng(1), sizes)
    (least,) = resolvable(values[:, None], labels)
    error = true_error(sizes)
    found = 0
    for trial in range(1000):
        rng = np.random.default_rng(trial)
        first, _ = clustered(rng, sizes, mean=least)
        second, _ = clustered(rng, sizes)
        found += abs(first.mean() - second.mean()) > 1.96 * math.sqrt(2) * error
    assert 0.74 < found / 1000 < 0.86


def test_what_is_resolvable_in_pairs_is_found_by_the_permutation_test_in_four_of_five_trials() -> None:
    sizes = np.random.default_rng(0).integers(1, 6, 80)

    def pair(seed: int, better: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        hard, labels = clustered(rng, sizes, shared=0.3)  # for both
        return hard + clustered(rng, sizes, mean=better)[0], hard, labels

    first, _, labels = pair(0, 0.0)
    least = np.mean([paired_permutation(*pair(seed, 0.0), resamples=1).resolvable for seed in range(20)])
    assert least == pytest.approx(2.802 * true_error(sizes), rel=0.1)
    assert least < resolvable(first[:, None], labels)[0] / 2  # pairing pays
    found = [paired_permutation(*pair(1000 + trial, least), resamples=499).p < 0.05 for trial in range(250)]
    assert 0.72 < np.mean(found) < 0.88


def plain_p(sums: list[Fraction]) -> Fraction:
    seen = abs(sum(sums))
    ways = list(itertools.product((1, -1), repeat=len(sums)))
    far = sum(abs(sum(sign * value for sign, value in zip(way, sums, strict=True))) >= seen for way in ways)
    return Fraction(far, len(ways))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=40),
    st.sampled_from([10, 3, 7]),
)
def test_few_classes_are_counted_exactly(rows: list[tuple[int, int, int]], whole: int) -> None:
    """Tenths, thirds and sevenths make sums that are equal in fractions and not quite in floating point."""
    labels = np.array([label for label, _, _ in rows])
    a, b = (np.array([row[side] for row in rows]) / whole for side in (1, 2))
    sums = [
        sum((Fraction(x - y, whole) for name, x, y in rows if name == label), Fraction(0))
        for label in sorted({name for name, _, _ in rows})
    ]
    compared = paired_permutation(a, b, labels)
    assert compared.exact
    assert compared.p == float(plain_p(sums))
    assert compared.difference == pytest.approx(float(sum(sums) / len(rows)), abs=1e-12)
    assert (compared.queries, compared.classes) == (len(rows), len(sums))
    # Neither the order of the queries nor which comes first changes it.
    assert paired_permutation(b[::-1], a[::-1], labels[::-1]).p == compared.p
    assert (compared.low is None) == (compared.high is None) == (compared.resolvable is None) == (len(sums) == 1)


@pytest.mark.parametrize("classes", [13, 14])
def test_sampled_sign_changes_come_near_the_exact_count(classes: int) -> None:
    """Fourteen classes are sampled; their p-value is that of counting all, within what chance allows."""
    sums = np.random.default_rng(classes).integers(-4, 7, classes)
    sums[sums == 0] = 1
    labels = np.arange(classes)
    compared = paired_permutation(sums / 10, np.zeros(classes), labels, resamples=20000)
    wanted = float(plain_p([Fraction(int(value)) for value in sums]))
    assert compared.exact == (classes == 13)
    assert compared.p == pytest.approx(wanted, abs=0 if compared.exact else 0.012)
    # Classes in which the two do not differ, by more than rounding, are no reason to sample.
    a = np.concatenate([sums / 10, np.full(30, 0.3)])
    b = np.concatenate([np.zeros(classes), np.full(30, 0.1 * 3)])
    padded = paired_permutation(a, b, np.arange(classes + 30), resamples=20000)
    assert (padded.p, padded.exact) == (compared.p, compared.exact)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    ps = []
    for trial in range(400):
        rng = np.random.default_rng(trial)
        sizes = rng.integers(1, 9, 25)
        (a, labels), (b, _) = clustered(rng, sizes), clustered(rng, sizes)
        ps.append(paired_permutation(a, b, labels, resamples=199, seed=trial).p)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(ps) <= level) == pytest.approx(level, abs=3.3 * math.sqrt(level * (1 - level) / 400))
    assert min(ps) >= 1 / 200


def test_a_difference_that_is_there_is_found_and_one_that_is_not_there_has_p_one() -> None:
    rng = np.random.default_rng(0)
    a, labels = clustered(rng, np.full(60, 4))
    better = paired_permutation(a + rng.normal(0.1, 0.05, len(a)), a, labels)
    assert better.p == 1 / 10000
    assert 0 < better.low < better.difference < better.high
    assert (better.classes, better.queries, better.exact) == (60, 240, False)
    same = paired_permutation(a, a, labels)
    assert (same.p, same.difference, same.low, same.high, same.resolvable) == (1, 0, 0, 0, 0)
    # The same numbers with rounding between them are the same numbers.
    assert paired_permutation(a * 3 / 3 + 1e-17, a + 0.1 - 0.1, labels).p == 1
    truths = paired_permutation(np.array([True, True, False]), np.array([False, True, True]), np.array([0, 1, 2]))
    assert (truths.p, truths.difference) == (1, 0)
    alone = paired_permutation(np.ones(4), np.zeros(4), np.zeros(4))
    assert (alone.p, alone.low, alone.high, alone.resolvable) == (1, None, None, None)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_spread_over_seeds_is_the_textbook_s(values: list[float]) -> None:
    spread = over_seeds(values)
    assert spread.runs == len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert spread.mean == pytest.approx(mean, abs=1e-12)
    assert spread.deviation == pytest.approx(deviation, abs=1e-12)
    assert (spread.least, spread.most) == (min(values), max(values))
    half = stats.t.ppf(0.975, len(values) - 1) * deviation / math.sqrt(len(values))
    assert (spread.low, spread.high) == pytest.approx((mean - half, mean + half), abs=1e-9)


def test_runs_in_pairs_agree_with_the_paired_t_test() -> None:
    a, b = [0.81, 0.80, 0.83, 0.79], [0.79, 0.79, 0.80, 0.775]
    spread = difference_over_seeds(a, b)
    test = stats.ttest_rel(a, b)
    wanted = test.confidence_interval(0.95)
    assert (spread.low, spread.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert (spread.low > 0) == (test.pvalue < 0.05)
    # Far surer than the two spreads apart: luck that both share cancels.
    assert spread.high - spread.low < over_seeds(a).high - over_seeds(a).low


def test_a_single_run_has_no_spread() -> None:
    spread = over_seeds([0.5])
    assert (spread.runs, spread.mean, spread.least, spread.most) == (1, 0.5, 0.5, 0.5)
    assert spread.deviation is spread.low is spread.high is None
