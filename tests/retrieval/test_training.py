"""Training learns, resumes, refuses, and is the same in two processes as in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieval import images, preparing
from retrieval.attention import ATTENTIONS
from retrieval.course import Row
from retrieval.errors import InputError
from retrieval.fitting import Fitting
from retrieval.heads import HEADS
from retrieval.lesson import Examples
from retrieval.listener import Listener
from retrieval.losses import LOSSES
from retrieval.pooling import POOLINGS
from retrieval.recipe import CHECKPOINT
from retrieval.training import fit
from retrieval.validation import Score
from tests.retrieval.lessons import BACKBONE, PLAIN, draw_stripes, lesson_of, quick, recall_of, train
from tests.weights import random_weights

MIXED = replace(PLAIN, mixup=0.2, cutmix=1.0, rotation=10.0, erasing=0.25, randaugment=5.0)


def _needed(loss: str) -> dict[str, Any]:
    row = LOSSES[loss]
    return {"loss": loss, "head": "cosine" if row.needs_head else "none", "per_class": 2 if row.needs_labels else 1}


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_overfits_eight_classes(loss: str, stripes: Examples, weights: Path, tmp_path: Path) -> None:
    given = stripes if LOSSES[loss].needs_labels else replace(stripes, labels=[])
    trained = train(lesson_of(given, by="classes"), quick(**_needed(loss), epochs=12), tmp_path, weights)
    # Without labels, pictures of one class are only as near as they look.
    assert recall_of(trained, stripes) == 1.0
    assert trained.course.rows[-1].loss < trained.course.rows[0].loss


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_every_pooling_overfits_eight_classes(pooling: str, stripes: Examples, weights: Path, tmp_path: Path) -> None:
    trained = train(lesson_of(stripes), quick(pooling=pooling, epochs=8), tmp_path, weights)
    assert recall_of(trained, stripes) == 1.0


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_every_attention_overfits_eight_classes(attention: str, stripes: Examples, tmp_path: Path) -> None:
    backbone = "test_vit" if attention == "rollout" else BACKBONE
    recipe = replace(quick(attention=attention, epochs=8), backbone=backbone)
    trained = train(lesson_of(stripes), recipe, tmp_path, random_weights(tmp_path, backbone))
    assert recall_of(trained, stripes) == 1.0


@pytest.mark.parametrize("head", sorted(set(HEADS) - {"none"}))
def test_heads_name_the_class(head: str, stripes: Examples, weights: Path, tmp_path: Path) -> None:
    trained = train(lesson_of(stripes), quick(head=head, epochs=8), tmp_path, weights)
    pixels = [images.decode((stripes.root / uri).read_bytes()).pixels for uri in stripes.uris]
    logits = trained.embedder.logits(trained.embedder.embed(pixels))
    assert [trained.embedder.classes[at] for at in logits.argmax(axis=1)] == list(stripes.labels)


def test_what_is_held_out_chooses_the_epoch(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    trained = train(lesson_of(stripes, other), quick(validate_every=1), tmp_path, weights)
    course = trained.course
    assert [row.epoch for row in course.rows] == [1, 2, 3, 4]
    merits = [row.score.merit for row in course.rows if row.score is not None]
    assert len(merits) == 4
    # The last of the best, by what the rows say.
    assert course.best_epoch == max(range(4), key=lambda at: (merits[at], at)) + 1
    assert course.best is not None
    told = trained.embedder.description["provenance"]["training"]
    assert told["epoch"] == course.best_epoch
    assert told["validation"]["recall_at_1"] == course.best.recall_at_1
    assert told["classifier"] == course.best.classifier


def test_the_validation_is_what_the_finished_embedder_gives(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    other = draw_stripes(tmp_path / "more", per_class=3, seed=1)
    recipe = quick(epochs=1, loss="softmax", head="none", ema=0.5)
    trained = train(lesson_of(stripes, other, by="classes"), recipe, tmp_path, weights)
    assert trained.course.best is not None
    assert trained.course.best.recall_at_1 == pytest.approx(recall_of(trained, other))


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "proxy_anchor+0.5*ce", "ema": 0.9},
        {"loss": "xbm(multi_similarity)", "head": "none", "optimizer": "adam"},
        {"loss": "margin", "head": "none", "schedule": "onecycle"},
        {"loss": "ce", "per_class": 1, "first_size": 32, "batchnorm": "trained"},
    ],
)
def test_a_stopped_run_goes_on_to_the_same_embedder(
    changes: dict[str, Any], stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    recipe = quick(**changes, deterministic=True, epochs=4)
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    expected = train(lesson_of(stripes, other), recipe, whole, weights)

    def stop(row: Row) -> None:
        if row.epoch == 2:
            raise _Stop

    with pytest.raises(_Stop):
        train(lesson_of(stripes, other), recipe, stopped, weights, listener=Listener(row=stop))
    epochs: list[int] = []
    resumed = train(
        lesson_of(stripes, other), recipe, stopped, weights, listener=Listener(row=lambda row: epochs.append(row.epoch))
    )
    assert epochs == [3, 4]
    assert [(row.epoch, row.loss) for row in resumed.course.rows] == [
        (row.epoch, row.loss) for row in expected.course.rows
    ]
    assert resumed.embedder.digest == expected.embedder.digest
    again = train(lesson_of(stripes, other), recipe, stopped, weights)
    assert again.embedder.digest == expected.embedder.digest


def test_a_seed_fixes_the_run_and_another_changes_it(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        recipe = quick(epochs=1, seed=seed, deterministic=True)
        digests.append(train(lesson_of(stripes), recipe, folder, weights).embedder.digest)
    assert digests[0] == digests[1] != digests[2]


def test_workers_change_nothing(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    digests = set()
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        trained = fit(
            lesson_of(stripes),
            quick(epochs=2, deterministic=True),
            folder,
            write=Path.write_bytes,
            weights=weights,
            device="cpu",
            workers=workers,
        )
        assert trained is not None
        # The description is the same too, so the digest may be compared.
        digests.add(trained.embedder.digest)
    assert len(digests) == 1


def test_a_budget_decides_the_epochs(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    told: list[str] = []
    listener = Listener(notice=told.append)
    trained = train(lesson_of(stripes), quick(epochs=3), tmp_path, weights, budget=600.0, listener=listener)
    assert trained.recipe.epochs == 3  # never more than the recipe's
    assert any("3 epochs" in text for text in told)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(InputError, match=r"one epoch takes about .* s and 0.0 s are left of the budget"):
        train(lesson_of(stripes), quick(epochs=3), tmp_path, weights, budget=1e-3)


def test_a_resumed_run_keeps_to_its_budget(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    def stop(_: Row) -> None:
        raise KeyboardInterrupt

    given = (lesson_of(stripes), quick(), tmp_path, weights)
    with pytest.raises(KeyboardInterrupt):
        train(*given, budget=600.0, listener=Listener(row=stop))
    left = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    left["callbacks"]["Keeper"]["course"]["seconds"] = 599.9
    torch.save(left, tmp_path / CHECKPOINT)
    told: list[str] = []
    trained = train(*given, budget=600.0, listener=Listener(notice=told.append))
    assert [row.epoch for row in trained.course.rows] == [1, 2]
    assert any("the budget ends the run after epoch 2 of 4" in text for text in told)


def test_patience_counts_from_the_last_that_was_better(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "score", lambda *_, **__: (Score(1.0, 1.0), []))
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    trained = train(lesson_of(stripes, other), quick(epochs=5, patience=2, validate_every=1), tmp_path, weights)
    assert trained.course.best_epoch == len(trained.course.rows) == 3  # of those as good the last is kept


def test_patience_ends_a_run_that_gets_no_better(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.4, 0.5, 0.7, 0.6, 0.6, 0.9])  # the first before the first step
    monkeypatch.setattr(preparing, "score", lambda *_, **__: (Score(next(shares), 0.1), []))
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    recipe = quick(epochs=5, patience=2, validate_every=1)
    trained = train(lesson_of(stripes, other), recipe, tmp_path, weights)
    assert trained.course.untrained == Score(0.4, 0.1)
    assert trained.course.best_epoch == 2
    assert len(trained.course.rows) == 4
    # The same command again does not go on.
    assert train(lesson_of(stripes, other), recipe, tmp_path, weights).embedder.digest == trained.embedder.digest


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"compiled": True}, {"augmentation": MIXED}])
def test_other_ways_of_computing_learn_too(
    changes: dict[str, Any], stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    trained = train(lesson_of(stripes), quick(**changes, epochs=8, ema=0.5), tmp_path, weights)
    assert recall_of(trained, stripes) == 1.0


def test_growing_pictures_fit_into_a_budget(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    recipe = quick(epochs=5, first_size=32, train_size=96, image_size=96)
    trained = train(lesson_of(stripes), recipe, tmp_path, weights, budget=600.0)
    assert [row.image_size for row in trained.course.rows] == [32, 32, 64, 96, 96]


def test_gradients_reach_everything_that_is_trained(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def after(self: Any, *_: Any) -> None:
        seen.append({name for name, value in self.named_parameters() if value.requires_grad and value.grad is None})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Fitting, "on_after_backward", after)
        train(lesson_of(stripes), quick(attention="cbam", loss="proxy_anchor+ce", epochs=1), tmp_path, weights)
    assert seen
    assert not any(seen)
