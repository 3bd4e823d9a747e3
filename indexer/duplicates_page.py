"""Duplicates as one HTML file that opens offline: each copy beside the one that is kept, what both show outlined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import floor
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.duplicates import KINDS, Found
from indexer.duplicates_words import (
    COULD_GO,
    apart,
    apart_told,
    copies_of,
    not_examined_told,
    sorts,
    threshold_told,
)
from indexer.report_frame import Part, framed
from indexer.report_pictures import Album
from indexer.report_style import STYLE
from indexer.report_words import count, data, label, percent, text
from indexer.search import thumbnail
from retrieval.regions import area, inverse, region
from retrieval.threshold import Threshold

MOST_GROUPS: Final = 200
"""Groups that are drawn, of all parts of the page together."""
MOST_COPIES: Final = 12
"""Copies that are drawn of one group."""
MOST_LOOKALIKES: Final = 100
MOST_UNREADABLE: Final = 200
"""Of what could not be looked at, and of what was not examined, each."""
PICTURE_SIZE: Final = 176
"""Longest side of the pictures, pixels."""
MOST_BYTES: Final = 9_000_000
"""Of the page, in pictures."""

_SAME_BYTES, _SAME_PIXELS, _COPY, _LOOKALIKE = KINDS
_UNITS: Final = 1000  # of a drawing, along the longer side of its picture
_REST: Final = "<code>groups.csv</code> and <code>pairs.csv</code> beside this page have all"
_REASONS: Final = "<code>duplicates.json</code> beside this page has all"
_OWN: Final = """
:root { --of-kept: #35e6c4; --of-copy: #ffb52e; }
.group { padding: 14px 0 20px; border-top: 1px solid var(--line); }
.group h3 { margin: 0 0 10px; }
.group .flag { white-space: normal; }
.group h3 .soft { font-weight: 400; margin: 0 6px; }
.beside { display: grid; grid-template-columns: repeat(2, minmax(0, 220px)) minmax(0, 1fr); gap: 14px 18px;
  break-inside: avoid; align-items: start; }
.beside + .beside { margin-top: 18px; }
.beside .picture { position: relative; padding: 5px; }
.beside dl { border-bottom: 0; } .beside dl div:first-child { border-top: 0; padding-top: 0; }
.plain-facts { color: var(--soft); font-size: .75rem; }
.outline { position: absolute; inset: 5px; width: calc(100% - 10px); height: calc(100% - 10px); overflow: visible;
  pointer-events: none; }
.outline polygon, .swatch-line line { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.outline .halo, .swatch-line .halo { stroke: #000; stroke-opacity: .72; stroke-width: 6px; }
.of-kept { stroke: var(--of-kept); stroke-width: 2.5px; }
.of-copy { stroke: var(--of-copy); stroke-width: 2.5px; stroke-dasharray: 9 6; }
.swatch-line { width: 46px; height: 10px; margin: 0 6px 0 0; vertical-align: 0; }
.key > span { display: inline-block; margin: 0 12px 0 4px; }
.threshold { max-width: 52rem; margin-top: 16px; }
.leading dd > span { display: block; margin-top: 2px; }
@media (max-width: 720px) {
  .beside { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .beside dl { grid-column: 1 / -1; }
}
"""

_UNMADE: Final = {_SAME_BYTES: "the same file again", _SAME_PIXELS: "the same picture in another file"}

_Row = dict[str, Any]


def duplicates_page(catalogue: Catalogue, found: Found) -> str:
    """Draw what was found as a page.

    Args:
        catalogue: where the pictures come from; one that cannot be read is replaced by the reason.
        found: in it.
    """
    album = Album(lambda id: thumbnail(catalogue, id, size=PICTURE_SIZE), most=MOST_BYTES)
    lookalikes = found.pairs.filter(pc.equal(found.pairs.column("kind"), _LOOKALIKE))
    parts = _parts(found, album)
    if lookalikes.num_rows:
        heading = f"Lookalikes: {count(lookalikes.num_rows, 'pair')}"
        parts.append(("lookalikes", heading, partial(_lookalikes, catalogue, lookalikes, album)))
    if found.unreadable.num_rows:
        heading = f"Unreadable: {found.unreadable.num_rows:,}"
        said = "Nothing can be said of these."
        parts.append(("unreadable", heading, partial(_listed, found.unreadable, "id", said)))
    if found.not_examined is not None and found.not_examined.num_rows:
        heading = f"Not examined: {count(found.not_examined.num_rows, 'file')}"
        said = f"{not_examined_told(found.not_examined.num_rows)}; a folder that was not entered counts as one."
        parts.append(("not-examined", heading, partial(_listed, found.not_examined, "file", said)))
    name = str(catalogue.about["name"])
    return framed(f"Duplicates in {name}", STYLE + _OWN, _head(name, found, lookalikes.num_rows), parts)


def _parts(found: Found, album: Album) -> list[Part]:
    """The parts of groups: those of several labels, those across the splits asked for, and the others; larger first."""
    one, other = map(data, found.between or ("", ""))
    groups = found.groups
    each = groups.group_by("group").aggregate([("id", "count"), ("conflict", "any")])
    each = each.sort_by([("id_count", "descending"), ("group", "ascending")])
    number, differ = each.column("group"), each.column("conflict_any")
    leaks = pc.and_(pc.is_valid(number), pc.invert(differ))
    for split in found.between or ():
        of_split = groups.filter(pc.equal(groups.column("split"), split)).column("group").combine_chunks()
        leaks = pc.and_(leaks, pc.is_in(number, value_set=of_split))
    if found.between is None:
        leaks = pc.and_(leaks, False)
    rest = pc.invert(pc.or_(differ, leaks))
    conflicting, across, others = (number.filter(some) for some in (differ, leaks, rest))
    flattered = f"One photograph in {one} and in {other}: what is measured on one of them is flattered by the other."
    chosen = [
        ("conflicts", "Labels differ", conflicting, "One photograph under several labels: at most one is right."),
        ("across", f"In {one} and {other}", across, flattered),
        ("copies", "Other copies" if len(conflicting) or found.between else "Copies", others, "One photograph, again."),
    ]
    left = MOST_GROUPS
    parts: list[Part] = []
    for place, heading, some, said in chosen:
        # That nothing leaks, or that nothing was found, is an answer too.
        if len(some) or (place == "across" and found.between) or (place == "copies" and not groups.num_rows):
            drawn = some.slice(0, left)
            left -= len(drawn)
            besides = apart(groups, found.pairs) if place == ("across" if found.between else "copies") else 0
            draw = partial(_drawn, groups, drawn, len(some), said, album, besides)
            parts.append((place, f"{heading}: {count(len(some), 'group')}", draw))
    return parts


def _head(name: str, found: Found, lookalikes: int) -> str:
    copies = copies_of(found.groups)
    conflicts = found.groups.filter(found.groups.column("conflict")).column("group")
    differing = pc.count_distinct(conflicts).as_py()
    flag = f'<span><span class="flag">labels differ in {differing:,}</span></span>' if differing else ""
    since = ""
    if found.new_since is not None:
        since = f"; only what is new since version {found.new_since}, against all"
    if found.between is not None:
        since += f"; between {' and '.join(map(data, found.between))}"
    unseen, why = found.unreadable.num_rows, ""
    if found.not_examined is not None and found.not_examined.num_rows:
        unseen += found.not_examined.num_rows
        items = f"{count(found.unreadable.num_rows, 'item')}, " if found.unreadable.num_rows else ""
        why = f"<span>{items}{count(found.not_examined.num_rows, 'file')}</span>"
    figures = [
        ("groups of one photograph", pc.count_distinct(found.groups.column("group")).as_py(), flag),
        (f"copies {COULD_GO}", sum(copies.values()), f"<span>{sorts(copies)}</span>" if copies else ""),
        ("pairs of lookalikes", lookalikes, "<span>other photographs, or changed too much to tell</span>"),
        ("unreadable" if found.not_examined is None else "not examined", unseen, why),
    ]
    cells = "".join(
        f"<div><dt>{what}</dt><dd><strong>{number:,}</strong>{more}</dd></div>" for what, number, more in figures
    )
    return (
        f'<header><p class="brand">lookalike <span>duplicates</span></p><h1>Duplicates in {data(name)}</h1>'
        f'<p class="protocol">{count(found.examined, "picture")} of different bytes examined at version '
        f"{found.version}, effort {data(found.effort)}"
        f'{since}.</p><dl class="leading">{cells}</dl>'
        f'<p class="threshold">{_threshold(found.threshold, _COPY in copies)}</p></header>'
    )


def _threshold(given: Threshold | None, copies: bool) -> str:
    """Say in sentences from where on a pair is called a copy, and how far that can be trusted."""
    if given is None:
        if copies:
            return "How sure these are is not known: no precision was estimated."
        return "No precision was estimated; only the same bytes and the same pixels are called copies."
    flag = "" if given.reached else f'<span class="flag">below {100 * given.wanted:.6g} %</span> '
    return f"{flag}{threshold_told(given, strong=lambda share: f'<strong>{share}</strong>')}"


def _drawn(groups: pa.Table, numbers: pa.ChunkedArray, of: int, said: str, album: Album, besides: int) -> str:
    apart = (
        f'<p class="note">{apart_told(besides)}; <code>pairs.csv</code> beside this page has all.</p>'
        if besides
        else ""
    )
    if not of:
        return apart or '<p class="none">None was found.</p>'
    more = of - len(numbers)
    rest = f'<p class="note">{count(more, "more group")} not drawn; {_REST}.</p>' if more else ""
    key = (
        f'<p class="key">Outlined: what the other one shows, <span>{_swatch("of-kept")}in the kept one</span> '
        f"<span>{_swatch('of-copy')}in the copy</span></p>"
    )
    rows = groups.filter(pc.is_in(groups.column("group"), value_set=numbers.combine_chunks()))
    drawn = "".join(
        _group(rows.filter(pc.equal(rows.column("group"), number)), album) for number in numbers.to_pylist()
    )
    return f"<p>{said}</p>{key}{drawn}{rest}{apart}"


def _swatch(kind: str) -> str:
    lines = "".join(f'<line class="{each}" x1="2" y1="5" x2="44" y2="5"/>' for each in ("halo", kind))
    return f'<svg class="swatch-line" viewBox="0 0 46 10" aria-hidden="true">{lines}</svg>'


def _group(group: pa.Table, album: Album) -> str:
    (kept,) = group.filter(group.column("keep")).to_pylist()
    copies = group.filter(pc.invert(group.column("keep")))
    number = int(kept["group"])
    flags = '<span class="flag">labels differ</span>' if kept["conflict"] else ""
    splits = [split for split in pc.unique(group.column("split")).to_pylist() if split is not None]
    if len(splits) > 1:
        flags += f' <span class="flag">in {" and ".join(map(data, splits))}</span>'
    drawn = copies.slice(0, MOST_COPIES).to_pylist()
    rows = "".join(_beside(kept, copy, album) for copy in drawn)
    more = copies.num_rows - len(drawn)
    rest = (
        f'<p class="note">{count(more, "more copy", "more copies")} of it not drawn; {_REST}.</p>' if more > 0 else ""
    )
    return (
        f'<article class="group" aria-labelledby="group-{number}"><h3 id="group-{number}">Group {number:,}'
        f'<span class="soft">{count(group.num_rows, "picture")}</span>{flags}</h3>{rows}{rest}</article>'
    )


def _beside(kept: _Row, copy: _Row, album: Album) -> str:
    """A copy with the kept one at its left: what each shows of the other is outlined on both."""
    sizes = [(row["width"], row["height"]) for row in (kept, copy)]
    on_copy = on_kept = np.zeros((0, 2))
    if copy["transform"] is not None and (back := inverse(copy["transform"])) is not None:
        on_copy, on_kept = region(copy["transform"], *sizes), region(back, *reversed(sizes))
    named = kept["label"] is not None or copy["label"] is not None
    left = album.show(kept["id"], f"kept, {kept['id']}", over=_outline(on_kept, sizes[0], "of-kept"))
    right = album.show(copy["id"], f"{copy['kind']}, {copy['id']}", over=_outline(on_copy, sizes[1], "of-copy"))
    keeps = '<span class="mark right">✓ kept</span>' + f"<span>{text(copy['why'])}</span>"
    kind = f"<strong>{text(copy['kind'])}</strong>"
    other = copy["label"] != kept["label"]
    facts = [("How made", data(copy["how"]) if copy["how"] else _UNMADE.get(copy["kind"], "not told"))]
    if copy["agreement"] is not None:
        facts.append(("Agreement", f"{copy['agreement']:.3f}"))
    facts.append(("Sure", "not known" if copy["sure"] is None else f"{_no_more(copy['sure'])} %"))
    if len(on_copy) and len(on_kept):
        kept_share, copy_share = percent(area(on_kept), 0), percent(area(on_copy), 0)
        both = f"{kept_share} % of the kept one, {copy_share} % of the copy"
        facts.append(("In both", "all of each" if kept_share == copy_share == "100" else both))
    told = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<div class="beside">{_tile(left, kept, keeps, named)}'
        f"{_tile(right, copy, kind, named, other=other)}"
        f'<dl class="facts-list">{told}</dl></div>'
    )


def _no_more(share: float) -> str:
    """A share in per cent that is never rounded up: only what is certain has 100."""
    return f"{floor(1000 * share + 1e-6) / 10:.1f}".removesuffix(".0")


def _tile(picture: str, row: _Row, said: str, named: bool, *, other: bool = False) -> str:
    facts = [f"{row['width']:,} × {row['height']:,}"]
    if row["format"] is not None:
        facts.append(data(row["format"]))
    if row["bytes"] is not None:
        facts.append(_size(row["bytes"]))
    if row["split"] is not None:
        facts.append(data(row["split"]))
    mark = '<span class="mark wrong">✕ another label</span>' if other else ""
    told = (
        f'{mark}{label(row["label"]) if named else ""}<span class="plain-facts">{", ".join(facts)}</span>'
        f'<span class="id">{data(row["id"])}</span>'
    )
    return f'<figure class="tile">{picture}<figcaption>{said}{told}</figcaption></figure>'


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 999_500 else f"{size / 1e3:,.0f} kB" if size >= 1000 else f"{size} bytes"


def _outline(points: np.ndarray, size: tuple[int, int], kind: str) -> str:
    """Draw a polygon over a picture of that size, dark below and bright above so that it is seen on any."""
    if not len(points):
        return ""
    width, height = _UNITS * np.array(size) / max(size)
    corners = " ".join(f"{x * width:.1f},{y * height:.1f}" for x, y in points)
    return (
        f'<svg class="outline" viewBox="0 0 {width:.1f} {height:.1f}" aria-hidden="true">'
        f'<polygon class="halo" points="{corners}"/><polygon class="{kind}" points="{corners}"/></svg>'
    )


def _lookalikes(catalogue: Catalogue, pairs: pa.Table, album: Album) -> str:
    order = [("similarity", "descending"), ("a", "ascending"), ("b", "ascending")]
    rows = pairs.take(pc.select_k_unstable(pairs, MOST_LOOKALIKES, order)).to_pylist()
    labels = _labels(catalogue, [row[side] for row in rows for side in "ab"])
    drawn = "".join(f"<li>{_lookalike(row, labels, album)}</li>" for row in rows)
    more = pairs.num_rows - len(rows)
    rest = f'<p class="note">{count(more, "more pair")} not drawn; {_REST}.</p>' if more else ""
    return (
        "<p>These are <strong>not called copies</strong>: each is another photograph of the same thing or of one that "
        "looks just like it, or one that was changed too much to be sure. Most similar first, by the cosine of their "
        f'embeddings; look before anything is removed.</p><ol class="pairs">{drawn}</ol>{rest}'
    )


def _labels(catalogue: Catalogue, ids: Sequence[str]) -> dict[str, str | None]:
    items = catalogue.items(["id", "label"])
    some = items.filter(pc.is_in(items.column("id"), value_set=pa.array(ids, pa.string())))
    return dict(zip(some.column("id").to_pylist(), some.column("label").to_pylist(), strict=True))


def _lookalike(row: _Row, labels: dict[str, str | None], album: Album) -> str:
    ids = row["a"], row["b"]
    shares = [row["covered_a"], row["covered_b"]]
    matched = "how much matches is not known"
    if None not in shares:
        matched = f"{' and '.join(f'{percent(share, 0)} %' for share in shares)} matched"
    named = any(labels.get(id) is not None for id in ids)
    sides = "".join(
        f'<figure class="tile">{album.show(id, f"lookalike, {id}")}<figcaption>{label(labels.get(id)) if named else ""}'
        f'<span class="id">{data(id)}</span></figcaption></figure>'
        for id in ids
    )
    similarity = "–" if row["similarity"] is None else f"{row['similarity']:.3f}"
    return (
        f'<div class="pair"><p class="facts"><span>not called a copy</span><span>{similarity}</span></p>'
        f'<p class="crumbs">{matched}</p><div class="sides">{sides}</div></div>'
    )


def _listed(table: pa.Table, name: str, said: str) -> str:
    rows = table.slice(0, MOST_UNREADABLE).to_pylist()
    told = "".join(f"<li>{data(row[name])}: {data(row['reason'])}</li>" for row in rows)
    more = table.num_rows - len(rows)
    rest = f'<p class="note">{more:,} more not listed; {_REASONS}.</p>' if more else ""
    return f'<p>{said}</p><ul class="plain">{told}</ul>{rest}'
