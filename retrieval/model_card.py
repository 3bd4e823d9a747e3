"""What an embedder is, in the words a number must carry; read without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrieval.errors import DamagedError


def model_card(folder: Path, digest: str) -> dict[str, Any]:
    """Describe the embedder in a folder.

    Args:
        folder: holds ``model.json``.
        digest: of the embedder.

    Returns:
        ``digest``, ``backbone``, ``tag`` (timm's, which names the pre-training data), ``weights``, ``pooling``,
        ``dim``, ``image_size`` (pixels of the network's input); None where the embedder does not say.

    Raises:
        DamagedError: ``model.json`` is missing or damaged.
    """
    try:
        return card_of(json.loads((folder / "model.json").read_bytes()), digest)
    except (OSError, ValueError, AttributeError) as error:
        raise DamagedError(f"the embedder in {folder} is missing or damaged: {error}") from error


def card_of(description: dict[str, Any], digest: str) -> dict[str, Any]:
    """Describe an embedder by what its ``model.json`` holds, as ``model_card`` does."""
    architecture = description.get("architecture", {})
    preprocessing = description.get("preprocessing", {})
    provenance = description.get("provenance", {})
    return {
        "digest": digest,
        "backbone": architecture.get("backbone"),
        "tag": provenance.get("tag"),
        "weights": provenance.get("weights"),
        "pooling": architecture.get("pooling"),
        "dim": architecture.get("dim"),
        "image_size": preprocessing.get("height"),
    }
