"""What runs in the processes of the benchmark of metrics: our metrics, pytorch-metric-learning's, a plain product."""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.evaluation import measures
from retrieval.metrics import average_precision, reciprocal_rank
from retrieval.ranks import NEVER, Ranks, relevant_ranks
from retrieval.scan import true_float32

SIDE: Final = 4096  # of the matrices whose product is the machine's rate
DEVICE_SIDE: Final = 16384
SEED: Final = 0
AT_ONCE: Final = 1 << 14  # vectors drawn together, so that drawing them takes no memory to speak of
SMALLEST, LARGEST = 2, 12  # images of a class of SOP
FALL: Final = 0.84  # so many times as many classes have one image more: 5.35 images a class, as in SOP
WHOLE: Final = "the whole gallery"

PEER_NAMES: Final = {
    "precision_at_1": "Recall@1",
    "r_precision": "R-Precision",
    "mean_average_precision_at_r": "MAP@R",
    "mean_average_precision": "mAP",
    "mean_reciprocal_rank": "MRR",
}
"""What pytorch-metric-learning calls ours."""


@dataclass(frozen=True)
class Shape:
    """What is measured: random unit vectors with labels, always the same.

    Attributes:
        rows: vectors of the gallery.
        dim: their dimension.
        classes: of the gallery.
        queries: vectors beside the gallery; None: each of the gallery is asked for the others of its class.
        signal: length of what vectors of a class have in common, beside noise of length 1; 0: nothing.
    """

    rows: int
    dim: int
    classes: int
    queries: int | None
    signal: float = 0.0

    @property
    def operations(self) -> int:
        """Additions and multiplications of the product of all queries with the gallery."""
        return 2 * (self.rows if self.queries is None else self.queries) * self.rows * self.dim

    def draw(self) -> Inputs:
        """Make the vectors and labels."""
        rng = np.random.default_rng(SEED)
        if self.queries is None:
            labels = np.repeat(np.arange(self.classes), _sizes(rng, self.rows, self.classes))
            centres = self._centres(rng)
            gallery = _units(rng, labels, self.dim, centres)
            ids = np.arange(self.rows)
            return Inputs(gallery, labels, ids, gallery, labels, ids)
        gallery_labels = rng.integers(self.classes, size=self.rows)
        query_labels = gallery_labels[rng.integers(self.rows, size=self.queries)]  # so that each has an image
        centres = self._centres(rng)
        return Inputs(
            _units(rng, query_labels, self.dim, centres),
            query_labels,
            np.arange(self.rows, self.rows + self.queries),
            _units(rng, gallery_labels, self.dim, centres),
            gallery_labels,
            np.arange(self.rows),
        )

    def _centres(self, rng: np.random.Generator) -> np.ndarray | None:
        if not self.signal:
            return None
        return _units(rng, np.arange(self.classes), self.dim, None) * np.float32(self.signal)


@dataclass(frozen=True)
class Inputs:
    """Vectors (n, dim) and (m, dim) float32, labels and ids (n,) and (m,) int64."""

    queries: np.ndarray
    query_labels: np.ndarray
    query_ids: np.ndarray
    gallery: np.ndarray
    gallery_labels: np.ndarray
    gallery_ids: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        seconds: by what was done.
        values: of the metrics, by our name for them.
        above: bytes of memory that it took at most beside the inputs and the libraries.
        whole: bytes that its process had at most, with inputs and libraries.
        on_device: bytes that it took at most on the GPU, 0 without one.
    """

    seconds: Mapping[str, float]
    values: Mapping[str, float]
    above: int
    whole: int
    on_device: int = 0


@dataclass
class Product:
    """A plain float32 product of two square matrices."""

    device: str

    def draw(self) -> None:
        """Make them."""
        if self.device == "cpu":
            self._square = np.random.default_rng(SEED).standard_normal((SIDE, SIDE), dtype=np.float32)
            self._out = np.empty_like(self._square)
        else:
            import torch

            torch.manual_seed(SEED)
            self._matrix = torch.randn(DEVICE_SIDE, DEVICE_SIDE, device=self.device)

    def rate(self) -> float:
        """Give operations a second of one product."""
        if self.device == "cpu":
            began = time.perf_counter()
            np.matmul(self._square, self._square, out=self._out)
            return 2 * SIDE**3 / (time.perf_counter() - began)
        import torch

        with true_float32():
            torch.cuda.synchronize()
            began = time.perf_counter()
            torch.mm(self._matrix, self._matrix)
            torch.cuda.synchronize()
        return 2 * DEVICE_SIDE**3 / (time.perf_counter() - began)


@dataclass
class Ours:
    """All retrieval metrics from vectors."""

    shape: Shape
    ks: Sequence[int]
    device: str

    def draw(self) -> None:
        """Make the inputs, and load what is needed."""
        self._inputs = self.shape.draw()
        if self.device != "cpu":
            import torch

            torch.zeros(1, device=self.device) @ torch.zeros(1, device=self.device)

    def run(self) -> Outcome:
        """Measure once."""
        given = self._inputs
        before = _reset_peak()
        began = time.perf_counter()
        ranks = relevant_ranks(
            given.queries,
            given.gallery,
            given.query_labels,
            given.gallery_labels,
            query_ids=given.query_ids,
            gallery_ids=given.gallery_ids,
            device=self.device,
        )
        ranked = time.perf_counter()
        names, values = measures(ranks, self.ks)
        means = dict(zip(names, values.mean(axis=0).tolist(), strict=True))
        ended = time.perf_counter()
        peak = _peak()
        # As a calculator sees it that looks at no more than the largest class has.
        most = int(np.bincount(given.gallery_labels).max()) - (self.shape.queries is None)
        cut = Ranks(ranks.offsets, np.where(ranks.ranks > most, NEVER, ranks.ranks), ranks.places, ranks.candidates)
        means["mAP, cut"], means["MRR, cut"] = average_precision(cut).mean(), reciprocal_rank(cut).mean()
        seconds = {"all": ended - began, "ranks": ranked - began, "metrics": ended - ranked}
        return Outcome(seconds, means, peak - before, peak, self._device_peak())

    def _device_peak(self) -> int:
        if self.device == "cpu":
            return 0
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))


@dataclass
class Peer:
    """pytorch-metric-learning's calculator as it comes, with FAISS.

    Attributes:
        shape: of the inputs.
        depth: how many neighbours it looks at: "max_bin_count", which the metrics at R need, or ``WHOLE``.
        device: "cpu" or "cuda".
        limit: bytes of memory that its process may take.
    """

    shape: Shape
    depth: str
    device: str
    limit: int

    def draw(self) -> None:
        """Make the inputs, and load what is needed."""
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

        logging.getLogger("PML").setLevel(logging.ERROR)
        self._inputs = self.shape.draw()
        self._calculator = AccuracyCalculator(
            include=tuple(PEER_NAMES),
            k=None if self.depth == WHOLE else self.depth,
            device=torch.device(self.device),
        )
        resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def run(self) -> Outcome:
        """Measure once."""
        given = self._inputs
        before = _reset_peak()
        began = time.perf_counter()
        if self.shape.queries is None:
            found = self._calculator.get_accuracy(given.gallery, given.gallery_labels)
        else:
            found = self._calculator.get_accuracy(
                given.queries, given.query_labels, given.gallery, given.gallery_labels
            )
        seconds = time.perf_counter() - began
        peak = _peak()
        cut = {} if self.depth == WHOLE else {"mAP": "mAP, cut", "MRR": "MRR, cut"}
        values = {cut.get(name, name): float(found[theirs]) for theirs, name in PEER_NAMES.items()}
        return Outcome({"all": seconds}, values, peak - before, peak)


def _sizes(rng: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    """Sizes of classes like those of SOP: (classes,) int64 from ``SMALLEST`` to ``LARGEST``, ``rows`` in all."""
    assert SMALLEST * classes <= rows <= LARGEST * classes
    share = FALL ** np.arange(LARGEST - SMALLEST + 1)
    sizes = SMALLEST + rng.choice(len(share), size=classes, p=share / share.sum())
    while (lack := rows - int(sizes.sum())) != 0:
        room = np.flatnonzero(sizes < LARGEST if lack > 0 else sizes > SMALLEST)
        sizes[rng.choice(room, size=min(abs(lack), len(room)), replace=False)] += 1 if lack > 0 else -1
    return sizes


def _units(rng: np.random.Generator, labels: np.ndarray, dim: int, centres: np.ndarray | None) -> np.ndarray:
    """Unit vectors, (n, dim) float32, that have the centre (dim,) of their class in common."""
    vectors = np.empty((len(labels), dim), np.float32)
    for start in range(0, len(vectors), AT_ONCE):
        some = vectors[start : start + AT_ONCE]
        rng.standard_normal(out=some, dtype=np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
        if centres is not None:
            some += centres[labels[start : start + AT_ONCE]]
            some /= np.linalg.norm(some, axis=1, keepdims=True)
    return vectors


def _reset_peak() -> int:
    """Begin to watch how much memory this process takes; gives the bytes it has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most memory this process had since it was last asked to begin, bytes; where it cannot, since its start."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
