"""What came of comparing pictures, in arrays: about a hundred bytes a pair, whatever it came to.

Pictures are numbered, each by its SHA-256, so that a pair is two small numbers. On disk the same is a Parquet file of
``COMPARED_SCHEMA`` for each block of candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from retrieval.copies import HALF, Overlay

COMPARED_SCHEMA: Final = pa.schema(
    [
        # SHA-256 of the two, 32 bytes each, the lower first
        pa.field("a", pa.binary(), nullable=False),
        pa.field("b", pa.binary(), nullable=False),
        # as ``Overlay``: from a to b; numbers of a and b
        pa.field("agreement", pa.float64(), nullable=False),
        pa.field("matches", pa.int32(), nullable=False),
        pa.field("transform", pa.list_(pa.float64(), 6), nullable=False),
        pa.field("covered", pa.list_(pa.float64(), 2), nullable=False),
        pa.field("colour", pa.float64(), nullable=False),
        pa.field("beyond", pa.list_(pa.float64(), 2), nullable=False),
    ]
)
"""A pair a row, of those that have anything in common."""

_ROW: Final = np.dtype(
    [
        ("a", np.int32),
        ("b", np.int32),
        ("agreement", np.float64),
        ("matches", np.int32),
        ("transform", np.float64, 6),
        ("covered", np.float64, 2),
        ("colour", np.float64),
        ("beyond", np.float64, 2),
        ("asked", np.bool_),
    ]
)

Pair = tuple[bytes, bytes]


def pair_of(a: bytes, b: bytes) -> Pair:
    """The two in the order in which pairs are kept."""
    return (a, b) if a < b else (b, a)


def table_of(found: Iterable[tuple[Pair, Overlay | None]]) -> pa.Table:
    """Write what came of some pairs as rows of ``COMPARED_SCHEMA``; None is nothing in common."""
    rows = [(pair, over or Overlay.none()) for pair, over in found]
    columns = {
        "a": [pair[0] for pair, _ in rows],
        "b": [pair[1] for pair, _ in rows],
        "agreement": [over.agreement for _, over in rows],
        "matches": [over.matches for _, over in rows],
        "transform": [over.transform.ravel() for _, over in rows],
        "covered": [over.covered for _, over in rows],
        "colour": [over.colour for _, over in rows],
        "beyond": [over.beyond for _, over in rows],
    }
    return pa.table(columns, schema=COMPARED_SCHEMA)


class KnownPairs:
    """What came of pairs that were compared; of a pair that is added twice, what was added last."""

    def __init__(self) -> None:
        self._number: dict[bytes, int] = {}
        self._parts: list[np.ndarray] = []
        self._keys = np.zeros(0, np.int64)
        self._rows = np.zeros(0, _ROW)

    def add(self, table: pa.Table, *, asked: bool = False) -> None:
        """Take rows of ``COMPARED_SCHEMA`` in; ``asked`` where no list of candidates had them."""
        part = np.empty(table.num_rows, _ROW)
        part["asked"] = asked
        for name in ("a", "b"):
            part[name] = [self._number_of(sha256) for sha256 in table.column(name).to_pylist()]
        for name in ("agreement", "matches", "colour"):
            part[name] = table.column(name).to_numpy()
        for name in ("transform", "covered", "beyond"):
            flat = table.column(name).combine_chunks().flatten()
            part[name] = flat.to_numpy(zero_copy_only=False).reshape(part[name].shape)
        self._parts.append(part)

    @property
    def pictures(self) -> Sequence[bytes]:
        """SHA-256 of the pictures, by number."""
        return list(self._number)

    @property
    def rows(self) -> np.ndarray:
        """Every pair once: fields a, b (numbers of pictures), asked, and those of ``COMPARED_SCHEMA``.

        A structured array (n,); adding puts rows elsewhere.
        """
        if self._parts:
            rows = np.concatenate([self._rows, *self._parts])
            keys = _keys(rows["a"], rows["b"])
            _, last = np.unique(keys[::-1], return_index=True)
            self._rows = rows[len(rows) - 1 - last]
            self._keys = _keys(self._rows["a"], self._rows["b"])
            self._parts = []
        return self._rows

    def __len__(self) -> int:
        return len(self.rows)

    def places(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Where pairs are in ``rows``: (k,) int64; -1 where one was not compared, or nothing was kept of it."""
        rows = self.rows
        both = [(self._number.get(a, -1), self._number.get(b, -1)) for a, b in pairs]
        a, b = np.array(both, np.int64).reshape(-1, 2).T
        keys = _keys(a, b)
        at = np.minimum(np.searchsorted(self._keys, keys), max(0, len(rows) - 1))
        there = (a >= 0) & (b >= 0) & (self._keys[at] == keys if len(rows) else False)
        return np.where(there, at, -1)

    def through_others(self, pairs: Sequence[Pair], *, least: float) -> np.ndarray:
        """How far pairs agree by way of a third picture that is a candidate of both, those besides left out.

        More than half of the third picture is in either of the two, so that it is no collage of both.

        Args:
            pairs: k of them, which need not be known themselves.
            least: agreement of a pair from which on it leads anywhere.

        Returns:
            (k,) float64: agreement of the weaker of the two pairs that lead there, of the best way; 0 where none does.
        """
        rows = self.rows
        asked = np.unique([self._number.get(sha256, -1) for pair in pairs for sha256 in pair])
        leads = ~rows["asked"] & (rows["agreement"] >= least)
        leads &= np.isin(rows["a"], asked) | np.isin(rows["b"], asked)
        beside: dict[int, dict[int, float]] = {number: {} for number in asked.tolist()}
        for row in rows[leads]:
            agreement, covered = float(row["agreement"]), row["covered"]
            for one, third, side in ((row["a"], row["b"], 1), (row["b"], row["a"], 0)):
                if one in beside and covered[side] > HALF:
                    beside[int(one)][int(third)] = agreement
        found = np.zeros(len(pairs))
        for at, pair in enumerate(pairs):
            one, other = (beside[self._number.get(sha256, -1)] for sha256 in pair)
            ways = [min(one[third], other[third]) for third in one.keys() & other.keys()]
            found[at] = max(ways, default=0.0)
        return found

    def overlay(self, place: int) -> Overlay:
        """What came of the pair at a place in ``rows``."""
        row = self.rows[place]
        (one, other), (first, second) = row["covered"].tolist(), row["beyond"].tolist()
        return Overlay(
            agreement=float(row["agreement"]),
            matches=int(row["matches"]),
            transform=row["transform"].reshape(2, 3).copy(),
            covered=(one, other),
            colour=float(row["colour"]),
            beyond=(first, second),
        )

    def get(self, a: bytes, b: bytes) -> Overlay | None:
        """What came of a pair in the order in which pairs are kept; None where nothing is known."""
        (place,) = self.places([(a, b)]).tolist()
        return None if place < 0 else self.overlay(place)

    def _number_of(self, sha256: bytes) -> int:
        return self._number.setdefault(sha256, len(self._number))


def _keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    keys: np.ndarray = (a.astype(np.int64) << 32) | b.astype(np.int64)
    return keys
