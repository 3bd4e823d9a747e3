"""Embedder: pictures → L2-normalised vectors; a folder of ``model.json`` and ``weights.safetensors``.

The digest, SHA-256 over both files, names the embedder everywhere: two embedders with one digest give the
same vectors, and a vector is only ever compared with vectors of its own digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.torch
import torch
from torchvision.transforms.functional import to_pil_image

from retrieval.backbones import DEFAULT_BACKBONE, Preprocessing, build_backbone, load_backbone
from retrieval.errors import DamagedError, EmbedderError, InputError
from retrieval.memory import keep_freed_memory
from retrieval.pooling import POOLINGS

MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.safetensors"
FORMAT: Final = 1
# Feature maps of more pictures outgrow the heaps that glibc gives a thread (64 MiB) and are mapped anew each time.
CPU_BATCH: Final = 8
CUDA_BATCH: Final = 64


class Embedder:
    """A frozen backbone, a pooling and L2 normalisation.

    Safe to call from several threads: pictures are resized side by side, the network runs one batch at a time.

    Attributes:
        digest: 64 hexadecimal digits, SHA-256 over ``model.json`` and ``weights.safetensors``.
        dim: length of a vector.
        image_size: the shorter side that pictures are resized to before the crop, pixels.
        description: what ``model.json`` holds: architecture, preprocessing, provenance.
        device: where the network runs.
    """

    def __init__(self, backbone: torch.nn.Module, description: dict[str, Any], *, device: str = "auto") -> None:
        self.description = description
        self.device = choose_device(device)
        self._pool = POOLINGS[description["architecture"]["pooling"]]
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        self._transform = preprocessing.transform()
        self.image_size = preprocessing.shorter_side
        self.dim = int(description["architecture"]["dim"])
        self._weights = safetensors.torch.save(
            {name: value.contiguous() for name, value in sorted(backbone.state_dict().items())}
        )
        self.digest = _digest(_to_json(description), self._weights)
        # Channels-last made EfficientNet-Lite0 eight times faster on CPU than the default layout.
        self._backbone: Any = backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._turn = threading.Lock()
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="prepare")

    @classmethod
    def create(
        cls,
        backbone: str = DEFAULT_BACKBONE,
        *,
        weights: Path | None = None,
        pooling: str = "native",
        device: str = "auto",
    ) -> Embedder:
        """Compose an embedder from a timm backbone with pretrained weights, frozen.

        Args:
            backbone: timm's name of it.
            weights: a safetensors file with timm's names; None takes the bundled or the hub's weights.
            pooling: a key of ``POOLINGS``.
            device: "auto", "cpu", "cuda" or "cuda:N".

        Raises:
            InputError: no such backbone, pooling, device or weights file.
            EmbedderError: the weights do not fit or cannot be had.
        """
        if pooling not in POOLINGS:
            raise InputError(f"there is no pooling {pooling!r}; choose one of {', '.join(POOLINGS)}")
        where = choose_device(device)
        if where == "cpu":
            keep_freed_memory()
        model, preprocessing, provenance = load_backbone(backbone, weights=weights)
        with torch.inference_mode():
            blank = torch.zeros(1, 3, preprocessing.height, preprocessing.width)
            dim = POOLINGS[pooling](model, model.forward_features(blank)).shape[1]  # type: ignore[operator]
        description = {
            "format": FORMAT,
            "architecture": {"backbone": backbone, "pooling": pooling, "dim": int(dim)},
            "preprocessing": preprocessing.to_dict(),
            "provenance": provenance,
        }
        # Through JSON once, so that a loaded embedder and this one hold equal values (tuples become lists).
        return cls(model, json.loads(_to_json(description)), device=where)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> Embedder:
        """Read an embedder that ``save`` wrote; it has the same digest and gives the same bits.

        Raises:
            DamagedError: a file is missing or unreadable.
            EmbedderError: written by a later version of lookalike, or for another version of timm.
            InputError: no such device.
        """
        where = choose_device(device)
        if where == "cpu":
            keep_freed_memory()
        description, weights = read_files(folder)
        version = description.get("format")
        if version != FORMAT:
            raise EmbedderError(f"{folder} has embedder format {version}; this version of lookalike reads {FORMAT}")
        try:
            state = safetensors.torch.load(weights)
            model = build_backbone(description["architecture"]["backbone"])
            model.load_state_dict(state, strict=True)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise DamagedError(f"{folder} is damaged: {error}") from error
        except (InputError, RuntimeError) as error:
            raise EmbedderError(f"{folder} does not fit the installed version of timm: {error}") from error
        return cls(model, description, device=where)

    def save(self, folder: Path, *, write: Callable[[Path, bytes], object] = Path.write_bytes) -> None:
        """Write ``weights.safetensors``, then ``model.json``, to ``folder``.

        Args:
            folder: must exist.
            write: how a file is written; the catalogue passes its atomic one.
        """
        write(folder / WEIGHTS_FILE, self._weights)
        write(folder / MODEL_FILE, _to_json(self.description))

    def embed(self, images: Sequence[np.ndarray], *, batch_size: int | None = None) -> np.ndarray:
        """Embed pictures.

        Args:
            images: each (height, width, 3) uint8, sRGB, any size.
            batch_size: pictures the network takes at once; None: 8 on the CPU, 64 on CUDA.

        Returns:
            (n, dim) float32, L2-normalised, in the order of ``images``.

        Raises:
            InputError: an array is not (height, width, 3) uint8.
            EmbedderError: the device has no memory left, or the network gave a vector that is not finite.
        """
        for position, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise InputError(f"image {position} must be (height, width, 3) uint8, not {image.shape} {image.dtype}")
        batch_size = batch_size or (CPU_BATCH if self.device == "cpu" else CUDA_BATCH)
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            prepared = torch.stack(list(self._workers.map(self._prepare, batch)))  # (n, 3, height, width)
            vectors[start : start + len(batch)] = self._forward(prepared)
        if not np.isfinite(vectors).all():
            raise EmbedderError("the network gave vectors that are not finite; its weights are damaged or do not fit")
        return vectors

    def _prepare(self, image: np.ndarray) -> torch.Tensor:
        return self._transform(to_pil_image(image))

    def _forward(self, prepared: torch.Tensor) -> np.ndarray:
        with self._turn, torch.inference_mode():
            try:
                batch = prepared.to(self.device, memory_format=torch.channels_last)
                pooled = self._pool(self._backbone, self._backbone.forward_features(batch))  # (n, dim)
            except torch.OutOfMemoryError as error:
                raise EmbedderError(f"{self.device} has no memory left; use a smaller batch size") from error
            vectors: np.ndarray = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
            return vectors


def choose_device(device: str) -> str:
    """Resolve "auto" to "cuda" where CUDA works, else "cpu", and check any other choice.

    Raises:
        InputError: no such device, or CUDA is not usable here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N") from error
    if kind.type not in ("cpu", "cuda"):
        raise InputError(f"there is no device {device!r}; choose auto, cpu, cuda or cuda:N")
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise InputError("CUDA is not usable on this machine (run lookalike doctor); choose --device cpu")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def read_files(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Read the description and the bytes of the weights from an embedder's folder.

    Raises:
        DamagedError: a file is missing or unreadable.
    """
    try:
        description = json.loads((folder / MODEL_FILE).read_bytes())
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise DamagedError(f"the embedder in {folder} is missing or damaged: {error}") from error
    if not isinstance(description, dict):
        raise DamagedError(f"{folder / MODEL_FILE} is damaged: a JSON object was expected")
    return description, weights


def _to_json(description: dict[str, Any]) -> bytes:
    return (json.dumps(description, indent=2, sort_keys=True) + "\n").encode()


def _digest(description: bytes, weights: bytes) -> str:
    return hashlib.sha256(description + weights).hexdigest()
