"""How labels are measured, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.answers import NONE, answer
from retrieval.calibration import fit, hold
from retrieval.classification import calibration_error
from retrieval.errors import InputError
from retrieval.evidence import gather
from retrieval.label_evaluation import Asking, evaluate_labels, risk_coverage
from retrieval.labels import KNN, Vocabulary
from tests.retrieval.crowds import crowd, unit

answers = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.5001, 0.9]), st.booleans()), min_size=1, max_size=30)


@given(answers)
def test_risk_over_coverage_by_hand(rows: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([sure for sure, _ in rows]), np.array([ok for _, ok in rows])
    points, area = risk_coverage(confidence, right)
    ordered = sorted(rows, key=lambda row: -row[0])
    risks = []
    for at in range(len(rows)):
        group = [ok for sure, ok in rows if sure >= ordered[at][0]]
        risks.append(1 - sum(group) / len(group))
    assert area == pytest.approx(np.mean(risks))
    assert points[-1] == (1.0, pytest.approx(1 - right.mean()))
    for coverage, risk in points:
        assert risk == pytest.approx(risks[round(coverage * len(rows)) - 1])


def test_a_report_says_what_loops_say() -> None:
    gallery, asked = crowd(1, classes=6, each=20), crowd(2, classes=6, each=20)
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts)
    fitted = fit(hold(asked.vectors, asked.codes, gallery, vocabulary), vocabulary)
    queries = crowd(3, classes=6, each=15)
    strange = unit(np.random.default_rng(0).normal(size=(30, 16)))
    codes = np.append(queries.codes, np.full(30, -1))
    ids = [f"{at:03d}" for at in range(len(codes))]
    labels = [*(gallery.labels[code] for code in queries.codes), *["new"] * 30]
    evidence = gather(np.concatenate([queries.vectors, strange]), gallery)
    found, table = evaluate_labels(Asking(ids, labels, codes, evidence), vocabulary, fitted)
    shares = fitted.numbers.probabilities(evidence, vocabulary, KNN)[: len(queries.codes)]
    right = shares.argmax(axis=1) == queries.codes
    (only,) = found["sources"]
    figures = {figure.name: figure.value for figure in only.figures}
    assert figures["Top-1"] == pytest.approx(right.mean())
    kinds = np.array([label.split("/")[0] for label in gallery.labels])
    of_kind = np.array([[row[kinds == kind].sum() for kind in ("Kind0", "Kind1")] for row in shares])
    assert figures["Top-1 at level 1"] == pytest.approx(np.mean(of_kind.argmax(axis=1) == queries.codes % 2))
    rows = answer(ids, evidence, vocabulary, fitted).to_pylist()
    said = [(row["answer"], row["label"], label) for row, label in zip(rows, labels, strict=True)]
    known, n = said[: len(queries.codes)], len(queries.codes)
    given = found["answers"]
    assert given.whole == pytest.approx(sum(label == right for _, label, right in known) / n)
    assert given.coarser == pytest.approx(sum(label == right.split("/")[0] for _, label, right in known) / n)
    assert given.none == pytest.approx(sum(kind == NONE for kind, _, _ in known) / n)
    assert given.foreign_none == pytest.approx(sum(kind == NONE for kind, _, _ in said[n:]) / 30)
    assert sum(share for _, share in given.rows()) == pytest.approx(1)
    assert only.classification.calibration_error == calibration_error(shares.max(axis=1), right).error
    assert (found["queries"], found["foreign"], found["labels"]) == (len(queries.codes), 30, 6)
    assert 0.6 < found["auroc"] < 1
    assert sum(number for _, _, number in only.classification.confused) == (~right).sum()
    assert [row["id"] for row in table.to_pylist()] == ids
    assert table.column("in_catalogue").to_pylist() == (codes >= 0).tolist()
    asked_for = [one.asked for one in only.coverages]
    assert asked_for == sorted(asked_for) and 0.9 in asked_for
    for one, more in zip(only.coverages, only.coverages[1:], strict=False):
        assert one.achieved <= more.achieved and one.size <= more.size and one.empty >= more.empty
    with pytest.raises(InputError, match="nothing to measure"):
        evaluate_labels(Asking(ids, labels, np.full(len(codes), -1), evidence), vocabulary, fitted)


def test_what_is_known_besides_counts() -> None:
    gallery, asked = crowd(1, classes=6, each=20, noise=0.6), crowd(2, classes=6, each=20, noise=0.6)
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts)
    fitted = fit(hold(asked.vectors, asked.codes, gallery, vocabulary), vocabulary)
    queries = crowd(3, classes=6, each=15, noise=0.6)
    ids, labels = [str(at) for at in range(len(queries.codes))], [gallery.labels[code] for code in queries.codes]
    evidence = gather(queries.vectors, gallery)
    factors = np.where(np.arange(6) % 2 == queries.codes[:, None] % 2, 2.0, 0.01)
    plain, told = (
        evaluate_labels(Asking(ids, labels, queries.codes, evidence, given), vocabulary, fitted)[0]["sources"][0]
        for given in (None, factors)
    )
    assert told.figures[0].value > plain.figures[0].value
