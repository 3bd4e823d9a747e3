"""The frozen row of a catalogue: the same images, queries included, by another embedder."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.evaluation import evaluate_catalogue
from indexer.ingest import ingest
from indexer.measuring import Run, measure_protocol
from retrieval.errors import BusyError, EmbedderError
from retrieval.manifest import read_manifest
from retrieval.model_card import is_trained
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder
from tests.indexer.birds import fix_counts, write_birds

UNTRAINED = "untrained"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "others", 3, seed=4)


@pytest.mark.parametrize("asked", [False, True])
def test_the_same_images_are_measured_again_and_paired(catalogue: Catalogue, others: Path, asked: bool) -> None:
    queries = read_manifest(others) if asked else None
    untrained = ColourEmbedder(f"{UNTRAINED} {asked}")  # its cache is the user's, not the catalogue's
    told = []
    measured = evaluate_catalogue(catalogue, queries=queries, frozen=lambda: untrained, notice=told.append)
    report = measured.report
    assert untrained.seen == 24 + 12 * asked
    assert told == ["measuring the same backbone frozen"]
    assert [figure.name for figure in report.frozen] == [figure.name for figure in report.figures]
    # It sees what the other sees, so there is nothing between them.
    assert [figure.value for figure in report.frozen] == [figure.value for figure in report.figures]
    assert {gain.name for gain in report.gains} == {figure.name for figure in report.figures}
    assert {(gain.difference, gain.p) for gain in report.gains} == {(0.0, 1.0)}
    assert untrained.digest[:12] in report.frozen_note
    evaluate_catalogue(catalogue, queries=queries, frozen=lambda: untrained)
    assert untrained.seen == 24 + 12 * asked  # its vectors were kept


def test_a_worse_embedder_beside_it_makes_a_gain(catalogue: Catalogue, embedder: ColourEmbedder) -> None:
    class Blind(ColourEmbedder):
        def embed(self, images, *, prepared=False):
            vectors = super().embed(images, prepared=prepared)
            vectors[:] = 1 / vectors.shape[1] ** 0.5
            return vectors

    report = evaluate_catalogue(catalogue, frozen=lambda: Blind("blind")).report
    (gain,) = [gain for gain in report.gains if gain.name == "MAP@R"]
    before = {figure.name: figure for figure in report.frozen}["MAP@R"]
    assert gain.difference == pytest.approx(report.figure("MAP@R").value - before.value) and gain.difference > 0.3
    assert gain.low > 0 and gain.p == 0.25  # of the three classes that differ no p is lower


def test_images_that_are_gone_are_told_in_place_of_the_row(tmp_path: Path, embedder: ColourEmbedder) -> None:
    source = draw_pictures(tmp_path / "pictures", 3)
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(source))
        (source / "Paint/Red/000.jpg").unlink()
        (source / "Paint/Red/001.jpg").write_bytes((source / "Paint/Blue/001.jpg").read_bytes())
        report = evaluate_catalogue(made, frozen=lambda: ColourEmbedder(UNTRAINED)).report
        assert report.frozen is None and report.gains == ()
        assert "2 of 12 images are gone or are not what they were" in report.frozen_note

        def refused() -> ColourEmbedder:
            raise EmbedderError("the weights could not be fetched")

        def busy() -> ColourEmbedder:
            raise BusyError("another process is writing")

        # What was measured is not lost over what stands beside it.
        told = evaluate_catalogue(made, frozen=busy).report
        assert "another process is writing" in told.frozen_note and told.figures
        assert "the weights could not be fetched" in evaluate_catalogue(made, frozen=refused).report.frozen_note
        assert evaluate_catalogue(made).report.frozen_note is None


def test_an_embedder_is_trained_when_its_provenance_says_how() -> None:
    assert not is_trained({}) and not is_trained({"provenance": {"tag": "x.in1k"}})
    assert is_trained({"provenance": {"tag": "x.in1k", "training": {"loss": "proxy anchor"}}})


def test_vectors_of_a_named_runtime_are_apart_from_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: ColourEmbedder
) -> None:
    root = write_birds(tmp_path / "birds", each=2)
    fix_counts(monkeypatch, "cub", root)
    each = []
    for runtime in (None, "torch", "openvino"):
        for _ in range(2):
            seen = embedder.seen
            run = Run(cache=tmp_path / "cache", runtime=runtime)
            measure_protocol("cub", root, embedder, card={"digest": "d"}, run=run)
            each.append(embedder.seen - seen)
    assert each[0] > 0 and each == [each[0], 0] * 3
