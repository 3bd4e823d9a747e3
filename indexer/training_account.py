"""What a training came to, as plain values: what its report, its summary and its JSON say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from indexer.report_files import about_run
from indexer.report_pictures import PICTURE_SIZE, Picture
from indexer.report_words import percent
from retrieval import images
from retrieval.choosing import Choice
from retrieval.datasets.cuts import CutSource
from retrieval.errors import NotFoundError
from retrieval.machine import version
from retrieval.model_card import card_of

if TYPE_CHECKING:
    from indexer.training_source import Found
    from retrieval.course import Row
    from retrieval.training import Trained
    from retrieval.validation import Confusion, Score

SCORES: Final = (("recall_at_1", "Recall@1"), ("knn", "kNN vote"), ("head", "head"), ("map_at_r", "MAP@R"))
"""Fields of ``Score`` in the order they are told, and what people call them."""
FEW: Final = 100
"""Images; a share of fewer is told as a count, since decimals of a per cent would promise what is not known."""
_VERSIONS = ("lightning", "pytorch-metric-learning", "torchvision")


@dataclass(frozen=True)
class Measure:
    """A figure of the validation, with the images it is of.

    Attributes:
        field: of ``Score``.
        name: as people call it.
        value: a share of images or a mean over them, in [0, 1].
        of: images.
        right: how many of them were right; None of a mean.
        low: lower end of the share's 95 % interval (Wilson), each image taken for itself; None of a mean.
        high: its upper end.
    """

    field: str
    name: str
    value: float
    of: int
    right: int | None
    low: float | None
    high: float | None

    @property
    def told(self) -> str:
        """The figure as it is read: "9 of 10" of few images, else "91.23 %"."""
        if self.of >= FEW:
            return f"{percent(self.value)} %"
        return f"{percent(self.value, 1)} %" if self.right is None else f"{self.right:,} of {self.of:,}"

    def interval(self, between: str) -> str:
        """Say the 95 % interval, its ends joined by a word or a sign; "" where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"95 % interval {percent(self.low, 1)} {between} {percent(self.high, 1)} %"


def measures(validation: Mapping[str, Any], held_out: int, measured: int) -> list[Measure]:
    """Tell the figures of a validation with what they are of, in the order of ``SCORES``.

    Args:
        validation: the fields of a ``Score``.
        held_out: images that were validated on.
        measured: those of them that can find another of their class.
    """
    from retrieval.uncertainty import interval_of_share

    found = []
    for field, name in SCORES:
        value = validation.get(field)
        if value is None:
            continue
        of = held_out if field == "head" else measured  # the head searches nothing
        right, low, high = None, None, None
        if field != "map_at_r" and of:
            right = round(value * of)
            low, high = interval_of_share(right, of)
            if abs(value * of - right) > 1e-6 * of:  # no count of these images; say the share rather than a false one
                right = None
        found.append(Measure(field, name, value, of, right, low, high))
    return found


def chosen_by(validation: Mapping[str, Any]) -> str:
    """Say which figure chose the epoch, as ``Score.merit`` orders epochs; between even ones MAP@R does."""
    named = [name for field, name in SCORES if field in ("knn", "head") and validation.get(field) is not None]
    if len(named) == 2:
        return f"the better of {named[0]} and {named[1]}"
    return f"the {named[0]}" if named else "Recall@1"


@dataclass(frozen=True)
class Account:
    """A training, told.

    Attributes:
        source: what it learned from, in words.
        pictures: trained on.
        classes: of them; 0 without labels.
        held_out: pictures it was validated on; 0: none.
        measured: those of them with another of their class in what is searched: Recall@1, MAP@R and the vote are of
            these.
        held_by: how they came to be held out.
        by: "images", or "classes" where those held out were not trained on.
        embedder: its card.
        choices: every choice, as it was run, and why.
        rows: the epochs.
        untrained: the score before the first step; None without a validation.
        best: the score of the best epoch; None without a validation.
        best_epoch: the one that is kept, from 1; without a validation the last.
        confusions: of the best epoch, most similar first.
        refused: uri and reason of pictures that could not be used.
        seconds: that it took, interruptions left out.
        about: command, versions, machine.
    """

    source: str
    pictures: int
    classes: int
    held_out: int
    measured: int
    held_by: str
    by: str
    embedder: dict[str, Any]
    choices: Sequence[Choice]
    rows: Sequence[Row]
    untrained: Score | None
    best: Score | None
    best_epoch: int
    confusions: Sequence[Confusion]
    refused: Sequence[tuple[str, str]]
    seconds: float
    about: dict[str, Any]

    @property
    def images_per_second(self) -> float:
        """Of training alone, the median epoch's."""
        return statistics.median(row.images_per_second for row in self.rows) if self.rows else 0.0

    @property
    def measures(self) -> list[Measure]:
        """The figures of the epoch that is kept; none without a validation."""
        return [] if self.best is None else measures(vars(self.best), self.held_out, self.measured)

    def to_dict(self) -> dict[str, Any]:
        """Give what a program wants to know as JSON values."""
        return {
            "digest": self.embedder["digest"],
            "embedder": self.embedder,
            "source": self.source,
            "pictures": self.pictures,
            "classes": self.classes,
            "held_out": self.held_out,
            "measured": self.measured,
            "held_by": self.held_by,
            "by": self.by,
            "epochs": len(self.rows),
            "best_epoch": self.best_epoch,
            "untrained": None if self.untrained is None else vars(self.untrained),
            "validation": None
            if self.best is None
            else {**vars(self.best), "classifier": self.best.classifier, "chosen_by": self.best.deciding},
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "refused": [{"uri": uri, "reason": reason} for uri, reason in self.refused],
            "recipe": {choice.field: choice.value for choice in self.choices},
        }


def account_of(
    found: Found, trained: Trained, choices: Sequence[Choice], *, about: dict[str, Any] | None = None
) -> tuple[Account, Picture]:
    """Tell a training.

    Args:
        found: what it learned from.
        trained: what came of it.
        choices: as they were made before it.
        about: command, versions and machine; None: those of now.

    Returns:
        The account, and what gives small pictures by id.
    """
    lesson, course = found.lesson, trained.course
    run = {**trained.recipe.to_dict(), **trained.recipe.to_dict()["augmentation"]}
    as_run = [
        choice
        if run[choice.field] == choice.value
        else replace(choice, value=run[choice.field], why="as many as go into the budget")
        for choice in choices
    ]
    if about is None:
        about = about_run()
        about["versions"] |= {name: installed for name in _VERSIONS if (installed := version(name))}
    refused = [*found.refused, *trained.refused]
    gone = len((set(lesson.held_out.uris) - set(lesson.train.uris)) & {uri for uri, _ in trained.refused})
    held_by = found.held_by + (f", of which {gone:,} cannot be used" if gone else "")
    account = Account(
        source=lesson.source,
        pictures=course.shown,
        classes=trained.classes,
        held_out=course.held_out,
        measured=course.measured,
        held_by=held_by,
        by=lesson.by,
        embedder=card_of(trained.embedder.description, trained.embedder.digest),
        choices=as_run,
        rows=course.rows,
        untrained=course.untrained,
        best=course.best,
        best_epoch=course.best_epoch,
        confusions=course.confusions,
        refused=refused,
        seconds=course.rows[-1].seconds if course.rows else 0.0,
        about=about,
    )
    return account, _pictures(found)


def _pictures(found: Found) -> Callable[[str], bytes]:
    """Give small pictures of a lesson by their ids."""
    where: dict[str, tuple[Path, str]] = {}
    for examples in (found.lesson.train, found.lesson.held_out):
        where |= {id: (examples.root, uri) for id, uri in zip(examples.ids, examples.uris, strict=True)}

    def picture(id: str) -> bytes:
        if id not in where:
            raise NotFoundError(f"there is no image {id}")
        root, uri = where[id]
        with CutSource(root) as source:
            return images.thumbnail(source.read(uri), size=PICTURE_SIZE)

    return picture
