"""What a catalogue holds, by id, bytes and pixels: read once, and kept up while pictures come in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Held:
    """An item, as far as a copy of it is concerned; width and height in pixels."""

    id: str
    sha256: bytes
    width: int
    height: int


class Holdings:
    """The items of a catalogue, and those that were added since.

    Args:
        items: columns id, sha256, width and height, in ascending row.
        pixels: SHA-256 of bytes → of their pixels, of what could be read.
    """

    def __init__(self, items: pa.Table, pixels: Mapping[bytes, bytes]) -> None:
        self._by_id: dict[str, Held] = {}
        self._by_bytes: dict[bytes, list[Held]] = {}
        self._by_pixels: dict[bytes, list[bytes]] = defaultdict(list)
        columns = (items.column(name).to_pylist() for name in ("id", "sha256", "width", "height"))
        for one in map(Held, *columns):
            self.put(one, pixels.get(one.sha256))

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._by_bytes

    def of_id(self, id: str) -> Held | None:
        """The item of this id."""
        return self._by_id.get(id)

    def of_bytes(self, sha256: bytes) -> Held | None:
        """The first item of these bytes."""
        return self._by_bytes[sha256][0] if sha256 in self._by_bytes else None

    def of_pixels(self, pixels: bytes) -> Held | None:
        """The first item of these pixels."""
        return next((self._by_bytes[key][0] for key in self._by_pixels.get(pixels, ()) if key in self), None)

    def put(self, one: Held, pixels: bytes | None) -> None:
        """Add an item, in place of the one of the same id; ``pixels`` of what could be read."""
        was = self._by_id.get(one.id)
        if was != one:
            if was is not None:
                of_bytes = self._by_bytes[was.sha256]
                of_bytes.remove(was)
                if not of_bytes:
                    del self._by_bytes[was.sha256]
            self._by_id[one.id] = one
            self._by_bytes.setdefault(one.sha256, []).append(one)
        if pixels is not None and one.sha256 not in self._by_pixels[pixels]:
            self._by_pixels[pixels].append(one.sha256)
