"""Indexes of vectors by row: what they must do, the exact one, and the kinds there are.

An index measures the cosine. Vectors come L2-normalised, but float16 moves their length by up to 1e-3, which
would give an image a similarity of 0.9995 to itself and a shorter neighbour's vector an edge; so each stored vector
has a float32 factor that brings it back to length 1 when it is compared, and nothing is rounded twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from indexer.files import atomic_write
from indexer.index_input import check_known_rows, check_new_rows, check_vectors, inverse_lengths, unit_vectors
from retrieval.errors import DamagedError, InputError
from retrieval.neighbours import top_k
from retrieval.shortlist import Gallery, as_float32

HEADER: Final = b"lookalike exact index 1\n"
ROUNDING: Final = 1e-5  # more than a stored vector can be longer than its scale says


class VectorIndex(Protocol):
    """Vectors under the numbers of their rows, found by cosine similarity.

    Searches may run side by side. An index is changed by one thread at a time; whether searches may go on
    meanwhile is for each kind to say.
    """

    def add(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Take in vectors (n, d) float16 or float32 under ``rows`` (n,) int64, none negative or there already.

        Raises:
            InputError: rows or vectors that do not fit, a row twice, a vector that is not finite or is zero.
        """

    def remove(self, rows: np.ndarray) -> None:
        """Take out ``rows`` (n,) int64.

        Raises:
            InputError: a row that is not there; then none is taken out.
            CannotRemoveError: this kind of index cannot.
        """

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each vector (n, d), among ``allowed`` (sorted int64 rows) or all.

        Returns:
            rows (n, k) int64, nearest first, ties by row, -1 in empty slots; similarities (n, k) float32, -inf there.

        Raises:
            InputError: vectors or k that do not fit.
        """

    def __len__(self) -> int: ...

    def save(self, path: Path) -> None:
        """Write the index to one file, whole or not at all.

        Raises:
            CatalogueError: the disk is full, or the folder cannot be written.
        """

    def describe(self) -> dict[str, object]:
        """Say what this is: kind, factory, vectors, dim, device, memory_bytes, and more by kind."""


@dataclass(frozen=True)
class IndexKind:
    """How to come by an index of one kind.

    Attributes:
        build: (dimension, specification, device) → an empty index.
        load: (file that ``save`` wrote, device) → the index; raises DamagedError, naming the file.
        stored: whether building it costs enough to keep it in a file.
    """

    build: Callable[[int, str, str], VectorIndex]
    load: Callable[[Path, str], VectorIndex]
    stored: bool


@dataclass(frozen=True)
class _Held:
    """One state of an exact index, never changed, so that a search that has it needs no lock."""

    rows: np.ndarray  # (n,) int64
    vectors: np.ndarray  # (n, d) float16 or float32
    scales: np.ndarray | None  # (n,) float32 for float16 vectors
    alive: np.ndarray | None  # (n,) bool, False where removed; None: all are there
    drift: float = 0.0  # no scale is further from 1

    def present(self) -> np.ndarray:
        return self.rows if self.alive is None else self.rows[self.alive]


class ExactIndex:
    """Every vector compared, over ``retrieval.neighbours``; may be searched while it changes.

    Vectors stay as they come: float16 with the factor that brings them to length 1, float32 as they are when their
    length is 1 to within 4e-7 (else brought to it). When float32 vectors join float16 ones, all become float32, with
    the same similarities to the last bit. A search sees the index as it was when it began.
    """

    def __init__(self, dim: int, *, device: str = "cpu") -> None:
        self.dim, self.device = dim, device
        self._lock = threading.Lock()
        empty = np.zeros(0, np.float32)
        self._held = _Held(np.zeros(0, np.int64), np.zeros((0, dim), np.float16), empty, None)
        self._room = (self._held.rows, self._held.vectors, empty)  # arrays with places to spare
        self._highest = -1

    def add(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Take in vectors; see ``VectorIndex.add``."""
        with self._lock:
            held = self._held
            check_new_rows(rows, held.present, highest=self._highest)
            check_vectors(vectors, self.dim)
            if len(rows) != len(vectors):
                raise InputError(f"there are {len(rows)} rows and {len(vectors)} vectors")
            if len(rows) == 0:
                return
            if len(held.rows) == 0:
                held = self._fresh(vectors.dtype)
            if vectors.dtype == np.float32 or held.scales is None:
                if held.scales is not None:
                    held = self._widened(held)
                vectors, scales = unit_vectors(vectors, self.dim), None
            else:
                scales = inverse_lengths(vectors)
            self._held = self._appended(held, rows, vectors, scales)
            self._highest = max(self._highest, int(rows.max()))

    def remove(self, rows: np.ndarray) -> None:
        """Take out rows; see ``VectorIndex.remove``. Their places are freed once they are a quarter of all."""
        with self._lock:
            held = self._held
            check_known_rows(rows, held.present())
            alive = np.ones(len(held.rows), dtype=bool) if held.alive is None else held.alive.copy()
            alive &= ~np.isin(held.rows, rows)
            if 4 * np.count_nonzero(alive) <= 3 * len(alive):
                scales = None if held.scales is None else held.scales[alive]
                self._publish_compact(held.rows[alive], held.vectors[alive], scales)
            else:
                self._held = replace(held, alive=None if alive.all() else alive)

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest; see ``VectorIndex.search``."""
        held = self._held
        mask = held.alive
        if allowed is not None:
            wanted = np.isin(held.rows, allowed)
            mask = wanted if mask is None else wanted & mask
        # Brought to length 1 by the scales, so before that no longer than the inverse of the smallest.
        longest = 1.0 / (1.0 - held.drift) + ROUNDING if held.drift < 0.5 else None
        gallery = Gallery(held.vectors, held.rows, held.scales, longest, held.drift)
        return top_k(unit_vectors(vectors, self.dim), gallery, k, allowed=mask, device=self.device)

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the vectors of ``rows`` (n,) int64 as they came, (n, d), and which are there, (n,) bool."""
        held = self._held
        if not len(held.rows):
            return np.zeros((len(rows), self.dim), held.vectors.dtype), np.zeros(len(rows), dtype=bool)
        order = None if (np.diff(held.rows) > 0).all() else np.argsort(held.rows)
        at = np.minimum(np.searchsorted(held.rows, rows, sorter=order), len(held.rows) - 1)
        at = at if order is None else order[at]
        return held.vectors[at], (held.rows[at] == rows) & (True if held.alive is None else held.alive[at])

    def __len__(self) -> int:
        return len(self._held.present())

    def save(self, path: Path) -> None:
        """Write the index to one file; see ``VectorIndex.save``."""
        held = self._held
        alive = slice(None) if held.alive is None else held.alive
        scales = np.zeros(0, np.float32) if held.scales is None else held.scales[alive]
        with atomic_write(path) as file:
            file.write(HEADER)
            for array in (held.rows[alive], scales, held.vectors[alive]):
                np.save(file, array, allow_pickle=False)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> ExactIndex:
        """Read what ``save`` wrote; it answers the same to the last bit.

        The file's SHA-256 is for the caller to check; here only its form is.

        Raises:
            DamagedError: missing, cut or of another form.
        """
        try:
            with path.open("rb") as file:
                if file.read(len(HEADER)) != HEADER:
                    raise DamagedError(f"{path} is no exact index of this version of lookalike")
                rows, scales, vectors = (np.load(file, allow_pickle=False) for _ in range(3))
                rest = file.read(1)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise DamagedError(f"{path} is damaged ({error}); build the index again") from error
        half = vectors.dtype == np.float16
        fits = (
            (rows.dtype, scales.dtype, rows.ndim, vectors.ndim) == (np.int64, np.float32, 1, 2)
            and (half or vectors.dtype == np.float32)
            and len(rows) == len(vectors)
            and scales.shape == ((len(rows),) if half else (0,))
            and bool((np.isfinite(scales) & (scales > 0)).all())
            and len(np.unique(rows)) == len(rows)
            and not (len(rows) and rows.min() < 0)
            and not rest
        )
        if not fits:
            raise DamagedError(f"{path} is damaged; build the index again")
        index = cls(vectors.shape[1], device=device)
        index._publish_compact(rows, vectors, scales if half else None)
        index._highest = int(rows.max(initial=-1))
        return index

    def describe(self) -> dict[str, object]:
        """Say what this is; ``memory_bytes`` includes places to spare."""
        return {
            "kind": "exact",
            "factory": "exact",
            "vectors": len(self),
            "dim": self.dim,
            "device": self.device,
            "dtype": self._held.vectors.dtype.name,
            "memory_bytes": sum(array.nbytes for array in self._room),
        }

    def _fresh(self, dtype: np.dtype) -> _Held:
        scales = np.zeros(0, np.float32) if dtype == np.float16 else None
        self._publish_compact(np.zeros(0, np.int64), np.zeros((0, self.dim), dtype), scales)
        return self._held

    def _widened(self, held: _Held) -> _Held:
        vectors = as_float32(held.vectors, held.scales, np.empty(held.vectors.shape, np.float32))
        self._room = (held.rows, vectors, np.zeros(0, np.float32))
        return _Held(held.rows, vectors, None, held.alive)

    def _publish_compact(self, rows: np.ndarray, vectors: np.ndarray, scales: np.ndarray | None) -> None:
        self._room = (rows, vectors, np.zeros(0, np.float32) if scales is None else scales)
        self._held = _Held(rows, vectors, scales, None, _drift(scales))

    def _appended(self, held: _Held, rows: np.ndarray, vectors: np.ndarray, scales: np.ndarray | None) -> _Held:
        old, total = len(held.rows), len(held.rows) + len(rows)
        kept, joining = (held.rows, held.vectors, held.scales), (rows, vectors, scales)
        if total > len(self._room[0]) or total > len(self._room[1]):
            room = total if old == 0 else max(total, old + old // 2)  # so that n additions copy O(n) in all
            self._room = tuple(  # type: ignore[assignment]
                np.empty((0 if have is None else room, *new.shape[1:]), new.dtype)
                for have, new in zip(kept, self._room, strict=True)
            )
            for have, into in zip(kept, self._room, strict=True):
                if have is not None:
                    into[:old] = have
        # Places beyond ``old`` belong to no state that a search could hold.
        for new, into in zip(joining, self._room, strict=True):
            if new is not None:
                into[old:total] = new
        alive = None if held.alive is None else np.concatenate([held.alive, np.ones(len(rows), dtype=bool)])
        room_rows, room_vectors, room_scales = (array[:total] for array in self._room)
        drift = max(held.drift, _drift(scales))
        return _Held(room_rows, room_vectors, None if scales is None else room_scales, alive, drift)


def _drift(scales: np.ndarray | None) -> float:
    return 0.0 if scales is None else float(np.abs(scales - 1.0).max(initial=0.0))


def index_kind(spec: str) -> str:
    """Name the kind of a specification: "exact" → "exact", a FAISS factory string → "faiss"."""
    return "exact" if spec == "exact" else "faiss"


def check_spec(spec: str) -> None:
    """Look at a specification before anything is built on it.

    Raises:
        InputError: neither "exact" nor a FAISS factory string.
        MissingExtraError: a FAISS factory string, and FAISS is not installed.
    """
    if index_kind(spec) == "faiss":
        from indexer.faiss_index import check_factory

        check_factory(spec)


def _build_exact(dim: int, spec: str, device: str) -> VectorIndex:
    return ExactIndex(dim, device=device)


def _load_exact(path: Path, device: str) -> VectorIndex:
    return ExactIndex.load(path, device=device)


def _build_faiss(dim: int, spec: str, device: str) -> VectorIndex:
    from indexer.faiss_index import FaissIndex

    return FaissIndex(dim, spec, device=device)


def _load_faiss(path: Path, device: str) -> VectorIndex:
    from indexer.faiss_index import FaissIndex

    return FaissIndex.load(path, device=device)


INDEX_KINDS: dict[str, IndexKind] = {
    "exact": IndexKind(_build_exact, _load_exact, stored=False),
    "faiss": IndexKind(_build_faiss, _load_faiss, stored=True),
}
