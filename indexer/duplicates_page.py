"""Duplicates as one HTML file that opens offline: each copy beside the one that is kept, what both show outlined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from math import floor
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.duplicates import KINDS, Found
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

_COPIES: Final = {_SAME_BYTES: "of the same bytes", _SAME_PIXELS: "of the same pixels", _COPY: "edited or saved anew"}
_UNMADE: Final = {_SAME_BYTES: "the same file again", _SAME_PIXELS: "the same picture in another file"}

_Row = dict[str, Any]
_Group = list[_Row]


def duplicates_page(catalogue: Catalogue, found: Found) -> str:
    """Draw what was found as a page.

    Args:
        catalogue: where the pictures come from; one that cannot be read is replaced by the reason.
        found: in it.
    """
    album = Album(lambda id: thumbnail(catalogue, id, size=PICTURE_SIZE), most=MOST_BYTES)
    groups = _groups(found.groups)
    lookalikes = found.pairs.filter(pc.equal(found.pairs.column("kind"), _LOOKALIKE))
    parts = _parts(found, groups, album)
    if lookalikes.num_rows:
        heading = f"Lookalikes: {count(lookalikes.num_rows, 'pair')}"
        parts.append(("lookalikes", heading, partial(_lookalikes, catalogue, lookalikes, album)))
    if found.unreadable.num_rows:
        heading = f"Unreadable: {found.unreadable.num_rows:,}"
        parts.append(("unreadable", heading, partial(_unreadable, found.unreadable)))
    name = str(catalogue.about["name"])
    head = _head(name, found, groups, lookalikes.num_rows)
    return framed(f"Duplicates in {name}", STYLE + _OWN, head, parts)


def _groups(table: pa.Table) -> list[_Group]:
    """The groups, larger first, the kept one of each before its copies."""
    rows = sorted(table.to_pylist(), key=lambda row: (row["group"], not row["keep"]))
    each = [list(of_one) for _, of_one in groupby(rows, lambda row: row["group"])]
    return sorted(each, key=lambda group: -len(group))


def _parts(found: Found, groups: list[_Group], album: Album) -> list[Part]:
    """The parts of groups: those of several labels, those across the splits asked for, and the others."""
    one, other = map(data, found.between or ("", ""))
    conflicting: list[_Group] = []
    across: list[_Group] = []
    others: list[_Group] = []
    for group in groups:
        leaks = found.between is not None and set(found.between) <= {row["split"] for row in group}
        (conflicting if group[0]["conflict"] else across if leaks else others).append(group)
    flattered = f"One photograph in {one} and in {other}: what is measured on one of them is flattered by the other."
    chosen = [
        ("conflicts", "Labels differ", conflicting, "One photograph under several labels: at most one is right."),
        ("across", f"In {one} and {other}", across, flattered),
        ("copies", "Other copies" if conflicting or found.between else "Copies", others, "One photograph, again."),
    ]
    left = MOST_GROUPS
    parts: list[Part] = []
    for place, heading, some, said in chosen:
        # That nothing leaks, or that nothing was found, is an answer too.
        if some or (place == "across" and found.between) or (place == "copies" and not groups):
            drawn = some[:left]
            left -= len(drawn)
            besides = _apart(found) if place == "across" else 0
            draw = partial(_drawn, drawn, len(some), said, album, besides)
            parts.append((place, f"{heading}: {count(len(some), 'group')}", draw))
    return parts


def _apart(found: Found) -> int:
    """Pairs of copies whose pictures are in no group together: each is a copy of the other, not of what is kept."""
    group = dict(zip(found.groups.column("id").to_pylist(), found.groups.column("group").to_pylist(), strict=True))
    columns = (found.pairs.column(name).to_pylist() for name in ("a", "b", "kind"))
    return sum(
        kind != _LOOKALIKE and (a not in group or group[a] != group.get(b)) for a, b, kind in zip(*columns, strict=True)
    )


def _head(name: str, found: Found, groups: list[_Group], lookalikes: int) -> str:
    kinds = [row["kind"] for group in groups for row in group if not row["keep"]]
    told = [f"{kinds.count(kind):,} {said}" for kind, said in _COPIES.items() if kind in kinds]
    differing = sum(group[0]["conflict"] for group in groups)
    flag = f'<span><span class="flag">labels differ in {differing:,}</span></span>' if differing else ""
    since = ""
    if found.new_since is not None:
        since = f"; only what is new since version {found.new_since}, against all"
    if found.between is not None:
        since += f"; between {' and '.join(map(data, found.between))}"
    figures = [
        ("groups of one photograph", len(groups), flag),
        ("copies", len(kinds), f"<span>{', '.join(told)}</span>" if told else ""),
        ("pairs of lookalikes", lookalikes, "<span>other photographs, not copies</span>"),
        ("unreadable", found.unreadable.num_rows, ""),
    ]
    cells = "".join(
        f"<div><dt>{what}</dt><dd><strong>{number:,}</strong>{more}</dd></div>" for what, number, more in figures
    )
    return (
        f'<header><p class="brand">lookalike <span>duplicates</span></p><h1>Duplicates in {data(name)}</h1>'
        f'<p class="protocol">{count(found.examined, "picture")} of different bytes examined at version '
        f"{found.version}, effort {data(found.effort)}"
        f'{since}.</p><dl class="leading">{cells}</dl>'
        f'<p class="threshold">{_threshold(found.threshold, _COPY in kinds)}</p></header>'
    )


def _threshold(given: Threshold | None, copies: bool) -> str:
    """Say in a sentence from where on a pair is called a copy, and how far that can be trusted."""
    if given is None:
        if copies:
            return "How sure these are is not known: no precision was estimated."
        return "No precision was estimated; only the same bytes and the same pixels are called copies."
    wanted = f"{100 * given.wanted:.6g} %"
    line = f"pairs that agree by {given.agreement:.3f} or more are called copies"
    judged = f" and {count(given.judged, 'judged pair')}" if given.judged else ", and no judged pairs"
    if not given.reached:
        start = (
            f'<span class="flag">below {wanted}</span> The wanted precision of {wanted} is not reached; where it is '
        )
        start += f"highest, {line}"
    else:
        start = f"For a precision of {wanted}, {line}"
    left = ""
    if given.ambiguous:
        left = (
            f"; {count(given.ambiguous, 'pair')} {'is' if given.ambiguous == 1 else 'are'} left out of this, which may "
            "be copies that nobody planted"
        )
    below = "; the interval goes below what was wanted" if given.reached and given.low < given.wanted else ""
    return (
        f"{start}: by {count(given.planted, 'planted copy', 'planted copies')}{judged}, "
        f"<strong>{percent(given.precision, 1)} %</strong> of those called copies are right (95 % interval "
        f"{percent(given.low, 1)} to {percent(given.high, 1)} %), and <strong>{percent(given.recall, 1)} %</strong> of "
        f"the planted ones are found{left}{below}."
    )


def _drawn(groups: list[_Group], of: int, said: str, album: Album, besides: int) -> str:
    apart = (
        f'<p class="note">{count(besides, "pair")} of copies besides, of pictures that are in no group together; '
        "<code>pairs.csv</code> beside this page has all.</p>"
        if besides
        else ""
    )
    if not of:
        return apart or '<p class="none">None was found.</p>'
    rest = (
        f'<p class="note">{count(of - len(groups), "more group")} not drawn; {_REST}.</p>' if of > len(groups) else ""
    )
    key = (
        f'<p class="key">Outlined: what the other one shows, <span>{_swatch("of-kept")}in the kept one</span> '
        f"<span>{_swatch('of-copy')}in the copy</span></p>"
    )
    return f"<p>{said}</p>{key}{''.join(_group(group, album) for group in groups)}{rest}{apart}"


def _swatch(kind: str) -> str:
    lines = "".join(f'<line class="{each}" x1="2" y1="5" x2="44" y2="5"/>' for each in ("halo", kind))
    return f'<svg class="swatch-line" viewBox="0 0 46 10" aria-hidden="true">{lines}</svg>'


def _group(group: _Group, album: Album) -> str:
    kept, *copies = group
    number = int(kept["group"])
    flags = '<span class="flag">labels differ</span>' if kept["conflict"] else ""
    splits = list(dict.fromkeys(row["split"] for row in group if row["split"] is not None))
    if len(splits) > 1:
        flags += f' <span class="flag">in {" and ".join(map(data, splits))}</span>'
    rows = "".join(_beside(kept, copy, at == 0, album) for at, copy in enumerate(copies[:MOST_COPIES]))
    more = len(copies) - MOST_COPIES
    rest = (
        f'<p class="note">{count(more, "more copy", "more copies")} of it not drawn; {_REST}.</p>' if more > 0 else ""
    )
    return (
        f'<article class="group" aria-labelledby="group-{number}"><h3 id="group-{number}">Group {number:,}'
        f'<span class="soft">{count(len(group), "picture")}</span>{flags}</h3>{rows}{rest}</article>'
    )


def _beside(kept: _Row, copy: _Row, first: bool, album: Album) -> str:
    """A copy with the kept one at its left: what each shows of the other is outlined on both."""
    sizes = [(row["width"], row["height"]) for row in (kept, copy)]
    on_copy = on_kept = np.zeros((0, 2))
    if copy["transform"] is not None and (back := inverse(copy["transform"])) is not None:
        on_copy, on_kept = region(copy["transform"], *sizes), region(back, *reversed(sizes))
    left = album.show(kept["id"], f"kept, {kept['id']}", over=_outline(on_kept, sizes[0], "of-kept"))
    right = album.show(copy["id"], f"{copy['kind']}, {copy['id']}", over=_outline(on_copy, sizes[1], "of-copy"))
    keeps = '<span class="mark right">✓ kept</span>' + (f"<span>{text(kept['why'])}</span>" if first else "")
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
        f'<div class="beside">{_tile(left, kept, keeps, whole=first)}{_tile(right, copy, kind, other=other)}'
        f'<dl class="facts-list">{told}</dl></div>'
    )


def _no_more(share: float) -> str:
    """A share in per cent that is never rounded up: only what is certain has 100."""
    return f"{floor(1000 * share + 1e-6) / 10:.1f}".removesuffix(".0")


def _tile(picture: str, row: _Row, said: str, *, whole: bool = True, other: bool = False) -> str:
    facts = [f"{row['width']:,} × {row['height']:,}"]
    if row["format"] is not None:
        facts.append(data(row["format"]))
    if row["bytes"] is not None:
        facts.append(_size(row["bytes"]))
    if row["split"] is not None:
        facts.append(data(row["split"]))
    mark = '<span class="mark wrong">✕ another label</span>' if other else ""
    more = (
        f'{mark}{label(row["label"])}<span class="plain-facts">{", ".join(facts)}</span>'
        f'<span class="id">{data(row["id"])}</span>'
    )
    return f'<figure class="tile">{picture}<figcaption>{said}{more if whole else ""}</figcaption></figure>'


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
    rows = pairs.sort_by([("similarity", "descending")]).slice(0, MOST_LOOKALIKES).to_pylist()
    labels = _labels(catalogue, [row[side] for row in rows for side in "ab"])
    drawn = "".join(f"<li>{_lookalike(row, labels, album)}</li>" for row in rows)
    more = pairs.num_rows - len(rows)
    rest = f'<p class="note">{count(more, "more pair")} not drawn; {_REST}.</p>' if more else ""
    return (
        "<p>These are <strong>not copies</strong>: each is another photograph of the same thing, or of one that looks "
        "just like it. Most similar first, by the cosine of their embeddings; not to be removed as copies of each "
        f'other.</p><ol class="pairs">{drawn}</ol>{rest}'
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
    sides = "".join(
        f'<figure class="tile">{album.show(id, f"lookalike, {id}")}<figcaption>{label(labels.get(id))}'
        f'<span class="id">{data(id)}</span></figcaption></figure>'
        for id in ids
    )
    similarity = "–" if row["similarity"] is None else f"{row['similarity']:.3f}"
    return (
        f'<div class="pair"><p class="facts"><span>another photograph, not a copy</span><span>{similarity}</span></p>'
        f'<p class="crumbs">{matched}</p><div class="sides">{sides}</div></div>'
    )


def _unreadable(table: pa.Table) -> str:
    rows = table.slice(0, MOST_UNREADABLE).to_pylist()
    told = "".join(f"<li>{data(row['id'])}: {data(row['reason'])}</li>" for row in rows)
    more = table.num_rows - len(rows)
    rest = f'<p class="note">{more:,} more not listed; {_REASONS}.</p>' if more else ""
    return f'<p>Nothing can be said of these.</p><ul class="plain">{told}</ul>{rest}'
