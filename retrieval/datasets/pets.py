"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012).

``annotations/trainval.txt`` and ``annotations/test.txt`` hold a line an image, ``name, class 1-37, species 1 or 2,
breed within the species``; the photos are ``images/NAME.jpg``. A label is species and breed, ``Cat/Abyssinian``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, damaged, find, folder_of, matches, reading, refuse_boxes
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task

_TITLE: Final = "Oxford-IIIT Pets"
_LAYOUT: Final = "The root holds annotations/trainval.txt, annotations/test.txt and the folder images."
_LINE: Final = re.compile(r"(\w[\w-]*)_([0-9]{1,6})\s+([0-9]{1,3})\s+([12])\s+([0-9]{1,3})", re.ASCII)
_PHOTO: Final = re.compile(r"(.+)_[0-9]{1,6}\.jpg")
_SPECIES: Final = {"1": "Cat", "2": "Dog"}


def _read(root: Path, boxes: bool, *, parts: Mapping[str, str]) -> Reading:
    refuse_boxes(boxes, f"{_TITLE} (its boxes are of heads)")
    rows = []
    breeds: dict[str, tuple[str, str]] = {}
    prefix = ""
    for name, part in parts.items():
        path = find(root, _LAYOUT, f"annotations/{name}.txt", f"oxford-iiit-pet/annotations/{name}.txt")
        prefix = folder_of(path.parent, root)
        for number, match in matches(path, _LINE, "Breed_number, class, species, breed within the species"):
            breed, species = match[1], match[4]
            if breeds.setdefault(breed, (match[3], species)) != (match[3], species):
                raise damaged(path, number, f"gives {breed} another class than a line above")
            image = f"images/{breed}_{match[2]}.jpg"
            rows.append(Row(image, prefix + image, f"{_SPECIES[species]}/{breed}", part))
    found = reading(rows, root, [f"{prefix}images"])
    return replace(found, extra=[file for file in found.extra if not _left_out(file, breeds)])


def _left_out(file: str, breeds: Mapping[str, object]) -> bool:
    """Tell an official photo that the lists leave out: the archive has some forty more than they name."""
    match = _PHOTO.fullmatch(file.rpartition("/")[2])
    return match is not None and match[1] in breeds


_TRAIN: Final = Counts(3_680, 37)
_TEST: Final = Counts(3_669, 37)

PETS: Final = Protocol(
    title=_TITLE,
    source="Parkhi et al., Cats and Dogs, CVPR 2012",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts={"test": "query", "trainval": "gallery"}),
            {"query": _TEST, "gallery": _TRAIN},
            (1, 5, 10),
            "Every photo of the official test list is a query, the official trainval list is the gallery.",
        ),
        "classification": Task(
            partial(_read, parts={"trainval": "train", "test": "test"}),
            {"train": _TRAIN, "test": _TEST},
            (1, 5),
            "The official lists; accuracy as the mean over the 37 breeds in the paper, over the photos elsewhere.",
        ),
    },
    notes=(
        "There is no accepted retrieval split; test against trainval is what nearest-neighbour evaluations use.",
        "The official archive holds photos of the 37 breeds that neither list names (41, from memory); they are "
        "nobody's mistake, take no part, and are not reported.",
    ),
)
