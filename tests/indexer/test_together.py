"""Writers, readers and searches at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.place import lock_of
from indexer.search import search
from indexer.vectors import VectorCache
from indexer.verification import verify
from retrieval.errors import BusyError, LookalikeError
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder

ROOT = Path(__file__).parents[2]


def test_searches_in_the_object_that_writes_give_no_row_twice(catalogue: Catalogue, tmp_path: Path) -> None:
    more = read_manifest(draw_pictures(tmp_path / "more", 30, seed=3), prefix="more/")
    stop, failures = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                hits = search(catalogue, ids=["Paint/Red/000.jpg"], k=5)
                assert hits.column("id").to_pylist()[0] == "Paint/Red/000.jpg"
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    ingest(catalogue, more, commit_every=3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert catalogue.items().num_rows == 144
    assert verify(catalogue) == []


def test_a_reader_beside_a_writer_names_the_right_items(
    catalogue: Catalogue, embedder: ColourEmbedder, tmp_path: Path
) -> None:
    more = draw_pictures(tmp_path / "more", 20, seed=3)
    done = threading.Event()

    def write() -> None:
        with Catalogue.open(catalogue.path, embedder=embedder) as writer:
            ingest(writer, read_manifest(more, prefix="more/"), commit_every=2)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        for row in search(catalogue, ids=["Paint/Blue/001.jpg"], k=12).to_pylist():
            assert row["id"].removeprefix("more/") == row["uri"]
            assert row["label"] in row["uri"]
    thread.join()


def test_an_object_opened_before_anothers_run_can_still_write(
    catalogue: Catalogue, embedder: ColourEmbedder, picture_folder: Path
) -> None:
    with Catalogue.open(catalogue.path, embedder=embedder) as older:
        (picture_folder / "bad.jpg").write_text("no picture")
        ingest(catalogue, read_manifest(picture_folder))
        (picture_folder / "worse.jpg").write_text("no picture either")
        assert ingest(older, read_manifest(picture_folder)).rejected == 2
        assert sorted(older.rejected.read().column("uri").to_pylist()) == ["bad.jpg", "worse.jpg"]


def test_vectors_can_be_read_while_they_are_joined(tmp_path: Path) -> None:
    writer, reader = VectorCache(tmp_path, 4), VectorCache(tmp_path, 4)
    unit = np.eye(4, dtype=np.float32)
    stop, failures = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                reader.keys()
                assert reader.verify() == []
            except BaseException as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(240):
        writer.append([number.to_bytes(32, "big")], unit[:1])
        if number % 40 == 39:
            writer.compact()
    stop.set()
    thread.join()
    assert failures == []
    assert len(writer.keys()) == 240


def test_of_several_creators_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    def create(_: int) -> str:
        try:
            Catalogue.create(tmp_path / "c", ColourEmbedder()).close()
        except LookalikeError as error:
            return "busy" if isinstance(error, BusyError) else str(error)
        return "made"

    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(create, range(6)))
    assert ended.count("made") == 1
    assert all(end == "busy" or "is a catalogue already" in end for end in ended if end != "made")
    with Catalogue.open(tmp_path / "c", embedder=ColourEmbedder()) as made:
        assert verify(made) == []


def test_a_catalogue_half_made_by_another_is_its_and_one_left_half_made_is_made_anew(tmp_path: Path) -> None:
    place = tmp_path / "c"
    (place / "items").mkdir(parents=True)  # as between the steps of a creation
    (place / "embedder" / ".writing-x").mkdir(parents=True)
    (place / ".writing-y").write_bytes(b"half")
    with lock_of(place), pytest.raises(BusyError, match="another process is writing"):
        Catalogue.create(place, ColourEmbedder())
    (place / "embedder" / ".writing-x").rmdir()
    with Catalogue.create(place, ColourEmbedder()) as made:
        assert verify(made) == []


def test_short_processes_that_read_a_table_end_well(catalogue: Catalogue) -> None:
    # Threads of Arrow that still held Python objects made one such process in ten abort as it ended.
    program = (
        "import sys; from pathlib import Path; from indexer.items import VersionedTable; "
        "VersionedTable.open(Path(sys.argv[1])).read()"
    )
    command = [sys.executable, "-c", program, str(catalogue.path / "items")]
    ended = [subprocess.run(command, cwd=ROOT, capture_output=True).returncode for _ in range(25)]
    assert ended == [0] * 25
