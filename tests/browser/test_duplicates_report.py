"""The page of duplicates opened from disk: nothing is loaded or scrolls sideways, outlines lie on their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from indexer.duplicates_page import duplicates_page
from tests.browser.test_report import CONTRASTS, DESKTOP, PHONE
from tests.indexer.found import HOSTILE, THRESHOLD, groups_table, member, planted, planted_catalogue

pytestmark = pytest.mark.browser

LONG = "an-extraordinarily-long-name-without-any-space-" * 4
# Of each outline its kind, its box and that of the picture below: left, top, right, bottom. A picture fills its element
# as far as its own shape lets it.
BOXES = """() => [...document.querySelectorAll(".outline")].map((outline) => {
  const drawn = outline.lastElementChild, image = outline.parentElement.querySelector("img");
  const matrix = drawn.getScreenCTM();
  const corners = [...drawn.points].map((point) => point.matrixTransform(matrix));
  const xs = corners.map((point) => point.x), ys = corners.map((point) => point.y);
  const box = image.getBoundingClientRect();
  const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
  const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
  const left = box.left + (box.width - width) / 2, top = box.top + (box.height - height) / 2;
  return {
    kind: drawn.getAttribute("class"), dash: getComputedStyle(drawn).strokeDasharray,
    outline: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)],
    picture: [left, top, left + width, top + height],
  };
})"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual page, and one of long and hostile names whose threshold was not reached."""
    folder = tmp_path_factory.mktemp("pages")
    with planted_catalogue(folder) as catalogue:
        rows = [
            member(1, "0/photo.png", None, why=LONG, label=f"{LONG}/{LONG}", conflict=True, split=LONG, format=LONG),
            member(1, f"{LONG}/{LONG}", "copy", how=LONG, label=HOSTILE, conflict=True, split=HOSTILE),
            member(2, "1/photo.png", None),
            member(2, HOSTILE, "copy", how=HOSTILE),
        ]
        lost = replace(THRESHOLD, reached=False)
        refused = pa.table({"file": [LONG, HOSTILE], "reason": [HOSTILE, LONG]})
        founds = {
            "usual": planted(catalogue),
            "long": planted(
                catalogue, groups=groups_table(rows), between=(LONG, HOSTILE), threshold=lost, not_examined=refused
            ),
        }
        for name, found in founds.items():
            (folder / f"{name}.html").write_text(duplicates_page(catalogue, found), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in founds}


@pytest.mark.parametrize(
    "viewport", [DESKTOP, PHONE, {"width": 800, "height": 600}], ids=["desktop", "phone", "middle"]
)
@pytest.mark.parametrize("name", ["usual", "long"])
def test_all_of_it_can_be_seen_and_nothing_scrolls_sideways(open_file, name, viewport):
    page = open_file(name, viewport=viewport)
    assert page.evaluate(SIDEWAYS) == 0
    for section in page.locator("section").all():
        assert section.is_visible() and section.bounding_box()["height"] > 40
    broken = page.locator("img").evaluate_all(
        "all => Promise.all(all.map((one) => one.decode().then(() => 0, () => 1))).then((each) => each.filter(Boolean))"
    )
    assert broken == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_outlines_lie_on_their_pictures_where_they_belong(open_file, viewport):
    page = open_file("usual", viewport=viewport)
    drawn = page.evaluate(BOXES)
    assert len(drawn) == 12
    for one in drawn:
        assert (one["dash"] == "none") == (one["kind"] == "of-kept")  # not told apart by colour alone
        left, top, right, bottom = one["picture"]
        assert left - 1 <= one["outline"][0] < one["outline"][2] <= right + 1
        assert top - 1 <= one["outline"][1] < one["outline"][3] <= bottom + 1
    left, top, right, bottom = drawn[0]["picture"]  # of which the copy shows 0.1 to 0.6 and 0.25 to 0.75
    width, height = right - left, bottom - top
    want = [left + 0.1 * width, top + 0.25 * height, left + 0.6 * width, top + 0.75 * height]
    assert drawn[0]["outline"] == pytest.approx(want, abs=1.0)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_copy_stands_beside_the_kept_one(open_file, viewport):
    page = open_file("usual", viewport=viewport)
    for pair in page.locator(".beside").all():
        kept, copy = (tile.bounding_box() for tile in pair.locator(".tile").all())
        assert kept["y"] == pytest.approx(copy["y"], abs=1)
        assert kept["x"] + kept["width"] <= copy["x"] and kept["width"] > 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["usual", "long"])
def test_all_text_stands_out_from_its_ground(open_file, name, scheme):
    page = open_file(name, color_scheme=scheme)
    for contrast, words in page.evaluate(CONTRASTS):
        assert contrast >= 4.5, words


def test_landmarks_headings_and_the_keyboard(open_file):
    page = open_file("usual")
    assert page.locator("main").count() == page.locator("h1").count() == page.locator("header").count() == 1
    assert page.get_by_role("navigation", name="Contents").get_by_role("link").count() == 5
    assert page.get_by_role("article").count() == 5
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Lookalikes: 2 pairs").press("Enter")
    assert page.locator("#lookalikes").bounding_box()["y"] < 800


def test_on_paper_it_is_light(open_file):
    page = open_file("usual", color_scheme="dark", viewport={"width": 720, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(SIDEWAYS) == 0
