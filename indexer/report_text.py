"""A report as text, for the terminal."""

from __future__ import annotations

from typing import Final

import click

from indexer.report_words import count, left_out
from retrieval.folders import printable
from retrieval.model_card import name_of
from retrieval.report import LEVEL, Figure, Report

SHOWN: Final = 10
"""Rejected images that are named."""


def print_report(report: Report) -> None:
    """Print figures beside the frozen ones, and what they were measured on."""
    card = report.embedder
    click.echo(
        f"{report.title}\n{report.protocol}\nembedder {name_of(card)}, {card['pooling']} pooling, "
        f"{card['dim']} dimensions, {card['image_size']} px, digest {card['digest'][:12]}"
    )
    if card.get("runtimes"):
        click.echo(f"vectors by {' and '.join(card['runtimes'])}")
    if report.differences:
        click.echo("\nNON-STANDARD: this number does not compare with published ones")
        for difference in report.differences:
            click.echo(f"  - {difference}")
    named = {
        figure.name: figure.name + ("" if figure.unit == "share" else f", {figure.unit}") for figure in report.figures
    }
    width = max(map(len, named.values()))
    beside = {figure.name: figure for figure in report.frozen or ()}
    paired = {gain.name: gain.p for gain in report.gains if gain.name in beside}
    heading = f"{'':{width}s}            95 % interval          macro   resolves"
    click.echo(f"\n{heading}{'     frozen     gain' if beside else ''}")
    for figure in report.figures:
        unsure = paired.get(figure.name, 0.0) >= LEVEL
        click.echo(_line(figure, named[figure.name], beside.get(figure.name), width).rstrip() + ("†" if unsure else ""))
    if any(p >= LEVEL for p in paired.values()):
        click.echo("† the gain may be chance: p is 5 % or more, query by query, the two exchanged for whole classes")
    if report.frozen_note:
        click.echo(f"frozen: {report.frozen_note}")
    if report.classification is not None:
        click.echo(f"expected calibration error {report.classification.calibration_error:.2%} over 15 bins")
    against = f" against {count(report.gallery, 'image')}" if report.gallery else ""
    click.echo(
        f"\n{count(report.queries, 'query', 'queries')} of {count(report.class_count, 'class', 'classes')}{against}; "
        f"left out: {report.left_out:,} {left_out(report.gallery)}, {report.unlabelled:,} without a label, "
        f"{len(report.rejected):,} rejected"
    )
    for uri, reason in report.rejected[:SHOWN]:
        click.echo(f"  rejected {printable(uri)}: {reason}")
    same = len(report.pairs) + report.pairs_left_out - report.candidates
    if same:
        click.echo(
            f"the same bytes twice: {count(same, 'pair')}, {report.leaks:,} of them across the split, "
            f"{report.conflicts:,} with two different labels"
        )
    if report.candidates:
        click.echo(
            f"nearly the same vector, two different labels: {count(report.candidates, 'pair')}, maybe of one picture"
        )


def _line(figure: Figure, name: str, frozen: Figure | None, width: int) -> str:
    def show(value: float | None, form: str = "7.2%") -> str:
        if value is None:
            return f"{'-':>7s}"
        return f"{value:7.2f}" if figure.unit != "share" else format(value, form)

    ends = f"{show(figure.low)} to {show(figure.high)}" if figure.low is not None else f"{'-':>18s}"
    line = f"{name:{width}s}   {show(figure.value)}   {ends}    {show(figure.macro)}    {show(figure.resolvable)}"
    if frozen is not None:
        line += f"    {show(frozen.value)}  {show(figure.value - frozen.value, '+7.2%')}"
    return line
