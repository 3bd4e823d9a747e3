"""Mistake distance against a tree walked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.hierarchy import mistake_distance

FRUIT = ["Fruit/Apple/Granny-Smith", "Fruit/Apple/Gala", "Fruit/Pear", "Packages/Juice/Orange/Tropicana"]


def walked(predicted: str, true: str, labels: set[str]) -> int:
    """Climb from both to their first common place, then go down from there as far as any label does."""
    if predicted == true:
        return 0

    def chain(label: str) -> list[str]:
        parts = label.split("/")
        return ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)] + ["root"]

    meeting = next(place for place in chain(predicted) if place in chain(true))
    return max(chain(label).index(meeting) for label in labels if meeting in chain(label))


@given(st.data())
def test_the_distance_is_the_height_of_the_first_common_ancestor(data: st.DataObject) -> None:
    part = st.sampled_from("ab")
    labels = data.draw(st.lists(st.lists(part, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12))
    more = data.draw(st.lists(st.lists(part, min_size=1, max_size=6).map("/".join), max_size=3))
    predicted, true = labels, data.draw(st.permutations(labels))
    got = mistake_distance(predicted, true, labels=more)
    assert got.dtype == np.float64
    wanted = [walked(here, there, {*labels, *more}) for here, there in zip(predicted, true, strict=True)]
    assert got.tolist() == wanted


def test_sisters_are_nearer_than_strangers() -> None:
    right, sister, cousin, stranger = mistake_distance(FRUIT, [FRUIT[0]] * 4)
    assert (right, sister, cousin, stranger) == (0, 1, 2, 4)
    # A tree that is known as a whole does not depend on what was predicted.
    assert mistake_distance(FRUIT[1:2], FRUIT[:1]).tolist() == [1]
    assert mistake_distance(FRUIT[2:3], FRUIT[:1], labels=[*FRUIT, "Fruit/Apple/Gala/Royal/Small"]).tolist() == [4]
    # Labels that are no paths are all one apart; to say the parent only is a mistake of the parent's height.
    assert mistake_distance(["cat", "dog"], ["dog", "dog"]).tolist() == [1, 0]
    assert mistake_distance(["Fruit"], ["Fruit/Apple/Gala"]).tolist() == [2]


def test_as_many_are_predicted_as_are_true() -> None:
    with pytest.raises(AssertionError):
        mistake_distance(["a"], [])
