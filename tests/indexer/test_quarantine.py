"""Quarantine: what is done, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.catalogue import Catalogue
from indexer.deciding import ACTIONS, for_links
from indexer.ingest import ingest
from indexer.journal import runs
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from indexer.verification import verify
from retrieval.errors import BusyError, InputError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from tests.indexer.files import GO, add, catalogue_of, decided, items_of, reasons, tree, write


def test_moved_files_stand_in_quarantine_and_come_back_as_they_were(small: Catalogue, photos: Path) -> None:
    before, items = tree(photos), items_of(small)
    done = apply_decisions(small, decided(GO), action="move")
    assert (done.done, done.skipped.num_rows, done.bytes) == (2, 0, 2)
    assert set(tree(photos)) == {"a.jpg", "e.jpg", "f.jpg"}
    assert done.quarantines == (small.path / "quarantine" / done.run,)
    aside = tree(done.quarantines[0])
    assert aside == {f"1-photos/{name}": before[name] for name in GO}
    assert [row["id"] for row in items_of(small)] == ["a.jpg", "e.jpg", "f.jpg"]
    assert done.version == small.version == done.to_dict()["version"]
    back = undo(small)
    assert (back.run, back.files, back.items, back.skipped.num_rows, back.already) == (done.run, 2, 2, 0, False)
    assert tree(photos) == before
    assert items_of(small) == items  # the very rows, and the user's columns
    assert not done.quarantines[0].exists()
    json.dumps([done.to_dict(), back.to_dict(), runs(small)[0].to_dict()])


def test_linked_files_share_bytes_and_become_files_of_their_own_again(small: Catalogue, photos: Path) -> None:
    before, items = tree(photos), items_of(small)
    done = apply_decisions(small, decided(GO), action="link")
    assert (done.done, done.bytes, done.quarantines) == (2, 2, ())
    assert {(photos / name).stat().st_ino for name in ("a.jpg", *GO)} == {(photos / "a.jpg").stat().st_ino}
    assert items_of(small) == items
    assert undo(small).files == 2
    assert tree(photos) == before
    assert len({(photos / name).stat().st_ino for name in ("a.jpg", *GO)}) == 3
    assert items_of(small) == items


def test_what_others_may_not_read_does_not_become_a_link_of_what_they_may(small: Catalogue, photos: Path) -> None:
    (photos / "b.jpg").chmod(0o400)
    before = tree(photos)
    done = apply_decisions(small, decided(GO), action="link")
    why = "its permissions are narrower than those of the kept one, which it would get"
    assert reasons(done) == {"b.jpg": why} and done.done == 1
    undo(small)
    assert tree(photos) == before


def test_forgotten_items_keep_their_files_and_come_back(small: Catalogue, photos: Path) -> None:
    before, items = tree(photos), items_of(small)
    done = apply_decisions(small, decided(GO, "copy"), action="forget")
    assert (done.done, done.bytes) == (2, 0)
    assert tree(photos) == before
    assert len(items_of(small)) == 3
    back = undo(small)
    assert (back.files, back.items) == (0, 2)
    assert items_of(small) == items


def test_a_catalogue_of_pictures_is_whole_before_and_after(catalogue: Catalogue, picture_folder: Path) -> None:
    ids = sorted(catalogue.items(["id"]).column("id").to_pylist())
    before, items = tree(picture_folder), items_of(catalogue)
    done = apply_decisions(catalogue, decided({ids[1]: ids[0], ids[2]: ids[0]}, "copy"), action="move")
    assert done.done == 2
    assert len(catalogue.index()) == 22
    assert verify(catalogue, sources=True) == []
    assert ingest(catalogue, read_manifest(picture_folder)).added == 0
    undo(catalogue)
    assert tree(picture_folder) == before
    assert items_of(catalogue) == items
    assert verify(catalogue, sources=True) == []


def test_progress_counts_to_the_end(small: Catalogue) -> None:
    seen: list[tuple[int, int, int]] = []
    decisions = decided({**GO, "nowhere": "a.jpg"})
    apply_decisions(small, decisions, action="move", progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3, 1), (2, 3, 1), (3, 3, 1)]
    seen.clear()
    undo(small, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 2, 0), (2, 2, 0)]


def test_a_run_that_does_nothing_leaves_nothing_to_undo(small: Catalogue) -> None:
    done = apply_decisions(small, decided({"nowhere": "a.jpg", "e.jpg": "nothing"}, "copy"), action="move")
    assert (done.run, done.journal, done.quarantines, done.done) == (None, None, (), 0)
    assert reasons(done) == {
        "nowhere": "there is no such item in the catalogue",
        "e.jpg": "the item that is kept in its place, 'nothing', is not in the catalogue",
    }
    assert runs(small) == []
    assert not (small.path / "quarantine").exists()


@pytest.mark.parametrize(
    ("decisions", "action", "message"),
    [
        (decided(GO), "delete", "there is no action 'delete'; choose one of move, link, forget"),
        (decided(GO, "lookalike"), "move", "there is no kind 'lookalike' of copy"),
        (decided({"b.jpg": "a.jpg", "a.jpg": "e.jpg"}), "move", "'a.jpg' is to go, and is to be kept in place of"),
        (decided({"b.jpg": "a.jpg", "a.jpg": "b.jpg"}), "forget", "nothing was changed"),
        (decided({"b.jpg": "b.jpg"}), "move", "'b.jpg' is to go, and is to be kept"),
        (pa.concat_tables([decided(GO), decided(GO)]), "move", "'b.jpg' is to go twice"),
        (decided(GO).drop_columns(["kept"]), "move", "the decisions have no column 'kept'"),
        (decided(GO).set_column(1, "kept", pa.array([None, "a.jpg"])), "move", "rows without a value"),
    ],
)
def test_decisions_that_contradict_themselves_are_refused(
    small: Catalogue, photos: Path, decisions: pa.Table, action: str, message: str
) -> None:
    before, version = tree(photos), small.version
    with pytest.raises(InputError, match=message):
        apply_decisions(small, decisions, action=action)
    assert (tree(photos), small.version, runs(small)) == (before, version, [])


def test_a_quarantine_that_would_be_indexed_again_is_refused(small: Catalogue, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "way in").symlink_to(photos)
    (tmp_path / "file").touch()
    for place, message in [
        (photos, "lies within the source"),
        (photos / "below" / "aside", "lies within the source"),
        (tmp_path / "way in" / "aside", "lies within the source"),
        (small.path / "items", "lies within the catalogue"),
        (small.path, "lies within the catalogue"),
        (tmp_path / "file", "is a file"),
    ]:
        with pytest.raises(InputError, match=message):
            apply_decisions(small, decided(GO), action="move", quarantine=place)
    with pytest.raises(InputError, match="moves no file"):
        apply_decisions(small, decided(GO), action="link", quarantine=tmp_path / "aside")
    before = tree(photos)
    done = apply_decisions(small, decided(GO), action="move", quarantine=photos / ".aside")
    assert done.done == 2
    undo(small)
    assert {name: file for name, file in tree(photos).items() if not name.startswith(".aside")} == before


def test_files_that_are_not_what_was_indexed_are_left(small: Catalogue, photos: Path) -> None:
    (photos / "b.jpg").chmod(0o600)
    (photos / "b.jpg").write_bytes(b"changed")
    (photos / "below" / "c d.jpg").unlink()
    for action in ("move", "link"):
        done = apply_decisions(small, decided(GO), action=action)
        assert done.done == 0
        assert reasons(done) == {
            "b.jpg": "its file has other bytes than when it was indexed",
            "below/c d.jpg": "no such file",
        }
    assert (photos / "b.jpg").read_bytes() == b"changed"


@pytest.mark.parametrize("action", ACTIONS)
def test_without_the_kept_file_its_copies_stay(small: Catalogue, photos: Path, action: str) -> None:
    (photos / "a.jpg").chmod(0o600)
    (photos / "a.jpg").write_bytes(b"other")
    before = tree(photos)
    why = "the one that is kept, 'a.jpg', is not as it was indexed: "
    done = apply_decisions(small, decided(GO), action=action)
    assert set(reasons(done).values()) == {why + "its bytes have changed"}
    (photos / "a.jpg").unlink()
    done = apply_decisions(small, decided(GO), action=action)
    assert set(reasons(done).values()) == {why + "no such file"}
    del before["a.jpg"]
    assert tree(photos) == before
    assert len(items_of(small)) == 5


def test_no_symlink_is_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.jpg": b"A"})
    root = write(tmp_path / "photos", {"a.jpg": b"A", "real/b.jpg": b"A", "c.jpg": b"A", "d/e.jpg": b"A"})
    (root / "link.jpg").symlink_to("c.jpg")
    (root / "folder").symlink_to("real")
    uris = {"link": "link.jpg", "within": "folder/b.jpg", "out": "c.jpg", "parent": "d/e.jpg", "a": "a.jpg"}
    with catalogue_of(tmp_path / "catalogue", root, uris) as made:
        (root / "c.jpg").unlink()
        (root / "c.jpg").symlink_to(outside / "secret.jpg")
        shutil.rmtree(root / "d")
        (root / "d").symlink_to(outside)
        (outside / "e.jpg").write_bytes(b"A")
        before = tree(tmp_path / "photos"), tree(outside)
        for action in ("move", "link"):
            done = apply_decisions(
                made, decided(dict.fromkeys(("link", "within", "out", "parent"), "a")), action=action
            )
            assert done.done == 0
            assert reasons(done)["within"] == "a symlink leads to it, and symlinks are not followed"
            assert "outside the source root" in reasons(done)["out"]
            assert "outside the source root" in reasons(done)["parent"]
        assert (tree(tmp_path / "photos"), tree(outside)) == before


@pytest.mark.parametrize(
    "uri", ["../outside/secret.jpg", "a/../../outside/secret.jpg", "/etc/hostname", "a.jpg/../b.jpg"]
)
def test_an_item_that_names_a_file_elsewhere_moves_nothing(tmp_path: Path, uri: str) -> None:
    outside = write(tmp_path / "outside", {"secret.jpg": b"A"})
    root = write(tmp_path / "photos", {"a.jpg": b"A", "b.jpg": b"A", "a/x": b""})
    with catalogue_of(tmp_path / "catalogue", root, {"a": "a.jpg", "bad": "b.jpg"}) as made:
        rows = made.items()
        with made.writing():
            made.commit(rows.set_column(2, rows.schema.field("uri"), pa.array(["a.jpg", uri])), replacing=True)
        before = tree(root), tree(outside)
        for action in ("move", "link"):
            assert apply_decisions(made, decided({"bad": "a"}), action=action).done == 0
        assert (tree(root), tree(outside)) == before


def test_a_file_that_an_item_that_stays_has_too_is_not_moved(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.jpg": b"A", "sub/b.jpg": b"A", "c.jpg": b"A", "d.jpg": b"A"})
    (root / "way.jpg").symlink_to("d.jpg")
    uris = {"a": "a.jpg", "b1": "sub/b.jpg", "b2": "sub/b.jpg", "c": "c.jpg", "d": "d.jpg", "d2": "way.jpg"}
    with catalogue_of(tmp_path / "catalogue", root, uris) as made:
        add(made, root / "sub", {"b3": "b.jpg"})
        before = tree(root)
        done = apply_decisions(made, decided({"b1": "a", "b2": "c", "d": "d2"}), action="move")
        assert done.done == 0
        assert reasons(done) == {
            "b1": "its file is that of 'b3' too, which stays",
            "b2": "its file is that of 'b3' too, which stays",
            "d": "its file is that of 'd2' too, which stays",
        }
        assert tree(root) == before


def test_two_items_of_one_file_go_and_come_back_together(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.jpg": b"A", "b.jpg": b"A", "c.jpg": b"A"})
    with catalogue_of(tmp_path / "catalogue", root, {"a": "a.jpg", "b1": "b.jpg", "b2": "b.jpg", "c": "c.jpg"}) as made:
        before, items = tree(root), items_of(made)
        for action in ("move", "link"):
            done = apply_decisions(made, decided({"b1": "a", "b2": "c"}), action=action)
            assert (done.done, done.bytes) == (2, 1)
            assert undo(made).files == 1
            assert tree(root) == before
            assert items_of(made) == items
        shared = apply_decisions(made, decided({"b1": "b2"}), action="link")
        assert (shared.done, shared.already, shared.skipped.num_rows, shared.journal) == (0, 1, 0, None)
        (root / "c.jpg").unlink()
        assert apply_decisions(made, decided({"b1": "a", "b2": "c"}), action="move").done == 0
        assert (root / "b.jpg").exists()


def test_rows_of_parquet_files_can_only_be_forgotten(tmp_path: Path) -> None:
    root = tmp_path / "feed"
    root.mkdir()
    picture = write(tmp_path / "one", {"x": b"A"}) / "x"
    pq.write_table(pa.table({"image": [picture.read_bytes()] * 2}), root / "p.parquet")
    (root / "x.jpg").write_bytes(b"A")
    (root / "y.jpg").write_bytes(b"A")
    with catalogue_of(tmp_path / "catalogue", root, {"x": "x.jpg", "p0": "x.jpg", "p1": "x.jpg", "y": "y.jpg"}) as made:
        rows = made.items()
        uris = pa.array(["x.jpg", "p.parquet#row=0", "p.parquet#row=1", "y.jpg"])
        with made.writing():
            made.commit(rows.set_column(2, rows.schema.field("uri"), uris), replacing=True)
        for action in ("move", "link"):
            done = apply_decisions(made, decided({"p0": "x"}), action=action)
            assert reasons(done) == {"p0": "it is a row of a Parquet file, which can only be forgotten"}
        done = apply_decisions(made, decided({"y": "p1"}), action="link")
        assert "nothing can be a link of" in reasons(done)["y"]
        done = apply_decisions(made, decided({"x": "p1", "y": "p1"}), action="move")  # read from the Parquet file
        assert done.done == 2
        assert apply_decisions(made, decided({"p0": "p1"}), action="forget").done == 1
        undo(made)
        undo(made)
        assert items_of(made) == rows.set_column(2, rows.schema.field("uri"), uris).to_pylist()


def test_only_the_same_bytes_are_linked(small: Catalogue, photos: Path) -> None:
    why = "only a file with the same bytes as the kept one can become a link of it"
    assert reasons(apply_decisions(small, decided({"e.jpg": "f.jpg"}), action="link")) == {"e.jpg": why}
    os.link(photos / "b.jpg", photos / "other name")
    saved = apply_decisions(small, decided({"b.jpg": "a.jpg"}), action="link")
    assert reasons(saved) == {"b.jpg": "it has other hard links, so that nothing would be saved"}


def test_equal_files_are_linked_whatever_the_decision_calls_them_and_once_they_are_that_is_done(
    small: Catalogue, photos: Path
) -> None:
    done = apply_decisions(small, decided({"b.jpg": "a.jpg"}, "copy"), action="link")
    assert (done.done, done.already) == (1, 0)
    assert (photos / "a.jpg").stat().st_ino == (photos / "b.jpg").stat().st_ino
    seen: list[tuple[int, int, int]] = []
    again = apply_decisions(small, decided(GO), action="link", progress=lambda *counts: seen.append(counts))
    assert (again.done, again.already, again.skipped.num_rows, again.bytes) == (1, 1, 0, 1)
    assert seen[-1] == (2, 2, 0)
    assert [run.done for run in runs(small)] == [1, 1]
    more = apply_decisions(small, decided(GO), action="link")
    assert (more.done, more.already, more.run) == (0, 2, None)


def test_files_that_are_equal_to_each_other_are_linked_though_the_kept_one_is_another(tmp_path: Path) -> None:
    files = {"k": b"K", "k2": b"K", "x1": b"X", "x2": b"X", "x3": b"X", "y": b"Y"}
    root = write(tmp_path / "photos", files)
    for name in files:
        (root / name).chmod(0o640)
    with catalogue_of(tmp_path / "catalogue", root) as made:
        decisions = decided({"x1": "k", "y": "k", "x2": "k", "k2": "k", "x3": "k", "gone": "k"}, "copy")
        asked = for_links(made.items(), decisions, alone=False)
        assert dict(zip(asked.column("id").to_pylist(), asked.column("kept").to_pylist(), strict=True)) == {
            **{"x2": "x1", "x3": "x1", "k2": "k"},
            "gone": "k",
        }
        assert "y" in for_links(made.items(), decisions, alone=True).column("id").to_pylist()
        done = apply_decisions(made, asked, action="link")
        assert (done.done, reasons(done).keys()) == (3, {"gone"})
        of = {name: (root / name).stat().st_ino for name in files}
        assert of["x1"] == of["x2"] == of["x3"] and of["k"] == of["k2"] and len(set(of.values())) == 3
        undo(made)
        assert {name: data for name, (data, _, _) in tree(root).items()} == files


@pytest.mark.parametrize("action", ACTIONS)
def test_what_has_come_under_the_name_of_one_that_was_decided_about_is_left(
    small: Catalogue, photos: Path, action: str
) -> None:
    digests = {row["id"]: row["sha256"].hex() for row in items_of(small)}
    pairs = {"b.jpg": "a.jpg", "e.jpg": "f.jpg", "below/c d.jpg": "a.jpg"}
    decisions = decided(pairs, "copy")
    for name, of in (("sha256", pairs.keys()), ("kept_sha256", pairs.values())):
        decisions = decisions.append_column(name, pa.array([digests[id] for id in of]))
    for name in ("e.jpg", "f.jpg", "b.jpg"):
        (photos / name).chmod(0o600)
        (photos / name).write_bytes(b"Z")
    with small.writing():
        rows = small.items().to_pylist()
        changed = [row | {"sha256": hashlib.sha256(b"Z").digest()} for row in rows if row["id"] in ("f.jpg", "b.jpg")]
        small.commit(pa.Table.from_pylist(changed, schema=small.items().schema), replacing=True)
    before = tree(photos)
    done = apply_decisions(small, decisions, action=action)
    assert (done.done, reasons(done)) == (
        1,
        {
            "b.jpg": "it was of other bytes when that was decided",
            "e.jpg": "the one that is kept, 'f.jpg', was of other bytes when that was decided",
        },
    )
    assert before.items() - tree(photos).items() <= {("below/c d.jpg", before["below/c d.jpg"])}
    old = apply_decisions(small, decided({"b.jpg": "a.jpg"}), action=action)
    assert old.done == 0 and "same bytes as the" in reasons(old)["b.jpg"]


def test_it_is_done_under_the_lock(small: Catalogue) -> None:
    with Catalogue.open(small.path, embedder=ColourEmbedder()) as other, other.writing():
        with pytest.raises(BusyError, match="another process is writing"):
            apply_decisions(small, decided(GO), action="move")
        with pytest.raises(BusyError, match="another process is writing"):
            undo(small)


def test_no_decisions_are_no_run(small: Catalogue) -> None:
    for action in ACTIONS:
        done = apply_decisions(small, decided({}), action=action)
        assert (done.run, done.done, done.skipped.num_rows) == (None, 0, 0)
