"""Which of the pictures that look alike are copies of each other: candidates compared, and the outcome kept.

A cache as ``indexer.fingerprints`` is: a file a block of candidates, written when all of the block are compared, so
that a run that was stopped goes on with the next block.
"""

from __future__ import annotations

import uuid
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
from indexer.known_pairs import COMPARED_SCHEMA, KnownPairs, Pair, pair_of
from retrieval.copies import Overlay, overlay
from retrieval.machine import cores

KEPT: Final = 0.3
"""Agreement from which a pair is kept."""
DETAILS: Final = 12
"""Local features that lie over each other from which two pictures show the same thing, however little they agree."""
_AT_ONCE: Final = 64  # pairs handed to a thread
_LOW: Final = 0xFFFFFFFF
_ASKED: Final = "asked-"


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
        for done in ahead(pool, several, parts, 2 * cores()):
            progress(len(done))
            yield from done


def ahead(pool: ThreadPoolExecutor, work: Callable[[Any], Any], parts: Iterable[Any], most: int) -> Iterator[Any]:
    """``pool.map`` that takes no more of the parts than it needs: ``most`` that are worked on or done, and one."""
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


class Compared:
    """What came of comparing, by block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, block: str) -> bool:
        """Whether all candidates of a block of fingerprints are compared."""
        return (self._folder / f"{block}.parquet").exists()

    def write(self, table: pa.Table, block: str | None = None) -> None:
        """Write what came of a block, or of pairs that belong to none: ``COMPARED_SCHEMA``."""
        path = self._folder / f"{block or f'{_ASKED}{uuid.uuid4().hex}'}.parquet"
        with atomic_write(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)

    def read(self) -> KnownPairs:
        """Everything that is known; a file that is damaged is removed, and its block will be compared again."""
        known = KnownPairs()
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                table = pq.read_table(path, schema=COMPARED_SCHEMA, page_checksum_verification=True)
                known.add(table, asked=path.name.startswith(_ASKED))
            except (OSError, pa.ArrowException):
                path.unlink()
        return known


def outstanding(fingerprints: Fingerprints, compared: Compared) -> Iterator[tuple[str, list[Pair]]]:
    """The blocks that are not compared yet, with the pairs of each that no earlier block has.

    A pair with a picture that could not be looked at first belongs to the block in which it could.
    """
    if all(map(compared.has, fingerprints.blocks)):
        return
    numbers: dict[bytes, int] = {}
    keys, belongs = _listed(fingerprints, numbers)
    # The lists name 17 times as many as there are pictures: sorted numbers take a tenth of what a set would.
    once = np.sort(np.unique(keys, return_index=True)[1])
    once = once[np.argsort(belongs[once], kind="stable")]
    keys, belongs = keys[once], belongs[once]
    pictures = list(numbers)
    starts = np.searchsorted(belongs, np.arange(len(fingerprints.blocks) + 1))
    for number, name in enumerate(fingerprints.blocks):
        if not compared.has(name):
            of_block = keys[starts[number] : starts[number + 1]]
            both = zip((of_block >> 32).tolist(), (of_block & _LOW).tolist(), strict=True)
            yield name, [pair_of(pictures[one], pictures[other]) for one, other in both]


def _listed(fingerprints: Fingerprints, numbers: dict[bytes, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every candidate of every picture, as its pair of ``numbers``, and the block that the pair belongs to."""
    keys, belongs = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for block, name in enumerate(fingerprints.blocks):
        rows = fingerprints.block(name).select(["sha256", "candidates"])
        pairs: list[tuple[int, int]] = []
        of: list[int] = []
        for sha256, candidates in zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True):
            for at in range(0, len(candidates or b""), 32):
                pair = sha256, candidates[at : at + 32]
                one, other = (numbers.setdefault(each, len(numbers)) for each in pair)
                pairs.append((min(one, other), max(one, other)))
                of.append(max(block, *(fingerprints.late.get(each, block) for each in pair)))
        low, high = np.array(pairs, np.int64).reshape(-1, 2).T
        keys.append((low << 32) | high)
        belongs.append(np.array(of, np.int32))
    return np.concatenate(keys), np.concatenate(belongs)
