"""What the tests of quarantine share: catalogues over files that need no pictures in them, and trees compared."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from indexer.catalogue import Catalogue
from indexer.deciding import DECISIONS_SCHEMA
from indexer.items import ITEMS_SCHEMA
from indexer.quarantine import Applied
from indexer.undoing import Undone
from tests.embedders import ColourEmbedder

FILES = {"a.jpg": b"A", "b.jpg": b"A", "below/c d.jpg": b"A", "e.jpg": b"E", "f.jpg": b"F"}
"""Of the fixture ``photos``."""
GO = {"b.jpg": "a.jpg", "below/c d.jpg": "a.jpg"}
"""Those of them that are copies, and of which."""


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder, each with a mode and a time of its own."""
    for number, (name, data) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod((0o600, 0o644, 0o640, 0o444)[number % 4])
        os.utime(path, ns=(1, 1_600_000_000_000_000_000 + 1_000_000_007 * number))
    return root


def catalogue_of(place: Path, root: Path, uris: Mapping[str, str] | None = None, **columns: str) -> Catalogue:
    """A catalogue with an item a file of ``root``, without vectors: id → uri, the uris themselves when not given."""
    catalogue = Catalogue.create(place, ColourEmbedder())
    if uris is None:
        uris = {uri: uri for uri in tree(root)}
    add(catalogue, root, uris, **columns)
    return catalogue


def add(catalogue: Catalogue, root: Path, uris: Mapping[str, str], **columns: str) -> None:
    """Add items; columns have one value for all."""
    count = len(uris)
    digests = [hashlib.sha256((root / uri).read_bytes()).digest() for uri in uris.values()]
    values = [[None] * count, list(uris), list(uris.values()), [str(root.resolve())] * count, digests]
    schema = ITEMS_SCHEMA.set(0, ITEMS_SCHEMA.field("row").with_nullable(True))
    rows = pa.table([*values, [4] * count, [3] * count, ["a/b"] * count], schema=schema)
    for name, value in columns.items():
        rows = rows.append_column(name, pa.array([value] * count))
    with catalogue.writing():
        catalogue.commit(rows)


def tree(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file below a folder: its bytes, mode and time of modification in nanoseconds; a symlink's target."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode):
            found[path.relative_to(root).as_posix()] = (os.readlink(path).encode(), 0, 0)
        elif stat.S_ISREG(about.st_mode):
            data = path.read_bytes()
            found[path.relative_to(root).as_posix()] = (data, stat.S_IMODE(about.st_mode), about.st_mtime_ns)
    return found


def items_of(catalogue: Catalogue) -> list[dict]:
    return catalogue.items().to_pylist()


def decided(kept: Mapping[str, str], kind: str = "same bytes") -> pa.Table:
    """Decisions: id to go → id that is kept; of which bytes they were is not known."""
    needed = pa.schema([field for field in DECISIONS_SCHEMA if not field.nullable])
    return pa.table([list(kept), list(kept.values()), [kind] * len(kept)], schema=needed)


def reasons(done: Applied | Undone) -> dict[str, str]:
    """Id → why it was skipped."""
    return {row["id"]: row["reason"] for row in done.skipped.to_pylist()}
