"""What a run learns from, what is held out of it, and both as pictures that a network takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.backbones import Preprocessing
from retrieval.datasets.cuts import CutSource
from retrieval.errors import InputError
from retrieval.picture_store import PictureStore
from retrieval.validation import Pictures

CLASSES: Final = "classes"
IMAGES: Final = "images"
MOST_VALIDATED: Final = 5_000
GALLERY_PER_CLASS: Final = 20


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


def store_of(
    examples: Examples,
    preprocessing: Preprocessing,
    *,
    size: int = 0,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> PictureStore:
    """Decode pictures, to keep them where they fit into memory.

    Args:
        examples: whose.
        preprocessing: of the embedder; pictures are kept as large as it wants them.
        size: of the shorter side that is wanted at least, pixels.
        progress: called with pictures done, all, and refused.
    """
    store = PictureStore(
        CutSource(examples.root),
        examples.uris,
        size=max(preprocessing.shorter_side, size),
        interpolation=preprocessing.interpolation,
    )
    return store.fill(progress=progress)


def held_out_of(examples: Examples, preprocessing: Preprocessing) -> tuple[Pictures, list[tuple[str, str]]]:
    """Bring held-out pictures to the network's size, just as the embedder will.

    At most 5,000 of them, spread evenly: more would only cost time.

    Returns:
        The pictures, and uri and reason of those that cannot be used.

    Raises:
        InputError: not one can be used.
    """
    n = len(examples.ids)
    chosen = _spread(n, MOST_VALIDATED)
    some = Examples(
        examples.root,
        [examples.ids[at] for at in chosen],
        [examples.uris[at] for at in chosen],
        [examples.labels[at] for at in chosen],
    )
    store = store_of(some, preprocessing)
    refused = dict(store.refused)
    kept = [at for at in range(len(chosen)) if at not in refused]
    if n and not kept:
        first = store.refused[0]
        raise InputError(
            f"not one of the {n:,} pictures held out for validation can be used "
            f"(the first, {some.uris[first[0]]}: {first[1]})"
        )
    prepare = preprocessing.preparation()
    pictures = Pictures(
        [some.ids[at] for at in kept], [some.labels[at] for at in kept], lambda place: prepare(store[kept[place]])
    )
    return pictures, [(some.uris[at], reason) for at, reason in store.refused]


def gallery_of(train: Examples, store: PictureStore, places: Sequence[int], preprocessing: Preprocessing) -> Pictures:
    """Choose training pictures that held-out ones are searched among: up to 20 a class, spread evenly."""
    members: dict[str, list[int]] = {}
    for at in places:
        members.setdefault(train.labels[at], []).append(at)
    chosen = [of_class[at] for of_class in members.values() for at in _spread(len(of_class), GALLERY_PER_CLASS)]
    prepare = preprocessing.preparation()
    return Pictures(
        [train.ids[at] for at in chosen],
        [train.labels[at] for at in chosen],
        lambda place: prepare(store[chosen[place]]),
    )


def _spread(n: int, most: int) -> list[int]:
    """At most so many places of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []
