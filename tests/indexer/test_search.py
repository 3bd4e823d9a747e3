"""Search: an indexed image finds itself first, by any road."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.catalogue import Catalogue
from indexer.hits_page import hits_page
from indexer.ingest import ingest
from indexer.search import HITS_SCHEMA, item, search, thumbnail
from retrieval.errors import ImageError, InputError, NotFoundError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder


def first(hits) -> list[str]:
    return [row["id"] for row in hits.to_pylist() if row["rank"] == 1]


def test_every_indexed_image_finds_itself_first_by_file_bytes_and_id(
    catalogue: Catalogue, picture_folder: Path
) -> None:
    ids = catalogue.items().column("id").to_pylist()
    files = [picture_folder / id for id in ids]
    assert first(search(catalogue, images=files, k=3)) == ids
    assert first(search(catalogue, images=[path.read_bytes() for path in files], k=1)) == ids
    assert first(search(catalogue, ids=ids, k=3)) == ids
    stored, _ = catalogue.vectors.read(catalogue.items().column("sha256"))
    assert first(search(catalogue, vectors=stored, k=3)) == ids


def test_hits_are_a_table_as_promised(catalogue: Catalogue, picture_folder: Path) -> None:
    paths = [picture_folder / "Paint/Red/000.jpg", picture_folder / "Paint/Blue/003.jpg"]
    hits = search(catalogue, images=paths, k=5)
    assert hits.schema.names == HITS_SCHEMA.names
    assert [field.type for field in hits.schema] == [field.type for field in HITS_SCHEMA]
    assert hits.column("query").to_pylist() == [str(paths[0])] * 5 + [str(paths[1])] * 5
    assert hits.column("rank").to_pylist() == [1, 2, 3, 4, 5] * 2
    similarity = hits.column("similarity").to_numpy().reshape(2, 5)
    assert (np.diff(similarity, axis=1) <= 0).all()
    np.testing.assert_allclose(similarity[:, 0], 1, atol=1e-6)
    assert set(hits.column("label").to_pylist()[:5]) == {"Paint/Red"}


def test_the_order_is_that_of_a_direct_computation(catalogue: Catalogue) -> None:
    items = catalogue.items()
    stored, _ = catalogue.vectors.read(items.column("sha256"))
    unit = stored.astype(np.float64) / np.linalg.norm(stored.astype(np.float64), axis=1, keepdims=True)
    ids = items.column("id").to_pylist()
    for query in range(0, 24, 5):
        hits = search(catalogue, ids=[ids[query]], k=24)
        expected = unit @ unit[query]
        assert [ids.index(id) for id in hits.column("id").to_pylist()] == np.argsort(-expected, kind="stable").tolist()
        np.testing.assert_allclose(hits.column("similarity"), np.sort(expected)[::-1], atol=1e-5)


def test_many_copies_all_come_before_others_and_each_finds_itself(catalogue: Catalogue, picture_folder: Path) -> None:
    original = picture_folder / "Paint/Red/000.jpg"
    for number in range(15):
        shutil.copy(original, picture_folder / f"Paint/Red/copy{number:02d}.jpg")
    ingest(catalogue, read_manifest(picture_folder))
    copies = [id for id in catalogue.items().column("id").to_pylist() if "copy" in id]
    assert len(copies) == 15
    assert first(search(catalogue, ids=copies, k=4)) == copies
    hits = search(catalogue, images=[original], k=16).column("id").to_pylist()
    assert sorted(hits) == sorted([*copies, "Paint/Red/000.jpg"])


def test_a_new_picture_is_embedded_and_finds_its_kind(catalogue: Catalogue, embedder: ColourEmbedder) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (205, 45, 45)).save(buffer, "PNG")
    seen = embedder.seen
    hits = search(catalogue, images=[buffer.getvalue()], k=3)
    assert embedder.seen == seen + 1
    assert hits.column("query").to_pylist() == ["image 0"] * 3
    assert set(hits.column("label").to_pylist()) == {"Paint/Red"}


def test_an_indexed_picture_needs_no_network(
    catalogue: Catalogue, picture_folder: Path, embedder: ColourEmbedder
) -> None:
    seen = embedder.seen
    search(catalogue, images=[picture_folder / "Paint/Red/000.jpg"])
    assert embedder.seen == seen


def test_k_beyond_the_catalogue_gives_what_there_is(catalogue: Catalogue, tmp_path: Path) -> None:
    assert search(catalogue, ids=["Paint/Red/000.jpg"], k=1000).num_rows == 24
    with Catalogue.create(tmp_path / "empty", ColourEmbedder()) as empty:
        hits = search(empty, vectors=np.ones((2, ColourEmbedder.dim)), k=5)
        assert hits.num_rows == 0
        assert hits.schema.names == HITS_SCHEMA.names


def test_wrong_questions_are_one_sentence(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exactly one of"):
        search(catalogue)
    with pytest.raises(InputError, match="exactly one of"):
        search(catalogue, ids=["a"], vectors=np.ones((1, 48)))
    with pytest.raises(InputError, match="k must be at least 1"):
        search(catalogue, ids=["a"], k=0)
    with pytest.raises(InputError, match=r"vectors must be \(n, 48\), not \(1, 3\)"):
        search(catalogue, vectors=np.ones((1, 3)))
    with pytest.raises(InputError, match="finite and not zero"):
        search(catalogue, vectors=np.zeros((1, 48)))
    with pytest.raises(NotFoundError, match="no item with the id 'Paint/none'"):
        search(catalogue, ids=["Paint/Red/000.jpg", "Paint/none"])
    with pytest.raises(ImageError, match="there is no file"):
        search(catalogue, images=[tmp_path / "none.jpg"])
    with pytest.raises(ImageError, match="is a folder; name the pictures in it"):
        search(catalogue, images=[tmp_path])
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.jpg: "):
        search(catalogue, images=[tmp_path / "text.jpg"])


def test_thumbnails_are_small_jpegs_and_a_lost_file_is_named(catalogue: Catalogue, picture_folder: Path) -> None:
    with Image.open(io.BytesIO(thumbnail(catalogue, "Paint/Red/000.jpg", size=32))) as drawn:
        assert (drawn.format, max(drawn.size)) == ("JPEG", 32)
    (picture_folder / "Paint/Red/000.jpg").unlink()
    with pytest.raises(ImageError, match="no such file"):
        thumbnail(catalogue, "Paint/Red/000.jpg")
    shutil.copy(picture_folder / "Paint/Blue/000.jpg", picture_folder / "Paint/Red/000.jpg")
    with pytest.raises(ImageError, match="has changed since it was indexed"):
        thumbnail(catalogue, "Paint/Red/000.jpg")
    with pytest.raises(NotFoundError):
        thumbnail(catalogue, "../../etc/passwd")
    assert item(catalogue, "Paint/Red/001.jpg").num_rows == 1


def test_a_page_of_hits_opens_offline_and_escapes_what_it_shows(catalogue: Catalogue, picture_folder: Path) -> None:
    listing = picture_folder / "list.csv"
    listing.write_text('path,id,label,notes\nPaint/Red/000.jpg,"<script>alert(1)</script>","""><b>",<i>x</i>\n')
    ingest(catalogue, read_manifest(listing))
    lost = picture_folder / "Paint/Red/001.jpg"
    query = picture_folder / "Paint/Red/000.jpg"
    hits = search(catalogue, images=[query], k=8)
    lost.unlink()
    page = hits_page(catalogue, hits, pictures={str(query): query.read_bytes()})
    assert page.count("data:image/jpeg;base64,") == 8  # the query and seven of eight hits
    assert "<script>" not in page
    assert "<i>x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'src="http' not in page


@pytest.mark.parametrize("spec", ["Flat", "IVF2,Flat", "HNSW8"])
def test_a_faiss_view_is_stored_catches_up_and_is_rebuilt_when_damaged(
    tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder, spec: str
) -> None:
    pytest.importorskip("faiss")
    with Catalogue.create(tmp_path / "c", embedder, index=spec) as made:
        ingest(made, read_manifest(picture_folder))
        folder = made.path / "index" / made.digest
        assert (folder / "view.json").is_file()
        version = made.version
    with Catalogue.open(tmp_path / "c", embedder=embedder) as again:
        assert first(search(again, ids=["Paint/Red/003.jpg"], k=2)) == ["Paint/Red/003.jpg"]
        # Another image joins and one changes its bytes: the stored view is behind, and catches up.
        Image.new("RGB", (9, 9), (9, 9, 250)).save(picture_folder / "Paint/Blue/new.png")
        Image.new("RGB", (9, 9), (250, 9, 9)).save(picture_folder / "Paint/Red/000.jpg")
        ingest(again, read_manifest(picture_folder))
        assert len(again.index()) == 25
    with Catalogue.open(tmp_path / "c", version=version, embedder=embedder) as old:
        assert len(old.index()) == 24
    (folder / "vectors.index").write_bytes(b"damaged")
    with Catalogue.open(tmp_path / "c", embedder=embedder) as mended:
        with pytest.warns(UserWarning, match="the stored index is damaged and is built again"):
            assert len(mended.index()) == 25
        assert first(search(mended, ids=["Paint/Blue/new.png"], k=2)) == ["Paint/Blue/new.png"]
