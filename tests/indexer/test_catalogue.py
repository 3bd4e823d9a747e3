"""The catalogue: created, opened, versioned, locked, rolled back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from indexer.catalogue import Catalogue
from indexer.description import describe
from indexer.ingest import ingest
from indexer.items import ITEMS_SCHEMA
from indexer.search import search
from retrieval.errors import BusyError, CatalogueError, DamagedError, EmbedderError, InputError, NotFoundError
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder


def test_the_folder_is_what_the_design_says(catalogue: Catalogue) -> None:
    names = {path.name for path in catalogue.path.iterdir()}
    assert {"items", "rejected", "vectors", "embedder", "catalogue.json"} <= names
    assert catalogue.items().schema.names == ITEMS_SCHEMA.names
    for ours, theirs in zip(ITEMS_SCHEMA, catalogue.items().schema, strict=True):
        assert ours.type == theirs.type, ours.name
    (part,) = catalogue.vectors.parts()
    assert part.parent == catalogue.path / "vectors" / catalogue.digest


def test_rows_are_given_once_and_ids_are_the_paths(catalogue: Catalogue) -> None:
    items = catalogue.items()
    assert items.column("row").to_pylist() == list(range(24))
    first = items.to_pylist()[0]
    assert first["id"] == first["uri"] == "Paint/Blue/000.jpg"
    assert first["label"] == "Paint/Blue"
    assert (first["width"], first["height"]) == (48, 40)
    assert len(first["sha256"]) == 32


def test_an_opened_catalogue_is_the_one_that_was_closed(catalogue: Catalogue, embedder: ColourEmbedder) -> None:
    before = catalogue.items()
    catalogue.close()
    with Catalogue.open(catalogue.path, embedder=embedder) as again:
        assert again.items().equals(before)
        assert again.digest == embedder.digest
        assert len(again.index()) == 24


def test_columns_can_be_chosen_and_an_unknown_one_is_named(catalogue: Catalogue) -> None:
    assert catalogue.items(["label", "id"]).column_names == ["label", "id"]
    with pytest.raises(NotFoundError, match="no column 'prise'; it has 'row', 'id'"):
        catalogue.items(["prise"])


def test_an_earlier_version_can_be_opened_but_not_written(
    catalogue: Catalogue, embedder: ColourEmbedder, tmp_path: Path
) -> None:
    version = catalogue.version
    ingest(catalogue, read_manifest(draw_pictures(tmp_path / "more", 2, seed=9), prefix="more/"))
    assert catalogue.version > version
    with Catalogue.open(catalogue.path, version=version, embedder=embedder) as old:
        assert old.items().num_rows == 24
        assert len(old.index()) == 24
        assert set(search(old, ids=["Paint/Red/000.jpg"], k=99).column("id").to_pylist()) <= set(
            old.items().column("id").to_pylist()
        )
        with pytest.raises(CatalogueError, match=f"version {version} .* is open for reading"), old.writing():
            pass
    assert catalogue.items().num_rows == 32


def test_rollback_restores_the_items_and_never_gives_a_row_twice(
    catalogue: Catalogue, embedder: ColourEmbedder, tmp_path: Path
) -> None:
    version, before = catalogue.version, catalogue.items()
    more = read_manifest(draw_pictures(tmp_path / "more", 2, seed=9), prefix="more/")
    ingest(catalogue, more)
    catalogue.rollback(version)
    assert catalogue.items().equals(before)
    assert len(catalogue.index()) == 24
    seen = embedder.seen
    ingest(catalogue, more)
    assert embedder.seen == seen  # the vectors were still in the cache
    assert min(catalogue.items().column("row").to_pylist()[24:]) >= 32
    assert [entry["version"] for entry in catalogue.versions()] == list(range(catalogue.version, -1, -1))


def test_rollback_to_the_newest_version_has_nothing_to_do(catalogue: Catalogue) -> None:
    version, items = catalogue.version, catalogue.items()
    assert catalogue.rollback(version) == version
    assert (catalogue.version, catalogue.versions()[0]["version"]) == (version, version)
    assert catalogue.items().equals(items)
    with pytest.raises(NotFoundError, match=f"has no version {version + 1}"):
        catalogue.rollback(version + 1)


def test_a_reader_follows_the_writer(catalogue: Catalogue, embedder: ColourEmbedder, tmp_path: Path) -> None:
    with Catalogue.open(catalogue.path, embedder=embedder) as reader:
        assert len(reader.index()) == 24
        ingest(catalogue, read_manifest(draw_pictures(tmp_path / "more", 1, seed=9), prefix="more/"))
        assert reader.refresh()
        assert not reader.refresh()
        assert reader.items().num_rows == 28
        hits = search(reader, ids=["more/Paint/Red/000.jpg"], k=3)
        assert hits.column("id").to_pylist()[0] == "more/Paint/Red/000.jpg"


def test_a_second_writer_is_turned_away(catalogue: Catalogue, embedder: ColourEmbedder, picture_folder: Path) -> None:
    with Catalogue.open(catalogue.path, embedder=embedder) as other, catalogue.writing():
        with pytest.raises(BusyError, match="another process is writing"):
            ingest(other, read_manifest(picture_folder))
        assert search(other, ids=["Paint/Red/000.jpg"]).num_rows == 10  # reading needs no lock
    with Catalogue.open(catalogue.path, embedder=embedder) as other:
        assert ingest(other, read_manifest(picture_folder)).unchanged == 24


def test_what_cannot_be_a_catalogue_is_refused(catalogue: Catalogue, embedder: ColourEmbedder, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no catalogue at"):
        Catalogue.open(tmp_path / "nowhere")
    with pytest.raises(CatalogueError, match="is a catalogue already"):
        Catalogue.create(catalogue.path, embedder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_bytes(b"")
    with pytest.raises(CatalogueError, match="holds other things"):
        Catalogue.create(tmp_path / "full", embedder)
    with pytest.raises(CatalogueError, match="is a file, and a catalogue is a folder"):
        Catalogue.create(tmp_path / "full" / "thesis.doc", embedder)
    (tmp_path / "mine" / "items").mkdir(parents=True)
    (tmp_path / "mine" / "items" / "thesis.doc").write_bytes(b"years")
    with pytest.raises(CatalogueError, match="holds other things"):
        Catalogue.create(tmp_path / "mine", embedder)
    assert (tmp_path / "mine" / "items" / "thesis.doc").read_bytes() == b"years"
    with pytest.raises(CatalogueError, match="File name too long"):
        Catalogue.open(tmp_path / ("n" * 300))
    with pytest.raises(InputError, match="was made with embedder"):
        Catalogue.open(catalogue.path, embedder=ColourEmbedder("another"))


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 99})])
def test_a_damaged_about_file_is_named(catalogue: Catalogue, content: str) -> None:
    (catalogue.path / "catalogue.json").write_text(content)
    with pytest.raises((DamagedError, CatalogueError), match=r"catalogue"):
        Catalogue.open(catalogue.path)


def test_a_creation_that_was_killed_half_way_is_gone_through_again(tmp_path: Path, embedder: ColourEmbedder) -> None:
    made = Catalogue.create(tmp_path / "c", embedder)
    made.close()
    (made.path / "catalogue.json").unlink()  # what is written last
    with Catalogue.create(tmp_path / "c", embedder) as again:
        assert again.items().num_rows == 0


def test_an_embedder_that_was_changed_on_disk_is_not_used(catalogue: Catalogue) -> None:
    catalogue.close()
    with Catalogue.open(catalogue.path) as opened, pytest.raises((DamagedError, EmbedderError)):
        opened.embedder()


def test_the_description_counts(catalogue: Catalogue) -> None:
    about = describe(catalogue)
    assert (about["items"], about["labels"], about["unlabelled"], about["rejected"]) == (24, 4, 0, 0)
    assert about["index"] == "exact"
    assert sum(about["sources"].values()) == 24
    assert about["bytes"] > 0
    assert about["calibration"] is None


def test_commit_numbers_new_rows_only(catalogue: Catalogue) -> None:
    items = catalogue.items()
    row = items.slice(0, 1).set_column(0, pa.field("row", pa.int64()), pa.array([None], pa.int64()))
    row = row.set_column(1, ITEMS_SCHEMA.field("id"), pa.array(["new"]))
    with catalogue.writing():
        catalogue.commit(row)
        assert catalogue.items().column("row").to_pylist()[-1] == 24
        same = catalogue.commit(row.slice(0, 0))
    assert same == catalogue.version
    np.testing.assert_array_equal(np.diff(catalogue.items().column("row").to_numpy()) > 0, True)
