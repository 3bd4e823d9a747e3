"""A training as the user sees it: progress while it runs, files and figures when it has ended."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.files import write_bytes
from indexer.options import progress_bar
from indexer.training_account import account_of
from indexer.training_files import METRICS, PAGE, Metrics, read_about, save_embedder, write_recipe
from indexer.training_report import training_page
from retrieval.choosing import Choice
from retrieval.errors import EmbedderError
from retrieval.recipe import CHECKPOINT

if TYPE_CHECKING:
    from indexer.training_source import Found
    from retrieval.course import Row
    from retrieval.listener import Step
    from retrieval.recipe import Recipe
    from retrieval.training import Trained


def run_training(
    found: Found,
    recipe: Recipe,
    choices: Sequence[Choice],
    place: Path,
    *,
    leading: bool,
    restart: bool,
    notice: Callable[[str], object],
    **how: Any,
) -> Trained | None:
    """Train, showing where the run is and writing ``metrics.csv`` as it goes.

    Args:
        found: what to learn from.
        recipe: every choice.
        choices: the same with their reasons.
        place: of the checkpoint.
        leading: whether this is the first, or only, process of the run; the others show and write nothing.
        restart: whether what an earlier run left is not gone on from.
        notice: told in a sentence what was decided.
        how: what else ``retrieval.training.fit`` takes.

    Returns:
        What ``fit`` gave.

    Raises:
        KeyboardInterrupt: the user stopped it; says how to go on where that is not the same command.
        LookalikeError: what ``fit`` raises; or the device has no memory left.
    """
    from retrieval.listener import NOBODY, Listener
    from retrieval.training import fit

    metrics = Metrics(place / METRICS)
    begun = False

    def on_row(row: Row) -> None:
        nonlocal begun
        if not begun:  # only now is it sure that this folder's run is this one
            write_recipe(place, choices, {"source": found.lesson.source, "held_by": found.held_by})
        begun = True
        metrics.add(row)

    with contextlib.ExitStack() as stack:
        filling = stack.enter_context(progress_bar("decode"))
        showing = stack.enter_context(_epochs_bar())
        try:
            return fit(
                found.lesson,
                recipe,
                place,
                write=write_bytes,
                restart=restart,
                listener=Listener(filling=filling, step=showing, row=on_row, notice=notice) if leading else NOBODY,
                **how,
            )
        except KeyboardInterrupt as error:
            if not restart and (place / CHECKPOINT).is_file():
                raise
            kept = "what was finished is kept, and the same command without --restart goes on from there"
            nothing = "no epoch was finished, so nothing is kept"
            nothing = "no epoch was finished, and what was there before is as it was" if restart else nothing
            raise KeyboardInterrupt(f"interrupted; {kept if begun else nothing}") from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise EmbedderError(
                f"the device has no memory left for batches of {recipe.batch} at {recipe.train_size} pixels: give a "
                "smaller --batch or --train-size"
            ) from error


@contextlib.contextmanager
def _epochs_bar() -> Iterator[Callable[[Step], None]]:
    """Show where a run is: loss, speed, the last validation and the time left."""
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar: tqdm[Any] | None = None

    def show(step: Step) -> None:
        nonlocal bar
        done, total = (step.epoch - 1) * step.steps + step.step, step.epochs * step.steps
        if bar is None:
            bar = tqdm(
                total=total,
                initial=done - 1,
                unit=" steps",
                mininterval=interval,
                maxinterval=interval,
                dynamic_ncols=True,
            )
        bar.set_description(f"epoch {step.epoch}/{step.epochs}", refresh=False)
        after = {"loss": f"{step.loss:.3f}", "images/s": f"{step.images_per_second:.0f}"}
        if step.score is not None:
            after["Recall@1"] = f"{step.score.recall_at_1:.2%}"
        bar.set_postfix(after, refresh=False)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def finish_training(
    found: Found, trained: Trained, choices: Sequence[Choice], out: Path, place: Path
) -> dict[str, Any]:
    """Write the embedder and all that tells of it.

    Args:
        found: what was learned from.
        trained: what came of it.
        choices: of the recipe, with their reasons.
        out: the embedder's folder.
        place: below it, of what tells of the run.

    Returns:
        What it came to, as JSON values.

    Raises:
        CatalogueError: the disk is full or the folder cannot be written.
    """
    told = read_about(place) if trained.finished else None
    save_embedder(trained.embedder, out)
    Metrics(place / METRICS).replace(trained.course.rows)
    account, picture = account_of(found, trained, choices, about=told)
    write_recipe(
        place,
        account.choices,
        {"source": found.lesson.source, "held_by": found.held_by, "about": account.about},
    )
    write_bytes(out / PAGE, training_page(account, picture).encode())
    return {"out": str(out), "report": str(out / PAGE), **account.to_dict()}
