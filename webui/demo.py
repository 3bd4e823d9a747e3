"""The command ``demo``: photos in, a page out, with nothing to set up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from indexer.cli import keep_apart
from indexer.options import DEVICE, JSON, RUNTIME, echo_json, notice, progress_bar
from webui.serve import check_port, run

SYNTHETIC = "These sarees are synthetic: drawn by a program, sold by nobody."


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--folder",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the photos and the catalogue go.",
)
@click.option("--photos", default=20, show_default=True, type=click.IntRange(min=2), help="Drawn for each design.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--serve/--no-serve", default=True, show_default=True, help="Open the page when the index is there.")
@DEVICE
@RUNTIME
@JSON
def demo(
    source: Path | None,
    folder: Path,
    photos: int,
    host: str,
    port: int,
    serve: bool,
    device: str,
    runtime: str,
    as_json: bool,
) -> None:
    """Index SOURCE, or a drawn catalogue of sarees, measure it and open it as a page.

    Without SOURCE everything is made here and works offline: 12 regional traditions, 4 designs each, that differ
    only in border, pallu or motif. A second run finds what the first one made.
    """
    from indexer.catalogue import Catalogue
    from indexer.evaluation import evaluate_catalogue
    from indexer.ingest import ingest
    from indexer.place import ABOUT_FILE
    from retrieval.embedder import Embedder
    from retrieval.errors import InputError
    from retrieval.manifest import read_manifest

    if serve:
        check_port(host, port)
    name, note = "Sarees", None
    place = folder / "catalogue"
    if source is None:
        from retrieval.datasets.sarees import draw_sarees

        note = SYNTHETIC
        with progress_bar("draw") as progress:
            source = draw_sarees(
                folder / "sarees", photos=photos, progress=lambda done, total: progress(done, total, 0)
            )
    else:
        name = source.resolve().stem
        # Two folders called photos are two catalogues.
        mark = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:6]
        place = folder / f"catalogue-{name}-{mark}"
        keep_apart(place, source)
    manifest = read_manifest(source)
    if (place / ABOUT_FILE).exists():
        catalogue = Catalogue.open(place, device=device, runtime=runtime)
    else:
        catalogue = Catalogue.create(
            place, Embedder.create(device=device, runtime=runtime), name=name, note=note, device=device
        )
    with catalogue:
        with progress_bar("index") as progress:
            summary = ingest(catalogue, manifest, progress=progress, notice=notice)
        try:
            report = evaluate_catalogue(catalogue).report
        except InputError:
            report = None  # photos without labels can be searched but not measured
    evaluation = None if report is None else report.to_dict()
    found = {"catalogue": str(place), "index": summary.to_dict(), "evaluation": evaluation}
    if as_json and not serve:
        echo_json(found)
    elif not as_json:
        click.echo(
            f"\n{summary.items:,} items in {place}, {summary.copies:,} of them byte for byte copies of others; "
            f"{summary.embedded:,} embedded now in {summary.seconds:.0f} s, {summary.rejected:,} rejected"
        )
        if report is not None:
            click.echo(
                f"Recall@1 {report.figure('Recall@1').value:.1%}, leave-one-out: {report.queries:,} queries of "
                f"{report.class_count:,} classes, frozen backbone, nothing trained"
            )
    if serve:
        run(place, host=host, port=port, device=device, runtime=runtime, as_json=as_json, also=found)
