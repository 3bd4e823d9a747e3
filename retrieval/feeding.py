"""Batches of training pictures as tensors, the same whatever number of workers or processes makes them."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import get_all_start_methods
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from retrieval.augmentation import training_view
from retrieval.choosing import STEP
from retrieval.errors import ImageError
from retrieval.picture_store import PictureStore
from retrieval.recipe import Recipe
from retrieval.sampling import Batches, generator

TRIES: Final = 10
"""Pictures of a class that are tried before the class counts as unreadable."""


def size_of(recipe: Recipe, epoch: int) -> int:
    """Image size of an epoch: from ``first_size`` to ``train_size`` over the first half, in steps of 32 pixels."""
    if recipe.first_size is None or recipe.first_size >= recipe.train_size:
        return recipe.train_size
    share = min(1.0, epoch / max(1.0, recipe.epochs / 2))
    wanted = recipe.first_size + (recipe.train_size - recipe.first_size) * share
    return recipe.train_size if share == 1.0 else max(STEP, int(wanted // STEP * STEP))


class Feed(Dataset[dict[str, Any]]):
    """One epoch's batches, or the stripe of each that one process computes; item ``i`` is step ``i``.

    Attributes:
        steps: of an epoch.
        epoch: that it is in, from 0.
        trial: image size in place of the epoch's own, to see what it costs; None: none.
        size: of this epoch's pictures, pixels a side.
    """

    def __init__(
        self,
        store: PictureStore,
        places: Sequence[int],
        codes: np.ndarray,
        batches: Batches,
        recipe: Recipe,
        *,
        views: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Join what batches are made of.

        Args:
            store: the pictures.
            places: where in the store each training picture is.
            codes: (n,) int64, the class of each.
            batches: which pictures come together.
            recipe: sizes, augmentation and seed.
            views: of each picture; two for self-supervised losses.
            rank: of this process.
            world: how many processes share a batch.
        """
        self._store, self._places, self._codes = store, places, codes
        self._batches, self._recipe, self._views = batches, recipe, views
        self._rank, self._world = rank, world
        self.trial: int | None = None
        self.enter(0)

    def enter(self, epoch: int) -> None:
        """Turn to an epoch."""
        self.epoch, self.size = epoch, self.trial or size_of(self._recipe, epoch)
        self._order = self._batches.epoch(epoch)
        self.steps = len(self._order)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Make this process's part of a batch.

        Returns:
            ``pixels`` (views * n, 3, size, size) uint8, the first view of all pictures before the second; ``codes``
            (n,) int64; ``epoch`` and ``step``; ``first``, the place of the part in the batch of all processes; and
            ``unread``, places in the store of pictures that others of their class were shown for.
        """
        batch = self._order[step]
        places = self._batches.stripe(np.arange(len(batch)), self._rank, self._world)
        unread: list[int] = []
        views = [
            self._view(int(batch[at]), step, int(at), view, unread) for view in range(self._views) for at in places
        ]
        return {
            "pixels": torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2),
            "codes": torch.from_numpy(self._codes[batch[places]]),
            "epoch": self.epoch,
            "step": step,
            "first": int(places[0]),
            "unread": unread,
        }

    def _view(self, position: int, step: int, at: int, view: int, unread: list[int]) -> np.ndarray:
        rng = generator(self._recipe.seed, self.epoch, step, at, view)
        return training_view(
            self._picture(position, step, at, unread), size=self.size, augmentation=self._recipe.augmentation, rng=rng
        )

    def _picture(self, position: int, step: int, at: int, unread: list[int]) -> np.ndarray:
        """A picture, or another where it cannot be read (any more): of its class, or any where views are compared.

        Both views of a place have the same.
        """
        tried: list[int] = []
        while True:
            try:
                return self._store[self._places[position]]
            except ImageError:
                unread.append(self._places[position])
                tried.append(position)
                alike = self._codes == self._codes[position] if self._views == 1 else np.ones(len(self._codes), bool)
                others = np.setdiff1d(np.flatnonzero(alike), tried)
                if not len(others) or len(tried) == TRIES:
                    raise
                position = int(generator(self._recipe.seed, self.epoch, step, at).choice(others))


def loader_of(feed: Feed, workers: int) -> DataLoader[dict[str, Any]]:
    """Load batches in their order, ahead of time by processes of their own where there are some."""
    return DataLoader(
        feed,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # The pictures in memory are shared with forked processes, not copied.
        multiprocessing_context="fork" if workers and "fork" in get_all_start_methods() else None,
    )
