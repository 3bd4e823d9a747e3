"""Classification by a head, and coarse classes of fine ones, against cases computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrieval.classification import sum_up
from retrieval.errors import InputError
from retrieval.evaluation import Question
from retrieval.labelled import Labelled
from retrieval.pairing import gains, scores
from retrieval.recognition import (
    COARSE,
    PREDICTIONS_SCHEMA,
    check_head,
    choose_classifier,
    recognise,
    recognise_by_head,
)
from retrieval.report import Report

QUESTION = Question("t", "All of them.", task="classification")
COARSER = {"Gala": "Apple", "Fuji": "Apple", "Anjou": "Pear", "Leek": "Leek"}


class Told:
    """A head that reads the probabilities from the vectors: (n, 4), which are brought to length 1 on the way."""

    classes = ("Anjou", "Fuji", "Gala", "Leek")

    def __init__(self) -> None:
        self.asked: list[int] = []

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        self.asked.append(len(vectors))
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
        shares = vectors / vectors.sum(axis=1, keepdims=True)
        return np.where(shares > 0, np.log(np.maximum(shares, 1e-30)), -np.inf)


# Anjou, Fuji, Gala, Leek
PROBABILITIES = {
    "d": ([0.4, 0.3, 0.3, 0.0], "Fuji"),  # wrong, and right up to the coarse class: 0.6 are apples
    "a": ([0.1, 0.2, 0.3, 0.4], "Leek"),  # right, and wrong up to it: 0.5 are apples
    "c": ([0.1, 0.6, 0.2, 0.1], "Fuji"),  # both right
    "b": ([0.0, 0.1, 0.8, 0.1], "Anjou"),  # both wrong
}


def queries(**changed: Any) -> Labelled:
    vectors = np.array([shares for shares, _ in PROBABILITIES.values()], np.float32)
    of: dict[str, Any] = {"vectors": vectors, "ids": list(PROBABILITIES)}
    of["labels"] = [label for _, label in PROBABILITIES.values()]
    return Labelled(**{**of, **changed})


def ask(asked: Labelled, **kept: Any) -> tuple[Report, pa.Table]:
    return recognise_by_head(asked, Told(), question=QUESTION, embedder={}, **kept)


def test_a_head_is_measured_by_its_probabilities() -> None:
    report, table = ask(queries(), coarser=COARSER)
    assert table.schema.equals(PREDICTIONS_SCHEMA)
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["predicted"] for row in rows] == ["Leek", "Gala", "Fuji", "Anjou"]
    assert [row["place"] for row in rows] == [1, None, 1, 2]
    assert [row["confidence"] for row in rows] == pytest.approx([0.4, 0.8, 0.6, 0.4])
    assert [(row["coarse_label"], row["coarse_predicted"]) for row in rows] == [
        ("Leek", "Apple"),
        ("Pear", "Apple"),
        ("Apple", "Apple"),
        ("Apple", "Apple"),
    ]
    names = ["Top-1 accuracy", "Top-5 accuracy", COARSE, "Macro precision", "Macro recall", "Macro F1"]
    assert [figure.name for figure in report.figures] == names
    values = {figure.name: figure.value for figure in report.figures}
    # Of Anjou, Fuji and Leek a query each, two and one; precision 0, 1, 0 (Gala, never right) and 1.
    assert values == pytest.approx(
        dict(zip(names, [2 / 4, 3 / 4, 2 / 4, 2 / 4, 1.5 / 4, (2 / 3 + 1) / 4], strict=True))
    )
    coarse = report.figure(COARSE)
    assert coarse.macro == pytest.approx(1 / 3) and coarse.low is not None and coarse.high is not None
    assert coarse.low <= coarse.value <= coarse.high and coarse.resolvable is not None
    assert {row.label: list(row.values) for row in report.classes} == {
        "Anjou": [0, 0, 0],
        "Fuji": [0.5, 1, 1],
        "Leek": [1, 1, 0],
    }
    assert (report.queries, report.class_count, report.gallery, report.left_out, report.unlabelled) == (4, 3, 0, 0, 0)
    assert report.protocol == "All of them; class by the embedder's own classifier head"
    assert report.classification is not None
    assert sorted(report.classification.confused) == [("Anjou", "Gala", 1), ("Fuji", "Anjou", 1)]


def test_some_queries_at_a_time_are_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(queries(), coarser=COARSER)[1]
    monkeypatch.setattr("retrieval.recognition.NUMBERS", 4)
    head = Told()
    table = recognise_by_head(queries(), head, question=QUESTION, embedder={}, coarser=COARSER)[1]
    assert table.equals(whole) and head.asked == [1, 1, 1, 1]


def test_coarse_accuracy_is_paired_query_by_query() -> None:
    report, table = ask(queries(), coarser=COARSER)
    names = [figure.name for figure in report.figures]
    assert scores(table, names)[COARSE].tolist() == [0, 0, 1, 1]
    better = ask(queries(vectors=np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]], np.float32)))
    assert COARSE not in scores(better[1], names)
    other = ask(
        queries(vectors=np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]], np.float32)),
        coarser=COARSER,
    )[1]
    (gain,) = [gain for gain in gains(names, other, table) if gain.name == COARSE]
    assert gain.difference == pytest.approx(1 - 2 / 4)
    # What was written before there were coarse classes is still read.
    old = table.drop_columns(["coarse_label", "coarse_predicted"])
    assert set(scores(old, names)) == {"Top-1 accuracy", "Top-5 accuracy"}


def test_without_coarse_classes_there_is_no_such_figure() -> None:
    report, table = ask(queries())
    assert COARSE not in [figure.name for figure in report.figures]
    assert table.column("coarse_label").null_count == table.column("coarse_predicted").null_count == 4


def test_the_vote_is_summed_up_too_and_a_class_without_a_coarse_one_is_its_own() -> None:
    def at(degrees: float) -> list[float]:
        return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]

    # One Leek next to the query, and two kinds of apple a little farther: exp(-0.0152 / 0.07) = 0.80 of its vote each.
    train = Labelled(
        np.array([at(0), at(10), at(-10), at(180)], np.float32), list("wxyz"), ["Leek", "Fuji", "Gala", None]
    )
    test = Labelled(np.array([at(0), at(0)], np.float32), list("ab"), ["Leek", "Gala"])
    coarser = {"Gala": "Apple", "Fuji": "Apple"}
    report, table = recognise(test, train, question=QUESTION, embedder={}, coarser=coarser)
    weight = np.exp((np.cos(np.radians(10)) - 1) / 0.07)
    assert table.column("predicted").to_pylist() == ["Leek", "Leek"]
    assert table.column("confidence").to_pylist() == pytest.approx([1 / (1 + 2 * weight)] * 2, abs=1e-5)
    assert table.column("coarse_label").to_pylist() == ["Leek", "Apple"]
    assert table.column("coarse_predicted").to_pylist() == ["Apple", "Apple"]
    assert report.figure("Top-1 accuracy").value == report.figure(COARSE).value == 0.5


def test_a_coarse_class_that_nobody_voted_for_is_not_recognised() -> None:
    # The 20 nearest have no label: the first class of the alphabet gets no vote either.
    vectors = np.array([[1, 0]] * 20 + [[-1, 0]], np.float32)
    train = Labelled(vectors, [f"t{at}" for at in range(21)], [None] * 20 + ["Gala"])
    test = Labelled(np.array([[1, 0]], np.float32), ["a"], ["Gala"])
    report, table = recognise(test, train, question=QUESTION, embedder={}, coarser=COARSER)
    assert table.column("coarse_predicted").to_pylist() == [None]
    assert report.figure(COARSE).value == report.figure("Top-1 accuracy").value == 0


def test_sums_are_those_of_the_columns_of_a_class() -> None:
    rng = np.random.default_rng(0)
    shares, coarser = rng.random((7, 30)), np.concatenate([np.arange(5), rng.integers(0, 5, 25)])
    expected = np.stack([shares[:, coarser == code].sum(axis=1) for code in range(5)], axis=1)
    assert sum_up(shares, coarser) == pytest.approx(expected, abs=1e-12)


def test_what_the_head_does_not_know_is_left_out() -> None:
    report, table = ask(queries(labels=["Fuji", "Durian", None, "Anjou"]))
    assert table.column("id").to_pylist() == ["b", "d"]
    assert (report.queries, report.left_out, report.unlabelled) == (2, 1, 1)
    with pytest.raises(InputError, match=r"nothing to measure: .* one of the 4 classes \(4 queries, 3 of them without"):
        ask(queries(labels=["Durian", None, None, None]))
    with pytest.raises(InputError, match="two images of the queries have the same id"):
        ask(queries(ids=["a", "b", "a", "c"]))


def test_a_head_must_tell_the_same_classes_apart() -> None:
    head = Told()
    assert check_head(head, ["Leek", "Gala", "Anjou", "Fuji"]) is head
    with pytest.raises(InputError, match=r"training images of Banana and 1 more, which it does not know"):
        check_head(head, [*head.classes, "Date", "Banana"])
    with pytest.raises(InputError, match=r"it knows Fuji, of which there are no training images; choose"):
        check_head(head, ["Leek", "Gala", "Anjou"])
    for none in (object(), type("Empty", (Told,), {"classes": ()})()):
        with pytest.raises(InputError, match="has no classifier head; choose --classifier knn"):
            check_head(none, head.classes)


@pytest.mark.parametrize(
    ("wanted", "provenance", "chosen"),
    [
        ("auto", {"training": {"classifier": "head"}}, "head"),
        ("auto", {"training": {"classifier": "knn"}}, "knn"),
        ("auto", {"training": {"loss": "ce"}}, "knn"),
        ("auto", {"weights": "bundled"}, "knn"),
        ("head", {}, "head"),
        ("knn", {"training": {"classifier": "head"}}, "knn"),
    ],
)
def test_auto_is_what_training_chose(wanted: str, provenance: dict[str, Any], chosen: str) -> None:
    assert choose_classifier(wanted, {"provenance": provenance}) == chosen


def test_a_classifier_that_is_none_names_those_there_are() -> None:
    with pytest.raises(InputError, match="there is no classifier 'svm'; choose one of auto, knn, head"):
        choose_classifier("svm", {})
