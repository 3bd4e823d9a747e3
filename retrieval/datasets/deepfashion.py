"""DeepFashion, Consumer-to-Shop Clothes Retrieval (Liu et al., CVPR 2016).

``Eval/list_eval_partition.txt`` holds the number of its lines, their names, and a line a pair:

    img/CLOTHING/Blouse/id_00000001/comsumer_01.jpg img/CLOTHING/Blouse/id_00000001/shop_01.jpg id_00000001 train

Consumers' photos of the test pairs are asked, and all shop photos of the validation and the test pairs are searched, as
the notes of the official README have it. A label is the item's category and the item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, box_between, damaged, find, inside, lines, reading
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = "The root holds Eval/list_eval_partition.txt and the folder img, or Img/img, with the photos it names."
_FORM: Final = "consumer image, shop image, item id, train or val or test"
_LINE: Final = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s+(train|val|test)")
_BOX: Final = re.compile(r"(\S+)\s+[0-9]+\s+[0-9]+\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})")
# (role, status of the pair) → part
_RETRIEVAL: Final = {
    ("consumer", "train"): "train",
    ("shop", "train"): "train",
    ("consumer", "test"): "query",
    ("shop", "val"): "gallery",
    ("shop", "test"): "gallery",
}
_VALIDATION: Final = {
    ("consumer", "val"): "query",
    ("shop", "val"): "gallery",
    ("shop", "test"): "gallery",
}


def _read(root: Path, boxes: bool, *, parts: Mapping[tuple[str, str], str]) -> Reading:
    path = find(root, _LAYOUT, "Eval/list_eval_partition.txt", "list_eval_partition.txt")
    prefix = "Img/" if (root / "Img" / "img").is_dir() else ""
    cuts = _boxes(root) if boxes else {}
    # (image, part) → its item; the order is the list's
    placed: dict[tuple[str, str], str] = {}
    category: dict[str, str] = {}
    named: set[str] = set()
    for number, match in _pairs(path):
        item, status = match[3], match[4]
        for role, name in (("consumer", match[1]), ("shop", match[2])):
            image = inside(name, path, number)
            named.add(image)
            category.setdefault(item, "/".join(image.split("/")[1:-2]))
            part = parts.get((role, status))
            if part is not None and placed.setdefault((image, part), item) != item:
                raise damaged(path, number, f"gives {image} another item than a line above")
    rows = []
    for (image, part), item in placed.items():
        if boxes and image not in cuts:
            raise ProtocolError(f"the list of boxes has none of {image}; get it anew from the data set's source")
        label = f"{category[item]}/{item}" if category[item] else item
        rows.append(Row(image, prefix + image, label, part, cuts.get(image)))
    return reading(rows, root, [f"{prefix}img"], also=[prefix + image for image in named], source=path)


def _pairs(path: Path) -> list[tuple[int, re.Match[str]]]:
    """Read the pairs of the list, whose first line says how many there are."""
    numbered = lines(path)
    if len(numbered) < 2 or re.fullmatch("[0-9]{1,9}", numbered[0][1]) is None:
        raise damaged(path, 1, "is not the number of lines")
    pairs = []
    for number, line in numbered[2:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise damaged(path, number, f"is not `{_FORM}`")
        pairs.append((number, match))
    if len(pairs) != int(numbered[0][1]):
        raise damaged(path, numbered[-1][0], f"is the last, and line 1 says that {numbered[0][1]} pairs follow")
    return pairs


def _boxes(root: Path) -> dict[str, tuple[int, int, int, int]]:
    path = find(root, "Boxes are in Anno/list_bbox_consumer2shop.txt.", "Anno/list_bbox_consumer2shop.txt")
    found = {}
    for number, line in lines(path)[2:]:
        match = _BOX.fullmatch(line)
        if match is None:
            raise damaged(path, number, "is not `image, clothes type, source type, x1, y1, x2, y2`")
        left, top, right, bottom = (int(side) for side in match.groups()[1:])
        found[match[1]] = box_between(left, top, right, bottom, path, number)
    return found


_RULE: Final = (
    "Consumers' photos of {} pairs are the queries, all shop photos of validation and test pairs the gallery; whole "
    "photos, accuracy at K is Recall@K."
)

DEEPFASHION_C2S: Final = Protocol(
    title="DeepFashion Consumer-to-Shop",
    source="Liu et al., DeepFashion, CVPR 2016",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            partial(_read, parts=_RETRIEVAL),
            # from memory, unconfirmed: the images; no source for the items of each part was found
            {
                "train": Counts(None, None),
                "query": Counts(47_434, None),
                "gallery": Counts(22_669, None),
            },
            (1, 10, 20, 30, 40, 50),
            _RULE.format("test"),
            disjoint=True,
        ),
        "validation": Task(
            partial(_read, parts=_VALIDATION),
            {"query": Counts(None, None), "gallery": Counts(22_669, None)},
            (1, 10, 20, 30, 40, 50),
            _RULE.format("validation"),
        ),
    },
    notes=(
        "239,557 images of 33,881 items in all. The counts of query and gallery images are from memory, and those of "
        "their items and of the other parts were found nowhere, so these are not checked.",
        "Many papers cut to the annotated boxes, or search the shop photos of test pairs alone; such numbers are "
        "higher.",
    ),
)
