"""The whole of Recall@K against a direct computation that shares nothing with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.evaluation import Labelled, evaluate

CARD = {"digest": "0" * 64}


def direct(queries: Labelled, gallery: Labelled, ks: tuple[int, ...]) -> tuple[dict[int, float], int, int, int]:
    """Recall@K the slow way: Python loops, sorting by (similarity, id)."""
    hits = dict.fromkeys(ks, 0)
    measured = left_out = unlabelled = 0
    for vector, id, label in zip(queries.vectors, queries.ids, queries.labels, strict=True):
        if label is None:
            unlabelled += 1
            continue
        others = [place for place, other in enumerate(gallery.ids) if other != id]
        if not any(gallery.labels[place] == label for place in others):
            left_out += 1
            continue
        measured += 1
        # Rounded as a float32 is, so that equal vectors are equal here too.
        similarity = {p: float(np.float32(np.dot(unit(gallery.vectors[p]), unit(vector)))) for p in others}
        ranked = sorted(others, key=lambda place: (-similarity[place], gallery.ids[place]))
        for k in ks:
            hits[k] += any(gallery.labels[place] == label for place in ranked[:k])
    recall = {k: hits[k] / measured for k in ks} if measured else {}
    return recall, measured, left_out, unlabelled


def unit(vector: np.ndarray) -> np.ndarray:
    wide = vector.astype(np.float32)
    return (wide / np.linalg.norm(wide)).astype(np.float64)


@st.composite
def labelled(draw: st.DrawFn, prefix: str, size: st.SearchStrategy[int]) -> Labelled:
    count = draw(size)
    # A few directions, often repeated, make ties; the labels include single-image classes and none at all.
    directions = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    vectors = directions[draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))]
    labels = draw(st.lists(st.sampled_from([None, "a", "a/b", "c", "d"]), min_size=count, max_size=count))
    ids = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count, unique=True))
    return Labelled(vectors, [f"{prefix}{id:02d}" for id in ids], labels)


@given(queries=labelled("", st.integers(1, 12)), gallery=labelled("", st.integers(1, 14)), loo=st.booleans())
def test_recall_counts_and_ties_equal_the_slow_way(queries: Labelled, gallery: Labelled, loo: bool) -> None:
    ks = (1, 2, 4)
    if loo:
        queries = gallery
    recall, measured, left_out, unlabelled = direct(queries, gallery, ks)
    if not measured:
        with pytest.raises(InputError, match="there is nothing to measure"):
            evaluate(queries, gallery, protocol="p", embedder=CARD, ks=ks)
        return
    report = evaluate(queries, gallery, protocol="p", embedder=CARD, ks=ks)
    assert report.recall == pytest.approx(recall, abs=1e-9)
    assert (report.queries, report.left_out, report.unlabelled) == (measured, left_out, unlabelled)
    assert report.queries + report.left_out + report.unlabelled == len(queries.ids)
    for k, (low, high) in report.interval.items():
        assert 0 <= low <= high <= 1
        assert (low <= report.recall[k] <= high) or report.classes < 5


@given(gallery=labelled("", st.integers(4, 14)), seed=st.integers(0, 9))
def test_the_order_of_the_inputs_changes_nothing(gallery: Labelled, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(gallery.ids))
    shuffled = Labelled(gallery.vectors[order], [gallery.ids[i] for i in order], [gallery.labels[i] for i in order])
    try:
        report = evaluate(gallery, gallery, protocol="p", embedder=CARD)
    except InputError:
        return
    assert evaluate(shuffled, shuffled, protocol="p", embedder=CARD).recall == report.recall


def test_float16_vectors_and_json() -> None:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, 16))
    labels = [f"class {n % 6}" for n in range(60)]
    vectors = (centres[np.arange(60) % 6] + rng.normal(scale=0.3, size=(60, 16))).astype(np.float16)
    everything = Labelled(vectors, [f"{n:03d}" for n in range(60)], labels)
    report = evaluate(everything, everything, protocol="p", embedder=CARD)
    recall, *_ = direct(everything, everything, (1, 2, 4, 8))
    assert report.recall == pytest.approx(recall)
    values = report.to_dict()
    assert set(values["recall"]) == {"1", "2", "4", "8"}
    assert values["queries"] == 60


def test_a_k_below_one_is_refused() -> None:
    some = Labelled(np.eye(2, dtype=np.float32), ["a", "b"], ["x", "x"])
    with pytest.raises(InputError, match="K must be at least 1"):
        evaluate(some, some, protocol="p", embedder=CARD, ks=(0, 1))
