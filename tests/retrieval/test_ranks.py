"""Ranks of relevant images against a ranking made plainly, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import crowd_scan, full_ranking, rank_scan
from retrieval.errors import InputError
from retrieval.neighbours import Budget
from retrieval.ranks import Ranks, relevant_ranks
from retrieval.shortlist import pair_similarities


def plainly(queries, gallery, query_labels, gallery_labels, query_ids, gallery_ids) -> list[list[tuple[int, int]]]:
    """(rank, place) of each query's relevant images, by sorting all pairs."""
    answer = []
    for query, label, id in zip(queries, query_labels, query_ids, strict=True):
        repeated = np.repeat(query[None].astype(np.float32), len(gallery), axis=0)
        similarities = pair_similarities(repeated, gallery.astype(np.float32))
        places = [place for place in range(len(gallery)) if gallery_ids[place] != id]
        places.sort(key=lambda place: (-similarities[place], gallery_ids[place]))
        answer.append([(rank, place) for rank, place in enumerate(places, 1) if gallery_labels[place] == label])
    return answer


def as_lists(found: Ranks) -> list[list[tuple[int, int]]]:
    pairs = list(zip(found.ranks.tolist(), found.places.tolist(), strict=True))
    return [pairs[start:stop] for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, d = draw(st.integers(1, 60)), draw(st.integers(1, 20)), draw(st.sampled_from([1, 3, 16, 130, 257]))
    gallery = rng.standard_normal((m, d)).astype(np.float32)
    kind = draw(st.sampled_from(["random", "tied", "duplicated", "nearly", "short"]))
    if kind == "tied":
        gallery = np.sign(gallery)
    elif kind == "duplicated":
        gallery = gallery[rng.integers(0, max(1, m // 6), m)]
    elif kind == "nearly":  # as close as float32 can tell apart, or not
        gallery = gallery[:1] + rng.integers(-2, 3, (m, d)).astype(np.float32) * np.float32(2**-23)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    if kind == "short":  # down to nothing
        gallery *= np.float32(10.0) ** -rng.integers(0, 60, (m, 1)).astype(np.float32)
    classes = draw(st.sampled_from([1, 2, 7, 100]))
    labels = (rng.pareto(1, m) % classes).astype(np.int64) - draw(st.booleans())
    ids = rng.permutation(1000)[:m]
    chosen = rng.integers(0, m, n)
    queries = gallery[chosen] if draw(st.booleans()) else np.roll(gallery, 1, axis=1)[chosen]
    query_ids = ids[chosen] if draw(st.booleans()) else ids[chosen] + 1000
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    return queries.astype(dtype), gallery.astype(dtype), np.maximum(labels[chosen], 0), labels, query_ids, ids


@settings(max_examples=300, deadline=None)
@given(
    problems(),
    st.sampled_from([0, 3, 32]),
    st.sampled_from(["cpu", "torch-cpu"]),
    st.sampled_from([None, 8, 24]),
    st.sampled_from([8, 24, 1024]),
    st.sampled_from([3, 64, 1 << 14]),
)
def test_ranks_are_those_of_a_plain_sort(problem, counted, device, tile, width, bins):
    queries, gallery, query_labels, gallery_labels, query_ids, gallery_ids = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_ranking, "COUNTED", counted)
        patch.setattr(full_ranking, "WIDTH", width)
        patch.setattr(rank_scan, "DOUBTS", 16)
        patch.setattr(crowd_scan, "DOUBTS", 16)
        patch.setattr(crowd_scan, "BINS", bins)
        found = relevant_ranks(
            queries,
            gallery,
            query_labels,
            gallery_labels,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            device=device,
            budget=Budget(tile=tile),
        )
    assert as_lists(found) == plainly(*problem)
    assert found.candidates.tolist() == [len(gallery) - (id in gallery_ids) for id in query_ids]


@pytest.mark.parametrize("counted", [0, 1000])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_queries_on_several_threads(counted, threads, monkeypatch):
    monkeypatch.setattr(full_ranking, "COUNTED", counted)
    monkeypatch.setattr(full_ranking, "SMALL", 0)
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((900, 40)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[300:600] = vectors[:300]
    labels, ids = rng.integers(0, 60, 900), rng.permutation(900)
    seen = []
    found = relevant_ranks(
        vectors, vectors, labels, labels, query_ids=ids, gallery_ids=ids,
        budget=Budget(threads=threads), progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert as_lists(found) == plainly(vectors, vectors, labels, labels, ids, ids)
    assert seen[-1] == (900, 900)


def test_more_than_a_byte_counts(monkeypatch):
    # Truth values are summed in bytes, 255 at a time.
    gallery = np.ones((2000, 4), np.float32) / 2
    gallery[-1] = [1, 0, 0, 0]
    labels = np.zeros(2000, np.int64)
    labels[-1] = 1
    found = relevant_ranks(
        gallery[:1], gallery, labels[-1:], labels, query_ids=np.array([5000]), gallery_ids=np.arange(2000)
    )
    assert as_lists(found) == [[(2000, 1999)]]


def test_what_does_not_fit_is_refused():
    unit, none, labels = np.eye(4, dtype=np.float32), np.empty((0, 4), np.float32), np.zeros(4, np.int64)
    ids = np.arange(4)
    given = {"query_ids": ids, "gallery_ids": ids}
    with pytest.raises(InputError, match="same id"):
        relevant_ranks(unit, unit, labels, labels, query_ids=ids, gallery_ids=labels)
    with pytest.raises(InputError, match="query_labels must not be negative"):
        relevant_ranks(unit, unit, labels - 1, labels, **given)
    with pytest.raises(InputError, match="gallery_ids must not be negative"):
        relevant_ranks(unit, unit, labels, labels, query_ids=ids, gallery_ids=ids - 1)
    with pytest.raises(InputError, match="dimension 4 and the gallery has 3"):
        relevant_ranks(unit, unit[:, :3], labels, labels, **given)
    with pytest.raises(InputError, match="the gallery holds infinite"):
        relevant_ranks(unit, np.full_like(unit, np.nan), labels, labels, **given)
    with pytest.raises(InputError, match="the queries hold infinite"):
        relevant_ranks(np.full_like(unit, np.inf), unit, labels, labels, **given)
    with pytest.raises(InputError, match="query_labels must be"):
        relevant_ranks(unit, unit, labels[:3], labels, **given)
    empty = relevant_ranks(none, unit, labels[:0], labels, query_ids=ids[:0], gallery_ids=ids)
    assert len(empty) == 0 and len(empty.ranks) == 0
    alone = relevant_ranks(unit, none, labels, labels[:0], query_ids=ids, gallery_ids=ids[:0])
    assert alone.relevant.tolist() == [0, 0, 0, 0] and alone.candidates.tolist() == [0, 0, 0, 0]
