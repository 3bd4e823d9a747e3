"""From a backbone's features to one vector an image.

``POOLINGS`` maps a name to a function ``(backbone, features) -> (n, channels)``. ``features`` is what the
backbone's ``forward_features`` gives: a map ``(n, channels, height, width)`` or ``(n, height, width, channels)``,
or tokens ``(n, tokens, channels)`` with the class token and registers first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

GEM_POWER: Final = 3.0


def native(backbone: Any, features: Tensor) -> Tensor:
    """Pool as the backbone was trained to: its own head, up to the classifier."""
    pooled: Tensor = backbone.forward_head(features, pre_logits=True)
    return pooled.flatten(1)  # (n, channels)


def average(backbone: Any, features: Tensor) -> Tensor:
    """Mean over all places (patch tokens only, for tokens)."""
    return places(backbone, features).mean(dim=1)


def maximum(backbone: Any, features: Tensor) -> Tensor:
    """Largest value over all places, a channel."""
    return places(backbone, features).amax(dim=1)


def gem(backbone: Any, features: Tensor) -> Tensor:
    """Generalised mean with power 3, the usual starting point (Radenović et al., TPAMI 2019, arXiv 1711.02512).

    Values below 1e-6 count as 1e-6, as in the authors' code, so negative features are cut off.
    """
    raised = places(backbone, features).clamp(min=1e-6).pow(GEM_POWER)
    return raised.mean(dim=1).pow(1.0 / GEM_POWER)


def places(backbone: Any, features: Tensor) -> Tensor:
    """Bring any layout of features to ``(n, places, channels)``, without class tokens and registers."""
    if features.ndim == 3:
        return features[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
    channels_first = features.shape[1] == backbone.num_features
    return features.flatten(2).transpose(1, 2) if channels_first else features.flatten(1, 2)


POOLINGS: Final[dict[str, Callable[[Any, Tensor], Tensor]]] = {
    "native": native,
    "average": average,
    "max": maximum,
    "gem": gem,
}
