"""Classification by the vote of neighbours against the same thing written plainly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from retrieval.errors import InputError
from retrieval.evaluation import Question
from retrieval.labelled import Labelled
from retrieval.pairing import scores as scores_of
from retrieval.recognition import PREDICTIONS_SCHEMA, VOTERS, recognise

QUESTION = Question("t", "p", task="classification")


def clouds(n: int, classes: int, seed: int, *, extra: int = 0) -> Labelled:
    centres = np.random.default_rng(0).normal(size=(classes + extra, 12))
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes + extra, n)
    vectors = centres[codes] + rng.normal(scale=1.2, size=(n, 12))
    return Labelled(vectors.astype(np.float32), [f"{seed}-{i}" for i in range(n)], [f"c{code:02d}" for code in codes])


def test_votes_figures_and_table_equal_the_plain_way() -> None:
    train, test = clouds(300, 9, 1), clouds(150, 9, 2, extra=2)
    report, table = recognise(test, train, question=QUESTION, embedder={})
    classes = sorted(set(train.labels) | set(test.labels))
    unit = [
        (side.vectors / np.linalg.norm(side.vectors, axis=1, keepdims=True)).astype(np.float64)
        for side in (test, train)
    ]
    truth, predicted, places, confidences = [], [], [], []
    for at, label in enumerate(test.labels):
        if label not in train.labels:
            continue
        similarity = unit[1] @ unit[0][at]
        near = sorted(range(300), key=lambda place: -similarity[place])[:VOTERS]
        votes = Counter()
        for place in near:
            votes[train.labels[place]] += np.exp(similarity[place] / 0.07)
        total = sum(votes.values())
        shares = {name: votes[name] / total for name in classes}
        best = min(classes, key=lambda name: (-shares[name], name))
        truth.append(label)
        predicted.append(best)
        confidences.append(shares[best])
        better = sorted((name for name in classes if shares[name] > 0), key=lambda name: (-shares[name], name))
        places.append(better.index(label) + 1 if label in better else None)
    assert report.queries == len(truth) and report.left_out == 150 - len(truth) > 0
    by_id = {row["id"]: row for row in table.to_pylist()}
    measured = [id for id, label in zip(test.ids, test.labels, strict=True) if label in train.labels]
    assert table.schema.equals(PREDICTIONS_SCHEMA)
    assert [by_id[id]["predicted"] for id in measured] == predicted
    assert [by_id[id]["place"] for id in measured] == places
    assert [by_id[id]["confidence"] for id in measured] == pytest.approx(confidences, abs=1e-5)
    assert report.figure("Top-1 accuracy").value == pytest.approx(np.mean(np.equal(truth, predicted)))
    assert None in places  # a class that nobody voted for
    top = [place is not None and place <= 5 for place in places]
    assert report.figure("Top-5 accuracy").value == pytest.approx(np.mean(top))
    by_query = scores_of(table, [])
    assert {name: values.mean() for name, values in by_query.items()} == pytest.approx(
        {figure.name: figure.value for figure in report.figures if "accuracy" in figure.name}
    )
    scores = {"precision": precision_score, "recall": recall_score, "F1": f1_score}
    for name, score in scores.items():
        macro = score(truth, predicted, average="macro", zero_division=0)
        assert report.figure(f"Macro {name}").value == pytest.approx(macro, abs=1e-12)
    wrong = Counter((t, p) for t, p in zip(truth, predicted, strict=True) if t != p)
    assert {(t, p): n for t, p, n in report.classification.confused} == dict(wrong.most_common(50))
    assert [n for *_, n in report.classification.confused] == sorted(wrong.values(), reverse=True)[:50]
    assert sum(n for *_, n in report.classification.bins) == len(truth)
    assert 0 <= report.classification.calibration_error <= 1
    assert "20 nearest training images" in report.protocol


def test_a_class_that_nobody_voted_for_is_not_among_the_first_five() -> None:
    train = Labelled(np.ones((30, 2), np.float32), [f"t{i}" for i in range(30)], ["z"] * 28 + ["a", "b"])
    train.vectors[28:] = [[-1, 0], [0, -1]]
    test = Labelled(np.ones((4, 2), np.float32), list("efgh"), ["a", "b", "a", "z"])
    report, table = recognise(test, train, question=QUESTION, embedder={})
    assert report.figure("Top-1 accuracy").value == report.figure("Top-5 accuracy").value == 0.25
    assert table.column("place").to_pylist() == [None, None, None, 1]
    assert scores_of(table, [])["Top-5 accuracy"].tolist() == [0, 0, 0, 1]


def test_votes_are_counted_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = clouds(80, 5, 1), clouds(40, 5, 2)
    whole = recognise(test, train, question=QUESTION, embedder={})[1]
    monkeypatch.setattr("retrieval.recognition.NUMBERS", 11)
    assert recognise(test, train, question=QUESTION, embedder={})[1].equals(whole)


def test_classes_without_training_images_only_are_refused() -> None:
    test = Labelled(np.eye(3, dtype=np.float32), list("abc"), ["x", "y", None])
    train = Labelled(np.eye(3, dtype=np.float32), list("def"), ["z", "z", "z"])
    with pytest.raises(InputError, match="there is nothing to measure"):
        recognise(test, train, question=QUESTION, embedder={})
