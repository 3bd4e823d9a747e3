"""Pairs of bytes that agree → groups of copies, with which one to keep."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa

from indexer.collages import in_parts
from indexer.comparing import DETAILS, KEPT
from indexer.copy_tables import COPY, LOOKALIKE, SAME, SAME_PIXELS, UNLAID, Gathered, Node, Pairs, unordered
from indexer.fingerprints import Fingerprints
from indexer.keep_best import Candidate, best_first, why_kept
from indexer.keep_facts import candidate_of, standings
from indexer.known_pairs import KnownPairs, Pair, pair_of
from retrieval.copies import are_copies
from retrieval.errors import ImageError
from retrieval.grouping import components, group_by_best
from retrieval.local_features import LocalFeatures
from retrieval.sources import Root
from retrieval.threshold import Evidence, Threshold

GREY: Final = 4.0
"""Levels between the channels of a picture below which it has no colours."""
ROUNDS: Final = 4
"""Times at most that pictures are compared with what turns out to be the best of their group."""
ALIKE: Final = 0.95
"""Cosine from which two pictures are lookalikes, whatever their details say."""


def gather(
    items: pa.Table,
    fingerprints: Fingerprints,
    known: KnownPairs,
    *,
    threshold: Threshold,
    evidence: Evidence,
    judged: Mapping[Pair, bool],
    policy: Sequence[str],
    ask: Callable[[Sequence[Pair]], bool],
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
        ask: sees that pairs are in ``known``, and says whether any was not.
        lookalike: cosine from which two pictures are lookalikes.
        split: column of the items, if they have it.
    """
    nodes, unread = _nodes(items, fingerprints)
    for _ in range(ROUNDS):
        compared = _Compared.of(nodes, known, threshold=threshold, judged=judged)
        copies = compared.copies(evidence)
        grouped = copies.take(~in_parts(copies, [(node.facts["width"], node.facts["height"]) for node in nodes]))
        nodes, candidates = _ordered(items, nodes, grouped, fingerprints, policy)
        rank = np.empty(len(nodes), np.int64)
        rank[best_first([of_node[0] for of_node in candidates], policy)] = np.arange(len(nodes))
        # What comes of these may say that another one is the best.
        if not ask(_with_best(nodes, grouped, rank)):
            break
    best = group_by_best(grouped.places, rank, grouped.agreement)
    lookalikes = compared.lookalikes(copies, _near(nodes, fingerprints, lookalike), best)
    members: dict[int, list[Candidate]] = defaultdict(list)
    for at, of_node in enumerate(candidates):
        members[int(best[at])] += of_node
    why = {
        nodes[at].places[0]: why_kept(
            candidates[at][0], [one for one in together if one is not candidates[at][0]], policy
        )
        for at, together in members.items()
        if len(together) > 1
    }
    for at, of_node in enumerate(candidates):
        kept = candidates[int(best[at])][0]
        for place, one in zip(nodes[at].places, of_node, strict=True):
            if one is not kept:
                why[place] = why_kept(kept, [one], policy)
    values = items.column(split).to_pylist() if split in items.column_names else [None] * items.num_rows
    parts = [None if value is None else str(value) for value in values]
    return Gathered(items, parts, nodes, copies + lookalikes, best, why, unread)


def _with_best(nodes: Sequence[Node], copies: Pairs, rank: np.ndarray) -> list[Pair]:
    """Every picture of a component with the best of it, since no list of candidates need have had the two."""
    component = components(copies.places, len(nodes)).tolist()
    best_of: dict[int, int] = {}
    for node, of in enumerate(component):
        if rank[node] < rank[best_of.setdefault(of, node)]:
            best_of[of] = node
    return [
        pair_of(nodes[node].sha256, nodes[best_of[of]].sha256)
        for node, of in enumerate(component)
        if node != best_of[of]
    ]


@dataclass(frozen=True)
class _Compared:
    """What was compared, by node.

    Attributes:
        rows: (k,) int64, of what is known, those of two nodes that are there.
        places: (k, 2) int64, their nodes.
        alike: (k,) bool, of the same pixels.
        copy: (k,) bool, of other pixels and copies.
        said: (k,) bool, somebody has judged it.
        pixels: (n,) int64, of each node, the same number for the same pixels.
        known: what came of comparing.
    """

    rows: np.ndarray
    places: np.ndarray
    alike: np.ndarray
    copy: np.ndarray
    said: np.ndarray
    pixels: np.ndarray
    known: KnownPairs

    @classmethod
    def of(cls, nodes: Sequence[Node], known: KnownPairs, *, threshold: Threshold, judged: Mapping[Pair, bool]) -> Self:
        """Sort what is known at this time."""
        of_sha256 = {node.sha256: at for at, node in enumerate(nodes)}
        node_of = np.array([of_sha256.get(sha256, -1) for sha256 in known.pictures], np.int64)
        rows = known.rows
        copy = are_copies(rows["agreement"], rows["covered"], threshold.agreement)
        said = np.zeros(len(rows), bool)
        at = known.places(list(judged))
        copy[at[at >= 0]] = np.array(list(judged.values()), bool)[at >= 0]
        said[at[at >= 0]] = True
        places = np.stack([node_of[rows["a"]], node_of[rows["b"]]], axis=1)
        there = np.flatnonzero((places >= 0).all(axis=1))
        numbers: dict[bytes, int] = {}
        pixels = np.array([numbers.setdefault(node.facts["pixels"], len(numbers)) for node in nodes], np.int64)
        places = places[there]
        alike = pixels[places[:, 0]] == pixels[places[:, 1]]
        return cls(there, places, alike, copy[there] & ~alike, said[there], pixels, known)

    def copies(self, evidence: Evidence) -> Pairs:
        """Pairs of the same pixels, and those that are copies."""
        # Of the same pixels each with the first, though nothing may be seen on them that could be compared.
        _, first, number = np.unique(self.pixels, return_index=True, return_inverse=True)
        every = np.arange(len(self.pixels))
        others = every[first[number] != every]
        star = np.stack([first[number[others]], others], axis=1)
        more = self.places[self.alike]
        more = more[~np.isin(unordered(more), unordered(star))]
        same = Pairs.of(SAME_PIXELS, np.concatenate([star, more]), SAME, self.known)
        # Where somebody sees a copy and the overlay nothing in common, it says nothing of frames and cuts either.
        row = self.rows[self.copy]
        laid = self.known.rows["agreement"][row] >= KEPT
        edited = Pairs.of(COPY, self.places[self.copy], np.where(laid, row, UNLAID), self.known)
        sure = np.where(self.said[self.copy], 1.0, evidence.sure(edited.agreement))
        return self._with_what_follows(same + edited.rated(sure))

    def _with_what_follows(self, copies: Pairs) -> Pairs:
        """Copies of two that somebody has said to be one photograph are copies of each other, unless he said no."""
        yes = self.places[self.copy & self.said].tolist()
        if not yes:
            return copies
        near: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for (one, other), sure in zip(copies.places.tolist(), copies.sure.tolist(), strict=True):
            near[one].append((other, sure))
            near[other].append((one, sure))
        taken = set(unordered(np.concatenate([copies.places, self.places[self.said]])).tolist())
        follows: dict[tuple[int, int], float] = {}
        for a, b in yes:
            for (one, of_one), (other, of_other) in product([(a, 1.0), *near[a]], [(b, 1.0), *near[b]]):
                pair = min(one, other), max(one, other)
                if one != other and (pair[0] << 32 | pair[1]) not in taken:
                    follows[pair] = max(follows.get(pair, 0.0), min(of_one, of_other))
        places = np.array(list(follows), np.int64).reshape(-1, 2)
        return copies + Pairs.of(COPY, places, UNLAID, self.known).rated(np.array(list(follows.values()), np.float64))

    def lookalikes(self, copies: Pairs, near: np.ndarray, best: np.ndarray) -> Pairs:
        """Pairs that are no copies but show the same thing, by their details or, ``near`` (m, 2), by their vectors.

        Those of one group are none: both are copies of what is kept.
        """
        detailed = ~self.alike & ~self.copy & (self.known.rows["matches"][self.rows] >= DETAILS)
        detailed &= best[self.places[:, 0]] != best[self.places[:, 1]]
        detailed &= ~np.isin(unordered(self.places), unordered(copies.places))
        by_details = Pairs.of(LOOKALIKE, self.places[detailed], self.rows[detailed], self.known)
        taken = unordered(np.concatenate([copies.places, by_details.places]))
        near = near[(best[near[:, 0]] != best[near[:, 1]]) & ~np.isin(unordered(near), taken)]
        return by_details + Pairs.of(LOOKALIKE, near, UNLAID, self.known)


def own_agreement(known: KnownPairs, fingerprints: Fingerprints) -> np.ndarray:
    """Agreement of all candidates that may be copies, without those of the same pixels: (n,) float64.

    Without those besides that were asked for, too: the line would move from run to run.
    """
    table = fingerprints.columns(["sha256", "pixels"])
    pixels_of = dict(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
    numbers: dict[bytes | None, int] = {}
    pixels = np.array([numbers.setdefault(pixels_of.get(key), len(numbers)) for key in known.pictures], np.int64)
    rows = known.rows
    mask = (
        ~rows["asked"] & are_copies(rows["agreement"], rows["covered"], 0.0) & (pixels[rows["a"]] != pixels[rows["b"]])
    )
    return np.asarray(rows["agreement"][mask])


def _nodes(items: pa.Table, fingerprints: Fingerprints) -> tuple[list[Node], list[tuple[str, str]]]:
    names = ["sha256", "reason", "pixels", "bytes", "format", "metadata", "sharpness", "resaved"]
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


def _ordered(
    items: pa.Table,
    nodes: Sequence[Node],
    copies: Pairs,
    fingerprints: Fingerprints,
    policy: Sequence[str],
) -> tuple[list[Node], list[list[Candidate]]]:
    """Put the items of each node in order, the one to keep first, with what the rules look at of each.

    The times of files are read only where there is a choice.
    """
    sizes = [(node.facts["width"], node.facts["height"]) for node in nodes]
    beside = standings(
        sizes,
        [node.facts for node in nodes],
        ((one, other, over) for one, other, _, over, _ in copies),
        lambda at: fingerprints.grain(nodes[at].sha256),
    )
    rows, uris, ids = (items.column(name) for name in ("row", "uri", "id"))
    roots: dict[str, Root] = {}
    ordered, found = [], []
    for at, node in enumerate(nodes):
        stands = beside.get(at)
        choice = stands is not None or len(node.places) > 1
        grey = stands is not None and is_grey(fingerprints.features(node.sha256))
        candidates = [
            candidate_of(
                node.facts,
                stands,
                row=rows[place].as_py(),
                uri=uris[place].as_py(),
                id=ids[place].as_py(),
                grey=grey,
                modified=_modified(items, place, roots) if choice else None,
            )
            for place in node.places
        ]
        order = best_first(candidates, policy)
        ordered.append(replace(node, places=[node.places[number] for number in order]))
        found.append([candidates[number] for number in order])
    return ordered, found


def is_grey(features: LocalFeatures | None) -> bool:
    """Whether the channels of a picture hardly differ."""
    if features is None:
        return False
    # numpy takes twenty times as long over a last axis of three.
    red, green, blue = (features.picture[:, :, channel] for channel in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float(spread.mean()) < GREY


def _modified(items: pa.Table, place: int, roots: dict[str, Root]) -> float | None:
    source = items.column("source")[place].as_py()
    root = roots.setdefault(source, Root(Path(source)))
    with contextlib.suppress(ImageError, OSError):  # a row of a Parquet file, or a file that is gone
        return Path(root.file(items.column("uri")[place].as_py())).stat().st_mtime
    return None


def _near(nodes: Sequence[Node], fingerprints: Fingerprints, least: float) -> np.ndarray:
    """Pairs of nodes that are candidates with a cosine of at least that: (m, 2) int64, each once."""
    of_sha256 = {node.sha256: at for at, node in enumerate(nodes)}
    pixels = [node.facts["pixels"] for node in nodes]
    found = [np.zeros((0, 2), np.int64)]
    for name in fingerprints.blocks:
        rows = fingerprints.block(name).select(["sha256", "candidates", "similarities"]).to_pylist()
        pairs = [
            (of_sha256.get(row["sha256"], -1), of_sha256.get(row["candidates"][32 * at : 32 * at + 32], -1))
            for row in rows
            for at, value in enumerate(np.frombuffer(row["similarities"] or b"", "<f4").tolist())
            if value >= least
        ]
        there = [(a, b) for a, b in map(sorted, pairs) if a >= 0 and pixels[a] != pixels[b]]
        found.append(np.array(there, np.int64).reshape(-1, 2))
    every = np.concatenate(found)
    return every[np.sort(np.unique(unordered(every), return_index=True)[1])]
