"""What keeping and finding ask of an embedder; ``retrieval.embedder.Embedder`` is one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np


def digest_of(folder: Path) -> str:
    """Compute the digest of the embedder in a folder from its files; raises OSError where they cannot be read."""
    digest = hashlib.sha256()
    for name in ("model.json", "weights.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


class Embeds(Protocol):
    """What a catalogue asks of an embedder.

    Attributes:
        digest: names the embedder; equal digests give equal vectors.
        dim: length of a vector.
        image_size: shorter side, in pixels, that it resizes a picture to: decoding may stop at twice that.
    """

    digest: str
    dim: int
    image_size: int

    @property
    def runtime(self) -> str:
        """What computes the vectors; final once tuned."""
        ...

    @property
    def at_once(self) -> int:
        """Calls of ``embed`` side by side that still add speed; final once tuned."""
        ...

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Bring a (height, width, 3) uint8 picture to the size the network takes."""
        ...

    def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> object:
        """Choose how to compute, from some of the ``expected`` pictures, prepared; once, before a long run."""
        ...

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        """Embed (height, width, 3) uint8 pictures: (n, dim) float32, L2-normalised."""
        ...

    def save(self, folder: Path, *, write: Callable[[Path, bytes], object]) -> None:
        """Write its files to ``folder`` with ``write``."""
        ...
