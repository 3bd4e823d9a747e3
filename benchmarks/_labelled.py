"""Labelled photos for the benchmarks of labels: their vectors from the user's own cache, and what is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.embedding import embed_apart
from retrieval.calibration import Calibration, fit, hold
from retrieval.evidence import LabelledGallery
from retrieval.labelled import unit_length
from retrieval.labels import Vocabulary
from retrieval.manifest import Manifest
from retrieval.sources import ImageSource


@dataclass(frozen=True)
class Photos:
    """Photos of one list.

    Attributes:
        vectors: (n, dim) float32, L2-normalised.
        labels: n of them.
        digests: SHA-256 of their bytes.
        logits: (n, h) of the embedder's head; None without one.
        columns: name → what each has in it, as text.
    """

    vectors: np.ndarray
    labels: list[str]
    digests: list[bytes]
    logits: np.ndarray | None
    columns: dict[str, list[str | None]]

    def take(self, some: np.ndarray) -> Photos:
        """Some of them, by places or as a mask."""
        places = np.arange(len(self.labels))[some].tolist()
        return Photos(
            self.vectors[places],
            [self.labels[at] for at in places],
            [self.digests[at] for at in places],
            None if self.logits is None else self.logits[places],
            {name: [values[at] for at in places] for name, values in self.columns.items()},
        )


def embedded(manifest: Manifest, embedder: Any, *, columns: Sequence[str] = ()) -> Photos:
    """Embed the photos of a list, or take their vectors from the cache."""
    table = manifest.table
    uris = table.column("uri").to_pylist()
    with ImageSource(manifest.root) as source:
        outcomes, vectors = embed_apart(source, uris, embedder, progress=lambda _: None, notice=lambda _: None)
    unit = unit_length(vectors, uris)
    return Photos(
        unit,
        table.column("label").to_pylist(),
        [bytes(outcome.sha256 or b"") for outcome in outcomes],
        embedder.logits(unit) if embedder.classes else None,
        {name: [None if value is None else str(value) for value in table.column(name).to_pylist()] for name in columns},
    )


def gallery_of(vectors: np.ndarray, labels: Sequence[str]) -> LabelledGallery:
    """What votes."""
    names = sorted(set(labels))
    return LabelledGallery(vectors, codes_of(labels, names), names)


def codes_of(labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Places of labels among names, (n,) int64, -1 of one that is not there."""
    place = {name: at for at, name in enumerate(names)}
    return np.array([place.get(label, -1) for label in labels], dtype=np.int64)


def fitted(
    gallery: LabelledGallery, head: Sequence[str], vectors: np.ndarray, codes: np.ndarray, logits: np.ndarray | None
) -> tuple[Vocabulary, Calibration]:
    """Fit labels by a gallery, and by a head of these classes, on held-out photos."""
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts, head)
    return vocabulary, fit(hold(vectors, codes, gallery, vocabulary, logits=logits), vocabulary)
