"""Candidates laid over each other: what comes of it is kept, each pair once, and nothing is lost that was damaged."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.candidates import look
from indexer.comparing import (
    Compared,
    as_overlay,
    as_row,
    compare,
    outstanding,
    pair_of,
    worth_keeping,
)
from indexer.fingerprints import Fingerprints
from retrieval.copies import Overlay
from tests.embedders import ColourEmbedder
from tests.indexer.copies import EDITS, jpeg, photo

A, B, C, D = (bytes((number,)) * 32 for number in range(4))


def seen(data: bytes, **more: Any) -> dict[str, Any]:
    given = look(data, hashlib.sha256(data).digest(), ColourEmbedder(), "quick").row
    return given | {"candidates": b"", "similarities": b""} | more


def overlaid(agreement: float = 0.9, matches: int = 20) -> Overlay:
    return Overlay(agreement, matches, np.array([[1.0, 0.5, 3.0], [-0.25, 2.0, 5.0]]), (0.5, 0.75), 3.0, (0.1, 0.2))


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


def test_rows_come_back() -> None:
    over = overlaid()
    again = as_overlay(as_row((A, B), over))
    np.testing.assert_array_equal(again.transform, over.transform)
    assert as_row((A, B), again) == as_row((A, B), over)
    assert as_overlay(as_row((A, B), None)).agreement == 0.0


def test_what_is_known_is_the_sum_of_its_files(tmp_path: Path) -> None:
    compared = Compared(tmp_path)
    assert compared.read() == {} and not compared.has("1")
    compared.write([as_row((A, B), overlaid(0.5))], "1")
    compared.write([], "2")
    compared.write([as_row((A, C), overlaid(0.6))])
    compared.write([as_row((B, C), overlaid(0.7))])
    assert compared.has("1") and compared.has("2") and not compared.has("3")
    known = Compared(tmp_path).read()
    assert {pair: over.agreement for pair, over in known.items()} == {(A, B): 0.5, (A, C): 0.6, (B, C): 0.7}


def test_a_damaged_file_is_compared_again(tmp_path: Path) -> None:
    compared = Compared(tmp_path)
    compared.write([as_row((A, B), overlaid())], "1")
    compared.write([as_row((A, C), overlaid())], "2")
    path = tmp_path / "1.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255
    path.write_bytes(data)
    assert Compared(tmp_path).read().keys() == {(A, C)}
    assert not compared.has("1") and compared.has("2")


def test_each_pair_once_in_the_first_block_that_has_it(tmp_path: Path) -> None:
    fingerprints, compared = Fingerprints(tmp_path / "looked"), Compared(tmp_path / "pairs")
    plain = seen(jpeg(photo(0)))
    fingerprints.add([plain | {"sha256": B, "candidates": A + C}, plain | {"sha256": A, "candidates": B}])
    fingerprints.add([plain | {"sha256": C, "candidates": A + B}])
    first, second = fingerprints.blocks
    assert list(outstanding(fingerprints, compared)) == [(first, [(A, B), (B, C)]), (second, [(A, C)])]
    compared.write([], first)
    assert list(outstanding(fingerprints, compared)) == [(second, [(A, C)])]
    compared.write([], second)
    assert list(outstanding(fingerprints, compared)) == []


def test_pairs_of_what_could_not_be_looked_at_first_come_with_the_block_in_which_it_could(tmp_path: Path) -> None:
    fingerprints, compared = Fingerprints(tmp_path / "looked"), Compared(tmp_path / "pairs")
    plain = seen(jpeg(photo(0)))
    fingerprints.add([plain | {"sha256": A, "candidates": B + C}, {"sha256": B, "reason": "gone"}])
    (first,) = fingerprints.blocks
    assert list(outstanding(fingerprints, compared)) == [(first, [(A, B), (A, C)])]
    compared.write([], first)
    fingerprints.add([plain | {"sha256": B, "candidates": C}])
    for again in (fingerprints, Fingerprints(tmp_path / "looked")):
        (second,) = again.blocks[1:]
        assert list(outstanding(again, compared)) == [(second, [(A, B), (B, C)])]
