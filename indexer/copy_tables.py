"""What is known of pairs and groups of bytes → tables of pairs and groups of items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.known_pairs import KnownPairs
from indexer.vectors import VectorCache
from retrieval.copies import Overlay, how_made

SAME_BYTES: Final = "same bytes"
SAME_PIXELS: Final = "same pixels"
COPY: Final = "copy"
LOOKALIKE: Final = "lookalike"
KINDS: Final = (SAME_BYTES, SAME_PIXELS, COPY, LOOKALIKE)
"""Surest first. A lookalike is another photograph, of the same thing or scene; the others are one photograph."""

SAME, UNLAID = -1, -2
"""In place of a row of what is known: of the same pixels; not laid over each other."""

AT_ONCE: Final = 4096
"""Pairs that are written into a table together."""

PAIRS_SCHEMA: Final = pa.schema(
    [
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        # one of ``KINDS``
        pa.field("kind", pa.string(), nullable=False),
        # how much the two agree where they lie over each other, in [0, 1]; null for same bytes
        pa.field("agreement", pa.float64()),
        # share of copies among the known pairs that agree about as much, in (0, 1]; null for a lookalike
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
        # of the one that is kept, why; of another one, why the kept one is kept over it
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
        # of the bytes that were looked at, in hex
        pa.field("sha256", pa.string(), nullable=False),
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
class Pairs:
    """Pairs of nodes, in arrays.

    Attributes:
        places: (m, 2) int64, the two nodes, in the order in which they were compared.
        kind: (m,) int8, place in ``KINDS``.
        row: (m,) int64, of ``known``; ``SAME`` where the two are of the same pixels, ``UNLAID`` where they were not
            laid over each other.
        sure: (m,) float64, as in ``PAIRS_SCHEMA``; NaN where it is not known.
        known: what came of comparing.
    """

    places: np.ndarray
    kind: np.ndarray
    row: np.ndarray
    sure: np.ndarray
    known: KnownPairs

    @classmethod
    def of(cls, kind: str, places: np.ndarray, row: np.ndarray | int, known: KnownPairs) -> Pairs:
        """Pairs of one kind; how sure, where it is neither certain nor unknown, ``rated`` says."""
        m = len(places)
        row = np.broadcast_to(np.asarray(row, np.int64), m)
        kinds = np.full(m, KINDS.index(kind), np.int8)
        sure = np.full(m, np.nan if kind == LOOKALIKE else 1.0)
        return cls(places.astype(np.int64).reshape(-1, 2), kinds, row, sure, known)

    def rated(self, sure: np.ndarray) -> Pairs:
        """The same pairs, so sure: (m,) float64."""
        return replace(self, sure=sure)

    def take(self, chosen: np.ndarray) -> Pairs:
        """Some of them: (m,) bool."""
        return Pairs(self.places[chosen], self.kind[chosen], self.row[chosen], self.sure[chosen], self.known)

    def __add__(self, more: Pairs) -> Pairs:
        names = ("places", "kind", "row", "sure")
        places, kind, row, sure = (np.concatenate([getattr(self, name), getattr(more, name)]) for name in names)
        return Pairs(places, kind, row, sure, self.known)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[tuple[int, int, str, Overlay | None, float | None]]:
        """The two nodes, the kind, what the comparison gave, and how sure that is."""
        for at, (one, other) in enumerate(self.places.tolist()):
            yield one, other, *self.told(at)

    def told(self, at: int) -> tuple[str, Overlay | None, float | None]:
        """Kind, what the comparison gave, and how sure that is, of one pair."""
        row, sure = int(self.row[at]), float(self.sure[at])
        over = Overlay.same() if row == SAME else None if row == UNLAID else self.known.overlay(row)
        return KINDS[int(self.kind[at])], over, None if np.isnan(sure) else sure

    @property
    def agreement(self) -> np.ndarray:
        """(m,) float64, 1 where the pixels are the same and 0 where the two were not laid over each other."""
        laid = self.row >= 0
        given = np.where(self.row == SAME, 1.0, 0.0)
        given[laid] = self.known.rows["agreement"][self.row[laid]]
        return given

    def between(self, one: int, other: int) -> tuple[str, Overlay | None, float | None]:
        """As ``told``, from the first node to the second, whichever way they were compared."""
        keys, order = self._sorted
        at = int(order[np.searchsorted(keys, unordered(np.array([[one, other]]))[0])])
        kind, over, sure = self.told(at)
        return kind, over if over is None or self.places[at, 0] == one else over.swapped(), sure

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        keys = unordered(self.places)
        order = np.argsort(keys, kind="stable")
        return keys[order], order


def unordered(places: np.ndarray) -> np.ndarray:
    """A number a pair (m, 2) of places, the same for both orders: (m,) int64."""
    low, high = places.min(axis=1).astype(np.int64), places.max(axis=1).astype(np.int64)
    return np.asarray((low << 32) | high)


@dataclass(frozen=True)
class Gathered:
    """Everything that was found, by bytes.

    Attributes:
        items: of the catalogue, a row an item.
        split: a value an item; None where there is none.
        nodes: a node for each different bytes that could be read.
        pairs: of nodes.
        best: (n,) int64, the node whose copy each is, itself where of none.
        why: place of an item of a group → why it is kept, or why another one is kept over it.
        unread: id and reason of items that could not be read.
        after: only items of a higher row count as new; None: all of them.
        late: rows of items that count as new besides.
        parts: the two splits that are wanted; None: all.
    """

    items: pa.Table
    split: Sequence[str | None]
    nodes: Sequence[Node]
    pairs: Pairs
    best: np.ndarray
    why: Mapping[int, str]
    unread: Sequence[tuple[str, str]]
    after: int | None = None
    late: frozenset[int] = frozenset()
    parts: tuple[str, str] | None = None

    def across(self, one: str, other: str) -> Gathered:
        """Only what stands in both of two splits."""
        return replace(self, parts=(one, other))

    def since(self, row: int, late: Collection[int] = ()) -> Gathered:
        """Only what has an item of a higher row, or one of the rows that could not be read then."""
        return replace(self, after=row, late=frozenset(late))

    def unreadable(self) -> pa.Table:
        """Columns id and reason."""
        schema = pa.schema([pa.field("id", pa.string()), pa.field("reason", pa.string())])
        return pa.table([[id for id, _ in self.unread], [reason for _, reason in self.unread]], schema=schema)

    def tables(self, vectors: VectorCache) -> tuple[pa.Table, pa.Table]:
        """Write ``PAIRS_SCHEMA`` and ``GROUPS_SCHEMA``."""
        return self._pairs(vectors), self._groups()

    def _wanted(self, places: Sequence[int]) -> bool:
        if self.after is not None and not any(map(self._is_new, places)):
            return False
        return self.parts is None or set(self.parts) <= {self.split[place] for place in places}

    def _is_new(self, place: int) -> bool:
        row = self.items.column("row")[place].as_py()
        return self.after is None or row > self.after or row in self.late

    def _pairs(self, vectors: VectorCache) -> pa.Table:
        blocks = [PAIRS_SCHEMA.empty_table()]
        of_pair: list[np.ndarray] = []  # places of the two nodes
        found = self._found()
        while some := list(islice(found, AT_ONCE)):  # a row in Python is some ten times as large as in the table
            blocks.append(pa.Table.from_pylist([row for _, row in some], schema=PAIRS_SCHEMA))
            of_pair.append(np.array([places for places, _ in some], np.int64))
        table = pa.concat_tables(blocks)
        if table.num_rows == 0:
            return table
        similarity = _cosines(vectors, [node.sha256 for node in self.nodes], np.concatenate(of_pair))
        at = table.column_names.index("similarity")
        return _surest_first(table.set_column(at, PAIRS_SCHEMA.field("similarity"), similarity))

    def _found(self) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """The two nodes of each pair that is wanted, and its row without the similarity."""
        ids = self.items.column("id").to_pylist()
        for at, node in enumerate(self.nodes):
            for first, other in self._equal(node):
                yield (at, at), _row(ids[first], ids[other], SAME_BYTES, None, 1.0, (0, 0))
        for one, other, kind, over, sure in self.pairs:
            a, b = self.nodes[one], self.nodes[other]
            # Of the items of either bytes the two that are wanted, if any are.
            both = product(self._telling(a.places), self._telling(b.places))
            places = next((two for two in both if self._wanted(two)), None)
            if places is not None:
                size = a.facts["width"], a.facts["height"]
                yield (one, other), _row(ids[places[0]], ids[places[1]], kind, over, sure, size)

    def _telling(self, places: Sequence[int]) -> Sequence[int]:
        """Of items of the same bytes the first of each wanted split, old and new: all that ``_wanted`` tells apart."""
        if len(places) == 1 or (self.after is None and self.parts is None):
            return places[:1]
        parts = self.parts or ()
        first: dict[tuple[str | None, bool], int] = {}
        for place in places:
            part = self.split[place] if self.split[place] in parts else None
            first.setdefault((part, self._is_new(place)), place)
        return list(first.values())

    def _equal(self, node: Node) -> Iterator[tuple[int, int]]:
        """Pairs of items of the same bytes: each with the one that is kept, or with the first of a wanted split."""
        order = {place: at for at, place in enumerate(node.places)}
        of_part = {self.split[place]: place for place in reversed(node.places)}
        firsts = [node.places[0], *(of_part[part] for part in self.parts or () if part in of_part)]
        for other, at in order.items():
            first = next((one for one in firsts if order[one] < at and self._wanted((one, other))), None)
            if first is not None:
                yield first, other

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
        told.sort()
        own = self.items.select(["id", "label", "uri", "source", "width", "height"])
        of_item = iter(own.take(pa.array([at for *_, places in told for _, at in places], pa.int64())).to_pylist())
        rows = []
        for number, (agreed, _, _, best, places) in enumerate(told, 1):
            for at, (node, place) in enumerate(places):
                of_group = {**next(of_item), "group": number, "conflict": not agreed}
                rows.append(of_group | self._member(best, node, place, kept=at == 0))
        return pa.Table.from_pylist(rows, schema=GROUPS_SCHEMA)

    def _member(self, best: int, node: int, place: int, *, kept: bool) -> dict[str, Any]:
        facts = self.nodes[node].facts
        size = self.nodes[best].facts["width"], self.nodes[best].facts["height"]
        kind, over, sure = (SAME_BYTES, None, 1.0) if node == best else self.pairs.between(best, node)
        row = _row("", "", kind, over, sure, size)
        of_pair = {name: None if kept else row[name] for name in ("kind", "agreement", "sure", "transform")}
        return {
            **of_pair,
            "keep": kept,
            "why": self.why.get(place, ""),
            "how": "" if kept else row["how"],
            "split": self.split[place],
            "bytes": facts["bytes"],
            "format": facts["format"],
            "sha256": self.nodes[node].sha256.hex(),
        }


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


def _cosines(vectors: VectorCache, sha256: Sequence[bytes], pairs: np.ndarray) -> pa.Array:
    """Cosine of each pair (m, 2) of places in ``sha256``; null where there is no vector.

    Vectors are held once for a picture, however many pairs it is in.
    """
    used, places = np.unique(pairs, return_inverse=True)
    raw, present = vectors.read(pa.array([sha256[at] for at in used.tolist()], pa.binary()))
    places = places.reshape(-1, 2)
    cosine = np.empty(len(places), np.float32)
    for start in range(0, len(places), AT_ONCE):
        a, b = (raw[side].astype(np.float32) for side in places[start : start + AT_ONCE].T)
        a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-6)
        b /= np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-6)
        cosine[start : start + AT_ONCE] = (a * b).sum(axis=1)
    return pa.array(cosine, mask=~present[places].all(axis=1))


def _surest_first(pairs: pa.Table) -> pa.Table:
    kind = pc.index_in(pairs.column("kind"), value_set=pa.array(KINDS))
    by = pc.if_else(
        pc.equal(pairs.column("kind"), LOOKALIKE),
        pc.fill_null(pc.cast(pairs.column("similarity"), pa.float64()), 0.0),
        pc.fill_null(pairs.column("agreement"), 1.0),
    )
    keys = pa.table({"kind": kind, "by": by, "a": pairs.column("a"), "b": pairs.column("b")})
    order = [("kind", "ascending"), ("by", "descending"), ("a", "ascending"), ("b", "ascending")]
    return pairs.take(pc.sort_indices(keys, sort_keys=order)).combine_chunks()
