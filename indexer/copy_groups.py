"""Pairs of bytes that agree → pairs and groups of items, with which one to keep."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.comparing import DETAILS, Pair, pair_of
from indexer.fingerprints import Fingerprints
from indexer.keep_best import Candidate, best_first, why_kept
from indexer.vectors import VectorCache
from retrieval.copies import Overlay, framed, how_made
from retrieval.errors import ImageError
from retrieval.grouping import components, group_by_best
from retrieval.sources import Root
from retrieval.threshold import Evidence, Threshold

SAME_BYTES: Final = "same bytes"
SAME_PIXELS: Final = "same pixels"
COPY: Final = "copy"
LOOKALIKE: Final = "lookalike"
KINDS: Final = (SAME_BYTES, SAME_PIXELS, COPY, LOOKALIKE)
"""Surest first. A lookalike is another photograph, of the same thing or scene; the others are one photograph."""
ALIKE: Final = 0.95
"""Cosine from which two pictures are lookalikes, whatever their details say."""

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
        alike: cosine of lookalikes that were told by it.
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
    alike: Mapping[tuple[int, int], float]
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
        return own | of_pair | {
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


def gather(
    items: pa.Table,
    fingerprints: Fingerprints,
    known: Mapping[Pair, Overlay],
    *,
    threshold: Threshold,
    evidence: Evidence,
    judged: Mapping[Pair, bool],
    policy: Sequence[str],
    ask: Callable[[Sequence[Pair]], object],
    lookalike: float,
    split: str,
) -> Gathered:
    """Gather what is known of bytes into groups.

    Args:
        items: of the catalogue, ascending in row.
        fingerprints: of their bytes.
        known: what came of comparing; ``ask`` adds to it.
        threshold: from which agreement on a pair is a copy.
        evidence: how sure that is.
        judged: what somebody has said of pairs; stands above all but equal bytes and pixels.
        policy: which copy is kept.
        ask: sees that pairs are in ``known``.
        lookalike: cosine from which two pictures are lookalikes.
        split: column of the items, if they have it.
    """
    nodes, unread = _nodes(items, fingerprints)
    of_sha256 = {node.sha256: at for at, node in enumerate(nodes)}
    copies: dict[tuple[int, int], tuple[str, Overlay | None, float | None]] = {}
    for places in _same_pixels(nodes):
        for other in places[1:]:
            copies[places[0], other] = SAME_PIXELS, Overlay.same(), 1.0

    def take_in() -> None:
        for pair, over in list(known.items()):
            if pair[0] not in of_sha256 or pair[1] not in of_sha256:
                continue
            place = of_sha256[pair[0]], of_sha256[pair[1]]
            if place in copies or place[::-1] in copies:
                continue
            if judged.get(pair, over.agreement >= threshold.agreement):
                sure = 1.0 if pair in judged else float(evidence.precision_from(np.array([over.agreement]))[0])
                copies[place] = COPY, over, sure

    take_in()
    candidates = _candidates(items, nodes, copies)
    rank = np.empty(len(nodes), np.int64)
    rank[best_first(candidates, policy)] = np.arange(len(nodes))
    # Everything of a component is compared with its best, since no list of candidates need have had the two.
    hang_together = components(np.array(list(copies), np.int64), len(nodes))
    best_of: dict[int, int] = {}
    for node, component in enumerate(hang_together.tolist()):
        if rank[node] < rank[best_of.setdefault(component, node)]:
            best_of[component] = node
    ask(
        [
            pair_of(nodes[node].sha256, nodes[best_of[component]].sha256)
            for node, component in enumerate(hang_together.tolist())
            if node != best_of[component]
        ]
    )
    take_in()
    best = group_by_best(np.array(list(copies), np.int64), rank)
    lookalikes, alike = _lookalikes(nodes, fingerprints, of_sha256, known, copies, judged, lookalike)
    why = {}
    for place in np.unique(best[best != np.arange(len(nodes))]).tolist():
        others = [candidates[other] for other in np.flatnonzero(best == place).tolist() if other != place]
        why[place] = why_kept(candidates[place], others, policy)
    for place, node in enumerate(nodes):
        if len(node.places) > 1 and place not in why and best[place] == place:
            why[place] = "indexed first"
    values = items.column(split).to_pylist() if split in items.column_names else [None] * items.num_rows
    parts = [None if value is None else str(value) for value in values]
    return Gathered(items, parts, nodes, {**copies, **lookalikes}, best, why, alike, unread)


def _nodes(items: pa.Table, fingerprints: Fingerprints) -> tuple[list[Node], list[tuple[str, str]]]:
    names = ["sha256", "reason", "pixels", "bytes", "format", "metadata", "sharpness"]
    facts = {row["sha256"]: row for row in fingerprints.columns(names).to_pylist()}
    places: dict[bytes, list[int]] = defaultdict(list)
    ids = items.column("id").to_pylist()
    unread = []
    for place, sha256 in enumerate(items.column("sha256").to_pylist()):
        known = facts.get(sha256)
        if known is None or known["reason"] is not None:
            unread.append((ids[place], "was not looked at" if known is None else known["reason"]))
        else:
            places[sha256].append(place)
    width, height = items.column("width"), items.column("height")
    nodes = [
        Node(sha256, of, facts[sha256] | {"width": width[of[0]].as_py(), "height": height[of[0]].as_py()})
        for sha256, of in places.items()
    ]
    return nodes, unread


def _same_pixels(nodes: Sequence[Node]) -> list[list[int]]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for at, node in enumerate(nodes):
        same[node.facts["pixels"]].append(at)
    return [places for places in same.values() if len(places) > 1]


def _candidates(
    items: pa.Table, nodes: Sequence[Node], copies: Mapping[tuple[int, int], tuple[str, Overlay | None, float | None]]
) -> list[Candidate]:
    """What the rules look at, of every node; the times of files are read only where there is a choice."""
    with_frame, in_pairs = set[int](), set[int]()
    for (one, other), (_, over, _) in copies.items():
        in_pairs |= {one, other}
        if over is not None:
            with_frame |= {at for at, side in ((one, 0), (other, 1)) if framed(over.covered[side], over.beyond[side])}
    rows, uris = items.column("row"), items.column("uri")
    roots: dict[str, Root] = {}
    found = []
    for at, node in enumerate(nodes):
        place, facts = node.places[0], node.facts
        found.append(
            Candidate(
                row=rows[place].as_py(),
                uri=uris[place].as_py(),
                width=facts["width"],
                height=facts["height"],
                bytes=facts["bytes"],
                format=facts["format"],
                sharpness=facts["sharpness"],
                metadata=facts["metadata"],
                framed=at in with_frame,
                modified=_modified(items, place, roots) if at in in_pairs else None,
            )
        )
    return found


def _modified(items: pa.Table, place: int, roots: dict[str, Root]) -> float | None:
    source = items.column("source")[place].as_py()
    root = roots.setdefault(source, Root(Path(source)))
    with contextlib.suppress(ImageError, OSError):  # a row of a Parquet file, or a file that is gone
        return Path(root.file(items.column("uri")[place].as_py())).stat().st_mtime
    return None


def _lookalikes(
    nodes: Sequence[Node],
    fingerprints: Fingerprints,
    of_sha256: Mapping[bytes, int],
    known: Mapping[Pair, Overlay],
    copies: Mapping[tuple[int, int], Any],
    judged: Mapping[Pair, bool],
    least: float,
) -> tuple[dict[tuple[int, int], tuple[str, Overlay | None, float | None]], dict[tuple[int, int], float]]:
    """Pairs that are no copies but show the same thing, by their details or by their vectors."""
    found: dict[tuple[int, int], tuple[str, Overlay | None, float | None]] = {}
    by_vector: dict[tuple[int, int], float] = {}

    def free(pair: Pair) -> tuple[int, int] | None:
        if pair[0] not in of_sha256 or pair[1] not in of_sha256:
            return None
        place = of_sha256[pair[0]], of_sha256[pair[1]]
        return None if place in copies or place[::-1] in copies else place

    for pair, over in known.items():
        if (place := free(pair)) is not None and over.matches >= DETAILS:
            found[place] = LOOKALIKE, over, None
    for name in fingerprints.blocks:
        rows = fingerprints.block(name).select(["sha256", "candidates", "similarities"]).to_pylist()
        for row in rows:
            for at, value in enumerate(np.frombuffer(row["similarities"] or b"", "<f4").tolist()):
                if value >= least:
                    pair = pair_of(row["sha256"], row["candidates"][32 * at : 32 * at + 32])
                    if (place := free(pair)) is not None and place not in found:
                        found[place] = LOOKALIKE, None, None
                        by_vector[place] = value
    return found, by_vector


def _row(
    a: str, b: str, kind: str, over: Overlay | None, sure: float | None, size: tuple[int, int]
) -> dict[str, Any]:
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
