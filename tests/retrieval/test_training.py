"""Training learns, resumes, refuses, and is the same in two processes as in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieval import images, training
from retrieval.attention import ATTENTIONS
from retrieval.course import Listener, Row
from retrieval.errors import InputError
from retrieval.fitting import Fitting
from retrieval.heads import HEADS
from retrieval.lesson import Examples
from retrieval.losses import LOSSES
from retrieval.pooling import POOLINGS
from retrieval.training import CHECKPOINT, fit
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
    probabilities = trained.embedder.classify(trained.embedder.embed(pixels))
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-4)
    assert [trained.embedder.classes[at] for at in probabilities.argmax(axis=1)] == list(stripes.labels)


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
    monkeypatch.setattr(training, "score", lambda *_, **__: (Score(1.0, 1.0), []))
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    trained = train(lesson_of(stripes, other), quick(epochs=5, patience=2, validate_every=1), tmp_path, weights)
    assert trained.course.best_epoch == len(trained.course.rows) == 3  # of those as good the last is kept


def test_patience_ends_a_run_that_gets_no_better(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.5, 0.7, 0.6, 0.6, 0.9])
    monkeypatch.setattr(training, "score", lambda *_, **__: (Score(next(shares), 0.1), []))
    other = draw_stripes(tmp_path / "more", per_class=2, seed=1)
    recipe = quick(epochs=5, patience=2, validate_every=1)
    trained = train(lesson_of(stripes, other), recipe, tmp_path, weights)
    assert trained.course.best_epoch == 2
    assert len(trained.course.rows) == 4
    # The same command again does not go on.
    assert train(lesson_of(stripes, other), recipe, tmp_path, weights).embedder.digest == trained.embedder.digest


SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import torch
from retrieval import training
from retrieval.course import Listener
from retrieval.fitting import Fitting
from retrieval.timing import Costs
from retrieval.training import fit
from tests.retrieval.lessons import PLAIN, lesson_of, quick
from retrieval.lesson import Examples

torch.set_num_threads(1)
pictures, weights, out, loss = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
names = sorted(str(path.relative_to(pictures).as_posix()) for path in pictures.rglob("*.png"))
labels = [name.split("/")[0] for name in names]
held_out = Examples(pictures, names, names, labels)
train = Examples(pictures, names, names, [] if loss == "ntxent" else labels)
changes, how = json.loads(sys.argv[5]), {}


def ended(self):
    rank = self.global_rank if self.trainer.world_size > 1 else 9
    torch.save((self.objective.state_dict(), self.network.state_dict()), out / f"rank{rank}.pt")


Fitting.on_train_end = ended
head = "cosine" if "ce" in loss.split("+")[-1] else "none"
recipe = quick(**{"loss": loss, "head": head, "epochs": 2, "deterministic": True, "seed": 3, **changes})
if "--mixed" in sys.argv:
    recipe = replace(recipe, augmentation=replace(PLAIN, mixup=0.4, cutmix=1.0))
if "--budget" in sys.argv:  # in which the first process would go round three times, and the second once
    training.measure = lambda *_, **__: Costs(lambda size: 600.0 * (1 + 2 * int(os.environ["RANK"])), 0.0)
    how = {"budget": 6000.0}
if "--stopped" in sys.argv:
    how = {"listener": Listener(row=lambda row: os._exit(1))}
by = "classes" if loss == "ntxent" else "images"
trained = fit(
    lesson_of(train, held_out, by), recipe, out, write=Path.write_bytes, weights=weights, device="cpu", workers=0, **how
)
if trained:
    print("rows", len(trained.course.rows))
"""


# A port of its own choice, since other tests run beside this one.
TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


class Script:
    """Runs of ``SCRIPT`` by one process or two, each in a folder of its name."""

    def __init__(self, stripes: Examples, weights: Path, place: Path) -> None:
        self.place, self._given = place, [str(stripes.root), str(weights)]
        (place / "script.py").write_text(SCRIPT)

    def run(self, name: str, start: list[str], loss: str, changes: dict[str, Any], *more: str, code: int = 0) -> str:
        folder = self.place / name
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        words = [str(self.place / "script.py"), *self._given, str(folder), loss, json.dumps(changes), *more]
        done = subprocess.run(
            [sys.executable, *start, *words], env=environment, capture_output=True, text=True, timeout=240
        )
        assert (done.returncode != 0) == (code != 0), done.stderr[-3000:]
        return done.stdout

    def weights(self, name: str, rank: int) -> tuple[dict[str, torch.Tensor], ...]:
        found: tuple[dict[str, torch.Tensor], ...]
        found = torch.load(self.place / name / f"rank{rank}.pt", weights_only=True)
        return found


@pytest.mark.parametrize(
    ("loss", "changes", "more"),
    [
        ("proxy_anchor+0.5*ce", {}, []),
        ("xbm(multi_similarity)", {}, []),
        ("ntxent", {"per_class": 1}, []),
        ("ce", {"per_class": 1}, ["--mixed"]),
    ],
)
def test_two_processes_train_what_one_does(
    loss: str, changes: dict[str, Any], more: list[str], stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    script = Script(stripes, weights, tmp_path)
    script.run("one", [], loss, changes, *more)
    script.run("two", TWO, loss, changes, *more)
    one, first, second = script.weights("one", 9), script.weights("two", 0), script.weights("two", 1)
    for part in range(2):
        for name, value in one[part].items():
            assert torch.equal(first[part][name], second[part][name]), name
            torch.testing.assert_close(first[part][name], value, rtol=2e-3, atol=2e-4, msg=name)


def test_processes_agree_on_a_budget(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    script = Script(stripes, weights, tmp_path)
    assert "rows 3" in script.run("out", TWO, "softmax", {"epochs": 40}, "--budget")
    first, second = script.weights("out", 0)[1], script.weights("out", 1)[1]
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_two_processes_go_on_after_they_were_stopped(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    script = Script(stripes, weights, tmp_path)
    given = ("proxy_anchor+0.5*ce", {"ema": 0.9})
    script.run("whole", TWO, *given)
    script.run("stopped", TWO, *given, "--stopped", code=1)
    assert not (tmp_path / "stopped" / "rank0.pt").exists()
    script.run("stopped", TWO, *given)
    for part, whole in zip(script.weights("stopped", 0), script.weights("whole", 0), strict=True):
        assert all(torch.equal(part[name], value) for name, value in whole.items())


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
