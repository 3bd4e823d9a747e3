"""Are labels right, is their confidence to be believed, and is "none of these" told?

Grocery Store Dataset, official lists: test.txt labelled by a catalogue of train.txt, everything fitted on val.txt.

- head, vote of the nearest and both together: top-1 fine and coarse, expected calibration error;
- sets of labels that shall cover 90 %: with train.txt and val.txt put together and parted at random again and again
  (exchangeable, as the guarantee asks), and on test.txt, whose shops are others;
- 20 of the 81 classes left out of the catalogue, drawn anew each time: AUROC of known against left-out test photos;
- milliseconds a picture beyond the search, for a catalogue of 10,000 labels.

    python -m benchmarks labels --embedder lite2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import photo_folder, print_machine
from indexer.embedding import embed_apart
from indexer.opening import load_embedder
from retrieval.answers import Asked, answer
from retrieval.calibration import Calibration, fit, hold
from retrieval.conformal import sets
from retrieval.evidence import LabelledGallery, gather
from retrieval.label_evaluation import Asking, evaluate_labels
from retrieval.labelled import unit_length
from retrieval.labels import Vocabulary
from retrieval.manifest import read_manifest
from retrieval.openness import auroc, false_accepts_at
from retrieval.sources import ImageSource

COVERAGE = 0.9
LEFT_OUT = 20


class Part:
    """One of the lists: unit vectors, labels and the head's logits."""

    def __init__(self, root: Path, name: str, embedder: Any) -> None:
        manifest = read_manifest(root / f"{name}.txt")
        uris = manifest.table.column("uri").to_pylist()
        with ImageSource(manifest.root) as source:
            _, vectors = embed_apart(source, uris, embedder, progress=lambda _: None, notice=lambda _: None)
        self.vectors = unit_length(vectors, uris)
        self.labels: list[str] = manifest.table.column("label").to_pylist()
        self.logits = embedder.logits(self.vectors) if embedder.classes else None


def main(arguments: Sequence[str]) -> None:
    """Print a table a question."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", action="append", required=True, help="folder of one; may be repeated")
    parser.add_argument("--root", type=Path, default=photo_folder() / "grocery" / "dataset")
    parser.add_argument("--draws", type=int, default=50, help="of the exchangeable parts, and of classes left out")
    given = parser.parse_args(arguments)
    print_machine(["numpy", "scipy", "torch"])
    for name in given.embedder:
        embedder = load_embedder(name, None, None, device="cpu", runtime="auto")
        parts = {part: Part(given.root, part, embedder) for part in ("train", "val", "test")}
        print(f"\n{name}: {embedder.dim} dimensions, digest {embedder.digest[:12]}")
        _official(parts, embedder.classes)
        _exchangeable(parts, embedder.classes, given.draws)
        _left_out(parts, embedder.classes, given.draws)
    _many_labels()


def _fitted(
    gallery: LabelledGallery, head: Sequence[str], vectors: np.ndarray, codes: np.ndarray, logits: np.ndarray | None
) -> tuple[Vocabulary, Calibration]:
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts, head)
    return vocabulary, fit(hold(vectors, codes, gallery, vocabulary, logits=logits), vocabulary)


def _gallery(vectors: np.ndarray, labels: Sequence[str]) -> LabelledGallery:
    names = sorted(set(labels))
    return LabelledGallery(vectors, _codes(labels, names), names)


def _codes(labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    place = {name: at for at, name in enumerate(names)}
    return np.array([place.get(label, -1) for label in labels], dtype=np.int64)


def _official(parts: dict[str, Part], head: Sequence[str]) -> None:
    train, val, test = parts["train"], parts["val"], parts["test"]
    gallery = _gallery(train.vectors, train.labels)
    vocabulary, calibration = _fitted(gallery, head, val.vectors, _codes(val.labels, gallery.labels), val.logits)
    evidence = gather(test.vectors, gallery, logits=test.logits)
    ids = [f"{at:05d}" for at in range(len(test.labels))]
    asking = Asking(ids, test.labels, _codes(test.labels, gallery.labels), evidence)
    found, _ = evaluate_labels(asking, vocabulary, calibration)
    print("test.txt by train.txt, fitted on val.txt; 95 % intervals by bootstrap over classes")
    print(f"{'':8s}{'fine':>26s}{'coarse':>26s}{'ECE':>8s}{'AURC':>8s}  sets of 90 %: cover, labels, empty")
    for one in found["sources"]:
        figures = {figure.name: figure for figure in one.figures}
        cells = [figures["Top-1"], figures["Top-1 at level 2"]]
        told = "".join(f"{f'{f.value:.2%} ({f.low:.1%} to {f.high:.1%})':>26s}" for f in cells)
        (of,) = [each for each in one.coverages if each.asked == COVERAGE]
        print(
            f"{one.source:8s}{told}{one.classification.calibration_error:8.2%}{one.risk_area:8.2%}  "
            f"{of.achieved:.2%}, {of.size:.2f}, {of.empty:.2%}"
        )


def _exchangeable(parts: dict[str, Part], head: Sequence[str], draws: int) -> None:
    both = (parts["train"], parts["val"])
    vectors = np.concatenate([part.vectors for part in both])
    labels = np.array([label for part in both for label in part.labels], dtype=object)
    logits = None if not head else np.concatenate([np.asarray(part.logits) for part in both])
    covered, sizes = [], []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(labels))
        shown, fitting, asked = np.split(order, [len(order) * 3 // 5, len(order) * 4 // 5])
        gallery = _gallery(vectors[shown], labels[shown].tolist())

        def of(some: np.ndarray, names: Sequence[str]) -> np.ndarray:
            codes = _codes(labels[some].tolist(), names)
            return some[codes >= 0]

        fitting, asked = of(fitting, gallery.labels), of(asked, gallery.labels)
        codes = _codes(labels[fitting].tolist(), gallery.labels)
        of_head = None if logits is None else logits[fitting]
        vocabulary, calibration = _fitted(gallery, head, vectors[fitting], codes, of_head)
        evidence = gather(vectors[asked], gallery, logits=None if logits is None else logits[asked])
        source = vocabulary.sources[0]
        every = calibration.of_sets.nonconformities(evidence, vocabulary, source)
        within = sets(every, calibration.conformal[source].limit(COVERAGE))
        covered.append(within[np.arange(len(asked)), _codes(labels[asked].tolist(), gallery.labels)].mean())
        sizes.append(within.sum(axis=1).mean())
    print(
        f"train.txt and val.txt parted anew {draws} times: sets of 90 % cover {np.mean(covered):.2%} in the mean "
        f"({np.quantile(covered, 0.025):.1%} to {np.quantile(covered, 0.975):.1%} of the draws), "
        f"{np.mean(sizes):.2f} labels a set"
    )


def _left_out(parts: dict[str, Part], head: Sequence[str], draws: int) -> None:
    train, val, test = parts["train"], parts["val"], parts["test"]
    classes = sorted(set(train.labels))
    areas, passing, chosen = [], [], []
    for seed in range(draws):
        gone = set(np.random.default_rng(seed).choice(classes, LEFT_OUT, replace=False).tolist())
        kept = np.array([label not in gone for label in train.labels])
        gallery = _gallery(train.vectors[kept], [label for label in train.labels if label not in gone])
        seen = np.array([label not in gone for label in val.labels])
        codes = _codes([label for label in val.labels if label not in gone], gallery.labels)
        of_head = None if val.logits is None else val.logits[seen]
        vocabulary, calibration = _fitted(gallery, head, val.vectors[seen], codes, of_head)
        evidence = gather(test.vectors, gallery, logits=test.logits)
        scores = calibration.numbers.known_scores(evidence, vocabulary)
        known = np.array([label not in gone for label in test.labels])
        areas.append(auroc(scores[known], scores[~known]))
        passing.append(false_accepts_at(scores[known], scores[~known]))
        chosen.append(calibration.numbers.openness.score)
    names = {name: chosen.count(name) for name in sorted(set(chosen))}
    print(
        f"{LEFT_OUT} of {len(classes)} classes left out of the catalogue {draws} times: AUROC {np.mean(areas):.3f} in "
        f"the mean ({min(areas):.3f} to {max(areas):.3f}), {np.mean(passing):.1%} of unknown pass where 95 % of known "
        f"do; chosen score {', '.join(f'{name} {number} times' for name, number in names.items())}"
    )


def _many_labels(labels: int = 10_000, dim: int = 128, queries: int = 64) -> None:
    rng = np.random.default_rng(0)

    def drawn(codes: np.ndarray) -> np.ndarray:
        wide = middles[codes] + 0.5 * rng.normal(size=(len(codes), dim)).astype(np.float32) / np.sqrt(dim)
        return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)

    middles = rng.normal(size=(labels, dim)).astype(np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    codes = np.repeat(np.arange(labels), 3)
    gallery = LabelledGallery(drawn(codes), codes, [f"Kind{at % 100:02d}/{at:05d}" for at in range(labels)])
    asked = rng.integers(labels, size=400)
    vocabulary, calibration = _fitted(gallery, (), drawn(asked), asked, None)
    evidence = gather(drawn(asked[:queries]), gallery)
    one = [evidence.take(slice(at, at + 1)) for at in range(queries)]
    answer(["warm"], one[0], vocabulary, calibration)
    began = time.perf_counter()
    for at, single in enumerate(one):
        answer([str(at)], single, vocabulary, calibration, asked=Asked(coverage=COVERAGE))
    alone = (time.perf_counter() - began) / queries
    began = time.perf_counter()
    answer([str(at) for at in range(queries)], evidence, vocabulary, calibration, asked=Asked(coverage=COVERAGE))
    together = (time.perf_counter() - began) / queries
    print(
        f"\n{labels:,} labels: an answer with its set takes {1000 * alone:.1f} ms a picture asked alone, "
        f"{1000 * together:.1f} ms of {queries} asked together, beyond the search"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
