"""CUB-200-2011 and NABirds, whose lists have the same form.

``images.txt`` gives each image a path in the folder ``images``, and further lists give it, by the same id, a class, a
box and a side of the split for classification:

    image_class_labels.txt    1 1
    bounding_boxes.txt        1 60.0 27.0 325.0 304.0
    train_test_split.txt      1 0

Search on CUB ignores ``train_test_split.txt``: it trains on the first 100 classes and searches among the others.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Listing, Row, find, inside, listing, reading, segment
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_PAIR: Final = re.compile(r"(\S+)\s+(\S.*)")
_CLASS: Final = re.compile(r"(\S+)\s+([0-9]{1,9})")
_NAME: Final = re.compile(r"([0-9]{1,9})\s+(\S.*)")
_PARENT: Final = re.compile(r"([0-9]{1,9})\s+([0-9]{1,9})")
_SIDE: Final = re.compile(r"(\S+)\s+([01])")
_NUMBER: Final = r"\s+(-?[0-9]{1,7}(?:\.[0-9]{1,9})?)"
_BOX: Final = re.compile(rf"(\S+){_NUMBER}{_NUMBER}{_NUMBER}{_NUMBER}")

_CUB_LAYOUT: Final = (
    "The root is the folder CUB_200_2011: images.txt, classes.txt, image_class_labels.txt, train_test_split.txt, "
    "bounding_boxes.txt and the folder images."
)
_NABIRDS_LAYOUT: Final = (
    "The root is the folder nabirds: images.txt, classes.txt, hierarchy.txt, image_class_labels.txt, "
    "train_test_split.txt, bounding_boxes.txt and the folder images."
)
_CUB_TRAIN_CLASSES: Final = 100


def read_cub(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read CUB-200-2011.

    Args:
        root: the folder ``CUB_200_2011``.
        boxes: whether to cut to the annotated boxes.
        official: whether by ``train_test_split.txt``, for classification; otherwise by class, for search.

    Raises:
        ProtocolError: a list is missing or damaged.
    """
    names = {key: match[2] for key, (_, match) in _classes(root, _CUB_LAYOUT).found.items()}
    sides: dict[str, Part] | None = {"1": "train", "0": "test"} if official else None
    return _read(root, boxes, _CUB_LAYOUT, names, sides)


def read_nabirds(root: Path, boxes: bool, *, sides: dict[str, Part]) -> Reading:
    """Read NABirds; a label is the path of a class in its hierarchy, without the one root.

    Args:
        root: the folder ``nabirds``.
        boxes: whether to cut to the annotated boxes.
        sides: what the sides of ``train_test_split.txt`` are: "1", training there, and "0".

    Raises:
        ProtocolError: a list is missing or damaged.
    """
    return _read(root, boxes, _NABIRDS_LAYOUT, _paths(root), sides)


def _read(root: Path, boxes: bool, layout: str, names: dict[str, str], sides: dict[str, Part] | None) -> Reading:
    """Read either; without ``sides`` the classes up to 100 are for training."""
    images = listing(find(root, layout, "images.txt"), _PAIR, "image id, path")
    classes = listing(find(root, layout, "image_class_labels.txt"), _CLASS, "image id, class id")
    split = listing(find(root, layout, "train_test_split.txt"), _SIDE, "image id, 0 or 1") if sides else None
    drawn = listing(find(root, layout, "bounding_boxes.txt"), _BOX, "image id, x, y, w, h") if boxes else None
    rows = []
    for image, (number, match) in images.found.items():
        path = inside(match[2], images.path, number)
        of = classes.of(image)[1][2]
        if of not in names:
            raise ProtocolError(f"{root / 'classes.txt'} has no class {of}; get it anew from the data set's source")
        part: Part = "train" if int(of) <= _CUB_TRAIN_CLASSES else "test"
        if sides is not None and split is not None:
            part = sides[split.of(image)[1][2]]
        rows.append(Row(path, f"images/{path}", names[of], part, _box(drawn, image)))
    return reading(rows, root, ["images"], source=images.path)


def _box(drawn: Listing | None, image: str) -> tuple[int, int, int, int] | None:
    if drawn is None:
        return None
    x, y, width, height = (float(value) for value in drawn.of(image)[1].groups()[1:])
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    return left, top, math.ceil(x + width) - left, math.ceil(y + height) - top


def _classes(root: Path, layout: str) -> Listing:
    return listing(find(root, layout, "classes.txt"), _NAME, "class id, name")


def _paths(root: Path) -> dict[str, str]:
    """Read the path of every class of NABirds from below the root of the hierarchy down to the class itself."""
    classes = _classes(root, _NABIRDS_LAYOUT)
    above = listing(find(root, _NABIRDS_LAYOUT, "hierarchy.txt"), _PARENT, "class id, id of the class above")
    parents = {child: match[2] for child, (_, match) in above.found.items()}
    paths: dict[str, str] = {}
    taken: set[str] = set()
    for key in classes.found:
        steps = [key]
        while (parent := parents.get(steps[-1])) is not None and parent in parents:
            if len(steps) > len(parents):
                raise ProtocolError(f"{above.path} leads from class {key} in a circle")
            steps.append(parent)
        path = "/".join(segment(classes.of(step)[1][2]) for step in reversed(steps))
        paths[key] = f"{path} {key}" if path in taken else path
        taken.add(paths[key])
    return paths


CUB: Final = Protocol(
    title="CUB-200-2011",
    source="Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001, 2011; "
    "split for search: Song et al., CVPR 2016",
    layout=_CUB_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_cub, official=False),
            counts={"train": Counts(5_864, 100), "test": Counts(5_924, 100)},
            ks=(1, 2, 4, 8),
            rule="Trained on classes 1 to 100, searched among 101 to 200; whole images, every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_cub, official=True),
            counts={"train": Counts(5_994, 200), "test": Counts(5_794, 200)},
            ks=(1, 5),
            rule="The official split of train_test_split.txt, all 200 classes on both sides; whole images.",
        ),
    },
)

NABIRDS: Final = Protocol(
    title="NABirds",
    source="Van Horn et al., Building a Bird Recognition App and Large Scale Dataset With Citizen Scientists, "
    "CVPR 2015",
    layout=_NABIRDS_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_nabirds, sides={"1": "gallery", "0": "query"}),
            counts={"query": Counts(24_633, 555), "gallery": Counts(23_929, 555)},
            ks=(1, 2, 4, 8),
            rule="The official test images search among the official training images, all 555 classes; whole images.",
        ),
        "classification": Task(
            read=partial(read_nabirds, sides={"1": "train", "0": "test"}),
            counts={"train": Counts(23_929, 555), "test": Counts(24_633, 555)},
            ks=(1, 5),
            rule="The official split of train_test_split.txt, all 555 classes on both sides; whole images.",
        ),
    },
    notes=(
        "There is no single accepted split for search. This is that of fine-grained hashing: the official test images "
        "search among the training images, of classes seen in training. A split by halves of the classes has no "
        "published counts to be checked against.",
    ),
)
