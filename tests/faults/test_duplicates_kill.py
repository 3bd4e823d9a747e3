"""A process that is killed while it looks for duplicates: the next run goes on, and finds the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer import candidates, comparing, planting
from indexer.catalogue import Catalogue
from indexer.duplicates import Found, find
from indexer.examining import folder_of
from tests.embedders import ColourEmbedder
from tests.faults.looking import AT_ONCE, BLOCK, PLANTED
from tests.indexer.copies import Bars, draw, indexed, sets_of

PICTURES = {0: ("cut", "mirrored"), 1: ("grey",), 2: ("recoloured",), 3: ()}
MOMENTS = {
    # where it is killed: pictures left to be looked at, whether pairs are left, whether copies are planted
    "look 1": (5, True, True),
    "writing looked 3": (2, True, True),
    "writing pairs 2": (None, True, True),
    "compare 4": (None, True, True),
    "plant 2": (None, False, True),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for room, name, value in (
        (candidates, "BLOCK", BLOCK),
        (planting, "BLOCK", BLOCK),
        (comparing, "_AT_ONCE", AT_ONCE),
        (planting, "PLANTED", PLANTED),
    ):
        monkeypatch.setattr(room, name, value)


def kill(place: Path, moment: str) -> None:
    """Start a run, and kill it at a moment; fails where that never comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.looking", str(place), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == moment:
            break
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert lines[-1] == moment


def told(found: Found) -> tuple[object, ...]:
    groups = [{name: value for name, value in row.items() if name != "source"} for row in found.groups.to_pylist()]
    return groups, found.pairs.to_pylist(), found.threshold, found.examined


@pytest.fixture
def expected(tmp_path: Path) -> Found:
    """Of a run that nobody interrupts."""
    with indexed(draw(tmp_path / "pictures", PICTURES), tmp_path / "whole") as catalogue:
        found = find(catalogue)
    assert sets_of(found) == {
        frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg")),
        frozenset(("1/photo.png", "1/grey.jpg")),
        frozenset(("2/photo.png", "2/recoloured.jpg")),
    }
    return found


def test_killed_at_any_moment_the_next_run_goes_on_and_finds_the_same(expected: Found, tmp_path: Path) -> None:
    for number, (moment, (left, pairs, plants)) in enumerate(MOMENTS.items()):
        place = tmp_path / str(number)
        with indexed(tmp_path / "pictures", place):
            pass
        kill(place, moment)
        bars = Bars()
        with Catalogue.open(place, embedder=ColourEmbedder()) as catalogue:
            found = find(catalogue, bars=bars)
            assert told(found) == told(expected), moment
            assert bars.totals.get("look") == left, moment
            assert ("compare" in bars.totals, "plant" in bars.totals) == (pairs, plants), moment
            assert not list(place.rglob(".writing-*"))
            assert not list(folder_of(catalogue, "usual").rglob("*.damaged"))


def test_one_catalogue_killed_again_and_again_gets_there(expected: Found, tmp_path: Path) -> None:
    with indexed(tmp_path / "pictures", tmp_path / "catalogue"):
        pass
    for moment in ("writing looked 1", "writing looked 2", "compare 3", "writing planted-0 1"):
        kill(tmp_path / "catalogue", moment)
    with Catalogue.open(tmp_path / "catalogue", embedder=ColourEmbedder()) as catalogue:
        assert told(find(catalogue)) == told(expected)
