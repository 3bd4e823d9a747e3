"""Two processes train what one does, agree on what to do, and go on after they were stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieval.lesson import Examples
from retrieval.recipe import CHECKPOINT
from tests.retrieval.several import ALONE

ALIKE: dict[str, dict[str, Any]] = {
    "proxies and head": {"loss": "proxy_anchor+0.5*ce"},
    "memory": {"loss": "xbm(multi_similarity)"},
    "two views": {"loss": "ntxent", "changes": {"per_class": 1}},
    "mixed": {"loss": "ce", "changes": {"per_class": 1}, "mixed": True},
}
BUDGET: dict[str, Any] = {"loss": "softmax", "changes": {"epochs": 40}, "budget": 6000.0}
LONG: dict[str, Any] = {"loss": "proxy_anchor+0.5*ce", "changes": {"ema": 0.9}}
# A port of its own choice, since other tests run beside this one.
TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


def start(jobs: dict[str, dict[str, Any]], how: list[str], stripes: Examples, weights: Path, out: Path) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", "tests.retrieval.several", json.dumps(jobs), str(stripes.root), str(weights), str(out)]
    done = subprocess.run(
        [sys.executable, *how, *words],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0 or any("stopped" in job for job in jobs.values()), done.stderr[-3000:]
    return done.returncode


def parts(folder: Path, rank: int) -> tuple[dict[str, torch.Tensor], ...]:
    """State of the objective and of the network that a process had in the end."""
    found: tuple[dict[str, torch.Tensor], ...] = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def two(stripes: Examples, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of every job."""
    out = tmp_path_factory.mktemp("two")
    start({**ALIKE, "budget": BUDGET, "whole": LONG}, TWO, stripes, weights, out)
    return out


@pytest.fixture(scope="module")
def one(stripes: Examples, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process made of those that are compared."""
    out = tmp_path_factory.mktemp("one")
    start(ALIKE, [], stripes, weights, out)
    return out


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_train_what_one_does(name: str, one: Path, two: Path) -> None:
    alone, first, second = parts(one / name, ALONE), parts(two / name, 0), parts(two / name, 1)
    for part in range(2):
        for what, value in alone[part].items():
            assert torch.equal(first[part][what], second[part][what]), what
            torch.testing.assert_close(first[part][what], value, rtol=2e-3, atol=2e-4, msg=what)


def test_processes_agree_on_a_budget(two: Path) -> None:
    assert (two / "budget" / "epochs").read_text() == "[1, 2, 3]"  # as the first says; the second would go round once
    first, second = parts(two / "budget", 0)[1], parts(two / "budget", 1)[1]
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_two_processes_go_on_after_they_were_stopped(
    two: Path, stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    assert start({"run": {**LONG, "stopped": True}}, TWO, stripes, weights, tmp_path) != 0
    assert not (tmp_path / "run" / "rank0.pt").exists()
    assert (tmp_path / "run" / CHECKPOINT).exists()
    start({"run": LONG}, TWO, stripes, weights, tmp_path)
    assert (tmp_path / "run" / "epochs").read_text() == "[2]"
    for part, whole in zip(parts(tmp_path / "run", 0), parts(two / "whole", 0), strict=True):
        assert all(torch.equal(part[name], value) for name, value in whole.items())
