"""A file we write is whole or not there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from indexer import files
from retrieval.errors import CatalogueError, DamagedError


def test_a_failure_in_the_middle_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if step == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "replace", full)
        with pytest.raises(CatalogueError, match=r"the disk is full: .*file was not written"):
            files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CatalogueError, match=r"cannot write .*file/below"):
        files.write_bytes(tmp_path / "file" / "below", b"")


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{files.TEMPORARY_PREFIX}abc").write_bytes(b"half")
    (tmp_path / "deep" / "kept").write_bytes(b"whole")
    assert files.sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept"]


def test_sweep_leaves_a_folder_with_a_lock_of_its_own_to_who_holds_it(tmp_path: Path) -> None:
    for name in ("deep", "locked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{files.TEMPORARY_PREFIX}abc").write_bytes(b"half")
    for place in (tmp_path, tmp_path / "locked"):
        (place / ".lock").touch()
    assert files.sweep(tmp_path, lock=".lock") == 1
    assert [path.parent.name for path in tmp_path.rglob(f"{files.TEMPORARY_PREFIX}*")] == ["locked"]
    assert files.sweep(tmp_path / "locked") == 1


def test_json_goes_there_and_back_and_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"b": 1, "a": "साड़ी"})
    files.write_json(tmp_path / "b", {"a": "साड़ी", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert files.read_json(tmp_path / "a") == {"a": "साड़ी", "b": 1}


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff"])
def test_json_that_is_damaged_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "about.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"about\.json is"):
        files.read_json(path)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(json.dumps({}).encode())
    assert files.sha256_of(tmp_path / "file") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
