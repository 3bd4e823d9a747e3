"""How fast is exact search beside NumPy, torch, FAISS Flat, and the machine's own float32 matrix product?

All contenders search the same random unit vectors in one process, in turn, round after round; the median of the
rounds counts. A search of n queries in m vectors of dimension d is counted as 2 n m d operations, so that its rate
can be held against that of a plain product of two large square matrices, which does nothing else. All answers are
compared with each other before anything is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.machine import print_machine
from indexer.index import ExactIndex
from retrieval.neighbours import top_k

Answer = tuple[np.ndarray, np.ndarray]  # ids (n, k), similarities (n, k)

SQUARE = 4096  # side of the matrices whose product is the machine's rate
TILE = 32_768  # gallery vectors that plain scripts compare at once: 32 MiB for 256 queries
SORTED_QUERIES = 8  # a full sort takes 0.1 s a query and a million vectors; a few say enough
REST = 0.3  # seconds before each turn: idle OpenMP threads of the one before spin for a while
TOLERANCE = 3e-6  # of similarities, float32 sums of other orders
HALF_TOLERANCE = 2e-3  # of similarities with vectors rounded to float16 and not brought back to length 1


def main(arguments: list[str]) -> None:
    """Print milliseconds, queries/s, GFLOP/s and the share of the machine's rate of each contender."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks neighbours", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors of the gallery")
    parser.add_argument("--dim", type=int, default=128, help="their dimension")
    parser.add_argument("--queries", type=int, default=256, help="queries of a batch")
    parser.add_argument("--k", type=int, default=10, help="neighbours of a query")
    parser.add_argument("--rounds", type=int, default=7, help="each contender runs so often, and once before")
    given = parser.parse_args(arguments)
    print_machine(["numpy", "torch", "faiss-cpu"])
    print(f"{given.queries} queries, {given.rows} x {given.dim}, k = {given.k}, median of {given.rounds} rounds\n")

    rng = np.random.default_rng(0)
    gallery, queries = _units(rng, given.rows, given.dim), _units(rng, given.queries, given.dim)
    operations = 2 * given.rows * given.dim
    products = _products(queries, gallery)
    searches = _searches(queries, gallery, given.k)

    seconds: dict[str, list[float]] = {}
    answers: dict[str, Answer] = {}
    for turn in range(given.rounds + 1):  # the first warms up
        for name, (_, product) in products.items():
            _take_turn(seconds, name, product, warm=turn == 0)
        for name, (_, search) in searches.items():
            if turn <= 1 or "sort" not in name:
                answers[name] = _take_turn(seconds, name, search, warm=turn == 0)
    _check(answers, queries, gallery)

    rates = {name: count / float(np.median(seconds[name])) for name, (count, _) in products.items()}
    machine = rates[next(iter(rates))]
    print(f"{'contender':44s} {'ms':>9s} {'queries/s':>10s} {'GFLOP/s':>8s} {'of machine':>9s} {'best round':>10s}")
    for name, rate in rates.items():
        print(f"{name:44s} {np.median(seconds[name]) * 1e3:9.1f} {'':10s} {rate / 1e9:8.1f} {rate / machine:9.0%}")
    fastest = SQUARE**3 * 2 / min(seconds[next(iter(rates))])
    for name, (n, _) in searches.items():
        middle = float(np.median(seconds[name]))
        rate, best = n * operations / middle, n * operations / min(seconds[name])
        shares = f"{rate / machine:9.0%} {best / fastest:10.0%}"
        print(f"{name:44s} {middle * 1e3:9.1f} {n / middle:10.0f} {rate / 1e9:8.1f} {shares}")
    print("\nof machine: median rate / median rate of the square product; best round: fastest / fastest")
    print(f"all answers agree: similarities to {TOLERANCE:g} (float16: {HALF_TOLERANCE:g}), each id as near as it says")


def _units(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    vectors = rng.standard_normal((n, d), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _products(queries: np.ndarray, gallery: np.ndarray) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Name → operations of one run, and the run; the first is the machine's rate."""
    square = np.random.default_rng(1).standard_normal((SQUARE, SQUARE), dtype=np.float32)
    out = np.empty_like(square)
    some = gallery[:TILE]
    flat = np.empty((len(queries), len(some)), np.float32)
    theirs, ours, into = torch.from_numpy(some), torch.from_numpy(queries), torch.from_numpy(flat)
    wide = 2 * len(queries) * len(some) * queries.shape[1]
    shape = f"{len(queries)} x {queries.shape[1]} by {len(some)}"
    return {
        f"NumPy product, {SQUARE} square (the machine)": (2 * SQUARE**3, lambda: np.matmul(square, square, out=out)),
        f"NumPy product, {shape}": (wide, lambda: np.matmul(queries, some.T, out=flat)),
        f"torch product, {shape}": (wide, lambda: torch.mm(ours, theirs.T, out=into)),
    }


def _searches(queries: np.ndarray, gallery: np.ndarray, k: int) -> dict[str, tuple[int, Callable[[], Answer]]]:
    """Name → queries of one run, and the run."""
    half = gallery.astype(np.float16)
    index = ExactIndex(gallery.shape[1])
    index.add(np.arange(len(gallery)), half)
    flat = faiss.IndexFlatIP(gallery.shape[1])
    flat.add(gallery)

    def by_faiss(threshold: int | None = None) -> Answer:
        usual = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = usual if threshold is None else threshold
        similarities, ids = flat.search(queries, k)
        faiss.cvar.distance_compute_blas_threshold = usual
        return ids, similarities

    few = queries[:SORTED_QUERIES]
    return {
        "lookalike top_k, float32": (len(queries), lambda: top_k(queries, gallery, k)),
        "lookalike top_k, float16": (len(queries), lambda: top_k(queries, half, k)),
        "lookalike ExactIndex, float16": (len(queries), lambda: index.search(queries, k)),
        "FAISS Flat": (len(queries), by_faiss),
        "FAISS Flat, made to use BLAS": (len(queries), lambda: by_faiss(1)),
        "torch, tiles, mm + topk": (len(queries), lambda: _by_torch(queries, gallery, k)),
        "NumPy, tiles, argpartition": (len(queries), lambda: _by_partition(queries, gallery, k)),
        f"NumPy, full sort ({len(few)} queries)": (len(few), lambda: _by_sort(few, gallery, k)),
    }


def _by_sort(queries: np.ndarray, gallery: np.ndarray, k: int) -> Answer:
    similarities = queries @ gallery.T
    ids = np.argsort(-similarities, axis=1)[:, :k]
    return ids, np.take_along_axis(similarities, ids, axis=1)


def _by_partition(queries: np.ndarray, gallery: np.ndarray, k: int) -> Answer:
    ids, values = [], []
    for start in range(0, len(gallery), TILE):
        similarities = queries @ gallery[start : start + TILE].T
        best = np.argpartition(similarities, -min(k, similarities.shape[1]), axis=1)[:, -k:]
        ids.append(best + start)
        values.append(np.take_along_axis(similarities, best, axis=1))
    all_ids, all_values = np.concatenate(ids, axis=1), np.concatenate(values, axis=1)
    order = np.argsort(-all_values, axis=1)[:, :k]
    return np.take_along_axis(all_ids, order, axis=1), np.take_along_axis(all_values, order, axis=1)


def _by_torch(queries: np.ndarray, gallery: np.ndarray, k: int) -> Answer:
    ours, theirs = torch.from_numpy(queries), torch.from_numpy(gallery)
    ids, values = [], []
    for start in range(0, len(gallery), TILE):
        similarities = ours @ theirs[start : start + TILE].T
        best = torch.topk(similarities, min(k, similarities.shape[1]), dim=1)
        ids.append(best.indices + start)
        values.append(best.values)
    last = torch.topk(torch.cat(values, dim=1), k, dim=1)
    return torch.cat(ids, dim=1).gather(1, last.indices).numpy(), last.values.numpy()


def _take_turn(seconds: dict[str, list[float]], name: str, run: Callable[[], Any], *, warm: bool) -> Any:
    time.sleep(REST)
    start = time.perf_counter()
    answer = run()
    if not warm:
        seconds.setdefault(name, []).append(time.perf_counter() - start)
    return answer


def _check(answers: dict[str, Answer], queries: np.ndarray, gallery: np.ndarray) -> None:
    """Compare every answer with the first, and every id with its similarity; end the program when one is wrong."""
    wanted_ids, wanted = next(iter(answers.values()))
    for name, (ids, similarities) in answers.items():
        tolerance = HALF_TOLERANCE if "float16" in name else TOLERANCE
        n = len(ids)
        # n: query, k: rank, d: dimension
        true = np.einsum("nd,nkd->nk", queries[:n], gallery[ids])
        for other in (wanted[:n], true):
            if not np.allclose(similarities, other, rtol=0, atol=tolerance):
                sys.exit(f"{name} found other neighbours: {(ids != wanted_ids[:n]).mean():.2%} of the ids differ")
