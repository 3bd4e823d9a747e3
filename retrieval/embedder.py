"""Embedder: pictures → L2-normalised vectors; a folder of ``model.json`` and ``weights.safetensors``.

The digest, SHA-256 over both files, names the embedder everywhere: two embedders with one digest give the
same vectors, and a vector is only ever compared with vectors of its own digest.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch

from retrieval.architecture import Architecture
from retrieval.backbones import DEFAULT_BACKBONE, Preprocessing, load_backbone
from retrieval.coalescing import Coalescer
from retrieval.composition import FROZEN, TRAINED, assemble, resize
from retrieval.conversions import Conversions
from retrieval.errors import DamagedError, EmbedderError, InputError
from retrieval.memory import keep_freed_memory
from retrieval.model_card import TRAINING
from retrieval.network import Network
from retrieval.pooling import POOLINGS
from retrieval.runtime_choice import (
    FEWEST,
    MEASURE_FROM,
    SAMPLE,
    Choice,
    Measurement,
    best,
    choose,
    measure,
    remember,
)
from retrieval.runtimes import AUTO, REFERENCE, Site, resolve

MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.safetensors"


class Embedder:
    """A network, frozen or trained and never changed, run by one of ``retrieval.runtimes.RUNTIMES``.

    Safe to call from several threads: pictures that come while the network is busy join its next batch.

    Attributes:
        digest: 64 hexadecimal digits, SHA-256 over ``model.json`` and ``weights.safetensors``.
        dim: length of a vector.
        image_size: the shorter side that pictures are resized to before the crop, pixels.
        description: what ``model.json`` holds: architecture, preprocessing, provenance.
        device: where the network runs.
    """

    def __init__(
        self, network: Network, description: dict[str, Any], *, device: str = "auto", runtime: str = AUTO
    ) -> None:
        self.description = description
        self.device = choose_device(device)
        self._wanted = resolve(runtime, self.device)
        preprocessing = network.preprocessing
        self._prepare = preprocessing.preparation()
        self.image_size = preprocessing.shorter_side
        self.dim = int(description["architecture"]["dim"])
        self._weights = safetensors.torch.save(network.tensors())
        self.digest = _digest(_to_json(description), self._weights)
        self._network = network.eval()
        self._conversions = Conversions(self.digest)
        self._choosing = threading.Lock()
        self._choice: Choice | None = None
        self._run: Coalescer | None = None

    @property
    def choice(self) -> Choice | None:
        """The runtime in use, and why; None before the first picture."""
        return self._choice

    @property
    def runtime(self) -> str:
        """The name of the runtime in use; "torch", the reference, before the first picture."""
        return self._choice.runtime if self._choice else REFERENCE

    @property
    def at_once(self) -> int:
        """Calls of ``embed`` side by side that still add speed."""
        return self._choice.at_once if self._choice else 1

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classifier head tells apart; () without a head."""
        return tuple(self._network.architecture.classes)

    @classmethod
    def create(
        cls,
        backbone: str = DEFAULT_BACKBONE,
        *,
        weights: Path | None = None,
        pooling: str = "native",
        preprocessing: dict[str, Any] | None = None,
        device: str = "auto",
        runtime: str = AUTO,
    ) -> Embedder:
        """Compose an embedder from a timm backbone with pretrained weights, frozen.

        Args:
            backbone: timm's name of it.
            weights: a safetensors file with timm's names; None takes the bundled or the hub's weights.
            pooling: a key of ``POOLINGS`` that need not be trained.
            preprocessing: of another embedder, as ``model.json`` has it; None: that the backbone was trained with.
            device: "auto", "cpu", "cuda" or "cuda:N".
            runtime: "auto" or a key of ``RUNTIMES``.

        Raises:
            InputError: no such backbone, pooling, device, runtime or weights file.
            EmbedderError: the weights do not fit or cannot be had.
            MissingExtraError: the runtime's package is not installed.
        """
        if (row := POOLINGS.get(pooling)) is None or row.trained:
            what = f"the pooling {pooling} has to be trained with lookalike train" if row else _no_pooling(pooling)
            frozen = ", ".join(name for name, row in POOLINGS.items() if not row.trained)
            raise InputError(f"{what}; choose one of {frozen}")
        where = choose_device(device)
        resolve(runtime, where)  # before the weights are read
        if where == "cpu":
            keep_freed_memory()
        model, its_own, provenance = load_backbone(backbone, weights=weights)
        chosen = its_own if preprocessing is None else Preprocessing.from_dict(preprocessing)
        resize(model, chosen)
        network = Network(model, Architecture(backbone, pooling=pooling), chosen).eval()
        with torch.inference_mode():
            dim = network.embed(torch.zeros(1, 3, chosen.height, chosen.width)).shape[1]
        network.architecture = replace(network.architecture, dim=int(dim))
        return cls(network, _describe(network, FROZEN, provenance), device=where, runtime=runtime)

    @classmethod
    def from_network(
        cls,
        network: Network,
        *,
        provenance: dict[str, Any],
        device: str = "auto",
        runtime: str = AUTO,
    ) -> Embedder:
        """Make an embedder of a network that was trained; the network is copied, so that training may go on.

        Args:
            network: of ``retrieval.composition.compose``, on any device.
            provenance: of its pretrained weights, as ``compose`` gave it, and under ``TRAINING`` how it was trained.
            device: "auto", "cpu", "cuda" or "cuda:N".
            runtime: "auto" or a key of ``RUNTIMES``.

        Raises:
            InputError: no such device or runtime.
            MissingExtraError: the runtime's package is not installed.
        """
        assert provenance.get(TRAINING), "an embedder counts as trained by what its provenance says of the training"
        where = choose_device(device)
        resolve(runtime, where)
        description = _describe(network, TRAINED, provenance)
        weights = safetensors.torch.save({name: value.cpu() for name, value in network.tensors().items()})
        # By the road of a saved one, so that what is measured now is what is loaded later.
        return cls(assemble(description, weights, where="the network"), description, device=where, runtime=runtime)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", runtime: str = AUTO) -> Embedder:
        """Read an embedder that ``save`` wrote; it has the same digest and, by the same runtime, gives the same bits.

        Raises:
            DamagedError: a file is missing or unreadable.
            EmbedderError: written by a later version of lookalike, or for another version of timm.
            InputError: no such device or runtime.
            MissingExtraError: the runtime's package is not installed.
        """
        where = choose_device(device)
        resolve(runtime, where)
        if where == "cpu":
            keep_freed_memory()
        description, weights = read_files(folder)
        return cls(assemble(description, weights, where=str(folder)), description, device=where, runtime=runtime)

    def save(self, folder: Path, *, write: Callable[[Path, bytes], object] = Path.write_bytes) -> None:
        """Write ``weights.safetensors``, then ``model.json``, to ``folder``.

        Args:
            folder: must exist.
            write: how a file is written; the catalogue passes its atomic one.
        """
        write(folder / WEIGHTS_FILE, self._weights)
        write(folder / MODEL_FILE, _to_json(self.description))

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Bring a picture to the network's size: (h, w, 3) uint8 → (height, width, 3) uint8.

        Raises:
            InputError: the array is not (h, w, 3) uint8.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"a picture must be (height, width, 3) uint8, not {image.shape} {image.dtype}")
        return self._prepare(np.ascontiguousarray(image))

    def tune(
        self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object] = lambda _: None
    ) -> Choice:
        """Choose the runtime, unless that was done; ``embed`` does it with its first pictures otherwise.

        What was chosen for a few pictures is chosen again when there are many.

        Args:
            sample: prepared pictures of the user, at least one; 32 are enough, 64 to calibrate 8-bit numbers.
            expected: pictures that will be embedded; with 1,000, runtimes are tried if that was not done here before.
            notice: told in a sentence what is being done, when it takes seconds.

        Raises:
            EmbedderError: the runtime asked for drifts beyond the bound on this sample.
            InputError: the runtime asked for has to be calibrated and was not.
        """
        with self._choosing:
            few = self._choice is not None and self._choice.provisional
            if self._choice is None or (few and expected >= MEASURE_FROM):
                pixels = np.stack(sample)
                site = Site(self.device, self._conversions, sample=pixels)
                runtime, choice = choose(
                    self._wanted, self._network, site, sample=pixels, expected=expected, notice=notice
                )
                self._run = Coalescer(runtime.run, at_once=runtime.at_once, batch=runtime.batch)
                self._choice = replace(choice, at_once=runtime.at_once)
            return self._choice

    def measure(
        self,
        sample: Sequence[np.ndarray],
        *,
        names: Sequence[str] | None = None,
        on_done: Callable[[Measurement], object] = lambda _: None,
    ) -> tuple[Choice, bool]:
        """Try runtimes and remember the best of them for this machine; what is in use here does not change.

        Args:
            sample: prepared pictures, at least one.
            names: keys of ``RUNTIMES``; None: those that "auto" tries. Named ones are not remembered.
            on_done: called with each measurement.

        Returns:
            The best, and whether it is remembered: not when names were given, the sample is smaller than 8 or the
            cache of conversions cannot be written.
        """
        pixels = np.stack(sample)
        site = Site(self.device, self._conversions, sample=pixels)
        choice = best(measure(self._network, site, sample=pixels[:SAMPLE], names=names, on_done=on_done))
        return choice, names is None and len(pixels) >= FEWEST and remember(site, choice)

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        """Embed pictures.

        Args:
            images: each (height, width, 3) uint8, sRGB, any size.
            prepared: whether they are what ``prepare`` gave.

        Returns:
            (n, dim) float32, L2-normalised, in the order of ``images``.

        Raises:
            InputError: an array is not (height, width, 3) uint8.
            EmbedderError: the device has no memory left, or the network gave a vector that is not finite; or, with
                the first pictures, as ``tune``.
        """
        if len(images) == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        if not prepared:
            images = [self.prepare(image) for image in images]
        if self._run is None:
            self.tune(images[:SAMPLE], expected=len(images))
        assert self._run is not None
        vectors = self._run(np.stack(images))
        if not np.isfinite(vectors).all():
            raise EmbedderError("the network gave vectors that are not finite; its weights are damaged or do not fit")
        return vectors

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Tell by the classifier head what vectors may be.

        Args:
            vectors: (n, dim), as ``embed`` gave them, kept in any precision.

        Returns:
            (n, classes) float32, in the order of ``classes``: logarithms of probabilities up to a number a row.

        Raises:
            InputError: it has no head, or vectors have another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InputError(f"vectors must be (n, {self.dim}), not {vectors.shape}")
        given = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
        with torch.inference_mode():
            logits: np.ndarray = self._network.logits(given.to(self._network.mean.device)).cpu().numpy()
        return logits


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
    return "cpu" if kind.type == "cpu" else device


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


def _describe(network: Network, version: int, provenance: dict[str, Any]) -> dict[str, Any]:
    description = {
        "format": version,
        "architecture": network.architecture.to_dict(),
        "preprocessing": network.preprocessing.to_dict(),
        "provenance": provenance,
    }
    # Through JSON once, so that a loaded embedder and this one hold equal values (tuples become lists).
    values: dict[str, Any] = json.loads(_to_json(description))
    return values


def _no_pooling(name: str) -> str:
    return f"there is no pooling {name!r}"


def _to_json(description: dict[str, Any]) -> bytes:
    return (json.dumps(description, indent=2, sort_keys=True) + "\n").encode()


def _digest(description: bytes, weights: bytes) -> str:
    return hashlib.sha256(description + weights).hexdigest()
