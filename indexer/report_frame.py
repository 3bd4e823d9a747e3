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
