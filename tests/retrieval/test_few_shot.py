"""Few-shot episodes."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.errors import InputError
from retrieval.few_shot import Episodes, few_shot
from retrieval.uncertainty import Spread
from tests.retrieval.crowds import crowd, unit


def test_what_is_far_apart_is_told_and_what_is_noise_is_not() -> None:
    apart = crowd(0, classes=6, each=20, noise=0.02)
    found = few_shot(apart.vectors, apart.codes, Episodes(5, 1, number=50))
    assert (found.accuracy, found.classes) == (1.0, 6)
    rng = np.random.default_rng(0)
    noise, codes = unit(rng.normal(size=(300, 16))), np.repeat(np.arange(6), 50)
    found = few_shot(noise, codes, Episodes(5, 5, number=300))
    assert found.accuracy == pytest.approx(0.2, abs=0.02)
    assert found.high - found.low < 0.02
    assert found == few_shot(noise, codes, Episodes(5, 5, number=300))


def test_more_shots_tell_more() -> None:
    some = crowd(0, classes=8, each=40, noise=0.4)
    one, five = (few_shot(some.vectors, some.codes, Episodes(5, shots)).accuracy for shots in (1, 5))
    assert five > one + 0.05


@pytest.mark.parametrize("text", ["5way1shot", "1-way-1-shot", "5-way-0-shot", "", "a-way-b-shot"])
def test_what_names_no_episodes(text: str) -> None:
    with pytest.raises(InputError, match="names no episodes; write them as 5-way-1-shot"):
        Episodes.read(text)


def test_too_few_images() -> None:
    assert Episodes.read("20-way-5-shot") == Episodes(20, 5)
    some = crowd(0, classes=4, each=6)
    with pytest.raises(InputError, match="5-way-1-shot needs 5 classes of 2 images or more, and there are 4"):
        few_shot(some.vectors, some.codes, Episodes(5, 1))


def test_an_interval_may_begin_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.few_shot.over_seeds", lambda values: Spread(2, 0.1, 0.1, 0.0, 0.2, 0.0, 0.3))
    some = crowd(0, classes=6, each=6)
    found = few_shot(some.vectors, some.codes, Episodes(5, 1, number=2))
    assert (found.accuracy, found.low, found.high) == (0.1, 0.0, 0.3)
