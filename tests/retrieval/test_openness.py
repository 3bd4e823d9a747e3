"""Known or not: scores against scikit-learn and counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from retrieval.evidence import gather
from retrieval.labels import Vocabulary, Voting, vote
from retrieval.openness import (
    ENERGY,
    HEAD_ENERGY,
    KEPT,
    MARGIN,
    NEAREST,
    auroc,
    false_accepts_at,
    fit_openness,
    scores,
)
from tests.retrieval.crowds import crowd

numbers = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 0.9, 1.0]), min_size=1, max_size=40).map(np.array)


@given(numbers, numbers)
def test_auroc_agrees_with_scikit_learn(known: np.ndarray, unknown: np.ndarray) -> None:
    true = np.repeat([1, 0], [len(known), len(unknown)])
    wanted = roc_auc_score(true, np.concatenate([known, unknown]))
    assert auroc(known, unknown) == pytest.approx(wanted, abs=1e-12)


@given(numbers, numbers)
def test_false_accepts_where_nearly_all_known_pass(known: np.ndarray, unknown: np.ndarray) -> None:
    able = [t for t in known if np.mean(known >= t) >= 0.95]
    assert false_accepts_at(known, unknown) == pytest.approx(np.mean(unknown >= max(able)))


@given(numbers, numbers, st.floats(0, 1))
def test_no_more_unknown_ones_pass_than_were_wanted(known: np.ndarray, unknown: np.ndarray, wanted: float) -> None:
    fitted = fit_openness({"a": known}, {"a": unknown})
    threshold = fitted.threshold(wanted)
    assert np.mean(unknown >= threshold) <= wanted + 1e-9
    if len(set(unknown.tolist())) == len(unknown):  # without ties as many as may
        assert np.mean(unknown >= threshold) > wanted - 1 / len(unknown) - 1e-9
    sure = fitted.known(np.sort(np.concatenate([known, unknown])))
    assert (np.diff(sure) >= 0).all()
    assert sure.min() >= 0 and sure.max() <= 1


@given(numbers, numbers)
def test_unless_asked_otherwise_nearly_all_known_pass(known: np.ndarray, unknown: np.ndarray) -> None:
    fitted = fit_openness({"a": known}, {"a": unknown})
    assert fitted.threshold() == max(t for t in known if np.mean(known >= t) >= KEPT)
    assert fitted.refused() == pytest.approx(np.mean(known < fitted.threshold()))
    assert fitted.passed() == pytest.approx(false_accepts_at(known, unknown))
    assert fitted.passed(0.0) == 0
    assert fitted.refused(1.0) == 0


def test_the_score_that_tells_best_is_chosen() -> None:
    rng = np.random.default_rng(0)
    known = {"poor": rng.normal(size=300), "good": rng.normal(2, 1, 300)}
    unknown = {"poor": rng.normal(size=300), "good": rng.normal(-2, 1, 300)}
    fitted = fit_openness(known, unknown)
    assert fitted.score == "good"
    assert fitted.auroc == fitted.compared["good"] > fitted.compared["poor"]
    assert fitted.known(np.array([2.0]))[0] > 0.95 > 0.05 > fitted.known(np.array([-2.0]))[0]


def test_scores_by_hand() -> None:
    gallery, queries = crowd(0, classes=4, each=5), crowd(1, classes=4, each=2).vectors
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts, tuple(gallery.labels[:3]))
    logits = np.random.default_rng(0).normal(size=(len(queries), 3)).astype(np.float32)
    evidence, voting = gather(queries, gallery, logits=logits), Voting(k=50, temperature=0.1, same_from=2.0)
    plain = Voting(k=50, temperature=0.1, background=-np.inf, same_from=2.0)
    shares = vote(evidence, vocabulary, plain)
    found = scores(evidence, vocabulary, voting, shares)
    similar = queries.astype(np.float64) @ gallery.vectors.T.astype(np.float64)
    np.testing.assert_allclose(found[NEAREST], similar.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(found[ENERGY], 0.1 * np.log(np.exp(similar / 0.1).sum(axis=1)), atol=1e-5)
    ordered = np.sort(shares, axis=1)
    np.testing.assert_allclose(found[MARGIN], ordered[:, -1] - ordered[:, -2], atol=1e-6)
    np.testing.assert_allclose(found[HEAD_ENERGY], np.log(np.exp(logits.astype(np.float64)).sum(axis=1)), atol=1e-6)
