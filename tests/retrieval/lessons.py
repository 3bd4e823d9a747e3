"""Small lessons that a tiny network learns in seconds: striped pictures of eight classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval import images
from retrieval.lesson import Examples, Lesson
from retrieval.recipe import Augmentation, Recipe
from retrieval.training import Trained, fit

BACKBONE = "test_efficientnet"
PLAIN = Augmentation(zoom=0.8, colour=0.0)
CLASSES = 8


def draw_stripes(folder: Path, *, classes: int = CLASSES, per_class: int = 6, seed: int = 0) -> Examples:
    """Draw classes of stripes that differ in colour, width and direction, with a little noise."""
    rng = np.random.default_rng(seed)
    ids, labels = [], []
    rows, columns = np.mgrid[0:48, 0:48]
    for number in range(classes):
        colour = np.array([number & 1, number >> 1 & 1, number >> 2 & 1]) * 150 + 50
        along = rows if number % 2 else columns
        (folder / f"c{number}").mkdir(parents=True)
        for picture in range(per_class):
            stripes = ((along + rng.integers(8)) // (3 + number) % 2)[..., None]
            pixels = np.clip(colour * (0.5 + stripes / 2) + rng.normal(0, 10, (48, 48, 3)), 0, 255).astype(np.uint8)
            name = f"c{number}/{picture}.png"
            Image.fromarray(pixels).save(folder / name)
            ids.append(name)
            labels.append(f"c{number}")
    return Examples(folder, ids, ids, labels)


def lesson_of(train: Examples, held_out: Examples | None = None, by: str = "images") -> Lesson:
    """A lesson; without pictures held out, the training pictures are looked at."""
    return Lesson(train, held_out or Examples(train.root, [], [], []), by, "drawn stripes")


def quick(**changes: object) -> Recipe:
    """A recipe that learns the stripes in some dozens of steps."""
    values: dict[str, object] = {
        "image_size": 64,
        "train_size": 64,
        "dim": 16,
        "loss": "ce",
        "batch": 16,
        "per_class": 2,
        "augmentation": PLAIN,
        "lr": 3e-3,
        "head_lr": 1e-2,
        "proxy_lr": 5e-2,
        "epochs": 4,
    }
    return Recipe(BACKBONE, **{**values, **changes})  # type: ignore[arg-type]


def train(lesson: Lesson, recipe: Recipe, folder: Path, weights: Path, **options: Any) -> Trained:
    """Train on the processor, in this process alone."""
    write = options.pop("write", Path.write_bytes)
    trained = fit(lesson, recipe, folder, write=write, weights=weights, device="cpu", workers=0, **options)
    assert trained is not None
    return trained


def recall_of(trained: Trained, examples: Examples) -> float:
    """Recall@1 by a plain loop over what the finished embedder gives."""
    pixels = [images.decode((examples.root / uri).read_bytes()).pixels for uri in examples.uris]
    vectors = trained.embedder.embed(pixels)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    labels = np.array(examples.labels)
    return float((labels[similar.argmax(axis=1)] == labels).mean())
