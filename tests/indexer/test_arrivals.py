"""What comes in between two commits: items that get other bytes, copies of copies, what is refused or unreadable."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from indexer import candidates, screening
from indexer.candidates import Finder, Seen, look
from indexer.catalogue import Catalogue
from indexer.examining import folder_of
from indexer.fingerprints import Fingerprints
from indexer.screening import Screen
from retrieval.errors import DamagedError, ImageError
from retrieval.sources import ImageSource
from tests.embedders import Blind
from tests.indexer.copies import EDITS, draw, indexed, photo, rejected, save, screened


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return draw(tmp_path / "first", {0: (), 1: (), 2: ()})


@pytest.fixture
def shop(tmp_path: Path, first: Path) -> Iterator[Catalogue]:
    """The three, indexed."""
    with indexed(first, tmp_path / "shop") as catalogue:
        yield catalogue


def ids(catalogue: Catalogue) -> set[str]:
    return set(catalogue.items().column("id").to_pylist())


@pytest.mark.parametrize("at_once", [1, 512])
def test_an_item_whose_bytes_changed_is_no_longer_what_it_was(
    tmp_path: Path, shop: Catalogue, first: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.ingest.AT_ONCE", at_once)
    shutil.copy(first / "1/photo.png", first / "1/was.png")
    save(first / "1/was.then-cut.jpg", EDITS["cut"](photo(1)))
    shutil.copy(save(tmp_path / "new.png", photo(8)), first / "1/photo.png")
    shutil.copy(first / "1/photo.png", first / "1/same.png")
    save(first / "1/same-pixels.png", photo(8), compress_level=9)
    save(first / "1/same-mirrored.jpg", EDITS["mirrored"](photo(8)))
    summary = screened(shop, first)
    assert rejected(shop) == {
        "1/same.png": "a copy of 1/photo.png (same bytes)",
        "1/same-pixels.png": "a copy of 1/photo.png (same pixels)",
        "1/same-mirrored.jpg": "a copy of 1/photo.png (mirrored)",
        "1/was.then-cut.jpg": "a copy of 1/was.png (cut to 58 %)",
    }
    assert (summary.added, summary.updated, summary.unchanged) == (1, 1, 2)


def test_items_that_change_places(tmp_path: Path, shop: Catalogue, first: Path) -> None:
    (first / "1/photo.png").rename(tmp_path / "one.png")
    (first / "2/photo.png").rename(first / "1/photo.png")
    (tmp_path / "one.png").rename(first / "2/photo.png")
    shutil.copy(first / "2/photo.png", first / "2/same.png")
    save(first / "2/turned.jpg", EDITS["turned"](photo(1)))
    summary = screened(shop, first)
    assert summary.updated == 2
    assert rejected(shop) == {
        "2/same.png": "a copy of 2/photo.png (same bytes)",
        "2/turned.jpg": "a copy of 2/photo.png (turned by 90° anticlockwise)",
    }


def test_an_id_of_another_source_replaces_nothing(tmp_path: Path, shop: Catalogue, first: Path) -> None:
    other = tmp_path / "other"
    save(other / "0/photo.png", photo(8))
    shutil.copy(first / "0/photo.png", other / "0/same.png")
    save(other / "0/turned.jpg", EDITS["turned"](photo(0)))
    shutil.copy(other / "0/photo.png", other / "0/taken.png")
    screened(shop, other)
    said = rejected(shop)
    assert "is taken by another image" in said.pop("0/photo.png")
    assert said == {
        "0/same.png": "a copy of 0/photo.png (same bytes)",
        "0/turned.jpg": "a copy of 0/photo.png (turned by 90° anticlockwise)",
    }
    assert "0/taken.png" in ids(shop)


@pytest.mark.parametrize("at_once", [6, 512])
def test_what_is_refused_takes_no_places_of_items(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the layout alone: the embedder sees nothing."""
    monkeypatch.setattr("indexer.ingest.AT_ONCE", at_once)
    monkeypatch.setattr(candidates, "NEAREST", 0)
    for quality in range(80, 87):  # nearer to each other than to the item
        save(tmp_path / "later" / f"{quality}.jpg", photo(3)[4:146, 190:8:-1], quality=quality)
    there = draw(tmp_path / "there", {number: () for number in range(6)})
    with indexed(there, tmp_path / "shop", Blind()) as catalogue:
        screened(catalogue, tmp_path / "later", effort="quick")
        said = rejected(catalogue)
    assert len(said) == 7
    assert all(reason.startswith("a copy of 3/photo.png (mirrored") for reason in said.values())


@pytest.mark.parametrize("edit", ["cut", "saved as PNG"])
def test_a_copy_of_a_refused_copy_is_a_copy_of_the_item(
    tmp_path: Path, shop: Catalogue, edit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the one before it for its only candidate, and the first one the items."""
    folder = tmp_path / "later"
    if edit == "cut":
        save(folder / "a.jpg", EDITS["cut"](photo(0)))
    else:
        save(folder / "a.png", photo(0), compress_level=9)
    save(folder / "b.jpg", EDITS["mirrored"](photo(0)))
    save(folder / "c.jpg", EDITS["turned"](photo(0)))
    save(folder / "d.png", photo(8))
    find = Finder.find

    def of_first(finder: Finder, seen: Sequence[Seen], *rest: Any, **options: Any) -> list[dict[bytes, float]]:
        return [near if at == 0 else {} for at, near in enumerate(find(finder, seen, *rest, **options))]

    def before(seen: Sequence[Seen], stored: np.ndarray) -> list[dict[bytes, float]]:
        return [{}, *({one.sha256: np.nan} for one in seen[:-1])]

    monkeypatch.setattr(Finder, "find", of_first)
    monkeypatch.setattr(screening, "beside", before)
    screened(shop, folder)
    said = rejected(shop)
    assert said.pop("b.jpg") == "a copy of 0/photo.png (mirrored)"
    assert said.pop("c.jpg") == "a copy of 0/photo.png (turned by 90° anticlockwise)"
    (reason,) = said.values()
    assert reason.startswith("a copy of 0/photo.png (")
    assert "d.png" in ids(shop)


def test_what_cannot_be_looked_at_is_nobodys_neighbour(
    tmp_path: Path, shop: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "NEAREST", 1)
    monkeypatch.setattr(candidates, "LAYOUTS", 0)
    folder = tmp_path / "later"
    save(folder / "a.png", photo(8))
    between = save(folder / "b.png", photo(8)[9:141, 12:188])  # nearer to both others than they are to each other
    save(folder / "c.jpg", EDITS["cut"](photo(8)))
    gone = hashlib.sha256(between.read_bytes()).digest()

    def looking(data: bytes | ImageError, sha256: bytes, *rest: Any) -> Seen:
        return look(ImageError("is gone") if sha256 == gone else data, sha256, *rest)

    monkeypatch.setattr(screening, "look", looking)
    screened(shop, folder)
    assert rejected(shop) == {"c.jpg": "a copy of a.png (cut to 58 %)"}
    known = Fingerprints(folder_of(shop, "usual") / "looked")
    of_both = ["reason", "candidates", "similarities"]
    assert known.row(gone, of_both) == {"reason": "is gone", "candidates": None, "similarities": None}


def test_a_commit_has_a_few_files_and_the_views_of_a_block_in_memory(
    tmp_path: Path, shop: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "cores", lambda: 2)
    monkeypatch.setattr(screening, "BLOCK", 8)
    lock = threading.Lock()
    files = views = 0
    most_files, most_views = [0], [0]
    copies, find = Screen.copies, Finder.find

    class Counting:
        def __init__(self, source: ImageSource) -> None:
            self._source = source

        def read_many(self, uris: Iterable[str]) -> Iterator[bytes | ImageError]:
            nonlocal files
            for data in self._source.read_many(uris):
                with lock:
                    files += 1
                    most_files.append(files)
                yield data

    def counting(screen: Screen, source: ImageSource, *rest: Any, **options: Any) -> Any:
        return copies(screen, Counting(source), *rest, **options)  # type: ignore[arg-type]

    def looking(*args: Any) -> Seen:
        nonlocal files, views
        seen = look(*args)
        with lock:
            files -= 1
            views += len(seen.views)
            most_views.append(views)
        return seen

    def finding(finder: Finder, seen: Sequence[Seen], *rest: Any, **options: Any) -> Any:
        nonlocal views
        found = find(finder, seen, *rest, **options)
        views -= 0 if options.get("remember", True) else sum(len(one.views) for one in seen)
        return found

    monkeypatch.setattr(Screen, "copies", counting)
    monkeypatch.setattr(screening, "look", looking)
    monkeypatch.setattr(Finder, "find", finding)
    folder = draw(tmp_path / "more", {number: () for number in range(20, 40)})
    assert screened(shop, folder).added == 20
    assert 1 <= max(most_files) <= 2 * 2 + 1
    each = max(most_views) / 8
    assert 1 <= each <= 6
    assert views == files == 0


def test_a_damaged_grain_is_told_with_its_file(tmp_path: Path, shop: Catalogue) -> None:
    screened(shop, draw(tmp_path / "more", {20: ()}))  # so that all items are looked at
    looked = folder_of(shop, "usual") / "looked"
    for path in looked.glob("*.arrow"):
        with path.open("rb") as file:
            table = pa.ipc.open_file(file).read_all()
        worn = table.set_column(
            table.schema.get_field_index("grain"), "grain", pa.array([b"\xff" * 6] * table.num_rows, pa.binary())
        )
        path.unlink()
        with pa.ipc.new_file(str(path), worn.schema) as writer:
            writer.write_table(worn)
    larger = np.repeat(np.repeat(photo(0), 2, axis=0), 2, axis=1)
    save(tmp_path / "larger" / "a.png", larger)
    with pytest.raises(DamagedError, match=r"looked.*\.arrow is damaged; remove it, and the next run"):
        screened(shop, tmp_path / "larger")
    assert "a.png" not in ids(shop)
