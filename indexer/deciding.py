"""Decisions about duplicates: which items are to go, whether that may be asked, and which files it is about."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.copy_tables import COPY, SAME_BYTES, SAME_PIXELS
from indexer.moving import Hindrance, same_file, state_of
from indexer.whereabouts import plain_file
from retrieval.errors import ImageError, InputError
from retrieval.folders import ASIDE
from retrieval.sources import Root, parquet_file

MOVE: Final = "move"
LINK: Final = "link"
FORGET: Final = "forget"
ACTIONS: Final = (MOVE, LINK, FORGET)
"""Move the file into the quarantine folder; make it a hard link of the kept one; only take the item out of the
catalogue."""

QUARANTINE: Final = "quarantine"
"""The folder in a catalogue that files are moved to where no other is named; where the catalogue is kept for folders
of pictures, it is ``ASIDE`` in each of these."""

COPY_KINDS: Final = (SAME_BYTES, SAME_PIXELS, COPY)
"""What an item may be to the one that is kept."""

DECISIONS_SCHEMA: Final = pa.schema(
    [
        # of the item that is to go; each once
        pa.field("id", pa.string(), nullable=False),
        # id of the item that it is a copy of, which stays; not itself among those to go
        pa.field("kept", pa.string(), nullable=False),
        # one of COPY_KINDS
        pa.field("kind", pa.string(), nullable=False),
        # of the bytes that each of the two had when it was decided, in hex; null where that is not known
        pa.field("sha256", pa.string()),
        pa.field("kept_sha256", pa.string()),
    ]
)
"""An item a row that is to go; the last two columns may be left out, and others are ignored."""


@dataclass(frozen=True)
class Candidate:
    """A file that is to be moved or linked, with all the items that it is the file of; or one item to forget.

    Attributes:
        source: of the items.
        uri: of the items.
        path: the file; None where no file is touched.
        sha256: of the items, 32 bytes.
        kept: id of an item to go → id of the one that it is a copy of.
    """

    source: str
    uri: str
    path: Path | None
    sha256: bytes
    kept: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What is to be tried.

    Attributes:
        candidates: in the order of the decisions.
        skipped: id → why nothing can be done about it.
        items: id → the item, of all that are to go or are kept and are in the catalogue.
    """

    candidates: list[Candidate]
    skipped: dict[str, str]
    items: Mapping[str, dict[str, Any]]


def check_decisions(decisions: pa.Table, action: str) -> pa.Table:
    """Refuse decisions that contradict themselves.

    Args:
        decisions: as ``DECISIONS_SCHEMA``.
        action: one of ``ACTIONS``.

    Returns:
        Its columns of ``DECISIONS_SCHEMA`` alone.

    Raises:
        InputError: an unknown action or kind, no such columns, an item that is to go twice, or one that is to stay as
            well.
    """
    if action not in ACTIONS:
        raise InputError(f"there is no action {action!r}; choose one of {', '.join(ACTIONS)}")
    needed = [field.name for field in DECISIONS_SCHEMA if not field.nullable]
    for field in DECISIONS_SCHEMA:
        if field.name not in decisions.column_names:
            if not field.nullable:
                raise InputError(f"the decisions have no column {field.name!r}; give {', '.join(needed)}")
            decisions = decisions.append_column(field, pa.nulls(decisions.num_rows, field.type))
        elif not field.nullable and decisions.column(field.name).null_count:
            raise InputError(f"column {field.name!r} of the decisions has rows without a value")
    try:
        decisions = decisions.select(DECISIONS_SCHEMA.names).cast(DECISIONS_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise InputError(f"the decisions must be columns of text ({error})") from error
    twice = decisions.column("id").value_counts().to_pylist()
    for entry in twice:
        if entry["counts"] > 1:
            raise InputError(f"{entry['values']!r} is to go twice; decide once for each item")
    both = decisions.filter(pc.is_in(decisions.column("kept"), value_set=decisions.column("id").combine_chunks()))
    if both.num_rows:
        row = both.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{row['kept']!r} is to go, and is to be kept in place of {row['id']!r} as well; nothing was changed"
        )
    odd = set(decisions.column("kind").to_pylist()).difference(COPY_KINDS)
    if odd:
        raise InputError(f"there is no kind {min(odd)!r} of copy to act on; there are {', '.join(COPY_KINDS)}")
    return decisions


def for_links(items: pa.Table, decisions: pa.Table, *, alone: bool) -> pa.Table:
    """Decide about links by bytes: what cannot be a link of the kept one may be one of another that is equal to it.

    Args:
        items: columns ``id`` and ``sha256``.
        decisions: as ``DECISIONS_SCHEMA``.
        alone: whether an item that nothing else of its group is equal to is among what is given, to be told of as left
            alone; else it is left out.

    Returns:
        ``DECISIONS_SCHEMA``. Of several items that have the same bytes, and others than the one that is kept in their
        place, the first stays for the others.

    Raises:
        InputError: as ``check_decisions``.
    """
    decisions = check_decisions(decisions, LINK)
    items = items.filter(pc.is_in(items.column("id"), value_set=_named(decisions)))
    sha256 = dict(zip(*(items.column(name).to_pylist() for name in ("id", "sha256")), strict=True))
    first: dict[tuple[str, bytes], dict[str, Any]] = {}
    several = set()
    rows = []
    for row in decisions.to_pylist():
        digest = sha256.get(row["id"])
        if digest is None or digest == sha256.get(row["kept"]):
            rows.append(row)
            continue
        equal = row["kept"], digest
        stays = first.setdefault(equal, row)
        if stays is not row:
            several.add(equal)
            rows.append(row | {"kept": stays["id"], "kept_sha256": stays["sha256"], "kind": SAME_BYTES})
    if alone:
        rows += [row for equal, row in first.items() if equal not in several]
    return pa.Table.from_pylist(rows, schema=DECISIONS_SCHEMA)


def check_quarantine(catalogue: Catalogue, folder: Path) -> Path:
    """Refuse a quarantine folder in which files would be found again by the next ``index``, or be in the way.

    Args:
        catalogue: whose files will be moved.
        folder: where to; it may not be there yet.

    Returns:
        It, absolute and free of symlinks.

    Raises:
        InputError: it lies in a source, unless it is hidden there; or among the catalogue's own folders; or is a file.
    """
    place = folder.resolve()
    if place.exists() and not place.is_dir():
        raise InputError(f"{folder} is a file, and the quarantine is a folder; name another")
    ours = catalogue.path.resolve()
    if place.is_relative_to(ours) and not place.is_relative_to(ours / QUARANTINE):
        raise InputError(f"{folder} lies within the catalogue; name a folder of its own for the quarantine")
    for source in pc.unique(catalogue.items(["source"]).column("source")).to_pylist():
        inside = place.relative_to(source).parts if place.is_relative_to(source) else (".",)
        if not any(part.startswith(".") for part in inside):
            raise InputError(
                f"the quarantine {folder} lies within the source {source}, where it would be indexed again; "
                "name a folder outside, or a hidden one"
            )
    return place


def quarantines_for(catalogue: Catalogue, folder: Path | None) -> dict[str, Path]:
    """Choose where files are moved to, and refuse what would not do.

    Args:
        catalogue: whose files will be moved.
        folder: that was named for all of them; None: none was.

    Returns:
        Source → folder, absolute and free of symlinks.

    Raises:
        InputError: as ``check_quarantine``; or a symlink leads out of a source.
    """
    sources = pc.unique(catalogue.items(["source"]).column("source")).to_pylist()
    if folder is not None or not catalogue.called.kept:
        return dict.fromkeys(sources, check_quarantine(catalogue, folder or catalogue.path / QUARANTINE))
    places = {}
    for source in sources:  # a cache is no place for files of the user's, nor is one folder for those of another
        place = Path(source) / ASIDE
        if place.resolve() != place:
            raise InputError(
                f"{place} is a symlink, which files are not moved through; take it away, or name a folder with "
                "--quarantine"
            )
        places[source] = check_quarantine(catalogue, place)
    return places


def plan(catalogue: Catalogue, decisions: pa.Table, action: str) -> Plan:
    """Find the files that decisions are about, and leave out what cannot be done.

    Nothing is read but the catalogue and the names of files.

    Args:
        catalogue: locked.
        decisions: what ``check_decisions`` gave.
        action: one of ``ACTIONS``.
    """
    all_items = catalogue.items()
    wanted = all_items.filter(pc.is_in(all_items.column("id"), value_set=_named(decisions))).select(
        ["row", "id", "uri", "source", "sha256"]
    )
    items = {item["id"]: item for item in wanted.to_pylist()}
    skipped: dict[str, str] = {}
    found: dict[str, Candidate] = {}
    for row in decisions.to_pylist():
        id, kept = row["id"], row["kept"]
        try:
            item = _checked(items, row, action)
            path = None if action == FORGET else plain_file(item["source"], item["uri"])
        except Hindrance as error:
            skipped[id] = str(error)
            continue
        key = str(path or f"id {id}")  # a path is absolute, so the two cannot meet
        one = found.setdefault(key, Candidate(item["source"], item["uri"], path, item["sha256"], {}))
        if one.sha256 != item["sha256"]:
            skipped[id] = f"it shares its file with {next(iter(one.kept))!r}, which was indexed with other bytes"
            continue
        one.kept[id] = kept
    candidates = list(found.values())
    if action == MOVE:
        candidates = _unshared(all_items, candidates, skipped)
    return Plan(candidates, skipped, items)


def _named(decisions: pa.Table) -> pa.Array:
    return pa.concat_arrays([decisions.column(name).combine_chunks() for name in ("id", "kept")])


def _checked(items: Mapping[str, dict[str, Any]], decided: Mapping[str, Any], action: str) -> dict[str, Any]:
    id, kept = decided["id"], decided["kept"]
    if id not in items:
        raise Hindrance("there is no such item in the catalogue")
    if kept not in items:
        raise Hindrance(f"the item that is kept in its place, {kept!r}, is not in the catalogue")
    item, other = items[id], items[kept]
    equal = item["sha256"] == other["sha256"]
    if decided["sha256"] not in (None, item["sha256"].hex()):
        raise Hindrance("it was of other bytes when that was decided")
    if decided["kept_sha256"] not in (None, other["sha256"].hex()):
        raise Hindrance(f"the one that is kept, {kept!r}, was of other bytes when that was decided")
    if action != FORGET and parquet_file(item["uri"]) is not None:
        raise Hindrance("it is a row of a Parquet file, which can only be forgotten")
    if action == LINK:
        if not equal:
            raise Hindrance("only a file with the same bytes as the kept one can become a link of it")
        if parquet_file(other["uri"]) is not None:
            raise Hindrance(f"the kept one, {kept!r}, is a row of a Parquet file, which nothing can be a link of")
    if decided["kind"] == SAME_BYTES and not equal:
        raise Hindrance(f"it is no longer of the same bytes as the one that is kept, {kept!r}")
    return item


def _unshared(items: pa.Table, candidates: Sequence[Candidate], skipped: dict[str, str]) -> list[Candidate]:
    """Leave out the files that are also those of items that stay, by another name, source or a symlink."""
    going = pa.array([id for one in candidates for id in one.kept], pa.string())
    place = pc.binary_join_element_wise(items.column("source"), items.column("uri"), "/")
    # A symlink to a file was indexed with the file's bytes; one name may stand for two, one of them with older bytes.
    near = pc.or_(
        pc.is_in(items.column("sha256"), value_set=pa.array([one.sha256 for one in candidates], pa.binary())),
        pc.is_in(place, value_set=pa.array([f"{one.source}/{one.uri}" for one in candidates], pa.string())),
    )
    staying = items.filter(pc.and_(near, pc.invert(pc.is_in(items.column("id"), value_set=going))))
    roots: dict[str, Root] = {}
    users: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in staying.select(["id", "source", "uri"]).to_pylist():
        root = roots.setdefault(item["source"], Root(Path(item["source"])))
        try:
            real = root.file(item["uri"])
        except ImageError:
            continue
        users[_folded(real)].append((real, item["id"]))
    fit = []
    for one in candidates:
        user = next((id for real, id in users[_folded(str(one.path))] if _is_one(real, str(one.path))), None)
        if user is None:
            fit.append(one)
        for id in one.kept if user is not None else ():
            skipped[id] = f"its file is that of {user!r} too, which stays"
    return fit


def _folded(path: str) -> str:
    # Where case and Unicode form do not count, two names may be of one file.
    return unicodedata.normalize("NFC", path).casefold()


def _is_one(real: str, path: str) -> bool:
    if real == path:
        return True
    one, other = state_of(Path(real)), state_of(Path(path))
    return one is not None and other is not None and same_file(one, other)
