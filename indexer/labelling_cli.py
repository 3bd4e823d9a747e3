"""The commands that tell labels, label and calibrate, and what measures them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import (
    CATALOGUE,
    DEVICE,
    JSON,
    RUNTIME,
    echo_json,
    notice,
    printable,
    progress_bar,
    source_options,
)
from indexer.report_words import sure
from retrieval.errors import InputError

if TYPE_CHECKING:
    from indexer.calibrating import Kept
    from indexer.catalogue import Catalogue

SOURCES: Final = ("fusion", "knn", "head")
STRICT: Final = 0.05  # share of unknown pictures that pass, of which calibrate says what it costs
NAMED: Final = 10  # labels of a set that are printed
POOR: Final = 0.8
"""AUROC of known against unknown below which calibrate says that it is little."""
SHARE: Final = click.FloatRange(min=0, max=1)


@click.command()
@CATALOGUE
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="[IMAGE]...")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Label an item, by the others; may be repeated.")
@click.option(
    "--confidence",
    default=0.8,
    show_default=True,
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="P",
    help="Say the deepest label that is this probable.",
)
@click.option(
    "--false-accept",
    type=SHARE,
    metavar="P",
    help="Share of pictures of none of the labels that may pass for one  [default: as many as do where 95 % of the "
    "others are let pass]",
)
@click.option(
    "--coverage",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    metavar="P",
    help="Also give a set of labels that holds the right one this often.",
)
@click.option("--by-label", is_flag=True, help="With --coverage: for the pictures of each label.")
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="What says the label: nearest items, the classifier head, or both  [default: both where there is a head]",
)
@click.option(
    "--prior",
    "priors",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="What is known of the pictures besides, such as region=Goa; may be repeated. Sets of labels do not heed it.",
)
@DEVICE
@RUNTIME
@JSON
def label(
    catalogue: Path,
    images: tuple[Path, ...],
    ids: tuple[str, ...],
    confidence: float,
    false_accept: float | None,
    coverage: float | None,
    by_label: bool,
    source: Any,
    priors: tuple[str, ...],
    device: str,
    runtime: str,
    as_json: bool,
) -> None:
    """Say what each IMAGE is, by the labelled items of CATALOGUE, and how sure that is.

    Labels are paths, such as Fruit/Apple/Gala: where the whole label is not sure enough, the part that is. A picture
    that is like nothing in the catalogue is "none of these". The confidence is calibrated, on the items themselves
    unless lookalike calibrate was given held-out pictures.
    """
    from indexer.catalogue import Catalogue
    from indexer.labelling import label as tell
    from indexer.search import check_pictures
    from retrieval.answers import Asked

    if bool(images) == bool(ids):
        raise click.UsageError("name one or more pictures, or items with --id, and not both")
    if by_label and coverage is None:
        raise click.UsageError("--by-label goes with --coverage")
    known = _priors(priors)
    check_pictures(images)
    asked = Asked(source, confidence, false_accept, coverage, by_label)
    with Catalogue.open(catalogue, device=device, runtime=runtime) as opened:
        kept = _calibrated(opened, catalogue)
        table = (
            tell(opened, images=images, asked=asked, known=known, kept=kept)
            if images
            else tell(opened, ids=ids, asked=asked, known=known, kept=kept)
        )
    if as_json:
        echo_json({"labels": table.to_pylist(), "calibration": kept.about})
        return
    from indexer.calibrating import told

    for row in table.to_pylist():
        _print_answer(row, coverage)
    caution = kept.about["caution"]
    click.echo(f"\nhow sure that is was fitted on {told(kept.about)}" + (f"; {caution}" if caution else ""))


@click.command()
@CATALOGUE
@click.option(
    "--on",
    "source",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="Labelled pictures that neither the catalogue nor the embedder's training has  [default: the items, each left "
    "out in turn]",
)
@source_options
@DEVICE
@RUNTIME
@JSON
def calibrate(catalogue: Path, source: Path | None, device: str, runtime: str, as_json: bool, **reading: Any) -> None:
    """Fit how sure the labels of CATALOGUE are, on held-out pictures.

    How many neighbours vote and how, what vote and classifier head weigh, what looks like no label at all, and the
    nonconformities of sets of labels. It becomes a new version of the catalogue, and is in force until the next.
    """
    from indexer.calibrating import calibrate as fit
    from indexer.catalogue import Catalogue
    from indexer.label_queries import pictures_of
    from indexer.opening import read_source
    from indexer.options import refuse

    if source is None:
        refuse({f"--{name.replace('_', '-')}": value for name, value in reading.items()}, "goes with --on")
    with Catalogue.open(catalogue, device=device, runtime=runtime) as opened:
        pictures = None
        if source is not None:
            manifest = read_source(source, reading)
            with progress_bar("embed") as embedding:
                pictures = pictures_of(opened, manifest, progress=embedding, notice=notice)
        with progress_bar("calibrate", "steps") as progress:
            kept = fit(opened, pictures=pictures, progress=lambda done, total: progress(done, total, 0), notice=notice)
        if as_json:
            echo_json({"catalogue": str(catalogue), "version": opened.version, **_summary(kept)})
            return
        _print_calibration(opened, kept)


def _priors(given: Sequence[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for prior in given:
        column, sign, value = prior.partition("=")
        if not sign or not column or not value:
            raise InputError(f"--prior {prior!r} is no COLUMN=VALUE, such as region=Goa")
        if known.setdefault(column, value) != value:
            raise InputError(f"--prior says two things of {column!r}: {known[column]!r} and {value!r}")
    return known


def _print_answer(row: dict[str, Any], coverage: float | None) -> None:
    click.echo(f"\n{printable(row['query'])}")
    likeliest = f"{printable(row['likeliest'])} ({sure(row['likeliest_confidence'])})"
    if row["answer"] == "none of these":
        click.echo(f"  none of these; the nearest label is {likeliest}")
    elif row["answer"] == "unsure":
        click.echo(f"  unsure; perhaps {likeliest}")
    else:
        said = f"  {printable(row['label'])} ({sure(row['confidence'])})"
        below = row["likeliest"].removeprefix(row["label"]).lstrip("/")
        click.echo(said + (f", perhaps {printable(below)} ({sure(row['likeliest_confidence'])})" if below else ""))
    if coverage is not None:
        inside = ", ".join(map(printable, row["set"][:NAMED])) or (
            "empty: none of these"
            if row["answer"] == "none of these"
            else "empty: less like the items than that share of what is known"
        )
        if len(row["set"]) > NAMED:
            inside = f"{len(row['set']):,} labels, {inside}, ..."
        elif row["set"] and row["answer"] == "none of these":
            inside = f"{inside}, if it is any"
        click.echo(f"  set at {100 * coverage:g}%: {inside}")
    click.echo(f"  nearest item: {printable(row['nearest'] or '-')}, similarity {row['similarity'] or 0:.4f}")


def _summary(kept: Kept) -> dict[str, Any]:
    fitted = kept.calibration
    openness = fitted.numbers.openness
    return {
        **kept.about,
        "pictures": fitted.pictures,
        "loss": dict(fitted.losses),
        "voting": {"k": fitted.numbers.voting.k, "temperature": fitted.numbers.voting.temperature},
        "known_by": openness.score,
        "auroc": openness.auroc,
        "fpr_at_95": openness.fpr_at_95,
        "refused": openness.refused(),
        "passed": openness.passed(),
        "refused_at_5": openness.refused(STRICT),
    }


def _print_calibration(catalogue: Catalogue, kept: Kept) -> None:
    from indexer.calibrating import told
    from indexer.voters import learned_from

    about = _summary(kept)
    click.echo(
        f"{catalogue.path.name}: calibrated on {about['pictures']:,} pictures of {told(about)} "
        f"(version {catalogue.version})\n"
        f"  labels     {about['labels']:,}, of {about['items']:,} items\n"
        f"  vote       the {about['voting']['k']} nearest, temperature {about['voting']['temperature']:g}\n"
        f"  known by   {about['known_by']}; AUROC {about['auroc']:.3f}\n"
        f"  none of these is said of {about['refused']:.1%} of the known pictures, and {about['passed']:.1%} of the "
        f"unknown pass; with --false-accept {STRICT:g} it is said of {about['refused_at_5']:.1%} of the known"
    )
    if learned_from(catalogue) is not None:
        click.echo("    of labels that the embedder has learned and are taken away; new ones pass more often")
    if about["auroc"] < POOR:
        click.echo("    which is hard to tell here; an embedder trained on these labels tells it better")
    for source, loss in about["loss"].items():
        click.echo(f"  {source:10s} the right label is given {sure(math.exp(-loss))} (geometric mean)")


def measure_labels(
    path: Path,
    source: Path | None,
    priors: Sequence[str],
    out: Path | None,
    device: str,
    runtime: str,
    reading: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Do what ``lookalike evaluate --labels`` says."""
    from indexer.catalogue import Catalogue
    from indexer.label_evaluating import evaluate_catalogue_labels
    from indexer.label_queries import pictures_of
    from indexer.label_report_page import label_report_page
    from indexer.label_report_text import print_label_report
    from indexer.opening import read_source
    from indexer.report_files import about_run, check_folder, write_sealed

    if source is None and priors:
        raise click.UsageError("--prior goes with --queries")
    with Catalogue.open(path, device=device, runtime=runtime) as opened:
        if out is not None:
            check_folder(out, title=str(opened.about["name"]), digest=opened.digest)
        kept = _calibrated(opened, path)
        pictures = None
        if source is not None:
            with progress_bar("embed") as embedding:
                pictures = pictures_of(
                    opened, read_source(source, reading), columns=priors, progress=embedding, notice=notice
                )
        known = {} if pictures is None else pictures.values
        report, table = evaluate_catalogue_labels(opened, kept, pictures=pictures, known=known, notice=notice)
    report = replace(report, about=about_run())
    if out is not None:
        write_sealed(out, report.to_dict(), label_report_page(report), table)
    if as_json:
        echo_json({**report.to_dict(), "out": None if out is None else str(out)})
        return
    print_label_report(report)
    if out is not None:
        click.echo(f"\nthe report: {out / 'report.html'}")


def _calibrated(opened: Catalogue, path: Path) -> Kept:
    """The calibration in force, made when there is none; and a word where it is old."""
    from indexer.calibrating import age_of, calibration_of
    from indexer.calibrating import calibrate as fit

    kept = calibration_of(opened)
    if kept is None:
        notice(f"calibrating the labels of {path} first, on its own items; it is kept for the next time")
        with progress_bar("calibrate", "steps") as progress:
            return fit(opened, progress=lambda done, total: progress(done, total, 0), notice=notice)
    if (age := age_of(opened, kept)) is not None:
        notice(age)
    return kept
