"""Quarantine ended at every call of the system that it makes: an undo brings back every byte, mode, time and item."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.deciding import ACTIONS
from indexer.journal import runs
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from indexer.verification import verify
from retrieval.errors import CatalogueError, LookalikeError, NotFoundError
from tests.embedders import ColourEmbedder
from tests.faults.interrupted import Killed, ending
from tests.indexer.files import FILES, GO, catalogue_of, decided, items_of, tree, write

NEVER = 10**9
MOST = 200
"""Calls that a run may make; more, and something goes round in a circle."""
WAYS = [("move", None), ("move", errno.EXDEV), ("move", errno.EPERM), ("link", None), ("forget", None)]
"""Actions, and why no hard link can be made: the quarantine is on another file system, or this one has none."""


class Place:
    """Photos and their catalogue in a folder of their own, and how they were."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.photos = folder, write(folder / "photos", FILES)
        with catalogue_of(folder / "catalogue", self.photos) as made:
            self.items = items_of(made)
        self.files = tree(self.photos)

    def open(self) -> Catalogue:
        return Catalogue.open(self.folder / "catalogue", embedder=ColourEmbedder())

    def apply(self, action: str) -> None:
        with self.open() as catalogue:
            apply_decisions(catalogue, decided(GO), action=action)

    def undo(self) -> None:
        with self.open() as catalogue:
            undo(catalogue)

    def nothing_is_lost(self) -> None:
        """Every file is whole under its own name, or in quarantine with its mode and time."""
        aside = tree(self.folder / "catalogue" / "quarantine")
        for name, file in self.files.items():
            found = [it for path, it in aside.items() if path.endswith(f"/1-photos/{name}")]
            if (self.photos / name).exists():
                assert (self.photos / name).read_bytes() == file[0]
            else:
                assert found == [file]

    def bring_back(self) -> None:
        """An undo, or none where nothing was begun, and all is as it was; another one finds nothing to do."""
        with self.open() as catalogue:
            if any(run.state not in ("undone", "nothing done") for run in runs(catalogue)):
                assert undo(catalogue).skipped.num_rows == 0
            self.is_as_it_was(catalogue)
            with pytest.raises(NotFoundError):
                undo(catalogue)
            assert verify_items(catalogue) == []

    def is_as_it_was(self, catalogue: Catalogue) -> None:
        assert tree(self.photos) == self.files  # no temporary file is left either
        assert {(self.photos / name).stat().st_nlink for name in self.files} == {1}
        assert items_of(catalogue) == self.items
        assert tree(self.folder / "catalogue" / "quarantine") == {}


def verify_items(catalogue: Catalogue) -> list:
    """Problems of the catalogue, but for vectors, which these items never had."""
    return [problem for problem in verify(catalogue, sources=True) if problem.where != "vectors"]


def killed() -> None:
    raise Killed


def failed() -> None:
    raise OSError(errno.EIO, "Input/output error")


def at_every_call(tmp_path: Path, attempt: Callable[[Place, int], bool]) -> None:
    """Make a fresh place for each call number, until one attempt says that it came to its end."""
    for at in range(MOST):
        place = Place(tmp_path / str(at))
        over = attempt(place, at)
        shutil.rmtree(place.folder)
        if over:
            assert at > 5
            return
    raise AssertionError("the run never came to its end")


@pytest.mark.parametrize(("action", "refused"), WAYS)
def test_applying_killed_at_any_call_is_undone(tmp_path: Path, action: str, refused: int | None) -> None:
    def attempt(place: Place, at: int) -> bool:
        over = False
        with ending(at, killed, lasting=True, refused=refused):
            try:
                place.apply(action)
                over = True
            except Killed:
                pass
        place.nothing_is_lost()
        place.bring_back()
        if at % 7 == 0:  # nothing stands in the way of doing it again
            place.apply(action)
            place.bring_back()
        return over

    at_every_call(tmp_path, attempt)


@pytest.mark.parametrize(("action", "refused"), WAYS)
def test_undoing_killed_at_any_call_is_completed_by_the_next(tmp_path: Path, action: str, refused: int | None) -> None:
    def attempt(place: Place, at: int) -> bool:
        with ending(NEVER, killed, lasting=True, refused=refused):
            place.apply(action)
        over = False
        with ending(at, killed, lasting=True, refused=refused):
            try:
                place.undo()
                over = True
            except Killed:
                pass
        place.nothing_is_lost()
        place.bring_back()
        return over

    at_every_call(tmp_path, attempt)


@pytest.mark.parametrize(("action", "refused"), WAYS)
def test_both_killed_one_after_the_other(tmp_path: Path, action: str, refused: int | None) -> None:
    def attempt(place: Place, at: int) -> bool:
        over = False
        with ending(3 * at, killed, lasting=True, refused=refused):
            try:
                place.apply(action)
                over = True
            except Killed:
                pass
        for again in (5, 11, 17, 23):  # each gets a little further than the one before
            ended = ending(at % 3 + again, killed, lasting=True, refused=refused)
            with contextlib.suppress(Killed, NotFoundError), ended:
                place.undo()
            place.nothing_is_lost()
        place.bring_back()
        return over

    at_every_call(tmp_path, attempt)


@pytest.mark.parametrize(("action", "refused"), WAYS[1:])
def test_a_call_that_fails_is_told_and_undone(tmp_path: Path, action: str, refused: int | None) -> None:
    def attempt(place: Place, at: int) -> bool:
        with ending(at, failed, lasting=False, refused=refused) as made:
            try:
                place.apply(action)
            except LookalikeError as error:
                assert "nput/output error" in str(error)
        over = len(made) <= at
        place.nothing_is_lost()
        with place.open() as catalogue:
            if any(run.state == "interrupted" for run in runs(catalogue)):
                with pytest.raises(CatalogueError, match="was interrupted"):
                    apply_decisions(catalogue, decided(GO), action=action)
        place.bring_back()
        return over

    at_every_call(tmp_path, attempt)


@pytest.mark.parametrize(("action", "refused"), WAYS[1:])
def test_a_call_of_the_undo_that_fails_is_told_and_the_next_undo_completes_it(
    tmp_path: Path, action: str, refused: int | None
) -> None:
    def attempt(place: Place, at: int) -> bool:
        with ending(NEVER, killed, lasting=True, refused=refused):
            place.apply(action)
        with ending(at, failed, lasting=False, refused=refused) as made:
            try:
                place.undo()
            except LookalikeError as error:
                assert "nput/output error" in str(error)
        over = len(made) <= at
        place.nothing_is_lost()
        place.bring_back()
        return over

    at_every_call(tmp_path, attempt)


def start(place: Path, verb: str, action: str, at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.interrupted", str(place), verb, action, str(at)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_a_real_process_is_killed(tmp_path: Path, action: str) -> None:
    whole = Place(tmp_path / "whole")
    done = start(whole.folder, "apply", action, NEVER)
    assert done.returncode == 0, done.stderr
    calls = int(done.stdout)
    for point in range(3):
        place = Place(tmp_path / str(point))
        done = start(place.folder, "apply", action, calls - 2 - 5 * point)
        assert done.returncode == -signal.SIGKILL, done.stderr
        place.nothing_is_lost()
        done = start(place.folder, "undo", action, 2 + point)
        assert done.returncode == -signal.SIGKILL, done.stderr
        place.nothing_is_lost()
        place.bring_back()
