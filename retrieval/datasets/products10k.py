"""Products-10K (Bai et al., 2020, arXiv 2008.10545).

``train.csv`` holds ``name,class,group`` and ``test_kaggletest.csv`` ``name,class,Usage``; the photos lie in ``train``
and ``test``. A label is the product's group, which only the training list has, and its class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, damaged, find, inside, lines, reading, refuse_boxes
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task

_TITLE: Final = "Products-10K"
_LAYOUT: Final = "The root holds train.csv, test_kaggletest.csv and the folders train and test."
_LISTS: Final = {"train": "train.csv", "test": "test_kaggletest.csv"}
_LINE: Final = re.compile(r"([^,]+?)\s*,\s*([0-9]{1,9})\s*,\s*(\w{1,20})")


def _read(root: Path, boxes: bool, *, parts: Mapping[str, str]) -> Reading:
    refuse_boxes(boxes, _TITLE)
    listed = {name: _list(find(root, _LAYOUT, file), name) for name, file in _LISTS.items()}
    groups = {product: group for _, product, group in listed["train"]}
    rows = []
    for name, part in parts.items():
        for image, product, _ in listed[name]:
            label = f"{groups[product]}/{product}" if product in groups else product
            rows.append(Row(image, image, label, part))
    return reading(rows, root, list(parts))


def _list(path: Path, folder: str) -> list[tuple[str, str, str]]:
    """Read image, class and the third column of each line."""
    numbered = lines(path)
    if not numbered or not numbered[0][1].replace(" ", "").lower().startswith("name,class,"):
        raise damaged(path, 1, "is not `name,class,group` or `name,class,Usage`")
    found = []
    for number, line in numbered[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise damaged(path, number, "is not a name, a class and a word, parted by commas")
        found.append((f"{folder}/{inside(match[1], path, number)}", match[2], match[3]))
    return found


# from memory, unconfirmed: 141,931 and 55,376; 9,691 classes and "141K" training images are in public repositories
_TRAIN: Final = Counts(141_931, 9_691)
_TEST: Final = Counts(55_376, 9_691)

PRODUCTS_10K: Final = Protocol(
    title=_TITLE,
    source="Bai et al., Products-10K: A Large-scale Product Recognition Dataset, arXiv 2008.10545",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts={"test": "query", "train": "gallery"}),
            {"query": _TEST, "gallery": _TRAIN},
            (1, 5, 10),
            "Every test photo is a query, all training photos are the gallery.",
        ),
        "classification": Task(
            partial(_read, parts={"train": "train", "test": "test"}),
            {"train": _TRAIN, "test": _TEST},
            (1, 5),
            "The official lists; top-1 accuracy over the public and the private test photos together.",
        ),
    },
    notes=(
        "There is no accepted retrieval protocol: the challenge measured top-1 and top-5 accuracy. Test photos against "
        "training photos is the usual way to measure an embedding on it.",
        "The number of images is from memory; its own page says only that there are nearly 190,000 of ten thousand "
        "products.",
    ),
)
