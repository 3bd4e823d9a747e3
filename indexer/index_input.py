"""What goes into an index: rows and vectors, looked at, and what brings a vector to length 1."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.shortlist import as_float32

UNIT_TOLERANCE: Final = 8e-7  # of a squared length: what float32 normalisation leaves
CHUNK: Final = 1 << 18  # numbers looked at once: 1 MiB of float32
SPREAD: Final = 1 << 24  # numbers from which a second thread pays


def check_vectors(vectors: np.ndarray, dim: int) -> None:
    """Raise InputError unless ``vectors`` is (n, dim) float16 or float32."""
    if vectors.ndim != 2 or vectors.shape[1] != dim or vectors.dtype not in (np.float16, np.float32):
        raise InputError(f"vectors must be (n, {dim}) float16 or float32, not {vectors.shape} {vectors.dtype}")


def check_new_rows(rows: np.ndarray, present: Callable[[], np.ndarray], *, highest: int) -> None:
    """Raise InputError unless ``rows`` are integers, not negative, each once, and none is present.

    Args:
        rows: what is to be added.
        present: gives the rows that are there; called only where needed.
        highest: none of them is higher.
    """
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InputError(f"rows must be (n,) integers, not {rows.shape} {rows.dtype}")
    if len(rows) == 0:
        return
    if rows.min() < 0:
        raise InputError("rows must not be negative: -1 marks an empty slot")
    ordered = np.sort(rows)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    # Rows are given once and rise, so this look is seldom needed.
    there = ordered[:0] if ordered[0] > highest else np.intersect1d(ordered, present())
    if len(twice) or len(there):
        raise InputError(f"row {int((*twice, *there)[0])} would stand twice in the index")


def check_known_rows(rows: np.ndarray, present: np.ndarray) -> None:
    """Raise InputError unless ``rows`` are integers that are all among ``present``."""
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise InputError(f"rows must be (n,) integers, not {rows.shape} {rows.dtype}")
    unknown = np.setdiff1d(rows, present)
    if len(unknown):
        raise InputError(f"row {unknown[0]} is not in the index")


def inverse_lengths(vectors: np.ndarray) -> np.ndarray:
    """The factor that brings each vector to length 1: (n,) float32, the same for equal vectors wherever they stand.

    Raises:
        InputError: a vector that is not finite, or zero.
    """
    squares = np.empty(len(vectors), np.float32)
    step = max(1, CHUNK // vectors.shape[1])

    def measure(start: int) -> None:
        some = vectors[start : start + step]
        rows = as_float32(some, None, np.empty(some.shape, np.float32))
        products = np.empty(some.shape, np.float32)
        with np.errstate(over="ignore"):
            squares[start : start + step] = np.add.reduce(np.multiply(rows, rows, out=products), axis=1)

    starts = range(0, len(vectors), step)
    if vectors.size < SPREAD:
        for start in starts:
            measure(start)
    else:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(measure, starts))
    # A float16 that is not finite widens to a number of 65536 and more.
    limit = 65536.0**2 if vectors.dtype == np.float16 else np.inf
    if not ((squares > 0) & (squares < limit)).all():
        odd = vectors[~((squares > 0) & (squares < limit))]
        if not np.isfinite(odd).all() or vectors.dtype == np.float32 or not odd.any(axis=1).all():
            raise InputError("vectors must be finite and not zero")
    return np.asarray(1.0 / np.sqrt(squares.astype(np.float64))).astype(np.float32)


def unit_vectors(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Bring vectors (n, dim) to length 1: (n, dim) float32; float32 ones of that length come as they are.

    Raises:
        InputError: another shape or type, or a vector that is not finite or is zero.
    """
    check_vectors(vectors, dim)
    scales = inverse_lengths(vectors)
    if vectors.dtype == np.float16:
        return as_float32(np.asarray(vectors), scales, np.empty(vectors.shape, np.float32))
    off = np.abs(1.0 / scales.astype(np.float64) ** 2 - 1.0) > UNIT_TOLERANCE
    if not off.any():
        return vectors
    wide = vectors[off].astype(np.float64)
    vectors = vectors.copy()
    vectors[off] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return vectors
