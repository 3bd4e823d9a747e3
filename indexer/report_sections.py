"""The parts of a report that show numbers: figures, curve, classes, map and calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from indexer.report_charts import (
    HUES,
    MAX_POINTS,
    curve_chart,
    histogram,
    map_chart,
    reliability,
    whiskers_chart,
)
from indexer.report_words import amount, count, data, decimals_of_interval, label, percent, text, value
from retrieval.report import LEVEL, Classification, ClassRow, Figure, Gain, Report

ALL_CLASSES: Final = 100
"""Up to so many classes, each has a bar."""
WORST_CLASSES: Final = 50
"""Of more classes, so many have one."""
MAX_CONFUSED: Final = 50
_NONE: Final = '<td class="soft">–</td>'


def figures(report: Report) -> str:
    """Show the figures with their intervals, beside those of the frozen backbone."""
    if not report.figures:
        return '<p class="none">Nothing was measured.</p>'
    frozen = {figure.name: figure for figure in report.frozen or ()}
    paired = {gain.name: gain for gain in report.gains}
    decimals = decimals_of_interval(report.figures)
    rows = "".join(
        f'<tr><th scope="row">{data(figure.name)}{_unit(figure)}</th>{_cells(figure, decimals)}'
        f"{_gain(figure, frozen.get(figure.name), paired.get(figure.name)) if frozen else ''}</tr>"
        for figure in report.figures
    )
    columns = "".join(
        f'<th scope="col">{name}</th>' for name in ("value", "95 % interval", "macro mean", "resolves, points")
    )
    against = '<th scope="col">frozen</th><th scope="col">gain, points</th>' if frozen else ""
    corner = '<span class="flag">non-standard</span>' if report.differences else "figure"
    drawn = ""
    if any(figure.unit == "share" for figure in report.figures):
        key = '<span class="swatch dot"></span>measured, in per cent with the 95 % interval'
        key += '<span class="swatch ring"></span>the same backbone, frozen' if frozen else ""
        chart = whiskers_chart(report.figures, report.frozen or ())
        drawn = f'<figure>{chart}<figcaption class="key">{key}</figcaption></figure>'
    return (
        f"<p>In per cent, means over {count(report.queries, 'query', 'queries')}. The interval holds 95 % of the "
        f"values that drawing the {count(report.class_count, 'class', 'classes')} anew gives (bootstrap over "
        "classes); the macro mean counts every class alike. <em>Resolves</em> is the smallest true difference from "
        "another embedder that these queries would show in four of five trials; <code>lookalike compare</code>, "
        "which pairs the queries, resolves less.</p>"
        '<div class="scroll" role="region" aria-label="Table of figures" tabindex="0"><table class="figures">'
        f'<thead><tr><th scope="col">{corner}</th>'
        f"{columns}{against}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_frozen_words(report, frozen)}{drawn}"
    )


def _unit(figure: Figure) -> str:
    return "" if figure.unit == "share" else f' <span class="soft">{data(figure.unit)}</span>'


def _cells(figure: Figure, decimals: int) -> str:
    ends = _NONE
    if figure.low is not None and figure.high is not None:
        ends = f"<td>{amount(figure.low, figure.unit, decimals)} – {amount(figure.high, figure.unit, decimals)}</td>"
    macro = _NONE if figure.macro is None else f"<td>{amount(figure.macro, figure.unit)}</td>"
    resolves = _NONE if figure.resolvable is None else f"<td>{amount(figure.resolvable, figure.unit, decimals)}</td>"
    return f'<td class="lead">{amount(figure.value, figure.unit)}</td>{ends}{macro}{resolves}'


def _gain(figure: Figure, frozen: Figure | None, paired: Gain | None) -> str:
    if frozen is None:
        return _NONE * 2
    gain = (100 if figure.unit == "share" else 1) * (figure.value - frozen.value)
    unsure = paired is not None and paired.p >= LEVEL
    sign = "−" if round(gain, 2) < 0 else "+" if round(gain, 2) > 0 else ""
    mark = '<abbr title="may be chance">†</abbr>' if unsure else ""
    kind = "soft" if unsure else "gain"
    return f'<td>{amount(frozen.value, frozen.unit)}</td><td class="{kind}">{sign}{abs(gain):.2f}{mark}</td>'


def _frozen_words(report: Report, frozen: dict[str, Figure]) -> str:
    note = f"{data(report.frozen_note)}" if report.frozen_note else ""
    if frozen:
        named = f" ({note})" if note else ""
        words = f"Frozen is the same backbone with nothing trained{named}, measured on the same queries."
        if report.gains:
            words += (
                " † The gain may be chance: p is 5 % or more when the two are exchanged for whole classes, query by "
                "query, not corrected for the number of figures."
            )
        return f'<p class="note">{words}</p>'
    if note:
        return f'<p class="note">No frozen row beside it: {note}</p>'
    if str(report.embedder.get("weights")).startswith("file "):
        return '<p class="note">No frozen row beside it: whether weights from a file were trained is not known.</p>'
    return '<p class="note">No frozen row beside it: nothing was trained in this embedder.</p>'


def curve(report: Report) -> str:
    """Show Recall@K over K."""
    if not report.curve:
        return '<p class="none">The curve was not measured.</p>'
    rings = any(figure.name.startswith(("Recall@", "CMC@")) for figure in report.frozen or ())
    keys = '<span class="swatch line"></span>share of queries in per cent over K, with 95 % intervals where measured'
    keys += '<span class="swatch ring"></span>the same backbone, frozen' if rings else ""
    rows = "".join(f"<tr><td>{k:,}</td><td>{percent(share)}</td></tr>" for k, share in _thinned(report.curve))
    return (
        "<p>The share of queries, in per cent, with at least one image of their class among the K nearest. Where it "
        "ends below 100, the right image is not merely low in the list but far away. Mind where the "
        "axis upwards begins.</p>"
        f"<figure>{curve_chart(report.curve, report.figures, report.frozen or ())}"
        f'<figcaption class="key">{keys}</figcaption></figure><details><summary>The values as a table</summary>'
        '<table class="short"><thead><tr><th scope="col">K</th><th scope="col">Recall@K, %</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _thinned(given: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep the points with one digit that counts, and the ends."""
    return [
        point
        for place, point in enumerate(given)
        if place in (0, len(given) - 1) or point[0] < 10 or len(str(point[0]).rstrip("0")) == 1
    ]


def classes(report: Report) -> str:
    """Show the classes as bars, worst first."""
    if not report.classes or not report.figures:
        return '<p class="none">No class was measured.</p>'
    leading = report.figures[0]
    ordered = sorted(report.classes, key=lambda row: (row.values[0] if row.values else 0.0, -row.queries))
    shown = ordered if len(ordered) <= ALL_CLASSES else ordered[:WORST_CLASSES]
    bars = "".join(_bar(row) for row in shown)
    alone = sum(row.queries == 1 for row in report.classes)
    rest = (
        f"the {len(shown)} worst of {report.class_count:,}" if len(shown) < report.class_count else "all, worst first"
    )
    few = f" {count(alone, 'class has', 'classes have')} one query only." if alone else ""
    return (
        f"<p>{data(leading.name)} of each class in per cent, {rest}, with its number of queries: a low bar on few "
        f"queries may be chance, on many it is a class the embedder does not know.{few} The line across the bars is "
        f"the mean over all queries, {percent(leading.value)} %.</p>"
        f"{_spread(report) if len(shown) < len(report.classes) else ''}"
        f'<ol class="bars" style="--mean:{percent(leading.value)}%">{bars}</ol>'
    )


def _bar(row: ClassRow) -> str:
    share = min(max(row.values[0], 0.0), 1.0) if row.values else 0.0
    *parents, name = [part for part in row.label.split("/") if part] or [row.label]
    above = f' <span class="soft">{data(" / ".join(parents))}</span>' if parents else ""
    return (
        f'<li><span class="of" title="{text(row.label)}">{data(name)}{above}</span>'
        f'<span class="n">{row.queries:,}<span class="unseen"> queries, </span></span>'
        f'<span class="bar" aria-hidden="true"><i style="width:{percent(share, 1)}%"></i></span>'
        f'<span class="v">{percent(share, 1)}</span></li>'
    )


def _spread(report: Report) -> str:
    shares = [row.values[0] for row in report.classes if row.values]
    name = report.figures[0].name
    nothing, everything = sum(share <= 0 for share in shares), sum(share >= 1 for share in shares)
    return (
        f'<figure>{histogram(shares, name)}<figcaption class="key">All {len(shares):,} classes by their {data(name)} '
        f"in per cent; {nothing:,} have 0 %, {everything:,} have 100 %</figcaption></figure>"
    )


def embedding_map(report: Report) -> str:
    """Show the images in two dimensions, coloured by class."""
    if not report.points:
        return '<p class="none">The map was not drawn.</p>'
    step = -(-len(report.points) // MAX_POINTS)
    points = report.points[::step]
    of, names, how = _groups(report)
    groups = [names.index(name) if (name := of(point.label)) in names else None for point in points]
    numbers = Counter(groups)
    keys = [
        f'<li><span class="hue hue{place}"></span><span>{label(name)}</span>'
        f'<span class="n">{numbers[place]:,}</span></li>'
        for place, name in enumerate(names)
    ]
    if numbers[None]:
        keys.append(
            '<li><span class="hue other"></span><span class="name soft">all others</span>'
            f'<span class="n">{numbers[None]:,}</span></li>'
        )
    thinned = f" Of {step} images, one is drawn." if step > 1 else ""
    return (
        "<p>Each point is an image; near points are alike to the embedder. Read the neighbourhoods, not the axes or "
        f"the distances between far groups: two dimensions cannot keep them. {how}{thinned}</p>"
        f'<figure class="mapped">{map_chart(points, groups)}<figcaption><ul class="legend">{"".join(keys)}</ul>'
        "</figcaption></figure>"
    )


def _groups(report: Report) -> tuple[Callable[[str], str], list[str], str]:
    """Choose what the map's colours mean: how to get a group from a label, the groups, and a sentence."""

    def top(label: str) -> str:
        return label.split("/")[0]

    def whole(label: str) -> str:
        return label

    tops = Counter(top(point.label) for point in report.points)
    pathed = sum("/" in point.label for point in report.points)
    if pathed > len(report.points) / 2 and len(tops) >= 2:
        names = [name for name, _ in tops.most_common(HUES)]
        return top, names, "Colours are the top level of the labels."
    drawn = Counter(point.label for point in report.points)
    wrong = {row.label: row.queries * (1 - row.values[0]) for row in report.classes if row.values}
    ranked = sorted(drawn, key=lambda name: (-wrong.get(name, 0.0), -drawn[name], name))
    few = len(drawn) <= HUES
    how = "Colours are the classes." if few else f"Coloured are the {HUES} classes with the most wrong queries."
    return whole, ranked[:HUES], how


def calibration(report: Report) -> str:
    """Show whether confidence can be believed, and which classes are taken for which."""
    if report.classification is None:
        return '<p class="none">No confidence was measured.</p>'
    return confidence(report.classification)


def confidence(measured: Classification) -> str:
    """Show how far confidence can be believed, and what is taken for what."""
    rows = "".join(
        f"<tr><td>{100 * place / len(measured.bins):.0f} – {100 * (place + 1) / len(measured.bins):.0f}</td>"
        f"<td>{number:,}</td>{_NONE if sure is None else f'<td>{percent(sure, 1)}</td>'}"
        f"{_NONE if right is None else f'<td>{percent(right, 1)}</td>'}</tr>"
        for place, (sure, right, number) in enumerate(measured.bins)
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("bin, %", "queries", "confidence", "accuracy"))
    pairs = "".join(
        f'<li><span class="pairing"><span>{label(true)}</span><span class="arrow" aria-label="taken for">→</span>'
        f'<span>{label(taken)}</span></span><span class="n">{value(number)}</span></li>'
        for true, taken, number in measured.confused[:MAX_CONFUSED]
    )
    confused = f'<ol class="confused">{pairs}</ol>' if pairs else '<p class="none">No class was taken for another.</p>'
    return (
        "<p>Where bars meet the diagonal, a confidence of 80 % means right in 80 of 100 cases; a gap on top of a bar "
        "is too much confidence, one inside it too little. The expected calibration error, the mean gap weighted by "
        f"queries, is <strong>{percent(measured.calibration_error)} %</strong>.</p>"
        f'<div class="side-by-side"><figure>{reliability(measured)}<figcaption class="key">'
        '<span class="swatch block"></span>accuracy, % <span class="swatch gap"></span>gap to confidence; '
        "across, confidence in %</figcaption></figure>"
        f'<table class="short"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<h3>Most confused</h3><p>True class → predicted class, with the number of queries.</p>{confused}"
    )
