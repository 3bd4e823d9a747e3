"""Undo: everything as it was, whatever came between."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.catalogue import Catalogue
from indexer.deciding import ACTIONS
from indexer.journal import runs
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from retrieval.errors import CatalogueError, DamagedError, NotFoundError
from tests.embedders import ColourEmbedder
from tests.indexer.files import GO, add, catalogue_of, decided, items_of, reasons, tree, write

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=9)
PATHS = st.one_of(
    NAMES.map(lambda name: f"f{name}"),
    st.tuples(NAMES, NAMES).map(lambda names: f"d{names[0]}/.{names[1]}x"),
    st.sampled_from(["new\nline.jpg", ".writing-x", "with space.jpg", "-k", "c:d\\e.jpg", "d/.writing-y", "साड़ी.jpg"]),
)


@settings(max_examples=40)
@given(
    st.dictionaries(PATHS, st.tuples(st.integers(0, 2), st.integers(0, 0o777), st.integers(0, 2**62)), min_size=1),
    st.sampled_from(ACTIONS),
    st.booleans(),
)
def test_undo_restores_any_tree(
    tmp_path_factory: pytest.TempPathFactory, files: dict, action: str, elsewhere: bool
) -> None:
    place = tmp_path_factory.mktemp("tree")
    root = write(place / "root", {name: b"bytes" * kind for name, (kind, _, _) in files.items()})
    for name, (_, mode, mtime_ns) in files.items():
        (root / name).chmod(0o640 if action == "link" else mode | 0o400)  # what is narrower is left alone
        os.utime(root / name, ns=(0, mtime_ns))
    first: dict[int, str] = {}
    kept = {name: first[kind] for name, (kind, _, _) in files.items() if first.setdefault(kind, name) != name}
    before = tree(root)
    with catalogue_of(place / "catalogue", root, {name: name for name in files}) as made:
        items = items_of(made)
        aside = place / "aside" if elsewhere and action == "move" else None
        done = apply_decisions(made, decided(kept), action=action, quarantine=aside)
        assert (done.done, done.skipped.num_rows) == (len(kept), 0)
        if kept:
            undo(made)
        assert tree(root) == before
        assert items_of(made) == items
    shutil.rmtree(place)


def test_two_runs_are_undone_the_latest_first_and_each_once(small: Catalogue, photos: Path) -> None:
    before = tree(photos)
    one = apply_decisions(small, decided({"b.jpg": "a.jpg"}), action="move")
    two = apply_decisions(small, decided({"below/c d.jpg": "a.jpg"}), action="link")
    assert [(run.run, run.state, run.done) for run in runs(small)] == [(two.run, "applied", 1), (one.run, "applied", 1)]
    assert [undo(small).run, undo(small).run] == [two.run, one.run]
    assert [run.state for run in runs(small)] == ["undone", "undone"]
    assert tree(photos) == before
    again = undo(small, run=one.run)
    assert (again.already, again.files, again.items) == (True, 0, 0)
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    known = rf"there are {two.run} \(link, {when}, undone\), {one.run} \(move, {when}, undone\)$"
    with pytest.raises(NotFoundError, match="has no run of duplicates to undo: " + known):
        undo(small)
    with pytest.raises(NotFoundError, match="has no run 'mine' of duplicates; " + known):
        undo(small, run="mine")


def test_what_came_into_the_place_of_a_file_is_not_overwritten(small: Catalogue, photos: Path) -> None:
    before = tree(photos)
    done = apply_decisions(small, decided(GO), action="move")
    (photos / "b.jpg").write_bytes(b"mine")
    back = undo(small)
    assert (back.files, back.items) == (1, 1)
    assert "another file is in its place now" in reasons(back)["b.jpg"]
    assert (photos / "b.jpg").read_bytes() == b"mine"
    assert (done.quarantines[0] / "1-photos" / "b.jpg").read_bytes() == b"A"
    assert runs(small)[0].state == "partly undone"
    (photos / "b.jpg").unlink()
    back = undo(small)
    assert (back.files, back.items, back.already) == (1, 1, False)
    assert tree(photos) == before
    assert runs(small)[0].state == "undone"


def test_an_undo_that_could_not_bring_all_back_goes_on_with_its_run_and_not_with_an_older_one(
    small: Catalogue, photos: Path
) -> None:
    before = tree(photos)
    one = apply_decisions(small, decided({"b.jpg": "a.jpg"}), action="move")
    two = apply_decisions(small, decided({"below/c d.jpg": "a.jpg"}), action="move")
    (photos / "below/c d.jpg").write_bytes(b"mine")
    assert (undo(small).run, undo(small).run) == (two.run, two.run)
    assert [run.state for run in runs(small)] == ["partly undone", "applied"]
    (photos / "below/c d.jpg").unlink()
    assert (undo(small).run, undo(small).run) == (two.run, one.run)
    assert tree(photos) == before


def test_what_stands_in_the_place_of_a_link_is_not_overwritten(small: Catalogue, photos: Path) -> None:
    apply_decisions(small, decided(GO), action="link")
    (photos / "b.jpg").unlink()
    (photos / "b.jpg").write_bytes(b"mine")
    (photos / "below" / "c d.jpg").unlink()
    back = undo(small)
    assert back.files == 0
    assert "another file is in its place now" in reasons(back)["b.jpg"]
    assert "is gone" in reasons(back)["below/c d.jpg"]
    assert (photos / "b.jpg").read_bytes() == b"mine"


def test_undo_says_what_was_changed_in_quarantine_or_through_a_link(small: Catalogue, photos: Path) -> None:
    done = apply_decisions(small, decided(GO), action="move")
    (done.quarantines[0] / "1-photos" / "b.jpg").write_bytes(b"edited")
    (done.quarantines[0] / "1-photos" / "below" / "c d.jpg").unlink()
    back = undo(small)
    assert "has been changed in quarantine" in reasons(back)["b.jpg"]
    assert "neither in its place nor in quarantine" in reasons(back)["below/c d.jpg"]
    assert len(items_of(small)) == 3
    shutil.rmtree(done.quarantines[0])
    assert "neither in its place nor in quarantine" in reasons(undo(small))["b.jpg"]
    write(photos, {"b.jpg": b"A"})
    ids = {"b2": "b.jpg"}
    add(small, photos, ids)
    apply_decisions(small, decided({"b2": "a.jpg"}), action="link")
    (photos / "a.jpg").write_bytes(b"Z")
    assert "its bytes were changed through the file" in reasons(undo(small))["b2"]


def test_folders_that_are_gone_are_made_again_but_not_through_a_symlink(small: Catalogue, photos: Path) -> None:
    before = tree(photos)
    apply_decisions(small, decided(GO), action="move")
    (photos / "below").rmdir()
    elsewhere = photos.parent / "elsewhere"
    elsewhere.mkdir()
    (photos / "below").symlink_to(elsewhere)
    assert "symlinks are not followed" in reasons(undo(small))["below/c d.jpg"]
    assert list(elsewhere.iterdir()) == []
    (photos / "below").unlink()
    undo(small)
    assert tree(photos) == before
    apply_decisions(small, decided(GO), action="move")
    photos.rename(photos.parent / "unmounted")
    assert set(reasons(undo(small)).values()) == {f"{photos} is not there; try again once it is"}
    assert not photos.exists()
    (photos.parent / "unmounted").rename(photos)
    undo(small)
    assert tree(photos) == before


def test_another_name_of_a_file_that_was_moved_stays_as_it_is(small: Catalogue, photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    os.link(photos / "b.jpg", outside)
    done = apply_decisions(small, decided(GO), action="move")
    outside.chmod(0o400)
    os.utime(outside, ns=(5, 5))
    assert undo(small).files == 2
    assert (outside.stat().st_mode & 0o777, outside.stat().st_mtime_ns) == (0o400, 5)
    assert (photos / "b.jpg").samefile(outside) and not done.quarantines[0].exists()
    apply_decisions(small, decided(GO), action="move")
    outside.chmod(0o600)
    outside.write_bytes(b"edited")
    assert "or through another hard link of it" in reasons(undo(small))["b.jpg"]


def test_an_interrupted_run_stays_so_until_it_is_wholly_undone(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)

    def full(*_: object) -> None:
        raise CatalogueError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(CatalogueError):
        patched.setattr(Catalogue, "remove", full)
        apply_decisions(small, decided(GO), action="move")
    (photos / "b.jpg").write_bytes(b"mine")
    assert list(reasons(undo(small))) == ["b.jpg"]
    with pytest.raises(CatalogueError, match="was interrupted; bring it back"):
        apply_decisions(small, decided(GO), action="move")
    (photos / "b.jpg").unlink()
    undo(small)
    assert tree(photos) == before and runs(small)[0].state == "undone"


def test_a_quarantine_that_is_a_symlink_now_keeps_its_folders(small: Catalogue, photos: Path, tmp_path: Path) -> None:
    done = apply_decisions(small, decided(GO), action="move")
    done.quarantines[0].rename(tmp_path / "larger disk")
    done.quarantines[0].symlink_to(tmp_path / "larger disk")
    (tmp_path / "larger disk" / "empty").mkdir()
    assert "cannot be used" in reasons(undo(small))["b.jpg"]
    assert (tmp_path / "larger disk" / "empty").is_dir()


def test_a_catalogue_that_was_moved_finds_its_quarantine(small: Catalogue, photos: Path, tmp_path: Path) -> None:
    before = tree(photos)
    apply_decisions(small, decided(GO), action="move")
    small.close()
    small.path.rename(tmp_path / "elsewhere")
    with Catalogue.open(tmp_path / "elsewhere", embedder=ColourEmbedder()) as moved:
        assert undo(moved).files == 2
    assert tree(photos) == before


def test_items_that_were_indexed_again_or_rolled_back_to_are_left(small: Catalogue, photos: Path) -> None:
    version = small.version
    apply_decisions(small, decided(GO), action="forget")
    add(small, photos, {"b.jpg": "b.jpg"})
    assert undo(small).items == 1
    assert [row["row"] for row in items_of(small) if row["id"] == "b.jpg"] == [5]
    small.rollback(version)
    before, items = tree(photos), items_of(small)
    apply_decisions(small, decided(GO), action="move")
    small.rollback(version)
    assert undo(small).items == 0
    assert (tree(photos), items_of(small)) == (before, items)


def test_a_damaged_journal_is_named_and_a_cut_last_line_is_understood(small: Catalogue, photos: Path) -> None:
    before = tree(photos)
    done = apply_decisions(small, decided(GO), action="move")
    whole = done.journal.read_bytes()
    done.journal.write_bytes(whole.replace(b'{"do": 1', b'{"do": '))
    with pytest.raises(DamagedError, match=r"\.jsonl is damaged"):
        undo(small)
    done.journal.write_bytes(whole.replace(b'"format": 2', b'"format": 9'))
    with pytest.raises(DamagedError, match="has journal format 9"):
        runs(small)
    done.journal.write_bytes(whole[:-7])
    assert runs(small)[0].state == "interrupted"
    undo(small)
    assert tree(photos) == before
    assert [json.loads(line) for line in done.journal.read_text().splitlines()][-1] == {
        "undone": {"files": 2, "items": 2, "skipped": 0}
    }
