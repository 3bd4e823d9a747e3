"""How many epochs go into a time, and how often to validate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.feeding import size_of
from retrieval.recipe import Recipe
from retrieval.timing import fitted, sizes_of, validate_every

RECIPE = Recipe("any", image_size=224, train_size=192, epochs=30)


@given(seconds=st.floats(10, 5000), first=st.sampled_from([None, 64, 128]), steps=st.integers(1, 50))
def test_the_epochs_fit_and_one_more_would_not(seconds: float, first: int | None, steps: int) -> None:
    recipe = replace(RECIPE, first_size=first)

    def cost(size: int) -> float:
        return size**2 / 192**2

    def needed(epochs: int) -> float:
        tried = replace(recipe, epochs=epochs)
        return sum(cost(size_of(tried, epoch)) for epoch in range(epochs)) * steps

    try:
        epochs = fitted(recipe, seconds, steps, cost).epochs
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


def test_validations_cost_about_a_tenth_and_there_are_four() -> None:
    # A third of the training's cost for as many pictures, larger ones.
    assert validate_every(RECIPE, pictures=2640, validated=1916) == 3
    assert validate_every(RECIPE, pictures=100_000, validated=500) == 1
    assert validate_every(RECIPE, pictures=100, validated=5000) == 30 // 4
    assert validate_every(replace(RECIPE, epochs=2), pictures=100, validated=5000) == 1
    assert validate_every(replace(RECIPE, validate_every=5), pictures=100_000, validated=500) == 5


def test_what_does_not_fit_says_how_long_it_takes() -> None:
    with pytest.raises(InputError, match=r"about 10\.0 minutes and 60\.0 s are left"):
        fitted(RECIPE, 60.0, 600, lambda size: 1.0)
