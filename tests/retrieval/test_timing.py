"""How many epochs go into a time, and how often to validate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.feeding import Feed, size_of
from retrieval.keeping import Clock
from retrieval.recipe import Recipe
from retrieval.sampling import Batches
from retrieval.timing import Costs, fitted, measure, sizes_of, validate_every

RECIPE = Recipe("any", image_size=224, train_size=192, epochs=30)
PICTURE = (224 / 192) ** 2 / 3 / 32
"""Seconds to validate a picture, where a step of 32 takes one."""


@given(seconds=st.floats(10, 5000), first=st.sampled_from([None, 64, 128]), steps=st.integers(1, 50))
def test_the_epochs_fit_and_one_more_would_not(seconds: float, first: int | None, steps: int) -> None:
    recipe = replace(RECIPE, first_size=first)

    def cost(size: int) -> float:
        return size**2 / 192**2

    def needed(epochs: int) -> float:
        tried = replace(recipe, epochs=epochs)
        return sum(cost(size_of(tried, epoch)) for epoch in range(epochs)) * steps

    try:
        epochs = fitted(recipe, seconds, steps, Costs(cost, 9.0), pictures=32 * steps, validated=0).epochs
    except InputError as error:
        assert needed(1) > seconds / 1.3
        assert "one epoch takes about" in str(error)
        return
    assert 1 <= epochs <= recipe.epochs
    assert needed(epochs) < seconds
    assert epochs == recipe.epochs or needed(epochs + 1) > seconds / 1.3


@given(first=st.integers(32, 224), epochs=st.integers(1, 40))
def test_sizes_grow_in_steps_to_that_of_training(first: int, epochs: int) -> None:
    recipe = replace(RECIPE, first_size=first, epochs=epochs)
    sizes = [size_of(recipe, epoch) for epoch in range(epochs)]
    assert sizes == sorted(sizes)
    assert all(size % 32 == 0 and 32 <= size <= 192 for size in sizes)
    assert set(sizes) <= set(sizes_of(recipe))
    if epochs > 1:
        assert sizes[-1] == 192


def test_any_number_of_epochs_may_be_asked_for() -> None:
    many = replace(RECIPE, first_size=100, epochs=10**6)
    assert sizes_of(many) == [96, 128, 160, 192]
    assert fitted(many, 1000.0, 10, Costs(lambda size: 1.0, PICTURE), pictures=320, validated=0).epochs == 92


def test_validations_cost_about_a_tenth_and_there_are_four() -> None:
    # A third of the training's cost for as many pictures, larger ones.
    assert validate_every(RECIPE, pictures=2640, validated=1916) == 3
    assert validate_every(RECIPE, pictures=100_000, validated=500) == 1
    assert validate_every(RECIPE, pictures=100, validated=5000) == 30 // 4
    assert validate_every(replace(RECIPE, epochs=2), pictures=100, validated=5000) == 1
    assert validate_every(replace(RECIPE, validate_every=5), pictures=100_000, validated=500) == 5


def test_what_does_not_fit_says_how_long_it_takes() -> None:
    with pytest.raises(InputError, match=r"about 10\.0 minutes and 60\.0 s are left"):
        fitted(RECIPE, 60.0, 600, Costs(lambda size: 1.0, PICTURE), pictures=19_200, validated=0)
    with pytest.raises(InputError, match=r"about 15\.0 minutes and 60\.0 s are left"):
        fitted(RECIPE, 60.0, 600, Costs(lambda size: 1.0, 0.1), pictures=19_200, validated=3000)
    # The one epoch of such a run is of the first size.
    with pytest.raises(InputError, match=r"about 64\.0 s and 60\.0 s are left"):
        growing = replace(RECIPE, first_size=64)
        fitted(growing, 60.0, 1, Costs(lambda size: float(size), 0.1), pictures=32, validated=0)


@pytest.mark.parametrize(
    ("pictures", "validated"), [(1700, 2000), (1000, 3000), (2640, 1900), (100_000, 500), (60, 5000)]
)
@pytest.mark.parametrize("every", [0, 1, 3])
def test_validations_are_part_of_what_fits(pictures: int, validated: int, every: int) -> None:
    recipe, steps = replace(RECIPE, validate_every=every), -(-pictures // 32)

    def needed(epochs: int) -> float:
        apart = validate_every(replace(recipe, epochs=epochs), pictures, validated)
        validations = sum(epoch % apart == 0 or epoch == epochs for epoch in range(1, epochs + 1))
        return epochs * steps + validations * validated * PICTURE

    for seconds in np.linspace(needed(1) * 1.1, needed(30) * 1.2, 40):
        epochs = fitted(
            recipe, seconds, steps, Costs(lambda size: 1.0, PICTURE), pictures=pictures, validated=validated
        ).epochs
        assert needed(epochs) <= 0.93 * seconds
        assert all(needed(more) > 0.91 * seconds for more in range(epochs + 1, 31))


class _Slow:
    """Pictures that take a while each to be read, by a clock of their own."""

    def __init__(self, seconds: float) -> None:
        self.now, self.read, self.threads = 0.0, list[int](), set[int]()
        self._seconds = seconds

    def __getitem__(self, place: int) -> np.ndarray:
        self.now += self._seconds
        self.read.append(place)
        self.threads.add(torch.get_num_threads())
        return np.zeros((40, 40, 3), np.uint8)


def _measured(recipe: Recipe, workers: int, batch: float, step: float) -> tuple[Costs, _Slow, Feed]:
    """Measure a run whose batches and steps take so many seconds, on a clock that nobody waits for."""
    store = _Slow(batch / recipe.batch)
    codes = np.arange(400) % 20
    batches = Batches(codes, batch=recipe.batch, per_class=1, seed=0)
    feed = Feed(store, range(len(codes)), codes, batches, recipe)  # type: ignore[arg-type]

    def run(clock: Clock, steps: int) -> None:
        end = 0.0
        for at in range(steps):
            # Workers begin together, and each makes one batch after the other.
            end = max(end, (at // workers + 1) * batch) + step if workers else end + batch + step
            clock.ends.append(end)

    costs = measure(run, feed, recipe, workers=workers, now=lambda: store.now)
    return costs, store, feed


SMALL: dict[str, Any] = {"image_size": 32, "train_size": 32, "batch": 8}


@pytest.mark.parametrize(
    ("workers", "batch", "step", "expected"),
    [
        (8, 0.4, 0.01, 0.05),  # the steps wait, though not one of the trial's does
        (2, 0.4, 0.01, 0.2),
        (8, 0.04, 0.01, 0.01),  # the workers wait
        (0, 0.4, 0.01, 0.41),  # one after the other
    ],
)
def test_a_step_takes_as_long_as_its_batch_does(workers: int, batch: float, step: float, expected: float) -> None:
    costs, store, feed = _measured(Recipe("any", **SMALL), workers, batch, step)
    assert costs.step(32) == pytest.approx(expected)
    assert feed.trial is None
    # Validation prepares its pictures in this process, none of them ahead of time.
    assert costs.picture == pytest.approx((batch + step / 3) / 8, rel=1e-6)
    # Other pictures than the trial has just read, by one thread as a worker has it.
    assert not {int(at) for batch in feed._order[: 6 if workers else 0] for at in batch} & set(store.read)
    assert workers == 0 or store.threads == {1}


def test_growing_pictures_are_measured_at_both_ends() -> None:
    recipe = Recipe("any", **{**SMALL, "first_size": 32, "train_size": 64})
    costs, _, _ = _measured(recipe, 4, 0.4, 0.01)
    assert [costs.step(size) for size in (32, 48, 64)] == pytest.approx([0.1] * 3)
    assert costs.picture == pytest.approx((0.4 + 0.01 / 3) / 8 / 4)
