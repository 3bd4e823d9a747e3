"""What a run learns from, what is held out of it, and both as pictures that a network takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.backbones import Preprocessing
from retrieval.datasets.cuts import CutSource
from retrieval.errors import InputError
from retrieval.held_out import IMAGES
from retrieval.picture_store import PictureStore, available_memory
from retrieval.validation import Pictures

MOST_VALIDATED: Final = 5_000
GALLERY_PER_CLASS: Final = 20
MOST_SEARCHED: Final = 40_000


@dataclass(frozen=True)
class Examples:
    """Pictures of one root with their classes.

    Attributes:
        root: that uris are relative to.
        ids: what each is called, none twice.
        uris: what ``retrieval.datasets.cuts.CutSource`` reads.
        labels: the classes; none of them for self-supervised training.
    """

    root: Path
    ids: Sequence[str]
    uris: Sequence[str]
    labels: Sequence[str]

    def only(self, classes: Collection[str]) -> Examples:
        """Give the pictures of these classes; all, where there are no labels."""
        if not self.labels:
            return self
        places = [at for at, label in enumerate(self.labels) if label in classes]
        columns = ([column[at] for at in places] for column in (self.ids, self.uris, self.labels))
        return Examples(self.root, *columns)


@dataclass(frozen=True)
class Lesson:
    """What is learned from, and what is held out to see how well.

    Attributes:
        train: shown in training.
        held_out: never shown; none of them where there is no validation.
        by: "images" where the classes of ``held_out`` are those of training, else "classes".
        source: where the pictures come from, in words, for the embedder's card.
    """

    train: Examples
    held_out: Examples
    by: str
    source: str

    def only(self, classes: Collection[str]) -> Lesson:
        """Give what is left with these classes; those that are held out whole stay."""
        held_out = self.held_out.only(classes) if self.by == IMAGES else self.held_out
        return replace(self, train=self.train.only(classes), held_out=held_out)


def store_of(
    examples: Examples,
    preprocessing: Preprocessing,
    *,
    size: int = 0,
    sharing: int = 1,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> PictureStore:
    """Decode pictures, to keep them where they fit into memory.

    Args:
        examples: whose.
        preprocessing: of the embedder; pictures are kept as large as it wants them.
        size: of the shorter side that is wanted at least, pixels.
        sharing: processes on this machine that each keep their own.
        progress: called with pictures done, all, and refused.
    """
    store = PictureStore(
        CutSource(examples.root),
        examples.uris,
        size=max(preprocessing.shorter_side, size),
        interpolation=preprocessing.interpolation,
        memory=available_memory() // 2 // sharing,
    )
    return store.fill(progress=progress)


def held_out_of(
    examples: Examples, preprocessing: Preprocessing, *, whole_classes: bool, sharing: int = 1
) -> tuple[Pictures, list[tuple[str, str]]]:
    """Bring held-out pictures to the network's size, just as the embedder will.

    About 5,000 of them, spread evenly over pictures or over classes: more would only cost time.

    Args:
        examples: held out; may be none.
        preprocessing: of the embedder.
        whole_classes: whether they are searched among themselves, so that a class stays together.
        sharing: processes on this machine that each keep their own.

    Returns:
        The pictures, and uri and reason of those that cannot be used.

    Raises:
        InputError: not one can be used.
    """
    n = len(examples.ids)
    chosen = _whole_classes(examples.labels) if whole_classes else _spread(n, MOST_VALIDATED)
    some = Examples(
        examples.root,
        [examples.ids[at] for at in chosen],
        [examples.uris[at] for at in chosen],
        [examples.labels[at] for at in chosen],
    )
    store = store_of(some, preprocessing, sharing=sharing)
    refused = dict(store.unusable(range(len(chosen))))
    kept = [at for at in range(len(chosen)) if at not in refused]
    if n and not kept:
        first = next(iter(refused.items()))
        raise InputError(
            f"not one of the {n:,} pictures held out for validation can be used "
            f"(the first, {some.uris[first[0]]}: {first[1]})"
        )
    if whole_classes and n and max(Counter(some.labels[at] for at in kept).values()) < 2:
        raise InputError("no class that is held out has two pictures to find each other; hold out images instead")
    prepare = preprocessing.preparation()
    pictures = Pictures(
        [some.ids[at] for at in kept], [some.labels[at] for at in kept], lambda place: prepare(store[kept[place]])
    )
    return pictures, [(some.uris[at], reason) for at, reason in refused.items()]


def gallery_of(train: Examples, store: PictureStore, places: Sequence[int], preprocessing: Preprocessing) -> Pictures:
    """Choose training pictures that held-out ones are searched among: 20 a class, fewer of many, spread evenly."""
    members: dict[str, list[int]] = {}
    for at in places:
        members.setdefault(train.labels[at], []).append(at)
    of_each = max(1, min(GALLERY_PER_CLASS, MOST_SEARCHED // len(members)))
    chosen = [of_class[at] for of_class in members.values() for at in _spread(len(of_class), of_each)]
    prepare = preprocessing.preparation()
    return Pictures(
        [train.ids[at] for at in chosen],
        [train.labels[at] for at in chosen],
        lambda place: prepare(store[chosen[place]]),
    )


def _whole_classes(labels: Sequence[str]) -> list[int]:
    """Places of the pictures of so many classes, evenly spread over their names, that enough are there."""
    members: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        members.setdefault(label, []).append(at)
    names = sorted(members)
    wanted = math.ceil(len(names) * min(1.0, MOST_VALIDATED / max(1, len(labels))))
    return sorted(at for place in _spread(len(names), wanted) for at in members[names[place]])


def _spread(n: int, most: int) -> list[int]:
    """At most so many places of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []
