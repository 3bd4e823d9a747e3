"""The same picture twice: which pairs are told, and in what order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval.report import Pair
from retrieval.twins import NEARLY, SAME, WITHIN, in_order, same_bytes


@given(st.lists(st.sampled_from([None, b"a", b"b", b"c"]), max_size=14))
def test_every_copy_is_paired_and_nothing_else(digests: list[bytes | None]) -> None:
    ids = [f"i{at}" for at in range(len(digests))]
    pairs = same_bytes(ids, ["test"] * len(ids), ["x"] * len(ids), digests)
    digest = dict(zip(ids, digests, strict=True))
    assert all(digest[pair.first] == digest[pair.second] is not None and pair.first != pair.second for pair in pairs)
    assert len({(pair.first, pair.second) for pair in pairs}) == len(pairs)
    for id, key in digest.items():
        others = [other for other in ids if digest[other] == key and other != id]
        if key is not None and others:
            assert any(id in (pair.first, pair.second) for pair in pairs)
        if key is not None and len(others) < WITHIN:
            assert sum(id in (pair.first, pair.second) for pair in pairs) == len(others)


def test_the_same_image_in_two_parts_is_a_leak_and_an_image_is_no_pair_with_itself() -> None:
    pairs = same_bytes(["a", "a", "b"], ["train", "test", "test"], ["x", "x", "y"], [b"1", b"1", b"2"])
    assert [(pair.first, pair.second, pair.where, pair.conflicting) for pair in pairs] == [
        ("a", "a", "train/test", False)
    ]


def test_an_image_without_a_label_contradicts_none() -> None:
    [pair] = same_bytes(["a", "b"], ["test", "test"], ["x", None], [b"1", b"1"])
    assert pair.labels == ("x", "") and not pair.conflicting


def test_a_leak_in_a_large_group_is_told_between_any_two_parts() -> None:
    parts = ["train"] * 2 + ["query"] * 4 + ["gallery"] * 4
    pairs = same_bytes([f"i{at}" for at in range(10)], parts, ["x"] * 10, [b"1"] * 10)
    assert {pair.where for pair in pairs} >= {"train/query", "train/gallery", "query/gallery"}
    assert len({(pair.first, pair.second) for pair in pairs}) == len(pairs) < 30


def test_what_spoils_a_number_most_comes_first() -> None:
    def pair(name: str, where: str, labels: tuple[str, str], kind: str = SAME, similarity: float = 1.0) -> Pair:
        return Pair(name, name + "'", where, labels, kind, similarity)

    harmless = pair("1", "test/test", ("x", "x"))
    leak = pair("2", "train/test", ("x", "x"))
    conflict = pair("3", "test/test", ("x", "y"))
    near = pair("4", "test/test", ("x", "y"), NEARLY, 0.98)
    worst = pair("5", "train/test", ("x", "y"))
    assert in_order([harmless, near, leak, conflict, worst]) == [worst, leak, conflict, harmless, near]
