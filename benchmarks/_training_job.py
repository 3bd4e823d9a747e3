"""A job of the benchmark of training, and what its loops share: the model they start from, clock, losses, vectors."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import torch

OURS: Final = "lookalike"
PLAIN: Final = "pytorch-metric-learning"
OML: Final = "open-metric-learning"
UNTRAINED: Final = "untrained"
ARCFACE: Final = "arcface"
TRIPLET_HARD: Final = "triplet_hard"
DEGREES, SCALE, DEVIATION, MARGIN = 28.6, 64, 0.1, 0.2
AT_ONCE: Final = 128  # test images embedded together


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        loop: a key of ``benchmarks._training_peers.LOOPS``.
        train: folder of training pictures, a folder a class.
        pixels: ``.npy`` of prepared test pictures, (n, size, size, 3) uint8.
        weights: safetensors with timm's names, what every loop starts from.
        vectors: where the test vectors go, ``.npy``.
        backbone: timm's name.
        mean: of each channel, of values in [0, 1].
        std: likewise.
        dim: of the embedding, by a linear layer; 0: none, the pooled features themselves.
        size: of training pictures, pixels a side.
        batch: pictures a step.
        per_class: pictures of a class in a batch.
        epochs: passes over the pictures.
        steps: of an epoch, the same in every loop.
        loss: ``ARCFACE`` or ``TRIPLET_HARD``, as ours calls them too.
        classes: of the training pictures.
        lr: of the backbone, by Adam, constant.
        head_lr: of the linear layer.
        proxy_lr: of ArcFace's class weights.
        zoom: smallest share of the area that a random crop keeps.
        channels_last: layout in memory; ours chooses for itself.
        frozen: whether BatchNorm keeps its statistics and only scale and shift are trained; else it trains as in the
            peers' examples.
        workers: loader processes.
        threads: of torch.
        seed: of everything drawn.
    """

    loop: str
    train: str
    pixels: str
    weights: str
    vectors: str
    backbone: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    size: int
    batch: int
    per_class: int
    epochs: int
    steps: int
    loss: str
    classes: int
    lr: float
    head_lr: float
    proxy_lr: float
    zoom: float
    channels_last: bool
    frozen: bool
    workers: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        seconds: of training: reading, decoding and steps, from the first batch asked for to the last step.
        images: shown in that time.
        memory: most of this process up to then, MiB; loader processes are not in it.
        first: mean loss of the first tenth of the steps.
        last: of the last tenth.
        check: loss of fixed vectors, which must be the same in every loop; None where nothing was trained.
        version: of the peer.
    """

    seconds: float
    images: int
    memory: float
    first: float
    last: float
    check: float | None
    version: str


Criterion = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
Made = tuple[Criterion, "list[torch.nn.Parameter]"]


class Watch:
    """Clock, losses and memory of a run; begins when it is made."""

    def __init__(self, job: Job, make: Callable[[int, int], Made] | None, version: str) -> None:
        self._job, self._version = job, version
        self._check = None if make is None else check(make, job.per_class)
        self._losses: list[float] = []
        self._images = 0
        self._began = time.perf_counter()

    def note(self, loss: float, images: int) -> None:
        """Count a step."""
        self._losses.append(loss)
        self._images += images

    def end(self, embed: Callable[[], np.ndarray]) -> Outcome:
        """Stop the clock, and embed the test images: (n, dim) float32."""
        seconds = time.perf_counter() - self._began
        memory = peak()
        assert len(self._losses) == (self._check is not None) * self._job.epochs * self._job.steps
        np.save(self._job.vectors, embed())
        tenth = max(1, len(self._losses) // 10)
        first, last = (float(np.mean(part or [np.nan])) for part in (self._losses[:tenth], self._losses[-tenth:]))
        return Outcome(seconds, self._images, memory, first, last, self._check, self._version)


def check(make: Callable[[int, int], Made], per_class: int) -> float:
    """Give the loss of eight classes of fixed unit vectors, against fixed class weights."""
    import torch

    fixed = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(8 * per_class, 16, generator=fixed), dim=1)
    weights = torch.randn(8, 16, generator=fixed)
    criterion, proxies = make(8, 16)
    with torch.no_grad():
        for values in proxies:
            values.copy_(weights if values.shape == weights.shape else weights.T)
        return float(criterion(vectors, torch.arange(8).repeat_interleave(per_class)))


def peak() -> float:
    """Give the most memory this process has had so far, MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def model_of(job: Job) -> Any:
    """Backbone, linear layer and L2 normalisation, ready to train."""
    import safetensors.torch
    import timm
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            backbone: Any = timm.create_model(job.backbone, pretrained=False, num_classes=0)
            backbone.load_state_dict(safetensors.torch.load_file(job.weights))
            pooled = int(backbone.num_features)
            self.features = job.dim or pooled
            self.backbone = backbone
            self.projection = torch.nn.Linear(pooled, job.dim) if job.dim else torch.nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(self.projection(self.backbone(images)), dim=1)

    torch.manual_seed(job.seed)  # the linear layer begins as the same in every loop
    model = Model().train()
    if job.frozen:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    return model.to(memory_format=torch.channels_last) if job.channels_last else model


def begin_weights(weights: torch.Tensor) -> None:
    import torch

    torch.nn.init.normal_(weights, std=DEVIATION)


def optimizer_of(model: Any, proxies: list[torch.nn.Parameter], job: Job) -> torch.optim.Optimizer:
    import torch

    backbone = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    groups = [{"params": backbone, "lr": job.lr}]
    if proxies:
        groups.append({"params": proxies, "lr": job.proxy_lr})
    if job.dim:
        groups.append({"params": list(model.projection.parameters()), "lr": job.head_lr})
    return torch.optim.Adam(groups)


def laid_out(images: torch.Tensor, job: Job) -> torch.Tensor:
    import torch

    return images.to(memory_format=torch.channels_last) if job.channels_last else images


def embed_with(model: torch.nn.Module, job: Job) -> np.ndarray:
    """Embed the test images: (n, dim) float32."""
    import torch

    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (job.mean, job.std))
    pixels = np.load(job.pixels, mmap_mode="r")
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), AT_ONCE):
            images = torch.from_numpy(np.array(pixels[start : start + AT_ONCE])).permute(0, 3, 1, 2)
            parts.append(model((images / 255.0 - mean) / std).numpy())
    return np.concatenate(parts)
