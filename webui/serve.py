"""The command ``serve``: a catalogue as a web page and JSON API."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from indexer.options import CATALOGUE, DEVICE, JSON, RUNTIME, echo_json
from retrieval.errors import InputError, LookalikeError
from webui.settings import SETTINGS

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every row of ``SETTINGS``."""
    for setting in reversed(SETTINGS):
        unit = f" [{setting.unit}]" if setting.unit else ""
        command = click.option(
            f"--{setting.name.replace('_', '-')}",
            type=type(setting.default),
            default=setting.default,
            show_default=True,
            help=setting.help + unit,
        )(command)
    return command


@click.command()
@CATALOGUE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is the whole net.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@setting_options
@DEVICE
@RUNTIME
@JSON
def serve(catalogue: Path, host: str, port: int, device: str, runtime: str, as_json: bool, **settings: Any) -> None:
    """Open CATALOGUE as a web page, with the same as JSON under /api; Ctrl-C ends it."""
    run(catalogue, host=host, port=port, device=device, runtime=runtime, as_json=as_json, **settings)


def check_port(host: str, port: int) -> None:
    """Raise InputError when something listens there already, before long work is done for nothing."""
    if port:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            raise InputError(f"port {port} of {host} is in use; choose another with --port")


def warm_up(catalogue: Catalogue) -> None:
    """Load the network and settle what runs it, so that the first search does not wait for that."""
    from indexer.tuning import pictures_of

    try:
        embedder = catalogue.embedder()
        try:
            sample = pictures_of(catalogue, embedder)
        except InputError:
            return  # an empty catalogue, or photos that have moved: the first search does it
        embedder.tune(sample, expected=len(sample), notice=lambda _: None)
    except LookalikeError as error:
        logging.getLogger("lookalike").warning("searching by picture will not work: %s", error)


def run(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    runtime: str = "auto",
    as_json: bool = False,
    also: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> None:
    """Serve a catalogue until interrupted; prints the address, and in JSON ``also``, once it answers there."""
    from indexer.catalogue import Catalogue
    from webui.app import create_app
    from webui.server import listen

    with Catalogue.open(path, device=device, runtime=runtime) as opened:
        threading.Thread(target=warm_up, args=(opened,), name="warm-up", daemon=True).start()
        app = create_app(opened, **settings)
        server = listen(app, host, port)
        address = f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{server.effective_port}/"  # noqa: S104
        count = opened.items(["row"]).num_rows
        if as_json:
            echo_json({"address": address, "items": count, **also})
        else:
            click.echo(f"{opened.about['name']}, {count:,} items: {address}\nCtrl-C ends it.")
        server.run()
