"""Measuring a catalogue: what is left out, what is refused, and what is embedded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.evaluation import evaluate_catalogue
from indexer.ingest import ingest
from retrieval.errors import InputError, NotFoundError
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder


def test_queries_of_another_folder_become_no_items_and_are_embedded_once(
    catalogue: Catalogue, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    others = read_manifest(draw_pictures(tmp_path / "others", 3, seed=4))
    version, seen = catalogue.version, embedder.seen
    report, refused = evaluate_catalogue(catalogue, queries=others)
    assert (report.queries, report.classes, report.left_out, report.gallery) == (12, 4, 0, 24)
    assert report.recall[1] == 1.0
    assert refused.num_rows == 0
    assert (catalogue.version, embedder.seen) == (version, seen + 12)
    evaluate_catalogue(catalogue, queries=others)
    assert embedder.seen == seen + 12


def test_equal_names_of_other_pictures_exclude_nothing(tmp_path: Path, embedder: ColourEmbedder) -> None:
    # One gallery image a class, and queries of the same names: were they taken for the same, none could be found.
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(draw_pictures(tmp_path / "gallery", 1, seed=1)))
        report, _ = evaluate_catalogue(made, queries=read_manifest(draw_pictures(tmp_path / "queries", 1, seed=2)))
    assert (report.queries, report.left_out, report.recall[1]) == (4, 0, 1.0)


def test_the_same_pictures_are_leave_one_out(catalogue: Catalogue, picture_folder: Path) -> None:
    within, _ = evaluate_catalogue(catalogue)
    against, _ = evaluate_catalogue(catalogue, queries=read_manifest(picture_folder))
    assert against.recall == within.recall
    assert "leave-one-out" in within.protocol


def test_refused_queries_are_named_and_single_ones_left_out(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "queries", 1, seed=7)
    (folder / "Paint/Red/bad.jpg").write_bytes(b"no picture")
    shutil.copytree(folder / "Paint/Blue", folder / "Paint/Purple")
    report, refused = evaluate_catalogue(catalogue, queries=read_manifest(folder))
    assert (report.queries, report.left_out) == (4, 1)
    assert refused.column("uri").to_pylist() == ["Paint/Red/bad.jpg"]


def test_another_column_can_be_the_class(tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder) -> None:
    listing = picture_folder / "list.csv"
    names = ["Red/000", "Red/001", "Green/000", "Green/001", "Blue/000", "Blue/001"]
    listing.write_text("path,warm\n" + "".join(f"Paint/{name}.jpg,{int('Red' in name)}\n" for name in names))
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(listing))
        report, _ = evaluate_catalogue(made, label="warm")
        assert (report.queries, report.classes) == (6, 2)
        with pytest.raises(InputError, match="there is nothing to measure"):
            evaluate_catalogue(made)
        with pytest.raises(NotFoundError, match="no column 'cold'"):
            evaluate_catalogue(made, label="cold")
        with pytest.raises(InputError, match="the queries have no column 'warm'"):
            evaluate_catalogue(made, queries=read_manifest(picture_folder / "Paint"), label="warm")


def test_lost_vectors_are_an_error_not_a_smaller_gallery(catalogue: Catalogue) -> None:
    for part in catalogue.vectors.parts():
        part.unlink()
    with pytest.raises(InputError, match=r"24 items of .* have no vector"):
        evaluate_catalogue(catalogue)
