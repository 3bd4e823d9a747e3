"""Images that are a part of a file: an annotated box of a picture, a record of a CIFAR-10 file.

``img/001.jpg#xywh=30,14,120,80`` is 120 by 80 pixels, 30 from the left and 14 from the top, by the W3C's Media
Fragments; ``test_batch.bin#record=7`` the eighth record of the binary version of CIFAR-10. Both are handed on as
uncompressed BMP: without loss, and the same bytes on every machine.

Boxes are of the pixels as stored: annotators drew them in tools that knew of no EXIF orientation. So where a JPEG's or
PNG's orientation turns the photo, the box is turned with it, and the cut is upright like every decoded picture. Of the
other formats, which no annotated benchmark uses, the box is of the picture as it is shown.

A file whose own name is such a uri is read as that file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.errors import ImageError
from retrieval.formats import png_exif
from retrieval.images import DEFAULT_LIMITS, ImageLimits, decode
from retrieval.sources import ImageSource

RECORD_BYTES: Final = 3073
"""A record of CIFAR-10's binary version: a byte of label, then 32 x 32 levels of red, of green and of blue."""

_CUT: Final = re.compile(r"(.+)#xywh=(-?[0-9]{1,9}),(-?[0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})", re.DOTALL)
_RECORD: Final = re.compile(r"(.+\.bin)#record=([0-9]{1,12})", re.DOTALL)
_ORIENTATION: Final = 0x0112

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Picture:
    """A decoded picture that boxes are cut out of.

    Attributes:
        pixels: (height, width, 3) uint8, upright.
        orientation: by EXIF, 1 to 8, that turned the stored pixels to these.
    """

    pixels: np.ndarray
    orientation: int

    def cut(self, box: Box) -> np.ndarray:
        """Take what of the picture lies in a box of its stored pixels."""
        x, y, width, height = box
        left, right, top, bottom = x, x + width, y, y + height
        if self.orientation >= 5:
            left, right, top, bottom = top, bottom, left, right
        high, wide = self.pixels.shape[:2]
        if self.orientation in (3, 4, 7, 8):
            top, bottom = high - bottom, high - top
        if self.orientation in (2, 3, 6, 7):
            left, right = wide - right, wide - left
        cut = self.pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if not cut.size:
            raise ImageError(f"nothing of the picture lies in the box {x},{y},{width},{height}")
        return cut


def record_uri(file: str, record: int) -> str:
    """Name a record of a binary CIFAR-10 file: ``data_batch_1.bin#record=17``.

    Args:
        file: POSIX path of the file, relative to the root.
        record: counted from 0.
    """
    return f"{file}#record={record}"


class CutSource(ImageSource):
    """Reads images by uri, and parts of them; otherwise as ImageSource.

    Args:
        root: the folder that uris are relative to.
        max_bytes: of one image, and of one cut.
    """

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> None:
        super().__init__(root, max_bytes=max_bytes)
        self._limits = ImageLimits(max_bytes=max_bytes)

    def read(self, uri: str) -> bytes:
        """Read one image.

        Args:
            uri: of a file, ``file.parquet#row=N``, ``file.bin#record=N``, or one of these with ``#xywh=x,y,w,h``.

        Raises:
            ImageError: as ImageSource; or the picture cannot be decoded, or nothing of it lies in the box.
        """
        whole, box = self._split(uri)
        record = self._record(whole)
        data = super().read(whole) if record is None else record
        return data if box is None else self._bmp(self._decode(data).cut(box))

    def read_many(self, uris: Iterable[str]) -> Iterator[bytes | ImageError]:
        """Read images in order; what cannot be read comes as its error, and the others go on.

        Boxes of one picture that come one after another cost one decoding.

        Args:
            uris: as for ``read``.
        """
        asked: list[str] = []
        answers = super().read_many(iter(asked.pop, None))
        last: tuple[str, _Picture] | None = None
        for uri in uris:
            result: bytes | ImageError
            try:
                whole, box = self._split(uri)
                if box is not None and last is not None and last[0] == whole:
                    result = self._bmp(last[1].cut(box))
                else:
                    record = self._record(whole)
                    if record is None:
                        asked.append(whole)
                        result = next(answers)
                    else:
                        result = record
                    if box is not None and not isinstance(result, ImageError):
                        last = (whole, self._decode(result))
                        result = self._bmp(last[1].cut(box))
            except ImageError as error:
                result = error
            yield result

    def _split(self, uri: str) -> tuple[str, Box | None]:
        """Part a uri into the picture's and the box."""
        found = _CUT.fullmatch(uri)
        if found is None or self._is_file(uri):
            return uri, None
        x, y, width, height = (int(number) for number in found.groups()[1:])
        return found[1], (x, y, width, height)

    def _is_file(self, uri: str) -> bool:
        try:
            self._root.file(uri)
        except ImageError:
            return False
        return True

    def _record(self, uri: str) -> bytes | None:
        """Read a CIFAR-10 record as BMP; None where the uri is of no record."""
        found = _RECORD.fullmatch(uri)
        if found is None or self._is_file(uri):
            return None
        path, number = self._root.file(found[1]), int(found[2])
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each of 60,000 records
                records = os.fstat(file.fileno()).st_size // RECORD_BYTES
                if number >= records:
                    raise ImageError(f"no such record: the file has {records:,}")
                file.seek(number * RECORD_BYTES)
                data = file.read(RECORD_BYTES)
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror or error})") from error
        if len(data) < RECORD_BYTES:
            raise ImageError("truncated")
        planes = np.frombuffer(data, np.uint8, offset=1).reshape(3, 32, 32)
        return self._bmp(planes.transpose(1, 2, 0))

    def _decode(self, data: bytes) -> _Picture:
        return _Picture(decode(data, limits=self._limits).pixels, _orientation(data))

    def _bmp(self, pixels: np.ndarray) -> bytes:
        """Write (height, width, 3) uint8 as a BMP of 24 bits a pixel."""
        height, width = pixels.shape[:2]
        line = -(-3 * width // 4) * 4
        self._check_bytes(54 + line * height)
        rows = np.zeros((height, line), np.uint8)
        # rows from the bottom up, each blue, green, red
        rows[:, : 3 * width] = pixels[::-1, :, ::-1].reshape(height, 3 * width)
        header = struct.pack(
            "<2sIHHIIiiHHIIiiII", b"BM", 54 + rows.size, 0, 0, 54, 40, width, height, 1, 24, 0, rows.size, 0, 0, 0, 0
        )
        return header + rows.tobytes()


def _orientation(data: bytes) -> int:
    """Read the EXIF orientation of a JPEG or PNG, 1 to 8; 1 where there is none."""
    block = png_exif(data) if data.startswith(b"\x89PNG") else _jpeg_exif(data)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get((block or b"")[:4])
    if block is None or order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _jpeg_exif(data: bytes) -> bytes | None:
    """Find the TIFF structure of a JPEG's EXIF segment."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            return None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 10 : at + 2 + length]
        at += 2 + length
    return None
