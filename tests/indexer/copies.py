"""Drawn photographs, what is made of them, and catalogues of both, for the tests of the duplicate finder."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from indexer.catalogue import Catalogue
from indexer.duplicates import COPY, LOOKALIKE, Found, find
from indexer.examining import no_bar
from indexer.ingest import REJECT, IngestSummary, ingest
from indexer.screening import Screen
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder

SIZE = WIDTH, HEIGHT = 200, 150
PHOTOS = 12
PLANTED = 16
"""Copies that are planted in a test, enough to draw a line and few enough to be quick."""
SMALL_PICTURES = {0: ("cut", "mirrored"), 1: ("grey",), 2: ("smaller",), 3: ()}
"""Four photos, and copies of three of them: what is drawn of each ..."""
SMALL = {
    frozenset(("0/photo.png", "0/cut.jpg", "0/mirrored.jpg")),
    frozenset(("1/photo.png", "1/grey.jpg")),
    frozenset(("2/photo.png", "2/smaller.jpg")),
}
"""... and what there is to find."""


def photo(number: int, *, again: int = 0) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: shapes on rough ground, another scene for every number.

    Args:
        number: of the scene.
        again: 0, or which other photograph of it: the camera has moved, near things before far ones.
    """
    scene, moment = np.random.default_rng((number, 1)), np.random.default_rng((number, 2, again))
    pixels = np.full((HEIGHT, WIDTH, 3), 128.0)
    for rows, columns, depth in ((3, 4, 70), (12, 16, 30), (50, 66, 18)):
        noise = (scene if rows == 3 else moment).normal(0, depth, (rows, columns, 3)).astype(np.float32)
        for channel in range(3):
            pixels[:, :, channel] += Image.fromarray(noise[:, :, channel]).resize(SIZE, Image.Resampling.BICUBIC)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(14):
        x, y = int(scene.integers(0, WIDTH)), int(scene.integers(0, HEIGHT))
        wide, high = scene.integers(10, 45, 2).tolist()
        fill = tuple(scene.integers(0, 256, 3).tolist())
        letters = "".join(map(chr, scene.integers(65, 91, 4)))
        shape = draw.ellipse if scene.random() < 0.5 else draw.rectangle
        if again:
            x, y = x + int(moment.integers(-7, 8)), y + int(moment.integers(-7, 8))
        shape((x, y, x + wide, y + high), fill=fill)
        draw.text((x + 3, y), letters, fill=(0, 0, 0))
    return np.array(picture)


def _resized(pixels: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((110, 82), Image.Resampling.LANCZOS))


def _recoloured(pixels: np.ndarray) -> np.ndarray:
    return np.clip(0.8 * pixels * (1.1, 0.95, 0.85) + 25, 0, 255).astype(np.uint8)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


EDITS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "saved": lambda pixels: pixels,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "turned": lambda pixels: np.rot90(pixels),
    "cut": lambda pixels: pixels[18:132, 24:176],
    "smaller": _resized,
    "recoloured": _recoloured,
    "grey": _grey,
    "framed": lambda pixels: np.pad(pixels, ((20, 20), (25, 25), (0, 0)), constant_values=255),
}
"""Name → what is done; none of it by ``retrieval.edits``, which the finder plants its own copies with."""


def on_page(pixels: np.ndarray, size: tuple[int, int] = (600, 800), place: tuple[int, int] = (40, 560)) -> np.ndarray:
    """A picture on a large white page of (width, height), its corner at (left, top), with a bar and a title."""
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, size[0], 30), fill=(30, 60, 160))
    draw.text((30, 60), "what came in today", fill=(40, 40, 40), font_size=16)
    page.paste(Image.fromarray(np.ascontiguousarray(pixels)), place)
    return np.array(page)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write a picture, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"quality": 85} if path.suffix == ".jpg" else {"compress_level": 1}
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **{**given, **options})
    return path


def draw(folder: Path, made: Mapping[int, tuple[str, ...]]) -> Path:
    """Write ``<number>/photo.png``, and ``<number>/<edit>.jpg`` for every edit that is named."""
    for number, names in made.items():
        save(folder / str(number) / "photo.png", photo(number))
        for name in names:
            save(folder / str(number) / f"{name}.jpg", EDITS[name](photo(number)))
    return folder


def with_exif(jpeg: bytes) -> bytes:
    """The same JPEG with a title in its EXIF block, every other byte as it was."""
    block = Image.Exif()
    block[0x010E] = "bought in Vienna"
    payload = block.tobytes()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def jpeg(pixels: np.ndarray, quality: int = 85) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()


@contextmanager
def indexed(source: Path, place: Path, embedder: ColourEmbedder | None = None) -> Iterator[Catalogue]:
    """A catalogue of a folder or a list, made or brought up to date."""
    embedder = embedder or ColourEmbedder()
    there = (place / "catalogue.json").exists()
    with Catalogue.open(place, embedder=embedder) if there else Catalogue.create(place, embedder) as catalogue:
        ingest(catalogue, read_manifest(source))
        yield catalogue


def found_in(source: Path, place: Path, **asked: Any) -> Found:
    """Index a source and find its duplicates."""
    with indexed(source, place) as catalogue:
        return find(catalogue, **asked)


def groups_of(found: Found) -> list[list[str]]:
    """Ids by group, the one that is kept first; checks that exactly one of each is kept."""
    groups: dict[int, list[str]] = {}
    for row in found.groups.to_pylist():
        assert row["keep"] == (row["group"] not in groups), row
        groups.setdefault(row["group"], []).append(row["id"])
    assert list(groups) == list(range(1, len(groups) + 1))
    return list(groups.values())


def sets_of(found: Found) -> set[frozenset[str]]:
    """The groups, whatever their order."""
    return {frozenset(ids) for ids in groups_of(found)}


def kinds_of(found: Found) -> dict[frozenset[str], str]:
    """Kind of every pair; checks that no pair stands twice."""
    kinds = {frozenset((row["a"], row["b"])): row["kind"] for row in found.pairs.to_pylist()}
    assert len(kinds) == found.pairs.num_rows
    return kinds


def copies_of(found: Found) -> dict[frozenset[str], str]:
    """The pairs that are called one photograph."""
    return {pair: kind for pair, kind in kinds_of(found).items() if kind != LOOKALIKE}


def edited(found: Found) -> set[frozenset[str]]:
    """The pairs of kind copy."""
    return {pair for pair, kind in kinds_of(found).items() if kind == COPY}


def assert_same(found: Found, expected: Found) -> None:
    """Compare all that two runs have found."""
    assert found.groups.to_pylist() == expected.groups.to_pylist()
    assert found.pairs.to_pylist() == expected.pairs.to_pylist()
    assert found.threshold == expected.threshold


def screened(catalogue: Catalogue, source: Path, copies: str = REJECT, effort: str = "usual") -> IngestSummary:
    """Index a source, copies told."""
    with Screen(catalogue, bars=no_bar, effort=effort, notice=lambda _: None) as screen:
        return ingest(catalogue, read_manifest(source), screen=screen, copies=copies)


def rejected(catalogue: Catalogue) -> dict[str, str]:
    """What was refused, and why."""
    return {row["uri"]: row["reason"] for row in catalogue.rejected.read().to_pylist()}


class Bars:
    """Progress bars that remember, name → all there was to do; and that can interrupt the run.

    Args:
        stop: name of the bar that does, and how many done it takes.
    """

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.totals: dict[str, int] = {}
        self._stop = stop

    @contextmanager
    def __call__(self, what: str, unit: str) -> Iterator[Callable[[int, int, int], None]]:
        def bar(done: int, total: int, refused: int) -> None:
            self.totals[what] = total
            if self._stop is not None and self._stop[0] == what and done >= self._stop[1]:
                raise KeyboardInterrupt

        yield bar
