"""A collage is no group: what stands in it side by side is worth keeping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.indexer.copies import EDITS, copies_of, found_in, photo, save, sets_of

pytestmark = pytest.mark.usefixtures("few_planted")


def test_two_photos_side_by_side_are_not_removed_as_copies_of_that(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "pictures" / f"{number}.png", photo(number))
    save(tmp_path / "pictures" / "0-grey.jpg", EDITS["grey"](photo(0)))
    save(tmp_path / "pictures" / "beside.jpg", np.hstack([photo(0), photo(1)]))
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert sets_of(found) == {frozenset(("0.png", "0-grey.jpg"))}
    assert {frozenset(("0.png", "beside.jpg")), frozenset(("1.png", "beside.jpg"))} <= set(copies_of(found))


def test_four_in_a_grid(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "pictures" / f"{number}.png", photo(number))
    grid = np.vstack([np.hstack([photo(0), photo(1)]), np.hstack([photo(2), photo(3)])])
    save(tmp_path / "pictures" / "grid.png", grid)
    assert sets_of(found_in(tmp_path / "pictures", tmp_path / "catalogue")) == set()


def test_two_halves_of_one_photo_are_left_to_the_user(tmp_path: Path) -> None:
    """They were cut from it, or it was put together from them: nobody can see."""
    save(tmp_path / "pictures" / "whole.png", photo(0))
    save(tmp_path / "pictures" / "left.png", photo(0)[:, :100])
    save(tmp_path / "pictures" / "right.png", photo(0)[:, 100:])
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert sets_of(found) == set() and len(copies_of(found)) == 2


@pytest.mark.parametrize("cuts", [(slice(0, 100),), (slice(0, 120), slice(60, 190)), (slice(0, 100), slice(0, 95))])
def test_cuts_that_meet_are_copies_of_the_photo(tmp_path: Path, cuts: tuple[slice, ...]) -> None:
    save(tmp_path / "pictures" / "whole.png", photo(0))
    names = [f"cut{number}.png" for number, _ in enumerate(cuts)]
    for name, cut in zip(names, cuts, strict=True):
        save(tmp_path / "pictures" / name, photo(0)[:, cut])
    assert sets_of(found_in(tmp_path / "pictures", tmp_path / "catalogue")) == {frozenset(("whole.png", *names))}
