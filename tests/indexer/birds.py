"""A miniature of CUB-200-2011 with pictures that differ, and protocols that fix the counts of a miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from retrieval.datasets.protocol import Counts, Task
from retrieval.datasets.protocols import PROTOCOLS
from tests.retrieval.miniatures import files
from tests.retrieval.pictures import encoded

BIRDS = {1: (210, 40, 40), 2: (40, 190, 60), 101: (50, 60, 220), 102: (230, 200, 60), 103: (200, 60, 210)}
"""Class → colour; by the number, the first two are to train on and the others to search among."""
LEFT, TOP, SIDE = 4, 6, 14
"""The annotated box: the bird itself, of one colour, before a background that has nothing to do with its class."""


def write_birds(root: Path, *, each: int = 4, seed: int = 0) -> Path:
    """Write ``each`` images of each class, in turn for training and test of the classification split."""
    rng = np.random.default_rng(seed)
    images, labels, sides, boxes = [], [], [], []
    for name, colour in BIRDS.items():
        for number in range(each):
            picture = np.zeros((28, 30, 3)) + rng.uniform(0, 255, 3)
            picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = colour
            pixels = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
            path = root / "images" / f"{name:03d}.Bird" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(pixels, "JPEG", quality=95))
            at = len(images) + 1
            images.append(f"{at} {path.relative_to(root / 'images').as_posix()}\n")
            labels.append(f"{at} {name}\n")
            sides.append(f"{at} {number % 2}\n")
            boxes.append(f"{at} {LEFT}.0 {TOP}.0 {SIDE}.0 {SIDE}.0\n")
    files(
        root,
        {
            "images.txt": "".join(images),
            "classes.txt": "".join(f"{name} {name:03d}.Bird\n" for name in BIRDS),
            "image_class_labels.txt": "".join(labels),
            "train_test_split.txt": "".join(sides),
            "bounding_boxes.txt": "".join(boxes),
        },
    )
    return root


def fix_counts(monkeypatch: pytest.MonkeyPatch, name: str, root: Path) -> None:
    """Let every task of a protocol fix what a miniature has, as if that had been published."""

    def fixed(task: Task) -> Task:
        table = task.read(root, False).table
        rows = {part: table.filter(pc.equal(table.column("part"), part)) for part in task.counts}
        counts = {part: Counts(each.num_rows, len(each.column("label").unique())) for part, each in rows.items()}
        return replace(task, counts=counts)

    protocol = PROTOCOLS[name]
    tasks = {task: fixed(it) for task, it in protocol.tasks.items()}
    monkeypatch.setitem(PROTOCOLS, name, replace(protocol, tasks=tasks))
