"""Evaluation shared out among processes: each gets the report that one alone would have made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retrieval import processes
from retrieval.processes import in_parts, own_device

ROOT = Path(__file__).parents[2]


def test_each_of_several_processes_has_the_whole_report(tmp_path: Path) -> None:
    def reports(world: int) -> list[str]:
        folder = tmp_path / str(world)
        folder.mkdir()
        command = [sys.executable, "-m", "tests.retrieval.shared_out"]
        started = [
            subprocess.Popen(
                [*command, str(rank), str(world), str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True
            )
            for rank in range(world)
        ]
        for process in started:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
        return [(folder / f"{rank}.json").read_text() for rank in range(world)]

    assert reports(3) == reports(1) * 3


def test_alone_all_is_one_part() -> None:
    [(which, what)] = in_parts(5, lambda some: some.sum())
    assert which.tolist() == [0, 1, 2, 3, 4] and what == 10


def test_a_process_takes_every_nth_and_the_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(parts: list, mine: object) -> None:
        parts[:] = [mine] * len(parts)

    fake = SimpleNamespace(get_rank=lambda: 1, get_world_size=lambda: 4, all_gather_object=gather)
    monkeypatch.setattr(processes, "_distributed", lambda: fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    parts = in_parts(10, lambda some: some.tolist())
    assert len(parts) == 4 and parts[0][1] == [1, 5, 9]
    assert np.array_equal(parts[0][0], [1, 5, 9])
    assert own_device("auto") == own_device("cuda") == "cuda:3"
    assert (own_device("cpu"), own_device("cuda:0")) == ("cpu", "cuda:0")


def test_a_gpu_is_named_only_where_there_are_processes_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("auto") == "auto"
    monkeypatch.setattr(processes, "_distributed", lambda: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto"
