"""The parts of a report that show pictures: failures, hubs and duplicates."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from typing import Final

from indexer.report_words import count, data, label, text
from retrieval.errors import ImageError, NotFoundError
from retrieval.report import Failure, Hit, Hub, Pair, Report
from retrieval.twins import SAME

PICTURE_SIZE: Final = 160
"""Pixels of the longer side that a picture is best given in."""
MAX_PICTURES_BYTES: Final = 5_500_000
"""Of the page, in pictures; those beyond are left out, and each says so in its place."""
MAX_FAILURES: Final = 60
MAX_HITS: Final = 5
MAX_HUBS: Final = 24
MAX_PAIRS: Final = 60
_OPEN_FAILURES, _OPEN_PAIRS = 12, 12  # the others are folded away

Picture = Callable[[str], bytes | None]


class Album:
    """Takes pictures into the page, each read once, until the page is large enough.

    Args:
        picture: gives a small JPEG for an id, None where there is none.
        most: bytes of the page in pictures; None: ``MAX_PICTURES_BYTES``.
    """

    def __init__(self, picture: Picture, *, most: int | None = None) -> None:
        self._picture = picture
        self._read: dict[str, tuple[str | None, str]] = {}
        self._left = MAX_PICTURES_BYTES if most is None else most

    def show(self, id: str, said: str, *, over: str = "") -> str:
        """Give the picture as HTML, or a box with the reason why there is none.

        Args:
            id: of the image.
            said: what it shows, for those who do not see it.
            over: HTML that lies over the picture; left out where there is none.
        """
        encoded, reason = self._encoded(id)
        if encoded is not None and len(encoded) > self._left:
            encoded, reason = None, "left out: the page has enough pictures"
        if encoded is None:
            return _missing(reason)
        self._left -= len(encoded)
        return (
            f'<div class="picture"><img alt="{text(said)}" title="{text(id)}" decoding="async"'
            f' src="data:image/jpeg;base64,{encoded}">{over}</div>'
        )

    def _encoded(self, id: str) -> tuple[str | None, str]:
        if id not in self._read:
            try:
                jpeg = self._picture(id)
            except (ImageError, NotFoundError) as error:
                self._read[id] = None, str(error)
            else:
                self._read[id] = (base64.b64encode(jpeg).decode("ascii"), "") if jpeg else (None, "no picture")
        return self._read[id]


def _missing(reason: str) -> str:
    return f'<div class="picture missing"><span>{text(reason, longest=90)}</span></div>'


def failures(report: Report, album: Album) -> str:
    """Show queries whose nearest image is wrong: what they got, and the nearest right image."""
    if not report.failures:
        listed = "; none is listed" if report.failed else ""
        number = f"{report.failed:,} of {report.queries:,} queries have" if report.failed else "No query has"
        return f'<p class="none">{number} a nearest image of another class{listed}.</p>'
    shown = [_failure(failure, album) for failure in report.failures[:MAX_FAILURES]]
    head = (
        f"<p>{count(report.failed, 'query', 'queries')} of {report.queries:,} got an image of another class first; "
        f"here are {len(shown):,} of them, the most confident first and of many classes. Left the query, then what "
        "it got, nearest first, then the nearest image of its own class with the rank it has. The number at the right "
        "is the cosine similarity to the query. A confident mistake is often a wrong label.</p>"
        '<p class="key"><span class="mark wrong">✕</span> another class, broken frame '
        '<span class="mark right">✓</span> the class of the query, whole frame</p>'
    )
    return head + _folded("ol", "failures", shown, _OPEN_FAILURES, "failures")


def _failure(failure: Failure, album: Album) -> str:
    asked = _tile(album.show(failure.id, f"query, {failure.label}"), "asked", "query", "", failure.label).replace(
        "</figcaption>", f'<span class="id">{data(failure.id.rsplit("/", 1)[-1])}</span></figcaption>'
    )
    got = "".join(f"<li>{_hit(hit, album)}</li>" for hit in failure.got[:MAX_HITS])
    right = _tile(_missing("not among what the search returned"), "right", "nearest right", "", failure.label)
    if failure.right is not None:
        right = _hit(failure.right, album)
    return f'<li class="failure">{asked}<ol class="got">{got}</ol><div class="best">{right}</div></li>'


def _hit(hit: Hit, album: Album) -> str:
    said = f"{'right' if hit.right else 'wrong'}, rank {hit.rank}, {hit.label or 'no label'}"
    mark = '<span class="mark right">✓</span>' if hit.right else '<span class="mark wrong">✕</span>'
    left = f'{mark} <span class="unseen">{"right" if hit.right else "wrong"}, </span>rank {hit.rank:,}'
    kind = "right" if hit.right else "wrong"
    return _tile(album.show(hit.id, said), kind, left, f"{hit.similarity:.3f}", hit.label)


def _tile(picture: str, kind: str, left: str, right: str, of: str | None) -> str:
    return (
        f'<figure class="tile {kind}">{picture}<figcaption><span class="facts"><span>{left}</span>'
        f"<span>{right}</span></span>{label(of)}</figcaption></figure>"
    )


def hubs(report: Report, album: Album) -> str:
    """Show the gallery images that appear among the nearest of too many queries."""
    if not report.hubs:
        return f'<p class="none">No image appears too often among the {report.hub_k} nearest.</p>'
    usual = report.hub_k * report.queries / report.gallery if report.gallery else 0.0
    items = []
    for hub in report.hubs[:MAX_HUBS]:
        items.append(f"<li>{_hub(hub, album, usual)}</li>")
    more = len(report.hubs) - len(items)
    rest = f'<p class="note">{count(more, "more hub")} in report.json.</p>' if more > 0 else ""
    return (
        f"<p>Images that are among the {report.hub_k} nearest of many queries; an image of this gallery is so of "
        f"{usual:,.1f} queries on average, and the number at the right says how many times that. A hub whose queries "
        "are mostly of other classes pushes right images away: look for blank, blurred or crowded pictures.</p>"
        f'<ol class="tiles">{"".join(items)}</ol>{rest}'
    )


def _hub(hub: Hub, album: Album, usual: float) -> str:
    times = f"{hub.count / usual:,.0f} ×" if usual else ""
    share = f"{hub.right:,} right, {hub.count - hub.right:,} wrong"
    picture = album.show(hub.id, f"hub, {hub.label or 'no label'}")
    return _tile(picture, "hub", f"<strong>{hub.count:,}</strong> queries", times, hub.label).replace(
        "</figcaption>", f'<span class="crumbs">{share}</span></figcaption>'
    )


def duplicates(report: Report, album: Album) -> str:
    """Show the same picture found twice: leakage and conflicting labels before the others."""
    if not report.pairs:
        return '<p class="none">No picture was found twice, neither within a part nor across parts.</p>'
    shown = [_pair(pair, album) for pair in report.pairs[:MAX_PAIRS]]
    total = len(report.pairs) + report.pairs_left_out
    same, near = total - report.candidates, report.candidates
    head = (
        f"<p>{count(same, 'pair')} of images have the same bytes; <strong>{report.leaks:,}</strong> "
        f"{'stands' if report.leaks == 1 else 'stand'} on both sides of a split, which flatters the figures, and "
        f"<strong>{report.conflicts:,}</strong> {'has' if report.conflicts == 1 else 'have'} two different labels, of "
        f"which one at most is right. {count(near, 'pair')} with different labels {'has' if near == 1 else 'have'} "
        "other bytes and nearly the same vector: candidates, as this embedder sees them, among queries and gallery; "
        f"training images were compared byte for byte only. {_shown_of(len(shown), total)}</p>"
    )
    return head + _folded("ol", "pairs", shown, _OPEN_PAIRS, "pairs")


def _shown_of(shown: int, total: int) -> str:
    return "All are shown." if shown == total else f"{shown:,} are shown; report.json lists more."


def _pair(pair: Pair, album: Album) -> str:
    flags = ""
    if pair.leaking and pair.kind == SAME:
        flags += '<span class="flag">leak</span> '
    if pair.conflicting:
        flags += '<span class="flag">labels differ</span> '
    sides = "".join(
        f'<figure class="tile pair-side">{album.show(id, f"{of}, {id}")}<figcaption>{label(of)}'
        f'<span class="id">{data(id)}</span></figcaption></figure>'
        for id, of in zip((pair.first, pair.second), pair.labels, strict=True)
    )
    return (
        f'<li class="pair"><p class="facts"><span>{flags or "same picture"}</span>'
        f"<span>{pair.similarity:.3f}</span></p>"
        f'<p class="crumbs">{data(pair.where)}, {data(pair.kind)}</p><div class="sides">{sides}</div></li>'
    )


def _folded(element: str, kind: str, items: list[str], open_ones: int, noun: str) -> str:
    first = f'<{element} class="{kind}">{"".join(items[:open_ones])}</{element}>'
    rest = items[open_ones:]
    if not rest:
        return first
    return (
        f"{first}<details><summary>{len(rest):,} more {escape(noun)}</summary>"
        f'<{element} class="{kind}" start="{open_ones + 1}">{"".join(rest)}</{element}></details>'
    )
