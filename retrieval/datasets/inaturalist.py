"""iNaturalist 2018: the search among unseen species, and the official classification.

The lists of the split for search hold a path a line, ``train_val2018/Plantae/7477/3b60c9486db1d2ee.jpg``; the species
is the number of its category, the coarser class the kingdom, or so, above it.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Final

from retrieval.datasets.lists import Row, damaged, find, inside, lines, reading, refuse_boxes, text
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = (
    "The root holds the folder train_val2018 and, for search, Inat_dataset_splits/Inaturalist_train_set1.txt and "
    "Inaturalist_test_set1.txt (or these lists themselves); for classification, train2018.json and val2018.json."
)
_IMAGES: Final = "train_val2018"


def read_inat2018(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read iNaturalist 2018.

    Args:
        root: the folder with ``train_val2018``.
        boxes: must be false: there are none.
        official: whether by the annotations of the competition, for classification; otherwise by the lists for search.

    Raises:
        ProtocolError: a list is missing or damaged, or ``boxes``.
    """
    refuse_boxes(boxes, "iNaturalist 2018")
    rows = []
    parts: tuple[Part, Part] = ("train", "val") if official else ("train", "test")
    for part in parts:
        name = f"Inaturalist_{part}_set1.txt"
        places = (f"{part}2018.json",) if official else (f"Inat_dataset_splits/{name}", name)
        path = find(root, _LAYOUT, *places)
        for number, listed in _annotated(path) if official else lines(path):
            file = inside(listed, path, number)
            folders = file.split("/")
            if len(folders) < 4 or folders[0] != _IMAGES:
                raise damaged(path, number, f"is not `{_IMAGES}/kingdom/category/image`")
            rows.append(Row(file, file, "/".join(folders[1:-1]), part))
    return reading(rows, root, [_IMAGES])


def _annotated(path: Path) -> list[tuple[int, str]]:
    """Read the images of an annotation file of the competition, with their places from 1."""
    try:
        images: Any = json.loads(text(path))["images"]
        names = [image["file_name"] for image in images]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"{path} holds no list `images` with a `file_name` each. {_LAYOUT}") from error
    if not all(isinstance(name, str) for name in names):
        raise ProtocolError(f"{path} holds a `file_name` that is no text. {_LAYOUT}")
    return list(enumerate(names, 1))


INAT2018: Final = Protocol(
    title="iNaturalist 2018",
    source="Van Horn et al., The iNaturalist Species Classification and Detection Dataset, CVPR 2018; "
    "split for search: Brown et al., Smooth-AP, ECCV 2020",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_inat2018, official=False),
            counts={"train": Counts(325_846, 5_690), "test": Counts(136_093, 2_452)},
            ks=(1, 4, 16, 32),
            rule="The lists of Smooth-AP: trained on 5,690 species, searched among 2,452 others, "
            "every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_inat2018, official=True),
            counts={"train": Counts(437_513, 8_142), "val": Counts(24_426, 8_142)},
            ks=(1, 5),
            rule="The official training and validation images; the labels of the test images were never published.",
        ),
    },
)
