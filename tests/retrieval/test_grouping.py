"""Groups of copies: their promise in its own words, and components against SciPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from retrieval.grouping import components, group_by_best


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (m, 2), some of them of a thing with itself, some twice; and a rank (n,)."""
    n = draw(st.integers(1, 9))
    place = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(place, place), max_size=16))
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(draw(st.permutations(range(n))))


def joined(pairs: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs.tolist() if pair[0] != pair[1]}


@settings(max_examples=60)
@given(graphs())
def test_every_member_is_a_copy_of_the_best_of_its_group(graph: tuple[np.ndarray, np.ndarray]) -> None:
    pairs, rank = graph
    best = group_by_best(pairs, rank)
    assert best.shape == rank.shape and best.dtype == np.int64
    for place, of in enumerate(best.tolist()):
        assert best[of] == of
        if of != place:
            assert frozenset((place, of)) in joined(pairs)
            assert rank[of] < rank[place]


@settings(max_examples=60)
@given(graphs())
def test_two_that_are_kept_are_no_copies_of_each_other_and_each_goes_to_the_best(
    graph: tuple[np.ndarray, np.ndarray],
) -> None:
    pairs, rank = graph
    best = group_by_best(pairs, rank)
    near: dict[int, list[int]] = {place: [] for place in range(len(rank))}
    for pair in joined(pairs):
        one, other = pair
        near[one].append(other)
        near[other].append(one)
    for place, others in near.items():
        kept = [other for other in others if best[other] == other]
        if best[place] == place:
            assert not kept
        else:
            assert best[place] == min(kept, key=lambda other: int(rank[other]))


@settings(max_examples=60)
@given(graphs())
def test_of_all_that_hangs_together_the_best_is_kept_with_all_its_copies(graph: tuple[np.ndarray, np.ndarray]) -> None:
    pairs, rank = graph
    best, whole = group_by_best(pairs, rank), components(pairs, len(rank))
    for component in set(whole.tolist()):
        first = min(np.flatnonzero(whole == component).tolist(), key=lambda place: int(rank[place]))
        copies = {place for pair in joined(pairs) if first in pair for place in pair}
        assert {place for place in range(len(rank)) if best[place] == first} == copies | {first}


@settings(max_examples=60)
@given(graphs(), st.randoms(use_true_random=False))
def test_order_direction_and_repetition_of_pairs_change_nothing(
    graph: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> None:
    pairs, rank = graph
    rows = [row[::-1] if random.random() < 0.5 else row for row in pairs.tolist() * 2]
    random.shuffle(rows)
    others = np.array(rows, np.int64).reshape(-1, 2)
    assert (group_by_best(others, rank) == group_by_best(pairs, rank)).all()
    assert (components(others, len(rank)) == components(pairs, len(rank))).all()


@settings(max_examples=60)
@given(graphs())
def test_nothing_is_written_to(graph: tuple[np.ndarray, np.ndarray]) -> None:
    pairs, rank = graph
    for array in graph:
        array.flags.writeable = False
    group_by_best(pairs, rank)
    components(pairs, len(rank))


def test_a_chain_is_no_group() -> None:
    cuts = np.array([[0, 1], [1, 2], [2, 3]])  # left cut, whole, right cut, a cut of that
    assert group_by_best(cuts, np.array([1, 0, 2, 3])).tolist() == [1, 1, 1, 3]
    assert components(cuts, 4).tolist() == [0, 0, 0, 0]
    assert group_by_best(cuts, np.array([0, 1, 2, 3])).tolist() == [0, 0, 2, 2]


def test_without_pairs_everything_stands_alone() -> None:
    none = np.zeros((0, 2), np.int64)
    assert group_by_best(none, np.array([2, 0, 1])).tolist() == components(none, 3).tolist() == [0, 1, 2]
    assert group_by_best(np.array([], np.int64), np.array([], np.int64)).tolist() == components(none, 0).tolist() == []


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_components_are_those_of_scipy(n: int, m: int, seed: int) -> None:
    pairs = np.random.default_rng(seed).integers(n, size=(m, 2))
    found = components(pairs, n)
    _, theirs = connected_components(coo_array((np.ones(m), (pairs[:, 0], pairs[:, 1])), shape=(n, n)), directed=False)
    lowest = {number: int(np.flatnonzero(theirs == number)[0]) for number in set(theirs.tolist())}
    assert found.tolist() == [lowest[number] for number in theirs.tolist()]


def test_a_long_chain_is_joined() -> None:
    n = 5000
    pairs = np.stack([np.arange(1, n), np.arange(n - 1)], axis=1)[::-1]
    assert not components(pairs, n).any()
    assert (group_by_best(pairs, np.arange(n)) == np.arange(n) // 2 * 2).all()


def test_what_is_paired_with_two_goes_to_the_one_it_is_paired_with_most_strongly() -> None:
    pairs, rank = np.array([[0, 2], [1, 2]]), np.array([0, 1, 2])
    assert group_by_best(pairs, rank).tolist() == [0, 1, 0]
    assert group_by_best(pairs, rank, np.array([0.66, 0.97])).tolist() == [0, 1, 1]
    # But to none that is worse than itself, or the best of a group would not be its best.
    assert group_by_best(pairs, np.array([0, 2, 1]), np.array([0.66, 0.97])).tolist() == [0, 1, 0]
