"""An audit as one HTML file that opens offline: each doubtful picture beside those that speak against its label."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import groupby
from typing import Any

from indexer.auditing import CONFLICT, FOREIGN, LEAK, POOR, TOO_WEAK, WRONG, Audit
from indexer.catalogue import Catalogue
from indexer.report_frame import Part, framed
from indexer.report_pictures import PICTURE_SIZE, Album
from indexer.report_style import STYLE
from indexer.report_words import count, sure, text
from indexer.search import thumbnail

MOST = 200  # findings of a kind that are drawn

_SAID = {
    WRONG: "By the others, each of these is rather of another class.",
    CONFLICT: "The very same bytes stand under two labels.",
    LEAK: "The very same bytes stand in two splits.",
    FOREIGN: "These look like nothing else in the catalogue.",
}
_OWN = """
.finding { display: grid; gap: .75rem; grid-template-columns: minmax(7rem, 10rem) 1fr; align-items: start;
  padding: .75rem 0; border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
.finding .near { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(4.5rem, 8rem)); }
@media (max-width: 30rem) { .finding { grid-template-columns: 5.5rem 1fr; }
  .finding .near { grid-template-columns: repeat(3, 1fr); } }
.finding p { margin: 0 0 .4rem; overflow-wrap: anywhere; } .finding small { overflow-wrap: anywhere; opacity: .75; }
"""


def audit_page(catalogue: Catalogue, found: Audit) -> str:
    """Draw an audit as a page.

    Args:
        catalogue: where the pictures come from; one that cannot be read is replaced by the reason.
        found: in it.
    """
    items = catalogue.items(["id", "label"])
    labels = dict(zip(items.column("id").to_pylist(), items.column("label").to_pylist(), strict=True))
    album = Album(lambda id: thumbnail(catalogue, id, size=PICTURE_SIZE))
    name = text(str(catalogue.about["name"]))
    groups = [(kind, list(rows)) for kind, rows in groupby(found.findings.to_pylist(), lambda row: row["finding"])]
    parts: list[Part] = [
        (f"part-{at}", f"{text(kind).capitalize()}: {len(rows):,}", partial(_findings, rows, album, labels))
        for at, (kind, rows) in enumerate(groups)
    ]
    if found.alike:
        parts.append(("alike", "Classes that may be one", partial(_alike, found)))
    weak = f" {text(TOO_WEAK.format(agreed=found.agreed)).capitalize()}." if found.agreed < POOR else ""
    head = (
        f'<header><p class="brand">lookalike <span>audit of labels</span></p><h1>{name}</h1><p>'
        f"{found.items:,} labelled items of {found.labels:,} labels at version {found.version}, {found.agreed:.1%} of "
        f"which the others agree with; {count(found.findings.num_rows, 'finding')}."
        f"{weak} Each item was labelled by the others; write right "
        "labels into the column <code>correction</code> of the file that <code>lookalike audit --csv</code> writes, "
        "and give it back with <code>--apply</code>.</p></header>"
    )
    return framed(f"Labels of {catalogue.about['name']}", STYLE + _OWN, head, parts)


def _findings(rows: list[dict[str, Any]], album: Album, labels: Mapping[str, str | None]) -> str:
    drawn = "".join(_finding(row, album, labels) for row in rows[:MOST])
    more = f"<p>{len(rows) - MOST:,} more are not drawn; --csv has all.</p>" if len(rows) > MOST else ""
    return f"<p>{text(_SAID[rows[0]['finding']])}</p>{drawn}{more}"


def _finding(row: dict[str, Any], album: Album, labels: Mapping[str, str | None]) -> str:
    beside = [row["other"]] if row["other"] is not None else row["neighbours"]
    near = "".join(
        f"<div>{album.show(id, f'{id}, beside it')}<small>{_broken(labels.get(id) or '-')}</small></div>"
        for id in beside
    )
    said = f"<b>{text(row['label'])}</b>"
    if row["suggested"] is not None and row["suggested"] != row["label"]:
        said += f", rather <b>{text(row['suggested'])}</b> ({text(sure(row['confidence']))})"
    return (
        f'<div class="finding"><div>{album.show(row["id"], row["id"])}</div><div><p>{said}</p>'
        f'<p><small>{text(row["id"])}</small></p><div class="near">{near}</div></div></div>'
    )


def _broken(label: str) -> str:
    """A label that may go on in a new line between the parts of its path."""
    return text(label).replace("/", "/<wbr>")


def _alike(found: Audit) -> str:
    rows = "".join(
        f"<tr><td>{text(first)}</td><td>{text(second)}</td><td>{share:.0%}</td></tr>"
        for first, second, share in found.alike[:MOST]
    )
    return (
        "<p>Of the images of both, the share that is taken for the other one; halves of one class have 50 %.</p>"
        f"<table><thead><tr><th>class</th><th>class</th><th>taken for each other</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
