"""Tiny networks with random weights: to be trained, and trained a little as far as can be told from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch

from retrieval.attention import ATTENTIONS
from retrieval.composition import compose
from retrieval.embedder import Embedder
from retrieval.network import Network
from retrieval.pooling import POOLINGS
from retrieval.recipe import Recipe

SIZE = 64  # pixels a side; four patches, or two places, a side
MAPS, LAST, TOKENS = "test_efficientnet", "test_mambaout", "test_vit"  # channels first, channels last, class token
CLASSES = ("Apple", "Banana", "Cherry")


def weights_of(name: str, folder: Path, seed: int = 0) -> Path:
    path = folder / f"{name}-{seed}.safetensors"
    if not path.exists():
        torch.manual_seed(seed)
        safetensors.torch.save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    return path


def composed(
    name: str, folder: Path, *, classes: Sequence[str] = CLASSES, **choices: Any
) -> tuple[Network, dict[str, Any]]:
    """Compose a network of a tiny backbone, and say where its weights came from."""
    recipe = Recipe(**{"backbone": name, "image_size": SIZE, "train_size": SIZE, "dim": 24, **choices})
    network, _, provenance = compose(recipe, classes=classes, weights=weights_of(name, folder))
    return network, provenance


def shaken(network: Network, seed: int = 0) -> Network:
    """Move all that is new a little, as steps of training do: some of it begins at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.new_parameters().values():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return network


def trained(network: Network, provenance: dict[str, Any]) -> Embedder:
    """Make an embedder of it."""
    return Embedder.from_network(network, provenance={**provenance, "training": {"loss": "ce"}}, device="cpu")


def images_of(count: int = 4, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, as photos are: (count, 3, size, size) in [0, 1]."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def pixels_of(count: int = 4, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """The same as 8-bit pixels: (count, size, size, 3)."""
    levels = (images_of(count, size, seed) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())


def pairs(name: str) -> list[tuple[str, str]]:
    """Attentions and poolings that go together on a backbone."""
    found = []
    for attention in ATTENTIONS:
        for pooling in POOLINGS:
            wanted = {"parts": pooling == "average", "rollout": name == TOKENS}.get(attention, True)
            if wanted and (name, attention, pooling) != (TOKENS, "cbam", "native"):
                found.append((attention, pooling))
    return found


ALL = [(name, *pair) for name in (MAPS, LAST, TOKENS) for pair in pairs(name)]
EACH = [(name, attention, pooling) for name, attention, pooling in ALL if attention == "none" or pooling == "average"]
"""Each attention and each pooling on each kind of backbone, once."""
