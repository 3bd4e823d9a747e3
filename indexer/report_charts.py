"""Charts of a report as SVG inside HTML.

Places across are in per cent and places down in pixels, so a chart stretches to the width it gets while its text and
its dots keep their size; colours come from the page's style sheet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from indexer.report_words import count, percent, text
from retrieval.report import Classification, Figure, Point

MAX_POINTS: Final = 2000
"""Points drawn on the map; of more, every second, third, ... is."""
HUES: Final = 8
"""Colours of the map."""
_STEPS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_ROW, _CURVE, _HISTOGRAM, _RELIABILITY, _COUNTS, _MAP = 30, 300, 130, 300, 54, 600  # heights, the map's width too
# Per cent of the width that two values, or two ticks, are apart at least: on a desktop, and on a phone.
_VALUES_APART, _TICKS_APART = (5.2, 15.5), (2.8, 8.0)


class Axis:
    """A range of shares, its ends on round numbers, with places in per cent of its length.

    Args:
        shares: what it must hold.
        most: ticks at the most, less one.
    """

    def __init__(self, shares: Iterable[float], most: int = 5) -> None:
        held = [min(max(share, 0.0), 1.0) for share in shares] or [0.0, 1.0]
        low, high = min(held), max(held)
        step = next((step for step in _STEPS if high - low <= most * step), _STEPS[-1])
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if first == last:
            first, last = (first - 1, last) if last * step >= 1 else (first, last + 1)
        self.low, self.high = first * step, last * step
        self.ticks = [round(place * step, 6) for place in range(first, last + 1)]
        self.decimals = 1 if step < 0.01 else 0

    def place(self, share: float) -> float:
        """Where a share stands, in per cent from the low end."""
        return 100 * min(max((share - self.low) / (self.high - self.low), 0.0), 1.0)

    def tick(self, share: float) -> str:
        """Write a tick."""
        return percent(share, self.decimals)


def whiskers_chart(figures: Sequence[Figure], frozen: Sequence[Figure] = ()) -> str:
    """Draw shares as dots on their intervals, those of the frozen embedder as rings below them.

    Args:
        figures: at least one; those that are no share have no place here.
        frozen: found by their names.
    """
    shares = [figure for figure in figures if figure.unit == "share"]
    rings = {figure.name: figure for figure in frozen if figure.unit == "share"}
    both = [figure for own in shares for figure in (own, rings.get(own.name)) if figure is not None]
    axis = Axis([share for figure in both for share in (figure.low, figure.high, figure.value) if share is not None])
    height = _ROW * len(shares)
    parts = [_upright("grid", axis.place(tick), 0, height) for tick in axis.ticks]
    parts.extend(_word(axis.place(tick), height + 16, axis.tick(tick), anchor="middle") for tick in axis.ticks)
    for row, figure in enumerate(shares):
        middle = _ROW * row + _ROW / 2
        parts.append(f'<text x="-14" y="{middle + 4}" text-anchor="end">{text(figure.name, longest=17)}</text>')
        ring = rings.get(figure.name)
        if ring is not None:
            parts.append(_dot("frozen", ring, axis, middle + 5))
        parts.append(_dot("whisker", figure, axis, middle - (4 if ring is not None else 0)))
    said = ", ".join(f"{text(figure.name)} {percent(figure.value)} %" for figure in shares)
    return _chart("intervals", "Figures with their 95 % intervals", f"{said}.", "".join(parts), height + 22)


def _dot(kind: str, figure: Figure, axis: Axis, y: float) -> str:
    line = ""
    if figure.low is not None and figure.high is not None:
        line = _line(kind, axis.place(figure.low), axis.place(figure.high), y)
    mark = "dot" if kind == "whisker" else kind
    return f'{line}<circle class="{mark}" cx="{axis.place(figure.value):.2f}%" cy="{y}" r="3.5"/>'


def curve_chart(
    curve: Sequence[tuple[int, float]], figures: Sequence[Figure] = (), frozen: Sequence[Figure] = ()
) -> str:
    """Draw Recall@K over K on a logarithmic axis, with the intervals where they are known.

    Args:
        curve: (K, share), K ascending; at least one.
        figures: those named Recall@K or CMC@K give whiskers.
        frozen: of the frozen embedder, drawn as rings.
    """
    ends = curve[0][0], curve[-1][0]
    within = {k: figure for k, figure in _at_k(figures).items() if ends[0] <= k <= ends[1]}
    whiskers = {k: figure for k, figure in within.items() if figure.low is not None}
    rings = {k: figure for k, figure in _at_k(frozen).items() if ends[0] <= k <= ends[1]}
    whole = [share for figure in whiskers.values() for share in (figure.low, figure.high) if share is not None]
    axis = Axis([*whole, *(share for _, share in curve), *(figure.value for figure in rings.values())])

    def down(share: float) -> float:
        return _CURVE * (1 - axis.place(share) / 100)

    parts = [_rules(axis, _CURVE)]
    points = " ".join(f"{10 * _across(k, ends):.1f},{down(share):.1f}" for k, share in curve)
    parts.append(
        f'<svg width="100%" height="{_CURVE}" viewBox="0 0 1000 {_CURVE}" preserveAspectRatio="none">'
        f'<polyline class="line" points="{points}"/></svg>'
    )
    for k, figure in rings.items():
        parts.append(f'<circle class="frozen" cx="{_across(k, ends):.2f}%" cy="{down(figure.value):.1f}" r="4"/>')
    for k, figure in whiskers.items():
        if figure.low is not None and figure.high is not None:
            parts.append(_upright("whisker", _across(k, ends), down(figure.low), down(figure.high)))
    shares = dict(curve)
    ks = [k for k, _ in curve]
    for k, level in _spaced(ks, list(within), ends, _TICKS_APART):
        x = _across(k, ends)
        parts.append(f'<g class="{level}">{_upright("tick", x, _CURVE, _CURVE + 5)}')
        parts.append(f"{_word(x, _CURVE + 19, f'{k:,}', anchor='middle')}</g>")
    labelled = _spaced(ks, list(within), ends, _VALUES_APART)
    for k, level in labelled:
        x, y, last = _across(k, ends), down(shares[k]), k == ks[-1] and len(ks) > 1
        parts.append(
            f'<g class="{level}"><circle class="dot" cx="{x:.2f}%" cy="{y:.1f}" r="3.5"/>'
            f'<text class="value" x="{x:.2f}%" y="{y - 9 if last or y + 20 > _CURVE else y + 17:.1f}"'
            f' dx="{3 if last else 7}" text-anchor="{"end" if last else "start"}">{percent(shares[k])}</text></g>'
        )
    said = ", ".join(f"{percent(shares[k])} % at K = {k:,}" for k, _ in labelled)
    description = f"Share of queries with one of their class among the K nearest: {said}."
    return _chart("curve", "Recall@K over K, K on a logarithmic axis", description, "".join(parts), _CURVE + 28)


def histogram(shares: Sequence[float], name: str) -> str:
    """Draw how many classes have a figure in each tenth of its range.

    Args:
        shares: of all classes, each in [0, 1].
        name: of the figure.
    """
    bins = [0] * 10
    for share in shares:
        bins[min(max(int(10 * share + 1e-9), 0), 9)] += 1
    most = max(*bins, 1)
    parts = []
    for place, number in enumerate(bins):
        height = (_HISTOGRAM - 22) * number / most
        y = _HISTOGRAM - height
        parts.append(f'<rect class="bar" x="{10 * place + 0.3}%" width="9.4%" y="{y:.1f}" height="{height:.1f}"/>')
        parts.append(_word(10 * place + 5, y - 5, f"{number:,}", anchor="middle", kind="value"))
    parts.append(_line("tick", 0, 100, _HISTOGRAM))
    parts.extend(_word(10 * tick, _HISTOGRAM + 16, str(10 * tick), anchor="middle") for tick in range(0, 11, 2))
    said = ", ".join(f"{number:,} from {10 * at} to {10 * at + 10} %" for at, number in enumerate(bins))
    title = f"Classes by {name}"
    description = f"{count(len(shares), 'class', 'classes')}: {said}."
    return _chart("histogram", text(title), description, "".join(parts), _HISTOGRAM + 22)


def reliability(measured: Classification) -> str:
    """Draw accuracy over confidence in equal bins, with the queries of each bin below."""
    wide = 100 / max(len(measured.bins), 1)
    most = max([number for _, _, number in measured.bins], default=0) or 1
    parts = [_rules(Axis([0.0, 1.0]), _RELIABILITY)]
    for place, (confidence, accuracy, number) in enumerate(measured.bins):
        x, width = place * wide + 0.08 * wide, 0.84 * wide
        if accuracy is not None and confidence is not None:
            top = _RELIABILITY * (1 - accuracy)
            parts.append(
                f'<rect class="bar" x="{x:.2f}%" width="{width:.2f}%" y="{top:.1f}" height="{_RELIABILITY - top:.1f}"/>'
            )
            y = _RELIABILITY * (1 - confidence)
            upper, gap = min(y, top), abs(y - top)
            parts.append(f'<rect class="gap" x="{x:.2f}%" width="{width:.2f}%" y="{upper:.1f}" height="{gap:.1f}"/>')
        height = _COUNTS * number / most
        floor = _RELIABILITY + 40 + _COUNTS
        parts.append(
            f'<rect class="faint" x="{x:.2f}%" width="{width:.2f}%" y="{floor - height:.1f}" height="{height:.1f}"/>'
        )
    parts.append(f'<line class="diagonal" x1="0" x2="100%" y1="{_RELIABILITY}" y2="0"/>')
    parts.extend(_line("tick", 0, 100, y) for y in (_RELIABILITY, _RELIABILITY + 40 + _COUNTS))
    parts.extend(_word(20 * tick, _RELIABILITY + 18, str(20 * tick), anchor="middle") for tick in range(6))
    parts.append(_word(0, _RELIABILITY + 36, "queries a bin", anchor="start"))
    description = f"Expected calibration error {percent(measured.calibration_error)} %; the table beside has each bin."
    return _chart("reliability", "Accuracy over confidence", description, "".join(parts), _RELIABILITY + 46 + _COUNTS)


def map_chart(points: Sequence[Point], groups: Sequence[int | None]) -> str:
    """Draw the embedding map: one path a colour, so that thousands of points stay small.

    Args:
        points: at most ``MAX_POINTS``.
        groups: the colour of each, below ``HUES``; None is grey.
    """
    paths: dict[int | None, list[str]] = {None: []}
    for point, group in zip(points, groups, strict=True):
        x, y = (10 + (_MAP - 20) * min(max(share, 0.0), 1.0) for share in (point.x, 1 - point.y))
        paths.setdefault(group, []).append(f"M{x:.0f} {y:.0f}h0")
    drawn = "".join(
        f'<path class="points {"other" if group is None else f"hue{group}"}" d="{"".join(marks)}"/>'
        for group, marks in sorted(paths.items(), key=lambda item: -1 if item[0] is None else item[0])
        if marks
    )
    description = f"{count(len(points), 'image')}; images that the embedder finds alike stand near one another."
    return (
        '<svg class="map" role="img" aria-labelledby="map-title map-about"'
        f' viewBox="0 0 {_MAP} {_MAP}"><title id="map-title">Embedding map</title>'
        f'<desc id="map-about">{description}</desc>{drawn}</svg>'
    )


def _chart(name: str, title: str, description: str, body: str, height: int) -> str:
    return (
        f'<div class="chart {name}"><svg role="img" aria-labelledby="{name}-title {name}-about" height="{height}">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-about">{description}</desc>{body}</svg></div>'
    )


def _rules(axis: Axis, height: int) -> str:
    """Draw the lines across at the ticks of an axis upwards, with their numbers to the left."""
    parts = []
    for tick in axis.ticks:
        y = height * (1 - axis.place(tick) / 100)
        parts.append(_line("grid", 0, 100, round(y, 1)))
        parts.append(f'<text x="-9" y="{y + 4:.1f}" text-anchor="end">{axis.tick(tick)}</text>')
    return "".join(parts)


def _line(kind: str, first: float, last: float, y: float) -> str:
    return f'<line class="{kind}" x1="{first:.2f}%" x2="{last:.2f}%" y1="{y}" y2="{y}"/>'


def _upright(kind: str, x: float, first: float, last: float) -> str:
    return f'<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{first:.1f}" y2="{last:.1f}"/>'


def _word(x: float, y: float, word: str, *, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.2f}%" y="{y:.1f}" text-anchor="{anchor}">{word}</text>'


def _at_k(figures: Sequence[Figure]) -> dict[int, Figure]:
    found = {}
    for figure in figures:
        named = re.fullmatch(r"(?:Recall|CMC)@(\d{1,9})", figure.name)
        if named and int(named[1]) >= 1:
            found[int(named[1])] = figure
    return found


def _spaced(
    ks: Sequence[int], wanted: Sequence[int], ends: tuple[int, int], apart: tuple[float, float]
) -> list[tuple[int, str]]:
    """Choose values of K that can be written without touching.

    Args:
        ks: all, ascending.
        wanted: those that matter most, after the first and the last.
        ends: the first and the last K of the axis.
        apart: per cent of the axis between two of them at least, on a desktop and on a phone.

    Returns:
        (K, "always", or "wide" where a phone has no room for it), K ascending.
    """
    round_ones = [k for k in ks if re.fullmatch("[125]0*", str(k))]
    tens = [k for k in round_ones if str(k)[0] == "1"]
    chosen: dict[int, str] = {}
    for k in dict.fromkeys([ks[0], ks[-1], *(k for k in wanted if k in ks), *tens, *round_ones]):
        gaps = {other: abs(_across(k, ends) - _across(other, ends)) for other in chosen}
        gaps = {other: gap / (1.5 if ks[-1] in (k, other) else 1) for other, gap in gaps.items()}  # 1,000 is wide
        if all(gap >= apart[0] for gap in gaps.values()):
            free = all(gap >= apart[1] for other, gap in gaps.items() if chosen[other] == "always")
            chosen[k] = "always" if free else "wide"
    return sorted(chosen.items())


def _across(k: int, ends: tuple[int, int]) -> float:
    first, last = map(math.log10, ends)
    return 100 * (math.log10(k) - first) / (last - first or 1.0)
