"""Candidates laid over each other: what comes of it is kept, each pair once, and nothing is lost that was damaged."""

from __future__ import annotations

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.candidates import look
from indexer.comparing import (
    Compared,
    compare,
    outstanding,
    worth_keeping,
)
from indexer.fingerprints import Fingerprints
from indexer.known_pairs import KnownPairs, pair_of, table_of
from retrieval.copies import Overlay
from tests.embedders import ColourEmbedder
from tests.indexer.copies import EDITS, jpeg, photo

A, B, C, D = (bytes((number,)) * 32 for number in range(4))


def seen(data: bytes, **more: Any) -> dict[str, Any]:
    row = look(data, hashlib.sha256(data).digest(), ColourEmbedder(), "quick").row
    return row | {"candidates": b"", "similarities": b""} | more


PLAIN = seen(jpeg(photo(0)))


def overlaid(agreement: float = 0.9, matches: int = 20) -> Overlay:
    return Overlay(agreement, matches, np.array([[1.0, 0.5, 3.0], [-0.25, 2.0, 5.0]]), (0.5, 0.75), 3.0, (0.1, 0.2))


def known_of(known: KnownPairs) -> dict[tuple[bytes, bytes], float]:
    pictures = known.pictures
    return {(pictures[row["a"]], pictures[row["b"]]): float(row["agreement"]) for row in known.rows}


@pytest.mark.parametrize("edit", list(EDITS))
def test_which_of_the_two_comes_first_makes_no_difference(tmp_path: Path, edit: str) -> None:
    """Pairs are kept in the order of their SHA-256, so that it is chance which way round two are compared."""
    fingerprints = Fingerprints(tmp_path)
    for number in range(2):
        fingerprints.add([seen(jpeg(photo(number)), sha256=A), seen(jpeg(EDITS[edit](photo(number))), sha256=B)])
        with ThreadPoolExecutor(1) as pool:
            (_, there), (_, back) = compare([(A, B), (B, A)], Fingerprints(tmp_path), pool=pool)
        assert there is not None and back is not None
        assert min(there.agreement, back.agreement) > 0.8
        assert abs(there.agreement - back.agreement) < 0.1
        both = np.vstack([there.transform, [0, 0, 1]]) @ np.vstack([back.transform, [0, 0, 1]])
        np.testing.assert_allclose(both[:2, :2], np.eye(2), atol=0.02)


def test_pairs_come_in_their_order_and_are_counted(tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path)
    fingerprints.add([seen(jpeg(photo(0)), sha256=A), seen(jpeg(photo(1)), sha256=B), {"sha256": C, "reason": "gone"}])
    done: list[int] = []
    pairs = [(A, B), (A, C), (B, D), (A, A)]
    with ThreadPoolExecutor(2) as pool:
        found = list(compare(pairs, fingerprints, pool=pool, progress=done.append))
    assert [pair for pair, _ in found] == pairs
    assert found[1][1] is None and found[2][1] is None
    assert found[0][1] is None or not found[0][1].agreement > 0.5
    assert found[3][1] is not None and found[3][1].agreement > 0.99
    assert sum(done) == 4


def test_what_is_worth_keeping() -> None:
    assert worth_keeping(overlaid(0.3, 0)) and worth_keeping(overlaid(0.0, 12))
    assert not worth_keeping(overlaid(0.29, 11))
    assert pair_of(B, A) == pair_of(A, B) == (A, B)


def test_what_is_known_is_the_sum_of_its_files(tmp_path: Path) -> None:
    compared = Compared(tmp_path)
    assert len(compared.read()) == 0 and not compared.has("1")
    compared.write(table_of([((A, B), overlaid(0.5))]), "1")
    compared.write(table_of([]), "2")
    compared.write(table_of([((A, C), overlaid(0.6))]))
    compared.write(table_of([((B, C), overlaid(0.7))]))
    assert compared.has("1") and compared.has("2") and not compared.has("3")
    known = Compared(tmp_path).read()
    assert known_of(known) == {(A, B): 0.5, (A, C): 0.6, (B, C): 0.7}


def test_a_damaged_file_is_compared_again(tmp_path: Path) -> None:
    compared = Compared(tmp_path)
    compared.write(table_of([((A, B), overlaid())]), "1")
    compared.write(table_of([((A, C), overlaid())]), "2")
    path = tmp_path / "1.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255
    path.write_bytes(data)
    assert known_of(Compared(tmp_path).read()).keys() == {(A, C)}
    assert not compared.has("1") and compared.has("2")


def test_each_pair_once_in_the_first_block_that_has_it(tmp_path: Path) -> None:
    fingerprints, compared = Fingerprints(tmp_path / "looked"), Compared(tmp_path / "pairs")
    plain = seen(jpeg(photo(0)))
    fingerprints.add([plain | {"sha256": B, "candidates": A + C}, plain | {"sha256": A, "candidates": B}])
    fingerprints.add([plain | {"sha256": C, "candidates": A + B}])
    first, second = fingerprints.blocks
    assert list(outstanding(fingerprints, compared)) == [(first, [(A, B), (B, C)]), (second, [(A, C)])]
    compared.write(table_of([]), first)
    assert list(outstanding(fingerprints, compared)) == [(second, [(A, C)])]
    compared.write(table_of([]), second)
    assert list(outstanding(fingerprints, compared)) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lists=st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4)), max_size=12), data=st.data()
)
def test_all_blocks_together_have_every_listed_pair_once(
    tmp_path: Path, lists: list[tuple[int, list[int]]], data: st.DataObject
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    fingerprints, compared = Fingerprints(folder / "looked"), Compared(folder / "pairs")
    keys = [bytes((number,)) * 32 for number in range(10)]
    listed: dict[str, list[frozenset[bytes]]] = {}
    for number, others in {number: others for number, others in lists}.items():
        candidates = [keys[other] for other in dict.fromkeys(others) if other != number]
        fingerprints.add([PLAIN | {"sha256": keys[number], "candidates": b"".join(candidates)}])
        listed[fingerprints.blocks[-1]] = [frozenset((keys[number], other)) for other in candidates]
    every = list(outstanding(fingerprints, compared))
    met: set[frozenset[bytes]] = set()
    assert [name for name, _ in every] == list(listed)
    for name, pairs in every:
        fresh = [pair for pair in dict.fromkeys(listed[name]) if pair not in met]
        met |= set(fresh)
        assert list(map(frozenset, pairs)) == fresh and all(a < b for a, b in pairs)
    done = data.draw(st.sets(st.sampled_from(list(listed)))) if listed else set()
    for name in done:
        compared.write(table_of([]), name)
    assert list(outstanding(fingerprints, compared)) == [each for each in every if each[0] not in done]


def test_pairs_of_what_could_not_be_looked_at_first_come_with_the_block_in_which_it_could(tmp_path: Path) -> None:
    fingerprints, compared = Fingerprints(tmp_path / "looked"), Compared(tmp_path / "pairs")
    plain = seen(jpeg(photo(0)))
    fingerprints.add([plain | {"sha256": A, "candidates": B + C}, {"sha256": B, "reason": "gone"}])
    (first,) = fingerprints.blocks
    assert list(outstanding(fingerprints, compared)) == [(first, [(A, B), (A, C)])]
    compared.write(table_of([]), first)
    fingerprints.add([plain | {"sha256": B, "candidates": C}])
    for again in (fingerprints, Fingerprints(tmp_path / "looked")):
        (second,) = again.blocks[1:]
        assert list(outstanding(again, compared)) == [(second, [(A, B), (B, C)])]
