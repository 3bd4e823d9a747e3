"""What is held out for validation, and labels from which nothing can be learnt."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.held_out import check_labels, hold_out

LABELS = st.lists(st.integers(0, 9).map(str), min_size=2, max_size=80)
SHARES = st.floats(0.05, 0.6)


def uris_of(labels: list[str]) -> list[str]:
    return [f"{label}/img{place}.jpg" for place, label in enumerate(labels)]


@given(labels=LABELS, share=SHARES, seed=st.integers(0, 5), by=st.sampled_from(["images", "classes"]))
def test_both_sides_together_are_all_and_the_same_again(labels: list[str], share: float, seed: int, by: str) -> None:
    try:
        train, held = hold_out(labels, uris_of(labels), by=by, share=share, seed=seed)
    except InputError:
        counts = Counter(labels)
        several = sum(count >= 2 for count in counts.values())
        impossible = max(counts.values()) < 3 if by == "images" else len(counts) < 4 or several < 2
        assert len(counts) == 1 or impossible
        return
    assert sorted([*train, *held]) == list(range(len(labels)))
    assert len(held) and len(train)
    for side in (train, held):
        assert side.dtype == np.int64
        assert list(side) == sorted(side)
    again = hold_out(labels, uris_of(labels), by=by, share=share, seed=seed)
    np.testing.assert_array_equal(held, again[1])
    trained, validated = Counter(labels[at] for at in train), Counter(labels[at] for at in held)
    if by == "classes":
        assert not trained.keys() & validated.keys()
        assert len(trained) >= 2 and len(validated) >= 2
        assert min(validated.values()) >= 2
    else:
        assert all(trained[name] >= 2 for name in validated)
        assert all(name in validated for name, count in Counter(labels).items() if count >= 3)


def test_the_last_images_of_a_class_in_natural_order_are_held_out() -> None:
    uris = [f"a/img{number}.jpg" for number in (10, 9, 2, 1, 11, 100, 3, 20)] + ["b/x", "b/x1", "b/x01"]
    train, held = hold_out(["a"] * 8 + ["b"] * 3, uris, share=0.25)
    assert {uris[at] for at in held} == {"a/img100.jpg", "a/img20.jpg", "b/x1"}
    assert len(train) == 8


def test_the_share_is_that_of_each_class_and_at_least_one_image() -> None:
    labels = ["a"] * 20 + ["b"] * 3 + ["c"] * 2
    _, held = hold_out(labels, uris_of(labels), share=0.15)
    assert Counter(labels[at] for at in held) == {"a": 3, "b": 1}


def test_the_draw_of_classes_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    labels = [name for name in "abcdefghijklmnopqrst" for _ in range(3)]
    drawn = {seed: {labels[at] for at in hold_out(labels, labels, by="classes", seed=seed)[1]} for seed in range(4)}
    assert all(len(names) == 3 for names in drawn.values())
    assert len({frozenset(names) for names in drawn.values()}) > 1
    backwards = labels[::-1]
    assert {backwards[at] for at in hold_out(backwards, backwards, by="classes", seed=2)[1]} == drawn[2]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ("aaaa", {}, "the source has one class only, 'a', and metric learning needs two: give more"),
        ("aabb", {}, "none of the 2 classes has three images, so none can be held out"),
        ("aaabbbccc", {"by": "classes"}, "3 classes are too few to hold two out and train on two, so whole classes"),
        ("abcde", {"by": "classes"}, "each of the 5 classes has one image only, so whole classes cannot be held out"),
        ("aabcde", {"by": "classes"}, "of 5 classes, one has two images, so whole classes cannot be held out"),
        ("aabb", {"by": "days"}, "there is no way 'days' of holding pictures out; choose one of images, classes"),
        ("aabb", {"share": 1.0}, "the share held out lies between 0 and 1, and 1 does not"),
    ],
)
def test_what_cannot_be_held_out_says_why(labels: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        hold_out(list(labels), uris_of(list(labels)), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [None, None],
            "shop.csv has no labels: name another column with --label-column, or train without labels by --loss",
        ),
        ([], "shop.csv has no labels"),
        (["a", "a", None], "shop.csv has one class only, 'a', and metric learning needs two"),
        (["a", "b", "c"], "each of the 3 classes of shop.csv has one image only"),
    ],
)
def test_labels_from_which_nothing_can_be_learnt_are_refused(labels: list[str | None], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_labels(labels, source="shop.csv")


def test_labels_that_are_enough_pass() -> None:
    check_labels(["a", "a", "b", None])
