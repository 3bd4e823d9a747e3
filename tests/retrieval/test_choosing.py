"""What a training run chooses by itself, and that choices which were made are kept and followed."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from retrieval.attention import ATTENTIONS
from retrieval.choosing import (
    ASKED,
    BASELINES,
    COMPARING,
    GROUPED,
    LOSS_NAMES,
    USUAL,
    WITH_HEAD,
    Choice,
    Counts,
    choose,
    traits_of,
)
from retrieval.errors import InputError
from retrieval.heads import HEADS
from retrieval.losses import LOSSES
from retrieval.objective import Objective
from retrieval.pooling import POOLINGS
from retrieval.recipe import Augmentation, Recipe
from retrieval.sampling import Batches
from tests.retrieval.networks import MAPS, TOKENS, composed

GROCERIES = Counts(2_640, 81, 15, 29, 59)


def chosen(counts: Counts = GROCERIES, budget: float | None = None, **given: Any) -> Recipe:
    device, transformer = given.pop("device", "cpu"), given.pop("transformer", False)
    baseline = given.pop("baseline", None)
    return choose(
        "tf_efficientnet_lite0",
        counts,
        device=device,
        budget=budget,
        native_size=224,
        given=given,
        transformer=transformer,
        baseline=baseline,
    )[0]


def why(name: str, **given: Any) -> Choice:
    choices = choose("any", GROCERIES, device="cpu", budget=None, native_size=224, given=given)[1]
    return next(choice for choice in choices if choice.field == name)


def check(recipe: Recipe, counts: Counts = GROCERIES) -> None:
    """Refuse what training refuses of a loss, its head and its batches."""
    objective = Objective(recipe.loss, classes=counts.classes, dim=8, images=counts.pictures)
    changes = recipe.augmentation
    objective.check(
        mixing=changes.mixup > 0 or changes.cutmix > 0,
        per_class=recipe.per_class,
        batch=recipe.batch,
        head=recipe.head != "none",
    )
    assert objective.needs_head or recipe.head == "none", "a head that nothing trains"
    labels = np.arange(counts.pictures) % counts.classes
    Batches(labels, batch=recipe.batch, per_class=recipe.per_class)


def test_counts() -> None:
    assert Counts.of(["a", "b", "b", "c", "c", "c", "d", "d", "d", "d"]) == Counts(10, 4, 1, 2.5, 4)
    assert Counts.of([], pictures=7) == Counts(7)


def test_nothing_given() -> None:
    recipe = chosen()
    assert (recipe.loss, recipe.head, recipe.per_class, recipe.batch) == ("ce", "cosine", 1, 32)
    assert (recipe.image_size, recipe.train_size, recipe.dim) == (224, 192, None)
    assert recipe.epochs == round(80_000 / 2_640)
    assert recipe.lr == 5e-4


@pytest.mark.parametrize(
    ("loss", "lr"),
    [
        ("ce", 5e-4),
        ("triplet", 2.5e-4),
        ("proxy_anchor", 1e-4),
        ("proxy_anchor+0.5*ce", 1e-4),
        ("ce+0.2*triplet", 2.5e-4),
        ("xbm(contrastive)", 2.5e-4),
    ],
)
def test_the_learning_rate_is_that_of_the_loss_that_bears_least(loss: str, lr: float) -> None:
    assert chosen(loss=loss).lr == lr
    assert chosen(loss=loss, transformer=True).lr == 3e-5
    assert chosen(loss=loss, lr=0.1).lr == 0.1


def test_every_field_has_its_reason_and_the_value_that_the_recipe_has() -> None:
    recipe, choices = choose(
        "any", GROCERIES, device="cpu", budget=None, native_size=224, given={"zoom": 0.5, "batch": 48}
    )
    names = [spot.name for spot in (*fields(Recipe), *fields(Augmentation)) if spot.name != "augmentation"]
    assert [choice.field for choice in choices] == names
    values = {**vars(recipe), **vars(recipe.augmentation)}
    assert {choice.field: choice.value for choice in choices} == {name: values[name] for name in names}
    assert all(choice.why for choice in choices)
    asked = {choice.field for choice in choices if choice.why == ASKED}
    assert asked == {"zoom", "batch"}
    assert recipe.augmentation.zoom == 0.5


def test_what_is_given_wins_even_when_it_is_nothing() -> None:
    assert chosen(dim=None).dim is None
    recipe = chosen(lr=1e-5, epochs=3, image_size=96, flip=0.0)
    assert (recipe.lr, recipe.epochs, recipe.image_size, recipe.augmentation.flip) == (1e-5, 3, 96, 0.0)
    assert recipe.train_size == 96  # follows the size that was given


def test_only_long_vectors_are_projected() -> None:
    assert chosen(pooling="gem").dim is chosen(attention="cbam").dim is None
    assert chosen(pooling="bilinear").dim == chosen(attention="parts").dim == 512
    assert chosen(pooling="covariance", dim=None).dim is None
    assert chosen(dim=128).dim == 128


def test_dependants_follow_the_loss() -> None:
    assert (chosen(loss="ce").per_class, chosen(loss="ce").head) == (1, "cosine")
    assert (chosen(loss="triplet").per_class, chosen(loss="triplet").head) == (4, "none")
    assert chosen(loss="triplet", head="linear").head == "linear"
    assert chosen(loss="0.5*ce+xbm(contrastive)").per_class == 4
    assert chosen(loss="ntxent").per_class == 1
    assert why("per_class", loss="ce").why != USUAL


@pytest.mark.parametrize(
    ("given", "loss", "head", "per_class", "reason"),
    [
        ({}, "ce", "cosine", 1, "it names the class"),
        ({"cutmix": 1.0}, "ce", "cosine", 1, "it names the class"),
        ({"mixup": 0.2, "per_class": 4}, "ce", "cosine", 4, "it names the class"),
        ({"head": "linear"}, "ce", "linear", 1, "it names the class"),
        ({"head": "none"}, "softmax", "none", 1, "there is no head"),
        ({"cutmix": 1.0, "head": "none"}, "softmax", "none", 1, "there is no head"),
    ],
)
def test_the_loss_follows_what_was_asked_for(
    given: dict[str, Any], loss: str, head: str, per_class: int, reason: str
) -> None:
    recipe = chosen(**given)
    assert (recipe.loss, recipe.head, recipe.per_class) == (loss, head, per_class)
    assert reason in why("loss", **given).why
    check(recipe)


@pytest.mark.parametrize("counts", [GROCERIES, Counts(6_000, 3_000, 2, 2, 2), Counts(400, 4, 100, 100, 100)])
def test_nothing_is_refused_for_what_nobody_chose(counts: Counts) -> None:
    values: dict[str, tuple[Any, ...]] = {
        "mixup": (None, 0.2),
        "head": (None, "none", "linear", "cosine"),
        "per_class": (None, 1, 2),
        "batch": (None, 7, 32),
    }
    for row in product(*values.values()):
        given = {name: value for name, value in zip(values, row, strict=True) if value is not None}
        if (given.get("per_class"), given.get("batch")) != (2, 7):  # which contradict each other
            check(chosen(counts, **given), counts)


def test_a_loss_that_was_asked_for_stands_and_is_refused() -> None:
    loss = "multi_similarity+ce"
    for given, said in (
        ({"cutmix": 1.0}, "multi_similarity compares whole images"),
        ({"head": "none"}, "the network has none"),
        ({"per_class": 1}, "--per-class 2 or more"),
    ):
        recipe = chosen(loss=loss, **given)
        assert recipe.loss == loss
        with pytest.raises(InputError, match=said):
            check(recipe)


def test_adam_has_no_decay_unless_it_is_asked_for() -> None:
    assert chosen().weight_decay == chosen(optimizer="adamw").weight_decay == 0.05
    assert chosen(optimizer="adam").weight_decay == 0.0
    assert "gradient" in why("weight_decay", optimizer="adam").why
    assert chosen(optimizer="adam", weight_decay=1e-4).weight_decay == 1e-4


def test_few_pictures_a_class() -> None:
    pairs = Counts(6_000, 3_000, 2, 2, 3)
    assert chosen(pairs).loss == "ce"
    assert chosen(pairs, loss="multi_similarity").per_class == 2
    assert chosen(pairs).batch == 64


def test_without_labels() -> None:
    recipe = chosen(Counts(500))
    assert (recipe.loss, recipe.head, recipe.per_class) == ("ntxent", "none", 1)


def test_a_batch_that_was_given_is_parted_into_whole_groups() -> None:
    assert chosen(batch=30, loss="triplet").per_class == 3
    assert chosen(batch=7, loss="proxy_anchor").per_class == 1  # which needs no pairs
    assert chosen(batch=7, loss="triplet").per_class == 4  # it does: refused with a sentence later
    assert chosen(batch=6, per_class=2).per_class == 2


def test_a_batch_holds_no_class_twice_where_classes_are_few() -> None:
    assert chosen(Counts(400, 4, 100, 100, 100), loss="triplet").batch == 16
    assert chosen(Counts(400, 2, 200, 200, 200), loss="triplet").batch == 8


def test_transformers() -> None:
    recipe = chosen(transformer=True)
    assert (recipe.lr, recipe.train_size, recipe.pooling) == (3e-5, 224, "native")
    assert chosen(transformer=True, pooling="gem").pooling == "gem"


@pytest.mark.parametrize(
    ("name", "attention"), [row for row in product((MAPS, TOKENS), ATTENTIONS) if row != (MAPS, "rollout")]
)
def test_pooling_goes_with_every_attention(name: str, attention: str, tmp_path: Path) -> None:
    transformer = traits_of(name)[1]
    recipe = chosen(transformer=transformer, attention=attention)
    assert recipe.pooling == ("native" if transformer and attention in ("none", "rollout") else "average")
    composed(name, tmp_path, attention=attention, pooling=recipe.pooling)


def test_pooling_that_was_asked_for_stands_and_is_refused(tmp_path: Path) -> None:
    for attention in ("cbam", "parts"):
        recipe = chosen(transformer=True, attention=attention, pooling="native")
        with pytest.raises(InputError, match="pooling average"):
            composed(TOKENS, tmp_path, attention=attention, pooling=recipe.pooling)


def test_epochs_follow_pictures_device_and_budget() -> None:
    assert chosen(Counts(100_000, 100, 900, 1000, 1100)).epochs == 6
    assert chosen(Counts(100, 10, 9, 10, 11)).epochs == 40
    assert chosen(device="cuda:1").epochs == 40
    assert chosen(budget=600.0).epochs == 60
    assert chosen(budget=600.0, epochs=5).epochs == 5


def test_what_is_known_of_losses_is_what_they_say() -> None:
    assert tuple(LOSSES) == LOSS_NAMES
    assert {name for name, row in LOSSES.items() if row.needs_pairs} == COMPARING
    assert {name for name, row in LOSSES.items() if row.needs_head} == WITH_HEAD
    assert set(LOSSES) >= GROUPED


@pytest.mark.parametrize("loss", [*LOSSES, "xbm(supcon)+0.1*ce"])
@pytest.mark.parametrize("counts", [GROCERIES, Counts(20, 10, 2, 2, 2), Counts(8, 2, 4, 4, 4)])
def test_every_loss_gets_a_recipe_it_can_learn_from(loss: str, counts: Counts) -> None:
    recipe = chosen(counts, loss=loss)
    objective = Objective(loss, classes=counts.classes, dim=8, images=counts.pictures)
    objective.check(mixing=False, per_class=recipe.per_class, batch=recipe.batch, head=recipe.head != "none")


@examples(st.lists(st.integers(1, 30), min_size=2, max_size=40))
def test_batches_can_always_be_made(sizes: list[int]) -> None:
    labels = [f"class {at}" for at, size in enumerate(sizes) for _ in range(size)]
    recipe = chosen(Counts.of(labels))
    codes = {name: at for at, name in enumerate(dict.fromkeys(labels))}
    made = Batches(np.array([codes[label] for label in labels]), batch=recipe.batch, per_class=recipe.per_class)
    assert made.epoch(0).shape == (made.steps, recipe.batch)


@pytest.mark.parametrize("name", list(BASELINES))
def test_configurations_of_the_field(name: str) -> None:
    row = BASELINES[name]
    recipe, choices = choose(
        row.backbone or "any", GROCERIES, device="cpu", budget=None, native_size=224, given={}, baseline=name
    )
    assert recipe.attention in ATTENTIONS
    assert recipe.pooling in POOLINGS
    assert recipe.head in HEADS
    assert recipe.loss == "ce"
    assert {choice.field for choice in choices if name in choice.why} >= set(row.choices)
    assert row.source.count("(") == 1  # where it was published
    assert chosen(baseline=name, head="cosine", dim=64).head == "cosine"


def test_no_such_configuration() -> None:
    with pytest.raises(InputError, match=r"'vgg'.*transfg"):
        chosen(baseline="vgg")


def test_traits_of_backbones() -> None:
    assert traits_of("test_vit") == (160, True)
    assert traits_of("test_efficientnet") == (160, False)
    with pytest.raises(InputError, match="no backbone named 'resnet_none'"):
        traits_of("resnet_none")
