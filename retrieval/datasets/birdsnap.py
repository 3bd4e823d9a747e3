"""Birdsnap: 500 North American species, photos to be fetched from where they were found.

``images.txt`` and ``species.txt`` are tables with tabs and a header; ``test_images.txt`` names the test images, under
the header ``path``. Many of the addresses are dead by now, and what is missing is reported.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, box_between, damaged, find, inside, lines, reading, segment
from retrieval.datasets.protocol import Counts, Part, Protocol, Reading, Task
from retrieval.errors import ProtocolError

_LAYOUT: Final = (
    "The root holds images.txt, species.txt, test_images.txt and the folder images (or download/images) with the "
    "fetched photos."
)
_CORNERS: Final = ("bb_x1", "bb_y1", "bb_x2", "bb_y2")
_LARGEST: Final = 10**6


def read_birdsnap(root: Path, boxes: bool, *, sides: tuple[Part, Part]) -> Reading:
    """Read Birdsnap; a label is the common name of the species.

    Args:
        root: the folder with ``images.txt``.
        boxes: whether to cut to the annotated boxes.
        sides: what the training and the test images are.

    Raises:
        ProtocolError: a list is missing or damaged.
    """
    folder = find(root, _LAYOUT, "images", "download/images").relative_to(root).as_posix()
    species_path = find(root, _LAYOUT, "species.txt")
    species = {row[0]: segment(row[1]) for _, row in _table(species_path, ("id", "common"))}
    test_path = find(root, _LAYOUT, "test_images.txt")
    tests = {inside(row[0], test_path, number) for number, row in _table(test_path, ("path",))}
    path = find(root, _LAYOUT, "images.txt")
    rows = []
    for number, (name, of, *corners) in _table(path, ("path", "species_id", *(_CORNERS if boxes else ()))):
        file = inside(name, path, number)
        if of not in species:
            raise damaged(path, number, f"is of species {of[:20]!r}, which {species_path.name} has not")
        box = None
        if boxes:
            try:
                left, top, right, bottom = map(float, corners)
            except ValueError as error:
                raise damaged(path, number, "has no box") from error
            if not all(abs(value) < _LARGEST for value in (left, top, right, bottom)):
                raise damaged(path, number, "has no box")
            box = box_between(left, top, right, bottom, path, number, first=0)
        rows.append(Row(file, f"{folder}/{file}", species[of], sides[file in tests], box))
    unknown = tests - {row.id for row in rows}
    if unknown:
        raise ProtocolError(f"{test_path} names {min(unknown)!r}, which {path.name} has not")
    return reading(rows, root, [folder], source=path)


def _table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """Read columns of a table with tabs and a header: number of the line, and its values in the order asked for."""
    numbered = lines(path)
    header = numbered[0][1].split("\t") if numbered else []
    if not set(columns) <= set(header):
        raise ProtocolError(f"the first line of {path} must name the columns {', '.join(columns)}")
    places = [header.index(column) for column in columns]
    rows = []
    for number, line in numbered[1:]:
        values = line.split("\t")
        if len(values) <= max(places):
            raise damaged(path, number, f"has {len(values)} columns, and the first line {len(header)}")
        rows.append((number, [values[place] for place in places]))
    return rows


BIRDSNAP: Final = Protocol(
    title="Birdsnap",
    source="Berg et al., Birdsnap: Large-scale Fine-grained Visual Categorization of Birds, CVPR 2014",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            read=partial(read_birdsnap, sides=("gallery", "query")),
            counts={"query": Counts(2_443, 500), "gallery": Counts(47_386, 500)},
            ks=(1, 2, 4, 8),
            rule="The official test images search among all others, all 500 species; whole images.",
        ),
        "classification": Task(
            read=partial(read_birdsnap, sides=("train", "test")),
            counts={"train": Counts(47_386, 500), "test": Counts(2_443, 500)},
            ks=(1, 5),
            rule="The official test images of test_images.txt, all others for training; whole images.",
        ),
    },
    notes=(
        "There is no single accepted split for search. This is the official one: the test images search among the "
        "others, of classes seen in training. A split by halves of the classes has no published counts to be checked "
        "against.",
        "Many photos are gone from where they were found; a number on the rest is not comparable.",
    ),
)
