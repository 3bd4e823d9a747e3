"""The protocol of the Grocery Store Dataset (Klasson et al., WACV 2019).

``retrieval.datasets.grocery`` reads its lists; here they are held against the folders and the published counts.

Photos of the test list were taken in other shops than those of the training list: the test is asked against training.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.grocery import read_list
from retrieval.datasets.lists import Row, damaged, find, folder_of, inside, reading, refuse_boxes, segment, text
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task
from retrieval.errors import ManifestError, ProtocolError

_TITLE: Final = "Grocery Store"
_LAYOUT: Final = (
    "The root, or its folder dataset, holds train.txt, val.txt, test.txt, classes.csv and the folders train, val, test "
    "and iconic-images-and-descriptions."
)
_ICONIC: Final = "iconic-images-and-descriptions"


def _read(root: Path, boxes: bool, *, parts: Mapping[str, str], coarse: bool = False) -> Reading:
    """Read the lists that have a part; ``_ICONIC`` stands for the pictures that classes.csv names."""
    refuse_boxes(boxes, _TITLE)
    names = find(root, _LAYOUT, "classes.csv", "dataset/classes.csv")
    prefix = folder_of(names, root)
    rows = []
    for name, part in parts.items():
        if name == _ICONIC:
            listed = _iconic(names)
        else:
            photos = _photos(find(root, _LAYOUT, f"{prefix}{name}.txt"))
            listed = [(image, above if coarse else label) for image, label, above in photos]
        rows += [Row(image, prefix + image, label, part) for image, label in listed]
    return reading(rows, root, [prefix + name for name in parts])


def _coarser(root: Path) -> dict[str, str]:
    """Read from all lists which coarse class each fine one is of."""
    prefix = folder_of(find(root, _LAYOUT, "classes.csv", "dataset/classes.csv"), root)
    found: dict[str, str] = {}
    for name in ("train", "val", "test"):
        path = find(root, _LAYOUT, f"{prefix}{name}.txt")
        for image, label, above in _photos(path):
            if found.setdefault(label, above) != above:
                raise ProtocolError(
                    f"{path} puts {label} of {image} under {above}, and another line puts it under {found[label]}; get "
                    "the list anew from the data set's source"
                )
    return found


def _photos(path: Path) -> list[tuple[str, str, str]]:
    """Read image, label and coarse label of each line of a list."""
    try:
        table, rejected = read_list(path)
    except ManifestError as error:
        raise ProtocolError(str(error)) from error
    for place, reason in rejected:
        raise damaged(path, int(place.rpartition("=")[2]), f"is {reason}")
    found = []
    for number, row in enumerate(table.to_pylist(), 1):
        if not row["label"] or row["fine"].isdigit():
            raise ProtocolError(f"{path.with_name('classes.csv')} does not name the class {row['fine']} of {path.name}")
        above = f"{row['label'].split('/')[0]}/{segment(row['coarse'])}"
        found.append((inside(row["image"], path, number), row["label"], above))
    return found


def _iconic(path: Path) -> list[tuple[str, str]]:
    """Read iconic picture and label of each class that classes.csv names."""
    found = []
    try:
        for number, row in enumerate(csv.reader(text(path).splitlines()), 1):
            if number == 1 or not any(row):
                continue
            if len(row) < 5 or row[4].count("/") < 3:
                raise damaged(path, number, "names no iconic picture")
            image = inside(row[4].strip().strip("/"), path, number)
            found.append((image, "/".join(image.split("/")[1:-1])))
    except csv.Error as error:
        raise ProtocolError(f"cannot read {path}: {error}") from error
    return found


_TRAIN: Final = Counts(2_640, 81)
_TEST: Final = Counts(2_485, 81)
_RULE: Final = "Every photo of the official test list is a query, the photos of the official training list the gallery"

GROCERY: Final = Protocol(
    title=_TITLE,
    source="Klasson et al., A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels, WACV 2019",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts={"test": "query", "train": "gallery"}),
            {"query": _TEST, "gallery": _TRAIN},
            (1, 5, 10),
            f"{_RULE}; 81 fine classes.",
        ),
        "coarse": Task(
            partial(_read, parts={"test": "query", "train": "gallery"}, coarse=True),
            {"query": Counts(2_485, 43), "gallery": Counts(2_640, 43)},
            (1, 5, 10),
            f"{_RULE}; 43 coarse classes.",
        ),
        "iconic": Task(
            partial(_read, parts={"test": "query", _ICONIC: "gallery"}),
            {"query": _TEST, "gallery": Counts(81, 81)},
            (1, 5, 10),
            "Every photo of the official test list is a query, the 81 iconic product pictures are the gallery.",
        ),
        "classification": Task(
            partial(_read, parts={"train": "train", "val": "val", "test": "test"}),
            {"train": _TRAIN, "val": Counts(296, 60), "test": _TEST},
            (1, 5),
            "The official lists; 81 fine classes, under 43 coarse ones.",
            coarser=_coarser,
        ),
    },
    notes=(
        "The paper says 42 coarse classes, the lists have 43; its README says 292 validation photos, the list has 296, "
        "of 60 classes.",
        "Bursts of nearly equal photos of one shop make any random split far too easy.",
    ),
)
