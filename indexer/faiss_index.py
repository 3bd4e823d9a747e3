"""FAISS indexes by factory string, on CPU or GPU (M. Douze et al., The Faiss library, arXiv:2401.08281).

The only door to faiss, which loads when the first index is made. Vectors are brought to length 1 and compared by
inner product, the cosine. Approximate kinds give FAISS's own similarities, unchanged, and may miss neighbours.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from indexer.files import atomic_write
from indexer.index_input import check_known_rows, check_new_rows, check_vectors, inverse_lengths, unit_vectors
from retrieval.errors import CannotRemoveError, DamagedError, InputError, MissingExtraError

HEADER: Final = b"lookalike faiss index 1\n"
TRAINING_PER_LIST: Final = 256  # vectors: more change a centroid little
TRAINING_LEAST: Final = 65_536  # vectors for the codes of a product quantiser
MOST_LISTS: Final = 1 << 22  # more take gigabytes before the first vector
ADDED_AT_ONCE: Final = 65_536  # vectors widened to float32 together
REFINED: Final = 4.0  # times k candidates that a refining index looks at again
HNSW_BREADTH: Final = 64  # candidates that HNSW keeps in view
BITMAP_ROWS: Final = 1 << 31  # highest row that a bitmap of allowed rows is made for: 256 MiB
GPU_MOST_K: Final = 2048


class FaissIndex:
    """A FAISS index of any factory string, such as "Flat", "IVF4096,Flat", "HNSW32", "IVF1024,PQ16x4fs,RFlat".

    Trained, where the kind needs it, on a sample of what is first added. HNSW, NSG, refining and fast-scan kinds
    cannot remove. Not to be searched while it changes. With equal similarities at the k-th place FAISS chooses, not
    the row.

    Attributes:
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:N"; on CUDA the index is kept on both sides, and searches go to the CPU when
            they name allowed rows or want more than 2,048 hits.
    """

    def __init__(self, dim: int, spec: str, *, device: str = "auto") -> None:
        faiss = _faiss()
        check_factory(spec)
        try:
            # We number rows ourselves: an IDMap does not hand filters down to what it wraps twice.
            made = faiss.index_factory(dim, re.sub(r"^IDMap2?,", "", spec), faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise InputError(f"FAISS cannot make {spec!r} for vectors of dimension {dim}: {_reason(error)}") from error
        self._adopt(made, spec, device)
        self._rows = np.zeros(0, np.int64)
        ivf = self._ivf()
        if ivf is not None:
            ivf.nprobe = max(1, round(ivf.nlist**0.5))
        for part in self._layers():
            if isinstance(part, faiss.IndexHNSW):
                part.hnsw.efSearch = HNSW_BREADTH
            if isinstance(part, faiss.IndexRefine):
                part.k_factor = REFINED

    def _adopt(self, index: Any, spec: str, device: str) -> None:
        faiss = _faiss()
        self._index, self._spec = index, spec
        self.dim = int(index.d)
        self.device = _gpu(device, spec, index)
        self._on_gpu: Any = None
        self._turn = threading.Lock()  # a GPU's scratch memory is one search's at a time
        # IVF keeps our rows; the others number vectors from 0, closing gaps, and self._rows says whose they are.
        self._native = isinstance(self._layers()[-1], faiss.IndexIVF) and not self._refines()

    @property
    def nprobe(self) -> int | None:
        """How many of its lists an IVF index looks into, at first the root of their number; None for other kinds."""
        ivf = self._ivf()
        return None if ivf is None else int(ivf.nprobe)

    @nprobe.setter
    def nprobe(self, value: int) -> None:
        ivf = self._ivf()
        if ivf is None or not 1 <= value <= ivf.nlist:
            most = "no lists" if ivf is None else f"{ivf.nlist} lists"
            raise InputError(f"nprobe cannot be {value}: {self._spec} has {most}")
        ivf.nprobe = value
        self._on_gpu = None

    def add(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Take in vectors; see ``VectorIndex.add``.

        Raises:
            InputError: as there, and when the first vectors are too few to train on.
        """
        check_new_rows(rows, lambda: self._rows, highest=int(self._rows.max(initial=-1)))
        check_vectors(vectors, self.dim)
        if len(rows) != len(vectors):
            raise InputError(f"there are {len(rows)} rows and {len(vectors)} vectors")
        if len(rows) == 0:
            return
        rows = rows.astype(np.int64)
        inverse_lengths(vectors)  # refuses what has no length before anything is changed
        if not self._index.is_trained:
            self._train(vectors)
        self._on_gpu = None
        for start in range(0, len(rows), ADDED_AT_ONCE):
            some = slice(start, start + ADDED_AT_ONCE)
            units = np.ascontiguousarray(unit_vectors(vectors[some], self.dim))
            try:
                if self._native:
                    self._index.add_with_ids(units, rows[some])
                else:
                    self._index.add(units)
            except RuntimeError as error:
                raise InputError(f"FAISS cannot add to {self._spec!r}: {_reason(error)}") from error
            self._rows = np.concatenate([self._rows, rows[some]])

    def _train(self, vectors: np.ndarray) -> None:
        ivf = self._ivf()
        most = max(TRAINING_LEAST, 0 if ivf is None else TRAINING_PER_LIST * ivf.nlist)
        if len(vectors) > most:
            # Any sample would do; a fixed one gives the same index again.
            vectors = vectors[np.sort(np.random.default_rng(0).choice(len(vectors), most, replace=False))]
        try:
            self._index.train(np.ascontiguousarray(unit_vectors(vectors, self.dim)))
        except RuntimeError as error:
            fewer = f"IVF{max(1, len(vectors) // 39)},Flat" if ivf is not None else "Flat"
            raise InputError(
                f"{len(vectors)} vectors are too few to train the index {self._spec!r} ({_reason(error)}); "
                f"add more at once, or choose {fewer} or exact"
            ) from error

    def remove(self, rows: np.ndarray) -> None:
        """Take out rows; see ``VectorIndex.remove``."""
        faiss = _faiss()
        check_known_rows(rows, self._rows)
        if len(rows) == 0:
            return
        cannot = CannotRemoveError(f"the index {self._spec!r} cannot remove rows; build it again")
        if isinstance(self._layers()[-1], (faiss.IndexFastScan, faiss.IndexIVFFastScan)):
            # FAISS 1.15 leaves old bits in the places it frees and mixes them into the codes that are added later.
            raise cannot
        gone = np.isin(self._rows, rows)
        labels = np.unique(rows).astype(np.int64) if self._native else np.flatnonzero(gone)
        try:
            self._index.remove_ids(faiss.IDSelectorBatch(labels))
        except RuntimeError as error:
            raise cannot from error
        self._rows = self._rows[~gone]
        self._on_gpu = None

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest; see ``VectorIndex.search``. Approximate kinds may leave slots empty.

        Raises:
            InputError: as there, and for a kind that cannot search among chosen rows.
        """
        queries = np.ascontiguousarray(unit_vectors(vectors, self.dim))
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}")
        rows = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        wanted = min(k, len(self._rows) if allowed is None else len(allowed))
        if len(queries) == 0 or wanted == 0 or len(self._rows) == 0:
            return rows, similarities
        if allowed is not None:
            values, labels = self._search_among(queries, wanted, allowed)
        elif self.device != "cpu" and wanted <= GPU_MOST_K:
            values, labels = self._search_gpu(queries, wanted)
        else:
            values, labels = self._index.search(queries, wanted)
        there = labels >= 0
        found = labels if self._native else np.where(there, self._rows[labels], -1)
        values = np.where(there, values, -np.inf)
        # FAISS orders by similarity alone.
        order = np.lexsort((np.where(there, found, np.iinfo(np.int64).max), -values))
        rows[:, :wanted] = np.take_along_axis(found, order, axis=1)
        similarities[:, :wanted] = np.take_along_axis(values, order, axis=1)
        return rows, similarities

    def _search_among(self, queries: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faiss = _faiss()
        labels = allowed if self._native else np.flatnonzero(np.isin(self._rows, allowed))
        labels = labels[labels >= 0].astype(np.int64)
        if len(labels) and labels.max() < BITMAP_ROWS:
            bits = np.zeros(int(labels.max()) + 1, dtype=bool)
            bits[labels] = True
            selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        else:
            selector = faiss.IDSelectorBatch(labels)
        try:
            found: tuple[np.ndarray, np.ndarray] = self._index.search(
                queries, k, params=_parameters(self._index, selector)
            )
        except RuntimeError as error:
            raise InputError(
                f"the index {self._spec!r} cannot search among chosen rows ({_reason(error)}); "
                "use exact, Flat, an IVF or an HNSW index"
            ) from error
        return found

    def _search_gpu(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        faiss = _faiss()
        with self._turn:
            if self._on_gpu is None:
                number = int(self.device.partition(":")[2] or 0)
                resources = faiss.StandardGpuResources()
                self._on_gpu = (resources, faiss.index_cpu_to_gpu(resources, number, self._index))
            found: tuple[np.ndarray, np.ndarray] = self._on_gpu[1].search(queries, k)
        return found

    def __len__(self) -> int:
        return len(self._rows)

    def save(self, path: Path) -> None:
        """Write the index to one file; see ``VectorIndex.save``."""
        faiss = _faiss()
        with atomic_write(path) as file:
            file.write(HEADER + json.dumps({"factory": self._spec, "dim": self.dim}).encode() + b"\n")
            np.save(file, self._rows, allow_pickle=False)
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> FaissIndex:
        """Read what ``save`` wrote.

        FAISS trusts what it reads, so the caller checks the file's SHA-256 first; here only its form is.

        Raises:
            DamagedError: missing, cut or of another form.
        """
        faiss = _faiss()
        try:
            with path.open("rb") as file:
                if file.read(len(HEADER)) != HEADER:
                    raise DamagedError(f"{path} is no FAISS index of this version of lookalike")
                about = json.loads(file.readline(1 << 16))
                rows = np.load(file, allow_pickle=False)
                made = faiss.read_index(faiss.PyCallbackIOReader(file.read))
            spec = about["factory"]
            fits = (
                isinstance(spec, str)
                and (rows.ndim, rows.dtype) == (1, np.int64)
                and (made.d, made.ntotal, made.metric_type) == (about["dim"], len(rows), faiss.METRIC_INNER_PRODUCT)
            )
        except (RuntimeError, OSError, ValueError, EOFError, KeyError, TypeError, MemoryError) as error:
            raise DamagedError(f"{path} is damaged ({_reason(error)}); build the index again") from error
        if not fits:
            raise DamagedError(f"{path} is damaged; build the index again")
        index = cls.__new__(cls)
        index._adopt(made, spec, device)
        index._rows = rows
        return index

    def describe(self) -> dict[str, object]:
        """Say what this is; ``memory_bytes`` is what the index takes when saved."""
        faiss = _faiss()
        size = 0

        def count(data: bytes) -> int:
            nonlocal size
            size += len(data)
            return len(data)

        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count, 1 << 20))
        return {
            "kind": "faiss",
            "factory": self._spec,
            "vectors": len(self),
            "dim": self.dim,
            "device": self.device,
            "nprobe": self.nprobe,
            "memory_bytes": size + self._rows.nbytes,
        }

    def _layers(self) -> list[Any]:
        """The index and what it wraps, outermost first."""
        layers = [self._index]
        while (inner := _inner(layers[-1])) is not None:
            layers.append(inner)
        return layers

    def _ivf(self) -> Any:
        last = self._layers()[-1]
        return last if isinstance(last, _faiss().IndexIVF) else None

    def _refines(self) -> bool:
        return any(isinstance(layer, _faiss().IndexRefine) for layer in self._layers())


def check_factory(spec: str) -> None:
    """Look at a factory string before anything is built on it.

    Raises:
        InputError: FAISS does not understand it, or it asks for more lists than memory has room for.
        MissingExtraError: FAISS is not installed.
    """
    faiss = _faiss()
    if any(int(lists) > MOST_LISTS for lists in re.findall(r"IVF(\d+)", spec)) or re.search(r"IVF0+(\D|$)", spec):
        raise InputError(f"{spec!r} is no usable index: IVF takes 1 to {MOST_LISTS} lists")
    try:
        # The dimension is not known yet; this one has many divisors, and what does not divide it may be right.
        faiss.index_factory(3840, spec, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        if "parse" in str(error) or "metric" in str(error) or not spec:
            raise InputError(
                f"{spec!r} is no index: give exact, or a FAISS factory string such as Flat, IVF1024,Flat or HNSW32"
            ) from error


@functools.cache
def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "faiss", "an approximate index") from error
    return faiss


def _inner(index: Any) -> Any:
    faiss = _faiss()
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.downcast_index(index.index)
    if isinstance(index, faiss.IndexRefine):
        return faiss.downcast_index(index.base_index)
    return None


def _parameters(index: Any, selector: Any) -> Any:
    """The parameters that carry a selector down to the innermost index, with the settings that stand in the layers."""
    faiss = _faiss()
    inner = _inner(index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(inner, selector))
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(
            base_index_params=_parameters(inner, selector), k_factor=index.k_factor
        )
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    return faiss.SearchParameters(sel=selector)


def _gpu(device: str, spec: str, index: Any) -> str:
    """Resolve a device to "cpu" or a CUDA one that FAISS can put this index on."""
    faiss = _faiss()
    if device == "cpu":
        return device
    if device != "auto" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N")
    gpus = faiss.get_num_gpus()
    movable = isinstance(index, (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer))
    if device == "auto":
        return "cuda" if gpus and movable else "cpu"
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingExtraError("faiss-gpu-cu12", "gpu", "a FAISS index on CUDA")
    if int(device.partition(":")[2] or 0) >= gpus:
        raise InputError(f"there is no device {device!r}: FAISS sees {gpus} CUDA devices; choose --device cpu")
    if not movable:
        raise InputError(
            f"FAISS runs {spec!r} on the CPU only; choose --device cpu, or Flat, IVFn,Flat, IVFn,PQm, IVFn,SQ8"
        )
    return device


def _reason(error: BaseException) -> str:
    # FAISS: "Error in <function> at <file>:<line>: Error: 'condition' failed: what is wrong"
    return (
        str(error).strip().splitlines()[-1].rpartition("Error: ")[2].rpartition("failed: ")[2]
        if str(error)
        else "unreadable"
    )
