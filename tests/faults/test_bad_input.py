"""A messy folder, end to end: each bad input with its own outcome, the good ones all there."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.catalogue import Catalogue
from indexer.ingest import IngestSummary, ingest
from indexer.search import search
from indexer.verification import verify
from retrieval.errors import ManifestError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder


def index(folder: Path, place: Path) -> tuple[IngestSummary, dict[str, dict], dict[str, str]]:
    """Index a folder: the summary, the items by id, the reasons by uri."""
    with Catalogue.create(place, ColourEmbedder()) as catalogue:
        summary = ingest(catalogue, read_manifest(folder), commit_every=3)
        assert verify(catalogue, sources=True) == []
        items = {row["id"]: row for row in catalogue.items().to_pylist()}
        for id in items:
            assert search(catalogue, ids=[id], k=1).column("id").to_pylist() == [id]
        rejected = {row["uri"]: row["reason"] for row in catalogue.rejected.read().to_pylist()}
    assert summary.added + summary.rejected == len(items) + len(rejected)
    return summary, items, rejected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good picture."""
    place = tmp_path / "messy"
    place.mkdir()
    save(place / "good.jpg")
    return place


def save(path: Path, seed: int = 0, mode: str = "RGB", **options: object) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


def bomb(side: int) -> bytes:
    """A PNG that says it has ``side`` x ``side`` pixels, in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="empty"):
        read_manifest(tmp_path / "empty")


REFUSED = {
    "text renamed to .jpg": lambda path: path.write_text("this is not a picture"),
    "0 bytes": lambda path: path.write_bytes(b""),
    "truncated JPEG": lambda path: (save(path), path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "50,000 x 50,000 PNG bomb": lambda path: path.write_bytes(bomb(50_000)),
    "an SVG": lambda path: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all.jpg"),
    "a link out of the folder": lambda path: (save(path.parents[1] / "secret.jpg"), path.symlink_to("../secret.jpg")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_is_no_picture_is_rejected_with_its_reason(folder: Path, tmp_path: Path, what: str) -> None:
    REFUSED[what](folder / "bad.jpg")
    _, items, rejected = index(folder, tmp_path / "catalogue")
    assert set(items) == {"good.jpg"}
    assert set(rejected) == {"bad.jpg"}
    assert len(rejected["bad.jpg"]) > 8
    assert "Traceback" not in rejected["bad.jpg"]
    assert "\n" not in rejected["bad.jpg"]


def test_a_file_that_may_not_be_read_is_rejected(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "locked.jpg", seed=1)
    (folder / "locked.jpg").chmod(0)
    if os.geteuid() == 0:
        # Root reads what it likes, so the refusal of the system is played.
        real = os.open

        def refuse(path, *arguments, **kept):
            if str(path).endswith("locked.jpg"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **kept)

        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr("io.open_code", refuse, raising=False)
        opened = Path.open
        monkeypatch.setattr(
            Path, "open", lambda path, *a, **k: refuse(path) if path.name == "locked.jpg" else opened(path, *a, **k)
        )
    with Catalogue.create(tmp_path / "catalogue", ColourEmbedder()) as catalogue:
        summary = ingest(catalogue, read_manifest(folder))
        assert (summary.added, summary.rejected) == (1, 1)
        (row,) = catalogue.rejected.read().to_pylist()
        assert row["uri"] == "locked.jpg"
        assert "ermission denied" in row["reason"]


def test_a_loop_of_folders_ends(folder: Path, tmp_path: Path) -> None:
    (folder / "below").mkdir()
    save(folder / "below" / "b.jpg", seed=1)
    (folder / "below" / "up").symlink_to(folder, target_is_directory=True)
    _, items, rejected = index(folder, tmp_path / "catalogue")
    assert set(items) == {"good.jpg", "below/b.jpg"}
    assert set(rejected) == {"below/up"}


def test_paths_outside_the_source_are_rejected(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "outside.jpg")
    listing = folder / "list.csv"
    listing.write_text(f"path\ngood.jpg\n../outside.jpg\n{tmp_path / 'outside.jpg'}\nbelow/../../outside.jpg\n")
    _, items, rejected = index(listing, tmp_path / "catalogue")
    assert set(items) == {"good.jpg"}
    assert len(rejected) == 3
    assert all("outside" in reason for reason in rejected.values())


NAMES = [
    "with space.jpg",
    'it\'s "quoted".jpg',
    "new\nline.jpg",
    "साड़ी.jpg",
    "着物 é.jpg",
    "-k.jpg",
    "a#row=3.jpg",
    "%2e.jpg",
]


def test_any_name_is_a_name(folder: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES, start=1):
        (folder / "class é/ü").mkdir(parents=True, exist_ok=True)
        save(folder / "class é/ü" / name, seed)
    _, items, rejected = index(folder, tmp_path / "catalogue")
    assert set(items) == {"good.jpg", *(f"class é/ü/{name}" for name in NAMES)}
    assert rejected == {}
    assert items["class é/ü/new\nline.jpg"]["label"] == "class é/ü"


def test_unusual_pictures_become_items(folder: Path, tmp_path: Path) -> None:
    frames = [Image.new("P", (50, 30), n) for n in range(3)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    save(folder / "cmyk.jpg", seed=1, mode="CMYK")
    deep = np.random.default_rng(2).integers(0, 65535, (30, 50), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    save(folder / "picture without a suffix", seed=3, format="PNG")
    save(folder / "wrong.png", seed=4, format="JPEG")
    _, items, rejected = index(folder, tmp_path / "catalogue")
    assert rejected == {}
    assert len(items) == 6
    assert (items["animated.gif"]["width"], items["animated.gif"]["height"]) == (50, 30)
