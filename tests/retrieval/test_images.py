"""The one decoder: what it accepts, what it refuses and why, and what it promises about sizes."""

from __future__ import annotations

import io
import math
import resource
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import ImageError
from retrieval.images import (
    DEFAULT_LIMITS,
    FORMATS,
    ImageLimits,
    decode,
    encode_jpeg,
    measure,
    metadata_bytes,
    thumbnail,
)
from tests.retrieval.pictures import (
    STORED,
    chunk,
    encoded,
    exif,
    gradient,
    grey_tiff,
    huge_png,
    many_scans,
    png,
    swapped_profile,
)

# How far a pixel may be from the original, on average, in levels.
NEAR = {"JPEG": 2.0, "WEBP": 2.5, "AVIF": 2.5, "GIF": 6.0}
QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def turned(orientation: int, width: int = 60, height: int = 40) -> Image.Image:
    """The gradient as a camera held that way stores it."""
    picture = Image.fromarray(gradient(width, height))
    transposition = STORED[orientation]
    return picture if transposition is None else picture.transpose(transposition)


@cache
def valid(name: str) -> bytes:
    return encoded(gradient(), name, **QUALITY.get(name, {}))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_decodes_to_its_pixels(name: str) -> None:
    picture = decode(valid(name))
    assert distance(picture.pixels, gradient()) <= NEAR.get(name, 0)
    assert (picture.width, picture.height, picture.format) == (60, 40, name)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous and picture.pixels.flags.writeable
    assert measure(valid(name)) == (60, 40)


@given(st.sampled_from(range(1, 9)), st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]), st.booleans())
def test_all_orientations_give_the_same_upright_picture(orientation: int, name: str, reduced: bool) -> None:
    options = QUALITY.get(name, {})
    data = encoded(turned(orientation, 300, 200), name, exif=exif(orientation), **options)
    picture = decode(data, size=30 if reduced else None)
    assert (picture.width, picture.height) == measure(data) == (300, 200)
    small = np.asarray(Image.fromarray(gradient(300, 200)).resize(picture.pixels.shape[1::-1], Image.Resampling.BOX))
    assert distance(picture.pixels, small) <= NEAR.get(name, 0.5)


def test_orientation_behind_the_pixels_of_a_png_counts() -> None:
    block = chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    data = encoded(turned(6), "PNG").replace(chunk(b"IEND", b""), block + chunk(b"IEND", b""))
    assert measure(data) == (60, 40)
    assert (decode(data).pixels == gradient()).all()


def test_an_mpo_is_its_first_picture_upright() -> None:
    other = Image.new("RGB", (80, 80), "black")
    data = encoded(turned(8), "MPO", save_all=True, append_images=[other], exif=exif(8), quality=95)
    assert b"MPF\0" in data
    picture = decode(data)
    assert (picture.width, picture.height, picture.format) == (60, 40, "JPEG")
    assert distance(picture.pixels, gradient()) <= NEAR["JPEG"]


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1"])
def test_damaged_metadata_does_not_refuse_the_picture_and_warns_nobody(block: bytes) -> None:
    data = encoded(gradient(), "JPEG", exif=block, quality=95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert distance(decode(data).pixels, gradient()) <= NEAR["JPEG"]
        assert measure(data) == (60, 40)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    assert decode(encoded(gradient(), "PNG", exif=exif(9))).pixels.shape == (40, 60, 3)


def test_pillow_warns_its_other_users_as_before() -> None:
    decode(valid("PNG"))
    with pytest.warns(Image.DecompressionBombWarning), Image.open(io.BytesIO(png(10_000, 10_000))):
        pass


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(name: str) -> None:
    first, second = Image.new("RGB", (30, 20), (200, 10, 10)), Image.new("RGB", (30, 20), (10, 200, 10))
    data = encoded(first, name, save_all=True, append_images=[second] * 3)
    assert distance(decode(data).pixels, np.asarray(first)) <= 3
    limits = ImageLimits(max_frames=1)
    for refuse in (decode, measure, thumbnail):
        with pytest.raises(ImageError, match=rf"^{name} of \d frames or more, limit 1$"):
            refuse(data, limits=limits)


@given(st.sampled_from(["JPEG", "PNG", "BMP", "GIF"]), st.integers(1, 400), st.integers(1, 400), st.integers(1, 120))
def test_the_shorter_side_stays_twice_the_size_or_the_originals(name: str, width: int, height: int, size: int) -> None:
    data = encoded(gradient(width, height), name)
    picture = decode(data, size=size)
    assert (picture.width, picture.height) == measure(data) == (width, height)
    shorter = min(picture.pixels.shape[:2])
    assert shorter >= min(2 * size, width, height)
    assert shorter <= 4 * size  # it is reduced where it can be
    steps = [(draft, whole) for draft in ((1, 2, 4, 8) if name == "JPEG" else (1,)) for whole in range(1, 401)]
    sides = [tuple(math.ceil(math.ceil(side / draft) / whole) for side in (height, width)) for draft, whole in steps]
    assert picture.pixels.shape[:2] in sides


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_reduced_picture_looks_like_the_whole_one(name: str) -> None:
    data = encoded(gradient(1600, 1200), name, **QUALITY.get(name, {}))
    small = decode(data, size=40).pixels
    assert small.shape[0] < 200
    whole = np.asarray(Image.fromarray(gradient(1600, 1200)).resize(small.shape[1::-1], Image.Resampling.BOX))
    assert distance(small, whole) <= 2


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1), (2, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_extreme_shapes_work(name: str, width: int, height: int) -> None:
    data = encoded(np.full((height, width, 3), 90, np.uint8), name)
    picture = decode(data, size=224)
    assert picture.pixels.shape == (height, width, 3)
    assert distance(picture.pixels, np.full((height, width, 3), 90)) <= 3
    small = decode(thumbnail(data, size=50))
    assert max(small.width, small.height) <= 50


def test_the_limits_are_looked_at_before_the_picture() -> None:
    data = valid("PNG")
    with pytest.raises(ImageError, match=r"^0\.0 MiB, limit 0\.0 MiB$"):
        decode(data, limits=ImageLimits(max_bytes=len(data) - 1))
    assert decode(data, limits=ImageLimits(max_bytes=len(data), max_pixels=2400)).width == 60
    for name in FORMATS:
        for refuse in (decode, measure, thumbnail):
            with pytest.raises(ImageError, match=rf"^{name} of 60 x 40 pixels, limit 2,399 pixels$"):
                refuse(valid(name), limits=ImageLimits(max_pixels=2399))


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for refuse in (decode, measure, thumbnail):
        with pytest.raises(ImageError, match=r"^PNG of 50000 x 50000 pixels, limit 120,000,000 pixels$"):
            refuse(huge_png())
    tiff = grey_tiff(60_000, 60_000, 8, b"\0")
    with pytest.raises(ImageError, match=r"^TIFF of 60000 x 60000 pixels"):
        decode(tiff)
    webp = bytearray(encoded(Image.new("RGBA", (4, 4)), "WEBP", exif=exif(1)))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = b"\xff\xff\x3f" * 2
    with pytest.raises(ImageError, match=r"^WEBP of 4194304 x 4194304 pixels"):
        decode(bytes(webp))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; the PNG would take 7.5 GB


def test_a_picture_between_pillows_limit_and_ours_is_taken_without_a_warning() -> None:
    data = encoded(Image.new("1", (9500, 9500)), "PNG")
    assert Image.MAX_IMAGE_PIXELS < 9500**2 < DEFAULT_LIMITS.max_pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, size=100).pixels.shape == (203, 203, 3)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    assert decode(many_scans(20)).width == 60
    with pytest.raises(ImageError, match=r"^JPEG of more than 100 scans$"):
        decode(many_scans(500))


@given(st.sampled_from(FORMATS), st.floats(0, 0.97))
def test_a_cut_file_is_refused(name: str, share: float) -> None:
    data = valid(name)
    with pytest.raises(ImageError, match=r"truncated|damaged|empty file|not an image"):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_in_the_middle_of_its_pixels_is_called_truncated(name: str) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8), name)
    with pytest.raises(ImageError, match=r"^truncated$"):
        decode(data[: len(data) * 9 // 10])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no picture, whatever its name says", "text, not an image"),
        (b"<svg/>", "format SVG is not supported"),
        (b"\xff\xd8\xff", "truncated or damaged JPEG"),
        (b"GIF89a", "truncated or damaged GIF"),
        (b"II*\0", "truncated or damaged TIFF"),
        (b"BM", "truncated or damaged BMP"),
        (b"\x89PNG\r\n\x1a\n", "truncated or damaged PNG"),
        (b"RIFF\xff\0\0\0WEBPVP8 ", "truncated"),
        (png(0, 0), "truncated or damaged PNG"),
        (grey_tiff(4, 4, 7, bytes(16)), "damaged TIFF"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    for refuse in (decode, measure, thumbnail):
        with pytest.raises(ImageError, match=f"^{reason}") as caught:
            refuse(data)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@settings(max_examples=600)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_damaged_bytes_raise_nothing_but_image_errors(
    name: str, changes: list[tuple[float, int]], in_the_head: bool
) -> None:
    data = bytearray(valid(name))
    span = min(len(data), 64) if in_the_head else len(data)
    for share, value in changes:
        data[min(int(share * span), span - 1)] = value
    limits = ImageLimits(max_pixels=4_000_000)
    for attempt in (lambda: decode(bytes(data), limits=limits), lambda: decode(bytes(data), size=8, limits=limits)):
        try:
            picture = attempt()
        except ImageError as error:
            assert str(error)
        else:
            assert picture.pixels.ndim == 3 and picture.pixels.shape[2] == 3
            assert measure(bytes(data), limits=limits) == (picture.width, picture.height)


@given(st.binary(max_size=400), st.sampled_from(FORMATS))
def test_anything_behind_the_first_bytes_raises_nothing_but_image_errors(rest: bytes, name: str) -> None:
    for data in (rest, valid(name)[:12] + rest, valid(name)[:40] + rest):
        with pytest.raises(ImageError):
            decode(data, limits=ImageLimits(max_pixels=1000))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_thumbnail_is_a_small_upright_jpeg_without_metadata(name: str) -> None:
    data = encoded(turned(6, 300, 200), name, exif=exif(6), icc_profile=swapped_profile())
    small = thumbnail(data, size=64)
    assert decode(small).format == "JPEG"
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (64, 43)
        assert not picture.getexif() and not {"exif", "icc_profile", "xmp", "comment"} & set(picture.info)
    assert b"48.2 N" not in small and b"ICC_PROFILE" not in small
    assert (
        distance(decode(small).pixels[:5, :5], np.full((5, 5, 3), (25, 25, 230))) < 25
    )  # red by name, blue by profile


def test_a_thumbnail_is_never_larger_than_its_picture() -> None:
    assert measure(thumbnail(valid("PNG"), size=256)) == (60, 40)
    assert measure(thumbnail(valid("PNG"), size=30)) == (30, 20)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100))
def test_a_thumbnail_keeps_the_shape(width: int, height: int, size: int) -> None:
    small_width, small_height = measure(thumbnail(encoded(gradient(width, height), "BMP"), size=size))
    assert max(small_width, small_height) == min(size, max(width, height))
    scale = max(small_width, small_height) / max(width, height)
    assert abs(small_width - width * scale) <= 1 and abs(small_height - height * scale) <= 1


def test_pixels_written_as_a_jpeg_come_back() -> None:
    assert distance(decode(encode_jpeg(gradient(), quality=95)).pixels, gradient()) <= NEAR["JPEG"]
    assert len(encode_jpeg(gradient(), quality=20)) < len(encode_jpeg(gradient()))
    view = gradient()[::2, ::-1]
    assert distance(decode(encode_jpeg(view, quality=95)).pixels, view) <= 3


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_metadata_is_counted(name: str) -> None:
    assert metadata_bytes(encoded(gradient(), name)) == 0
    block = exif(1)
    for words in ("", "all of these rights are reserved " * 30):
        block[0x8298] = words
        counted = metadata_bytes(encoded(gradient(), name, exif=block))
        # With or without the six bytes in front of it; for AVIF Pillow takes the orientation out.
        assert len(block.tobytes()) - 24 <= counted <= len(block.tobytes())


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "PNG"])
def test_the_metadata_of_editors_counts_and_its_profile_and_pixels_do_not(name: str) -> None:
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>" * 5
    if name == "PNG":
        data = encoded(gradient(), name)
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        data = data[:33] + text + data[33:]
    else:
        data = encoded(gradient(), name, xmp=packet)
    assert metadata_bytes(data) == len(packet)
    assert metadata_bytes(encoded(gradient(), name, icc_profile=swapped_profile())) == 0
    assert metadata_bytes(encoded(gradient(300, 200), name)) == 0


def test_comments_count_as_metadata() -> None:
    assert metadata_bytes(encoded(gradient(), "JPEG", comment=b"bought in Vienna")) == 16
    assert metadata_bytes(encoded(gradient(), "GIF", comment=b"bought in Vienna")) == 16


def test_where_no_picture_is_there_is_no_metadata() -> None:
    for data in (b"", b"no picture", huge_png(), valid("JPEG")[:20]):
        with pytest.raises(ImageError) as by_measuring:
            measure(data)
        with pytest.raises(ImageError) as counted:
            metadata_bytes(data)
        assert str(counted.value) == str(by_measuring.value)


def test_threads_do_not_disturb_each_other() -> None:
    files = [valid(name) for name in FORMATS] + [b"no picture", huge_png()]
    files.append(encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1"))

    def attempt(data: bytes) -> bytes | str:
        try:
            return decode(data, size=10).pixels.tobytes()
        except ImageError as error:
            return str(error)

    alone = [attempt(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, files * 20)) == alone * 20


def test_the_defaults_are_those_of_the_design() -> None:
    assert (DEFAULT_LIMITS.max_bytes, DEFAULT_LIMITS.max_pixels, DEFAULT_LIMITS.max_frames) == (
        2**26,
        120_000_000,
        1000,
    )
    assert FORMATS == ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def test_real_photos_decode_and_reduce(shared_data: Any) -> None:
    photos = sorted((shared_data / "grocery" / "dataset" / "test").rglob("*.jpg"))[::100]
    assert photos
    for photo in photos:
        data = photo.read_bytes()
        whole, small = decode(data), decode(data, size=32)
        assert whole.pixels.shape == (whole.height, whole.width, 3)
        assert 64 <= min(small.pixels.shape[:2]) <= 130
        assert distance(whole.pixels.mean(axis=(0, 1)), small.pixels.mean(axis=(0, 1))) < 2
