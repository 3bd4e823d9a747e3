"""A NumPy embedder that sees colours and where they are, so that storage is tested without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

GRID = 4


class ColourEmbedder:
    """Mean colour of a 4 x 4 grid: 48 numbers, L2-normalised; counts the pictures it has seen."""

    dim = GRID * GRID * 3
    image_size = 16
    runtime = "numpy"
    at_once = 2

    def __init__(self, name: str = "colour grid", provenance: dict[str, object] | None = None, **more: object) -> None:
        about: dict[str, object] = {"architecture": {"backbone": name, "dim": self.dim, **more}}
        if provenance is not None:
            about["provenance"] = provenance
        self._model = json.dumps(about, sort_keys=True).encode()
        self._weights = b"none"
        self.digest = hashlib.sha256(self._model + self._weights).hexdigest()
        self.seen = 0

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return image

    def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
        assert len(sample) > 0
        assert expected >= len(sample)

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        self.seen += len(images)
        vectors = np.stack([_grid(image) for image in images]) if images else np.zeros((0, self.dim))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def save(self, folder: Path, *, write: Callable[[Path, bytes], object]) -> None:
        write(folder / "weights.safetensors", self._weights)
        write(folder / "model.json", self._model)


class Blind(ColourEmbedder):
    """Everything is the same to it."""

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        return np.eye(self.dim, dtype=np.float32)[[0] * len(images)]


class HeadedEmbedder(ColourEmbedder):
    """A ``ColourEmbedder`` with a classifier head: cosine to the colours of classes, times 8.

    Args:
        colours: class → mean colour of its images, in [0, 255].
    """

    def __init__(self, colours: dict[str, tuple[int, int, int]]) -> None:
        self.classes = tuple(sorted(colours))
        super().__init__("colour grid with a head", classes=self.classes)
        plain = [np.full((GRID, GRID, 3), colours[name], np.float64) for name in self.classes]
        self._weights_of = ColourEmbedder().embed(plain)  # (classes, dim)

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        return (8 * vectors @ self._weights_of.T).astype(np.float32)


def _grid(image: np.ndarray) -> np.ndarray:
    rows = np.array_split(np.arange(image.shape[0]), GRID)
    columns = np.array_split(np.arange(image.shape[1]), GRID)
    means = [
        image[np.ix_(r, c)].reshape(-1, 3).mean(axis=0) if len(r) and len(c) else np.zeros(3)
        for r in rows
        for c in columns
    ]
    return np.concatenate(means) / 255.0 - 0.5 + 1e-3
