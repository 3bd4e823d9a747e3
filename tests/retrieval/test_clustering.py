"""NMI and AMI of k-means against the libraries, and the same on any number of threads."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from threadpoolctl import threadpool_limits

from retrieval.clustering import clustering_quality
from tests.retrieval.rankings import KINDS, make_case


def entropy(counts: Counter) -> float:
    total = sum(counts.values())
    return -math.fsum(count / total * math.log(count / total) for count in counts.values())


def plain_nmi(first: list[int], second: list[int]) -> float:
    both = entropy(Counter(zip(first, second, strict=True)))
    alone = entropy(Counter(first)), entropy(Counter(second))
    return (sum(alone) - both) / (sum(alone) / 2) if sum(alone) else 1.0


def gathered(seed: int, spread: float, *, classes: int = 8, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around the centres of their classes, the farther the larger ``spread``; the classes are words."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    vectors = np.eye(64)[codes] + spread * rng.standard_normal((images, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors, np.array([f"class {code}" for code in codes])


@settings(max_examples=15)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 50]))
def test_quality_is_that_of_scikit_learn_s_clusters(kind: str, seed: int, most: int) -> None:
    case = make_case(kind, seed)
    vectors, labels = case.vectors[0], case.query_labels
    got = clustering_quality(vectors, labels, seeds=(3, 0), iterations=most)
    assert (got.clusters, got.seeds) == (len(set(labels.tolist())), (3, 0))
    for place, own in enumerate((3, 0)):
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            kmeans = sklearn.cluster.KMeans(got.clusters, init="random", n_init=1, max_iter=most, random_state=own)
            found = kmeans.fit(vectors).labels_.tolist()
        assert got.nmi[place] == pytest.approx(plain_nmi(labels.tolist(), found), abs=1e-9)
        assert got.iterations[place] == kmeans.n_iter_ <= most
        # Adjusted: 0 where clusters agree with classes no more than shuffled ones do.
        adjusted = sklearn.metrics.adjusted_mutual_info_score(labels, found)
        assert got.ami[place] == pytest.approx(adjusted, abs=1e-9)
    assert (got.mean_nmi, got.mean_ami) == pytest.approx((sum(got.nmi) / 2, sum(got.ami) / 2), abs=1e-12)


def test_quality_agrees_with_pytorch_metric_learning() -> None:
    """Its calculator takes any k-means: given the same clusters, the same figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is none of ours
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    def kmeans(vectors: torch.Tensor, clusters: int) -> torch.Tensor:
        with threadpool_limits(1):
            made = sklearn.cluster.KMeans(clusters, init="random", n_init=1, max_iter=50, random_state=0)
            return torch.from_numpy(made.fit(vectors.numpy()).labels_)

    calculator = AccuracyCalculator(include=("NMI", "AMI"), kmeans_func=kmeans, device=torch.device("cpu"))
    vectors, labels = gathered(0, 0.15)
    theirs = calculator.get_accuracy(vectors, np.unique(labels, return_inverse=True)[1])
    ours = clustering_quality(vectors, labels, seeds=(0,))
    assert (ours.mean_nmi, ours.mean_ami) == pytest.approx((theirs["NMI"], theirs["AMI"]), abs=1e-9)
    assert 0.3 < ours.mean_ami < ours.mean_nmi < 0.95


def test_gathered_classes_are_found_and_random_vectors_score_nothing_adjusted() -> None:
    vectors, labels = gathered(0, 0.0)
    assert max(clustering_quality(vectors, labels, seeds=range(8)).ami) > 0.75
    vectors, labels = gathered(0, 50.0, classes=60, images=180)
    random = clustering_quality(vectors, labels)
    assert random.mean_nmi > 0.6  # three images a class: NMI is no measure of anything here
    assert abs(random.mean_ami) < 0.1


def test_quality_is_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = gathered(1, 0.2, classes=16, images=3000)
    threads = []
    fit = sklearn.cluster.KMeans.fit

    def watched(self: sklearn.cluster.KMeans, *args: object) -> object:
        threads.append(_openmp_effective_n_threads())
        return fit(self, *args)

    monkeypatch.setattr(sklearn.cluster.KMeans, "fit", watched)
    before = vectors.copy()
    with threadpool_limits(4):
        allowed = _openmp_effective_n_threads()
        first = clustering_quality(vectors, labels)
        assert clustering_quality(vectors, labels) == first
        assert _openmp_effective_n_threads() == allowed  # the caller's own threads are left as they were
    with threadpool_limits(1):
        assert clustering_quality(vectors, labels) == first
    monkeypatch.setattr("retrieval.clustering.cores", lambda: 1)
    assert clustering_quality(vectors, labels) == first
    assert threads == [1] * 12
    np.testing.assert_array_equal(vectors, before)


def test_images_that_are_all_the_same_or_of_one_class_warn_of_nothing() -> None:
    same = clustering_quality(np.ones((6, 4), np.float32), np.array([0, 0, 1, 1, 2, 2]))
    assert (same.clusters, same.mean_nmi, same.mean_ami) == (3, 0, 0)
    alone = clustering_quality(gathered(0, 1.0)[0], np.zeros(60))
    assert (alone.clusters, alone.mean_nmi, alone.mean_ami) == (1, 1, 1)
    apart = clustering_quality(gathered(0, 1.0)[0], np.arange(60))
    assert (apart.clusters, apart.mean_nmi) == (60, pytest.approx(1))
