"""Quarantine where the system says no: other file systems, full disks, other owners, one folder by two paths."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from indexer import deciding, moving, quarantine, whereabouts
from indexer.catalogue import Catalogue
from indexer.journal import runs
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from retrieval.errors import CatalogueError
from tests.indexer.files import GO, add, catalogue_of, decided, items_of, reasons, tree, write


def cross_device(*_: object, **__: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_across_file_systems_files_are_copied_whole(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, items = tree(photos), items_of(small)
    monkeypatch.setattr(moving.os, "link", cross_device)
    done = apply_decisions(small, decided(GO), action="move")
    assert done.done == 2
    assert tree(done.quarantines[0]) == {f"1-photos/{name}": before[name] for name in GO}
    assert undo(small).files == 2
    assert (tree(photos), items_of(small)) == (before, items)
    linked = apply_decisions(small, decided(GO), action="link")
    assert set(reasons(linked).values()) == {"invalid cross-device link"}
    assert tree(photos) == before


@pytest.mark.parametrize("after", range(3))
def test_a_folder_that_cannot_be_made_leaves_none_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    def full(path: Path, left: list[int] = [after]) -> None:  # noqa: B006
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        os.mkdir(path)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space"):
        whereabouts.make_folder(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_real_second_file_system(small: Catalogue, photos: Path) -> None:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == photos.stat().st_dev:
        pytest.skip("there is one file system only")
    aside = shm / f"lookalike-test-{os.getpid()}"
    before = tree(photos)
    try:
        done = apply_decisions(small, decided(GO), action="move", quarantine=aside)
        assert tree(done.quarantines[0]) == {f"1-photos/{name}": before[name] for name in GO}
        assert undo(small).files == 2
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    assert tree(photos) == before


def test_a_copy_with_other_bytes_is_not_taken_for_the_file(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)
    real = os.write
    monkeypatch.setattr(moving.os, "link", cross_device)
    monkeypatch.setattr(os, "write", lambda file, data: real(file, b"B" if bytes(data) == b"A" else data))
    done = apply_decisions(small, decided(GO), action="move")
    assert set(reasons(done).values()) == {"its bytes changed while it was copied"}
    assert tree(photos) == before
    assert tree(small.path / "quarantine") == {}


def test_a_full_disk_skips_the_file_and_leaves_nothing_half(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, items = tree(photos), items_of(small)
    real = os.write

    def full(file: int, data: bytes) -> int:
        if bytes(data) == b"A":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(moving.os, "link", cross_device)
    monkeypatch.setattr(os, "write", full)
    done = apply_decisions(small, decided(GO), action="move")
    assert set(reasons(done).values()) == {"the disk is full"}
    assert (tree(photos), items_of(small), tree(small.path / "quarantine")) == (before, items, {})
    assert runs(small)[0].state == "nothing done"


def test_a_disk_too_full_for_the_journal_stops_the_run_in_good_order(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)
    with monkeypatch.context() as patched:

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "write", full)
        with pytest.raises(CatalogueError, match="the disk is full"):
            apply_decisions(small, decided(GO), action="move")
    assert tree(photos) == before
    with pytest.raises(CatalogueError, match=r"was interrupted; bring it back with lookalike duplicates .* --undo"):
        apply_decisions(small, decided(GO), action="move")
    assert undo(small).files == 0
    assert apply_decisions(small, decided(GO), action="move").done == 2


def test_a_folder_that_may_not_be_written_is_left(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)
    real = os.unlink

    def refuse(path: Path, **kept: object) -> None:
        # Root writes where it likes, so the refusal of the system is played.
        if Path(path).parent == photos:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, **kept)

    monkeypatch.setattr(os, "unlink", refuse)
    done = apply_decisions(small, decided(GO), action="move")
    assert reasons(done) == {"b.jpg": f"permission denied: {photos / 'b.jpg'}"}
    assert {name for name in before if not (photos / name).exists()} == {"below/c d.jpg"}
    assert list(tree(done.quarantines[0])) == ["1-photos/below/c d.jpg"]


def test_a_file_that_is_replaced_while_it_is_moved_is_left(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def replaced(source: Path, target: Path) -> None:
        if Path(source).parent == photos:
            Path(source).unlink()
            Path(source).write_bytes(b"newer")
        real(source, target)

    monkeypatch.setattr(moving.os, "link", replaced)
    done = apply_decisions(small, decided(GO), action="move")
    assert reasons(done) == {"b.jpg": "it changed while it was moved"}
    assert (photos / "b.jpg").read_bytes() == b"newer"


def test_what_is_somebody_elses_and_may_have_no_link_is_moved_itself(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it stays his, as no copy would."""
    before, inode = tree(photos), (photos / "b.jpg").stat().st_ino

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(moving.os, "link", refuse)
    monkeypatch.setattr(moving, "can_belong", lambda *_: False)
    done = apply_decisions(small, decided(GO), action="move")
    assert tree(done.quarantines[0]) == {f"1-photos/{name}": before[name] for name in GO}
    assert (done.quarantines[0] / "1-photos/b.jpg").stat().st_ino == inode
    (photos / "b.jpg").write_bytes(b"mine")
    assert "another file is in its place now" in reasons(undo(small))["b.jpg"]
    (photos / "b.jpg").unlink()
    undo(small)
    assert tree(photos) == before and (photos / "b.jpg").stat().st_ino == inode


def test_a_link_that_is_saved_anew_while_it_gets_bytes_of_its_own_is_left(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_decisions(small, decided(GO), action="link")
    real = moving.copy_file

    def saved(path: Path, *given: object, **kept: object) -> None:
        real(path, *given, **kept)
        if path.name == "b.jpg":
            write(photos, {"new": b"newer"})
            (photos / "new").rename(path)

    monkeypatch.setattr(moving, "copy_file", saved)
    assert reasons(undo(small)) == {"b.jpg": "it changed while it was copied"}
    assert (photos / "b.jpg").read_bytes() == b"newer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("action", ["move", "link"])
def test_what_root_brings_back_belongs_to_whom_it_did(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    for name in ("a.jpg", *GO):
        os.chown(photos / name, 1234, 4321)
    with monkeypatch.context() as patched:
        if action == "move":
            patched.setattr(moving.os, "link", cross_device)
        apply_decisions(small, decided(GO), action=action)
        undo(small)
    assert {((photos / name).stat().st_uid, (photos / name).stat().st_gid) for name in GO} == {(1234, 4321)}
    assert {(photos / name).stat().st_nlink for name in GO} == {1}


def test_what_could_not_be_given_back_to_whom_it_belongs_is_not_copied(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)

    monkeypatch.setattr(moving.os, "link", cross_device)
    monkeypatch.setattr(moving.os, "rename", cross_device)
    monkeypatch.setattr(moving, "can_belong", lambda *_: False)
    done = apply_decisions(small, decided(GO), action="move")
    (why,) = set(reasons(done).values())
    assert why.startswith("it belongs to another user or group") and "--quarantine on the same disk" in why
    monkeypatch.setattr(quarantine, "can_belong", lambda *_: False)
    (why,) = set(reasons(apply_decisions(small, decided(GO), action="link")).values())
    assert why.startswith("it belongs to another user or group, and could not be taken back")
    assert tree(photos) == before and tree(small.path / "quarantine") == {}


def test_to_whom_a_file_that_is_made_can_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = tmp_path / "probe"
    own = tmp_path.stat().st_uid, tmp_path.stat().st_gid
    assert moving.can_belong(probe, own) and moving.can_belong(probe, None)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    assert moving.can_belong(probe, own) and not moving.can_belong(probe, (own[0] + 1, own[1]))
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)  # there are systems without
    assert moving.can_belong(probe, own) and not moving.can_belong(probe, (own[0] + 1, own[1]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_which_the_kept_one_went_is_put_back(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one folder is mounted twice, or another run moves the kept one in the same moment."""
    before, items, real = tree(photos), items_of(small), quarantine.relocate
    moved: list[str] = []

    def both(path: Path, target: Path, **kept: Any) -> None:
        real(path, target, **kept)
        moved.append(path.name)
        if len(moved) == 1:
            (photos / "a.jpg").rename(photos / "gone")
        elif len(moved) == 2:
            (photos / "gone").rename(photos / "a.jpg")

    monkeypatch.setattr(quarantine, "relocate", both)
    done = apply_decisions(small, decided(GO), action="move")
    assert moved == ["b.jpg", "b.jpg", "c d.jpg"]
    assert reasons(done)["b.jpg"].startswith("it was put back, since with it went the one that is kept: ")
    assert done.done == 1 and {name for name in before if not (photos / name).exists()} == {"below/c d.jpg"}
    undo(small)
    assert (tree(photos), items_of(small)) == (before, items)


def test_a_file_that_is_the_kept_one_by_another_path_is_left(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)
    (tmp_path / "again").symlink_to(photos)
    monkeypatch.setattr(
        deciding, "_unshared", lambda items, candidates, skipped: candidates
    )  # of mounts it sees nothing
    with catalogue_of(tmp_path / "of both", photos) as made:
        add(made, photos, {"again/b.jpg": "b.jpg"})
        done = apply_decisions(made, decided({"b.jpg": "again/b.jpg"}), action="move")
        assert reasons(done) == {"b.jpg": "its file is that of 'again/b.jpg' too, which stays, by another path"}
    assert tree(photos) == before


def test_a_run_that_fails_half_way_says_how_it_is_taken_back(
    small: Catalogue, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(photos)

    def full(*_: object) -> None:
        raise CatalogueError("the disk is full")

    monkeypatch.setattr(Catalogue, "remove", full)
    with pytest.raises(
        CatalogueError, match=r"full; but first take back what was done until then \(2 of 2\) with .* --undo"
    ):
        apply_decisions(small, decided(GO), action="move")
    with pytest.raises(CatalogueError, match="was interrupted; bring it back"):
        quarantine.refuse_interrupted(small)
    assert undo(small).files == 2 and tree(photos) == before
    quarantine.refuse_interrupted(small)
