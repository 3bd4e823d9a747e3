"""Finding duplicates again: after a run that was stopped, after pictures came or went, after files were damaged."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer import candidates, planting
from indexer.catalogue import Catalogue
from indexer.duplicates import Found, find
from indexer.examining import folder_of
from retrieval.errors import InputError
from tests.embedders import ColourEmbedder
from tests.indexer.copies import (
    EDITS,
    PLANTED,
    SMALL,
    SMALL_PICTURES,
    Bars,
    assert_same,
    copies_of,
    draw,
    found_in,
    groups_of,
    indexed,
    jpeg,
    photo,
    save,
    sets_of,
)

pytestmark = pytest.mark.usefixtures("few_planted")


VIEWS = 5
"""Of the usual effort, beside the picture itself."""


@pytest.fixture
def blocks_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "BLOCK", 3)


@dataclass(frozen=True)
class Ready:
    """The small folder, indexed and looked through in blocks of three, with a counting embedder; and what was found."""

    pictures: Path
    catalogue: Catalogue
    embedder: ColourEmbedder
    found: Found


@pytest.fixture(scope="module")
def looked_through(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    place = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "BLOCK", 3)
        found = found_in(draw(place / "pictures", SMALL_PICTURES), place / "catalogue")
    return place, found


@pytest.fixture
def ready(looked_through: tuple[Path, Found], tmp_path: Path) -> Iterator[Ready]:
    place, found = looked_through
    shutil.copytree(place / "catalogue", tmp_path / "ready")
    embedder = ColourEmbedder()
    with Catalogue.open(tmp_path / "ready", embedder=embedder) as catalogue:
        yield Ready(place / "pictures", catalogue, embedder, found)


@pytest.mark.usefixtures("blocks_of_three")
def test_interrupted_while_looking_it_goes_on_there(ready: Ready, tmp_path: Path) -> None:
    class Stopped(ColourEmbedder):
        def embed(self, images, *, prepared=False):
            if self.seen >= 2 * 3 * VIEWS:  # at the last block
                raise KeyboardInterrupt
            return super().embed(images, prepared=prepared)

    whole = ColourEmbedder()
    with indexed(ready.pictures, tmp_path / "whole", whole) as catalogue:
        assert_same(find(catalogue), ready.found)
    with indexed(ready.pictures, tmp_path / "catalogue"):
        pass
    with Catalogue.open(tmp_path / "catalogue", embedder=Stopped()) as catalogue, pytest.raises(KeyboardInterrupt):
        find(catalogue)
    again, bars = ColourEmbedder(), Bars()
    with Catalogue.open(tmp_path / "catalogue", embedder=again) as catalogue:
        assert_same(find(catalogue, bars=bars), ready.found)
    assert bars.totals["look"] == 8 - 6
    assert again.seen == whole.seen - 8 - 6 * VIEWS  # neither indexed nor looked at again


@pytest.mark.usefixtures("blocks_of_three")
def test_interrupted_while_comparing_it_goes_on_there(ready: Ready) -> None:
    pairs = folder_of(ready.catalogue, "usual") / "pairs"
    for path in pairs.iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        find(ready.catalogue, bars=(all_of_them := Bars(stop=("compare", 1))))
    total = all_of_them.totals["compare"]
    with pytest.raises(KeyboardInterrupt):
        find(ready.catalogue, bars=Bars(stop=("compare", total)))  # in the last of three blocks
    assert len(list(pairs.iterdir())) == 2
    rest = Bars()
    assert_same(find(ready.catalogue, bars=rest), ready.found)
    assert "look" not in rest.totals and ready.embedder.seen == 0
    assert 0 < rest.totals["compare"] < total


def test_a_second_run_does_nothing_and_says_the_same(ready: Ready) -> None:
    bars = Bars()
    assert_same(find(ready.catalogue, bars=bars), ready.found)
    assert find(ready.catalogue, new=True).groups.num_rows == 0
    assert find(ready.catalogue, new=True).pairs.num_rows == 0
    assert (ready.embedder.seen, bars.totals) == (0, {})


def test_a_second_run_keeps_the_same_though_the_first_one_compared_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what no list of candidates had says that the largest is the photo made larger."""
    whole = np.array(Image.fromarray(photo(0)).resize((400, 300), Image.Resampling.LANCZOS))
    larger = np.array(Image.fromarray(whole).resize((580, 435), Image.Resampling.BICUBIC))
    paths = [
        save(tmp_path / "pictures" / "larger.png", larger),
        save(tmp_path / "pictures" / "cut.jpg", whole[30:270, 40:360], quality=95),
        save(tmp_path / "pictures" / "photo.png", whole),
    ]
    first, cut, last = (hashlib.sha256(path.read_bytes()).digest() for path in paths)
    with_candidates = candidates.with_candidates

    def without(seen: Any, found: Any) -> Any:
        return with_candidates(seen, [{cut: 0.9} if one.sha256 in (first, last) else {} for one in seen])

    monkeypatch.setattr(candidates, "with_candidates", without)
    with indexed(tmp_path / "pictures", tmp_path / "catalogue") as catalogue:
        found = find(catalogue)
        assert groups_of(found) == [["photo.png", "cut.jpg", "larger.png"]]
        assert_same(find(catalogue), found)


def test_what_a_run_across_splits_has_not_shown_is_new_to_the_next(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {0: ("cut",)})
    listing = pictures / "list.csv"
    listing.write_text("path,split\n0/photo.png,train\n0/cut.jpg,train\n")
    save(pictures / "1/photo.png", photo(1))
    with indexed(listing, tmp_path / "catalogue"):
        pass
    listing.write_text("path,split\n0/photo.png,train\n0/cut.jpg,train\n1/photo.png,test\n")
    with indexed(listing, tmp_path / "catalogue") as catalogue:
        assert find(catalogue, between=("train", "test")).groups.num_rows == 0
        assert groups_of(find(catalogue, new=True)) == [["0/photo.png", "0/cut.jpg"]]
        assert find(catalogue, between=("train", "test")).groups.num_rows == 0
        assert find(catalogue, new=True).groups.num_rows == 0


def test_what_was_away_meets_what_came_meanwhile(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures", {number: () for number in range(3)})
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        assert find(catalogue).groups.num_rows == 0
        with catalogue.writing():
            catalogue.remove(["0/photo.png"])
    aside = (pictures / "0/photo.png").rename(tmp_path / "photo.png")
    save(pictures / "0/cut.jpg", EDITS["cut"](photo(0)))
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        assert find(catalogue).groups.num_rows == 0
    aside.rename(pictures / "0/photo.png")
    bars = Bars()
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        assert groups_of(find(catalogue, bars=bars)) == [["0/photo.png", "0/cut.jpg"]]
        assert bars.totals["look"] == 1
        assert "look" not in (again := Bars()).totals and find(catalogue, bars=again).groups.num_rows == 2
        assert again.totals == {}


def test_what_an_earlier_method_saw_is_removed(ready: Ready) -> None:
    folder = folder_of(ready.catalogue, "usual")
    digest, method, _ = folder.name.split("-")
    gone = [folder.with_name(f"{digest}-{number}-usual") for number in range(1, int(method))]
    stay = [folder.with_name(name) for name in (f"{digest}-{method}-quick", f"{'0' * 16}-1-usual")]
    for other in [*gone, *stay]:
        shutil.copytree(folder, other)
    assert_same(find(ready.catalogue), ready.found)
    assert not any(other.exists() for other in gone) and all(other.exists() for other in stay)


def test_only_what_came_since_is_looked_at_and_given(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        find(catalogue)
        before = catalogue.version
    save(pictures / "3/late.jpg", EDITS["mirrored"](photo(3)))
    save(pictures / "0/later.png", EDITS["recoloured"](photo(0)))
    embedder, bars = ColourEmbedder(), Bars()
    monkeypatch.setattr("indexer.duplicates.GROWN", 2.0)
    with indexed(pictures, tmp_path / "catalogue", embedder) as catalogue:
        found = find(catalogue, new=True, bars=bars)
        assert sets_of(found) == {
            frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg", "0/later.png")),
            frozenset(("3/photo.png", "3/late.jpg")),
        }
        late = {"3/late.jpg", "0/later.png"}
        assert all(pair & late for pair in copies_of(found))
        assert found.new_since == before
        assert embedder.seen == 2 * (1 + VIEWS)
        assert bars.totals["look"] == 2
        every = find(catalogue)
        assert len(groups_of(every)) == 4
        assert every.new_since is None


def test_what_could_not_be_read_is_new_to_the_run_that_can(pictures: Path, tmp_path: Path) -> None:
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        aside = (pictures / "0/cut.jpg").rename(tmp_path / "cut.jpg")
        for _ in range(2):  # a run that cannot read it either does not forget it
            assert find(catalogue, new=True).unreadable.column("id").to_pylist() == ["0/cut.jpg"]
        aside.rename(pictures / "0/cut.jpg")
        found = find(catalogue, new=True)
        assert sets_of(found) == {frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg"))}
        assert all("0/cut.jpg" in pair for pair in copies_of(found))
        assert find(catalogue, new=True).groups.num_rows == 0


def test_new_of_what_was_never_looked_through_is_everything(pictures: Path, tmp_path: Path) -> None:
    found = found_in(pictures, tmp_path / "catalogue", new=True)
    assert sets_of(found) == SMALL
    assert found.new_since is None


def test_where_no_copy_can_be_planted_it_says_that_nothing_is_known(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(planting, "SMALLEST", 10_000)
    found = found_in(pictures, tmp_path / "catalogue", notice=said.append)
    assert found.threshold.planted == 0
    assert [text for text in said if "no copy could be planted" in text]


def test_copies_are_planted_anew_when_the_catalogue_has_grown(pictures: Path, tmp_path: Path) -> None:
    bars = Bars()
    found_in(pictures, tmp_path / "catalogue")
    save(pictures / "4/photo.png", photo(4))
    found_in(pictures, tmp_path / "catalogue", bars=bars)
    assert "plant" not in bars.totals  # nine of eight
    save(pictures / "5/photo.png", photo(5))
    found_in(pictures, tmp_path / "catalogue", bars=bars)
    assert bars.totals["plant"] == PLANTED


def _flipped(path: Path, start: int, end: int | None) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[start:end] ^= 255
    path.write_bytes(data.tobytes())


# Of a block the middle is pictures, and what leads to them stands at its end.
DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "start flipped": lambda path: _flipped(path, 0, 2000),
    "end flipped": lambda path: _flipped(path, -16, None),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.usefixtures("blocks_of_three")
@pytest.mark.parametrize(
    ("what", "damage"),
    [
        *(("looked/00000001-*.arrow", damage) for damage in DAMAGE),
        *(("pairs/00000002-*.parquet", damage) for damage in DAMAGE),
        ("planted-0.parquet", "end flipped"),
        ("run.json", "cut"),
    ],
)
def test_what_is_damaged_is_made_anew(ready: Ready, what: str, damage: str) -> None:
    said: list[str] = []
    (path,) = folder_of(ready.catalogue, "usual").glob(what)
    DAMAGE[damage](path)
    bars = Bars()
    assert_same(find(ready.catalogue, bars=bars, notice=said.append), ready.found)
    assert ("look" in bars.totals) == ("arrow" in what)
    if "arrow" in what:
        assert bars.totals["look"] == 3
        assert path.with_suffix(".damaged").exists()
        assert "damaged blocks" in " ".join(said)
    assert_same(find(ready.catalogue, bars=(after := Bars())), ready.found)
    assert after.totals == {}


def test_the_last_block_is_lost_and_another_picture_comes(pictures: Path, tmp_path: Path) -> None:
    """What is compared must not be taken for compared because a block has the number of one that is gone."""
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        find(catalogue)
        (block,) = (folder_of(catalogue, "usual") / "looked").iterdir()
        block.unlink()
    save(pictures / "3/late.jpg", EDITS["mirrored"](photo(3)))
    assert sets_of(found_in(pictures, tmp_path / "catalogue")) == SMALL | {frozenset(("3/photo.png", "3/late.jpg"))}


def test_files_that_are_gone_or_changed_are_told_and_looked_at_once_they_are_back(
    pictures: Path, tmp_path: Path
) -> None:
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        kept = {name: (pictures / name).read_bytes() for name in ("0/cut.jpg", "1/grey.jpg", "2/smaller.jpg")}
        (pictures / "0/cut.jpg").unlink()
        (pictures / "1/grey.jpg").write_bytes(jpeg(photo(9)))
        (pictures / "2/smaller.jpg").write_bytes(b"")
        found = find(catalogue)
        reasons = {row["id"]: row["reason"] for row in found.unreadable.to_pylist()}
        assert reasons.keys() == kept.keys()
        assert "has changed since it was indexed" in reasons["1/grey.jpg"]
        assert sets_of(found) == {frozenset(("0/photo.png", "0/mirrored.jpg"))}
        assert found.examined == 5
        blocks = sorted((folder_of(catalogue, "usual") / "looked").iterdir())
        find(catalogue)
        assert sorted((folder_of(catalogue, "usual") / "looked").iterdir()) == blocks  # nothing new is known
        for name, data in kept.items():
            (pictures / name).write_bytes(data)
        found = find(catalogue)
        assert found.unreadable.num_rows == 0
        assert sets_of(found) == SMALL


def test_of_equal_files_one_may_be_gone(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "0/photo.png", pictures / "0/same.png")
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        (pictures / "0/photo.png").unlink()
        found = find(catalogue)
    assert found.unreadable.num_rows == 0
    assert frozenset(("0/photo.png", "0/same.png", "0/cut.jpg", "0/mirrored.jpg")) in sets_of(found)


def test_items_that_were_taken_out_are_in_no_group(ready: Ready) -> None:
    with ready.catalogue.writing():
        ready.catalogue.remove(["0/photo.png", "1/photo.png"])
    found = find(ready.catalogue)
    assert sets_of(found) == {frozenset(("0/cut.jpg", "0/mirrored.jpg")), frozenset(("2/photo.png", "2/smaller.jpg"))}


def test_an_item_with_other_bytes_is_another_picture(pictures: Path, tmp_path: Path) -> None:
    found_in(pictures, tmp_path / "catalogue")
    save(pictures / "0/cut.jpg", EDITS["cut"](photo(3)))
    found = found_in(pictures, tmp_path / "catalogue")
    assert sets_of(found) == {
        frozenset(("0/photo.png", "0/mirrored.jpg")),
        frozenset(("3/photo.png", "0/cut.jpg")),
        *(ids for ids in SMALL if "0/cut.jpg" not in ids),
    }


def test_vectors_that_were_lost(pictures: Path, tmp_path: Path) -> None:
    """What has no vector is told, and found again once its source was indexed again."""
    with indexed(pictures, tmp_path / "catalogue") as catalogue:
        shutil.rmtree(catalogue.path / "vectors")
    with (
        Catalogue.open(tmp_path / "catalogue", embedder=ColourEmbedder()) as catalogue,
        pytest.raises(InputError, match="no picture that could be copied"),
    ):
        find(catalogue)
    assert sets_of(found_in(pictures, tmp_path / "catalogue")) == SMALL
