"""What a training came to: its figures with what they are of, what chose its epoch, and its summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.training_account import account_of, chosen_by, deciding, interval_of_share, measures
from indexer.training_cli import _summary
from retrieval.course import Course, Row
from retrieval.lesson import Examples, Lesson
from retrieval.recipe import Recipe
from retrieval.validation import Score
from tests.indexer.accounts import sample_account

SCORES = [
    Score(0.9, 0.6, 0.8, 0.7),
    Score(0.9, 0.6, 0.7, 0.8),
    Score(0.9, 0.6, 0.8, 0.8),
    Score(0.5, 0.6, 0.9),
    Score(0.5, 0.6),
    Score(0.5, 0.6, None, 0.9),
]


@pytest.mark.parametrize("score", SCORES)
def test_what_is_told_to_have_chosen_the_epoch_did(score: Score) -> None:
    field = deciding(vars(score))
    assert getattr(score, field) == score.merit[0]
    if score.head is not None or score.knn is not None:
        assert field == score.classifier


def test_what_chose_the_epoch_in_words() -> None:
    said = [chosen_by(vars(score)) for score in SCORES[2:]]
    assert said == ["the better of kNN vote and head", "the kNN vote", "Recall@1", "the head"]


@pytest.mark.parametrize(
    ("right", "of", "told", "interval"),
    [
        (9, 10, "9 of 10", "95 % interval 59.6 to 98.2 %"),
        (10, 10, "10 of 10", "95 % interval 72.2 to 100.0 %"),
        (0, 10, "0 of 10", "95 % interval 0.0 to 27.8 %"),
        (1, 1, "1 of 1", "95 % interval 20.7 to 100.0 %"),
        (98, 99, "98 of 99", "95 % interval 94.5 to 99.8 %"),
        (90, 100, "90.00 %", "95 % interval 82.6 to 94.5 %"),
        (4_000, 5_000, "80.00 %", "95 % interval 78.9 to 81.1 %"),
    ],
)
def test_shares_are_told_with_how_little_they_are_of(right: int, of: int, told: str, interval: str) -> None:
    one = measures(vars(Score(right / of, 0.5)), of, of)[0]
    assert (one.told, one.interval("to")) == (told, interval)


@pytest.mark.parametrize("of", [1, 2, 10, 97, 5_000])
def test_intervals_of_shares_are_those_of_scipy(of: int) -> None:
    from scipy.stats import binomtest

    for right in {0, 1, of // 3, of - 1, of}:
        expected = binomtest(right, of).proportion_ci(method="wilson")
        assert interval_of_share(right, of) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_means_have_no_count_and_the_head_is_of_all_that_is_held_out() -> None:
    found = {one.field: one for one in measures(vars(Score(0.5, 0.5, 0.75, 0.8)), 10, 8)}
    assert {field: one.told for field, one in found.items()} == {
        "recall_at_1": "4 of 8",
        "knn": "6 of 8",
        "head": "8 of 10",
        "map_at_r": "50.0 %",
    }
    assert found["map_at_r"].interval("to") == ""


def test_no_count_is_told_that_the_images_do_not_give() -> None:
    assert measures(vars(Score(2 / 3, 0.5)), 10, 10)[0].told == "66.7 %"
    assert measures(vars(Score(2 / 3, 0.5)), 0, 0)[0].interval("to") == ""  # told, not fallen over


def told_of(lesson: Lesson, refused: list[tuple[str, str]]) -> dict[str, Any]:
    course = Course(rows=[Row(1, 1.0, {}, 1e-4, 64, 9.0, 5.0, Score(1.0, 1.0))], best=Score(1.0, 1.0), best_epoch=1)
    embedder = SimpleNamespace(description={}, digest="ab" * 32)
    trained = SimpleNamespace(
        course=course, refused=refused, recipe=Recipe("test_efficientnet", 64, 64), embedder=embedder
    )
    found = SimpleNamespace(lesson=lesson, refused=[], held_by="by hand")
    return account_of(found, trained, [])[0].to_dict()  # type: ignore[arg-type]


def examples(labels: str, kind: str) -> Examples:
    names = [f"{kind}{at}.jpg" for at in range(len(labels))]
    return Examples(Path(), names, names, list(labels))


def test_images_with_nothing_to_find_are_told_apart() -> None:
    train = examples("AABB", "t")
    within = Lesson(train, examples("ABB", "h"), "images", "photos")
    assert (told_of(within, [])["held_out"], told_of(within, [])["measured"]) == (3, 3)
    lost = told_of(within, [("t0.jpg", "cut"), ("t1.jpg", "cut"), ("h1.jpg", "cut")])
    assert (lost["held_out"], lost["measured"]) == (2, 1)  # no A is trained on, and one B could not be read

    beyond = Lesson(train, examples("CCCDDE", "h"), "classes", "photos")
    assert (told_of(beyond, [])["held_out"], told_of(beyond, [])["measured"]) == (6, 5)
    lost = told_of(beyond, [("h3.jpg", "cut")])
    assert (lost["held_out"], lost["measured"]) == (5, 3)
    assert lost["validation"]["chosen_by"] == "recall_at_1"


def summary(capsys: pytest.CaptureFixture[str], **how: Any) -> str:
    said = sample_account(**how).to_dict()
    _summary({**said, "out": "birds", "report": "birds/report.html", "next": ["lookalike index photos"]})
    return capsys.readouterr().out


def test_the_summary_of_few_images(capsys: pytest.CaptureFixture[str]) -> None:
    said = summary(capsys, held_out=10, epochs=4, refused=1)
    for line in (
        "best epoch   4 of 4, chosen by the better of kNN vote and head\n",
        "Recall@1 9 of 10 (95 % interval 59.6 to 98.2 %), kNN vote 7 of 10, head 10 of 10, MAP@R 63.0 % on 10 images",
        "classes are named by the head",
        "refused      1 image; the report says why",
    ):
        assert line in said
    assert "cosine head of 100 classes" in said


def test_the_summary_of_many_images_and_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    said = summary(capsys, held_out=100, epochs=4, by="classes")
    assert "best epoch   4 of 4, chosen by Recall@1\n" in said
    assert "Recall@1 88.00 % (95 % interval 80.2 to 93.0 %), MAP@R 61.60 % on 100 images (" in said
    assert "on 1 image (" in summary(capsys, held_out=1)
    assert "chosen by the kNN vote\n" in summary(capsys, head=False)


def test_the_summary_without_validation_calls_nothing_best(capsys: pytest.CaptureFixture[str]) -> None:
    said = summary(capsys, held_out=0, epochs=3, classes=0, head=False, refused=0)
    assert "  last epoch   3, kept\n" in said
    assert "validation   none: nothing is held out" in said
    for word in ("best", "Recall@1", "interval", "chosen", "refused"):
        assert word not in said


def test_the_summary_counts_as_people_do(capsys: pytest.CaptureFixture[str]) -> None:
    account = sample_account()
    said = replace(account, embedder={**account.embedder, "dim": 1, "classes": 1}).to_dict()
    _summary({**said, "out": "birds", "report": "birds/report.html", "next": []})
    assert "1 dimension, cosine head of 1 class, digest" in capsys.readouterr().out
