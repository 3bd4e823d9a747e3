"""Duplicates whose originals are known, for the tests of what is drawn of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from indexer.catalogue import Catalogue
from indexer.duplicates import GROUPS_SCHEMA, PAIRS_SCHEMA, Found
from indexer.ingest import ingest
from retrieval.manifest import read_manifest
from retrieval.threshold import Threshold
from tests.embedders import ColourEmbedder

SIZE = WIDTH, HEIGHT = 320, 240
THRESHOLD = Threshold(0.99, 0.8312, 0.9962, 0.991, 0.999, 0.961, 1200, 40, 23, True)
UNREADABLE = pa.schema([("id", pa.string()), ("reason", pa.string())])
HOSTILE = "<script>alert(1)</script>\n\u202e</title>'\"&.jpg"

_IDENTITY = [1.0, 0, 0, 0, 1, 0]
_CUT = [1.0, 0, -32, 0, 1, -60]  # 160 x 120 from column 32 and row 60
_MIRRORED = [-1.0, 0, WIDTH - 1, 0, 1, 0]
_FRAMED = [1.0, 0, 40, 0, 1, 30]  # a margin of 40 at each side, of 30 above and below


@contextmanager
def planted_catalogue(folder: Path) -> Iterator[Catalogue]:
    """Eight photos as ``<number>/photo.png``, and of five of them what was made of them."""
    rng = np.random.default_rng(7)
    for number in range(8):
        blobs = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(blobs).resize(SIZE, Image.Resampling.BICUBIC))
        framed = np.full((HEIGHT + 60, WIDTH + 80, 3), 255, np.uint8)
        framed[30 : 30 + HEIGHT, 40 : 40 + WIDTH] = photo
        made = {
            0: {"cut": photo[60:180, 32:192], "mirrored": photo[:, ::-1], "framed": framed},
            1: {"again": photo},
            2: {"cut": photo[60:180, 32:192]},
            3: {"framed": framed},
            4: {"saved": photo},
        }
        place = folder / "pictures" / str(number)
        place.mkdir(parents=True)
        for name, pixels in {"photo": photo, **made.get(number, {})}.items():
            Image.fromarray(np.ascontiguousarray(pixels)).save(place / f"{name}.png", compress_level=1)
    with Catalogue.create(folder / "catalogue", ColourEmbedder(), name="planted") as catalogue:
        ingest(catalogue, read_manifest(folder / "pictures"))
        yield catalogue


def planted(catalogue: Catalogue, **changes: Any) -> Found:
    """What there is to find: seven copies of five pictures, and two pairs of lookalikes.

    Group 1 has two labels, group 2 stands in both splits, group 3 has three copies, 4 and 5 have one.
    """
    groups = [
        _group(catalogue, 1, "1", [("again", "same bytes", "", None)], labels=("1", "2"), conflict=True),
        _group(catalogue, 2, "2", [("cut", "copy", "cut to 25 %", _CUT)], splits=("train", "test")),
        _group(
            catalogue,
            3,
            "0",
            [
                ("cut", "copy", "cut to 25 %", _CUT),
                ("mirrored", "copy", "mirrored", _MIRRORED),
                ("framed", "copy", "framed", _FRAMED),
            ],
        ),
        _group(catalogue, 4, "3", [("framed", "copy", "framed", _FRAMED)]),
        _group(catalogue, 5, "4", [("saved", "same pixels", "", _IDENTITY)]),
    ]
    pairs = [_lookalike("5/photo.png", "6/photo.png", 0.71), _lookalike("6/photo.png", "7/photo.png", 0.83)]
    given: dict[str, Any] = {
        "pairs": pa.Table.from_pylist(pairs, PAIRS_SCHEMA),
        "groups": groups_table([row for group in groups for row in group]),
        "threshold": THRESHOLD,
        "examined": 15,
        "unreadable": pa.table({"id": ["8/photo.png"], "reason": ["truncated"]}, UNREADABLE),
        "version": catalogue.version,
        "effort": "usual",
        "between": ("train", "test"),
        "new_since": None,
    }
    return Found(**{**given, **changes})


def nothing(catalogue: Catalogue, **changes: Any) -> Found:
    """Nothing found in a catalogue."""
    empty = {
        "pairs": PAIRS_SCHEMA.empty_table(),
        "groups": GROUPS_SCHEMA.empty_table(),
        "unreadable": UNREADABLE.empty_table(),
    }
    return planted(catalogue, **{**empty, "between": None, **changes})


def groups_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), GROUPS_SCHEMA)


def member(group: int, id: str, kind: str | None, **more: Any) -> dict[str, Any]:
    """A row of a group: the kept one where ``kind`` is None."""
    row = {
        "group": group,
        "id": id,
        "keep": kind is None,
        "why": "most pixels" if kind is None else f"more than {id}",
        "kind": kind,
        "agreement": 0.97 if kind == "copy" else None,
        "sure": None if kind is None else 0.9969,
        "how": None if kind is None else "",
        "label": "a",
        "conflict": False,
        "uri": id,
        "source": "/pictures",
        "width": WIDTH,
        "height": HEIGHT,
        "bytes": 240_400,
        "format": "PNG",
        "sha256": hashlib.sha256(id.encode()).hexdigest(),
    }
    return {**row, **more}


def _group(
    catalogue: Catalogue,
    number: int,
    place: str,
    copies: Sequence[tuple[str, str, str, list[float] | None]],
    *,
    labels: tuple[str, str] = ("a", "a"),
    splits: tuple[str, str] = ("train", "train"),
    conflict: bool = False,
) -> list[dict[str, Any]]:
    items = {row["id"]: row for row in catalogue.items().to_pylist()}

    def row(name: str, kind: str | None, at: int, **more: Any) -> dict[str, Any]:
        item = items[f"{place}/{name}.png"]
        seen = {"width": item["width"], "height": item["height"], "label": labels[at], "split": splits[at]}
        return member(number, item["id"], kind, conflict=conflict, **seen, **more)

    return [
        row("photo", None, 0),
        *(row(name, kind, 1, how=how, transform=transform) for name, kind, how, transform in copies),
    ]


def _lookalike(a: str, b: str, similarity: float) -> dict[str, Any]:
    return {
        **{"a": a, "b": b, "kind": "lookalike", "agreement": 0.3, "similarity": similarity, "how": ""},
        **{"covered_a": 0.41, "covered_b": 0.38},
    }
