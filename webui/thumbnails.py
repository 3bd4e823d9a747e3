"""Thumbnails: drawn once, kept in memory up to a limit, the longest unused dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from indexer.catalogue import Catalogue
from indexer.search import item, thumbnail
from retrieval.errors import InputError
from webui.settings import THUMBNAIL_SIZES


@dataclass(frozen=True)
class Thumbnail:
    """A picture to serve.

    Attributes:
        tag: changes when the picture does.
        jpeg: re-encoded, without metadata; None: the asker has the one with this tag already.
    """

    tag: str
    jpeg: bytes | None


class ThumbnailCache:
    """JPEGs by tag, at most ``max_bytes`` of them; safe in several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def get(self, tag: str) -> bytes | None:
        """Look one up, and remember that it was used."""
        with self._guard:
            if tag not in self._held:
                return None
            self._held.move_to_end(tag)
            return self._held[tag]

    def put(self, tag: str, jpeg: bytes) -> None:
        """Keep one; drop the longest unused ones beyond the limit."""
        with self._guard:
            self._bytes += len(jpeg) - len(self._held.pop(tag, b""))
            self._held[tag] = jpeg
            while self._bytes > self._max_bytes:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= len(dropped)


def draw(catalogue: Catalogue, id: str, *, size: int, cache: ThumbnailCache, have: str | None = None) -> Thumbnail:
    """Draw an item's picture small.

    Args:
        catalogue: where the item is.
        id: of the item.
        size: of the longest side in pixels, one of ``THUMBNAIL_SIZES``.
        cache: asked first, filled after.
        have: the tag of a picture that the asker has.

    Raises:
        InputError: another size.
        NotFoundError: no such item.
        ImageError: its file is gone or is no usable picture any more.
    """
    if size not in THUMBNAIL_SIZES:
        raise InputError(f"size must be one of {', '.join(map(str, THUMBNAIL_SIZES))}, not {size}")
    # Named by the bytes, not by the id: an id whose picture was replaced gets a new tag.
    tag = f"{item(catalogue, id).column('sha256')[0].as_py().hex()[:32]}-{size}"
    if tag == have:
        return Thumbnail(tag, None)
    jpeg = cache.get(tag)
    if jpeg is None:
        jpeg = thumbnail(catalogue, id, size=size)
        cache.put(tag, jpeg)
    return Thumbnail(tag, jpeg)
