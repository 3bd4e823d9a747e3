"""Duplicates on disk: a page to look at, tables to compute with, and two files that somebody fills in.

report.html        side by side
groups.csv         a row an item; its column ``decision`` says what --apply does, and may be changed
pairs.csv          a row a pair; its column ``copy`` is for yes or no, and --judged reads it
groups.parquet     the same without these columns, with the transforms
pairs.parquet
duplicates.json    how they were found, with the SHA-256 of the other files

A report that is written over an older one may be killed between two of its files. So ``duplicates.json`` is written
twice: before the first file takes its place, when it names what is coming and, as ``before``, what is there; and after
the last. Whatever it names only we have written.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.copy_tables import COPY, SAME_BYTES
from indexer.deciding import DECISIONS_SCHEMA
from indexer.duplicates import Found
from indexer.files import TEMPORARY_PREFIX, atomic_write, read_json, sha256_of, sweep, write_json
from indexer.spreadsheets import as_cell, as_text
from retrieval.errors import DamagedError, InputError

PAGE, GROUPS, PAIRS, VALUES = "report.html", "groups.csv", "pairs.csv", "duplicates.json"
TABLES: Final = ("groups.parquet", "pairs.parquet")
KEEP, REMOVE, LEAVE = "keep", "remove", "leave"
DECISIONS: Final = (KEEP, REMOVE, LEAVE)
_GROUP_COLUMNS: Final = (
    "group", "decision", "id", "kind", "how", "agreement", "sure", "why", "label", "conflict", "split", "uri", "source",
    "width", "height", "bytes", "format", "sha256",
)  # fmt: skip
_PAIR_COLUMNS: Final = (
    "a", "b", "copy", "kind", "how", "agreement", "sure", "similarity", "covered_a", "covered_b",
)  # fmt: skip
AT_ONCE: Final = 4096
"""Rows that are turned into text together: in Python a row is some ten times as large as in the table."""
_SHA256: Final = re.compile(r"([0-9a-f]{64})?")
YES, NO = frozenset(("yes", "y", "true", "1", "copy")), frozenset(("no", "n", "false", "0"))


def check_folder(folder: Path, judged: Mapping[tuple[str, str], bool] | None = None) -> None:
    """Refuse to write over anything but what nobody has filled in, or what is written again.

    Args:
        folder: where a report is to be written.
        judged: the judgements that it will have.

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
    before: Mapping[str, str] = {}
    if VALUES in inside:
        with contextlib.suppress(DamagedError):
            values = read_json(folder / VALUES)
            written, before = values.get("files", {}), values.get("before", {})
            if values.get("judged") and not judged:
                raise InputError(
                    f"{folder / PAIRS} has judgements; give them with --judged, or name another folder with --out"
                )
    ours = {PAGE, GROUPS, PAIRS, VALUES, *TABLES}
    if not written or inside - ours:
        such = "".join(f", such as {name}" for name in sorted(inside - ours)[:1])
        raise InputError(f"{folder} holds other things than a report of duplicates{such}; name a new folder with --out")
    for name, way in ((GROUPS, "--apply and --from"), (PAIRS, "--judged")):
        if name in inside and sha256_of(folder / name) not in (written.get(name), before.get(name)):
            raise InputError(
                f"{folder / name} was changed since it was written; give it back with {way}, or name another folder "
                "with --out"
            )


def write_out(
    folder: Path,
    found: Found,
    page: str,
    about: Mapping[str, Any],
    judged: Mapping[tuple[str, str], bool] | None = None,
) -> None:
    """Write a report. A folder that changes meanwhile is refused: finding takes long enough to fill something in.

    Args:
        folder: where.
        found: what was found.
        page: of it.
        about: of the run.
        judged: the judgements it was found with, as ``read_judged`` gives them; written again, to be added to.

    Raises:
        InputError: as of ``check_folder``.
        CatalogueError: the disk is full or the folder cannot be written.
    """
    check_folder(folder, judged)
    sweep(folder)
    groups, pairs = found.groups, found.pairs
    decision = pc.if_else(groups.column("keep"), KEEP, REMOVE)
    with contextlib.ExitStack() as renamed:
        files: dict[str, str] = {}

        @contextlib.contextmanager
        def writing(name: str) -> Iterator[BinaryIO]:
            file = renamed.enter_context(atomic_write(folder / name))
            yield file
            file.flush()
            with os.fdopen(os.dup(file.fileno()), "rb") as again:
                again.seek(0)
                files[name] = hashlib.file_digest(again, "sha256").hexdigest()

        with writing(PAGE) as file:
            file.write(page.encode())
        with writing(GROUPS) as file:
            _write_csv(file, _GROUP_COLUMNS, groups.append_column("decision", decision))
        with writing(PAIRS) as file:
            _write_csv(file, _PAIR_COLUMNS, _with_judgements(pairs, judged or {}))
        for name, table in zip(TABLES, (groups, pairs), strict=True):
            with writing(name) as file:
                pq.write_table(table, file)
        check_folder(folder, judged)
        values = {**found.facts(), "about": about, "files": files, "judged": len(judged or {})}
        there = {name: sha256_of(folder / name) for name in (GROUPS, PAIRS) if (folder / name).exists()}
        write_json(folder / VALUES, {**values, "before": there})
    write_json(folder / VALUES, values)


def as_json(values: Mapping[str, Any], **tables: pa.Table) -> Iterator[str]:
    """Write an object of these values, and of tables as lists of rows, piece by piece."""
    yield json.dumps(values, ensure_ascii=False, default=str).removesuffix("}")
    for name, table in tables.items():
        between = f', "{name}": ['
        for batch in table.to_batches(AT_ONCE):
            for_all = ", ".join(json.dumps(row, ensure_ascii=False, default=str) for row in batch.to_pylist())
            yield between + for_all
            between = ", "
        yield "]" if table.num_rows else f"{between}]"
    yield "}"


def decisions_of(groups: pa.Table) -> pa.Table:
    """What the policy decides: every item of a group goes but the one that is kept; ``DECISIONS_SCHEMA``."""
    keeps = groups.filter(groups.column("keep"))
    gone = groups.filter(pc.invert(groups.column("keep")))
    at = pc.index_in(gone.column("group"), value_set=keeps.column("group").combine_chunks())
    stays = keeps.select(["id", "sha256"]).take(at)
    columns = (gone, "id"), (stays, "id"), (gone, "kind"), (gone, "sha256"), (stays, "sha256")
    return pa.table([table.column(name) for table, name in columns], schema=DECISIONS_SCHEMA)


def read_decisions(path: Path) -> pa.Table:
    """Read ``groups.csv`` with somebody's decisions: ``DECISIONS_SCHEMA``.

    Of several that are kept of a group, each item that goes is one of the first, or of the one with its bytes. Files
    that were written before there was a column ``sha256`` are read as well.

    Raises:
        InputError: it is no such file, removes nothing or all of a group, says what is no decision or no SHA-256, has
            an item twice, or one without a group.
    """
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    met = set[str]()
    decided = _read(path, ("group", "decision", "id", "kind"), GROUPS, besides=("sha256",))
    for row in decided:
        decision = row["decision"].strip().lower()
        if decision not in DECISIONS:
            raise InputError(f"{path} says {row['decision']!r} of {row['id']!r}; a decision is {', '.join(DECISIONS)}")
        if row["id"] in met:
            raise InputError(f"{path} has several rows of {row['id']!r}; keep only one of these rows")
        met.add(row["id"])
        if not row["group"].strip():
            raise InputError(f"{path} says no group of {row['id']!r}; leave that column as it was written")
        sha256 = row["sha256"].strip().lower()
        if not _SHA256.fullmatch(sha256):
            raise InputError(
                f"{path} has {row['sha256']!r} as the SHA-256 of {row['id']!r}; leave that column as it was written"
            )
        groups[row["group"]].append(row | {"decision": decision, "sha256": sha256})
    rows = []
    for number, members in groups.items():
        kept = [row for row in members if row["decision"] == KEEP]
        gone = [row for row in members if row["decision"] == REMOVE]
        if gone and not kept:
            raise InputError(f"{path} keeps nothing of group {number}; say {KEEP} of at least one of its items")
        rows += [_decision(row, kept) for row in gone]
    if decided and not rows:
        raise InputError(f"{path} removes nothing; say {REMOVE} in its column decision")
    return pa.Table.from_pylist(rows, schema=DECISIONS_SCHEMA)


def _decision(row: Mapping[str, str], kept: Sequence[Mapping[str, str]]) -> dict[str, str | None]:
    equal = [one for one in kept if row["sha256"] and one["sha256"] == row["sha256"]]
    stays = (equal or kept)[0]
    kind = SAME_BYTES
    if not equal:
        # Told is what it is to the one that the policy chose, and of that one nothing.
        kind = row["kind"] if row["kind"] and not stays["kind"] else COPY
    both = {"sha256": row["sha256"] or None, "kept_sha256": stays["sha256"] or None}
    return {"id": row["id"], "kept": stays["id"], "kind": kind, **both}


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


def _with_judgements(pairs: pa.Table, judged: Mapping[tuple[str, str], bool]) -> pa.Table:
    """Pairs with a column ``copy``; what was judged and is none of them comes last, with nothing but that."""
    if not judged:
        return pairs
    one, other = pairs.column("a").to_pylist(), pairs.column("b").to_pylist()
    known = [(min(a, b), max(a, b)) for a, b in zip(one, other, strict=True)]
    said = [judged.get(pair) for pair in known]
    rest = judged.keys() - set(known)
    others = pa.Table.from_pylist([{"a": a, "b": b, "copy": judged[a, b]} for a, b in sorted(rest)])
    return pa.concat_tables(
        [pairs.append_column("copy", pa.array(said, pa.bool_())), others], promote_options="default"
    )


def _write_csv(file: BinaryIO, columns: Sequence[str], table: pa.Table) -> None:
    def write(rows: Iterable[Sequence[str]]) -> None:
        text = io.StringIO()
        # A carriage return in an id is quoted only where it is part of the line end.
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        file.write(text.getvalue().encode())

    write([columns])
    for batch in table.select([name for name in columns if name in table.column_names]).to_batches(AT_ONCE):
        write([_cell(row.get(name)) for name in columns] for row in batch.to_pylist())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return as_cell(value) if isinstance(value, str) else str(value)


def _read(path: Path, columns: Sequence[str], like: str, *, besides: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a file; what ``besides`` names and the file has not is empty."""
    take = f"take the {like} that --out writes, and change that"
    try:
        text = path.read_bytes().decode("utf-8-sig")  # and not as text, which would change the line ends in an id
        # Spreadsheets of half of Europe write semicolons.
        first = text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        named = list(rows.fieldnames or ())
        for name in (*columns, *besides):
            if named.count(name) > 1 or (name in columns and name not in named):
                how_often = f"{named.count(name)} columns" if name in named else "no column"
                raise InputError(f"{path} has {how_often} {name!r}; {take}")
        return [{name: as_text(row.get(name) or "") for name in (*columns, *besides)} for row in rows]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file in UTF-8; {take}") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
