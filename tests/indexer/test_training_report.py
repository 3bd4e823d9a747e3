"""What the report of a training says, and that nothing it is given becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from indexer.training_charts import CURVE_STYLE, Series, curves_chart, epochs_shown, ticks_of
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
        "86 of 90",
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


def leading(html: str) -> str:
    """The text above the contents."""
    return words(html[html.index("<header>") : html.index("</header>")])


def test_few_held_out_images_are_counted_and_the_interval_stands_beside() -> None:
    few = page(held_out=10, epochs=4)
    assert "Recall@1 9 of 10 95&nbsp;% interval 59.6 – 98.2&nbsp;%, on 10 images held out" in leading(few)
    assert "90.0" not in leading(few)
    assert "head 10 of 10, 95 % interval 72.2 – 100.0 %" in words(few)
    assert "MAP@R 63.0 %" in words(few)
    many = leading(page(held_out=100, epochs=4))
    assert "Recall@1 88.00&nbsp;% 95&nbsp;% interval 80.2 – 93.0&nbsp;%, on 100 images held out" in many
    assert "on 1 image held out" in leading(page(held_out=1, epochs=4))


def test_figures_are_of_the_images_that_can_be_found() -> None:
    html = page(held_out=12, measured=10, epochs=4, by="classes")
    assert "Recall@1 9 of 10" in leading(html)
    assert "2 held-out images have no other image of the class to find" in words(html)
    assert "1 held-out image has no other image" in words(page(held_out=11, measured=10, by="classes"))
    assert "not searched for" not in words(page())


@pytest.mark.parametrize(
    ("how", "beside", "sentence"),
    [
        (
            {},
            "the epoch was chosen by the better of kNN vote and head: head 87 of 90",
            "The epoch was chosen by the better of kNN vote and head, here the head: the share",
        ),
        (
            {"head": False},
            "the epoch was chosen by the kNN vote: kNN vote 84 of 90",
            "The epoch was chosen by the kNN vote: the share",
        ),
        ({"by": "classes"}, "held out; it chose the epoch", "The epoch was chosen by Recall@1: the share"),
    ],
)
def test_what_chose_the_epoch_stands_beside_the_headline(how: dict[str, object], beside: str, sentence: str) -> None:
    html = page(**how)
    assert beside in leading(html)
    assert sentence in words(html)
    assert "MAP@R chose" in words(html)


@pytest.mark.parametrize("classes", [100, 0])
def test_without_validation_nothing_is_best_and_nothing_measured(classes: int) -> None:
    html = page(held_out=0, refused=0, epochs=3, classes=classes, head=False)
    said = words(html)
    for told in ("nothing was held out to validate on", "the last one is kept", "Every picture could be used"):
        assert told in said
    for not_told in (
        "the best",
        "best epoch",
        "The figures are of",
        "chosen by",
        "Recall@1",
        "% interval",
        "searched",
        "the epoch that is kept",
        "without validation",
        "validation included",
    ):
        assert not_told not in said
    assert ("510 images without labels" in said) == (classes == 0)
    assert ("Training was without labels, and nothing was held out, so none is known" in said) == (classes == 0)
    assert ("Nothing was held out, so none is known" in said) == (classes > 0)


def test_the_heading_is_the_embedder() -> None:
    html = page()
    assert "<h1><bdi>test_efficientnet</bdi> trained on <bdi>photos</bdi></h1>" in html
    assert "<title>test_efficientnet trained on photos</title>" in html


@pytest.mark.parametrize("choices", [{}, {"backbone": "test_efficientnet", "loss": "ntxent"}])
def test_the_backbone_leads_the_choices_also_where_it_is_the_usual_one(choices: dict[str, object]) -> None:
    html = page(choices=choices)
    first = html[html.index('id="choices"') :]
    first = first[first.index("<tbody>") : first.index("</tr>", first.index("<tbody>"))]
    assert "backbone" in words(first)
    assert "test_efficientnet" in words(first)
    assert html.count('<th scope="row">backbone</th>') == 1


def test_confusions_are_shown_side_by_side_with_their_similarity() -> None:
    html = page([(f"img/{at}.jpg", f"class {at % 2}") for at in range(4)])
    assert html.count('class="pair"') == 3
    assert html.count("<img ") == 6
    assert "0.990" in html
    assert 'alt="held out, class 0"' in html
    assert 'alt="the nearest to it, class 1"' in html


@pytest.mark.parametrize(
    ("rows", "patience", "said"),
    [
        (12, 0, "give <code>--epochs 12</code> in its place"),
        (7, 0, "ended the run after 7 of 12 epochs, which cannot be repeated"),
        (7, 2, "give <code>--epochs 12</code> in its place"),
    ],
)
def test_how_a_run_within_a_budget_is_repeated(rows: int, patience: int, said: str) -> None:
    account = sample_account(epochs=rows, choices={"epochs": 12, "patience": patience})
    about = {**account.about, "command": "lookalike train photos --out birds --budget 30m"}
    assert said in training_page(replace(account, about=about), drawn_picture(16))


def test_one_is_told_as_one() -> None:
    one = words(page([("a.jpg", "A"), ("b.jpg", "B")], refused=1))
    assert "The held-out image, left, whose nearest image, right, is of another class." in one
    assert "most similar" not in one
    assert "1 image that could not be used" in one
    assert "the 2 most similar" in words(page([(f"{at}.jpg", f"{at}") for at in range(3)]))
    assert "1 more confusion " in words(page([(f"{at}.jpg", f"{at}") for at in range(14)]))
    assert "2 more confusions" in words(page([(f"{at}.jpg", f"{at}") for at in range(15)]))


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
    assert '<text x="50%" y="239" text-anchor="middle">epoch</text>' in drawn


def test_the_legend_draws_each_line_as_the_chart_does_and_the_kept_epoch_apart() -> None:
    lines = [Series("one", [(1, 4.0), (2, 1.0)]), Series("two", [(1, 3.0), (2, 2.0)])]
    legend = re.compile(r"<li><svg[^>]*><line class=\"([a-z0-9 ]+)\"[^>]*/></svg><span>([^<]+)</span></li>")
    drawn = curves_chart("loss", "Loss", lines, epochs=2, write=str, marked=2)
    assert legend.findall(drawn) == [("line hue0", "one"), ("line hue1", "two"), ("kept", "the epoch that is kept")]
    assert all(f'<polyline class="line hue{at}"' in drawn for at in (0, 1))
    assert '<line class="kept" x1="100.00%"' in drawn
    dashed = [at for at in range(4) if re.search(rf"svg \.line\.hue{at} {{[^}}]*stroke-dasharray", CURVE_STYLE)]
    assert dashed == [1, 2, 3]
    assert "swatch" not in drawn + CURVE_STYLE
    assert "kept" not in curves_chart("loss", "Loss", lines, epochs=2, write=str)


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
