"""Tuning to a catalogue's own images, and the command ``runtimes``: what can run its network here, and how fast."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import DEVICE, JSON, echo_json
from retrieval.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from indexer.catalogue import Catalogue
    from indexer.embeds import Embeds
    from retrieval.runtime_choice import Measurement

PICTURES: Final = 64
"""Of a catalogue, that runtimes are tried on: enough to calibrate 8-bit numbers."""


@click.command()
@click.argument("catalogue", required=False, type=click.Path(path_type=Path))
@click.option("--runtime", "names", multiple=True, metavar="NAME", help="Try only this one; may be repeated.")
@DEVICE
@JSON
def runtimes(catalogue: Path | None, names: tuple[str, ...], device: str, as_json: bool) -> None:
    """Try what can run the network of CATALOGUE here, on its own images, and remember the fastest.

    Those whose vectors drift from float32 beyond the bound are shown and not chosen. With --runtime nothing is
    remembered. Without CATALOGUE: the runtimes there are, and what to install for them.
    """
    if catalogue is None:
        if names:
            raise InputError("name a catalogue whose images the runtimes are to be tried on")
        _list(as_json)
        return
    from indexer.catalogue import Catalogue
    from retrieval.conversions import cache_folder
    from retrieval.embedder import Embedder
    from retrieval.runtimes import AUTO, resolve

    with Catalogue.open(catalogue, device=device) as opened:
        embedder = opened.embedder()
        assert isinstance(embedder, Embedder), "a catalogue on disk has an embedder of ours"
        wanted = [resolve(name, embedder.device) for name in names] or None
        if wanted and AUTO in wanted:
            raise InputError("auto is what is measured here; leave --runtime away, or name others")
        sample = pictures_of(opened, embedder)
        if not as_json:
            click.echo(f"{len(sample)} images of {catalogue}, on {embedder.device}")
            click.echo("runtime             at once  images/s   mean cosine     least   ready after")
        choice, kept = embedder.measure(sample, names=wanted, on_done=lambda _: None if as_json else _show(_))
    if as_json:
        measured = [asdict(measurement) for measurement in choice.measured]
        echo_json({"chosen": choice.runtime, "remembered": kept, "why": choice.why, "measured": measured})
    elif kept:
        click.echo(f"\n{choice.runtime} is used from now on: {choice.why}")
    elif wanted is None:
        click.echo(
            f"\n{choice.runtime} is {choice.why}; not remembered: too few images, or {cache_folder()} is read-only"
        )


def pictures_of(catalogue: Catalogue, embedder: Embeds) -> list[np.ndarray]:
    """Read some of a catalogue's images, spread over it, and bring them to the network's size.

    Raises:
        InputError: not one can be read.
    """
    from retrieval.errors import ImageError
    from retrieval.images import decode
    from retrieval.sources import ImageSource

    items = catalogue.items(["source", "uri"])
    step = max(1, items.num_rows // PICTURES)
    sample = []
    for row in items.take(list(range(0, items.num_rows, step))[:PICTURES]).to_pylist():
        try:
            with ImageSource(Path(row["source"])) as source:
                picture = decode(source.read(row["uri"]), size=embedder.image_size)
        except (ImageError, OSError, InputError):
            continue  # moved since; others stand for it
        sample.append(embedder.prepare(picture.pixels))
    if not sample:
        raise InputError(f"not one image of {catalogue.path} can be read where it was indexed; index something first")
    return sample


def _show(measurement: Measurement) -> None:
    row = measurement
    if row.failure is not None:
        click.echo(f"{row.runtime:19s} {row.at_once:7d}  cannot be used: {row.failure}")
        return
    from retrieval.runtimes import RUNTIMES

    remark = "" if row.usable else "  drifts beyond the bound"
    if not RUNTIMES[row.runtime].bounded:
        remark += "  only when asked for"
    click.echo(
        f"{row.runtime:19s} {row.at_once:7d} {row.images_per_s:9.1f} {row.mean:13.5f} {row.minimum:9.5f} "
        f"{row.build_s:11.1f} s{remark}"
    )


def _list(as_json: bool) -> None:
    from retrieval.runtimes import RUNTIMES, missing_module

    rows: list[dict[str, Any]] = []
    for name, kind in RUNTIMES.items():
        missing = missing_module(name)
        install = f"pip install 'lookalike[{kind.extra}]'" if missing else None
        rows.append({"runtime": name, "what": kind.help, "devices": list(kind.devices), "install": install})
    if as_json:
        echo_json({"runtimes": rows})
        return
    for row in rows:
        click.echo(f"{row['runtime']:19s} {row['what']} ({', '.join(row['devices'])}){_hint(row)}")


def _hint(row: dict[str, Any]) -> str:
    return f"; not installed: {row['install']}" if row["install"] else ""
