"""How long a run will take: what a step costs, and how many epochs go into a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch

from retrieval.errors import InputError
from retrieval.feeding import Feed, size_of
from retrieval.recipe import Recipe

STEPS: Final = 3
MARGIN: Final = 0.92
VALIDATION_SHARE: Final = 0.1
MOST_EPOCHS: Final = 100


def seconds_a_picture(
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    modules: Sequence[torch.nn.Module],
    feed: Feed,
    sizes: Sequence[int],
    device: torch.device,
) -> dict[int, float]:
    """Measure what training on a picture costs at some image sizes; no weight is changed.

    Args:
        compute: pixels and codes → loss.
        modules: whose gradients are cleared afterwards.
        feed: gives the batches.
        sizes: image sizes.
        device: where it is computed.

    Returns:
        Image size → seconds a picture, the making of the batch included.
    """
    found = {}
    kept = [copy.deepcopy(module.state_dict()) for module in modules]
    for size in sizes:
        took = []
        for step in range(STEPS + 1):  # the first one reserves memory and is not counted
            began = time.monotonic()
            batch = feed.batch(step % feed.steps, size)
            compute(batch["pixels"].to(device), batch["codes"].to(device)).backward()  # type: ignore[no-untyped-call]
            if device.type == "cuda":
                torch.cuda.synchronize()
            took.append((time.monotonic() - began) / len(batch["codes"]))
        found[size] = min(took[1:])
    for module, state in zip(modules, kept, strict=True):
        module.load_state_dict(state)
        module.zero_grad(set_to_none=True)
    return found


def fitted(recipe: Recipe, seconds: float, pictures: int, cost: dict[int, float]) -> Recipe:
    """Give a recipe as many epochs as go into a time, validation included.

    Args:
        recipe: whose epochs are the most that make sense.
        seconds: that are left.
        pictures: an epoch.
        cost: image size → seconds a picture.

    Raises:
        InputError: not even one epoch goes into it.
    """
    for epochs in range(recipe.epochs, 0, -1):
        tried = replace(recipe, epochs=epochs)
        needed = sum(cost[size_of(tried, epoch)] for epoch in range(epochs)) * pictures
        if needed * (1 + VALIDATION_SHARE) <= seconds * MARGIN:
            return tried
    raise InputError(
        f"one epoch of {pictures:,} pictures takes about {cost[size_of(recipe, 0)] * pictures / 60:,.1f} minutes and "
        f"{max(0.0, seconds) / 60:,.1f} are left of the budget; give more, or a smaller --image-size"
    )


def sizes_of(recipe: Recipe) -> list[int]:
    """Image sizes that a run may have, ascending."""
    return sorted({size_of(replace(recipe, epochs=epochs), e) for epochs in (recipe.epochs, 1) for e in range(epochs)})


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
