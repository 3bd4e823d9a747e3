"""The whole of an evaluation against a direct computation that shares nothing with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled
from retrieval.report import QUERIES_SCHEMA, Report

CARD = {"digest": "0" * 64}
QUESTION = Question("t", "p", ks=(1, 2, 4))


def ranking(queries: Labelled, gallery: Labelled, at: int) -> list[int]:
    """Places in the gallery, nearest first, the slow way: Python loops, sorting by (similarity, id)."""
    others = [place for place, other in enumerate(gallery.ids) if other != queries.ids[at]]
    # Rounded as a float32 is, so that equal vectors are equal here too.
    mine = unit(queries.vectors[at])
    similarity = {place: float(np.float32(np.dot(unit(gallery.vectors[place]), mine))) for place in others}
    return sorted(others, key=lambda place: (-similarity[place], gallery.ids[place]))


def direct(queries: Labelled, gallery: Labelled) -> tuple[dict[str, dict[str, float]], int, int]:
    """Query id → figure → value; then how many are left out and how many have no label."""
    found: dict[str, dict[str, float]] = {}
    left_out = unlabelled = 0
    for at, (id, label) in enumerate(zip(queries.ids, queries.labels, strict=True)):
        if label is None:
            unlabelled += 1
            continue
        right = [gallery.labels[place] == label for place in ranking(queries, gallery, at)]
        count = sum(right)
        if count == 0:
            left_out += 1
            continue
        ranks = [rank for rank, it in enumerate(right, 1) if it]
        found[id] = {f"Recall@{k}": float(any(right[:k])) for k in (1, 2, 4)}
        found[id] |= {f"Precision@{k}": sum(right[:k]) / k for k in (2, 4)}
        found[id] |= {
            "R-Precision": sum(right[:count]) / count,
            "MAP@R": sum(place / rank for place, rank in enumerate(ranks, 1) if rank <= count) / count,
            "MRR": 1 / ranks[0],
            "mAP": sum(place / rank for place, rank in enumerate(ranks, 1)) / count,
            "nDCG": sum(1 / np.log2(1 + rank) for rank in ranks) / sum(1 / np.log2(2 + n) for n in range(count)),
        }
    return found, left_out, unlabelled


def unit(vector: np.ndarray) -> np.ndarray:
    wide = vector.astype(np.float32)
    return (wide / np.linalg.norm(wide)).astype(np.float64)


@st.composite
def labelled(draw: st.DrawFn, size: st.SearchStrategy[int]) -> Labelled:
    count = draw(size)
    # A few directions, often repeated, make ties; the labels include single-image classes and none at all.
    directions = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    vectors = directions[draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))]
    labels = draw(st.lists(st.sampled_from([None, "a", "a/b", "c", "d"]), min_size=count, max_size=count))
    ids = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count, unique=True))
    return Labelled(vectors, [f"{id:02d}" for id in ids], labels)


def ask(queries: Labelled, gallery: Labelled, question: Question = QUESTION) -> Report:
    return evaluate(queries, gallery, question=question, embedder=CARD)[0]


@settings(deadline=None)
@given(queries=labelled(st.integers(1, 12)), gallery=labelled(st.integers(1, 14)), loo=st.booleans())
def test_every_figure_and_count_equals_the_slow_way(queries: Labelled, gallery: Labelled, loo: bool) -> None:
    if loo:
        queries = gallery
    found, left_out, unlabelled = direct(queries, gallery)
    if not found:
        with pytest.raises(InputError, match="there is nothing to measure"):
            ask(queries, gallery)
        return
    report, table = evaluate(queries, gallery, question=QUESTION, embedder=CARD)
    measured = {figure.name: figure for figure in report.figures if figure.unit == "share"}
    labels = dict(zip(queries.ids, queries.labels, strict=True))
    for name in next(iter(found.values())):
        values = {id: row[name] for id, row in found.items()}
        assert measured.pop(name).value == pytest.approx(np.mean(list(values.values())), abs=1e-9), name
        by_class = {label: [v for id, v in values.items() if labels[id] == label] for label in set(labels.values())}
        macro = np.mean([np.mean(some) for some in by_class.values() if some])
        assert report.figure(name).macro == pytest.approx(macro, abs=1e-9), name
    assert not measured
    assert (report.queries, report.left_out, report.unlabelled) == (len(found), left_out, unlabelled)
    assert report.class_count == len({labels[id] for id in found}) == len(report.classes)
    if report.class_count > 1:
        assert all(0 <= figure.low <= figure.high <= 1 for figure in report.figures if figure.unit == "share")
    else:
        assert {(figure.low, figure.high, figure.resolvable) for figure in report.figures} == {(None, None, None)}
    assert table.schema.equals(QUERIES_SCHEMA)
    assert table.column("id").to_pylist() == sorted(found)
    for row in table.to_pylist():
        at = queries.ids.index(row["id"])
        order = ranking(queries, gallery, at)
        assert row["candidates"] == len(order)
        assert row["ranks"] == [r for r, place in enumerate(order, 1) if gallery.labels[place] == row["label"]]
        assert (row["nearest"], row["nearest_label"]) == (gallery.ids[order[0]], gallery.labels[order[0]])
        assert row["right"] == gallery.ids[order[row["ranks"][0] - 1]]
        assert row["right_similarity"] <= row["nearest_similarity"]
    for k, share in report.curve:
        assert share == pytest.approx(np.mean([row["ranks"][0] <= k for row in table.to_pylist()]))


@settings(deadline=None)
@given(gallery=labelled(st.integers(4, 14)), seed=st.integers(0, 9))
def test_the_order_of_the_inputs_changes_nothing(gallery: Labelled, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(gallery.ids))
    shuffled = Labelled(gallery.vectors[order], [gallery.ids[i] for i in order], [gallery.labels[i] for i in order])
    question = Question("t", "p", findings=True)
    try:
        report = ask(gallery, gallery, question)
    except InputError:
        return
    assert ask(shuffled, shuffled, question).to_dict() == report.to_dict()


def clouds(classes: int = 6, each: int = 10, *, scale: float = 0.3, parent: str = "") -> Labelled:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(classes, 16))
    n = np.arange(classes * each)
    vectors = centres[n % classes] + rng.normal(scale=scale, size=(len(n), 16))
    return Labelled(vectors.astype(np.float16), [f"{i:03d}" for i in n], [f"{parent}class {i % classes}" for i in n])


def test_float16_vectors_and_json() -> None:
    everything = clouds(scale=0.8)
    report = ask(everything, everything)
    found, *_ = direct(everything, everything)
    assert report.figure("mAP").value == pytest.approx(np.mean([row["mAP"] for row in found.values()]))
    text = json.dumps(report.to_dict())
    assert json.dumps(Report.from_dict(json.loads(text)).to_dict()) == text


def test_findings_say_what_is_wrong() -> None:
    some = clouds(4, 12, scale=0.1)
    vectors, labels = some.vectors.copy(), list(some.labels)
    labels[0] = labels[1]  # a wrong label: its own cloud finds it, and it finds them
    vectors[5] = vectors[6]  # the same picture under two labels
    given = Labelled(vectors, some.ids, labels)
    report = ask(given, given, Question("t", "p", findings=True, points=30, clusters=True))
    failed = {failure.id: failure for failure in report.failures}
    assert report.failed == len(failed)
    assert failed["000"].label == labels[1] and failed["000"].right.rank > 1
    assert [hit.rank for hit in failed["000"].got] == [1, 2, 3, 4, 5] and not failed["000"].got[0].right
    assert {(pair.first, pair.second) for pair in report.pairs if {pair.first, pair.second} <= {"005", "006"}} == {
        ("005", "006")
    }
    assert all(pair.conflicting and pair.where == "test/test" for pair in report.pairs)
    assert len(report.points) == 30 and all(0 <= point.x <= 1 and 0 <= point.y <= 1 for point in report.points)
    assert report.figure("NMI").value > 0.8 and report.figure("AMI").low is None
    assert report.classes[0].values[0] == min(row.values[0] for row in report.classes)


def test_a_hub_is_found_and_its_right_finds_are_counted() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=64)
    queries = rng.normal(size=(80, 64)) + shared
    gallery = rng.normal(size=(400, 64))
    gallery[7] = shared  # near to all
    asked = Labelled(queries.astype(np.float32), [f"q{i}" for i in range(80)], ["a", "b"] * 40)
    searched = Labelled(gallery.astype(np.float32), [f"g{i}" for i in range(400)], ["b"] + ["a"] * 399)
    (hub, *_) = ask(asked, searched, Question("t", "p", findings=True)).hubs
    assert (hub.id, hub.label) == ("g7", "a")
    assert hub.count > 60 and 30 < hub.right <= 40


def test_labels_that_are_paths_say_how_wrong_a_mistake_is() -> None:
    vectors = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0, 1], [0.99, 0, 0.1]], np.float32)
    labels = ["Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Fruit/Pear", "Fruit/Pear", "Milk", "Milk"]
    # The two apples have one image each and are left out; the milk beside the apples is two levels from them or more.
    given = Labelled(vectors, list("abcdef"), labels)
    report = ask(given, given, Question("t", "p", ks=(1,)))
    figure = report.figure("Mistake distance")
    assert figure.unit == "levels"
    # f finds a, which shares nothing with it: the height of the tree, 3. e finds d: 3 too.
    assert figure.value == 3.0


def test_no_mistake_distance_where_labels_are_no_paths() -> None:
    everything = clouds(scale=2.0)
    assert "Mistake distance" not in {figure.name for figure in ask(everything, everything).figures}


def test_an_approximate_search_is_measured_by_what_it_returns() -> None:
    everything = clouds(5, scale=1.0)
    asked = []

    def half(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        """Exact, but blind to every second image."""
        asked.append(k)
        similarity = queries @ gallery.T
        similarity[:, ::2] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        return np.where(np.take_along_axis(similarity, order, axis=1) > -np.inf, order, -1)

    report, table = evaluate(everything, everything, question=QUESTION, embedder=CARD, search=half)
    exact, whole = evaluate(everything, everything, question=QUESTION, embedder=CARD)
    assert report.figure("mAP").value < exact.figure("mAP").value
    for row, right in zip(table.to_pylist(), whole.to_pylist(), strict=True):
        assert len(row["ranks"]) == len(right["ranks"])  # what is not found counts as relevant all the same
        order = [place for place in ranking(everything, everything, int(row["id"])) if place % 2]
        # One more was asked for than looked at, since most queries find themselves first.
        order = order[: asked[0] - int(row["id"]) % 2]
        found = [rank for rank, place in enumerate(order, 1) if everything.labels[place] == row["label"]]
        assert row["ranks"] == found + [None] * (len(row["ranks"]) - len(found))
    assert f"the first {asked[0]} images" in report.protocol
    assert {int(row["nearest"]) % 2 for row in table.to_pylist()} == {1}


def test_what_cannot_be_measured_is_refused() -> None:
    some = Labelled(np.eye(2, dtype=np.float32), ["a", "b"], ["x", "x"])
    with pytest.raises(InputError, match="K must be at least 1"):
        ask(some, some, Question("t", "p", ks=(0, 1)))
    twice = Labelled(np.eye(2, dtype=np.float32), ["a", "a"], ["x", "x"])
    with pytest.raises(InputError, match="two images of the gallery have the same id"):
        ask(some, twice)
    with pytest.raises(InputError, match="two images of the queries have the same id"):
        ask(twice, some)
