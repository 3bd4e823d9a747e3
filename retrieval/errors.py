"""The errors of lookalike, one tree.

    LookalikeError            exit 1, HTTP 500   a fault of ours or of the machine
    ├── InputError            exit 2, HTTP 400   what the caller gave cannot be used
    │   ├── ManifestError     exit 2, HTTP 400   a source that cannot be read as a manifest
    │   ├── ProtocolError     exit 2, HTTP 400   a folder that differs from what a benchmark fixes
    │   ├── ImageError        exit 2, HTTP 415   bytes that are no usable image
    │   ├── TooLargeError     exit 2, HTTP 413   an input beyond a stated limit
    │   └── NotFoundError     exit 2, HTTP 404   an id, image or folder that is not there
    ├── EmbedderError         exit 3, HTTP 500   a model or its weights cannot be used
    ├── CatalogueError        exit 4, HTTP 500   a catalogue cannot be used
    │   ├── DamagedError      exit 4, HTTP 500   bytes on disk are not what was written
    │   ├── BusyError         exit 4, HTTP 423   another process is writing the catalogue
    │   └── CannotRemoveError exit 4, HTTP 500   a kind of index that cannot take rows out
    ├── OverloadedError       exit 1, HTTP 503   too many ask at once
    └── MissingExtraError     exit 5, HTTP 501   an optional package is not installed

A message says in one sentence what is wrong, where, and what to do. Commands print it without a
traceback and end with the class's ``exit_code``; the web application answers with its
``http_status``.
"""

from __future__ import annotations


class LookalikeError(Exception):
    """Root of the tree; catching it catches everything lookalike raises on purpose."""

    exit_code: int = 1
    http_status: int = 500


class InputError(LookalikeError):
    """What the caller gave cannot be used."""

    exit_code = 2
    http_status = 400


class ManifestError(InputError):
    """A source that cannot be read as a manifest: empty, unreadable, or without the named column."""


class ProtocolError(InputError):
    """A folder that is not the benchmark it is named as, or cannot be read as one; the message lists how."""


class ImageError(InputError):
    """Bytes that are no usable image; the message is the reason, fit for the rejected table."""

    http_status = 415


class TooLargeError(InputError):
    """An input beyond a stated limit."""

    http_status = 413


class NotFoundError(InputError):
    """An id, image, column or folder that is not there."""

    http_status = 404


class EmbedderError(LookalikeError):
    """A model or its weights cannot be loaded or used."""

    exit_code = 3


class CatalogueError(LookalikeError):
    """A catalogue cannot be used as asked."""

    exit_code = 4


class DamagedError(CatalogueError):
    """Bytes on disk are not what was written; the message names the file and the way to repair it."""


class BusyError(CatalogueError):
    """Another process is writing the catalogue."""

    http_status = 423


class CannotRemoveError(CatalogueError, NotImplementedError):
    """This kind of index cannot take rows out; build it again without them."""


class OverloadedError(LookalikeError):
    """All places were taken for longer than the waiting time.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    http_status = 503

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            f"The server is busy with other searches; please try again in {retry_after} "
            f"second{'s' if retry_after != 1 else ''}."
        )
        self.retry_after = retry_after


class MissingExtraError(LookalikeError):
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 5
    http_status = 501

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: run pip install 'lookalike[{extra}]'"
        )
