"""Verify finds what was planted, and repair makes it good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.verification import verify
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder


def test_a_sound_catalogue_has_no_problems(catalogue: Catalogue) -> None:
    assert verify(catalogue, sources=True) == []


def test_a_damaged_vector_file_is_found_moved_aside_and_made_again(
    catalogue: Catalogue, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    (part,) = catalogue.vectors.parts()
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 0xFF
    part.write_bytes(bytes(data))
    (problem,) = verify(catalogue)
    assert problem.where == str(part)
    verify(catalogue, repair=True)
    assert not part.exists()
    assert part.with_suffix(".damaged").exists()
    summary = ingest(catalogue, read_manifest(picture_folder))
    assert (summary.embedded, summary.unchanged) == (24, 24)
    assert verify(catalogue) == []


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_changed_embedder_is_found(catalogue: Catalogue, name: str, gone: bool) -> None:
    path = catalogue.path / "embedder" / catalogue.digest / name
    path.unlink() if gone else path.write_bytes(path.read_bytes() + b" ")
    (problem,) = verify(catalogue)
    assert problem.fatal
    assert problem.where == str(path.parent)


def test_a_cut_items_file_is_damage(catalogue: Catalogue, embedder: ColourEmbedder) -> None:
    for file in (catalogue.path / "items").glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-20])
    catalogue.close()
    with Catalogue.open(catalogue.path, embedder=embedder) as again:
        (problem,) = verify(again)
    assert problem.fatal
    assert "cannot be read whole" in problem.what


def test_sources_that_changed_or_vanished_are_named(catalogue: Catalogue, picture_folder: Path) -> None:
    (picture_folder / "Paint/Red/000.jpg").unlink()
    (picture_folder / "Paint/Red/001.jpg").write_bytes(b"other")
    problems = {problem.where: problem.what for problem in verify(catalogue, sources=True)}
    assert set(problems) == {"Paint/Red/000.jpg", "Paint/Red/001.jpg"}
    assert problems["Paint/Red/001.jpg"] == "has changed since it was indexed"


def test_a_damaged_view_is_found_and_repaired(tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder) -> None:
    pytest.importorskip("faiss")
    with Catalogue.create(tmp_path / "c", embedder, index="Flat") as made:
        ingest(made, read_manifest(picture_folder))
        view = made.path / "index" / made.digest / "view.json"
        view.write_text(json.dumps({"sha256": {"vectors.index": "0", "rows.npy": "0"}}))
        (problem,) = verify(made, repair=True)
        assert "index" in problem.where
        assert verify(made) == []
        ingest(made, read_manifest(picture_folder))
        assert view.exists()
