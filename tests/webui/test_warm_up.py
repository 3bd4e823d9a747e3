"""The server settles its network before the first search, and does without when it cannot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from retrieval.errors import EmbedderError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from webui.serve import warm_up


class Tuned(ColourEmbedder):
    """Keeps what it was tuned with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def tune(self, sample: Any, *, expected: int, notice: Any) -> None:
        self.calls.append((len(sample), expected))


@pytest.fixture
def opened(tmp_path: Path, picture_folder: Path) -> Catalogue:
    made = Catalogue.create(tmp_path / "warm", Tuned())
    ingest(made, read_manifest(picture_folder))
    made.embedder().calls.clear()
    return made


def test_it_tunes_to_pictures_of_the_catalogue(opened: Catalogue) -> None:
    warm_up(opened)
    assert opened.embedder().calls == [(24, 24)]


def test_photos_that_have_moved_are_left_to_the_first_search(
    opened: Catalogue, picture_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture_folder.rename(picture_folder.with_name("elsewhere"))
    with caplog.at_level(logging.WARNING, logger="lookalike"):
        warm_up(opened)
    assert opened.embedder().calls == []
    assert caplog.records == []


def test_a_runtime_that_is_refused_is_told_when_the_server_starts(
    opened: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EmbedderError("the runtime openvino-bf16 drifts beyond the bound")

    monkeypatch.setattr(Tuned, "tune", refuse)
    with caplog.at_level(logging.WARNING, logger="lookalike"):
        warm_up(opened)
    assert "openvino-bf16 drifts" in caplog.text
