"""Photos with planted copies in a folder, and the truth about them.

The folder is flat and its files sort as the truth does: originals ``g00000.jpg`` (grocery), ``c00000.jpg`` (cars),
``f00000.jpg`` (fashion), and ``x00000-crop-2.jpg`` for the copy of the original with that number. Every copy has a
generator of its own, so a run that was interrupted makes the rest, and the same arguments give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._duplicate_figures import Truth
from retrieval.edits import EDITS, STRENGTHS, edited
from retrieval.images import decode, encode_jpeg
from retrieval.machine import cores

QUALITY: Final = 90
PLAIN: Final = 2
VERSION: Final = 1
"""Of the planting: raised whenever the same arguments would give other files."""

# Byte-identical source photos of Cars under two labels each; both of a pair are cut to their own box.
CAR_PAIRS: Final = (
    ("00050", "03436"), ("00151", "04892"), ("00595", "03516"), ("02045", "04665"), ("02456", "02598"),
    ("02641", "07765"), ("02843", "06839"), ("04223", "06153"), ("04250", "06713"), ("05334", "05614"),
    ("06353", "07381"),
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A photo as it comes: ``g``, ``c`` or ``f`` for its source, the name it has there, and how to read it."""

    source: str
    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Copy:
    """A copy to plant: the place of its original among the photos, the edit (``crop+flip`` for two) and strength."""

    original: int
    edit: str
    strength: int

    @property
    def name(self) -> str:
        """Its file."""
        return f"x{self.original:05d}-{self.edit}-{self.strength}.jpg"

    def make(self, pixels: np.ndarray, seed: int) -> bytes:
        """Make it from the pixels of its original."""
        rng = np.random.default_rng([VERSION, seed, self.original, zlib.crc32(self.edit.encode()), self.strength])
        return encode_jpeg(edited(pixels, self.edit, self.strength, rng), quality=QUALITY)


def photos(folder: Path, sources: str = "gc") -> list[Photo]:
    """The real photos: Grocery (train, val, test), Cars, Fashion, of those that ``sources`` names by letter."""
    found: list[Photo] = []
    if "g" in sources:
        root = folder / "grocery" / "dataset"
        for path in sorted(path for part in ("train", "val", "test") for path in (root / part).rglob("*.jpg")):
            found.append(Photo("g", str(path.relative_to(root)), path.read_bytes))
    if "c" in sources:
        found += _of_parquet(folder / "cars" / "cars196-train-half.parquet", "c", "file")
    if "f" in sources:
        found += _of_parquet(folder / "fashion" / "products.parquet", "f", "product_id")
    return found


def _of_parquet(path: Path, source: str, name: str) -> list[Photo]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=[name, "image"])
    names, images = table.column(name).to_pylist(), table.column("image").to_pylist()
    return [Photo(source, told, lambda data=data: data) for told, data in zip(names, images, strict=True)]  # type: ignore[misc]


def same_photograph(every: Sequence[Photo], *, progress: Callable[[int, int, int], None]) -> np.ndarray:
    """Number the photographs: (n,) int64, the same number for those with the same bytes and for the pairs of Cars."""
    digests: dict[bytes, int] = {}
    number = np.empty(len(every), np.int64)
    for place, photo in enumerate(every):
        number[place] = digests.setdefault(hashlib.sha256(photo.read()).digest(), place)
        if place % 100 == 99 or place + 1 == len(every):
            progress(place + 1, len(every), 0)
    place_of = {Path(photo.name).stem: place for place, photo in enumerate(every) if photo.source == "c"}
    for first, second in CAR_PAIRS:
        if first in place_of and second in place_of:
            number[number == number[place_of[second]]] = number[place_of[first]]
    return number


def choose_originals(every: Sequence[Photo], number: np.ndarray, *, of_each: dict[str, int], seed: int) -> list[int]:
    """Draw so many photos of each source, each the only one of its photograph: places in ascending order."""
    rng = np.random.default_rng([VERSION, seed])
    alone = np.isin(number, np.flatnonzero(np.bincount(number) == 1))
    chosen: list[int] = []
    for source, count in of_each.items():
        places = np.flatnonzero(alone & np.array([photo.source == source for photo in every]))
        chosen += rng.choice(places, min(count, len(places)), replace=False).tolist()
    return sorted(chosen)


def choose_copies(originals: Sequence[int], *, each: int | None, pairs: int, seed: int) -> list[Copy]:
    """Decide what is planted.

    Args:
        originals: places of the photos that are copied.
        each: copies of each original, drawn so that every edit at every strength, and two edits together, come
            equally often, give or take one; None: every edit at every strength, and ``pairs`` pairs of edits.
        pairs: of different edits at plain strength, for each original, drawn at random.
        seed: any number from 0.
    """
    rng = np.random.default_rng([VERSION, seed, 1])
    single = [(edit, strength) for edit in EDITS for strength in STRENGTHS]
    double = [f"{first}+{second}" for first, second in itertools.permutations(EDITS, 2)]
    if each is None:
        return [
            Copy(place, edit, strength)
            for place in originals
            for edit, strength in [*single, *((edit, PLAIN) for edit in rng.choice(double, pairs, replace=False))]
        ]
    # Pairs of edits are drawn in the share that they have of the whole design.
    deck: list[tuple[str, int] | None] = [*single, *[None] * pairs]
    every = min(each, len(deck))
    stack: list[tuple[str, int] | None] = []
    copies: list[Copy] = []
    for place in originals:
        taken: dict[tuple[str, int], None] = {}
        put_back: list[tuple[str, int] | None] = []
        while len(taken) < every:
            if not stack:
                stack = [deck[at] for at in rng.permutation(len(deck))]
            card = stack.pop()
            kind = (str(rng.choice(double)), PLAIN) if card is None else card
            if kind in taken:  # from the deck before; it stays for the next original
                put_back.append(card)
                continue
            taken[kind] = None
        stack += put_back
        copies += [Copy(place, edit, strength) for edit, strength in taken]
    return copies


def plant(
    folder: Path,
    every: Sequence[Photo],
    places: Sequence[int],
    copies: Sequence[Copy],
    *,
    seed: int,
    record: dict[str, Any],
    progress: Callable[[int, int, int], None],
) -> None:
    """Write the photos at ``places`` and the copies that are not there yet into ``folder``.

    Raises:
        SystemExit: the folder holds what other arguments made.
    """
    record = {"version": VERSION, "quality": QUALITY, "seed": seed, **record}
    plan = folder.with_name("plan.json")
    if plan.exists() and json.loads(plan.read_text()) != record:
        raise SystemExit(f"{folder.parent} was made with other arguments ({plan.read_text()}); give another --work")
    folder.mkdir(parents=True, exist_ok=True)
    plan.write_text(json.dumps(record))
    there = {path.name for path in folder.iterdir()}
    of_original: dict[int, list[Copy]] = {place: [] for place in places}
    for copy in copies:
        of_original[copy.original].append(copy)

    def write(place: int) -> int:
        photo, planted = every[place], of_original[place]
        missing = [copy for copy in planted if copy.name not in there]
        own = name_of(place, photo)
        if missing or own not in there:
            data = photo.read()
            if own not in there:
                write_whole(folder / own, data)
            pixels = decode(data).pixels if missing else np.empty(0)
            for copy in missing:
                write_whole(folder / copy.name, copy.make(pixels, seed))
        return 1 + len(planted)

    total, done = len(places) + len(copies), 0
    with closing(_ahead(write, places)) as counts:
        for count in counts:
            done += count
            progress(done, total, 0)


def name_of(place: int, photo: Photo) -> str:
    """The file of an original."""
    return f"{photo.source}{place:05d}.jpg"


def _ahead(work: Callable[[int], int], places: Sequence[int]) -> Generator[int]:
    """Work on all cores, in order; what has not begun is given up when the caller stops."""
    threads = ThreadPoolExecutor(cores())
    try:
        yield from threads.map(work, places)
    finally:
        threads.shutdown(cancel_futures=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a part that is left behind has no name of a picture."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def truth_of(every: Sequence[Photo], number: np.ndarray, places: Sequence[int], copies: Sequence[Copy]) -> Truth:
    """Put together what is known of the files, in the order of their names."""
    rows = [(name_of(at, every[at]), int(number[at]), at, "", 0) for at in places]
    rows += [(copy.name, int(number[copy.original]), copy.original, copy.edit, copy.strength) for copy in copies]
    return Truth.of(sorted(rows))


def write_truth(truth: Truth, path: Path) -> None:
    """Write the truth beside the pictures, for who looks at them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "photograph", "original", "edit", "strength"])
        columns = (truth.names, truth.photo.tolist(), truth.original.tolist(), truth.edit, truth.strength.tolist())
        writer.writerows(zip(*columns, strict=True))
