"""Finding duplicates: every planted copy, no other picture, and what else a user asks of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer import planting
from indexer.catalogue import Catalogue
from indexer.duplicates import COPY, GROUPS_SCHEMA, LOOKALIKE, PAIRS_SCHEMA, SAME_BYTES, SAME_PIXELS, Found, find
from indexer.examining import folder_of, locked
from retrieval.errors import BusyError, InputError, NotFoundError
from tests.embedders import ColourEmbedder
from tests.indexer.copies import (
    EDITS,
    PHOTOS,
    PLANTED,
    SMALL,
    copies_of,
    draw,
    found_in,
    groups_of,
    indexed,
    jpeg,
    kinds_of,
    photo,
    save,
    sets_of,
    with_exif,
)

pytestmark = pytest.mark.usefixtures("few_planted")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """Twelve photos, of the first eight an edit each."""
    place = tmp_path_factory.mktemp("shelf")
    made = {number: (name,) for number, name in enumerate(EDITS)} | {number: () for number in range(8, PHOTOS)}
    with indexed(draw(place / "pictures", made), place / "catalogue") as catalogue:
        yield catalogue


@pytest.fixture(scope="module")
def found(shelf: Catalogue) -> Found:
    return find(shelf)


def test_every_copy_is_found_and_no_other_picture_is_called_one(found: Found) -> None:
    assert sets_of(found) == {
        frozenset((f"{number}/photo.png", f"{number}/{name}.jpg")) for number, name in enumerate(EDITS)
    }
    assert set(copies_of(found)) == sets_of(found)
    assert set(copies_of(found).values()) == {COPY}
    assert (found.pairs.schema, found.groups.schema) == (PAIRS_SCHEMA, GROUPS_SCHEMA)
    assert (found.examined, found.unreadable.num_rows, found.new_since) == (PHOTOS + len(EDITS), 0, None)


def test_it_says_how_sure_it_is(found: Found) -> None:
    line = found.threshold
    assert line.reached and line.precision >= line.wanted == 0.99
    assert 0.5 <= line.agreement < 0.9
    assert 0.0 < line.low <= line.precision <= line.high <= 1.0
    assert (line.planted, line.judged) == (PLANTED, 0)
    assert line.recall >= 0.9
    for row in found.pairs.to_pylist():
        assert (row["sure"] is not None) == (row["kind"] != LOOKALIKE)
        if row["kind"] == COPY:
            assert row["agreement"] >= line.agreement
            assert 0.5 < row["sure"] <= 1.0
            assert -1.0 <= row["similarity"] <= 1.0


def test_it_says_how_each_copy_was_made(found: Found) -> None:
    # Also beside the one with a frame, which has more pixels.
    assert {ids[0] for ids in groups_of(found)} == {f"{number}/photo.png" for number in range(len(EDITS))}
    how = {row["id"].partition("/")[2]: row["how"] for row in found.groups.to_pylist() if not row["keep"]}
    assert how["saved.jpg"] == "saved anew"
    assert how["mirrored.jpg"] == "mirrored"
    assert how["turned.jpg"] == "turned by 90° anticlockwise"
    assert how["cut.jpg"] == "cut to 58 %"
    assert how["smaller.jpg"] == "scaled to 55 %"
    assert how["recoloured.jpg"] == "recoloured"
    assert how["grey.jpg"] == "recoloured"
    assert how["framed.jpg"] == "with a frame or a page around it"


def test_the_transform_leads_to_the_same_place(found: Found) -> None:
    turn = {row["id"].partition("/")[2]: row["transform"] for row in found.groups.to_pylist()}
    assert turn["photo.png"] is None
    corner = np.array((24.0, 18.0, 1.0))  # of the photo
    for name, place in {
        "saved.jpg": (24, 18),
        "mirrored.jpg": (175, 18),
        "cut.jpg": (0, 0),
        "framed.jpg": (49, 38),
    }.items():
        np.testing.assert_allclose(np.reshape(turn[name], (2, 3)) @ corner, place, atol=1.0, err_msg=name)


def test_what_was_found_goes_into_json_and_back(found: Found) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    told = json.loads(json.dumps(found.to_dict()), parse_constant=refuse)
    assert len(told["groups"]) == found.groups.num_rows
    assert told["threshold"]["wanted"] == 0.99
    assert (told["version"], told["between"], told["effort"]) == (found.version, None, "usual")


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {0: (), 1: (), 2: ("cut",), 3: ()})
    shutil.copy(pictures / "0/photo.png", pictures / "0/same.png")
    save(pictures / "0/again.png", photo(0), compress_level=9)
    (pictures / "1/first.jpg").write_bytes(jpeg(photo(1)))
    (pictures / "1/tagged.jpg").write_bytes(with_exif(jpeg(photo(1))))
    (pictures / "1/photo.png").unlink()
    save(pictures / "3/other.png", photo(3, again=1))
    found = found_in(pictures, tmp_path / "catalogue", lookalike=0.9)
    assert kinds_of(found) == {
        frozenset(("0/photo.png", "0/same.png")): SAME_BYTES,
        # Of pictures of the same bytes the one that is kept stands for both.
        frozenset(("0/photo.png", "0/again.png")): SAME_PIXELS,
        frozenset(("1/first.jpg", "1/tagged.jpg")): SAME_PIXELS,
        frozenset(("2/photo.png", "2/cut.jpg")): COPY,
        frozenset(("3/photo.png", "3/other.png")): LOOKALIKE,
    }
    assert [row["kind"] for row in found.pairs.to_pylist()] == [SAME_BYTES, SAME_PIXELS, SAME_PIXELS, COPY, LOOKALIKE]
    assert sets_of(found) == {
        frozenset(("0/photo.png", "0/same.png", "0/again.png")),
        frozenset(("1/first.jpg", "1/tagged.jpg")),
        frozenset(("2/photo.png", "2/cut.jpg")),
    }
    (kept,) = [row for row in found.groups.to_pylist() if row["id"] == "1/tagged.jpg"]
    assert kept["keep"] and kept["why"] == "more metadata"
    assert LOOKALIKE not in kinds_of(found_in(pictures, tmp_path / "catalogue", lookalike=0.999)).values()


def test_an_edit_that_was_saved_with_somewhat_more_bytes_is_not_kept_for_them(tmp_path: Path) -> None:
    for name, pixels, quality, when in (
        ("older.jpg", photo(0), 80, 1000),
        ("edit.jpg", EDITS["recoloured"](photo(0))[:, ::-1], 88, 2000),
        ("other.png", photo(1), 80, 1500),
    ):
        options = {} if name.endswith("png") else {"quality": quality}
        os.utime(save(tmp_path / "pictures" / name, pixels, **options), (when, when))
    sizes = [(tmp_path / "pictures" / name).stat().st_size for name in ("older.jpg", "edit.jpg")]
    assert sizes[0] < sizes[1]
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert groups_of(found) == [["older.jpg", "edit.jpg"]]
    assert {row["why"] for row in found.groups.to_pylist()} == {"the oldest file"}


def test_contradicting_labels_come_first(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {0: ("cut", "mirrored"), 1: ()})
    save(pictures / "mislabelled" / "one.jpg", EDITS["recoloured"](photo(1)))
    rows = found_in(pictures, tmp_path / "catalogue").groups.to_pylist()
    assert [row["id"] for row in rows[:2]] == ["1/photo.png", "mislabelled/one.jpg"]
    assert [row["label"] for row in rows[:2]] == ["1", "mislabelled"]
    assert [row["conflict"] for row in rows] == [True, True, False, False, False]


def test_no_chain_is_made(tmp_path: Path) -> None:
    """Both ends are copies of the whole; the whole is kept, and nothing that shows something else."""
    whole = photo(0)
    for name, pixels in {"a-left": whole[:, :110], "b-whole": whole, "c-right": whole[:, 80:]}.items():
        save(tmp_path / "pictures" / f"{name}.png", pixels)
    save(tmp_path / "pictures" / "d-other.png", photo(1))
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert groups_of(found) == [["b-whole.png", "a-left.png", "c-right.png"]]
    assert frozenset(("a-left.png", "c-right.png")) not in copies_of(found)


def test_all_of_a_group_are_copies_of_the_one_that_is_kept(tmp_path: Path) -> None:
    """Windows that slide over a picture: each overlaps the next, and the ends have nothing in common."""
    wide = np.concatenate([photo(0), photo(1), photo(2)], axis=1)
    for at in range(0, 401, 50):
        save(tmp_path / "pictures" / f"{at:03d}.png", wide[:, at : at + 200])
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    pairs = set(copies_of(found))
    assert frozenset(("000.png", "050.png")) in pairs and frozenset(("000.png", "400.png")) not in pairs
    assert len(groups_of(found)) >= 2
    for kept, *others in groups_of(found):
        assert all(frozenset((kept, other)) in pairs for other in others)


def test_the_policy_says_which_is_kept(pictures: Path, tmp_path: Path) -> None:
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        assert {ids[0] for ids in groups_of(find(catalogue))} == {"0/photo.png", "1/photo.png", "2/photo.png"}
        kept = find(catalogue, policy=["path:*.jpg", "resolution"])
    assert sets_of(kept) == SMALL
    assert {ids[0] for ids in groups_of(kept)} == {"0/mirrored.jpg", "1/grey.jpg", "2/smaller.jpg"}
    assert {row["why"] for row in kept.groups.to_pylist() if row["keep"]} == {"its path fits *.jpg"}


def test_pictures_in_a_parquet_file(pictures: Path, tmp_path: Path) -> None:
    names = [path.relative_to(pictures).as_posix() for path in sorted(pictures.rglob("*.*"))]
    table = pa.table({"id": names, "image": pa.array([(pictures / name).read_bytes() for name in names], pa.binary())})
    pq.write_table(table, tmp_path / "pictures.parquet")
    found = found_in(tmp_path / "pictures.parquet", tmp_path / "catalogue", policy=["oldest"])
    assert sets_of(found) == SMALL
    # Nothing says when a row was written, so what was indexed first is kept.
    assert {row["why"] for row in found.groups.to_pylist() if row["keep"]} == {"indexed first"}


def test_an_empty_catalogue_is_said_to_be_empty(tmp_path: Path) -> None:
    with (
        Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue,
        pytest.raises(InputError, match="is empty; add pictures"),
    ):
        find(catalogue)


def test_one_picture_has_no_copy(tmp_path: Path) -> None:
    found = found_in(draw(tmp_path / "pictures", {0: ()}), tmp_path / "catalogue")
    assert (found.groups.num_rows, found.pairs.num_rows, found.examined) == (0, 0, 1)
    assert found.threshold.planted == planting.EACH


def test_all_pictures_the_same(tmp_path: Path) -> None:
    save(tmp_path / "pictures/0.png", photo(0))
    for number in range(1, 5):
        shutil.copy(tmp_path / "pictures/0.png", tmp_path / f"pictures/{number}.png")
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert len(groups_of(found)) == 1 and found.groups.num_rows == 5
    assert set(kinds_of(found).values()) == {SAME_BYTES}
    assert found.examined == 1


def test_pictures_of_one_colour_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for number, level in enumerate((0, 90, 91, 255)):
        save(tmp_path / f"pictures/{number}.png", np.full((40, 60, 3), level, np.uint8))
    save(tmp_path / "pictures/again.png", np.full((40, 60, 3), 90, np.uint8), compress_level=9)
    save(tmp_path / "pictures/tiny.png", np.full((1, 1, 3), 90, np.uint8))
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue", lookalike=1.0)
    assert copies_of(found) == {frozenset(("1.png", "again.png")): SAME_PIXELS}
    assert sets_of(found) == {frozenset(("1.png", "again.png"))}


def test_only_tiny_pictures(tmp_path: Path) -> None:
    """None of them can be edited, so that nothing is planted."""
    for number in range(3):
        save(tmp_path / f"pictures/{number}.png", photo(number)[:8, :9])
    found = found_in(tmp_path / "pictures", tmp_path / "catalogue")
    assert sets_of(found) == set()
    assert found.threshold.planted == 0


def test_nothing_can_be_read(pictures: Path, tmp_path: Path) -> None:
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        pictures.rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="has no picture that could be copied"):
            find(catalogue)


@pytest.fixture
def in_splits(pictures: Path) -> Path:
    """The pictures folder with a column of splits: only picture 0 stands in both train and test."""
    shutil.copy(pictures / "3/photo.png", pictures / "3/a.png")
    shutil.copy(pictures / "3/photo.png", pictures / "3/b.png")
    split = {"0/cut.jpg": "test", "3/a.png": "val", "3/b.png": "test", "2/photo.png": ""}
    names = [path.relative_to(pictures).as_posix() for path in sorted(pictures.rglob("*.*"))]
    lines = [f"{name},{split.get(name, 'train')}" for name in names]
    (pictures / "list.csv").write_text("\n".join(["path,part", *lines]) + "\n")
    return pictures / "list.csv"


def test_copies_across_splits(in_splits: Path, tmp_path: Path) -> None:
    with indexed(in_splits, tmp_path / "catalogue") as catalogue:
        found = find(catalogue, between=("train", "test"), split="part")
        assert found.between == ("train", "test")
        assert sets_of(found) == {
            frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg")),
            frozenset(("3/photo.png", "3/a.png", "3/b.png")),
        }
        assert set(copies_of(found)) == {
            frozenset(("0/photo.png", "0/cut.jpg")),
            frozenset(("0/mirrored.jpg", "0/cut.jpg")),
            frozenset(("3/photo.png", "3/b.png")),
        }
        split = {row["id"]: row["split"] for row in found.groups.to_pylist()}
        assert (split["0/photo.png"], split["0/cut.jpg"], split["3/a.png"]) == ("train", "test", "val")
        assert sets_of(find(catalogue, between=("val", "train"), split="part")) == {
            frozenset(("3/photo.png", "3/a.png", "3/b.png"))
        }


def test_equal_files_across_splits_are_a_pair_whichever_is_kept(in_splits: Path, tmp_path: Path) -> None:
    with indexed(in_splits, tmp_path / "catalogue") as catalogue:
        found = find(catalogue, between=("val", "test"), split="part", policy=["path:*photo.png"])
        assert groups_of(found)[0][0] == "3/photo.png"  # of train
        assert copies_of(found) == {frozenset(("3/a.png", "3/b.png")): SAME_BYTES}


@pytest.mark.parametrize(
    ("between", "split", "said"),
    [
        (("train", "test"), "split", r"has no column 'split'; --split-column names"),
        (("train", "nowhere"), "part", r"no item has 'nowhere' in column 'part'; there are test, train, val"),
        (("train", "train"), "part", "'train' is named twice"),
    ],
)
def test_splits_that_are_not_there(
    in_splits: Path, tmp_path: Path, between: tuple[str, str], split: str, said: str
) -> None:
    with (
        indexed(in_splits, tmp_path / "catalogue") as catalogue,
        pytest.raises((InputError, NotFoundError), match=said),
    ):
        find(catalogue, between=between, split=split)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": 0.0}, "more than 0 and less than 1"),
        ({"precision": 1.0}, "more than 0 and less than 1"),
        ({"precision": float("nan")}, "more than 0 and less than 1"),
        ({"effort": "hard"}, "no effort 'hard'; there are quick, usual, thorough"),
        ({"policy": ["newest"]}, "no rule 'newest'"),
        ({"policy": []}, "at least one rule"),
    ],
)
def test_what_cannot_be_asked(shelf: Catalogue, asked: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        find(shelf, **asked)


def test_two_at_once(shelf: Catalogue, found: Found) -> None:
    with locked(folder_of(shelf, "usual"), shelf.called), pytest.raises(BusyError):
        find(shelf)


@pytest.mark.parametrize("effort", ["quick", "thorough"])
def test_other_efforts(pictures: Path, tmp_path: Path, effort: str) -> None:
    found = found_in(pictures, tmp_path / "catalogue", effort=effort)
    assert sets_of(found) == SMALL
    assert found.effort == effort
