"""Each metric against the definition on a plain list, and against two libraries that compute it their own way."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from retrieval.metrics import (
    average_precision,
    by_class,
    cmc,
    map_at_r,
    ndcg,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
)
from retrieval.ranks import NEVER, Ranks
from tests.retrieval.rankings import KINDS, Case, cases, forget, make_case, rank_by_force

CLOSE = {"rtol": 0, "atol": 1e-9}


def plain(relevance: list[bool], relevant: int, ks: list[int]) -> dict[str, object]:
    """Every metric of one query by its definition, from the relevance of what was returned, nearest first."""
    precision = [sum(relevance[:k]) / k for k in range(1, len(relevance) + 1)]
    at_hits = [share for share, hit in zip(precision, relevance, strict=True) if hit]
    within_r = [share for share, hit in zip(precision[:relevant], relevance[:relevant], strict=True) if hit]

    def dcg(gains: list[bool]) -> float:
        return math.fsum(1 / math.log2(rank + 1) for rank, gain in enumerate(gains, 1) if gain)

    return {
        "recall": [any(relevance[:k]) for k in ks],
        "precision": [sum(relevance[:k]) / k for k in ks],
        "MAP@R": math.fsum(within_r) / relevant,
        "R-Precision": sum(relevance[:relevant]) / relevant,
        "MRR": 1 / (relevance.index(True) + 1) if any(relevance) else 0.0,
        "AP": math.fsum(at_hits) / relevant,
        "nDCG": dcg(relevance) / dcg([True] * relevant),
        "nDCG@K": [dcg(relevance[:k]) / dcg([True] * min(relevant, k)) for k in ks],
    }


@given(cases(), st.lists(st.integers(1, 45), min_size=1, max_size=4), st.sampled_from([1, 3, 10, NEVER]))
def test_every_metric_is_its_definition_on_the_sorted_gallery(case: Case, ks: list[int], returned: int) -> None:
    ranks = forget(rank_by_force(case), returned)
    relevance = case.relevance()
    wanted = [plain(row[:returned], sum(row), ks) for row in relevance]
    got = {
        "recall": recall_at_k(ranks, ks),
        "precision": precision_at_k(ranks, ks),
        "MAP@R": map_at_r(ranks),
        "R-Precision": r_precision(ranks),
        "MRR": reciprocal_rank(ranks),
        "AP": average_precision(ranks),
        "nDCG": ndcg(ranks),
        "nDCG@K": np.stack([ndcg(ranks, k) for k in ks], axis=1),
    }
    assert got["recall"].dtype == bool
    for name, values in got.items():
        np.testing.assert_allclose(values, [row[name] for row in wanted], **CLOSE, err_msg=name)
        assert values.dtype in (np.float64, bool)
        assert np.all((values >= 0) & (values <= 1 + 1e-12)), name
    for upto in (1, ks[0], 50):
        wanted = [np.mean([any(row[:returned][:k]) for row in relevance]) for k in range(1, upto + 1)]
        np.testing.assert_allclose(cmc(ranks, upto), wanted, **CLOSE)


def test_the_cases_are_what_they_are_called() -> None:
    """Ties, duplicates, single relevant images and long tails are really there, in both protocols."""
    for leave_one_out in (True, False):
        made = {kind: make_case(kind, 3, images=36, leave_one_out=leave_one_out) for kind in KINDS}
        for kind in ("tied", "duplicated"):
            row = made[kind].similarities[0]
            assert len(np.unique(row)) < len(row) / 2
            # Some tie is between a relevant image and another, so that breaking it by id matters.
            relevant = made[kind].gallery_labels == made[kind].query_labels[0]
            assert set(row[relevant]) & set(row[~relevant])
        assert (rank_by_force(made["single-image classes"]).relevant == 1).all()
        counts = np.bincount(made["long-tailed"].query_labels)
        assert counts.max() > 2.5 * np.median(counts[counts > 0])
        assert len(np.unique(made["random"].query_labels)) > 3


@given(cases())
def test_metrics_agree_with_scikit_learn(case: Case) -> None:
    ranks = rank_by_force(case)
    precision, full, cut = average_precision(ranks), ndcg(ranks), ndcg(ranks, 5)
    for query, row in enumerate(case.relevance()):
        falling = -np.arange(len(row), dtype=float)  # what the ranking says, ties already broken
        assert precision[query] == pytest.approx(average_precision_score(row, falling), abs=1e-9)
        for k, values in ((None, full), (5, cut)):
            wanted = ndcg_score([np.array(row, dtype=float)], [falling], k=k, ignore_ties=True)
            assert values[query] == pytest.approx(wanted, abs=1e-9)


@given(cases("random", "single-image classes", "long-tailed"), st.sampled_from([None, "max_bin_count"]))
def test_metrics_agree_with_pytorch_metric_learning(case: Case, k: str | None) -> None:
    """Its calculator ranks by float32 distance and breaks ties as they fall, so ties are left to the tests above."""
    calculator = _calculator(k)
    queries, gallery = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in case.vectors)
    similarities = queries.astype(np.float64) @ gallery.astype(np.float64).T
    assume(np.diff(np.sort(similarities, axis=1), axis=1).min() > 1e-5)
    case = Case(similarities, case.query_labels, case.gallery_labels, case.query_ids, case.gallery_ids, case.vectors)
    itself = {id: place for place, id in enumerate(case.gallery_ids.tolist())}
    own = [itself[id] for id in case.query_ids.tolist() if id in itself]
    rest = sorted(set(range(len(gallery))) - set(own))
    order = [*own, *rest]  # its queries stand first in its gallery where they are part of it
    ranks = rank_by_force(case)
    theirs = calculator.get_accuracy(
        queries, case.query_labels, gallery[order], case.gallery_labels[order], ref_includes_query=bool(own)
    )
    ours = {
        "precision_at_1": precision_at_k(ranks, [1])[:, 0],
        "r_precision": r_precision(ranks),
        "mean_average_precision_at_r": map_at_r(ranks),
    }
    if k is None:
        ours["mean_average_precision"] = average_precision(ranks)
        ours["mean_reciprocal_rank"] = reciprocal_rank(ranks)
    # Its reciprocal ranks are float32; everything else is float64.
    for name, values in ours.items():
        _, _, means = by_class(values[:, None], case.query_labels)
        close = 1e-6 if name == "mean_reciprocal_rank" else 1e-9
        np.testing.assert_allclose(means[:, 0], theirs[name], rtol=0, atol=close, err_msg=name)


def _calculator(k: str | None) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is none of ours
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    logging.getLogger("PML").setLevel(logging.ERROR)
    return AccuracyCalculator(exclude=("NMI", "AMI"), return_per_class=True, k=k, device=torch.device("cpu"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_means_are_those_of_a_plain_loop(seed: int, queries: int, words: bool) -> None:
    rng = np.random.default_rng(seed)
    values, labels = rng.random((queries, 3)), rng.zipf(1.5, queries) % 7
    if words:
        labels = np.array(["cat", "dog", "Ash", "elm", "box", "yew", "ox"])[labels]
    classes, counts, means = by_class(values, labels)
    assert classes.tolist() == sorted(set(labels.tolist()))
    for name, count, mean in zip(classes, counts, means, strict=True):
        rows = [row for row, label in zip(values.tolist(), labels, strict=True) if label == name]
        assert count == len(rows)
        np.testing.assert_allclose(mean, [math.fsum(column) / len(rows) for column in np.transpose(rows)], **CLOSE)


def test_a_query_without_a_relevant_image_is_a_mistake_of_the_caller() -> None:
    ranks = Ranks(np.array([0, 1, 1]), np.array([3]), np.array([0]), np.array([5, 5]))
    for metric in (map_at_r, r_precision, reciprocal_rank, average_precision, ndcg):
        with pytest.raises(AssertionError):
            metric(ranks)
    for metric in (recall_at_k, precision_at_k):
        with pytest.raises(AssertionError):
            metric(ranks, [1])


def test_no_query_gives_no_value() -> None:
    ranks = Ranks(np.zeros(1, np.int64), *(np.zeros(0, np.int64) for _ in range(3)))
    for metric in (map_at_r, r_precision, reciprocal_rank, average_precision, ndcg):
        assert metric(ranks).shape == (0,)
    assert recall_at_k(ranks, [1, 2]).shape == precision_at_k(ranks, [1, 2]).shape == (0, 2)
