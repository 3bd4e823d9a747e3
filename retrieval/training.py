"""Train an embedder on labelled pictures: ``fit``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning
import numpy as np
import torch

from retrieval.architecture import NONE
from retrieval.composition import compose
from retrieval.course import Course, Row, Step
from retrieval.embedder import Embedder, choose_device
from retrieval.errors import InputError
from retrieval.feeding import Feed
from retrieval.fitting import Fitting, set_mode
from retrieval.folding import fold
from retrieval.keeping import Files, Keeper, Write, read_checkpoint
from retrieval.lesson import IMAGES, Lesson, gallery_of, held_out_of, store_of
from retrieval.losses import parse
from retrieval.machine import cores, version
from retrieval.memory import keep_freed_memory
from retrieval.model_card import TRAINING
from retrieval.objective import Objective
from retrieval.processes import own_device
from retrieval.recipe import Recipe
from retrieval.sampling import Batches
from retrieval.timing import fitted, seconds_a_picture, sizes_of, validate_every
from retrieval.validation import Confusion, Score, score

CHECKPOINT: Final = "last.ckpt"
CONFUSIONS: Final = 60


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        embedder: the best by validation.
        recipe: as it was run.
        course: epoch by epoch.
        refused: uri and reason of pictures that could not be used.
    """

    embedder: Embedder
    recipe: Recipe
    course: Course
    refused: Sequence[tuple[str, str]]


def fit(
    lesson: Lesson,
    recipe: Recipe,
    folder: Path,
    *,
    write: Write,
    weights: Path | None = None,
    budget: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    filling: Callable[[int, int, int], object] = lambda done, total, refused: None,
    progress: Callable[[Step], object] = lambda step: None,
    on_row: Callable[[Row], object] = lambda row: None,
    notice: Callable[[str], object] = lambda text: None,
) -> Trained | None:
    """Train an embedder, going on where a run of the same recipe in this folder was stopped.

    The epoch whose weights are kept is chosen on ``lesson.held_out``. In a run started by torchrun every process
    computes its part of each batch, and all have the same loss and proxies.

    Args:
        lesson: what to learn from.
        recipe: every choice.
        folder: where the checkpoint lies; must exist.
        write: how a file is written, whole or not at all.
        weights: a local safetensors file for the backbone.
        budget: seconds that the run may take; the number of epochs is fitted to it, and is at most the recipe's.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes that make batches; None: by the device and the cores.
        tensorboard: whether losses are written for TensorBoard, below ``folder``.
        filling: called with pictures decoded, pictures in all, pictures refused.
        progress: called after each step.
        on_row: called after each epoch.
        notice: told in a sentence what was decided.

    Returns:
        The embedder and how it came about; None in all processes of a distributed run but the first.

    Raises:
        InputError: a choice that there is none of, or that does not go with another or with these pictures, or a
            checkpoint of another run.
        EmbedderError: the loss is no number, or weights cannot be had.
        DamagedError: the checkpoint is damaged.
        LookalikeError: what ``write`` raises, as when the disk is full; the checkpoint before stays.
        KeyboardInterrupt: the user stopped it; the checkpoint of the last epoch stays.
    """
    began = time.monotonic()
    where = torch.device(own_device(choose_device(device)))
    if where.type == "cpu":
        keep_freed_memory()
    rank, world = _join(where)
    path = folder / CHECKPOINT
    identity = _identity(lesson, recipe, budget, weights)
    found = _kept(path, identity)
    if found is not None:
        recipe, budget = Recipe.from_dict(found["recipe"]), None
        notice(f"going on after epoch {len(found['course']['rows'])} of {recipe.epochs}")
    classes = sorted(set(lesson.train.labels))
    if recipe.head != NONE and not any(term.row.needs_head for term in parse(recipe.loss)):
        raise InputError(
            f"the loss {recipe.loss} does not train the classifier head {recipe.head}: "
            "add +ce to --loss, or give --head none"
        )
    network, preprocessing, provenance = compose(recipe, classes=classes, weights=weights)
    objective = _objective(lesson, recipe, len(classes), network.architecture.dim)
    _check_sizes(recipe, network.multiple)

    store = store_of(lesson.train, preprocessing, size=math.ceil(recipe.train_size * 1.125), progress=filling)
    notice(store.notice)
    refused = dict(store.refused)
    places = [at for at in range(len(store)) if at not in refused]
    code_of = {name: at for at, name in enumerate(classes)}
    labels = [code_of[lesson.train.labels[at]] for at in places] if classes else range(len(places))
    batches = Batches(np.array(labels, np.int64), batch=recipe.batch, per_class=recipe.per_class, seed=recipe.seed)
    held_out, unusable = held_out_of(lesson.held_out, preprocessing)
    gallery = gallery_of(lesson.train, store, places, preprocessing) if lesson.by == IMAGES else None

    def feeding(recipe: Recipe) -> Feed:
        codes = np.array(labels, np.int64)
        return Feed(store, places, codes, batches, recipe, views=objective.views, rank=rank, world=world)

    folding = None
    if recipe.batchnorm == "frozen" and not recipe.compiled:
        probe = torch.rand(2, 3, preprocessing.height, preprocessing.width)
        folding = fold(network.backbone.eval(), probe)
    network.to(where).to(memory_format=torch.channels_last)
    objective.to(where)
    feed = feeding(recipe)
    if budget is not None:
        set_mode(network, recipe)
        trial = Fitting(network, objective, recipe, feed, 0)
        cost = seconds_a_picture(trial.loss_of, [network, objective], feed, sizes_of(recipe), where)
        recipe = fitted(recipe, budget - (time.monotonic() - began), batches.steps * recipe.batch, _first(cost))
        notice(f"{recipe.epochs} epochs fit into the budget")
        feed = feeding(recipe)
    validated = len(held_out.ids) + (0 if gallery is None else len(gallery.ids))
    keeper = Keeper(
        recipe,
        path=path,
        identity=identity,
        validate=_validation(held_out, gallery, network.architecture.classes, where) if held_out.ids else None,
        every=validate_every(recipe, len(places), validated),
        deadline=None if budget is None else began + budget,
        progress=progress,
        on_row=on_row,
    )
    if workers is None:
        workers = 1 if where.type == "cpu" and store.in_memory else max(1, min(8, cores() - 1))
    fitting = Fitting(network, objective, recipe, feed, min(workers, max(0, cores() - 1)))
    if found is not None and (len(found["course"]["rows"]) >= recipe.epochs or found["stopped"]):
        keeper.load_state_dict(found)
    else:
        with _quietly():
            trainer = _trainer(recipe, where, world, Files(write), keeper, folder if tensorboard else None)
            trainer.fit(fitting, ckpt_path=None if found is None else path)
    if rank != 0:
        return None
    fitting.judged.load_state_dict(keeper.course.weights)
    if fitting.judged is not network:
        network.load_state_dict(fitting.judged.state_dict())
    network.cpu()
    if folding is not None:
        folding.undo()
    card = _card(lesson, recipe, keeper.course, len(places), len(classes))
    embedder = Embedder.from_network(network, provenance={**provenance, TRAINING: card}, device=device)
    told = [(lesson.train.uris[at], reason) for at, reason in store.refused]
    return Trained(embedder, recipe, keeper.course, told + unusable)


def _objective(lesson: Lesson, recipe: Recipe, classes: int, dim: int) -> Objective:
    objective = Objective(
        recipe.loss,
        classes=classes,
        dim=dim,
        images=len(lesson.train.ids),
        smoothing=recipe.smoothing,
        seed=recipe.seed,
    )
    changes = recipe.augmentation
    objective.check(
        mixing=changes.mixup > 0 or changes.cutmix > 0,
        per_class=recipe.per_class,
        batch=recipe.batch,
        head=recipe.head != NONE,
    )
    if not objective.needs_labels and recipe.per_class > 1:
        raise InputError(
            f"the loss {recipe.loss} has no classes to take {recipe.per_class} pictures of: give --per-class 1"
        )
    return objective


def _check_sizes(recipe: Recipe, multiple: int | None) -> None:
    """Refuse sizes of training pictures that the backbone cannot take."""
    for size in sizes_of(recipe):
        if multiple is None and size != recipe.image_size:
            raise InputError(
                f"{recipe.backbone} takes pictures of one size only, not {size} pixels in training and "
                f"{recipe.image_size} afterwards: give --train-size {recipe.image_size} and no --first-size"
            )
        if size % (multiple or 1):
            raise InputError(
                f"{recipe.backbone} takes pictures whose side is a multiple of {multiple} pixels, not {size}: "
                "change --train-size or leave --first-size out"
            )


def _validation(
    held_out: Any, gallery: Any, classes: Sequence[str], device: torch.device
) -> Callable[[Any], tuple[Score, list[Confusion]]]:
    def validate(network: Any) -> tuple[Score, list[Confusion]]:
        return score(network, held_out, gallery, classes=classes, device=device, confusions=CONFUSIONS)

    return validate


def _join(device: torch.device) -> tuple[int, int]:
    """Join the processes that torchrun started; rank and how many."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _first(cost: dict[int, float]) -> dict[int, float]:
    """What the first process measured, so that all choose alike."""
    if not torch.distributed.is_initialized():
        return cost
    told = [cost]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def _identity(lesson: Lesson, recipe: Recipe, budget: float | None, weights: Path | None) -> str:
    """Name a run: the same pictures, classes, choices, budget and file of weights."""
    digest = hashlib.sha256(json.dumps([recipe.to_dict(), budget, lesson.by], sort_keys=True).encode())
    if weights is not None and weights.is_file():
        with weights.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for examples in (lesson.train, lesson.held_out):
        digest.update(json.dumps([list(examples.uris), list(examples.labels)]).encode())
    return digest.hexdigest()


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """What an earlier part of this run left; None where there is none."""
    if not path.exists():
        return None
    found: dict[str, Any] = read_checkpoint(path)["callbacks"][Keeper.__qualname__]
    if found["identity"] != identity:
        raise InputError(
            f"{path.parent} holds a run with other choices or other pictures; "
            "give --restart to begin again, or another --out"
        )
    return found


def _trainer(
    recipe: Recipe, device: torch.device, world: int, files: Files, keeper: Keeper, tensorboard: Path | None
) -> lightning.Trainer:
    cuda = device.type == "cuda"
    own = [device.index or 0] if cuda and world == 1 else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    logger: Any = False
    if tensorboard is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(tensorboard, name="tensorboard", version="")
    precision = "bf16-mixed" if recipe.precision == "bf16" or (recipe.precision == "auto" and cuda) else "32-true"
    return lightning.Trainer(
        accelerator="cuda" if cuda else "cpu",
        devices=own,
        num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if world > 1 else "auto",
        max_epochs=recipe.epochs,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=recipe.clip or None,
        deterministic=recipe.deterministic,
        logger=logger,
        log_every_n_steps=10,
        callbacks=[keeper],
        plugins=[files],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Lightning's advice to its own users from ours, and let Ctrl-C be what it is elsewhere."""
    logger = logging.getLogger("lightning.pytorch")
    level, interrupted = logger.level, signal.getsignal(signal.SIGINT)
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        except SystemExit as stop:  # what it makes of Ctrl-C, which it then ignores
            if not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, interrupted)
            raise KeyboardInterrupt from stop
        finally:
            logger.setLevel(level)


def _card(lesson: Lesson, recipe: Recipe, course: Course, pictures: int, classes: int) -> dict[str, Any]:
    """What model.json says of a training."""
    best = course.best
    return {
        "recipe": recipe.to_dict(),
        "source": lesson.source,
        "pictures": pictures,
        "classes": classes,
        "held_out": len(lesson.held_out.ids),
        "held_out_by": lesson.by,
        "epoch": course.best_epoch,
        "validation": None if best is None else vars(best),
        "classifier": None if best is None else best.classifier,
        "torch": version("torch"),
    }
