"""RPC, Retail Product Checkout (Wei et al., 2019, arXiv 1901.07249).

``instances_train2019.json``, ``instances_val2019.json`` and ``instances_test2019.json`` are annotations in COCO's form;
the photos lie in ``train2019``, ``val2019`` and ``test2019``. Training photos show one product on a turntable, the
others a checkout counter with some twelve. Every box of a checkout is a query, and the boxes of the training photos
are searched. A label is the product's super-category and its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from retrieval.datasets.lists import Row, find, inside, reading, segment, text
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = (
    "The root holds instances_train2019.json, instances_val2019.json, instances_test2019.json and the folders "
    "train2019, val2019 and test2019."
)
_FAR: Final = 10**6
"""Pixels: beyond it a box is damaged."""


def _read(root: Path, boxes: bool, *, parts: Mapping[str, str]) -> Reading:
    """Read the sets that have a part; boxes are a part of this protocol, so everything is cut in any case."""
    rows: list[Row] = []
    photos: list[str] = []
    for name, part in parts.items():
        path = find(root, _LAYOUT, f"instances_{name}.json")
        of_set, named = _instances(path, name, part)
        rows += of_set
        photos += named
    return reading(rows, root, list(parts), also=photos)


def _instances(path: Path, folder: str, part: str) -> tuple[list[Row], list[str]]:
    """Read one file of annotations: a row a box, and all photos it names."""
    try:
        document = json.loads(text(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProtocolError(f"{path} is no JSON ({reason}); get it anew from the data set's source") from error
    labels = {}
    for place, entry in _entries(document, "categories", path):
        names = [segment(_text(entry, key, path, "categories", place)) for key in ("supercategory", "name")]
        labels[_whole(entry, "id", path, "categories", place)] = "/".join(names)
    photos = {}
    for place, entry in _entries(document, "images", path):
        name = inside(_text(entry, "file_name", path, "images", place), path, place)
        photos[_whole(entry, "id", path, "images", place)] = f"{folder}/{name}"
    rows = []
    for place, entry in _entries(document, "annotations", path):
        photo = photos.get(_whole(entry, "image_id", path, "annotations", place))
        label = labels.get(_whole(entry, "category_id", path, "annotations", place))
        if photo is None or label is None:
            raise _damaged(path, "annotations", place, "is of an image or category that the file does not name")
        box = _box(entry.get("bbox"), path, place)
        number = _whole(entry, "id", path, "annotations", place)
        rows.append(Row(f"{photo}/{number}", photo, label, part, box))
    return rows, list(photos.values())


def _entries(document: Any, key: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Take one of COCO's lists of objects, with places from 1."""
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ProtocolError(f"{path} has no list of {key}; get it anew from the data set's source")
    for place, entry in enumerate(found, 1):
        if not isinstance(entry, dict):
            raise _damaged(path, key, place, "is no object")
    return list(enumerate(found, 1))


def _text(entry: dict[str, Any], key: str, path: Path, of: str, place: int) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= mark <= "\udfff" for mark in value):
        raise _damaged(path, of, place, f"has no {key}")
    return value


def _whole(entry: dict[str, Any], key: str, path: Path, of: str, place: int) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _damaged(path, of, place, f"has no whole number {key}")
    return value


def _box(value: Any, path: Path, place: int) -> tuple[int, int, int, int]:
    """Take a box of x, y, width, height, broken numbers; all pixels that it touches are in it."""
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(isinstance(side, int | float) and not isinstance(side, bool) for side in value)
        or not all(-_FAR < side < _FAR for side in value)
        or min(value[2:]) <= 0
    ):
        raise _damaged(path, "annotations", place, "has no box of x, y, width and height")
    x, y, width, height = value
    left, top = math.floor(x), math.floor(y)
    return left, top, math.ceil(x + width) - left, math.ceil(y + height) - top


def _damaged(path: Path, of: str, place: int, reason: str) -> ProtocolError:
    return ProtocolError(f"entry {place} of {of} in {path} {reason}; get it anew from the data set's source")


_EXEMPLARS: Final = Counts(53_739, 200)
# objects: the project's page; that all 200 products occur in each is from memory, unconfirmed
_TEST: Final = Counts(294_333, 200)
_VAL: Final = Counts(73_602, 200)

RPC: Final = Protocol(
    title="RPC",
    source="Wei et al., RPC: A Large-Scale Retail Product Checkout Dataset, arXiv 1901.07249",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts={"test2019": "query", "train2019": "gallery"}),
            {"query": _TEST, "gallery": _EXEMPLARS},
            (1, 5, 10),
            "Every annotated box of the 24,000 test checkouts is a query, the boxes of the 53,739 single-product "
            "photos the gallery.",
            boxes=True,
        ),
        "validation": Task(
            partial(_read, parts={"val2019": "query", "train2019": "gallery"}),
            {"query": _VAL, "gallery": _EXEMPLARS},
            (1, 5, 10),
            "Every annotated box of the 6,000 validation checkouts is a query, the boxes of the single-product photos "
            "the gallery.",
            boxes=True,
        ),
        "classification": Task(
            partial(_read, parts={"train2019": "train", "val2019": "val", "test2019": "test"}),
            {"train": _EXEMPLARS, "val": _VAL, "test": _TEST},
            (1, 5),
            "Trained on single-product photos, asked for every annotated box of the checkouts.",
            boxes=True,
        ),
    },
    notes=(
        "Standard are the split and the annotations. The benchmark's own number is checkout accuracy after detection; "
        "there is no accepted retrieval protocol. Here the annotated boxes stand for a perfect detector, so a number "
        "is an upper bound and no checkout accuracy.",
        "53,739 exemplars, 73,602 and 294,333 boxes are the published counts; that all 200 products occur in "
        "validation and test is from memory.",
    ),
)
