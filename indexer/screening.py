"""Copies told while pictures come in: each is looked at before it becomes an item, and compared with what is there."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrivals import Arrivals
from indexer.candidates import BLOCK, Finder, Seen, beside, look, with_candidates
from indexer.catalogue import Catalogue
from indexer.comparing import Compared, ahead
from indexer.copy_tables import SAME_BYTES, SAME_PIXELS
from indexer.decoding import Outcome
from indexer.examining import Bars, check_effort, folder_of, last_run, locked, look_through
from indexer.fingerprints import Fingerprints
from indexer.holdings import Held, Holdings
from indexer.incoming import FACTS, Picture, in_order, why_better
from indexer.known_pairs import table_of
from retrieval.copies import Overlay, how_made
from retrieval.errors import ImageError
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
        self,
        source: ImageSource,
        uris: Sequence[str],
        ids: Sequence[str],
        outcomes: Sequence[Outcome],
        *,
        replacing: Collection[int] = (),
    ) -> Mapping[int, Copy]:
        """Say which of some incoming pictures are copies, of items or of each other.

        Args:
            source: of the pictures.
            uris: of all pictures of the run, by position.
            ids: that they will have, by position.
            outcomes: some of the pictures, in their order; their vectors are in the cache.
            replacing: positions of those that the items of their ids will have in place of their own bytes.

        Returns:
            Position → what it is a copy of. Of several copies that come in together the best is none, as
            ``indexer.incoming`` says; an item is never a copy of what comes in, and ids that are in the catalogue
            already are left out.

        Raises:
            CatalogueError: the disk is full or cannot be written.
            DamagedError: a block of what was looked at is not what was written.
        """
        run = self._begun()
        good = [one for one in outcomes if one.reason is None]
        fresh = [one for one in good if run.holdings.of_id(ids[one.position]) is None]
        settled = self._replace(ids, [one for one in good if one.position in replacing], run)
        first: dict[bytes, Outcome] = {}
        for one in fresh:
            if one.sha256 not in run.holdings:
                first.setdefault(one.sha256, one)
        self._batch = self._look(source, uris, [*settled, *first.values()], run)
        for one in settled:
            run.holdings.put(_held(ids, one), self._batch.seen[one.sha256].row.get("pixels"))
        same: dict[bytes, list[Picture]] = defaultdict(list)
        for sha256, one in first.items():
            row = self._batch.seen[sha256].row
            if row["reason"] is None:
                same[row["pixels"]].append(Picture(_held(ids, one), row))
        told: dict[bytes, Copy] = {}
        nodes = []  # pictures of the same pixels, the best first
        stands: dict[bytes, bytes] = {}  # picture → the one of its pixels that is compared for it
        for pixels, several in same.items():
            if (item := run.holdings.of_pixels(pixels)) is not None:
                told |= {one.held.sha256: self._of_item(one, item, None, run) for one in several}
                stands |= {one.held.sha256: item.sha256 for one in several}
            else:
                same_pixels = {(0, at): Overlay.same() for at in range(1, len(several))}
                nodes.append([several[at] for at in in_order(several, same_pixels, run.fingerprints.grain)])
                stands |= {one.held.sha256: nodes[-1][0].held.sha256 for one in several}
        told |= self._edited(nodes, stands, run)
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
            run.holdings.put(_held(ids, one), None if seen is None else seen.row.get("pixels"))
        taken = [sha256 for sha256 in batch.seen if sha256 in run.holdings]
        near = {
            sha256: {key: cosine for key, cosine in batch.candidates[sha256].items() if key in run.holdings}
            for sha256 in taken
        }
        batch.lay([(sha256, key) for sha256, several in near.items() for key in several])
        self._write(batch, near, run)
        run.fingerprints.hold(())
        if taken:
            looked = [batch.seen[sha256].row for sha256 in taken]
            run.finder.add(looked, np.stack([batch.vectors[sha256] for sha256 in taken]))
        self._batch = self._arrivals(run.fingerprints)

    def _write(self, batch: Arrivals, near: Mapping[bytes, Mapping[bytes, float]], run: _Run) -> None:
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
            self._batch = self._arrivals(fingerprints)
        return self._run

    def _replace(self, ids: Sequence[str], outcomes: Sequence[Outcome], run: _Run) -> list[Outcome]:
        """Let items have other bytes, ahead of their commit, and theirs be gone; gives those to look at.

        That is, where no item had the bytes, or none could be read: its file was replaced before it was looked at.
        """
        were = {item.sha256 for one in outcomes if (item := run.holdings.of_id(ids[one.position])) is not None}
        new = {
            one.sha256: one
            for one in outcomes
            if one.sha256 not in run.holdings or not run.fingerprints.seen(one.sha256)
        }
        again = {sha256 for sha256 in new if sha256 in run.holdings}  # found again once they are added
        for one in outcomes:
            run.holdings.put(_held(ids, one), None)
        run.finder.forget(again | {sha256 for sha256 in were if sha256 not in run.holdings})
        return list(new.values())

    def _look(self, source: ImageSource, uris: Sequence[str], fresh: Sequence[Outcome], run: _Run) -> Arrivals:
        """Look at pictures, and say which others each may be a copy of."""
        if not fresh:
            return self._arrivals(run.fingerprints)
        embedder = self._catalogue.embedder()
        stored, _ = self._catalogue.vectors.read(pa.array([one.sha256 for one in fresh], pa.binary()))
        waiting = zip(source.read_many([uris[one.position] for one in fresh]), fresh, strict=True)
        seen: list[Seen] = []
        candidates: list[dict[bytes, float]] = []
        while len(seen) < len(fresh):  # by blocks: views take more memory than all that stays of a picture
            block = list(ahead(self._pool, lambda of: self._seen(*of), islice(waiting, BLOCK), 2 * cores()))
            vectors = stored[len(seen) : len(seen) + len(block)]
            candidates += run.finder.find(block, vectors, embedder, remember=False)
            seen += [replace(one, features=None, views=()) for one in block]
        for of_one, others in zip(candidates, beside(seen, stored), strict=True):
            of_one.update(others)
        run.fingerprints.hold([one.row for one in seen if one.row["reason"] is None])
        keys = [one.sha256 for one in seen]
        return replace(
            self._arrivals(run.fingerprints),
            seen=dict(zip(keys, seen, strict=True)),
            candidates=dict(zip(keys, candidates, strict=True)),
            vectors=dict(zip(keys, stored, strict=True)),
        )

    def _arrivals(self, fingerprints: Fingerprints) -> Arrivals:
        return Arrivals(fingerprints, self._pool, self._line)

    def _seen(self, data: bytes | ImageError, outcome: Outcome) -> Seen:
        return look(data, outcome.sha256, self._catalogue.embedder(), self._effort)

    def _edited(
        self, nodes: Sequence[Sequence[Picture]], stands: Mapping[bytes, bytes], run: _Run
    ) -> dict[bytes, Copy]:
        """Which incoming pictures were made from items, or of the others from each other.

        Args:
            nodes: lists of pictures of the same pixels, the best of each first.
            stands: picture → the best of its list, or the item of its pixels.
            run: of the screen.
        """
        of_key = {several[0].held.sha256: several for several in nodes}
        item_of = self._batch.made_from_items(list(of_key), stands, run.holdings)
        told: dict[bytes, Copy] = {}
        for key, sha256 in item_of.items():
            item, over = run.holdings.of_bytes(sha256), self._batch.over(sha256, key)
            assert item is not None
            told |= {one.held.sha256: self._of_item(one, item, over, run) for one in of_key[key]}
        alone = [several for key, several in of_key.items() if key not in item_of]
        best = self._batch.made_from_each_other([several[0] for several in alone])
        for several, at in zip(alone, best, strict=True):
            kept = alone[at][0].held
            over = self._batch.over(kept.sha256, several[0].held.sha256)
            how = SAME_PIXELS if over is None else how_made(over, (kept.width, kept.height))
            told |= {one.held.sha256: Copy(kept.id, how) for one in several if one.held is not kept}
        return told

    def _of_item(self, one: Picture, item: Held, over: Overlay | None, run: _Run) -> Copy:
        """What an incoming picture is to an item; ``over`` from that to it, None where their pixels are the same."""
        features = run.fingerprints.features if over is not None else lambda _: None
        now = self._batch.seen.get(item.sha256)  # of an item that has other bytes since this commit
        facts = run.fingerprints.row(item.sha256, FACTS) if now is None else now.row
        there = Picture(item, facts, features(item.sha256))
        one = replace(one, features=features(one.held.sha256))
        how = SAME_PIXELS if over is None else how_made(over, (item.width, item.height))
        return Copy(item.id, how, why_better(one, there, over or Overlay.same(), run.fingerprints.grain))


def _held(ids: Sequence[str], outcome: Outcome) -> Held:
    return Held(ids[outcome.position], outcome.sha256, outcome.width, outcome.height)
