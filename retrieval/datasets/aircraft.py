"""FGVC-Aircraft: 100 variants in 70 families of 30 manufacturers.

``images_variant_train.txt``, and the like for family and manufacturer, val and test, hold a line an image,
``0034309 707-320``; ``images_box.txt`` the corners of a box, counted from 1, both within it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, find, folder_of, halves, listing, reading, segment
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task

_LAYOUT: Final = (
    "The root is the folder fgvc-aircraft-2013b, or its folder data: images_variant_train.txt, _val.txt and _test.txt, "
    "the same for family and manufacturer, images_box.txt and the folder images."
)
_LEVELS: Final = ("manufacturer", "family", "variant")
_PARTS: Final[tuple[Part, ...]] = ("train", "val", "test")
_CLASS: Final = re.compile(r"([0-9]{1,9})\s+(\S.*)")
_BOX: Final = re.compile(r"([0-9]{1,9})\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})")


def read_aircraft(root: Path, boxes: bool, *, official: bool) -> Reading:
    """Read FGVC-Aircraft; a label is ``Boeing/Boeing 707/707-320``.

    Args:
        root: the folder ``fgvc-aircraft-2013b`` or its folder ``data``.
        boxes: whether to cut to the annotated boxes.
        official: whether by the official lists, for classification; otherwise by halves of the variants, for search.

    Raises:
        ProtocolError: a list is missing or damaged.
    """
    first = find(root, _LAYOUT, "data/images_variant_train.txt", "images_variant_train.txt")
    folder, prefix = first.parent, folder_of(first, root)
    drawn = listing(find(folder, _LAYOUT, "images_box.txt"), _BOX, "image, xmin, ymin, xmax, ymax") if boxes else None
    rows = []
    variants: list[str] = []
    for part in _PARTS:
        levels = [
            listing(find(folder, _LAYOUT, f"images_{level}_{part}.txt"), _CLASS, f"image, {level}") for level in _LEVELS
        ]
        for image in levels[-1].found:
            names = [segment(level.of(image)[1][2]) for level in levels]
            box = None if drawn is None else drawn.box(image)
            rows.append(Row(image, f"{prefix}images/{image}.jpg", "/".join(names), part, box))
            variants.append(names[-1])
    if not official:
        sides = halves(variants)
        rows = [row._replace(part=sides[variant]) for row, variant in zip(rows, variants, strict=True)]
    return reading(rows, root, [f"{prefix}images"])


AIRCRAFT: Final = Protocol(
    title="FGVC-Aircraft",
    source="Maji et al., Fine-Grained Visual Classification of Aircraft, arXiv 1306.5151, 2013",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_aircraft, official=False),
            counts={"train": Counts(5_000, 50), "test": Counts(5_000, 50)},
            ks=(1, 2, 4, 8),
            rule="Trained on the first 50 variants by name, searched among the other 50, all lists pooled; "
            "whole images, every test image a query.",
            disjoint=True,
        ),
        "classification": Task(
            read=partial(read_aircraft, official=True),
            counts={"train": Counts(3_334, 100), "val": Counts(3_333, 100), "test": Counts(3_333, 100)},
            ks=(1, 5),
            rule="The official lists of 100 variants; whole images.",
        ),
    },
    notes=(
        "There is no single accepted split for search; this is the first half of the variants, sorted by name "
        "(capitals before small letters), against the second.",
        "The lowest 20 pixels of every photo are a banner that names its photographer; it is not cut away.",
    ),
)
