"""Who is told how a training goes, and what of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from retrieval.course import Row
from retrieval.validation import Score


@dataclass(frozen=True)
class Step:
    """Where a run is, for those who show it.

    Attributes:
        epoch: from 1.
        epochs: of the run.
        step: done in this epoch.
        steps: of this epoch.
        loss: of the last step.
        images_per_second: of this epoch so far.
        score: of the last validation.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    score: Score | None


def _nothing(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Listener:
    """Who is told how a run goes; of a distributed run each process has its own, and only the first tells of rows.

    Attributes:
        filling: called with pictures decoded, pictures in all, pictures refused.
        step: called after each step.
        row: called after each epoch, when its checkpoint is written.
        notice: told in a sentence what was decided.
    """

    filling: Callable[[int, int, int], object] = _nothing
    step: Callable[[Step], object] = _nothing
    row: Callable[[Row], object] = _nothing
    notice: Callable[[str], object] = _nothing


NOBODY: Final = Listener()
