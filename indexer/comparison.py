"""Evaluations of the same queries beside each other: paired differences, not two intervals held side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.report_files import read_report
from retrieval.errors import InputError
from retrieval.model_card import name_of
from retrieval.pairing import AT_K, scores
from retrieval.recognition import COARSE
from retrieval.report import Report
from retrieval.uncertainty import Comparison, Spread, difference_over_seeds, over_seeds, paired_permutation

ALWAYS: Final = ("MAP@R", "R-Precision", "Top-1 accuracy", "Top-5 accuracy", COARSE)


@dataclass(frozen=True)
class Side:
    """One thing that is compared: the runs of it.

    Attributes:
        name: for the table.
        paths: of its reports.
        embedder: card of the first run.
        runs: how many.
    """

    name: str
    paths: Sequence[str]
    embedder: dict[str, Any]
    runs: int


@dataclass(frozen=True)
class Row:
    """One figure of one side beside that of the first.

    Attributes:
        figure: "Recall@1", ...
        side: place in ``Compared.sides``, from 1.
        first: mean of the first side, over queries and runs.
        value: mean of this one.
        paired: this side less the first, query by query, each query's mean over runs.
        seeds: the difference run by run, where both sides have as many runs, at least two; else None.
    """

    figure: str
    side: int
    first: float
    value: float
    paired: Comparison
    seeds: Spread | None


@dataclass(frozen=True)
class Compared:
    """The paired table.

    Attributes:
        title: of the benchmark or catalogue.
        protocol: how, in words.
        warnings: what makes the sides unequal, a sentence each.
        sides: what is compared; the first is what the others are compared with.
        spread: figure → for each side its value over runs; None where it has one run.
        rows: figures of the other sides.
    """

    title: str
    protocol: str
    warnings: Sequence[str]
    sides: Sequence[Side]
    spread: Mapping[str, Sequence[Spread | None]]
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Print it."""
        lines = [self.title, self.protocol, *(f"WARNING: {warning}" for warning in self.warnings), ""]
        for place, side in enumerate(self.sides):
            card = side.embedder
            what = f"{name_of(card)}, {card.get('pooling')} pooling, {card.get('dim')} dimensions"
            what += f", vectors by {' and '.join(card['runtimes'])}" if card.get("runtimes") else ""
            runs = f", {side.runs} runs" if side.runs > 1 else ""
            lines.append(f"{_letter(place)}  {side.name}: {what}, digest {str(card.get('digest'))[:12]}{runs}")
        for figure, spread in self.spread.items():
            lines += [
                f"   {_letter(place)} {figure}: {_over(runs, '.2%')}"
                for place, runs in enumerate(spread)
                if runs is not None
            ]
        if not self.rows:
            return "\n".join(lines)
        lines.append(f"\n{'':14s}       A    other   difference    95 % interval          p   resolves")
        for row in self.rows:
            it = row.paired
            ends = f"{it.low:+7.2%} to {it.high:+7.2%}" if it.low is not None and it.high is not None else f"{'-':>18s}"
            least = f"{it.resolvable:7.2%}" if it.resolvable is not None else f"{'-':>7s}"
            lines.append(
                f"{_letter(row.side)} {row.figure:12s} {row.first:7.2%}  {row.value:7.2%}      {it.difference:+7.2%}   "
                f"{ends}   {it.p:7.4f}   {least}"
            )
            if row.seeds is not None:
                lines.append(f"{'':14s} run by run {_over(row.seeds, '+.2%')}")
        it = self.rows[0].paired
        lines.append(
            f"\n{it.queries:,} queries of {it.classes:,} classes, paired: each difference is this one less A.\n"
            "95 % interval by bootstrap over classes; p by exchanging the two for whole classes, two-sided, not "
            f"corrected for {len(self.rows)} rows;\n"
            "resolves: the smallest true difference that would be found in four of five trials (power 80 %)."
        )
        return "\n".join(lines)


def _over(spread: Spread, form: str) -> str:
    """Word the spread over runs."""
    if spread.deviation is None or spread.low is None or spread.high is None:
        return format(spread.mean, form)
    return (
        f"{spread.mean:{form}}, standard deviation of a run {spread.deviation:.2%}, "
        f"95 % interval of the mean {spread.low:{form}} to {spread.high:{form}} ({spread.runs} runs)"
    )


def compare_reports(groups: Sequence[Sequence[Path]], *, every: bool = False) -> Compared:
    """Compare evaluations with the first, query by query.

    Args:
        groups: for each side the reports of its runs.
        every: all figures of single queries, not only the leading ones.

    Raises:
        InputError: a report is none, or they are not of the same queries.
        DamagedError: the queries beside a report are missing or others.
    """
    loaded = [[(path, *read_report(path)) for path in group] for group in groups]
    reports = [(path, report, table) for group in loaded for path, report, table in group]
    path, report, table = reports[0]
    for other_path, other, other_table in reports[1:]:
        _check_same(path, report, table, other_path, other, other_table)
    labels = np.unique(np.array(table.column("label").to_pylist()), return_inverse=True)[1]
    names = [figure.name for figure in report.figures]
    values = [[scores(table, names) for _, _, table in group] for group in loaded]
    shared = [
        name
        for name in values[0][0]
        if (every or name in ALWAYS or AT_K.fullmatch(name)) and all(name in run for side in values for run in side)
    ]
    means = [{name: np.mean([run[name] for run in side], axis=0) for name in shared} for side in values]
    sides = [
        Side(str(group[0][0]), [str(path) for path, _, _ in group], group[0][1].embedder, len(group))
        for group in loaded
    ]
    spread = {
        name: [over_seeds([float(run[name].mean()) for run in side]) if len(side) > 1 else None for side in values]
        for name in shared
        if any(len(side) > 1 for side in values)
    }
    rows = []
    for place in range(1, len(values)):
        paired_runs = len(values[place]) == len(values[0]) > 1
        for name in shared:
            first, other = means[0][name], means[place][name]
            over = [[float(run[name].mean()) for run in side] for side in (values[place], values[0])]
            seeds = difference_over_seeds(*over) if paired_runs else None
            paired = paired_permutation(other, first, labels)
            rows.append(Row(name, place, float(first.mean()), float(other.mean()), paired, seeds))
    return Compared(
        report.title,
        report.protocol,
        [*_warnings(reports), *(told for group in loaded for told in _of_runs(group))],
        sides,
        spread,
        rows,
    )


def _check_same(
    path: Path, report: Report, table: pa.Table, other_path: Path, other: Report, other_table: pa.Table
) -> None:
    """Raise InputError where two reports are not of the same queries and figures."""
    if report.task != other.task:
        raise InputError(f"{path} is of the task {report.task} and {other_path} of {other.task}; compare equal tasks")
    ours, theirs = (
        dict(zip(*(it.column(name).to_pylist() for name in ("id", "label")), strict=True))
        for it in (table, other_table)
    )
    if ours != theirs:
        here, there = len(ours.keys() - theirs.keys()), len(theirs.keys() - ours.keys())
        relabelled = sum(ours[id] != theirs[id] for id in ours.keys() & theirs.keys())
        raise InputError(
            f"{path} and {other_path} were not measured on the same queries: {here:,} are only in the first, {there:,} "
            f"only in the second, {relabelled:,} have another label; evaluate both on one test set"
        )


def _warnings(reports: Sequence[tuple[Path, Report, pa.Table]]) -> list[str]:
    first = reports[0][1]
    found = []
    for path, report, _ in reports:
        if report.differences:
            found.append(f"{path} is non-standard: {'; '.join(report.differences)}")
        if report.gallery != first.gallery:
            found.append(f"{path} searched {report.gallery:,} images, and the first {first.gallery:,}")
        if report.protocol != first.protocol:
            found.append(f"{path} was measured otherwise: {report.protocol}")
        runtimes = [set(it.embedder.get("runtimes") or {}) for it in (report, first)]
        if runtimes[0] != runtimes[1]:
            found.append(f"{path} has vectors by {' and '.join(sorted(runtimes[0])) or 'nobody knows what'}")
    return found


def _of_runs(group: Sequence[tuple[Path, Report, pa.Table]]) -> list[str]:
    """Say where the runs of one side are not runs of one thing."""
    found = []
    (first, report, _), *others = group
    for path, other, _ in others:
        if path.resolve() == first.resolve():
            found.append(f"{path} is there twice, as if it were two runs")
        same = ("backbone", "tag", "pooling", "dim", "image_size")
        if [other.embedder.get(key) for key in same] != [report.embedder.get(key) for key in same]:
            found.append(f"{first} and {path} are joined as runs of one thing, and are two: {name_of(other.embedder)}")
    return found


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"#{place + 1}"
