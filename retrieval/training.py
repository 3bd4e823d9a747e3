"""Train an embedder on labelled pictures: ``fit``."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from retrieval.architecture import NONE
from retrieval.backbones import Preprocessing, synchronised
from retrieval.choosing import STEP
from retrieval.composition import compose
from retrieval.course import Course
from retrieval.embedder import Embedder, choose_device
from retrieval.errors import DamagedError, InputError
from retrieval.fitting import Fitting, set_mode
from retrieval.folding import Folding, fold
from retrieval.keeping import Clock, Files, Keeper, Write, read_checkpoint
from retrieval.lesson import Lesson
from retrieval.listener import NOBODY, Listener
from retrieval.losses import parse
from retrieval.machine import version
from retrieval.memory import keep_freed_memory
from retrieval.model_card import TRAINING
from retrieval.network import Network
from retrieval.objective import Objective
from retrieval.preparing import Prepared
from retrieval.processes import own_device
from retrieval.recipe import CHECKPOINT, Recipe
from retrieval.running import agreed, join, processes, quietly, trainer_of
from retrieval.timing import fitted, measure, sizes_of, validate_every

SOME: Final = 5


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes:
        embedder: the best by validation.
        recipe: as it was run.
        course: epoch by epoch.
        refused: uri and reason of pictures that could not be used.
        classes: that were trained on; 0 without labels.
        finished: whether an earlier call had come to the end of the run already.
    """

    embedder: Embedder
    recipe: Recipe
    course: Course
    refused: Sequence[tuple[str, str]]
    classes: int
    finished: bool


def fit(
    lesson: Lesson,
    recipe: Recipe,
    folder: Path,
    *,
    write: Write,
    weights: Path | None = None,
    budget: float | None = None,
    restart: bool = False,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    listener: Listener = NOBODY,
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
        restart: whether a checkpoint that is there is not looked at, and replaced by the first of this run.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes that make batches; None: by the device and the cores.
        tensorboard: whether losses are written for TensorBoard, below ``folder``.
        listener: told how it goes.

    Returns:
        The embedder and how it came about; None in all processes of a distributed run but the first.

    Raises:
        InputError: a choice that there is none of, or that does not go with another or with these pictures, or a
            checkpoint of another run.
        EmbedderError: the loss is no number, or weights cannot be had.
        DamagedError: the checkpoint is damaged.
        LookalikeError: what ``write`` raises, as when the disk is full; the checkpoint before stays.
        KeyboardInterrupt: the user stopped it, or SIGTERM did; the checkpoint of the last epoch stays.
    """
    began = time.monotonic()
    chosen = choose_device(device)
    if processes()[0] > 1 and ":" in chosen:
        raise InputError(f"each process of torchrun takes a GPU of its own: give --device cuda, not {chosen}")
    rank, world = join(chosen)
    where = torch.device(own_device(chosen))
    if where.type == "cpu":
        keep_freed_memory()
    path = folder / CHECKPOINT
    identity, asked = _identity(lesson, budget, weights), recipe.to_dict()
    deadline = None if budget is None else began + budget
    found = None if restart else _kept(path, identity, recipe)
    finished = False
    if found is not None:
        recipe, lesson = Recipe.from_dict(found["recipe"]), lesson.only(set(found["classes"]))
        done = len(found["course"]["rows"])
        finished = found["stopped"] or done >= recipe.epochs
        if finished:
            listener.notice(f"the run in {folder} is finished already; --restart begins it anew")
        else:
            listener.notice(f"going on after epoch {done} of {recipe.epochs}")
        if deadline is not None:
            deadline -= found["course"]["seconds"]
    _check(recipe, where, world)
    built = _build(lesson, recipe, weights, where, world)
    course = Course()
    if found is not None and finished:
        course = Course.from_dict(found["course"])
        network = built.network
        _load(network, course)
    else:
        lessons = _prepare(lesson, recipe, built, rank, world, listener)
        gone = sorted(set(lesson.train.labels) - set(lessons.labels))
        if gone and found is None:  # a run that goes on keeps its classes
            told = ", ".join(gone[:SOME]) + (f" and {len(gone) - SOME:,} more" if len(gone) > SOME else "")
            listener.notice(f"left out, because not one picture to train on can be used: {told}")
            rest, refused = lesson.only(set(lessons.labels)), lessons.refused
            if lesson.held_out.ids and not rest.held_out.ids:
                raise InputError(
                    f"all pictures held out are of classes that are left out, {told}: give others by --validate "
                    "SOURCE, or --hold-out none"
                )
            del lessons  # its pictures would take the memory of those that stay
            lesson = rest
            built = _build(lesson, recipe, weights, where, world)
            lessons = _prepare(lesson, recipe, built, rank, world, replace(listener, notice=lambda _: None))
            listener.notice(lessons.kept)
            lessons.refused = refused
        network, objective = built.network, built.objective
        hands = lessons.workers(where) if workers is None else workers
        validation = 0.0
        if budget is not None and found is None:

            def run(clock: Clock, steps: int) -> None:
                trial = Fitting(copy.deepcopy(network), copy.deepcopy(objective), recipe, lessons.feed, hands)
                with quietly():
                    trainer_of(recipe, where, clock, steps=steps).fit(trial)

            costs = measure(run, lessons.feed, recipe, workers=hands)
            counts = {"pictures": lessons.pictures, "validated": lessons.validated}
            # One validation comes before the first step.
            left = budget - (time.monotonic() - began) - lessons.validated * costs.picture
            recipe = agreed(rank, world, lambda: fitted(recipe, left, lessons.feed.steps, costs, **counts))
            validation = lessons.validated * costs.picture
            listener.notice(f"{recipe.epochs} epochs fit into the budget")
            _check_rest(recipe)
            lessons.take(recipe)
        keeper = Keeper(
            recipe,
            path=path,
            identity=identity,
            asked=asked,
            classes=sorted(set(lesson.train.labels)),
            validate=lessons.validation(network.architecture.classes, where),
            every=validate_every(recipe, lessons.pictures, lessons.validated),
            listener=listener,
            deadline=deadline,
            validation=validation,
        )
        keeper.course = lessons.course()
        fitting = Fitting(network, objective, recipe, lessons.feed, hands)
        with quietly():
            trainer = trainer_of(recipe, where, keeper, files=Files(write), tensorboard=folder if tensorboard else None)
            trainer.fit(fitting, ckpt_path=None if found is None else path)
        course = keeper.course
        _load(network, course)
    if rank != 0:
        return None
    network.cpu()
    if built.folding is not None:
        built.folding.undo()
    card = _card(lesson, recipe, course)
    embedder = Embedder.from_network(network, provenance={**built.provenance, TRAINING: card}, device=device)
    unread = [(lesson.train.uris[at], "cannot be read (any more)") for at in course.unread]
    return Trained(embedder, recipe, course, course.refused + unread, card["classes"], finished)


@dataclass(frozen=True)
class _Built:
    """A network with its objective where it is trained, and what to do when it has been."""

    network: Network
    objective: Objective
    preprocessing: Preprocessing
    provenance: dict[str, Any]
    folding: Folding | None


def _build(lesson: Lesson, recipe: Recipe, weights: Path | None, device: torch.device, world: int) -> _Built:
    """Compose what is trained for the classes of a lesson, and refuse what does not go together."""
    classes = sorted(set(lesson.train.labels))
    network, preprocessing, provenance = compose(recipe, classes=classes, weights=weights)
    objective = _objective(lesson, recipe, len(classes), network.architecture.dim)
    _check_sizes(recipe, network.multiple)
    folding = None
    if recipe.batchnorm == "frozen" and not recipe.compiled:
        shape = (2, 3, preprocessing.height, preprocessing.width)
        probe = torch.rand(shape, generator=torch.Generator().manual_seed(0))  # all processes must find the same
        folding = fold(network.backbone.eval(), probe)
    if recipe.batchnorm == "trained" and world > 1:
        network = synchronised(network)
    network.to(device).to(memory_format=torch.channels_last)
    objective.to(device)
    set_mode(network, recipe)
    return _Built(network, objective, preprocessing, provenance, folding)


def _prepare(lesson: Lesson, recipe: Recipe, built: _Built, rank: int, world: int, listener: Listener) -> Prepared:
    return Prepared(
        lesson,
        recipe,
        preprocessing=built.preprocessing,
        views=built.objective.views,
        rank=rank,
        world=world,
        listener=listener,
    )


def _load(network: Network, course: Course) -> None:
    """Give the network the weights of the best epoch."""
    network.load_state_dict(course.weights)


def _check_rest(recipe: Recipe) -> None:
    """Refuse a run whose backbone rests to its end."""
    if recipe.epochs <= recipe.warmup_head:
        raise InputError(
            f"the head alone would be trained in all {recipe.epochs} epochs: give fewer than --warmup-head "
            f"{recipe.warmup_head}, or more epochs or time"
        )


def _check(recipe: Recipe, device: torch.device, world: int) -> None:
    """Refuse choices that do not go together."""
    classifies = any(term.row.needs_head for term in parse(recipe.loss))
    if recipe.smoothing > 0 and not classifies:
        raise InputError(f"label smoothing is of ce, and the loss {recipe.loss} has none: leave --smoothing out")
    if recipe.head != NONE and not classifies:
        alone = any(not term.row.needs_labels for term in parse(recipe.loss))
        raise InputError(
            f"the loss {recipe.loss} does not train the classifier head {recipe.head}: "
            f"{'' if alone else 'add +ce to --loss, or '}give --head none"
        )
    _check_rest(recipe)
    if recipe.first_size is not None and recipe.first_size < STEP:
        raise InputError(f"the first pictures are at least {STEP} pixels a side, not {recipe.first_size}: --first-size")
    if recipe.first_size is not None and recipe.first_size > recipe.train_size:
        raise InputError(
            f"pictures grow from --first-size to --train-size, and {recipe.first_size} is more than {recipe.train_size}"
        )
    if recipe.batchnorm == "trained" and world > 1 and device.type == "cpu":
        raise InputError("BatchNorm is trained by one process, or on CUDA: give --batchnorm frozen")


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


def _identity(lesson: Lesson, budget: float | None, weights: Path | None) -> dict[str, str]:
    """Name what a run is of beside its recipe: pictures with their classes, the file of weights, the budget."""
    of_weights = ""
    if weights is not None and weights.is_file():
        with weights.open("rb") as file:
            of_weights = hashlib.file_digest(file, "sha256").hexdigest()
    shown, validated = (
        hashlib.sha256(json.dumps([lesson.by, list(some.uris), list(some.labels)]).encode()).hexdigest()
        for some in (lesson.train, lesson.held_out)
    )
    return {
        "pictures to train on": shown,
        "pictures to validate on": validated,
        "weights to begin from": of_weights,
        "budget": "" if budget is None else f"{budget:g} s",
    }


def _kept(path: Path, identity: dict[str, str], recipe: Recipe) -> dict[str, Any] | None:
    """What an earlier part of this run left; None where there is none."""
    if not path.exists():
        return None
    found: dict[str, Any] = read_checkpoint(path).get("callbacks", {}).get(Keeper.__qualname__)
    if found is None:
        raise DamagedError(f"{path} is no checkpoint of a training; give --restart to begin again, or another --out")
    try:
        Course.from_dict(found["course"])
        unlike = _unlike(found["asked"], recipe) + [
            f"another {name}" if name == "budget" else f"other {name}"
            for name, value in identity.items()
            if found["identity"][name] != value
        ]
    except (KeyError, TypeError) as error:
        raise DamagedError(
            f"{path} was written by another version of lookalike; give --restart to begin again, or another --out"
        ) from error
    if unlike:
        raise InputError(
            f"{path.parent} holds a run with {', '.join(unlike)}; give --restart to begin again, or another --out"
        )
    return found


def _unlike(asked: dict[str, Any], recipe: Recipe) -> list[str]:
    """Say how the recipe of a run differs from another."""
    there, now = ({**one, **one["augmentation"]} for one in (asked, recipe.to_dict()))
    told = [
        f"{name.replace('_', '-')} {there.get(name)}, not {now[name]}"
        for name in now
        if name != "augmentation" and there.get(name) != now[name]
    ]
    return [f"other choices ({', '.join(told)})"] if told else []


def _card(lesson: Lesson, recipe: Recipe, course: Course) -> dict[str, Any]:
    """What model.json says of a training."""
    best = course.best
    return {
        "recipe": recipe.to_dict(),
        "source": lesson.source,
        "pictures": course.shown,
        "classes": len(set(lesson.train.labels)),
        "held_out": course.held_out,
        "held_out_by": lesson.by,
        "epoch": course.best_epoch,
        "validation": None if best is None else vars(best),
        "classifier": None if best is None else best.classifier,
        "torch": version("torch"),
    }
