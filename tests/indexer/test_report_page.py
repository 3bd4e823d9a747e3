"""A report's page: everything is in it, nothing in it is markup that came from data, and it stays small."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import report_pictures
from indexer.report_charts import MAX_POINTS, Axis, curve_chart
from indexer.report_page import report_page
from indexer.report_words import meanings, percent, sure, text
from retrieval.errors import NotFoundError
from retrieval.report import Classification, ClassRow, Figure, Pair, Point, Report
from retrieval.twins import in_order
from tests.indexer.reports import drawn_images, drawn_picture, sample_report

VOID = {"meta", "link", "img", "br"}
TAGS = {
    *("html", "head", "meta", "link", "title", "style", "body", "a", "header", "nav", "main", "section", "div", "p"),
    *("h1", "h2", "h3", "ol", "ul", "li", "dl", "dt", "dd", "strong", "em", "span", "bdi", "abbr", "i", "code", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption", "img"),
    *("svg", "desc", "line", "circle", "rect", "path", "polyline", "text", "g"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "rel", "href", "class", "id", "tabindex", "role", "style"),
    *("aria-label", "aria-labelledby", "aria-hidden", "scope", "title", "alt", "src", "decoding", "open", "start"),
    *("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "dx", "width", "height", "points", "viewbox"),
    *("text-anchor", "preserveaspectratio"),
}
SECTIONS = ["measured", "figures", "curve", "classes", "failures", "hubs", "map", "duplicates", "repeat"]


class Reader(HTMLParser):
    """Reads a page and fails where a tag is not closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "poster")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader(page)
    assert set(reader.tags) <= TAGS, set(reader.tags) - TAGS
    assert reader.attributes <= ATTRIBUTES, reader.attributes - ATTRIBUTES
    assert all(load.startswith(("data:", "#")) for load in reader.loads)
    assert "url(" not in page and "@import" not in page
    assert len(set(reader.ids)) == len(reader.ids)
    assert {load[1:] for load in reader.loads if load.startswith("#")} <= set(reader.ids)
    return reader


def words(page: str) -> str:
    return " ".join("".join(read(page).words).split())


def replaced(report: Report, **values: object) -> Report:
    return dataclasses.replace(report, **values)


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(sample_report(), drawn_picture())


def test_everything_is_in_it(page):
    report = sample_report()
    said = words(page)
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    assert report.title in said and report.protocol in said
    assert "Non-standard" not in said
    for what in ("tf_efficientnet_lite0.in1k", "gem", "512", "224 px", report.embedder["digest"], "openvino 4,790"):
        assert what in said
    for figure in report.figures:
        assert f"{100 * figure.value:.2f}" in said and f"{100 * figure.macro:.2f}" in said
        assert f"{100 * figure.low:.1f} – {100 * figure.high:.1f}" in said
    assert "+7.12" in said and "+0.59†" in said
    for row in report.classes:
        assert row.label.rsplit("/", 1)[-1] in said
    assert page.count('<li class="failure">') == len(report.failures)
    assert page.count('class="tile hub"') == len(report.hubs)
    assert page.count('<li class="pair">') == len(report.pairs)
    for uri, reason in report.rejected:
        assert f"{uri} {reason}" in said
    assert "lookalike evaluate 'my embedder' --protocol grocery" in said
    assert "not the share of right images that are found" in said
    assert "report.json" in said and "queries.parquet" in said
    assert "2026-11-21 17:20:36 UTC" in said and "93.4 s" in said


def test_it_forbids_itself_to_load_or_run_anything(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy and "img-src data:" in policy and "script" not in policy
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_a_difference_from_the_protocol_cannot_be_missed():
    page = report_page(sample_report(differences=["80 classes where the protocol has 81"]), drawn_picture())
    said = words(page)
    assert "Non-standard: do not compare with published numbers. What was measured differs" in said
    assert "80 classes where the protocol has 81" in said
    assert page.index('class="banner"') < page.index('class="leading"')
    assert page.count('<span class="flag">non-standard</span>') == 2  # beside the number, and in the table


def test_wrong_and_right_hits_differ_by_more_than_colour(page):
    report = sample_report()
    hits = [hit for failure in report.failures for hit in failure.got] + [
        failure.right for failure in report.failures if failure.right
    ]
    assert page.count("✕</span> <span") == sum(not hit.right for hit in hits)
    assert page.count("✓</span> <span") == sum(hit.right for hit in hits)
    assert "not among what the search returned" in page  # the last failure has no right image


def test_a_picture_that_cannot_be_shown_says_why():
    said = words(report_page(sample_report(), drawn_picture()))
    assert "the file ends before the picture does" in said and "no picture" in said

    def gone(id):
        raise NotFoundError("no image has this id")

    page = report_page(sample_report(), gone)
    assert "<img" not in page and "no image has this id" in words(page)


def test_pictures_end_where_the_page_is_large_enough(monkeypatch):
    monkeypatch.setattr(report_pictures, "MAX_PICTURES_BYTES", 20_000)
    page = report_page(sample_report(failures=60), drawn_picture())
    assert 0 < page.count("<img") < 60 and "left out: the page has enough pictures" in words(page)
    assert sum(map(len, re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page))) <= 20_000


def test_a_report_with_nothing_in_it():
    report = Report("empty", "none", [], "retrieval", {}, [], [], [], 0, 0, 0, 0, 0)
    page = report_page(report, lambda id: None)
    said = words(page)
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    for sentence in (
        "Nothing was measured.",
        "The curve was not measured.",
        "No class was measured.",
        "No query has a nearest image of another class.",
        "No image appears too often among the 10 nearest.",
        "The map was not drawn.",
        "No picture was found twice",
        "The command was not recorded.",
    ):
        assert sentence in said
    assert "not said" in said  # what the model card leaves open
    assert "calibration" not in said.lower()


def test_values_that_are_not_there():
    figure = Figure("Recall@1", 0.5, None, None, None, None)
    report = replaced(sample_report(frozen=False), figures=[figure], embedder={"digest": None, "dim": None}, about=None)
    said = words(report_page(report, drawn_picture()))
    assert "Recall@1 50.00 – – –" in " ".join(said.replace("50.00", " 50.00 ").replace("–", " – ").split())
    assert "nothing was trained in this embedder" in said
    assert "No frozen row beside it: its backbone is unknown" in words(
        report_page(replaced(report, frozen_note="its backbone is unknown"), drawn_picture())
    )


def test_one_class_and_one_query():
    images = drawn_images(1, 2)
    report = sample_report(images, failures=1, hubs=1, pairs=1, points=2)
    report = replaced(report, curve=[(1, 0.5)], figures=report.figures[:1])
    said = words(report_page(report, drawn_picture()))
    assert "of 1 class" in said and "no interval" in said


def test_a_figure_that_is_no_share_stays_as_it_is():
    report = sample_report(classification=True)
    page = report_page(report, drawn_picture())
    assert "0.71" in words(page) and "Mistake distance levels" in words(page)
    drawn = re.search(r'<div class="chart intervals">.*?</div>', page)[0]
    assert drawn.count('class="dot"') == len(report.figures) - 1


def test_classification_has_its_diagram_and_its_confusions():
    report = sample_report(classification=True)
    page = report_page(report, drawn_picture())
    assert 'id="calibration"' in page and "7.31" in words(page)
    drawn = re.search(r'<div class="chart reliability">.*?</div>', page)[0]
    assert drawn.count('class="bar"') == 13 and drawn.count('class="faint"') == 15
    assert page.count('class="arrow"') == len(report.classification.confused)
    assert 'id="curve"' not in page and 'id="failures"' in page  # a curve was not measured, failures were looked for
    bare = report_page(replaced(report, failures=(), failed=0, hubs=(), points=(), pairs=()), drawn_picture())
    assert re.findall(r'<section id="(\w+)"', bare) == ["measured", "figures", "classes", "calibration", "repeat"]
    assert "No picture was found twice" not in bare and "belong to the retrieval of the same images" in bare
    nothing = replaced(report, classification=Classification([], [(None, None, 0)] * 15, 0.0))
    assert "No class was taken for another." in words(report_page(nothing, drawn_picture()))


def test_leaks_and_conflicts_come_first():
    plain = [Pair(f"a{at}", f"b{at}", "test/test", ("x", "x"), "same bytes", 1.0) for at in range(3)]
    leak = Pair("a8", "b8", "train/test", ("x", "x"), "same bytes", 1.0)
    clash = Pair("a9", "b9", "test/test", ("x", "y"), "nearly the same vector", 0.987)
    counts = {"pairs_left_out": 7, "leaks": 1, "conflicts": 0, "candidates": 3}
    report = replaced(sample_report(), pairs=in_order([*plain, clash, leak]), **counts)
    page = report_page(report, drawn_picture())
    part = page[page.index('id="duplicates"') :]
    assert [part.index(f">{id}<") for id in ("a8", "a0", "a1", "a2", "a9")] == sorted(
        part.index(f">{id}<") for id in ("a8", "a0", "a1", "a2", "a9")
    )
    assert part.count(">leak<") == 1 and part.count(">labels differ<") == 1
    assert "9 pairs of images have the same bytes; 1 stands on both sides" in words(page)
    assert "3 pairs with different labels have other bytes" in words(page)


def test_many_classes_stay_small_and_quick():
    images = [(f"images/{at}.jpg", f"{at // 2:05d}.class {at // 2}") for at in range(2 * 11_316)]
    report = sample_report(images, failures=0, hubs=0, pairs=0, points=len(images))
    began = time.perf_counter()
    page = report_page(report, lambda id: None)
    assert time.perf_counter() - began < 5
    assert len(page) < 3_000_000
    said = words(page)
    assert "the 50 worst of 11,316" in said and page.count('<span class="of"') == 50
    drawn = re.search(r'<div class="chart histogram">.*?</div>', page)[0]
    assert sum(int(one.replace(",", "")) for one in re.findall(r'class="value"[^>]*>([\d,]+)<', drawn)) == 11_316
    points = sum(path.count("M") for path in re.findall(r'<path class="points[^"]*" d="([^"]*)"', page))
    assert MAX_POINTS * 0.9 < points <= MAX_POINTS


def test_of_equally_bad_classes_those_of_many_queries_come_first():
    rows = [ClassRow(f"c{at}", at + 1, [0.0] * 7) for at in range(200)]
    page = report_page(replaced(sample_report(), classes=rows, class_count=200), drawn_picture())
    assert re.findall(r'<span class="of" title="(c\d+)"', page)[:3] == ["c199", "c198", "c197"]


def test_the_map_is_coloured_by_the_top_of_paths_or_by_the_classes_most_often_wrong():
    page = report_page(sample_report(), drawn_picture())
    assert "Colours are the top level of the labels." in words(page)
    assert page.count('<span class="hue hue') == 3
    report = sample_report(drawn_images(20, paths=False))
    page = report_page(report, drawn_picture())
    assert page.count('<span class="hue hue') == 8 and 'class="points other"' in page
    worst = max(report.classes, key=lambda row: row.queries * (1 - row.values[0])).label
    legend = re.search(r'<ul class="legend">.*?</ul>', page)[0]
    assert worst in legend.split("</li>")[0]
    outside = [Point("a", "b", -3.0, 9.0), Point("c", "b", 0.5, 0.5)]
    drawn = report_page(replaced(report, points=outside), drawn_picture())
    assert "M10 10h0" in drawn and "Colours are the classes." in words(drawn)


def test_long_labels_are_cut():
    long = "Vegetables/" + "very-" * 2000 + "long"
    page = report_page(sample_report([(f"{at}.jpg", long) for at in range(5)], failures=2, pairs=2), drawn_picture())
    assert "very-" * 60 not in page and "…" in page


HOSTILE = st.one_of(
    st.text(st.characters(), max_size=30),
    st.sampled_from(
        [
            "</style><script>alert(1)</script>",
            '"><img src=http://example.org/x onerror=alert(1)>',
            "' onmouseover='alert(1)",
            "a\u202eb\u2066c\u200f",
            "line\none\r\ttwo\x00\x1b[31m",
            "caf\udce9.jpg",
            "\ud800",
            "&lt;b&gt; &amp; <!-- ]]>",
            "///",
            "",
        ]
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(HOSTILE, min_size=6, max_size=6))
def test_nothing_from_data_is_markup_or_hidden(given_texts):
    one, two, three, four, five, six = given_texts
    images = [(f"{one}{at}", label) for at, label in enumerate((one, two, three, one, two, three))]
    report = sample_report(images, failures=2, hubs=2, pairs=3, points=6, differences=[one, four], classification=True)
    report = replaced(
        report,
        title=two,
        protocol=three,
        task=four,
        embedder={"digest": five, one: two, "runtimes": {three: 4}, "weights": [six]},
        figures=[dataclasses.replace(report.figures[0], name=five, unit=six), *report.figures[1:]],
        rejected=[(six, five)],
        frozen_note=four,
        pairs=[dataclasses.replace(pair, where=two, kind=three) for pair in report.pairs],
        about={"command": [one, two], three: four, "versions": {five: six}, "when": one},
    )
    page = report_page(report, drawn_picture())
    read(page)
    page.encode("utf-8")
    assert all(letter.isprintable() or letter in "\n\u200c\u200d" for letter in page)


@given(st.text(st.characters()))
def test_text_can_be_read_back_where_it_hides_nothing(given_text):
    written = text(given_text, longest=10_000)
    reader = HTMLParser()
    found: list[str] = []
    reader.handle_data = found.append
    reader.feed(f"<p>{written}</p>")
    reader.close()
    if given_text.isprintable():
        assert "".join(found) == given_text
    assert "".join(found).isprintable() or set("".join(found)) & set("\u200c\u200d")


def test_hidden_characters_show():
    assert text("a\nb\u202ec\udcff\ud800\xa0") == "a\\nb\\u202ec\\xff\\ud800\\xa0"
    assert text("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"
    assert text("می‌خواهم") == "می‌خواهم"  # a joiner of Persian is a letter, no hiding place


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_an_axis_holds_its_shares_and_has_few_round_ticks(shares):
    axis = Axis(shares)
    assert axis.low <= min(shares) + 1e-6 and axis.high >= max(shares) - 1e-6
    assert 2 <= len(axis.ticks) <= 8
    assert all(0 <= axis.place(share) <= 100 for share in shares)
    assert -1e-9 <= axis.low < axis.high <= 1 + 1e-9


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=1, max_size=40, unique_by=lambda one: one[0])
)
def test_any_curve_can_be_drawn(points):
    curve = sorted(points)
    chart = curve_chart(curve)
    Reader(chart)
    assert percent(curve[0][1]) in chart and f">{curve[-1][0]:,}</text>" in chart
    assert "nan" not in chart and "inf" not in chart


def test_figures_that_share_a_meaning_are_said_once():
    said = meanings(["Recall@1", "MAP@R", "Recall@10", "something new", "mAP", "Macro recall"])
    assert [names for names, _ in said] == ["Recall@1, Recall@10", "MAP@R", "something new", "mAP", "Macro recall"]
    assert said[2][1] == "as whoever measured it defines it"
    (coarse,) = meanings(["Coarse accuracy"])
    assert coarse[1].startswith("share of queries whose coarse class is the most probable")


def test_a_classifier_that_searched_nothing_says_so():
    searched = sample_report(classification=True)
    said = words(report_page(searched, drawn_picture()))
    assert f"{searched.gallery:,} images searched" in said and "the classifier needs none" not in said
    said = words(report_page(replaced(searched, gallery=0), drawn_picture()))
    assert "images searched" not in said
    assert "the classifier needs none" in said and "none: a classifier decides" in said


def test_what_is_not_certain_is_not_called_so() -> None:
    given = [0.0, 0.001, 0.0051, 0.5, 0.9949, 0.995, 0.99999, 1.0]
    assert [sure(one) for one in given] == ["0%", "<1%", "1%", "50%", "99%", ">99%", ">99%", "100%"]
