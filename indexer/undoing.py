"""Undo: what a run of ``indexer.quarantine`` did is brought back, file by file and byte for byte.

What is to be done is read off the files and not only off the journal, so that it does not matter where a run, or an
earlier undo, was killed. Nothing that has come into the place of a file meanwhile is overwritten.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.catalogue import Catalogue
from indexer.deciding import LINK, MOVE
from indexer.items import fit_columns
from indexer.journal import (
    Journal,
    Record,
    listed,
    made_by,
    quarantine_of,
    quarantines_of,
    record_of,
    records,
    temporary_name,
)
from indexer.moving import (
    Hindrance,
    Likeness,
    digest_file,
    discard,
    dress,
    hindrances,
    make_independent,
    relocate,
    same_file,
    state_of,
)
from indexer.quarantine import SKIPPED_SCHEMA, Progress
from indexer.whereabouts import make_folder, place_for, tidy
from retrieval.errors import DamagedError, NotFoundError
from retrieval.folders import ASIDE


@dataclass(frozen=True)
class Undone:
    """What an undo did.

    Attributes:
        run: that was undone.
        action: what it had done.
        already: whether it had been undone before; then nothing was done now.
        files: that were brought back now.
        items: that were put back into the catalogue now, under the rows they had.
        skipped: items of which something could not be brought back; schema ``SKIPPED_SCHEMA``. Try again once the
            reason is gone.
        version: of the items, afterwards.
    """

    run: str
    action: str
    already: bool
    files: int
    items: int
    skipped: pa.Table
    version: int

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "skipped": self.skipped.to_pylist()}


def undo(
    catalogue: Catalogue,
    *,
    run: str | None = None,
    progress: Progress = lambda done, total, skipped: None,
) -> Undone:
    """Bring back what a run did: files with their bytes, mode and time of modification, and items.

    May be killed at any moment and called again.

    Args:
        catalogue: open at its newest version.
        run: names it; None: the latest that was not undone, or not wholly.
        progress: see ``Progress``.

    Returns:
        What was done, and what could not be with its reason.

    Raises:
        NotFoundError: there is no such run, or none to undo.
        DamagedError: the journal, or the items that it keeps, are not what was written.
        BusyError: another process is writing the catalogue.
        CatalogueError: the catalogue cannot be written.
    """
    with catalogue.writing():
        record = _latest(catalogue) if run is None else record_of(catalogue, run)
        skipped: dict[str, str] = {}
        files = items = 0
        if record.state != "undone":
            with contextlib.closing(Journal(record.path)) as journal:
                outstanding = record.outstanding()
                total = sum(len(intent["ids"]) for intent in outstanding.values())
                back: list[int] = []
                seen = 0
                for number, intent in reversed(outstanding.items()):
                    try:
                        with hindrances():
                            files += _bring_back(catalogue, record, number, intent)
                        back.append(number)
                    except Hindrance as error:
                        skipped |= dict.fromkeys(intent["ids"], str(error))
                    seen += len(intent["ids"])
                    progress(seen, total, len(skipped))
                items = _restore_items(catalogue, record, [id for number in back for id in outstanding[number]["ids"]])
                _tidy(catalogue, record)
                # Only now: what is called back here is not looked at again.
                counts = {"files": files, "items": items, "skipped": len(skipped)}
                journal.write(*({"back": number} for number in back), {"undone": counts}, sync=True)
            if items:
                catalogue.settle()
        return Undone(
            run=record.run,
            action=record.action,
            already=record.state == "undone",
            files=files,
            items=items,
            skipped=pa.table([list(skipped), list(skipped.values())], schema=SKIPPED_SCHEMA),
            version=catalogue.version,
        )


def _latest(catalogue: Catalogue) -> Record:
    for record in records(catalogue):
        if record.state in ("applied", "interrupted", "partly undone"):
            return record
    raise NotFoundError(f"{catalogue.called} has no run of duplicates to undo: {listed(catalogue)}")


def _bring_back(catalogue: Catalogue, record: Record, number: int, intent: dict[str, Any]) -> bool:
    """Bring back one file; says whether there was anything to do. Raises Hindrance or OSError."""
    if record.action not in (MOVE, LINK):
        return False
    place = place_for(intent["source"], intent["uri"])
    temporary = temporary_name(record.run, number)
    discard(place.with_name(temporary))
    done = number in record.done
    if record.action == LINK:
        return _unlink(intent, place, place.with_name(temporary), done=done)
    folder = quarantine_of(catalogue, record, intent["source"])
    if folder is None:
        raise DamagedError(f"{record.path} is damaged (it names no quarantine folder); restore it from a copy")
    aside = folder / intent["to"]
    if state_of(folder) is not None:
        try:
            aside = place_for(str(folder), intent["to"])
        except Hindrance as error:
            raise Hindrance(f"the quarantine {folder} cannot be used: {error}") from error
        discard(aside.with_name(temporary))
    return _move_back(intent, place, aside, place.with_name(temporary), done=done)


def _move_back(intent: dict[str, Any], place: Path, aside: Path, temporary: Path, *, done: bool) -> bool:
    like = _likeness(intent)
    here, there = state_of(place), state_of(aside)
    if there is None:
        if _has(place, here, like.sha256) or (here is not None and not done):
            return False
        raise Hindrance(f"it is neither in its place nor in quarantine, where it should be {aside}")
    if not _has(aside, there, like.sha256):
        how = "" if there.st_nlink == 1 else ", or through another hard link of it"
        raise Hindrance(f"its file has been changed in quarantine{how}, and is left there: {aside}")
    if here is None:
        make_folder(place.parent)
        if there.st_nlink == 1:  # else it is another file too, which is none of ours
            dress(aside, like)
        _, state = digest_file(aside)
        relocate(aside, place, temporary=temporary, probe=temporary, state=state, like=like)
        return True
    if same_file(here, there):
        # Killed between the new name and the end of the old one, by the run or by an undo.
        if there.st_nlink == 2:
            dress(place, like)
        discard(aside)
        return True
    if _is_like(place, here, like):
        # The same between file systems: what is in its place is the file in all that it was.
        discard(aside)
        return True
    raise Hindrance(f"another file is in its place now, and is left there; the one that was moved stays at {aside}")


def _unlink(intent: dict[str, Any], place: Path, temporary: Path, *, done: bool) -> bool:
    like = _likeness(intent)
    here, kept = state_of(place), state_of(Path(intent["kept"]))
    if here is None:
        raise Hindrance("its file is gone, and is not made anew")
    linked = (here.st_dev, here.st_ino) == (intent["device"], intent["inode"]) or (
        kept is not None and same_file(here, kept)
    )
    if linked:
        if not _has(place, here, like.sha256):
            raise Hindrance(f"its bytes were changed through the file it is a link of, {intent['kept']}")
        make_independent(place, temporary=temporary, state=here, like=like)
        return True
    if done and not _is_like(place, here, like):
        raise Hindrance("another file is in its place now, and is left there")
    return False


def _likeness(intent: dict[str, Any]) -> Likeness:
    owner = intent.get("owner")  # journals did not have it at first
    return Likeness(
        sha256=bytes.fromhex(intent["sha256"]),
        mode=intent["mode"],
        mtime_ns=intent["mtime_ns"],
        owner=None if owner is None else (owner[0], owner[1]),
    )


def _is_like(path: Path, state: os.stat_result, like: Likeness) -> bool:
    """Whether a file has the bytes, the mode and the time of modification that it should have."""
    told = stat.S_IMODE(state.st_mode), state.st_mtime_ns
    return told == (like.mode, like.mtime_ns) and _has(path, state, like.sha256)


def _has(path: Path, state: os.stat_result | None, sha256: bytes) -> bool:
    if state is None or not stat.S_ISREG(state.st_mode):
        return False
    return digest_file(path)[0] == sha256


def _restore_items(catalogue: Catalogue, record: Record, ids: list[str]) -> int:
    """Put items back that are not in the catalogue; those that are there, or there again, stay as they are."""
    if not ids or not record.rows_path.exists():
        return 0
    try:
        rows = pq.read_table(record.rows_path)
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{record.rows_path} is damaged ({error}); restore it from a copy") from error
    items = catalogue.items()
    rows = rows.filter(
        pc.and_(
            pc.is_in(rows.column("id"), value_set=pa.array(ids, pa.string())),
            pc.invert(pc.is_in(rows.column("id"), value_set=items.column("id").combine_chunks())),
        )
    )
    catalogue.commit(fit_columns(rows, items.schema))
    return int(rows.num_rows)


def _tidy(catalogue: Catalogue, record: Record) -> None:
    """Take away what is empty of the quarantines of a run, and of the folders that were made for them."""
    made = made_by(catalogue, record)
    with contextlib.suppress(DamagedError):  # of another run, which is of no concern here
        made = made.union(*(made_by(catalogue, one) for one in records(catalogue)))
    for folder in quarantines_of(catalogue, record):
        # A kill may have come between the making of ours and the journal.
        tidy(folder, made | ({folder.parent} if folder.parent.name == ASIDE else set()))
