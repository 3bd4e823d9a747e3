"""Whatever the file's mode, depth, transparency or profile: 8-bit sRGB comes out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from retrieval.colour import MAX_PROFILE_BYTES, grey_levels
from retrieval.images import decode
from tests.retrieval.pictures import (
    chunk,
    deep_png,
    encoded,
    gradient,
    green_cyan_profile,
    grey_tiff,
    linear_grey_profile,
    png,
    swapped_profile,
)

RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))


def grey(data: bytes) -> np.ndarray:
    """The one level of each pixel of a grey picture, (height, width) int."""
    pixels = decode(data).pixels
    assert (pixels[..., :1] == pixels).all()
    return pixels[..., 0].astype(int)


@pytest.mark.parametrize(
    "data",
    [
        encoded(RAMP, "PNG"),
        encoded(Image.fromarray(RAMP).convert("LA"), "PNG"),
        encoded(Image.fromarray(RAMP).convert("P"), "PNG"),
        encoded(Image.fromarray(RAMP).convert("LA").convert("PA"), "TIFF"),
        deep_png(RAMP.astype(np.uint16) * 257),
        grey_tiff(256, 8, 16, (RAMP.astype("<u2") * 257).tobytes()),
        grey_tiff(256, 8, 16, (65535 - RAMP.astype("<u2") * 257).tobytes(), white_is_zero=True),
        encoded(Image.fromarray((RAMP.astype(np.uint16) * 257).astype(">u2")), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.float32) * 1e9 - 5e10), "TIFF"),
    ],
    ids=["L", "LA", "P", "PA", "PNG16", "TIFF16", "white is zero", "big-endian", "TIFF32", "share", "level", "any"],
)
def test_grey_of_every_depth_keeps_its_levels(data: bytes) -> None:
    assert np.abs(grey(data) - RAMP).max() == 0


def test_twelve_bits_are_scaled_by_sixteen() -> None:
    levels = RAMP.astype(int) * 16
    high, low = levels[:, ::2], levels[:, 1::2]
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=-1).astype(np.uint8)
    assert (grey(grey_tiff(256, 8, 12, packed.tobytes())) == RAMP).all()


def test_one_bit_is_black_and_white() -> None:
    rows = RAMP > 100
    assert (grey(encoded(Image.fromarray(rows), "PNG")) == rows * 255).all()


def test_sixteen_bit_colour_keeps_its_levels() -> None:
    pixels = gradient(5, 4)
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)
    assert (decode(png(5, 4, depth=16, rows=rows)).pixels == pixels).all()


def test_values_that_are_no_numbers_do_not_spoil_the_others() -> None:
    values = np.array([[0.0, 0.5, 1.0, np.nan, np.inf, -np.inf]], np.float32)
    assert grey_levels(values).tolist() == [[0, 128, 255, 0, 255, 0]]
    assert grey_levels(np.full((2, 2), np.nan, np.float32)).tolist() == [[0, 0], [0, 0]]
    widest = np.array([[np.finfo(np.float32).min, np.finfo(np.float32).max]], np.float32)
    assert grey_levels(widest).tolist() == [[0, 255]]
    assert grey_levels(np.full((2, 2), 1e9)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PNG of two colours"])
@pytest.mark.parametrize("size", [None, 2])
def test_transparency_goes_over_white(mode: str, size: int | None) -> None:
    if mode == "RGBA":
        data = encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "PNG")
    elif mode == "LA":
        data = encoded(Image.new("LA", (20, 20), (0, 0)), "PNG")
    else:
        two = Image.new("P", (20, 20), 1)
        two.putpalette([0, 0, 0, 200, 0, 0])
        data = encoded(two, "PNG", transparency=b"\xff\x00")
    assert (decode(data, size=size).pixels == 255).all()


def test_half_transparency_is_half_white() -> None:
    pixels = decode(encoded(Image.new("RGBA", (4, 4), (255, 0, 100, 128)), "PNG")).pixels
    assert np.abs(pixels.astype(int) - (255, 127, 177)).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(np.zeros((4, 4), np.uint8), "PNG", transparency=0),
        encoded(np.zeros((4, 4, 3), np.uint8), "PNG", transparency=(0, 0, 0)),
        encoded(Image.new("P", (4, 4), 3), "GIF", transparency=3),
        png(1, 1, chunk(b"tRNS", b"\x01\x02"), depth=16, colour=0, rows=b"\0\x01\x02"),
    ],
    ids=["grey", "colour", "GIF", "16 bits"],
)
def test_a_colour_named_transparent_goes_over_white(data: bytes) -> None:
    assert (decode(data).pixels == 255).all()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile(format: str) -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    options = {"quality": 95} if format == "JPEG" else {}
    assert np.abs(decode(encoded(ink, format, **options)).pixels.astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(format: str) -> None:
    data = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), format, icc_profile=green_cyan_profile())
    red, green, blue = decode(data).pixels[8, 8].astype(int)
    assert green > red + 50 and green > blue + 50
    paper = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), format, icc_profile=green_cyan_profile())
    assert decode(paper).pixels.min() >= 250


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_rgb_profile_is_applied(format: str) -> None:
    red = np.full((16, 16, 3), (220, 30, 30), np.uint8)
    pixels = decode(encoded(red, format, icc_profile=swapped_profile(), quality=95)).pixels.astype(int)
    assert np.abs(pixels - (30, 30, 220)).max() <= 12
    plain = decode(encoded(red, format, quality=95)).pixels.astype(int)
    assert np.abs(plain - (220, 30, 30)).max() <= 6


def test_a_grey_profile_is_applied_to_grey_and_an_rgb_profile_too() -> None:
    half = np.full((4, 4), 128, np.uint8)
    assert np.abs(grey(encoded(half, "PNG", icc_profile=linear_grey_profile())) - 188).max() <= 1
    assert np.abs(grey(encoded(half, "PNG", icc_profile=swapped_profile())) - 128).max() <= 2


def test_alpha_goes_over_white_before_the_profile() -> None:
    clear = Image.new("RGBA", (4, 4), (220, 30, 30, 0))
    assert decode(encoded(clear, "PNG", icc_profile=swapped_profile())).pixels.min() >= 254


def test_an_srgb_profile_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (decode(encoded(gradient(), "PNG", icc_profile=profile)).pixels == gradient()).all()


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        swapped_profile()[:200],
        bytes(128),
        linear_grey_profile(),  # of another colour space
        green_cyan_profile(),
        swapped_profile() + bytes(MAX_PROFILE_BYTES),
    ],
    ids=["text", "cut", "zeros", "grey", "CMYK", "too large"],
)
def test_a_bad_profile_is_ignored_and_not_the_picture(profile: bytes) -> None:
    data = encoded(gradient(), "TIFF", icc_profile=profile)
    assert (decode(data).pixels == gradient()).all()
