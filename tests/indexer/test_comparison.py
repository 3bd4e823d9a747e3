"""Reports beside each other: query by query, over runs, and nothing compared that does not compare."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import precision_recall_fscore_support

from indexer.comparison import compare_reports
from indexer.report_files import QUERIES, read_report, write_report
from retrieval.errors import DamagedError, InputError
from retrieval.evaluation import Question, evaluate, figures_of, measures
from retrieval.labelled import Labelled
from retrieval.neighbours import top_k
from retrieval.pairing import ranks_of
from retrieval.recognition import recognise
from retrieval.report import QUERIES_SCHEMA, Report

CARD = {"digest": "0" * 64, "backbone": "drawn", "tag": None, "dim": 16}
CLASSES, EACH = 16, 6
IDS = [f"{at:03d}" for at in range(CLASSES * EACH)]
LABELS = [f"class {at // EACH:02d}" for at in range(CLASSES * EACH)]
Write = Callable[..., Path]


def vectors(noise: float, seed: int = 0) -> np.ndarray:
    """Points about the centre of their class; the more noise, the worse the embedder."""
    centres = np.random.default_rng(1).normal(size=(CLASSES, 16))
    drawn = np.repeat(centres, EACH, axis=0)
    drawn = drawn + noise * np.random.default_rng(seed).normal(size=drawn.shape)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def no_picture(id: str) -> None:
    return None


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Evaluate drawn vectors and write the report: (name, noise, ...) → its folder."""

    def written(
        name: str,
        noise: float = 1.0,
        *,
        seed: int = 0,
        labels: Sequence[str] = LABELS,
        ids: Sequence[str] = IDS,
        more: int = 0,
        ask: Callable[..., tuple[Report, pa.Table]] = evaluate,
        **question: Any,
    ) -> Path:
        asked = Question("Drawn", question.pop("protocol", "as drawn"), **{"ks": (1, 2, 4), **question})
        given = vectors(noise, seed)
        whole = queries = Labelled(given, ids, labels)
        if more:
            far = np.random.default_rng(5).normal(size=(more, 16)).astype(np.float32)
            distractors = [f"distractor {at}" for at in range(more)]
            whole = Labelled(np.concatenate([given, far]), [*ids, *distractors], [*labels, *[None] * more])
        report, table = ask(queries, whole, question=asked, embedder=CARD)
        write_report(tmp_path / name, report, table, no_picture)
        return tmp_path / name

    return written


def test_equal_reports_do_not_differ(write: Write) -> None:
    first = write("first")
    second = shutil.copytree(first, first.with_name("second"))
    compared = compare_reports([[first], [second]])
    report = read_report(first)[0]
    assert [row.figure for row in compared.rows] == ["Recall@1", "Recall@2", "Recall@4", "MAP@R", "R-Precision"]
    for row in compared.rows:
        assert row.side == 1 and row.seeds is None
        assert row.first == row.value == pytest.approx(report.figure(row.figure).value, abs=1e-12)
        assert (row.paired.difference, row.paired.p, row.paired.low, row.paired.high) == (0, 1, 0, 0)
        assert (row.paired.queries, row.paired.classes) == (len(IDS), CLASSES)
    assert (compared.warnings, compared.spread) == ([], {})
    assert [side.name for side in compared.sides] == [str(first), str(second)]


def test_a_better_embedder_is_found_and_a_chance_difference_is_not(write: Write) -> None:
    worse, better, other = write("worse", 1.6), write("better", 0.8), write("other", 1.6, seed=9)
    rows = {(row.side, row.figure): row for row in compare_reports([[worse], [better], [other]], every=True).rows}
    found = rows[1, "Recall@1"].paired
    assert found.difference > 0.2 and found.p < 0.01
    assert found.low is not None and 0 < found.low < found.difference
    by_chance = rows[2, "MAP@R"].paired
    assert by_chance.p > 0.05 and by_chance.low is not None and by_chance.low < 0
    assert found.resolvable is not None and found.resolvable < found.difference
    assert {"MRR", "mAP", "nDCG", "Precision@2"} <= {figure for _, figure in rows}
    turned = compare_reports([[better], [worse]]).rows[0].paired
    assert (turned.difference, turned.p) == (pytest.approx(-found.difference), found.p)


def test_an_example_by_hand(tmp_path: Path) -> None:
    # Three classes of two queries and one right image each. The first finds none at once, the second all but one.
    ranks = {"first": [2, 2, 2, 2, 2, 2], "second": [1, 1, 1, 1, 1, 2]}
    for name, found in ranks.items():
        rows = [
            dict.fromkeys(QUERIES_SCHEMA.names)
            | {"id": f"q{at}", "label": "abc"[at // 2], "candidates": 9, "ranks": [rank], "nearest": "x"}
            | {"nearest_similarity": 0.5}
            for at, rank in enumerate(found)
        ]
        table = pa.Table.from_pylist(rows, schema=QUERIES_SCHEMA)
        names, values = measures(ranks_of(table), (1, 2))
        figures = figures_of(names, values, np.repeat([0, 1, 2], 2))
        report = Report("By hand", "", [], "retrieval", CARD, figures, [], [], 3, 6, 0, 0, 10)
        write_report(tmp_path / name, report, table, no_picture)
    rows_of = {row.figure: row for row in compare_reports([[tmp_path / "first"], [tmp_path / "second"]]).rows}
    recall = rows_of["Recall@1"]
    assert (recall.first, recall.value) == (0, pytest.approx(5 / 6))
    assert recall.paired.difference == pytest.approx(5 / 6)
    # Of the 8 ways to exchange the two within classes, all or none are as far from zero.
    assert (recall.paired.p, recall.paired.exact) == (0.25, True)
    # Classes differ by 1, 1 and 1/2 a query: the mean of three drawn is 1/2 with probability 1/27, and 1 with 8/27.
    assert (recall.paired.low, recall.paired.high) == (0.5, 1.0)
    same = rows_of["Recall@2"]
    assert (same.first, same.value, same.paired.difference, same.paired.p) == (1, 1, 0, 1)


def test_runs_with_other_seeds(write: Write) -> None:
    worse = [write(f"worse {seed}", 1.6, seed=seed) for seed in (1, 2, 3)]
    better = [write(f"better {seed}", 1.1, seed=seed) for seed in (4, 5, 6)]
    compared = compare_reports([worse, better])
    recall = [[read_report(path)[0].figure("Recall@1").value for path in side] for side in (worse, better)]
    for runs, spread in zip(recall, compared.spread["Recall@1"], strict=True):
        assert spread is not None and spread.runs == 3
        assert spread.mean == pytest.approx(np.mean(runs))
        assert spread.deviation == pytest.approx(np.std(runs, ddof=1))
        assert (spread.least, spread.most) == (pytest.approx(min(runs)), pytest.approx(max(runs)))
    row = compared.rows[0]
    assert row.paired.difference == pytest.approx(np.mean(recall[1]) - np.mean(recall[0]))
    differences = np.subtract(recall[1], recall[0])
    assert row.seeds is not None and row.seeds.runs == 3
    assert row.seeds.mean == pytest.approx(differences.mean())
    assert row.seeds.deviation == pytest.approx(differences.std(ddof=1))
    assert [(side.runs, list(side.paths)) for side in compared.sides] == [
        (3, [str(path) for path in side]) for side in (worse, better)
    ]

    uneven = compare_reports([worse, better[:1]])
    assert uneven.rows[0].seeds is None and uneven.spread["Recall@1"][1] is None
    alone = compare_reports([worse])
    assert (alone.rows, list(alone.spread)) == ([], [row.figure for row in compared.rows])
    text = alone.text()
    assert "3 runs" in text and f"{np.mean(recall[0]):.2%}" in text and "standard deviation of a run" in text


def test_what_does_not_compare_is_refused_and_both_files_are_named(write: Write) -> None:
    first = write("first")
    refused = {
        "other queries": (write("others", ids=[f"new {id}" for id in IDS]), "96 are only in the first, 96 only in the"),
        "a label": (write("label", labels=["class 01", *LABELS[1:]]), "0 are only in the first, .* 1 have another l"),
        "a task": (write("task", task="fine"), "is of the task retrieval and .* of fine; compare equal tasks"),
    }
    for what, (second, message) in refused.items():
        with pytest.raises(InputError, match=message) as caught:
            compare_reports([[first], [second]])
        assert str(first) in str(caught.value) and str(second) in str(caught.value), what
        with pytest.raises(InputError):  # a run of the same side too
            compare_reports([[first, second]])
    fewer = write("fewer", labels=[None, *LABELS[1:]])
    with pytest.raises(InputError, match="1 are only in the first, 0 only in the second"):
        compare_reports([[first], [fewer]])


def test_any_k_follows_from_the_ranks(write: Write) -> None:
    first, deeper = write("first"), write("deeper", ks=(1, 2, 8))
    compared = compare_reports([[first], [deeper]])
    assert {row.figure for row in compared.rows} >= {"Recall@1", "Recall@2", "Recall@4"}
    assert {row.paired.difference for row in compared.rows} == {0.0}


def test_what_is_joined_as_runs_and_is_none_is_warned_of(write: Write) -> None:
    first, other = write("first"), write("other")
    values = json.loads((other / "report.json").read_text())
    values["embedder"] |= {"pooling": "another", "runtimes": {"fast": 3}}
    (other / "report.json").write_text(json.dumps(values))
    told = compare_reports([[first, other], [first, first]]).warnings
    assert any("are joined as runs of one thing, and are two" in line for line in told)
    assert any(line.endswith("is there twice, as if it were two runs") for line in told)
    assert any(line == f"{other} has vectors by fast" for line in told)


def test_what_makes_the_sides_unequal_is_warned_of(write: Write) -> None:
    first = write("first")
    wide = write("wide", more=30)
    through = write("through", protocol="approximately")
    odd = write("odd", differences=["2 missing: a, b", "train has 1 image"])
    compared = compare_reports([[first], [wide], [through], [odd]])
    assert list(compared.warnings) == [
        f"{wide} searched 126 images, and the first 96",
        f"{through} was measured otherwise: approximately",
        f"{odd} is non-standard: 2 missing: a, b; train has 1 image",
    ]
    text = compared.text()
    assert [line for line in text.splitlines() if line.startswith("WARNING: ")] == [
        f"WARNING: {warning}" for warning in compared.warnings
    ]


def test_queries_that_are_damaged_or_of_another_report_are_refused(write: Write) -> None:
    first, second = write("first"), write("second", 2.0)
    (second / QUERIES).write_bytes((first / QUERIES).read_bytes())
    with pytest.raises(DamagedError, match=r"second/queries.parquet is not the file"):
        compare_reports([[first], [second]])
    (second / QUERIES).unlink()
    with pytest.raises(DamagedError, match=r"second/queries.parquet is missing"):
        compare_reports([[first], [second / "report.json"]])


def test_the_comparison_as_json_and_as_text(write: Write) -> None:
    compared = compare_reports([[write("a", 1.6), write("a2", 1.6, seed=1)], [write("b"), write("b2", seed=2)]])
    values = compared.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == json.loads(json.dumps(values))
    row = compared.rows[0]
    assert values["rows"][0]["paired"]["difference"] == row.paired.difference
    assert values["sides"][1]["runs"] == 2 and values["spread"]["Recall@1"][0]["runs"] == 2
    text = compared.text()
    assert text.startswith("Drawn\nas drawn\n")
    (line,) = [line for line in text.splitlines() if line.startswith("B Recall@1 ")]
    assert f"{row.first:.2%}" in line and f"{row.value:.2%}" in line and f"{row.paired.difference:+.2%}" in line
    assert f"{row.paired.p:.4f}" in line
    assert "run by run" in text and "96 queries of 16 classes, paired" in text


def through_few(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """An approximate search that knows only every second image."""
    known = np.arange(0, len(gallery), 2)
    found, _ = top_k(queries, gallery[known], k, query_ids=np.arange(len(queries)), gallery_ids=known)
    return found


@pytest.mark.parametrize("search", [None, through_few], ids=["exact", "approximate"])
@pytest.mark.parametrize("metric", ["Recall", "Accuracy"])
def test_every_figure_can_be_computed_again_from_the_queries(
    write: Write, metric: str, search: Callable[..., np.ndarray] | None
) -> None:
    def ask(*sides: Labelled, **kept: Any) -> tuple[Report, pa.Table]:
        return evaluate(*sides, search=search, **kept)

    report, table = read_report(write("it", 1.3, ask=ask, metric=metric, labels=["alone", *LABELS[1:]]))
    assert report.left_out == 1
    assert (table.column("ranks").combine_chunks().flatten().null_count > 0) == (search is not None)
    names, values = measures(ranks_of(table), (1, 2, 4), metric)
    labels = np.unique(table.column("label").to_pylist(), return_inverse=True)[1]
    again = figures_of(names, values, labels)
    assert [figure.name for figure in again] == [figure.name for figure in report.figures]
    for ours, theirs in zip(again, report.figures, strict=True):
        for field in ("value", "low", "high", "macro", "resolvable"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-12), (ours.name, field)
    # And by plain lists, with nothing of ours.
    ranks = table.column("ranks").to_pylist()
    for k in (1, 2, 4):
        hits = [any(rank is not None and rank <= k for rank in of) for of in ranks]
        assert report.figure(f"{metric}@{k}").value == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    means = [
        sum(sum(r is not None and r <= rank for r in of) / rank for rank in of if rank is not None and rank <= len(of))
        / len(of)
        for of in ranks
    ]
    assert report.figure("MAP@R").value == pytest.approx(sum(means) / len(means), abs=1e-12)
    by_class: dict[str, list[float]] = {}
    for label, of in zip(table.column("label").to_pylist(), ranks, strict=True):
        by_class.setdefault(label, []).append(float(of[0] == 1))
    assert {row.label: row.values[0] for row in report.classes} == {
        label: pytest.approx(np.mean(of), abs=1e-12) for label, of in by_class.items()
    }


def test_recognition_is_compared_by_its_accuracies_and_computed_again(write: Write) -> None:
    def ask(queries: Labelled, train: Labelled, **kept: Any) -> tuple[Report, pa.Table]:
        return recognise(queries, Labelled(vectors(1.0, 7), [f"train {id}" for id in IDS], LABELS), **kept)

    folders = [write(name, noise, ask=ask, task="classification") for name, noise in (("a", 2.0), ("b", 0.8))]
    compared = compare_reports([[folder] for folder in folders])
    (first, table), (second, _) = map(read_report, folders)
    assert [row.figure for row in compared.rows] == ["Top-1 accuracy", "Top-5 accuracy"]
    for row in compared.rows:
        assert row.first == pytest.approx(first.figure(row.figure).value)
        assert row.value == pytest.approx(second.figure(row.figure).value)
    assert compared.rows[0].paired.difference > 0 and compared.rows[0].paired.p < 0.05

    labels, predicted = table.column("label").to_pylist(), table.column("predicted").to_pylist()
    right = np.array(labels) == np.array(predicted)
    assert first.figure("Top-1 accuracy").value == pytest.approx(right.mean(), abs=1e-12)
    macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    for name, expected in zip(("precision", "recall", "F1"), macro[:3], strict=True):
        assert first.figure(f"Macro {name}").value == pytest.approx(expected, abs=1e-12)


def test_tables_that_were_cut_or_joined_give_the_same_ranks(write: Write) -> None:
    table = read_report(write("it"))[1]
    whole = ranks_of(table)
    joined = ranks_of(pa.concat_tables([table.slice(0, 40), table.slice(40)]))
    assert np.array_equal(joined.ranks, whole.ranks) and np.array_equal(joined.offsets, whole.offsets)
    part = ranks_of(table.slice(40, 3))
    start, stop = whole.offsets[40], whole.offsets[43]
    assert np.array_equal(part.ranks, whole.ranks[start:stop])
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=7)
    assert np.array_equal(ranks_of(pq.read_table(buffer)).ranks, whole.ranks)
