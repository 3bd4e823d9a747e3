"""A measurement of labels as one HTML file that opens offline."""

from __future__ import annotations

from functools import partial
from typing import Final

from indexer.calibrating import told
from indexer.report_frame import Part, framed, table
from indexer.report_sections import confidence
from indexer.report_style import STYLE
from indexer.report_words import amount, count, data, label, percent, text, value
from retrieval.label_evaluation import LabelReport, OfSource
from retrieval.model_card import name_of
from retrieval.report import Figure

CLASSES: Final = 100  # rows of the table of classes
_HEIGHT: Final = 180
_CALLED: Final = {"fusion": "vote and head together", "knn": "vote of the nearest", "head": "classifier head"}
_OWN: Final = """
.risk { height: 12rem; width: 100%; overflow: visible; border: solid var(--line); border-width: 0 0 1px 1px; }
.ends { display: flex; justify-content: space-between; }
.risk path { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke; }
"""


def label_report_page(report: LabelReport) -> str:
    """Draw a measurement of labels as a page that loads nothing from elsewhere."""
    parts: list[Part] = [
        ("figures", "Figures", partial(_figures, report)),
        *(
            (f"confidence-{one.source}", f"Confidence: {_CALLED[one.source]}", partial(confidence, one.classification))
            for one in report.sources
        ),
        ("answers", "Answers as they are given", partial(_answers, report)),
        ("risk", "Risk over coverage", partial(_risk, report)),
        ("sets", "Sets of labels", partial(_sets, report)),
        ("known", "Known or not", partial(_known, report)),
        ("classes", "Classes", partial(_classes, report)),
    ]
    head = (
        '<header><p class="brand">lookalike <span>evaluation of labels</span></p>'
        f'<h1>{data(report.title)}</h1><p class="protocol">{data(report.protocol)}</p><p>'
        f"{count(report.queries, 'query', 'queries')} by {count(report.items, 'item')} of "
        f"{count(report.labels, 'label')}; {report.foreign:,} of labels that no item has, {report.unlabelled:,} "
        f"without a label. Embedder {data(name_of(report.embedder))}, digest "
        f"<code>{text(report.embedder['digest'][:12])}</code>; calibrated on {data(told(report.calibration))}."
        "</p></header>"
    )
    return framed(f"{report.title} – labels", STYLE + _OWN, head, parts)


def _figures(report: LabelReport) -> str:
    names = list(dict.fromkeys(figure.name for one in report.sources for figure in one.figures))
    of_sources = [{figure.name: figure for figure in one.figures} for one in report.sources]
    rows = [[data(name), *(_cell(of.get(name)) for of in of_sources)] for name in names]
    rows += [
        ["expected calibration error", *(percent(one.classification.calibration_error) for one in report.sources)],
        ["area under risk over coverage", *(percent(one.risk_area) for one in report.sources)],
        ["log loss, nats", *(f"{one.loss:.3f}" for one in report.sources)],
    ]
    columns = ["figure", *(_CALLED[one.source] for one in report.sources)]
    return (
        "<p>In per cent, with 95 % intervals by bootstrap over classes. The first column is what an answer is made of."
        f"</p>{table(columns, rows, 'figures', 'figures')}"
    )


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    said = amount(figure.value, figure.unit)
    if figure.low is None or figure.high is None:
        return said
    return f"{said} <small>{amount(figure.low, figure.unit, 1)} – {amount(figure.high, figure.unit, 1)}</small>"


def _answers(report: LabelReport) -> str:
    given = report.answers
    rows = [[text(said), percent(share)] for said, share in given.rows()]
    foreign = (
        ""
        if given.foreign_none is None
        else f"<p>Of labels that no item has, {percent(given.foreign_none)} % are told as none of these.</p>"
    )
    return (
        f"<p>What lookalike label says of these pictures unless asked otherwise, where a label has to be "
        f"{percent(given.confidence, 0)} % probable.</p>"
        f"{table(['answer', 'queries, %'], rows, 'answers', 'figures')}{foreign}"
    )


def _risk(report: LabelReport) -> str:
    first = report.sources[0]
    top = max(0.01, max(risk for _, risk in first.risk))
    points = " L".join(f"{100 * coverage:.2f} {_HEIGHT * (1 - risk / top):.1f}" for coverage, risk in first.risk)
    rows = [
        [percent(coverage, 0), percent(risk)] for coverage, risk in first.risk[:: -max(1, len(first.risk) // 10)][::-1]
    ]
    return (
        f"<p>If only the surest answers are given, by {_CALLED[first.source]}: how many of those are wrong, in per "
        f'cent. Upwards to {percent(top)} %.</p><figure><svg class="risk" viewBox="0 0 100 {_HEIGHT}" '
        f'height="{_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Risk over coverage">'
        f'<path d="M{points}"/></svg><figcaption class="ends"><span>none answered</span><span>all answered</span>'
        "</figcaption></figure>"
        f"{table(['answered, %', 'wrong, %'], rows, 'risk over coverage', 'figures')}"
    )


def _sets(report: LabelReport) -> str:
    if not any(one.coverages for one in report.sources):
        return '<p class="none">Too few pictures were held out for sets.</p>'

    def rows(one: OfSource) -> list[list[str]]:
        return [
            [
                percent(each.asked, 0),
                percent(each.achieved),
                f"{each.size:.2f}",
                percent(each.empty),
                *([] if each.foreign_empty is None else [percent(each.foreign_empty)]),
            ]
            for each in one.coverages
        ]

    columns = ["asked, %", "held, %", "labels", "empty, %"]
    columns += ["foreign empty, %"] if report.foreign else []
    tables = [
        f"<h3>{_CALLED[one.source].capitalize()}</h3>{table(columns, rows(one), f'sets by {one.source}', 'figures')}"
        for one in report.sources
        if one.coverages
    ]
    return (
        "<p>A set of labels shall hold the right one as often as was asked. It does so where these queries are like "
        "the pictures of the calibration (exchangeable with them); where they come from elsewhere, this is the honest "
        "figure. Labels: how many a set has in the mean. An empty set says: none of these.</p>" + "".join(tables)
    )


def _known(report: LabelReport) -> str:
    if report.auroc is None or report.fpr_at_95 is None:
        return (
            '<p class="none">All queries are of labels that the catalogue has. Queries of other labels measure how '
            "well those are told.</p>"
        )
    return (
        f"<p>By the {data(report.known_by)}: of a known and a foreign picture the known one scores higher in "
        f"<strong>{percent(report.auroc)} %</strong> of cases (AUROC); where 95 % of the known pass, "
        f"<strong>{percent(report.fpr_at_95)} %</strong> of the foreign do.</p>"
    )


def _classes(report: LabelReport) -> str:
    rows = [
        [label(name), value(queries), percent(first), percent(five)]
        for name, queries, first, five in report.classes[:CLASSES]
    ]
    more = len(report.classes) - CLASSES
    told = f"<p>{more:,} better recognised ones are not listed; report.json has all.</p>" if more > 0 else ""
    return f"{table(['label', 'queries', 'Top-1, %', 'Top-5, %'], rows, 'classes', 'figures')}{told}"
