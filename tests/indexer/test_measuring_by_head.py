"""Measuring a classifier head by a protocol: what is embedded, what stands beside, and coarse classes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.measuring import Run, fitting_classifier, measure_protocol
from retrieval import images
from retrieval.classification import softmax
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import InputError
from retrieval.recognition import COARSE
from tests.embedders import ColourEmbedder, HeadedEmbedder
from tests.indexer.birds import BIRDS, fix_counts, write_birds

CARD = {"digest": "d", "tag": "colours", "image_size": 16}
EACH = 10
HALF = EACH * len(BIRDS) // 2
COLOURS = {f"{number:03d}.Bird": colour for number, colour in BIRDS.items()}
COARSER = {name: "Warm" if red > 150 else "Cold" for name, (red, _, _) in COLOURS.items()}


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of CUB whose classification knows coarse classes."""
    root = write_birds(tmp_path / "birds", each=EACH)
    fix_counts(monkeypatch, "cub", root)

    def coarser(place: Path) -> Mapping[str, str]:
        assert place == root
        return COARSER

    cub = PROTOCOLS["cub"]
    tasks = {**cub.tasks, "classification": replace(cub.tasks["classification"], coarser=coarser)}
    monkeypatch.setitem(PROTOCOLS, "cub", replace(cub, tasks=tasks))
    return root


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(cache=tmp_path / "cache", task="classification", classifier="head")


def test_the_head_classifies_and_no_training_image_is_embedded(birds: Path, run: Run) -> None:
    embedder = HeadedEmbedder(COLOURS)
    told: list[tuple[int, int, int]] = []
    measured = measure_protocol("cub", birds, embedder, card=CARD, run=run, progress=lambda *done: told.append(done))
    report = measured.report
    assert embedder.seen == HALF and told[-1] == (HALF, HALF, 0)
    assert (report.queries, report.gallery, report.class_count, report.left_out) == (HALF, 0, len(BIRDS), 0)
    assert report.protocol.endswith("; class by the embedder's own classifier head")
    assert (report.differences, report.frozen, report.embedder["runtimes"]) == ([], None, {"numpy": HALF})

    rows = measured.queries.to_pylist()
    assert len(rows) == HALF
    pictures = [images.decode((birds / "images" / row["id"]).read_bytes()).pixels for row in rows]
    shares = softmax(embedder.logits(ColourEmbedder().embed(pictures)))
    predicted = [embedder.classes[at] for at in shares.argmax(axis=1)]
    assert [row["predicted"] for row in rows] == predicted
    assert [row["confidence"] for row in rows] == pytest.approx(shares.max(axis=1), abs=1e-3)
    right = np.mean([row["label"] == name for row, name in zip(rows, predicted, strict=True)])
    assert report.figure("Top-1 accuracy").value == pytest.approx(right) and 0.2 < right < 1

    warm = shares[:, [COARSER[name] == "Warm" for name in embedder.classes]].sum(axis=1)
    coarse = ["Warm" if share > 0.5 else "Cold" for share in warm]
    assert [row["coarse_predicted"] for row in rows] == coarse
    expected = np.mean([COARSER[row["label"]] == name for row, name in zip(rows, coarse, strict=True)])
    assert report.figure(COARSE).value == pytest.approx(expected) and right < expected
    # A training image can be shown and compared with, though it was not embedded.
    assert measured.picture("001.Bird/1.jpg")


def test_the_frozen_row_is_of_the_vote_and_says_so(birds: Path, run: Run) -> None:
    report = measure_protocol(
        "cub", birds, HeadedEmbedder(COLOURS), card=CARD, run=run, frozen=lambda: ColourEmbedder("frozen")
    ).report
    vote = measure_protocol("cub", birds, ColourEmbedder(), card=CARD, run=replace(run, classifier="knn")).report
    assert vote.gallery == HALF and vote.protocol.endswith("by the vote of the 20 nearest training images")
    assert report.frozen == vote.figures != report.figures
    assert report.frozen_note is not None
    assert report.frozen_note.endswith(", by the vote of the 20 nearest training images, as it has no head")
    assert [gain.name for gain in report.gains] == ["Top-1 accuracy", "Top-5 accuracy", COARSE]
    for gain in report.gains:
        difference = report.figure(gain.name).value - vote.figure(gain.name).value
        assert gain.difference == pytest.approx(difference, abs=1e-12)


def test_a_test_image_that_is_a_training_image_too_is_told(birds: Path, run: Run) -> None:
    shutil.copy(birds / "images/001.Bird/1.jpg", birds / "images/001.Bird/0.jpg")
    report = measure_protocol("cub", birds, HeadedEmbedder(COLOURS), card=CARD, run=run).report
    assert [(pair.first, pair.second, pair.kind) for pair in report.pairs if pair.leaking] == [
        ("001.Bird/0.jpg", "001.Bird/1.jpg", "same bytes")
    ]


def test_a_head_of_other_classes_is_refused_before_anything_is_embedded(birds: Path, run: Run) -> None:
    lacking = HeadedEmbedder({name: colour for name, colour in COLOURS.items() if name != "102.Bird"})
    other = HeadedEmbedder({**COLOURS, "300.Dodo": (9, 9, 9)})
    plain = ColourEmbedder()
    for embedder, message in (
        (lacking, r"training images of 102\.Bird, which it does not know; choose --classifier knn"),
        (other, r"it knows 300\.Dodo, of which there are no training images; choose --classifier knn"),
        (plain, r"this embedder has no classifier head; choose --classifier knn"),
    ):
        with pytest.raises(InputError, match=message):
            measure_protocol("cub", birds, embedder, card=CARD, run=run)
        assert embedder.seen == 0
    # The vote asks the head nothing.
    assert measure_protocol("cub", birds, other, card=CARD, run=replace(run, classifier="knn")).report.gallery == HALF


def test_what_nobody_chose_is_the_head_only_where_it_knows_the_classes(birds: Path, run: Run) -> None:
    other = HeadedEmbedder({**COLOURS, "300.Dodo": (9, 9, 9)})
    by_head = {"provenance": {"training": {"classifier": "head"}}}
    for embedder, description, wanted in (
        (HeadedEmbedder(COLOURS), by_head, "head"),
        (HeadedEmbedder(COLOURS), {"provenance": {"training": {"classifier": "knn"}}}, "knn"),
        (other, by_head, "knn"),
    ):
        said: list[str] = []
        found = fitting_classifier("cub", birds, embedder, run, description=description, notice=said.append)
        assert found == wanted
        assert len(said) == (embedder is other)
    assert "it knows 300.Dodo, of which there are no training images" in said[0]
    assert said[0].endswith("by the vote of the 20 nearest training images")
