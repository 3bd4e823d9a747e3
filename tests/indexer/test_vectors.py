"""The vector cache against a dict, and against damage."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import vectors as room
from indexer.vectors import VectorCache
from retrieval.errors import DamagedError

DIM = 6


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(number: int) -> np.ndarray:
    values = np.random.default_rng(number).normal(size=DIM)
    return (values / np.linalg.norm(values)).astype(np.float16)


def fill(cache: VectorCache, *parts: list[int]) -> None:
    for part in parts:
        cache.append([key(n) for n in part], np.stack([vector(n) for n in part]))


@given(
    parts=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=6),
    wanted=st.lists(st.integers(0, 40), max_size=30),
    compacted=st.booleans(),
)
def test_reading_equals_a_dict(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], wanted: list[int], compacted: bool
) -> None:
    cache = VectorCache(tmp_path_factory.mktemp("cache"), DIM)
    fill(cache, *parts)
    if compacted:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(room, "MAX_PARTS", 1)
            cache.compact()
        assert len(cache.parts()) <= 1
    written = {number for part in parts for number in part}
    assert cache.keys() == {key(number) for number in written}
    got, present = cache.read(pa.array([key(n) for n in wanted], pa.binary()))
    assert got.shape == (len(wanted), DIM)
    assert got.dtype == np.float16
    for place, number in enumerate(wanted):
        assert present[place] == (number in written)
        np.testing.assert_array_equal(got[place], vector(number) if number in written else np.zeros(DIM))


def test_what_came_last_is_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VectorCache(tmp_path, DIM)
    for number in range(5):
        fill(cache, [number])
        os.utime(max(cache.parts(), key=lambda part: part.stat().st_mtime_ns), (number, number))
    opened: list[Path] = []
    open_part = VectorCache._open
    monkeypatch.setattr(VectorCache, "_open", lambda cache, part: opened.append(part) or open_part(cache, part))
    got, present = cache.read(pa.array([key(4), key(4)], pa.binary()))
    assert present.all() and len(opened) == 1
    np.testing.assert_array_equal(got[1], vector(4))
    assert cache.read(pa.array([key(0)], pa.binary()))[1].all() and len(opened) == 6


def test_chunked_and_sliced_keys_are_read_like_plain_ones(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, DIM)
    fill(cache, [1, 2, 3])
    keys = pa.chunked_array([pa.array([key(3)]), pa.array([key(9), key(1), key(2)]).slice(1)])
    got, present = cache.read(keys)
    assert present.all()
    np.testing.assert_array_equal(got, np.stack([vector(n) for n in (3, 1, 2)]))


def test_compaction_keeps_every_vector_over_many_parts_and_rolls_over_at_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = VectorCache(tmp_path, DIM)
    fill(cache, *[[n] for n in range(40)])
    monkeypatch.setattr(room, "PART_BYTES", 10_000)
    cache.compact()
    assert 1 < len(cache.parts()) < 40
    got, present = cache.read(pa.array([key(n) for n in range(40)]))
    assert present.all()
    np.testing.assert_array_equal(got, np.stack([vector(n) for n in range(40)]))


@pytest.mark.parametrize("fault", ["cut", "flip", "empty", "text"])
def test_a_damaged_part_is_named_and_never_read_as_vectors(tmp_path: Path, fault: str) -> None:
    cache = VectorCache(tmp_path, DIM)
    fill(cache, list(range(50)))
    (part,) = cache.parts()
    data = bytearray(part.read_bytes())
    if fault == "cut":
        del data[len(data) // 2 :]
    elif fault == "flip":
        at = data.find(vector(25).tobytes())
        assert at > 0
        data[at] ^= 1
    elif fault == "empty":
        data.clear()
    else:
        data[:] = b"not a parquet file at all"
    part.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=part.name):
        cache.read(pa.array([key(25)]))
    ((found, reason),) = cache.verify()
    assert found == part
    assert "damaged" in reason


def test_vectors_of_another_dimension_are_refused(tmp_path: Path) -> None:
    fill(VectorCache(tmp_path, DIM), [1])
    with pytest.raises(DamagedError, match="does not hold vectors of dimension 7"):
        VectorCache(tmp_path, 7).read(pa.array([key(1)]))
