"""Stanford Dogs: photos of 120 breeds from ImageNet.

``train_list.mat`` and ``test_list.mat`` name the images, ``n02085620-Chihuahua/n02085620_5927.jpg``, and
``Annotation`` has a file each, in the XML of Pascal VOC, with a box around every dog. An image is cut to the box that
holds them all.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from retrieval.datasets.lists import Row, box_between, find, halves, inside, reading, text
from retrieval.datasets.matlab_lists import matlab, matlab_texts
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = (
    "The root holds train_list.mat and test_list.mat (or a folder lists with them), the folder Images and, for boxes, "
    "the folder Annotation."
)
_LISTS: Final[tuple[tuple[str, Part], ...]] = (("train_list.mat", "train"), ("test_list.mat", "test"))
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


def read_dogs(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read Stanford Dogs; a label is the folder of a breed, ``n02085620-Chihuahua``.

    Args:
        root: the folder with ``Images``.
        boxes: whether to cut to the annotated boxes.
        official: whether by the official lists, for classification; otherwise by halves of the breeds, for search.

    Raises:
        ProtocolError: a list or an annotation is missing or damaged.
    """
    rows = []
    for name, part in _LISTS:
        path = find(root, _LAYOUT, name, f"lists/{name}")
        found = matlab(path, "file_list")
        for number, listed in enumerate(matlab_texts(found["file_list"], path), 1):
            file = inside(listed, path, number)
            breed, _, image = file.partition("/")
            if not image or "/" in image:
                raise ProtocolError(f"entry {number} of {path} is not `breed/image`")
            box = _box(find(root, _LAYOUT, f"Annotation/{breed}/{Path(image).stem}")) if boxes else None
            rows.append(Row(file, f"Images/{file}", breed, part, box))
    if not official:
        sides = halves(row.label for row in rows)
        rows = [row._replace(part=sides[row.label]) for row in rows]
    return reading(rows, root, ["Images"])


def _box(path: Path) -> tuple[int, int, int, int]:
    """Read the box around all dogs of an image; corners are counted from 0."""
    content = text(path)
    if "<!" in content:  # no entity is ever expanded: there is nowhere to declare one
        raise ProtocolError(f"{path} has declarations, which no official annotation has")
    try:
        drawn = list(ElementTree.fromstring(content).iter("bndbox"))  # noqa: S314 - has no declarations
        corners = [[int(box.findtext(name, "")) for name in _CORNERS] for box in drawn]
    except (ElementTree.ParseError, ValueError) as error:
        raise ProtocolError(f"{path} is no annotation; get it anew from the data set's source") from error
    if not corners or max(abs(value) for box in corners for value in box) > 10**6:
        raise ProtocolError(f"{path} has no box; get it anew from the data set's source")
    left, top, right, bottom = zip(*corners, strict=True)
    return box_between(min(left), min(top), max(right), max(bottom), path, 1, first=0)


DOGS: Final = Protocol(
    title="Stanford Dogs",
    source="Khosla et al., Novel Dataset for Fine-Grained Image Categorization, FGVC 2011",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_dogs, official=False),
            counts={"train": Counts(10_651, 60), "test": Counts(9_929, 60)},
            ks=(1, 2, 4, 8),
            rule="Trained on the first 60 breeds by their ImageNet number, searched among the other 60, "
            "official training and test images pooled; whole images, every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_dogs, official=True),
            counts={"train": Counts(12_000, 120), "test": Counts(8_580, 120)},
            ks=(1, 5),
            rule="The official lists, 100 training images a breed; whole images.",
        ),
    },
    notes=(
        "There is no single accepted split for search; this is the first half of the breeds, sorted by their ImageNet "
        "number, against the second.",
        "The photos are from ImageNet: whatever was trained on it has seen them.",
    ),
)
