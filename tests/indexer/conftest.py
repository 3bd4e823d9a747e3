"""Fixtures of the tests of keeping and finding."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import decoding, pipeline, planting
from indexer.catalogue import Catalogue
from indexer.vectors import VectorCache
from tests.embedders import ColourEmbedder
from tests.indexer.copies import PLANTED, SMALL_PICTURES, draw
from tests.indexer.files import FILES, catalogue_of, write
from tests.indexer.stages import CORES


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def few_planted() -> Iterator[None]:
    """As many copies are planted as are quick."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(planting, "PLANTED", PLANTED)
        yield


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    (tmp_path / "vectors").mkdir()
    return VectorCache(tmp_path / "vectors", ColourEmbedder.dim)


@pytest.fixture
def fours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of four; the embedder is tuned with the first of them."""
    monkeypatch.setattr(pipeline, "BATCH", 4)
    monkeypatch.setattr(pipeline, "SAMPLE", 4)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which so many threads decode at most."""
    monkeypatch.setattr(decoding, "cores", lambda: CORES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five files, three of which are the same; none is a picture."""
    return write(tmp_path / "photos", FILES)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of eight pictures: four drawn photos, and copies of three of them."""
    return draw(tmp_path / "pictures", SMALL_PICTURES)


@pytest.fixture
def small(tmp_path: Path, photos: Path) -> Iterator[Catalogue]:
    """A catalogue of these files, with a column of its user's."""
    with catalogue_of(tmp_path / "catalogue", photos, price="9") as made:
        yield made
