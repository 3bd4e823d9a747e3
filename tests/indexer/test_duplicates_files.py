"""A report of duplicates on disk: what is written is read back, and what somebody has filled in is not lost."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.deciding import DECISIONS_SCHEMA
from indexer.duplicates import PAIRS_SCHEMA, Found
from indexer.duplicates_files import check_folder, decisions_of, read_decisions, read_judged, summary, write_out
from indexer.files import sha256_of
from retrieval.errors import InputError
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
    rows += [member(8, "c", None, how=""), member(8, "d", "same bytes"), member(8, "e", "same pixels")]
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
    assert decided.to_pylist() == [{"id": "c", "kept": "d", "kind": "copy"}]


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
        ([("a", "b", "maybe")], "says 'maybe' of 'a' and 'b'; write yes or no"),
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


def test_kinds_are_counted(found: Found) -> None:
    assert summary(found) == {"same bytes": 0, "same pixels": 0, "copy": len(IDS) - 1, "lookalike": 0}
