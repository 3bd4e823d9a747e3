"""What the tests of the pipeline's stages share: a source in memory, numbered pictures, and checks of what came out."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from indexer.decoding import DecodeAhead, Decoded, Memory
from indexer.pipeline import embed_uris
from indexer.vectors import VectorCache
from retrieval.errors import ImageError
from retrieval.images import decode
from tests.embedders import ColourEmbedder

CORES = 4
"""Of the machine, where the fixture ``four_cores`` is used."""
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


class Embedding(ColourEmbedder):
    """Calls a function with the numbers of the pictures of each call, before it embeds them."""

    def __init__(self, during: Callable[[list[int]], object] = lambda _: None, *, at_once: int = 1) -> None:
        super().__init__()
        self._during, self.at_once = during, at_once
        self.tuned: list[int] = []

    def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
        super().tune(sample, expected=expected, notice=notice)
        assert self.seen == 0
        self.tuned.append(len(sample))

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        assert prepared
        assert self.tuned
        self._during([number_of(image) for image in images])
        return super().embed(images)


def drawn(count: int) -> Shelf:
    return Shelf([picture(n) for n in range(count)])


def embed(shelf: Shelf, embedder: ColourEmbedder, cache: Any, *, chunk: int, **more: Any) -> Any:
    return embed_uris(shelf, shelf.uris, embedder, cache, chunk=chunk, **more)  # type: ignore[arg-type]


def digest(number: int) -> bytes:
    return hashlib.sha256(picture(number)).digest()


def vector(data: bytes) -> np.ndarray:
    return ColourEmbedder().embed([decode(data, size=ColourEmbedder.image_size).pixels])[0]


def stored(cache: VectorCache) -> list[bytes]:
    """The keys of all parts, as often as they stand there."""
    return [key for part in cache.parts() for key in pq.read_table(part).column("sha256").to_pylist()]


def check_vectors(cache: VectorCache, numbers: Sequence[int]) -> None:
    """These pictures and no others are in the cache, once, each with its own vector."""
    assert sorted(stored(cache)) == sorted(digest(n) for n in numbers)
    got, present = cache.read(pa.array([digest(n) for n in numbers], pa.binary()))
    assert present.all()
    np.testing.assert_array_equal(got, np.array([vector(picture(n)) for n in numbers]).astype(np.float16))


class Ledger(Memory):
    """Memory that writes down what is taken; under a lock of its own, which comes after the lender's."""

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__(limit)
        self._book = threading.Lock()
        self.used = self.peak = 0

    def take(self, bytes: int) -> int:
        taken = super().take(bytes)
        with self._book:
            self.used += taken
            self.peak = max(self.peak, self.used)
        return taken

    def give_back(self, bytes: int) -> None:
        with self._book:  # first, so that a taker who was waiting for it finds it gone
            self.used -= bytes if bytes < 2**59 else 0  # the opening of all doors, at the end
        super().give_back(bytes)


class Preparing(ColourEmbedder):
    """Calls a function with the number of each picture it prepares."""

    def __init__(self, during: Callable[[int], object]) -> None:
        super().__init__()
        self._during = during

    def prepare(self, image: np.ndarray) -> np.ndarray:
        self._during(number_of(image))
        return image


def ahead_of(
    shelf: Shelf,
    embedder: ColourEmbedder | None = None,
    *,
    memory: Memory | None = None,
    known: set[bytes] | None = None,
) -> DecodeAhead:
    return DecodeAhead(
        shelf,  # type: ignore[arg-type]
        shelf.uris,
        embedder or ColourEmbedder(),
        known=known or set(),
        memory=memory or Ledger(),
    )


def whole(ahead: DecodeAhead, memory: Memory | None = None) -> list[Decoded]:
    """Run to the end, giving back at once."""
    found = []
    with ahead:
        for decoded in ahead:
            found.append(decoded)
            if memory is not None:
                memory.give_back(decoded.bytes)
    return found


def check(found: list[Decoded], numbers: list[int]) -> None:
    """Every picture stands at its place, with the outcome of its own bytes."""
    assert [decoded.outcome.position for decoded in found] == list(range(len(numbers)))
    assert [number_of(decoded.pixels) for decoded in found if decoded.pixels is not None] == numbers
    assert [decoded.outcome.sha256 for decoded in found] == [hashlib.sha256(picture(n)).digest() for n in numbers]
