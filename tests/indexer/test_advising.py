"""Whether training is likely to pay: a balanced sample, the evaluation's figures, and the rule that is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.advising import Frozen, advise, available_backbones, balanced_sample, measure_frozen
from retrieval.choosing import Counts
from retrieval.errors import InputError
from retrieval.lesson import Examples
from retrieval.manifest import read_manifest
from tests.conftest import PER_CLASS
from tests.embedders import ColourEmbedder

ENOUGH = Counts(400, 20, 10, 20, 30)


def frozen(recall: float, low: float, high: float) -> Frozen:
    return Frozen("lite", 8, 64, recall, low, high, 0.3, 100.0, "torch", 200)


@pytest.mark.parametrize(
    ("row", "counts", "likely", "why"),
    [
        (frozen(0.7, 0.6, 0.8), ENOUGH, True, "something to gain"),
        (frozen(0.97, 0.95, 0.99), ENOUGH, False, "little to gain"),
        (frozen(0.9699, 0.95, 0.99), ENOUGH, True, "something to gain"),
        (frozen(0.95, 0.85, 1.0), ENOUGH, False, "reaches 100 %"),
        (frozen(0.7, 0.6, 0.8), Counts(50, 20, 2, 2.5, 3), False, "little to learn from"),
        (frozen(0.7, 0.6, 0.8), Counts(60, 20, 3, 3, 3), True, "3 images or more"),
    ],
)
def test_the_rule(row: Frozen, counts: Counts, likely: bool, why: str) -> None:
    advice = advise(row, counts)
    assert advice.likely is likely
    assert why in advice.why
    assert f"{row.recall_at_1:.1%} of 200 queries" in advice.why


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(2, 60))
def test_a_sample_is_balanced(sizes: list[int], size: int) -> None:
    labels = [str(at) for at, of_class in enumerate(sizes) for _ in range(of_class)]
    places = balanced_sample(labels, size)
    assert len(places) <= max(2, size)
    assert places.tolist() == sorted(set(places.tolist()))
    drawn, there = Counter(labels[at] for at in places), Counter(labels)
    assert len(places) >= min(size - 1, len(labels))  # as many as there is room for; pairs may leave one place
    assert all(number >= 2 or there[label] == 1 for label, number in drawn.items())
    largest = max((drawn[label] for label in drawn if drawn[label] < there[label]), default=0)
    assert all(number <= largest + 1 for number in drawn.values()) or largest == 0


def test_a_sample_is_drawn_again_the_same() -> None:
    labels = [str(at % 7) for at in range(200)]
    assert np.array_equal(balanced_sample(labels, 50), balanced_sample(labels, 50))
    assert not np.array_equal(balanced_sample(labels, 50), balanced_sample(labels, 50, seed=1))


class Described(ColourEmbedder):
    """With the part of a description that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.description = {"preprocessing": {"height": 16}}


def examples(folder: Path) -> Examples:
    manifest = read_manifest(folder)
    ids, uris, labels = (manifest.table.column(name).to_pylist() for name in ("id", "uri", "label"))
    return Examples(manifest.root, ids, uris, labels)


def test_colours_are_told_apart_by_their_colour(picture_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (picture_folder / "Paint" / "Red" / "broken.jpg").write_bytes(b"no picture")
    row = measure_frozen(examples(picture_folder), Described(), "grid", cache=tmp_path / "cache", notice=said.append)
    assert (row.backbone, row.dim, row.image_size, row.queries) == ("grid", 48, 16, 4 * PER_CLASS)
    assert row.recall_at_1 == 1.0
    assert row.low == row.high == 1.0
    assert row.images_per_second > 0
    assert any("1 images of the sample cannot be used" in line for line in said)


def test_vectors_are_kept_and_speed_is_measured_again(picture_folder: Path, tmp_path: Path) -> None:
    first = measure_frozen(examples(picture_folder), Described(), "grid", cache=tmp_path / "cache")
    again = Described()
    second = measure_frozen(examples(picture_folder), again, "grid", cache=tmp_path / "cache")
    assert second.recall_at_1 == first.recall_at_1
    assert again.seen == 4 * PER_CLASS + 4  # for the speed alone
    assert second.images_per_second > 0


def test_not_one_picture_can_be_used(tmp_path: Path) -> None:
    for name in ("Red", "Blue"):
        for number in range(2):
            path = tmp_path / "broken" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="not one of the 4 images"):
        measure_frozen(examples(tmp_path / "broken"), Described(), "grid", cache=tmp_path / "cache")


def test_the_default_backbone_is_always_there() -> None:
    assert "tf_efficientnet_lite0" in available_backbones()
