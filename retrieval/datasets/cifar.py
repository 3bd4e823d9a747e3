"""CIFAR-10 (Krizhevsky, 2009), its binary version.

``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin`` are records of 3,073 bytes, a label and 32 x 32
pixels; ``batches.meta.txt`` names the ten labels. The version for Python is made of pickles, which run code when they
are read, and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from retrieval.datasets.cuts import RECORD_BYTES, record_uri
from retrieval.datasets.lists import find, folder_of, image_files, lines, refuse_boxes
from retrieval.datasets.protocol import SPLIT_SCHEMA, Counts, Protocol, Reading, Task
from retrieval.errors import ImageError, ProtocolError
from retrieval.sources import Root

_TITLE: Final = "CIFAR-10"
_FOLDER: Final = "cifar-10-batches-bin"
_LAYOUT: Final = (
    "The root holds data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt, or the folder "
    f"{_FOLDER} with them: the download named CIFAR-10 binary version, cifar-10-binary.tar.gz."
)
_FILES: Final = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_CLASSES: Final = 10
_PICKLED: Final = ("data_batch_1", "batches.meta", "cifar-10-batches-py")


def _read(root: Path, boxes: bool, *, parts: Mapping[str, str]) -> Reading:
    refuse_boxes(boxes, _TITLE)
    if any((root / name).exists() for name in _PICKLED) and not (root / _FOLDER).exists():
        raise ProtocolError(
            f"{root} holds the Python version of CIFAR-10, pickles that run code when they are read; download the "
            "binary version instead, cifar-10-binary.tar.gz"
        )
    path = find(root, _LAYOUT, "batches.meta.txt", f"{_FOLDER}/batches.meta.txt")
    prefix = folder_of(path, root)
    names = [line for _, line in lines(path)]
    if len(set(names)) != _CLASSES or len(names) != _CLASSES:
        raise ProtocolError(f"{path} does not name ten classes; get it anew from the data set's source")
    inside = Root(root)
    tables, missing = [], []
    for of, part in parts.items():
        for file in _FILES[of]:
            try:
                place = inside.file(prefix + file)
            except ImageError:
                missing.append(prefix + file)
                continue
            labels = _labels(Path(place))
            tables.append(
                pa.table(
                    [
                        pa.array([record_uri(file, record) for record in range(len(labels))], pa.string()),
                        pa.array([record_uri(prefix + file, record) for record in range(len(labels))], pa.string()),
                        pa.array([names[label] for label in labels], pa.string()),
                        pa.array([part] * len(labels), pa.string()),
                    ],
                    schema=SPLIT_SCHEMA,
                )
            )
    official = {prefix + file for files in _FILES.values() for file in files}
    there = {f"{prefix}{entry.name}" for entry in os.scandir(path.parent) if entry.name.endswith(".bin")}
    extra = (there | image_files(root, prefix)) - official
    return Reading(pa.concat_tables([SPLIT_SCHEMA.empty_table(), *tables]), missing=missing, extra=sorted(extra))


def _labels(path: Path) -> list[int]:
    """Read the label of every record of a file."""
    try:
        size = path.stat().st_size
        if size % RECORD_BYTES or not size:
            raise ProtocolError(
                f"{path} is cut: {size:,} bytes are no whole number of records of {RECORD_BYTES:,}; get it anew from "
                "the data set's source"
            )
        labels: list[int] = np.memmap(path, np.uint8, "r")[::RECORD_BYTES].tolist()
    except OSError as error:
        raise ProtocolError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    for record, label in enumerate(labels):
        if label >= _CLASSES:
            raise ProtocolError(f"record {record} of {path} has the label {label}; get it anew from the source")
    return labels


_TRAIN: Final = Counts(50_000, _CLASSES)
_TEST: Final = Counts(10_000, _CLASSES)

CIFAR10: Final = Protocol(
    title=_TITLE,
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts={"test": "query", "train": "gallery"}),
            {"query": _TEST, "gallery": _TRAIN},
            (1, 10, 100, 1000),
            "The 10,000 test images are queries, the 50,000 training images the gallery.",
        ),
        "classification": Task(
            partial(_read, parts={"train": "train", "test": "test"}),
            {"train": _TRAIN, "test": _TEST},
            (1, 5),
            "The official batches.",
        ),
    },
    notes=(
        "Papers on hashing use several splits of it, often 1,000 or 10,000 random queries and the rest as the gallery; "
        "their mAP is not comparable with this one.",
    ),
)
