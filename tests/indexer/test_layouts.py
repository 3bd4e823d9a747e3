"""Layouts: found however turned, forgotten, and kept in the memory that they take."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from indexer.layouts import LAYOUTS_SCHEMA, Layouts
from retrieval.views import GRID, dihedral, layout
from tests.indexer.copies import photo

MANY = 20_000
BYTES = 2 * GRID * GRID


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def row(number: int, *, turned: int = 0, **more: Any) -> dict[str, Any]:
    """Of a photo that was turned and mirrored in one of eight ways."""
    laid = dihedral(layout(photo(number))[None])[turned, 0]
    return {"sha256": key(number), "layout": laid.astype("<f2").tobytes(), "shown": None, **more}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, LAYOUTS_SCHEMA)


@pytest.mark.parametrize("turned", range(8))
def test_what_was_turned_or_mirrored_is_the_nearest(turned: int) -> None:
    layouts = Layouts(table([row(number) for number in range(12)]))
    (found,) = layouts.nearest([row(3, turned=turned, sha256=key(99))], 2)
    assert found[0] == key(3)


def test_what_is_shown_on_a_page_is_found_and_finds() -> None:
    page = row(20, shown=row(3)["layout"])
    layouts = Layouts(table([page, *(row(number) for number in range(1, 12))]))
    (found,) = layouts.nearest([row(3, sha256=key(99))], 2)
    assert set(found) == {key(3), key(20)}
    (found,) = layouts.nearest([page], 1)
    assert found == [key(3)]


def test_what_comes_one_by_one_is_what_comes_at_once() -> None:
    rows = [row(number) for number in range(30)]
    rows[7]["shown"] = rows[4]["layout"]
    nothing = {"sha256": key(40), "reason": "is gone"}
    asked = [row(number, turned=2) for number in range(30)] + [nothing]
    grown = Layouts(table(rows[:2]))
    for one in (nothing, *rows[2:]):
        grown.add([one])
    expected = Layouts(table(rows)).nearest(asked, 4)
    assert expected[-1] == [] and all(expected[:-1])
    assert grown.nearest(asked, 4) == expected
    grown.forget({key(number) for number in range(10)})
    assert grown.nearest(asked, 4) == Layouts(table(rows[10:])).nearest(asked, 4)
    grown.add(rows[:10])
    assert grown.nearest(asked, 4) == expected


def test_of_nothing() -> None:
    layouts = Layouts(LAYOUTS_SCHEMA.empty_table())
    layouts.add([])
    layouts.forget({key(1)})
    assert layouts.nearest([row(1)], 3) == [[]]
    assert layouts.nearest([], 3) == []


def test_many_are_read_in_the_memory_that_they_take() -> None:
    noise = np.random.default_rng(0).normal(size=(MANY, GRID * GRID)).astype("<f2")
    keys = [key(number) for number in range(MANY)]
    columns = [keys, [one.tobytes() for one in noise], [None] * MANY]
    known = pa.table(columns, schema=LAYOUTS_SCHEMA)
    del keys, columns
    tracemalloc.start()
    try:
        layouts = Layouts(known)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert layouts.nearest([{"sha256": b"", "layout": noise[5].tobytes()}], 1) == [[key(5)]]
    # Themselves, their keys, and little beside; as a dictionary each they were more than twice as much.
    assert peak < MANY * (BYTES + 160)
