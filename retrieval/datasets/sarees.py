"""A synthetic saree catalogue: 12 regional traditions x 4 designs x 20 photos, drawn here, with planted faults.

Every picture is computed (NumPy, and Pillow to draw and encode; no photograph, no trained model), so the set can be
drawn offline and passed on freely. The same seed gives the same bytes on one platform, whatever the number of workers:
each picture has a random generator of its own, PCG64 seeded by (seed, tradition, design, photo).

Designs of one tradition share region, weave, colours and prices and differ only in border, pallu or motif, so that what
a search must see is fine. Planted, and recorded in ``ground_truth.csv`` only: exact duplicates, edited copies, wrong
labels.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from retrieval.datasets.saree_cloth import weave
from retrieval.datasets.saree_designs import TRADITIONS
from retrieval.datasets.saree_drape import PRESENTATIONS
from retrieval.datasets.saree_scene import BACKDROPS, Light, camera, photograph
from retrieval.datasets.saree_stage import Stage
from retrieval.errors import InputError, LookalikeError

VERSION = 1
"""Of the drawing: raised whenever the same seed would give other bytes."""

DUPLICATES, EDITS_EACH, WRONG_LABELS = 20, 10, 20
EDITS = ("crop", "flip", "rescale", "recompress")

COLUMNS = ("image", "id", "label", "tradition", "region", "weave", "colour", "price")
"""Of ``sarees.csv``: path below its folder, key, ``Tradition/Design``, four texts, price in rupees."""

TRUTH_COLUMNS = ("image", "kind", "original", "edit", "true_label")
"""Of ``ground_truth.csv``: kind is exact-duplicate, edited-copy or wrong-label; original and edit may be empty."""

README = """Synthetic sarees
================

These pictures are synthetic: lookalike drew them, no saree was photographed. Traditions, weaves and motifs are
stylised after real ones; shops, stock and prices are invented.

sarees.csv        the catalogue, a row an image; 20 of its labels are wrong on purpose
ground_truth.csv  what was planted: exact duplicates, edited copies, wrong labels and the right ones
photos/           the pictures; photos/more/ holds the planted copies
"""

_DESIGNS = tuple((t, d) for t, kind in enumerate(TRADITIONS) for d in range(len(kind.designs)))


@dataclass(frozen=True)
class Photo:
    """One photo of the catalogue: places of its tradition and design in the tables, and its number."""

    tradition: int
    design: int
    number: int

    @property
    def label(self) -> str:
        """The right label, ``Tradition/Design``."""
        return label_of(self.tradition, self.design)

    @property
    def image(self) -> str:
        """Its path below the catalogue's folder."""
        return f"photos/{_slug(self.label)}/{self.number:03d}.jpg"

    @property
    def colourway(self) -> int:
        """Place of its colours among the tradition's; every presentation comes in all of them."""
        return (self.number + self.number // len(PRESENTATIONS)) % len(TRADITIONS[self.tradition].colours)


@dataclass(frozen=True)
class Plan:
    """What the seed decides before anything is drawn.

    Attributes:
        photos: all photos, by tradition, design and number.
        copies: planted copy → its original and the edit ("" for an exact duplicate).
        labels: photo → the wrong label that the catalogue gives it, as places of tradition and design.
    """

    photos: tuple[Photo, ...]
    copies: Mapping[str, tuple[Photo, str]]
    labels: Mapping[Photo, tuple[int, int]]


def label_of(tradition: int, design: int) -> str:
    """The label of a design by its places in ``TRADITIONS``."""
    return f"{TRADITIONS[tradition].name}/{TRADITIONS[tradition].designs[design].name}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9/]+", "-", text.lower())


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([VERSION, *key]))


def plan(*, seed: int, photos: int) -> Plan:
    """Decide what is planted where; no photo is touched twice, and no design gets two wrong labels.

    Args:
        seed: any number from 0.
        photos: of each design, at least 2.

    Raises:
        InputError: an argument is out of range.
    """
    if photos < 2 or photos > 999:
        raise InputError(f"photos={photos}: each design needs between 2 and 999 photos")
    if seed < 0:
        raise InputError(f"seed={seed}: a seed is a number from 0")
    every = tuple(Photo(t, d, n) for t, d in _DESIGNS for n in range(photos))
    rng = _random(seed, 1)
    labels: dict[Photo, tuple[int, int]] = {}
    for i, at in enumerate(rng.permutation(len(_DESIGNS))[:WRONG_LABELS]):
        t, d = _DESIGNS[at]
        sisters = i % 2 == 0  # half within the tradition, where it is hard to see
        choices = [other for other in _DESIGNS if other != (t, d) and (other[0] == t) == sisters]
        labels[Photo(t, d, int(rng.integers(photos)))] = choices[rng.integers(len(choices))]
    free = [photo for photo in every if photo not in labels]
    kinds = [""] * DUPLICATES + [edit for edit in EDITS for _ in range(EDITS_EACH)]
    chosen = rng.permutation(len(free))[: len(kinds)]
    names = rng.permutation(len(kinds))
    planted = sorted(
        (f"photos/more/{name + 1:03d}.jpg", (free[at], kind))
        for name, at, kind in zip(names, chosen, kinds, strict=True)
    )
    return Plan(every, dict(planted), labels)


def draw_photo(photo: Photo, *, seed: int, size: int) -> bytes:
    """Draw one photo as JPEG; its longer side is ``size`` pixels."""
    rng = _random(seed, 2, photo.tradition, photo.design, photo.number)
    name = list(PRESENTATIONS)[photo.number % len(PRESENTATIONS)]
    wide = name == "fanned" or (name == "folded" and rng.random() < 0.5)
    shorter = round(size * rng.choice((0.75, 0.8)))
    width, height = (size, shorter) if wide else (shorter, size)
    cloth = weave(photo.tradition, photo.design, photo.colourway, max(24, round(size * 2.5)))
    light = Light.any(rng)
    stage = Stage(width, height, cloth, light)
    PRESENTATIONS[name](stage, rng)
    choices = [
        backdrop for backdrop in BACKDROPS if backdrop != "mat" or name in ("close", "fanned", "folded")
    ]  # no mat on a wall
    backdrop = choices[rng.integers(len(choices))]
    lens = None if name == "close" else camera(rng, width, height, turn=5, zoom=(0.95, 1.1), tilt=0.12)
    return photograph(rng, stage.finished(), light, backdrop=backdrop, lens=lens, lift=0.03)


def edit_photo(data: bytes, edit: str, rng: np.random.Generator) -> bytes:
    """An edited copy of a JPEG: ``edit`` is one of ``EDITS``; "" returns the bytes as they are."""
    if not edit:
        return data
    picture: Image.Image = Image.open(io.BytesIO(data))
    quality = 90
    width, height = picture.size
    if edit == "crop":
        kept = rng.uniform(0.72, 0.88, 2)
        left, top = (rng.uniform(0, 1 - kept) * (width, height)).astype(int).tolist()
        picture = picture.crop((left, top, left + int(width * kept[0]), top + int(height * kept[1])))
    elif edit == "flip":
        picture = ImageOps.mirror(picture)
    elif edit == "rescale":
        share = rng.uniform(0.5, 0.75)
        picture = picture.resize((round(width * share), round(height * share)), Image.Resampling.LANCZOS)
    else:
        quality = int(rng.integers(30, 55))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def draw_sarees(
    folder: Path,
    *,
    seed: int = 7,
    photos: int = 20,
    size: int = 384,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Draw the catalogue into ``folder``; what stands there from an interrupted run with the same arguments is kept.

    Args:
        folder: gets ``photos/``, ``sarees.csv``, ``ground_truth.csv``, ``README.txt`` and, last, ``sarees.json``.
        seed: any number from 0; another seed, another catalogue.
        photos: of each of the 48 designs, 2 to 999.
        size: longer side of a photo, px, at least 32.
        progress: called with images done and images in all.
        workers: processes; 1 draws in this one; None takes one a processor, at most 8.

    Returns:
        The path of ``sarees.csv``, ready for ``lookalike index``.

    Raises:
        InputError: an argument is out of range.
        LookalikeError: the folder cannot be written.
    """
    decided = plan(seed=seed, photos=photos)
    if size < 32 or size > 4096:
        raise InputError(f"size={size}: the longer side is between 32 and 4096 pixels")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least one process draws")
    folder = Path(folder)
    try:
        return _draw(
            folder,
            decided,
            seed=seed,
            photos=photos,
            size=size,
            progress=progress or (lambda done, total: None),
            workers=workers,
        )
    except OSError as error:
        raise LookalikeError(
            f"cannot draw the sarees in {folder}: {error}; free space or choose another folder and run again"
        ) from error


def _draw(
    folder: Path,
    decided: Plan,
    *,
    seed: int,
    photos: int,
    size: int,
    progress: Callable[[int, int], None],
    workers: int | None,
) -> Path:
    record = {"version": VERSION, "seed": seed, "photos": photos, "size": size}
    images = [photo.image for photo in decided.photos] + list(decided.copies)
    found = _record(folder)
    if {key: found.get(key) for key in record} != record:
        _clear(folder)
    for place in _places(folder):
        place.mkdir(parents=True, exist_ok=True)
        for left in place.glob(".*.part"):  # by a run that was killed
            left.unlink(missing_ok=True)
    missing = {image for image in images if not _complete(folder / image)}
    if (
        not missing
        and found.get("complete")
        and all((folder / name).is_file() for name in ("sarees.csv", "ground_truth.csv", "README.txt"))
    ):
        progress(len(images), len(images))
        return folder / "sarees.csv"
    _write(folder / "sarees.json", _json({**record, "complete": False}))
    done = len(images) - len(missing)
    progress(done, len(images))
    wanted = [
        (folder, seed, size, group)
        for t, d in _DESIGNS
        if (group := [p for p in decided.photos if (p.tradition, p.design) == (t, d) and p.image in missing])
    ]
    for count in _run(wanted, workers):
        done += count
        progress(done, len(images))
    for i, (name, (photo, edit)) in enumerate(decided.copies.items()):
        if name in missing:
            _write(folder / name, edit_photo((folder / photo.image).read_bytes(), edit, _random(seed, 3, i)))
            done += 1
            progress(done, len(images))
    _write(folder / "sarees.csv", _csv(COLUMNS, _rows(decided, seed=seed)))
    _write(folder / "ground_truth.csv", _csv(TRUTH_COLUMNS, _truth(decided)))
    _write(folder / "README.txt", README.encode())
    _write(folder / "sarees.json", _json({**record, "complete": True}))
    return folder / "sarees.csv"


_Work = tuple[Path, int, int, Sequence[Photo]]


def _draw_group(work: _Work) -> int:
    """Draw some photos of one design (its cloth is woven once a process); returns how many."""
    folder, seed, size, group = work
    for photo in sorted(group, key=lambda photo: photo.colourway):
        _write(folder / photo.image, draw_photo(photo, seed=seed, size=size))
    return len(group)


def _run(wanted: Sequence[_Work], workers: int | None) -> Iterable[int]:
    """Draw all groups, in processes where that is worth it; yields the number of photos in each as it ends."""
    if workers is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(usable, 8)
    workers = min(workers, len(wanted))
    finished: set[int] = set()
    if workers > 1:
        # spawn, not fork: the caller may hold threads and locks of BLAS or a web server
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            futures = {pool.submit(_draw_group, work): i for i, work in enumerate(wanted)}
            for future in as_completed(futures):
                count = future.result()
                finished.add(futures[future])
                yield count
        except BrokenProcessPool:
            pass  # a caller that cannot be spawned again (a script on standard input): the rest is drawn here
        finally:
            pool.shutdown(cancel_futures=True)
    for i, work in enumerate(wanted):
        if i not in finished:
            yield _draw_group(work)


def _rows(decided: Plan, *, seed: int) -> Iterable[tuple[object, ...]]:
    """Rows of ``sarees.csv``; colour and price depend on tradition and number only, so they tell no design apart."""
    for image, photo in [
        *((p.image, p) for p in decided.photos),
        *((name, photo) for name, (photo, _) in decided.copies.items()),
    ]:
        t, d = decided.labels.get(photo, (photo.tradition, photo.design))
        kind, seen = TRADITIONS[t], TRADITIONS[photo.tradition]
        price = round(seen.price * _random(seed, 4, photo.tradition, photo.number).uniform(0.8, 1.25) / 50) * 50
        key = image.removeprefix("photos/").removesuffix(".jpg").replace("/", "-")
        yield image, key, label_of(t, d), kind.name, kind.region, kind.weave, seen.colours[photo.colourway], price


def _truth(decided: Plan) -> Iterable[tuple[str, ...]]:
    for name, (photo, edit) in decided.copies.items():
        yield name, "edited-copy" if edit else "exact-duplicate", photo.image, edit, photo.label
    for photo in sorted(decided.labels, key=lambda photo: photo.image):
        yield photo.image, "wrong-label", "", "", photo.label


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue().encode()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _record(folder: Path) -> dict[str, Any]:
    """What ``sarees.json`` says, or nothing where it is missing or damaged."""
    try:
        value = json.loads((folder / "sarees.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _clear(folder: Path) -> None:
    """Remove the pictures of a catalogue drawn with other arguments, and only what such a run writes."""
    (folder / "sarees.json").unlink(missing_ok=True)
    for place in _places(folder):
        for path in place.glob("[0-9][0-9][0-9].jpg"):
            path.unlink(missing_ok=True)


def _places(folder: Path) -> list[Path]:
    """The folders that hold pictures."""
    return [folder / "photos" / "more", *(folder / "photos" / _slug(label_of(t, d)) for t, d in _DESIGNS)]


def _complete(path: Path) -> bool:
    """Whether a JPEG stands there from its first marker to its last."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\xff\xd8":
                return False
            file.seek(-2, os.SEEK_END)
            return file.read(2) == b"\xff\xd9"
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
