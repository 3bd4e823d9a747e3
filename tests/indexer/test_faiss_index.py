"""FAISS behind the same protocol: Flat against a dict, approximate kinds against the exact index."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from hypothesis import settings

from indexer import faiss_index
from indexer.index import INDEX_KINDS, ExactIndex, check_spec
from retrieval.errors import CannotRemoveError, DamagedError, InputError, MissingExtraError
from tests.indexer.test_index import IndexAgainstDict, units

faiss = pytest.importorskip("faiss")

REMOVING = [
    "Flat",
    "IVF8,Flat",
    "IDMap,Flat",
    "L2norm,Flat",
    "PCA8,IVF8,Flat",
    "SQ8",
    "IVF8,PQ4x4",
    "PQ4x4",
    "IVF8,RaBitQ",
    "OPQ4,IVF8,SQ8",
]
KEEPING = ["HNSW8", "L2norm,HNSW8", "IVF8,SQ8,RFlat", "PCA8,SQ8,RFlat", "HNSW8,SQ8", "IVF8,PQ4x4fs", "PQ4x4fs"]
UNFILTERED = ["PQ4x4", "PQ4x4fs"]


class FaissAgainstDict(IndexAgainstDict):
    # FAISS sums in float32, in its own order.
    tolerance = 2e-6

    def make(self):
        return faiss_index.FaissIndex(6, "Flat", device="cpu")

    def reload(self, path):
        return faiss_index.FaissIndex.load(path, device="cpu")


FaissAgainstDict.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFaissFlatAgainstDict = FaissAgainstDict.TestCase


def filled(spec, n=600, dim=16):
    """An index of n vectors under rows 7, 10, 13, ... in no order, the rows, and the vectors."""
    vectors = units(n, dim)
    rows = np.random.default_rng(1).permutation(n) * 3 + 7
    index = INDEX_KINDS["faiss"].build(dim, spec, "cpu")
    index.add(rows, vectors)
    return index, rows, vectors


def share_found(index, vectors, rows, allowed=None):
    """How many of the vectors find their own row among 60: all but a few of a coarse code, a tenth by chance."""
    return (index.search(vectors, 60, allowed)[0] == rows[:, None]).any(axis=1).mean()


def look_everywhere(index):
    if index.nprobe is not None:
        index.nprobe = 8


@pytest.mark.parametrize("spec", [*REMOVING, *KEEPING])
def test_every_kind_finds_rows_by_their_number(spec):
    index, rows, vectors = filled(spec)
    look_everywhere(index)
    assert len(index) == 600
    found, similarities = index.search(vectors, 5)
    assert share_found(index, vectors, rows) > 0.9
    assert (np.diff(similarities, axis=1) <= 0).all()
    assert np.isin(found, rows).all()
    about = index.describe()
    assert (about["kind"], about["factory"], about["vectors"], about["dim"]) == ("faiss", spec, 600, 16)
    assert about["memory_bytes"] > 600 * 8


@pytest.mark.parametrize("spec", ["Flat", "IVF8,Flat", "L2norm,Flat", "HNSW32"])
def test_kinds_that_look_everywhere_agree_with_the_exact_index(spec):
    index, rows, vectors = filled(spec)
    look_everywhere(index)
    exact = ExactIndex(16)
    exact.add(rows, vectors)
    for allowed in (None, np.sort(rows)[::7]):
        found, similarities = index.search(vectors[:100], 6, allowed)
        wanted, values = exact.search(vectors[:100], 6, allowed)
        assert (found == wanted).mean() > (0.99 if spec != "HNSW32" else 0.9)
        np.testing.assert_allclose(similarities[found == wanted], values[found == wanted], atol=1e-6)


@pytest.mark.parametrize("spec", [*REMOVING, *KEEPING])
def test_only_allowed_rows_are_found(spec):
    index, rows, vectors = filled(spec)
    look_everywhere(index)
    allowed = np.sort(rows)[::9]
    if spec in UNFILTERED:
        with pytest.raises(InputError, match="cannot search among chosen rows"):
            index.search(vectors[:3], 4, allowed)
        return
    found, _ = index.search(vectors, 4, allowed)
    assert np.isin(found[found >= 0], allowed).all()
    own = np.isin(rows, allowed)
    assert share_found(index, vectors[own], rows[own], allowed) > 0.9
    assert (index.search(vectors[:2], 4, np.zeros(0, np.int64))[0] == -1).all()
    assert (index.search(vectors[:2], 4, np.array([1, 2**40]))[0] == -1).all()
    only = index.search(vectors[:2], 4, np.array([1, rows[0], 2**40]))[0]
    assert set(only.ravel().tolist()) <= {-1, int(rows[0])}


@pytest.mark.parametrize("spec", REMOVING)
def test_removed_rows_are_gone_and_the_others_keep_their_numbers(spec, tmp_path):
    index, rows, vectors = filled(spec)
    look_everywhere(index)
    gone, left = rows[:200], slice(200, None)
    index.remove(gone)
    later = units(50, 16, 9)
    index.add(np.arange(5000, 5050), later)
    index.save(tmp_path / "vectors.index")
    loaded = INDEX_KINDS["faiss"].load(tmp_path / "vectors.index", "cpu")
    for kept in (index, loaded):
        assert len(kept) == 450
        found, _ = kept.search(vectors, 3)
        assert not np.isin(found, gone).any()
        assert share_found(kept, vectors[left], rows[left]) > 0.9
        assert share_found(kept, later, np.arange(5000, 5050)) > 0.8


@pytest.mark.parametrize("spec", KEEPING)
def test_a_kind_that_cannot_remove_says_so_and_stays_whole(spec):
    index, rows, vectors = filled(spec)
    before = index.search(vectors[:20], 3)
    with pytest.raises(CannotRemoveError, match="cannot remove rows; build it again"):
        index.remove(rows[:1])
    assert len(index) == 600
    np.testing.assert_array_equal(index.search(vectors[:20], 3)[0], before[0])


@pytest.mark.parametrize("spec", ["Flat", "IVF8,Flat", "HNSW8", "PCA8,IVF8,SQ8,RFlat", "IVF8,PQ4x4"])
def test_saved_and_loaded_it_answers_the_same(spec, tmp_path):
    index, _, vectors = filled(spec)
    if index.nprobe is not None:
        assert index.nprobe == 3  # the root of 8
        index.nprobe = 5
    index.save(tmp_path / "名 'x'.index")
    loaded = faiss_index.FaissIndex.load(tmp_path / "名 'x'.index", device="cpu")
    for got, wanted in zip(loaded.search(vectors, 6), index.search(vectors, 6), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert loaded.describe() == index.describe()


@pytest.mark.parametrize("spec", ["Flat", "IVF4,Flat", "HNSW8"])
def test_a_cut_file_is_damage_and_no_crash(spec, tmp_path):
    index, _, _ = filled(spec, n=80)
    path = tmp_path / "vectors.index"
    index.save(path)
    whole = path.read_bytes()
    for keep in [*range(0, 400, 7), *range(400, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:keep])
        with pytest.raises(DamagedError, match=r"vectors\.index"):
            faiss_index.FaissIndex.load(path, device="cpu")
    with pytest.raises(DamagedError, match="none"):
        faiss_index.FaissIndex.load(tmp_path / "none", device="cpu")
    exact = ExactIndex(16)
    exact.save(path)
    with pytest.raises(DamagedError, match="no FAISS index"):
        faiss_index.FaissIndex.load(path, device="cpu")


@pytest.mark.parametrize(("spec", "n"), [("IVF64,Flat", 20), ("IVF8,PQ4", 100), ("PQ4", 100)])
def test_too_few_vectors_to_train_on(spec, n):
    index = faiss_index.FaissIndex(16, spec, device="cpu")
    with pytest.raises(InputError, match=f"{n} vectors are too few to train .*choose .*Flat or exact"):
        index.add(np.arange(n), units(n, 16))
    assert len(index) == 0
    assert (index.search(units(2, 16), 3)[0] == -1).all()


def test_training_takes_a_sample_of_many(monkeypatch):
    monkeypatch.setattr(faiss_index, "TRAINING_LEAST", 100)
    monkeypatch.setattr(faiss_index, "TRAINING_PER_LIST", 60)
    monkeypatch.setattr(faiss_index, "ADDED_AT_ONCE", 64)
    index, rows, vectors = filled("IVF8,Flat")
    again, _, _ = filled("IVF8,Flat")
    assert index.nprobe == 3
    np.testing.assert_array_equal(index.search(vectors, 4)[0], again.search(vectors, 4)[0])
    look_everywhere(index)
    np.testing.assert_array_equal(index.search(vectors, 1)[0][:, 0], rows)


def test_float16_vectors_find_themselves_with_similarity_one():
    vectors = units(500, 128, dtype=np.float16)
    index = faiss_index.FaissIndex(128, "Flat", device="cpu")
    index.add(np.arange(500), vectors)
    found, similarities = index.search(vectors, 2)
    np.testing.assert_array_equal(found[:, 0], np.arange(500))
    np.testing.assert_allclose(similarities[:, 0], 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "vectors", "message"),
    [
        ([0, 1], units(1, 16), "there are 2 rows and 1 vectors"),
        ([-1], units(1, 16), "must not be negative"),
        ([3, 3], units(2, 16), "row 3 would stand twice"),
        ([7], units(1, 16), "row 7 would stand twice"),
        ([0], units(1, 5), r"vectors must be \(n, 16\)"),
        ([0], units(1, 16) * np.float32(np.inf), "finite and not zero"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(rows, vectors, message):
    index, _, _ = filled("IVF8,Flat")
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=message):
        index.add(np.array(rows), vectors)
    with pytest.raises(InputError, match="row 8 is not in the index"):
        index.remove(np.array([7, 8]))
    with pytest.raises(InputError, match="k must be at least 1"):
        index.search(units(1, 16), 0)
    assert len(index) == 600


def test_nprobe_is_for_ivf_and_within_its_lists():
    index, _, _ = filled("IVF8,Flat")
    for value in (0, 9):
        with pytest.raises(InputError, match="IVF8,Flat has 8 lists"):
            index.nprobe = value
    flat, _, _ = filled("Flat")
    assert flat.nprobe is None
    with pytest.raises(InputError, match="Flat has no lists"):
        flat.nprobe = 3


@pytest.mark.parametrize("spec", ["Rubbish", "", "IVF0,Flat", "IVF99999999999,Flat", "IVF8,Flat,Flat", "LSH"])
def test_what_is_no_factory_string_is_refused(spec):
    with pytest.raises(InputError, match="is no"):
        check_spec(spec)
    with pytest.raises(InputError, match="is no"):
        faiss_index.FaissIndex(16, spec)


def test_a_factory_string_that_does_not_fit_the_dimension():
    check_spec("IVF8,PQ48")
    with pytest.raises(InputError, match="for vectors of dimension 16"):
        faiss_index.FaissIndex(16, "IVF8,PQ48")


def test_without_faiss_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **named)

    faiss_index._faiss.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    try:
        with pytest.raises(MissingExtraError, match=r"lookalike\[faiss\]"):
            check_spec("Flat")
    finally:
        monkeypatch.undo()
        faiss_index._faiss.cache_clear()


def test_devices():
    with pytest.raises(InputError, match="there is no device 'tpu'"):
        faiss_index.FaissIndex(16, "Flat", device="tpu")
    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS knows GPUs")
    with pytest.raises(MissingExtraError, match=r"lookalike\[gpu\]"):
        faiss_index.FaissIndex(16, "Flat", device="cuda")
    assert faiss_index.FaissIndex(16, "Flat", device="auto").device == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["Flat", "IVF64,Flat"])
def test_gpu_and_cpu_agree(spec):
    if not faiss.get_num_gpus():
        pytest.skip("FAISS sees no GPU here")
    vectors = units(20_000, 64)
    answers = []
    for device in ("cpu", "cuda"):
        index = faiss_index.FaissIndex(64, spec, device=device)
        index.add(np.arange(20_000), vectors)
        index.remove(np.arange(0, 20_000, 5))
        answers.append(index.search(vectors[:500], 10))
    assert (answers[0][0] == answers[1][0]).mean() > 0.99
    np.testing.assert_allclose(answers[0][1], answers[1][1], atol=1e-5)
