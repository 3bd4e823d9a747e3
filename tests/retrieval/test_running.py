"""Processes that share a run: each its own GPU, and all of one mind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retrieval import running
from retrieval.errors import InputError
from retrieval.running import agreed, join, processes


@pytest.fixture
def third_of_four(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The environment that torchrun gives, and what was asked of torch."""
    asked: list[Any] = []
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda place: asked.append(("device", place)))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: asked.append(("join", backend)))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    return asked


def test_each_process_has_the_gpu_of_its_place(third_of_four: list[Any]) -> None:
    assert join("cuda") == (2, 4)
    # The device first: the group's first message goes through it.
    assert third_of_four == [("device", 2), ("join", "nccl")]


def test_processors_join_without_a_gpu(third_of_four: list[Any]) -> None:
    assert join("cpu") == (2, 4)
    assert third_of_four == [("join", "gloo")]
    assert processes() == (4, 4)


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") == (0, 1)
    assert agreed(0, 1, lambda: "decided") == "decided"


def test_all_do_and_fail_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def broadcast(values: list[Any], src: int) -> None:
        assert src == 0
        if told:
            values[:] = told
        else:
            told[:] = values

    monkeypatch.setattr(running.torch.distributed, "broadcast_object_list", broadcast)
    assert agreed(0, 2, lambda: 7) == 7
    assert agreed(1, 2, lambda: 8) == 7
    told.clear()

    def refuse() -> int:
        raise InputError("not even one epoch")

    with pytest.raises(InputError, match="not even one epoch"):
        agreed(0, 2, refuse)
    with pytest.raises(InputError, match="not even one epoch"):
        agreed(1, 2, lambda: 8)
