"""Overload: a bounded number of searches, and an answer for the others."""

from __future__ import annotations

import threading

import pytest

from retrieval.errors import OverloadedError
from tests.webui.conftest import form
from webui.app import create_app
from webui.gate import Gate


def test_a_search_beyond_the_places_is_refused_after_the_waiting_time():
    gate = Gate(2, wait=0.0, queue=5)
    with gate.enter(), gate.enter(), pytest.raises(OverloadedError) as caught, gate.enter():
        pass
    assert caught.value.retry_after == 1
    with gate.enter():
        pass


def test_a_waiting_search_gets_the_place_that_becomes_free():
    gate, waiting, inside = Gate(1, wait=60.0, queue=1), threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        with gate.enter():
            inside.set()

    with gate.enter():
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(30)
        assert not inside.is_set()
    thread.join(30)
    assert inside.is_set()


def test_a_full_queue_is_refused_without_waiting():
    gate = Gate(1, wait=600.0, queue=0)
    # Waiting would run into the time limit of the test.
    with gate.enter(), pytest.raises(OverloadedError) as caught, gate.enter():
        pass
    assert caught.value.retry_after == 600
    with gate.enter():
        pass


def test_a_failed_search_gives_its_place_back(catalogue):
    client = create_app(catalogue, concurrency=1, wait=0).test_client()
    for _ in range(3):
        assert client.post("/api/search", data=form(b"no picture")).status_code == 415
        assert client.get("/api/search?id=unknown").status_code == 404


@pytest.mark.parametrize("path", ["/api/search", "/search"])
def test_the_answer_is_503_with_the_time_to_come_again(catalogue, red_photo, path):
    app = create_app(catalogue, concurrency=1, wait=0)
    client = app.test_client()
    with app.extensions["lookalike"].gate.enter():
        busy = client.post(path, data=form(red_photo))
    assert busy.status_code == 503
    assert busy.headers["Retry-After"] == "1"
    assert "busy" in busy.text
    assert client.post(path, data=form(red_photo)).status_code == 200
