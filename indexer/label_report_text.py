"""A measurement of labels as text, for the terminal."""

from __future__ import annotations

import click

from indexer.calibrating import told
from indexer.report_words import count
from retrieval.folders import printable
from retrieval.label_evaluation import LabelReport
from retrieval.model_card import name_of
from retrieval.report import Figure

WORST = 10


def print_label_report(report: LabelReport) -> None:
    """Print the sources side by side, what sets come to, and what is foreign."""
    card = report.embedder
    click.echo(
        f"{report.title}\n{report.protocol}\nembedder {name_of(card)}, {card['dim']} dimensions, "
        f"{card['image_size']} px, digest {card['digest'][:12]}\n"
        f"calibrated on {told(report.calibration)}\n"
    )
    names = list(dict.fromkeys(figure.name for one in report.sources for figure in one.figures))
    width = max(map(len, [*names, "expected calibration error"]))
    click.echo(f"{'':{width}s}" + "".join(f"{one.source:>24s}" for one in report.sources))
    of_sources = [{figure.name: figure for figure in one.figures} for one in report.sources]
    for name in names:
        click.echo(f"{name:{width}s}" + "".join(f"{_cell(of.get(name)):>24s}" for of in of_sources))
    for named, values in (
        ("expected calibration error", [f"{one.classification.calibration_error:.2%}" for one in report.sources]),
        ("risk-coverage area (AURC)", [f"{one.risk_area:.2%}" for one in report.sources]),
        ("log loss, nats", [f"{one.loss:.3f}" for one in report.sources]),
    ):
        click.echo(f"{named:{width}s}" + "".join(f"{value:>24s}" for value in values))
    given = report.answers
    click.echo(
        f"answers as lookalike label gives them, at a confidence of {given.confidence:.0%}: "
        + ", ".join(f"{share:.1%} {said}" for said, share in given.rows())
        + ("" if given.foreign_none is None else f"; of foreign pictures {given.foreign_none:.1%} none of these")
    )
    for asked in report.sources[0].coverages:
        click.echo(
            f"sets at {asked.asked:.0%}: hold the right label for {asked.achieved:.2%}, {asked.size:.2f} labels in the "
            f"mean, {asked.empty:.2%} empty"
            + ("" if asked.foreign_empty is None else f"; of foreign pictures {asked.foreign_empty:.2%} empty")
        )
    if report.auroc is not None:
        click.echo(
            f"known or not, by {report.known_by}: AUROC {report.auroc:.3f}; {report.fpr_at_95:.1%} of the foreign pass "
            "where 95 % of the known do"
        )
    click.echo(
        f"\n{count(report.queries, 'query', 'queries')} by {count(report.items, 'item')} of "
        f"{count(report.labels, 'label')}; {report.foreign:,} of labels that no item has, {report.unlabelled:,} "
        "without a label"
    )
    click.echo("worst recognised:")
    for label, queries, first, _ in report.classes[:WORST]:
        click.echo(f"  {first:7.2%} of {queries:4,d}  {printable(label)}")


def _cell(figure: Figure | None) -> str:
    if figure is None:  # a source without a mistake has no distance of mistakes
        return "-"
    if figure.unit != "share":
        return f"{figure.value:.2f}"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2%}"
    return f"{figure.value:.2%} ({figure.low:.1%}-{figure.high:.1%})"
