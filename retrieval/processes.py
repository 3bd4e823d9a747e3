"""Work shared out among the processes of a torch.distributed run, one GPU a process, and gathered by all of them.

For evaluating within a run that has a process group, such as training: the command line starts none. A process that
fails leaves the others waiting for as long as the process group was told to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Part = TypeVar("Part")


def in_parts(n: int, work: Callable[[np.ndarray], Part]) -> list[tuple[np.ndarray, Part]]:
    """Do some work on n things, each process on its share, and give the parts of all to every process.

    Every process must call it with the same n. Outside a distributed run there is one part.

    Args:
        n: things in all.
        work: told which, (k,) int64 ascending; may be none. Its result must be picklable.

    Returns:
        What each process worked on and what came of it, in the order of their ranks.
    """
    distributed = _distributed()
    if distributed is None:
        everything = np.arange(n)
        return [(everything, work(everything))]
    rank, world = distributed.get_rank(), distributed.get_world_size()
    mine = np.arange(rank, n, world)
    parts: list[Any] = [None] * world
    # torch's own exchange of objects, between processes that trust each other already.
    distributed.all_gather_object(parts, (mine, work(mine)))
    return parts


def gathered(mine: Part) -> list[Part]:
    """Give what each process has to all of them, in the order of their ranks; it must be picklable."""
    return [part for _, part in in_parts(0, lambda _: mine)]


def own_device(device: str) -> str:
    """Name this process's GPU where every process has one: "cuda" and "auto" become "cuda:N" by its local rank."""
    if _distributed() is None or device not in ("cuda", "auto"):
        return device
    import torch

    if not torch.cuda.is_available():
        return device
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{torch.cuda.current_device() if rank is None else int(rank)}"


def _distributed() -> Any:
    """torch.distributed where a run of several processes is under way, else None; does not load torch."""
    if "torch" not in sys.modules:
        return None
    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    return distributed
