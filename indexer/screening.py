"""Copies told while pictures come in: each is looked at before it becomes an item, and compared with what is there."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.candidates import NEAREST, Finder, Seen, look, with_candidates
from indexer.catalogue import Catalogue
from indexer.comparing import Compared, compare, worth_keeping
from indexer.copy_tables import SAME_BYTES, SAME_PIXELS
from indexer.decoding import Outcome
from indexer.examining import Bars, check_effort, folder_of, last_run, locked, look_through
from indexer.fingerprints import Fingerprints
from indexer.holdings import Held, Holdings
from indexer.incoming import FACTS, Picture, in_order, why_better
from indexer.known_pairs import Pair, pair_of, table_of
from retrieval.copies import Overlay, how_made
from retrieval.grouping import components, group_by_best
from retrieval.local_features import opencv
from retrieval.machine import cores
from retrieval.sources import ImageSource
from retrieval.threshold import CAUTIOUS

AT_ONCE: Final = 512
"""Pictures between two commits: what comes in together is compared with all the rest of it, and the best of it kept."""


@dataclass(frozen=True)
class Copy:
    """What an incoming picture is a copy of.

    Attributes:
        id: of the item, or of a picture that comes in with it.
        how: "same bytes", "same pixels", or how the incoming one was made.
        better: why it would be kept in place of that item, which stays; None where it would not.
    """

    id: str
    how: str
    better: str | None = None

    def __str__(self) -> str:
        said = f"a copy of {self.id} ({self.how})"
        return said if self.better is None else f"{said}, and the better one: {self.better}; {_INSTEAD}"


_INSTEAD: Final = "take it with --flag-duplicates, and lookalike duplicates keeps it instead"


@dataclass(frozen=True)
class _Run:
    """What is read once, when the first pictures come in, and kept up from commit to commit."""

    fingerprints: Fingerprints
    finder: Finder
    holdings: Holdings


@dataclass(frozen=True)
class _Batch:
    """What comes in between two commits, by bytes that no item has.

    Attributes:
        seen: without what only looking needed.
        candidates: what each may be a copy of, with the cosine as of ``Finder.find``.
        vectors: of each.
        laid: what came of comparing, as of ``indexer.comparing``; None where nothing did.
    """

    seen: Mapping[bytes, Seen]
    candidates: Mapping[bytes, Mapping[bytes, float]]
    vectors: Mapping[bytes, np.ndarray]
    laid: dict[Pair, Overlay | None]


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
        self._run: _Run | None = None
        self._batch = _Batch({}, {}, {}, {})
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
            Position → what it is a copy of. Of several copies that come in together the best is none, as
            ``indexer.incoming`` says; an item is never a copy of what comes in, and ids that are in the catalogue
            already are left out.

        Raises:
            CatalogueError: the disk is full or cannot be written.
            DamagedError: a block of what was looked at is not what was written.
        """
        run = self._begun()
        fresh = [one for one in outcomes if one.reason is None and not run.holdings.has_id(ids[one.position])]
        first: dict[bytes, Outcome] = {}
        for one in fresh:
            if one.sha256 not in run.holdings:
                first.setdefault(one.sha256, one)
        self._batch = self._look(source, uris, list(first.values()), run)
        same: dict[bytes, list[Picture]] = defaultdict(list)
        for sha256, seen in self._batch.seen.items():
            if seen.row["reason"] is None:
                held = Held(ids[first[sha256].position], sha256, first[sha256].width, first[sha256].height)
                same[seen.row["pixels"]].append(Picture(held, seen.row))
        told: dict[bytes, Copy] = {}
        nodes = []  # pictures of the same pixels, the best first
        for pixels, several in same.items():
            if (item := run.holdings.of_pixels(pixels)) is not None:
                told |= {one.held.sha256: self._of_item(one, item, None, run) for one in several}
            else:
                nodes.append([several[at] for at in in_order(several, {})])
        told |= self._edited(nodes, run)
        found = {}
        for one in fresh:
            there = run.holdings.of_bytes(one.sha256)
            if there is not None:
                found[one.position] = Copy(there.id, SAME_BYTES)
            elif one.sha256 in told:
                found[one.position] = told[one.sha256]
            elif first[one.sha256] is not one:
                found[one.position] = Copy(ids[first[one.sha256].position], SAME_BYTES)
        return found

    def keep(self, ids: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        """Remember what became items, once it did; what did not leaves nothing behind.

        Args:
            ids: as for ``copies``.
            outcomes: those of the last ``copies`` that are items now, as they are now.

        Raises:
            CatalogueError: the disk is full or cannot be written.
        """
        run, batch = self._begun(), self._batch
        for one in outcomes:
            seen = batch.seen.get(one.sha256)
            held = Held(ids[one.position], one.sha256, one.width, one.height)
            run.holdings.put(held, None if seen is None else seen.row.get("pixels"))
        taken = [sha256 for sha256 in batch.seen if sha256 in run.holdings]
        near = {
            sha256: {key: cosine for key, cosine in batch.candidates[sha256].items() if key in run.holdings}
            for sha256 in taken
        }
        self._lay([(sha256, key) for sha256, several in near.items() for key in several], run)
        self._write(batch, near, run)
        run.fingerprints.hold(())
        if taken:
            run.finder.add(taken, np.stack([batch.vectors[sha256] for sha256 in taken]))
        self._batch = _Batch({}, {}, {}, {})

    def _write(self, batch: _Batch, near: Mapping[bytes, Mapping[bytes, float]], run: _Run) -> None:
        """Keep what was seen and compared of new items, so that nobody has to do it again."""
        known = run.fingerprints
        rows = with_candidates([batch.seen[sha256] for sha256 in near], list(near.values()))
        fresh = [
            row for row in rows if row["sha256"] not in known or (row["reason"] is None) > known.seen(row["sha256"])
        ]
        known.add(fresh)
        compared = [
            (pair, over)
            for pair, over in batch.laid.items()
            if over is not None and pair[0] in run.holdings and pair[1] in run.holdings
        ]
        if fresh or compared:
            Compared(self._folder / "pairs").write(table_of(compared), known.blocks[-1] if fresh else None)

    def _begun(self) -> _Run:
        """See that all items were looked at, and read what is known of them, once a run."""
        if self._run is None:
            fingerprints = look_through(
                self._catalogue,
                self._folder,
                effort=self._effort,
                pool=self._pool,
                bars=self._bars,
                notice=self._notice,
            )
            known = fingerprints.columns(["sha256", "pixels"]).filter(pc.field("pixels").is_valid())
            pixels = dict(zip(known.column(0).to_pylist(), known.column(1).to_pylist(), strict=True))
            holdings = Holdings(self._catalogue.items(["id", "sha256", "width", "height"]), pixels)
            self._run = _Run(fingerprints, Finder(self._catalogue, fingerprints), holdings)
        return self._run

    def _look(self, source: ImageSource, uris: Sequence[str], fresh: Sequence[Outcome], run: _Run) -> _Batch:
        """Look at pictures, and say which others each may be a copy of."""
        if not fresh:
            return _Batch({}, {}, {}, {})
        embedder = self._catalogue.embedder()
        data = source.read_many([uris[one.position] for one in fresh])
        seen = list(
            self._pool.map(lambda of: look(of[0], of[1].sha256, embedder, self._effort), zip(data, fresh, strict=True))
        )
        stored, _ = self._catalogue.vectors.read(pa.array([one.sha256 for one in fresh], pa.binary()))
        candidates = run.finder.find(seen, stored, embedder)
        for of_one, beside in zip(candidates, _beside(seen, stored.astype(np.float32)), strict=True):
            of_one.update({key: cosine for key, cosine in beside.items() if np.isnan(of_one.get(key, np.nan))})
        run.fingerprints.hold([one.row for one in seen if one.features is not None])
        return _Batch(
            {one.sha256: replace(one, features=None, views=()) for one in seen},
            dict(zip([one.sha256 for one in seen], candidates, strict=True)),
            dict(zip([one.sha256 for one in seen], stored, strict=True)),
            {},
        )

    def _lay(self, pairs: Iterable[Pair], run: _Run) -> None:
        """Lay incoming pictures over others, on all cores, where that was not done."""
        fresh = dict.fromkeys(pair for pair in (pair_of(*both) for both in pairs) if pair not in self._batch.laid)
        for pair, over in compare(list(fresh), run.fingerprints, pool=self._pool):
            self._batch.laid[pair] = over if over is not None and worth_keeping(over) else None

    def _over(self, one: bytes, other: bytes) -> Overlay | None:
        """From one picture to another, if either is a copy of the other."""
        found = self._batch.laid.get(pair_of(one, other))
        if found is None or not found.is_copy(self._line):
            return None
        return found if one < other else found.swapped()

    def _edited(self, nodes: Sequence[Sequence[Picture]], run: _Run) -> dict[bytes, Copy]:
        """Which incoming pictures were made from items, or of the others from each other.

        ``nodes`` are lists of pictures of the same pixels, the best of each first.
        """
        candidates = self._batch.candidates
        place = {one.held.sha256: at for at, several in enumerate(nodes) for one in several}
        keys = [several[0].held.sha256 for several in nodes]
        self._lay(
            (
                (key, keys[place[other]] if other in place else other)
                for at, key in enumerate(keys)
                for other in candidates[key]
                if other in run.holdings or place.get(other, at) != at
            ),
            run,
        )
        told: dict[bytes, Copy] = {}
        alone = []
        for key, several in zip(keys, nodes, strict=True):
            fit = {
                other: over for other in candidates[key] if other in run.holdings and (over := self._over(other, key))
            }
            best = max(fit, key=lambda other: fit[other].agreement, default=None)
            item = None if best is None else run.holdings.of_bytes(best)
            if item is None:
                alone.append(several)
            else:
                told |= {one.held.sha256: self._of_item(one, item, fit[item.sha256], run) for one in several}
        return told | self._of_each_other(alone, run)

    def _of_each_other(self, nodes: Sequence[Sequence[Picture]], run: _Run) -> dict[bytes, Copy]:
        """Which of several new pictures are copies of better ones; ``nodes`` as for ``_edited``."""
        first = [several[0] for several in nodes]
        keys = [one.held.sha256 for one in first]

        def edges() -> dict[tuple[int, int], Overlay]:
            return {
                (place[a], place[b]): over
                for (a, b), over in self._batch.laid.items()
                if over is not None and over.is_copy(self._line) and a in place and b in place
            }

        place = {key: at for at, key in enumerate(keys)}
        paired = {at for pair in edges() for at in pair}
        pictures = [
            replace(one, features=run.fingerprints.features(key)) if at in paired else one
            for at, (one, key) in enumerate(zip(first, keys, strict=True))
        ]

        def ranked() -> np.ndarray:
            rank = np.empty(len(first), np.int64)
            rank[in_order(pictures, edges())] = np.arange(len(first))
            return rank

        # As when duplicates are gathered: no list of candidates need have had a picture and the best of its group.
        together = components(np.array(list(edges()), np.int64), len(first)).tolist()
        rank = ranked()
        best_of: dict[int, int] = {}
        for at, component in enumerate(together):
            if rank[at] < rank[best_of.setdefault(component, at)]:
                best_of[component] = at
        self._lay(((keys[at], keys[best_of[of]]) for at, of in enumerate(together) if at != best_of[of]), run)
        found = edges()
        strength = np.array([over.agreement for over in found.values()], np.float64)
        best = group_by_best(np.array(list(found), np.int64), ranked(), strength).tolist()
        told: dict[bytes, Copy] = {}
        for at, several in enumerate(nodes):
            kept = first[best[at]].held
            over = self._over(kept.sha256, keys[at])
            how = SAME_PIXELS if over is None else how_made(over, (kept.width, kept.height))
            told |= {one.held.sha256: Copy(kept.id, how) for one in several if one.held is not kept}
        return told

    def _of_item(self, one: Picture, item: Held, over: Overlay | None, run: _Run) -> Copy:
        """What an incoming picture is to an item; ``over`` from that to it, None where their pixels are the same."""
        features = run.fingerprints.features if over is not None else lambda _: None
        there = Picture(item, run.fingerprints.row(item.sha256, FACTS), features(item.sha256))
        one = replace(one, features=features(one.held.sha256))
        how = SAME_PIXELS if over is None else how_made(over, (item.width, item.height))
        return Copy(item.id, how, why_better(one, there, over or Overlay.same()))


def _beside(seen: Sequence[Seen], stored: np.ndarray) -> list[dict[bytes, float]]:
    """The nearest of each among those that come in with it, which no index has yet, with their cosine."""
    unit = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), 1e-6)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEAREST, len(seen) - 1)]
    return [
        {seen[to].sha256: float(similarity[at, to]) for to in row if seen[to].features is not None}
        for at, row in enumerate(nearest.tolist())
    ]
