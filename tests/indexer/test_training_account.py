"""What a training came to: its figures with what they are of, what chose its epoch, and its summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from indexer.training_account import account_of, chosen_by, measures
from indexer.training_cli import _summary
from retrieval.course import Course, Row
from retrieval.lesson import Examples, Lesson
from retrieval.recipe import Recipe
from retrieval.validation import Pictures, Score, findable
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
    named = [share for share in (score.knn, score.head) if share is not None]
    assert score.merit == (max(named, default=score.recall_at_1), score.map_at_r)
    assert getattr(score, score.deciding) == score.merit[0]
    if named:
        assert score.deciding == score.classifier


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


def pictures(labels: str) -> Pictures:
    return Pictures([f"{at}.jpg" for at in range(len(labels))], list(labels), lambda place: np.zeros((1, 1, 3)))


def test_images_with_nothing_to_find_are_told_apart() -> None:
    assert findable(pictures("ABB"), pictures("AABB")) == 3
    assert findable(pictures("AB"), pictures("BB")) == 1
    assert findable(pictures("CCCDDE"), None) == 5
    assert findable(pictures("CCCDE"), None) == 3


def test_the_figures_are_those_of_the_run() -> None:
    score = Score(1.0, 1.0)
    course = Course(
        [Row(1, 1.0, {}, 1e-4, 64, 9.0, 5.0, score)], score, score, 1, pictures=4, held_out=3, measured=2, unread=[1]
    )
    embedder = SimpleNamespace(description={}, digest="ab" * 32)
    recipe = Recipe("test_efficientnet", 64, 64)
    trained = SimpleNamespace(course=course, refused=[("c0/1.jpg", "cut")], recipe=recipe, embedder=embedder, classes=1)
    some = Examples(Path(), ["c0/1.jpg"], ["c0/1.jpg"], ["c0"])  # the same name in both: only one of them is cut
    found = SimpleNamespace(lesson=Lesson(some, some, "images", "photos"), refused=[], held_by="by hand")
    told = account_of(found, trained, [])[0].to_dict()  # type: ignore[arg-type]
    assert (told["pictures"], told["held_out"], told["measured"]) == (3, 3, 2)
    assert told["validation"]["chosen_by"] == "recall_at_1"


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
