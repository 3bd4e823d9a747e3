"""The page of duplicates: what comes first, what is outlined, what is said of it, and what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from indexer import duplicates_page as room
from indexer.catalogue import Catalogue
from indexer.duplicates import GROUPS_SCHEMA, PAIRS_SCHEMA
from indexer.duplicates_page import duplicates_page
from indexer.search import thumbnail
from tests.indexer.found import (
    HOSTILE,
    THRESHOLD,
    UNREADABLE,
    groups_table,
    member,
    nothing,
    planted,
    planted_catalogue,
)

OUTLINE = re.compile(
    r'viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*><polygon class="halo"[^>]*/><polygon class="(\S+)" points="(.*?)"'
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    with planted_catalogue(tmp_path_factory.mktemp("whole")) as made:
        yield made


def article(page: str, number: int) -> str:
    return page.partition(f'aria-labelledby="group-{number}"')[2].partition("</article>")[0]


def outlines(html: str) -> list[tuple[str, set[tuple[float, float]]]]:
    """Kind and corners, as shares of their picture."""
    found = []
    for width, height, kind, points in OUTLINE.findall(html):
        places = np.array([point.split(",") for point in points.split()], float) / (float(width), float(height))
        found.append((kind, {(round(x, 2) + 0.0, round(y, 2) + 0.0) for x, y in places.tolist()}))
    return found


def test_what_matters_comes_first_and_the_kept_one_before_its_copies(whole: Catalogue) -> None:
    page = duplicates_page(whole, planted(whole))
    assert re.findall(r'<section id="(\S+?)"', page) == ["conflicts", "across", "copies", "lookalikes", "unreadable"]
    assert re.findall(r'<article class="group" aria-labelledby="group-(\d)"', page) == ["1", "2", "3", "4", "5"]
    third = article(page, 3)
    assert re.findall(r'alt="(.*?), 0/', third) == ["kept", "copy"] * 3
    of_pictures = re.findall(r'<img [^>]*title="(.*?)"', third)
    assert of_pictures[:4] == ["0/photo.png", "0/cut.png", "0/photo.png", "0/mirrored.png"]
    assert re.findall("<span>(more than .*?)</span>", third) == [
        f"more than 0/{name}.png" for name in ("cut", "mirrored", "framed")
    ]
    assert "most pixels" not in third and "240 kB" in third and "320 × 240" in third and "PNG" in third
    assert "labels differ" in article(page, 1) and "another label" in article(page, 1)
    assert "in <bdi>train</bdi> and <bdi>test</bdi>" in article(page, 2) and "another label" not in article(page, 2)


def test_larger_groups_come_first_whatever_their_order(whole: Catalogue) -> None:
    rows = [member(1, "5/photo.png", None), member(1, "6/photo.png", "copy")]
    rows += [member(2, f"{at}/photo.png", "copy" if at else None) for at in range(3)]
    found = nothing(whole, groups=groups_table(reversed(rows)))
    assert re.findall(r'id="group-(\d)"', duplicates_page(whole, found)) == ["2", "1"]


def test_what_both_show_is_outlined_on_both(whole: Catalogue) -> None:
    page = duplicates_page(whole, planted(whole))
    all_of_it = {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)}
    box = {(0.1, 0.25), (0.6, 0.25), (0.6, 0.75), (0.1, 0.75)}
    within = {(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)}
    assert outlines(article(page, 3)) == [
        *(("of-kept", box), ("of-copy", all_of_it)),
        *(("of-kept", all_of_it), ("of-copy", all_of_it)),
        *(("of-kept", all_of_it), ("of-copy", within)),
    ]
    assert "25 % of the kept one, 100 % of the copy" in article(page, 3)
    assert "100 % of the kept one, 64 % of the copy" in article(page, 3)
    assert "all of each" in article(page, 5)
    assert outlines(article(page, 1)) == []  # where the transform is not known


def test_a_transform_that_is_none_outlines_nothing(whole: Catalogue) -> None:
    rows = [member(1, "5/photo.png", None), member(1, "6/photo.png", "copy", transform=[0.0] * 6)]
    page = duplicates_page(whole, nothing(whole, groups=groups_table(rows)))
    assert outlines(page) == [] and page.count("<img") == 2


def test_the_head_counts_and_says_how_far_it_can_be_trusted(whole: Catalogue) -> None:
    head = duplicates_page(whole, planted(whole)).partition("</header>")[0]
    words = " ".join(re.sub(r"<[^>]*>", " ", head.partition("<header>")[2]).split())
    examined = f"15 pictures of different bytes examined at version {whole.version}"
    assert f"{examined}, effort usual ; between train and test ." in words
    assert "groups of one photograph 5 labels differ in 1 copies that could go 7" in words
    assert "1 of the same bytes, 1 of the same pixels, 5 edited or saved anew" in words
    assert "pairs of lookalikes 2" in words and "unreadable 1" in words
    assert (
        "Pairs that agree by 0.831 or more are called copies, for a precision of 99 %. Of those called copies 99.6 % "
        "are right (95 % interval 99.1 to 99.9 %), and 96.1 % of 1,200 copies made of these pictures for the "
        "purpose are found. Estimated as for a collection that has one copy of every picture, and with 40 judged "
        "pairs; 23 pairs left out that may be real copies."
    ) in words
    assert "not examined" not in words  # it is a catalogue


def test_what_of_a_folder_was_not_examined_is_listed(whole: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_UNREADABLE", 2)
    refused = pa.table({"file": ["a.jpg", HOSTILE, "c.jpg"], "reason": ["truncated", "a symlink to nothing", "x"]})
    page = duplicates_page(whole, planted(whole, not_examined=refused))
    head, _, part = page.partition('<section id="not-examined"')
    assert "<dt>not examined</dt><dd><strong>4</strong><span>1 item, 3 files</span>" in head
    assert "Not examined: 3 files" in part and "3 files were not examined: no pictures, unreadable or hidden" in part
    assert "<bdi>a.jpg</bdi>: <bdi>truncated</bdi>" in part and "a symlink to nothing" in part and "c.jpg" not in part
    assert "1 more not listed; <code>duplicates.json</code> beside this page has all" in part
    page = duplicates_page(whole, planted(whole, not_examined=refused.slice(0, 0)))
    assert "<dt>not examined</dt><dd><strong>1</strong></dd>" in page and 'id="not-examined"' not in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reached": False}, "more are called copies: there precision is highest, but below the wanted 99 %."),
        ({"judged": 0, "ambiguous": 0}, "Estimated as for a collection that has one copy of every picture."),
        ({"ambiguous": 1}, "1 pair left out that may be real copies"),
        ({"planted": 0, "judged": 0}, "Whether that has the wanted precision of 99 % is not known, since no copy"),
        ({"planted": 1, "judged": 1}, "of 1 copy made of these pictures for the purpose are found."),
        ({"planted": 0, "judged": 3}, "are right (95 % interval 99.1 to 99.9 %); by 3 judged pairs."),
        ({"low": 0.0, "high": 1.0}, "is not known, since nothing that is known agrees as much, and"),
        ({"low": 0.98}, "The interval goes below what was wanted"),
    ],
)
def test_a_threshold_says_what_it_lacks(whole: Catalogue, changes: dict[str, Any], said: str) -> None:
    assert said in duplicates_page(whole, planted(whole, threshold=replace(THRESHOLD, **changes)))
    assert "below what was wanted" not in duplicates_page(whole, planted(whole))


def test_without_a_threshold_nothing_is_promised(whole: Catalogue) -> None:
    page = duplicates_page(whole, planted(whole, threshold=None, between=None, new_since=4))
    assert "How sure these are is not known" in page and "since version 4" in page
    assert 'id="across"' not in page
    assert "only the same bytes" in duplicates_page(whole, nothing(whole, threshold=None))


def test_copies_that_are_in_no_group_together_are_counted(whole: Catalogue) -> None:
    rows = [member(1, "1/photo.png", None), member(1, "1/again.png", "same bytes")]
    pairs = [("0/cut.png", "0/mirrored.png", "copy"), ("1/photo.png", "1/again.png", "same bytes")]
    pairs += [("1/photo.png", "0/cut.png", "copy"), ("5/photo.png", "6/photo.png", "lookalike")]
    table = pa.Table.from_pylist([{"a": a, "b": b, "kind": kind, "how": ""} for a, b, kind in pairs], PAIRS_SCHEMA)
    across = ("train", "test")
    for groups in (GROUPS_SCHEMA.empty_table(), groups_table(rows)):
        page = duplicates_page(whole, nothing(whole, between=across, groups=groups, pairs=table))
        part = page.partition('<section id="across"')[2].partition("</section>")[0]
        assert f"{2 if groups.num_rows else 3} pairs of copies besides" in part and "None was found" not in part
    page = duplicates_page(whole, nothing(whole, groups=groups_table(rows), pairs=table))
    part = page.partition('<section id="copies"')[2].partition("</section>")[0]
    assert "2 pairs of copies besides" in part and page.count("besides") == 1
    assert "besides" not in duplicates_page(whole, nothing(whole, groups=groups_table(rows), pairs=table.slice(1, 1)))


def test_that_nothing_was_found_is_said(whole: Catalogue) -> None:
    page = duplicates_page(whole, nothing(whole))
    assert re.findall(r'<section id="(\S+?)"', page) == ["copies"] and "None was found" in page
    page = duplicates_page(whole, nothing(whole, between=("train", "test")))
    assert "In <bdi>train</bdi> and <bdi>test</bdi>: 0 groups" in page


def test_how_sure_is_never_rounded_up(whole: Catalogue) -> None:
    sure = [1.0, 0.99999, 0.929, None]
    rows = [member(1, "5/photo.png", None)]
    rows += [member(1, "6/photo.png", "copy", sure=share) for share in sure]
    page = duplicates_page(whole, nothing(whole, groups=groups_table(rows)))
    assert re.findall(r"<dt>Sure</dt><dd>(.*?)</dd>", page) == ["100 %", "99.9 %", "92.9 %", "not known"]


def test_lookalikes_are_called_what_they_are_the_most_similar_first(whole: Catalogue) -> None:
    part = duplicates_page(whole, planted(whole)).partition('<section id="lookalikes"')[2].partition("</section>")[0]
    assert "<strong>not called copies</strong>" in part and part.count("not called a copy") == 2
    assert part.index("0.830") < part.index("0.710")
    assert part.count("41 % and 38 % matched") == 2
    assert 'title="7"' in part  # the label of 7/photo.png


def test_beyond_the_limits_the_rest_is_counted(whole: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_GROUPS", 3)
    monkeypatch.setattr(room, "MOST_COPIES", 1)
    monkeypatch.setattr(room, "MOST_LOOKALIKES", 1)
    monkeypatch.setattr(room, "MOST_UNREADABLE", 1)
    unreadable = pa.table({"id": list("xyz"), "reason": ["gone"] * 3}, UNREADABLE)
    page = duplicates_page(whole, planted(whole, unreadable=unreadable))
    assert page.count("<article") == 3
    for said in ("2 more groups not", "2 more copies of it not", "1 more pair not", "2 more not listed"):
        assert said in page
    assert page.count("<code>groups.csv</code> and <code>pairs.csv</code> beside this page have all") == 3
    assert page.count("<code>duplicates.json</code> beside this page has all") == 1


def test_each_picture_is_read_once(whole: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def counted(catalogue: Catalogue, id: str, **more: Any) -> bytes:
        read[id] += 1
        return thumbnail(catalogue, id, **more)

    monkeypatch.setattr(room, "thumbnail", counted)
    duplicates_page(whole, planted(whole))
    assert read["0/photo.png"] == 1 and set(read.values()) == {1} and len(read) == 15


def test_two_hundred_groups_stay_below_ten_megabytes(whole: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "thumbnail", lambda catalogue, id, **more: bytes(14_000))
    rows = [member(at // 3, str(at), "copy" if at % 3 else None, transform=None) for at in range(900)]
    page = duplicates_page(whole, nothing(whole, groups=groups_table(rows)))
    assert page.count("<article") == 200 and "100 more groups" in page
    assert len(page) < 10_000_000
    assert "left out: the page has enough pictures" in page


def test_a_picture_that_is_gone_is_replaced_by_the_reason(tmp_path: Path) -> None:
    with planted_catalogue(tmp_path) as catalogue:
        (tmp_path / "pictures" / "2" / "cut.png").unlink()
        (tmp_path / "pictures" / "3" / "photo.png").write_bytes(b"another")
        page = duplicates_page(catalogue, planted(catalogue))
        assert [kind for kind, _ in outlines(article(page, 2))] == ["of-kept"]
        assert [kind for kind, _ in outlines(article(page, 4))] == ["of-copy"]
        assert "has changed since it was indexed" in article(page, 4)
        assert article(page, 2).count("picture missing") == 1


def test_hostile_text_is_text(whole: Catalogue) -> None:
    rows = [member(1, "5/photo.png", None, why=HOSTILE, label=HOSTILE, conflict=True, split=HOSTILE, format=HOSTILE)]
    rows += [member(1, HOSTILE, "copy", how=HOSTILE, label=None, conflict=True, split="test")]
    pair = {"a": HOSTILE, "b": "6/photo.png", "kind": "lookalike", "similarity": 0.5, "how": HOSTILE}
    unreadable = pa.table({"id": [HOSTILE], "reason": [HOSTILE]}, UNREADABLE)
    found = nothing(
        whole,
        groups=groups_table(rows),
        pairs=pa.Table.from_pylist([pair], PAIRS_SCHEMA),
        unreadable=unreadable,
        between=(HOSTILE, "test"),
        effort=HOSTILE,
    )
    page = duplicates_page(whole, found)
    assert "<script" not in page and "\u202e" not in page and page.count("</title>") == 1
    assert "\\n\\u202e" in page and "no label" in page


def test_the_page_asks_for_nothing(whole: Catalogue) -> None:
    page = duplicates_page(whole, planted(whole))
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)
    assert "<script" not in page and "url(" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="(.*?)"', page))
