"""Omniglot (Lake et al., Science 2015).

The folders are the lists: ``images_background/Alphabet_of_the_Magi/character01/0709_01.png`` is the first of 20
people's drawings of a character. The 30 background alphabets are for training, the 20 of ``images_evaluation`` are
asked. A label is the alphabet and the character.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from retrieval.datasets.lists import Row, find, folder_of, image_files, reading, refuse_boxes
from retrieval.datasets.protocol import Counts, Protocol, Reading, Task

_TITLE: Final = "Omniglot"
_LAYOUT: Final = "The root, or its folder omniglot-py, holds the folders images_background and images_evaluation."
_PARTS: Final = {"images_background": "train", "images_evaluation": "test"}
_DRAWING: Final = re.compile(r"([^/]+)/character([0-9]{2})/([0-9]{4})_([0-9]{2})\.png")
_DRAWINGS: Final = 20


def _read(root: Path, boxes: bool) -> Reading:
    refuse_boxes(boxes, _TITLE)
    rows: list[Row] = []
    folders, lacking = [], []
    for name, part in _PARTS.items():
        prefix = folder_of(find(root, _LAYOUT, name, f"omniglot-py/{name}"), root)
        folders.append(prefix + name)
        # (alphabet, character) → the number that its drawings' names begin with
        characters: dict[tuple[str, int], str] = {}
        drawn: set[str] = set()
        for file in sorted(image_files(root, prefix + name)):
            image = file.removeprefix(prefix)
            match = _DRAWING.fullmatch(image.removeprefix(f"{name}/"))
            if match is None or not 1 <= int(match[4]) <= _DRAWINGS:
                continue
            if characters.setdefault((match[1], int(match[2])), match[3]) != match[3]:
                continue
            drawn.add(image)
            rows.append(Row(image, file, f"{match[1]}/character{match[2]}", part))
        lacking += [prefix + each for each in _should_be(name, characters) if each not in drawn]
    return reading(rows, root, folders, also=lacking)


def _should_be(folder: str, characters: dict[tuple[str, int], str]) -> list[str]:
    """Name the drawings of all characters up to each alphabet's last; of one without any, the folder."""
    last: dict[str, int] = {}
    for alphabet, character in characters:
        last[alphabet] = max(last.get(alphabet, 0), character)
    found = []
    for alphabet, count in last.items():
        for character in range(1, count + 1):
            place = f"{folder}/{alphabet}/character{character:02d}"
            number = characters.get((alphabet, character))
            found += [place] if number is None else [f"{place}/{number}_{n:02d}.png" for n in range(1, _DRAWINGS + 1)]
    return found


OMNIGLOT: Final = Protocol(
    title=_TITLE,
    source="Lake et al., Human-level concept learning through probabilistic program induction, Science 2015",
    layout=_LAYOUT,
    tasks={
        "retrieval": Task(
            _read,
            # 964 and 659 of the 1,623 characters, each drawn by 20 people
            {"train": Counts(964 * _DRAWINGS, 964), "test": Counts(659 * _DRAWINGS, 659)},
            (1, 5, 10),
            "Drawings of the evaluation alphabets are queries and gallery, the query itself left out; training sees "
            "the background alphabets only.",
            disjoint=True,
        ),
    },
    notes=(
        "The paper's own number is 20-way one-shot accuracy within an alphabet; many later papers split the characters "
        "1,200 to 423 at random and add rotations as classes. Neither is this.",
    ),
)
