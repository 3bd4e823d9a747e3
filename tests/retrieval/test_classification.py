"""Classification against scikit-learn and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from retrieval.classification import (
    calibration_error,
    confusion,
    knn_vote,
    most_confused,
    precision_recall_f1,
    predict,
    top_k_accuracy,
)


def draw(seed: int, queries: int, classes: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.minimum(rng.zipf(1.4, queries) - 1, classes - 1)  # long-tailed; some classes have no query
    probabilities = rng.integers(1, 4, (queries, classes)).astype(float) if tied else rng.random((queries, classes))
    probabilities[np.arange(queries), true] += 0 if tied else 0.3
    return probabilities / probabilities.sum(axis=1, keepdims=True), true


drawn = st.builds(draw, st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 9), st.booleans())


@given(drawn, st.integers(1, 10))
def test_top_k_takes_equal_ones_by_the_order_of_classes(case: tuple[np.ndarray, np.ndarray], k: int) -> None:
    probabilities, true = case
    found = top_k_accuracy(probabilities, true, [1, k])
    orders = [sorted(range(len(row)), key=lambda code, row=row: (-row[code], code)) for row in probabilities.tolist()]
    for query, order in enumerate(orders):
        assert found[query].tolist() == [order[0] == true[query], true[query] in order[:k]]
    assert predict(probabilities).tolist() == [order[0] for order in orders]


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(1, 8))
def test_top_k_agrees_with_scikit_learn(seed: int, classes: int, k: int) -> None:
    probabilities, true = draw(seed, 30, classes, tied=False)  # it breaks ties the other way round
    k = min(k, classes - 1)
    wanted = top_k_accuracy_score(true, probabilities, k=k, labels=np.arange(classes))
    assert top_k_accuracy(probabilities, true, [k]).mean() == pytest.approx(wanted, abs=1e-9)


@given(drawn)
def test_confusion_precision_recall_and_f1_agree_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, true = case
    classes = probabilities.shape[1]
    predicted = predict(probabilities)
    confused = confusion(predicted, true, classes)
    assert confused.dtype == np.int64
    np.testing.assert_array_equal(confused, confusion_matrix(true, predicted, labels=np.arange(classes)))
    wrong = [(t, p, int(confused[t, p])) for t in range(classes) for p in range(classes) if t != p and confused[t, p]]
    assert most_confused(predicted, true, 5) == sorted(wrong, key=lambda pair: -pair[2])[:5]
    got = precision_recall_f1(confused)
    *wanted, queries = precision_recall_fscore_support(true, predicted, labels=np.arange(classes), zero_division=0)
    np.testing.assert_allclose(got.by_class, np.transpose(wanted), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(got.queries, queries)
    # Without the labels it too averages over the classes that occur.
    for average in ("macro", "micro", "weighted"):
        *means, _ = precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
        np.testing.assert_allclose(getattr(got, average), means, rtol=0, atol=1e-9, err_msg=average)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([1, 3, 10, 15]), st.booleans())
def test_calibration_is_the_gap_of_each_bin_weighed_by_its_queries(
    seed: int, queries: int, bins: int, on_edges: bool
) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, bins + 1, queries) / bins if on_edges else rng.random(queries)
    right = rng.random(queries) < confidence
    got = calibration_error(confidence, right, bins=bins)
    gap = 0.0
    for bin, (sure, accuracy, count) in enumerate(got.bins):
        # As in the paper, a bin is open below and closed above; nothing is left out at 0.
        inside = [
            place
            for place, value in enumerate(confidence.tolist())
            if (value > bin / bins or (bin == 0 and value == 0)) and (value <= (bin + 1) / bins)
        ]
        assert count == len(inside)
        if not inside:
            assert sure is accuracy is None
            continue
        assert sure == pytest.approx(math.fsum(confidence[inside]) / count, abs=1e-9)
        assert accuracy == pytest.approx(sum(right[inside].tolist()) / count, abs=1e-9)
        gap += count / queries * abs(sure - accuracy)
    assert sum(count for _, _, count in got.bins) == queries
    assert len(got.bins) == bins
    assert got.error == pytest.approx(gap, abs=1e-9)


def test_who_is_sure_and_wrong_is_badly_calibrated() -> None:
    assert calibration_error(np.ones(4), np.zeros(4, bool)).error == 1
    assert calibration_error(np.full(4, 0.75), np.array([True, True, True, False])).error == pytest.approx(0, abs=1e-12)
    # Guo's bins: 0.4 and 0.6 in different ones, each half right.
    got = calibration_error(np.array([0.4, 0.4, 0.6, 0.6]), np.array([True, False, True, False]), bins=2)
    assert got.error == pytest.approx(0.1, abs=1e-12)
    assert got.bins == [(0.4, 0.5, 2), (0.6, 0.5, 2)]
    with pytest.raises(AssertionError):
        calibration_error(np.array([1.2]), np.array([True]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 9), st.sampled_from([0.07, 0.01, 1.0]))
def test_votes_are_those_of_the_papers(seed: int, queries: int, k: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    codes, similarities = rng.integers(-1, 5, (queries, k)), rng.uniform(-1, 1, (queries, k)).astype(np.float32)
    similarities[codes < 0] = rng.choice([-np.inf, 0.9])  # an empty slot, or an image without a label
    before = codes.copy(), similarities.copy()
    votes = knn_vote(codes, similarities, 5, temperature=temperature)
    assert votes.shape == (queries, 5)
    assert votes.dtype == np.float64
    for row, own, nearness in zip(votes, codes.tolist(), similarities.astype(float).tolist(), strict=True):
        wanted = [
            math.fsum(math.exp(near / temperature) for code, near in zip(own, nearness, strict=True) if code == name)
            for name in range(5)
        ]
        total = math.fsum(wanted)
        np.testing.assert_allclose(row, [value / total if total else 0 for value in wanted], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(codes, before[0])
    np.testing.assert_array_equal(similarities, before[1])


def test_the_nearest_decides_at_a_low_temperature_and_the_many_at_a_high_one() -> None:
    codes, similarities = np.array([[2, 0, 0, -1]]), np.array([[0.9, 0.8, 0.8, 0.99]])
    assert predict(knn_vote(codes, similarities, 3, temperature=1e-4)).tolist() == [2]  # e^9900 overflows nothing
    assert predict(knn_vote(codes, similarities, 3, temperature=10.0)).tolist() == [0]
    assert predict(knn_vote(codes, similarities, 3)).tolist() == [2]
    assert knn_vote(np.full((1, 3), -1), np.full((1, 3), -np.inf), 2).tolist() == [[0, 0]]
