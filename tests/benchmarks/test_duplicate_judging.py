"""Pairs of photos that somebody judges: who is asked what, and what becomes of the answers."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks._duplicate_edits import CAR_PAIRS, Copy, Photo, truth_of
from benchmarks._duplicate_figures import OUTSIDE, Pairs, judge
from benchmarks._duplicate_judging import VERDICTS, disputed, full_name, lay_out, verdicts, with_verdicts
from retrieval.images import encode_jpeg

CARS = sorted(name for pair in CAR_PAIRS for name in pair)


def photos() -> list[Photo]:
    data = [encode_jpeg(np.full((8, 8, 3), level, np.uint8), quality=90) for level in range(60)]
    shelf = [Photo("g", f"train/Oat/{at:02d}.jpg", lambda at=at: data[at]) for at in range(30)]  # type: ignore[misc]
    return shelf + [Photo("c", f"{name}.jpg", lambda at=at: data[30 + at]) for at, name in enumerate(CARS)]  # type: ignore[misc]


def test_only_pairs_that_count_as_wrong_are_asked_each_once_and_by_the_photos() -> None:
    every = photos()
    number = np.arange(len(every))
    copies = [Copy(0, "crop", 1), Copy(0, "flip", 1)]
    truth = truth_of(every, number, [0, 1, 2], copies)
    names = list(truth.names)
    called = [
        (names.index("g00000.jpg"), names.index("x00000-crop-1.jpg")),  # right
        (names.index("x00000-flip-1.jpg"), names.index("g00001.jpg")),
        (names.index("g00001.jpg"), names.index("x00000-crop-1.jpg")),
    ]
    a, b = np.array(called).T
    pairs = Pairs.of(a, b, np.ones(len(a)))
    asked = disputed(every, truth, [pairs, pairs])
    assert asked == [("g/train/Oat/00.jpg", "g/train/Oat/01.jpg")]
    judged = truth_of(every, with_verdicts(every, number, {asked[0]: True}), [0, 1, 2], copies)
    assert disputed(every, judged, [pairs]) == []
    assert sorted(judge(judged, pairs).tolist()).count(OUTSIDE) == 2
    assert disputed(every, truth_of(every, with_verdicts(every, number, {asked[0]: False}), [0, 1, 2], copies), [pairs])


def test_photos_that_are_one_with_a_third_are_one() -> None:
    every = photos()[:4]
    name = [full_name(photo) for photo in every]
    number = with_verdicts(every, np.arange(4), {(name[2], name[3]): True, (name[0], name[3]): True})
    assert len({number[0], number[2], number[3]}) == 1 and number[1] not in number[[0, 2, 3]]


def test_whoever_judges_sees_known_pairs_among_the_others_and_not_which(tmp_path: Path) -> None:
    every = photos()
    pair = ("g/train/Oat/03.jpg", "g/train/Oat/20.jpg")
    listing = lay_out(tmp_path, every, [pair], seed=0)
    with listing.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + 2 * len(CAR_PAIRS) and {row["one_photograph"] for row in rows} == {""}
    asked = [(row["first"], row["second"]) for row in rows]
    assert pair in asked and all((f"c/{a}.jpg", f"c/{b}.jpg") in asked for a, b in CAR_PAIRS)
    assert asked != sorted(asked)
    for row in rows:
        with Image.open(tmp_path / row["picture"]) as picture:
            assert picture.size == (1410, 700)
    with pytest.raises(KeyError):
        verdicts(listing)  # not filled in
    listing.write_text(listing.read_text().replace(",\n", ",yes\n"))
    assert set(verdicts(listing)) == {(min(two), max(two)) for two in asked}


def test_no_verdicts_are_written_over(tmp_path: Path) -> None:
    listing = lay_out(tmp_path / "sheets", photos(), [], seed=0)
    filled = listing.read_text().replace(",\n", ",yes\n")
    listing.write_text(filled)
    with pytest.raises(SystemExit, match="not empty"):
        lay_out(tmp_path / "sheets", photos(), [], seed=0)
    assert listing.read_text() == filled


def test_the_verdicts_that_are_kept_name_photos_and_no_pair_twice() -> None:
    with VERDICTS.open(newline="") as file:
        rows = [(row["first"], row["second"]) for row in csv.DictReader(file)]
    assert len({frozenset(row) for row in rows}) == len(rows) == len(verdicts())
    assert all(re.fullmatch(r"[cg]/.+\.jpg|f/\d+", name) for row in rows for name in row)
