"""What the duplicate finder keeps of each picture it has looked at: local features, layout, what to compare it with.

A cache beside the vectors, keyed by the SHA-256 of the image's bytes, in blocks of an Arrow file each that is mapped,
not read; losing one costs time. About 40 kB a picture.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.files import atomic_write
from retrieval.errors import DamagedError, ImageError
from retrieval.grain import Grain
from retrieval.images import decode, encode_jpeg
from retrieval.local_features import LocalFeatures

FINGERPRINTS_SCHEMA: Final = pa.schema(
    [
        # of the image's bytes, 32 bytes
        pa.field("sha256", pa.binary(), nullable=False),
        # why nothing could be looked at; all that follows is null then
        pa.field("reason", pa.string()),
        # SHA-256 of the upright 8-bit sRGB pixels and their size: equal where only container or metadata differ
        pa.field("pixels", pa.binary()),
        # of the file
        pa.field("bytes", pa.int64()),
        pa.field("format", pa.string()),
        # bytes of EXIF, XMP and the like
        pa.field("metadata", pa.int64()),
        # whether the picture was a JPEG of less quality before
        pa.field("resaved", pa.bool_()),
        # as of ``retrieval.grain``
        pa.field("sharpness", pa.float32()),
        # ``Grain`` of the picture at its own size
        pa.field("grain", pa.binary()),
        # (GRID, GRID) float16
        pa.field("layout", pa.binary()),
        # the same of what is on it without the even ground around; null where there is none
        pa.field("shown", pa.binary()),
        # as ``LocalFeatures``: pixels of the compared picture for one of the original
        pa.field("zoom", pa.float64()),
        # (n, 2) float16
        pa.field("points", pa.binary()),
        # (n, 128) uint8, ``_LEVELS`` for 1
        pa.field("descriptors", pa.binary()),
        # the compared picture as a JPEG
        pa.field("picture", pa.binary()),
        # SHA-256 of the pictures to compare it with, 32 bytes each, the likeliest first
        pa.field("candidates", pa.binary()),
        # float32 each, cosine of the stored vectors of the two; NaN where only another view or the layout found it
        pa.field("similarities", pa.binary()),
    ]
)
"""A picture a row."""

_OF_READ: Final = ("pixels", "sharpness", "grain", "layout", "zoom", "points", "descriptors", "picture", "candidates")
_LEVELS: Final = 510.0
_QUALITY: Final = 92
_SUFFIX: Final = ".arrow"


def pack(features: LocalFeatures) -> dict[str, Any]:
    """Write local features as columns of ``FINGERPRINTS_SCHEMA``."""
    return {
        "zoom": features.zoom,
        "points": features.points.astype("<f2").tobytes(),
        "descriptors": np.clip(np.rint(features.descriptors * _LEVELS), 0, 255).astype(np.uint8).tobytes(),
        "picture": encode_jpeg(features.picture, quality=_QUALITY),
    }


def unpack(row: Mapping[str, Any]) -> LocalFeatures:
    """Read what ``pack`` wrote."""
    raw = np.frombuffer(row["descriptors"], np.uint8).reshape(-1, 128).astype(np.float32)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    return LocalFeatures(
        points=np.frombuffer(row["points"], "<f2").reshape(-1, 2).astype(np.float32),
        descriptors=raw / np.maximum(lengths, 1e-6),
        picture=decode(bytes(row["picture"])).pixels,
        zoom=row["zoom"],
    )


class Fingerprints:
    """The blocks of one folder, oldest first. Reading may be done from many threads, adding from one.

    Args:
        folder: made when the first block is added.
        held: pictures whose features stay unpacked in memory, about 300 kB each.
    """

    def __init__(self, folder: Path, *, held: int = 1024) -> None:
        self._folder = folder
        self._blocks: list[tuple[str, pa.Table]] = []
        self._number: dict[str, int] = {}
        self._place: dict[bytes, tuple[int, int]] = {}
        self._unwritten: Mapping[bytes, Mapping[str, Any]] = {}
        self._unpacked = lru_cache(maxsize=held)(self._unpack)
        self.late: dict[bytes, int] = {}
        """Of what could not be read first and then could, the place of the block that has it."""
        self.stale: set[bytes] = set()
        """Of what is to be looked at again, though it was seen."""
        self.damaged: list[Path] = []
        """Blocks that cannot be read, which were moved aside."""
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            try:
                self._take(path)
            except (OSError, pa.ArrowException):
                path.replace(path.with_suffix(".damaged"))
                self.damaged.append(path)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._place

    def __len__(self) -> int:
        return len(self._place)

    def seen(self, sha256: bytes) -> bool:
        """Whether a picture was looked at and could be read."""
        return sha256 in self._place and sha256 not in self.stale and self.reason(sha256) is None

    def reason(self, sha256: bytes) -> str | None:
        """Why a picture could not be read; None where it could, or was not looked at."""
        found: str | None = self.row(sha256, ["reason"])["reason"] if sha256 in self._place else None
        return found

    @property
    def blocks(self) -> Sequence[str]:
        """Names of the blocks, oldest first."""
        return [name for name, _ in self._blocks]

    def block(self, name: str) -> pa.Table:
        """One block."""
        return self._blocks[self._number[name]][1]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a block, whole or not at all; nothing where there are no rows.

        Raises:
            CatalogueError: the disk is full or the folder cannot be written.
        """
        if not rows:
            return
        table = pa.Table.from_pylist(list(rows), schema=FINGERPRINTS_SCHEMA).combine_chunks()
        numbers = [int(path.stem[:8]) for path in self._folder.glob("[0-9]*.*") if path.stem[:8].isdigit()]
        # What was compared of a block is kept under its name, which must not come again once the block is lost.
        path = self._folder / f"{max(numbers, default=0) + 1:08d}-{secrets.token_hex(4)}{_SUFFIX}"
        with atomic_write(path) as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
        self._take(path)

    def hold(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Have the features of pictures that are not in any block, in place of those that were held before."""
        self._unwritten = {row["sha256"]: row for row in rows}
        if any(sha256 in self._place for sha256 in self._unwritten):  # unreadable there
            self._unpacked.cache_clear()

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows, in the order of blocks and rows."""
        empty = FINGERPRINTS_SCHEMA.empty_table()
        return pa.concat_tables([empty.select(list(names)), *(table.select(list(names)) for _, table in self._blocks)])

    def row(self, sha256: bytes, names: Sequence[str]) -> dict[str, Any]:
        """Some values of one row; of a picture that stands in two blocks the newer one's."""
        block, at = self._place[sha256]
        table = self._blocks[block][1]
        return {name: table.column(name)[at].as_py() for name in names}

    def features(self, sha256: bytes) -> LocalFeatures | None:
        """The local features of a picture in a block or held; None where it was not looked at or could not be read.

        Raises:
            DamagedError: the block is not what was written.
        """
        return self._unpacked(sha256) if sha256 in self._unwritten or sha256 in self._place else None

    def grain(self, sha256: bytes) -> Grain:
        """The grain of a picture in a block or held, that could be read.

        Raises:
            DamagedError: the block is not what was written.
        """
        try:
            return Grain.from_bytes((self._unwritten.get(sha256) or self.row(sha256, ["grain"]))["grain"])
        except ValueError as error:
            raise self._damaged(sha256) from error

    def _unpack(self, sha256: bytes) -> LocalFeatures | None:
        row = self._unwritten.get(sha256) or self.row(sha256, ["reason", "zoom", "points", "descriptors", "picture"])
        try:
            return unpack(row) if row["reason"] is None else None
        except (ImageError, ValueError) as error:
            raise self._damaged(sha256) from error

    def _damaged(self, sha256: bytes) -> DamagedError:
        path = self._folder / f"{self._blocks[self._place[sha256][0]][0]}{_SUFFIX}"
        return DamagedError(f"{path} is damaged; remove it, and the next run looks at its pictures again")

    def _take(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        if not table.schema.equals(FINGERPRINTS_SCHEMA):
            raise pa.ArrowInvalid(f"{path} is no block of fingerprints")
        # The numbers by which Arrow finds its way: it believes them, and a wrong one ends the process.
        table.validate(full=True)
        read = table.column("reason").is_null()
        for name in _OF_READ:
            if pc.any(pc.and_(read, table.column(name).is_null())).as_py():
                raise pa.ArrowInvalid(f"{path} has no {name} of a picture")
        digests, reasons = (table.column(name).to_pylist() for name in ("sha256", "reason"))
        for at, (sha256, reason) in enumerate(zip(digests, reasons, strict=True)):
            if reason is None and self.reason(sha256) is not None:
                self.late[sha256] = len(self._blocks)
                self._unpacked.cache_clear()
            self._place[sha256] = len(self._blocks), at
        self._number[path.stem] = len(self._blocks)
        self._blocks.append((path.stem, table))
