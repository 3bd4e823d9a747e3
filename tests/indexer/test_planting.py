"""Planted copies, and what they say of pairs nobody has judged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import planting
from indexer.candidates import look_at_items
from indexer.fingerprints import Fingerprints
from indexer.known_pairs import KnownPairs, table_of
from indexer.planting import CERTAIN, FEW, PLANTED_SCHEMA, SMALL, evidence_of, plant, with_ways, wrong_share
from retrieval.copies import Overlay
from retrieval.edits import EDITS
from retrieval.threshold import CAUTIOUS, FLOOR, choose_threshold
from tests.indexer.copies import draw, indexed

agreements = st.lists(st.floats(0.0, 1.0), max_size=30).map(lambda values: np.array(values, np.float64))


@given(agreements, agreements, agreements)
def test_a_share_is_a_share(own: np.ndarray, planted: np.ndarray, asked: np.ndarray) -> None:
    share = wrong_share(own, planted, asked)
    assert share.shape == asked.shape
    assert ((share >= 0) & (share <= 1)).all()
    assert (share[asked >= CERTAIN] == 0).all()
    assert (share[asked < FLOOR] == 1).all()


@given(st.lists(st.floats(FLOOR, 1.0), min_size=1, max_size=30), st.integers(1, 4))
def test_where_pairs_agree_as_planted_copies_do_nothing_is_wrong(values: list[float], times: int) -> None:
    planted = np.array([*values, 0.95])
    own = np.repeat(planted, times)
    assert wrong_share(own, planted, own) == pytest.approx(0.0)


@given(agreements, agreements)
def test_where_no_copy_is_certain_everything_else_is_wrong(own: np.ndarray, twins: np.ndarray) -> None:
    own = own[own < CERTAIN]
    asked = np.concatenate([own[own >= FLOOR], [0.89]])
    assert (wrong_share(np.append(own, 0.89), twins, asked) == 1.0).all()


@given(st.integers(1, 50), agreements, agreements)
def test_of_pairs_that_agree_well_a_few_may_be_copies(n: int, own: np.ndarray, twins: np.ndarray) -> None:
    own = own[own < CAUTIOUS]
    asked = np.concatenate([own[own >= FLOOR], [0.85]])
    share = wrong_share(np.concatenate([own, np.full(n, 0.85)]), twins, asked, FEW)
    assert share[-1] == pytest.approx(max(0, n - FEW) / n)
    assert (share[:-1] == 1).all()


@pytest.mark.parametrize(("originals", "weight"), [(SMALL, 0), (SMALL + 1, 1)])
def test_in_a_small_folder_one_pair_that_agrees_well_may_be_a_copy(originals: int, weight: int) -> None:
    rows = [row(number, None, 0, 0) for number in range(originals)]
    evidence = evidence_of(table(*rows, row(0, 200, 0.8, 0.85)), np.array([0.85]))
    assert evidence.weight.tolist() == [weight]


def test_what_is_there_beyond_what_is_expected_is_wrong() -> None:
    planted = np.array([0.95] * 10 + [0.75] * 5)
    own = np.array([0.95] * 4 + [0.75] * 8)  # two of 0.75 are to be expected
    np.testing.assert_allclose(wrong_share(own, planted, np.array([0.72, 0.75, 0.79, 0.95])), [0.75, 0.75, 0.75, 0])


def row(original: int, other: int | None, agreement: float, beside: float) -> dict[str, Any]:
    key = None if other is None else bytes((other,)) * 32
    return {
        **{"original": bytes((original,)) * 32, "edit": "crop", "strength": 1, "twin": False},
        **{"other": key, "agreement": agreement, "original_agreement": beside},
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PLANTED_SCHEMA)


def test_evidence_of_planted_copies() -> None:
    planted = table(
        *(row(1, None, 0, 0), row(1, 1, 0.97, 1.0), row(1, 2, 0.6, 0.55)),  # found, beside another photograph
        *(row(2, None, 0, 0), row(2, 1, 0.2, 0.0)),  # not found
        *(row(3, None, 0, 0), row(3, 3, 0.9, 1.0), row(3, 4, 0.88, 0.98), row(3, 5, 0.95, 1.0)),  # 4 may be its copy
    )
    evidence = evidence_of(planted, np.array([0.55, 0.98]))
    np.testing.assert_allclose(evidence.best, [0.97, 0.0, 0.95])
    assert evidence.agreement.tolist() == [0.97, 0.6, 0.2, 0.9, 0.88, 0.95]
    assert evidence.right.tolist() == [True, False, False, True, False, True]
    assert evidence.weight.tolist() == [1, 1, 1, 1, 0, 1]
    assert (evidence.judged, evidence.ambiguous) == (0, 1)


def test_copies_of_one_picture_say_how_real_ones_agree_and_nothing_else() -> None:
    twins = [row(1, 9, agreement, 0.0) | {"twin": True} for agreement in (0.95, 0.75, 0.75)]
    beside = [row(number, 100 + number, 0.7, value) for number, value in enumerate((0.95, 0.75, 0.75))]
    evidence = evidence_of(table(row(1, None, 0, 0), *twins, *beside), np.array([0.95, 0.95, *[0.75] * 8]))
    assert len(evidence.agreement) == len(beside) and len(evidence.best) == 1
    assert evidence.weight.tolist() == [0, 0.5, 0.5]  # of eight four were to be expected


def test_an_original_that_agrees_by_way_of_another_picture_makes_nothing_wrong() -> None:
    planted = table(
        *(row(1, None, 0, 0), row(1, 1, 0.97, 1.0), row(1, 2, 0.9, 0.0), row(1, 3, 0.9, 0.2), row(1, 4, 0.8, 0.98)),
        *(row(1, 2, 0.6, 0.0) | {"twin": True}, row(1, 2, FLOOR - 0.01, 0.0)),
    )
    key = {number: bytes((number,)) * 32 for number in range(1, 6)}
    known = KnownPairs()
    ways = {(1, 5): 0.96, (2, 5): 0.94, (3, 5): FLOOR - 0.01, (4, 5): 0.3}
    known.add(table_of(((key[a], key[b]), replace(Overlay.same(), agreement=way)) for (a, b), way in ways.items()))
    raised = with_ways(planted, known)
    assert raised.column("original_agreement").to_pylist() == [0, 1.0, 0.94, 0.2, 0.98, 0, 0]
    assert raised.schema == planted.schema and raised.num_rows == planted.num_rows
    assert evidence_of(raised, np.zeros(0)).weight.tolist() == [1, 0, 1, 0, 1]
    # Of the same pixels only is it the original.
    known.add(table_of(((key[a], key[5]), Overlay.same()) for a in (1, 2)))
    assert not evidence_of(with_ways(planted, known), np.zeros(0)).right[1]


def test_evidence_of_judged_pairs() -> None:
    planted = table(row(1, None, 0, 0), row(1, 1, 0.97, 1.0))
    evidence = evidence_of(planted, np.zeros(0), [(0.8, False), (0.7, True)])
    assert evidence.agreement.tolist() == [0.97, 0.8, 0.7]
    assert evidence.right.tolist() == [True, False, True]
    assert (evidence.weight.tolist(), evidence.judged) == ([1, 1, 1], 2)
    assert len(evidence.best) == 1
    assert choose_threshold(evidence, wanted=0.99).agreement == 0.97
    assert choose_threshold(evidence, wanted=0.5).reached


def test_evidence_of_nothing() -> None:
    evidence = evidence_of(PLANTED_SCHEMA.empty_table(), np.zeros(0))
    assert (len(evidence.agreement), len(evidence.best), evidence.ambiguous) == (0, 0, 0)
    line = choose_threshold(evidence, wanted=0.99)
    assert (line.planted, line.recall, line.low, line.high) == (0, 0.0, 0.0, 1.0)


def planted_in(folder: Path, seed: int = 0) -> pa.Table:
    with indexed(folder, folder.parent / "shop") as catalogue, ThreadPoolExecutor(2) as pool:
        fingerprints, version = Fingerprints(folder.parent / "looked"), catalogue.version
        look_at_items(
            catalogue, fingerprints, effort="quick", pool=pool, progress=lambda _: None, notice=lambda _: None
        )
        before = list(fingerprints.blocks), len(catalogue.vectors.keys())
        done: list[tuple[int, int]] = []
        found = plant(
            catalogue, fingerprints, effort="quick", pool=pool, seed=seed, progress=lambda *of: done.append(of)
        )
        assert (list(fingerprints.blocks), len(catalogue.vectors.keys())) == before
        assert catalogue.version == version
        assert done[-1][0] == done[-1][1]
    return found


def test_copies_are_planted_by_their_seed_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "PLANTED", 18)
    monkeypatch.setattr(planting, "BLOCK", 7)
    folder = draw(tmp_path / "pictures", {0: (), 1: (), 2: ()})
    one, again, other = (planted_in(folder, seed) for seed in (0, 0, 1))
    assert one.schema == PLANTED_SCHEMA
    assert one.equals(again) and not one.equals(other)
    plants = one.filter(pa.compute.field("other").is_null())
    assert plants.num_rows == 18
    assert len(set(plants.column("original").to_pylist())) == 3
    assert {name for edit in plants.column("edit").to_pylist() for name in edit.split("+")} <= set(EDITS)
    assert any("+" in edit for edit in plants.column("edit").to_pylist())
    evidence = evidence_of(one, np.zeros(0))
    assert (evidence.best > 0.5).mean() > 0.8
    others = ~evidence.right
    assert evidence.agreement[others].max(initial=0) < 0.5


def test_no_more_than_eight_copies_of_a_picture(tmp_path: Path) -> None:
    found = planted_in(draw(tmp_path / "pictures", {0: ()}))
    assert found.column("other").null_count == planting.EACH
