"""Versioned tables: commits, versions, columns that come later."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from indexer.items import REJECTED_SCHEMA, VersionedTable, fit_columns
from retrieval.errors import DamagedError, InputError, NotFoundError

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("size", pa.int64())])


def rows(table: VersionedTable) -> list[dict[str, object]]:
    return table.read().sort_by("id").to_pylist()


@pytest.fixture
def table(tmp_path: Path) -> VersionedTable:
    made = VersionedTable.create(tmp_path / "items", SCHEMA, {"embedder": "e"})
    made.append(pa.table({"id": ["a", "b"], "size": [1, 2]}, schema=SCHEMA), {"embedder": "e", "next_row": "2"})
    return made


def test_each_write_is_a_version_with_its_metadata(table: VersionedTable) -> None:
    assert table.version == 1
    assert table.metadata() == {"embedder": "e", "next_row": "2"}
    again = VersionedTable.open(table.path)
    assert rows(again) == [{"id": "a", "size": 1}, {"id": "b", "size": 2}]
    first = VersionedTable.open(table.path, version=0)
    assert (first.version, first.metadata(), rows(first)) == (0, {"embedder": "e"}, [])
    assert [entry["version"] for entry in table.history()] == [1, 0]


def test_merge_replaces_what_is_there_and_adds_the_rest(table: VersionedTable) -> None:
    table.merge(pa.table({"id": ["b", "c"], "size": [20, 30]}, schema=SCHEMA), on=["id"], metadata={})
    assert rows(table) == [{"id": "a", "size": 1}, {"id": "b", "size": 20}, {"id": "c", "size": 30}]


def test_merge_keeps_columns_it_does_not_have_and_adds_new_ones(table: VersionedTable) -> None:
    table.merge(pa.table({"id": ["a"], "colour": ["red"]}), on=["id"], metadata={})
    assert rows(table) == [{"id": "a", "size": 1, "colour": "red"}, {"id": "b", "size": 2, "colour": None}]
    odd = "A \"Column\" 'of' ours; साड़ी."
    table.merge(pa.table({"id": ["b", "c"], odd: [1.5, 2.5]}), on=["id"], metadata={})
    assert [row[odd] for row in rows(table)] == [None, 1.5, 2.5]


def test_columns_may_come_later_and_be_missing_later(table: VersionedTable) -> None:
    table.append(pa.table({"id": ["c"], "price": [1.5]}), {})
    table.append(pa.table({"id": ["d"]}), {})
    assert rows(table)[2:] == [{"id": "c", "size": None, "price": 1.5}, {"id": "d", "size": None, "price": None}]
    assert rows(table)[0] == {"id": "a", "size": 1, "price": None}


def test_remove_takes_all_columns_into_account(table: VersionedTable) -> None:
    table.remove(pa.table({"id": ["a", "b"], "size": [1, 99]}), metadata={})
    assert rows(table) == [{"id": "b", "size": 2}]


def test_restore_brings_an_earlier_version_back_as_a_new_one(table: VersionedTable) -> None:
    table.remove(pa.table({"id": ["a"]}), metadata={})
    table.restore(1, {"embedder": "f"})
    assert table.version == 3
    assert table.metadata() == {"embedder": "f"}
    assert rows(table) == [{"id": "a", "size": 1}, {"id": "b", "size": 2}]


def test_names_with_quotes_and_newlines_are_values_like_others(table: VersionedTable) -> None:
    name = 'it\'s "odd"\n; drop table साड़ी \\'
    table.merge(pa.table({"id": [name], "size": [3]}, schema=SCHEMA), on=["id"], metadata={})
    table.merge(pa.table({"id": [name], "size": [4]}, schema=SCHEMA), on=["id"], metadata={})
    assert {"id": name, "size": 4} in rows(table)
    table.remove(pa.table({"id": [name]}), metadata={})
    assert len(rows(table)) == 2


def test_many_small_files_are_joined_and_nothing_is_lost(table: VersionedTable) -> None:
    for number in range(5):
        table.append(pa.table({"id": [f"n{number}"], "size": [number]}, schema=SCHEMA), {"next_row": str(number)})
    table.compact(table.metadata(), files=3)
    assert table.metadata() == {"next_row": "4"}
    assert len(rows(table)) == 7
    assert len(list(table.path.glob("*.parquet"))) > 3  # earlier versions stay readable
    assert len(rows(VersionedTable.open(table.path, version=3))) == 4


def test_a_missing_version_table_or_file_is_named(table: VersionedTable) -> None:
    with pytest.raises(NotFoundError, match="no version 7: they go from 0 to 1"):
        VersionedTable.open(table.path, version=7)
    with pytest.raises(DamagedError, match="nowhere"):
        VersionedTable.open(table.path.parent / "nowhere")
    (file,) = table.path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DamagedError, match="items is damaged"):
        table.read()


def test_values_that_fit_are_cast_and_others_refused(table: VersionedTable) -> None:
    small = pa.table({"id": ["c"], "size": pa.array([3], pa.int32())})
    assert fit_columns(small, table.schema()).schema.field("size").type == pa.int64()
    with pytest.raises(InputError, match=r"column 'size' is int64 in the catalogue but string in this source"):
        fit_columns(pa.table({"id": ["c"], "size": ["large"]}), table.schema())


def test_an_empty_rejected_table_reads_as_its_schema(tmp_path: Path) -> None:
    made = VersionedTable.create(tmp_path / "rejected", REJECTED_SCHEMA, {})
    assert made.read().schema.names == REJECTED_SCHEMA.names
