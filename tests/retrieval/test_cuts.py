"""Boxes of pictures and records of CIFAR-10 files: the right pixels, and reasons where there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import retrieval.datasets.cuts
from retrieval.datasets.cuts import CutSource, record_uri
from retrieval.errors import ImageError
from retrieval.images import decode
from retrieval.sources import ImageSource, parquet_uri
from tests.retrieval.pictures import STORED, encoded, exif, gradient

PIXELS = gradient()  # 60 wide, 40 high


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encoded(PIXELS, "PNG"))
    return tmp_path


def pixels(source: ImageSource, uri: str) -> np.ndarray:
    one = source.read(uri)
    assert list(source.read_many([uri])) == [one]
    return decode(one).pixels


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        attempt()
    return str(caught.value)


@given(
    x=st.integers(-10, 70),
    y=st.integers(-10, 50),
    width=st.integers(0, 90),
    height=st.integers(0, 60),
    name=st.just(""),
)
@example(x=0, y=0, width=60, height=40, name="whole")
@example(x=59, y=39, width=1, height=1, name="last pixel")
def test_a_box_is_clipped_to_the_picture(root: Path, x: int, y: int, width: int, height: int, name: str) -> None:
    inside = [(row, column) for row in range(y, y + height) for column in range(x, x + width)]
    inside = [(row, column) for row, column in inside if 0 <= row < 40 and 0 <= column < 60]
    with CutSource(root) as source:
        uri = f"a.png#xywh={x},{y},{width},{height}"
        if inside:
            rows, columns = ([min(each), max(each) + 1] for each in zip(*inside, strict=True))
            assert np.array_equal(pixels(source, uri), PIXELS[slice(*rows), slice(*columns)])
        else:
            assert refusal(lambda: source.read(uri)).startswith(f"nothing of the picture lies in the box {x},{y},")


def test_a_cut_is_an_uncompressed_bmp_that_is_always_the_same(root: Path) -> None:
    with CutSource(root) as source:
        data = source.read("a.png#xywh=1,2,3,4")
    assert data[:2] == b"BM" and len(data) == 54 + 4 * 12  # lines of 9 bytes, filled to 12
    assert data[54:57] == bytes(PIXELS[5, 1, ::-1])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_box_is_of_the_stored_pixels_and_the_cut_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = Image.fromarray(PIXELS)
    transposition = STORED[orientation]
    stored = upright if transposition is None else upright.transpose(transposition)
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    (tmp_path / "a").write_bytes(encoded(stored, kind, exif=exif(orientation), **options))
    # The same box by hand: paint it in the stored picture, turn that, and look where the paint is.
    mask = np.zeros((stored.height, stored.width), np.uint8)
    mask[8:20, 5:35] = 255
    shown = Image.fromarray(mask)
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    if transposition is not None:
        shown = shown.transpose(back.get(transposition, transposition))
    left, top, right, bottom = shown.getbbox() or (0, 0, 0, 0)
    with CutSource(tmp_path) as source:
        assert np.array_equal(
            pixels(source, "a#xywh=5,8,30,12"), decode(source.read("a")).pixels[top:bottom, left:right]
        )


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_damaged_metadata_do_not_turn_anything(tmp_path: Path, block: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(PIXELS, "JPEG", exif=block, quality=95))
    with CutSource(tmp_path) as source:
        assert np.array_equal(pixels(source, "a.jpg#xywh=1,2,30,4"), decode(source.read("a.jpg")).pixels[2:6, 1:31])


def test_orientation_may_be_a_long_number_and_stand_behind_fill_bytes(tmp_path: Path) -> None:
    block = b"MM\0*\0\0\0\x08\0\1" + b"\x01\x12\0\4\0\0\0\1\0\0\0\3" + bytes(4)
    data = encoded(PIXELS, "JPEG", exif=b"Exif\0\0" + block, quality=95)
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xff" + data[2:])
    with CutSource(tmp_path) as source:
        whole = decode(source.read("a.jpg")).pixels
        assert np.array_equal(pixels(source, "a.jpg#xywh=0,0,7,5"), whole[35:, 53:])


def test_names_with_a_hash_are_names(root: Path) -> None:
    other = encoded(PIXELS[::-1], "PNG")
    for name in ("a#1.png", "a.png#xywh=1,1,1,1", "c.bin#record=0", "#xywh=1,1,1,1", "a.png#xywh=1,2,3"):
        (root / name).write_bytes(other)
        with CutSource(root) as source:
            assert source.read(name) == other
            assert np.array_equal(pixels(source, f"{name}#xywh=0,0,2,1"), PIXELS[39:, :2])
    with CutSource(root) as source:
        assert np.array_equal(pixels(source, "a.png#xywh=1,1,1,2"), PIXELS[1:3, 1:2])


def test_rows_of_parquet_files_are_cut_too(root: Path) -> None:
    images = [encoded(PIXELS[row:], "PNG") for row in range(5)]
    pq.write_table(pa.table({"image": images}), root / "a.parquet")
    uris = [parquet_uri("a.parquet", row) + "#xywh=3,0,8,8" for row in range(5)]
    with CutSource(root) as source:
        cuts = list(source.read_many([uris[0], parquet_uri("a.parquet", 1), *uris[1:]]))
        assert cuts[1] == images[1]
        for row, cut in enumerate([cuts[0], *cuts[2:]]):
            assert isinstance(cut, bytes)
            assert np.array_equal(decode(cut).pixels, PIXELS[row : row + 8, 3:11])


def test_boxes_of_one_picture_cost_one_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "b.png").write_bytes(encoded(PIXELS[::-1], "PNG"))
    decoded = []

    def counted(data: bytes, **options: object) -> object:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(retrieval.datasets.cuts, "decode", counted)
    uris = [f"a.png#xywh={x},0,1,1" for x in (0, 1, 99, 2)] + ["b.png#xywh=0,0,1,1", "a.png", "a.png#xywh=0,0,1,1"]
    with CutSource(root) as source:
        found = list(source.read_many(uris))
        assert len(decoded) == 3
        assert [str(each) for each in found if isinstance(each, ImageError)] == [
            "nothing of the picture lies in the box 99,0,1,1"
        ]
        assert [each if isinstance(each, bytes) else None for each in found] == [
            None if "=99" in uri else source.read(uri) for uri in uris
        ]


def test_records_of_cifar(root: Path) -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (3, 3, 32, 32), np.uint8)
    (root / "x").mkdir()
    (root / "x" / "b.bin").write_bytes(b"".join(bytes([7]) + one.tobytes() for one in planes))
    with CutSource(root) as source:
        for number, one in enumerate(planes):
            assert np.array_equal(pixels(source, record_uri("x/b.bin", number)), one.transpose(1, 2, 0))
        cut = pixels(source, record_uri("x/b.bin", 1) + "#xywh=4,6,2,3")
        assert np.array_equal(cut, planes[1].transpose(1, 2, 0)[6:9, 4:6])
        assert refusal(lambda: source.read("x/b.bin#record=3")) == "no such record: the file has 3"
        assert refusal(lambda: source.read("x/b.bin#record=999999999999")).startswith("no such record")
        assert refusal(lambda: source.read("x/c.bin#record=0")) == "no such file"
        assert refusal(lambda: source.read("../b.bin#record=0")) == "outside the source root"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("none.png#xywh=1,1,1,1", "no such file"),
        ("../a.png#xywh=1,1,1,1", "outside the source root"),
        ("text.png#xywh=1,1,1,1", "text, not an image"),
        ("a.png#xywh=1,1,1", "no such file"),
        ("a.png#xywh=1,1,9999999999,1", "no such file"),
        ("a.png#xywh=0,0,0,5", "nothing of the picture lies in the box 0,0,0,5"),
    ],
)
def test_what_cannot_be_cut_says_why_and_the_others_go_on(root: Path, uri: str, reason: str) -> None:
    (root / "text.png").write_text("words")
    with CutSource(root) as source:
        assert refusal(lambda: source.read(uri)) == reason
        found = list(source.read_many(["a.png#xywh=1,1,1,1", uri, "a.png#xywh=1,1,1,1", uri, "a.png"]))
        assert [str(each) if isinstance(each, ImageError) else None for each in found] == [
            None, reason, None, reason, None,
        ]  # fmt: skip


def test_a_cut_has_the_limit_of_an_image(root: Path) -> None:
    with CutSource(root, max_bytes=(root / "a.png").stat().st_size) as source:
        assert refusal(lambda: source.read("a.png#xywh=0,0,60,40")).endswith("limit 0.0 MiB")
        source.read("a.png#xywh=0,0,4,4")
