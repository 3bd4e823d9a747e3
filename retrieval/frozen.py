"""The same backbone with nothing trained, to stand beside a trained embedder."""

from __future__ import annotations

from typing import Any

from retrieval.embedder import Embedder
from retrieval.errors import EmbedderError

TRAINED = "training"
"""What ``provenance`` of ``model.json`` holds where weights were trained here: how; it is not there otherwise."""


def is_trained(description: dict[str, Any]) -> bool:
    """Whether what ``model.json`` holds is that of an embedder that was trained here."""
    return bool(description.get("provenance", {}).get(TRAINED))


def frozen_like(embedder: Embedder) -> Embedder:
    """Compose what a trained embedder began as: its backbone with the pretrained weights, at its image size.

    Args:
        embedder: trained.

    Raises:
        EmbedderError: the pretrained weights cannot be had: no network, or they came from a file of the user's.
    """
    architecture, provenance = embedder.description["architecture"], embedder.description["provenance"]
    came_from = str(provenance.get("weights", ""))
    if came_from.startswith("file "):
        raise EmbedderError(f"its weights came from the {came_from}, which an embedder does not keep")
    return Embedder.create(
        architecture["backbone"], device=embedder.device, preprocessing=embedder.description["preprocessing"]
    )
