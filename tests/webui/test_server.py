"""The application behind waitress, over a real socket."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from retrieval.errors import InputError
from tests.webui.serving import serving
from webui.app import create_app
from webui.server import listen


def post(address: str, body: bytes) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request("POST", "/api/search", body, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_uploads_stay_in_memory_and_too_large_ones_get_the_sentence(catalogue, red_photo, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a temporary file was about to be made")

    monkeypatch.setattr("waitress.buffers.TempfileBasedBuffer.__init__", refuse)
    with serving(create_app(catalogue, max_upload=2)) as address:
        status, text = post(address, red_photo + b"\0" * 1_900_000)
        assert status == 200, text
        status, text = post(address, b"\0" * 3_000_000)
        assert status == 413
        assert "larger than 2 MB" in text


def test_a_port_that_is_taken_is_said(app):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="choose another"):
        listen(app, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["256.256.256.256", "no such host", ""])
def test_an_address_that_is_not_ours_is_said(app, host):
    with pytest.raises(InputError, match="cannot listen"):
        listen(app, host, 0)
