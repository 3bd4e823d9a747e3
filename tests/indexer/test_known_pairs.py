"""What came of comparing, in arrays: the same as a dictionary would say, in a tenth of the memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.known_pairs import COMPARED_SCHEMA, KnownPairs, Pair, pair_of, table_of
from retrieval.copies import Overlay

KEYS = [bytes((number,)) * 32 for number in range(6)]
BYTES_A_PAIR = 160
"""What is kept of a pair, and its share of what sorting takes."""

shares = st.floats(0, 1, allow_nan=False)
overlays = st.builds(
    Overlay,
    agreement=shares,
    matches=st.integers(0, 300),
    transform=st.lists(st.floats(-1e4, 1e4), min_size=6, max_size=6).map(lambda six: np.array(six).reshape(2, 3)),
    covered=st.tuples(shares, shares),
    colour=st.floats(0, 255),
    beyond=st.tuples(shares, shares),
)
pairs = st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).filter(lambda two: two[0] != two[1])


def same(one: Overlay, other: Overlay) -> bool:
    values = ("agreement", "matches", "covered", "colour", "beyond")
    return all(getattr(one, name) == getattr(other, name) for name in values) and bool(
        (one.transform == other.transform).all()
    )


@settings(max_examples=100, deadline=None)
@given(added=st.lists(st.lists(st.tuples(pairs, st.none() | overlays), max_size=5), max_size=5), asked=st.lists(pairs))
def test_it_says_what_a_dictionary_would(added: list[list[tuple[Pair, Overlay | None]]], asked: list[Pair]) -> None:
    known, plain = KnownPairs(), dict[Pair, Overlay]()
    for several in added:
        ordered = [(pair_of(*pair), over) for pair, over in several]
        known.add(table_of(ordered))
        plain |= {pair: over or Overlay.none() for pair, over in ordered}
        for pair in map(lambda two: pair_of(*two), asked):
            over, other = known.get(*pair), plain.get(pair)
            assert (over is None) == (other is None)
            assert over is None or other is None or same(over, other)
    assert len(known) == len(plain)
    assert {(known.pictures[row["a"]], known.pictures[row["b"]]) for row in known.rows} == set(plain)
    assert [known.places([pair])[0] for pair in asked] == known.places(asked).tolist()


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(pairs, overlays, st.booleans()), max_size=15),
    wanted=st.lists(pairs | st.tuples(st.sampled_from(KEYS), st.just(b"unknown")), max_size=5),
    least=st.floats(0.01, 0.9),
)
def test_a_way_by_a_third_picture_is_as_strong_as_its_weaker_half(
    rows: list[tuple[Pair, Overlay, bool]], wanted: list[Pair], least: float
) -> None:
    known, plain = KnownPairs(), dict[frozenset[bytes], tuple[Overlay, bool]]()
    for pair, over, asked in rows:
        known.add(table_of([(pair_of(*pair), over)]), asked=asked)
        plain[frozenset(pair)] = over, asked

    def strength(a: bytes, third: bytes) -> float:
        over, asked = plain.get(frozenset((a, third)), (Overlay.none(), True))
        of_third = over.covered[0 if third < a else 1]
        return 0.0 if asked or of_third <= 0.5 or over.agreement < least else over.agreement

    expected = [max(min(strength(a, by), strength(b, by)) for by in KEYS if by not in (a, b)) for a, b in wanted]
    assert known.through_others(wanted, least=least).tolist() == expected


def test_a_million_pairs_would_take_some_hundred_megabytes() -> None:
    count, pictures = 100_000, 2_000
    rng = np.random.default_rng(0)
    keys = [number.to_bytes(32, "big") for number in range(pictures)]
    table = table_of([((keys[0], keys[1]), Overlay.same())])
    columns = {name: table.column(name).take([0] * count) for name in COMPARED_SCHEMA.names}
    for name in ("a", "b"):
        columns[name] = [keys[at] for at in rng.integers(0, pictures, count).tolist()]
    table = table.from_pydict(columns, schema=COMPARED_SCHEMA)
    tracemalloc.start()
    known = KnownPairs()
    known.add(table)
    many = len(known)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many > 90_000
    assert kept < BYTES_A_PAIR * many + 500 * pictures
