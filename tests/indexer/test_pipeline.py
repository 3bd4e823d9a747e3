"""The road from uris to vectors against a plain loop, and how its threads are shared out."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import decoding, pipeline
from indexer import vectors as room
from indexer.decoding import DecodeAhead
from indexer.pipeline import Outcome
from indexer.profile import NO_PROFILE, Profile
from indexer.vectors import VectorCache
from retrieval.errors import EmbedderError, ImageError
from retrieval.images import decode
from tests.embedders import ColourEmbedder
from tests.indexer.stages import (
    DAMAGED,
    PATIENCE,
    Embedding,
    Shelf,
    check_vectors,
    drawn,
    embed,
    number_of,
    picture,
    stage_threads,
    stored,
    vector,
    wait,
)

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_thread_is_left")]


class DictCache:
    """A cache in memory that takes no key twice."""

    def __init__(self, known: dict[bytes, np.ndarray] | None = None) -> None:
        self.vectors = dict(known or {})

    def keys(self) -> set[bytes]:
        return set(self.vectors)

    def append(self, sha256: Sequence[bytes], vectors: np.ndarray, *, runtime: str) -> None:
        assert len(sha256) == len(set(sha256)) == len(vectors)
        assert not self.vectors.keys() & set(sha256)
        self.vectors.update(zip(sha256, vectors, strict=True))


@settings(max_examples=120)
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "damaged", "missing", "copy", "known"]), max_size=40),
    chunk=st.integers(1, 45),
    batch=st.integers(1, 9),
    sample=st.integers(1, 9),
    cores=st.integers(1, 4),
    at_once=st.integers(1, 3),
    memory=st.sampled_from([500, 2000, 10**9]),
)
def test_any_mix_is_what_a_plain_loop_makes_of_it(
    kinds: list[str], chunk: int, batch: int, sample: int, cores: int, at_once: int, memory: int
) -> None:
    contents: list[bytes | ImageError] = []
    known: dict[bytes, np.ndarray] = {}
    for number, kind in enumerate(kinds):
        data = picture(number // 2 if kind == "copy" else number)
        contents.append({"damaged": DAMAGED, "missing": ImageError("no such file")}.get(kind, data))
        if kind == "known":
            known[hashlib.sha256(data).digest()] = np.zeros(ColourEmbedder.dim)
    expected: list[Outcome] = []
    needed = dict(known)
    for position, item in enumerate(contents):
        try:
            if isinstance(item, ImageError):
                raise item
            pixels = decode(item, size=ColourEmbedder.image_size).pixels
        except ImageError as error:
            expected.append(Outcome(position, reason=str(error)))
            continue
        key = hashlib.sha256(item).digest()
        expected.append(Outcome(position, key, pixels.shape[1], pixels.shape[0]))
        needed.setdefault(key, vector(item))

    cache, embedder = DictCache(known), Embedding(at_once=at_once)
    found: list[Outcome] = []
    told: list[Outcome] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "cores", lambda: cores)
        for name, value in {"BATCH": batch, "SAMPLE": sample, "MEMORY": memory}.items():
            patched.setattr(pipeline, name, value)
        for outcomes in embed(Shelf(contents), embedder, cache, chunk=chunk, on_done=told.append):
            assert 0 < len(outcomes) <= chunk
            assert all(outcome.sha256 in cache.vectors for outcome in outcomes if outcome.reason is None)
            found += outcomes
    assert found == told == expected
    assert cache.vectors.keys() == needed.keys()
    for key, value in needed.items():
        np.testing.assert_array_equal(cache.vectors[key], value)
    fresh = len(needed) - len(known)
    assert embedder.seen == fresh
    assert len(embedder.tuned) == (1 if fresh else 0)
    assert all(embedder.tuned)


def test_a_chunk_is_full_but_for_the_last(cache: VectorCache, fours: None) -> None:
    assert [len(outcomes) for outcomes in embed(drawn(23), Embedding(), cache, chunk=5)] == [5, 5, 5, 5, 3]
    assert len(cache.parts()) == 5
    check_vectors(cache, range(23))


def test_the_same_again_embeds_nothing_and_is_not_tuned(cache: VectorCache) -> None:
    list(embed(drawn(20), Embedding(), cache, chunk=50))
    again = Embedding()
    assert len(next(iter(embed(drawn(20), again, cache, chunk=50)))) == 20
    assert (again.tuned, again.seen) == ([], 0)
    assert list(embed(drawn(0), again, cache, chunk=50)) == []
    check_vectors(cache, range(20))


@pytest.mark.parametrize(("count", "tuned"), [(1, 1), (63, 63), (64, 64), (200, 64)])
def test_the_embedder_is_tuned_once_with_64_pictures_or_all(cache: VectorCache, count: int, tuned: int) -> None:
    embedder = Embedding(at_once=2)
    assert sum(len(outcomes) for outcomes in embed(drawn(count), embedder, cache, chunk=64)) == count
    assert embedder.tuned == [tuned]


def test_an_error_of_tuning_reaches_the_caller_and_nothing_is_cached(cache: VectorCache) -> None:
    class Drifting(Embedding):
        def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
            raise EmbedderError("it drifts")

    with pytest.raises(EmbedderError, match="it drifts"):
        list(embed(drawn(200), Drifting(), cache, chunk=10))
    assert not stage_threads()
    assert stored(cache) == []


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_so_many_are_embedded_side_by_side_as_the_embedder_says(cache: VectorCache, fours: None, at_once: int) -> None:
    together = threading.Barrier(at_once)
    lock = threading.Lock()
    now = most = 0

    def during(_: list[int]) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now, len(stage_threads("embed")))  # one more might only have been too late to be met
        together.wait(PATIENCE)
        with lock:
            now -= 1

    list(embed(drawn(4 * 6 * at_once), Embedding(during, at_once=at_once), cache, chunk=8))
    assert most == at_once
    check_vectors(cache, range(24 * at_once))


@pytest.mark.parametrize("stage", ["prepare", "embed"])
def test_work_goes_on_while_the_caller_commits(cache: VectorCache, fours: None, stage: str) -> None:
    held, went_on = threading.Event(), threading.Event()

    def during(number: int) -> None:
        if number >= 30:
            wait(held)
        if number == 39:
            went_on.set()

    class Watched(Embedding):
        def prepare(self, image: np.ndarray) -> np.ndarray:
            if stage == "prepare":
                during(number_of(image))
            return image

    embedder = Watched(lambda numbers: during(numbers[-1]) if stage == "embed" else None)
    chunks = embed(drawn(40), embedder, cache, chunk=4)
    found = next(chunks)
    held.set()
    wait(went_on)  # nobody asks for the next chunk
    for outcomes in chunks:
        found += outcomes
    assert [outcome.position for outcome in found] == list(range(40))


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class Adjusted:
    """A run by a clock of its own; how many threads decoded after each batch."""

    ahead: DecodeAhead
    workers: list[int]


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> tuple[Clock, Adjusted]:
    """Batches of one picture, decoding adjusted after each, four cores."""
    clock, seen = Clock(), Adjusted(None, [])  # type: ignore[arg-type]
    for name, value in {"BATCH": 1, "SAMPLE": 1, "ADJUST_EVERY": 1, "time": clock}.items():
        monkeypatch.setattr(pipeline, name, value)
    monkeypatch.setattr(decoding, "cores", lambda: 4)

    class Known(DecodeAhead):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.ahead = self

    real = pipeline._Embedding._share_out

    def watched(self: Any) -> None:
        real(self)
        seen.workers.append(seen.ahead.workers)

    monkeypatch.setattr(pipeline, "DecodeAhead", Known)
    monkeypatch.setattr(pipeline._Embedding, "_share_out", watched)
    return clock, seen


def test_decoding_grows_to_all_cores_when_embedding_waits_for_it(one_by_one: tuple[Clock, Adjusted]) -> None:
    clock, seen = one_by_one
    changed, asked = threading.Condition(), 0

    class Asks(Profile):
        """Hears that the embedding thread wants a batch, after it has looked at the clock."""

        def stage(self, name: str, *, images: int = 1) -> AbstractContextManager[None]:
            return contextlib.nullcontext()

        def waiting(self, name: str) -> AbstractContextManager[None]:
            nonlocal asked
            if name == "embed":
                with changed:
                    asked += 1
                    changed.notify_all()
            return contextlib.nullcontext()

    class Slow(Embedding):
        def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
            super().tune(sample, expected=expected, notice=notice)
            seen.ahead.allow(1)

        def prepare(self, image: np.ndarray) -> np.ndarray:
            number = number_of(image)
            if number:  # ready a second after it has been asked for
                with changed:
                    assert changed.wait_for(lambda: asked > number, PATIENCE)
                clock.now += 1.0
            return image

    def quickly(_: list[int]) -> None:
        clock.now += 0.001

    list(embed(drawn(12), Slow(quickly), DictCache(), chunk=100, profile=Asks()))
    assert seen.workers == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4]


def test_decoding_shrinks_to_one_when_embedding_is_slow(one_by_one: tuple[Clock, Adjusted]) -> None:
    clock, seen = one_by_one

    def slowly(numbers: list[int]) -> None:
        if numbers[0] < 6:
            deadline = time.monotonic() + PATIENCE
            while not seen.ahead.full and time.monotonic() < deadline:
                time.sleep(0.001)
        clock.now += 1.0

    list(embed(drawn(200), Embedding(slowly), DictCache(), chunk=1000))
    assert seen.workers[:6] == [3, 2, 1, 1, 1, 1]
    assert set(seen.workers[6:]) == {1}


@pytest.mark.parametrize(
    ("waited", "full", "workers"),
    [
        (0.5, False, 3),
        (0.08, False, 3),
        (0.5, True, 2),
        (0.03, False, 2),
        (0.03, True, 2),
        (0.0, True, 1),
        (0.0, False, 2),
    ],
)
def test_decoding_is_adjusted_by_how_much_embedding_waits(
    monkeypatch: pytest.MonkeyPatch, waited: float, full: bool, workers: int
) -> None:
    """Every so many batches, by the share of the time of all embedding threads since the last time."""
    asked: list[int] = []
    ahead = SimpleNamespace(workers=2, full=full, allow=asked.append)
    embedding = pipeline._Embedding(
        ahead,  # type: ignore[arg-type]
        Embedding(at_once=2),
        pipeline.Memory(1000),
        known=set(),
        expected=10,
        chunk=10,
        notice=lambda _: None,
        profile=NO_PROFILE,
    )
    embedding._embedders = [threading.Thread(), threading.Thread()]
    embedding._since = 100.0
    clock = Clock()
    monkeypatch.setattr(pipeline, "time", clock)
    for rounds in (1, 2):
        clock.now = 100.0 + 10 * rounds
        embedding._waited += waited * 20  # seconds of two threads, of ten each
        for _ in range(pipeline.ADJUST_EVERY - 1):
            embedding._share_out()
        assert len(asked) == (rounds - 1 if workers != 2 else 0)
        embedding._share_out()
    assert asked == ([] if workers == 2 else [workers] * 2)


def test_vectors_know_the_runtime_that_was_chosen_for_them(cache: VectorCache) -> None:
    class Choosing(Embedding):
        runtime = "torch"

        def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
            super().tune(sample, expected=expected, notice=notice)
            self.runtime = "openvino"

    list(embed(drawn(10), Choosing(), cache, chunk=4))
    assert cache.runtimes() == {"openvino": 10}
    list(embed(drawn(13), Embedding(), cache, chunk=4))
    assert cache.runtimes() == {"openvino": 10, "numpy": 3}
    some = pa.array([key for key in sorted(cache.keys())[:6]] + [bytes(32)], pa.binary())
    assert sum(cache.runtimes(some).values()) == 6
    assert cache.runtimes(pa.array([], pa.binary())) == {}


def test_vectors_from_before_runtimes_were_recorded_are_unknown_and_survive_compaction(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(embed(drawn(6), Embedding(), cache, chunk=3))
    for part in cache.parts():
        pq.write_table(pq.read_table(part).drop_columns(["runtime"]), part, compression="none")
    assert cache.runtimes() == {"unknown": 6}
    again = Embedding()
    list(embed(drawn(10), again, cache, chunk=2))
    assert again.seen == 4
    assert cache.runtimes() == {"unknown": 6, "numpy": 4}
    assert cache.verify() == []
    monkeypatch.setattr(room, "MAX_PARTS", 1)
    cache.compact()
    assert len(cache.parts()) == 1
    assert cache.runtimes() == {"unknown": 6, "numpy": 4}
    assert cache.verify() == []
    check_vectors(cache, range(10))


def test_the_profile_counts_every_stage(cache: VectorCache) -> None:
    profile = Profile()
    shelf = Shelf([*(picture(n) for n in range(90)), DAMAGED, picture(3), ImageError("no such file")])
    list(embed(shelf, Embedding(at_once=2), cache, chunk=20, profile=profile))
    rows = {row["stage"]: row for row in profile.table().to_pylist()}
    assert {name: row["images"] for name, row in rows.items()} | {"decode": 92} == {
        "tune": 0,
        "read": 93,
        "decode": 92,  # all that was read
        "prepare": rows["prepare"]["images"],
        "embed": 90,
        "write": 90,
    }
    assert rows["decode"]["images"] == 92
    assert rows["prepare"]["images"] in (90, 91)  # the copy may be decoded before the first is known
    assert all(rows[name]["waiting_s"] > 0 for name in ("read", "decode", "embed"))
