"""Wrong labels and classes that are one, planted and found."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import suspects
from retrieval.errors import InputError, MissingExtraError
from retrieval.suspects import find_alike, find_suspects


def drawn(seed: int, *, n: int = 300, classes: int = 6, wrong: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are right about nearly everything, labels of which some are wrong, and their places."""
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=n)
    shares = rng.dirichlet(np.ones(classes) * 0.3, n)
    shares[np.arange(n), true] += 6
    shares /= shares.sum(axis=1, keepdims=True)
    planted = rng.choice(n, wrong, replace=False)
    given = true.copy()
    given[planted] = (true[planted] + rng.integers(1, classes, wrong)) % classes
    return shares, given, planted


@pytest.mark.parametrize("seed", range(3))
def test_planted_labels_are_found_with_the_right_one(seed: int) -> None:
    shares, given, planted = drawn(seed)
    found = find_suspects(shares, given)
    right = len(set(found.places.tolist()) & set(planted.tolist()))
    assert right / len(planted) >= 0.9
    assert right / len(found.places) >= 0.9
    assert found.suggested.tolist() == shares[found.places].argmax(axis=1).tolist()
    assert (np.diff(found.quality[found.places]) >= 0).all()
    np.testing.assert_allclose(found.confidence, shares[found.places].max(axis=1))


def test_right_labels_are_not_suspected_and_classes_may_have_no_image() -> None:
    shares, given, _ = drawn(0, wrong=0)
    keep = given != 3
    found = find_suspects(shares[keep], given[keep])
    assert len(found.places) <= 2
    assert 3 not in found.suggested


def test_where_nothing_is_likely_nothing_is_suspected() -> None:
    shares, given, planted = drawn(0)
    flat = 0.05 * shares + 0.95 / shares.shape[1]
    assert flat.max() < suspects.SUGGESTED
    assert len(find_suspects(flat, given).places) == 0 < len(planted)


def test_too_much_for_memory_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, given, _ = drawn(0)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lookalike\[audit\]'"):
        find_suspects(shares, given)
    monkeypatch.setattr(suspects, "NUMBERS", 10)
    with pytest.raises(InputError, match="300 images of 6 labels are too many"):
        find_suspects(shares, given)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_classes_that_are_taken_for_each_other(rows: list[tuple[int, int]]) -> None:
    codes, predicted = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    wanted = {}
    for first in range(4):
        for second in range(first + 1, 4):
            taken = sum({true, said} == {first, second} for true, said in rows)
            sizes = [sum(true == one for true, _ in rows) for one in (first, second)]
            if min(sizes) >= suspects.LEAST and taken and taken / sum(sizes) >= suspects.OVERLAP:
                wanted[first, second] = taken / sum(sizes)
    found = find_alike(predicted, codes, classes=4)
    assert {(pair.first, pair.second): pair.overlap for pair in found} == pytest.approx(wanted)
    assert [pair.overlap for pair in found] == sorted((pair.overlap for pair in found), reverse=True)
