"""A lesson made ready for the loop: its pictures read, batched and held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from retrieval.backbones import Preprocessing
from retrieval.course import Course
from retrieval.errors import InputError
from retrieval.feeding import Feed
from retrieval.held_out import CLASSES, IMAGES, check_labels
from retrieval.lesson import Lesson, gallery_of, held_out_of, store_of
from retrieval.listener import Listener
from retrieval.machine import cores
from retrieval.processes import gathered, in_parts
from retrieval.recipe import Recipe
from retrieval.running import processes
from retrieval.sampling import Batches
from retrieval.validation import Confusion, Score, findable, score

CONFUSIONS: Final = 60
FEW_STEPS: Final = 8
"""Processes are started anew every epoch, which takes longer than so many batches."""
ROOM: Final = 1.125
"""Side that pictures are kept at, as a share of the training size: crops keep some of the detail."""


class Prepared:
    """A lesson as what the loop takes: batches, and a validation.

    Attributes:
        feed: batches.
        pictures: that are trained on.
        labels: of them; none without labels.
        validated: pictures that a validation embeds.
        refused: uri and reason of those that cannot be used.
    """

    def __init__(
        self,
        lesson: Lesson,
        recipe: Recipe,
        *,
        preprocessing: Preprocessing,
        views: int,
        rank: int,
        world: int,
        listener: Listener,
    ) -> None:
        """Read everything once.

        Args:
            lesson: what to learn from.
            recipe: of the run.
            preprocessing: of the embedder.
            views: of each picture in a batch.
            rank: of this process.
            world: processes of the run.
            listener: told how it goes.

        Raises:
            InputError: batches cannot be made of these pictures, or not one of them or of those held out can be used.
        """
        train, classes = lesson.train, sorted(set(lesson.train.labels))
        code_of = {name: at for at, name in enumerate(classes)}

        def batches(places: Sequence[int]) -> tuple[np.ndarray, Batches]:
            codes = np.array([code_of[train.labels[at]] for at in places] if classes else range(len(places)), np.int64)
            made = Batches(codes, batch=recipe.batch, per_class=recipe.per_class, seed=recipe.seed)
            made.stripe(np.arange(recipe.batch), rank, world)  # refuses what cannot be parted
            return codes, made

        batches(range(len(train.ids)))  # what cannot be is told before everything is decoded
        self._store = store_of(
            train,
            preprocessing,
            size=math.ceil(recipe.train_size * ROOM),
            progress=listener.filling,
            sharing=processes()[1],
        )
        listener.notice(self.kept)
        unusable = dict(self._unusable(listener.filling))
        self.refused = [(train.uris[at], unusable[at]) for at in sorted(unusable)]
        _tell("to train on", self.refused, listener)
        self._places = [at for at in range(len(self._store)) if at not in unusable]
        if not self._places:
            uri, reason = self.refused[0]
            raise InputError(
                f"not one of the {len(train.ids):,} pictures to train on can be used (the first, {uri}: {reason})"
            )
        self.labels = [train.labels[at] for at in self._places] if classes else []
        if classes:
            check_labels(self.labels, source=lesson.source, how="mend or replace the pictures that cannot be used")
        self._codes, self._batches = batches(self._places)
        self._shared = {"views": views, "rank": rank, "world": world}
        self._held_out, more = held_out_of(
            lesson.held_out, preprocessing, whole_classes=lesson.by == CLASSES, sharing=processes()[1]
        )
        _tell("held out", more, listener)
        self.refused += more
        self._gallery = None
        if lesson.by == IMAGES and self._held_out.ids:
            self._gallery = gallery_of(train, self._store, self._places, preprocessing)
        self.pictures = len(self._places)
        self.validated = len(self._held_out.ids) + (0 if self._gallery is None else len(self._gallery.ids))
        self.take(recipe)

    @property
    def kept(self) -> str:
        """Whether pictures are kept in memory, in a sentence."""
        return self._store.notice

    def take(self, recipe: Recipe) -> None:
        """Feed by another recipe of the same batches."""
        self.feed = Feed(self._store, self._places, self._codes, self._batches, recipe, **self._shared)

    def _unusable(self, filling: Callable[[int, int, int], object]) -> list[tuple[int, str]]:
        """Place and reason of pictures that cannot be used; where none is kept, all processes look through them."""
        for known in gathered(self._store.refused if self._store.in_memory else None):
            if known is not None:  # of processes with memory for the pictures and without
                return known
        store = self._store
        parts = in_parts(len(store), lambda some: store.unusable(some.tolist(), progress=filling))
        return [pair for _, found in parts for pair in found]

    def course(self) -> Course:
        """A run that has not begun."""
        measured = findable(self._held_out, self._gallery)
        held_out = len(self._held_out.ids)
        return Course(pictures=self.pictures, held_out=held_out, measured=measured, refused=self.refused)

    def workers(self, device: torch.device) -> int:
        """Processes that make batches: none beside a processor that trains, which they would only slow down."""
        if self._store.in_memory and (device.type == "cpu" or self.feed.steps < FEW_STEPS):
            return 0
        return min(8, max(0, cores() // processes()[1] - 1))

    def validation(
        self, classes: Sequence[str], device: torch.device
    ) -> Callable[[Any], tuple[Score, list[Confusion]]] | None:
        """What measures a network on what is held out; None where nothing is."""
        if not self._held_out.ids:
            return None
        return lambda network: score(
            network, self._held_out, self._gallery, classes=classes, device=device, confusions=CONFUSIONS
        )


def _tell(which: str, refused: Sequence[tuple[str, str]], listener: Listener) -> None:
    if refused:
        uri, reason = refused[0]
        number = "1 picture" if len(refused) == 1 else f"{len(refused):,} pictures"
        listener.notice(f"{number} {which} cannot be used, such as {uri}: {reason}")
