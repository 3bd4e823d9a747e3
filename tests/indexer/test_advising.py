"""Whether training is likely to pay: a balanced sample, the evaluation's figures, and the rule that is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.advising import FASTER, Frozen, advise, available_backbones, balanced_sample, measure_frozen, prefer
from retrieval.choosing import Counts
from retrieval.errors import InputError
from retrieval.lesson import Examples
from retrieval.manifest import read_manifest
from retrieval.report import QUERIES_SCHEMA
from tests.conftest import PER_CLASS
from tests.embedders import ColourEmbedder

ENOUGH = Counts(400, 20, 10, 20, 30)


CLASSES, EACH = 40, 5


def frozen(recall: float, low: float, high: float, name: str = "lite", speed: float = 100.0) -> Frozen:
    return Frozen(name, 8, 64, recall, low, high, 0.3, speed, "torch", 200)


def measured(name: str, right: int, speed: float) -> tuple[Frozen, pa.Table]:
    """A backbone that gets the first ``right`` of 200 queries right, five of each class."""
    count = CLASSES * EACH
    columns = {
        "id": [str(at) for at in range(count)],
        "label": [str(at // EACH) for at in range(count)],
        "candidates": [count - 1] * count,
        "ranks": [[1] if at < right else [2] for at in range(count)],
    }
    arrays = [pa.array(columns.get(column.name, [None] * count), column.type) for column in QUERIES_SCHEMA]
    share = right / count
    return frozen(share, share - 0.1, min(1.0, share + 0.1), name, speed), pa.table(arrays, QUERIES_SCHEMA.names)


@pytest.mark.parametrize(
    ("row", "counts", "likely", "why"),
    [
        (frozen(0.7, 0.6, 0.8), ENOUGH, True, "something to gain"),
        (frozen(0.97, 0.95, 0.99), ENOUGH, False, "little to gain"),
        (frozen(0.9699, 0.95, 0.99), ENOUGH, True, "something to gain"),
        (frozen(0.95, 0.85, 1.0), ENOUGH, False, "interval (85.0% to 100.0%) reaches 100 %"),
        (frozen(0.7, 0.6, 0.8), Counts(20, 20, 1, 1, 1), False, "half of the 20 classes have 1 image or fewer"),
        (frozen(0.7, 0.6, 0.8), Counts(50, 20, 2, 2.5, 3), False, "little to learn from"),
        (frozen(0.7, 0.6, 0.8), Counts(60, 20, 3, 3, 3), True, "3 images or more"),
    ],
)
def test_the_rule(row: Frozen, counts: Counts, likely: bool, why: str) -> None:
    advice = advise(row, counts)
    assert advice.likely is likely
    assert why in advice.why
    assert f"{row.recall_at_1:.1%} of 200 queries" in advice.why
    assert ":" not in advice.why  # it is told after one


def test_two_that_cannot_be_told_apart_are_told_apart_by_their_speed() -> None:
    preferred = prefer([measured("lite2", 161, 10.0), measured("lite0", 160, 70.0)])
    assert preferred.row.backbone == "lite0"
    assert preferred.why == (
        "lite2 cannot be told apart from lite0 (p = 1) on these 200 queries, and lite0 is preferred because it is 7.0 "
        "times as fast"
    )


def test_of_several_that_cannot_be_told_apart_the_fastest_is_preferred() -> None:
    rows = [measured("a", 50, 900.0), measured("b", 158, 20.0), measured("c", 160, 10.0), measured("d", 159, 30.0)]
    preferred = prefer(rows)
    assert preferred.row.backbone == "d"  # a is faster, and worse
    assert preferred.why.startswith("c cannot be told apart from b (p = 1) and d (p = 1) on these 200 queries")


def test_none_is_preferred_for_a_speed_that_is_hardly_higher() -> None:
    preferred = prefer([measured("lite0", 160, 100.0 * FASTER - 1), measured("lite2", 161, 100.0)])
    assert preferred.row.backbone == "lite2"
    assert preferred.why.endswith("and is preferred because no other is much faster")


def test_they_are_compared_query_by_query() -> None:
    # Six classes more, and in none fewer: two of the 64 ways to change signs go as far. The intervals overlap.
    preferred = prefer([measured("fast", 120, 90.0), measured("good", 150, 10.0)])
    assert preferred.row.backbone == "good"
    assert preferred.why == "good is better than fast (p = 0.031) on these 200 queries, by more than chance"


def test_of_one_there_is_nothing_to_prefer() -> None:
    assert prefer([measured("lite0", 160, 70.0)]).why == ""


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
        self.device = "cpu"


def examples(folder: Path) -> Examples:
    manifest = read_manifest(folder)
    ids, uris, labels = (manifest.table.column(name).to_pylist() for name in ("id", "uri", "label"))
    return Examples(manifest.root, ids, uris, labels)


def test_colours_are_told_apart_by_their_colour(picture_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (picture_folder / "Paint" / "Red" / "broken.jpg").write_bytes(b"no picture")
    row, table = measure_frozen(
        examples(picture_folder), Described(), "grid", cache=tmp_path / "cache", notice=said.append
    )
    assert table.schema == QUERIES_SCHEMA
    assert table.num_rows == row.queries
    assert (row.backbone, row.dim, row.image_size, row.queries) == ("grid", 48, 16, 4 * PER_CLASS)
    assert row.recall_at_1 == 1.0
    assert row.low == row.high == 1.0
    assert row.images_per_second > 0
    assert "1 image of the sample cannot be used" in said


def test_vectors_are_kept_and_speed_is_measured_again(picture_folder: Path, tmp_path: Path) -> None:
    first, _ = measure_frozen(examples(picture_folder), Described(), "grid", cache=tmp_path / "cache")
    again = Described()
    second, _ = measure_frozen(examples(picture_folder), again, "grid", cache=tmp_path / "cache")
    assert second.recall_at_1 == first.recall_at_1
    assert again.seen == 4 * PER_CLASS + 4  # for the speed alone
    assert second.images_per_second > 0


def test_progress_moves_while_a_batch_is_embedded_and_ends_once(picture_folder: Path, tmp_path: Path) -> None:
    (picture_folder / "Paint" / "Red" / "broken.jpg").write_bytes(b"no picture")
    total = 4 * PER_CLASS + 1

    def told() -> list[tuple[int, int, int, int]]:
        rows: list[tuple[int, int, int, int]] = []
        by = Described()
        measure_frozen(
            examples(picture_folder),
            by,
            "grid",
            cache=tmp_path / "cache",
            progress=lambda *where: rows.append((*where, by.seen)),
        )
        return rows

    first, from_cache = told(), told()
    assert first[0] == (8, total, 0, 8)  # of one batch of 24
    for rows in (first, from_cache):
        done = [row[0] for row in rows]
        assert done == sorted(done)
        assert done.count(total) == 1  # there the bar closes
        assert rows[-1][:3] == (total, total, 1)


def test_not_one_picture_can_be_used(tmp_path: Path) -> None:
    for name in ("Red", "Blue"):
        for number in range(2):
            path = tmp_path / "broken" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="not one of the 4 images"):
        measure_frozen(examples(tmp_path / "broken"), Described(), "grid", cache=tmp_path / "cache")


def test_the_only_picture_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "broken" / "Red").mkdir(parents=True)
    (tmp_path / "broken" / "Red" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="the one image of the sample cannot be used: "):
        measure_frozen(examples(tmp_path / "broken"), Described(), "grid", cache=tmp_path / "cache")


def test_the_default_backbone_is_always_there() -> None:
    assert "tf_efficientnet_lite0" in available_backbones()
