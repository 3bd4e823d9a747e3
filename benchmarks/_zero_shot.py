"""Cars196-train-half for benchmarks of training: learn the classes 1 to 98, search among 99 to 196."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from benchmarks.machine import load, photo_folder, print_machine
from indexer.files import write_bytes
from indexer.options import progress_bar
from retrieval import images
from retrieval.choosing import Counts, choose
from retrieval.embedder import Embedder
from retrieval.errors import ImageError
from retrieval.evaluation import measures, ranking
from retrieval.held_out import CLASSES
from retrieval.labelled import Labelled, code
from retrieval.lesson import Examples, Lesson
from retrieval.listener import Listener
from retrieval.manifest import read_manifest
from retrieval.recipe import Recipe
from retrieval.sources import ImageSource
from retrieval.training import fit
from retrieval.uncertainty import Spread, over_seeds

BATCH: Final = 64
CARS: Final = Path("cars") / "cars196-train-half.parquet"


def parser_of(name: str, about: str | None, *, epochs: int) -> argparse.ArgumentParser:
    """What the contests are asked, and how long they train."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=96, help="image size, pixels")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--hold-out", type=int, default=0, metavar="N", help="measure on the last N training classes: to choose by"
    )
    parser.add_argument("--keep", type=Path, help="file that finished runs are kept in, to go on from")
    return parser


def chosen(contest: Contest, asked: argparse.Namespace, **given: Any) -> Recipe:
    """Give what ``lookalike train`` chooses at this size, batch and epochs, beside what is given."""
    given |= {"image_size": asked.size, "train_size": asked.size, "epochs": asked.epochs, "batch": asked.batch}
    counts = Counts.of(contest.train.labels)
    return choose(asked.backbone, counts, device="cpu", budget=None, native_size=asked.size, given=given)[0]


def default_recipe(contest: Contest, asked: argparse.Namespace) -> Recipe:
    """Say what is measured on what, and give what ``lookalike train`` chooses at this size, batch and epochs."""
    print_machine(["lookalike", "torch", "lightning", "pytorch-metric-learning", "timm"])
    counts, recipe = Counts.of(contest.train.labels), chosen(contest, asked)
    print(
        f"{counts.pictures:,} pictures of {counts.classes} classes, {asked.epochs} epochs at {asked.size} px, batch "
        f"{asked.batch} with {recipe.per_class} of a class, {recipe.dim or 'all'} numbers a vector, "
        f"{asked.seeds} seeds; measured on {len(contest.test.ids):,} pictures of {len(set(contest.test.labels))} other "
        "classes\n"
        f"default: {recipe.loss}, lr {recipe.lr:g}, head {recipe.head_lr:g}, proxies {recipe.proxy_lr:g}\n"
    )
    return recipe


def cars(hold_out: int = 0) -> tuple[Examples, Examples]:
    """The pictures to learn from and those of other classes to measure on: the test's, or so many of the training's."""
    manifest = read_manifest(photo_folder() / CARS)
    table = last_classes_apart(manifest.table, hold_out) if hold_out else manifest.table
    parts = []
    for split in ("train", "test"):
        some = table.filter(np.array([value == split for value in table.column("split").to_pylist()]))
        parts.append(Examples(manifest.root, *(some.column(name).to_pylist() for name in ("id", "uri", "label"))))
    return parts[0], parts[1]


def last_classes_apart(table: pa.Table, number: int) -> pa.Table:
    """The training part alone, its last classes as the test: what rates may be chosen on.

    They are cut off as the benchmark's own test classes are, by their names, and so are of other makers.
    """
    part = table.filter(pa.compute.equal(table.column("split"), "train"))
    last = set(sorted(set(part.column("label").to_pylist()))[-number:])
    splits = ["test" if label in last else "train" for label in part.column("label").to_pylist()]
    return part.set_column(part.column_names.index("split"), "split", pa.array(splits))


def measure(embedder: Embedder, pixels: Sequence[np.ndarray], test: Examples) -> dict[str, float]:
    """Recall@1 and MAP@R, leave-one-out among the test pictures, by torch in float32."""
    prepared = [embedder.prepare(picture) for picture in pixels]
    parts = [embedder.embed(prepared[at : at + BATCH], prepared=True) for at in range(0, len(prepared), BATCH)]
    labelled = Labelled(np.concatenate(parts), test.ids, test.labels)
    coded = code(labelled, labelled)
    names, values = measures(ranking(coded, "cpu"), [1])
    return dict(zip(names, values.mean(axis=0).tolist(), strict=True))


class Contest:
    """Recipes trained with several seeds and measured, one after another; what is done is kept in a file.

    Attributes:
        rows: name of each recipe → what each seed gave.
    """

    def __init__(self, keep: Path | None, hold_out: int = 0) -> None:
        self.train, self.test = cars(hold_out)
        with ImageSource(self.test.root) as source:
            self._pixels = [_decoded(data) for data in source.read_many(self.test.uris)]
        self._keep = keep
        self.rows: dict[str, list[dict[str, float]]] = {}
        self._done: dict[str, dict[str, float]] = {}
        if keep is not None and keep.exists():
            self._done = json.loads(keep.read_text())

    def frozen(self, recipe: Recipe) -> dict[str, float]:
        """Measure what all begin from: the backbone and its own pooling, at the image size of the recipe."""
        embedder = Embedder.create(recipe.backbone, device="cpu", runtime="torch")
        preprocessing = {
            **embedder.description["preprocessing"],
            "height": recipe.image_size,
            "width": recipe.image_size,
        }
        embedder = Embedder.create(recipe.backbone, preprocessing=preprocessing, device="cpu", runtime="torch")
        return measure(embedder, self._pixels, self.test)

    def run(self, name: str, recipe: Recipe, seeds: int) -> None:
        """Train and measure a recipe with the seeds 0 to ``seeds`` - 1."""
        for seed in range(seeds):
            seeded = replace(recipe, seed=seed)
            key = json.dumps([name, seeded.to_dict(), len(self.test.ids)], sort_keys=True)
            if key not in self._done:
                self._done[key] = self._once(f"{name}, seed {seed}", seeded)
                if self._keep is not None:
                    write_bytes(self._keep, json.dumps(self._done).encode())
            self.rows.setdefault(name, []).append(self._done[key])

    def _once(self, what: str, recipe: Recipe) -> dict[str, float]:
        lesson = Lesson(self.train, Examples(self.train.root, [], [], []), CLASSES, CARS.stem)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, progress_bar(what, "steps") as show:

            def progress(step: Any) -> None:
                show((step.epoch - 1) * step.steps + step.step, step.epochs * step.steps, 0)

            trained = fit(
                lesson, recipe, Path(folder), write=write_bytes, device="cpu", listener=Listener(step=progress)
            )
        assert trained is not None
        took = time.monotonic() - began
        speed = float(np.mean([row.images_per_second for row in trained.course.rows]))
        found = measure(_by_torch(trained.embedder), self._pixels, self.test)
        print(
            f"{what}: Recall@1 {found['Recall@1']:.2%}, MAP@R {found['MAP@R']:.2%}, {speed:.0f} images/s, {took:.0f} s"
            f" ({load()})",
            file=sys.stderr,
            flush=True,
        )
        return {**found, "images/s": speed, "seconds": took}

    def table(self, frozen: dict[str, float]) -> None:
        """Print a row a recipe: means and half widths of 95 % intervals over the seeds."""
        width = max(len(name) for name in [*self.rows, "frozen"])
        print(f"{'':{width}s}   Recall@1              MAP@R                 images/s   seconds a run")
        print(f"{'frozen':{width}s}   {frozen['Recall@1']:7.2%}               {frozen['MAP@R']:7.2%}")
        for name, runs in sorted(self.rows.items(), key=lambda row: -_mean(row[1], "Recall@1")):
            spreads = [over_seeds([run[measured] for run in runs]) for measured in ("Recall@1", "MAP@R")]
            print(
                f"{name:{width}s}   {_shown(spreads[0])}     {_shown(spreads[1])}     "
                f"{_mean(runs, 'images/s'):8.0f}   {_mean(runs, 'seconds'):8.0f}",
                flush=True,
            )


def _by_torch(embedder: Embedder) -> Embedder:
    """The same embedder run by torch in float32, so that no runtime is part of the comparison."""
    with tempfile.TemporaryDirectory() as folder:
        embedder.save(Path(folder))
        return Embedder.load(Path(folder), device="cpu", runtime="torch")


def _decoded(data: bytes | ImageError) -> np.ndarray:
    if isinstance(data, ImageError):
        raise data
    return images.decode(data).pixels


def _mean(runs: Sequence[dict[str, float]], name: str) -> float:
    return float(np.mean([run[name] for run in runs]))


def _shown(spread: Spread) -> str:
    half = (spread.high - spread.low) / 2 if spread.low is not None and spread.high is not None else None
    return f"{spread.mean:7.2%} ± {half:6.2%}" if half is not None else f"{spread.mean:7.2%}         "
