"""From a backbone's features to one vector an image.

``POOLINGS`` has a row for each way; a pooling is a module called as ``pooling(backbone, features) -> (n, dim)``.
``features`` is what an attention of ``retrieval.attention`` gives: a map ``(n, channels, height, width)`` or
``(n, height, width, channels)``, or tokens ``(n, tokens, channels)`` with the class token and registers first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

GEM_POWER: Final = 3.0
REDUCED: Final = 64
"""Channels that second-order poolings reduce features to: 4,096 products, or 2,080 of a symmetric matrix."""
ITERATIONS: Final = 5
"""Newton–Schulz steps to the square root, as in iSQRT-COV."""


class Native(torch.nn.Module):
    """Pool as the backbone was trained to: its own head, up to the classifier."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        pooled: Tensor = backbone.forward_head(features, pre_logits=True)
        return pooled.flatten(1)  # (n, dim)


class Plain(torch.nn.Module):
    """A statistic of each channel over all places (patch tokens only, for tokens)."""

    def __init__(self, channels: int, statistic: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dim, self._statistic = channels, statistic

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        return self._statistic(places(backbone, features, self.dim))


class GeneralisedMean(torch.nn.Module):
    """Generalised mean, its power learned from 3 on (Radenović et al., TPAMI 2019, arXiv 1711.02512).

    Values below 1e-6 count as 1e-6, as in the authors' code, so negative features are cut off.
    """

    def __init__(self, channels: int, *, learned: bool) -> None:
        super().__init__()
        self.dim = channels
        # A plain number where nothing is learned: it is not saved, and powers of it are rounded another way.
        self.power = torch.nn.Parameter(torch.tensor(GEM_POWER)) if learned else GEM_POWER

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        raised = places(backbone, features, self.dim).clamp(min=1e-6).pow(self.power)
        return raised.mean(dim=1).pow(1.0 / self.power)


class AttentionPooling(torch.nn.Module):
    """Mean over all places, each weighted by a learned softmax; it begins as the plain mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels
        self.query = torch.nn.Linear(channels, 1, bias=False)  # a bias would fall out of the softmax
        torch.nn.init.zeros_(self.query.weight)

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        with in_float32(features):
            values = places(backbone, features, self.dim).float()  # (n, places, channels)
            shares: Tensor = self.query(values).softmax(dim=1)  # (n, places, 1)
            return (shares * values).sum(dim=1)


class Bilinear(torch.nn.Module):
    """Mean outer product of features with themselves, then signed square roots (B-CNN, Lin et al., ICCV 2015).

    The two streams of the paper are one, reduced to 64 channels before (1x1), so that 4,096 numbers come out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = _reduction(channels)
        self.dim = min(channels, REDUCED) ** 2
        self._channels = channels

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        with in_float32(features):
            values = self.reduction(places(backbone, features, self._channels).float())  # (n, places, reduced)
            products: Tensor = (values.transpose(1, 2) @ values / values.shape[1]).flatten(1)  # (n, reduced²)
            return products.sign() * (products.abs() + 1e-6).sqrt()  # the slope of a bare root is infinite at 0


class Covariance(torch.nn.Module):
    """Matrix square root of the channels' covariance, its upper triangle (iSQRT-COV, Li et al., CVPR 2018).

    Features are reduced to 64 channels before (256 in the paper), so that 2,080 numbers come out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = _reduction(channels)
        reduced = min(channels, REDUCED)
        self.dim = reduced * (reduced + 1) // 2
        self._channels = channels
        rows, columns = torch.triu_indices(reduced, reduced).unbind(0)
        self._upper: Tensor
        self.register_buffer("_upper", rows * reduced + columns, persistent=False)

    def forward(self, backbone: Any, features: Tensor) -> Tensor:
        """See the module's docstring."""
        with in_float32(features):
            values = self.reduction(places(backbone, features, self._channels).float())  # (n, places, reduced)
            centred = values - values.mean(dim=1, keepdim=True)
            covariance = centred.transpose(1, 2) @ centred / values.shape[1]
            return square_root(covariance).flatten(1).index_select(1, self._upper)


def average(values: Tensor) -> Tensor:
    """Mean over the places of (n, places, channels)."""
    return values.mean(dim=1)


def maximum(values: Tensor) -> Tensor:
    """Largest value over the places of (n, places, channels), a channel."""
    return values.amax(dim=1)


def square_root(matrices: Tensor, *, iterations: int = ITERATIONS) -> Tensor:
    """Approximate the square roots of symmetric positive semi-definite matrices by Newton–Schulz steps.

    Products only, so that gradients are sound where eigenvalues are equal or zero (Li et al., CVPR 2018, equation 2;
    divided by the trace before and brought back to size after).

    Args:
        matrices: (n, d, d).
        iterations: at least 1; five are enough to learn with, small eigenvalues want more.
    """
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    # Not exactly the trace: a picture of one colour has none. By a product, since converters know no diagonal.
    trace = (matrices * identity).sum(dim=(1, 2), keepdim=True) + 1e-9  # (n, 1, 1)
    root, inverse = matrices / trace, identity.expand_as(matrices)
    for _ in range(iterations):
        step = 1.5 * identity - 0.5 * (inverse @ root)
        root, inverse = root @ step, step @ inverse
    return root * trace.sqrt()


def places(backbone: Any, features: Tensor, channels: int) -> Tensor:
    """Bring any layout of features to ``(n, places, channels)``, without class tokens and registers."""
    if features.ndim == 3:
        return features[:, prefix(backbone) :]
    channels_first = features.shape[1] == channels
    return features.flatten(2).transpose(1, 2) if channels_first else features.flatten(1, 2)


def prefix(backbone: Any) -> int:
    """Count the class tokens and registers that stand before the patch tokens."""
    return int(getattr(backbone, "num_prefix_tokens", 0))


def in_float32(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Compute in full precision within, also in training in bfloat16: what is added to a backbone costs little."""
    kind = tensor.device.type
    # Converters know nothing of autocast, and there is none when they look.
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


def _reduction(channels: int) -> torch.nn.Module:
    if channels <= REDUCED:
        return torch.nn.Identity()
    reduction = torch.nn.Linear(channels, REDUCED, bias=False)
    torch.nn.init.orthogonal_(reduction.weight)  # keeps lengths and angles as far as 64 numbers can
    return reduction


@dataclass(frozen=True)
class PoolingKind:
    """A row of ``POOLINGS``.

    Attributes:
        help: a clause for the command line's help and the documentation.
        build: called as ``build(backbone, channels, learned)``; ``learned``: whether what may be learned is a
            parameter, as in an embedder that was trained. The module tells its ``dim``.
        trained: whether it is of no use before it was trained, so that no frozen embedder has it.
        places: the fewest places that features must have.
    """

    help: str
    build: Callable[[Any, int, bool], torch.nn.Module]
    trained: bool = False
    places: int = 1


POOLINGS: Final[dict[str, PoolingKind]] = {
    "native": PoolingKind(
        "as the backbone was pretrained, such as its class token or its own head",
        lambda backbone, channels, learned: Native(int(getattr(backbone, "head_hidden_size", 0) or channels)),
    ),
    "average": PoolingKind("mean over all places", lambda backbone, channels, learned: Plain(channels, average)),
    "max": PoolingKind("largest value over all places", lambda backbone, channels, learned: Plain(channels, maximum)),
    "gem": PoolingKind(
        "generalised mean, between mean and largest; the power starts at 3 and is learned",
        lambda backbone, channels, learned: GeneralisedMean(channels, learned=learned),
    ),
    "attention": PoolingKind(
        "mean over all places with learned weights",
        lambda backbone, channels, learned: AttentionPooling(channels),
        trained=True,
        places=2,
    ),
    "bilinear": PoolingKind(
        "products of 64 learned channels with each other (B-CNN)",
        lambda backbone, channels, learned: Bilinear(channels),
        trained=True,
    ),
    "covariance": PoolingKind(
        "square root of the covariance of 64 learned channels (iSQRT-COV)",
        lambda backbone, channels, learned: Covariance(channels),
        trained=True,
        places=2,
    ),
}
