"""Groups of parameters and learning rates over a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.backbones import build_backbone
from retrieval.choosing import Counts, choose
from retrieval.errors import InputError
from retrieval.optimisation import CYCLES, FLOOR, OPTIMIZERS, SCHEDULES, optimizer_of, parameter_groups, rate
from retrieval.recipe import Recipe

RECIPE = Recipe("test_vit", image_size=160, train_size=160, layer_decay=0.5, lr=1e-3, head_lr=1e-2, proxy_lr=0.1)


def test_every_parameter_is_in_one_group_with_its_rate_and_decay() -> None:
    backbone = build_backbone("test_vit").requires_grad_(True)
    new = torch.nn.ModuleDict({"projection": torch.nn.Linear(4, 2), "head": torch.nn.Linear(2, 5)})
    proxies = torch.nn.Parameter(torch.zeros(3, 4))
    groups = parameter_groups(RECIPE, backbone, dict(new.named_parameters()), [proxies])
    found = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    wanted = [id(parameter) for parameter in (*backbone.parameters(), *new.parameters(), proxies)]
    assert sorted(found) == sorted(wanted)
    for group in groups:
        for parameter in group["params"]:  # type: ignore[attr-defined]
            matrix = parameter.ndim > 1 and parameter is not proxies
            assert group["weight_decay"] == (RECIPE.weight_decay if matrix else 0.0)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    assert rate_of[id(proxies)] == 0.1
    assert rate_of[id(new["head"].weight)] == 1e-2
    assert rate_of[id(new["projection"].weight)] == RECIPE.lr
    parameters = dict(backbone.named_parameters())
    below, above = parameters["blocks.0.mlp.fc1.weight"], parameters["blocks.1.mlp.fc1.weight"]
    assert rate_of[id(above)] == 2 * rate_of[id(below)]  # type: ignore[operator]
    assert rate_of[id(parameters["norm.weight"])] == RECIPE.lr


def test_what_is_frozen_is_in_no_group() -> None:
    backbone = build_backbone("test_vit")
    assert parameter_groups(RECIPE, backbone, {}, []) == []


@given(schedule=st.sampled_from(sorted(SCHEDULES)), step=st.integers(0, 99), warmup=st.sampled_from([0.0, 0.1, 0.5]))
def test_rates_stay_between_the_floor_and_the_largest(schedule: str, step: int, warmup: float) -> None:
    recipe = replace(RECIPE, schedule=schedule, warmup=warmup)
    assert 0 < rate(recipe, step, 100, backbone=True, steps_an_epoch=10) <= 1.0


@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 1000),
    warmup=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
)
def test_rates_never_jump(schedule: str, steps: int, warmup: float) -> None:
    recipe = replace(RECIPE, schedule=schedule, warmup=warmup)
    shares = [rate(recipe, step, steps, backbone=True, steps_an_epoch=10) for step in range(steps + 1)]
    # The steepest are the triangles, pressed together by the warm-up, and the warm-up itself.
    steepest = max(2 * CYCLES / (1.0 - warmup), 1.0 / warmup if warmup else 0.0)
    assert all(abs(after - before) <= steepest / steps + FLOOR for before, after in pairwise(shares))


def test_cyclic_climbs_the_first_of_its_triangles_in_the_warmup() -> None:
    recipe = replace(RECIPE, schedule="cyclic", warmup=1 / (2 * CYCLES))  # as wide as the other ways up
    shares = [rate(recipe, step, 80, backbone=True, steps_an_epoch=10) for step in range(81)]
    tops = [step for step in range(1, 80) if shares[step - 1] < shares[step] > shares[step + 1]]
    assert tops == [10, 30, 50, 70]
    assert [shares[step] for step in tops] == pytest.approx([1.0] * CYCLES)
    assert [shares[step] for step in (0, 20, 40, 60, 80)] == pytest.approx([FLOOR] * (CYCLES + 1))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_weights_that_the_loss_leaves_alone_stay(optimizer: str) -> None:
    counts = Counts(100, 10, 10, 10, 10)
    recipe, _ = choose("x", counts, device="cpu", budget=None, native_size=64, given={"optimizer": optimizer})
    weight = torch.nn.Parameter(torch.full((4, 4), 0.02))  # as large as they are in a pretrained transformer
    groups = parameter_groups(
        replace(recipe, head_lr=recipe.lr), build_backbone("test_vit"), {"head.weight": weight}, []
    )
    mover = optimizer_of(recipe, groups)
    for _ in range(100):
        weight.grad = torch.zeros_like(weight)
        mover.step()
    assert weight.min() > 0.019


def test_cosine_rises_over_the_warmup_and_falls_to_the_floor() -> None:
    shares = [rate(RECIPE, step, 100, backbone=True, steps_an_epoch=10) for step in range(101)]
    assert shares[:11] == sorted(shares[:11])
    assert shares[10] == pytest.approx(1.0)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(1e-3)


def test_the_backbone_rests_while_the_head_warms_up() -> None:
    recipe = replace(RECIPE, warmup_head=2, warmup=0.0)
    for step, wanted in ((0, True), (19, True), (20, False)):
        assert (rate(recipe, step, 100, backbone=True, steps_an_epoch=10) == 0.0) is wanted
        assert rate(recipe, step, 100, backbone=False, steps_an_epoch=10) > 0.0


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(InputError, match="cosine, onecycle, cyclic, constant"):
        rate(replace(RECIPE, schedule="linear"), 0, 1, backbone=True, steps_an_epoch=1)
    with pytest.raises(InputError, match="adamw, adam"):
        optimizer_of(replace(RECIPE, optimizer="lion"), [])
