"""The same backbone with nothing trained, to stand beside a trained embedder."""

from __future__ import annotations

from typing import Any

from retrieval.embedder import Embedder
from retrieval.errors import EmbedderError
from retrieval.pooling import POOLINGS


def frozen_like(description: dict[str, Any], *, device: str = "auto", runtime: str = "auto") -> Embedder:
    """Compose what a trained embedder began as: its backbone with the pretrained weights, at its image size.

    The pooling is its own where that can do without training, else the backbone's: what was trained on top is gone.

    Args:
        description: what ``model.json`` of the trained one holds.
        device: where the network runs.
        runtime: what runs it.

    Raises:
        EmbedderError: the pretrained weights cannot be had: no network, or they came from a file of the user's.
    """
    came_from = str(description["provenance"].get("weights", ""))
    if came_from.startswith("file "):
        raise EmbedderError(f"its weights came from the {came_from}, which an embedder does not keep")
    pooling = description["architecture"].get("pooling")
    row = POOLINGS.get(pooling)
    return Embedder.create(
        description["architecture"]["backbone"],
        pooling=pooling if row and not row.trained else "native",
        preprocessing=description["preprocessing"],
        device=device,
        runtime=runtime,
    )
