"""What ``lookalike duplicates`` does about copies and what it refuses to, as its user meets it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from indexer import duplicates, planting
from indexer.catalogue import Catalogue
from retrieval.errors import CatalogueError
from tests.indexer.copies import draw
from tests.webui.commands import ON_CPU, Run


@pytest.mark.parametrize("way", [("--undo",), ("--from", "groups.csv", "--apply", "move")])
@pytest.mark.parametrize(
    "given",
    [
        *(("--precision", "0.99"), ("--effort", "usual"), ("--between", "train", "test"), ("--split-column", "split")),
        *(("--new",), ("--keep", "oldest"), ("--judged", "x"), ("--lookalike", "0.95"), ("--out", "x")),
    ],
)
def test_what_would_do_nothing_is_refused_though_it_is_given_as_it_is_by_default(
    tmp_path: Path, run: Run, way: tuple[str, ...], given: tuple[str, ...]
) -> None:
    code, said, told = run("duplicates", tmp_path, *way, *given)
    assert code == 2 and not said
    assert f"{given[0]} does not go with {way[0]}" in told


def test_what_is_done_is_not_taken_back_at_once(tmp_path: Path, run: Run) -> None:
    assert "--apply does not go with --undo" in run("duplicates", tmp_path, "--undo", "--apply", "move")[2]


def test_links_are_made_of_equal_files_and_edited_copies_are_not_asked_for(
    tmp_path: Path, kept_for_folders: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "PLANTED", 16)
    photos = draw(tmp_path / "photos", {0: ("mirrored",), 1: ("cut",), 2: ()})
    shutil.copy(photos / "0/photo.png", photos / "0/same.png")
    shutil.copy(photos / "0/mirrored.jpg", photos / "0/mirrored too.jpg")
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}

    def files() -> set[frozenset[str]]:
        of_file: dict[int, set[str]] = {}
        for path in before:
            of_file.setdefault(path.stat().st_ino, set()).add(path.relative_to(photos).as_posix())
        return {frozenset(names) for names in of_file.values() if len(names) > 1}

    code, said, told = run("duplicates", photos, *ON_CPU, "--out", tmp_path / "out", "--apply", "link")
    assert code == 0, told
    assert f"{photos}: 2 copies made hard links, " in said and "left alone" not in said
    both = {frozenset(("0/photo.png", "0/same.png")), frozenset(("0/mirrored.jpg", "0/mirrored too.jpg"))}
    assert files() == both
    code, said, told = run("duplicates", photos, *ON_CPU, "--apply", "link")
    assert code == 0, told
    assert said == f"{photos}: 0 copies done, 2 one file with the kept one already\n"
    # Whoever has decided about each is told which of them stay.
    code, said, told = run("duplicates", photos, *ON_CPU, "--apply", "link", "--from", tmp_path / "out/groups.csv")
    assert code == 4, told
    assert "1 item left alone:\n    1/cut.jpg: only a file with the same bytes" in said
    code, said, told = run("duplicates", photos, *ON_CPU, "--undo")
    assert code == 0, told
    assert files() == set() and {path: path.read_bytes() for path in before} == before
    (photos / "0/same.png").unlink()
    (photos / "0/mirrored too.jpg").unlink()
    code, said, told = run("duplicates", photos, *ON_CPU, "--apply", "link")
    assert (code, said) == (0, f"{photos}: no equal files, and nothing to do\n"), told


def test_where_a_run_was_interrupted_nothing_is_looked_for_before_it_is_taken_back(
    tmp_path: Path, kept_for_folders: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "PLANTED", 16)
    photos = draw(tmp_path / "photos", {0: ("mirrored",), 1: ()})

    def full(*_: object, **__: object) -> None:
        raise CatalogueError("the disk is full")

    command = ("duplicates", photos, "--apply", "move", *ON_CPU)
    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "remove", full)
        code, _, told = run(*command)
        assert code != 0 and "but first take back what was done until then (1 of 1)" in told
    with monkeypatch.context() as patched:
        patched.setattr(duplicates, "find", full)
        code, _, told = run(*command)
        assert code != 0 and f"was interrupted; bring it back with lookalike duplicates {photos} --undo" in told
    assert run("duplicates", photos, "--undo", *ON_CPU)[0] == 0
    assert sorted(path.name for path in (photos / "0").iterdir()) == ["mirrored.jpg", "photo.png"]
    assert run(*command)[0] == 0
