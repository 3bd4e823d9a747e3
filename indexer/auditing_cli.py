"""The command that finds wrong labels, and puts them right: audit."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import CATALOGUE, DEVICE, JSON, echo_json, notice, printable, progress_bar
from indexer.report_words import count, sure

if TYPE_CHECKING:
    from indexer.auditing import Audit

AGAINST: Final = 2  # neighbours that are printed of each finding


@click.command()
@CATALOGUE
@click.option(
    "--split-column",
    metavar="NAME",
    help="Also list the same picture in two splits of this column  [default: split, where there is one]",
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the findings there, to be corrected.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with the pictures to this file.")
@click.option(
    "--apply",
    "corrections",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Give items the labels in the column correction of a CSV file; nothing is looked for.",
)
@click.option("--most", default=50, show_default=True, type=click.IntRange(min=0), help="Findings of a kind to print.")
@DEVICE
@JSON
def audit(
    catalogue: Path,
    split_column: str | None,
    table: Path | None,
    html: Path | None,
    corrections: Path | None,
    most: int,
    device: str,
    as_json: bool,
) -> None:
    """List the items of CATALOGUE whose label is probably wrong, most doubtful first.

    Each is labelled by the others. Look at the findings, write the right label into the column correction of the CSV
    file, and give it back with --apply: a new version of the catalogue, whose next vote is by them.
    """
    from indexer.auditing import audit as find
    from indexer.catalogue import Catalogue
    from indexer.correcting import apply_corrections, check_table, corrections_file, new_labels, read_corrections
    from indexer.files import write_bytes
    from indexer.options import check_page, refuse

    if corrections is not None:
        refuse({"--csv": table, "--html": html, "--split-column": split_column}, "does not go with --apply")
        wanted = read_corrections(corrections)
        with Catalogue.open(catalogue, device=device) as opened:
            strange = new_labels(opened, wanted)
            changed, version = apply_corrections(opened, wanted)
        for label, old in strange.items():
            notice(f"{label!r} is a new label" + ("" if old is None else f"; there is {old!r}, if that was meant"))
        if as_json:
            echo_json({"catalogue": str(catalogue), "changed": changed, "version": version, "new": [*strange]})
        else:
            click.echo(f"{catalogue}: {count(changed, 'label')} corrected (version {version})")
        return
    if html is not None:
        check_page(html)
    if table is not None:
        check_table(table)
    with Catalogue.open(catalogue, device=device) as opened:
        with progress_bar("audit", "steps") as progress:
            found = find(
                opened, split=split_column, progress=lambda done, total: progress(done, total, 0), notice=notice
            )
        if table is not None:
            write_bytes(table, corrections_file(found))
        if html is not None:
            from indexer.audit_page import audit_page

            write_bytes(html, audit_page(opened, found).encode())
    if as_json:
        echo_json({"catalogue": str(catalogue), **found.to_dict()})
        return
    _print_audit(catalogue, found, most)
    for what, path in (("findings", table), ("pictures", html)):
        if path is not None:
            click.echo(f"the {what}: {path}")


def _print_audit(catalogue: Path, found: Audit, most: int) -> None:
    from indexer.auditing import POOR, TOO_WEAK
    from indexer.label_queries import ONLY

    rows = found.findings.to_pylist()
    click.echo(
        f"{catalogue}: {found.items:,} labelled items of {found.labels:,} labels, {count(len(rows), 'finding')}; the "
        f"others agree with {found.agreed:.1%} of the labels"
    )
    if found.agreed < POOR:
        click.echo(f"  {TOO_WEAK.format(agreed=found.agreed)}")
    for kind, group in groupby(rows, lambda row: row["finding"]):
        of_kind = list(group)
        click.echo(f"\n{kind}: {len(of_kind):,}")
        for row in of_kind[:most]:
            click.echo(_said(row))
        if len(of_kind) > most:
            click.echo(f"  and {len(of_kind) - most:,} more: --csv or --html has all of them")
    if found.alike:
        click.echo("\nclasses that may be one, with the share of their images taken for the other one")
        for first, second, share in found.alike[:most]:
            click.echo(f"  {share:.0%}  {printable(first)}  {printable(second)}")
    if found.left_out:
        click.echo(f"\n{count(found.left_out, *ONLY)}, of which nothing can be said")


def _said(row: dict[str, Any]) -> str:
    said = f"  {printable(row['id'])}: {printable(row['label'])}"
    if row["other"] is not None:
        return f"{said}; as {printable(row['other'])}"
    if row["suggested"] != row["label"]:
        said += f"; rather {printable(row['suggested'])} ({sure(row['confidence'])})"
    against = ", ".join(map(printable, row["neighbours"][:AGAINST]))
    return f"{said}; beside {against}" if against else said
