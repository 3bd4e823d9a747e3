"""A report as one HTML file that opens offline: every picture and chart is inside it, and nothing in it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from indexer.report_frame import framed
from indexer.report_pictures import Album, Picture, duplicates, failures, hubs
from indexer.report_sections import calibration, classes, curve, embedding_map, figures
from indexer.report_style import STYLE
from indexer.report_words import (
    amount,
    command,
    count,
    data,
    decimals_of_interval,
    left_out,
    meanings,
    text,
    value,
)
from retrieval.report import Report

MAX_REJECTED: Final = 100
"""Rejected images listed; the others are counted."""
_CARD: Final = {
    "tag": "weights (timm tag)",
    "backbone": "backbone",
    "weights": "weights from",
    "pretraining": "pre-trained on",
    "pooling": "pooling",
    "dim": "dimension",
    "image_size": "image size",
    "trained": "trained by lookalike",
    "runtimes": "runtimes",
    "digest": "digest",
}
"""What the model card calls a thing, and how the page does."""
_VALUES: Final = "everything on this page as values; lookalike compare reads it"
_RANKS: Final = "a row a query with the ranks of all right images: every retrieval figure can be computed again"
_PREDICTIONS: Final = (
    "a row a query with its true and its predicted class: accuracy and confusion can be computed again"
)


def report_page(report: Report, picture: Picture) -> str:
    """Draw a report as a page.

    Args:
        report: what was measured.
        picture: gives a small JPEG, best of ``report_pictures.PICTURE_SIZE`` pixels, for an image id. Where it gives
            None or raises ImageError or NotFoundError, the page says why in the picture's place.

    Returns:
        A whole HTML document that loads nothing from elsewhere.
    """
    album = Album(picture)
    parts: list[tuple[str, str, Callable[[], str]]] = [
        ("measured", "What was measured", lambda: _measured(report)),
        ("figures", "Figures", lambda: figures(report)),
        ("curve", "Recall at K", lambda: curve(report)),
        ("classes", "Classes", lambda: classes(report)),
        ("failures", "Failures", lambda: failures(report, album)),
        ("hubs", "Hubs", lambda: hubs(report, album)),
        ("map", "Embedding map", lambda: embedding_map(report)),
        ("duplicates", "Duplicates", lambda: duplicates(report, album)),
    ]
    if report.classification is not None:  # retrieval looks for these; an empty list says nothing here
        found = {"curve": report.curve, "failures": report.failures, "hubs": report.hubs}
        found |= {"map": report.points, "duplicates": report.pairs}
        parts = [part for part in parts if found.get(part[0], True)]
    if report.classification is not None or report.task == "classification":
        parts.append(("calibration", "Calibration and confusion", lambda: calibration(report)))
    parts.append(("repeat", "How to repeat it", lambda: _repeat(report)))
    return framed(f"{report.title} – evaluation", STYLE, _head(report), parts)


def _head(report: Report) -> str:
    banner = ""
    if report.differences:
        listed = "".join(f"<li>{data(difference)}</li>" for difference in report.differences)
        banner = (
            '<div class="banner" role="note" aria-label="Non-standard"><p><strong>Non-standard: do not compare with '
            f"published numbers.</strong> What was measured differs from the protocol:</p><ul>{listed}</ul></div>"
        )
    caution = (report.about or {}).get("caution")
    if caution:
        banner += f'<p class="protocol"><strong>Mind:</strong> {data(caution)}.</p>'
    return (
        f'<header><p class="brand">lookalike <span>evaluation of {text(report.task)}</span></p>'
        f'<h1>{data(report.title)}</h1><p class="protocol">{data(report.protocol)}</p>'
        f"{banner}{_leading(report)}</header>"
    )


def _leading(report: Report) -> str:
    if not report.figures:
        return ""
    figure = report.figures[0]
    decimals = decimals_of_interval(report.figures)
    between = "no interval"
    if figure.low is not None and figure.high is not None:
        low, high = (amount(end, figure.unit, decimals) for end in (figure.low, figure.high))
        between = f"95 % interval {low} – {high}"
    flag = '<span class="flag">non-standard</span>' if report.differences else ""
    unit = "%" if figure.unit == "share" else text(figure.unit)
    cells = [
        (data(figure.name), f"{amount(figure.value, figure.unit)}&nbsp;{unit}", f"{between} {flag}"),
        ("queries", f"{report.queries:,}", f"of {count(report.class_count, 'class', 'classes')}"),
        ("gallery", f"{report.gallery:,}", "images searched" if report.gallery else "the classifier needs none"),
        ("left out", f"{report.left_out + report.unlabelled:,}", "queries without a right image or a label"),
    ]
    shown = "".join(
        f"<div><dt>{name}</dt><dd><strong>{number}</strong> <span>{note}</span></dd></div>"
        for name, number, note in cells
    )
    return f'<dl class="leading">{shown}</dl>'


def _measured(report: Report) -> str:
    known = {**{key: report.embedder.get(key) for key in _CARD}, **report.embedder}
    card = []
    for key, given in known.items():
        said = value(given)
        if key == "image_size" and given is not None:
            said += " px"
        if key == "digest" and given is not None:
            said = f"<code>{said}</code>"
        card.append((_CARD.get(key) or text(key).replace("_", " "), said))
    on = [
        ("task", data(report.task)),
        ("queries", f"{report.queries:,} measured"),
        ("classes", f"{report.class_count:,}"),
        ("gallery", f"{count(report.gallery, 'image')} searched" if report.gallery else "none: a classifier decides"),
        ("left out", f"{count(report.left_out, 'query', 'queries')} {left_out(report.gallery)}"),
        ("unlabelled", f"{count(report.unlabelled, 'query', 'queries')} without a label"),
        ("rejected", f"{count(len(report.rejected), 'image')} that could not be used"),
    ]
    return (
        "<p>The figures below hold for this embedder on these images, and for no other: compare them only with figures "
        "of the same protocol, image size and dimension, and mind what the weights were pre-trained on.</p>"
        f'<div class="cards"><div><h3>Embedder</h3>{_list(card)}</div><div><h3>Images</h3>{_list(on)}'
        f"{_rejected(report)}</div></div>"
    )


def _list(rows: list[tuple[str, str]]) -> str:
    return f'<dl class="facts-list">{"".join(f"<div><dt>{name}</dt><dd>{said}</dd></div>" for name, said in rows)}</dl>'


def _rejected(report: Report) -> str:
    if not report.rejected:
        return ""
    rows = "".join(
        f"<li><span>{data(uri)}</span> <span class=soft>{data(reason)}</span></li>"
        for uri, reason in report.rejected[:MAX_REJECTED]
    )
    more = len(report.rejected) - MAX_REJECTED
    rest = f'<p class="soft">{more:,} more stand in report.json.</p>' if more > 0 else ""
    return (
        f"<details{' open' if len(report.rejected) <= 5 else ''}><summary>Rejected images and why</summary>"
        f'<ul class="plain">{rows}</ul>{rest}</details>'
    )


def _repeat(report: Report) -> str:
    # Thousands of file names are for report.json alone.
    about = {key: given for key, given in (report.about or {}).items() if key not in ("caution", "missing", "extra")}
    called = about.pop("command", None)
    line = (
        f"<pre><code>{command(called)}</code></pre>" if called else '<p class="none">The command was not recorded.</p>'
    )
    seconds = about.pop("seconds", None)
    when = about.get("when")
    if isinstance(when, str):
        about["when"] = re.sub(r"^(\d{4}-\d\d-\d\d)T([\d:]{8})(\.\d+)?(Z|\+00:00)$", r"\1 \2 UTC", when)
    notes = "".join(f"<p>{data(note)}</p>" for note in about.pop("notes", None) or ())
    rows = [(text(key).replace("_", " "), value(given)) for key, given in about.items()]
    if seconds is not None:
        rows.append(("took", f"{value(seconds)} s"))
    rows.append(("digest of the embedder", f"<code>{value(report.embedder.get('digest'))}</code>"))
    meant = "".join(
        f"<div><dt>{data(names)}</dt><dd>{meaning}</dd></div>"
        for names, meaning in meanings([figure.name for figure in report.figures])
    )
    beside = [("report.json", _VALUES), ("queries.parquet", _PREDICTIONS if report.classification else _RANKS)]
    files = "".join(f"<div><dt><code>{name}</code></dt><dd>{what}</dd></div>" for name, what in beside)
    left = ""
    if report.classification is not None:
        left = "<p>Recall@K, failures, hubs, the map and duplicates belong to the retrieval of the same images.</p>"
    return (
        "<p>The same command on the same images with an embedder of the same digest, run by the same runtime "
        "(--runtime; the one used is named above), gives the same figures; the order "
        f"of files changes nothing, because ties are broken by id.</p>{notes}{left}"
        f"{line}{_list(rows)}<h3>What each figure is</h3><dl class='facts-list wide'>{meant}</dl>"
        f"<h3>Files beside this page</h3><dl class='facts-list wide'>{files}</dl>"
    )
