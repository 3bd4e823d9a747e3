"""Between backbone and pooling: what looks at some channels, places or parts more than at others.

``ATTENTIONS`` has a row for each; an attention is a module called as ``attention(backbone, images) -> features``, with
``images`` (n, 3, height, width) normalised, and ``features`` as ``retrieval.pooling`` takes them. It calls the backbone
itself, since one of them has to look inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from retrieval.errors import InputError
from retrieval.pooling import in_float32, places, prefix

PARTS: Final = 8
REDUCTION: Final = 16
"""Channels over the width of the hidden layer of CBAM's channel attention."""


class Unchanged(torch.nn.Module):
    """The backbone's features as they are.

    Attributes:
        channels: of the features given, as all attentions tell.
        one_place: whether features have one place, as all tell: then there is nothing left to pool.
        patches_only: whether a class token is as without it, as all tell.
    """

    one_place, patches_only = False, False

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.channels = int(backbone.num_features)

    def forward(self, backbone: Any, images: Tensor) -> Tensor:
        """See the module's docstring."""
        features: Tensor = backbone.forward_features(images)
        return features


class Cbam(torch.nn.Module):
    """Channel attention, then spatial attention (CBAM, Woo et al., ECCV 2018, arXiv 1807.06521), on the last features.

    Gates lie in (0, 2) and not in (0, 1), and begin at exactly 1, so that training starts from the pretrained
    function. Class tokens are kept apart: gates are made from the patch tokens and change only those.
    """

    one_place, patches_only = False, True

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.channels = int(backbone.num_features)
        hidden = max(8, self.channels // REDUCTION)
        self.squeeze = torch.nn.Linear(self.channels, hidden)
        self.excite = torch.nn.Linear(hidden, self.channels)
        self.spatial = torch.nn.Conv2d(2, 1, kernel_size=7, padding=3)
        for layer in (self.excite, self.spatial):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, backbone: Any, images: Tensor) -> Tensor:
        """See the module's docstring."""
        features: Tensor = backbone.forward_features(images)
        values: Tensor = places(backbone, features, self.channels).float()  # (n, places, channels)
        height, width = _grid(features, values.shape[1], self.channels, images)
        channel = self._gate_channels(values.mean(dim=1), values.amax(dim=1))[:, None]  # (n, 1, channels)
        values = values * channel
        summary = torch.stack([values.mean(dim=2), values.amax(dim=2)], dim=1)  # (n, 2, places)
        spatial = 2 * self.spatial(summary.reshape(-1, 2, height, width)).sigmoid()  # (n, 1, height, width)
        values = (values * spatial.flatten(2).transpose(1, 2)).to(features.dtype)
        if features.ndim == 3:
            return torch.cat([features[:, : prefix(backbone)], values], dim=1)
        if features.shape[1] == self.channels:
            values = values.transpose(1, 2)
        return values.reshape(features.shape)

    def _gate_channels(self, mean: Tensor, largest: Tensor) -> Tensor:
        excited: Tensor = self.excite(self.squeeze(mean).relu()) + self.excite(self.squeeze(largest).relu())
        return 2 * excited.sigmoid()


class Parts(torch.nn.Module):
    """Eight learned maps, each pooling one part of the thing; the parts' features stand side by side.

    Bilinear attention pooling of WS-DAN (Hu et al., arXiv 1901.09891), its maps through a sigmoid as in MA-CNN (Zheng
    et al., ICCV 2017) and without its batch normalisation, so that a picture's parts do not depend on its batch.
    """

    one_place, patches_only = True, False

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self._given = int(backbone.num_features)
        self.channels = PARTS * self._given
        self.maps = torch.nn.Linear(self._given, PARTS)

    def forward(self, backbone: Any, images: Tensor) -> Tensor:
        """See the module's docstring; gives (n, parts x channels, 1, 1)."""
        values = places(backbone, backbone.forward_features(images), self._given).float()  # (n, places, channels)
        maps: Tensor = self.maps(values).sigmoid().to(values.dtype)  # (n, places, parts)
        parts = maps.transpose(1, 2) @ values / values.shape[1]  # (n, parts, channels)
        return parts.flatten(1)[:, :, None, None]


class Rollout(torch.nn.Module):
    """The patches that the class token looks at most, a head each, go alone through the last block.

    Part selection of TransFG (He et al., AAAI 2022, arXiv 2103.07976): attention of all blocks before the last is
    rolled out (the product of their matrices), and each head keeps the patch with the largest share in the class
    token's row. What is selected is not differentiated. Patches do not overlap here, as timm's do not.
    """

    one_place, patches_only = False, False

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.channels = int(backbone.num_features)
        # Other blocks, such as those with rotary or relative positions, weigh tokens another way.
        blocks = list(getattr(backbone, "blocks", ()))
        plain = {(type(block).__name__, type(getattr(block, "attn", None)).__name__) for block in blocks}
        if plain != {("Block", "Attention")} or len(blocks) < 2 or getattr(backbone, "cls_token", None) is None:
            raise InputError(
                "the attention rollout needs a plain vision transformer with a class token, which this backbone "
                f"({type(backbone).__name__}) is not; choose the attention parts or cbam, or another backbone"
            )

    def forward(self, backbone: Any, images: Tensor) -> Tensor:
        """See the module's docstring; gives class token and registers, then a patch token a head."""
        tokens = backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(images))))
        *before, last = backbone.blocks
        weights = []
        for block in before:
            weights.append(_attention_of(block, tokens))
            tokens = block(tokens)
        kept = prefix(backbone)
        selected = select(weights, kept)[:, :, None].expand(-1, -1, tokens.shape[2])  # (n, heads, channels)
        tokens = torch.cat([tokens[:, :kept], tokens[:, kept:].gather(1, selected)], dim=1)
        features: Tensor = backbone.norm(last(tokens))
        return features


def select(weights: list[Tensor], kept: int) -> Tensor:
    """Find the patch that each head rolls out to from the class token.

    Args:
        weights: a block each, first block first: (n, heads, tokens, tokens), rows sum to 1.
        kept: class tokens and registers before the patches.

    Returns:
        (n, heads) numbers of patches.
    """
    # From the top down, since only the class token's row is wanted: a vector times a matrix, not a matrix product.
    row = weights[-1][:, :, :1]  # (n, heads, 1, tokens)
    with in_float32(row):
        for below in reversed(weights[:-1]):
            row = row @ below
    return row[:, :, 0, kept:].argmax(dim=2)


def _attention_of(block: Any, tokens: Tensor) -> Tensor:
    """Compute a block's attention again, (n, heads, tokens, tokens): timm's fused kernel keeps it to itself."""
    attention = block.attn
    mixed = attention.qkv(block.norm1(tokens.detach()))  # (n, tokens, 3 x heads x channels)
    heads = mixed.unflatten(2, (3, attention.num_heads, attention.head_dim))
    query, key, _ = heads.detach().permute(2, 0, 3, 1, 4).unbind(0)  # each (n, heads, tokens, channels)
    query, key = attention.q_norm(query).detach(), attention.k_norm(key).detach()
    with in_float32(tokens):  # in half the digits many patches would be equally good
        weights: Tensor = (query.float() * attention.scale @ key.float().transpose(2, 3)).softmax(dim=3)
    return weights


def _grid(features: Tensor, count: int, channels: int, images: Tensor) -> tuple[int, int]:
    """Tell rows and columns of the places; of tokens, by the picture's shape."""
    if features.ndim == 4:
        at = 2 if features.shape[1] == channels else 1
        return int(features.shape[at]), int(features.shape[at + 1])
    height, width = int(images.shape[2]), int(images.shape[3])
    rows = round(math.sqrt(int(count) * height / width))
    return rows, int(count) // rows


@dataclass(frozen=True)
class AttentionKind:
    """A row of ``ATTENTIONS``.

    Attributes:
        help: a clause for the command line's help and the documentation.
        build: called with the backbone; raises ``InputError`` when it cannot be had with it.
    """

    help: str
    build: Callable[[Any], torch.nn.Module]


ATTENTIONS: Final[dict[str, AttentionKind]] = {
    "none": AttentionKind("features as they are", Unchanged),
    "cbam": AttentionKind("some channels, then some places more than others (CBAM)", Cbam),
    "parts": AttentionKind(f"{PARTS} learned maps, each pooling one part (as in WS-DAN)", Parts),
    "rollout": AttentionKind("the patches that the class token looks at (TransFG); vision transformers only", Rollout),
}
