"""What the benchmark of duplicates counts, and what it plants."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._duplicate_contenders import FARTHEST, Finding, _near_codes, _near_vectors
from benchmarks._duplicate_edits import (
    Copy,
    Photo,
    choose_copies,
    choose_originals,
    plant,
    same_photograph,
    truth_of,
)
from benchmarks._duplicate_figures import (
    BESIDES,
    OUTSIDE,
    RIGHT,
    WRONG,
    Pairs,
    Truth,
    best_point,
    figures,
    judge,
    share,
)
from benchmarks._duplicate_growth import COPIES_EACH, sequence
from benchmarks._duplicate_scenes import _shown
from retrieval.edits import EDITS, STRENGTHS
from retrieval.images import encode_jpeg

# c0 and c1 are one photograph; c0 has two copies, c2 has one with two edits.
TRUTH = Truth.of(
    [
        ("c0", 0, 0, "", 0),
        ("c1", 0, 1, "", 0),
        ("c2", 2, 2, "", 0),
        ("x0-crop-1", 0, 0, "crop", 1),
        ("x0-flip-2", 0, 0, "flip", 2),
        ("x2-crop+flip-2", 2, 2, "crop+flip", 2),
    ]
)


def pairs(*found: tuple[int, int, float]) -> Pairs:
    a, b, nearness = np.array(found, dtype=np.float64).reshape(-1, 3).T
    return Pairs.of(a, b, nearness)


def test_a_pair_is_right_besides_outside_or_wrong() -> None:
    found = pairs((0, 3, 1), (3, 4, 1), (0, 1, 1), (1, 3, 1), (0, 2, 1), (2, 3, 1), (5, 2, 1))
    told = dict(zip(zip(found.a.tolist(), found.b.tolist(), strict=True), judge(TRUTH, found).tolist(), strict=True))
    assert told == {
        (0, 3): RIGHT,
        (2, 5): RIGHT,
        (3, 4): BESIDES,
        (0, 1): OUTSIDE,
        (1, 3): OUTSIDE,
        (0, 2): WRONG,
        (2, 3): WRONG,
    }


def test_pairs_are_unordered_and_come_once() -> None:
    found = pairs((4, 0, 0.5), (0, 4, 0.7), (3, 3, 1.0))
    assert (found.a.tolist(), found.b.tolist(), found.nearness.tolist()) == ([0], [4], [0.7])


def test_figures_leave_out_what_is_outside_and_count_what_is_besides_as_right() -> None:
    found = figures(TRUTH, pairs((0, 3, 1), (3, 4, 1), (0, 1, 1), (0, 2, 1)))
    assert (found.recall.right, found.recall.of) == (1, 3)
    assert (found.linked.right, found.linked.of) == (2, 3)
    assert (found.precision.right, found.precision.of) == (2, 3)
    assert (found.strict.right, found.strict.of) == (1, 2)


def test_figures_of_a_kind_look_only_at_pairs_with_it() -> None:
    found = pairs((0, 3, 1), (0, 2, 1), (2, 4, 1), (2, 5, 1))
    crop = figures(TRUTH, found, TRUTH.cell("crop", 1))
    assert (crop.recall.right, crop.recall.of, crop.precision.right, crop.precision.of) == (1, 1, 1, 1)
    flip = figures(TRUTH, found, TRUTH.cell("flip"))
    assert (flip.recall.right, flip.recall.of, flip.precision.right, flip.precision.of) == (0, 1, 0, 1)
    assert TRUTH.cell("+").tolist() == [False] * 5 + [True]
    assert TRUTH.cell("*").tolist() == [False, False, False, True, True, False]


def test_nothing_found_has_recall_and_no_precision() -> None:
    found = figures(TRUTH, pairs())
    assert (found.recall.value, found.precision.of, str(found.precision)) == (0.0, 0, "-")


def test_a_share_of_independent_trials_has_the_exact_interval() -> None:
    found = share(np.arange(50) < 50, np.arange(50))
    assert found.low == pytest.approx(0.025 ** (1 / 50))  # Clopper and Pearson
    assert (found.value, found.high) == (1.0, 1.0)


def test_trials_that_go_alike_in_a_cluster_are_worth_less() -> None:
    right = np.repeat(np.arange(40) % 4 > 0, 5)
    alone, together = share(right, np.arange(200)), share(right, np.repeat(np.arange(40), 5))
    assert alone.value == together.value == 0.75
    assert together.low < alone.low < 0.75 < alone.high < together.high


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9))
def test_an_interval_holds_its_share(right: list[bool], clusters: int) -> None:
    found = share(np.array(right), np.arange(len(right)) % clusters)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_best_line_is_the_lowest_with_the_precision() -> None:
    found = pairs((0, 3, 0.9), (0, 2, 0.8), (0, 4, 0.7), (2, 5, 0.7), (2, 3, 0.6))
    assert best_point(TRUTH, found, precision=0.99) == 0.9
    assert best_point(TRUTH, found, precision=0.75) == 0.7
    assert best_point(TRUTH, found, precision=0.5) == 0.6
    assert best_point(TRUTH, pairs((0, 2, 0.9)), precision=0.5) is None
    assert best_point(TRUTH, pairs(), precision=0.5) is None


def test_the_best_line_never_parts_pairs_that_are_equally_near() -> None:
    assert best_point(TRUTH, pairs((0, 3, 0.7), (0, 2, 0.7)), precision=0.99) is None


def test_every_edit_comes_equally_often() -> None:
    copies = choose_copies(list(range(110)), each=3, pairs=6, seed=0)
    assert len(copies) == len(set(copies)) == 330
    count = {(copy.edit, copy.strength): 0 for copy in copies}
    for copy in copies:
        count[copy.edit, copy.strength] += 1
    single = [count[edit, strength] for edit in EDITS for strength in STRENGTHS]
    assert min(single) >= 9 and max(single) <= 11
    assert sum(number for (edit, _), number in count.items() if "+" in edit) == pytest.approx(60, abs=6)
    assert copies == choose_copies(list(range(110)), each=3, pairs=6, seed=0)


def test_all_copies_are_every_edit_at_every_strength_and_pairs() -> None:
    copies = choose_copies([7], each=None, pairs=4, seed=0)
    assert len(copies) == len(set(copies)) == 9 * 3 + 4
    assert all(len(set(copy.edit.split("+"))) == 2 for copy in copies if "+" in copy.edit)


def photo(seed: int, source: str = "g", name: str = "") -> Photo:
    pixels = np.random.default_rng(seed).integers(256, size=(48, 64, 3)).astype(np.uint8)
    data = encode_jpeg(pixels)
    return Photo(source, name or f"{seed}.jpg", lambda: data)


def test_the_same_bytes_and_the_pairs_of_cars_are_one_photograph_and_no_original() -> None:
    every = [photo(0), photo(1), photo(0), photo(2, "c", "00050.jpg"), photo(3, "c", "03436.jpg"), photo(4, "c")]
    number = same_photograph(every, progress=lambda *_: None)
    assert number[0] == number[2] and number[3] == number[4] and len(set(number.tolist())) == 4
    assert choose_originals(every, number, of_each={"g": 9, "c": 9}, seed=0) == [1, 5]


def test_planting_goes_on_where_it_stopped_and_refuses_another_runs_folder(tmp_path: Path) -> None:
    every = [photo(0), photo(1)]
    copies = [Copy(0, "flip", 1), Copy(1, "rotate+crop", 2)]
    folder = tmp_path / "images"

    def make(record: int = 0) -> None:
        plant(folder, every, [0, 1], copies, seed=3, record={"some": record}, progress=lambda *_: None)

    make()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    truth = truth_of(every, np.array([0, 1]), [0, 1], copies)
    assert sorted(before) == list(truth.names) and truth.planted.sum() == 2
    (folder / copies[1].name).unlink()
    make()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(SystemExit, match="other arguments"):
        make(1)


def test_growth_begins_every_size_with_the_smaller_one() -> None:
    every = [Photo("g", str(at), bytes) for at in range(300)]
    places, copies = sequence(every, 1000, seed=0)
    fewer, before = sequence(every, 400, seed=0)
    assert (len(places) + len(copies), len(fewer) + len(before)) == (1000, 400)
    assert fewer == places[: len(fewer)] and before == copies[: len(before)]
    assert len(places) == pytest.approx(1000 / COPIES_EACH, abs=2)
    assert len(set(copies)) == len(copies)


def test_near_codes_and_vectors_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    base = int(rng.integers(1 << 62))
    codes = np.array([base ^ ((1 << bits) - 1) for bits in (0, 3, 10, 30, 31)], dtype=np.uint64)
    found = _near_codes(codes, np.arange(5) * 10)
    expected = {
        (10 * a, 10 * b): -(int(codes[a]) ^ int(codes[b])).bit_count() for a in range(5) for b in range(a + 1, 5)
    }
    assert dict(zip(zip(found.a.tolist(), found.b.tolist(), strict=True), found.nearness.tolist(), strict=True)) == {
        pair: nearness for pair, nearness in expected.items() if nearness >= -FARTHEST
    }
    vectors = rng.normal(size=(600, 4))
    near = _near_vectors(vectors, np.arange(600))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(near) == int((np.triu(unit @ unit.T, 1) >= 0.85).sum())


def test_sheets_begin_with_the_least_sure_copy_and_with_the_surest_of_the_others() -> None:
    def row(a: str, kind: str, agreement: float | None) -> dict[str, object]:
        return {"a": a, "b": "z", "kind": kind, "agreement": agreement, "how": ""}

    rows = [row("a", "same bytes", None), row("b", "copy", 0.7), row("c", "copy", 0.6)]
    rows += [row("d", "lookalike", None), row("e", "lookalike", 0.1), row("f", "lookalike", 0.3)]
    found = SimpleNamespace(pairs=pa.Table.from_pylist(rows))
    looked: Any = SimpleNamespace(found=found, uri={name: name for name in "abcdefz"})
    for name, order in (("copies", "cba"), ("lookalikes", "fed")):
        assert "".join(one.a.name for one in _shown(looked, Path("x"), name)) == order


def test_a_finding_survives_its_file(tmp_path: Path) -> None:
    said = {"default": pairs((0, 3, 0.5)), "other": pairs()}
    Finding(said, pairs((0, 3, 0.5), (1, 2, 0.1)), {"whole": 1.5}, ["a note"], {"n": 2}).write(tmp_path / "a.npz")
    read = Finding.read(tmp_path / "a.npz")
    assert (read.seconds, read.notes, read.figures, list(read.said)) == (
        {"whole": 1.5},
        ["a note"],
        {"n": 2},
        list(said),
    )
    assert read.loose is not None and read.loose.nearness.tolist() == [0.5, 0.1]
    assert read.said["default"].b.tolist() == [3] and len(read.said["other"]) == 0
