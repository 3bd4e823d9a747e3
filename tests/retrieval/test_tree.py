"""The tree of labels against sums and walks by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.tree import NOWHERE, LabelTree

# Few names, so that labels lie above and beside each other, and "A-" sorts between "A" and "A/".
part = st.sampled_from(["A", "A-", "B", "C"])
labels = st.lists(st.lists(part, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12, unique=True)


def shares(seed: int, n: int, c: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(c), n)


def below(node: str, label: str) -> bool:
    return label == node or label.startswith(node + "/")


@given(labels, st.integers(0, 2**32 - 1))
def test_a_node_has_what_lies_below_it(names: list[str], seed: int) -> None:
    tree, given = LabelTree.of(names), shares(seed, 3, len(names))
    sums = tree.sums(given)
    for at, node in enumerate(tree.nodes):
        inside = [code for code, label in enumerate(names) if below(node, label)]
        np.testing.assert_allclose(sums[:, at], given[:, inside].sum(axis=1), atol=1e-12)
        assert tree.depths[at] == node.count("/") + 1
        above = node.rpartition("/")[0]
        assert (tree.nodes[tree.parents[at]] if tree.parents[at] != NOWHERE else "") == above


@given(labels, st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_every_level_sums_to_one(names: list[str], seed: int, depth: int) -> None:
    tree, given = LabelTree.of(names), shares(seed, 2, len(names))
    of_label = tree.level(depth)
    for code, label in enumerate(names):
        assert tree.nodes[of_label[code]] == "/".join(label.split("/")[:depth])
    whole = [sum(row[of_label == node].sum() for node in np.unique(of_label)) for row in given]
    np.testing.assert_allclose(whole, 1, atol=1e-12)


@given(labels, st.integers(0, 2**32 - 1), st.floats(0.51, 1))
def test_above_one_half_the_answer_is_the_deepest_that_is_sure_enough(
    names: list[str], seed: int, confidence: float
) -> None:
    tree, given = LabelTree.of(names), shares(seed, 4, len(names))
    sums = tree.sums(given)
    found, sure = tree.answers(given, confidence)
    for row in range(4):
        able = [at for at in range(len(tree.nodes)) if sums[row, at] >= confidence]
        if not able:
            assert found[row] == NOWHERE
            assert sure[row] == pytest.approx(max(sums[row, tree.depths == 1]), abs=1e-9)
        else:
            assert found[row] == max(able, key=lambda at: tree.depths[at])
            assert sure[row] == pytest.approx(sums[row, found[row]], abs=1e-9)


@given(labels, st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_the_likeliest_lies_below_the_answer(names: list[str], seed: int, confidence: float) -> None:
    tree, given = LabelTree.of(names), shares(seed, 4, len(names))
    found, _ = tree.answers(given, confidence)
    likeliest = tree.likeliest_below(given, found)
    for row, (node, code) in enumerate(zip(found.tolist(), likeliest.tolist(), strict=True)):
        inside = [at for at, label in enumerate(names) if node == NOWHERE or below(tree.nodes[node], label)]
        assert code in inside
        assert given[row, code] == max(given[row, inside])


def test_down_the_more_probable_side_not_to_the_deepest() -> None:
    tree = LabelTree.of(["A/B/C", "D"])
    found, sure = tree.answers(np.array([[0.3, 0.7]]), 0.25)
    assert (tree.nodes[found[0]], sure[0]) == ("D", pytest.approx(0.7))


@pytest.mark.parametrize("label", ["Fruit//Gala", "/Fruit", "Fruit/", "", " ", "Fruit/ /Gala"])
def test_an_empty_part_is_refused(label: str) -> None:
    with pytest.raises(InputError, match="has an empty part in its path"):
        LabelTree.of(["Fruit/Apple", label])
