"""Cars-196, and the half of it that is cut to boxes and kept in one Parquet file.

``cars_annos.mat`` holds an array of structs, an image each: ``relative_im_path``, ``bbox_x1`` to ``bbox_y2`` (counted
from 1, both ends within the box), ``class`` and ``test``; and ``class_names``. Search pools the official training and
test images and splits them by class.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.datasets.lists import (
    Row,
    box_between,
    find,
    inside,
    reading,
    segment,
)
from retrieval.datasets.matlab_lists import matlab, matlab_numbers, matlab_texts
from retrieval.datasets.protocol import PARTS, SPLIT_SCHEMA, Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError
from retrieval.sources import parquet_uri

_LAYOUT: Final = "The root holds cars_annos.mat and the folder car_ims with 000001.jpg to 016185.jpg."
_TRAIN_CLASSES: Final = 98
_CORNERS: Final = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")

_HALF: Final = "cars196-train-half.parquet"
_HALF_LAYOUT: Final = f"The root holds {_HALF} with the columns file, class_id, label, split and image."


def read_cars(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read Cars-196.

    Args:
        root: the folder with ``cars_annos.mat``.
        boxes: whether to cut to the annotated boxes.
        official: whether by the field ``test``, for classification; otherwise by class, for search.

    Raises:
        ProtocolError: the list is missing or damaged.
    """
    path = find(root, _LAYOUT, "cars_annos.mat")
    found = matlab(path, "class_names", "annotations")
    names = [segment(name) for name in matlab_texts(found["class_names"], path)]
    annotations = found["annotations"]
    files = matlab_texts(_field(annotations, "relative_im_path", path), path)
    classes = matlab_numbers(_field(annotations, "class", path), path)
    tests = matlab_numbers(_field(annotations, "test", path), path)
    corners = [matlab_numbers(_field(annotations, name, path), path) for name in _CORNERS] if boxes else []
    rows = []
    for place, (name, of, test) in enumerate(zip(files, classes, tests, strict=True)):
        if not 1 <= of <= len(names):
            raise ProtocolError(f"entry {place + 1} of {path} is of class {of}, and there are {len(names)}")
        file = inside(name, path, place + 1)
        training = not test if official else of <= _TRAIN_CLASSES
        part: Part = "train" if training else "test"
        box = None
        if boxes:
            left, top, right, bottom = (values[place] for values in corners)
            box = box_between(left, top, right, bottom, path, place + 1)
        rows.append(Row(file, file, names[of - 1], part, box))
    return reading(rows, root, ["car_ims"], source=path)


def read_train_half(root: Path, boxes: bool) -> Reading:
    """Read the training half of Cars-196, each image cut to its box already.

    Args:
        root: the folder with the Parquet file.
        boxes: must be false.

    Raises:
        ProtocolError: the file is missing or damaged, or ``boxes``.
    """
    if boxes:
        raise ProtocolError("the images of cars196-train-half are cut to their boxes already, there are none to cut to")
    path = find(root, _HALF_LAYOUT, _HALF)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=["file", "label", "split"])
            table = table.select(["file", "label", "split"]).cast(
                pa.schema([pa.field(name, pa.string()) for name in ("file", "label", "split")])
            )
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProtocolError(f"cannot read {path} ({reason}). {_HALF_LAYOUT}") from error
    names, labels, parts = (table.column(name).to_pylist() for name in ("file", "label", "split"))
    for row, values in enumerate(zip(names, labels, parts, strict=True)):
        if None in values or values[2] not in PARTS:
            raise ProtocolError(f"row {row} of {path} has no file, label, or split that is train or test")
    if len(set(names)) != len(names):
        raise ProtocolError(f"{path} names a file twice")
    uris = [parquet_uri(_HALF, row) for row in range(len(names))]
    columns = [names, uris, [segment(label) for label in labels], parts]
    return Reading(pa.table([pa.array(column, pa.string()) for column in columns], schema=SPLIT_SCHEMA))


def _field(annotations: np.ndarray, name: str, path: Path) -> np.ndarray:
    if name not in (annotations.dtype.names or ()):
        raise ProtocolError(f"the annotations of {path} have no field {name}; get it anew from the data set's source")
    return np.asarray(annotations[name])


CARS196: Final = Protocol(
    title="Cars-196",
    source="Krause et al., 3D Object Representations for Fine-Grained Categorization, 3dRR 2013; "
    "split for search: Song et al., CVPR 2016",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_cars, official=False),
            counts={"train": Counts(8_054, 98), "test": Counts(8_131, 98)},
            ks=(1, 2, 4, 8),
            rule="Trained on classes 1 to 98, searched among 99 to 196, official training and test images pooled; "
            "whole images, every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_cars, official=True),
            counts={"train": Counts(8_144, 196), "test": Counts(8_041, 196)},
            ks=(1, 5),
            rule="The official split of cars_annos.mat, all 196 classes on both sides; whole images.",
        ),
    },
)

CARS196_TRAIN_HALF: Final = Protocol(
    title="Cars196-train-half",
    source="the training half of Krause et al., 3dRR 2013, cut to the annotated boxes",
    layout=_HALF_LAYOUT,
    tasks={
        "retrieval": Task(
            read=read_train_half,
            counts={"train": Counts(4_052, 98), "test": Counts(4_092, 98)},
            ks=(1, 2, 4, 8),
            rule="Half of Cars-196, cut to boxes: trained on classes 1 to 98, searched among 99 to 196.",
            disjoint=True,
        ),
    },
    notes=(
        "Half of the images, cut to boxes, at most 128 pixels on the shorter side: never compare with Cars-196.",
        "Eleven pairs of identical photos carry two different labels.",
    ),
)
