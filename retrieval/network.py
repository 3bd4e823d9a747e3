"""The whole network as one module: 8-bit pixels in, unit vectors out; what every runtime runs or converts."""

from __future__ import annotations

import copy
from typing import Any

import torch

from retrieval.backbones import Preprocessing
from retrieval.pooling import POOLINGS


class Network(torch.nn.Module):
    """Normalisation, backbone, pooling and L2 normalisation.

    Normalising inside lets a runtime fold it into its first layer, and a quarter of the bytes travels to it.

    Attributes:
        height: of the pixels it takes.
        width: likewise.
    """

    def __init__(self, backbone: torch.nn.Module, *, pooling: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone
        self.height, self.width = preprocessing.height, preprocessing.width
        self._pool: Any = POOLINGS[pooling]
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed (n, height, width, 3) uint8 pixels: (n, dim) float32, L2-normalised."""
        # Already channels-last in memory: the permutation moves nothing.
        images = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0  # (n, 3, height, width)
        images = ((images - self.mean) / self.std).to(next(self.backbone.parameters()).dtype)
        pooled = self._pool(self.backbone, self.backbone.forward_features(images))  # type: ignore[operator]
        return torch.nn.functional.normalize(pooled.to(torch.float32), dim=1)


def on_cpu(network: Network) -> Network:
    """Give the network itself where it stands on the CPU, else a copy there, for those who convert it."""
    return network if network.mean.device.type == "cpu" else copy.deepcopy(network).cpu()


def _per_channel(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
