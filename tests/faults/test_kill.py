"""A real process killed at twenty points spread over a run: nothing lost, nothing twice."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.verification import verify
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder

POINTS = 20
COMMIT_EVERY = 7


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_pictures(tmp_path_factory.mktemp("kill") / "pictures", per_class=40)
    (folder / "bad.jpg").write_bytes(b"no picture")
    return folder


def start(source: Path, place: Path, *, slow: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.killed", str(source), str(place), str(COMMIT_EVERY)]
    return subprocess.Popen(
        [*command, "slow"] if slow else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def lines_of_a_whole_run(source: Path, place: Path) -> int:
    process = start(source, place)
    output, _ = process.communicate()
    assert process.returncode == 0
    return len(output.splitlines())


def test_a_run_killed_at_any_point_is_completed_by_the_next(source: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    lines = lines_of_a_whole_run(source, whole)
    with Catalogue.open(whole, embedder=ColourEmbedder()) as reference:
        expected = {row["id"]: row["sha256"] for row in reference.items(["id", "sha256"]).to_pylist()}
    assert len(expected) == 160
    for point in range(POINTS):
        place = tmp_path / f"killed-{point}"
        process = start(source, place)
        assert process.stdout is not None
        # By progress, not by the clock: after so many of the lines that a whole run prints.
        for _ in range(1 + point * (lines - 2) // (POINTS - 1)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
        check_and_complete(place, source, expected)


def test_one_catalogue_killed_again_and_again_gets_there(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "catalogue"
    for point in range(6):
        process = start(source, place)
        assert process.stdout is not None
        for _ in range(5 + 9 * point):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(source, place)
    output, _ = process.communicate()
    assert output.splitlines()[-1] == "done 160"
    with Catalogue.open(place, embedder=ColourEmbedder()) as done:
        assert verify(done) == []
        assert done.items().column("id").to_pylist() == sorted(done.items().column("id").to_pylist())


def check_and_complete(place: Path, source: Path, expected: dict[str, bytes]) -> None:
    """What is there after the kill is sound and true; the same command again makes it whole."""
    embedder = ColourEmbedder()
    if (place / "catalogue.json").exists():
        with Catalogue.open(place, embedder=embedder) as killed:
            assert verify(killed) == []
            before = killed.items(["row", "id", "sha256"]).to_pylist()
            for row in before:
                assert row["sha256"] == hashlib.sha256((source / row["id"]).read_bytes()).digest()
            kept = len(killed.vectors.keys())
            assert kept >= len(before)
        opened = Catalogue.open(place, embedder=embedder)
    else:
        before, kept = [], 0
        opened = Catalogue.create(place, embedder)
    with opened:
        summary = ingest(opened, read_manifest(source), commit_every=COMMIT_EVERY)
        assert embedder.seen == 160 - kept  # nothing that was kept is embedded again
        assert (summary.unchanged, summary.added, summary.rejected) == (len(before), 160 - len(before), 1)
        after = opened.items(["row", "id", "sha256"]).to_pylist()
        assert {row["id"]: row["sha256"] for row in after} == expected
        assert len({row["row"] for row in after}) == len(after)
        assert after[: len(before)] == before  # rows given out before the kill are those given after
        assert verify(opened) == []
        assert opened.rejected.read().num_rows == 1
        assert not list(place.rglob(".writing-*"))


@pytest.mark.parametrize("point", [2, 60, 150])
def test_an_interrupt_ends_in_good_order_and_keeps_what_was_embedded(source: Path, tmp_path: Path, point: int) -> None:
    place = tmp_path / "catalogue"
    process = start(source, place, slow=True)
    assert process.stdout is not None
    for _ in range(point):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert "AssertionError" not in errors
    with Catalogue.open(place, embedder=ColourEmbedder()) as stopped:
        assert verify(stopped) == []
        kept = len(stopped.vectors.keys())
    process = start(source, place)
    output, _ = process.communicate()
    assert output.splitlines()[-1] == "done 160"
    embedded = [line for line in output.splitlines() if line.startswith("embedded")]
    assert sum(int(line.split()[1]) for line in embedded) == 160 - kept
