"""What a file is by its bytes: names and extensions are not believed.

Pure reading of headers, before any decoder allocates anything. The decoder itself is ``retrieval.images``.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from retrieval.errors import ImageError

FORMATS: Final[tuple[str, ...]] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""The formats that are decoded, by Pillow's names. MPO, which phones write, is read as the JPEG it begins with."""

HEAD: Final = 4096
"""Bytes from the start of a file that ``sniff`` needs at most."""

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# What people keep beside their photos; named, so that the reason says what to do.
_OTHERS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop PSD"),
    (b"\0\0\x01\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"PAR1", "Parquet"),
    (b"\x1aE\xdf\xa3", "Matroska video"),
)
_HEIF_BRANDS: Final = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_MARKUP: Final = re.compile(rb"\s*(?:<\?xml|<!--|<!doctype|<svg|<html)", re.IGNORECASE)
# In a JPEG's scan, 0xFF stands before 0x00 (stuffing), RST0-7 or another 0xFF; before anything else it is a marker.
_JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_TIFF_BYTE_TYPES: Final = {1, 2, 6, 7}
_TIFF_MAX_VALUES: Final = 1 << 20
_TIFF_MAX_ENTRIES: Final = 4096


def sniff(data: bytes) -> str:
    """Say which of ``FORMATS`` the bytes are.

    Args:
        data: a file, or its first ``HEAD`` bytes.

    Raises:
        ImageError: they are none of them; the reason names what they are where that is plain.
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        length = min(max(int.from_bytes(data[:4], "big"), 12), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        raise _unsupported("HEIC" if brands & _HEIF_BRANDS else "MP4 video")
    for magic, name in _OTHERS:
        if data.startswith(magic):
            raise _unsupported(name)
    if not data:
        raise ImageError("empty file")
    head = data[:HEAD].removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(head):
        raise _unsupported("SVG" if b"<svg" in head.lower() else "XML or HTML")
    if b"\0" not in head and _is_text(head):
        raise ImageError("text, not an image")
    raise ImageError("not an image")


def check_structure(data: bytes, name: str, *, max_frames: int, max_scans: int) -> None:
    """Refuse files whose number of parts would keep a decoder busy, without decoding anything.

    Args:
        data: the whole file.
        name: its format, from ``sniff``.
        max_frames: of a GIF or TIFF; other formats state their number and their decoders report it.
        max_scans: of a progressive JPEG: each costs a pass over the whole picture, however few bytes it has.

    Raises:
        ImageError: more than that, or a WebP or AVIF that is shorter than its container says.
    """
    if name == "GIF" and (frames := _gif_frames(data, max_frames)) > max_frames:
        raise too_many_frames(name, frames, max_frames)
    if name == "TIFF" and (frames := _tiff_frames(data, max_frames)) > max_frames:
        raise too_many_frames(name, frames, max_frames)
    if name == "JPEG" and _jpeg_scans(data, max_scans) > max_scans:
        raise ImageError(f"JPEG of more than {max_scans} scans")
    if name == "WEBP" and len(data) < int.from_bytes(data[4:8], "little") + 8:
        raise ImageError("truncated")
    if name == "AVIF" and len(data) < _boxes_end(data):
        raise ImageError("truncated")


def too_many_frames(name: str, frames: int, limit: int) -> ImageError:
    """Word the refusal of an animation or a many-page file."""
    return ImageError(f"{name} of {frames:,} frames or more, limit {limit:,}")


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Read a WebP's width and height in pixels; None where the header is cut or unknown.

    Its decoder allocates the canvas when it is made, so the size is looked at before.
    """
    chunk = data[12:16]
    if len(data) < 30:
        return None
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return None


def png_exif(data: bytes) -> bytes | None:
    """Find the eXIf chunk of a PNG, which may also stand behind the pixels; None without one."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return None
        at += 12 + length
    return None


def _unsupported(name: str) -> ImageError:
    return ImageError(f"format {name} is not supported ({', '.join(FORMATS[:-1])} and {FORMATS[-1]} are)")


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) == HEAD  # a character cut by our own limit
    return True


def _gif_frames(data: bytes, limit: int) -> int:
    """Count image blocks, up to limit + 1; a cut file is counted as far as it goes."""
    frames = 0
    try:
        at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 128 else 0)
        while frames <= limit:
            kind = data[at]
            if kind == 0x21:  # extension: a label, then sub-blocks
                at += 2
            elif kind == 0x2C:  # image: position and flags, palette, code size, then sub-blocks
                frames += 1
                flags = data[at + 9]
                at += 11 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
            else:
                break
            while data[at]:
                at += data[at] + 1
            at += 1
    except IndexError:
        pass
    return frames


def _tiff_frames(data: bytes, limit: int) -> int:
    """Count directories, up to limit + 1; refuses tags whose values would fill memory when they are unpacked."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    number, offset, entry, step = ("Q", "Q", "HHQ", 20) if big else ("H", "I", "HHI", 12)
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        while at and at not in seen and len(seen) <= limit:
            seen.add(at)
            (entries,) = struct.unpack_from(order + number, data, at)
            first = at + struct.calcsize(order + number)
            if entries > _TIFF_MAX_ENTRIES:
                raise ImageError(f"TIFF with a directory of {entries:,} entries, limit {_TIFF_MAX_ENTRIES:,}")
            # Only the first directory is decoded, so only its tags are unpacked.
            for place in range(first, first + entries * step, step) if len(seen) == 1 else ():
                tag, kind, count = struct.unpack_from(order + entry, data, place)
                if kind not in _TIFF_BYTE_TYPES and count > _TIFF_MAX_VALUES:
                    raise ImageError(f"TIFF whose tag {tag} claims {count:,} values, limit {_TIFF_MAX_VALUES:,}")
            (at,) = struct.unpack_from(order + offset, data, first + entries * step)
    except (struct.error, OverflowError):
        pass
    return len(seen)


def _boxes_end(data: bytes) -> int:
    """Say where the outermost boxes of an ISO media file end, as far as they can be followed."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        if length < 8:  # 0: to the end of the file
            return len(data)
        at += length
    return at


def _jpeg_scans(data: bytes, limit: int) -> int:
    """Count the scans of a progressive JPEG's first image, up to limit + 1; 0 for other JPEGs."""
    at, scans, progressive = 2, 0, False
    while scans <= limit:
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            break
        marker, at = data[found.end() - 1], found.end()
        if marker in (0xC0, 0xC1, 0xC3):
            return 0
        if marker in (0xC2, 0xC6, 0xCA, 0xCE):
            progressive = True
        if marker == 0xD9:
            break
        if marker == 0xDA:
            scans += 1
        if marker not in (0x01, 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    return scans if progressive else 0
