"""Batches: every picture in every epoch, groups of one class, and the same for every rank."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.sampling import TIMES, Batches, generator

# Long tails: a few large classes, many small ones.
COUNTS = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 40)), min_size=2, max_size=25)


def labels_of(counts: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def possible_for(counts: list[int], per_class: int, groups: int) -> bool:
    return per_class <= max(counts) and per_class * groups <= TIMES * sum(counts)


@given(counts=COUNTS, per_class=st.integers(2, 5), groups=st.integers(2, 7), epoch=st.integers(0, 5))
def test_batches_are_of_groups_of_one_class(counts: list[int], per_class: int, groups: int, epoch: int) -> None:
    assume(possible_for(counts, per_class, groups))
    labels = labels_of(counts)
    plan = Batches(labels, batch=per_class * groups, per_class=per_class, seed=3)
    batches = plan.epoch(epoch)
    assert batches.shape == (plan.steps, per_class * groups)
    assert batches.dtype == np.int64
    wanted = -(-np.array(counts) // per_class)  # groups that show every picture of a class
    possible = wanted.max() <= -(-wanted.sum() // groups) and len(counts) >= groups
    for batch in batches:
        classes, times = np.unique(labels[batch], return_counts=True)
        assert (times % per_class == 0).all()
        assert len(classes) >= 2
        assert times.max() <= -(-groups // 2) * per_class
        if possible:
            assert len(classes) == groups
            for one in classes:  # no picture twice in a group unless the class has too few
                assert len(set(batch[labels[batch] == one])) == min(per_class, counts[one])


@given(counts=COUNTS, per_class=st.integers(1, 5), groups=st.integers(2, 7))
def test_an_epoch_shows_every_picture_and_none_of_a_class_much_more_often_than_another(
    counts: list[int], per_class: int, groups: int
) -> None:
    assume(possible_for(counts, per_class, groups))
    labels = labels_of(counts)
    plan = Batches(labels, batch=per_class * groups, per_class=per_class)
    shown = np.bincount(plan.epoch(1).ravel(), minlength=len(labels))
    assert shown.min() >= 1
    for one in range(len(counts)):
        of_class = shown[labels == one]
        assert of_class.max() - of_class.min() <= 1
    necessary = -(-np.array(counts) // per_class)
    if necessary.max() <= -(-necessary.sum() // groups):
        # Nothing but the last batch is filled up.
        assert plan.steps == -(-necessary.sum() // groups)


def test_single_pictures_come_once_an_epoch_and_the_last_batch_is_filled_up_with_others() -> None:
    batches = Batches(np.arange(21) % 4, batch=8, seed=1).epoch(0)
    assert batches.shape == (3, 8)
    assert sorted(batches.ravel()[:21]) == list(range(21))
    assert len(set(batches[-1])) == 8


def test_a_batch_larger_than_the_source_repeats_as_evenly_as_it_can() -> None:
    batches = Batches(np.arange(5) % 2, batch=8).epoch(0)
    assert batches.shape == (1, 8)
    assert sorted(np.bincount(batches[0]).tolist()) == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("per_class", [1, 4])
def test_epochs_differ_and_are_the_same_again_for_the_same_seed(per_class: int) -> None:
    labels = labels_of([9, 12, 7, 30, 2])
    first = Batches(labels, batch=8, per_class=per_class, seed=5)
    again = Batches(labels, batch=8, per_class=per_class, seed=5)
    again.epoch(0)  # what was drawn before does not matter
    np.testing.assert_array_equal(first.epoch(2), again.epoch(2))
    assert not np.array_equal(first.epoch(2), first.epoch(3))
    assert not np.array_equal(first.epoch(2), Batches(labels, batch=8, per_class=per_class, seed=6).epoch(2))


def test_a_class_meets_many_others_in_an_epoch() -> None:
    labels = np.repeat(np.arange(40), 40)
    plan = Batches(labels, batch=32, per_class=4)
    met = [len(np.unique(labels[plan.epoch(0)][(labels[plan.epoch(0)] == one).any(1)])) for one in (0, 20, 39)]
    # Ten batches of seven others: chance meets 33 of the 39, and neighbours in some order a dozen.
    assert min(met) > 25


def test_the_stripes_of_all_ranks_are_the_batch() -> None:
    plan = Batches(labels_of([9, 12, 7, 30]), batch=24, per_class=4)
    for batch in plan.epoch(0):
        stripes = [plan.stripe(batch, rank, 3) for rank in range(3)]
        assert [len(stripe) for stripe in stripes] == [8, 8, 8]
        np.testing.assert_array_equal(np.concatenate(stripes), batch)
    with pytest.raises(InputError, match="a batch of 24 cannot be parted evenly among 5 processes"):
        plan.stripe(batch, 0, 5)


@pytest.mark.parametrize(
    ("counts", "batch", "per_class", "message"),
    [
        ([3, 3], 4, 8, "a batch of 4 cannot hold 8 pictures of a class: choose a --batch of at least 16"),
        ([3, 3], 10, 4, "a batch of 10 cannot be made of groups of 4 pictures of a class: choose a --batch of 8 or 12"),
        ([3, 3], 7, 4, "choose a --batch of 8, or another --per-class"),
        ([3, 3], 8, 8, "holds one class only, and metric learning compares two: choose a --batch of at least 16"),
        ([3], 8, 4, "all pictures are of one class, and metric learning needs two"),
        ([3, 3], 0, 1, "a batch of 0 with 1 pictures"),
        ([], 8, 1, "no picture to train on"),
    ],
)
def test_impossible_batches_are_refused(counts: list[int], batch: int, per_class: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Batches(labels_of(counts), batch=batch, per_class=per_class)


def test_every_place_has_its_own_numbers() -> None:
    keys = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (5,), (5, 0)]
    first = [generator(3, *key).random() for key in keys]
    assert len(set(first)) == len(keys)
    assert first == [generator(3, *key).random() for key in keys]
    assert generator(4, 5).random() != generator(3, 5).random()
