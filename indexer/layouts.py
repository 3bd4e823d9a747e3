"""Layouts of pictures: by them those that are light and dark in the same places are found, turned and mirrored too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.fingerprints import FINGERPRINTS_SCHEMA
from retrieval.neighbours import top_k
from retrieval.views import GRID, dihedral

_OF: Final = ("layout", "shown")
LAYOUTS_SCHEMA: Final = pa.schema([FINGERPRINTS_SCHEMA.field(name) for name in ("sha256", *_OF)])
_NUMBERS: Final = GRID * GRID


class Layouts:
    """The layouts of pictures, and of what these show on even ground.

    Of a page that was looked at before its photo came the photo finds the page: only what comes later asks.

    Args:
        known: ``LAYOUTS_SCHEMA``, a picture a row.
    """

    def __init__(self, known: pa.Table) -> None:
        self._keys: list[bytes] = []
        self._room = np.zeros((0, _NUMBERS), np.float16)  # with places to spare
        self._add(known)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Find more pictures, too: rows of ``FINGERPRINTS_SCHEMA``."""
        self._add(_table_of(rows))

    def forget(self, gone: Collection[bytes]) -> None:
        """Find some pictures no longer, by their SHA-256."""
        stay = [at for at, key in enumerate(self._keys) if key not in gone]
        if len(stay) < len(self._keys):
            self._keys, self._room = [self._keys[at] for at in stay], self._room[stay]

    def nearest(self, rows: Sequence[Mapping[str, Any]], most: int) -> list[list[bytes]]:
        """Find the pictures nearest to others, themselves left out.

        Args:
            rows: n rows of ``FINGERPRINTS_SCHEMA``; those without a layout have none.
            most: how many of each.

        Returns:
            SHA-256, the nearest first.
        """
        owner, asked = _layouts_of(_table_of(rows))
        if not self._keys or not len(owner):
            return [[] for _ in rows]
        turned = np.ascontiguousarray(dihedral(asked.reshape(-1, GRID, GRID).astype(np.float32)))
        # Two layouts of one neighbour, or of the picture itself, take a place each.
        ids, similarity = top_k(turned.reshape(-1, _NUMBERS), self._room[: len(self._keys)], 2 * (most + 1))
        nearest: list[dict[bytes, float]] = [{} for _ in rows]
        for query, (of_query, values) in enumerate(zip(ids.tolist(), similarity.tolist(), strict=True)):
            best = nearest[owner[query % len(owner)]]
            for id, value in zip(of_query, values, strict=True):
                if id >= 0 and value > 0:
                    best[self._keys[id]] = max(value, best.get(self._keys[id], value))
        for row, best in zip(rows, nearest, strict=True):
            best.pop(row["sha256"], None)
        return [sorted(best, key=lambda key: (best[key], key), reverse=True)[:most] for best in nearest]

    def _add(self, table: pa.Table) -> None:
        owner, layouts = _layouts_of(table)
        before, after = len(self._keys), len(self._keys) + len(owner)
        if not before:
            self._room = layouts
        elif after > len(self._room):
            room = np.empty((max(after, before + before // 4), _NUMBERS), np.float16)
            room[:before] = self._room[:before]
            self._room = room
        self._room[before:after] = layouts
        keys = table.column("sha256").to_pylist()
        self._keys += [keys[at] for at in owner.tolist()]


def _table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in LAYOUTS_SCHEMA.names} for row in rows], LAYOUTS_SCHEMA
    )


def _layouts_of(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The layouts of a table: place of the row of each, (n,) int64, and (n, GRID * GRID) float16."""
    owner, layouts = [np.zeros(0, np.int64)], [np.zeros((0, _NUMBERS), np.float16)]
    for name in _OF:
        column = table.column(name)
        owner.append(np.flatnonzero(column.is_valid().to_numpy()))
        for chunk in column.chunks:
            stored = chunk.drop_null().cast(pa.binary(2 * _NUMBERS))
            if len(stored):
                values = np.frombuffer(stored.buffers()[1], "<f2").reshape(-1, _NUMBERS)
                layouts.append(values[stored.offset : stored.offset + len(stored)])
    return np.concatenate(owner), np.concatenate(layouts)
