"""A run ends within its budget, by a clock that nobody waits for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retrieval import keeping
from retrieval.course import Course
from retrieval.keeping import Keeper
from retrieval.listener import Listener
from retrieval.recipe import Recipe
from retrieval.timing import Costs, fitted, validate_every
from retrieval.validation import Confusion, Score

RECIPE = Recipe("any", image_size=224, train_size=192, epochs=30)
PICTURE = (224 / 192) ** 2 / 3 / 32
"""Seconds to validate a picture, where a step of 32 takes one."""


class _Feed:
    size = 192

    def __len__(self) -> int:
        return 1


class _Run:
    """A run in which nothing happens but that time passes.

    Attributes:
        seconds: that it took.
        course: what became of it.
        told: to the user.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        recipe: Recipe,
        *,
        every: int,
        budget: float,
        epoch: float,
        validation: float,
        expected: float,
        rank: int = 0,
        late_elsewhere: bool = False,
        before: dict[str, Any] | None = None,
    ) -> None:
        self.seconds, self.told = 0.0, list[str]()
        monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: self.seconds))

        def validate(_: Any) -> tuple[Score, list[Confusion]]:
            self.seconds += validation
            return Score(0.5, 0.5), []

        keeper = Keeper(
            recipe,
            path=Path("nowhere"),
            identity={},
            asked={},
            classes=(),
            validate=validate,
            every=every,
            listener=Listener(notice=self.told.append),
            deadline=budget,
            validation=expected,
        )
        if before is not None:
            keeper.load_state_dict(before)
        network = torch.nn.Linear(1, 1)
        fitting = SimpleNamespace(
            feed=_Feed(),
            judged=network,
            parameters=network.parameters,
            losses=[torch.tensor(1.0)],
            parts={},
            unread=set(),
        )
        trainer = SimpleNamespace(
            world_size=1,
            is_global_zero=rank == 0,
            strategy=SimpleNamespace(reduce_boolean_decision=lambda late, all: late or late_elsewhere),
            optimizers=[SimpleNamespace(param_groups=[{"name": "backbone", "lr": 1.0}])],
            save_checkpoint=lambda path: None,
            should_stop=False,
        )
        keeper.on_train_start(trainer, fitting)
        for trainer.current_epoch in range(len(keeper.course.rows), recipe.epochs):
            keeper.on_train_epoch_start(trainer, fitting)
            keeper.on_train_batch_start(trainer, fitting, {}, 0)
            self.seconds += epoch
            keeper.on_train_batch_end(trainer, fitting, None, {"codes": [0]}, 0)
            keeper.on_train_epoch_end(trainer, fitting)
            if trainer.should_stop:
                break
        self.course: Course = keeper.course
        self.state = keeper.state_dict()


@pytest.mark.parametrize(("pictures", "validated"), [(1700, 2000), (1000, 3000), (2640, 1900), (60, 5000)])
def test_a_run_of_foreseen_costs_comes_to_its_end_in_time(
    pictures: int, validated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, validation = -(-pictures // 32), validated * PICTURE
    for worth in range(2, 40):
        budget = 2.3 * validation + worth * steps
        left = budget - validation  # one comes before the first step
        recipe = fitted(RECIPE, left, steps, Costs(lambda size: 1.0, PICTURE), pictures=pictures, validated=validated)
        every = validate_every(recipe, pictures, validated)
        run = _Run(
            monkeypatch, recipe, every=every, budget=budget, epoch=steps, validation=validation, expected=validation
        )
        assert len(run.course.rows) == recipe.epochs
        assert run.seconds <= budget
        assert not run.told


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("validation", [1.0, 10.0, 25.0])
def test_what_does_not_go_in_is_cut_in_time_and_told(
    every: int, validation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _Run(monkeypatch, RECIPE, every=every, budget=200.0, epoch=10.0, validation=validation, expected=validation)
    rows = run.course.rows
    assert 200 - 10 - 2 * validation < run.seconds <= 200
    assert len(rows) < RECIPE.epochs
    assert rows[-1].score is not None  # its last epoch may be its best
    (told,) = run.told
    assert f"after epoch {len(rows)} of 30" in told
    assert f"--epochs {len(rows)}" in told


def test_what_a_validation_took_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = _Run(monkeypatch, RECIPE, every=2, budget=200.0, epoch=10.0, validation=30.0, expected=1.0)
    assert 150 < run.seconds <= 200
    other = _Run(monkeypatch, RECIPE, every=2, budget=200.0, epoch=10.0, validation=1.0, expected=30.0)
    assert len(other.course.rows) > len(run.course.rows)


def test_what_a_validation_took_is_remembered_by_a_run_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    times: dict[str, Any] = {"every": 2, "epoch": 10.0, "validation": 30.0}
    first = _Run(monkeypatch, RECIPE, budget=100.0, expected=30.0, **times)
    then = _Run(monkeypatch, RECIPE, budget=100.0, expected=0.0, before=first.state, **times)
    assert len(then.course.rows) > len(first.course.rows)
    assert then.seconds <= 100


def test_all_processes_end_with_the_one_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    times: dict[str, Any] = {"budget": 1e6, "epoch": 10.0, "validation": 1.0, "expected": 1.0}
    run = _Run(monkeypatch, RECIPE, every=1, rank=1, late_elsewhere=True, **times)
    assert len(run.course.rows) == 1
    assert not run.told  # the first process speaks
