"""The report of a training opened from disk: nothing is loaded, nothing scrolls sideways, all can be seen and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.training_report import training_page
from tests.browser.test_report import CONTRASTS, DESKTOP, LONG, PHONE
from tests.indexer.accounts import sample_account
from tests.indexer.reports import drawn_picture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual training, one of a single epoch without validation, and one of many epochs and long names."""
    folder = tmp_path_factory.mktemp("trainings")
    accounts = {
        "usual": sample_account(),
        "short": sample_account(epochs=1, held_out=0, refused=0),
        "long": sample_account([(f"{LONG}/{at}.jpg", f"{LONG}{at % 3}/{LONG}") for at in range(12)], epochs=137),
    }
    for name, account in accounts.items():
        (folder / f"{name}.html").write_text(training_page(account, drawn_picture(160)), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in accounts}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["usual", "short", "long"])
def test_all_of_it_can_be_seen_and_nothing_scrolls_sideways(open_file, name, viewport):
    page = open_file(name, viewport=viewport)
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(sideways) == 0
    assert page.locator("section").count() == 6
    for section in page.locator("section").all():
        assert section.is_visible() and section.bounding_box()["height"] > 40
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    assert page.evaluate(sideways) == 0
    pictures = page.locator("#confusions img")
    assert (pictures.count() > 10) == (name != "short")
    broken = pictures.evaluate_all(
        "all => Promise.all(all.map((one) => one.decode().then(() => 0, () => 1))).then((each) => each.filter(Boolean))"
    )
    assert broken == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["usual", "long"])
def test_words_of_charts_keep_within_the_page_and_apart(open_file, name, viewport):
    page = open_file(name, viewport=viewport)
    charts = page.locator(".chart").all()
    assert len(charts) == 4
    for chart in charts:
        boxes = [words.bounding_box() for words in chart.locator("svg text").all()]
        assert len(boxes) >= 5
        for box in boxes:
            assert box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"] + 1
        for at, one in enumerate(boxes):
            for other in boxes[:at]:
                beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
                assert beside or abs(one["y"] - other["y"]) > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(open_file, scheme):
    page = open_file("usual", color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 21, 22)") == (scheme == "dark")
    for contrast, words in page.evaluate(CONTRASTS):
        assert contrast >= 4.5, words


def test_lines_of_one_chart_have_different_colours(open_file):
    page = open_file("usual")
    strokes = page.locator(".chart.validation polyline").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).stroke)"
    )
    assert len(strokes) == 4 == len(set(strokes))


def test_landmarks_names_and_the_keyboard(open_file):
    page = open_file("usual")
    assert page.locator("main").count() == page.locator("h1").count() == page.locator("header").count() == 1
    assert page.get_by_role("navigation", name="Contents").get_by_role("link").count() == 6
    assert page.get_by_role("img", name="Loss by epoch").count() == 1
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_role("link", name="Worst confusions").press("Enter")
    assert 0 <= page.locator("#confusions").bounding_box()["y"] < 60
    page.locator("#confusions summary").press("Enter")
    assert page.locator("#confusions .pair").last.is_visible()
