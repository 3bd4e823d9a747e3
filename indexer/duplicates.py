"""Duplicates of a catalogue: exact copies, edited copies, and other photographs of the same thing.

A cascade: equal bytes; equal pixels; candidates by embedding, views and layout (``indexer.candidates``), laid over each
other (``indexer.comparing``); and a line, drawn by planted copies (``indexer.planting``), from which a pair is called a
copy. Everything that costs time is kept below ``duplicates/`` in the catalogue, a cache that a run goes on with: only
pictures that came since are looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.catalogue import Catalogue
from indexer.comparing import Compared, compare
from indexer.copy_groups import ALIKE, gather, own_agreement
from indexer.copy_tables import COPY, GROUPS_SCHEMA, KINDS, LOOKALIKE, PAIRS_SCHEMA, SAME_BYTES, SAME_PIXELS
from indexer.examining import (
    Bars,
    check_effort,
    compare_through,
    folder_of,
    last_run,
    locked,
    look_through,
    no_bar,
    remember_run,
)
from indexer.files import atomic_write
from indexer.fingerprints import Fingerprints
from indexer.keep_best import DEFAULT_POLICY, check_policy
from indexer.known_pairs import KnownPairs, Pair, pair_of, table_of
from indexer.planting import PLANTED_SCHEMA, evidence_of, plant, with_ways
from retrieval.errors import InputError, NotFoundError
from retrieval.local_features import opencv
from retrieval.machine import cores
from retrieval.threshold import Threshold, choose_threshold

__all__ = [
    "COPY",
    "GROUPS_SCHEMA",
    "KINDS",
    "LOOKALIKE",
    "PAIRS_SCHEMA",
    "SAME_BYTES",
    "SAME_PIXELS",
    "Found",
    "find",
]

ASKED: Final = 4096
"""Pairs that no list of candidates had, that are kept together: what is compared again after a run was stopped."""
GROWN: Final = 1.2
"""Times as many pictures as when copies were planted, from which on they are planted anew."""


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        pairs: ``PAIRS_SCHEMA`` of ``indexer.copy_tables``.
        groups: ``GROUPS_SCHEMA`` of ``indexer.copy_tables``.
        threshold: from which agreement on a pair is called a copy.
        examined: pictures of different bytes that were looked at.
        unreadable: id and reason of items that could not be looked at.
        version: of the catalogue.
        effort: how hard copies were looked for.
        between: the two splits that copies stand in both of, where only these were asked for.
        new_since: version of the run before, where only what came since was asked for.
        not_examined: file and reason of what lies in a folder and is no item; None where a catalogue was asked.
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
    not_examined: pa.Table | None = None

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON of all but the pairs and groups."""
        return {
            "version": self.version,
            "effort": self.effort,
            "examined": self.examined,
            "threshold": self.threshold.to_dict(),
            "between": self.between,
            "new_since": self.new_since,
            "unreadable": self.unreadable.to_pylist(),
            "not_examined": None if self.not_examined is None else self.not_examined.to_pylist(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.facts(), "groups": self.groups.to_pylist(), "pairs": self.pairs.to_pylist()}


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
    lookalike: float = ALIKE,
    seed: int = 0,
    bars: Bars = no_bar,
    notice: Callable[[str], object] = lambda _: None,
) -> Found:
    """Find the duplicates of a catalogue.

    Args:
        catalogue: to look through; moves on to its newest version first.
        precision: share of right ones wanted among the pairs that are called copies.
        effort: of ``EFFORTS``: how many views of each picture are searched with.
        between: two values of ``split``; only copies across them are given.
        split: column of the items.
        new: give only groups and pairs with an item that came since the last run; one with ``between`` is none.
        policy: which of several copies to keep, as ``indexer.keep_best`` says.
        judged: (id, id) → whether the two are copies, by somebody who has looked. Those of ids that are no longer there
            are left out, with a notice.
        lookalike: cosine from which two pictures are lookalikes, whatever their details say.
        seed: of the planted copies.
        bars: progress.
        notice: told sentences.

    Raises:
        InputError: an effort, precision, rule or split that does not exist, judgements of the same bytes that
            contradict each other, or an empty catalogue.
        NotFoundError: there is no such column; of the judged pictures none is there.
        BusyError: another process looks for duplicates here.
        MissingExtraError: OpenCV is not installed.
        CatalogueError: the disk is full or cannot be written.
        DamagedError: vectors, or a block of what was looked at, are not what was written.
    """
    check_effort(effort)
    check_policy(policy)
    if not 0.0 < precision < 1.0:
        raise InputError(f"a precision is more than 0 and less than 1, such as 0.99; {precision} is not")
    opencv()
    catalogue.refresh()
    items = catalogue.items()
    if items.num_rows == 0:
        raise InputError(f"{catalogue.called} is empty; add pictures with lookalike index")
    _check_between(items, between, split)
    said = _by_sha256(items, judged or {}, notice)
    folder = folder_of(catalogue, effort)
    with locked(folder, catalogue.called), ThreadPoolExecutor(cores()) as pool:
        fingerprints = look_through(catalogue, folder, effort=effort, pool=pool, bars=bars, notice=notice)
        compared, known = compare_through(folder, fingerprints, pool=pool, bars=bars)
        table = _planted(catalogue, folder, fingerprints, effort=effort, pool=pool, seed=seed, bars=bars, notice=notice)
        asker = _Asker(fingerprints, compared, known, pool)
        asker.ask(list(said))
        places = known.places(list(said)).tolist()
        judgements = [
            (0.0 if place < 0 else float(known.rows["agreement"][place]), copy)
            for place, copy in zip(places, said.values(), strict=True)
        ]
        evidence = evidence_of(with_ways(table, known), own_agreement(known, fingerprints), judgements)
        threshold = choose_threshold(evidence, wanted=precision)
        if not threshold.planted:
            notice(
                "no copy could be planted, since no picture that is large enough could be read again: how sure edited "
                "copies are is not known"
            )
        gathered = gather(
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
        last = last_run(folder)
        wanted = gathered.across(*between) if between is not None else gathered
        if new and last is not None:
            wanted = wanted.since(int(last["row"]), last.get("unread", ()))
        pairs, groups = wanted.tables(catalogue.vectors)
        unreadable = gathered.unreadable()
        if between is None:
            unread = items.filter(pc.is_in(items.column("id"), value_set=unreadable.column("id").combine_chunks()))
            seen = int(pc.max(items.column("row")).as_py()), unread.column("row").to_pylist(), catalogue.version
        else:  # shows too little to count as having seen the rest
            seen = (-1, [], 0) if last is None else (last["row"], last.get("unread", []), last["version"])
        row, rows, version = seen
        remember_run(folder, row=row, unread=rows, version=version, agreement=threshold.agreement)
    return Found(
        pairs=pairs,
        groups=groups,
        threshold=threshold,
        examined=len(gathered.nodes),
        unreadable=unreadable,
        version=catalogue.version,
        effort=effort,
        between=between,
        new_since=int(last["version"]) if new and last is not None else None,
    )


class _Asker:
    """Compares pairs that no list of candidates had, when they turn out to matter, and remembers them."""

    def __init__(
        self, fingerprints: Fingerprints, compared: Compared, known: KnownPairs, pool: ThreadPoolExecutor
    ) -> None:
        self._fingerprints, self._compared, self._known, self._pool = fingerprints, compared, known, pool

    def ask(self, pairs: Sequence[Pair]) -> bool:
        """See that all of these are known; says whether any was not."""
        several = sorted(set(pairs))
        fresh = [pair for pair, place in zip(several, self._known.places(several).tolist(), strict=True) if place < 0]
        compared = compare(fresh, self._fingerprints, pool=self._pool)
        while some := list(islice(compared, ASKED)):
            table = table_of(some)
            self._compared.write(table)
            self._known.add(table, asked=True)
        return bool(fresh)


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


def _by_sha256(
    items: pa.Table, judged: Mapping[tuple[str, str], bool], notice: Callable[[str], object]
) -> dict[Pair, bool]:
    """Turn ids into the bytes that were judged, without pairs that are not both there.

    Raises NotFoundError where no picture of any is there, and InputError where judgements contradict each other.
    """
    digests = dict(zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True))
    # A copy that was set aside leaves the judgement behind that it went by.
    gone = {pair: id for pair in judged for id in pair if id not in digests}
    if gone:
        named = next(iter(gone.values()))
        if not any(id in digests for pair in judged for id in pair):
            raise NotFoundError(
                f"none of the pictures that were judged is here, such as {named!r}; give judgements of these pictures"
            )
        notice(
            f"{len(gone)} of {len(judged)} judgements name a picture that is not here (any more), such as {named!r}, "
            "and were left out"
        )
    said: dict[Pair, bool] = {}
    for (a, b), copy in judged.items():
        if (a, b) in gone:
            continue
        if digests[a] == digests[b]:
            continue
        if said.setdefault(pair_of(digests[a], digests[b]), copy) != copy:
            raise InputError(
                f"{a!r} and {b!r} are judged one way, and files of the same bytes the other; leave one judgement out"
            )
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
