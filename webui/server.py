"""listen: the application on a socket, served by waitress."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from flask import Flask

from retrieval.errors import InputError
from webui.data import MEGABYTE, Site

# For thumbnails and all else that is not a search.
OTHER_THREADS: Final = 6
# A browser holds up to six open; waitress closes the idle ones after the time-out.
CONNECTIONS: Final = 200
IDLE_SECONDS: Final = 30


def listen(app: Flask, host: str = "127.0.0.1", port: int = 8000) -> Any:
    """Bind an application to an address.

    Args:
        app: from ``webui.app.create_app``.
        host: a name or address of this machine; 0.0.0.0 or :: for all of them.
        port: 0 for any that is free.

    Returns:
        A server of waitress: ``effective_port`` is the port, ``run()`` serves until interrupted, ``close()`` ends it.

    Raises:
        InputError: the address is not ours or its port is taken.
    """
    import waitress.server

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(f"port {port} of {host} is in use; choose another with --port") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen at {host} port {port}: {reason}; choose another with --host and --port"
        ) from error
    # Bodies stay in memory, as uploads are never stored: waitress's buffers must not overflow into temporary files.
    # A body somewhat beyond the limit is still read whole, so that a browser gets our sentence and no broken line.
    largest = 2 * app.config["MAX_CONTENT_LENGTH"]
    site: Site = app.extensions["lookalike"]
    # Searches that run or wait hold a thread each; pictures must still come while they do.
    threads = site.settings["concurrency"] + site.settings["queue"] + OTHER_THREADS
    return waitress.server.create_server(
        app,
        sockets=[listening],
        threads=threads,
        connection_limit=CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        max_request_body_size=largest,
        inbuf_overflow=largest,
        outbuf_overflow=16 * MEGABYTE,
        # Nobody needs to know what serves.
        ident=None,
    )


def serve(app: Flask, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve an application until interrupted.

    Raises:
        InputError: the address is not ours or its port is taken.
    """
    listen(app, host, port).run()
