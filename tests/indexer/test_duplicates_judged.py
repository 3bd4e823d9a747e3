"""What somebody has judged of pairs stands above what the finder says, and reaches as far as it follows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from indexer.duplicates import COPY, LOOKALIKE, find
from retrieval.errors import InputError, NotFoundError
from tests.indexer.copies import (
    SMALL,
    copies_of,
    found_in,
    groups_of,
    indexed,
    kinds_of,
    photo,
    save,
    sets_of,
)

pytestmark = pytest.mark.usefixtures("few_planted")


def test_what_somebody_has_judged_stands(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "0/photo.png", pictures / "0/same.png")
    save(pictures / "4/photo.png", photo(4))
    save(pictures / "4/again.png", photo(4), compress_level=9)
    judged = {
        ("1/photo.png", "1/grey.jpg"): False,
        ("3/photo.png", "2/photo.png"): True,
        ("3/photo.png", "2/smaller.jpg"): True,
        ("0/same.png", "0/photo.png"): False,  # what is equal is equal
        ("4/again.png", "4/photo.png"): False,
    }
    found = found_in(pictures, tmp_path / "catalogue", judged=judged)
    assert sets_of(found) == {
        frozenset(("0/photo.png", "0/same.png", "0/cut.jpg", "0/mirrored.jpg")),
        frozenset(("2/photo.png", "2/smaller.jpg", "3/photo.png")),
        frozenset(("4/photo.png", "4/again.png")),
    }
    assert kinds_of(found)[frozenset(("1/photo.png", "1/grey.jpg"))] == LOOKALIKE
    sure = {frozenset((row["a"], row["b"])): row["sure"] for row in found.pairs.to_pylist()}
    assert sure[frozenset(("3/photo.png", "2/photo.png"))] == 1.0
    assert found.threshold.judged == 4


def test_what_is_judged_a_copy_of_one_of_a_group_belongs_to_the_group(pictures: Path, tmp_path: Path) -> None:
    yes = {("3/photo.png", "0/cut.jpg"): True}
    group = frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg"))
    found = found_in(pictures, tmp_path / "catalogue", judged=yes)
    assert sets_of(found) == (SMALL - {group}) | {group | {"3/photo.png"}}
    assert {frozenset(("3/photo.png", id)) for id in group} <= set(copies_of(found))
    # What somebody has seen to be none is none.
    found = found_in(pictures, tmp_path / "catalogue", judged={**yes, ("3/photo.png", "0/photo.png"): False})
    assert sets_of(found) == SMALL


def test_a_judged_copy_in_which_nothing_is_seen_makes_no_frame(pictures: Path, tmp_path: Path) -> None:
    """The picture that it is judged with stays better than its own smaller copy."""
    found = found_in(pictures, tmp_path / "catalogue", judged={("3/photo.png", "2/photo.png"): True})
    (group,) = (ids for ids in groups_of(found) if "2/photo.png" in ids)
    assert group[0] in ("2/photo.png", "3/photo.png") and "2/smaller.jpg" not in group[:1]
    (row,) = (row for row in found.pairs.to_pylist() if {row["a"], row["b"]} == {"2/photo.png", "3/photo.png"})
    assert (row["kind"], row["how"], row["transform"], row["sure"]) == (COPY, "", None, 1.0)


def test_judgements_of_pictures_that_are_gone(pictures: Path, tmp_path: Path) -> None:
    gone = {("0/photo.png", "nobody"): True}
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        with pytest.raises(
            NotFoundError, match=r"none of the pictures that were judged is here, such as 'no one'; give"
        ):
            find(catalogue, judged={("nobody", "no one"): True})
        for judged, of in (({**gone, ("3/photo.png", "2/photo.png"): False}, 2), (gone, 1)):
            told: list[str] = []
            found = find(catalogue, judged=judged, notice=told.append)
            assert found.threshold.judged == of - 1
            assert told == [
                f"1 of {of} judgements name a picture that is not here (any more), such as 'nobody', and were left out"
            ]


def test_judgements_of_the_same_bytes_that_contradict_each_other(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "1/photo.png", pictures / "1/same.png")
    judged = {("1/photo.png", "1/grey.jpg"): True, ("1/grey.jpg", "1/same.png"): False}
    with pytest.raises(InputError, match="files of the same bytes the other; leave one judgement out"):
        found_in(pictures, tmp_path / "catalogue", judged=judged)
