"""What an embedder is, in the words a number must carry; read without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from retrieval.errors import DamagedError

TRAINING: Final = "training"
"""What ``provenance`` of ``model.json`` holds where weights were trained here: how; it is not there otherwise."""


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
        return card_of(read_description(folder), digest)
    except AttributeError as error:
        raise DamagedError(f"the embedder in {folder} is damaged: {error}") from error


def read_description(folder: Path) -> dict[str, Any]:
    """Read what ``model.json`` of an embedder holds.

    Raises:
        DamagedError: it is missing or damaged.
    """
    try:
        description = json.loads((folder / "model.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"the embedder in {folder} is missing or damaged: {error}") from error
    if not isinstance(description, dict):
        raise DamagedError(f"the embedder in {folder} is damaged: model.json holds no object")
    return description


def is_trained(description: dict[str, Any]) -> bool:
    """Whether what ``model.json`` holds is that of an embedder that was trained here."""
    return bool(description.get("provenance", {}).get(TRAINING))


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
