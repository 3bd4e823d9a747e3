"""What copies say of each other: pixels that count, what is framed, cut or made larger."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import cv2
import numpy as np
import pytest

from indexer.keep_facts import Standing, candidate_of, standings
from retrieval.copies import Overlay
from retrieval.grain import Grain, grain_of
from tests.retrieval.test_grain import photograph, scaled


def no_grain(place: int) -> Grain:
    raise AssertionError(f"the grain of {place} was asked")


def laid(across: float = 1.0, down: float = 1.0, *, covered: tuple[float, float] = (1.0, 1.0)) -> Overlay:
    """Upright, and photograph where nothing is covered."""
    transform = np.array([[across, 0, 0], [0, down, 0]])
    return replace(Overlay.same(), transform=transform, covered=covered, beyond=(0.8, 0.8))


def of(*sizes: int) -> list[dict[str, float]]:
    """Pictures of so many bytes, all of them as sharp."""
    return [{"bytes": size, "sharpness": 9.0} for size in sizes]


def test_nothing_is_said_of_pictures_without_copies() -> None:
    assert standings([(10, 10), (20, 20)], of(5, 6), [], no_grain) == {}


def test_a_few_pixels_less_are_no_less() -> None:
    sizes = [(348, 348), (347, 347), (345, 346), (300, 300), (640, 480)]
    even = grain_of(np.full((300, 300, 3), 90, np.uint8))
    pairs = [(0, 1, laid()), (1, 2, None), (0, 3, laid(0.862, 0.862))]
    told = standings(sizes, of(*[9] * 5), pairs, lambda _: even)
    assert {at: one.pixels for at, one in told.items()} == {0: 348**2, 1: 348**2, 2: 348**2, 3: 300**2}


def test_a_picture_is_larger_or_sharper_where_it_clearly_is() -> None:
    weights = 100_000, 49_000, 51_000, 48_000, 20_000, 100_001
    pairs = [(0, 1, None), (1, 2, laid()), (3, 2, laid()), (4, 0, None)]
    told = standings([(80, 80)] * 6, of(*weights), pairs, no_grain)
    assert {at: one.size for at, one in told.items()} == {0: 100_000, 2: 100_000, 1: 49_000, 3: 49_000, 4: 20_000}
    sharp = [{"bytes": 9, "sharpness": value / 7} for value in weights]
    told = standings([(80, 80)] * 6, sharp, pairs, no_grain)
    assert {at: one.sharpness for at, one in told.items()} == {
        at: value / 7 for at, value in {0: 100_000, 2: 100_000, 1: 49_000, 3: 49_000, 4: 20_000}.items()
    }


def test_what_is_put_behind_for_more_than_its_bytes_says_nothing_of_those_of_others() -> None:
    page = replace(laid(), covered=(1.0, 0.5), beyond=(0.8, 0.0))
    told = standings([(80, 80)] * 4, of(49_000, 51_000, 100_000, 98_000), [(0, 1, laid()), (0, 2, page)], no_grain)
    assert told[2].framed and not told[0].framed
    assert (told[0].size, told[1].size, told[2].size) == (51_000, 51_000, 100_000)
    small = standings(
        [(80, 80), (80, 80), (99, 99)], of(49_000, 51_000, 100_000), [(0, 1, None), (1, 2, None)], no_grain
    )
    assert [small[at].size for at in range(3)] == [51_000, 51_000, 100_000]


def test_groups_are_levelled_each_by_itself() -> None:
    told = standings([(202, 200), (200, 200), (199, 199)], of(9, 9, 9), [(1, 2, laid())], no_grain)
    assert {at: one.pixels for at, one in told.items()} == {1: 200**2, 2: 200**2}


def test_what_a_copy_shows_beyond_a_picture_is_hidden_there_unless_it_is_a_page() -> None:
    cut = laid(covered=(0.6, 1.0))
    told = standings([(100, 100), (77, 77)], of(9, 9), [(0, 1, cut)], no_grain)
    assert (told[0].hidden, told[1].hidden) == (0.0, pytest.approx(0.4))
    assert (told[0].framed, told[1].framed) == (False, False)
    told = standings([(77, 77), (100, 100)], of(9, 9), [(0, 1, replace(cut, beyond=(0.0, 0.0)))], no_grain)
    assert (told[0].framed, told[1].framed, told[1].hidden) == (True, False, 0.0)


def test_what_the_rules_look_at_is_what_is_known() -> None:
    facts = {"width": 300, "height": 200, "bytes": 5000, "format": "JPEG"}
    facts |= {"sharpness": 3.5, "metadata": 40, "resaved": True}
    told: dict[str, Any] = {"row": 7, "uri": "a.jpg", "id": "A/a.jpg", "grey": True, "modified": 99.5}
    beside = {"framed": True, "scaled": True, "pixels": 5400, "hidden": 0.25, "size": 8000, "sharpness": 2.5}
    assert asdict(candidate_of(facts, Standing(**beside), **told)) == {**facts, **told, **beside}
    alone = {"framed": False, "scaled": False, "pixels": None, "hidden": 0.0, "size": None}
    assert asdict(candidate_of(facts, None, **told)) == {**facts, **told, **alone}


@pytest.mark.parametrize("turned", [False, True])
def test_a_stretched_copy_has_the_pixels_of_its_original(turned: bool) -> None:
    original, wide = photograph(1), scaled(photograph(1), 1.4, 1)
    over = laid(1.403, 0.998)  # as nearly as a fit has it
    if turned:
        wide = np.ascontiguousarray(np.rot90(wide))
        over = replace(over, transform=np.array([[0, 0.998, 0], [-1.403, 0, 0]]))
    pictures = [original, wide]
    sizes = [(one.shape[1], one.shape[0]) for one in pictures]
    grain = [grain_of(one) for one in pictures]
    for pair, which in (((0, 1, over), 1), ((1, 0, over.swapped()), 1)):
        told = standings(sizes, of(9, 9), [pair], grain.__getitem__)
        assert (told[which].scaled, told[1 - which].scaled) == (True, False)
        assert told[0].pixels == told[1].pixels == pytest.approx(360 * 270, rel=0.01)


def test_an_enlarged_copy_is_no_smaller_than_its_original_though_there_is_a_thumbnail() -> None:
    original = photograph(2)
    pictures = [original, scaled(original, 1.45, 1.45), scaled(original, 0.5, 0.5, cv2.INTER_AREA)]
    sizes = [(one.shape[1], one.shape[0]) for one in pictures]
    grain = [grain_of(one) for one in pictures]
    told = standings(
        sizes,
        of(9, 9, 9),
        [(0, 1, laid(1.45, 1.45)), (2, 1, laid(2.9, 2.9)), (0, 2, laid(0.5, 0.5))],
        grain.__getitem__,
    )
    assert [told[at].scaled for at in range(3)] == [False, True, False]
    assert told[0].pixels == told[1].pixels == pytest.approx(360 * 270, rel=0.01)
    assert told[2].pixels == 180 * 135


def test_of_two_that_it_may_be_made_of_the_larger_one_gives_its_pixels() -> None:
    sizes = [(360, 270), (684, 270), (277, 270)]
    none = np.zeros(0, np.float32)
    grain = [Grain(np.array([across, 0.0], np.float32), (none, none)) for across in (0.0, -1.5, 0.1)]
    pairs = [(0, 1, laid(1.9, 1)), (2, 1, laid(2.47, 1)), (0, 2, laid(1 / 1.3, 1))]
    for order in (pairs, pairs[::-1]):
        told = standings(sizes, of(9, 9, 9), order, grain.__getitem__)
        assert told[1].scaled and told[1].pixels == told[0].pixels == 360 * 270
