"""A report of duplicates on disk: what is written is read back, and what somebody has filled in is not lost."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer import duplicates_files
from indexer.deciding import DECISIONS_SCHEMA
from indexer.duplicates import PAIRS_SCHEMA, Found
from indexer.duplicates_files import as_json, check_folder, decisions_of, read_decisions, read_judged, write_out
from indexer.files import sha256_of
from retrieval.errors import CatalogueError, InputError
from tests.indexer.found import THRESHOLD, UNREADABLE, groups_table, member

IDS = [
    "=HYPERLINK(1)",
    "+1.jpg",
    "-k.jpg",
    "@a.jpg",
    "'=quoted",
    "'plain'",
    'say "x", or; y\tz',
    "new\nline.jpg",
    "old\rline.jpg",
    "both\r\nline.jpg",
    "\rfirst",
    "साड़ी 着物 é.jpg",
    " spaces ",
    "\ufeffmark.jpg",
]


def pair(a: str, b: str, kind: str = "copy", **more: Any) -> dict[str, Any]:
    return {"a": a, "b": b, "kind": kind, "agreement": 0.9, "sure": 0.99, "how": "mirrored"} | more


@pytest.fixture
def found() -> Found:
    """A group of each two ids that are next to each other, the first of which is kept; and a group of three."""
    rows = []
    for number, (one, other) in enumerate(zip(IDS[::2], IDS[1::2], strict=True), 1):
        rows += [member(number, one, None, how=""), member(number, other, "copy", how="cut, mirrored")]
    of_both = {"sha256": "0c" * 32}
    rows += [member(8, "c", None, how="", **of_both), member(8, "d", "same bytes", **of_both)]
    rows += [member(8, "e", "same pixels")]
    pairs = [pair(one, other) for one, other in itertools.pairwise(IDS)]
    return Found(
        pairs=pa.Table.from_pylist(pairs, PAIRS_SCHEMA),
        groups=groups_table(rows),
        threshold=THRESHOLD,
        examined=30,
        unreadable=UNREADABLE.empty_table(),
        version=3,
        effort="usual",
        between=None,
        new_since=None,
    )


@pytest.fixture
def out(found: Found, tmp_path: Path) -> Path:
    write_out(tmp_path / "out", found, "<html>", {"by": "a test"})
    return tmp_path / "out"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path: Path, rows: list[dict[str, str]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def test_decisions_come_back_as_the_policy_made_them(found: Found, out: Path) -> None:
    decided = read_decisions(out / "groups.csv")
    assert decided.schema == DECISIONS_SCHEMA
    assert decided.to_pylist() == decisions_of(found.groups).to_pylist()
    assert decided.column("id").to_pylist() == [*IDS[1::2], "d", "e"]
    assert decided.column("kept").to_pylist() == [*IDS[::2], "c", "c"]
    assert decided.column("kind").to_pylist() == ["copy"] * 7 + ["same bytes", "same pixels"]


def test_no_cell_begins_a_formula(out: Path) -> None:
    for name in ("groups.csv", "pairs.csv"):
        for row in table(out / name):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values()), row


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_spreadsheet_may_have_saved_them(found: Found, out: Path, delimiter: str, encoding: str) -> None:
    for name in ("groups.csv", "pairs.csv"):
        rewrite(out / name, [{"copy": "yes", **row} | {"note": "x"} for row in table(out / name)])
        rewrite(out / name, table(out / name), delimiter=delimiter, encoding=encoding)
    assert read_decisions(out / "groups.csv").to_pylist() == decisions_of(found.groups).to_pylist()


def test_judgements_come_back(out: Path) -> None:
    rows = table(out / "pairs.csv")
    said = ["yes", "no", "", " YES ", "N", "true", "false", "1", "0", "copy"]
    for row, word in zip(rows, said, strict=False):
        row["copy"] = word
    found = read_judged(rewrite(out / "pairs.csv", rows))
    answers = [True, False, None, True, False, True, False, True, False, True]
    expected = {
        (min(one, other), max(one, other)): answer
        for one, other, answer in zip(IDS, IDS[1:], answers, strict=False)
        if answer is not None
    }
    assert found == expected


def test_decisions_may_be_changed(out: Path) -> None:
    rows = table(out / "groups.csv")
    by_id = {row["id"]: row for row in rows}
    by_id["c"]["decision"], by_id["d"]["decision"], by_id["e"]["decision"] = "remove", " Keep", "LEAVE"
    for row in rows[:-3]:
        row["decision"] = "leave"
    decided = read_decisions(rewrite(out / "groups.csv", rows))
    of_both = {"sha256": "0c" * 32, "kept_sha256": "0c" * 32}
    assert decided.to_pylist() == [{"id": "c", "kept": "d", "kind": "same bytes"} | of_both]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"c": "remove", "d": "keep", "e": "remove"}, {"c": ("d", "same bytes"), "e": ("d", "copy")}),
        ({"c": "remove", "d": "remove", "e": "keep"}, {"c": ("e", "copy"), "d": ("e", "copy")}),
        ({"c": "remove", "d": "keep", "e": "keep"}, {"c": ("d", "same bytes")}),
        ({"e": "keep", "d": "keep", "c": "remove"}, {"c": ("d", "same bytes")}),
    ],
)
def test_what_goes_is_told_of_the_one_that_stays_and_not_of_the_one_that_the_policy_chose(
    out: Path, said: dict[str, str], expected: dict[str, tuple[str, str]]
) -> None:
    rows = {row["id"]: row for row in table(out / "groups.csv") if row["group"] == "8"}
    decided = read_decisions(rewrite(out / "groups.csv", [rows[id] | {"decision": word} for id, word in said.items()]))
    assert {row["id"]: (row["kept"], row["kind"]) for row in decided.to_pylist()} == expected


def test_a_file_that_was_written_before_it_had_the_bytes_is_read(found: Found, out: Path) -> None:
    old = [{name: cell for name, cell in row.items() if name != "sha256"} for row in table(out / "groups.csv")]
    decided = read_decisions(rewrite(out / "groups.csv", old))
    assert decided.drop_columns(["sha256", "kept_sha256"]).equals(
        decisions_of(found.groups).drop_columns(["sha256", "kept_sha256"])
    )
    assert decided.column("sha256").null_count == decided.column("kept_sha256").null_count == decided.num_rows


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sha256": "1.2E+63"}, r"has '1\.2E\+63' as the SHA-256 of 'e'; leave that column as it was written"),
        ({"id": "c"}, "has several rows of 'c'; keep only one of these rows"),
        ({"group": " "}, "says no group of 'e'; leave that column"),
    ],
)
def test_rows_that_somebody_has_written_over_are_refused(out: Path, changed: dict[str, str], said: str) -> None:
    *rows, last = table(out / "groups.csv")
    with pytest.raises(InputError, match=said):
        read_decisions(rewrite(out / "groups.csv", [*rows, last | changed]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"c": "remove"}, "keeps nothing of group 8; say keep of at least one"),
        ({"c": "leave"}, "keeps nothing of group 8"),
        ({"d": "delete"}, "says 'delete' of 'd'; a decision is keep, remove, leave"),
        ({"d": ""}, "says '' of 'd'"),
        (dict.fromkeys([*IDS, "c", "d", "e"], "keep"), "removes nothing"),
    ],
)
def test_decisions_that_cannot_be(found: Found, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    rows = [
        {
            "group": str(row["group"]),
            "decision": changes.get(row["id"], "keep" if row["keep"] else "remove"),
            "id": row["id"],
            "kind": row["kind"] or "",
        }
        for row in found.groups.to_pylist()
    ]
    with pytest.raises(InputError, match=said):
        read_decisions(rewrite(tmp_path / "groups.csv", rows))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "b", "maybe"), ("c", "d", "maybe")], "says 'maybe' of 'a' and 'b'; write yes or no"),
        ([("a", "b", "yes"), ("b", "a", "no")], "says yes and no of"),
        ([("a", "b", ""), ("b", "c", " ")], "no row of .* is judged"),
    ],
)
def test_judgements_that_cannot_be(tmp_path: Path, rows: list[tuple[str, str, str]], said: str) -> None:
    named = [dict(zip(("a", "b", "copy"), row, strict=True)) for row in rows]
    with pytest.raises(InputError, match=said):
        read_judged(rewrite(tmp_path / "pairs.csv", named))


@pytest.mark.parametrize("read", [read_decisions, read_judged])
@pytest.mark.parametrize("data", [None, b"", b"\xff\xfe\x00", b"id,decision\n", b"a,b\n1,2\n", b'a,b,copy\n"'])
def test_a_file_that_is_something_else(tmp_path: Path, read: Any, data: bytes | None) -> None:
    path = tmp_path / "file.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"file\.csv") as said:
        read(path)
    assert "\n" not in str(said.value)
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path)


@pytest.mark.parametrize(("read", "like"), [(read_decisions, "groups.csv"), (read_judged, "pairs.csv")])
def test_a_file_that_is_no_text_is_told_so(tmp_path: Path, read: Any, like: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=rf"photo\.png is no text file in UTF-8; take the {like} that --out writes"):
        read(path)


def test_a_column_that_somebody_has_added_once_more(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,copy,copy\nx,y,maybe,\n")
    with pytest.raises(InputError, match="has 2 columns 'copy'"):
        read_judged(tmp_path / "pairs.csv")


def test_tables_and_values(found: Found, out: Path) -> None:
    assert pq.read_table(out / "groups.parquet").equals(found.groups)
    assert pq.read_table(out / "pairs.parquet").equals(found.pairs)
    values = json.loads((out / "duplicates.json").read_text())
    assert values["about"] == {"by": "a test"}
    assert values["threshold"]["agreement"] == found.threshold.agreement
    assert "groups" not in values and "pairs" not in values
    assert values["files"].keys() == {path.name for path in out.iterdir()} - {"duplicates.json"}
    for name, digest in values["files"].items():
        assert sha256_of(out / name) == digest


def test_what_nobody_has_filled_in_is_written_over(found: Found, out: Path) -> None:
    check_folder(out)
    write_out(out, found, "<html>again", {})
    assert (out / "report.html").read_text() == "<html>again"
    check_folder(out)


@pytest.mark.parametrize(("name", "column", "word"), [("groups.csv", "decision", "leave"), ("pairs.csv", "copy", "no")])
def test_what_somebody_has_filled_in_is_not_written_over(out: Path, name: str, column: str, word: str) -> None:
    rows = table(out / name)
    rows[0][column] = word
    rewrite(out / name, rows)
    with pytest.raises(InputError, match=r"was changed since it was written; give it back with"):
        check_folder(out)
    (out / name).unlink()
    check_folder(out)


def test_other_things_are_not_written_over(out: Path, tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="is a file, and a report is a folder"):
        check_folder(out / "report.html")
    (tmp_path / "empty" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        check_folder(tmp_path / "empty")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        check_folder(out)
    (out / "notes.txt").unlink()
    (out / "duplicates.json").write_text("{")
    with pytest.raises(InputError, match="holds other things"):
        check_folder(out)


@pytest.fixture
def later(found: Found) -> Found:
    """Of a run some time after, which has found less."""
    return replace(found, groups=found.groups.slice(0, 4), pairs=found.pairs.slice(0, 5))


def killed_writing(folder: Path, found: Found, *, after: int) -> None:
    """Kill a process that writes a report when so many of its files have taken their place."""

    def replace_or_die(path: Path, target: Path, left: list[int] = [after]) -> Path:  # noqa: B006
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return renamed(path, target)

    renamed = Path.replace
    child = os.fork()
    if child == 0:
        try:
            Path.replace = replace_or_die  # type: ignore[assignment, method-assign]
            write_out(folder, found, "<html>later", {})
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9


@pytest.mark.skipif(os.name == "nt", reason="no fork")
@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize("after", range(7))
def test_a_report_whose_writing_was_killed_is_written_over_unless_somebody_has_filled_it_in(
    found: Found, later: Found, out: Path, after: int, again: int
) -> None:
    for _ in range(again):
        killed_writing(out, later, after=after)
    check_folder(out)
    assert read_decisions(out / "groups.csv").num_rows  # whole, whichever it is
    filled = out / "groups.csv"
    as_written = filled.read_bytes()
    rewrite(filled, [row | {"decision": "leave"} for row in table(filled)])
    with pytest.raises(InputError, match="was changed since it was written"):
        write_out(out, later, "<html>later", {})
    filled.write_bytes(as_written)
    write_out(out, later, "<html>later", {})
    assert {path.name for path in out.iterdir()} == {*json.loads((out / "duplicates.json").read_text())["files"]} | {
        "duplicates.json"
    }
    assert "before" not in json.loads((out / "duplicates.json").read_text())
    assert pq.read_table(out / "pairs.parquet").equals(later.pairs)


@pytest.mark.skipif(os.name == "nt", reason="no fork")
@pytest.mark.parametrize("after", range(7))
def test_a_first_report_whose_writing_was_killed_is_written_over(found: Found, tmp_path: Path, after: int) -> None:
    killed_writing(tmp_path / "out", found, after=after)
    check_folder(tmp_path / "out")
    write_out(tmp_path / "out", found, "<html>", {})
    check_folder(tmp_path / "out")


def test_what_is_filled_in_while_copies_are_looked_for_is_not_written_over(
    found: Found, later: Found, out: Path
) -> None:
    check_folder(out)  # as the command does before it begins
    rows = table(out / "groups.csv")
    rows[0]["decision"] = "leave"
    rewrite(out / "groups.csv", rows)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="was changed since it was written"):
        write_out(out, later, "<html>later", {})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_is_filled_in_while_a_report_is_written_is_not_written_over(
    later: Found, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: Any) -> None:
        write_table(*given)
        rewrite(out / "pairs.csv", [row | {"copy": "no"} for row in table(out / "pairs.csv")])

    write_table = pq.write_table
    monkeypatch.setattr(pq, "write_table", meanwhile)
    with pytest.raises(InputError, match=r"pairs\.csv was changed since it was written"):
        write_out(out, later, "<html>later", {})
    assert set(read_judged(out / "pairs.csv").values()) == {False}
    assert (out / "report.html").read_text() == "<html>" and not list(out.glob(".writing-*"))


def test_judgements_are_carried_on_from_report_to_report(found: Found, tmp_path: Path) -> None:
    said = {(min(a, b), max(a, b)): place % 3 == 0 for place, (a, b) in enumerate(itertools.pairwise(IDS[:7]))}
    said["nobody", "said before"] = False  # of two that are no pair any more
    write_out(tmp_path / "again", found, "<html>", {}, said)
    assert read_judged(tmp_path / "again" / "pairs.csv") == said
    assert len(table(tmp_path / "again" / "pairs.csv")) == found.pairs.num_rows + 1
    check_folder(tmp_path / "again", said)  # nobody has filled in anything since
    for none in (None, {}):
        with pytest.raises(InputError, match=r"pairs\.csv has judgements; give them with --judged"):
            check_folder(tmp_path / "again", none)
    write_out(tmp_path / "again", found, "<html>", {}, said | {("nor", "before"): True})
    assert len(read_judged(tmp_path / "again" / "pairs.csv")) == len(said) + 1


def test_a_full_disk_leaves_the_older_report(
    found: Found, later: Found, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(CatalogueError, match=r"the disk is full: .*groups\.parquet was not written"):
        write_out(out, later, "<html>later", {})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_as_json_it_is_what_it_was_in_pieces(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    for at_once in (1, 3, 4096):
        monkeypatch.setattr(duplicates_files, "AT_ONCE", at_once)
        told = json.loads("".join(as_json(found.facts(), groups=found.groups, pairs=found.pairs)))
        assert told == found.to_dict()
    none = replace(found, groups=found.groups.slice(0, 0))
    assert json.loads("".join(as_json({"x": 1}, groups=none.groups, pairs=none.pairs)))["groups"] == []
