"""The embedding map: neighbours stay neighbours, small classes are not crowded out, nothing moves between runs."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.projection import embedding_map, spread_over_classes


def test_clouds_stay_apart_and_a_second_run_is_the_same() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 20))
    codes = np.repeat(np.arange(4), 25)
    vectors = centres[codes] + rng.normal(scale=0.1, size=(100, 20))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    layout = embedding_map(vectors)
    assert layout.shape == (100, 2) and layout.min() == 0 and layout.max() == 1
    distances = np.linalg.norm(layout[:, None] - layout, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (codes[distances.argmin(axis=1)] == codes).all()
    assert np.array_equal(layout, embedding_map(vectors))


@pytest.mark.parametrize("n", [0, 4, 5, 6])
def test_few_or_equal_vectors_are_no_trouble(n: int) -> None:
    layout = embedding_map(np.ones((n, 3), np.float32))
    assert layout.shape == (n if n >= 5 else 0, 2) and np.isfinite(layout).all()
    assert np.isfinite(embedding_map(np.eye(max(n, 5), 2, dtype=np.float32) + 1)).all()


def test_every_class_is_on_the_map_before_a_large_one_fills_it() -> None:
    labels = np.array([0] * 100 + [1] * 3 + [2] * 2)
    chosen = spread_over_classes(labels, 12)
    assert np.bincount(labels[chosen]).tolist() == [7, 3, 2]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert spread_over_classes(labels, 1000).tolist() == list(range(105))
