"""How long a run will take: what a step costs, and how many epochs go into a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.feeding import Feed, size_of
from retrieval.keeping import WARM, Clock
from retrieval.recipe import Recipe

STEPS: Final = 4
MARGIN: Final = 0.92
VALIDATION_SHARE: Final = 0.1


def seconds_a_step(run: Callable[[Clock, int], object], feed: Feed, recipe: Recipe) -> Callable[[int], float]:
    """Measure what steps of a run cost, as they are: batches, augmentation, precision, optimizer and all.

    Args:
        run: trains a copy of the network some steps long with a clock.
        feed: gives the batches.
        recipe: of the run.

    Returns:
        Image size → seconds a step; sizes between the smallest and the largest by the number of their pixels.
    """
    known = {}
    for size in {size_of(recipe, 0), recipe.train_size}:
        clock = Clock()
        feed.trial = size
        run(clock, WARM + STEPS)
        known[size**2] = clock.seconds
    feed.trial = None
    areas = sorted(known)
    return lambda size: float(np.interp(size**2, areas, [known[area] for area in areas]))


def fitted(recipe: Recipe, seconds: float, steps: int, cost: Callable[[int], float]) -> Recipe:
    """Give a recipe as many epochs as go into a time, validation included.

    Args:
        recipe: whose epochs are the most that make sense.
        seconds: that are left.
        steps: of an epoch.
        cost: image size → seconds a step.

    Raises:
        InputError: not even one epoch goes into it.
    """
    for epochs in range(recipe.epochs, 0, -1):
        tried = replace(recipe, epochs=epochs)
        needed = sum(cost(size_of(tried, epoch)) for epoch in range(epochs)) * steps
        if needed * (1 + VALIDATION_SHARE) <= seconds * MARGIN:
            return tried
    raise InputError(
        f"one epoch takes about {_told(cost(recipe.train_size) * steps)} and {_told(max(0.0, seconds))} are left of "
        "the budget: give more, or a smaller --image-size"
    )


def _told(seconds: float) -> str:
    return f"{seconds / 60:,.1f} minutes" if seconds >= 120 else f"{seconds:,.1f} s"


def sizes_of(recipe: Recipe) -> list[int]:
    """Image sizes that a run of at most so many epochs may have, ascending."""
    return sorted({size_of(replace(recipe, epochs=n), e) for n in range(1, recipe.epochs + 1) for e in range(n)})


def validate_every(recipe: Recipe, pictures: int, validated: int) -> int:
    """Epochs between two validations, so that they cost about a tenth of the time and there are at least four.

    Args:
        recipe: its image sizes.
        pictures: an epoch.
        validated: pictures that a validation embeds.
    """
    if recipe.validate_every:
        return recipe.validate_every
    # Embedding a picture costs a third of training on it.
    share = validated / 3 * (recipe.image_size / recipe.train_size) ** 2 / max(1, pictures)
    return max(1, min(round(share / VALIDATION_SHARE), recipe.epochs // 4))
