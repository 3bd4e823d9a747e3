"""Oxford Flowers 102: ``imagelabels.mat`` has the class of ``jpg/image_00001.jpg`` and so on.

``setid.mat`` has the official split, the numbers of the images from 1.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, find, halves, reading, refuse_boxes
from retrieval.datasets.matlab_lists import matlab, matlab_numbers
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = "The root holds imagelabels.mat, setid.mat and the folder jpg with image_00001.jpg to image_08189.jpg."
_SETS: Final[dict[str, Part]] = {"trnid": "train", "valid": "val", "tstid": "test"}


def read_flowers(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read Oxford Flowers 102; a label is the number of the class, ``001``.

    Args:
        root: the folder with ``jpg``.
        boxes: must be false: there are none.
        official: whether by ``setid.mat``, for classification; otherwise by halves of the classes, for search.

    Raises:
        ProtocolError: a list is missing or damaged, or ``boxes``.
    """
    refuse_boxes(boxes, "Oxford Flowers 102")
    path = find(root, _LAYOUT, "imagelabels.mat")
    labels = [f"{number:03d}" for number in _numbers(path, "labels")]
    files = [f"jpg/image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
    sides: dict[int, Part] = {}
    if official:
        sets = find(root, _LAYOUT, "setid.mat")
        for name, part in _SETS.items():
            for number in _numbers(sets, name):
                if not 1 <= number <= len(labels) or number in sides:
                    again = "again" if number in sides else f"and {path} has {len(labels):,}"
                    raise ProtocolError(f"{sets} names image {number} in {name}, {again}")
                sides[number] = part
    else:
        by_class = halves(labels)
        sides = {number: by_class[label] for number, label in enumerate(labels, 1)}
    rows = [
        Row(file, file, label, sides[number])
        for number, (file, label) in enumerate(zip(files, labels, strict=True), 1)
        if number in sides
    ]
    return reading(rows, root, ["jpg"], source=path)


def _numbers(path: Path, name: str) -> list[int]:
    return matlab_numbers(matlab(path, name)[name], path)


FLOWERS102: Final = Protocol(
    title="Oxford Flowers 102",
    source="Nilsback and Zisserman, Automated Flower Classification over a Large Number of Classes, ICVGIP 2008",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_flowers, official=False),
            # from memory, unconfirmed: the counts by class, whose sum is the published 8,189
            counts={"train": Counts(3_493, 51), "test": Counts(4_696, 51)},
            ks=(1, 2, 4, 8),
            rule="Trained on classes 1 to 51, searched among 52 to 102, every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_flowers, official=True),
            counts={"train": Counts(1_020, 102), "val": Counts(1_020, 102), "test": Counts(6_149, 102)},
            ks=(1, 5),
            rule="The official split of setid.mat: 10 images a class to train on, 10 to validate, the rest to test.",
        ),
    },
    notes=(
        "There is no single accepted split for search; this is classes 1 to 51 against 52 to 102. How many images each "
        "side has is from memory and unconfirmed; their sum is the published 8,189.",
        "Some papers train on the 6,149 official test images and test on the 1,020 training ones; their numbers are "
        "not comparable.",
    ),
)
