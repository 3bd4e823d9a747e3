"""Which of several copies is kept: every rule, their order, and that there is always exactly one first."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.keep_best import DEFAULT_POLICY, RULES, Candidate, best_first, check_policy, why_kept
from retrieval.errors import InputError

PLAIN = Candidate(
    row=5,
    uri="b/photo.jpg",
    width=640,
    height=480,
    bytes=50_000,
    format="JPEG",
    sharpness=100.0,
    metadata=200,
    framed=False,
    modified=1000.0,
)
WORSE = {
    "unframed": {"framed": True},
    "coloured": {"grey": True},
    "resolution": {"pixels": 639 * 480},
    "unscaled": {"scaled": True},
    "whole": {"hidden": 0.3},
    "format": {"format": "WEBP"},
    "once": {"resaved": True},
    "sharpness": {"sharpness": 60.0},
    "size": {"size": 29_999},
    "metadata": {"metadata": 0},
    "oldest": {"modified": 1001.0},
    "bytes": {"bytes": 49_999, "size": 50_000},
    "path:b/*": {"uri": "a/photo.jpg"},
}
REASONS = {
    "unframed": "no frame or page around it",
    "coloured": "in colour",
    "resolution": "640 x 480 pixels",
    "unscaled": "neither made larger nor stretched",
    "whole": "shows more",
    "format": "JPEG",
    "once": "not saved anew from a coarser JPEG",
    "sharpness": "sharper",
    "size": "50,000 bytes",
    "metadata": "more metadata",
    "oldest": "the oldest file",
    "bytes": "50,000 bytes",
    "path:b/*": "its path fits b/*",
}


def other(**changes: object) -> Candidate:
    """As the plain one, indexed before it."""
    return dataclasses.replace(PLAIN, row=1, **changes)


def test_every_rule_has_its_case() -> None:
    assert {name for name in WORSE if not name.startswith("path:")} == set(RULES) == set(DEFAULT_POLICY)


@pytest.mark.parametrize("rule", list(WORSE))
def test_a_rule_alone(rule: str) -> None:
    worse = other(**WORSE[rule])
    assert best_first([worse, PLAIN], [rule]) == [1, 0]
    assert best_first([PLAIN, worse], [rule]) == [0, 1]
    assert why_kept(PLAIN, [worse], [rule]) == REASONS[rule]


@pytest.mark.parametrize("rule", list(WORSE))
def test_what_a_rule_does_not_tell_apart_goes_by_which_was_indexed_first(rule: str) -> None:
    alike = other(**{name: value for other, change in WORSE.items() if other != rule for name, value in change.items()})
    assert best_first([PLAIN, alike], [rule]) == [1, 0]
    assert why_kept(alike, [PLAIN], [rule]) == "indexed first"


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(DEFAULT_POLICY)))
def test_the_default_goes_rule_by_rule(first: str, second: str) -> None:
    by_first, by_second = other(**WORSE[second]), dataclasses.replace(PLAIN, row=0, **WORSE[first])
    assert best_first([by_second, by_first]) == [1, 0]
    assert best_first([by_second, by_first], [second, first]) == [0, 1]


def test_formats_stand_from_lossless_to_poor_and_unknown_ones_last() -> None:
    names = ["TIFF", "PNG", "BMP", "JPEG", "AVIF", "WEBP", "GIF", "PCX"]
    given = [other(format=name) for name in reversed(names)]
    assert [given[at].format for at in best_first(given, ["format"])] == names


def test_a_little_sharper_is_not_seen() -> None:
    assert best_first([other(sharpness=100.0), dataclasses.replace(PLAIN, sharpness=104.0)], ["sharpness"]) == [0, 1]


def test_a_little_more_of_the_picture_is_not_seen() -> None:
    assert best_first([other(hidden=0.02), dataclasses.replace(PLAIN, hidden=0.0)], ["whole"]) == [0, 1]


def test_pixels_count_by_width_and_height_where_nothing_else_is_known() -> None:
    assert best_first([other(width=600), PLAIN], ["resolution"]) == [1, 0]
    assert best_first([other(width=900), dataclasses.replace(PLAIN, width=600, pixels=960 * 480)], ["resolution"]) == [
        1,
        0,
    ]


def test_bytes_tell_the_size_where_nothing_else_is_known() -> None:
    assert best_first([other(bytes=49_999), PLAIN], ["size"]) == [1, 0]
    assert best_first([other(bytes=49_999, size=50_000), PLAIN], ["size"]) == [0, 1]


def test_a_file_without_a_time_is_the_youngest() -> None:
    assert best_first([other(modified=None), PLAIN], ["oldest"]) == [1, 0]


def test_paths_are_told_by_case_and_whole() -> None:
    pictures = [other(uri="originals/a.jpg"), dataclasses.replace(PLAIN, uri="Originals/b.jpg")]
    assert best_first(pictures, ["path:Originals/*"]) == [1, 0]
    assert best_first(pictures, ["path:*.jpg"]) == [0, 1]
    assert best_first(pictures, ["path:*/b.jpg"]) == [1, 0]
    of_two_folders = [other(id="A/photo.jpg"), dataclasses.replace(PLAIN, id="B/photo.jpg")]
    assert best_first(of_two_folders, ["path:B/*"]) == [1, 0] and best_first(of_two_folders, ["path:A/*"]) == [0, 1]


@pytest.mark.parametrize("policy", [["newest"], ["resolution", "Format"], ["path:"], ["path"], [""], []])
def test_rules_that_do_not_exist(policy: list[str]) -> None:
    for refused in (check_policy, lambda rules: best_first([PLAIN], rules)):
        with pytest.raises(InputError, match=r"there is no rule|at least one rule") as said:
            refused(policy)
        assert "resolution" in str(said.value) and "path:PATTERN" in str(said.value)


candidates = st.lists(
    st.builds(
        Candidate,
        row=st.integers(0, 1000),
        uri=st.sampled_from(["a/1.jpg", "b/2.png", "c.jpg"]),
        width=st.integers(1, 3),
        height=st.integers(1, 3),
        bytes=st.integers(1, 3),
        format=st.sampled_from(["PNG", "JPEG", "other"]),
        sharpness=st.floats(0, 1e6),
        metadata=st.integers(0, 2),
        framed=st.booleans(),
        modified=st.none() | st.floats(0, 2e9),
        pixels=st.none() | st.integers(1, 9),
        size=st.none() | st.integers(1, 3),
        scaled=st.booleans(),
        hidden=st.floats(0, 1),
        resaved=st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.row,
)
policies = st.lists(st.sampled_from([*RULES, "path:a/*", "path:*.jpg"]), min_size=1, max_size=4, unique=True)


@given(candidates, policies, st.randoms())
def test_the_order_does_not_depend_on_the_order_they_come_in(
    some: list[Candidate], policy: list[str], random: object
) -> None:
    order = best_first(some, policy)
    assert sorted(order) == list(range(len(some)))
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [shuffled[at] for at in best_first(shuffled, policy)] == [some[at] for at in order]
    assert why_kept(some[order[0]], [some[at] for at in order[1:]], policy)


@given(candidates, policies)
def test_the_order_is_that_of_any_two_of_them(some: list[Candidate], policy: list[str]) -> None:
    order = best_first(some, policy)
    for at, one in enumerate(order):
        for later in order[at + 1 :]:
            assert best_first([some[later], some[one]], policy) == [1, 0]
