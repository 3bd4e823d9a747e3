"""Ingest: a manifest's images become items of a catalogue, or rows of its rejected inputs.

A run may be stopped at any moment and started again: vectors stand in the cache before the one commit that
makes their items, so the next run finds what is there, embeds the rest and commits nothing twice.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.embeds import Embeds
from indexer.items import CORRECTED_FROM, DUPLICATE_OF, ITEMS_SCHEMA, REJECTED_SCHEMA, fit_columns
from indexer.pipeline import Outcome, embed_uris
from indexer.profile import NO_PROFILE, Profile
from indexer.screening import AT_ONCE, Copy, Screen
from retrieval.manifest import Manifest
from retrieval.sources import ImageSource

COMMIT_EVERY: Final = 1024
REJECT, FLAG = "reject", "flag"
Progress = Callable[[int, int, int], object]
"""Called with images done, images in all, and images rejected so far."""


@dataclass(frozen=True)
class IngestSummary:
    """What a run did; every input of the manifest is counted in exactly one of the first four.

    Attributes:
        added: new items.
        updated: items whose bytes, place, label or columns changed.
        unchanged: items that were there already.
        rejected: inputs that are no items.
        embedded: images that went through the network.
        unlabelled: images of the manifest without a label.
        seconds: wall-clock time.
        version: of the items, afterwards.
        items: in the catalogue, afterwards.
        copies: of these, items whose bytes are those of an earlier one.
        runtime: what computed the vectors; None when nothing was embedded.
    """

    added: int
    updated: int
    unchanged: int
    rejected: int
    embedded: int
    unlabelled: int
    seconds: float
    version: int
    items: int
    copies: int
    runtime: str | None

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def ingest(
    catalogue: Catalogue,
    manifest: Manifest,
    *,
    embedder: Embeds | None = None,
    commit_every: int = COMMIT_EVERY,
    progress: Progress = lambda done, total, rejected: None,
    notice: Callable[[str], object] = lambda _: None,
    profile: Profile = NO_PROFILE,
    screen: Screen | None = None,
    copies: str = REJECT,
) -> IngestSummary:
    """Add a manifest's images to a catalogue.

    An id that is there already is left alone when nothing about it changed, and replaced when something did.
    An id that came from another source with other bytes is refused, so that two folders with the same file
    names do not overwrite each other.

    Args:
        catalogue: open at its newest version.
        manifest: what ``read_manifest`` gave.
        embedder: the catalogue's own when None.
        commit_every: images between two commits.
        progress: see ``Progress``.
        notice: told what takes long before the first picture is embedded.
        profile: told where the time goes.
        screen: tells copies among new images, of items and of each other; None: copies become items like all others.
        copies: what is done with these: ``REJECT`` refuses them, ``FLAG`` takes them, with the id of what they are a
            copy of in the column ``duplicate_of``.

    Returns:
        The summary; the counts add up to the inputs of the manifest.

    Raises:
        BusyError: another process is writing the catalogue.
        InputError: a column does not fit the type it has in the catalogue.
        CatalogueError: the disk is full or cannot be written.
        MissingExtraError: ``screen`` needs a package that is not installed.
        KeyboardInterrupt: passed on, after what was embedded has been kept.
    """
    began = time.perf_counter()
    with profile.stage("load", images=0):
        embedder = embedder or catalogue.embedder()
    with catalogue.writing(), ImageSource(manifest.root) as source:
        run = _Run(catalogue, manifest, flagging=copies == FLAG)
        cached = len(catalogue.vectors.keys())
        total = manifest.table.num_rows + manifest.rejected.num_rows
        done = refused = manifest.rejected.num_rows
        run.reject(manifest.rejected)
        progress(done, total, refused)

        def on_done(outcome: Outcome) -> None:
            nonlocal done, refused
            done += 1
            refused += outcome.reason is not None
            progress(done, total, refused)

        uris = manifest.table.column("uri").to_pylist()
        ids = manifest.table.column("id").to_pylist()
        chunks = embed_uris(
            source,
            uris,
            embedder,
            catalogue.vectors,
            chunk=commit_every if screen is None else min(commit_every, AT_ONCE),
            on_done=on_done,
            notice=notice,
            profile=profile,
        )
        with contextlib.closing(chunks):  # so that whatever ends this, what is embedded is kept before the lock goes
            for outcomes in chunks:
                found: Mapping[int, Copy] = {}
                if screen is not None:
                    with profile.stage("screen", images=len(outcomes)):
                        found = screen.copies(source, uris, ids, outcomes, replacing=run.replaced(outcomes))
                with profile.stage("commit", images=len(outcomes)):
                    taken = run.take(outcomes, found)
                if screen is not None and taken:
                    with profile.stage("screen", images=0):
                        screen.keep(ids, taken)
        with profile.stage("commit", images=0):
            run.forgive()
            embedded = len(catalogue.vectors.keys()) - cached
            catalogue.settle()
        return IngestSummary(
            added=run.added,
            updated=run.updated,
            unchanged=run.unchanged,
            rejected=run.rejected,
            embedded=embedded,
            unlabelled=manifest.table.column("label").null_count,
            seconds=time.perf_counter() - began,
            version=catalogue.version,
            items=(items := catalogue.items(["sha256"])).num_rows,
            copies=items.num_rows - pc.count_distinct(items.column("sha256")).as_py(),
            runtime=embedder.runtime if embedded else None,
        )


class _Run:
    """Turns outcomes into commits, against the items as they were when the run began."""

    def __init__(self, catalogue: Catalogue, manifest: Manifest, *, flagging: bool) -> None:
        self._catalogue, self._flagging = catalogue, flagging
        self._source, self._listing = manifest.root.as_posix(), manifest.listing.as_posix()
        self._manifest = fit_columns(manifest.table, catalogue.items().schema)
        self._before = catalogue.items()
        self._place = pc.fill_null(
            pc.index_in(self._manifest.column("id"), value_set=self._before.column("id").combine_chunks()), -1
        ).to_numpy(zero_copy_only=False)
        before = catalogue.rejected.read()
        mine = before.filter(pc.equal(before.column("listing"), pa.scalar(self._listing, pa.string())))
        # A list may name one file twice, so the same refusal may stand more than once.
        self._standing = Counter(zip(mine.column("uri").to_pylist(), mine.column("reason").to_pylist(), strict=True))
        self._refused: Counter[tuple[str, str]] = Counter()
        self.added = self.updated = self.unchanged = self.rejected = 0

    def replaced(self, outcomes: list[Outcome]) -> set[int]:
        """Positions of those that ``take`` will give to items that are there, in place of the bytes they have."""
        known = [one for one in outcomes if one.reason is None and self._place[one.position] >= 0]
        places = pa.array([int(self._place[one.position]) for one in known], pa.int64())
        before = self._before.select(["sha256", "source"]).take(places).to_pylist()
        return {
            one.position
            for one, was in zip(known, before, strict=True)
            if was["sha256"] != one.sha256 and was["source"] == self._source
        }

    def take(self, outcomes: list[Outcome], copies: Mapping[int, Copy]) -> list[Outcome]:
        """Commit a chunk: new items, changed items, refused inputs; copies are flagged or refused.

        Returns:
            Those that are items now and were not, or not so.
        """
        refused = [(outcome.position, outcome.reason) for outcome in outcomes if outcome.reason is not None]
        good = [outcome for outcome in outcomes if outcome.reason is None]
        if not self._flagging:
            good = [outcome for outcome in good if outcome.position not in copies]
            refused += [(at, str(copy)) for at, copy in copies.items()]
        old = self._place[[outcome.position for outcome in good]] if good else np.zeros(0, np.int64)
        rows = self._flagged(self._corrected(self._rows(good), old), good, old, copies)
        new, changed = [], []
        before = self._before.take(pa.array(old[old >= 0])).to_pylist()
        now = rows.filter(pa.array(old >= 0)).to_pylist()
        at = np.flatnonzero(old >= 0)
        new = np.flatnonzero(old < 0).tolist()
        number: list[int | None] = [None] * len(good)
        for place, was, is_now in zip(at.tolist(), before, now, strict=True):
            same_bytes = was["sha256"] == is_now["sha256"]
            if not same_bytes and was["source"] != self._source:
                refused.append(
                    (
                        good[place].position,
                        f"the id {is_now['id']!r} is taken by another image, of {was['source']}; "
                        "index this source with --prefix",
                    )
                )
                continue
            # A row number stands for the bytes an index has seen, so other bytes get another number.
            number[place] = was["row"] if same_bytes else None
            if all(_equal(was.get(name), value) for name, value in is_now.items() if name != "row"):
                self.unchanged += 1
            else:
                changed.append(place)
        rows = rows.set_column(0, ITEMS_SCHEMA.field("row").with_nullable(True), pa.array(number, pa.int64()))
        if changed:
            self._catalogue.commit(rows.take(pa.array(sorted(new + changed), pa.int64())), replacing=True)
        else:
            self._catalogue.commit(rows.take(pa.array(new, pa.int64())))
        self.added += len(new)
        self.updated += len(changed)
        if refused:
            uris = self._manifest.column("uri").take(pa.array([position for position, _ in refused]))
            known = self._place[[position for position, _ in refused]] >= 0
            reasons = [
                f"{reason}; the item as it was indexed before is kept" if was and "taken by" not in reason else reason
                for (_, reason), was in zip(refused, known.tolist(), strict=True)
            ]
            self.reject(pa.table({"uri": uris, "reason": pa.array(reasons, pa.string())}))
        return [good[place] for place in sorted(new + changed)]

    def _flagged(
        self, rows: pa.Table, outcomes: list[Outcome], old: np.ndarray, copies: Mapping[int, Copy]
    ) -> pa.Table:
        """Say of copies what they are copies of; what was said of items that are there stays."""
        if not self._flagging:
            return rows
        there = pa.array(old, mask=old < 0)
        flagged = DUPLICATE_OF in self._before.column_names
        was = self._before.column(DUPLICATE_OF).take(there).to_pylist() if flagged else [None] * len(outcomes)
        said = [
            copies[outcome.position].id if outcome.position in copies else before
            for outcome, before in zip(outcomes, was, strict=True)
        ]
        return rows.append_column(DUPLICATE_OF, pa.array(said, pa.string()))

    def _corrected(self, rows: pa.Table, old: np.ndarray) -> pa.Table:
        """Keep labels that were corrected, as long as the source says what it said then."""
        if CORRECTED_FROM not in self._before.column_names:
            return rows
        given = rows.column("label").to_pylist()
        was = self._before.select(["label", CORRECTED_FROM]).take(pa.array(np.maximum(old, 0))).to_pylist()
        stays = [
            place >= 0 and before[CORRECTED_FROM] is not None and before[CORRECTED_FROM] == (label or "")
            for place, before, label in zip(old.tolist(), was, given, strict=True)
        ]
        kept = [
            (before["label"], before[CORRECTED_FROM]) if stay else (label, None)
            for stay, before, label in zip(stays, was, given, strict=True)
        ]
        rows = rows.set_column(rows.column_names.index("label"), "label", pa.array([k[0] for k in kept], pa.string()))
        return rows.append_column(CORRECTED_FROM, pa.array([k[1] for k in kept], pa.string()))

    def reject(self, rejected: pa.Table) -> None:
        """Write refused inputs (columns ``uri``, ``reason``) that do not stand there yet."""
        self.rejected += rejected.num_rows
        fresh = []
        for refusal in zip(rejected.column("uri").to_pylist(), rejected.column("reason").to_pylist(), strict=True):
            self._refused[refusal] += 1
            if self._refused[refusal] > self._standing[refusal]:
                fresh.append(refusal)
        if fresh:
            self._standing.update(fresh)
            count = len(fresh)
            columns = [
                [self._source] * count,
                [self._listing] * count,
                [uri for uri, _ in fresh],
                [reason for _, reason in fresh],
                [datetime.now(UTC)] * count,
            ]
            self._catalogue.rejected.append(pa.table(columns, schema=REJECTED_SCHEMA), {})

    def forgive(self) -> None:
        """Remove the refusals of this listing that were not met again, once all of it has been seen."""
        gone = [refusal for refusal in self._standing if not self._refused[refusal]]
        if gone:
            columns = [[self._listing] * len(gone), [uri for uri, _ in gone], [reason for _, reason in gone]]
            self._catalogue.rejected.remove(pa.table(columns, names=["listing", "uri", "reason"]), metadata={})
        self._catalogue.rejected.compact({})

    def _rows(self, outcomes: list[Outcome]) -> pa.Table:
        part = self._manifest.take(pa.array([outcome.position for outcome in outcomes], pa.int64()))
        ours: dict[str, Any] = {
            "row": pa.nulls(len(outcomes), pa.int64()),
            "id": part.column("id"),
            "uri": part.column("uri"),
            "source": pa.array([self._source] * len(outcomes), pa.string()),
            "sha256": pa.array([outcome.sha256 for outcome in outcomes], pa.binary()),
            "width": pa.array([outcome.width for outcome in outcomes], pa.int32()),
            "height": pa.array([outcome.height for outcome in outcomes], pa.int32()),
            "label": part.column("label"),
        }
        theirs = {name: part.column(name) for name in part.column_names if name not in ours}
        return pa.table({**ours, **theirs})


def _equal(one: Any, other: Any) -> bool:
    # Not a number is not equal to itself, but it is no change either.
    return bool(one == other) or (one != one and other != other)
