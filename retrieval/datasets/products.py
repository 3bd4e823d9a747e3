"""Products: Stanford Online Products, and In-Shop Clothes Retrieval of DeepFashion.

Both lists give each image its product; the folder of the image is a coarser class, so that a label is
``bicycle/1`` and ``WOMEN/Dresses/id_00000002``. Should a product's images lie in several folders, the first counts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import (
    Row,
    damaged,
    find,
    folder_of,
    inside,
    lines,
    listing,
    matches,
    reading,
    refuse_boxes,
)
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task

_SOP_LAYOUT: Final = (
    "The root is the folder Stanford_Online_Products: Ebay_train.txt, Ebay_test.txt and the folders "
    "bicycle_final to toaster_final."
)
_SOP: Final = re.compile(r"([0-9]{1,9})\s+([0-9]{1,9})\s+([0-9]{1,9})\s+(\S.*)")
_SOP_HEADER: Final = re.compile(r"image_id\s+class_id\s+super_class_id\s+path")
_SOP_LISTS: Final[tuple[tuple[str, Part], ...]] = (("Ebay_train.txt", "train"), ("Ebay_test.txt", "test"))

_INSHOP_LAYOUT: Final = (
    "The root holds Eval/list_eval_partition.txt (or that list itself), the folder Img/img (or img) and, for boxes, "
    "Anno/list_bbox_inshop.txt (or that list itself)."
)
_INSHOP: Final = re.compile(r"(\S.*?)\s+(id_[0-9]{1,12})\s+(train|query|gallery)")
_INSHOP_HEADER: Final = re.compile(r"[0-9]{1,9}|image_name\s+item_id\s+evaluation_status")
_BOX: Final = re.compile(r"(\S.*?)\s+[0-9]\s+[0-9]\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})")
_BOX_HEADER: Final = re.compile(r"[0-9]{1,9}|image_name\s+clothes_type\s+pose_type\s+x_1\s+y_1\s+x_2\s+y_2")


def read_sop(root: Path, boxes: bool) -> Reading:
    """Read Stanford Online Products.

    Args:
        root: the folder ``Stanford_Online_Products``.
        boxes: must be false: there are none.

    Raises:
        ProtocolError: a list is missing or damaged, or ``boxes``.
    """
    refuse_boxes(boxes, "Stanford Online Products")
    labels: dict[str, str] = {}
    rows = []
    for name, part in _SOP_LISTS:
        path = find(root, _SOP_LAYOUT, name)
        for number, match in matches(path, _SOP, "image id, class id, super class id, path", header=_SOP_HEADER):
            file = inside(match[4], path, number)
            if "/" not in file:
                raise damaged(path, number, "names an image outside the folders of the super classes")
            folder = file.partition("/")[0]
            label = labels.setdefault(match[2], f"{folder.removesuffix('_final')}/{match[2]}")
            rows.append(Row(file, file, label, part))
    return reading(rows, root, sorted({row.file.partition("/")[0] for row in rows}))


def read_inshop(root: Path, boxes: bool) -> Reading:
    """Read In-Shop Clothes Retrieval.

    Args:
        root: the folder with ``Eval`` and ``Img``.
        boxes: whether to cut to the annotated boxes.

    Raises:
        ProtocolError: a list is missing or damaged.
    """
    path = find(root, _INSHOP_LAYOUT, "Eval/list_eval_partition.txt", "list_eval_partition.txt")
    # Img/img first: where names differ by case only, a root that has Img seems to have img as well.
    prefix = folder_of(find(root, _INSHOP_LAYOUT, "Img/img", "img"), root)
    drawn = None
    if boxes:
        place = find(root, _INSHOP_LAYOUT, "Anno/list_bbox_inshop.txt", "list_bbox_inshop.txt")
        drawn = listing(place, _BOX, "image, clothes type, pose type, x1, y1, x2, y2", header=_BOX_HEADER)
    labels: dict[str, str] = {}
    rows = []
    for number, match in matches(path, _INSHOP, "image, item id, train, query or gallery", header=_INSHOP_HEADER):
        file = inside(match[1], path, number)
        box = None if drawn is None else drawn.box(match[1])
        # img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        label = labels.setdefault(match[2], "/".join([*file.split("/")[1:-2], match[2]]))
        rows.append(Row(file, prefix + file, label, match[3], box))
    first = lines(path)[:1]
    if first and first[0][1].isdecimal() and int(first[0][1]) != len(rows):
        raise damaged(path, first[0][0], f"says that {first[0][1]} images follow, and {len(rows)} do")
    return reading(rows, root, [f"{prefix}img"], source=path)


SOP: Final = Protocol(
    title="Stanford Online Products",
    source="Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016",
    layout=_SOP_LAYOUT,
    tasks={
        "retrieval": Task(
            read=read_sop,
            counts={"train": Counts(59_551, 11_318), "test": Counts(60_502, 11_316)},
            ks=(1, 10, 100, 1000),
            rule="Trained on the products of Ebay_train.txt, searched among those of Ebay_test.txt, "
            "every test image a query.",
            disjoint=True,
        ),
    },
)

INSHOP: Final = Protocol(
    title="In-Shop Clothes Retrieval",
    source="Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations, "
    "CVPR 2016",
    layout=_INSHOP_LAYOUT,
    tasks={
        "retrieval": Task(
            read=read_inshop,
            counts={"train": Counts(25_882, 3_997), "query": Counts(14_218, 3_985), "gallery": Counts(12_612, 3_985)},
            ks=(1, 10, 20, 30, 40),
            rule="The query images of list_eval_partition.txt search among its gallery images; whole images.",
            disjoint=True,
        ),
    },
)
