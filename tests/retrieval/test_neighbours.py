"""Exact neighbours against a direct comparison of all pairs, and against themselves in every other way of running."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from retrieval import scan
from retrieval.errors import InputError
from retrieval.neighbours import Budget, top_k
from retrieval.shortlist import Gallery, as_float32, pair_similarities

MiB = 2**20


def units(n, d, seed=0, dtype=np.float32):
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def reference(queries, gallery, k, *, query_ids=None, gallery_ids=None, exclude_self=False, allowed=None):
    """All pairs in extended precision, one at a time, sorted by Python."""
    ids = np.arange(len(gallery)) if gallery_ids is None else gallery_ids
    found = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    wide = gallery.astype(np.longdouble)
    for row, query in enumerate(queries.astype(np.longdouble)):
        values = (wide * query).sum(axis=1).astype(np.float32)
        hits = [
            (-value, id)
            for place, (value, id) in enumerate(zip(values.tolist(), ids.tolist(), strict=True))
            if (allowed is None or allowed[place]) and not (exclude_self and id == query_ids[row])
        ]
        for slot, (value, id) in enumerate(sorted(hits)[:k]):
            found[row, slot], similarities[row, slot] = id, -value
    return found, similarities


def assert_same(got, wanted):
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])
    assert got[0].dtype == np.int64
    assert got[1].dtype == np.float32


@st.composite
def problems(draw):
    """Small, and full of ties: few coordinates, few values, rows repeated."""
    d = draw(st.integers(1, 9))
    n, m = draw(st.integers(0, 12)), draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["grid", "normal", "equal", "nearly equal", "tiny", "long"]))
    if kind == "grid":
        vectors = rng.integers(-2, 3, (n + m, d)) / 4.0
    elif kind == "equal":
        vectors = np.repeat(rng.standard_normal((1, d)), n + m, axis=0)
    elif kind == "nearly equal":
        vectors = rng.standard_normal((1, d)) + rng.integers(-2, 3, (n + m, d)) * 2.0**-23
    else:
        vectors = rng.standard_normal((n + m, d)) * {"normal": 1.0, "tiny": 1e-20, "long": 1e4}[kind]
    if draw(st.booleans()) and m > 1:
        vectors[n:] = vectors[n + rng.integers(0, m, m)]
    dtypes = [np.float32] if kind in ("tiny", "nearly equal") else [np.float32, np.float16]
    queries = vectors[:n].astype(draw(st.sampled_from(dtypes)))
    gallery = vectors[n:].astype(draw(st.sampled_from(dtypes)))
    options = {}
    if draw(st.booleans()):
        options["gallery_ids"] = rng.permutation(m * 3)[:m]
    if draw(st.booleans()):
        options |= {"query_ids": rng.integers(0, max(1, m), n), "exclude_self": True}
    if draw(st.booleans()):
        options["allowed"] = rng.random(m) < draw(st.sampled_from([0.0, 0.1, 0.9]))
    return queries, gallery, draw(st.integers(1, m + 3)), options


@given(
    problems(),
    st.sampled_from([None, 1, 2, 7, 8, 16, 64]),
    st.sampled_from([None, 1, 3, 8]),
    st.sampled_from(["cpu", "torch-cpu"]),
)
def test_agrees_with_all_pairs_compared_one_by_one(problem, tile, block, device):
    queries, gallery, k, options = problem
    wanted = reference(queries, gallery, k, **options)
    assert_same(top_k(queries, gallery, k, **options, device=device, budget=Budget(tile=tile, block=block)), wanted)


@given(problems(), st.integers(0, 2**32 - 1))
def test_permuting_the_gallery_changes_nothing(problem, seed):
    queries, gallery, k, options = problem
    options.setdefault("gallery_ids", np.arange(len(gallery)))
    order = np.random.default_rng(seed).permutation(len(gallery))
    shuffled = {name: value[order] if name in ("gallery_ids", "allowed") else value for name, value in options.items()}
    assert_same(top_k(queries, gallery[order], k, **shuffled), top_k(queries, gallery, k, **options))


@given(problems(), st.data())
def test_a_query_does_not_depend_on_its_batch(problem, data):
    queries, gallery, k, options = problem
    some = np.array(data.draw(st.lists(st.integers(0, len(queries) - 1), max_size=5)) if len(queries) else [], int)
    part = {name: value[some] if name == "query_ids" else value for name, value in options.items()}
    ids, similarities = top_k(queries, gallery, k, **options)
    assert_same(top_k(queries[some], gallery, k, **part), (ids[some], similarities[some]))


@pytest.fixture(scope="module")
def crowd():
    """Enough vectors for a sampled first bound, threads and many tiles, a tenth of them repeated."""
    gallery = units(40_000, 24)
    rng = np.random.default_rng(1)
    gallery[rng.permutation(40_000)[:4000]] = gallery[rng.integers(0, 40_000, 4000)]
    queries = np.concatenate([units(30, 24, 2), gallery[:10]])
    return queries, gallery, reference(queries, gallery, 12)


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize(
    "budget",
    [
        Budget(),
        Budget(threads=1),
        Budget(threads=3),
        Budget(threads=2, block=5, tile=96),
        Budget(threads=1, tile=1000),
        Budget(memory=1),
    ],
    ids=str,
)
def test_threads_tiles_memory_and_device_change_no_bit(crowd, budget, device, monkeypatch):
    queries, gallery, wanted = crowd
    monkeypatch.setattr("retrieval.neighbours.SMALL", 0)
    assert_same(top_k(queries, gallery, 12, budget=budget, device=device), wanted)


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_half_precision_and_scales(crowd, device):
    queries, gallery, _ = crowd
    halves = gallery.astype(np.float16)
    assert_same(top_k(queries, halves, 12, device=device), reference(queries, halves, 12))
    for spread in (1e-2, 1e-4):
        scales = np.random.default_rng(3).uniform(1 - spread, 1 + spread, len(halves)).astype(np.float32)
        scaled = halves.astype(np.float32) * scales[:, None]
        wanted = reference(queries, scaled, 12)
        for norm in (None, 1.02):
            for drift in (None, 1.001 * spread):
                kept = Gallery(halves, scales=scales, norm=norm, drift=drift)
                assert_same(top_k(queries, kept, 12, device=device), wanted)


def test_a_memory_mapped_gallery(crowd, tmp_path):
    queries, gallery, _ = crowd
    for dtype in (np.float32, np.float16):
        np.save(tmp_path / "gallery.npy", gallery.astype(dtype))
        mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
        assert_same(top_k(queries, mapped, 12), top_k(queries, gallery.astype(dtype), 12))


def test_strided_vectors_score_as_copies_do():
    wide = units(3000, 40)
    for view in (wide[::2, ::3], np.asfortranarray(wide), wide[::-1]):
        assert_same(top_k(view[:50], view, 5), top_k(view[:50].copy(order="C"), view.copy(order="C"), 5))
        half = view.astype(np.float16, order="K")
        assert_same(top_k(half[:50], half, 5), top_k(half[:50].copy(order="C"), half.copy(order="C"), 5))


@pytest.mark.parametrize("distinct", [1, 3])
@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_massive_ties_are_broken_by_id_in_bounded_memory(distinct, device):
    queries = units(distinct, 16)
    gallery = np.tile(queries, (60_000 // distinct, 1))
    ids = np.random.default_rng(0).permutation(len(gallery))
    batch = np.tile(queries, (64, 1))
    budget = Budget(memory=16, threads=1)
    tracemalloc.start()
    found, similarities = top_k(batch, gallery, 10, gallery_ids=ids, budget=budget, device=device)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for row in range(distinct):
        np.testing.assert_array_equal(found[row], np.sort(ids[row::distinct])[:10])
        assert len(set(similarities[row].tolist())) == 1
    np.testing.assert_array_equal(found, np.tile(found[:distinct], (64, 1)))
    assert peak < 16 * MiB + gallery.nbytes // 8


@pytest.mark.parametrize(("n", "m", "d", "k"), [(2000, 20_000, 32, 10), (1, 200_000, 16, 5), (300, 5000, 64, 1000)])
def test_memory_stays_within_the_budget(n, m, d, k):
    queries, gallery = units(n, d), units(m, d, 1, np.float16)
    tracemalloc.start()
    top_k(queries, gallery, k, budget=Budget(memory=32, threads=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - n * k * 12 < 32 * MiB


def test_empty_sides_and_empty_slots():
    vectors = units(3, 4)
    assert top_k(vectors[:0], vectors, 2)[0].shape == (0, 2)
    for gallery, options in ((vectors[:0], {}), (vectors, {"allowed": np.zeros(3, bool)})):
        ids, similarities = top_k(vectors, gallery, 2, **options)
        assert (ids == -1).all() and (similarities == -np.inf).all()
    ids, similarities = top_k(vectors, vectors, 5, query_ids=np.arange(3), exclude_self=True)
    assert (ids[:, :2] >= 0).all() and (ids[:, 2:] == -1).all()
    assert (similarities[:, 2:] == -np.inf).all()
    assert not (ids == np.arange(3)[:, None]).any()


def test_excluding_an_id_that_many_share():
    vectors = units(500, 8)
    ids = np.arange(500) // 100
    found, _ = top_k(vectors, vectors, 450, query_ids=ids, gallery_ids=ids, exclude_self=True)
    assert ((found >= 0).sum(axis=1) == 400).all()
    assert not (found == ids[:, None]).any()


def test_left_out_vectors_raise_no_bound():
    # Half of a gallery that is large enough for a sampled bound are the query itself, under the query's id.
    gallery = units(40_000, 8)
    gallery[::2] = gallery[0]
    ids = np.arange(40_000)
    ids[::2] = 7
    options = {"gallery_ids": ids, "query_ids": np.array([7]), "exclude_self": True}
    got = top_k(gallery[:1], gallery, 12, **options)
    assert_same(got, top_k(gallery[:1], gallery[1::2], 12, gallery_ids=ids[1::2]))


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_that_are_not_finite_are_refused(bad, dtype, device):
    good = units(3000, 6, dtype=dtype)
    spoilt = good.copy()
    spoilt[2777, 3] = bad
    with pytest.raises(InputError, match="the gallery holds infinite, NaN or far too large numbers"):
        top_k(good[:2], spoilt, 3, device=device)
    with pytest.raises(InputError, match="the queries hold infinite, NaN or far too large numbers"):
        top_k(spoilt, good, 3, device=device)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.zeros(4, np.float32)}, r"the queries must be \(n, d\)"),
        ({"queries": np.zeros((1, 4))}, "float64"),
        ({"gallery": np.zeros((2, 2, 4), np.float32)}, r"the gallery must be \(n, d\)"),
        ({"gallery": np.zeros((2, 0), np.float32)}, r"the gallery must be \(n, d\)"),
        ({"gallery": np.zeros((2, 5), np.float32)}, "the queries have dimension 4 and the gallery has 5"),
        ({"k": 0}, "k must be at least 1"),
        ({"exclude_self": True}, "needs query_ids"),
        ({"exclude_self": True, "query_ids": np.arange(9)}, r"query_ids must be \(3,\)"),
        ({"gallery_ids": np.arange(6.0)}, r"gallery_ids must be \(6,\) integers"),
        ({"gallery_ids": np.arange(6) - 1}, "must not be negative"),
        ({"allowed": np.arange(6)}, r"allowed must be \(6,\) bool"),
        ({"device": "tpu"}, "there is no device 'tpu'"),
        ({"device": "cuda:x"}, "there is no device 'cuda:x'"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given_ = {"queries": units(3, 4), "gallery": units(6, 4), "k": 2} | change
    with pytest.raises(InputError, match=message):
        top_k(**given_)


def test_searches_side_by_side_agree_and_leave_blas_as_it_was(crowd, monkeypatch):
    queries, gallery, wanted = crowd
    monkeypatch.setattr("retrieval.neighbours.SMALL", 0)
    with threadpool_limits(2, user_api="blas"):
        before = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
        with ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda _: top_k(queries, gallery, 12, budget=Budget(threads=2)), range(24)))
        after = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    for got in done:
        assert_same(got, wanted)
    assert after == before


def test_a_borrowed_setting_is_changed_once_and_restored_by_the_last():
    events = []

    def change():
        events.append("changed")
        return lambda: events.append("restored")

    borrowed = scan._Borrowed(change)
    inside, leave = threading.Barrier(3), threading.Event()

    def user():
        with borrowed():
            inside.wait()
            leave.wait()

    threads = [threading.Thread(target=user) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    assert events == ["changed"]
    leave.set()
    for thread in threads:
        thread.join()
    assert events == ["changed", "restored"]
    with pytest.raises(ZeroDivisionError), borrowed():
        _ = 1 / 0
    assert events == ["changed", "restored"] * 2


def test_tf32_is_off_while_torch_searches():
    torch = pytest.importorskip("torch")
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with scan.true_float32():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_a_failing_thread_stops_the_search(monkeypatch):
    monkeypatch.setattr("retrieval.neighbours.SMALL", 0)
    gallery = units(20_000, 8)
    gallery[5, 0] = np.nan
    with pytest.raises(InputError, match="the gallery holds"):
        top_k(units(600, 8), gallery, 3, budget=Budget(threads=2))


def test_every_float16_widens_as_numpy_does():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    finite = np.isfinite(halves)
    got = as_float32(halves, None, np.empty(halves.shape, np.float32))
    np.testing.assert_array_equal(got[finite].view(np.int32), halves.astype(np.float32)[finite].view(np.int32))
    assert (np.abs(got[~finite]) >= 65536).all()


def test_float16_widens_without_subnormal_numbers_too(monkeypatch):
    halves = np.array([[2.0**-24, -(2.0**-15), 1.5]], np.float16)
    monkeypatch.setattr("retrieval.shortlist._keeps_subnormals", lambda: False)
    scales = np.array([0.5], np.float32)
    wanted = halves.astype(np.float32) * np.float32(0.5)
    np.testing.assert_array_equal(as_float32(halves, scales, np.empty((1, 3), np.float32)), wanted)


@pytest.mark.parametrize("d", [1, 2, 3, 7, 8, 9, 127, 128, 129, 1280, 9000])
def test_a_pair_scores_the_same_alone_and_in_company(d):
    a, b = units(33, d), units(33, d, 1)
    together = pair_similarities(a, b)
    alone = np.concatenate([pair_similarities(a[i : i + 1], b[i : i + 1]) for i in range(33)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, pair_similarities(np.asfortranarray(a), np.asfortranarray(b)))
    exact = (a.astype(np.longdouble) * b).sum(axis=1)
    np.testing.assert_allclose(together, exact.astype(np.float64), rtol=2**-24, atol=1e-14)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cuda_and_cpu_agree_bit_for_bit(dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    gallery = units(200_000, 128, 1, dtype)
    gallery[50_000:60_000] = gallery[:10_000]
    queries = np.concatenate([units(5000, 128, 2, dtype), gallery[:100]])
    wanted = top_k(queries, gallery, 10)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert_same(top_k(queries, gallery, 10, device="cuda"), wanted)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
