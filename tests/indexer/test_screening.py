"""Copies told while pictures come in: rejected or flagged, and nothing else changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from indexer import candidates, planting, screening
from indexer.catalogue import Catalogue
from indexer.duplicates import find
from indexer.examining import folder_of, no_bar
from indexer.fingerprints import Fingerprints
from indexer.ingest import FLAG, REJECT, ingest
from indexer.items import DUPLICATE_OF, VersionedTable
from indexer.screening import Screen
from indexer.vectors import VectorCache
from indexer.verification import verify
from retrieval.errors import BusyError, InputError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from tests.indexer.copies import (
    EDITS,
    Bars,
    copies_of,
    draw,
    jpeg,
    on_page,
    photo,
    rejected,
    save,
    screened,
    with_exif,
)


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
    save(folder / "w-new-mirrored.jpg", EDITS["mirrored"](photo(8)))
    shutil.copy(folder / "v-new.png", folder / "x-new-bytes.png")
    save(folder / "y-new-pixels.png", photo(8), compress_level=9)
    save(folder / "z-other.png", photo(9))
    return folder


COPIES = {
    "bytes.png": ("0/photo.png", "same bytes"),
    "pixels.jpg": ("3/photo.jpg", "same pixels"),
    "turned.jpg": ("1/photo.png", "mirrored"),
    "u-cut.jpg": ("2/photo.png", "cut to 58 %"),
    "w-new-mirrored.jpg": ("v-new.png", "mirrored"),
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


def half(pixels: np.ndarray) -> np.ndarray:
    """Half of a picture, cut out of it."""
    return pixels[22:128, 30:170]


def larger(pixels: np.ndarray) -> np.ndarray:
    """Twice as wide and high."""
    return np.array(Image.fromarray(pixels).resize((400, 300), Image.Resampling.LANCZOS))


@pytest.fixture
def worse_first(tmp_path: Path) -> Path:
    """Copies of a new picture, the best of which comes last by name."""
    folder = tmp_path / "worse-first"
    save(folder / "a-cut.jpg", half(photo(8)))
    save(folder / "b-grey.png", EDITS["grey"](photo(8)))
    shutil.copy(folder / "a-cut.jpg", folder / "c-cut-bytes.jpg")
    save(folder / "d-framed.png", EDITS["framed"](photo(8)))
    save(folder / "e-whole.png", photo(8), compress_level=9)
    save(folder / "f-whole-pixels.png", photo(8))
    save(folder / "g-other.png", photo(9))
    return folder


WORSE = {
    "a-cut.jpg": "cut to 49 %",
    "b-grey.png": "recoloured",
    "c-cut-bytes.jpg": "cut to 49 %",
    "d-framed.png": "with a frame or a page around it",
    "e-whole.png": "same pixels",
}


def test_of_copies_that_come_in_together_the_best_is_taken(shop: Catalogue, worse_first: Path) -> None:
    summary = screened(shop, worse_first)
    assert rejected(shop) == {name: f"a copy of f-whole-pixels.png ({how})" for name, how in WORSE.items()}
    assert (summary.added, summary.rejected) == (2, 5)
    version, refused = shop.version, shop.rejected.version
    screened(shop, worse_first)
    assert (shop.version, shop.rejected.version) == (version, refused)


@pytest.mark.parametrize("names", [("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")])
def test_of_the_same_pixels_the_one_with_metadata_is_taken(
    shop: Catalogue, tmp_path: Path, names: tuple[str, str]
) -> None:
    tagged, plain = (tmp_path / "incoming" / name for name in names)
    tagged.parent.mkdir()
    tagged.write_bytes(with_exif(jpeg(photo(8))))
    plain.write_bytes(jpeg(photo(8)) + bytes(200))  # more bytes than the metadata has
    screened(shop, tagged.parent)
    assert rejected(shop) == {plain.name: f"a copy of {tagged.name} (same pixels)"}


def test_of_copies_that_come_in_together_the_best_is_not_flagged(shop: Catalogue, worse_first: Path) -> None:
    screened(shop, worse_first, FLAG)
    said = {id: of for id, of in flagged(shop).items() if of is not None}
    assert said == dict.fromkeys(WORSE, "f-whole-pixels.png")


def test_a_copy_of_an_item_says_by_which_rule_it_is_the_better_one(shop: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "better"
    save(folder / "larger.jpg", larger(photo(0)))
    save(folder / "turned-larger.jpg", EDITS["turned"](larger(photo(1))))
    (folder / "more-bytes.jpg").write_bytes(jpeg(photo(3), quality=95))
    save(folder / "png.png", photo(3))
    rows = shop.items().to_pylist()
    screened(shop, folder)
    instead = "; take it with --flag-duplicates, and lookalike duplicates keeps it instead"
    of = "400 x 300 pixels against 200 x 150 pixels"
    turned = "300 x 400 pixels against 200 x 150 pixels"
    assert rejected(shop) == {
        "larger.jpg": f"a copy of 0/photo.png (scaled to 200 %), and the better one: {of}{instead}",
        "turned-larger.jpg": (
            "a copy of 1/photo.png (turned by 90° anticlockwise, scaled to 200 %), "
            f"and the better one: {turned}{instead}"
        ),
        # More bytes are nothing that anybody sees.
        "more-bytes.jpg": "a copy of 3/photo.jpg (saved anew)",
        "png.png": f"a copy of 3/photo.jpg (saved anew), and the better one: PNG against JPEG{instead}",
    }
    assert shop.items().to_pylist() == rows
    # It does as it says.
    screened(shop, folder, FLAG)
    kept = {row["id"] for row in find(shop).groups.to_pylist() if row["keep"]}
    assert {"larger.jpg", "turned-larger.jpg", "png.png"} <= kept


def test_a_better_copy_that_comes_a_commit_later_says_so(
    shop: Catalogue, worse_first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.ingest.AT_ONCE", 3)
    monkeypatch.setattr(candidates, "LAYOUTS", 0)  # by what the index has learned, then
    screened(shop, worse_first)
    said = rejected(shop)
    assert {"a-cut.jpg", "g-other.png"} <= set(shop.items().column("id").to_pylist())
    assert said["b-grey.png"].startswith("a copy of a-cut.jpg (")
    assert said["c-cut-bytes.jpg"] == "a copy of a-cut.jpg (same bytes)"
    for name in ("e-whole.png", "f-whole-pixels.png"):
        assert said[name] == (
            "a copy of a-cut.jpg (with more around it), and the better one: 200 x 150 pixels against 140 x 106 pixels; "
            "take it with --flag-duplicates, and lookalike duplicates keeps it instead"
        )


def test_a_commit_reads_what_comes_in_and_not_what_is_there(
    tmp_path: Path, shop: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = 0

    def counted(of: type, name: str) -> None:
        read: Callable[..., Any] = getattr(of, name)

        def reading(*args: Any, **options: Any) -> Any:
            nonlocal loaded
            table = read(*args, **options)
            loaded += table.num_rows
            return table

        monkeypatch.setattr(of, name, reading)

    for of, name in ((VersionedTable, "read"), (VectorCache, "_read"), (Fingerprints, "columns")):
        counted(of, name)
    of_commit: list[int] = []
    copies, keep = Screen.copies, Screen.keep

    def telling(screen: Screen, *args: Any, **options: Any) -> Any:
        before = loaded
        found = copies(screen, *args, **options)
        of_commit.append(loaded - before)
        return found

    def keeping(screen: Screen, *args: Any) -> None:
        before = loaded
        keep(screen, *args)
        of_commit[-1] += loaded - before

    monkeypatch.setattr(Screen, "copies", telling)
    monkeypatch.setattr(Screen, "keep", keeping)
    monkeypatch.setattr("indexer.ingest.AT_ONCE", 2)
    folder = draw(tmp_path / "more", {number: () for number in range(20, 40)})
    assert screened(shop, folder).added == 20
    assert len(of_commit) == 10
    # The keys and the vectors of two, the first time those of everything.
    assert of_commit[0] > 10
    assert max(of_commit[1:]) <= 2 * (2 + 2), of_commit


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
    bars = Bars()
    found = find(shop, bars=bars)
    assert "look" not in bars.totals
    assert bars.totals.get("compare", 0) <= 6  # the four that were there, with each other
    assert {row["id"] for row in found.groups.to_pylist()} == {
        *COPIES, "v-new.png", "0/photo.png", "1/photo.png", "2/photo.png", "3/photo.jpg"
    }  # fmt: skip


@pytest.mark.parametrize("copies", [REJECT, FLAG])
def test_what_came_in_is_not_compared_again(
    tmp_path: Path, incoming: Path, copies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "PLANTED", 8)
    monkeypatch.setattr("indexer.ingest.AT_ONCE", 4)
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue:
        screened(catalogue, incoming, copies)
        bars = Bars()
        found = find(catalogue, bars=bars)
        assert bars.totals.keys() == {"plant"}
        # What was kept is what would have been found.
        shutil.rmtree(folder_of(catalogue, "usual"))
        again = find(catalogue)
        assert found.groups.to_pylist() == again.groups.to_pylist()
        assert copies_of(found) == copies_of(again)


@pytest.mark.parametrize("at_once", [2, 512])
def test_what_was_rejected_leaves_nothing_behind(
    shop: Catalogue, incoming: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.ingest.AT_ONCE", at_once)
    screened(shop, incoming)
    folder = folder_of(shop, "usual")
    items = set(shop.items().column("sha256").to_pylist())
    known = Fingerprints(folder / "looked").columns(["sha256", "candidates"]).to_pylist()
    assert {row["sha256"] for row in known} == items
    near = {row["candidates"][at : at + 32] for row in known for at in range(0, len(row["candidates"]), 32)}
    assert near
    assert near <= items
    pairs = pq.read_table(folder / "pairs")
    assert {*pairs.column("a").to_pylist(), *pairs.column("b").to_pylist()} <= items


def test_while_another_looks_for_duplicates(shop: Catalogue) -> None:
    with Screen(shop, bars=no_bar, notice=lambda _: None), pytest.raises(BusyError):
        find(shop)


def test_an_effort_that_is_none(shop: Catalogue) -> None:
    with pytest.raises(InputError, match="no effort 'hard'"):
        Screen(shop, bars=no_bar, effort="hard", notice=lambda _: None)
