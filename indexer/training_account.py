"""What a training came to, as plain values: what its report, its summary and its JSON say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.report_files import about_run
from indexer.report_pictures import PICTURE_SIZE, Picture
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

_VERSIONS = ("lightning", "pytorch-metric-learning", "torchvision")


@dataclass(frozen=True)
class Account:
    """A training, told.

    Attributes:
        source: what it learned from, in words.
        pictures: trained on.
        classes: of them; 0 without labels.
        held_out: pictures it was validated on; 0: none.
        held_by: how they came to be held out.
        by: "images", or "classes" where those held out were not trained on.
        embedder: its card.
        choices: every choice, as it was run, and why.
        rows: the epochs.
        best: the score of the best epoch; None without a validation.
        best_epoch: from 1.
        confusions: of the best epoch, most similar first.
        refused: uri and reason of pictures that could not be used.
        seconds: that it took, interruptions left out.
        about: command, versions, machine.
    """

    source: str
    pictures: int
    classes: int
    held_out: int
    held_by: str
    by: str
    embedder: dict[str, Any]
    choices: Sequence[Choice]
    rows: Sequence[Row]
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

    def to_dict(self) -> dict[str, Any]:
        """Give what a program wants to know as JSON values."""
        return {
            "digest": self.embedder["digest"],
            "embedder": self.embedder,
            "source": self.source,
            "pictures": self.pictures,
            "classes": self.classes,
            "held_out": self.held_out,
            "held_by": self.held_by,
            "by": self.by,
            "epochs": len(self.rows),
            "best_epoch": self.best_epoch,
            "validation": None if self.best is None else {**vars(self.best), "classifier": self.best.classifier},
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "refused": [{"uri": uri, "reason": reason} for uri, reason in self.refused],
            "recipe": {choice.field: choice.value for choice in self.choices},
        }


def account_of(found: Found, trained: Trained, choices: Sequence[Choice]) -> tuple[Account, Picture]:
    """Tell a training.

    Args:
        found: what it learned from.
        trained: what came of it.
        choices: as they were made before it.

    Returns:
        The account, and what gives small pictures by id.
    """
    from retrieval.lesson import MOST_VALIDATED

    lesson, course = found.lesson, trained.course
    run = {**trained.recipe.to_dict(), **trained.recipe.to_dict()["augmentation"]}
    as_run = [
        choice
        if run[choice.field] == choice.value
        else replace(choice, value=run[choice.field], why="as many as go into the budget")
        for choice in choices
    ]
    held, refused = set(lesson.held_out.uris), [*found.refused, *trained.refused]
    lost = sum(uri in held for uri, _ in trained.refused)
    about = about_run()
    about["versions"] |= {name: installed for name in _VERSIONS if (installed := version(name))}
    account = Account(
        source=lesson.source,
        pictures=len(lesson.train.ids) - (len(trained.refused) - lost),
        classes=len(set(lesson.train.labels)),
        held_out=max(0, min(len(lesson.held_out.ids), MOST_VALIDATED) - lost),
        held_by=found.held_by,
        by=lesson.by,
        embedder=card_of(trained.embedder.description, trained.embedder.digest),
        choices=as_run,
        rows=course.rows,
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
