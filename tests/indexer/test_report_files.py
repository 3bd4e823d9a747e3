"""A report on disk: whole or not at all, into a folder of its own, and the same when it is read again."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import report_files
from indexer.files import TEMPORARY_PREFIX
from indexer.report_files import PAGE, QUERIES, VALUES, about_run, check_folder, read_report, write_report
from retrieval.errors import CatalogueError, DamagedError, InputError
from retrieval.report import (
    QUERIES_SCHEMA,
    Classification,
    ClassRow,
    Failure,
    Figure,
    Gain,
    Hit,
    Hub,
    Pair,
    Point,
    Report,
)
from tests.indexer.reports import drawn_images, drawn_picture, sample_report

NAMES = {PAGE, QUERIES, VALUES}


def small(title: str = "Grocery") -> Report:
    return replace(sample_report(drawn_images(3, 2), failures=2, hubs=1, pairs=2, points=4), title=title)


def rows(id: str = "a") -> pa.Table:
    row = {
        "id": id,
        "label": "x",
        "candidates": 3,
        "ranks": [1, None],
        "nearest": "b",
        "nearest_label": None,
        "nearest_similarity": 0.5,
        "right": "b",
        "right_similarity": 0.5,
    }
    return pa.Table.from_pylist([row], schema=QUERIES_SCHEMA)


def plain(report: Report) -> Any:
    return json.loads(json.dumps(report.to_dict()))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_report_of_another_experiment_is_not_overwritten(tmp_path: Path) -> None:
    report = sample_report()
    write_report(tmp_path / "r", report, QUERIES_SCHEMA.empty_table(), lambda id: None)
    digest = report.embedder["digest"]
    check_folder(tmp_path / "r", title=report.title, digest=digest)
    for title, by in ((report.title, "0" * 64), ("Another", digest)):
        with pytest.raises(InputError, match=r"holds the report of .* name another folder"):
            check_folder(tmp_path / "r", title=title, digest=by)


def test_a_report_is_three_files_and_reads_back_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "new"
    write_report(folder, small(), rows(), drawn_picture())
    assert set(contents(folder)) == NAMES
    assert (folder / PAGE).read_text().lstrip().lower().startswith("<!doctype html")
    for path in (folder, folder / VALUES):
        report, table = read_report(path)
        assert plain(report) == plain(small())
        assert table.equals(rows())
    assert isinstance(report.figures[0], Figure) and isinstance(report.failures[0].got[0], Hit)
    assert report.pairs[0].labels == small().pairs[0].labels


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"classification": True},
        {"differences": ["train has 1 image", "2 missing"], "frozen": False},
        {"images": drawn_images(1, 5, paths=False), "failures": 0, "hubs": 0, "pairs": 0, "points": 0},
    ],
    ids=["all", "classification", "non-standard", "one class"],
)
def test_every_part_of_a_report_goes_through_json(kept: dict[str, Any]) -> None:
    report = sample_report(**kept)
    again = Report.from_dict(plain(report))
    assert plain(again) == plain(report)
    assert again.figures == report.figures and again.frozen == report.frozen and again.pairs == report.pairs
    assert again.failures == report.failures and again.hubs == report.hubs and again.points == report.points
    assert again.classes == report.classes and again.curve == report.curve and again.rejected == report.rejected


SHARE = st.floats(0, 1)
MAYBE = st.none() | SHARE
COUNT = st.integers(0, 1 << 62)
TEXT = st.text(max_size=8)
FIGURES = st.lists(
    st.builds(Figure, TEXT, SHARE, MAYBE, MAYBE, MAYBE, MAYBE, st.sampled_from(["share", "levels"])), max_size=2
)
HITS = st.builds(Hit, TEXT, st.none() | TEXT, COUNT, st.floats(-1, 1), st.booleans())
BINS = st.lists(st.tuples(MAYBE, MAYBE, COUNT), max_size=2)
REPORTS = st.builds(
    Report,
    title=TEXT,
    protocol=TEXT,
    differences=st.lists(TEXT, max_size=2),
    task=TEXT,
    embedder=st.dictionaries(TEXT, st.none() | TEXT | COUNT, max_size=2),
    figures=FIGURES,
    curve=st.lists(st.tuples(COUNT, SHARE), max_size=2),
    classes=st.lists(st.builds(ClassRow, TEXT, COUNT, st.lists(SHARE, max_size=2)), max_size=2),
    class_count=COUNT,
    queries=COUNT,
    left_out=COUNT,
    unlabelled=COUNT,
    gallery=COUNT,
    rejected=st.lists(st.tuples(TEXT, TEXT), max_size=2),
    failures=st.lists(st.builds(Failure, TEXT, TEXT, st.lists(HITS, max_size=2), st.none() | HITS), max_size=2),
    failed=COUNT,
    hubs=st.lists(st.builds(Hub, TEXT, st.none() | TEXT, COUNT, COUNT), max_size=2),
    points=st.lists(st.builds(Point, TEXT, TEXT, SHARE, SHARE), max_size=2),
    pairs=st.lists(st.builds(Pair, TEXT, TEXT, TEXT, st.tuples(TEXT, TEXT), TEXT, SHARE), max_size=2),
    pairs_left_out=COUNT,
    frozen=st.none() | FIGURES,
    gains=st.lists(st.builds(Gain, TEXT, st.floats(-1, 1), MAYBE, MAYBE, SHARE), max_size=2),
    frozen_note=st.none() | TEXT,
    classification=st.none()
    | st.builds(Classification, st.lists(st.tuples(TEXT, TEXT, COUNT), max_size=2), BINS, SHARE),
    about=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
)


@given(REPORTS)
@settings(max_examples=60)
def test_any_report_goes_through_json(report: Report) -> None:
    again = Report.from_dict(plain(report))
    assert plain(again) == plain(report)
    assert again.figures == report.figures and again.frozen == report.frozen and again.pairs == report.pairs
    assert again.gains == report.gains


def test_values_that_are_no_report_are_refused() -> None:
    values = plain(small())
    for spoilt in (
        [],
        {},
        {**values, "format": 2},
        {name: value for name, value in values.items() if name != "figures"},
        {**values, "more": 1},
        {**values, "figures": [{"name": "Recall@1"}]},
        {**values, "curve": [["one", 1]]},
        {**values, "failures": [None]},
        {**values, "classification": {"bins": []}},
    ):
        with pytest.raises(InputError, match="no evaluation report"):
            Report.from_dict(spoilt)


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    write_report(tmp_path, small("old"), rows("old"), drawn_picture())
    (tmp_path / "notes.txt").write_text("mine")
    check_folder(tmp_path)
    write_report(tmp_path, small("new"), rows("new"), drawn_picture())
    report, table = read_report(tmp_path)
    assert (report.title, table.column("id").to_pylist()) == ("new", ["new"])
    assert "new" in (tmp_path / PAGE).read_text()
    assert set(contents(tmp_path)) == {*NAMES, "notes.txt"}


def fail_at(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Do the real thing until the call of this number, counted from 1, on which the disk is full."""
    calls = iter(range(1, 1000))

    def call(*given: Any, **kept: Any) -> Any:
        if next(calls) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given, **kept)

    return call


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("older", [False, True], ids=["first", "over an older one"])
def test_a_full_disk_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, older: bool
) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    if older:
        write_report(folder, small("old"), rows("old"), drawn_picture())
    before = contents(folder)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_at(number, os.fsync))
        with pytest.raises(CatalogueError, match=r"the disk is full: .* was not written"):
            write_report(folder, small("new"), rows("new"), drawn_picture())
    assert contents(folder) == before
    if older:
        assert read_report(folder)[0].title == "old"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_is_written_in_part_is_never_taken_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_report(tmp_path, small("old"), rows("old"), drawn_picture())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail_at(number, Path.replace))
        with pytest.raises(CatalogueError, match="the disk is full"):
            write_report(tmp_path, small("new"), rows("new"), drawn_picture())
    assert set(contents(tmp_path)) == NAMES
    if number == 1:
        assert read_report(tmp_path)[0].title == "old"
    else:
        with pytest.raises(DamagedError, match="is not the file that"):
            read_report(tmp_path)
    check_folder(tmp_path)
    write_report(tmp_path, small("new"), rows("new"), drawn_picture())
    assert read_report(tmp_path)[0].title == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_end_while_the_page_is_drawn_leaves_the_older_report(tmp_path: Path, error: type[BaseException]) -> None:
    write_report(tmp_path, small("old"), rows("old"), drawn_picture())
    before = contents(tmp_path)

    def picture(id: str) -> bytes:
        raise error

    with pytest.raises(error):
        write_report(tmp_path, small("new"), rows("new"), picture)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match=r"cannot write .*file/report"):
        write_report(tmp_path / "file" / "report", small(), rows(), drawn_picture())


@pytest.mark.parametrize("there", [(), (QUERIES,), (PAGE, QUERIES), (f"{TEMPORARY_PREFIX}abc",)])
def test_a_new_an_empty_and_a_half_written_folder_are_ready(tmp_path: Path, there: tuple[str, ...]) -> None:
    check_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()  # looking makes nothing
    for name in there:
        (tmp_path / name).write_text("half")
    check_folder(tmp_path)


@pytest.mark.parametrize("name", ["photo.jpg", VALUES])
@pytest.mark.parametrize("text", ["{", "{}", '{"format": 1, "figures": []}', "[1]"])
def test_a_folder_of_other_things_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"holds other things than a report; name a new folder with --out"):
        check_folder(tmp_path)
    assert contents(tmp_path) == {name: text.encode()}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file is a file, and a report is a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(CatalogueError, match=r"cannot write .*deep: .*file is a file"):
        check_folder(tmp_path / "file" / "deep")


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_files.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(CatalogueError, match=r"cannot write .*new: .* may not be written"):
        check_folder(tmp_path / "new")


def test_what_is_no_report_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no report .*report.json; lookalike evaluate"):
        read_report(tmp_path)
    with pytest.raises(InputError, match=r"there is no report .*none.json"):
        read_report(tmp_path / "none.json")
    for text in ("{", "[]", "\0\xff", "{}", '{"format": 99}'):
        (tmp_path / VALUES).write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"report.json is no (evaluation )?report"):
            read_report(tmp_path)


def test_queries_that_are_missing_or_of_another_report_are_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, small(name), rows(name), drawn_picture())
    (tmp_path / "two" / QUERIES).write_bytes((tmp_path / "one" / QUERIES).read_bytes())
    with pytest.raises(DamagedError, match=r"two/queries.parquet is not the file that report.json was written with"):
        read_report(tmp_path / "two")
    (tmp_path / "one" / QUERIES).unlink()
    with pytest.raises(DamagedError, match=r"one/queries.parquet is missing; copy it together with report.json"):
        read_report(tmp_path / "one" / VALUES)


def test_about_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lookalike", "evaluate", "my shop", "-k", "1"])
    about = about_run()
    assert about["command"] == "lookalike evaluate 'my shop' -k 1"
    assert datetime.fromisoformat(about["when"]).tzinfo is not None
    assert {"lookalike", "torch", "timm", "numpy"} <= set(about["versions"])
    assert about["python"].startswith("3.") and about["cores"] >= 1 and about["processor"]
    assert json.loads(json.dumps(about)) == about
