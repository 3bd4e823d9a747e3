"""What the commands share: options, progress, and how values are printed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from retrieval.errors import InputError

CATALOGUE = click.argument("catalogue", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="Where the network and the index run: auto, cpu, cuda, cuda:N."
)
RUNTIME = click.option(
    "--runtime",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What runs the network: auto, torch, openvino, openvino-bf16, ...; lookalike runtimes lists them.",
)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a source is read."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option("--image-column", metavar="NAME", help="Column of the paths or the image bytes."),
        click.option("--id-column", metavar="NAME", help="Column of the ids; default: id, else the path."),
        click.option("--label-column", metavar="NAME", help="Column of the labels; default: label or class."),
        click.option("--split-column", metavar="NAME", help="Column of the splits; default: split."),
        click.option(
            "--root", type=click.Path(path_type=Path), help="Folder of a benchmark, or that paths in a list start from."
        ),
        click.option("--prefix", default="", metavar="TEXT", help="Put before every id."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def refuse(options: Mapping[str, object], why: str) -> None:
    """Raise UsageError for the first option that was given."""
    for name, value in options.items():
        if value:
            raise click.UsageError(f"{name} {why}")


def check_page(path: Path) -> None:
    """Refuse to write a page over anything but a page, or into a folder that is not there."""
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    if path.is_dir() or (path.exists() and path.suffix.lower() not in (".html", ".htm")):
        raise InputError(f"{path} is there already and is no page; give --html a name like hits.html")


def echo_json(value: dict[str, Any]) -> None:
    """Print one JSON object on standard output; dates and other values become text."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


@contextlib.contextmanager
def progress_bar(
    what: str, unit: str = "images", refusals: str = "rejected"
) -> Iterator[Callable[[int, int, int], None]]:
    """Show what is done, its rate, time left and refusals on standard error, from the first one on."""
    from tqdm import tqdm

    # A log file gets a line every ten seconds, a terminal several a second.
    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar: tqdm[Any] | None = None

    def show(done: int, total: int, refused: int) -> None:
        nonlocal bar
        if bar is None:
            # What came before would spoil the time left, and be a line above the error that ended it.
            bar = tqdm(
                desc=what, unit=f" {unit}", total=total, mininterval=interval, maxinterval=interval, dynamic_ncols=True
            )
        bar.total = total
        if refused:
            bar.set_postfix({refusals: refused}, refresh=False)
        bar.update(done - bar.n)
        if done >= total:  # what comes after would spoil the rate
            bar.close()
            bar = None

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def notice(text: str) -> None:
    """Say a sentence on standard error, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def printable(text: str) -> str:
    """Show a name on one line: control characters become escapes."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
