"""The frame of a report's page: one file that asks for nothing, with its contents beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from indexer.report_words import text

Part = tuple[str, str, Callable[[], str]]
"""Anchor, heading, and what draws it."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def framed(title: str, style: str, head: str, parts: Sequence[Part]) -> str:
    """Draw a page.

    Args:
        title: of the window, as it is.
        style: CSS.
        head: HTML above the contents.
        parts: sections, in their order.
    """
    links = "".join(f'<li><a href="#{place}">{name}</a></li>' for place, name, _ in parts)
    sections = "".join(
        f'<section id="{place}" aria-labelledby="{place}-head"><h2 id="{place}-head">{name}</h2>{draw()}</section>'
        for place, name, draw in parts
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the report</a>{head}'
        f'<div class="frame"><nav aria-label="Contents"><ol>{links}</ol></nav>'
        f'<main id="main" tabindex="-1">{sections}</main></div></body></html>\n'
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], name: str, kind: str = "told") -> str:
    """Draw a table that scrolls by itself; all cells are HTML, the first of a row is its heading.

    Args:
        columns: their headings.
        rows: cells.
        name: of the table, for those who do not see it.
        kind: class of the table.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="Table: {name}" tabindex="0"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
