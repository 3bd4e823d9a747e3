"""A map of an embedding: vectors → points in the plane."""

from __future__ import annotations

from typing import Final

import numpy as np

FEWEST: Final = 5
PERPLEXITY: Final = 30.0


def spread_over_classes(labels: np.ndarray, most: int, *, seed: int = 0) -> np.ndarray:
    """Draw a sample in which small classes have as many members as large ones, as far as they have them.

    Args:
        labels: (n,) integers.
        most: how many to draw.
        seed: of the drawing.

    Returns:
        Places, ascending, at most ``most``.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.searchsorted(labels[order], labels[order])  # where each one's class begins
    turn = np.arange(len(order)) - first
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


def embedding_map(vectors: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Lay vectors out in the plane by t-SNE (van der Maaten and Hinton, JMLR 2008), started from their main axes.

    Neighbourhoods mean something in it; distances between far groups, and their sizes, do not.

    Args:
        vectors: (n, d), L2-normalised.
        seed: of what is random in it.

    Returns:
        (n, 2) float64 in [0, 1]; (0, 2) of fewer than five vectors.
    """
    if len(vectors) < FEWEST:
        return np.empty((0, 2))
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    wide = vectors.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    start = np.zeros((len(vectors), 2))
    start[:, : min(2, len(axes))] = centred @ axes[:2].T
    # Squared distance of unit vectors is 2 - 2 cosine, so this is a map by cosine. 50 axes, as t-SNE's authors advise.
    reduced = centred @ axes[:50].T
    spread = start[:, 0].std()
    layout = TSNE(
        init=1e-4 * start / spread if spread > 0 else "random",
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        random_state=seed,
    ).fit_transform(reduced)
    low, high = layout.min(axis=0), layout.max(axis=0)
    return np.asarray((layout - low) / np.maximum(high - low, 1e-12), np.float64)
