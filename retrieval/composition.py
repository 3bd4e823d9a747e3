"""Networks put together: to begin a training with pretrained weights, and again from what was saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch

from retrieval.architecture import NONE, Architecture
from retrieval.backbones import Preprocessing, build_backbone, load_backbone
from retrieval.errors import DamagedError, EmbedderError, InputError
from retrieval.network import Network
from retrieval.pooling import POOLINGS, places
from retrieval.recipe import Recipe

FROZEN: Final = 1
"""``format`` of an embedder with nothing trained: the backbone's tensors only."""
TRAINED: Final = 2
"""``format`` of an embedder that was trained: tensors of ours beside the backbone's."""


def compose(
    recipe: Recipe, *, classes: Sequence[str] = (), weights: Path | None = None
) -> tuple[Network, Preprocessing, dict[str, Any]]:
    """Compose a network to be trained: pretrained where there are such weights, random by seed where it is new.

    Args:
        recipe: names the parts, the size of pictures and the seed; torch's own generator is left as it was.
        classes: that the head will tell apart, sorted; not looked at without a head.
        weights: a safetensors file with timm's names; None takes the bundled or the hub's weights.

    Returns:
        The network in inference mode, on the CPU; its preprocessing; and where the weights came from, as
        ``load_backbone`` tells. Parameters that have a say in vectors or logits require gradients; those of a
        backbone's own head that another pooling leaves out do not.

    Raises:
        InputError: no such backbone, weights file, attention, pooling or head; they do not go together; or the backbone
            takes no images of that size.
        EmbedderError: the weights do not fit or cannot be had.
    """
    architecture = Architecture(
        recipe.backbone,
        attention=recipe.attention,
        pooling=recipe.pooling,
        dim=recipe.dim or 0,
        projected=recipe.dim is not None,
        head=recipe.head,
        classes=() if recipe.head == NONE else tuple(classes),
    )
    with _seeded(recipe.seed):
        backbone, preprocessing, provenance = load_backbone(recipe.backbone, weights=weights)
        preprocessing = replace(preprocessing, height=recipe.image_size, width=recipe.image_size)
        resize(backbone, preprocessing)
        # Training goes through several sizes, and some transformers have to be told before.
        if getattr(backbone, "dynamic_img_size", None) is False:
            state = backbone.state_dict()
            backbone = build_backbone(recipe.backbone, dynamic_img_size=True)
            resize(backbone, preprocessing)
            backbone.load_state_dict(state)
    with _seeded(recipe.seed):  # anew: what was drawn so far depends on where the weights came from
        network = Network(backbone, architecture, preprocessing, learned=True).eval()
    _require_gradients(network)
    return network, preprocessing, provenance


def assemble(description: dict[str, Any], weights: bytes, *, where: str) -> Network:
    """Build a network again from what was saved, ready for inference.

    Args:
        description: what ``model.json`` holds.
        weights: what ``weights.safetensors`` holds.
        where: names what they were read from, for messages.

    Raises:
        DamagedError: they contradict each other or are incomplete.
        EmbedderError: written by a later version of lookalike, or for another version of timm.
    """
    version = description.get("format")
    if version not in (FROZEN, TRAINED):
        raise EmbedderError(
            f"{where} has embedder format {version}; this version of lookalike reads {FROZEN} and {TRAINED}"
        )
    try:
        state = safetensors.torch.load(weights)
        architecture = _read_architecture(description["architecture"])
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedError(f"{where} is damaged: {error}") from error
    try:
        backbone = build_backbone(architecture.backbone)
        resize(backbone, preprocessing)
        network = Network(backbone, architecture, preprocessing, learned=version == TRAINED)
        network.fill(state)
        if version == TRAINED and not architecture.projected and network.pooling.dim != architecture.dim:
            raise ValueError(f"its vectors have length {network.pooling.dim}, and {architecture.dim} is written")
    except ValueError as error:
        raise DamagedError(f"{where} is damaged: {error}") from error
    except (InputError, RuntimeError) as error:
        raise EmbedderError(f"{where} does not fit the installed version of timm: {error}") from error
    return network.eval().requires_grad_(False)


def resize(backbone: Any, preprocessing: Preprocessing) -> None:
    """Bring a backbone that takes one size only, such as a vision transformer, to that of the preprocessing.

    Raises:
        InputError: it cannot be brought there.
    """
    size = (preprocessing.height, preprocessing.width)
    native = tuple(getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, *size))[1:])
    if size == native or not hasattr(backbone, "set_input_size"):
        return
    try:
        backbone.set_input_size(img_size=size)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"{_size_refused(backbone, preprocessing)}: {error}") from error


def _read_architecture(values: Any) -> Architecture:
    if not isinstance(values, dict):
        raise ValueError("the architecture is no JSON object")
    architecture = Architecture.from_dict(values)
    classes = architecture.classes
    if len(set(classes)) != len(classes) or not all(isinstance(name, str) for name in classes):
        raise ValueError("the classes are no list of different names")
    return architecture


@torch.enable_grad()  # whoever asks
def _require_gradients(network: Network) -> None:
    """Let all parameters require gradients that a small pass finds to be used."""
    network.requires_grad_(True)
    values = list(network.parameters())
    row = POOLINGS[network.architecture.pooling]
    images = torch.rand(1, 3, network.height, network.width, generator=torch.Generator().manual_seed(0))
    try:
        vectors = network.embed(images)
    except (AssertionError, RuntimeError) as error:
        raise InputError(f"{_size_refused(network.backbone, network.preprocessing)}: {error}") from error
    if row.places > 1:
        with torch.no_grad():
            features = network.attention(network.backbone, images)
        count = places(network.backbone, features, network.attention.channels).shape[1]
        if count < row.places:
            raise InputError(
                f"images of {network.height} pixels give {network.architecture.backbone} {count} place, and the "
                f"pooling {network.architecture.pooling} needs {row.places}; choose larger images"
            )
    out = vectors.sum() if network.head is None else network.logits(vectors).sum() + vectors.sum()
    for value, gradient in zip(values, torch.autograd.grad(out, values, allow_unused=True), strict=True):
        value.requires_grad_(gradient is not None)


def _size_refused(backbone: Any, preprocessing: Preprocessing) -> str:
    name = getattr(backbone, "pretrained_cfg", {}).get("architecture", type(backbone).__name__)
    return f"the backbone {name} takes no images of {preprocessing.width} x {preprocessing.height} pixels"


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a generator of one's own within; layers take torch's and offer no other."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
