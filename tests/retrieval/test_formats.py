"""What a file is by its bytes, and the parts of it that are counted before it is decoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import ImageError
from retrieval.formats import FORMATS, HEAD, check_structure, png_exif, sniff, webp_size
from tests.retrieval.pictures import chunk, encoded, gradient, grey_tiff, many_scans, png, tiff


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_known_by_its_first_bytes(name: str) -> None:
    data = encoded(gradient(), name)
    assert sniff(data) == sniff(data[:HEAD]) == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "^empty file$"),
        (b"Dear reader,\n", "^text, not an image$"),
        ("Größe".encode(), "^text, not an image$"),
        (("é" * HEAD).encode()[1:], "^not an image$"),
        ((" " + "é" * HEAD).encode(), "^text, not an image$"),
        (b"\x00\x01\x02\x03", "^not an image$"),
        (b"\xfe\xed\xfa\xce rest", "^not an image$"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "^format SVG is not supported"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg/>', "^format SVG is not supported"),
        (b"<!DOCTYPE html><html></html>", "^format XML or HTML is not supported"),
        (b"%PDF-1.7", "^format PDF is not supported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "^format PostScript is not supported"),
        (b"\xc5\xd0\xd3\xc6rest", "^format EPS is not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "^format HEIC is not supported"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "^format MP4 video is not supported"),
        (b"8BPS\0\1", "^format Photoshop PSD is not supported"),
        (b"RIFF\0\0\0\0AVI LIST", "^not an image$"),
        (b"PAR1\x15\x04", "^format Parquet is not supported"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_name(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        sniff(data)


def test_a_refusal_says_what_is_supported() -> None:
    with pytest.raises(ImageError, match=r"\(JPEG, PNG, WEBP, GIF, BMP, TIFF and AVIF are\)$"):
        sniff(b"%PDF-1.7")


def test_avif_is_known_by_any_of_its_brands() -> None:
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"


@given(st.binary(max_size=200))
def test_no_bytes_break_the_sniffing(data: bytes) -> None:
    try:
        assert sniff(data) in FORMATS
    except ImageError as error:
        assert str(error)


@given(st.sampled_from(FORMATS), st.binary(max_size=300))
def test_no_bytes_break_the_counting(name: str, data: bytes) -> None:
    start = encoded(gradient(4, 4), name)[:16]
    try:
        check_structure(start + data, name, max_frames=5, max_scans=5)
    except ImageError as error:
        assert str(error)
    webp_size(start + data)
    png_exif(start + data)


def test_frames_are_counted_up_to_the_limit() -> None:
    frames = [gradient(8, 8) // (number + 1) for number in range(5)]
    pictures = [Image.fromarray(frame) for frame in frames]
    gif = encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:])
    pages = encoded(pictures[0], "TIFF", save_all=True, append_images=pictures[1:])
    big = encoded(pictures[0], "TIFF", save_all=True, append_images=pictures[1:], big_tiff=True)
    for data, name in ((gif, "GIF"), (pages, "TIFF"), (big, "TIFF")):
        check_structure(data, name, max_frames=5, max_scans=1)
        with pytest.raises(ImageError, match=f"^{name} of 5 frames or more, limit 4$"):
            check_structure(data, name, max_frames=4, max_scans=1)


def test_a_tiff_whose_directories_form_a_ring_is_counted_once() -> None:
    ring = grey_tiff(2, 2, 8, bytes(4), pages=3, loop=True)
    check_structure(ring, "TIFF", max_frames=3, max_scans=1)
    with pytest.raises(ImageError, match="3 frames"):
        check_structure(ring, "TIFF", max_frames=2, max_scans=1)


def test_a_tiff_that_claims_endless_values_is_refused() -> None:
    data = bytearray(tiff({256: (4, [1]), 257: (4, [1]), 339: (4, [1])}, b"\0"))
    at = data.index((339).to_bytes(2, "little") + (4).to_bytes(2, "little"))
    data[at + 4 : at + 8] = (50_000_000).to_bytes(4, "little")
    with pytest.raises(ImageError, match="tag 339 claims 50,000,000 values"):
        check_structure(bytes(data), "TIFF", max_frames=1, max_scans=1)
    data[8 + 1 : 8 + 3] = b"\xff\xff"  # 65,535 entries in the directory
    with pytest.raises(ImageError, match="a directory of 65,535 entries"):
        check_structure(bytes(data), "TIFF", max_frames=1, max_scans=1)


def test_scans_are_counted_in_progressive_jpegs_only() -> None:
    baseline = encoded(gradient(), "JPEG")
    check_structure(baseline, "JPEG", max_frames=1, max_scans=0)
    progressive = encoded(gradient(), "JPEG", progressive=True)
    check_structure(progressive, "JPEG", max_frames=1, max_scans=10)
    with pytest.raises(ImageError, match=r"^JPEG of more than 5 scans$"):
        check_structure(progressive, "JPEG", max_frames=1, max_scans=5)
    with pytest.raises(ImageError, match=r"^JPEG of more than 100 scans$"):
        check_structure(many_scans(200), "JPEG", max_frames=1, max_scans=100)


def test_what_stands_behind_a_jpegs_end_is_not_counted() -> None:
    progressive = encoded(gradient(), "JPEG", progressive=True)
    check_structure(progressive + progressive * 200, "JPEG", max_frames=1, max_scans=10)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}])
def test_the_size_of_a_webp_is_read_without_its_decoder(options: dict[str, object]) -> None:
    assert webp_size(encoded(gradient(33, 21), "WEBP", **options)) == (33, 21)


def test_exif_is_found_before_and_behind_the_pixels_of_a_png() -> None:
    before = png(1, 1, chunk(b"eXIf", b"here"), rows=b"\0\1\2\3")
    assert png_exif(before) == b"here"
    behind = before.replace(chunk(b"eXIf", b"here"), b"").replace(chunk(b"IEND", b""), chunk(b"eXIf", b"late"))
    assert png_exif(behind + chunk(b"IEND", b"")) == b"late"
    assert png_exif(png(1, 1, rows=b"\0\1\2\3")) is None
