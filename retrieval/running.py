"""Lightning's trainer for a run, and the processes that share it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from retrieval.errors import InputError
from retrieval.recipe import Recipe

Found = TypeVar("Found")


def processes() -> tuple[int, int]:
    """How many processes torchrun started, in all and on this machine."""
    return int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join(device: str) -> tuple[int, int]:
    """Join the processes that torchrun started, each with the GPU of its place on its machine; rank and how many."""
    if processes()[0] == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        cuda = device.startswith("cuda")
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def agreed(rank: int, world: int, decide: Callable[[], Found]) -> Found:
    """Let the first process decide, and all others do what it decided, or fail as it failed.

    Raises:
        InputError: ``decide`` raised it.
    """
    if world == 1:
        return decide()
    told: list[Any] = [None, None]
    if rank == 0:
        try:
            told[0] = decide()
        except InputError as error:
            told[1] = str(error)
    torch.distributed.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise InputError(told[1])
    found: Found = told[0]
    return found


def trainer_of(
    recipe: Recipe,
    device: torch.device,
    callback: Callback,
    *,
    files: CheckpointIO | None = None,
    tensorboard: Path | None = None,
    steps: int = -1,
) -> lightning.Trainer:
    """Build the trainer.

    Args:
        recipe: of the run.
        device: of this process.
        callback: what is done after steps and epochs.
        files: how checkpoints are written; None: they are not.
        tensorboard: folder for TensorBoard's files; None: none are written.
        steps: after which it ends, whatever the epochs; -1: by the recipe's epochs.
    """
    cuda = device.type == "cuda"
    world, local = processes()
    logger: Any = False
    if tensorboard is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(tensorboard, name="tensorboard", version="")
    precision = "bf16-mixed" if recipe.precision == "bf16" or (recipe.precision == "auto" and cuda) else "32-true"
    return lightning.Trainer(
        accelerator="cuda" if cuda else "cpu",
        devices=[device.index or 0] if cuda and world == 1 else local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        max_epochs=recipe.epochs if steps < 0 else -1,
        max_steps=steps,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=recipe.clip or None,
        deterministic=recipe.deterministic,
        logger=logger,
        log_every_n_steps=10,
        callbacks=[callback],
        plugins=[files] if files is not None else [],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=files is not None,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep Lightning's advice to its own users from ours, and let Ctrl-C and SIGTERM be what Ctrl-C is elsewhere."""
    logger = logging.getLogger("lightning.pytorch")
    level, interrupted = logger.level, signal.getsignal(signal.SIGINT)
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        except SystemExit as stop:  # of Ctrl-C, which it then ignores, or of SIGTERM, as a success
            if not isinstance(stop, SIGTERMException) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, interrupted)
            raise KeyboardInterrupt from stop
        finally:
            logger.setLevel(level)
