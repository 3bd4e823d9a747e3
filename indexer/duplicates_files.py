"""Duplicates on disk: a page to look at, tables to compute with, and two files that somebody fills in.

report.html        side by side
groups.csv         a row an item; its column ``decision`` says what --apply does, and may be changed
pairs.csv          a row a pair; its column ``copy`` is for yes or no, and --judged reads it
groups.parquet     the same without these columns, with the transforms
pairs.parquet
duplicates.json    how they were found; written last, with the SHA-256 of the other files
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.deciding import DECISIONS_SCHEMA
from indexer.duplicates import KINDS, Found
from indexer.files import TEMPORARY_PREFIX, read_json, sha256_of, write_bytes, write_json
from indexer.spreadsheets import as_cell, as_text
from retrieval.errors import DamagedError, InputError

PAGE, GROUPS, PAIRS, VALUES = "report.html", "groups.csv", "pairs.csv", "duplicates.json"
TABLES: Final = ("groups.parquet", "pairs.parquet")
KEEP, REMOVE, LEAVE = "keep", "remove", "leave"
DECISIONS: Final = (KEEP, REMOVE, LEAVE)
_GROUP_COLUMNS: Final = (
    "group", "decision", "id", "kind", "how", "agreement", "sure", "why", "label", "conflict", "split", "uri", "source",
    "width", "height", "bytes", "format",
)  # fmt: skip
_PAIR_COLUMNS: Final = (
    "a", "b", "copy", "kind", "how", "agreement", "sure", "similarity", "covered_a", "covered_b",
)  # fmt: skip
YES, NO = frozenset(("yes", "y", "true", "1", "copy")), frozenset(("no", "n", "false", "0"))


def check_folder(folder: Path) -> None:
    """Refuse to write over anything but what nobody has filled in.

    Raises:
        InputError: there is something else in the folder, or decisions or judgements of somebody.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, and a report is a folder; name another with --out")
    inside = {entry.name for entry in folder.iterdir() if not entry.name.startswith(TEMPORARY_PREFIX)}
    if not inside:
        return
    written: Mapping[str, str] = {}
    if VALUES in inside:
        try:
            written = read_json(folder / VALUES).get("files", {})
        except DamagedError:
            written = {}
    ours = {PAGE, GROUPS, PAIRS, VALUES, *TABLES}
    if not written or inside - ours:
        raise InputError(f"{folder} holds other things than a report of duplicates; name a new folder with --out")
    for name in (GROUPS, PAIRS):
        if name in inside and sha256_of(folder / name) != written.get(name):
            raise InputError(
                f"{folder / name} was changed since it was written; give it back with --apply and --from, or with "
                "--judged, or name another folder with --out"
            )


def write_out(folder: Path, found: Found, page: str, about: Mapping[str, Any]) -> None:
    """Write a report, ``duplicates.json`` last.

    Raises:
        CatalogueError: the disk is full or the folder cannot be written.
    """
    write_bytes(folder / PAGE, page.encode())
    decided = [row | {"decision": KEEP if row["keep"] else REMOVE} for row in found.groups.to_pylist()]
    write_bytes(folder / GROUPS, _csv(_GROUP_COLUMNS, decided))
    write_bytes(folder / PAIRS, _csv(_PAIR_COLUMNS, found.pairs.to_pylist()))
    for name, table in zip(TABLES, (found.groups, found.pairs), strict=True):
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_bytes(folder / name, buffer.getvalue())
    files = {name: sha256_of(folder / name) for name in (PAGE, GROUPS, PAIRS, *TABLES)}
    write_json(folder / VALUES, {**found.facts(), "about": about, "files": files})


def decisions_of(groups: pa.Table) -> pa.Table:
    """What the policy decides: every item of a group goes but the one that is kept; ``DECISIONS_SCHEMA``."""
    kept = {row["group"]: row["id"] for row in groups.to_pylist() if row["keep"]}
    rows = [
        {"id": row["id"], "kept": kept[row["group"]], "kind": row["kind"]}
        for row in groups.to_pylist()
        if not row["keep"]
    ]
    return pa.Table.from_pylist(rows, schema=DECISIONS_SCHEMA)


def read_decisions(path: Path) -> pa.Table:
    """Read ``groups.csv`` with somebody's decisions: ``DECISIONS_SCHEMA``.

    Raises:
        InputError: it is no such file, removes nothing or all of a group, or says what is no decision.
    """
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    decided = _read(path, ("group", "decision", "id", "kind"), GROUPS)
    for row in decided:
        decision = row["decision"].strip().lower()
        if decision not in DECISIONS:
            raise InputError(f"{path} says {row['decision']!r} of {row['id']!r}; a decision is {', '.join(DECISIONS)}")
        groups[row["group"]].append(row | {"decision": decision})
    rows = []
    for number, members in groups.items():
        kept = [row["id"] for row in members if row["decision"] == KEEP]
        gone = [row for row in members if row["decision"] == REMOVE]
        if gone and not kept:
            raise InputError(f"{path} keeps nothing of group {number}; say {KEEP} of at least one of its items")
        # What is removed in place of the kept one that the policy chose is a copy all the same.
        rows += [{"id": row["id"], "kept": kept[0], "kind": row["kind"] or "copy"} for row in gone]
    if decided and not rows:
        raise InputError(f"{path} removes nothing; say {REMOVE} in its column decision")
    return pa.Table.from_pylist(rows, schema=DECISIONS_SCHEMA)


def read_judged(path: Path) -> dict[tuple[str, str], bool]:
    """Read ``pairs.csv`` with somebody's judgements: (id, id) → whether they are copies; empty ones are left out.

    Raises:
        InputError: it is no such file, or says neither yes nor no, or both of one pair.
    """
    said: dict[tuple[str, str], bool] = {}
    for row in _read(path, ("a", "b", "copy"), PAIRS):
        word = row["copy"].strip().lower()
        if not word:
            continue
        if word not in YES | NO:
            raise InputError(f"{path} says {row['copy']!r} of {row['a']!r} and {row['b']!r}; write yes or no")
        pair = (min(row["a"], row["b"]), max(row["a"], row["b"]))
        if said.setdefault(pair, word in YES) != (word in YES):
            raise InputError(f"{path} says yes and no of {row['a']!r} and {row['b']!r}")
    if not said:
        raise InputError(f"no row of {path} is judged; write yes or no into its column copy")
    return said


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    # A carriage return in an id is quoted only where it is part of the line end.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return as_cell(value) if isinstance(value, str) else str(value)


def _read(path: Path, columns: Sequence[str], like: str) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # and not as text, which would change the line ends in an id
        # Spreadsheets of half of Europe write semicolons.
        first = text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        missing = set(columns) - set(rows.fieldnames or ())
        if missing:
            raise InputError(
                f"{path} has no column {min(missing)!r}; take the {like} that --out writes, and change that"
            )
        return [{name: as_text(row[name] or "") for name in columns} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def summary(found: Found) -> dict[str, int]:
    """Count pairs by kind."""
    kinds = found.pairs.column("kind").to_pylist()
    return {kind: kinds.count(kind) for kind in KINDS}
