"""Measuring a catalogue: what is left out, what is refused, what is embedded, and what an index costs."""

from __future__ import annotations

import builtins
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer import evaluation, faiss_index
from indexer.catalogue import Catalogue
from indexer.evaluation import evaluate_catalogue, with_pairs
from indexer.index import INDEX_KINDS, VectorIndex
from indexer.ingest import ingest
from retrieval import images
from retrieval.errors import InputError, MissingExtraError, NotFoundError
from retrieval.evaluation import Question
from retrieval.manifest import read_manifest
from retrieval.report import QUERIES_SCHEMA, Pair
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder
from tests.indexer.reports import sample_report

LOOKED = Question("", "", findings=True)
IVF = "IVF4,Flat"


def test_queries_of_another_folder_become_no_items_and_are_embedded_once(
    catalogue: Catalogue, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    others = read_manifest(draw_pictures(tmp_path / "others", 3, seed=4))
    version, seen = catalogue.version, embedder.seen
    measured = evaluate_catalogue(catalogue, queries=others)
    report = measured.report
    assert (report.queries, report.class_count, report.left_out, report.gallery) == (12, 4, 0, 24)
    assert report.figure("Recall@1").value == 1.0
    assert report.rejected == []
    assert measured.queries.schema == QUERIES_SCHEMA and measured.queries.num_rows == 12
    assert (catalogue.version, embedder.seen) == (version, seen + 12)
    again = evaluate_catalogue(catalogue, queries=others)
    assert again.queries.equals(measured.queries)
    assert report.embedder["runtimes"] == {"numpy": 36}
    assert evaluate_catalogue(catalogue).report.embedder["runtimes"] == {"numpy": 24}
    assert embedder.seen == seen + 12


def test_equal_names_of_other_pictures_exclude_nothing(tmp_path: Path, embedder: ColourEmbedder) -> None:
    # One gallery image a class, and queries of the same names: were they taken for the same, none could be found.
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(draw_pictures(tmp_path / "gallery", 1, seed=1)))
        measured = evaluate_catalogue(made, queries=read_manifest(draw_pictures(tmp_path / "queries", 1, seed=2)))
        report = measured.report
        assert (report.queries, report.left_out, report.figure("Recall@1").value) == (4, 0, 1.0)
        name = "Paint/Red/000.jpg"
        assert f"query {name}" in measured.queries.column("id").to_pylist()
        for id, folder in ((name, "gallery"), (f"query {name}", "queries")):
            assert measured.picture(id) == images.thumbnail((tmp_path / folder / name).read_bytes(), size=256)


def test_the_same_pictures_are_leave_one_out_and_no_leak(catalogue: Catalogue, picture_folder: Path) -> None:
    within = evaluate_catalogue(catalogue, question=LOOKED)
    against = evaluate_catalogue(catalogue, queries=read_manifest(picture_folder), question=LOOKED)
    assert against.report.figures == within.report.figures
    assert against.queries.equals(within.queries)
    assert [pair for pair in against.report.pairs if pair.kind == "same bytes"] == []  # not each with itself
    assert "leave-one-out" in within.report.protocol and "queries of pictures" in against.report.protocol


def test_refused_queries_are_named_and_single_ones_left_out(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "queries", 1, seed=7)
    (folder / "Paint/Red/bad.jpg").write_bytes(b"no picture")
    shutil.copytree(folder / "Paint/Blue", folder / "Paint/Purple")
    told: list[tuple[int, int, int]] = []
    report = evaluate_catalogue(
        catalogue, queries=read_manifest(folder), progress=lambda *counts: told.append(counts)
    ).report
    assert (report.queries, report.left_out) == (4, 1)
    ((uri, reason),) = report.rejected
    assert uri == "Paint/Red/bad.jpg" and reason
    assert told[-1] == (6, 6, 1)


def test_another_column_can_be_the_class(tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder) -> None:
    listing = picture_folder / "list.csv"
    names = ["Red/000", "Red/001", "Green/000", "Green/001", "Blue/000", "Blue/001"]
    listing.write_text("path,warm\n" + "".join(f"Paint/{name}.jpg,{int('Red' in name)}\n" for name in names))
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(listing))
        report = evaluate_catalogue(made, label="warm").report
        assert (report.queries, report.class_count) == (6, 2)
        assert "class = warm" in report.protocol
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


def test_pictures_of_items_and_of_queries(catalogue: Catalogue, picture_folder: Path, tmp_path: Path) -> None:
    others = draw_pictures(tmp_path / "others", 1, seed=4)
    (others / "Paint/Red/000.jpg").rename(others / "Paint/Red/new.jpg")
    picture = evaluate_catalogue(catalogue, queries=read_manifest(others)).picture
    assert picture("Paint/Red/new.jpg") == images.thumbnail((others / "Paint/Red/new.jpg").read_bytes(), size=256)
    item = images.thumbnail((picture_folder / "Paint/Red/005.jpg").read_bytes(), size=256)
    assert picture("Paint/Red/005.jpg") == item
    assert evaluate_catalogue(catalogue).picture("Paint/Red/005.jpg") == item
    with pytest.raises(NotFoundError, match="Paint/none"):
        picture("Paint/none.jpg")


def test_equal_bytes_are_found_across_the_sides_and_within_and_conflicting_labels_first(
    picture_folder: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    paint = picture_folder / "Paint"
    shutil.copy(paint / "Red/000.jpg", paint / "Red/again.jpg")
    shutil.copy(paint / "Blue/000.jpg", paint / "Green/blue.jpg")
    others = draw_pictures(tmp_path / "others", 1, seed=4)
    shutil.copy(paint / "Sand/001.jpg", others / "Paint/Sand/leaked.jpg")
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(picture_folder))
        within = evaluate_catalogue(made, question=LOOKED).report
        against = evaluate_catalogue(made, queries=read_manifest(others), question=LOOKED).report
        assert evaluate_catalogue(made).report.pairs == []  # nothing was looked for
    told = [(pair.first, pair.second, pair.where, pair.conflicting) for pair in within.pairs if pair.similarity == 1]
    assert [pair.kind for pair in within.pairs[:1]] == ["same bytes"]
    blue = ("Paint/Blue/000.jpg", "Paint/Green/blue.jpg", "test/test", True)
    red = ("Paint/Red/000.jpg", "Paint/Red/again.jpg", "test/test", False)
    assert [pair for pair in told if pair in (blue, red)] == [blue, red]
    assert within.pairs[0].labels == ("Paint/Blue", "Paint/Green")
    of_bytes = [(pair.first, pair.second, pair.where) for pair in against.pairs if pair.kind == "same bytes"]
    assert ("Paint/Sand/001.jpg", "Paint/Sand/leaked.jpg", "gallery/query") in of_bytes
    assert len(of_bytes) == 3


def test_pairs_beyond_the_most_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PAIRS", 2)
    same = [Pair("a", "b", "test/test", ("x", "x"), "same bytes", 1.0)]
    near = [
        Pair("b", "a", "test/test", ("x", "x"), "nearly the same vector", 0.99),  # known by its bytes
        Pair("c", "d", "query/gallery", ("x", "y"), "nearly the same vector", 0.98),
        Pair("e", "f", "test/test", ("x", "y"), "nearly the same vector", 0.97),
    ]
    report = with_pairs(replace(sample_report(), pairs=near), same)
    assert (report.pairs, report.pairs_left_out) == ([same[0], near[1]], 1)
    assert (report.leaks, report.conflicts, report.candidates) == (0, 0, 2)
    leaks = [Pair(f"l{at}", f"m{at}", "train/test", ("x", "x"), "same bytes", 1.0) for at in range(5)]
    clashes = [Pair(f"n{at}", f"o{at}", "train/train", ("x", "y"), "same bytes", 1.0) for at in range(5)]
    report = with_pairs(replace(sample_report(), pairs=[]), clashes + leaks)
    assert [pair.where for pair in report.pairs] == ["train/test"] * 2 and (report.leaks, report.conflicts) == (5, 5)


@pytest.fixture
def mixed(picture_folder: Path, tmp_path: Path, embedder: ColourEmbedder) -> Catalogue:
    """Two classes, each of two colours: half of a class lies in other cells of an index."""
    listing = picture_folder / "mixed.csv"
    names = sorted(path.relative_to(picture_folder).as_posix() for path in picture_folder.rglob("*.jpg"))
    kinds = ("one" if "Red" in name or "Blue" in name else "two" for name in names)
    listing.write_text("path,label\n" + "".join(f"{name},{kind}\n" for name, kind in zip(names, kinds, strict=True)))
    made = Catalogue.create(tmp_path / "mixed", embedder)
    ingest(made, read_manifest(listing))
    return made


def look_into(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Let an IVF index look into so many of its cells."""
    kind = INDEX_KINDS["faiss"]

    def build(dim: int, spec: str, device: str) -> VectorIndex:
        index = kind.build(dim, spec, device)
        index.nprobe = cells
        return index

    monkeypatch.setitem(INDEX_KINDS, "faiss", replace(kind, build=build))


def test_an_index_that_looks_everywhere_measures_what_exact_search_does(
    mixed: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    look_into(monkeypatch, 4)
    question = Question("", "", ks=(1, 2, 4, 8, 23))  # so deep that everything is returned
    with mixed:
        exact = evaluate_catalogue(mixed, question=question)
        through = evaluate_catalogue(mixed, question=question, through=IVF)
    assert "exact search" in exact.report.protocol and f"approximate search through {IVF}" in through.report.protocol
    assert through.report.figures == exact.report.figures
    assert through.queries.drop_columns("nearest_similarity").equals(exact.queries.drop_columns("nearest_similarity"))


def test_an_index_finds_nothing_nearer_than_exact_search_and_what_it_misses_has_no_rank(
    mixed: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    look_into(monkeypatch, 1)
    with mixed:
        exact = evaluate_catalogue(mixed).queries.to_pylist()
        measured = evaluate_catalogue(mixed, through=IVF)
    missed = 0
    for all_, some in zip(exact, measured.queries.to_pylist(), strict=True):
        assert (some["id"], some["candidates"], len(some["ranks"])) == (all_["id"], 23, 11)
        assert some["nearest_similarity"] <= all_["nearest_similarity"] + 1e-6
        found = [rank for rank in some["ranks"] if rank is not None]
        missed += 11 - len(found)
        assert found == sorted(set(found))
        assert some["ranks"] == found + [None] * (11 - len(found))  # nulls last
        # What is returned can only move up, where a nearer image lies in a cell that was not looked into.
        assert all(rank <= before for rank, before in zip(found, all_["ranks"], strict=False))
        assert (some["right"] is None) == (some["right_similarity"] is None) == (not found)
        if found:
            assert some["right_similarity"] <= all_["right_similarity"] + 1e-6
    assert missed > 24
    recall = np.mean([(row["ranks"][0] or 99) <= 1 for row in measured.queries.to_pylist()])
    assert measured.report.figure("Recall@1").value == pytest.approx(recall)


def test_without_the_package_of_an_index_its_extra_is_named(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    faiss_index._faiss.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    try:
        with pytest.raises(MissingExtraError, match=r"lookalike\[faiss\]"):
            evaluate_catalogue(catalogue, through=IVF)
    finally:
        monkeypatch.undo()
        faiss_index._faiss.cache_clear()


def test_no_factory_string_is_an_error_before_anything_is_read(catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match="Rubbish"):
        evaluate_catalogue(catalogue, label="none", through="Rubbish")
