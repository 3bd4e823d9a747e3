"""What is held out of the training pictures, to choose the best model by and to stop at; and labels worth training on.

The test split of a benchmark never comes here.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.sampling import generator

IMAGES: Final = "images"
CLASSES: Final = "classes"
WAYS: Final = (IMAGES, CLASSES)
"""What ``hold_out`` can hold out."""

_DIGITS: Final = re.compile(r"([0-9]+)")


def hold_out(
    labels: Sequence[str | None], uris: Sequence[str], *, by: str = IMAGES, share: float = 0.15, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Part pictures into those to train on and those to validate with.

    "images": of every class with three images or more its last ones, in the natural order of their uris (``img9``
    before ``img10``), so that at least two stay. Not a random draw: pictures are often taken in bursts, a few of one
    object after another, and a held-out picture whose twin is trained on says nothing about other objects. Cut in
    order, at most one burst a class is on both sides. For sources whose classes will be searched for again.

    "classes": whole classes, drawn at random from those with two images or more, at least two of them. For zero-shot
    retrieval, where the classes that will be searched for are not those that were trained on.

    Args:
        labels: (n), none missing: the caller has refused those without.
        uris: (n), one a picture.
        by: one of ``WAYS``.
        share: of each class's images, or of the classes; in (0, 1).
        seed: of the draw of classes.

    Returns:
        Places of the pictures to train on and of those to validate with, (k,) and (n - k,) int64, ascending.

    Raises:
        InputError: one class only, nothing can be held out, no such way, or no such share.
    """
    if by not in WAYS:
        raise InputError(f"there is no way {by!r} of holding pictures out; choose one of {', '.join(WAYS)}")
    if not 0 < share < 1:
        raise InputError(f"the share held out lies between 0 and 1, and {share:g} does not")
    assert len(labels) == len(uris), "a uri a label"
    classes: defaultdict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        assert label is not None, "the caller refuses pictures without a label"
        classes[label].append(place)
    if len(classes) < 2:
        raise InputError(_one_class("the source", classes, "give more"))
    chosen = _classes(classes, share, seed) if by == CLASSES else _images(classes, uris, share)
    held = np.zeros(len(labels), bool)
    held[chosen] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def copies_of(paths: Sequence[Path], held: Sequence[Path]) -> dict[int, int]:
    """Find files that are equal byte for byte to one that is held out; only equally large ones are read.

    Args:
        paths: n files.
        held: m files. What is no file, or cannot be read, is a copy of nothing.

    Returns:
        Places in ``paths`` → the place in ``held`` of the file that each is equal to.
    """
    by_size: defaultdict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, files in enumerate((paths, held)):
        for at, path in enumerate(files):
            with contextlib.suppress(OSError):
                by_size[path.stat().st_size][side].append(at)
    found: dict[int, int] = {}
    for ours, theirs in by_size.values():
        if ours and theirs:
            known = {digest: at for at in theirs if (digest := _digest(held[at])) is not None}
            found |= {at: known[digest] for at in ours if (digest := _digest(paths[at])) in known}
    return found


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


def check_labels(
    labels: Sequence[str | None], *, source: str = "the source", how: str = "name another column with --label-column"
) -> None:
    """Refuse labels from which no likeness can be learnt.

    Args:
        labels: None where a picture has none.
        source: what to call it in messages.
        how: what to do for others.

    Raises:
        InputError: there are no labels, there is one class only, or no class has two images.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for label in labels:
        if label is not None:
            counts[label] += 1
    without = "or train without labels by --loss ntxent"
    if not counts:
        raise InputError(f"{source} has no labels: {how}, {without}")
    if len(counts) == 1:
        raise InputError(_one_class(source, counts, how))
    if max(counts.values()) == 1:
        raise InputError(
            f"each of the {len(counts):,} classes of {source} has one image only, so it does not show what images of a "
            f"class have in common: {how}, {without}"
        )


def _natural(uri: str) -> tuple[list[object], str]:
    """Give the key by which uris are sorted as people count: ``img9`` before ``img10``."""
    parts: list[object] = list(_DIGITS.split(uri))
    # A number by its length and then its digits: as int() would sort it, however long it is.
    parts[1::2] = [(len(digits), digits) for digits in (str(part).lstrip("0") for part in parts[1::2])]
    return parts, uri


def _images(classes: dict[str, list[int]], uris: Sequence[str], share: float) -> list[int]:
    held: list[int] = []
    for places in classes.values():
        if len(places) >= 3:
            number = min(max(1, round(share * len(places))), len(places) - 2)
            held += sorted(places, key=lambda place: _natural(uris[place]))[-number:]
    if not held:
        raise InputError(
            f"none of the {len(classes):,} classes has three images, so none can be held out and leave two: give "
            "--validate SOURCE, or --hold-out classes where classes have two images, or --hold-out none"
        )
    return held


def _classes(classes: dict[str, list[int]], share: float, seed: int) -> list[int]:
    able = sorted(name for name, places in classes.items() if len(places) >= 2)
    number = min(max(2, round(share * len(classes))), len(able), len(classes) - 2)
    if number < 2:
        why = (
            f"{len(classes):,} classes are too few to hold two out and train on two"
            if len(able) >= 2
            else f"of {len(classes):,} classes, one has two images"
            if able
            else f"each of the {len(classes):,} classes has one image only"
        )
        raise InputError(f"{why}, so whole classes cannot be held out: give --hold-out images, or --validate SOURCE")
    drawn = generator(seed).choice(len(able), number, replace=False)
    return [place for at in drawn.tolist() for place in classes[able[at]]]


def _one_class(source: str, classes: dict[str, list[int]] | dict[str, int], how: str) -> str:
    name = next(iter(classes), None)
    which = "no class" if name is None else f"one class only, {name!r}"
    return f"{source} has {which}, and metric learning needs two: {how}"
