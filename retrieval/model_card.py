"""What an embedder is, in the words a number must carry; read without loading torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from retrieval.errors import DamagedError

PRETRAINING: Final = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "openai": "OpenAI's WebImageText",
    "webli": "WebLI",
    "merged2b": "Merged-2B",
    "inat21": "iNaturalist 2021",
    "jft": "JFT",
    "dino": "ImageNet-1k without labels (DINO)",
}
"""What a part of a timm tag says of the pre-training data."""

TRAINING: Final = "training"
"""What ``provenance`` of ``model.json`` holds where weights were trained here: how; it is not there otherwise."""


def model_card(folder: Path, digest: str) -> dict[str, Any]:
    """Describe the embedder in a folder.

    Args:
        folder: holds ``model.json``.
        digest: of the embedder.

    Returns:
        ``digest``, ``backbone``, ``tag`` (timm's; None for weights from a file, which may be any), ``weights``,
        ``pretraining`` (data that the weights were trained on, as the tag says), ``pooling``, ``dim``, ``image_size``
        (pixels of the network's input), ``trained`` (whether weights were trained here); None where the embedder does
        not say. Only where there is such a thing: ``attention``, ``projected`` (True), ``head``, ``classes`` (how many
        the head tells apart).

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


def pretraining_of(tag: str | None) -> str | None:
    """Name the data that a timm tag says weights were trained on; None where it does not say."""
    words = set(re.split(r"[._]", tag or "")[1:])
    found = [name for mark, name in PRETRAINING.items() if mark in words]
    return ", ".join(found) or None


def is_trained(description: dict[str, Any]) -> bool:
    """Whether what ``model.json`` holds is that of an embedder that was trained here."""
    return bool(description.get("provenance", {}).get(TRAINING))


def trained_on(description: dict[str, Any]) -> str | None:
    """Say in words on what an embedder was trained here, as "2,640 images of photos"; None where it was not."""
    if not is_trained(description):
        return None
    training = description["provenance"][TRAINING]
    return f"{training.get('pictures', 0):,} images of {training.get('source', 'an unknown source')}"


def card_of(description: dict[str, Any], digest: str) -> dict[str, Any]:
    """Describe an embedder by what its ``model.json`` holds, as ``model_card`` does."""
    architecture = description.get("architecture", {})
    preprocessing = description.get("preprocessing", {})
    provenance = description.get("provenance", {})
    weights = provenance.get("weights")
    # timm names a tag for any model it builds; weights from a file need not be those.
    tag = None if str(weights).startswith("file ") else provenance.get("tag")
    card = {
        "digest": digest,
        "backbone": architecture.get("backbone"),
        "tag": tag,
        "weights": weights,
        "pretraining": pretraining_of(tag),
        "trained": is_trained(description),
        "pooling": architecture.get("pooling"),
        "dim": architecture.get("dim"),
        "image_size": preprocessing.get("height"),
    }
    card |= {name: architecture[name] for name in ("attention", "projected", "head") if name in architecture}
    if "classes" in architecture:
        card["classes"] = len(architecture["classes"])
    return card


def name_of(card: dict[str, Any]) -> str:
    """Name an embedder in a line: its timm tag, or its backbone and where its weights came from."""
    if card.get("tag"):
        return str(card["tag"])
    weights = card.get("weights")
    return f"{card.get('backbone')}" + (f" (weights from the {weights})" if weights else "")
