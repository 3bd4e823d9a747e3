"""The commands that keep and find: index, search, info, verify, rejected."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.opening import open_or_create, read_source
from indexer.options import (
    CATALOGUE,
    DEVICE,
    JSON,
    RUNTIME,
    check_page,
    echo_json,
    notice,
    printable,
    progress_bar,
    refuse,
    source_options,
)
from indexer.report_words import count
from retrieval.errors import CatalogueError, InputError

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--catalogue", required=True, type=click.Path(path_type=Path), help="Folder of the catalogue.")
@source_options
@click.option(
    "--embedder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Of a trained embedder, or a catalogue whose embedder is meant, in place of the next three.",
)
@click.option("--backbone", metavar="NAME", help="timm's name of it  [default: tf_efficientnet_lite0]")
@click.option("--weights", type=click.Path(path_type=Path), help="Local safetensors file for the backbone.")
@click.option("--pooling", metavar="NAME", help="native, average, max or gem  [default: native]")
@click.option("--index", "index_spec", metavar="SPEC", help="exact, or a FAISS factory string  [default: exact]")
@click.option("--name", metavar="TEXT", help="What the catalogue is called  [default: its folder's name]")
@click.option("--note", metavar="TEXT", help="A sentence shown to those who look at the catalogue.")
@click.option(
    "--commit-every",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="N",
    help="Images between two commits.",
)
@click.option(
    "--reject-duplicates",
    is_flag=True,
    help="Refuse copies of items, edited ones too, and say where one is better than its item. Of copies that "
    "come in between two commits (512 images at most) the best is taken.",
)
@click.option("--flag-duplicates", is_flag=True, help="Take them, and name in duplicate_of what each is a copy of.")
@click.option("--profile", "profiled", is_flag=True, help="Say where the time went, as a table and a picture.")
@DEVICE
@RUNTIME
@JSON
def index(
    source: Path,
    catalogue: Path,
    embedder: Path | None,
    backbone: str | None,
    weights: Path | None,
    pooling: str | None,
    index_spec: str | None,
    name: str | None,
    note: str | None,
    commit_every: int,
    reject_duplicates: bool,
    flag_duplicates: bool,
    profiled: bool,
    device: str,
    runtime: str,
    as_json: bool,
    **reading: Any,
) -> None:
    """Add the images of SOURCE to a catalogue, which is made when it is not there.

    SOURCE is a folder (its subfolders are the labels), a CSV, TSV or Parquet file, or a Grocery list. A run that was
    stopped goes on where it was; images that are there already are not embedded again.
    """
    from indexer.ingest import FLAG, REJECT, ingest
    from indexer.profile import NO_PROFILE, Profile

    if embedder is not None:
        of_backbone = {"--backbone": backbone, "--weights": weights, "--pooling": pooling}
        refuse(of_backbone, "makes an embedder, and --embedder names one; leave one of them out")
    if reject_duplicates and flag_duplicates:
        raise click.UsageError(
            "copies are rejected or flagged; leave one of --reject-duplicates, --flag-duplicates out"
        )
    keep_apart(catalogue, source)
    manifest = read_source(source, reading)
    with open_or_create(
        catalogue,
        backbone=backbone,
        weights=weights,
        pooling=pooling,
        embedder=embedder,
        device=device,
        runtime=runtime,
        index=index_spec,
        name=name,
        note=note,
    ) as opened:
        profile = Profile() if profiled else NO_PROFILE
        with contextlib.ExitStack() as stack:
            screen = None
            if reject_duplicates or flag_duplicates:
                from indexer.screening import Screen

                screen = stack.enter_context(Screen(opened, bars=progress_bar, notice=notice))
            progress = stack.enter_context(progress_bar("index"))
            summary = ingest(
                opened,
                manifest,
                commit_every=commit_every,
                progress=progress,
                notice=notice,
                profile=profile,
                screen=screen,
                copies=FLAG if flag_duplicates else REJECT,
            )
    if summary.rejected and not summary.added + summary.updated + summary.unchanged:
        raise InputError(
            f"not one of the {count(summary.rejected, 'input')} of {source} became an item; "
            f"see why with lookalike rejected {catalogue}"
        )
    picture = catalogue / "profile.svg"
    if profiled:
        from indexer.files import write_bytes

        try:
            write_bytes(picture, profile.picture().encode())
        except CatalogueError as error:
            notice(str(error))  # everything else is done
    if as_json:
        stages = {"profile": profile.table().to_pylist()} if profiled else {}
        echo_json({"catalogue": str(catalogue), **summary.to_dict(), **stages})
        return
    rate = f", {summary.embedded / summary.seconds:.0f} images/s" if summary.embedded else ""
    rate += f", by {summary.runtime}" if summary.runtime else ""
    click.echo(
        f"{catalogue}: {count(summary.items, 'item')} (version {summary.version})\n"
        f"  added {summary.added:,}, updated {summary.updated:,}, unchanged {summary.unchanged:,}, "
        f"rejected {summary.rejected:,}\n"
        f"  embedded {count(summary.embedded, 'image')} in {summary.seconds:.1f} s{rate}"
    )
    if runtime != "auto" and not summary.embedded:
        click.echo(
            f"  --runtime {runtime} had nothing to do: all vectors are there already (lookalike info says by what)"
        )
    if summary.copies:
        click.echo(f"  {count(summary.copies, 'item has', 'items have')} the same bytes as another item")
    if summary.unlabelled:
        columns = ", ".join(manifest.table.column_names[3:]) or "none"
        one = summary.unlabelled == 1
        click.echo(
            f"  {count(summary.unlabelled, 'image')} of this source {'has' if one else 'have'} no label; "
            + (
                f"put {'it' if one else 'them'} into a folder for each label"
                if source.is_dir()
                else f"--label-column names the column that holds it (there are: {columns})"
            )
        )
    if summary.rejected:
        click.echo(f"  the reasons: lookalike rejected {catalogue}")
    if profiled:
        click.echo(f"\n{profile.text()}\nthe picture: {picture}")


@click.command()
@CATALOGUE
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="[IMAGE]...")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Search by an item of the catalogue; may be repeated.")
@click.option("-k", "--k", default=10, show_default=True, type=click.IntRange(min=1), help="Hits a query.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with the pictures to this file.")
@DEVICE
@RUNTIME
@JSON
def search(
    catalogue: Path,
    images: tuple[Path, ...],
    ids: tuple[str, ...],
    k: int,
    html: Path | None,
    device: str,
    runtime: str,
    as_json: bool,
) -> None:
    """Find the items of CATALOGUE most like each IMAGE, or like items of it.

    An indexed picture, and an item named with --id, finds itself at rank 1.
    """
    from indexer.catalogue import Catalogue
    from indexer.search import check_pictures, read_picture
    from indexer.search import search as find
    from retrieval.folders import printable as as_text

    if bool(images) == bool(ids):
        raise click.UsageError("name one or more pictures, or items with --id, and not both")
    if html is not None:
        check_page(html)
    check_pictures(images)
    with Catalogue.open(catalogue, device=device, runtime=runtime) as opened:
        hits = find(opened, images=images, k=k) if images else find(opened, ids=ids, k=k)
        if html is not None:
            from indexer.files import write_bytes
            from indexer.hits_page import hits_page

            shown = {as_text(str(path)): read_picture(path) for path in images}
            write_bytes(html, hits_page(opened, hits, pictures=shown).encode())
    if as_json:
        echo_json({"hits": hits.to_pylist()})
        return
    _print_hits(hits)
    if html is not None:
        click.echo(f"\nthe pictures: {html}")


@click.command()
@CATALOGUE
@JSON
def info(catalogue: Path, as_json: bool) -> None:
    """Say what CATALOGUE holds."""
    from indexer.calibrating import told
    from indexer.catalogue import Catalogue
    from indexer.description import describe
    from retrieval.model_card import name_of

    with Catalogue.open(catalogue) as opened:
        about = describe(opened)
    if as_json:
        echo_json(about)
        return
    card = about["embedder"]
    click.echo(
        f"{about['name']}: {about['items']:,} items, {about['labels']:,} labels, "
        f"{about['unlabelled']:,} without, version {about['version']}"
    )
    if about["note"]:
        click.echo(f"  note      {about['note']}")
    click.echo(
        f"  embedder  {name_of(card)}, {card['pooling']} pooling, {card['dim']} dimensions, "
        f"{card['image_size']} px, digest {card['digest'][:12]}"
    )
    by = ", ".join(f"{number:,} by {name}" for name, number in about["vectors"].items())
    click.echo(f"  vectors   {by or 'none'}")
    click.echo(f"  index     {about['index']}")
    if (fitted := about["calibration"]) is not None:
        click.echo(f"  labels    {fitted.get('damaged') or f'calibrated on {told(fitted)}'}")
    click.echo(f"  columns   {', '.join(about['columns']) or 'none of your own'}")
    for source, number in about["sources"].items():
        click.echo(f"  source    {source} ({number:,})")
    click.echo(f"  rejected  {about['rejected']:,}")
    click.echo(f"  on disk   {about['bytes'] / 2**20:,.1f} MiB")


@click.command()
@CATALOGUE
@click.option("--sources", is_flag=True, help="Also read every source image and compare it with what was indexed.")
@click.option("--repair", is_flag=True, help="Move damaged vector files aside, so that index makes them anew.")
@JSON
@click.pass_context
def verify(ctx: click.Context, catalogue: Path, sources: bool, repair: bool, as_json: bool) -> None:
    """Check that CATALOGUE is as it was written; ends with 4 when it is not."""
    from indexer.catalogue import Catalogue
    from indexer.verification import verify as check

    with Catalogue.open(catalogue) as opened:
        if sources:
            with progress_bar("verify") as progress:
                problems = check(opened, sources=True, repair=repair, progress=progress)
        else:
            problems = check(opened, repair=repair)
        version, items = opened.version, opened.items(["row"]).num_rows
    if as_json:
        echo_json({"ok": not problems, "version": version, "items": items, "problems": [p.to_dict() for p in problems]})
    elif not problems:
        click.echo(f"{catalogue}: {count(items, 'item')} at version {version}, all well")
    else:
        for problem in problems:
            click.echo(f"{problem.where}: {problem.what}; {problem.remedy}")
    ctx.exit(4 if problems else 0)


@click.command()
@CATALOGUE
@JSON
def rejected(catalogue: Path, as_json: bool) -> None:
    """List the inputs of CATALOGUE that are no items, with the reasons."""
    from indexer.catalogue import Catalogue

    with Catalogue.open(catalogue) as opened:
        rows = opened.rejected.read().sort_by([("source", "ascending"), ("uri", "ascending")]).to_pylist()
    if as_json:
        echo_json({"rejected": [{**row, "when": row["when"].astimezone(UTC).isoformat()} for row in rows]})
        return
    for row in rows:
        when: datetime = row["when"]
        click.echo(f"{when:%Y-%m-%d %H:%M}  {printable(row['uri'])}: {row['reason']}")
    click.echo(f"{len(rows):,} rejected")


def keep_apart(catalogue: Path, source: Path) -> None:
    """Raise InputError where a catalogue would lie inside the folder it is made from, and be read as a part of it."""
    if source.is_dir() and catalogue.resolve().is_relative_to(source.resolve()):
        raise InputError(f"the catalogue {catalogue} would lie inside the folder {source}; put it somewhere else")


def _print_hits(hits: pa.Table) -> None:
    query = None
    for row in hits.to_pylist():
        if row["query"] != query:
            query = row["query"]
            click.echo(f"\n{printable(query)}\n  rank  similarity  label  id")
        click.echo(
            f"  {row['rank']:4d}  {row['similarity']:10.4f}  {printable(row['label'] or '-')}  {printable(row['id'])}"
        )
    if query is None:
        click.echo("no hits: the catalogue is empty")
