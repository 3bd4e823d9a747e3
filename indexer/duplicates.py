"""Duplicates of a catalogue: exact copies, edited copies, and other photographs of the same thing.

A cascade: equal bytes; equal pixels; candidates by embedding, views and layout (``indexer.candidates``), laid over each
other (``indexer.comparing``); and a line, drawn by planted copies (``indexer.planting``), from which a pair is called a
copy. Everything that costs time is kept below ``duplicates/`` in the catalogue, a cache that a run goes on with: only
pictures that came since are looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer import copy_groups
from indexer.candidates import look_at_items, new_items
from indexer.catalogue import Catalogue
from indexer.comparing import Compared, Pair, as_row, compare, outstanding, pair_of, worth_keeping
from indexer.copy_groups import COPY, KINDS, LOOKALIKE, SAME_BYTES, SAME_PIXELS
from indexer.files import atomic_write, read_json, write_json
from indexer.fingerprints import Fingerprints
from indexer.keep_best import DEFAULT_POLICY, check_policy
from indexer.place import held, lock_of
from indexer.planting import PLANTED_SCHEMA, evidence_of, plant
from retrieval.copies import Overlay
from retrieval.errors import InputError, NotFoundError
from retrieval.local_features import opencv
from retrieval.machine import cores
from retrieval.threshold import Threshold, choose_threshold
from retrieval.views import EFFORTS

__all__ = ["COPY", "KINDS", "LOOKALIKE", "SAME_BYTES", "SAME_PIXELS", "Found", "find", "folder_of"]

METHOD: Final = 1
"""Of looking and comparing: raised whenever the same pictures would be seen otherwise, so that all is done anew."""
GROWN: Final = 1.2
"""Times as many pictures as when copies were planted, from which on they are planted anew."""

Bars = Callable[[str, str], AbstractContextManager[Callable[[int, int, int], object]]]
"""Name and unit of a progress bar → the bar: told what is done, all of it, and how many could not be read."""


@contextlib.contextmanager
def _no_bar(what: str, unit: str) -> Iterator[Callable[[int, int, int], object]]:
    yield lambda done, total, refused: None


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        pairs: ``PAIRS_SCHEMA`` of ``indexer.copy_groups``.
        groups: ``GROUPS_SCHEMA`` of ``indexer.copy_groups``.
        threshold: from which agreement on a pair is called a copy.
        examined: pictures of different bytes that were looked at.
        unreadable: id and reason of items that could not be looked at.
        version: of the catalogue.
        effort: how hard copies were looked for.
        between: the two splits that copies stand in both of, where only these were asked for.
        new_since: version of the run before, where only what came since was asked for.
    """

    pairs: pa.Table
    groups: pa.Table
    threshold: Threshold
    examined: int
    unreadable: pa.Table
    version: int
    effort: str
    between: tuple[str, str] | None
    new_since: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "version": self.version,
            "effort": self.effort,
            "examined": self.examined,
            "threshold": self.threshold.to_dict(),
            "between": self.between,
            "new_since": self.new_since,
            "unreadable": self.unreadable.to_pylist(),
            "groups": self.groups.to_pylist(),
            "pairs": self.pairs.to_pylist(),
        }


def find(
    catalogue: Catalogue,
    *,
    precision: float = 0.99,
    effort: str = "usual",
    between: tuple[str, str] | None = None,
    split: str = "split",
    new: bool = False,
    policy: Sequence[str] = DEFAULT_POLICY,
    judged: Mapping[tuple[str, str], bool] | None = None,
    lookalike: float = copy_groups.ALIKE,
    seed: int = 0,
    bars: Bars = _no_bar,
    notice: Callable[[str], object] = lambda _: None,
) -> Found:
    """Find the duplicates of a catalogue.

    Args:
        catalogue: to look through; moves on to its newest version first.
        precision: share of right ones wanted among the pairs that are called copies.
        effort: of ``EFFORTS``: how many views of each picture are searched with.
        between: two values of ``split``; only copies across them are given.
        split: column of the items.
        new: give only groups and pairs with an item that came since the last run.
        policy: which of several copies to keep, as ``indexer.keep_best`` says.
        judged: (id, id) → whether the two are copies, by somebody who has looked.
        lookalike: cosine from which two pictures are lookalikes, whatever their details say.
        seed: of the planted copies.
        bars: progress.
        notice: told sentences.

    Raises:
        InputError: an effort, precision, rule or split that does not exist, or an empty catalogue.
        NotFoundError: there is no such column; a judged id is unknown.
        BusyError: another process looks for duplicates here.
        MissingExtraError: OpenCV is not installed.
        CatalogueError: the disk is full or cannot be written.
    """
    check_effort(effort)
    check_policy(policy)
    if not 0.0 < precision < 1.0:
        raise InputError(f"a precision is more than 0 and less than 1, such as 0.99; {precision} is not")
    opencv()
    catalogue.refresh()
    items = catalogue.items()
    if items.num_rows == 0:
        raise InputError(f"{catalogue.path} is empty; add pictures with lookalike index")
    _check_between(items, between, split)
    folder = folder_of(catalogue, effort)
    with _locked(folder), ThreadPoolExecutor(cores()) as pool:
        fingerprints, compared = examine(catalogue, folder, effort=effort, pool=pool, bars=bars, notice=notice)
        known = compared.read()
        table = _planted(catalogue, folder, fingerprints, effort=effort, pool=pool, seed=seed, bars=bars, notice=notice)
        asker = _Asker(fingerprints, compared, known, pool)
        said = _by_sha256(items, judged or {})
        asker.ask(list(said))
        evidence = evidence_of(table, [(_agreement(known.get(pair)), copy) for pair, copy in said.items()])
        threshold = choose_threshold(evidence, wanted=precision)
        gathered = copy_groups.gather(
            items,
            fingerprints,
            known,
            threshold=threshold,
            evidence=evidence,
            judged=said,
            policy=policy,
            ask=asker.ask,
            lookalike=lookalike,
            split=split,
        )
        last = _last_run(folder)
        wanted = gathered.across(*between) if between is not None else gathered
        if new and last is not None:
            wanted = wanted.since(int(last["row"]))
        pairs, groups = wanted.tables(catalogue.vectors)
        highest = int(pc.max(items.column("row")).as_py())
        write_json(
            folder / "run.json",
            {"row": highest, "version": catalogue.version, "when": datetime.now(UTC).isoformat(timespec="seconds")},
        )
    return Found(
        pairs=pairs,
        groups=groups,
        threshold=threshold,
        examined=len(gathered.nodes),
        unreadable=gathered.unreadable(),
        version=catalogue.version,
        effort=effort,
        between=between,
        new_since=int(last["version"]) if new and last is not None else None,
    )


def check_effort(effort: str) -> None:
    """Raise InputError for an effort that does not exist."""
    if effort not in EFFORTS:
        raise InputError(f"there is no effort {effort!r}; there are {', '.join(EFFORTS)}")


def folder_of(catalogue: Catalogue, effort: str) -> Path:
    """Where what was looked at and compared is kept."""
    return catalogue.path / "duplicates" / f"{catalogue.digest[:16]}-{METHOD}-{effort}"


def examine(
    catalogue: Catalogue,
    folder: Path,
    *,
    effort: str,
    pool: ThreadPoolExecutor,
    bars: Bars,
    notice: Callable[[str], object],
) -> tuple[Fingerprints, Compared]:
    """Look at everything that was not looked at, and compare what was not compared; stopped, it goes on there."""
    fingerprints, compared = Fingerprints(folder / "looked"), Compared(folder / "pairs")
    if fingerprints.damaged:
        notice(f"{len(fingerprints.damaged)} damaged blocks of {folder / 'looked'} were moved aside and are made anew")
    total = new_items(catalogue, fingerprints).num_rows
    if total:
        with bars("look", "images") as bar:
            done = 0

            def looked(more: int) -> None:
                nonlocal done
                done += more
                bar(done, total, 0)

            look_at_items(catalogue, fingerprints, effort=effort, pool=pool, progress=looked, notice=notice)
    waiting = [(name, len(pairs)) for name, pairs in outstanding(fingerprints, compared)]
    total = sum(count for _, count in waiting)
    if waiting:
        with bars("compare", "pairs") as bar:
            done = 0

            def counted(more: int) -> None:
                nonlocal done
                done += more
                bar(done, total, 0)

            for name, pairs in outstanding(fingerprints, compared):
                found = compare(pairs, fingerprints, pool=pool, progress=counted)
                kept = [as_row(pair, over) for pair, over in found if over is not None and worth_keeping(over)]
                compared.write(kept, name)
    return fingerprints, compared


class _Asker:
    """Compares pairs that no list of candidates had, when they turn out to matter, and remembers them."""

    def __init__(
        self, fingerprints: Fingerprints, compared: Compared, known: dict[Pair, Overlay], pool: ThreadPoolExecutor
    ) -> None:
        self._fingerprints, self._compared, self._known, self._pool = fingerprints, compared, known, pool

    def ask(self, pairs: Sequence[Pair]) -> None:
        """See that all of these are known."""
        fresh = sorted({pair for pair in pairs if pair not in self._known})
        if not fresh:
            return
        rows = []
        for pair, found in compare(fresh, self._fingerprints, pool=self._pool):
            rows.append(as_row(pair, found))
            self._known[pair] = found or Overlay.none()
        self._compared.write(rows)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with held(lock_of(folder), folder):
        yield


def _planted(
    catalogue: Catalogue,
    folder: Path,
    fingerprints: Fingerprints,
    *,
    effort: str,
    pool: ThreadPoolExecutor,
    seed: int,
    bars: Bars,
    notice: Callable[[str], object],
) -> pa.Table:
    """The planted copies, from the file of an earlier run where the catalogue has not grown much since."""
    path = folder / f"planted-{seed}.parquet"
    with contextlib.suppress(OSError, pa.ArrowException, KeyError, ValueError):
        table = pq.read_table(path, page_checksum_verification=True)
        among = int((table.schema.metadata or {})[b"among"])
        if len(fingerprints) <= GROWN * among and table.schema.equals(PLANTED_SCHEMA):
            return table
    with bars("plant", "copies") as bar:
        table = plant(
            catalogue,
            fingerprints,
            effort=effort,
            pool=pool,
            seed=seed,
            progress=lambda done, total: bar(done, total, 0),
            notice=notice,
        )
    with atomic_write(path) as file:
        stamped = table.replace_schema_metadata({"among": str(len(fingerprints))})
        pq.write_table(stamped, file, write_page_checksum=True)
    return table


def _agreement(found: Overlay | None) -> float:
    return 0.0 if found is None else found.agreement


def _by_sha256(items: pa.Table, judged: Mapping[tuple[str, str], bool]) -> dict[Pair, bool]:
    """Turn ids into the bytes that were judged; raises NotFoundError for an id that is not there."""
    digests = dict(zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True))
    said = {}
    for (a, b), copy in judged.items():
        for id in (a, b):
            if id not in digests:
                raise NotFoundError(f"a pair was judged with the id {id!r}, which the catalogue does not have")
        if digests[a] != digests[b]:
            said[pair_of(digests[a], digests[b])] = copy
    return said


def _check_between(items: pa.Table, between: tuple[str, str] | None, split: str) -> None:
    if between is None:
        return
    if split not in items.column_names:
        raise NotFoundError(
            f"the catalogue has no column {split!r}; --split-column names the one that holds the splits, of "
            f"{', '.join(items.column_names)}"
        )
    there = {str(value) for value in pc.unique(items.column(split)).to_pylist() if value is not None}
    for name in between:
        if name not in there:
            raise InputError(f"no item has {name!r} in column {split!r}; there are {', '.join(sorted(there)[:20])}")
    if between[0] == between[1]:
        raise InputError(f"{between[0]!r} is named twice; name two splits")


def _last_run(folder: Path) -> dict[str, Any] | None:
    path = folder / "run.json"
    return read_json(path) if path.exists() else None
