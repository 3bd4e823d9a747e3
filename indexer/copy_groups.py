"""Pairs of bytes that agree → groups of copies, with which one to keep."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.comparing import DETAILS, Pair, pair_of
from indexer.copy_tables import COPY, LOOKALIKE, SAME_PIXELS, Gathered, Node
from indexer.fingerprints import Fingerprints
from indexer.keep_best import Candidate, best_first, why_kept
from retrieval.copies import Overlay, framed
from retrieval.errors import ImageError
from retrieval.grouping import components, group_by_best
from retrieval.local_features import LocalFeatures
from retrieval.sources import Root
from retrieval.threshold import Evidence, Threshold

GREY: Final = 4.0
"""Levels between the channels of a picture below which it has no colours."""
ALIKE: Final = 0.95
"""Cosine from which two pictures are lookalikes, whatever their details say."""


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
        unsure: list[tuple[tuple[int, int], Overlay]] = []
        for pair, over in list(known.items()):
            if pair[0] not in of_sha256 or pair[1] not in of_sha256:
                continue
            place = of_sha256[pair[0]], of_sha256[pair[1]]
            if place in copies or place[::-1] in copies:
                continue
            if nodes[place[0]].facts["pixels"] == nodes[place[1]].facts["pixels"]:
                copies[place] = SAME_PIXELS, Overlay.same(), 1.0
            elif judged.get(pair, over.is_copy(threshold.agreement)):
                copies[place] = COPY, over, 1.0
                if pair not in judged:
                    unsure.append((place, over))
        # All at once: the evidence is sorted for every question.
        sure = evidence.sure(np.array([over.agreement for _, over in unsure], np.float64))
        for (place, over), share in zip(unsure, sure.tolist(), strict=True):
            copies[place] = COPY, over, share

    take_in()
    nodes, candidates = _ordered(items, nodes, copies, fingerprints, policy)
    rank = np.empty(len(nodes), np.int64)
    rank[best_first([of_node[0] for of_node in candidates], policy)] = np.arange(len(nodes))
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
    strength = np.array([1.0 if over is None else over.agreement for _, over, _ in copies.values()], np.float64)
    best = group_by_best(np.array(list(copies), np.int64), rank, strength)
    lookalikes = _lookalikes(nodes, fingerprints, of_sha256, known, copies, judged, lookalike)
    members: dict[int, list[Candidate]] = defaultdict(list)
    for at, of_node in enumerate(candidates):
        members[int(best[at])] += of_node
    why = {
        at: why_kept(candidates[at][0], [one for one in together if one is not candidates[at][0]], policy)
        for at, together in members.items()
        if len(together) > 1
    }
    values = items.column(split).to_pylist() if split in items.column_names else [None] * items.num_rows
    parts = [None if value is None else str(value) for value in values]
    return Gathered(items, parts, nodes, {**copies, **lookalikes}, best, why, unread)


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


def _ordered(
    items: pa.Table,
    nodes: Sequence[Node],
    copies: Mapping[tuple[int, int], tuple[str, Overlay | None, float | None]],
    fingerprints: Fingerprints,
    policy: Sequence[str],
) -> tuple[list[Node], list[list[Candidate]]]:
    """Put the items of each node in order, the one to keep first, with what the rules look at of each.

    The times of files are read only where there is a choice.
    """
    with_frame, in_pairs = set[int](), set[int]()
    for (one, other), (_, over, _) in copies.items():
        in_pairs |= {one, other}
        if over is not None:
            with_frame |= {at for at, side in ((one, 0), (other, 1)) if framed(over.covered[side], over.beyond[side])}
    rows, uris = items.column("row"), items.column("uri")
    roots: dict[str, Root] = {}
    ordered, found = [], []
    for at, node in enumerate(nodes):
        facts = node.facts
        choice = at in in_pairs or len(node.places) > 1
        grey = at in in_pairs and is_grey(fingerprints.features(node.sha256))
        candidates = [
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
                modified=_modified(items, place, roots) if choice else None,
                grey=grey,
            )
            for place in node.places
        ]
        order = best_first(candidates, policy)
        ordered.append(replace(node, places=[node.places[number] for number in order]))
        found.append([candidates[number] for number in order])
    return ordered, found


def is_grey(features: LocalFeatures | None) -> bool:
    """Whether the channels of a picture hardly differ."""
    return features is not None and float(np.ptp(features.picture, axis=2).mean()) < GREY


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
) -> dict[tuple[int, int], tuple[str, Overlay | None, float | None]]:
    """Pairs that are no copies but show the same thing, by their details or by their vectors."""
    found: dict[tuple[int, int], tuple[str, Overlay | None, float | None]] = {}

    def free(pair: Pair) -> tuple[int, int] | None:
        if pair[0] not in of_sha256 or pair[1] not in of_sha256:
            return None
        place = of_sha256[pair[0]], of_sha256[pair[1]]
        one, other = (nodes[at].facts["pixels"] for at in place)
        return None if place in copies or place[::-1] in copies or one == other else place

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
    return found
