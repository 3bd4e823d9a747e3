"""Calibration: what it is fitted to, and that it comes back from JSON as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from retrieval.answers import LABEL, NONE, UNSURE, Asked, answer
from retrieval.calibration import Calibration, Held, fit, hold
from retrieval.classification import calibration_error
from retrieval.conformal import sets
from retrieval.errors import InputError
from retrieval.evidence import LabelledGallery, gather
from retrieval.labels import FUSION, HEAD, KNN, Vocabulary, Voting, probabilities
from tests.retrieval.crowds import crowd, unit

NOISE = 0.33


def drawn(seed: int, each: int) -> LabelledGallery:
    return crowd(seed, classes=10, each=each, noise=NOISE)


def head_logits(vectors: np.ndarray) -> np.ndarray:
    """A head that knows the middles of the first eight classes, and is far too sure."""
    middles = unit(np.random.default_rng(0).normal(size=(10, vectors.shape[1])))
    return (40 * vectors @ middles[:8].T).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> tuple[LabelledGallery, Vocabulary, Held, Calibration]:
    gallery = drawn(1, 30)
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts, tuple(gallery.labels[:8]))
    asked = drawn(2, 60)
    held = hold(asked.vectors, asked.codes, gallery, vocabulary, logits=head_logits(asked.vectors))
    return gallery, vocabulary, held, fit(held, vocabulary)


def test_confidence_can_be_believed(world: tuple[LabelledGallery, Vocabulary, Held, Calibration]) -> None:
    gallery, vocabulary, _, fitted = world
    others = drawn(3, 200)
    evidence = gather(others.vectors, gallery, logits=head_logits(others.vectors))
    error, accuracy = {}, {}
    for source in vocabulary.sources:
        found = fitted.numbers.probabilities(evidence, vocabulary, source)
        right = found.argmax(axis=1) == others.codes
        error[source] = calibration_error(found.max(axis=1), right).error
        accuracy[source] = right.mean()
    assert max(error.values()) < 0.06
    assert accuracy[FUSION] >= max(accuracy[KNN], accuracy[HEAD]) - 0.01
    plain = probabilities(evidence, vocabulary, Voting(), fitted.numbers.weights[KNN])
    raw = np.log(np.take_along_axis(plain, others.codes[:, None], axis=1)).mean()
    ours = fitted.numbers.probabilities(evidence, vocabulary, KNN)
    assert np.log(np.take_along_axis(ours, others.codes[:, None], axis=1)).mean() > raw
    assert fitted.losses[FUSION] <= min(fitted.losses[KNN], fitted.losses[HEAD]) + 1e-3


def test_sets_hold_the_right_label_as_often_as_asked(
    world: tuple[LabelledGallery, Vocabulary, Held, Calibration],
) -> None:
    gallery, vocabulary, _, fitted = world
    others = drawn(3, 200)
    evidence = gather(others.vectors, gallery, logits=head_logits(others.vectors))
    for source in vocabulary.sources:
        found = fitted.of_sets.nonconformities(evidence, vocabulary, source)
        within = sets(found, fitted.conformal[source].limit(0.9))
        # 277 pictures gave the limit: coverage is within 0.9 ± 0.036 in 95 of 100 draws, and measured on 1,955.
        assert 0.85 < np.take_along_axis(within, others.codes[:, None], axis=1).mean() < 0.95


def test_a_class_that_was_taken_away_is_foreign(
    world: tuple[LabelledGallery, Vocabulary, Held, Calibration],
) -> None:
    gallery, vocabulary, held, fitted = world
    assert fitted.numbers.openness.auroc > 0.85
    assert not (held.foreign.codes == held.codes[:, None]).any()
    own = vocabulary.in_head[held.codes]
    assert held.foreign.logits is not None
    for row, place in enumerate(own.tolist()):
        if place >= 0:
            assert held.foreign.logits[row, place] == -np.inf
    stranger = unit(-gallery.vectors.mean(axis=0, keepdims=True))
    table = answer(["x"], gather(stranger, gallery, logits=head_logits(stranger)), vocabulary, fitted)
    assert table.column("answer").to_pylist() == [NONE]
    assert table.column("label").to_pylist() == [None]


def test_an_items_own_picture_is_never_none_of_these(
    world: tuple[LabelledGallery, Vocabulary, Held, Calibration],
) -> None:
    gallery, vocabulary, _, fitted = world
    vectors = np.concatenate([gallery.vectors, drawn(5, 20).vectors])
    names = [str(at) for at in range(len(vectors))]
    evidence = gather(vectors, gallery, logits=head_logits(vectors))
    strict = answer(names, evidence, vocabulary, fitted, asked=Asked(false_accept=0.0)).slice(0, len(gallery.codes))
    assert NONE not in strict.column("answer").to_pylist()
    assert set(strict.column("known").to_pylist()) == {1.0}
    usual = answer(names, evidence, vocabulary, fitted).slice(len(gallery.codes))
    said = usual.column("answer").to_pylist()
    assert said.count(NONE) / len(said) < 0.1


def test_it_comes_back_from_json_as_it_was(world: tuple[LabelledGallery, Vocabulary, Held, Calibration]) -> None:
    _, vocabulary, held, fitted = world
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert fit(held, vocabulary) == fitted  # and is the same again
    assert fit(held, vocabulary, seed=1) != fitted


def test_too_few_pictures_are_told(world: tuple[LabelledGallery, Vocabulary, Held, Calibration]) -> None:
    _, vocabulary, held, _ = world
    some = np.arange(19)
    few = Held(held.evidence.take(some), held.codes[some], held.foreign.take(some))
    with pytest.raises(InputError, match="needs 20 held-out pictures of labels that the catalogue has; there are 19"):
        fit(few, vocabulary)
    strange = replace(held, codes=np.full(len(held.codes), -1))
    with pytest.raises(InputError, match="there are 0"):
        fit(strange, vocabulary)


def test_the_answer_is_as_deep_as_it_is_sure(world: tuple[LabelledGallery, Vocabulary, Held, Calibration]) -> None:
    gallery, vocabulary, _, fitted = world
    others = drawn(4, 20)
    names = [str(at) for at in range(len(others.codes))]
    evidence = gather(others.vectors, gallery, logits=head_logits(others.vectors))
    asked = Asked(confidence=0.7, false_accept=1.0, coverage=0.9)
    rows = answer(names, evidence, vocabulary, fitted, asked=asked).to_pylist()
    depths = set()
    for row in rows:
        assert row["answer"] in (LABEL, UNSURE)
        first = row["candidates"][0]
        assert row["set"] == [] or row["set"][0] == first["label"] or len(row["set"]) > 0
        if row["answer"] == LABEL:
            assert row["confidence"] >= 0.7
            assert row["likeliest"].startswith(row["label"])
            depths.add(row["label"].count("/"))
        else:
            assert row["label"] is None and row["confidence"] is None
    assert depths == {0, 1}  # some only as far as the kind
    sure = answer(names, evidence, vocabulary, fitted, asked=Asked(confidence=0.99, false_accept=1.0)).to_pylist()
    assert sum(row["answer"] == UNSURE for row in sure) > sum(row["answer"] == UNSURE for row in rows)
    assert all(row["set"] is None for row in sure)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(confidence=0.0), "confidence must be above 0"),
        (Asked(false_accept=1.5), "false accepts must be from 0 to 1"),
        (Asked(coverage=1.0), "coverage must be above 0 and below 1"),
        (Asked(coverage=0.9999), "need 9,999 pictures"),
        (Asked(by_label=True), "need a coverage"),
        (Asked(source="crystal"), "there is no source 'crystal'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_asked_for(
    world: tuple[LabelledGallery, Vocabulary, Held, Calibration], asked: Asked, said: str
) -> None:
    gallery, vocabulary, _, fitted = world
    evidence = gather(gallery.vectors[:2], gallery, logits=head_logits(gallery.vectors[:2]))
    with pytest.raises(InputError, match=said):
        answer(["a", "b"], evidence, vocabulary, fitted, asked=asked)


def test_without_a_head_there_is_only_the_vote() -> None:
    gallery, asked = drawn(1, 30), drawn(2, 20)
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts)
    fitted = fit(hold(asked.vectors, asked.codes, gallery, vocabulary), vocabulary)
    assert set(fitted.conformal) == set(fitted.losses) == {KNN}
    with pytest.raises(InputError, match="need an embedder with a classifier head"):
        answer(["a"], gather(asked.vectors[:1], gallery), vocabulary, fitted, asked=Asked(source=HEAD))
