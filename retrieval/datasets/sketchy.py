"""The Sketchy Database (Sangkloy et al., SIGGRAPH 2016) and its extension (Liu et al., CVPR 2017): sketch → photo.

Photos are ``photo/tx_000000000000/airplane/n02691156_58.jpg`` and sketches of it
``sketch/tx_000000000000/airplane/n02691156_58-1.png``; the extension holds photos by class, the 12,500 of the database
among them. At class level 21 of the 125 classes are unseen in training and asked (Yelamarthi et al., ECCV 2018); at
instance level the sketches of the photos of ``info/testset.txt`` must find the photo they were drawn of, but for those
that ``info/invalid-*.txt`` lists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, damaged, find, folder_of, image_files, inside, lines, reading, refuse_boxes
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task

_TITLE: Final = "Sketchy"
_LAYOUT: Final = (
    "The root, or its folder 256x256, holds sketch/tx_000000000000 and, with the photos by class, for retrieval the "
    "extension EXTEND_image_sketchy or extended_photo, for instance photo/tx_000000000000; and info/testset.txt with "
    "info/invalid-ambiguous.txt, invalid-context.txt, invalid-error.txt and invalid-pose.txt."
)
UNSEEN: Final = frozenset(
    (
        "bat", "cabin", "cow", "dolphin", "door", "giraffe", "helicopter", "mouse", "pear", "raccoon", "rhinoceros",
        "saw", "scissors", "seagull", "skyscraper", "songbird", "sword", "tree", "wheelchair", "windmill", "window",
    )
)  # fmt: skip
"""The 21 classes of Yelamarthi et al., none of them among the 1,000 of ImageNet."""

_SKETCH: Final = re.compile(r"(.+)-[0-9]{1,3}")
_INVALID: Final = ("ambiguous", "context", "error", "pose")


def _unseen(root: Path, boxes: bool) -> Reading:
    """Read the split by classes."""
    refuse_boxes(boxes, _TITLE)
    rows: list[Row] = []
    folders = {
        "query": _folder(root, "sketch/tx_000000000000"),
        "gallery": _folder(root, "EXTEND_image_sketchy", "extended_photo"),
    }
    classes: dict[str, set[str]] = {}
    for part, folder in folders.items():
        images = sorted(image_files(root, folder))
        named = [(image, image.removeprefix(f"{folder}/").split("/")) for image in images]
        rows += [
            Row(image, image, steps[0], part if steps[0] in UNSEEN else "train")
            for image, steps in named
            if len(steps) == 2
        ]
        classes[folder] = {steps[0] for _, steps in named if len(steps) == 2}
    every = set[str]().union(UNSEEN, *classes.values())
    lacking = [f"{folder}/{name}" for folder, there in classes.items() for name in every - there]
    return reading(rows, root, folders.values(), also=lacking)


def _instances(root: Path, boxes: bool) -> Reading:
    """Read the official test at the level of photos."""
    refuse_boxes(boxes, _TITLE)
    sketch, photo = _folder(root, "sketch/tx_000000000000"), _folder(root, "photo/tx_000000000000")
    photos, sketches = image_files(root, photo), image_files(root, sketch)
    by_name = {image.rpartition("/")[2].rpartition(".")[0]: image for image in sorted(photos)}
    rows: list[Row] = []
    tested: set[str] = set()
    path = find(root, _LAYOUT, "info/testset.txt", "256x256/info/testset.txt")
    for number, line in lines(path):
        name = inside(line, path, number)
        stem = name.rpartition("/")[2].rpartition(".")[0]
        if not stem:
            raise damaged(path, number, "is not the name of a photo")
        image = f"{photo}/{name}" if "/" in name else by_name.get(stem, f"{photo}/{name}")
        tested.add(_instance(image, photo))
        rows.append(Row(image, image, _instance(image, photo), "gallery"))
    invalid = {
        line.rpartition("/")[2].removesuffix(".png")
        for kind in _INVALID
        for _, line in lines(find(root, _LAYOUT, f"{folder_of(path, root)}invalid-{kind}.txt"))
    }
    rest: set[str] = set()
    for image in sorted(sketches):
        drawn = _SKETCH.fullmatch(_instance(image, sketch))
        if drawn is None or "/" not in drawn[1]:
            continue
        if drawn[1] in tested and drawn[0].rpartition("/")[2] not in invalid:
            rows.append(Row(image, image, drawn[1], "query"))
        else:
            rest.add(image)
        rest.add(f"{photo}/{drawn[1]}.jpg")
    rest |= {image for image in photos if "/" in _instance(image, photo)}
    return reading(rows, root, [sketch, photo], also=rest, source=path)


def _folder(root: Path, *names: str) -> str:
    places = [place for name in names for place in (name, f"256x256/{name}")]
    return find(root, _LAYOUT, *places).relative_to(root).as_posix()


def _instance(image: str, folder: str) -> str:
    """Name a photo or a sketch by its class and its file: ``airplane/n02691156_58``."""
    return image.removeprefix(f"{folder}/").rpartition(".")[0]


SKETCHY: Final = Protocol(
    title=_TITLE,
    source="Sangkloy et al., The Sketchy Database, SIGGRAPH 2016; Yelamarthi et al., ECCV 2018",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            _unseen,
            # from memory, unconfirmed, but they add up to the 73,002 photos and 125 classes that are public
            {
                "train": Counts(62_787 + 62_549, 104),
                "query": Counts(12_694, 21),
                "gallery": Counts(10_453, 21),
            },
            (1, 5, 10, 100, 200),
            "Every sketch of 21 unseen classes is a query, the extension's photos of these classes are the gallery; "
            "right is a photo of the sketch's class.",
            disjoint=True,
        ),
        "instance": Task(
            _instances,
            # 1,250 is a tenth of the 12,500 photos; 6,312 is from memory, unconfirmed
            {"query": Counts(6_312, 1_250), "gallery": Counts(1_250, 1_250)},
            (1, 5, 10),
            "Every valid sketch of the 1,250 official test photos is a query, these photos are the gallery; right is "
            "the one photo it was drawn of.",
            metric="Accuracy",
        ),
    },
    notes=(
        "The 21 classes, 75,471 sketches, 12,500 photos and the 73,002 of the extension are confirmed; the archive of "
        "sketches is said to hold 75,479 or 75,481 files, and the counts of the parts are from memory.",
        "Papers on unseen classes lead with mAP@200 and Precision@200. Another usual split has 100 and 25 classes.",
        "Which of the invalid sketches the authors left out of the instance-level test is from memory: all four lists.",
    ),
)
