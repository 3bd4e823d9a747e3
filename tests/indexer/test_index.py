"""The exact index against a dict, and its promises one by one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from indexer.index import INDEX_KINDS, ExactIndex, check_spec, index_kind
from indexer.index_input import unit_vectors
from retrieval.errors import CannotRemoveError, CatalogueError, DamagedError, InputError
from retrieval.neighbours import top_k

DIM = 6


def units(n, d=DIM, seed=0, dtype=np.float32):
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


class IndexAgainstDict(RuleBasedStateMachine):
    """Adds, removes, searches, saves and loads, beside a dict that is searched pair by pair in float64."""

    def make(self):
        return ExactIndex(DIM)

    def reload(self, path):
        return ExactIndex.load(path)

    # How far a similarity may be from the float64 one.
    tolerance = 3e-7

    def __init__(self):
        super().__init__()
        self.index = self.make()
        self.model: dict[int, np.ndarray] = {}

    @rule(
        n=st.integers(0, 12),
        seed=st.integers(0, 2**16),
        first=st.integers(0, 60),
        half=st.booleans(),
        same=st.booleans(),
    )
    def add(self, n, seed, first, half, same):
        rng = np.random.default_rng(seed)
        rows = rng.permutation(np.arange(first, first + n)).astype(np.int64)
        vectors = units(n, seed=seed, dtype=np.float16 if half else np.float32)
        if same and n:
            vectors[:] = vectors[0]
        if set(rows.tolist()) & self.model.keys():
            before = len(self.index)
            with pytest.raises(InputError, match="would stand twice"):
                self.index.add(rows, vectors)
            assert len(self.index) == before
            return
        self.index.add(rows, vectors)
        wide = vectors.astype(np.float64)
        for row, vector in zip(rows.tolist(), wide, strict=True):
            self.model[row] = vector / np.linalg.norm(vector)

    @rule(data=st.data())
    def remove(self, data):
        rows = data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True)) if self.model else []
        self.index.remove(np.array(rows, np.int64))
        for row in rows:
            del self.model[row]

    @rule(row=st.integers(0, 80))
    def remove_what_is_not_there(self, row):
        if row not in self.model:
            with pytest.raises(InputError, match=f"row {row} is not in the index"):
                self.index.remove(np.array([*list(self.model)[:1], row]))

    @rule(seed=st.integers(0, 2**16), k=st.integers(1, 9), part=st.booleans(), stored=st.booleans())
    def search(self, seed, k, part, stored):
        rng = np.random.default_rng(seed)
        queries = units(3, seed=seed)
        if stored and self.model:
            queries = np.stack([self.model[row] for row in rng.choice(list(self.model), 3)]).astype(np.float32)
        allowed = None
        candidates = sorted(self.model)
        if part:
            allowed = np.flatnonzero(rng.random(80) < 0.4).astype(np.int64)
            candidates = [row for row in candidates if row in set(allowed.tolist())]
        rows, similarities = self.index.search(queries, k, allowed)
        assert (rows.shape, similarities.shape) == ((3, k), (3, k))
        assert (rows.dtype, similarities.dtype) == (np.int64, np.float32)
        for query, found, values in zip(queries.astype(np.float64), rows, similarities, strict=True):
            hits = min(k, len(candidates))
            assert (found[hits:] == -1).all() and (values[hits:] == -np.inf).all()
            assert set(found[:hits].tolist()) <= set(candidates) and len(set(found[:hits].tolist())) == hits
            true = {row: float(self.model[row] @ query) for row in candidates}
            np.testing.assert_allclose(values[:hits], [true[row] for row in found[:hits].tolist()], atol=self.tolerance)
            best = sorted(true.values(), reverse=True)[:hits]
            np.testing.assert_allclose(values[:hits], best, atol=self.tolerance)
            order = list(zip((-values[:hits]).tolist(), found[:hits].tolist(), strict=True))
            assert order == sorted(order)

    @rule(queries=st.integers(0, 2**16))
    def save_and_load(self, queries):
        import tempfile
        from pathlib import Path

        before = self.index.search(units(4, seed=queries), 5)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a b" / "vectors.index"
            self.index.save(path)
            self.index = self.reload(path)
        after = self.index.search(units(4, seed=queries), 5)
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])

    @invariant()
    def has_as_many(self):
        assert len(self.index) == len(self.model)
        assert self.index.describe()["vectors"] == len(self.model)


IndexAgainstDict.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestExactIndexAgainstDict = IndexAgainstDict.TestCase


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("dim", [3, 128, 1280])
def test_an_indexed_vector_finds_itself_first_with_similarity_one(dtype, dim):
    # Directions with a fifth of a degree between them would change places if float16 lengths counted.
    rng = np.random.default_rng(0)
    vectors = units(1, dim) + 2e-3 * rng.standard_normal((300, dim)) / np.sqrt(dim)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)
    vectors = vectors[np.unique(vectors, axis=0, return_index=True)[1]]
    index = ExactIndex(dim)
    rows = rng.permutation(len(vectors)) * 3
    index.add(rows, vectors)
    found, similarities = index.search(vectors, 2)
    np.testing.assert_allclose(similarities[:, 0], 1.0, atol=1e-6)
    if dim > 3:  # on a sphere of three dimensions float16 leaves less than float32's rounding between some
        np.testing.assert_array_equal(found[:, 0], rows)


def test_float16_vectors_answer_as_the_units_they_stand_for():
    queries = units(50, 32, 1)
    for stretch in (1.0, 1.004, 3.0):
        halves = (units(6000, 32) * stretch).astype(np.float16)
        if stretch > 1:  # else all scales are near 1 and wait for the shortlist
            halves[100] *= np.float16(0.25)
        index = ExactIndex(32)
        index.add(np.arange(6000), halves)
        for got, wanted in zip(index.search(queries, 7), top_k(queries, unit_vectors(halves, 32), 7), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_float32_vectors_answer_as_exact_neighbours_do():
    vectors, queries = units(2000, 32), units(50, 32, 1)
    index = ExactIndex(32)
    index.add(np.arange(2000), vectors)
    for got, wanted in zip(index.search(queries, 7), top_k(queries, vectors, 7), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_joining_float32_changes_no_similarity_of_float16_vectors():
    halves = units(500, dtype=np.float16)
    one, two = ExactIndex(DIM), ExactIndex(DIM)
    for index in (one, two):
        index.add(np.arange(500), halves)
    two.add(np.array([900]), units(1, seed=5))
    two.remove(np.array([900]))
    for got, wanted in zip(two.search(units(20, seed=1), 9), one.search(units(20, seed=1), 9), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_order_of_adding_and_batches_change_nothing():
    vectors = units(700, dtype=np.float16)
    vectors[300:400] = vectors[:100]
    order = np.random.default_rng(1).permutation(700)
    at_once, piecemeal = ExactIndex(DIM), ExactIndex(DIM)
    at_once.add(np.arange(700), vectors)
    for part in np.array_split(order, 23):
        piecemeal.add(part, vectors[part])
    for got, wanted in zip(piecemeal.search(vectors[:50], 30), at_once.search(vectors[:50], 30), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_what_is_added_later_or_changed_outside_does_not_reach_the_index():
    vectors = units(50)
    index = ExactIndex(DIM)
    index.add(np.arange(50), vectors)
    before = index.search(vectors.copy(), 3)
    queries = vectors.copy()
    vectors[:] = 0
    np.testing.assert_array_equal(index.search(queries, 3)[1], before[1])


def test_vectors_of_any_length_are_brought_to_one():
    vectors = units(40)
    index = ExactIndex(DIM)
    index.add(np.arange(40), vectors * np.linspace(0.5, 90, 40, dtype=np.float32)[:, None])
    found, similarities = index.search(vectors * np.float32(17), 1)
    np.testing.assert_array_equal(found[:, 0], np.arange(40))
    np.testing.assert_allclose(similarities, 1.0, atol=1e-6)
    as_they_are = unit_vectors(vectors, DIM)
    assert as_they_are is vectors
    again = unit_vectors(unit_vectors(vectors * np.float32(3), DIM), DIM)
    np.testing.assert_array_equal(again, unit_vectors(vectors * np.float32(3), DIM))


def test_memory_grows_with_what_is_added_and_is_given_back():
    index = ExactIndex(32)
    for start in range(0, 2000, 100):
        index.add(np.arange(start, start + 100), units(100, 32, start, np.float16))
    used = index.describe()["memory_bytes"]
    assert 2000 * (8 + 4 + 64) <= used <= 3000 * (8 + 4 + 64)
    index.remove(np.arange(1500))
    assert index.describe()["memory_bytes"] == 500 * (8 + 4 + 64)


def test_searches_go_on_while_the_index_changes():
    vectors = units(4000, dtype=np.float16)
    index = ExactIndex(DIM)
    index.add(np.arange(1000), vectors[:1000])
    fixed = np.arange(0, 1000, 4)
    alone = index.search(vectors[:20], 5, allowed=fixed)
    done, wrong = threading.Event(), []

    def look():
        while not done.is_set():
            got = index.search(vectors[:20], 5, allowed=fixed)
            if not all(np.array_equal(a, b) for a, b in zip(got, alone, strict=True)):
                wrong.append(got)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for start in range(1000, 4000, 100):
            index.add(np.arange(start, start + 100), vectors[start : start + 100])
            index.remove(np.setdiff1d(np.arange(start, start + 100), [start]))
        index.remove(np.setdiff1d(np.arange(1000), fixed))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert len(index) == 250 + 30


@pytest.mark.parametrize(
    ("rows", "vectors", "message"),
    [
        ([0, 1], units(1), "there are 2 rows and 1 vectors"),
        ([[0]], units(1), r"rows must be \(n,\) integers"),
        ([0.5], units(1), r"rows must be \(n,\) integers"),
        ([-1], units(1), "must not be negative"),
        ([3, 3], units(2), "row 3 would stand twice"),
        ([7], units(1), "row 7 would stand twice"),
        ([0], units(1, 5), r"vectors must be \(n, 6\)"),
        ([0], units(1)[0], r"vectors must be \(n, 6\)"),
        ([0], units(1).astype(np.float64), "float64"),
        ([0], units(1) * np.float32(np.nan), "finite and not zero"),
        ([0], units(1) * np.float32(0), "finite and not zero"),
        ([0], np.full((1, DIM), np.inf, np.float16), "finite and not zero"),
        ([0], np.zeros((1, DIM), np.float16), "finite and not zero"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(rows, vectors, message):
    index = ExactIndex(DIM)
    index.add(np.array([7]), units(1, dtype=np.float16))
    with pytest.raises(InputError, match=message):
        index.add(np.array(rows), vectors)
    assert len(index) == 1
    assert index.describe()["dtype"] == "float16"


def test_queries_that_do_not_fit_are_refused():
    index = ExactIndex(DIM)
    for vectors, k, message in (
        (units(1, 5), 3, r"vectors must be \(n, 6\)"),
        (np.zeros((1, DIM), np.float32), 3, "finite and not zero"),
        (units(1), 0, "k must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            index.search(vectors, k)
    rows, similarities = index.search(units(2), 3)
    assert (rows == -1).all() and (similarities == -np.inf).all()
    assert index.search(units(0), 3)[0].shape == (0, 3)


def test_long_halves_are_taken_for_what_they_are():
    index = ExactIndex(2)
    index.add(np.arange(2), np.array([[60000.0, 60000.0], [-60000.0, 60000.0]], np.float16))
    np.testing.assert_allclose(index.search(np.array([[1.0, 1.0]], np.float32), 2)[1], [[1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_cut_or_altered_file_is_damage(tmp_path, dtype):
    index = ExactIndex(DIM)
    index.add(np.arange(40), units(40, dtype=dtype))
    path = tmp_path / "vectors.index"
    index.save(path)
    whole = path.read_bytes()
    for keep in range(0, len(whole), 37):
        path.write_bytes(whole[:keep])
        with pytest.raises(DamagedError, match=r"vectors\.index"):
            ExactIndex.load(path)
    twice = bytearray(whole)
    start = whole.index((3).to_bytes(8, "little") + (4).to_bytes(8, "little"))
    twice[start : start + 8] = (4).to_bytes(8, "little")
    for changed in (whole + b"x", b"X" + whole[1:], bytes(twice)):
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"vectors\.index"):
            ExactIndex.load(path)
    with pytest.raises(DamagedError, match="none"):
        ExactIndex.load(tmp_path / "none")
    path.write_bytes(whole)
    assert len(ExactIndex.load(path)) == 40


def test_a_file_that_cannot_be_written_names_itself(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CatalogueError, match="cannot write"):
        ExactIndex(DIM).save(tmp_path / "file" / "vectors.index")


def test_kinds():
    assert index_kind("exact") == "exact"
    assert index_kind("IVF4,Flat") == "faiss"
    assert not INDEX_KINDS["exact"].stored
    assert INDEX_KINDS["faiss"].stored
    check_spec("exact")
    index = INDEX_KINDS["exact"].build(DIM, "exact", "cpu")
    index.add(np.arange(3), units(3))
    about = index.describe()
    assert about["kind"] == "exact"
    assert (about["dim"], about["vectors"], about["device"]) == (DIM, 3, "cpu")
    assert about["memory_bytes"] >= 3 * (8 + 4 * DIM)


def test_an_index_that_cannot_remove_says_so_in_both_languages():
    assert issubclass(CannotRemoveError, CatalogueError)
    assert issubclass(CannotRemoveError, NotImplementedError)


@given(st.integers(0, 1000))
def test_the_exact_index_gives_back_what_it_was_given(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(40)[:20].astype(np.int64)
    vectors = rng.normal(size=(20, 8)).astype(np.float16)
    index = ExactIndex(8)
    assert not index.read(rows)[1].any()
    index.add(rows, vectors)
    found, there = index.read(rows[::-1])
    assert there.all()
    np.testing.assert_array_equal(found, vectors[::-1])
    index.remove(rows[:3])
    assert index.read(rows)[1].tolist() == [False] * 3 + [True] * 17
    np.testing.assert_array_equal(index.read(rows[3:])[0], vectors[3:])
    assert not index.read(np.array([41, 99]))[1].any()
