"""What the report of a training says, and that nothing it is given becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from indexer.training_charts import Series, curves_chart, epochs_shown, ticks_of
from indexer.training_report import took, training_page
from tests.indexer.accounts import HOSTILE, sample_account
from tests.indexer.reports import drawn_picture


def page(*arguments: object, **account: object) -> str:
    return training_page(sample_account(*arguments, **account), drawn_picture(16))


def words(html: str) -> str:
    """The text of a page, without what is folded into attributes."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_it_says_what_was_trained_and_how_well() -> None:
    said = words(page())
    for told in (
        "510 images of 100 classes",
        "on 90 images held out",
        "the last 15% of the images of each class",
        "95.83",
        "the head",
        "8 min 0 s",
        "images that were not trained on",
        "lookalike train photos --out birds",
    ):
        assert told in said


def test_every_choice_stands_there_with_its_reason() -> None:
    account = sample_account()
    said = words(page())
    for choice in account.choices:
        assert choice.field.replace("_", "-") in said
    assert "asked for" in said


def test_without_validation_it_says_so() -> None:
    said = words(page(held_out=0, refused=0, epochs=1))
    assert "nothing was held out to validate on" in said
    assert "Nothing was held out, so none is known" in said
    assert "Every picture could be used" in said


def test_confusions_are_shown_side_by_side_with_their_similarity() -> None:
    html = page([(f"img/{at}.jpg", f"class {at % 2}") for at in range(4)])
    assert html.count('class="pair"') == 3
    assert html.count("<img ") == 6
    assert "0.990" in html
    assert 'alt="held out, class 0"' in html
    assert 'alt="the nearest to it, class 1"' in html


def test_many_confusions_and_refusals_are_cut_and_counted() -> None:
    html = page([(f"img/{at}.jpg", "class") for at in range(80)], refused=130)
    assert html.count('class="pair"') == 40
    assert "and 30 more pictures" in words(html)


class Marks(HTMLParser):
    """Collects what is markup."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_nothing_from_outside_becomes_markup_and_nothing_is_loaded() -> None:
    usual, hostile = Marks(), Marks()
    usual.feed(page())
    hostile.feed(page([(f"{HOSTILE}{at}", f"{HOSTILE}/{at % 2}") for at in range(31)]))
    assert hostile.elements == usual.elements
    assert "script" not in hostile.elements
    assert not {name for name in hostile.attributes if name.startswith("on")}
    assert all(place.startswith(("#", "data:")) for place in hostile.loaded)


def test_charts_say_in_words_what_they_draw() -> None:
    drawn = curves_chart(
        "loss", "Loss", [Series("<loss>", [(1, 4.0), (2, 1.0), (3, 2.0)])], epochs=3, write=lambda v: f"{v:g}", marked=2
    )
    assert "&lt;loss&gt; from 4 in epoch 1 to 2 in epoch 3, between 1 and 4." in drawn
    assert 'points="0.0,0.0 500.0,200.0 1000.0,' in drawn
    assert "the epoch that is kept" in drawn


def test_one_epoch_of_one_value_is_drawn_in_the_middle() -> None:
    drawn = curves_chart("rate", "Rate", [Series("rate", [(1, 3.0)])], epochs=1, write=str)
    assert 'cx="50.00%"' in drawn
    assert "nan" not in drawn


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 9, [0, 5, 10]),
        (0.62, 0.91, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (3, 3, [2.6, 2.8, 3.0, 3.2, 3.4]),
        (0, 61, [0, 20, 40, 60, 80]),
    ],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert ticks_of(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("epochs", [1, 2, 6, 7, 12, 40, 60, 137, 999])
def test_epochs_below_a_chart(epochs: int) -> None:
    shown = epochs_shown(epochs)
    assert shown[0] == 1
    assert shown[-1] == epochs
    assert shown == sorted(set(shown))
    assert len(shown) <= 7


def test_times_are_written_as_people_say_them() -> None:
    assert [took(seconds) for seconds in (8.6, 59.7, 750, 7500)] == ["9 s", "1 min 0 s", "12 min 30 s", "2 h 5 min"]
