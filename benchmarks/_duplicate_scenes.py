"""Photos that are hard to tell from copies, bursts of one shelf and drawn sarees; and pairs laid out for looking."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._duplicate_edits import CAR_PAIRS, photos, write_whole
from benchmarks._duplicate_figures import Share, share
from benchmarks._duplicate_search import COPIES, LOOKALIKE, Looked, found_in, made, search

NOTHING: Final = "nothing"
SIMILARITIES: Final = (0.98, 0.95, 0.9, -1.0)
PICTURE: Final = 150  # pixels, on a sheet
COLUMNS, ROWS = 4, 8


@dataclass(frozen=True)
class Shown:
    """Two pictures of a folder, and a line to write below them."""

    a: Path
    b: Path
    line: str


def bursts(data: Path, work: Path, sheets: Path | None, *, precision: float, effort: str) -> dict[str, Any]:
    """Tell copies from other photographs among Grocery's test photos and the eleven pairs of Cars; prints tables."""
    folder = work / "images"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name for pair in CAR_PAIRS for name in pair}
    for photo in photos(data):
        own = photo.name.startswith("test/") if photo.source == "g" else Path(photo.name).stem in wanted
        place = folder / f"{photo.source}-{Path(photo.name).name}"
        if own and not place.exists():
            write_whole(place, photo.read())
    with made(folder, root=None, place=work / "catalogue") as (catalogue, seconds):
        looked = found_in(catalogue, seconds, precision=precision, effort=effort)
        nearest = _nearest(catalogue)
    print(f"bursts: {looked.items} pictures, Grocery's test photos and eleven pairs of Cars; {looked.notes[0]}")
    kinds = {frozenset(pair): kind for pair, kind in _kinds(looked).items()}
    counted = _count(nearest, kinds)
    print(f"{'nearest pairs, similarity':28s}" + "".join(f"{name:>13s}" for name in (*COPIES, LOOKALIKE, NOTHING)))
    for line, row in counted.items():
        print(f"{line:28s}" + "".join(f"{row[name]:13d}" for name in (*COPIES, LOOKALIKE, NOTHING)))
    cars = {f"{a}/{b}": kinds.get(frozenset((f"c-{a}.jpg", f"c-{b}.jpg")), NOTHING) for a, b in CAR_PAIRS}
    called = sum(kind in COPIES for kind in cars.values())
    print(f"pairs of Cars called copies: {called} of {len(CAR_PAIRS)} (goal: all)")
    for pair, kind in cars.items():
        if kind not in COPIES:
            print(f"  {pair}: {kind}")
    shown = {name: _shown(looked, folder, name) for name in ("copies", "lookalikes")}
    burst_copies = sum(1 for one in shown["copies"] if one.a.name[0] == "g" == one.b.name[0])
    print(f"pairs of Grocery's test photos called copies: {burst_copies}; each is on the sheets, for looking")
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        for name, some in shown.items():
            written = contact_sheets(sheets, name, some[: 4 * COLUMNS * ROWS])
            print(f"{name}: {len(some)} pairs, the foremost on {', '.join(map(str, written)) or 'no sheet'}")
    return {**looked.figures, "seconds": looked.seconds, "nearest": counted, "cars": cars, "burst copies": burst_copies}


def _nearest(catalogue: Any) -> list[tuple[str, str, float]]:
    """Each item with its nearest other one: file names and similarity, no pair twice."""
    items, index = catalogue.snapshot()
    vectors, _ = catalogue.vectors.read(items.column("sha256"))
    rows = items.column("row").to_numpy()
    place_of = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    names = items.column("uri").to_pylist()
    found, similarity = index.search(vectors.astype(np.float32), 2)
    pairs: dict[frozenset[int], float] = {}
    for place, row in enumerate(rows.tolist()):
        slot = 1 if found[place, 0] == row else 0
        pairs[frozenset((place, place_of[int(found[place, slot])]))] = float(similarity[place, slot])
    return [(names[min(pair)], names[max(pair)], value) for pair, value in pairs.items()]


def _kinds(looked: Looked) -> dict[tuple[str, str], str]:
    rows = looked.found.pairs.select(["a", "b", "kind"]).to_pylist()
    return {(looked.uri[row["a"]], looked.uri[row["b"]]): row["kind"] for row in rows}


def _count(nearest: Iterable[tuple[str, str, float]], kinds: dict[frozenset[str], str]) -> dict[str, dict[str, int]]:
    """How many of the nearest pairs are called what, by similarity."""
    names = [f"from {line:g}" if line > 0 else "below" for line in SIMILARITIES]
    counted = {name: dict.fromkeys((*COPIES, LOOKALIKE, NOTHING), 0) for name in [*names, "all"]}
    for a, b, value in nearest:
        kind = kinds.get(frozenset((a, b)), NOTHING)
        name = next(name for name, line in zip(names, SIMILARITIES, strict=True) if value >= line)
        counted[name][kind] += 1
        counted["all"][kind] += 1
    return counted


def _shown(looked: Looked, folder: Path, name: str) -> list[Shown]:
    kinds = COPIES if name == "copies" else (LOOKALIKE,)
    rows = [row for row in looked.found.pairs.to_pylist() if row["kind"] in kinds]
    untold = 2.0 if name == "copies" else -1.0  # last in either order
    rows.sort(key=lambda row: untold if row["agreement"] is None else row["agreement"], reverse=name != "copies")
    shown = []
    for row in rows:
        agreement = "" if row["agreement"] is None else f"{row['agreement']:.3f} "
        line = f"{agreement}{row['kind']} {row['how']}"
        shown.append(Shown(folder / looked.uri[row["a"]], folder / looked.uri[row["b"]], line))
    return shown


def contact_sheets(folder: Path, name: str, shown: Sequence[Shown]) -> list[Path]:
    """Lay pairs side by side, as many to a page as fit: copies from the least sure one on, others from the surest."""
    from PIL import Image, ImageDraw

    written = []
    wide, high = 2 * PICTURE + 12, PICTURE + 34
    for start in range(0, len(shown), COLUMNS * ROWS):
        page = Image.new("RGB", (COLUMNS * wide, ROWS * high), "white")
        draw = ImageDraw.Draw(page)
        for at, one in enumerate(shown[start : start + COLUMNS * ROWS]):
            left, top = at % COLUMNS * wide, at // COLUMNS * high
            for side, path in enumerate((one.a, one.b)):
                picture = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
                picture.thumbnail((PICTURE, PICTURE))
                page.paste(picture, (left + side * (PICTURE + 2), top))
            draw.text((left, top + PICTURE + 1), f"{one.a.stem} | {one.b.stem}"[:52], fill="grey")
            draw.text((left, top + PICTURE + 14), one.line[:52], fill="black")
        path = folder / f"{name}-{start // (COLUMNS * ROWS) + 1:02d}.jpg"
        page.save(path, quality=85)
        written.append(path)
    return written


def sarees(work: Path, *, photos_each: int, precision: float, effort: str) -> dict[str, Any]:
    """Find the planted copies of the drawn catalogue; prints what was missed and what is false."""
    from indexer.options import progress_bar
    from retrieval.datasets.sarees import draw_sarees

    with progress_bar("drawing") as progress:
        listing = draw_sarees(work / "drawn", photos=photos_each, progress=lambda done, total: progress(done, total, 0))
    with (listing.parent / "ground_truth.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "wrong-label"]
    planted = {frozenset((row["image"], row["original"])): row["edit"] or "exact duplicate" for row in rows}
    looked = search(listing, root=None, place=work / "catalogue", precision=precision, effort=effort)
    called = [frozenset(pair[:2]) for pair in looked.copies(same=1.0)]
    recall, found = _recall(planted, called)
    exact = share(np.array([pair in planted for pair in called], bool), np.arange(len(called)))
    print(f"sarees: {looked.items} pictures, {len(planted)} planted copies; {looked.notes[0]}")
    print(f"recall {recall}, precision {exact}; {len(called)} pairs called copies (goal: all found, none false)")
    for edit, row in found.items():
        print(f"  {edit:16s} {row.right:3d} of {row.of}")
    missed = [sorted(pair) for pair in planted if pair not in set(called)]
    false = [sorted(pair) for pair in called if pair not in planted]
    for name, pairs in (("missed", missed), ("false", false)):
        for pair in pairs[:20]:
            print(f"  {name}: {pair[0]} and {pair[1]}")
    return {
        **looked.figures, "seconds": looked.seconds, "recall": recall.to_dict(), "precision": exact.to_dict(),
        "missed": missed, "false": false,
    }  # fmt: skip


def _recall(planted: dict[frozenset[str], str], called: Sequence[frozenset[str]]) -> tuple[Share, dict[str, Share]]:
    there = set(called)
    found = np.array([pair in there for pair in planted], bool)
    edits = np.array(list(planted.values()))
    of_edit = {str(edit): share(found[edits == edit], np.arange((edits == edit).sum())) for edit in np.unique(edits)}
    return share(found, np.arange(len(found))), of_edit
