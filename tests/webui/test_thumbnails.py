"""Thumbnails: drawn anew, from a fixed list of sizes, told apart by tags, remembered up to a limit."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from indexer.ingest import ingest
from retrieval.manifest import read_manifest
from webui.settings import THUMBNAIL_SIZES
from webui.thumbnails import ThumbnailCache

ID = "Paint/Red/000.jpg"


def address(size=128, id=ID):
    return {"path": "/thumbnail", "query_string": {"id": id, "size": size}}


def test_a_thumbnail_is_a_small_jpeg_without_metadata(client, catalogue):
    path = catalogue.path.parent / "pictures" / ID
    original = Image.open(path)
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    original.save(path, "JPEG", exif=exif, comment=b"secret")
    ingest(catalogue, read_manifest(path.parents[2]))
    answer = client.get(**address())
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    drawn = Image.open(io.BytesIO(answer.data))
    assert max(drawn.size) <= 128
    assert not drawn.getexif()
    assert b"taken at home" not in answer.data and b"secret" not in answer.data


def test_the_same_picture_is_not_sent_twice(client):
    first = client.get(**address())
    again = client.get(**address(), headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    other = client.get(**address(size=256), headers={"If-None-Match": first.headers["ETag"]})
    assert other.status_code == 200
    assert "max-age" in first.headers["Cache-Control"] and "private" in first.headers["Cache-Control"]


@pytest.mark.parametrize("size", ["129", "0", "-1", "99999999999", "x", "1e3", "", "١٢٨"])
def test_other_sizes_are_refused(client, size):
    assert client.get(**address(size=size)).status_code == 400


@pytest.mark.parametrize("size", THUMBNAIL_SIZES)
def test_every_size_is_drawn(client, size):
    assert client.get(**address(size=size)).status_code == 200


def test_what_cannot_be_drawn_is_not_found_and_names_no_folder(client, catalogue):
    (catalogue.path.parent / "pictures" / ID).unlink()
    answer = client.get(**address())
    assert answer.status_code == 404
    assert str(catalogue.path.parent) not in answer.text
    assert client.get(**address(id="unknown")).status_code == 404
    assert client.get("/thumbnail").status_code == 400


def test_a_drawn_picture_is_remembered(client, catalogue):
    first = client.get(**address())
    (catalogue.path.parent / "pictures" / ID).unlink()
    assert client.get(**address()).data == first.data


def test_the_cache_drops_the_longest_unused_beyond_its_limit():
    cache = ThumbnailCache(10)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    assert cache.get("a") == b"1234"
    cache.put("c", b"1234")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"1234", None, b"1234")
    cache.put("a", b"12")
    cache.put("d", b"1234")
    assert [cache.get(tag) for tag in "acd"] == [b"12", b"1234", b"1234"]
    cache.put("huge", b"1" * 11)
    assert cache.get("huge") is None
