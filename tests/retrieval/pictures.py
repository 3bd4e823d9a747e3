"""Image files made by hand: pictures, ICC profiles, and files that Pillow itself would not write."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

# The transposition that turns an upright picture into one that this orientation turns back.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def gradient(width: int = 60, height: int = 40) -> np.ndarray:
    """(height, width, 3) uint8: no two corners alike, and smooth, so that lossy formats stay close."""
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    colours = 255 * ((1 - y) * ((1 - x) * (0.9, 0.1, 0.1) + x * (0.1, 0.8, 0.2)) + y * ((1 - x) * (0.2, 0.2, 0.9) + x))
    return colours.round().astype(np.uint8)


def encoded(picture: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """Write a picture as a file."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, format, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = "taken at 48.2 N 16.4 E"
    return block


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    """A PNG that claims a size; ``chunks`` stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def tiff(
    tags: Mapping[int, tuple[int, Sequence[int]]], pixels: bytes = b"", *, pages: int = 1, loop: bool = False
) -> bytes:
    """A little-endian TIFF whose directories all hold ``tags`` (number → type and values) and point to ``pixels``."""
    sizes = {1: "B", 3: "H", 4: "I"}
    body = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels
    entries = dict(tags) | {273: (4, [8]), 279: (4, [len(pixels)])}
    for page in range(pages):
        start = len(body)
        length = 2 + 12 * len(entries) + 4
        late = b""
        directory = struct.pack("<H", len(entries))
        for tag, (kind, values) in sorted(entries.items()):
            data = struct.pack(f"<{len(values)}{sizes[kind]}", *values)
            if len(data) > 4:
                place, late = start + length + len(late), late + data
                data = struct.pack("<I", place)
            directory += struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
        last = page == pages - 1
        following = (8 + len(pixels) if loop else 0) if last else start + length + len(late)
        body += directory + struct.pack("<I", following) + late
    return body


def grey_tiff(
    width: int, height: int, bits: int, pixels: bytes, *, white_is_zero: bool = False, **options: Any
) -> bytes:
    photometric = 0 if white_is_zero else 1
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [photometric])}
    return tiff(tags | {277: (3, [1]), 278: (4, [height])}, pixels, **options)


def icc(space: bytes, tags: Mapping[bytes, bytes], *, kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile, version 2.4."""
    at, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(data), len(value))
        data += value.ljust(-(-len(value) // 4) * 4, b"\0")
    head = (
        struct.pack(">I4xI", at + len(data), 0x02400000) + kind + space + pcs + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    )
    head += b"acsp" + bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WHITE = _xyz(0.9642, 1.0, 0.8249)
RED, GREEN, BLUE = _xyz(0.4360, 0.2225, 0.0139), _xyz(0.3851, 0.7169, 0.0971), _xyz(0.1431, 0.0606, 0.7141)


def swapped_profile() -> bytes:
    """An RGB profile that calls red what sRGB calls blue, so that applying it shows."""
    curve = _gamma(2.2)
    return icc(
        b"RGB ",
        {b"wtpt": WHITE, b"rXYZ": BLUE, b"gXYZ": GREEN, b"bXYZ": RED, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve},
    )


def linear_grey_profile() -> bytes:
    """A grey profile without a curve: 128 is half the light, 188 in sRGB."""
    return icc(b"GRAY", {b"wtpt": WHITE, b"kTRC": _gamma(1.0)})


def green_cyan_profile() -> bytes:
    """A press whose cyan prints green, so that its profile differs from the naive formula."""
    straight = bytes(range(256))
    corners = b""
    for ink in range(16):  # cyan is the highest bit, black the lowest
        cyan, black = ink & 8, ink & 1
        corners += bytes((0, 128, 128) if black else (150, 60, 190) if cyan else (255, 128, 128))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + straight * 4 + corners + straight * 3
    return icc(b"CMYK", {b"wtpt": WHITE, b"A2B0": table}, kind=b"prtr", pcs=b"Lab ")


def huge_png() -> bytes:
    """A PNG of a few hundred bytes that claims 50,000 x 50,000 pixels."""
    return png(50_000, 50_000, rows=bytes(1000))


def many_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan is there many times over."""
    data = encoded(gradient(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * times + b"\xff\xd9"


def deep_png(levels: np.ndarray) -> bytes:
    """A 16-bit grey PNG of (height, width) uint16."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    return png(levels.shape[1], levels.shape[0], depth=16, colour=0, rows=rows)
