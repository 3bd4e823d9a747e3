"""Quarantine where the system says no: other file systems, full disks, folders that may not be written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from indexer import moving
from indexer.catalogue import Catalogue
from indexer.journal import runs
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from retrieval.errors import CatalogueError
from tests.indexer.files import GO, decided, items_of, reasons, tree


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
        moving.make_folder(tmp_path / "a" / "b" / "c")
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
    assert reasons(done) == {"b.jpg": "permission denied"}
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
