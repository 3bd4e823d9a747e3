"""A report of very many pairs is written in the memory of some of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from indexer.duplicates import GROUPS_SCHEMA, PAIRS_SCHEMA, Found
from indexer.duplicates_files import as_json, decisions_of, write_out
from indexer.duplicates_words import apart, copies_of, pairs_of
from tests.indexer.found import THRESHOLD, UNREADABLE, member

MANY = 40_000
MOST = 12 * 2**20
"""Bytes; the pairs alone as rows in Python are twice as many."""


@pytest.fixture(scope="module")
def many() -> Found:
    """As many pairs, of which every other one is a copy, and half as many groups of two."""
    ids = pa.array([f"folder/{number:09d}.jpg" for number in range(MANY)])
    kinds = ["copy", "lookalike"]
    pairs = {
        "a": ids,
        "b": pa.concat_arrays([ids.slice(1), ids.slice(0, 1)]),
        "kind": pa.array([kinds[number % 2] for number in range(MANY)]),
        "how": pa.array(["cut to 58 %"] * MANY),
        "similarity": pa.array([0.5] * MANY, pa.float32()),
    }
    nulls = {field.name: pa.nulls(MANY, field.type) for field in PAIRS_SCHEMA}
    columns = nulls | pairs
    of_group = pa.Table.from_pylist([member(0, "x", None, how=""), member(0, "y", "copy")], GROUPS_SCHEMA)
    rows = of_group.take(pa.array([0, 1] * (MANY // 2)))
    rows = rows.set_column(0, rows.schema.field(0), pa.array([number // 2 for number in range(MANY)], pa.int64()))
    rows = rows.set_column(1, rows.schema.field(1), ids)
    return Found(
        pairs=pa.table([columns[field.name] for field in PAIRS_SCHEMA], schema=PAIRS_SCHEMA),
        groups=rows,
        threshold=THRESHOLD,
        examined=MANY,
        unreadable=UNREADABLE.empty_table(),
        version=3,
        effort="usual",
        between=("train", "test"),
        new_since=None,
    )


def written(found: Found, folder: Path) -> int:
    write_out(folder, found, "<html>", {})
    with (folder / "pairs.csv").open(newline="") as file:
        return sum(1 for _ in file) - 1


def printed(found: Found, folder: Path) -> int:
    return sum(piece.count('"similarity"') for piece in as_json(found.facts(), groups=found.groups, pairs=found.pairs))


def counted(found: Found, folder: Path) -> int:
    assert apart(found.groups, found.pairs) == 0 and copies_of(found.groups) == {"copy": MANY // 2}
    assert decisions_of(found.groups).num_rows == MANY // 2
    return sum(pairs_of(found.pairs).values())


@pytest.mark.parametrize("done", [written, printed, counted])
def test_memory_does_not_grow_with_the_pairs(many: Found, tmp_path: Path, done: Any) -> None:
    tracemalloc.start()
    try:
        assert done(many, tmp_path / "out") == MANY
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
