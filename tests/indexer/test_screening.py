"""Copies told while pictures come in: rejected or flagged, and nothing else changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import candidates, planting, screening
from indexer.catalogue import Catalogue
from indexer.duplicates import find
from indexer.examining import folder_of, no_bar
from indexer.ingest import FLAG, REJECT, IngestSummary, ingest
from indexer.items import DUPLICATE_OF
from indexer.screening import Screen
from indexer.verification import verify
from retrieval.errors import BusyError, InputError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from tests.indexer.copies import EDITS, draw, jpeg, on_page, photo, save, with_exif


def screened(catalogue: Catalogue, source: Path, copies: str = REJECT, effort: str = "usual") -> IngestSummary:
    with Screen(catalogue, bars=no_bar, effort=effort, notice=lambda _: None) as screen:
        return ingest(catalogue, read_manifest(source), screen=screen, copies=copies)


def rejected(catalogue: Catalogue) -> dict[str, str]:
    return {row["uri"]: row["reason"] for row in catalogue.rejected.read().to_pylist()}


def flagged(catalogue: Catalogue) -> dict[str, str | None]:
    return {row["id"]: row[DUPLICATE_OF] for row in catalogue.items().to_pylist()}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Four photos, one of them a JPEG."""
    folder = draw(tmp_path / "first", {0: (), 1: (), 2: ()})
    (folder / "3").mkdir()
    (folder / "3/photo.jpg").write_bytes(jpeg(photo(3)))
    return folder


@pytest.fixture
def shop(tmp_path: Path, first: Path) -> Iterator[Catalogue]:
    """The four, indexed."""
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as catalogue:
        ingest(catalogue, read_manifest(first))
        yield catalogue


@pytest.fixture
def incoming(tmp_path: Path, first: Path) -> Path:
    """What comes in: copies of items, two copies of something new, and something new."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    shutil.copy(first / "0/photo.png", folder / "bytes.png")
    (folder / "pixels.jpg").write_bytes(with_exif(jpeg(photo(3))))
    save(folder / "turned.jpg", EDITS["mirrored"](photo(1)))
    save(folder / "u-cut.jpg", EDITS["cut"](photo(2)))
    save(folder / "v-new.png", photo(8))
    save(folder / "w-new-mirrored.png", EDITS["mirrored"](photo(8)))
    shutil.copy(folder / "v-new.png", folder / "x-new-bytes.png")
    save(folder / "y-new-pixels.png", photo(8), compress_level=9)
    save(folder / "z-other.png", photo(9))
    return folder


COPIES = {
    "bytes.png": ("0/photo.png", "same bytes"),
    "pixels.jpg": ("3/photo.jpg", "same pixels"),
    "turned.jpg": ("1/photo.png", "mirrored"),
    "u-cut.jpg": ("2/photo.png", "cut to 58 %"),
    "w-new-mirrored.png": ("v-new.png", "mirrored"),
    "x-new-bytes.png": ("v-new.png", "same bytes"),
    "y-new-pixels.png": ("v-new.png", "same pixels"),
}
NEW = {"v-new.png", "z-other.png"}


def test_copies_are_rejected_with_what_they_are_copies_of(shop: Catalogue, incoming: Path) -> None:
    rows = dict(zip(*shop.items(["id", "row"]).to_pydict().values(), strict=True))
    summary = screened(shop, incoming)
    assert rejected(shop) == {name: f"a copy of {id} ({how})" for name, (id, how) in COPIES.items()}
    assert (summary.added, summary.rejected, summary.items) == (2, 7, 6)
    after = dict(zip(*shop.items(["id", "row"]).to_pydict().values(), strict=True))
    assert after.keys() == rows.keys() | NEW
    assert {id: after[id] for id in rows} == rows
    assert verify(shop) == []


def test_indexing_again_changes_nothing(shop: Catalogue, incoming: Path) -> None:
    screened(shop, incoming)
    version, refused, items = shop.version, shop.rejected.version, shop.items().to_pylist()
    size = sum(path.stat().st_size for path in (folder_of(shop, "usual") / "looked").iterdir())
    for _ in range(2):
        summary = screened(shop, incoming)
        assert (summary.added, summary.updated, summary.unchanged, summary.rejected) == (0, 0, 2, 7)
        assert (shop.version, shop.rejected.version) == (version, refused)
        assert shop.items().to_pylist() == items
    # Neither does what is kept of the rejected ones grow from run to run.
    assert sum(path.stat().st_size for path in (folder_of(shop, "usual") / "looked").iterdir()) == size


def test_copies_are_flagged_with_what_they_are_copies_of(shop: Catalogue, incoming: Path) -> None:
    summary = screened(shop, incoming, FLAG)
    assert (summary.added, summary.rejected) == (9, 0)
    said = flagged(shop)
    assert {id: of for id, of in said.items() if of is not None} == {name: id for name, (id, _) in COPIES.items()}
    assert len(said) == 13
    version = shop.version
    again = screened(shop, incoming, FLAG)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 9)
    assert (shop.version, flagged(shop)) == (version, said)
    # Indexed as ever, the column stays as it is.
    assert ingest(shop, read_manifest(incoming)).unchanged == 9
    assert flagged(shop) == said


@pytest.mark.parametrize("first", ["page", "photo"])
def test_a_page_and_its_photo_are_told_whichever_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(candidates, "NEAREST", 0)  # what comes in has one neighbour
    monkeypatch.setattr(candidates, "LAYOUTS", 1)
    made = {"photo": photo(1), "page": on_page(photo(1))}
    folder = draw(tmp_path / "there", {number: () for number in (0, *range(2, 10))})
    for number in range(20, 23):  # nearer to a page than its photo is
        save(folder / f"{number}.png", on_page(photo(number)))
    save(folder / f"{first}.png", made.pop(first))
    ((second, pixels),) = made.items()
    save(tmp_path / "later" / f"{second}.png", pixels)
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue:
        ingest(catalogue, read_manifest(folder))
        screened(catalogue, tmp_path / "later", effort="quick")
        (reason,) = rejected(catalogue).values()
        assert reason.startswith(f"a copy of {first}.png (")


def test_what_is_there_stays_whatever_it_is_a_copy_of(tmp_path: Path, incoming: Path) -> None:
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue:
        ingest(catalogue, read_manifest(incoming))
        version = catalogue.version
        summary = screened(catalogue, incoming)
        assert (summary.unchanged, summary.rejected, catalogue.version) == (9, 0, version)


def test_into_an_empty_catalogue(tmp_path: Path, incoming: Path) -> None:
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue:
        summary = screened(catalogue, incoming)
        assert (summary.added, summary.rejected) == (6, 3)
        assert rejected(catalogue).keys() == {name for name, (id, _) in COPIES.items() if id == "v-new.png"}


def test_from_one_commit_to_the_next(
    tmp_path: Path, shop: Catalogue, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.ingest.AT_ONCE", 2)
    screened(shop, incoming)
    assert rejected(shop) == {name: f"a copy of {id} ({how})" for name, (id, how) in COPIES.items()}


def test_unreadable_files_are_rejected_for_what_they_are(shop: Catalogue, incoming: Path) -> None:
    (incoming / "a-text.jpg").write_text("no picture")
    (incoming / "b-cut.jpg").write_bytes(jpeg(photo(1))[:2000])
    summary = screened(shop, incoming)
    assert summary.rejected == 9
    assert "a copy of" not in rejected(shop)["a-text.jpg"] + rejected(shop)["b-cut.jpg"]


def test_a_rejected_copy_comes_in_once_its_original_is_gone(shop: Catalogue, incoming: Path) -> None:
    screened(shop, incoming)
    with shop.writing():
        shop.remove(["1/photo.png"])
    assert screened(shop, incoming).added == 1
    assert "turned.jpg" not in rejected(shop)
    assert "turned.jpg" in shop.items().column("id").to_pylist()


def test_the_line_is_that_of_the_last_run(shop: Catalogue, incoming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "PLANTED", 8)
    said: list[str] = []
    Screen(shop, bars=no_bar, notice=said.append)
    assert f"copies are told from an agreement of {screening.CAUTIOUS} on" in said[0]
    line = find(shop).threshold.agreement
    screen = Screen(shop, bars=no_bar, notice=said.append)
    assert len(said) == 1
    assert screen._line == line


def test_what_came_in_is_not_looked_at_again(shop: Catalogue, incoming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "PLANTED", 8)
    screened(shop, incoming, FLAG)
    totals: list[str] = []

    def bars(what: str, unit: str) -> object:
        totals.append(what)
        return no_bar(what, unit)

    found = find(shop, bars=bars)
    assert "look" not in totals
    assert {row["id"] for row in found.groups.to_pylist()} == {
        *COPIES, "v-new.png", "0/photo.png", "1/photo.png", "2/photo.png", "3/photo.jpg"
    }  # fmt: skip


def test_while_another_looks_for_duplicates(shop: Catalogue) -> None:
    with Screen(shop, bars=no_bar, notice=lambda _: None), pytest.raises(BusyError):
        find(shop)


def test_an_effort_that_is_none(shop: Catalogue) -> None:
    with pytest.raises(InputError, match="no effort 'hard'"):
        Screen(shop, bars=no_bar, effort="hard", notice=lambda _: None)
