"""Pictures that come in between two commits, laid over items and over each other: which were made from which."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from indexer.candidates import Seen
from indexer.comparing import compare, worth_keeping
from indexer.fingerprints import Fingerprints
from indexer.incoming import Picture, in_order
from indexer.known_pairs import Pair, pair_of
from retrieval.copies import Overlay
from retrieval.grouping import components, group_by_best


@dataclass(frozen=True)
class Arrivals:
    """Incoming pictures, by bytes that no item had.

    Attributes:
        fingerprints: of the items; holds the features of these as well.
        pool: where they are compared.
        line: agreement from which one picture is a copy of another.
        seen: without what only looking needed.
        candidates: what each may be a copy of, with the cosine as of ``Finder.find``.
        vectors: of each.
        laid: what came of comparing, as of ``indexer.comparing``; None where nothing did.
    """

    fingerprints: Fingerprints
    pool: ThreadPoolExecutor
    line: float
    seen: Mapping[bytes, Seen] = field(default_factory=dict)
    candidates: Mapping[bytes, Mapping[bytes, float]] = field(default_factory=dict)
    vectors: Mapping[bytes, np.ndarray] = field(default_factory=dict)
    laid: dict[Pair, Overlay | None] = field(default_factory=dict)

    def lay(self, pairs: Iterable[Pair]) -> None:
        """Lay pictures over others, on all cores, where that was not done."""
        fresh = dict.fromkeys(pair for pair in (pair_of(*both) for both in pairs) if pair not in self.laid)
        for pair, over in compare(list(fresh), self.fingerprints, pool=self.pool):
            self.laid[pair] = over if over is not None and worth_keeping(over) else None

    def over(self, one: bytes, other: bytes) -> Overlay | None:
        """From one picture to another, if either is a copy of the other."""
        found = self.laid.get(pair_of(one, other))
        if found is None or not found.is_copy(self.line):
            return None
        return found if one < other else found.swapped()

    def made_from_items(
        self, keys: Sequence[bytes], stands: Mapping[bytes, bytes], items: Container[bytes]
    ) -> dict[bytes, bytes]:
        """Which pictures are copies of items.

        Args:
            keys: SHA-256 of pictures, each of other pixels.
            stands: picture → the one of ``keys`` or the item that has its pixels, and is compared in its place.
            items: SHA-256 of all items.

        Returns:
            Picture → the item it agrees with most.
        """
        alone = dict.fromkeys(keys)
        pairs = [
            (stands.get(key, key), stands.get(candidate, candidate))
            for key, candidates in self.candidates.items()
            for candidate in candidates
        ]
        self.lay(
            (one, other)
            for one, other in pairs
            if one != other
            and (one in alone or other in alone)
            and all(each in alone or each in items for each in (one, other))
        )
        item_of: dict[bytes, bytes] = {}
        while True:
            best: dict[bytes, tuple[float, bytes]] = {}
            for key, item, agreement in self._agreeing(alone, items):
                if key not in best or agreement > best[key][0]:
                    best[key] = agreement, item
            if not best:
                return item_of
            for key, (_, item) in best.items():
                item_of[key] = item
                del alone[key]
            # A copy of a copy need not have had the item among its candidates.
            self.lay([(key, item_of[other]) for key, other, _ in self._agreeing(alone, item_of)])

    def made_from_each_other(self, pictures: Sequence[Picture]) -> list[int]:
        """Which pictures are copies of better ones: the place of the best of its group for each, its own for that."""
        keys = [one.held.sha256 for one in pictures]
        place = {key: at for at, key in enumerate(keys)}

        def edges() -> dict[tuple[int, int], Overlay]:
            return {
                (place[a], place[b]): over
                for a, b in self.laid
                if a in place and b in place and (over := self.over(a, b)) is not None
            }

        paired = {at for pair in edges() for at in pair}
        pictures = [
            replace(one, features=self.fingerprints.features(key)) if at in paired else one
            for at, (one, key) in enumerate(zip(pictures, keys, strict=True))
        ]

        def ranked() -> np.ndarray:
            rank = np.empty(len(pictures), np.int64)
            rank[in_order(pictures, edges(), self.fingerprints.grain)] = np.arange(len(pictures))
            return rank

        # As when duplicates are gathered: no list of candidates need have had a picture and the best of its group.
        together = components(np.array(list(edges()), np.int64), len(pictures)).tolist()
        rank = ranked()
        best_of: dict[int, int] = {}
        for at, component in enumerate(together):
            if rank[at] < rank[best_of.setdefault(component, at)]:
                best_of[component] = at
        self.lay((keys[at], keys[best_of[of]]) for at, of in enumerate(together) if at != best_of[of])
        found = edges()
        strength = np.array([over.agreement for over in found.values()], np.float64)
        best: list[int] = group_by_best(np.array(list(found), np.int64), ranked(), strength).tolist()
        return best

    def _agreeing(self, some: Container[bytes], others: Container[bytes]) -> list[tuple[bytes, bytes, float]]:
        """Which of some pictures are copies of others, or these of them, and how much they agree."""
        return [
            (one, other, over.agreement)
            for pair in self.laid
            for one, other in (pair, pair[::-1])
            if one in some and other in others and (over := self.over(one, other)) is not None
        ]
