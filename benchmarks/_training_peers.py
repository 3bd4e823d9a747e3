"""What runs in the processes of the benchmark of training: two published loops, and ours.

Both published loops are those of their own examples, with our backbone, data, loss and steps put in: Open Metric
Learning's ``ImageLabeledDataset``, ``BalanceSampler`` and ``TripletLossWithMiner``; torchvision's ``ImageFolder`` with
pytorch-metric-learning's ``MPerClassSampler``, miner and ``TripletMarginLoss``. Where an example leaves something open
it is decided in favour of the peer: loader processes are kept from one pass over the data to the next, and passes of
Open Metric Learning, six batches long on Cars, are joined into one, so that nothing waits between them.

The losses are those that all three have. ``arcface`` (Deng et al., CVPR 2019): 28.6 degrees, scale 64, class weights
from normal numbers with deviation 0.1. ``triplet_hard`` (Hermans et al., arXiv 1703.07737): each image with its
farthest positive and nearest negative of the batch, margin 0.2, the mean over those within the margin. The last is how
pytorch-metric-learning has it; Open Metric Learning hands out the values, and that mean is taken here.

``python -m benchmarks._training_peers JOB``: train as the file says, print one JSON object, leave the vectors of the
test images beside it. It must run where only the peer's packages and torch are.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
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
        loop: a key of ``LOOPS``.
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
        frozen: whether BatchNorm keeps its statistics and scale; else it trains, as in the peers' examples.
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


def plain(job: Job) -> Outcome:
    """Train as the examples of pytorch-metric-learning do."""
    from pytorch_metric_learning import __version__, losses, miners, samplers
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                job.size, scale=(job.zoom, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(job.mean, job.std),
        ]
    )
    dataset = datasets.ImageFolder(job.train, transform)
    shown = job.steps * job.batch
    sampler = samplers.MPerClassSampler(dataset.targets, job.per_class, job.batch, length_before_new_iter=shown)
    loader = DataLoader(
        dataset,
        batch_size=job.batch,
        sampler=sampler,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
    )

    def make(classes: int, dim: int) -> Made:
        if job.loss == ARCFACE:
            arcface = losses.ArcFaceLoss(classes, dim, margin=DEGREES, scale=SCALE, weight_init_func=_start)
            return arcface, list(arcface.parameters())
        triplet, miner = losses.TripletMarginLoss(margin=MARGIN), miners.BatchHardMiner()
        return lambda embeddings, labels: triplet(embeddings, labels, miner(embeddings, labels)), []

    model = _model(job)
    criterion, proxies = make(job.classes, model.features)
    optimizer = _optimizer(model, proxies, job)
    watch = _Watch(job, make, __version__)
    for _ in range(job.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            embeddings = model(_laid_out(images, job))
            loss = criterion(embeddings, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watch.note(float(loss.detach()), len(images))
    return watch.end(lambda: _embed(model, job))


def open_metric_learning(job: Job) -> Outcome:
    """Train as the README of Open Metric Learning does."""
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    from oml import __version__, datasets  # type: ignore[import-not-found]
    from oml.interfaces.models import IExtractor  # type: ignore[import-not-found]
    from oml.losses import ArcFaceLoss, TripletLossWithMiner  # type: ignore[import-not-found]
    from oml.miners import HardTripletsMiner  # type: ignore[import-not-found]
    from oml.registry.transforms import get_transforms  # type: ignore[import-not-found]
    from oml.samplers import BalanceSampler  # type: ignore[import-not-found]
    from torch.utils.data import DataLoader

    class Extractor(IExtractor):  # type: ignore[misc]
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        @property
        def feat_dim(self) -> int:
            return int(self.model.features)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            vectors: torch.Tensor = self.model(images)
            return vectors

    folders = sorted(path for path in Path(job.train).iterdir() if path.is_dir())
    rows = [(at, str(path)) for at, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    # Random crop, flip and normalisation in one, as its registry has it.
    transform = get_transforms("augs_hypvit_torch", im_size=job.size, min_scale=job.zoom, mean=job.mean, std=job.std)
    train = datasets.ImageLabeledDataset(pd.DataFrame(rows, columns=["label", "path"]), transform=transform)

    def make(classes: int, dim: int) -> Made:
        if job.loss == ARCFACE:
            arcface = ArcFaceLoss(dim, classes, m=math.radians(DEGREES), s=SCALE)
            _start(arcface.weight)
            return arcface, list(arcface.parameters())
        triplets = TripletLossWithMiner(MARGIN, HardTripletsMiner(), reduction="none")

        def within(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = triplets(embeddings, labels)
            return values.sum() / (values > 0).sum().clamp(min=1)

        return within, []

    model = Extractor(_model(job))
    criterion, proxies = make(job.classes, model.feat_dim)
    optimizer = _optimizer(model.model, proxies, job)
    sampler = BalanceSampler(train.get_labels(), n_labels=job.batch // job.per_class, n_instances=job.per_class)
    loader = DataLoader(train, batch_sampler=_Joined(sampler, job.epochs * job.steps), num_workers=job.workers)

    watch = _Watch(job, make, __version__)
    for batch in loader:
        embeddings = model(_laid_out(batch["input_tensors"], job))
        loss = criterion(embeddings, batch["labels"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        watch.note(float(loss.detach()), len(embeddings))
    return watch.end(lambda: _embed(model.model, job))


def ours(job: Job) -> Outcome:
    """Train as ``lookalike train`` does, with all it chooses by itself set to what the others do."""
    from retrieval.embedder import Embedder
    from retrieval.lesson import CLASSES, Examples, Lesson
    from retrieval.manifest import read_manifest
    from retrieval.objective import Objective
    from retrieval.recipe import Augmentation, Recipe
    from retrieval.training import fit

    recipe = Recipe(
        job.backbone,
        image_size=job.size,
        train_size=job.size,
        dim=job.dim or None,
        head="none",
        loss=job.loss,
        batch=job.batch,
        per_class=job.per_class,
        augmentation=Augmentation(zoom=job.zoom, colour=0.0),
        optimizer="adam",
        lr=job.lr,
        head_lr=job.head_lr,
        proxy_lr=job.proxy_lr,
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        clip=0.0,
        batchnorm="frozen" if job.frozen else "trained",
        precision="32",
        epochs=job.epochs,
        seed=job.seed,
    )

    def make(classes: int, dim: int) -> Made:
        objective = Objective(job.loss, classes=classes, dim=dim, images=classes * job.per_class)
        return lambda vectors, labels: objective(vectors, labels)[0], list(objective.parameters())

    watch = _Watch(job, make, "")
    manifest = read_manifest(Path(job.train))
    ids, uris, labels = (manifest.table.column(name).to_pylist() for name in ("id", "uri", "label"))
    lesson = Lesson(Examples(manifest.root, ids, uris, labels), Examples(manifest.root, [], [], []), CLASSES, "Cars")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trained = fit(
            lesson,
            recipe,
            place,
            write=Path.write_bytes,
            weights=Path(job.weights),
            device="cpu",
            progress=lambda step: watch.note(step.loss, job.batch),
        )
        assert trained is not None
        trained.embedder.save(place)

        def embed() -> np.ndarray:
            embedder = Embedder.load(place, device="cpu", runtime="torch")
            pixels = np.load(job.pixels, mmap_mode="r")
            parts = range(0, len(pixels), AT_ONCE)
            return np.concatenate([embedder.embed(list(pixels[at : at + AT_ONCE]), prepared=True) for at in parts])

        return watch.end(embed)


def untrained(job: Job) -> Outcome:
    """Embed with what every loop starts from."""
    return _Watch(job, None, "").end(lambda: _embed(_model(job), job))


LOOPS: Final[dict[str, Callable[[Job], Outcome]]] = {
    OURS: ours,
    PLAIN: plain,
    OML: open_metric_learning,
    UNTRAINED: untrained,
}


class _Joined:
    """Passes of a sampler of batches one after another, until there are enough."""

    def __init__(self, sampler: Iterable[list[int]], steps: int) -> None:
        self._sampler, self._steps = sampler, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        made = 0
        while True:
            for batch in self._sampler:
                if made == self._steps:
                    return
                yield batch
                made += 1


class _Watch:
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


def _model(job: Job) -> Any:
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
                module.eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last) if job.channels_last else model


def _start(weights: torch.Tensor) -> None:
    import torch

    torch.nn.init.normal_(weights, std=DEVIATION)


def _optimizer(model: Any, proxies: list[torch.nn.Parameter], job: Job) -> torch.optim.Optimizer:
    import torch

    backbone = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    groups = [{"params": backbone, "lr": job.lr}]
    if proxies:
        groups.append({"params": proxies, "lr": job.proxy_lr})
    if job.dim:
        groups.append({"params": list(model.projection.parameters()), "lr": job.head_lr})
    return torch.optim.Adam(groups)


def _laid_out(images: torch.Tensor, job: Job) -> torch.Tensor:
    import torch

    return images.to(memory_format=torch.channels_last) if job.channels_last else images


def _embed(model: torch.nn.Module, job: Job) -> np.ndarray:
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


def main() -> None:
    """Do the job in the named file."""
    import torch

    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    random.seed(job.seed)
    print(json.dumps(asdict(LOOPS[job.loop](job))))


if __name__ == "__main__":
    main()
