"""A profile as text for a terminal and as an SVG: a lane a stage, the time of the run from left to right."""

from __future__ import annotations

from html import escape
from typing import Any, Final

import numpy as np
import pyarrow as pa

TEXT_COLUMNS: Final = 60
BOTTLENECK: Final = 0.8  # share of its threads' time from which a stage is said to hold up the others
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_MEANING: Final = (
    "Busy is time at work, summed over a stage's threads; waiting is for input or for a free place.",
    "CPU is the part of busy that these threads computed themselves, not the disk, a device or other threads.",
)
# Seconds between two marks of the time axis.
_STEPS: Final = (
    *(number * 10.0**power for power in range(-4, 1) for number in (1, 2, 5)),
    *(10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0),
)

# Blue and vermilion of Okabe and Ito: apart for every kind of colour vision, and in grey by their neighbours.
_BUSY, _HELD, _INK, _FAINT, _LINE, _GROUND = "#0072b2", "#d55e00", "#1f2933", "#52606d", "#d3dae3", "#f5f7fa"
_WIDTH, _LEFT, _RIGHT, _TOP, _LANE, _GAP, _FOOT = 1000, 140, 225, 92, 56, 18, 94


def write_profile(table: pa.Table, elapsed: float, busy: np.ndarray) -> str:
    """Write a profile for a terminal.

    Args:
        table: of ``PROFILE_SCHEMA``.
        elapsed: seconds of the run.
        busy: (stages, columns), share of its threads' time that a stage worked, in [0, 1].

    Returns:
        Lines of at most 100 characters, unless a stage has a long name.
    """
    rows = table.to_pylist()
    if not rows:
        return f"{_title(rows, elapsed)}\n"
    head = ["stage", "threads", "images", "busy s", "cpu s", "waiting s", "images/busy s", "busy"]
    cells = [head]
    for row in rows:
        seconds = [f"{row[key]:,.1f}" for key in ("busy_s", "cpu_s", "waiting_s")]
        cells.append(
            [_plain(row["stage"]), str(row["threads"]), f"{row['images']:,}", *seconds, _rate(row), _share(row)]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    ]
    end = _duration(elapsed)
    columns = busy.shape[1]
    lanes = [f"{'':{widths[0]}}   0 s{end:>{max(columns - 3, len(end) + 1)}}"]
    for row, heights in zip(rows, busy, strict=True):
        levels = np.ceil(heights * (len(_BLOCKS) - 1) - 1e-6).astype(int)  # the least work shows
        lanes.append(f"{_plain(row['stage']):{widths[0]}}  │{''.join(_BLOCKS[level] for level in levels)}│")
    parts = [[_title(rows, elapsed)], lines, [_bottleneck(rows), *_MEANING], lanes]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def draw_profile(table: pa.Table, elapsed: float, busy: np.ndarray, waiting: np.ndarray) -> str:
    """Draw a profile as a standalone SVG document.

    Args:
        table: of ``PROFILE_SCHEMA``.
        elapsed: seconds of the run.
        busy: (stages, columns), share of its threads' time that a stage worked, in [0, 1].
        waiting: (stages, columns), share that it waited; at most 1 together with ``busy``.
    """
    rows = table.to_pylist()
    bottom = _TOP + len(rows) * (_LANE + _GAP)
    height = bottom + _FOOT
    title, sentence = escape(_title(rows, elapsed)), escape(_bottleneck(rows))
    held = _most_held(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{title}</title><desc>{sentence}</desc>",
        '<defs><pattern id="waiting" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="5" height="5" fill="#e7ebf0"/><rect width="1.5" height="5" fill="#a3afbd"/></pattern></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _label(28, 38, title, size=20, bold=True),
        _label(28, 64, sentence, colour=_FAINT, size=14),
        _axis(elapsed, bottom),
        *(
            _lane(row, _TOP + place * (_LANE + _GAP), busy[place], waiting[place], is_held=row is held)
            for place, row in enumerate(rows)
        ),
        _legend(bottom + 54, held=held is not None),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lane(row: dict[str, Any], top: int, busy: np.ndarray, waiting: np.ndarray, *, is_held: bool) -> str:
    right, colour = _WIDTH - _RIGHT, _HELD if is_held else _BUSY
    threads = f"{row['threads']} {'thread' if row['threads'] == 1 else 'threads'}"
    note = _label(_LEFT - 14, top + 52, "bottleneck", colour=_HELD, size=12, bold=True, anchor="end") if is_held else ""
    lines = (
        _label(_LEFT - 14, top + 20, escape(_plain(row["stage"])), size=15, bold=True, anchor="end"),
        _label(_LEFT - 14, top + 37, threads, colour=_FAINT, size=12, anchor="end"),
        note,
        f'<rect x="{_LEFT}" y="{top}" width="{right - _LEFT}" height="{_LANE}" fill="{_GROUND}"/>',
        f'<path d="{_area(busy + waiting, top)}" fill="url(#waiting)"/>',
        f'<path d="{_area(busy, top)}" fill="{colour}"/>',
        f'<path d="M{_LEFT} {top + _LANE}.5H{right}" stroke="{_FAINT}"/>',
        _label(right + 16, top + 18, f"{_share(row)} busy", size=15, bold=True, colour=colour),
        _label(
            right + 16, top + 35, f"{_duration(row['busy_s'])} busy, {_duration(row['waiting_s'])} waiting", size=12
        ),
        _label(right + 16, top + 51, f"{row['images']:,} images, {_rate(row)} a busy s", size=12, colour=_FAINT),
    )
    return "".join(lines)


def _area(heights: np.ndarray, top: int) -> str:
    """Trace a row of columns as one shape that stands on the floor of its lane; equal neighbours are one step."""
    step = (_WIDTH - _RIGHT - _LEFT) / len(heights)
    tops = np.round(top + _LANE * (1 - heights), 1)
    path = [f"M{_LEFT} {top + _LANE}"]
    for place, value in enumerate(tops.tolist()):
        if place == 0 or value != tops[place - 1]:
            path.append(f"{'' if place == 0 else f'H{_LEFT + place * step:.1f}'}V{value:g}")
    return "".join([*path, f"H{_WIDTH - _RIGHT}V{top + _LANE}Z"])


def _axis(elapsed: float, bottom: int) -> str:
    step = next((step for step in _STEPS if elapsed <= 8 * step), elapsed / 8)
    parts = []
    for place in range(int(elapsed / step) + 1 if elapsed > 0 else 1):
        x = _LEFT + (_WIDTH - _RIGHT - _LEFT) * (place * step / elapsed if elapsed > 0 else 0)
        parts.append(f'<path d="M{x:.1f} {_TOP - 6}V{bottom - 4}" stroke="{_LINE}"/>')
        parts.append(_label(round(x), bottom + 12, _duration(place * step), size=12, colour=_FAINT, anchor="middle"))
    return "".join(parts)


def _legend(y: int, *, held: bool) -> str:
    marks = [(_BUSY, "busy"), ("url(#waiting)", "waiting")]
    if held:
        marks.insert(1, (_HELD, "busy, and the bottleneck"))
    parts, x = [], _LEFT
    for fill, text in marks:
        parts.append(f'<rect x="{x}" y="{y - 11}" width="22" height="13" fill="{fill}" stroke="{_LINE}"/>')
        parts.append(_label(x + 30, y, text))
        x += 62 + 7 * len(text)
    parts.append(_label(x + 6, y, "height of a lane: all threads of its stage", colour=_FAINT))
    parts.append(_label(_LEFT, y + 24, _MEANING[0], size=12, colour=_FAINT))
    return "".join(parts)


def _label(
    x: int, y: int, text: str, *, size: int = 13, bold: bool = False, colour: str = _INK, anchor: str = "start"
) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{weight}{place}>{text}</text>'


def _title(rows: list[dict[str, Any]], elapsed: float) -> str:
    if not rows:
        return "Nothing was measured"
    images = max(row["images"] for row in rows)
    rate = f", {images / elapsed:,.1f} a second" if elapsed > 0 else ""
    return f"Where the time went: {images:,} {'image' if images == 1 else 'images'} in {_duration(elapsed)}{rate}"


def _most_held(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Find the stage that holds up the others: the busiest, if it is busy nearly always."""
    busiest = max(rows, key=lambda row: row["share"], default=None)
    return busiest if busiest is not None and busiest["share"] >= BOTTLENECK else None


def _bottleneck(rows: list[dict[str, Any]]) -> str:
    ranked = sorted(rows, key=lambda row: -row["share"])
    if not ranked or ranked[0]["share"] == 0:
        return "No stage was busy."
    first = ranked[0]
    who = "its thread was" if first["threads"] == 1 else f"its {first['threads']} threads were"
    next_one = f"; next is {_plain(ranked[1]['stage'])} with {_share(ranked[1])}" if len(ranked) > 1 else ""
    if first["share"] >= BOTTLENECK:
        return f"The bottleneck is {_plain(first['stage'])}: {who} busy {_share(first)} of the time{next_one}."
    return (
        f"No stage is a clear bottleneck: {_plain(first['stage'])} comes nearest, {who} busy {_share(first)} of the "
        f"time{next_one}."
    )


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['share']:.0f} %"


def _rate(row: dict[str, Any]) -> str:
    rate = row["images_per_s"]
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 1000 else f"{rate:,.1f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{round(seconds, 4):.2g} s"
    if seconds < 120:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def _plain(name: str) -> str:
    """Leave out what neither a line of text nor XML can hold."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in name)
