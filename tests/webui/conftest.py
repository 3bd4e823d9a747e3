"""Fixtures of the tests of the web application, which need no torch, and of the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from indexer import folder_catalogue
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.opening import open_or_create
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from tests.webui.commands import TINY, Run
from webui.app import create_app

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def app(catalogue: Catalogue) -> Flask:
    return create_app(catalogue)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def red_photo() -> bytes:
    """A red picture that is not in the catalogue."""
    rng = np.random.default_rng(99)
    pixels = np.clip(np.array((200, 40, 40)) + rng.normal(0, 12, (40, 48, 3)), 0, 255).astype(np.uint8)
    return jpeg(pixels)


@pytest.fixture
def hostile_catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """Ids, labels and columns that try to be markup, are long, are missing, or are in other scripts."""
    rows = [
        {"id": HOSTILE, "label": "<i onclick=x>/<img src=x onerror=alert(1)>", "words": HOSTILE},
        {"id": "quote \" and ' and\nnewline", "label": "", "words": "=1+1"},
        {"id": "सिल्क/साड़ी 100%&?#+.jpg", "label": "L" * 80, "words": "n" * 5000},
        {"id": "../../etc/passwd", "label": "a/" * 30 + "z", "words": ""},
    ]
    extra = {f"column {number}": f"value {number}" for number in range(20)}
    extra = {"<u onclick=x>": "<s onclick=x>"} | extra
    with (tmp_path / "items.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["path", *extra, *rows[0]])
        writer.writeheader()
        for number, row in enumerate(rows):
            pixels = np.full((20, 20 + 30 * number, 3), 60 * number + 20, dtype=np.uint8)
            (tmp_path / f"{number}.jpg").write_bytes(jpeg(pixels))
            writer.writerow({"path": f"{number}.jpg", **row, **extra})
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder(), note=HOSTILE) as made:
        ingest(made, read_manifest(tmp_path / "items.csv"))
        assert made.items().num_rows == len(rows)
        yield made


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def whole_form(data: bytes, name: str = "photo.jpg") -> dict[str, object]:
    """The form as a body of bytes: the test client itself would lay a large one into a temporary file."""
    head = f'--edge\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--edge--\r\n"
    return {"data": body, "content_type": "multipart/form-data; boundary=edge"}


def form(data: bytes, name: str = "photo.jpg", **fields: str) -> dict[str, object]:
    """Fill in the form of the first page."""
    return {"image": (io.BytesIO(data), name), **fields}


@pytest.fixture
def shop(tmp_path: Path, picture_folder: Path, weights: Path, run: Run) -> Path:
    """The drawn pictures, indexed by the command with the tiny backbone."""
    place = tmp_path / "shop"
    code, _, _ = run("index", picture_folder, "--catalogue", place, "--backbone", TINY, "--weights", weights)
    assert code == 0
    return place


@pytest.fixture
def kept_for_folders(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and the tiny network in place of the bundled one."""

    def opened(path: Path, **given: Any) -> Any:
        if not (path / "catalogue.json").exists():
            given |= {"backbone": TINY, "weights": weights}
        return open_or_create(path, **given)

    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_catalogue, "open_or_create", opened)
