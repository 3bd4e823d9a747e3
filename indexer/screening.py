"""Copies told while pictures come in: each is looked at before it becomes an item, and compared with what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from indexer.candidates import NEAREST, Finder, Seen, look, with_candidates
from indexer.catalogue import Catalogue
from indexer.comparing import compare
from indexer.copy_tables import SAME_BYTES, SAME_PIXELS
from indexer.decoding import Outcome
from indexer.examining import Bars, check_effort, folder_of, last_run, locked, look_through
from indexer.fingerprints import Fingerprints
from indexer.known_pairs import Pair
from retrieval.copies import Overlay, how_made
from retrieval.local_features import opencv
from retrieval.machine import cores
from retrieval.sources import ImageSource
from retrieval.threshold import CAUTIOUS

AT_ONCE: Final = 512
"""Pictures between two commits: what comes in together is compared with all the rest of it."""


@dataclass(frozen=True)
class Copy:
    """What an incoming picture is a copy of.

    Attributes:
        id: of the item, or of an earlier picture of the same run.
        how: "same bytes", "same pixels", or how the incoming one was made.
    """

    id: str
    how: str


class Screen:
    """Tells copies among incoming pictures; a context manager, entered before the pictures are indexed.

    Within it nobody else looks for duplicates of the catalogue: BusyError where somebody does.

    Args:
        catalogue: that they come into.
        effort: as of ``indexer.duplicates.find``.
        bars: progress of looking at the items that are there, where that was not done.
        notice: told sentences.

    Raises:
        InputError: an effort that does not exist.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(
        self, catalogue: Catalogue, *, bars: Bars, effort: str = "usual", notice: Callable[[str], object]
    ) -> None:
        check_effort(effort)
        opencv()
        self._catalogue, self._effort, self._bars, self._notice = catalogue, effort, bars, notice
        self._folder = folder_of(catalogue, effort)
        self._resources = contextlib.ExitStack()
        self._fingerprints: Fingerprints | None = None
        last = last_run(self._folder)
        self._line = CAUTIOUS if last is None else float(last["agreement"])
        if last is None:
            notice(
                f"copies are told from an agreement of {CAUTIOUS} on; lookalike duplicates {catalogue.path} draws the "
                "line for its own pictures"
            )

    def __enter__(self) -> Screen:
        self._resources.enter_context(locked(self._folder, self._catalogue.called))
        self._pool = self._resources.enter_context(ThreadPoolExecutor(cores()))
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    def copies(
        self, source: ImageSource, uris: Sequence[str], ids: Sequence[str], outcomes: Sequence[Outcome]
    ) -> Mapping[int, Copy]:
        """Say which of some incoming pictures are copies, of items or of each other.

        Args:
            source: of the pictures.
            uris: of all pictures of the run, by position.
            ids: that they will have, by position.
            outcomes: some of the pictures, in their order; their vectors are in the cache.

        Returns:
            Position → what it is a copy of. Of several copies that come in together the first is none, and ids that
            are in the catalogue already are left out.

        Raises:
            CatalogueError: the disk is full or cannot be written.
            DamagedError: a block of what was looked at is not what was written.
        """
        fingerprints = self._looked_at()
        items = self._catalogue.items(["id", "sha256"])
        there = set(items.column("id").to_pylist())
        owner: dict[bytes, str] = {}
        for id, sha256 in zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True):
            owner.setdefault(sha256, id)
        fresh = [one for one in outcomes if one.reason is None and ids[one.position] not in there]
        others = {one.sha256: one for one in reversed(fresh) if one.sha256 not in owner}
        likely = self._likely(source, uris, list(others.values())[::-1], fingerprints)
        known = fingerprints.columns(["sha256", "pixels"])
        pixels_of = dict(zip(known.column(0).to_pylist(), known.column(1).to_pylist(), strict=True))
        pixels = {pixels_of[key]: id for key, id in owner.items() if key in pixels_of}
        pixels.pop(None, None)  # of what could not be looked at
        laid = self._laid(others, likely, {key for key in likely if pixels_of[key] in pixels}, owner, fingerprints)
        found: dict[int, Copy] = {}
        for one in fresh:
            copy = Copy(owner[one.sha256], SAME_BYTES) if one.sha256 in owner else None
            own = None if copy is not None else pixels_of[one.sha256]
            if own is not None and own in pixels:
                copy = Copy(pixels[own], SAME_PIXELS)
            if copy is None:
                copy = self._edited(one.sha256, likely[one.sha256], laid, owner, fingerprints)
            if copy is not None:
                found[one.position] = copy
                continue
            owner[one.sha256] = ids[one.position]
            if own is not None:
                pixels[own] = ids[one.position]
        return found

    def _looked_at(self) -> Fingerprints:
        """See that all items were looked at, once a run."""
        if self._fingerprints is None:
            self._fingerprints = look_through(
                self._catalogue,
                self._folder,
                effort=self._effort,
                pool=self._pool,
                bars=self._bars,
                notice=self._notice,
            )
        return self._fingerprints

    def _likely(
        self, source: ImageSource, uris: Sequence[str], fresh: Sequence[Outcome], fingerprints: Fingerprints
    ) -> dict[bytes, list[bytes]]:
        """Look at pictures, remember what was seen, and say which others each may be a copy of."""
        if not fresh:
            return {}
        embedder = self._catalogue.embedder()
        data = source.read_many([uris[one.position] for one in fresh])
        seen = list(
            self._pool.map(lambda of: look(of[0], of[1].sha256, embedder, self._effort), zip(data, fresh, strict=True))
        )
        stored, _ = self._catalogue.vectors.read(pa.array([one.sha256 for one in fresh], pa.binary()))
        candidates = Finder(self._catalogue, fingerprints).find(seen, stored, embedder)
        # What was rejected before is looked at again, against what came since, but kept once.
        rows = with_candidates(seen, candidates)
        known = fingerprints
        fingerprints.add(
            [row for row in rows if row["sha256"] not in known or (row["reason"] is None) > known.seen(row["sha256"])]
        )
        beside = _beside(seen, stored.astype(np.float32))
        return {
            one.sha256: [*of_one, *of_others] for one, of_one, of_others in zip(seen, candidates, beside, strict=True)
        }

    def _laid(
        self,
        others: Mapping[bytes, Outcome],
        likely: Mapping[bytes, Sequence[bytes]],
        told: Collection[bytes],
        owner: Mapping[bytes, str],
        fingerprints: Fingerprints,
    ) -> dict[Pair, Overlay]:
        """Lay incoming pictures over what each may be a copy of, items and what comes before it, on all cores.

        Returns:
            (the other, the incoming) → what came of it, of those that are copies.
        """
        pairs = [
            (key, sha256)
            for sha256, several in likely.items()
            if sha256 not in told
            for key in dict.fromkeys(several)
            if key in owner or (key in others and others[key].position < others[sha256].position)
        ]
        compared = compare(pairs, fingerprints, pool=self._pool)
        return {pair: over for pair, over in compared if over is not None and over.is_copy(self._line)}

    def _edited(
        self,
        sha256: bytes,
        likely: Sequence[bytes],
        laid: Mapping[Pair, Overlay],
        owner: Mapping[bytes, str],
        fingerprints: Fingerprints,
    ) -> Copy | None:
        """What an incoming picture was made from, if from any of those that are likely."""
        fit = [key for key in dict.fromkeys(likely) if key in owner and (key, sha256) in laid]
        best = max(fit, key=lambda key: laid[key, sha256].agreement, default=None)
        other = None if best is None else fingerprints.features(best)
        if best is None or other is None:
            return None
        high, wide = other.picture.shape[:2]
        return Copy(owner[best], how_made(laid[best, sha256], (wide, high)))


def _beside(seen: Sequence[Seen], stored: np.ndarray) -> list[list[bytes]]:
    """The nearest of each among those that come in with it, which no index has yet."""
    unit = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), 1e-6)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    return [[seen[at].sha256 for at in row] for row in nearest.tolist()]
