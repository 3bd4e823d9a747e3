"""How sure a measured number is: intervals, tests and what a test set can resolve, by classes and not by queries.

Queries of one class rise and fall together: they show the same things, and a gallery that has gathered them well serves
all of them. So whole classes are drawn and whole classes change sign; taking queries one by one would give intervals
several times too narrow and differences that are not there. Where there is one class only, nothing can be said, and the
answer is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

RESAMPLES: Final = 2000
NUMBERS: Final = 1 << 21  # drawn at a time: 16 MiB an array
EXACT_CLASSES: Final = 13  # up to 2^13 ways to change signs, fewer than the resamples, are all counted
NOISE: Final = 1e-10  # a share of what was summed, far above rounding and far below any difference
FOUND: Final = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)  # 2.80 standard errors: at 5 %, 4 times in 5


def interval_over_classes(
    values: np.ndarray, labels: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bootstrap a confidence interval of means over queries by drawing classes, not queries.

    As many classes as there are, drawn with replacement, bring all their queries (cluster bootstrap; percentiles of
    2,000 resamples). The interval speaks of other classes of the same kind, not of other photos of these. With fewer
    than about fifty classes it is too narrow: in a simulation 87 % of such intervals at 95 % held the truth over ten
    classes, 92 % over twenty, 96 % over fifty.

    Args:
        values: (n, m), what each query scored, m measures.
        labels: (n,) the class of each query, any integers or strings.
        confidence: share of resamples inside the interval.
        seed: of the resampling.

    Returns:
        Lower and upper ends, (m,) float64 each; None where there are fewer than two classes.
    """
    means = _bootstrap(values, labels, seed)
    if means is None:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def standard_error_over_classes(values: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """Give the standard error of means over queries: the standard deviation over resamples of classes.

    It is enlarged by sqrt(c / (c - 1)) for c classes, since a bootstrap takes the variance of those it has for that of
    all there could be.

    Args:
        values: (n, m), what each query scored, m measures.
        labels: (n,) the class of each query, any integers or strings.
        seed: of the resampling.

    Returns:
        (m,) float64, in the unit of the values; None where there are fewer than two classes.
    """
    means = _bootstrap(values, labels, seed)
    if means is None:
        return None
    classes = len(np.unique(labels))
    return np.asarray(means.std(axis=0, ddof=1) * np.sqrt(classes / (classes - 1)))


def resolvable(values: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """Give the smallest true difference between two embedders that this test set would show, were they independent.

    It would be found in four of five trials by a two-sided test at the 5 % level: 2.80 standard errors of a difference
    whose two sides each have the standard error of these values. Two embedders measured on the same queries are not
    independent, since what is hard is hard for both; comparing query by query resolves less: ``resolvable_paired``.

    Args:
        values: (n, m), what each query scored, m measures.
        labels: (n,) the class of each query, any integers or strings.
        seed: of the resampling.

    Returns:
        (m,) float64, in the unit of the values; None where there are fewer than two classes.
    """
    error = standard_error_over_classes(values, labels, seed=seed)
    return None if error is None else np.asarray(FOUND * np.sqrt(2) * error)


def resolvable_paired(differences: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """Give the smallest true difference that a comparison query by query would show, in four of five trials at 5 %.

    Args:
        differences: (n, m), what each query scored with one embedder less what it scored with the other.
        labels: (n,) the class of each query, any integers or strings.
        seed: of the resampling.

    Returns:
        (m,) float64, in the unit of the differences; None where there are fewer than two classes.
    """
    error = standard_error_over_classes(differences, labels, seed=seed)
    return None if error is None else np.asarray(FOUND * error)


@dataclass(frozen=True)
class Comparison:
    """Two embedders, or two settings, on the same queries.

    Attributes:
        difference: mean over queries of the first less the second.
        low: lower end of the 95 % interval of the difference, by bootstrap over classes; None where there is one class.
        high: its upper end.
        p: of the two-sided permutation test, in (0, 1].
        resolvable: the smallest true difference that would be found so in four of five trials; None as above.
        queries: compared.
        classes: of them.
        exact: whether every way to change signs was counted, not a sample of them.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    resolvable: float | None
    queries: int
    classes: int
    exact: bool


def paired_permutation(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray, *, resamples: int = 9999, seed: int = 0
) -> Comparison:
    """Test whether two embedders differ on the same queries, by exchanging the two for whole classes at random.

    If they did not differ, which of the two scored what in a class would be chance, and the sum of its differences
    could as well have the other sign (Fisher's randomisation test, with classes as the units). The p-value is the
    share of sign changes whose mean difference is at least as far from zero as the one that was seen: of all of them
    where at most 13 classes differ, else of random ones, that which was seen counted among them (Phipson and Smyth,
    2010), so that it is never below 1 / (1 + resamples). With c classes that differ it is never below 2 / 2^c.
    Rounding cannot change it: sums that differ by less than 1e-10 of what was summed count as equal.

    Args:
        a: (n,) what each query scored with the first, n at least 1; truths count as 0 and 1.
        b: (n,) what it scored with the second.
        labels: (n,) the class of each query, any integers or strings.
        resamples: random sign changes.
        seed: of the sign changes, and of the interval.

    Returns:
        The difference, how sure it is, and what could have been found.
    """
    assert len(a) == len(b) == len(labels) > 0
    a, b = a.astype(np.float64), b.astype(np.float64)
    classes, place = np.unique(labels, return_inverse=True)
    sums = np.bincount(place, weights=a - b)  # (c,)
    summed = np.bincount(place, weights=np.abs(a) + np.abs(b))  # (c,)
    differing = sums[np.abs(sums) > NOISE * summed]
    seen = abs(differing.sum()) - NOISE * summed.sum()
    exact = len(differing) <= EXACT_CLASSES
    if exact:
        changed = np.arange(1 << len(differing))[:, None] >> np.arange(len(differing)) & 1  # (2^c, c)
        p = _at_least(seen, changed, differing) / len(changed)
    else:
        rng = np.random.default_rng(seed)
        at_once = max(1, NUMBERS // len(differing))
        count = 1
        for start in range(0, resamples, at_once):
            rows, width = min(at_once, resamples - start), -(-len(differing) // 8)
            coins = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
            count += _at_least(seen, np.unpackbits(coins, axis=1, count=len(differing)), differing)
        p = count / (1 + resamples)
    differences = (a - b)[:, None]
    ends = interval_over_classes(differences, labels, seed=seed)
    least = resolvable_paired(differences, labels, seed=seed)
    return Comparison(
        difference=float(differences.mean()),
        low=None if ends is None else float(ends[0][0]),
        high=None if ends is None else float(ends[1][0]),
        p=p,
        resolvable=None if least is None else float(least[0]),
        queries=len(labels),
        classes=len(classes),
        exact=exact,
    )


@dataclass(frozen=True)
class Spread:
    """One measure over several runs that differ in their seed alone.

    Attributes:
        runs: how many.
        mean: of them.
        deviation: the sample standard deviation of a run (not of the mean); None of a single run.
        least: of the runs.
        most: of the runs.
        low: lower end of the 95 % interval of the mean by Student's t, not cut at 0 or 1; None of a single run.
        high: its upper end.
    """

    runs: int
    mean: float
    deviation: float | None
    least: float
    most: float
    low: float | None
    high: float | None


def over_seeds(values: Sequence[float]) -> Spread:
    """Say how a measure spreads over runs that differ in their seed.

    That is luck in training, on one test set; the interval over classes is luck in the test set, with one training.
    Neither contains the other.

    Args:
        values: the measure of each run, at least one.
    """
    runs = np.asarray(values, dtype=np.float64)
    mean, least, most = float(runs.mean()), float(runs.min()), float(runs.max())
    if len(runs) < 2:
        return Spread(len(runs), mean, None, least, most, None, None)
    from scipy.special import stdtrit

    deviation = float(runs.std(ddof=1))
    half = float(stdtrit(len(runs) - 1, 0.975)) * deviation / np.sqrt(len(runs))
    return Spread(len(runs), mean, deviation, least, most, float(mean - half), float(mean + half))


def difference_over_seeds(a: Sequence[float], b: Sequence[float]) -> Spread:
    """Say how the difference of a measure spreads over runs in pairs: the same seed, data and order in both.

    Args:
        a: the measure of each run with the first.
        b: that of the run beside it with the second.

    Returns:
        The spread of a less b, pair by pair; where its interval leaves out 0, Student's paired t-test has p < 5 %.
    """
    assert len(a) == len(b)
    return over_seeds(np.subtract(a, b, dtype=np.float64).tolist())


def interval_of_share(right: int, of: int) -> tuple[float, float]:
    """Give the 95 % interval of a share of independent trials (Wilson, JASA 1927), which holds for few of them too.

    Args:
        right: trials that went right.
        of: trials, at least one.

    Returns:
        Lower and upper end, in [0, 1].
    """
    from scipy.stats import binomtest

    interval = binomtest(right, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _bootstrap(values: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray | None:
    # Means over the queries of resampled classes, (RESAMPLES, m); None where there are fewer than two classes.
    classes, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return None
    columns = [values[:, measure] for measure in range(values.shape[1])]
    # What each class adds to the numerators and, last, to the divisor.
    totals = np.stack([*(np.bincount(place, weights=column) for column in columns), count.astype(np.float64)])
    rng = np.random.default_rng(seed)
    at_once = max(1, NUMBERS // len(classes))
    drawn = np.empty((RESAMPLES, len(totals)))
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        picks = rng.integers(0, len(classes), (rows, len(classes)))
        picks += np.arange(rows)[:, None] * len(classes)
        times = np.bincount(picks.ravel(), minlength=rows * len(classes)).reshape(rows, len(classes))
        # Resample r, class c, total t. Not by BLAS, whose sums depend on how many threads it has.
        drawn[start : start + rows] = np.einsum("rc,tc->rt", times.astype(np.float64), totals)
    return np.asarray(drawn[:, :-1] / drawn[:, -1:])


def _at_least(seen: float, changed: np.ndarray, sums: np.ndarray) -> int:
    # How many sign changes (rows, c; 1: the class's sum has the other sign) bring the total as far from zero as seen.
    totals = sums.sum() - 2 * (changed.astype(np.float64) @ sums)  # (rows,)
    return int(np.count_nonzero(np.abs(totals) >= seen))
