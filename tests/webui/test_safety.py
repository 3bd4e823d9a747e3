"""Safety: hostile uploads, headers, host names; uploads stay in memory and out of the log."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import pytest
from werkzeug.datastructures import MultiDict

from tests.webui.conftest import form, whole_form
from webui.app import create_app, trusts_host


def png_bomb(side: int = 50_000) -> bytes:
    """A PNG of side x side pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def hostile(red_photo):
    return {
        "text": b"just some words",
        "html": b"<html><script>alert(1)</script>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "empty": b"",
        "bomb": png_bomb(),
        "truncated": red_photo[: len(red_photo) // 2],
        "header only": b"\xff\xd8\xff\xe0",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    }


@pytest.mark.parametrize("name", ["text", "html", "svg", "empty", "bomb", "truncated", "header only", "postscript"])
def test_what_is_no_usable_picture_is_refused_with_the_reason(client, hostile, name):
    data = hostile[name]
    answer = client.post("/api/search", data=form(data, "photo.jpg"))
    assert answer.status_code == 415
    message = answer.json["error"]["message"]
    assert message.startswith("This picture cannot be used: ")
    assert "image 0" not in message
    page = client.post("/search", data=form(data, "photo.jpg"))
    assert page.status_code == 415
    assert 'type="file"' in page.text, "the form to try again with"
    if data:
        assert client.post("/api/search", data=data, content_type="image/jpeg").status_code == 415


@pytest.mark.parametrize("path", ["/search", "/api/search"])
def test_what_is_too_large_is_refused_with_the_limit(catalogue, path):
    client = create_app(catalogue, max_upload=1).test_client()
    for size in (1_000_001, 1_200_000):
        answer = client.post(path, **whole_form(b"\xff" * size))
        assert answer.status_code == 413
        assert "larger than 1 MB" in answer.text
    body = client.post("/api/search", data=b"\xff" * 1_000_001, content_type="image/jpeg")
    assert (body.status_code, body.json["error"]["kind"]) == (413, "TooLargeError")


def test_a_form_of_many_parts_or_long_texts_is_refused(client, red_photo):
    many = MultiDict([("k", "1")] * 50)
    many.add("image", (io.BytesIO(red_photo), "photo.jpg"))
    assert client.post("/api/search", data=many).status_code == 413
    assert client.post("/api/search", data=form(red_photo, k="1" * 300_000)).status_code == 413


def test_a_form_without_a_picture_is_refused(client):
    for data in ({}, {"image": "text, no file"}, {"other": (io.BytesIO(b"x"), "x.jpg")}, form(b"", "")):
        answer = client.post("/api/search", data=data, content_type="multipart/form-data")
        assert answer.status_code == 400
        assert "choose one" in answer.json["error"]["message"]
    broken = client.post("/api/search", data=b"--x\r\nbroken", content_type="multipart/form-data; boundary=x")
    assert broken.status_code == 400


@pytest.mark.parametrize(
    "path",
    ["/", "/api/catalogue", "/nowhere", "/api/nowhere", "/static/lookalike.css", "/thumbnail?id=Paint/Red/000.jpg"],
)
def test_every_answer_carries_the_headers(client, path):
    with client.get(path) as answer:
        headers = answer.headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert len(headers.getlist("Content-Security-Policy")) == len(headers.getlist("Content-Type")) == 1


def test_pages_hold_no_style_and_no_script_of_their_own(client):
    for path in ("/", "/components", "/item?id=Paint/Red/000.jpg"):
        text = client.get(path).text
        assert "style=" not in text and "<style" not in text and "javascript:" not in text


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.7:8000", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_that_a_stranger_can_own_is_not_answered(host, trusted):
    assert trusts_host(host, frozenset()) is trusted
    assert trusts_host(host, frozenset({"*"}))


def test_the_refusal_of_a_host_tells_nothing_of_the_catalogue(client):
    for path in ("/", "/api/catalogue", "/api/search?id=Paint/Red/000.jpg", "/thumbnail?id=Paint/Red/000.jpg"):
        answer = client.get(path, headers={"Host": "evil.example"})
        assert answer.status_code == 400
        assert "setting hosts" in answer.text
        assert "24" not in answer.text and "Paint" not in answer.text and 'class="where"' not in answer.text


def test_the_setting_hosts_names_others(catalogue):
    client = create_app(catalogue, hosts="shop.example, Other.example").test_client()
    assert client.get("/health", headers={"Host": "shop.example:80"}).status_code == 200
    assert client.get("/health", headers={"Host": "other.example"}).status_code == 200
    assert client.get("/health", headers={"Host": "localhost"}).status_code == 200
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400


def test_an_upload_is_neither_written_nor_logged(client, red_photo, monkeypatch, caplog):
    def refuse(*_, **__):
        raise AssertionError("a file was about to be written")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse)
    monkeypatch.setattr("werkzeug.formparser.TemporaryFile", refuse, raising=False)
    caplog.set_level(logging.DEBUG)
    # Beyond the half megabyte where Werkzeug begins to spool.
    padded = red_photo + b"\0" * 900_000
    assert client.post("/search", **whole_form(padded, "secret-name.jpg")).status_code == 200
    assert client.post("/search", **whole_form(b"\0" * 900_000, "secret-name.jpg")).status_code == 415
    assert "secret-name" not in caplog.text
