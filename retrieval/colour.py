"""Any mode that Pillow reads → 8-bit sRGB: depth, palettes, alpha over white, ICC profiles."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES: Final = 4 * 2**20
"""A larger ICC profile is ignored; those of presses have 0.5 to 3 MiB."""

# Colour space of a profile → the Pillow mode that its transform takes.
_MODE_OF_SPACE: Final = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
_PLAIN_MODES: Final = {"La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "1": "L"}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_BAND_PIXELS: Final = 1 << 20


def to_srgb(image: Image.Image, *, factor: int = 1) -> Image.Image:
    """Give a loaded picture as 8-bit sRGB, reduced by an integer factor on the way.

    Alpha goes over white. An embedded ICC profile is applied (perceptual intent) where it can be used and is not
    sRGB already; a bad profile is ignored, not the picture. CMYK without a profile is converted by the naive
    formula. Grey of more than 8 bits is scaled, not clipped: see ``grey_levels``.

    Args:
        image: loaded, of any mode.
        factor: each side is divided by it and rounded up; pixels are averaged.

    Returns:
        A picture of mode RGB.
    """
    profile = _profile(image)
    picture = _eight_bits(image)
    if factor > 1:
        picture = picture.reduce(factor)
    picture = _over_white(picture)
    if profile:
        picture = _by_profile(picture, profile)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def is_srgb(image: Image.Image) -> bool:
    """Tell whether ``to_srgb`` would do no more to the pixels than write 8-bit grey as RGB.

    Args:
        image: need not be loaded.
    """
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        return False
    profile = _profile(image)
    return not profile or _transform(profile, image.mode)[1] is None


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Scale 32-bit grey values, whose range no header states, to 0..255.

    Floats within [0, 1] are shares; values within [0, 255] are 8-bit levels and those within [0, 65535] 16-bit
    levels; anything else is stretched from its smallest to its largest value. NaN counts as the smallest.

    Args:
        values: (height, width), integers or floats.

    Returns:
        (height, width) uint8.
    """
    floats = values.dtype.kind == "f"
    finite = values[np.isfinite(values)] if floats else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if floats and 0 <= low <= high <= 1:
        base, scale = 0.0, 255.0
    elif 0 <= low <= high <= 255:
        base, scale = 0.0, 1.0
    elif 0 <= low <= high <= 65535:
        base, scale = 0.0, 255 / 65535
    else:
        base, scale = low, 255 / (high - low) if high > low else 0.0
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, _BAND_PIXELS // max(1, values.shape[1]))  # float64 copies of a band at a time, not of the picture
    for start in range(0, len(values), rows):
        band = values[start : start + rows].astype(np.float64)
        if floats:
            band = np.nan_to_num(band, nan=low, posinf=high, neginf=low)
        levels[start : start + rows] = np.clip(np.rint((band - base) * scale), 0, 255)
    return levels


def _profile(image: Image.Image) -> bytes:
    """Give the embedded ICC profile; empty where there is none or it is too large."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and len(profile) <= MAX_PROFILE_BYTES else b""


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring a picture to one of L, LA, RGB, RGBA, CMYK, LAB."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep_grey(image)
    if mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if mode in ("L", "RGB", "1") and "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert(_PLAIN_MODES[mode]) if mode in _PLAIN_MODES else image


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        # The high byte: 257 x level is how 8 bits are written in 16, and 16 x level how 12-bit sensors are stored.
        levels = (values >> (4 if tags.get(_BITS_PER_SAMPLE) == (12,) else 8)).astype(np.uint8)
    else:
        levels = grey_levels(values)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns that round for 8 bits only
        levels = 255 - levels
    grey = Image.fromarray(levels)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _over_white(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("LA", "RGBA"):
        return picture
    base = picture.mode[:-1]
    page = Image.new(base, picture.size, "white")
    page.paste(picture.convert(base), mask=picture.getchannel("A"))
    return page


def _by_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    mode, transform = _transform(profile, picture.mode)
    if transform is None:
        return picture
    try:
        done = ImageCms.applyTransform(picture if picture.mode == mode else picture.convert(mode), transform)
    except ImageCms.PyCMSError:
        return picture
    return picture if done is None else done


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Build the transform from a profile to sRGB: the mode it takes, and None where none is needed or possible.

    Cached, because a folder's pictures share a few profiles; lcms2 transforms may be applied by many threads at once.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        wanted = _MODE_OF_SPACE.get(source.profile.xcolor_space.strip(), "")
        if wanted != mode and not (wanted == "RGB" and mode == "L"):
            return mode, None
        transform = ImageCms.buildTransform(source, _srgb(), wanted, "RGB")
        return wanted, None if wanted == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, AttributeError):
        return mode, None


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether an RGB transform moves no colour by more than one level, as the many profiles named sRGB do."""
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    probe = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(17 * 17, 17, 3)
    moved = ImageCms.applyTransform(Image.fromarray(probe), transform)
    return moved is not None and int(np.abs(np.asarray(moved).astype(int) - probe).max()) <= 1
