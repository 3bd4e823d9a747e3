"""QMUL-ShoeV2 and QMUL-ChairV2 (Yu et al., CVPR 2016, second version): a sketch finds the photo it was drawn of.

A photo ``2429245009.png`` has sketches ``2429245009_1.png`` and so on. Two layouts are about: the folders ``trainA``
and ``testA`` of sketches beside ``trainB`` and ``testB`` of photos; or a folder of all sketches and one of all photos
with the lists ``sketch_train.txt``, ``sketch_test.txt``, ``photo_train.txt`` and ``photo_test.txt``. Lists that stand
beside the first layout are held against its folders. A label is the photo's name: the instance.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, damaged, image_files, inside, lines, reading, refuse_boxes
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = (
    "The root, or its folder {0}, holds the folders trainA and testA (sketches) and trainB and testB (photos); or the "
    "folders sketch and photo, or {0}_sketch and {0}_photo, with sketch_train.txt, sketch_test.txt, photo_train.txt "
    "and photo_test.txt."
)
_SETS: Final = {("sketch", "train"): "trainA", ("photo", "train"): "trainB"} | {
    ("sketch", "test"): "testA",
    ("photo", "test"): "testB",
}
_PARTS: Final = {("sketch", "test"): "query", ("photo", "test"): "gallery"}
_SKETCH: Final = re.compile(r"(.+)_[0-9]{1,4}")


def _read(root: Path, boxes: bool, *, name: str) -> Reading:
    refuse_boxes(boxes, f"QMUL-{name}")
    prefix, folders = _folders(root, name)
    rows: list[Row] = []
    unpaired: list[str] = []
    for half in ("train", "test"):
        photos: set[str] = set()
        for kind in ("photo", "sketch"):
            folder = folders[kind, half]
            part = _PARTS.get((kind, half), "train")
            path = root / prefix / f"{kind}_{half}.txt"
            for number, image in _listed(path, root, prefix + folder):
                stem = image.rpartition("/")[2].rpartition(".")[0]
                drawn = _SKETCH.fullmatch(stem)
                instance = stem if kind == "photo" else drawn[1] if drawn else ""
                if not instance:
                    if path.exists():
                        raise damaged(path, number, "is not a photo's name, an underscore and a number")
                    continue  # an image that is no sketch of any photo: reported as one too many
                if kind == "photo":
                    photos.add(instance)
                elif instance not in photos:
                    if path.exists():
                        raise damaged(path, number, f"is a sketch of {instance}, which photo_{half}.txt does not name")
                    unpaired.append(f"{prefix}{folders['photo', half]}/{instance}.png")
                rows.append(Row(f"{folder}/{image}", f"{prefix}{folder}/{image}", instance, part))
    return reading(rows, root, dict.fromkeys(prefix + folder for folder in folders.values()), also=unpaired)


def _folders(root: Path, name: str) -> tuple[str, dict[tuple[str, str], str]]:
    """Find which of the layouts this is: what stands before all paths, and the folder of each kind and half."""
    for prefix in ("", f"{name}/"):
        if (root / prefix / "testA").is_dir():
            for folder in _SETS.values():
                if not (root / prefix / folder).is_dir():
                    raise ProtocolError(f"{root} has no {prefix}{folder}. {_LAYOUT.format(name)}")
            return prefix, _SETS
        for sketch, photo in (("sketch", "photo"), (f"{name}_sketch", f"{name}_photo")):
            if (root / prefix / sketch).is_dir():
                for needed in (photo, *(f"{kind}_{half}.txt" for kind, half in _SETS)):
                    if not (root / prefix / needed).exists():
                        raise ProtocolError(f"{root} has no {prefix}{needed}. {_LAYOUT.format(name)}")
                return prefix, {(kind, half): sketch if kind == "sketch" else photo for kind, half in _SETS}
    raise ProtocolError(f"{root} has no testA. {_LAYOUT.format(name)}")


def _listed(path: Path, root: Path, folder: str) -> list[tuple[int, str]]:
    """Name the images of a list, or without one those of the folder."""
    if not path.exists():
        names = sorted(image_files(root, folder))
        return [(place, name.removeprefix(f"{folder}/")) for place, name in enumerate(names, 1)]
    found = []
    for number, line in lines(path):
        image = inside(line, path, number).rpartition("/")[2]
        found.append((number, image if "." in image else f"{image}.png"))
    return found


def _protocol(name: str, train: Counts, query: Counts, gallery: Counts, note: str) -> Protocol:
    return Protocol(
        title=f"QMUL-{name}",
        source="Yu et al., Sketch Me That Shoe, CVPR 2016; version 2 of the data",
        layout=_LAYOUT.format(name),
        tasks={
            "retrieval": Task(
                partial(_read, name=name),
                {"train": train, "query": query, "gallery": gallery},
                (1, 5, 10),
                "Every test sketch is a query, the test photos are the gallery; right is the photo it was drawn of.",
                disjoint=True,
                metric="Accuracy",
            )
        },
        notes=(note,),
    )


# sketches and photos of training together; the totals are public, how they are parted is from memory, unconfirmed
SHOE_V2: Final = _protocol(
    "ShoeV2",
    Counts(6_051 + 1_800, 1_800),
    Counts(679, 200),
    Counts(200, 200),
    "6,730 sketches of 2,000 photos are confirmed; 6,051 and 1,800 for training, 679 and 200 for the test from memory.",
)
# 1,275 and 725 sketches, 300 and 100 photos are public; that each photo has a sketch is from memory, unconfirmed
CHAIR_V2: Final = _protocol(
    "ChairV2",
    Counts(1_275 + 300, 300),
    Counts(725, 100),
    Counts(100, 100),
    "1,275 and 725 sketches of 300 and 100 photos are confirmed; that each test photo has a sketch is from memory.",
)
