"""Uploads: the picture of a request, held in memory for as long as the request lasts and nowhere else."""

from __future__ import annotations

import io
from typing import IO, Any, Final

from flask import Request

from retrieval.errors import ImageError, InputError, TooLargeError
from webui.data import MEGABYTE

FIELD: Final = "image"
MAX_PARTS: Final = 8
# Werkzeug holds its own read buffer against this too, so it must be some times 64 KiB.
MAX_TEXT_BYTES: Final = 256 * 1024
# What a form weighs besides the picture.
ENVELOPE_BYTES: Final = 100_000


class MemoryRequest(Request):
    """A request whose uploaded files are never written to disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        # Werkzeug's own spools to a temporary file above 500 kB.
        return io.BytesIO()


def read_upload(request: Request, *, max_upload: int) -> bytes:
    """Read the one picture of a request: the form field ``image``, or the whole body where the type is a picture's.

    What the sender says of name and type is not believed; ``retrieval.images`` looks at the bytes.

    Args:
        request: a POST.
        max_upload: megabytes.

    Raises:
        InputError: there is no picture in it.
        ImageError: the picture has no bytes.
        TooLargeError: it has too many.
    """
    if request.mimetype.startswith("image/") or request.mimetype == "application/octet-stream":
        data = request.get_data(cache=False)
    else:
        file = request.files.get(FIELD)
        # A browser sends an empty part without a name where no file was chosen.
        if file is None or not file.filename:
            raise InputError(f"there is no picture in the request: choose one first (field {FIELD!r} of the form)")
        data = file.read()
    if not data:
        raise ImageError("this picture cannot be used: empty file")
    if len(data) > max_upload * MEGABYTE:
        raise too_large(max_upload)
    return data


def too_large(max_upload: int) -> TooLargeError:
    """Say that an upload is larger than ``max_upload`` megabytes."""
    return TooLargeError(f"this picture is larger than {max_upload} MB; choose a smaller one")


def form_config(max_upload: int) -> dict[str, Any]:
    """Give Flask's configuration for uploads of at most ``max_upload`` megabytes."""
    return {
        "MAX_CONTENT_LENGTH": max_upload * MEGABYTE + ENVELOPE_BYTES,
        "MAX_FORM_PARTS": MAX_PARTS,
        "MAX_FORM_MEMORY_SIZE": MAX_TEXT_BYTES,
    }
