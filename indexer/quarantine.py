"""Quarantine: duplicates are moved aside, made hard links of the kept one, or forgotten, and can be brought back.

Nothing is deleted, nothing outside a source is touched, and no symlink is followed. A file is touched only while its
bytes are those that were indexed, and those of the one that is kept are there too. What is about to be done stands in
``indexer.journal`` first; ``indexer.undoing`` brings it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.catalogue import Catalogue
from indexer.deciding import LINK, MOVE, Candidate, Plan, check_decisions, plan, quarantines_for
from indexer.files import TEMPORARY_PREFIX, atomic_write, sync_folder, write_error
from indexer.journal import Journal, next_run, records, temporary_name
from indexer.moving import (
    Hindrance,
    Likeness,
    become_link,
    can_belong,
    digest_file,
    hindrances,
    relocate,
    same_file,
    state_of,
    unchanged,
)
from indexer.whereabouts import make_folder, plain_file, tidy
from retrieval.errors import CatalogueError, InputError
from retrieval.sources import ImageSource, Root, parquet_file

SKIPPED_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # one clause: why nothing was done about this item
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""An item a row that was left as it is."""
Progress = Callable[[int, int, int], object]
"""Called with items done, items in all, and items skipped so far."""


@dataclass(frozen=True)
class Applied:
    """What a run did; every decision is counted in exactly one of ``done``, ``already`` and ``skipped``.

    Attributes:
        run: names it; None when nothing was done, so that there is nothing to undo.
        action: "move", "link" or "forget".
        done: items that were moved, linked or forgotten.
        already: items that were to be linked, and whose file was one with the kept one's before.
        skipped: the others; schema ``SKIPPED_SCHEMA``.
        bytes: of the files that were moved, or are stored no more because they are links.
        journal: what ``undo`` reads; None when nothing was done.
        quarantines: the folders the files went to; none when none was moved.
        version: of the items, afterwards.
    """

    run: str | None
    action: str
    done: int
    already: int
    skipped: pa.Table
    bytes: int
    journal: Path | None
    quarantines: tuple[Path, ...]
    version: int

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"skipped": self.skipped.to_pylist(), "quarantines": list(map(str, self.quarantines))}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def apply_decisions(
    catalogue: Catalogue,
    decisions: pa.Table,
    *,
    action: str,
    quarantine: Path | None = None,
    progress: Progress = lambda done, total, skipped: None,
) -> Applied:
    """Do about duplicates what was decided, so that ``indexer.undoing.undo`` can bring it back.

    Whatever ends this early, a kill included, leaves every file whole; ``undo`` then brings back what was done.

    Args:
        catalogue: open at its newest version.
        decisions: as ``indexer.deciding.DECISIONS_SCHEMA``.
        action: "move": the file goes into the quarantine folder and the item out of the catalogue; "link": the file
            becomes a hard link of the kept one, and the item stays; "forget": the item goes out of the catalogue.
        quarantine: holds a folder a run; None: ``quarantine`` in the catalogue, or, where that is kept for folders of
            pictures, a hidden one in each of these.
        progress: see ``Progress``.

    Returns:
        What was done, and what was skipped with its reason.

    Raises:
        InputError: the decisions contradict themselves, or the quarantine folder would not do; nothing was changed.
        CatalogueError: an earlier run was interrupted and not undone yet; or the catalogue cannot be written.
        BusyError: another process is writing the catalogue.
    """
    decisions = check_decisions(decisions, action)
    if quarantine is not None and action != MOVE:
        raise InputError(f"the action {action!r} moves no file, so it has no use for a quarantine folder")
    with catalogue.writing():
        refuse_interrupted(catalogue)
        places = quarantines_for(catalogue, quarantine) if action == MOVE else None
        planned = plan(catalogue, decisions, action)
        with contextlib.closing(_Run(catalogue, action, places, planned)) as run:
            progress(len(run.skipped), decisions.num_rows, len(run.skipped))
            try:
                for one in planned.candidates:
                    run.carry_out(one)
                    seen = len(run.done) + len(run.already) + len(run.skipped)
                    progress(seen, decisions.num_rows, len(run.skipped))
                return run.finish()
            except CatalogueError as error:
                if not run.half_way:
                    raise
                raise type(error)(
                    f"{error}; but first take back what was done until then ({len(run.done)} of {decisions.num_rows}) "
                    f"with lookalike duplicates {catalogue.called.words} --undo"
                ) from error


def refuse_interrupted(catalogue: Catalogue) -> None:
    """Raise CatalogueError where a run was interrupted and not undone: nothing can be applied before it is.

    Raises:
        DamagedError: a journal is not what was written.
    """
    for record in records(catalogue):
        if record.state == "interrupted":
            raise CatalogueError(
                f"the run {record.run} of {catalogue.called} was interrupted; bring it back with lookalike "
                f"duplicates {catalogue.called.words} --undo, then apply again"
            )


class _Run:
    """Carries out candidates one by one; there is a journal from the first intent on."""

    def __init__(self, catalogue: Catalogue, action: str, places: Mapping[str, Path] | None, planned: Plan) -> None:
        self._catalogue, self._action = catalogue, action
        self._kept = _Kept(planned.items, links=action == LINK)
        self._sources = sorted({one.source for one in planned.candidates})
        self._journal: Journal | None = None
        self._name = next_run(catalogue, () if places is None else set(places.values()))
        self._aside = None if places is None else {source: places[source] / self._name for source in self._sources}
        self._made: list[Path] = []
        self._used: set[Path] = set()
        self._number = 0
        self._over = False
        self._folders: set[Path] = set()
        self.done: list[str] = []
        self.already: list[str] = []
        self.skipped = dict(planned.skipped)
        self._bytes = 0

    @property
    def half_way(self) -> bool:
        """Whether there is a journal that does not say yet what the run came to."""
        return self._journal is not None and not self._over

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()

    def carry_out(self, one: Candidate) -> None:
        """Do what was decided about a file, or say why not."""
        try:
            with hindrances():
                for kept in dict.fromkeys(one.kept.values()):
                    self._kept.check(kept)
                if one.path is None:
                    self._intend(one, {}, sync=False)
                    touched = True
                else:
                    touched = self._touch(one)
        except Hindrance as error:
            self.skipped |= dict.fromkeys(one.kept, str(error))
        else:
            (self.done if touched else self.already).extend(one.kept)

    def finish(self) -> Applied:
        """Take the items out of the catalogue and end the run."""
        if self._journal is not None:
            for folder in self._folders:
                with contextlib.suppress(OSError):  # a folder that may be written but not read
                    sync_folder(folder)
            self._tidy()
            forgets = bool(self.done) and self._action != LINK
            if forgets:
                self._journal.write(sync=True)
                items = self._catalogue.items()
                gone = items.filter(pc.is_in(items.column("id"), value_set=pa.array(self.done, pa.string())))
                with atomic_write(self._journal.path.with_suffix(".parquet")) as file:
                    pq.write_table(gone, file)
                self._catalogue.remove(self.done)
            counts = {"done": len(self.done), "skipped": len(self.skipped), "bytes": self._bytes}
            self._journal.write({"applied": {**counts, "version": self._catalogue.version}}, sync=True)
            self._over = True
            if forgets:
                self._catalogue.settle()
        run, journal = (self._journal.run, self._journal.path) if self._journal and self.done else (None, None)
        return Applied(
            run=run,
            action=self._action,
            done=len(self.done),
            already=len(self.already),
            skipped=pa.table([list(self.skipped), list(self.skipped.values())], schema=SKIPPED_SCHEMA),
            bytes=self._bytes,
            journal=journal,
            quarantines=tuple(sorted(self._used)),
            version=self._catalogue.version,
        )

    def _touch(self, one: Candidate) -> bool:
        """Move or link a file; says whether that was still to be done."""
        path = plain_file(one.source, one.uri)
        digest, state = digest_file(path)
        if digest != one.sha256:
            raise Hindrance("its file has other bytes than when it was indexed")
        about = {
            "sha256": digest.hex(),
            "bytes": state.st_size,
            "mode": stat.S_IMODE(state.st_mode),
            "mtime_ns": state.st_mtime_ns,
            "owner": [state.st_uid, state.st_gid],
        }
        if self._action != LINK:
            self._move(one, path, state, about)
        elif not self._link(one, path, state, about):
            return False
        self._folders.add(path.parent)
        self._bytes += state.st_size
        return True

    def _move(self, one: Candidate, path: Path, state: os.stat_result, about: dict[str, Any]) -> None:
        stay = list(dict.fromkeys(one.kept.values()))
        for kept in stay:
            other = self._kept.check(kept)[1]
            if other is not None and same_file(state, other) and state.st_nlink == 1:
                raise Hindrance(f"its file is that of {kept!r} too, which stays, by another path")
        self._begin()
        *folders, name = one.uri.split("/")
        # Files of ours that begin like this are swept away.
        name = f"_{name}" if name.startswith(TEMPORARY_PREFIX) else name
        to = "/".join([f"{self._sources.index(one.source) + 1}-{Path(one.source).name}", *folders, name])
        assert self._aside is not None
        target = self._aside[one.source] / to
        with hindrances():
            make_folder(target.parent)
            if state_of(target) is not None:
                raise Hindrance("a file of that name is in quarantine already")
        temporary = temporary_name(self._name, self._number)
        probe = path.with_name(temporary)
        like = Likeness(one.sha256, about["mode"], about["mtime_ns"], (state.st_uid, state.st_gid))
        with self._intended(one, {"to": to, **about}):
            relocate(path, target, temporary=target.with_name(temporary), probe=probe, state=state, like=like)
            try:
                for kept in stay:
                    self._kept.check(kept)
            except Hindrance as error:
                # One folder by two paths, as where it is mounted twice; or another run has just moved the kept one.
                self._kept.look_again()
                with contextlib.suppress(Hindrance, OSError):  # else it stands in quarantine, as the journal says
                    moved = digest_file(target)[1]
                    relocate(target, path, temporary=probe, probe=probe, state=moved, like=like)
                if state_of(target) is None:
                    raise Hindrance(f"it was put back, since with it went the one that is kept: {error}") from error
        self._used.add(self._aside[one.source])

    def _link(self, one: Candidate, path: Path, state: os.stat_result, about: dict[str, Any]) -> bool:
        kept, kept_state = self._kept.check(next(iter(one.kept.values())))
        assert kept is not None
        assert kept_state is not None
        if same_file(state, kept_state):
            return False
        if state.st_dev != kept_state.st_dev:
            raise Hindrance("it is on another file system than the kept one")
        if state.st_nlink > 1:
            raise Hindrance("it has other hard links, so that nothing would be saved")
        if (state.st_uid, state.st_gid) != (kept_state.st_uid, kept_state.st_gid):
            raise Hindrance("it belongs to another user or group than the kept one")
        if stat.S_IMODE(kept_state.st_mode) & ~stat.S_IMODE(state.st_mode):
            raise Hindrance("its permissions are narrower than those of the kept one, which it would get")
        about |= {"kept": str(kept), "device": kept_state.st_dev, "inode": kept_state.st_ino}
        temporary = path.with_name(temporary_name(self._name, self._number))
        with self._intended(one, about):
            if not can_belong(temporary, (state.st_uid, state.st_gid)):
                raise Hindrance("it belongs to another user or group, and could not be taken back; do it as root")
            become_link(path, kept, temporary=temporary, state=state, kept_state=kept_state)
        return True

    @contextlib.contextmanager
    def _intended(self, one: Candidate, about: Mapping[str, Any]) -> Iterator[None]:
        number = self._intend(one, about, sync=True)
        assert self._journal is not None
        try:
            with hindrances():
                yield
        except Hindrance as error:
            self._journal.write({"left": number, "reason": str(error)})
            raise
        self._journal.write({"done": number})

    def _intend(self, one: Candidate, about: Mapping[str, Any], *, sync: bool) -> int:
        journal = self._begin()
        number, self._number = self._number, self._number + 1
        line = {"do": number, "ids": list(one.kept), "source": one.source, "uri": one.uri, **about}
        journal.write(line, sync=sync)
        return number

    def _begin(self) -> Journal:
        if self._journal is None:
            try:
                for aside in self._asides:
                    try:
                        self._made += make_folder(aside)
                        aside.chmod(0o700)  # the files may come from a folder that is not for everybody
                    except OSError as error:
                        raise write_error(aside, error) from error
                self._journal = Journal.begin(
                    self._catalogue, run=self._name, action=self._action, quarantine=self._aside, made=self._made
                )
            except CatalogueError:
                self._tidy()
                raise
        return self._journal

    @property
    def _asides(self) -> set[Path]:
        return set((self._aside or {}).values())

    def _tidy(self) -> None:
        for aside in self._asides - self._used:
            tidy(aside, self._made)


class _Kept:
    """Whether the items that are kept are there with their bytes; each file is hashed once unless it changes."""

    def __init__(self, items: Mapping[str, dict[str, Any]], *, links: bool) -> None:
        self._items, self._links = items, links
        self._known: dict[str, tuple[Path | None, os.stat_result | None] | Hindrance] = {}

    def check(self, id: str) -> tuple[Path | None, os.stat_result | None]:
        """The file and its state when it was hashed, None for a row of a Parquet file; raises Hindrance."""
        known = self._known.get(id)
        if isinstance(known, tuple) and known[0] is not None and known[1] is not None:
            known = known if unchanged(known[1], state_of(known[0])) else None
        if known is None:
            try:
                known = self._look(self._items[id])
            except Hindrance as error:
                known = Hindrance(f"the one that is kept, {id!r}, is not as it was indexed: {error}")
            self._known[id] = known
        if isinstance(known, Hindrance):
            raise Hindrance(str(known))
        return known

    def look_again(self) -> None:
        """Take nothing that was seen for granted any more."""
        self._known.clear()

    def _look(self, item: Mapping[str, Any]) -> tuple[Path | None, os.stat_result | None]:
        path: Path | None = None
        state: os.stat_result | None = None
        with hindrances():
            if parquet_file(item["uri"]) is not None:
                with ImageSource(Path(item["source"])) as source:
                    digest = hashlib.sha256(source.read(item["uri"])).digest()
            else:
                plain = plain_file if self._links else _readable_file
                path = plain(item["source"], item["uri"])
                digest, state = digest_file(path)
        if digest != item["sha256"]:
            raise Hindrance("its bytes have changed")
        return path, state


def _readable_file(root: str, uri: str) -> Path:
    return Path(Root(Path(root)).file(uri))
