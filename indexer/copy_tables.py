"""What is known of pairs and groups of bytes → tables of pairs and groups of items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.vectors import VectorCache
from retrieval.copies import Overlay, how_made

SAME_BYTES: Final = "same bytes"
SAME_PIXELS: Final = "same pixels"
COPY: Final = "copy"
LOOKALIKE: Final = "lookalike"
KINDS: Final = (SAME_BYTES, SAME_PIXELS, COPY, LOOKALIKE)
"""Surest first. A lookalike is another photograph, of the same thing or scene; the others are one photograph."""

PAIRS_SCHEMA: Final = pa.schema(
    [
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        # one of ``KINDS``
        pa.field("kind", pa.string(), nullable=False),
        # how much the two agree where they lie over each other, in [0, 1]; null for same bytes
        pa.field("agreement", pa.float64()),
        # share of copies among the planted and judged pairs that agree as much, in [0, 1]; null for a lookalike
        pa.field("sure", pa.float64()),
        # cosine of the vectors of both, in [-1, 1]; null where there is none
        pa.field("similarity", pa.float32()),
        # how b was made from a; "" for same bytes and lookalikes
        pa.field("how", pa.string(), nullable=False),
        # six numbers, row-major (2, 3): from pixels of a to pixels of b at full size; null where unknown
        pa.field("transform", pa.list_(pa.float64())),
        # share of each that the other one shows, in [0, 1]; null where unknown
        pa.field("covered_a", pa.float64()),
        pa.field("covered_b", pa.float64()),
    ]
)
"""A pair of items a row, by kind and then surest first."""

GROUPS_SCHEMA: Final = pa.schema(
    [
        # from 1; groups whose labels contradict each other first, then the larger ones
        pa.field("group", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        # exactly one of a group
        pa.field("keep", pa.bool_(), nullable=False),
        # of the one that is kept, why; "" for the others
        pa.field("why", pa.string(), nullable=False),
        # what it is to the one that is kept; null for that one
        pa.field("kind", pa.string()),
        # as in ``PAIRS_SCHEMA``, the one that is kept being a
        pa.field("agreement", pa.float64()),
        pa.field("sure", pa.float64()),
        pa.field("how", pa.string(), nullable=False),
        pa.field("transform", pa.list_(pa.float64())),
        pa.field("label", pa.string()),
        # whether labels of the group differ
        pa.field("conflict", pa.bool_(), nullable=False),
        # null where the items have no such column
        pa.field("split", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
    ]
)
"""An item a row, of those that have a copy; the one that is kept is the first of its group."""


@dataclass(frozen=True)
class Node:
    """Pictures of the same bytes: places of their items, the one to keep first, and what is known of the bytes."""

    sha256: bytes
    places: Sequence[int]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Gathered:
    """Everything that was found, by bytes.

    Attributes:
        items: of the catalogue, a row an item.
        split: a value an item; None where there is none.
        nodes: a node for each different bytes that could be read.
        pairs: places of two nodes → kind, what their comparison gave, and how sure that is.
        best: (n,) int64, the node whose copy each is, itself where of none.
        why: of a node that is kept, why.
        unread: id and reason of items that could not be read.
        after: only items of a higher row count as new; None: all of them.
        parts: the two splits that are wanted; None: all.
    """

    items: pa.Table
    split: Sequence[str | None]
    nodes: Sequence[Node]
    pairs: Mapping[tuple[int, int], tuple[str, Overlay | None, float | None]]
    best: np.ndarray
    why: Mapping[int, str]
    unread: Sequence[tuple[str, str]]
    after: int | None = None
    parts: tuple[str, str] | None = None

    def across(self, one: str, other: str) -> Gathered:
        """Only what stands in both of two splits."""
        return replace(self, parts=(one, other))

    def since(self, row: int) -> Gathered:
        """Only what has an item of a higher row."""
        return replace(self, after=row)

    def unreadable(self) -> pa.Table:
        """Columns id and reason."""
        schema = pa.schema([pa.field("id", pa.string()), pa.field("reason", pa.string())])
        return pa.table([[id for id, _ in self.unread], [reason for _, reason in self.unread]], schema=schema)

    def tables(self, vectors: VectorCache) -> tuple[pa.Table, pa.Table]:
        """Write ``PAIRS_SCHEMA`` and ``GROUPS_SCHEMA``."""
        return self._pairs(vectors), self._groups()

    def _wanted(self, places: Sequence[int]) -> bool:
        rows = self.items.column("row")
        if self.after is not None and all(rows[place].as_py() <= self.after for place in places):
            return False
        return self.parts is None or set(self.parts) <= {self.split[place] for place in places}

    def _pairs(self, vectors: VectorCache) -> pa.Table:
        ids = self.items.column("id")
        rows: list[dict[str, Any]] = []
        keys: list[tuple[bytes, bytes]] = []
        for node in self.nodes:
            first, *others = node.places
            for other in others:
                if self._wanted((first, other)):
                    rows.append(_row(ids[first].as_py(), ids[other].as_py(), SAME_BYTES, None, 1.0, (0, 0)))
                    keys.append((node.sha256, node.sha256))
        for (one, other), (kind, over, sure) in self.pairs.items():
            a, b = self.nodes[one], self.nodes[other]
            # Of the items of either bytes the two that are wanted, if any are.
            places = next(((x, y) for x in a.places for y in b.places if self._wanted((x, y))), None)
            if places is None:
                continue
            size = a.facts["width"], a.facts["height"]
            rows.append(_row(ids[places[0]].as_py(), ids[places[1]].as_py(), kind, over, sure, size))
            keys.append((a.sha256, b.sha256))
        similarity = _cosines(vectors, keys)
        for at, row in enumerate(rows):
            row["similarity"] = similarity[at]
        order = sorted(range(len(rows)), key=lambda at: _surest(rows[at]))
        return pa.Table.from_pylist([rows[at] for at in order], schema=PAIRS_SCHEMA)

    def _groups(self) -> pa.Table:
        members: dict[int, list[int]] = defaultdict(list)
        for node, best in enumerate(self.best.tolist()):
            members[best].append(node)
        groups = []
        for best, nodes in members.items():
            ordered = [best, *sorted(node for node in nodes if node != best)]
            places = [(node, place) for node in ordered for place in self.nodes[node].places]
            if len(places) > 1 and self._wanted([place for _, place in places]):
                groups.append((best, places))
        labels = self.items.column("label").to_pylist()
        told = []
        for best, places in groups:
            conflict = len({labels[place] for _, place in places if labels[place] is not None}) > 1
            told.append((not conflict, -len(places), places[0][1], best, places))
        rows = []
        for number, (agreed, _, _, best, places) in enumerate(sorted(told), 1):
            for at, (node, place) in enumerate(places):
                rows.append(self._member(best, node, place, kept=at == 0) | {"group": number, "conflict": not agreed})
        return pa.Table.from_pylist(rows, schema=GROUPS_SCHEMA)

    def _member(self, best: int, node: int, place: int, *, kept: bool) -> dict[str, Any]:
        facts = self.nodes[node].facts
        size = self.nodes[best].facts["width"], self.nodes[best].facts["height"]
        kind, over, sure = (SAME_BYTES, None, 1.0) if node == best else self._between(best, node)
        row = _row("", "", kind, over, sure, size)
        own = self.items.slice(place, 1).select(["id", "label", "uri", "source", "width", "height"]).to_pylist()[0]
        of_pair = {name: None if kept else row[name] for name in ("kind", "agreement", "sure", "transform")}
        return {
            **own,
            **of_pair,
            "keep": kept,
            "why": self.why.get(best, "") if kept else "",
            "how": "" if kept else row["how"],
            "split": self.split[place],
            "bytes": facts["bytes"],
            "format": facts["format"],
        }

    def _between(self, one: int, other: int) -> tuple[str, Overlay | None, float | None]:
        if (one, other) in self.pairs:
            return self.pairs[one, other]
        kind, over, sure = self.pairs[other, one]
        return kind, None if over is None else over.swapped(), sure


def _row(a: str, b: str, kind: str, over: Overlay | None, sure: float | None, size: tuple[int, int]) -> dict[str, Any]:
    told = over is not None and kind in (SAME_PIXELS, COPY)
    how = how_made(over, size) if told and kind == COPY and over is not None else ""
    return {
        "a": a,
        "b": b,
        "kind": kind,
        "agreement": None if over is None else over.agreement,
        "sure": sure,
        "how": "other file, same picture" if kind == SAME_PIXELS else how,
        "transform": None if over is None else over.transform.ravel().tolist(),
        "covered_a": None if over is None else over.covered[0],
        "covered_b": None if over is None else over.covered[1],
    }


def _cosines(vectors: VectorCache, keys: Sequence[tuple[bytes, bytes]]) -> list[float | None]:
    both = []
    for side in (0, 1):
        raw, present = vectors.read(pa.array([key[side] for key in keys], pa.binary()))
        wide = raw.astype(np.float32)
        both.append((wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-6), present))
    (a, in_a), (b, in_b) = both
    cosine = (a * b).sum(axis=1)
    return [float(value) if there else None for value, there in zip(cosine, in_a & in_b, strict=True)]


def _surest(row: Mapping[str, Any]) -> tuple[Any, ...]:
    agreement = 1.0 if row["agreement"] is None and row["kind"] != LOOKALIKE else row["agreement"] or 0.0
    by = row["similarity"] or 0.0
    return KINDS.index(row["kind"]), -agreement if row["kind"] != LOOKALIKE else -by, row["a"], row["b"]
