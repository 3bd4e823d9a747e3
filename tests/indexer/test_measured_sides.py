"""Measuring by a protocol: who asks whom, and which files are one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from indexer.measuring import Run, measure_protocol
from retrieval import images
from retrieval.datasets.protocol import SPLIT_SCHEMA, Counts, Protocol, Reading, Task
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import ProtocolError
from tests.embedders import ColourEmbedder

CARD = {"digest": "d", "tag": "colours"}


def benchmark(monkeypatch: pytest.MonkeyPatch, rows: Sequence[tuple[str, str, str, str]], **task: Any) -> None:
    """Publish a benchmark ``drawn`` that is these rows: id, uri, label, part."""
    columns = list(zip(*rows, strict=True))
    table = pa.table([list(column) for column in columns], schema=SPLIT_SCHEMA)
    counts = {part: Counts(columns[3].count(part), len({r[2] for r in rows if r[3] == part})) for part in columns[3]}
    asked = Task(lambda root, boxes: Reading(table), counts, (1,), "As drawn.", **task)
    drawn = Protocol("Drawn", "here", "The root is a folder.", {"retrieval": asked, "classification": asked})
    monkeypatch.setitem(PROTOCOLS, "drawn", drawn)


def test_equal_names_in_query_and_gallery_are_two_images(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: ColourEmbedder
) -> None:
    # Each class has one gallery image, named like its query: were they taken for one, nothing could be found.
    rows = [
        (f"{name}.jpg", f"Paint/{name}/00{at}.jpg", name, part)
        for at, part in enumerate(("query", "gallery"))
        for name in ("Red", "Green", "Blue")
    ]
    benchmark(monkeypatch, rows)
    measured = measure_protocol("drawn", picture_folder, embedder, card=CARD, run=Run(cache=tmp_path / "cache"))
    report = measured.report
    assert (report.queries, report.left_out, report.gallery) == (3, 0, 3)
    assert report.figure("Recall@1").value == 1.0
    assert measured.queries.column("id").to_pylist() == ["query/Blue.jpg", "query/Green.jpg", "query/Red.jpg"]
    assert measured.queries.column("nearest").to_pylist()[2] == "gallery/Red.jpg"
    shown = images.thumbnail((picture_folder / "Paint/Red/001.jpg").read_bytes(), size=256)
    assert measured.picture("gallery/Red.jpg") == shown


def test_a_query_that_nothing_can_answer_is_a_difference(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: ColourEmbedder
) -> None:
    rows = [(f"{name}{n}", f"Paint/{name}/00{n}.jpg", name, part) for name in ("Red", "Blue")
            for n, part in ((0, "query"), (1, "gallery")) if (name, part) != ("Blue", "gallery")]  # fmt: skip
    benchmark(monkeypatch, rows)
    run = Run(cache=tmp_path / "cache")
    with pytest.raises(ProtocolError, match="1 query whose class has no other image in the gallery, not in the mean"):
        measure_protocol("drawn", picture_folder, embedder, card=CARD, run=run)
    report = measure_protocol("drawn", picture_folder, embedder, card=CARD, run=replace(run, anyway=True)).report
    assert report.title == "Drawn (non-standard)" and (report.queries, report.left_out) == (1, 1)


def test_one_file_in_query_and_gallery_is_one_image(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: ColourEmbedder
) -> None:
    rows = [(f"{n}", f"Paint/Red/00{n}.jpg", "Red", "gallery") for n in (0, 1, 2)]
    rows += [(f"b{n}", f"Paint/Blue/00{n}.jpg", "Blue", "gallery") for n in (0, 1)]
    rows += [("0", "Paint/Red/000.jpg", "Red", "query"), ("b0", "Paint/Blue/000.jpg", "Blue", "query")]
    benchmark(monkeypatch, rows)
    measured = measure_protocol("drawn", picture_folder, embedder, card=CARD, run=Run(cache=tmp_path / "cache"))
    assert measured.queries.column("candidates").to_pylist() == [4, 4]
    assert measured.queries.column("nearest").to_pylist()[1] == "b1"
    assert embedder.seen == 5


def test_a_split_for_classification_without_test_asks_its_val(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: ColourEmbedder
) -> None:
    # As iNaturalist's, whose test labels are not published.
    rows = [
        (f"{name}{at}", f"Paint/{name}/00{at}.jpg", name, part)
        for at, part in enumerate(("train", "train", "val"))
        for name in ("Red", "Green")
    ]
    benchmark(monkeypatch, rows)
    run = Run(cache=tmp_path / "cache", task="classification")
    report = measure_protocol("drawn", picture_folder, embedder, card=CARD, run=run).report
    assert (report.queries, report.gallery, report.figure("Top-1 accuracy").value) == (2, 4, 1.0)
