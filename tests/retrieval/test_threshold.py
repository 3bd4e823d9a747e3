"""The line between copies and others: against a plain loop, and what it promises."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.threshold import CAUTIOUS, FLOOR, SPARE, Evidence, choose_threshold

RIGHT = np.arange(1000) < 999
HARDLY_WRONG = Evidence(np.full(1000, 0.9), RIGHT, np.where(RIGHT, 1.0, 0.001), np.ones(9))

values = st.floats(0, 1).map(lambda value: round(value, 2))  # coarse, so that ties happen


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    m = draw(st.integers(0, 12))
    rows = draw(st.lists(st.tuples(values, st.booleans(), values), min_size=m, max_size=m))
    best = draw(st.lists(values, max_size=8))
    right = np.array([row[1] for row in rows], bool)
    return Evidence(
        agreement=np.array([row[0] for row in rows], np.float64),
        right=right,
        # What is right is surely so; what is wrong may be right after all.
        weight=np.where(right, 1.0, np.array([row[2] for row in rows], np.float64)),
        best=np.array(best, np.float64),
    )


def precision_of(evidence: Evidence, line: float) -> float:
    """Share of right ones from the line on, pair by pair."""
    right = every = 0.0
    for agreement, is_right, weight in zip(evidence.agreement, evidence.right, evidence.weight, strict=True):
        if agreement >= line:
            every += weight
            right += weight * is_right
    return right / every if every > 0 else 1.0


def recall_of(evidence: Evidence, line: float) -> float:
    return sum(value >= line for value in evidence.best) / len(evidence.best) if len(evidence.best) else 0.0


def lines_of(evidence: Evidence) -> list[float]:
    return sorted({FLOOR, *(value for value in evidence.agreement.tolist() if value > FLOOR)})


@settings(max_examples=50)
@given(evidences(), st.lists(values, max_size=5))
def test_precision_is_the_share_of_right_ones_from_there_on(evidence: Evidence, asked: list[float]) -> None:
    found = evidence.precision_from(np.array(asked, np.float64))
    assert found.shape == (len(asked),)
    assert found == pytest.approx([precision_of(evidence, line) for line in asked], abs=1e-9)


@settings(max_examples=50)
@given(evidences(), st.sampled_from([0.3, 0.5, 0.8, 0.95, 0.99]))
def test_the_line_reaches_what_is_wanted_whenever_any_does(evidence: Evidence, wanted: float) -> None:
    precisions = [precision_of(evidence, line) for line in lines_of(evidence)]
    assume(all(abs(precision - wanted) > 1e-9 for precision in precisions))  # rounding must not decide
    assume(len(evidence.agreement))
    found = choose_threshold(evidence, wanted=wanted)
    assert found.agreement in lines_of(evidence)
    assert found.reached == any(precision >= wanted for precision in precisions)
    assert found.precision == pytest.approx(precision_of(evidence, found.agreement), abs=1e-9)
    if not found.reached:
        assert found.precision == pytest.approx(max(precisions), abs=1e-9)


@settings(max_examples=50)
@given(evidences(), st.sampled_from([0.3, 0.5, 0.8, 0.95]))
def test_the_line_is_the_strictest_that_costs_hardly_any_copies(evidence: Evidence, wanted: float) -> None:
    found = choose_threshold(evidence, wanted=wanted)
    assume(found.reached)
    good = [line for line in lines_of(evidence) if precision_of(evidence, line) >= wanted]
    assume(all(abs(precision_of(evidence, line) - wanted) > 1e-9 for line in lines_of(evidence)))
    most = max(recall_of(evidence, line) for line in good)
    assert found.recall == pytest.approx(recall_of(evidence, found.agreement))
    assert found.recall >= most - SPARE - 1e-12
    for line in good:
        assert line <= found.agreement or recall_of(evidence, line) < most - SPARE + 1e-12


@settings(max_examples=50)
@given(evidences(), st.sampled_from([0.5, 0.99]))
def test_nothing_below_the_floor_is_called_a_copy(evidence: Evidence, wanted: float) -> None:
    assert choose_threshold(evidence, wanted=wanted).agreement >= FLOOR
    assume(len(evidence.agreement))
    low = replace(evidence, agreement=evidence.agreement * FLOOR * 0.9)
    assert choose_threshold(low, wanted=wanted).agreement == FLOOR


@settings(max_examples=50)
@given(evidences(), st.sampled_from([0.5, 0.9, 0.99]))
@example(
    Evidence(np.full(1000, 0.9), np.arange(1000) < 999, np.where(np.arange(1000) < 999, 1, 0.001), np.ones(9)), 0.9
)
def test_the_interval_is_about_the_precision(evidence: Evidence, wanted: float) -> None:
    found = choose_threshold(evidence, wanted=wanted)
    assert 0 <= found.low <= found.precision + 1e-12
    assert found.precision <= found.high + 1e-12 <= 1 + 2e-12


def test_more_pairs_make_it_surer() -> None:
    rng = np.random.default_rng(0)
    width = []
    for m in (50, 500, 5000):
        right = rng.random(m) < 0.95
        evidence = Evidence(np.full(m, 0.8), right, np.ones(m), np.ones(5))
        found = choose_threshold(evidence, wanted=0.5)
        # Wilson's interval by its formula.
        share, z = right.mean(), 1.959964
        middle = (share + z**2 / (2 * m)) / (1 + z**2 / m)
        half = z / (1 + z**2 / m) * np.sqrt(share * (1 - share) / m + z**2 / (4 * m**2))
        assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
        width.append(found.high - found.low)
    assert width == sorted(width, reverse=True)


def test_copies_and_others_that_stand_apart_are_parted() -> None:
    agreement = np.array([0.95, 0.9, 0.85, 0.7, 0.65, 0.6])
    evidence = Evidence(agreement, agreement > 0.8, np.ones(6), np.array([0.95, 0.9, 0.85]), judged=2, ambiguous=4)
    found = choose_threshold(evidence, wanted=0.99)
    assert (found.agreement, found.precision, found.recall, found.reached) == (0.85, 1.0, 1.0, True)
    assert (found.wanted, found.planted, found.judged, found.ambiguous) == (0.99, 3, 2, 4)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_where_it_cannot_be_reached_it_says_so_and_takes_the_best() -> None:
    evidence = Evidence(np.array([0.9, 0.8, 0.7]), np.array([False, True, True]), np.ones(3), np.array([0.8, 0.7]))
    found = choose_threshold(evidence, wanted=0.9)
    assert not found.reached
    assert found.precision == pytest.approx(2 / 3) and found.agreement == FLOOR


def test_a_pair_of_which_nothing_is_known_counts_for_nothing() -> None:
    evidence = Evidence(np.array([0.9, 0.9]), np.array([True, False]), np.array([1.0, 0.0]), np.array([0.9]))
    assert evidence.precision_from(np.array([0.9])).tolist() == [1.0]
    assert choose_threshold(evidence, wanted=0.99).reached


def test_without_any_evidence_nothing_is_known() -> None:
    nothing = Evidence(*(np.zeros(0, kind) for kind in (np.float64, bool, np.float64, np.float64)))
    found = choose_threshold(nothing, wanted=0.99)
    assert (found.agreement, found.low, found.high, found.recall, found.planted) == (CAUTIOUS, 0.0, 1.0, 0.0, 0)
    assert not found.reached


@pytest.mark.parametrize("wanted", [0.0, 1.0, -0.5, 99.0, float("nan")])
def test_what_is_no_precision(wanted: float) -> None:
    nothing = Evidence(*(np.zeros(0, kind) for kind in (np.float64, bool, np.float64, np.float64)))
    with pytest.raises(InputError, match="more than 0 and less than 1"):
        choose_threshold(nothing, wanted=wanted)


def test_how_sure_a_pair_is_is_told_by_those_that_agree_as_much_and_never_certain() -> None:
    agreement = np.concatenate([np.full(98, 0.55), np.full(98, 0.65), np.full(298, 0.95)])
    right = np.concatenate([np.zeros(98, bool), np.arange(98) < 49, np.ones(298, bool)])
    evidence = Evidence(agreement, right, np.ones(494), best=np.zeros(0))
    np.testing.assert_allclose(evidence.sure(np.array([0.52, 0.66, 0.97])), [1 / 100, 50 / 100, 299 / 300])
    assert evidence.sure(np.array([0.8])).tolist() == [0.5]  # nothing agrees as much
