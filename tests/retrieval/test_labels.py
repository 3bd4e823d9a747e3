"""Labels by vote, head and fusion: what holds for any crowd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.classification import softmax
from retrieval.evidence import LabelledGallery, gather
from retrieval.labels import FUSION, SOURCES, Vocabulary, Voting, Weights, of_head, probabilities, vote
from retrieval.recognition import KNN
from tests.retrieval.crowds import crowd

VOTINGS = st.builds(
    Voting,
    k=st.integers(1, 30),
    temperature=st.sampled_from([0.01, 0.07, 0.2]),
    background=st.sampled_from([-0.5, 0.0, 0.6]),
    tail=st.sampled_from([0.0, 0.5, 1.0]),
    same_from=st.sampled_from([0.8, 0.999]),
)


def vocabulary_of(gallery: LabelledGallery, head: tuple[str, ...] = ()) -> Vocabulary:
    return Vocabulary.of(gallery.labels, gallery.counts, head)


@given(st.integers(0, 500), VOTINGS)
def test_the_order_of_the_items_changes_nothing(seed: int, voting: Voting) -> None:
    gallery, queries = crowd(seed), crowd(seed + 1, each=3).vectors
    order = np.random.default_rng(seed).permutation(len(gallery.codes))
    shuffled = replace(gallery, vectors=gallery.vectors[order], codes=gallery.codes[order])
    ours, theirs = (vote(gather(queries, some), vocabulary_of(gallery), voting) for some in (gallery, shuffled))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@given(st.integers(0, 500), VOTINGS, st.floats(0, 2), st.floats(0, 2))
def test_probabilities_sum_to_one(seed: int, voting: Voting, of_vote: float, of_the_head: float) -> None:
    gallery, queries = crowd(seed), crowd(seed + 1, each=3).vectors
    rng = np.random.default_rng(seed)
    head = (*gallery.labels[:3], "nobody has this")
    evidence = gather(queries, gallery, logits=rng.normal(size=(len(queries), 4)).astype(np.float32))
    found = probabilities(evidence, vocabulary_of(gallery, head), voting, Weights(of_vote, of_the_head))
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)


@given(st.integers(0, 500))
def test_a_vote_by_hand(seed: int) -> None:
    gallery, queries = crowd(seed, classes=4, each=5), crowd(seed + 1, classes=4, each=2).vectors
    voting = Voting(k=7, temperature=0.1, background=0.2, tail=0.5, same_from=0.95)
    found = vote(gather(queries, gallery), vocabulary_of(gallery), voting)
    for row, query in enumerate(queries):
        similar = (gallery.vectors.astype(np.float64) @ query.astype(np.float64)).tolist()
        voters: list[int] = []
        seen: list[int] = []
        for at in sorted(range(len(similar)), key=lambda at: -similar[at]):
            alike = [gallery.vectors[at] @ gallery.vectors[o] for o in seen if gallery.codes[o] == gallery.codes[at]]
            seen.append(at)
            if max(alike, default=-1.0) < 0.95 and len(voters) < 7:
                voters.append(at)
        sums = [np.exp(0.2 / 0.1) / 4] * 4
        for at in voters:
            sums[gallery.codes[at]] += np.exp(similar[at] / 0.1) / np.sqrt(gallery.counts[gallery.codes[at]])
        np.testing.assert_allclose(found[row], np.array(sums) / sum(sums), rtol=1e-4)


def test_one_item_a_class_is_enough() -> None:
    whole = crowd(0)
    first = [int(np.flatnonzero(whole.codes == code)[0]) for code in range(8)]
    gallery = replace(whole, vectors=whole.vectors[first], codes=whole.codes[first])
    found = vote(gather(gallery.vectors, gallery), vocabulary_of(gallery), Voting())
    assert found.argmax(axis=1).tolist() == list(range(8))


def test_a_new_item_is_a_new_class_at_once() -> None:
    gallery = crowd(0, classes=4)
    stranger = -gallery.vectors[:1]
    grown = LabelledGallery(
        np.concatenate([gallery.vectors, stranger]), np.append(gallery.codes, 4), [*gallery.labels, "new"]
    )
    found = vote(gather(stranger, grown), vocabulary_of(grown), Voting())
    assert found.argmax(axis=1).tolist() == [4]


def test_far_from_everything_the_vote_is_even() -> None:
    gallery = crowd(0, classes=4, noise=0.05)
    far = -gallery.vectors.mean(axis=0, keepdims=True)
    near, away = (
        vote(gather(some.astype(np.float32), gallery), vocabulary_of(gallery), Voting(background=0.3)).max()
        for some in (gallery.vectors[:1], far / np.linalg.norm(far))
    )
    assert near > 0.9
    assert away < 0.5


def test_the_head_leaves_new_classes_to_the_vote() -> None:
    gallery = crowd(0, classes=4)
    logits = np.array([[2.0, 0.0, -1.0, 9.0]], np.float32)
    head = (gallery.labels[2], gallery.labels[0], "gone", "gone too")
    vocabulary = vocabulary_of(gallery, head)
    votes = np.array([[0.1, 0.2, 0.3, 0.4]])
    evidence = gather(gallery.vectors[:1], gallery, logits=logits)
    found = of_head(evidence, vocabulary, votes)
    assert found[0, [1, 3]].tolist() == pytest.approx([0.2, 0.4])
    assert found[0, [2, 0]].tolist() == pytest.approx((0.4 * softmax(logits[:, :2]))[0].tolist())


def test_sources_are_those_that_there_are() -> None:
    gallery = crowd(0, classes=4)
    assert vocabulary_of(gallery).sources == (KNN,)
    assert vocabulary_of(gallery, ("elsewhere", gallery.labels[0])).sources == (KNN,)  # one class tells nothing apart
    assert vocabulary_of(gallery, tuple(gallery.labels[:2])).sources == SOURCES
    assert SOURCES[0] == FUSION
