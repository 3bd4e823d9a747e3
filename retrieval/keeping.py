"""What is done after each epoch, and checkpoints that are there whole or not at all."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from retrieval.course import Course, Row
from retrieval.errors import DamagedError, EmbedderError
from retrieval.fitting import advice
from retrieval.listener import Listener, Step
from retrieval.processes import gathered
from retrieval.recipe import Recipe
from retrieval.validation import Confusion, Score

Write = Callable[[Path, bytes], object]

WARM: Final = 2
"""Steps before the clock counts."""


class Files(CheckpointIO):
    """Checkpoints written whole or not at all, and read without running what they hold."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint through the caller's writer."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        self._write(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; plain values and tensors only."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        DamagedError: it is damaged.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged bytes raises of everything
        raise DamagedError(f"{path} is damaged ({type(error).__name__}); delete it to begin again") from error
    return checkpoint


class Clock(Callback):
    """Seconds of each step."""

    def __init__(self) -> None:
        """Begin."""
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Take the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())

    @property
    def seconds(self) -> float:
        """Of a step; the first ones, which reserve memory and start workers, left out."""
        return float(np.median(np.diff(self.ends[WARM:])))


class Keeper(Checkpoint):
    """After each epoch: validate, keep the best, write the checkpoint, tell.

    It is a Checkpoint for Lightning so that it comes last, when the epoch is complete.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        path: Path,
        identity: dict[str, str],
        asked: dict[str, Any],
        classes: Sequence[str],
        validate: Callable[[Any], tuple[Score, list[Confusion]]] | None,
        every: int,
        listener: Listener,
        deadline: float | None,
        validation: float,
    ) -> None:
        """Prepare.

        Args:
            recipe: of the run.
            path: of the checkpoint.
            identity: of the run; goes into the checkpoint.
            asked: the recipe before it was fitted to a budget; goes there too.
            classes: that are trained on; they go there too.
            validate: network → its score and confusions; None where nothing is held out.
            every: epochs between two validations.
            listener: told of steps and epochs, and when the deadline ends the run before its last epoch.
            deadline: by ``time.monotonic``, when the run shall have ended, its last validation too; None: none.
            validation: seconds that a validation is expected to take; what one took is believed from then on.
        """
        self.course, self._recipe, self._path, self._stopped = Course(), recipe, path, False
        self._validate, self._every = validate, every
        self._listener, self._deadline, self._validation = listener, deadline, validation
        self._identity, self._asked, self._classes = identity, asked, list(classes)
        self._began = self._epoch_began = time.monotonic()
        self._images, self._rate = 0, 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure the network as it is before the first step: what training has to beat."""
        if self._validate is None or self.course.rows:
            return
        pl_module.judged.eval()
        began = time.monotonic()
        self.course.untrained = replace(self._validate(pl_module.judged)[0], head=None)
        self._validation = time.monotonic() - began

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the epoch."""
        self._epoch_began, self._images = time.monotonic(), 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Read the learning rate, before the scheduler goes on to the next step's."""
        self._rate = max(group["lr"] for group in trainer.optimizers[0].param_groups if group["name"] == "backbone")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tell where the run is."""
        self._images += len(batch["codes"]) * trainer.world_size
        took = time.monotonic() - self._epoch_began
        self._step = Step(
            epoch=trainer.current_epoch + 1,
            epochs=self._recipe.epochs,
            step=batch_idx + 1,
            steps=len(pl_module.feed),
            loss=float(pl_module.losses[-1]),
            images_per_second=self._images / max(took, 1e-9),
            score=next((row.score for row in reversed(self.course.rows) if row.score is not None), None),
        )
        self._listener.step(self._step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Validate where it is time to, and write the checkpoint."""
        took, epoch = time.monotonic() - self._epoch_began, trainer.current_epoch + 1
        if not all(bool(torch.isfinite(parameter).all()) for parameter in pl_module.parameters()):
            raise EmbedderError(f"weights are no numbers any more after epoch {epoch}: {advice(self._recipe)}")
        due = self._validate is not None and epoch % self._every == 0
        # Another epoch begins only if a validation has its time after it, as well as the one that is due now.
        ahead = took + self._validation * (2 if due else 1)
        late = self._deadline is not None and time.monotonic() + ahead > self._deadline
        late = trainer.strategy.reduce_boolean_decision(late, all=False)
        last = epoch == self._recipe.epochs or late
        score = None
        if self._validate is not None and (last or due):
            pl_module.judged.eval()
            began = time.monotonic()
            score, confusions = self._validate(pl_module.judged)
            self._validation = time.monotonic() - began
            if self.course.best is None or score.merit >= self.course.best.merit:
                self._keep(pl_module, score, epoch)
                self.course.confusions = confusions
        elif self._validate is None:
            self._keep(pl_module, None, epoch)
        losses = torch.stack(pl_module.losses).mean()
        row = Row(
            epoch=epoch,
            loss=float(losses),
            parts={name: float(torch.stack(values).mean()) for name, values in pl_module.parts.items()},
            lr=self._rate,
            image_size=pl_module.feed.size,
            images_per_second=self._images / max(took, 1e-9),
            seconds=self.course.seconds + time.monotonic() - self._began,
            score=score,
        )
        self.course.rows.append(row)
        self.course.unread = sorted({*self.course.unread, *(at for some in gathered(pl_module.unread) for at in some)})
        self._stopped = late or self._tired()
        trainer.save_checkpoint(self._path)
        if trainer.is_global_zero:
            self._listener.row(row)
            if late and epoch < self._recipe.epochs:
                self._listener.notice(
                    f"the budget ends the run after epoch {epoch} of {self._recipe.epochs}, before the schedule of its "
                    f"learning rates is over: a longer --budget, or --epochs {epoch}, lets it come to its end"
                )
        if score is not None:
            self._listener.step(replace(self._step, score=score))
        trainer.should_stop = self._stopped

    def _keep(self, fitting: Any, score: Score | None, epoch: int) -> None:
        self.course.best, self.course.best_epoch = score, epoch
        self.course.weights = {
            name: value.detach().to("cpu", copy=True) for name, value in fitting.judged.state_dict().items()
        }

    def _tired(self) -> bool:
        merits = [row.score.merit for row in self.course.rows if row.score is not None]
        # Of epochs as good the last is kept, but only a better one is worth waiting for.
        return bool(merits) and 0 < self._recipe.patience < len(merits) - merits.index(max(merits))

    @property
    def state_key(self) -> str:
        """What its state is called in the checkpoint."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """What of this goes into the checkpoint."""
        kept = self.course.to_dict()
        kept["seconds"] += time.monotonic() - self._began
        return {
            "course": kept,
            "identity": self._identity,
            "asked": self._asked,
            "classes": self._classes,
            "recipe": self._recipe.to_dict(),
            "stopped": self._stopped,
            "validation": self._validation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.course = Course.from_dict(state_dict["course"]).with_lesson_of(self.course)
        self._stopped, self._validation = state_dict["stopped"], state_dict["validation"]
