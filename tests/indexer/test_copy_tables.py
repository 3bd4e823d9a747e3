"""Pairs and groups of items, of what is known of their bytes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from indexer.copy_tables import COPY, SAME_PIXELS, Gathered
from indexer.duplicates import find
from tests.indexer.copies import draw, found_in, groups_of, indexed, kinds_of, photo, save

pytestmark = pytest.mark.usefixtures("few_planted")


def test_pictures_of_the_same_pixels_are_one_group_though_nothing_is_seen_on_them(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {0: ()})
    plain = np.full((60, 80, 3), 200, np.uint8)
    for name, level in {"a": 9, "b": 1, "c": 0, "d": 6}.items():  # the third file is the largest, and kept
        save(pictures / f"1/{name}.png", plain, compress_level=level)
    found = found_in(pictures, tmp_path / "catalogue")
    assert groups_of(found) == [["1/c.png", "1/a.png", "1/b.png", "1/d.png"]]
    for row in found.groups.to_pylist():
        assert row["sha256"] == hashlib.sha256((pictures / row["id"]).read_bytes()).hexdigest()
    assert set(kinds_of(found).values()) == {SAME_PIXELS}
    assert {row["kind"] for row in found.groups.to_pylist()} == {None, SAME_PIXELS}
    assert {row["how"] for row in found.groups.to_pylist()} == {"", "other file, same picture"}


def test_two_cuts_of_one_photo_are_no_lookalikes_of_each_other(tmp_path: Path) -> None:
    """What they share is less than half of both, so they are no copies; but both are copies of the photo."""
    pictures = draw(tmp_path / "pictures", {0: ()})
    whole = photo(0)
    save(pictures / "0/left.png", whole[:, :120])
    save(pictures / "0/right.png", whole[:, 70:])
    found = found_in(pictures, tmp_path / "catalogue", lookalike=0.0)
    assert groups_of(found) == [["0/photo.png", "0/left.png", "0/right.png"]]
    assert {frozenset(pair): kind for pair, kind in kinds_of(found).items()} == {
        frozenset(("0/photo.png", "0/left.png")): COPY,
        frozenset(("0/photo.png", "0/right.png")): COPY,
    }


def test_many_equal_files_on_both_sides_of_a_copy_take_no_time(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {0: ("cut",), 1: ("grey",)})
    names = {0: ("photo.png", "cut.jpg"), 1: ("photo.png", "grey.jpg")}
    rows = [["path", "part"]]
    for number, both in names.items():
        for name in both:
            path = pictures / str(number) / name
            for at in range(120):
                again = path.with_name(f"{at:03d}-{name}")
                shutil.copy(path, again)
                # Only the last file of the second photo is of test.
                part = "test" if (number, name, at) == (1, "grey.jpg", 119) else "train"
                rows.append([f"{number}/{again.name}", part])
            path.unlink()
    listing = pictures / "list.csv"
    listing.write_text("\n".join(",".join(row) for row in rows))
    asked = 0

    def wanted(self: Gathered, places: Sequence[int]) -> bool:
        nonlocal asked
        asked += 1
        return told(self, places)

    told = Gathered._wanted
    with indexed(listing, tmp_path / "catalogue") as catalogue, pytest.MonkeyPatch.context() as patched:
        patched.setattr(Gathered, "_wanted", wanted)
        found = find(catalogue, between=("train", "test"), split="part")
        assert len(catalogue.items()) == 480
    assert asked < 2000
    edited = [row for row in found.pairs.to_pylist() if row["kind"] == COPY]
    assert [sorted((row["a"], row["b"])) for row in edited] == [["1/000-photo.png", "1/119-grey.jpg"]]
