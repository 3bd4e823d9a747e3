"""Text in the cells of CSV files that people open in a spreadsheet, which would run what looks like a formula."""

from __future__ import annotations

from typing import Final

_LIVE: Final = ("=", "+", "-", "@", "\t", "\r")


def as_cell(text: str) -> str:
    """Write text so that a spreadsheet takes it for text; ``as_text`` takes it back."""
    return f"'{text}" if text.lstrip("'").startswith(_LIVE) else text


def as_text(cell: str) -> str:
    """Read what ``as_cell`` wrote, whether or not a spreadsheet has saved it meanwhile."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_LIVE) else cell
