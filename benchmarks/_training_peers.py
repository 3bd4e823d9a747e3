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
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks._training_job import (
    ARCFACE,
    AT_ONCE,
    DEGREES,
    MARGIN,
    OML,
    OURS,
    PLAIN,
    SCALE,
    UNTRAINED,
    Job,
    Made,
    Outcome,
    Watch,
    begin_weights,
    embed_with,
    laid_out,
    model_of,
    optimizer_of,
)

if TYPE_CHECKING:
    import torch


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
            arcface = losses.ArcFaceLoss(classes, dim, margin=DEGREES, scale=SCALE, weight_init_func=begin_weights)
            return arcface, list(arcface.parameters())
        triplet, miner = losses.TripletMarginLoss(margin=MARGIN), miners.BatchHardMiner()
        return lambda embeddings, labels: triplet(embeddings, labels, miner(embeddings, labels)), []

    model = model_of(job)
    criterion, proxies = make(job.classes, model.features)
    optimizer = optimizer_of(model, proxies, job)
    watch = Watch(job, make, __version__)
    for _ in range(job.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            embeddings = model(laid_out(images, job))
            loss = criterion(embeddings, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watch.note(float(loss.detach()), len(images))
    return watch.end(lambda: embed_with(model, job))


def open_metric_learning(job: Job) -> Outcome:
    """Train as the README of Open Metric Learning does."""
    import pandas as pd
    from oml import __version__, datasets
    from oml.interfaces.models import IExtractor
    from oml.losses import ArcFaceLoss, TripletLossWithMiner
    from oml.miners import HardTripletsMiner
    from oml.registry.transforms import get_transforms
    from oml.samplers import BalanceSampler
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
            begin_weights(arcface.weight)
            return arcface, list(arcface.parameters())
        triplets = TripletLossWithMiner(MARGIN, HardTripletsMiner(), reduction="none")

        def within(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = triplets(embeddings, labels)
            return values.sum() / (values > 0).sum().clamp(min=1)

        return within, []

    model = Extractor(model_of(job))
    criterion, proxies = make(job.classes, model.feat_dim)
    optimizer = optimizer_of(model.model, proxies, job)
    sampler = BalanceSampler(train.get_labels(), n_labels=job.batch // job.per_class, n_instances=job.per_class)
    loader = DataLoader(train, batch_sampler=_Joined(sampler, job.epochs * job.steps), num_workers=job.workers)

    watch = Watch(job, make, __version__)
    for batch in loader:
        embeddings = model(laid_out(batch["input_tensors"], job))
        loss = criterion(embeddings, batch["labels"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        watch.note(float(loss.detach()), len(embeddings))
    return watch.end(lambda: embed_with(model.model, job))


def ours(job: Job) -> Outcome:
    """Train as ``lookalike train`` does, with all it chooses by itself set to what the others do."""
    from retrieval.embedder import Embedder
    from retrieval.held_out import CLASSES
    from retrieval.lesson import Examples, Lesson
    from retrieval.listener import Listener
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

    watch = Watch(job, make, "")
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
            listener=Listener(step=lambda step: watch.note(step.loss, job.batch)),
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
    return Watch(job, None, "").end(lambda: embed_with(model_of(job), job))


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
