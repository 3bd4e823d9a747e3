"""Ingest: every input ends as an item or a rejected row, and nothing is done twice."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from indexer import pipeline
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.verification import verify
from retrieval.errors import CatalogueError, EmbedderError, InputError
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder


@pytest.fixture
def empty(tmp_path: Path, embedder: ColourEmbedder) -> Catalogue:
    return Catalogue.create(tmp_path / "catalogue", embedder)


def test_the_same_source_again_embeds_and_changes_nothing(
    catalogue: Catalogue, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    version, seen = catalogue.version, embedder.seen
    assert seen == 24
    summary = ingest(catalogue, read_manifest(picture_folder))
    assert (summary.added, summary.updated, summary.unchanged, summary.embedded) == (0, 0, 24, 0)
    assert (catalogue.version, embedder.seen) == (version, seen)


@pytest.mark.parametrize("commit_every", [1, 5, 24, 1000])
def test_the_size_of_a_commit_changes_nothing_but_the_number_of_versions(
    empty: Catalogue, picture_folder: Path, commit_every: int
) -> None:
    summary = ingest(empty, read_manifest(picture_folder), commit_every=commit_every)
    assert summary.added == summary.embedded == summary.items == 24
    assert empty.version >= -(-24 // commit_every)
    assert empty.items().column("row").to_pylist() == list(range(24))
    assert empty.items().column("id").to_pylist() == sorted(empty.items().column("id").to_pylist())
    assert verify(empty) == []


def test_equal_bytes_are_embedded_once_and_are_two_items(
    empty: Catalogue, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    shutil.copy(picture_folder / "Paint/Red/000.jpg", picture_folder / "Paint/Red/copy.jpg")
    summary = ingest(empty, read_manifest(picture_folder), commit_every=3)
    assert (summary.added, summary.embedded, embedder.seen) == (25, 24, 24)


def test_a_changed_file_gets_a_new_row_and_a_changed_label_keeps_it(
    catalogue: Catalogue, picture_folder: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (30, 20), (1, 2, 3)).save(picture_folder / "Paint/Red/000.jpg")
    summary = ingest(catalogue, read_manifest(picture_folder))
    assert (summary.added, summary.updated, summary.unchanged, summary.items) == (0, 1, 23, 24)
    changed = catalogue.items().filter(pc.field("id") == "Paint/Red/000.jpg").to_pylist()[0]
    assert (changed["row"], changed["width"]) == (24, 30)
    assert len(catalogue.index()) == 24

    listing = picture_folder / "list.csv"
    listing.write_text("path,id,label,price\nPaint/Red/001.jpg,Paint/Red/001.jpg,Scarlet,9.5\n")
    before = catalogue.items().filter(pc.field("id") == "Paint/Red/001.jpg").to_pylist()[0]
    summary = ingest(catalogue, read_manifest(listing))
    assert (summary.updated, summary.embedded, summary.items) == (1, 0, 24)
    after = catalogue.items().filter(pc.field("id") == "Paint/Red/001.jpg").to_pylist()[0]
    assert after == {**before, "label": "Scarlet", "price": 9.5}
    assert verify(catalogue) == []


def test_two_folders_with_the_same_names_do_not_overwrite_each_other(catalogue: Catalogue, tmp_path: Path) -> None:
    other = draw_pictures(tmp_path / "other", 2, seed=5)
    before = catalogue.items()
    summary = ingest(catalogue, read_manifest(other))
    assert (summary.added, summary.rejected, summary.items) == (0, 8, 24)
    assert catalogue.items().equals(before)
    reasons = catalogue.rejected.read().column("reason").to_pylist()
    assert all("is taken by another image" in reason and "--prefix" in reason for reason in reasons)
    summary = ingest(catalogue, read_manifest(other, prefix="other/"))
    assert (summary.added, summary.rejected, summary.items) == (8, 0, 32)
    assert catalogue.rejected.read().num_rows == 0  # accepted now


def test_a_source_that_moved_is_recognised_by_its_bytes(
    catalogue: Catalogue, picture_folder: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    moved = tmp_path / "moved"
    picture_folder.rename(moved)
    summary = ingest(catalogue, read_manifest(moved))
    assert (summary.updated, summary.embedded, summary.items, embedder.seen) == (24, 0, 24, 24)
    assert set(catalogue.items().column("source").to_pylist()) == {moved.as_posix()}
    assert catalogue.items().column("row").to_pylist() == list(range(24))


def test_rejected_inputs_are_counted_once_and_forgiven_when_mended(empty: Catalogue, picture_folder: Path) -> None:
    bad = picture_folder / "Paint" / "Red" / "bad.jpg"
    bad.write_bytes(b"not a picture")
    (picture_folder / "Paint" / "Red" / "none.jpg").write_bytes(b"")
    for _ in range(2):
        summary = ingest(empty, read_manifest(picture_folder), commit_every=4)
        assert (summary.rejected, summary.items) == (2, 24)
        rows = empty.rejected.read().to_pylist()
        assert sorted(row["uri"] for row in rows) == ["Paint/Red/bad.jpg", "Paint/Red/none.jpg"]
        assert all(row["reason"] for row in rows)
    shutil.copy(picture_folder / "Paint/Red/000.jpg", bad)
    summary = ingest(empty, read_manifest(picture_folder))
    assert (summary.added, summary.rejected) == (1, 1)
    assert empty.rejected.read().column("uri").to_pylist() == ["Paint/Red/none.jpg"]


def test_every_input_is_counted_in_exactly_one_place(empty: Catalogue, picture_folder: Path) -> None:
    (picture_folder / "Paint" / "Blue" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    listing = picture_folder / "list.csv"
    listing.write_text(
        "path,id\nPaint/Red/000.jpg,a\nPaint/Red/001.jpg,a\nPaint/Blue/bad.jpg,b\nPaint/none.jpg,c\n"
        "../outside.jpg,d\nPaint\\Red\\002.jpg,e\n"
    )
    calls: list[tuple[int, int, int]] = []
    summary = ingest(empty, read_manifest(listing), progress=lambda *numbers: calls.append(numbers))
    assert (summary.added, summary.rejected) == (2, 4)
    assert calls[-1] == (6, 6, 4)
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_a_column_of_another_type_is_refused_before_anything_is_embedded(
    empty: Catalogue, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    listing = picture_folder / "list.csv"
    listing.write_text("path,price\nPaint/Red/000.jpg,3\n")
    ingest(empty, read_manifest(listing))
    listing.write_text("path,price\nPaint/Red/001.jpg,cheap\n")
    with pytest.raises(InputError, match="column 'price' is int64 in the catalogue but string"):
        ingest(empty, read_manifest(listing))
    assert (embedder.seen, empty.items().num_rows) == (1, 1)
    listing.write_text("path,price,colour\nPaint/Red/001.jpg,4,red\n")
    ingest(empty, read_manifest(listing))
    assert empty.items(["price", "colour"]).to_pylist() == [
        {"price": 3, "colour": None},
        {"price": 4, "colour": "red"},
    ]


def test_an_interrupt_keeps_what_was_embedded(empty: Catalogue, picture_folder: Path, embedder: ColourEmbedder) -> None:
    def interrupt(done: int, total: int, rejected: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(empty, read_manifest(picture_folder), commit_every=6, progress=interrupt)
    assert empty.items().num_rows == 12
    kept = embedder.seen
    assert kept >= 14
    with Catalogue.open(empty.path, embedder=embedder) as again:
        summary = ingest(again, read_manifest(picture_folder), commit_every=6)
        assert summary.items == 24
        assert embedder.seen == 24
        assert verify(again) == []


def test_an_embedder_that_fails_leaves_the_catalogue_as_it_was(empty: Catalogue, picture_folder: Path) -> None:
    class Failing(ColourEmbedder):
        def embed(self, images, *, prepared=False):
            if self.seen >= 8:
                raise MemoryError("no memory")
            return super().embed(images)

    with pytest.raises(MemoryError):
        ingest(empty, read_manifest(picture_folder), embedder=Failing(), commit_every=4)
    assert verify(empty) == []
    assert ingest(empty, read_manifest(picture_folder)).items == 24


def test_lost_vectors_are_made_again(catalogue: Catalogue, picture_folder: Path, embedder: ColourEmbedder) -> None:
    for part in catalogue.vectors.parts():
        part.unlink()
    (problem,) = verify(catalogue)
    assert "24 items have no vector" in problem.what
    summary = ingest(catalogue, read_manifest(picture_folder))
    assert (summary.embedded, summary.unchanged) == (24, 24)
    assert verify(catalogue) == []
    assert len(catalogue.index()) == 24


def test_a_list_that_names_a_file_twice_has_each_refusal_once_a_line(empty: Catalogue, picture_folder: Path) -> None:
    listing = picture_folder / "list.csv"
    listing.write_text("path,id\nnone.png,1\nnone.png,2\nnone.png,3\nPaint/Red/000.jpg,4\n,5\n")
    versions = []
    for _ in range(3):
        summary = ingest(empty, read_manifest(listing))
        assert (summary.rejected, summary.items) == (4, 1)
        assert empty.rejected.read().num_rows == 4
        versions.append(empty.rejected.version)
    assert len(set(versions)) == 1
    listing.write_text("path,id\nPaint/Red/000.jpg,4\n")
    assert ingest(empty, read_manifest(listing)).rejected == 0
    assert empty.rejected.read().num_rows == 0


def test_one_list_does_not_forgive_what_another_refused(empty: Catalogue, picture_folder: Path) -> None:
    for name in ("train", "test"):
        listing = picture_folder / f"{name}.csv"
        listing.write_text(f"path\n{name}-lost.jpg\nPaint/Red/000.jpg\n")
        ingest(empty, read_manifest(listing))
    assert sorted(empty.rejected.read().column("uri").to_pylist()) == ["test-lost.jpg", "train-lost.jpg"]


def test_what_is_not_a_number_is_no_change(empty: Catalogue, picture_folder: Path) -> None:
    table = pa.table({"path": ["Paint/Red/000.jpg"], "price": [float("nan")]})
    pq.write_table(table, picture_folder / "list.parquet")
    ingest(empty, read_manifest(picture_folder / "list.parquet"))
    version = empty.version
    assert ingest(empty, read_manifest(picture_folder / "list.parquet")).unchanged == 1
    assert empty.version == version


def test_a_column_in_another_spelling_is_the_same_column(empty: Catalogue, picture_folder: Path) -> None:
    listing = picture_folder / "list.csv"
    listing.write_text("path,Price\nPaint/Red/000.jpg,3\n")
    ingest(empty, read_manifest(listing))
    listing.write_text("path,price\nPaint/Red/001.jpg,4\n")
    ingest(empty, read_manifest(listing))
    assert empty.items(["Price"]).to_pylist() == [{"Price": 3}, {"Price": 4}]


def test_an_index_that_wants_more_vectors_is_exact_until_there_are(
    tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    pytest.importorskip("faiss")
    with Catalogue.create(tmp_path / "c", embedder, index="IVF64,Flat") as made:
        with pytest.warns(UserWarning, match="IVF64,Flat cannot be built yet, and search is exact"):
            assert ingest(made, read_manifest(picture_folder)).items == 24
            assert len(made.index()) == 24
        more = read_manifest(draw_pictures(tmp_path / "more", 60, seed=8), prefix="more/")
        ingest(made, more)
        assert made.index().describe()["kind"] != "exact"
        assert len(made.index()) == 264


def test_a_file_that_broke_keeps_its_item_and_says_so(catalogue: Catalogue, picture_folder: Path) -> None:
    (picture_folder / "Paint/Red/000.jpg").write_text("no picture any more")
    summary = ingest(catalogue, read_manifest(picture_folder))
    assert (summary.unchanged, summary.rejected, summary.items) == (23, 1, 24)
    (row,) = catalogue.rejected.read().to_pylist()
    assert row["reason"].endswith("the item as it was indexed before is kept")


def test_large_pictures_do_not_pile_up(empty: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Room for a few of these strips at a time: more would wait for ever if the order of things were wrong.
    monkeypatch.setattr(pipeline, "MEMORY", 2_000_000)
    folder = tmp_path / "strips"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (40, 4000), (number * 6, 20, 90)).save(folder / f"{number:02d}.png")
    assert ingest(empty, read_manifest(folder)).items == 40


@pytest.mark.parametrize("ending", [KeyboardInterrupt, CatalogueError])
def test_whatever_ends_a_commit_what_was_embedded_ahead_is_kept(
    empty: Catalogue, picture_folder: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch, ending: type
) -> None:
    def end(*_: object, **__: object) -> None:
        deadline = threading.Event()
        while embedder.seen < 24 and not deadline.wait(0.01):
            pass
        raise ending("in the middle of a commit")

    with monkeypatch.context() as patched:
        patched.setattr(Catalogue, "commit", end)
        with pytest.raises(ending):
            ingest(empty, read_manifest(picture_folder), commit_every=4)
    assert len(empty.vectors.keys()) == 24
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "embed", "gather"))]
    summary = ingest(empty, read_manifest(picture_folder))
    assert (summary.items, embedder.seen) == (24, 24)


def test_an_embedder_that_fails_half_way_keeps_what_it_did(empty: Catalogue, picture_folder: Path) -> None:
    class Failing(ColourEmbedder):
        at_once = 1

        def embed(self, images, *, prepared=False):
            if self.seen >= 12:
                raise EmbedderError("no memory left")
            return super().embed(images)

    with pytest.raises(EmbedderError):
        ingest(empty, read_manifest(picture_folder), embedder=Failing(), commit_every=4)
    assert len(empty.vectors.keys()) == 12
