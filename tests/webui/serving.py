"""The application on a real socket, in a thread, for tests that need one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from flask import Flask

from webui.server import listen


@contextlib.contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve until the block ends; gives the address without a slash at its end."""
    server = listen(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # In the server's own thread, whose sockets these are; without sockets its loop ends.
        server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map, ignore_all=True))
        thread.join(timeout=20)
        server.task_dispatcher.shutdown()
        assert not thread.is_alive()
