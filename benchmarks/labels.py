"""Are labels right, is their confidence to be believed, and is "none of these" told?

Grocery Store Dataset, official lists: test.txt labelled by a catalogue of train.txt, everything fitted on val.txt.

- head, vote of the nearest and both together: top-1 fine and coarse, expected calibration error;
- sets of labels that shall cover 90 %: with train.txt and val.txt put together and parted at random again and again
  (exchangeable, as the guarantee asks), and on test.txt, whose shops are others;
- 20 of the 81 classes left out of the catalogue, drawn anew each time: AUROC of known against left-out test photos;
- the same with an embedder whose training has not seen the classes that are left out, which is harder;
- milliseconds a picture beyond the search, for a catalogue of 10,000 labels.

    python -m benchmarks labels --embedder lite2
    python -m benchmarks labels --list seen.csv
    lookalike train seen.csv --root dataset --out seen && python -m benchmarks labels --unseen seen
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._labelled import Photos, codes_of, embedded, fitted, gallery_of
from benchmarks.machine import photo_folder, print_machine
from indexer.calibrating import calibrate
from indexer.catalogue import Catalogue
from indexer.items import ITEMS_SCHEMA
from indexer.label_queries import Pictures
from indexer.labelling import label
from indexer.opening import load_embedder
from retrieval.answers import Asked
from retrieval.conformal import sets
from retrieval.errors import InputError
from retrieval.evidence import K, gather
from retrieval.label_evaluation import Asking, evaluate_labels
from retrieval.manifest import read_manifest
from retrieval.openness import Openness, auroc, false_accepts_at

COVERAGE = 0.9
LEFT_OUT = 20
FALSE_ACCEPT = 0.05
RESAMPLES = 1000
LISTS = ("train", "val", "test")


def main(arguments: Sequence[str]) -> None:
    """Print a table a question."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", action="append", default=[], help="folder of one; may be repeated")
    parser.add_argument(
        "--unseen", action="append", default=[], help="one that was trained without some of the classes"
    )
    parser.add_argument("--list", type=Path, help="only write a list without 20 classes, to train such a one on")
    parser.add_argument("--seed", type=int, default=0, help="of those classes")
    parser.add_argument("--root", type=Path, default=photo_folder() / "grocery" / "dataset")
    parser.add_argument("--draws", type=int, default=50, help="of the exchangeable parts, and of classes left out")
    given = parser.parse_args(arguments)
    if given.list is not None:
        return _write_list(given.list, given.root, given.seed)
    print_machine(["numpy", "scipy", "torch"])
    for name in [*given.embedder, *given.unseen]:
        embedder = load_embedder(name, None, None, device="cpu", runtime="auto")
        parts = {part: embedded(read_manifest(given.root / f"{part}.txt"), embedder) for part in LISTS}
        print(f"\n{name}: {embedder.dim} dimensions, digest {embedder.digest[:12]}")
        if name in given.unseen:
            _unseen(parts, embedder.classes, given.seed)
            continue
        _official(parts, embedder.classes)
        _exchangeable(parts, embedder.classes, given.draws)
        _left_out(parts, embedder.classes, given.draws)
    _many_labels()


def _official(parts: dict[str, Photos], head: Sequence[str]) -> None:
    train, val, test = parts["train"], parts["val"], parts["test"]
    gallery = gallery_of(train.vectors, train.labels)
    vocabulary, calibration = fitted(gallery, head, val.vectors, codes_of(val.labels, gallery.labels), val.logits)
    evidence = gather(test.vectors, gallery, logits=test.logits)
    ids = [f"{at:05d}" for at in range(len(test.labels))]
    asking = Asking(ids, test.labels, codes_of(test.labels, gallery.labels), evidence)
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


def _exchangeable(parts: dict[str, Photos], head: Sequence[str], draws: int) -> None:
    both = (parts["train"], parts["val"])
    vectors = np.concatenate([part.vectors for part in both])
    labels = np.array([label for part in both for label in part.labels], dtype=object)
    logits = None if not head else np.concatenate([np.asarray(part.logits) for part in both])
    covered, sizes = [], []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(labels))
        shown, fitting, asked = np.split(order, [len(order) * 3 // 5, len(order) * 4 // 5])
        gallery = gallery_of(vectors[shown], labels[shown].tolist())

        def of(some: np.ndarray, names: Sequence[str]) -> np.ndarray:
            codes = codes_of(labels[some].tolist(), names)
            return some[codes >= 0]

        fitting, asked = of(fitting, gallery.labels), of(asked, gallery.labels)
        codes = codes_of(labels[fitting].tolist(), gallery.labels)
        of_head = None if logits is None else logits[fitting]
        vocabulary, calibration = fitted(gallery, head, vectors[fitting], codes, of_head)
        evidence = gather(vectors[asked], gallery, logits=None if logits is None else logits[asked])
        source = vocabulary.sources[0]
        every = calibration.of_sets.nonconformities(evidence, vocabulary, source)
        within = sets(every, calibration.conformal[source].limit(COVERAGE))
        covered.append(within[np.arange(len(asked)), codes_of(labels[asked].tolist(), gallery.labels)].mean())
        sizes.append(within.sum(axis=1).mean())
    print(
        f"train.txt and val.txt parted anew {draws} times: sets of 90 % cover {np.mean(covered):.2%} in the mean "
        f"({np.quantile(covered, 0.025):.1%} to {np.quantile(covered, 0.975):.1%} of the draws), "
        f"{np.mean(sizes):.2f} labels a set"
    )


def _drawn(labels: Sequence[str], seed: int) -> set[str]:
    """Classes that are left out."""
    return set(np.random.default_rng(seed).choice(sorted(set(labels)), LEFT_OUT, replace=False).tolist())


def _without(parts: dict[str, Photos], head: Sequence[str], gone: set[str]) -> tuple[Openness, np.ndarray, np.ndarray]:
    """Label test.txt by a catalogue without some classes: how known is told, the scores, and which are known."""

    def seen(photos: Photos) -> Photos:
        return photos.take(np.array([label not in gone for label in photos.labels]))

    train, val, test = seen(parts["train"]), seen(parts["val"]), parts["test"]
    gallery = gallery_of(train.vectors, train.labels)
    codes = codes_of(val.labels, gallery.labels)
    vocabulary, calibration = fitted(gallery, head, val.vectors, codes, val.logits)
    evidence = gather(test.vectors, gallery, logits=test.logits)
    scores = calibration.numbers.known_scores(evidence, vocabulary)
    return calibration.numbers.openness, scores, np.array([label not in gone for label in test.labels])


def _left_out(parts: dict[str, Photos], head: Sequence[str], draws: int) -> None:
    classes = sorted(set(parts["train"].labels))
    areas, passing, asked, chosen = [], [], [], []
    for seed in range(draws):
        openness, scores, known = _without(parts, head, _drawn(classes, seed))
        areas.append(auroc(scores[known], scores[~known]))
        passing.append(false_accepts_at(scores[known], scores[~known]))
        accepted = scores >= openness.threshold(FALSE_ACCEPT)
        asked.append((accepted[~known].mean(), accepted[known].mean()))
        chosen.append(openness.score)
    names = {name: chosen.count(name) for name in sorted(set(chosen))}
    unknown, of_known = np.mean(asked, axis=0)
    print(
        f"{LEFT_OUT} of {len(classes)} classes left out of the catalogue {draws} times: AUROC {np.mean(areas):.3f} in "
        f"the mean ({min(areas):.3f} to {max(areas):.3f}), {np.mean(passing):.1%} of unknown pass where 95 % of known "
        f"do; with --false-accept {FALSE_ACCEPT:g} {unknown:.1%} of unknown pass, and {of_known:.1%} of known; chosen "
        f"score {', '.join(f'{name} {number} times' for name, number in names.items())}"
    )


def _unseen(parts: dict[str, Photos], head: Sequence[str], seed: int) -> None:
    """The same with an embedder whose training had not seen the classes that are left out: those its head lacks."""
    test = parts["test"]
    classes = set(parts["train"].labels)
    gone = classes - set(head) if head else _drawn(sorted(classes), seed)
    if not gone:
        raise InputError("--unseen wants an embedder that was trained without some of the classes, or not at all")
    openness, scores, known = _without(parts, head, gone)
    area = auroc(scores[known], scores[~known])
    members = {label: np.flatnonzero(np.array(test.labels) == label) for label in sorted(set(test.labels))}
    rng = np.random.default_rng(0)

    def redrawn() -> float:
        sides = ([one for one in members if one not in gone], [one for one in members if one in gone])
        of_known, of_unknown = (
            np.concatenate([members[name] for name in rng.choice(names, len(names))]) for names in sides
        )
        return auroc(scores[of_known], scores[of_unknown])

    low, high = np.quantile([redrawn() for _ in range(RESAMPLES)], [0.025, 0.975])
    print(
        f"{len(gone)} classes in neither the training nor the catalogue: AUROC {area:.3f} (95 % over classes {low:.3f} "
        f"to {high:.3f}) by the {openness.score}, {int(known.sum()):,} known and {int((~known).sum()):,} unknown test "
        f"photos; {false_accepts_at(scores[known], scores[~known]):.1%} of unknown pass where 95 % of known do"
    )
    for wanted in (None, FALSE_ACCEPT):
        accepted, how = scores >= openness.threshold(wanted), f"with --false-accept {wanted}"
        print(
            f"  {'as it is' if wanted is None else how}: {accepted[~known].mean():.1%} of unknown pass, and "
            f"{accepted[known].mean():.1%} of known; fitted as {openness.passed(wanted):.1%} and "
            f"{1 - openness.refused(wanted):.1%}"
        )
    print(f"  left out: {', '.join(sorted(gone))}")


def _write_list(path: Path, root: Path, seed: int) -> None:
    """A list for ``lookalike train``: train.txt and val.txt without the classes that are drawn."""
    tables = {part: read_manifest(root / f"{part}.txt").table for part in ("train", "val")}
    gone = _drawn(tables["train"].column("label").to_pylist(), seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for part, table in tables.items():
            pairs = zip(table.column("uri").to_pylist(), table.column("label").to_pylist(), strict=True)
            rows.writerows([uri, label, part] for uri, label in pairs if label not in gone)
    print(f"{path}: without {', '.join(sorted(gone))}")


def _many_labels(labels: int = 10_000, queries: int = 64) -> None:
    """Ask a catalogue of drawn vectors for the label of one at a time, as a server does, and take off the search."""
    rng = np.random.default_rng(0)
    embedder = load_embedder("default", None, None, device="cpu", runtime="auto")
    middles = rng.normal(size=(labels, embedder.dim)).astype(np.float32)

    def drawn(codes: np.ndarray) -> np.ndarray:
        wide = middles[codes] + rng.normal(size=(len(codes), embedder.dim)).astype(np.float32) / 2
        return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)

    def digests(ids: Sequence[str]) -> list[bytes]:
        return [hashlib.sha256(id.encode()).digest() for id in ids]

    names = [f"Kind{at % 100:02d}/{at:05d}" for at in range(labels)]
    codes = np.repeat(np.arange(labels), 3)
    ids, ones = [f"{at:06d}" for at in range(len(codes))], [1] * len(codes)
    of_items: dict[str, Any] = {
        "row": pa.nulls(len(ids), pa.int64()),  # given when they are written
        "id": ids,
        "uri": ids,
        "source": ["drawn"] * len(ids),
        "sha256": digests(ids),
        "width": ones,
        "height": ones,
        "label": [names[code] for code in codes.tolist()],
    }
    asked = rng.integers(labels, size=400)
    held = [f"held {at}" for at in range(len(asked))]
    with TemporaryDirectory() as folder, Catalogue.create(Path(folder) / "many", embedder, device="cpu") as catalogue:
        with catalogue.writing():
            catalogue.vectors.append(of_items["sha256"], drawn(codes).astype(np.float16))
            catalogue.commit(
                pa.table(of_items, schema=pa.schema([field.with_nullable(True) for field in ITEMS_SCHEMA]))
            )
        right = [names[at] for at in asked.tolist()]
        kept = calibrate(catalogue, pictures=Pictures("drawn", drawn(asked), right, digests(held), held))
        one = drawn(asked[:queries])
        _, index = catalogue.snapshot()
        label(catalogue, vectors=one[:1], kept=kept)
        whole, alone = [], []
        for at in range(queries):
            began = time.perf_counter()
            index.search(one[at : at + 1], K)
            middle = time.perf_counter()
            label(catalogue, vectors=one[at : at + 1], kept=kept, asked=Asked(coverage=COVERAGE))
            alone.append(middle - began)
            whole.append(time.perf_counter() - middle)
    beyond = np.subtract(whole, alone)
    print(
        f"\n{labels:,} labels of {len(codes):,} items: an answer with its set takes {1000 * np.median(beyond):.1f} ms "
        f"in the median ({1000 * np.quantile(beyond, 0.95):.1f} ms for the slowest in twenty) beyond the search, which "
        f"takes {1000 * np.median(alone):.1f} ms"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
