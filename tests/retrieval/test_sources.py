"""The bytes behind uris: what is read, what is refused, and that nothing outside the root ever is."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import ImageError
from retrieval.sources import ImageSource, Root, parquet_uri

IMAGES = [bytes([number]) * (number + 1) for number in range(50)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``root/a/b.jpg`` and a file beside the root."""
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.jpg").write_bytes(b"picture")
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    return folder


def write_parquet(path: Path, images: list[Any] | pa.Array = IMAGES, *, rows: int = 7, **columns: Any) -> Path:
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=rows)
    return path


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        attempt()
    return str(caught.value)


def test_a_file_is_read(root: Path) -> None:
    with ImageSource(root) as source:
        assert source.read("a/b.jpg") == b"picture"
        assert list(source.read_many(["a/b.jpg", "a/b.jpg"])) == [b"picture"] * 2


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("a/none.jpg", "no such file"),
        ("none/b.jpg", "no such file"),
        ("a/b.jpg/c.jpg", "no such file"),
        ("a", "a folder"),
        (".", "a folder"),
        ("a/..", "a folder"),
        ("", "no image"),
        ("../outside.jpg", "outside the source root"),
        ("a/../../outside.jpg", "outside the source root"),
        ("/etc/passwd", "outside the source root; name another with --root"),
        ("a/\0.jpg", "a path with a zero byte"),
        ("a/" + "x" * 300 + ".jpg", "the name is too long"),
        ("a/\ud800.jpg", "no such file (its name is no text)"),
        ("none.parquet#row=1", "no such file"),
        ("../x.parquet#row=1", "outside the source root"),
    ],
)
def test_what_cannot_be_read_says_why(root: Path, uri: str, reason: str) -> None:
    with ImageSource(root) as source:
        assert refusal(lambda: source.read(uri)) == reason
        assert [str(each) for each in source.read_many([uri, "a/b.jpg"])] == [reason, str(b"picture")]


def test_symlinks_are_followed_within_the_root_only(root: Path, tmp_path: Path) -> None:
    (root / "inside.jpg").symlink_to(root / "a" / "b.jpg")
    (root / "leaves.jpg").symlink_to(tmp_path / "outside.jpg")
    (root / "up").symlink_to(tmp_path)
    (root / "nothing.jpg").symlink_to(root / "none.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "ring").symlink_to(root / "ring")
    with ImageSource(root) as source:
        assert source.read("inside.jpg") == b"picture"
        assert refusal(lambda: source.read("leaves.jpg")).startswith("outside the source root")
        assert refusal(lambda: source.read("up/outside.jpg")).startswith("outside the source root")
        assert refusal(lambda: source.read("nothing.jpg")) == "no such file"
        assert refusal(lambda: source.read("loop.jpg")) == "a symlink loop"
        assert refusal(lambda: source.read("ring/b.jpg")) == "a symlink loop"


def test_a_root_that_is_a_symlink_is_the_folder_it_points_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with ImageSource(tmp_path / "link") as source:
        assert source.read("a/b.jpg") == b"picture"
    assert Root(tmp_path / "link").locate(str(tmp_path / "link" / "a" / "b.jpg")) == "a/b.jpg"


def test_fifos_and_sockets_are_refused_without_waiting(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "fifo.jpg")
    monkeypatch.chdir(root)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as end, ImageSource(root) as source:
        end.bind("socket.jpg")
        assert refusal(lambda: source.read("fifo.jpg")) == "not a regular file"
        assert refusal(lambda: source.read("socket.jpg")) == "not a regular file"
        # A fifo that takes a file's place after the check is opened, but neither waited for nor read.
        monkeypatch.setattr(Root, "file", lambda self, uri: str(root / uri))
        assert refusal(lambda: source.read("fifo.jpg")) == "not a regular file"


def test_a_file_that_may_not_be_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("retrieval.sources.os.open", refuse)
    with ImageSource(root) as source:
        assert refusal(lambda: source.read("a/b.jpg")) == "permission denied"


def test_size_is_limited_before_reading(root: Path) -> None:
    with (root / "huge.jpg").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    with ImageSource(root) as source:
        assert refusal(lambda: source.read("huge.jpg")) == "1,048,576.0 MiB, limit 64.0 MiB"
    with ImageSource(root, max_bytes=7) as source:
        assert source.read("a/b.jpg") == b"picture"
    with ImageSource(root, max_bytes=6) as source:
        assert refusal(lambda: source.read("a/b.jpg")) == "0.0 MiB, limit 0.0 MiB"


def test_an_empty_file_is_read_as_nothing(root: Path) -> None:
    (root / "empty.jpg").write_bytes(b"")
    with ImageSource(root) as source:
        assert source.read("empty.jpg") == b""


@pytest.mark.parametrize("value", ["a/b.jpg", "a\\b.jpg", "./a/b.jpg", "a//b.jpg", "a/../a/b.jpg", "a\\..\\a/b.jpg"])
def test_a_path_is_found_however_it_is_written(root: Path, value: str) -> None:
    assert Root(root).locate(value) == "a/b.jpg"
    assert Root(root).locate(str(root / "a" / "b.jpg")) == "a/b.jpg"


def test_a_backslash_in_a_name_is_found_when_it_is_no_separator(root: Path) -> None:
    (root / "c\\d.jpg").write_bytes(b"")
    assert Root(root).locate("c\\d.jpg") == "c\\d.jpg"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_either_unicode_form(root: Path, form: Any) -> None:
    stored = unicodedata.normalize(form, "café.jpg")
    (root / stored).write_bytes(b"")
    for written in ("NFC", "NFD"):
        assert Root(root).locate(unicodedata.normalize(written, "café.jpg")) == stored  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://example.org/a.jpg", "a URL; fetching is not supported"),
        ("S3://bucket/a.jpg", "a URL; fetching is not supported"),
        ("data:image/png;base64,AAAA", "a URL; fetching is not supported"),
        ("C:\\photos\\a.jpg", "outside the source root (an absolute Windows path)"),
        ("\\\\server\\photos\\a.jpg", "outside the source root (an absolute Windows path)"),
        ("..\\outside.jpg", "outside the source root"),
        ("   ", "no image"),
        ("none.jpg", "no such file"),
    ],
)
def test_what_is_no_path_within_the_root_says_why(root: Path, value: str, reason: str) -> None:
    assert refusal(lambda: Root(root).locate(value)) == reason


@given(st.text(st.sampled_from("ab./\\ "), max_size=12))
def test_no_path_leads_out_of_the_root(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    base = tmp_path_factory.getbasetemp() / "deep" / "root"
    if not base.exists():
        (base / "a").mkdir(parents=True)
        for place in (base / "a" / "b", base / "b", base.parent / "a", base.parent / "b", base.parent.parent / "b"):
            if not place.exists():
                place.write_bytes(b"")
    root = Root(base)
    for attempt in (root.locate, root.file):
        try:
            found = attempt(value)
        except ImageError as error:
            assert str(error)
        else:
            assert (base / found).resolve().is_relative_to(base.resolve())


def test_rows_of_parquet_are_read_one_by_one_and_in_a_stream(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet")
    uris = [parquet_uri("x.parquet", row) for row in range(50)]
    assert uris[17] == "x.parquet#row=17"
    with ImageSource(tmp_path) as source:
        assert [source.read(uri) for uri in uris] == IMAGES
        assert list(source.read_many(uris)) == IMAGES
        assert list(source.read_many(iter(uris[::9]))) == IMAGES[::9]
        assert list(source.read_many(reversed(uris))) == IMAGES[::-1]
        assert refusal(lambda: source.read("x.parquet#row=50")) == "no such row: the Parquet file has 50"


@given(
    st.lists(st.tuples(st.sampled_from(["x.parquet", "y.pq"]), st.integers(0, 55)), max_size=30),
    st.sampled_from([1, 100, 2**24]),
)
def test_any_order_of_rows_and_files_gives_each_its_own(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, int]], batch_bytes: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "orders"
    if not folder.exists():
        folder.mkdir()
        write_parquet(folder / "x.parquet")
        write_parquet(folder / "y.pq", IMAGES[::-1], rows=50)
    both = {"x.parquet": IMAGES, "y.pq": IMAGES[::-1]}
    with ImageSource(folder) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.sources._BATCH_BYTES", batch_bytes)  # so that a row group is several batches
        got = list(source.read_many(parquet_uri(*each) for each in wanted))
    assert len(got) == len(wanted)
    for (name, row), data in zip(wanted, got, strict=True):
        if row < 50:
            assert data == both[name][row]
        else:
            assert isinstance(data, ImageError)


@pytest.mark.parametrize(
    "images",
    [
        pa.array([{"bytes": image, "path": "x.jpg"} for image in IMAGES]),
        pa.array(IMAGES, pa.large_binary()),
        pa.array(IMAGES, pa.binary_view()),
    ],
    ids=["Hugging Face", "large", "view"],
)
def test_bytes_of_every_kind_are_read(tmp_path: Path, images: pa.Array) -> None:
    write_parquet(tmp_path / "x.parquet", images)
    with ImageSource(tmp_path) as source:
        assert list(source.read_many(parquet_uri("x.parquet", row) for row in range(50))) == IMAGES


def test_rows_without_bytes_and_large_rows_are_refused_and_the_others_read(tmp_path: Path) -> None:
    structs = [None, {"bytes": None, "path": "x"}, {"bytes": b"ab", "path": None}, {"bytes": b"abcd", "path": None}]
    write_parquet(tmp_path / "x.parquet", structs)
    with ImageSource(tmp_path, max_bytes=3) as source:
        got = [str(each) for each in source.read_many(parquet_uri("x.parquet", row) for row in range(4))]
    assert got == ["no image in this row"] * 2 + [str(b"ab"), "0.0 MiB, limit 0.0 MiB"]


def test_a_uri_names_the_column_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", **{"front & back": IMAGES[::-1]})
    uri = parquet_uri("x.parquet", 3, "front & back")
    with ImageSource(tmp_path) as source:
        assert source.read(uri) == IMAGES[-4]
        assert list(source.read_many([uri, "x.parquet#row=3", uri])) == [IMAGES[-4], IMAGES[3], IMAGES[-4]]
        no_column = refusal(lambda: source.read(parquet_uri("x.parquet", 3, "none")))
    assert no_column == "the Parquet file has no such column of image bytes"


def test_a_damaged_or_replaced_parquet_file_is_noticed(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet")
    with ImageSource(tmp_path) as source:
        assert source.read("x.parquet#row=3") == IMAGES[3]
        write_parquet(path, IMAGES[::-1] + IMAGES)
        assert source.read("x.parquet#row=3") == IMAGES[-4]
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert refusal(lambda: source.read("x.parquet#row=3")).startswith("damaged Parquet file (")
        path.write_bytes(b"text")
        errors = list(source.read_many(["x.parquet#row=3", "x.parquet#row=4"]))
        assert all(isinstance(error, ImageError) for error in errors)


def test_only_a_part_of_a_large_row_group_is_in_memory(tmp_path: Path) -> None:
    """Two row groups of 60 MB in small pages: a stream holds a batch of 16 MiB, twice at the change, and a page."""
    one = os.urandom(200_000)
    table = pa.table({"image": [one] * 600, "other": [b"x"] * 600})
    pq.write_table(
        table, tmp_path / "x.parquet", row_group_size=300, compression="none", use_dictionary=False, write_batch_size=4
    )
    del table
    pool = pa.default_memory_pool()
    before, highest = pool.bytes_allocated(), 0
    with ImageSource(tmp_path) as source:
        for data in source.read_many(parquet_uri("x.parquet", row) for row in range(600)):
            assert data == one
            highest = max(highest, pool.bytes_allocated() - before)
    assert 0 < highest < 40_000_000


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet")
    with ImageSource(tmp_path) as source, ThreadPoolExecutor(8) as pool:
        rows = list(range(50)) * 4
        got = list(pool.map(lambda row: source.read(parquet_uri("x.parquet", row)), rows))
    assert got == [IMAGES[row] for row in rows]


def test_no_file_stays_open(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with ImageSource(tmp_path) as source:
        stream = source.read_many(parquet_uri("x.parquet", row) for row in range(50))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        source.read("x.parquet#row=3")
        refusal(lambda: source.read("x.parquet#row=3&column=none"))
        if before:
            assert len(os.listdir("/proc/self/fd")) == before


def test_real_parquet_files_are_read_in_full(shared_data: Path) -> None:
    for folder, name, rows in (("fashion", "products.parquet", 12000), ("cars", "cars196-train-half.parquet", 8144)):
        with ImageSource(shared_data / folder) as source:
            heads = [data[:2] for data in source.read_many(parquet_uri(name, row) for row in range(rows))]
        assert heads == [b"\xff\xd8"] * rows
