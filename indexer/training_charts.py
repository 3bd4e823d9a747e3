"""Curves of a training as SVG inside HTML; places across are in per cent, as in ``report_charts``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from indexer.report_words import text

_HEIGHT: Final = 200
_MOST_TICKS: Final = 6
HUES: Final = 4

_TOLD: Final = """
table.told th, table.told td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
table.told td { min-width: 5rem; }
.lines { display: flex; flex-wrap: wrap; gap: 4px 20px; }
.lines li { display: flex; align-items: center; gap: 8px; }
.lines svg { flex: none; overflow: visible; }
svg .kept { stroke: var(--soft); stroke-width: 1.5; }
"""

CURVE_STYLE: Final = _TOLD + "\n".join(
    f"svg .line.hue{at} {{ stroke: var(--hue{at});{dash} }} svg .dot.hue{at} {{ fill: var(--hue{at}); }}"
    for at, dash in enumerate(("", " stroke-dasharray: 7 4;", " stroke-dasharray: 2 4;", " stroke-dasharray: 9 3 2 3;"))
)


@dataclass(frozen=True)
class Series:
    """A line: its name, and (epoch, value) in the order of the epochs."""

    name: str
    points: Sequence[tuple[int, float]]


def curves_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    epochs: int,
    write: Callable[[float], str],
    marked: int = 0,
    floor: float | None = None,
) -> str:
    """Draw lines over epochs, with what they are called below.

    Args:
        name: of the chart in the page, a word.
        title: what it shows.
        series: at most ``HUES``, each of at least one point.
        epochs: of the run.
        write: a value of the axis → its text.
        marked: the epoch that is kept; 0: none.
        floor: least end of the axis; None: as the values have it.
    """
    values = [value for line in series for _, value in line.points]
    ticks = ticks_of(min([*values, *([] if floor is None else [floor])]), max(values))
    low, high = ticks[0], ticks[-1]

    def across(epoch: int) -> float:
        return 50.0 if epochs == 1 else 100 * (epoch - 1) / (epochs - 1)

    def down(value: float) -> float:
        return _HEIGHT * (1 - (value - low) / (high - low))

    parts = []
    for tick in ticks:
        y = down(tick)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="-9" y="{y + 4:.1f}" text-anchor="end">{write(tick)}</text>')
    for epoch in epochs_shown(epochs):
        parts.append(f'<text x="{across(epoch):.2f}%" y="{_HEIGHT + 19}" text-anchor="middle">{epoch:,}</text>')
    parts.append(f'<text x="50%" y="{_HEIGHT + 39}" text-anchor="middle">epoch</text>')
    if marked:
        x = across(marked)
        parts.append(f'<line class="kept" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{_HEIGHT}"/>')
    for at, line in enumerate(series):
        points = " ".join(f"{10 * across(epoch):.1f},{down(value):.1f}" for epoch, value in line.points)
        parts.append(
            f'<svg width="100%" height="{_HEIGHT}" viewBox="0 0 1000 {_HEIGHT}" preserveAspectRatio="none">'
            f'<polyline class="line hue{at}" points="{points}"/></svg>'
        )
        # A line of one point is not to be seen.
        for epoch, value in line.points if len(line.points) < 30 else line.points[-1:]:
            parts.append(f'<circle class="dot hue{at}" cx="{across(epoch):.2f}%" cy="{down(value):.1f}" r="2.5"/>')
    said = "; ".join(f"{text(line.name)} {_told(line, write)}" for line in series)
    return (
        f'<figure><div class="chart {name}"><svg role="img" aria-labelledby="{name}-title {name}-about"'
        f' height="{_HEIGHT + 46}"><title id="{name}-title">{text(title)}</title>'
        f'<desc id="{name}-about">{said}.</desc>{"".join(parts)}</svg></div>'
        f'<figcaption class="key">{_legend(series, kept=bool(marked))}</figcaption></figure>'
    )


def _legend(series: Sequence[Series], *, kept: bool) -> str:
    """Draw a piece of each line, of the same class and so with the same dashes, beside its name."""
    entries = [
        (f'<line class="line hue{at}" x1="0" x2="30" y1="7" y2="7"/>', 30, text(line.name))
        for at, line in enumerate(series)
    ]
    if kept:
        entries.append(('<line class="kept" x1="2" x2="2" y1="0" y2="14"/>', 4, "the epoch that is kept"))
    drawn = "".join(
        f'<li><svg width="{width}" height="14" aria-hidden="true">{line}</svg><span>{name}</span></li>'
        for line, width, name in entries
    )
    return f'<ul class="lines">{drawn}</ul>'


def ticks_of(low: float, high: float) -> list[float]:
    """Round numbers, evenly spaced, that hold a range: at least two."""
    if not high > low:
        low, high = low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0)
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, max(last, first + 1) + 1)]


def epochs_shown(epochs: int) -> list[int]:
    """Choose epochs that are written below a chart: the first, the last, and some between."""
    if epochs <= _MOST_TICKS:
        return list(range(1, epochs + 1))
    steps = [factor * 10**power for power in range(6) for factor in (1, 2, 5)]
    step = next(step for step in steps if epochs / step < _MOST_TICKS)
    between = [epoch for epoch in range(step, epochs, step) if step / 2 <= epochs - epoch and epoch > 1]
    return [1, *between, epochs]


def _told(line: Series, write: Callable[[float], str]) -> str:
    """Say a line: its first and last value, and of more its least and largest."""
    (first, begun), (last, ended) = line.points[0], line.points[-1]
    if first == last:
        return f"{write(begun)} in epoch {first}"
    values = [value for _, value in line.points]
    return (
        f"from {write(begun)} in epoch {first} to {write(ended)} in epoch {last}, "
        f"between {write(min(values))} and {write(max(values))}"
    )
