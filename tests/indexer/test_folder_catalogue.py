"""Folders without a catalogue: one is kept for them elsewhere, follows them, and nothing is written to them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer import folder_catalogue, planting
from indexer.catalogue import Catalogue
from indexer.duplicates import find
from indexer.duplicates_files import decisions_of
from indexer.folder_catalogue import catalogue_of, not_examined, open_folders
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from retrieval.errors import InputError, LookalikeError, NotFoundError
from tests.embedders import ColourEmbedder
from tests.indexer.copies import EDITS, draw, indexed, photo, save, sets_of
from tests.indexer.files import decided

Open = Callable[..., AbstractContextManager[Catalogue]]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, few copies planted, and an embedder without a network in place of the bundled one."""

    def open_or_create(path: Path, *, name: str, **_: Any) -> Catalogue:
        if (path / "catalogue.json").exists():
            return Catalogue.open(path, embedder=ColourEmbedder())
        return Catalogue.create(path, ColourEmbedder(), name=name)

    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(planting, "PLANTED", 12)
    monkeypatch.setattr(folder_catalogue, "open_or_create", open_or_create)


@pytest.fixture
def opened() -> Open:
    @contextmanager
    def call(*folders: Path, update: bool = True, said: list[str] | None = None) -> Iterator[Catalogue]:
        notice = (said if said is not None else []).append
        with open_folders(
            folders, device="cpu", runtime="auto", update=update, progress=lambda *_: None, notice=notice
        ) as catalogue:
            yield catalogue

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw(tmp_path / "photos", {0: ("mirrored",), 1: ()})


@pytest.fixture
def more(tmp_path: Path) -> Path:
    save(tmp_path / "more" / "cut.jpg", EDITS["cut"](photo(1)))
    save(tmp_path / "more" / "0" / "photo.png", photo(5))
    return tmp_path / "more"


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in folder.rglob("*")
    }


def test_one_folder(photos: Path, opened: Open) -> None:
    before = state(photos)
    with opened(photos) as catalogue:
        assert sets_of(find(catalogue)) == {frozenset(("0/photo.png", "0/mirrored.jpg"))}
        assert catalogue.path == catalogue_of([photos])
        assert catalogue.about["name"] == "photos"
        assert "folder" not in catalogue.items().column_names
    assert state(photos) == before


def test_two_folders(photos: Path, more: Path, opened: Open) -> None:
    before = state(photos), state(more)
    with opened(photos, more) as catalogue:
        found = find(catalogue)
        assert sets_of(found) == {
            frozenset(("photos/0/photo.png", "photos/0/mirrored.jpg")),
            frozenset(("photos/1/photo.png", "more/cut.jpg")),
        }
        assert set(catalogue.items().column("folder").to_pylist()) == {"photos", "more"}
        across = find(catalogue, between=("photos", "more"), split="folder")
        assert sets_of(across) == {frozenset(("photos/1/photo.png", "more/cut.jpg"))}
        assert catalogue.about["name"] == "photos and more"
    assert (state(photos), state(more)) == before


def test_two_folders_of_one_name(photos: Path, more: Path, tmp_path: Path, opened: Open) -> None:
    other = tmp_path / "elsewhere" / "photos"
    shutil.copytree(more, other)
    with opened(photos, other) as catalogue:
        assert set(catalogue.items().column("folder").to_pylist()) == {str(photos), str(other)}
        assert sets_of(find(catalogue)) == {
            frozenset((f"{photos}/0/photo.png", f"{photos}/0/mirrored.jpg")),
            frozenset((f"{photos}/1/photo.png", f"{other}/cut.jpg")),
        }


def test_a_file_that_was_deleted_is_in_no_group(photos: Path, opened: Open) -> None:
    with opened(photos) as catalogue:
        find(catalogue)
    (photos / "0/mirrored.jpg").unlink()
    save(photos / "1/cut.jpg", EDITS["cut"](photo(1)))
    with opened(photos, update=False) as catalogue:
        assert catalogue.items().num_rows == 3
    with opened(photos) as catalogue:
        assert sets_of(find(catalogue)) == {frozenset(("1/photo.png", "1/cut.jpg"))}
        version = catalogue.version
    with opened(photos) as catalogue:
        assert catalogue.version == version


def test_a_file_that_was_replaced_is_another_picture(photos: Path, opened: Open) -> None:
    with opened(photos) as catalogue:
        find(catalogue)
    save(photos / "0/mirrored.jpg", EDITS["mirrored"](photo(1)))
    with opened(photos) as catalogue:
        assert sets_of(find(catalogue)) == {frozenset(("1/photo.png", "0/mirrored.jpg"))}


def test_what_is_no_picture_is_told(photos: Path, opened: Open) -> None:
    (photos / "0/bad.jpg").write_text("no picture")
    said: list[str] = []
    with opened(photos, said=said) as catalogue:
        assert catalogue.items().num_rows == 3
    told = f"of {photos} {{}} not examined; for the reasons type lookalike rejected {catalogue_of([photos])}"
    assert said == [f"1 file {told.format('was')}"]
    (photos / "notes.txt").write_text("no picture")
    said.clear()
    with opened(photos, said=said):
        assert said == [f"2 files {told.format('were')}"]


def test_a_symlink_to_a_picture_is_no_copy_of_it(photos: Path, more: Path, opened: Open) -> None:
    (photos / "1/link.png").symlink_to("photo.png")
    (photos / ".hidden").mkdir()
    (photos / "1/photo.png").rename(photos / ".hidden/other.png")
    (photos / "1/hidden.png").symlink_to("../.hidden/other.png")
    (photos / "1/photo.png").write_bytes((photos / "0/photo.png").read_bytes())
    for folders in ((photos,), (photos, more)):
        with opened(*folders) as catalogue:
            uris = catalogue.items(["uri"]).column("uri").to_pylist()
            assert "1/link.png" not in uris and {"1/photo.png", "1/hidden.png"} <= set(uris)
            told = {row["uri"]: row["reason"] for row in catalogue.rejected.read().to_pylist()}
            assert told["1/link.png"] == "a symlink to another picture here" and "1/hidden.png" not in told


def test_which_files_were_not_examined_and_why(photos: Path, more: Path, tmp_path: Path, opened: Open) -> None:
    whole = (photos / "1/photo.png").read_bytes()
    (photos / "1/cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "1/gone.jpg").symlink_to("nowhere.jpg")
    (photos / "1/.hidden.png").write_bytes(whole)
    (photos / ".aside").mkdir()
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")).write_bytes(whole)
    with opened(photos) as catalogue:
        table = not_examined(catalogue)
        assert table is not None
        told = dict(zip(*(table.column(name).to_pylist() for name in ("file", "reason")), strict=True))
        reason = told.pop("1/cut.png")
        assert "cut" in reason or "truncated" in reason or "damaged" in reason, reason
        assert told == {
            ".aside": "a hidden folder",
            "1/.hidden.png": "a hidden file",
            "1/gone.jpg": "a symlink to nothing",
            "caf\\xe9.png": "the file name is not UTF-8; rename the file",
        }
    (photos / "1/gone.jpg").unlink()
    with opened(photos) as catalogue:
        table = not_examined(catalogue)
        assert table is not None and "1/gone.jpg" not in table.column("file").to_pylist() and table.num_rows == 4
    (more / "0/gone.jpg").symlink_to("nowhere.jpg")
    with opened(photos, more) as catalogue:
        table = not_examined(catalogue)
        assert table is not None and table.num_rows == 5
        assert {f"{more}/0/gone.jpg", f"{photos}/.aside"} < set(table.column("file").to_pylist())
    with indexed(photos, tmp_path / "catalogue") as catalogue:
        assert not_examined(catalogue) is None


def test_files_set_aside_in_a_folder_are_no_inputs_of_it(photos: Path, opened: Open) -> None:
    with opened(photos) as catalogue:
        decisions = decisions_of(find(catalogue).groups)
        apply_decisions(catalogue, decisions, action="move")
    said: list[str] = []
    with opened(photos, said=said) as catalogue:
        assert catalogue.items().num_rows == 2
        assert catalogue.rejected.read().num_rows == 0
        undo(catalogue)
    with opened(photos, said=said) as catalogue:
        assert catalogue.items().num_rows == 3
    assert said == []


def test_a_folder_may_have_nothing_but_copies(photos: Path, more: Path, opened: Open) -> None:
    before = state(more)
    with opened(photos, more) as catalogue:
        ids = catalogue.items(["id"]).column("id").to_pylist()
        copies = {id: "photos/1/photo.png" for id in ids if id.startswith("more/")}
        assert apply_decisions(catalogue, decided(copies, "copy"), action="move").done == 2
    said: list[str] = []
    with opened(photos, more, said=said) as catalogue:
        assert sets_of(find(catalogue)) == {frozenset(("photos/0/photo.png", "photos/0/mirrored.jpg"))}
        undo(catalogue)
    assert said == [] and state(more) == before


def test_of_two_folders_one_that_is_gone_does_not_keep_the_other_from_coming_back(
    photos: Path, more: Path, tmp_path: Path, opened: Open
) -> None:
    before = state(photos), state(more)
    with opened(photos, more) as catalogue:
        apply_decisions(catalogue, decisions_of(find(catalogue).groups), action="move")
    more.rename(tmp_path / "unplugged")
    with pytest.raises(NotFoundError, match="no folder at"), opened(photos, more):
        pass
    with opened(photos, more, update=False) as catalogue:
        assert undo(catalogue).skipped.column("reason").to_pylist() == [f"{more} is not there; try again once it is"]
    (tmp_path / "unplugged").rename(more)
    with opened(photos, more, update=False) as catalogue:
        undo(catalogue)
    assert (state(photos), state(more)) == before


def test_what_a_catalogue_inside_has_set_aside_is_no_input(photos: Path, opened: Open) -> None:
    with indexed(photos, photos.parent / "elsewhere") as other:
        done = apply_decisions(other, decided({"0/mirrored.jpg": "0/photo.png"}, "copy"), action="move")
        shutil.move(done.quarantines[0], photos)
    with opened(photos) as catalogue:
        assert catalogue.items(["id"]).column("id").to_pylist() == ["0/photo.png", "1/photo.png"]
        table = not_examined(catalogue)
        assert table is not None
        assert table.to_pylist() == [{"file": done.run, "reason": "a folder of copies that were set aside"}]


def test_what_came_back_is_not_new(tmp_path: Path, opened: Open) -> None:
    photos = draw(tmp_path / "photos", {0: (), 1: ("turned",)})
    with opened(photos) as catalogue:
        assert catalogue.items(["id"]).column("id").to_pylist()[-1] == "1/turned.jpg"  # of the highest row
        assert sets_of(find(catalogue)) == {frozenset(("1/photo.png", "1/turned.jpg"))}
        apply_decisions(catalogue, decided({"1/turned.jpg": "1/photo.png"}, "copy"), action="move")
    with opened(photos) as catalogue:
        assert find(catalogue).groups.num_rows == 0
        undo(catalogue)
    with opened(photos) as catalogue:
        assert find(catalogue, new=True).groups.num_rows == 0
    save(photos / "0/cut.jpg", EDITS["cut"](photo(0)))
    with opened(photos) as catalogue:
        assert sets_of(find(catalogue, new=True)) == {frozenset(("0/photo.png", "0/cut.jpg"))}


@pytest.mark.parametrize("names", [("sham",), ("sham", "sham too")])
def test_pictures_that_cannot_be_read_are_none(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "bad.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    hold = "sham holds" if len(names) == 1 else "sham and sham too hold"
    with (
        pytest.raises(InputError, match=f"^{hold} no picture that can be read; see why with"),
        opened(*map(Path, names)),
    ):
        pass


def test_of_two_folders_either_may_be_named_first(photos: Path, tmp_path: Path) -> None:
    assert catalogue_of([photos, tmp_path]) == catalogue_of([tmp_path, photos]) != catalogue_of([tmp_path])


def test_links_are_the_folder_that_they_lead_to(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    assert catalogue_of([tmp_path / "link"]) == catalogue_of([photos]) != catalogue_of([photos, tmp_path])


@pytest.mark.parametrize(
    ("folders", "error", "said"),
    [
        (["nowhere"], NotFoundError, "there is no catalogue and no folder at"),
        (["photos", "nowhere"], NotFoundError, "there is no catalogue and no folder at"),
        (["photos/0/photo.png"], InputError, "is neither a catalogue nor a folder"),
        (["photos", "photos/0"], InputError, "lie inside each other; name the outer one alone"),
        (["photos/0", "photos"], InputError, "lie inside each other"),
        (["photos", "photos"], InputError, "are one folder; name it once"),
        (["empty"], LookalikeError, "empty"),
        (["texts"], InputError, "there is no picture in"),
    ],
)
def test_folders_that_cannot_be(
    photos: Path, tmp_path: Path, opened: Open, folders: list[str], error: type[LookalikeError], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/read.me").write_text("no picture")
    with pytest.raises(error, match=said), opened(*(tmp_path / name for name in folders)):
        pass
    assert not (tmp_path / "cache").exists()


def test_one_of_two_folders_is_empty(photos: Path, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LookalikeError, match="empty"), opened(photos, tmp_path / "empty"):
        pass


def test_nothing_is_known_of_a_folder_that_was_never_looked_through(photos: Path, opened: Open) -> None:
    with pytest.raises(NotFoundError, match=r"run lookalike duplicates .* first"), opened(photos, update=False):
        pass


def test_without_the_cache_it_is_told_where_files_were_set_aside(photos: Path, tmp_path: Path, opened: Open) -> None:
    with opened(photos) as catalogue:
        done = apply_decisions(catalogue, decisions_of(find(catalogue).groups), action="move")
    (quarantine,) = done.quarantines
    shutil.rmtree(tmp_path / "cache")
    told = rf"nothing is known of .*photos: run .* first; but copies stand in {re.escape(str(quarantine))}, set aside"
    with pytest.raises(NotFoundError, match=told), opened(photos, update=False):
        pass
