"""Parameters in groups with their learning rates, and how the rates go over a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import torch
from torch import nn

from retrieval.backbones import layers_of
from retrieval.errors import InputError
from retrieval.recipe import Recipe

FLOOR: Final = 1e-3
"""Share of the largest learning rate that a run begins and ends with."""


def parameter_groups(
    recipe: Recipe, backbone: nn.Module, new: Mapping[str, nn.Parameter], proxies: Iterable[nn.Parameter]
) -> list[dict[str, object]]:
    """Put every parameter that is trained into a group with its learning rate and weight decay.

    Layers of the backbone below the last have ``layer_decay`` of the learning rate above them (Clark et al.,
    arXiv 2003.10555). The projection learns as the last layer: it begins as a turned view of pretrained features, which
    the rate of what begins as noise would destroy. Scales, shifts and other vectors have no weight decay, nor have
    proxies.

    Args:
        recipe: the rates.
        backbone: a timm model.
        new: parameters of attention, pooling, projection and head, by name.
        proxies: parameters of losses.

    Returns:
        Groups for an optimizer, each with its ``name``.
    """
    layer, depth = layers_of(backbone)
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}

    def add(name: str, parameter: nn.Parameter, rate: float, decay: float) -> None:
        if parameter.requires_grad:
            groups.setdefault((name, rate, decay if parameter.ndim > 1 else 0.0), []).append(parameter)

    for name, parameter in backbone.named_parameters():
        add("backbone", parameter, recipe.lr * recipe.layer_decay ** (depth - layer[name]), recipe.weight_decay)
    for name, parameter in new.items():
        group, top = ("projection", recipe.lr) if name.startswith("projection.") else ("new", recipe.head_lr)
        add(group, parameter, top, recipe.weight_decay)
    for parameter in proxies:
        add("proxies", parameter, recipe.proxy_lr, 0.0)
    return [
        {"params": members, "lr": rate, "weight_decay": decay, "name": name}
        for (name, rate, decay), members in groups.items()
    ]


def optimizer_of(recipe: Recipe, groups: list[dict[str, object]], *, fused: bool = True) -> torch.optim.Optimizer:
    """Build the optimizer.

    Args:
        recipe: names it.
        groups: of parameters.
        fused: whether all parameters are moved at once, which is faster; not with gradients clipped in 16 bits.

    Raises:
        InputError: there is no such optimizer.
    """
    if recipe.optimizer not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {recipe.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[recipe.optimizer](groups, fused=fused)


OPTIMIZERS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


def _cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


def _triangles(share: float) -> float:
    # From the top of the first one, which the warm-up has climbed, to the foot of the last.
    place = 0.5 + share * (CYCLES - 0.5)
    return 1.0 - abs(2.0 * (place % 1.0) - 1.0)


CYCLES: Final = 4
SCHEDULES: Final[dict[str, Callable[[float], float]]] = {
    # Loshchilov & Hutter, ICLR 2017, without restarts
    "cosine": _cosine,
    # Smith & Topin, arXiv 1708.07120: up for 30 % of the steps, then down
    "onecycle": lambda share: _cosine(1.0 - share / 0.3) if share < 0.3 else _cosine((share - 0.3) / 0.7),
    # Smith, WACV 2017: four triangles, the first way up being the warm-up
    "cyclic": _triangles,
    "constant": lambda share: 1.0,
}
"""Share of the steps done after the warm-up, in [0, 1] → share of the largest learning rate."""


def rate(recipe: Recipe, step: int, steps: int, *, backbone: bool, steps_an_epoch: int) -> float:
    """Give the learning rate of a step as a share of its group's largest.

    Args:
        recipe: names the schedule and the warm-up.
        step: from 0.
        steps: of the whole run.
        backbone: whether for the backbone, which rests while only what is new is trained.
        steps_an_epoch: steps of an epoch.

    Raises:
        InputError: there is no such schedule.
    """
    if recipe.schedule not in SCHEDULES:
        raise InputError(f"there is no schedule {recipe.schedule!r}; choose one of {', '.join(SCHEDULES)}")
    resting = recipe.warmup_head * steps_an_epoch
    if backbone and step < resting:
        return 0.0
    share = step / max(1, steps)
    # OneCycle has its own way up.
    warmup = recipe.warmup if recipe.schedule != "onecycle" else 0.0
    if share < warmup:
        return max(FLOOR, share / warmup)
    return max(FLOOR, SCHEDULES[recipe.schedule]((share - warmup) / max(1e-9, 1.0 - warmup)))
