"""The whole network as one module: 8-bit pixels in, unit vectors out; what is trained, and what every runtime runs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from retrieval.architecture import NONE, Architecture
from retrieval.attention import ATTENTIONS
from retrieval.backbones import Preprocessing
from retrieval.errors import InputError
from retrieval.heads import HEADS
from retrieval.pooling import POOLINGS, in_float32

OURS: Final = "lookalike."
"""Before the names of saved tensors that are not the backbone's, which have timm's names."""


class Network(torch.nn.Module):
    """Normalisation, backbone, attention, pooling, projection and L2 normalisation; beside them a classifier head.

    Normalising inside lets a runtime fold it into its first layer, and a quarter of the bytes travels to it.

    Attributes:
        architecture: what it is made of; ``dim`` is filled in.
        preprocessing: what brings pictures to it.
        height: of the pixels it takes.
        width: likewise.
    """

    def __init__(
        self,
        backbone: torch.nn.Module,
        architecture: Architecture,
        preprocessing: Preprocessing,
        *,
        learned: bool = False,
    ) -> None:
        """Put the parts together; new ones begin with numbers from torch's generator.

        Args:
            backbone: timm's, without classifier.
            architecture: ``dim`` 0 without projection: what pooling gives.
            preprocessing: of pictures.
            learned: whether what pooling may learn is a parameter; not in a frozen embedder.

        Raises:
            InputError: no such attention, pooling or head, or they do not go together or with the backbone.
        """
        super().__init__()
        for what, name, table in (
            ("attention", architecture.attention, ATTENTIONS),
            ("pooling", architecture.pooling, POOLINGS),
            ("head", architecture.head, HEADS),
        ):
            if name not in table:
                raise InputError(f"there is no {what} {name!r}; choose one of {', '.join(table)}")
        self.backbone = backbone
        attention: Any = ATTENTIONS[architecture.attention].build(backbone)
        _check(architecture, attention, backbone)
        pooling: Any = POOLINGS[architecture.pooling].build(backbone, attention.channels, learned)
        self.attention: Any = attention
        self.pooling: Any = pooling
        self.projection = _projection(pooling.dim, architecture.dim) if architecture.projected else None
        self.architecture = replace(architecture, dim=architecture.dim or int(pooling.dim))
        build = HEADS[architecture.head].build
        self.head = build(self.architecture.dim, len(architecture.classes)) if build else None
        self.preprocessing = preprocessing
        self.height, self.width = preprocessing.height, preprocessing.width
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    @property
    def multiple(self) -> int | None:
        """What the sides of ``embed``'s images must be multiples of, pixels; None where only its own size is taken."""
        backbone: Any = self.backbone
        if getattr(backbone, "dynamic_img_size", False):
            return max(int(side) for side in backbone.patch_embed.patch_size)
        return None if hasattr(backbone, "set_input_size") else 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed (n, height, width, 3) uint8 pixels: (n, dim) float32, L2-normalised."""
        # Already channels-last in memory: the permutation moves nothing.
        return self.embed(pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0)

    def embed(self, images: Tensor) -> Tensor:
        """Embed (n, 3, height, width) float32 images in [0, 1], sides as ``multiple`` tells, to (n, dim)."""
        images = ((images - self.mean) / self.std).to(next(self.backbone.parameters()).dtype)
        pooled = self.pooling(self.backbone, self.attention(self.backbone, images))
        with in_float32(pooled):
            pooled = pooled.to(torch.float32)
            if self.projection is not None:
                pooled = self.projection(pooled)
            return torch.nn.functional.normalize(pooled, dim=1)

    def logits(self, vectors: Tensor) -> Tensor:
        """Give a logit a class, in the order of ``architecture.classes``, of what ``embed`` gave: (n, classes).

        Raises:
            InputError: it has no head.
        """
        if self.head is None:
            raise InputError("this embedder has no classifier head; train it with --head cosine or --head linear")
        logits: Tensor = self.head(vectors)
        return logits

    def new_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Give the parameters that can be trained and are not the backbone's, by name."""
        named = self.named_parameters()
        return {name: value for name, value in named if value.requires_grad and not name.startswith("backbone.")}

    def tensors(self) -> dict[str, Tensor]:
        """Give what is saved, by name in order: the backbone's by timm's names, all others after ``OURS``."""
        theirs = self.backbone.state_dict()
        state = {**theirs, **{OURS + name: value for name, value in self._own().items()}}
        return {name: state[name].detach().contiguous() for name in sorted(state)}

    def fill(self, state: dict[str, Tensor]) -> None:
        """Take what ``tensors`` gave.

        Raises:
            ValueError: a tensor of ours is missing, of another shape, or one too many.
            RuntimeError: the backbone's tensors do not fit.
        """
        given = {name[len(OURS) :]: value for name, value in state.items() if name.startswith(OURS)}
        wanted = self._own()
        for name in sorted(given.keys() | wanted.keys()):
            shapes = [tuple(of[name].shape) if name in of else None for of in (wanted, given)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"the tensor {OURS}{name} should be {shapes[0]} and is {shapes[1]}")
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(given[name])
        self.backbone.load_state_dict({name: value for name, value in state.items() if not name.startswith(OURS)})

    def _own(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}


def on_cpu(network: Network) -> Network:
    """Give the network itself where it stands on the CPU, else a copy there, for those who convert it."""
    return network if network.mean.device.type == "cpu" else copy.deepcopy(network).cpu()


def _check(architecture: Architecture, attention: Any, backbone: Any) -> None:
    """Refuse what would leave a part without effect."""
    pooling = architecture.pooling
    if attention.one_place and pooling != "average":
        raise InputError(
            f"the attention {architecture.attention} pools by itself and leaves nothing to the pooling {pooling}; "
            "choose the pooling average with it"
        )
    if attention.patches_only and pooling == "native" and getattr(backbone, "global_pool", None) == "token":
        raise InputError(
            f"the native pooling of {architecture.backbone} reads the class token, which the attention "
            f"{architecture.attention} does not change; choose the pooling average, or another attention"
        )
    count = len(architecture.classes)
    if (architecture.head == NONE) != (count == 0):
        raise InputError(f"a head and classes go together, not the head {architecture.head} and {count} classes")
    if architecture.projected and architecture.dim < 1:
        raise InputError(f"a vector cannot have the length {architecture.dim}; choose a number from 1 on")


def _projection(given: int, dim: int) -> torch.nn.Linear:
    projection = torch.nn.Linear(given, dim)
    torch.nn.init.orthogonal_(projection.weight)  # similarities begin near those of the pretrained features
    torch.nn.init.zeros_(projection.bias)
    return projection


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
