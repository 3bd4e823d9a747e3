"""Which of the pictures that look alike are copies of each other: candidates compared, and the outcome kept.

A cache as ``indexer.fingerprints`` is: a file a block of candidates, written when all of the block are compared, so
that a run that was stopped goes on with the next block.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from indexer.files import atomic_write
from indexer.fingerprints import Fingerprints
from retrieval.copies import Overlay, overlay
from retrieval.machine import cores

COMPARED_SCHEMA: Final = pa.schema(
    [
        # SHA-256 of the two, 32 bytes each, the lower first
        pa.field("a", pa.binary(), nullable=False),
        pa.field("b", pa.binary(), nullable=False),
        # as ``Overlay``: from a to b; numbers of a and b
        pa.field("agreement", pa.float64(), nullable=False),
        pa.field("matches", pa.int32(), nullable=False),
        pa.field("transform", pa.list_(pa.float64(), 6), nullable=False),
        pa.field("covered", pa.list_(pa.float64(), 2), nullable=False),
        pa.field("colour", pa.float64(), nullable=False),
        pa.field("beyond", pa.list_(pa.float64(), 2), nullable=False),
    ]
)
"""A pair a row, of those that have anything in common."""

KEPT: Final = 0.3
"""Agreement from which a pair is kept."""
DETAILS: Final = 12
"""Local features that lie over each other from which two pictures show the same thing, however little they agree."""
_AT_ONCE: Final = 64  # pairs handed to a thread

Pair = tuple[bytes, bytes]


def pair_of(a: bytes, b: bytes) -> Pair:
    """The two in the order in which pairs are kept."""
    return (a, b) if a < b else (b, a)


def compare(
    pairs: Sequence[Pair],
    fingerprints: Fingerprints,
    *,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[Pair, Overlay | None]]:
    """Lay pictures over each other.

    Args:
        pairs: SHA-256 of both; those of pictures that could not be read come back as None.
        fingerprints: of all of them.
        pool: where it is done.
        progress: told how many more are done.

    Yields:
        The pairs in their order, with what came of each.
    """

    def several(some: list[Pair]) -> list[tuple[Pair, Overlay | None]]:
        done = []
        for one, other in some:
            a, b = fingerprints.features(one), fingerprints.features(other)
            done.append(((one, other), None if a is None or b is None else overlay(a, b)))
        return done

    # The products of descriptors are small: threads of BLAS within threads of ours would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        waiting = iter(pairs)
        parts = iter(lambda: list(islice(waiting, _AT_ONCE)), [])
        for done in _ahead(pool, several, parts, 2 * cores()):
            progress(len(done))
            yield from done


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Any], Any], parts: Iterable[Any], most: int) -> Iterator[Any]:
    """``pool.map`` that takes no more of the parts than it needs."""
    futures: list[Any] = []
    try:
        for part in parts:
            futures.append(pool.submit(work, part))
            if len(futures) > most:
                yield futures.pop(0).result()
        while futures:
            yield futures.pop(0).result()
    finally:
        for future in futures:
            future.cancel()


def worth_keeping(found: Overlay) -> bool:
    """Whether two pictures have enough in common to be remembered."""
    return found.agreement >= KEPT or found.matches >= DETAILS


def as_row(pair: Pair, found: Overlay | None) -> dict[str, Any]:
    """Write what came of a pair as a row of ``COMPARED_SCHEMA``."""
    found = found or Overlay.none()
    return {
        "a": pair[0],
        "b": pair[1],
        "agreement": found.agreement,
        "matches": found.matches,
        "transform": found.transform.ravel().tolist(),
        "covered": list(found.covered),
        "colour": found.colour,
        "beyond": list(found.beyond),
    }


def as_overlay(row: dict[str, Any]) -> Overlay:
    """Read what ``as_row`` wrote."""
    return Overlay(
        agreement=row["agreement"],
        matches=row["matches"],
        transform=np.array(row["transform"]).reshape(2, 3),
        covered=(row["covered"][0], row["covered"][1]),
        colour=row["colour"],
        beyond=(row["beyond"][0], row["beyond"][1]),
    )


class Compared:
    """What came of comparing, by block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, block: str) -> bool:
        """Whether all candidates of a block of fingerprints are compared."""
        return (self._folder / f"{block}.parquet").exists()

    def write(self, rows: Sequence[dict[str, Any]], block: str | None = None) -> None:
        """Write what came of a block, or of pairs that belong to none."""
        table = pa.Table.from_pylist(list(rows), schema=COMPARED_SCHEMA)
        path = self._folder / f"{block or f'asked-{uuid.uuid4().hex}'}.parquet"
        with atomic_write(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)

    def read(self) -> dict[Pair, Overlay]:
        """Everything that is known; a file that is damaged is removed, and its block will be compared again."""
        known: dict[Pair, Overlay] = {}
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                table = pq.read_table(path, schema=COMPARED_SCHEMA, page_checksum_verification=True)
            except (OSError, pa.ArrowException):
                path.unlink()
                continue
            for row in table.to_pylist():
                known[(row["a"], row["b"])] = as_overlay(row)
        return known


def outstanding(fingerprints: Fingerprints, compared: Compared) -> Iterator[tuple[str, list[Pair]]]:
    """The blocks that are not compared yet, with the pairs of each that no earlier block has.

    A pair with a picture that could not be looked at first belongs to the block in which it could.
    """
    if all(map(compared.has, fingerprints.blocks)):
        return
    seen: set[bytes] = set()  # of a pair 16 bytes of both together
    later: dict[int, list[Pair]] = defaultdict(list)
    for number, name in enumerate(fingerprints.blocks):
        rows = fingerprints.block(name).select(["sha256", "candidates"])
        pairs = later.pop(number, [])
        for sha256, candidates in zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True):
            for at in range(0, len(candidates or b""), 32):
                pair = pair_of(sha256, candidates[at : at + 32])
                key = pair[0][:8] + pair[1][:8]
                if key not in seen:
                    seen.add(key)
                    belongs = max(fingerprints.late.get(one, number) for one in pair)
                    (pairs if belongs <= number else later[belongs]).append(pair)
        if not compared.has(name):
            yield name, pairs
