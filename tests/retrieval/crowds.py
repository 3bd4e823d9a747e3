"""Labelled vectors for the tests of labels: classes that lie in some directions, with noise, a long tail and copies."""

from __future__ import annotations

import numpy as np

from retrieval.evidence import LabelledGallery


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def crowd(seed: int, *, classes: int = 8, each: int = 12, dim: int = 16, noise: float = 0.3) -> LabelledGallery:
    """Draw a gallery: class c around its own direction, labels ``Kind/c``, the later classes with fewer images."""
    rng = np.random.default_rng(seed)
    middles = unit(np.random.default_rng(0).normal(size=(classes, dim)))
    sizes = [max(2, each - at) for at in range(classes)]
    codes = np.repeat(np.arange(classes), sizes)
    vectors = unit(middles[codes] + noise * rng.normal(size=(len(codes), dim)))
    return LabelledGallery(vectors, codes.astype(np.int64), [f"Kind{at % 2}/{at:02d}" for at in range(classes)])
