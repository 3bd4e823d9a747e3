"""What a run has come to, epoch by epoch; plain values that a checkpoint can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from retrieval.validation import Confusion, Score


@dataclass(frozen=True)
class Row:
    """One epoch of a run.

    Attributes:
        epoch: from 1.
        loss: mean over its steps.
        parts: the same of each term of the loss.
        lr: the backbone's largest learning rate in the epoch's last step.
        image_size: of its training pictures.
        images_per_second: of training alone.
        seconds: since the run began, interruptions left out.
        score: of the validation; None where there was none in this epoch.
    """

    epoch: int
    loss: float
    parts: dict[str, float]
    lr: float
    image_size: int
    images_per_second: float
    seconds: float
    score: Score | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Read what ``to_dict`` gave."""
        found = values["score"]
        return cls(**{**values, "score": None if found is None else Score(**found)})


@dataclass
class Course:
    """What a run has come to; kept in the checkpoint.

    Attributes:
        rows: an epoch each.
        untrained: the score before the first step, without a head's; None where nothing is held out.
        best: the best score so far.
        best_epoch: from 1; 0: none yet.
        weights: of the network then, on the CPU.
        confusions: of the best validation.
        seconds: that earlier parts of the run took.
        pictures: that are trained on.
        held_out: pictures that are validated on.
        measured: those of them with another of their class in what is searched.
        refused: uri and reason of those that cannot be used.
        unread: places among the training pictures of those that could not be read when they were to be shown.
    """

    rows: list[Row] = field(default_factory=list)
    untrained: Score | None = None
    best: Score | None = None
    best_epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    confusions: list[Confusion] = field(default_factory=list)
    seconds: float = 0.0
    pictures: int = 0
    held_out: int = 0
    measured: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    @property
    def shown(self) -> int:
        """Pictures that were trained on, those left out that could not be read when they were to be shown."""
        return self.pictures - len(self.unread)

    def with_lesson_of(self, other: Course) -> Course:
        """Give this with the pictures of another part of the run: what they are now, and all that was refused."""
        more = [pair for pair in other.refused if pair not in self.refused]
        return replace(
            self,
            pictures=other.pictures,
            held_out=other.held_out,
            measured=other.measured,
            refused=self.refused + more,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values and tensors."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "untrained": None if self.untrained is None else asdict(self.untrained),
            "best": None if self.best is None else asdict(self.best),
            "best_epoch": self.best_epoch,
            "weights": self.weights,
            "confusions": [asdict(confusion) for confusion in self.confusions],
            "seconds": self.seconds,
            "pictures": self.pictures,
            "held_out": self.held_out,
            "measured": self.measured,
            "refused": self.refused,
            "unread": self.unread,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Course:
        """Read what ``to_dict`` gave."""
        untrained, best = values["untrained"], values["best"]
        return cls(
            rows=[Row.from_dict(row) for row in values["rows"]],
            untrained=None if untrained is None else Score(**untrained),
            best=None if best is None else Score(**best),
            best_epoch=values["best_epoch"],
            weights=values["weights"],
            confusions=[Confusion(**confusion) for confusion in values["confusions"]],
            seconds=values["seconds"],
            pictures=values["pictures"],
            held_out=values["held_out"],
            measured=values["measured"],
            refused=values["refused"],
            unread=values["unread"],
        )
