"""Trainings that one process or several compute, for the tests that compare them; started by python or torchrun."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from retrieval import training
from retrieval.fitting import Fitting
from retrieval.lesson import Examples
from retrieval.listener import Listener
from retrieval.timing import Costs
from tests.retrieval.lessons import PLAIN, lesson_of, quick

ALONE = 9
"""Stands for the rank of a process that is the only one."""


def run(name: str, job: dict[str, Any], pictures: Path, weights: Path, out: Path) -> None:
    """Train as a job says, and leave what each process has in the end in a file of its own."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(str(path.relative_to(pictures).as_posix()) for path in pictures.rglob("*.png"))
    labels = [name.split("/")[0] for name in names]
    loss, blind = job["loss"], job["loss"] == "ntxent"
    train = Examples(pictures, names, names, [] if blind else labels)
    lesson = lesson_of(train, Examples(pictures, names, names, labels), "classes" if blind else "images")
    values = {"head": "cosine" if loss.endswith("ce") else "none", "epochs": 2, "deterministic": True, "seed": 3}
    recipe = quick(**{**values, "loss": loss, **job.get("changes", {})})
    if job.get("mixed"):
        recipe = replace(recipe, augmentation=replace(PLAIN, mixup=0.4, cutmix=1.0))

    def ended(self: Fitting) -> None:
        rank = self.global_rank if self.trainer.world_size > 1 else ALONE
        torch.save((self.objective.state_dict(), self.network.state_dict()), folder / f"rank{rank}.pt")

    def costs(*_: object, **__: object) -> Costs:
        """Steps with which three epochs go into the budget for the first process, and one for the second."""
        return Costs(lambda size: 600.0 * (1 + 2 * int(os.environ["RANK"])), 0.0)

    rows: list[int] = []
    Fitting.on_train_end, training.measure = ended, costs
    trained = training.fit(
        lesson,
        recipe,
        folder,
        write=Path.write_bytes,
        weights=weights,
        budget=job.get("budget"),
        device="cpu",
        workers=0,
        listener=Listener(row=lambda row: os._exit(1) if job.get("stopped") else rows.append(row.epoch)),
    )
    if trained is not None:
        (folder / "epochs").write_text(json.dumps(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each, what in json.loads(sys.argv[1]).items():
        run(each, what, *map(Path, sys.argv[2:]))
