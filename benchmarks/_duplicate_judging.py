"""Pairs of photos that contenders call copies and the truth does not: laid out for somebody to look at, and read back.

The sets have photographs twice that nobody has listed, turned or cut another way. Whoever judges sees two pictures and
neither who called them copies nor how surely; among them are pairs whose answer is known, some of either kind, so that
the judging itself can be judged. The verdicts are kept in ``one_photograph.csv`` beside this file.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks._duplicate_edits import CAR_PAIRS, Photo
from benchmarks._duplicate_figures import WRONG, Pairs, Truth, judge

VERDICTS: Final = Path(__file__).with_name("one_photograph.csv")
COLUMNS: Final = ("first", "second", "one_photograph")
ANSWERS: Final = {"yes": True, "no": False}
SIDE: Final = 700  # pixels
TO_JUDGE: Final = "to_judge.csv"

Names = tuple[str, str]


def full_name(photo: Photo) -> str:
    """Of a photo, unlike that of every other."""
    return f"{photo.source}/{photo.name}"


def verdicts(path: Path = VERDICTS) -> dict[Names, bool]:
    """Read what was judged: two names in ascending order → whether they are one photograph."""
    with path.open(newline="") as file:
        return {
            (min(row["first"], row["second"]), max(row["first"], row["second"])): ANSWERS[row["one_photograph"]]
            for row in csv.DictReader(file)
        }


def with_verdicts(every: Sequence[Photo], number: np.ndarray, judged: dict[Names, bool]) -> np.ndarray:
    """Number the photographs as before, but those that were judged to be one alike."""
    place_of = {full_name(photo): place for place, photo in enumerate(every)}
    number = number.copy()
    for names, same in judged.items():
        if same and all(name in place_of for name in names):
            one, other = (number[place_of[name]] for name in names)
            number[number == other] = one
    return number


def disputed(every: Sequence[Photo], truth: Truth, called: Iterable[Pairs]) -> list[Names]:
    """The photos of which pairs were called copies wrongly, as far as the truth knows; ascending, each pair once."""
    found: set[Names] = set()
    for pairs in called:
        wrong = judge(truth, pairs) == WRONG
        for a, b in zip(pairs.a[wrong].tolist(), pairs.b[wrong].tolist(), strict=True):
            one, other = (full_name(every[int(truth.original[place])]) for place in (a, b))
            found.add((min(one, other), max(one, other)))
    return sorted(found)


def check_empty(folder: Path) -> None:
    """Raise SystemExit where there is something in a folder, such as somebody's verdicts."""
    if folder.is_dir() and any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty; give another folder with --sheets")


def lay_out(folder: Path, every: Sequence[Photo], pairs: Sequence[Names], *, seed: int) -> Path:
    """Write a picture for each pair, in random order with known ones among them, and the list that is to be filled in.

    Known ones are the eleven pairs of Cars, cut to other boxes, and as many photos of one shelf of Grocery that come
    next to each other.

    Raises:
        SystemExit: as ``check_empty``.
    """
    check_empty(folder)
    rng = np.random.default_rng([seed, 4])
    place_of = {full_name(photo): photo for photo in every}
    cars = {Path(photo.name).stem: full_name(photo) for photo in every if photo.source == "c"}
    shelves = sorted(full_name(photo) for photo in every if photo.source == "g")
    beside = [two for two in itertools.pairwise(shelves) if Path(two[0]).parent == Path(two[1]).parent]
    controls = [(cars[a], cars[b]) for a, b in CAR_PAIRS]
    controls += [beside[at] for at in rng.choice(len(beside), len(CAR_PAIRS), replace=False).tolist()]
    shown = [pair for pair in controls if pair not in set(pairs)] + list(pairs)
    shown = [shown[at] for at in rng.permutation(len(shown)).tolist()]
    folder.mkdir(parents=True, exist_ok=True)
    for at, pair in enumerate(shown):
        _beside(folder / f"{at:04d}.jpg", [place_of[name].read() for name in pair])
    listing = folder / TO_JUDGE
    with listing.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", *COLUMNS])
        writer.writerows([f"{at:04d}.jpg", *pair, ""] for at, pair in enumerate(shown))
    return listing


def _beside(path: Path, pictures: Sequence[bytes]) -> None:
    from PIL import Image, ImageOps

    page = Image.new("RGB", (2 * SIDE + 10, SIDE), "white")
    for side, data in enumerate(pictures):
        picture = ImageOps.contain(Image.open(io.BytesIO(data)).convert("RGB"), (SIDE, SIDE))  # a thumbnail is enlarged
        page.paste(picture, (side * (SIDE + 10), 0))
    page.save(path, quality=90)
