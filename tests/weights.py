"""Weights of tiny backbones as files, which is how a backbone without published ones is given."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import timm
import torch


def random_weights(folder: Path, backbone: str) -> Path:
    """Weights as a file, which is how a backbone without published ones is given."""
    path = folder / f"{backbone}.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        safetensors.torch.save_file(timm.create_model(backbone, pretrained=False).state_dict(), path)
    return path
