"""The one decoder: bytes → upright 8-bit sRGB pixels, within stated limits.

Only the formats of ``FORMATS`` are tried, chosen by the bytes. Sizes are read from headers and checked before
anything is allocated; cut or damaged files are refused; of animations the first frame is taken.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from retrieval.colour import is_srgb, to_srgb
from retrieval.errors import ImageError
from retrieval.formats import FORMATS, check_structure, png_exif, sniff, too_many_frames, webp_size
from retrieval.jpeg import plain_pixels

__all__ = [
    "DEFAULT_LIMITS",
    "FORMATS",
    "DecodedImage",
    "ImageLimits",
    "decode",
    "encode_jpeg",
    "measure",
    "metadata_bytes",
    "thumbnail",
]

# What its plugins log about a damaged file is in the reason; without a handler it would be printed as well.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MAX_SCANS: Final = 100
"""Scans of a progressive JPEG; encoders write about ten."""

# The classes themselves, not Image.open: it tries every plugin it knows when one of these is not loaded, and hides
# the size of a picture that it refuses. JpegImageFile reads the first picture of an MPO and none of its others.
_OPENERS: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class ImageLimits:
    """What an input may cost.

    Attributes:
        max_bytes: of the file.
        max_pixels: width x height. Above 179 million, Pillow's own limit still holds for TIFF and WebP.
        max_frames: of an animation or a many-page TIFF, though only the first is decoded.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 120_000_000
    max_frames: int = 1000


DEFAULT_LIMITS: Final = ImageLimits()


@dataclass(frozen=True)
class DecodedImage:
    """A picture, ready for an embedder.

    Attributes:
        pixels: (height, width, 3) uint8, sRGB, upright, C-contiguous, writable; possibly reduced.
        width: of the original, after orientation, pixels.
        height: likewise.
        format: one of ``FORMATS``.
    """

    pixels: np.ndarray
    width: int
    height: int
    format: str


def decode(data: bytes, *, size: int | None = None, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """Decode an image file.

    EXIF orientation is applied (for AVIF its own rotation), alpha goes over white, everything ends as 8-bit sRGB;
    see ``retrieval.colour``. May be called from many threads.

    Args:
        data: the file.
        size: the shorter side, in pixels, that the caller will resize to. The result may then be reduced by an
            integer factor, and its shorter side stays at least ``2 * size`` or the original's: JPEGs are decoded at
            1/2, 1/4 or 1/8, which is faster too, and everything is box-averaged. None: full size.
        limits: what the file may cost.

    Raises:
        ImageError: it is no image, of another format, cut, damaged or beyond a limit; the message is the reason.
    """
    assert size is None or size > 0, "size is a number of pixels"
    name = _admit(data, limits)
    with _refusing(name), _open(name, data, limits) as image:
        stored = width, height = image.size
        orientation = _orientation(name, image, data)
        if orientation >= 5:
            width, height = height, width
        if size is not None and name == "JPEG":
            image.draft(None, (2 * size, 2 * size))
        factor = 1 if size is None else max(1, min(image.size) // (2 * size))
        pixels = None
        if name == "JPEG" and factor == 1 and is_srgb(image):
            pixels = plain_pixels(data, stored=stored, wanted=image.size)
        if pixels is None:  # after a failure too: what is refused, and why, is Pillow's to say
            image.load()
            pixels = np.array(to_srgb(image, factor=factor))
        return DecodedImage(_upright(pixels, orientation), width, height, name)


def measure(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Read an image's size from its header.

    Args:
        data: the file.
        limits: what the file may cost.

    Returns:
        Width and height after orientation, pixels: the same as ``decode`` reports.

    Raises:
        ImageError: the header shows that ``decode`` would refuse it.
    """
    name = _admit(data, limits)
    with _refusing(name), _open(name, data, limits) as image:
        width, height = image.size
        return (height, width) if _orientation(name, image, data) >= 5 else (width, height)


def metadata_bytes(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> int:
    """Count the bytes of EXIF, XMP and the like that an image file carries, from its header.

    Raises:
        ImageError: as ``measure``.
    """
    name = _admit(data, limits)
    with _refusing(name), _open(name, data, limits) as image:
        blocks = [image.info.get(key) for key in ("exif", "xmp", "photoshop", "comment")]
        return sum(len(block) for block in blocks if isinstance(block, bytes | str))


def jpeg_steps(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray | None:
    """Read the quantisation table of a JPEG's brightness, from its header.

    Returns:
        (8, 8) int64, by frequency down and across; None for other formats.

    Raises:
        ImageError: as ``measure``.
    """
    name = _admit(data, limits)
    with _refusing(name), _open(name, data, limits) as image:
        table = getattr(image, "quantization", {}).get(0)
        return None if table is None or len(table) != 64 else np.array(table, np.int64).reshape(8, 8)


def thumbnail(data: bytes, *, size: int = 256, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Draw an image small, as a JPEG without any of its metadata.

    Args:
        data: the file.
        size: the longest side, pixels; smaller pictures keep their size.
        limits: what the file may cost.

    Raises:
        ImageError: as ``decode``.
    """
    width, height = measure(data, limits=limits)
    shorter = max(1, -(-size * min(width, height) // max(width, height)))
    picture = Image.fromarray(decode(data, size=shorter, limits=limits).pixels)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(np.asarray(picture))


def encode_jpeg(pixels: np.ndarray, *, quality: int = 85) -> bytes:
    """Write pixels as a JPEG file without metadata.

    Args:
        pixels: (height, width, 3) uint8, sRGB; sides of at most 65,500.
        quality: 1 to 95.
    """
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8, "pixels are (h, w, 3) uint8"
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _admit(data: bytes, limits: ImageLimits) -> str:
    """Look at the bytes alone: the format, or the refusal."""
    if len(data) > limits.max_bytes:
        raise ImageError(f"{len(data) / 2**20:,.1f} MiB, limit {limits.max_bytes / 2**20:,.1f} MiB")
    name = sniff(data)
    check_structure(data, name, max_frames=limits.max_frames, max_scans=MAX_SCANS)
    if name == "WEBP" and (size := webp_size(data)) is not None:
        _check_size(name, size, limits)
    if name in ("WEBP", "AVIF") and not features.check(name.lower()):
        raise ImageError(f"this machine's Pillow was built without {name}")
    return name


def _open(name: str, data: bytes, limits: ImageLimits) -> ImageFile.ImageFile:
    image = _OPENERS[name](io.BytesIO(data))
    _check_size(name, image.size, limits)
    if name in ("PNG", "WEBP", "AVIF"):
        frames = int(getattr(image, "n_frames", 1))
        if frames > limits.max_frames:
            raise too_many_frames(name, frames, limits.max_frames)
    return image


def _check_size(name: str, size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageError(f"{name} of {width} x {height} pixels, limit {limits.max_pixels:,} pixels")


def _orientation(name: str, image: ImageFile.ImageFile, data: bytes) -> int:
    """Read the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read, and for TIFF, which Pillow turns.

    Read from the bytes that the header gave, since ``Image.getexif`` would decode a PNG to look for it.
    """
    if name == "TIFF":
        return 1
    block = image.info.get("exif")
    if block is None and name == "PNG":
        block = png_exif(data)
    if not isinstance(block, bytes) or not block:
        return 1
    try:
        exif = Image.Exif()
        exif.load(block)
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # whatever is wrong with the metadata, the picture is not
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (height, width, 3) uint8 as its EXIF orientation says."""
    if orientation == 1:
        return pixels
    whole = pixels.view("V3")[..., 0]  # (height, width): copying pixels is three times faster than copying levels
    whole = whole.T if orientation >= 5 else whole
    whole = whole[::-1] if orientation in (3, 4, 7, 8) else whole
    whole = whole[:, ::-1] if orientation in (2, 3, 6, 7) else whole
    return np.ascontiguousarray(whole)[..., None].view(np.uint8)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError whose message is one clause, and keep its warnings in."""
    try:
        with _QUIET:
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"not enough memory to decode this {name}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} of more pixels than Pillow's own limit") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError, ...
        text = "".join(mark if mark.isprintable() else " " for mark in str(error))[:120].strip()
        if isinstance(error, EOFError) or "truncat" in text.lower():
            raise ImageError("truncated") from error
        if "unpack" in text or "not identified" in text or isinstance(error, IndexError):
            raise ImageError(f"truncated or damaged {name}") from error
        raise ImageError(f"damaged {name} ({text or type(error).__name__})") from error


class _PillowsWarnings:
    """Keeps Pillow's warnings in while a thread of ours decodes, and only in that thread.

    ``warnings.catch_warnings`` is for the whole process, so threads would undo each other's. A filter may instead
    hold any object with ``match`` where a compiled pattern of the module's name stands; this one asks the thread.
    """

    def __init__(self) -> None:
        self._thread = threading.local()
        self._filter = ("ignore", None, Warning, self, 0)

    def match(self, module: str) -> bool:
        """Say whether a warning of this module is to be ignored here and now."""
        return bool(getattr(self._thread, "decoding", False)) and module.partition(".")[0] == "PIL"

    def __enter__(self) -> None:
        filters = cast(list[Any], warnings.filters)
        if not filters or filters[0] is not self._filter:
            filters.insert(0, self._filter)
            for place in range(len(filters) - 1, 0, -1):
                if filters[place] is self._filter:
                    del filters[place]
        self._thread.decoding = True

    def __exit__(self, *_: object) -> None:
        self._thread.decoding = False


_QUIET: Final = _PillowsWarnings()
