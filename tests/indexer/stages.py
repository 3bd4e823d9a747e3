"""A source in memory, pictures that know their number, and the threads of a pipeline."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from retrieval.errors import ImageError

DAMAGED = b"not a picture"
PATIENCE = 10.0
"""Seconds after which an event that has not come never will; a sound run waits for none of them."""
_OURS = re.compile(r"read|gather|decode-\d+|embed-\d+")


def picture(number: int, width: int = 8, height: int = 8) -> bytes:
    """A noisy PNG whose first pixel holds its number."""
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    pixels[0, 0] = (number % 256, number // 256, 7)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def number_of(pixels: np.ndarray) -> int:
    """The number that ``picture`` wrote."""
    return int(pixels[0, 0, 0]) + 256 * int(pixels[0, 0, 1])


class Shelf:
    """Bytes by uri; ``before`` is told the number of each that the reader asks for."""

    def __init__(
        self, contents: Sequence[bytes | ImageError], *, before: Callable[[int], object] = lambda _: None
    ) -> None:
        self.contents = list(contents)
        self.uris = [str(number) for number in range(len(contents))]
        self._before = before

    def read_many(self, uris: Iterable[str]) -> Iterator[bytes | ImageError]:
        for uri in uris:
            self._before(int(uri))
            yield self.contents[int(uri)]


def stage_threads(kind: str = "") -> list[threading.Thread]:
    """The pipeline's threads that live now, or those of a kind: read, decode, gather, embed."""
    return [t for t in threading.enumerate() if _OURS.fullmatch(t.name) and t.name.startswith(kind)]


def wait(event: threading.Event) -> None:
    """Wait for what must come."""
    assert event.wait(PATIENCE), "it never came"
