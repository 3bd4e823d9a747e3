"""A report's page opened from disk: nothing is loaded, nothing scrolls sideways, all can be seen and read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from indexer.report_page import report_page
from tests.indexer.reports import drawn_picture, sample_report

pytestmark = pytest.mark.browser

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 812}
LONG = "an-extraordinarily-long-name-without-any-space-" * 4
# The least contrasts of text with what is behind it, by WCAG 2; colours of any notation are read back from a canvas.
CONTRASTS = """() => {
  const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext(
    "2d", { willReadFrequently: true });
  const rgb = (colour) => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, words = walk.currentNode.data.trim();
    if (!words || !element.getClientRects().length || element.closest("title, desc, .skip")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgb(element.closest("svg") ? style.fill : style.color)), light(behind(element))];
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), words]);
  }
  return found.sort((one, other) => one[0] - other[0]).slice(0, 3);
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual report, one of a classification that differs from its protocol, and one of long names."""
    folder = tmp_path_factory.mktemp("reports")
    long = [(f"{LONG}/{at}.jpg", f"{LONG}{at % 3}/{LONG}") for at in range(12)]
    reports = {
        "usual": sample_report(),
        "non-standard": sample_report(classification=True, differences=["80 classes where the protocol has 81"]),
        "long": sample_report(long, failures=3, hubs=2, pairs=2, differences=[LONG * 3]),
    }
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(report_page(report, drawn_picture(160)), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.mark.parametrize(
    "viewport", [DESKTOP, PHONE, {"width": 800, "height": 600}], ids=["desktop", "phone", "middle"]
)
@pytest.mark.parametrize("name", ["usual", "non-standard", "long"])
def test_all_of_it_can_be_seen_and_nothing_scrolls_sideways(open_file, name, viewport):
    page = open_file(name, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    sections = page.locator("section")
    assert sections.count() == 9
    for section in sections.all():
        assert section.is_visible() and section.bounding_box()["height"] > 40
    assert page.locator("h1").is_visible()
    assert (page.locator(".banner").count() == 1) == (name != "usual")
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    broken = page.locator("img").evaluate_all(
        "all => Promise.all(all.map((one) => one.decode().then(() => 0, () => 1))).then((each) => each.filter(Boolean))"
    )
    assert broken == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_charts_keep_within_the_page_and_their_text_its_size(open_file, viewport):
    page = open_file("usual", viewport=viewport)
    for words in page.locator("svg text:visible").all():
        box = words.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"] + 1, words.text_content()
        assert box["height"] >= 11
    values = page.locator(".curve .value:visible").all()
    boxes = sorted((box["x"], box["x"] + box["width"], box["y"]) for box in (value.bounding_box() for value in values))
    assert len(boxes) >= 4
    for left, right in pairwise(boxes):
        assert left[1] <= right[0] or abs(left[2] - right[2]) > 12  # no value is written over another


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["usual", "non-standard"])
def test_all_text_stands_out_from_its_ground(open_file, name, scheme):
    page = open_file(name, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 21, 22)") == (scheme == "dark")
    for contrast, words in page.evaluate(CONTRASTS):
        assert contrast >= 4.5, words


def test_landmarks_headings_and_the_keyboard(open_file):
    page = open_file("usual")
    assert page.locator("main").count() == page.locator("h1").count() == page.locator("header").count() == 1
    assert page.get_by_role("navigation", name="Contents").get_by_role("link").count() == 9
    assert page.get_by_role("region", name="Failures").is_visible()
    assert page.get_by_role("img", name="Recall@K over K").count() == 1
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Duplicates").press("Enter")
    assert 0 <= page.locator("#duplicates").bounding_box()["y"] < 60
    page.locator("#failures summary").press("Enter")
    assert page.locator("#failures .failure").last.is_visible()


def test_on_paper_all_is_open_and_light(open_file):
    page = open_file("usual", color_scheme="dark", viewport={"width": 720, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#failures .failure").last.bounding_box()["height"] > 50
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
