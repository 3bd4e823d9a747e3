"""What a published benchmark fixes: which images, which split, how many, what is asked; and how a folder differs.

A reader turns an official layout into one table with a row an image and does no judging: it reports what the lists
name and the folder lacks, and the other way round. ``differences`` compares that with the published counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

Part = Literal["train", "val", "test", "query", "gallery"]
PARTS: Final[tuple[Part, ...]] = ("train", "val", "test", "query", "gallery")
"""``test`` is query and gallery at once in retrieval; in classification it is asked against ``train``."""

SHOWN: Final = 20
"""Files, or classes, that a difference names before it only counts; a report that is made anyway has all of them."""

SPLIT_SCHEMA: Final = pa.schema(
    [
        # the official name of the image, POSIX; unique within a part
        pa.field("id", pa.string(), nullable=False),
        # what retrieval.datasets.cuts.CutSource reads, relative to the root
        pa.field("uri", pa.string(), nullable=False),
        # the class; a path where the benchmark has coarser classes above it: Fruit/Apple/Granny-Smith
        pa.field("label", pa.string(), nullable=False),
        # one of PARTS
        pa.field("part", pa.string(), nullable=False),
    ]
)
"""An image of a protocol a row; the order is that of the official lists."""


@dataclass(frozen=True)
class Counts:
    """How many images and classes a part must have; None where no source says, and then it is not compared."""

    images: int | None
    classes: int | None


@dataclass(frozen=True)
class Reading:
    """What a reader found under a root.

    Attributes:
        table: ``SPLIT_SCHEMA``; only images that are there.
        missing: official names, or files, that the lists name and the folder lacks, sorted.
        extra: images in the folders of the data set that no list names, relative to the root, sorted.
    """

    table: pa.Table
    missing: Sequence[str] = ()
    extra: Sequence[str] = ()


@dataclass(frozen=True)
class Task:
    """One question that a benchmark asks.

    Attributes:
        read: (root, boxes) → Reading; ``boxes`` cuts every image to its annotated box. Raises ProtocolError when a
            list is missing or damaged, or when there are no boxes to cut to.
        counts: part → what it must have. Their keys are the parts of the split.
        ks: values of K.
        rule: a sentence that a researcher recognises the protocol by.
        disjoint: whether no class of ``train`` may be in the other parts.
        metric: what leads the table: "Recall" or, for instance-level search from sketches, "Accuracy".
        boxes: whether cutting to boxes is a part of the protocol.
        coarser: root → label → the coarser class above it, where a classification is also reported by those; None
            where it is not. Raises ProtocolError when a list is missing or damaged.
    """

    read: Callable[[Path, bool], Reading]
    counts: Mapping[str, Counts]
    ks: tuple[int, ...]
    rule: str
    disjoint: bool = False
    metric: str = "Recall"
    boxes: bool = False
    coarser: Callable[[Path], Mapping[str, str]] | None = None

    @property
    def one_set(self) -> bool:
        """Whether query and gallery are the same images, the query itself left out by id."""
        return "query" not in self.counts


@dataclass(frozen=True)
class Protocol:
    """A benchmark.

    Attributes:
        title: as papers call it.
        source: where it was published.
        layout: what the root must hold, in a sentence.
        tasks: "retrieval" and, where there is an official split for it, "classification"; others by their name.
            "retrieval" or else the first is the default.
        notes: what a reader of its numbers should know, such as a split without a single accepted definition.
    """

    title: str
    source: str
    layout: str
    tasks: Mapping[str, Task]
    notes: Sequence[str] = field(default=())


def differences(task: Task, reading: Reading, *, boxes: bool) -> list[str]:
    """Say how a folder differs from what the protocol fixes, a sentence each; none when the number is standard.

    Args:
        task: what must be.
        reading: what is.
        boxes: whether images were cut to their annotated boxes.
    """
    found = []
    if boxes and not task.boxes:
        found.append("images are cut to their annotated boxes, which the protocol does not use")
    if reading.missing:
        found.append(f"{len(reading.missing):,} missing: {_some(reading.missing)}")
    if reading.extra:
        found.append(f"{len(reading.extra):,} that no list names: {_some(reading.extra)}")
    parts = reading.table.column("part")
    for part, must in task.counts.items():
        rows = reading.table.filter(pc.equal(parts, part))
        has = (rows.num_rows, len(rows.column("label").unique()))
        for count, wanted, what in zip(has, (must.images, must.classes), ("images", "classes"), strict=True):
            if wanted is not None and count != wanted:
                found.append(f"{part} should have {wanted:,} {what} and has {count:,}")
    if task.disjoint:
        inside = pc.equal(parts, "train")
        seen = set(reading.table.filter(inside).column("label").unique().to_pylist())
        other = set(reading.table.filter(pc.invert(inside)).column("label").unique().to_pylist())
        if seen & other:
            found.append(f"{len(seen & other):,} classes on both sides: {_some(sorted(seen & other))}")
    return found


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
