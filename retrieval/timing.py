"""How long a run will take: what a step costs, and how many epochs go into a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from retrieval.choosing import STEP
from retrieval.errors import InputError
from retrieval.feeding import Feed, size_of
from retrieval.keeping import WARM, Clock
from retrieval.recipe import Recipe

STEPS: Final = 4
MADE: Final = 3
"""Batches that are made to see how long one takes."""
MARGIN: Final = 0.92
VALIDATION_SHARE: Final = 0.1
EMBEDDING: Final = 1 / 3
"""What computing a picture's embedding costs, as a share of a training step on it."""


@dataclass(frozen=True)
class Costs:
    """What the parts of a run take.

    Attributes:
        step: image size → seconds a training step, its batch included where that takes longer.
        picture: seconds a picture of a validation.
    """

    step: Callable[[int], float]
    picture: float


def measure(
    run: Callable[[Clock, int], object],
    feed: Feed,
    recipe: Recipe,
    *,
    workers: int,
    now: Callable[[], float] = time.monotonic,
) -> Costs:
    """Measure what steps of a run cost, as they are: batches, augmentation, precision, optimizer and all.

    Args:
        run: trains a copy of the network some steps long with a clock.
        feed: gives the batches.
        recipe: of the run.
        workers: processes that make batches; 0: this one does, between the steps.
        now: the time in seconds.

    Returns:
        The costs; those of sizes between the smallest and the largest by the number of their pixels.
    """
    known = {}
    for size in sorted({size_of(recipe, 0), recipe.train_size}):
        clock = Clock()
        feed.trial = size
        made = _making(feed, workers, now)
        run(clock, WARM + STEPS)
        # The first batches of several workers arrive together, so the steps that were timed waited for none.
        known[size**2] = max(clock.seconds, made / workers) if workers else clock.seconds
    feed.trial = None
    areas = sorted(known)
    # The largest size came last. Validation prepares its pictures in this process, whoever makes the batches.
    computed = clock.seconds if workers else max(0.0, clock.seconds - made)
    return Costs(
        step=lambda size: float(np.interp(size**2, areas, [known[area] for area in areas])),
        picture=(computed * EMBEDDING + made) / recipe.batch * (recipe.image_size / recipe.train_size) ** 2,
    )


def _making(feed: Feed, workers: int, now: Callable[[], float]) -> float:
    """Seconds that a batch takes to be made in this process, by one thread where it is workers who will make them."""
    threads = torch.get_num_threads()
    feed.enter(0)
    took = []
    try:
        if workers:
            torch.set_num_threads(1)
        # The last of an epoch: the trial has made the first ones.
        for step in range(max(0, len(feed) - MADE), len(feed)):
            began = now()
            feed[step]
            took.append(now() - began)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(took))


def fitted(recipe: Recipe, seconds: float, steps: int, costs: Costs, *, pictures: int, validated: int) -> Recipe:
    """Give a recipe as many epochs as go into a time, validations included.

    Args:
        recipe: whose epochs are the most that make sense.
        seconds: that are left.
        steps: of an epoch.
        costs: of steps and validations.
        pictures: an epoch.
        validated: pictures that a validation embeds.

    Raises:
        InputError: not even one epoch goes into it.
    """

    def needed(tried: Recipe) -> float:
        training = sum(costs.step(size_of(tried, epoch)) for epoch in range(tried.epochs)) * steps
        validations = math.ceil(tried.epochs / validate_every(tried, pictures, validated))
        return training + validations * validated * costs.picture

    # From the most down: one epoch more may cost less, where it makes validations rarer. More cannot go in, were they
    # all of the cheapest.
    most = seconds / max(1e-9, steps * min(costs.step(size) for size in sizes_of(recipe)))
    for epochs in range(min(recipe.epochs, max(1, math.floor(most))), 0, -1):
        tried = replace(recipe, epochs=epochs)
        if needed(tried) <= seconds * MARGIN:
            return tried
    raise InputError(
        f"one epoch takes about {_told(needed(replace(recipe, epochs=1)))} and {_told(max(0.0, seconds))} are left of "
        "the budget: give more, or a smaller --image-size"
    )


def _told(seconds: float) -> str:
    return f"{seconds / 60:,.1f} minutes" if seconds >= 120 else f"{seconds:,.1f} s"


def sizes_of(recipe: Recipe) -> list[int]:
    """Image sizes that a run may have, of however many epochs, ascending."""
    first, last = recipe.first_size, recipe.train_size
    growing = () if first is None else range(max(STEP, first // STEP * STEP), last, STEP)
    return [*growing, last]


def validate_every(recipe: Recipe, pictures: int, validated: int) -> int:
    """Epochs between two validations, so that they cost about a tenth of the time, or more for there to be four.

    Args:
        recipe: its image sizes.
        pictures: an epoch.
        validated: pictures that a validation embeds.
    """
    if recipe.validate_every:
        return recipe.validate_every
    share = validated * EMBEDDING * (recipe.image_size / recipe.train_size) ** 2 / max(1, pictures)
    return max(1, min(round(share / VALIDATION_SHARE), recipe.epochs // 4))
