"""The fast way to the pixels of a JPEG: taken where it is plain, and nowhere different from Pillow's."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from retrieval.errors import ImageError
from retrieval.images import ImageLimits, decode
from retrieval.jpeg import plain_pixels
from tests.retrieval.pictures import encoded, exif, gradient, swapped_profile

LIMITS = ImageLimits(max_pixels=1_000_000)
SIZES = st.none() | st.integers(1, 60)
Outcome = tuple[bytes, tuple[int, ...], int, int] | str


def outcome(data: bytes, size: int | None = None) -> Outcome:
    """The pixels and sizes that ``decode`` gives, or its reason."""
    try:
        picture = decode(data, size=size, limits=LIMITS)
    except ImageError as error:
        return str(error)
    return picture.pixels.tobytes(), picture.pixels.shape, picture.width, picture.height


def by_pillow(data: bytes, size: int | None = None) -> Outcome:
    """The same without the fast way."""
    with mock.patch("retrieval.images.plain_pixels", return_value=None):
        return outcome(data, size)


def is_fast(data: bytes, size: int | None = None) -> bool:
    """Whether the fast way gives the pixels."""
    given = []
    with mock.patch("retrieval.images.plain_pixels", lambda *a, **k: given.append(plain_pixels(*a, **k)) or given[-1]):
        outcome(data, size)
    return bool(given) and given[0] is not None


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Blocks of noise: coefficients at all frequencies, and edges across the borders of blocks."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 3), -(-width // 5), 3), np.uint8)
    return np.kron(coarse, np.ones((3, 5, 1), np.uint8))[:height, :width]


def grey(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("L")


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def samples() -> list[bytes]:
    """Small files of every kind, for damaging them."""
    kinds = itertools.product((0, 1, 2), (False, True), ({}, {"restart_marker_blocks": 2}))
    files = [
        encoded(noise(37, 29), "JPEG", subsampling=subsampling, progressive=progressive, quality=60, **options)
        for subsampling, progressive, options in kinds
    ]
    files += [encoded(grey(noise(20, 20)), "JPEG", progressive=progressive) for progressive in (False, True)]
    files.append(encoded(noise(20, 20), "JPEG", keep_rgb=True))
    files.append(encoded(Image.fromarray(noise(20, 20)).convert("CMYK"), "JPEG"))
    files.append(encoded(noise(20, 20), "JPEG", exif=exif(6), icc_profile=srgb()))
    return files


@settings(max_examples=300)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.booleans(),
    st.integers(20, 100),
    SIZES,
)
def test_plain_files_go_the_fast_way_and_give_the_same_bits(
    width: int, height: int, subsampling: int, progressive: bool, colour: bool, quality: int, size: int | None
) -> None:
    pixels = noise(width, height, seed=quality)
    options: dict[str, Any] = {"subsampling": subsampling} if colour else {}
    data = encoded(pixels if colour else grey(pixels), "JPEG", progressive=progressive, quality=quality, **options)
    assert outcome(data, size) == by_pillow(data, size)
    shorter, left = min(width, height), 1
    if size is not None:  # what the DCT leaves over is averaged by Pillow
        drafted = next((-(-shorter // scale) for scale in (8, 4, 2) if shorter >= 2 * size * scale), shorter)
        left = drafted // (2 * size)
    assert is_fast(data, size) == (left < 2)


@pytest.mark.parametrize("side", range(2, 34))
def test_every_reduction_is_pillows_draft(side: int) -> None:
    for other, subsampling in itertools.product(range(side, 34), (0, 1, 2)):
        data = encoded(noise(side, other, seed=other), "JPEG", subsampling=subsampling)
        for scale in (scale for scale in (2, 4, 8) if side // scale >= 2):
            with Image.open(io.BytesIO(data)) as picture:
                picture.draft(None, (side // scale, other // scale))
                drafted = np.asarray(picture)
            wanted = (-(-side // scale), -(-other // scale))
            fast = plain_pixels(data, stored=(side, other), wanted=wanted)
            assert fast is not None and fast.shape == (*wanted[::-1], 3)
            if drafted.shape == fast.shape:
                assert (fast == drafted).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [None, 5])
def test_orientations_give_the_same_bits(orientation: int, size: int | None) -> None:
    data = encoded(noise(60, 41), "JPEG", exif=exif(orientation))
    assert is_fast(data, size)
    assert outcome(data, size) == by_pillow(data, size)
    pixels = decode(data, size=size).pixels
    assert pixels.flags.c_contiguous and pixels.flags.writeable and pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "fast"),
    [
        (encoded(noise(60, 40), "JPEG", icc_profile=srgb()), True),
        (encoded(grey(noise(60, 40)), "JPEG", icc_profile=srgb()), True),
        (encoded(noise(60, 40), "JPEG", icc_profile=b"no profile"), True),
        (encoded(noise(60, 40), "JPEG", icc_profile=swapped_profile()), False),
        (encoded(Image.fromarray(noise(60, 40)).convert("CMYK"), "JPEG"), False),
        (encoded(noise(60, 40), "JPEG", keep_rgb=True), True),
        (encoded(noise(60, 40), "JPEG", restart_marker_blocks=1), True),
        (encoded(noise(60, 40), "JPEG", comment=b"x" * 60_000), True),
        (encoded(noise(60, 40), "JPEG") + b"behind the end", True),
        (encoded(noise(60, 40), "JPEG") + encoded(noise(8, 8), "JPEG"), True),
        (encoded(noise(60, 40), "JPEG")[:-2], False),
        (encoded(noise(60, 40), "JPEG")[:-2] + bytes(50), False),
    ],
    ids=[
        "sRGB profile",
        "sRGB profile on grey",
        "useless profile",
        "another profile",
        "CMYK",
        "stored as RGB",
        "restart markers",
        "long comment",
        "garbage behind",
        "a second picture behind",
        "no end",
        "zeros for an end",
    ],
)
def test_what_is_not_plain_is_left_to_pillow(data: bytes, fast: bool) -> None:
    for size in (None, 5):
        assert is_fast(data, size) == fast
        assert outcome(data, size) == by_pillow(data, size)


def test_cmyk_is_never_taken() -> None:
    data = encoded(Image.fromarray(noise(60, 40)).convert("CMYK"), "JPEG")
    assert plain_pixels(data, stored=(60, 40), wanted=(60, 40)) is None


def test_a_header_that_reads_otherwise_is_not_believed() -> None:
    data = encoded(noise(60, 40), "JPEG")
    with mock.patch("simplejpeg.decode_jpeg") as decoder:
        assert plain_pixels(data, stored=(40, 60), wanted=(40, 60)) is None
        assert plain_pixels(data, stored=(30, 20), wanted=(30, 20)) is None
    decoder.assert_not_called()
    assert plain_pixels(data, stored=(60, 40), wanted=(50, 34)) is None


def test_a_limit_is_looked_at_before_the_fast_decoder() -> None:
    decoder = mock.Mock()
    with mock.patch("retrieval.images.plain_pixels", decoder), pytest.raises(ImageError, match="limit 2,399 pixels"):
        decode(encoded(gradient(), "JPEG"), limits=ImageLimits(max_pixels=2399))
    decoder.assert_not_called()


def test_a_file_cut_anywhere_is_refused_for_the_same_reason() -> None:
    for data in (encoded(noise(16, 16), "JPEG", progressive=progressive) for progressive in (False, True)):
        for end in range(len(data)):
            reason = outcome(data[:end])
            assert isinstance(reason, str)
            assert reason == by_pillow(data[:end])


@settings(max_examples=1500)
@given(st.data())
def test_damage_gives_the_same_bits_or_the_same_reason(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(samples())))
    heads = data.draw(st.booleans())  # half of the examples in the segments, the others mostly in the scans
    for _ in range(data.draw(st.integers(1, 3))):
        if len(damaged) < 4:  # nothing is left to damage
            break
        place = data.draw(st.integers(2, (min(700, len(damaged)) if heads else len(damaged)) - 1))
        match data.draw(st.sampled_from(["flip", "set", "delete", "insert", "cut"])):
            case "flip":
                damaged[place] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                damaged[place] = data.draw(st.integers(0, 255))
            case "delete":
                del damaged[place : place + data.draw(st.integers(1, 30))]
            case "insert":
                damaged[place:place] = data.draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del damaged[place + 4 :]
    size = data.draw(st.sampled_from([None, 1, 2, 5]))
    assert outcome(bytes(damaged), size) == by_pillow(bytes(damaged), size)


def test_threads_get_the_same_bits() -> None:
    files = [encoded(noise(150 + seed, 90, seed=seed), "JPEG") for seed in range(8)] * 20
    alone = [outcome(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files)) == alone


def test_real_photos_give_the_same_bits(shared_photos: Any) -> None:
    photos = sorted((shared_photos / "test").rglob("*.jpg"))[::60]
    assert photos
    for data in (photo.read_bytes() for photo in photos):
        for size in (None, 40):
            assert is_fast(data, size)
            assert outcome(data, size) == by_pillow(data, size)
