"""One table whatever the source, and nothing skipped in silence."""

from __future__ import annotations

import datetime
import string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import ManifestError
from retrieval.manifest import MANIFEST_SCHEMA, REJECTED_SCHEMA, Columns, Manifest, read_manifest
from retrieval.sources import ImageSource

NAMES = ["a.jpg", "sub/b.jpg", "sub/c d.jpg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three files, each holding its own name."""
    folder = tmp_path / "photos"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listing(folder: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, name: str = "list.csv", **options: Any) -> Manifest:
    return read_manifest(listing(folder, text, name), **options)


def rejections(manifest: Manifest) -> list[tuple[str, str]]:
    return [(row["uri"], row["reason"]) for row in manifest.rejected.to_pylist()]


def test_a_csv_becomes_a_manifest(photos: Path) -> None:
    manifest = read(
        photos,
        "price,path,label,when,code\n"
        "9.5,a.jpg,Fruit/Apple,2026-03-01,007\n"
        ",sub/b.jpg,,,\n"
        "12,sub/c d.jpg,7,2026-03-02,12\n",
    )
    assert manifest.table.schema == pa.schema(
        [*MANIFEST_SCHEMA, ("price", pa.float64()), ("when", pa.date32()), ("code", pa.string())]
    )
    assert manifest.rejected.schema == REJECTED_SCHEMA
    assert manifest.table.column("id").to_pylist() == manifest.table.column("uri").to_pylist() == NAMES
    assert manifest.table.column("label").to_pylist() == ["Fruit/Apple", None, "7"]
    assert manifest.table.column("price").to_pylist() == [9.5, None, 12.0]
    assert manifest.table.column("when").to_pylist() == [datetime.date(2026, 3, 1), None, datetime.date(2026, 3, 2)]
    assert manifest.table.column("code").to_pylist() == ["007", None, "12"]
    assert (manifest.rejected.num_rows, manifest.root) == (0, photos.resolve())


def test_every_uri_of_a_manifest_can_be_read(photos: Path) -> None:
    manifest = read(photos, "path\na.jpg\nsub\\b.jpg\n./sub/c d.jpg\n")
    with ImageSource(manifest.root) as source:
        assert [data.decode() for data in source.read_many(manifest.table.column("uri").to_pylist())] == NAMES  # type: ignore[union-attr]


def test_windows_and_posix_separators_mean_the_same(photos: Path) -> None:
    posix = read(photos, "path,n\n" + "".join(f"{name},1\n" for name in NAMES))
    windows = read(photos, "path,n\n" + "".join(name.replace("/", "\\") + ",1\n" for name in NAMES))
    absolute = read(photos, "path,n\n" + "".join(f"{photos / name},1\n" for name in NAMES))
    assert posix.table.equals(windows.table) and posix.table.equals(absolute.table)
    assert posix.rejected.num_rows == 0


def test_paths_are_relative_to_the_root_that_is_given(photos: Path, tmp_path: Path) -> None:
    manifest = read_manifest(str(listing(tmp_path, "path\nb.jpg\n../a.jpg\n")), root=photos / "sub")
    assert manifest.table.column("uri").to_pylist() == ["b.jpg"]
    assert (manifest.root, rejections(manifest)) == (
        (photos / "sub").resolve(),
        [("../a.jpg", "outside the source root")],
    )


def test_each_thing_that_is_no_image_has_its_reason(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").touch()
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "leaves.jpg").symlink_to(tmp_path / "outside.jpg")
    lines = {
        "none.jpg": "no such file",
        "sub": "a folder",
        "../outside.jpg": "outside the source root",
        "/etc/passwd": "outside the source root; name another with --root",
        "C:\\photos\\a.jpg": "outside the source root (an absolute Windows path)",
        "loop.jpg": "a symlink loop",
        "leaves.jpg": "outside the source root (a symlink leads out of it)",
        "https://example.org/a.jpg": "a URL; fetching is not supported",
        " ": "no image",
    }
    manifest = read(photos, "path,n\n" + "".join(f"{path},1\n" for path in lines) + ",1\na.jpg,1\n")
    assert rejections(manifest) == [*lines.items(), (f"list.csv#row={len(lines)}", "no image in this row")]
    assert manifest.table.column("uri").to_pylist() == ["a.jpg"]


def test_ids_are_the_users_key_and_unique(photos: Path) -> None:
    manifest = read(photos, "id,path\n01,a.jpg\n1,sub/b.jpg\n01,sub/c d.jpg\n,a.jpg\n", prefix="shop-")
    assert manifest.table.select(["id", "uri"]).to_pylist() == [
        {"id": "shop-01", "uri": "a.jpg"},
        {"id": "shop-1", "uri": "sub/b.jpg"},
    ]
    assert rejections(manifest) == [
        ("sub/c d.jpg", "the id '01' is there already, of a.jpg"),
        ("a.jpg", "no id in column 'id'"),
    ]


def test_without_a_key_a_path_given_twice_is_rejected_however_it_is_written(photos: Path) -> None:
    manifest = read(photos, "path\nsub/b.jpg\nsub\\b.jpg\nsub/../sub/b.jpg\n")
    assert manifest.table.num_rows == 1
    assert rejections(manifest) == [("sub/b.jpg", "the id 'sub/b.jpg' is there already, of sub/b.jpg")] * 2


def test_named_columns_are_used_and_the_usual_ones_then_are_the_users_own(photos: Path) -> None:
    columns = Columns(image="shot", id="sku", label="kind", split="part")
    manifest = read(photos, "path,id,label,split,shot,sku,kind,part\nx,1,y,z,a.jpg,S1,coat,train\n", columns=columns)
    assert manifest.table.to_pylist() == [
        {
            "id": "S1",
            "uri": "a.jpg",
            "label": "coat",
            "path": "x",
            "id_": 1,
            "label_": "y",
            "split_": "z",
            "split": "train",
        }
    ]


def test_names_that_are_ours_get_an_underscore(photos: Path) -> None:
    head = "path,row,URI,width,Similarity,width_,query"
    manifest = read(photos, f"{head}\na.jpg,1,2,3,4,5,6\n")
    assert manifest.table.column_names == [
        "id",
        "uri",
        "label",
        "row_",
        "URI_",
        "width_",
        "Similarity_",
        "width__",
        "query_",
    ]
    assert manifest.table.column("width__").to_pylist() == [5]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "", "is empty"),
        ("list.csv", "\n\n", "is empty"),
        ("list.csv", "path,n\n", "has a first line but no rows"),
        ("list.tsv", "", "is empty"),
        ("list.csv", "name,n\na.jpg,1\n", "no column that is plainly the image; name it: its columns are name, n"),
        ("list.csv", b"path,n\na.jpg,1\nb.jpg,caf\xe9\n", "line 3 of .* is not UTF-8; save the file as UTF-8"),
        ("list.csv", b"caf\xe9,path\n1,a.jpg\n", "line 1 of .* is not UTF-8"),
        ("list.csv", "path\na.jpg\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("list.csv", 'path,n\na.jpg,1\nsub/b.jpg,"2\na.jpg,3\n', "a quote in line 3 of .* is never closed"),
        ("list.parquet", "no parquet", "cannot read .* as Parquet"),
        ("list.parquet", "", "cannot read .* as Parquet"),
        ("list.txt", "", "is empty"),
        ("list.txt", "some words\n", "is no list of images"),
        ("list.json", "{}", "is no source of images: give a folder, a .csv"),
        ("list", "", "is no source of images"),
        ("one.jpg", "", "is one picture; give the folder that it is in"),
    ],
)
def test_what_cannot_be_a_source_is_an_error_that_names_the_file(
    photos: Path, name: str, text: str | bytes, message: str
) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read(photos, text, name)
    assert name in str(caught.value)


def test_a_source_that_is_not_there_or_may_not_be_read_is_an_error(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in ("none.csv", "none", "none/deeper.parquet"):
        with pytest.raises(ManifestError, match=f"there is no file or folder .*{missing}"):
            read_manifest(photos / missing)

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    path = listing(photos, "path\na.jpg\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ManifestError, match=r"cannot read .*list.csv: Permission denied"):
        read_manifest(path)


def test_parquet_with_paths_is_like_a_csv(photos: Path) -> None:
    table = pa.table({"path": ["a.jpg", "sub\\b.jpg", None, "none.jpg"], "n": pa.array([1, 2, 3, 4], pa.uint8())})
    pq.write_table(table, photos / "list.parquet")
    manifest = read_manifest(photos / "list.parquet")
    assert manifest.table.to_pylist() == [
        {"id": "a.jpg", "uri": "a.jpg", "label": None, "n": 1},
        {"id": "sub/b.jpg", "uri": "sub/b.jpg", "label": None, "n": 2},
    ]
    assert manifest.table.schema.field("n").type == pa.int16()
    assert rejections(manifest) == [("list.parquet#row=2", "no image in this row"), ("none.jpg", "no such file")]


PATHS = st.sampled_from([*NAMES, "none.jpg", "../a.jpg", "", "sub", "sub\\b.jpg", "http://x/y.jpg", 'q"uo,te\n.jpg'])
CELLS = st.text(st.sampled_from(string.printable + "é"), max_size=6).map(lambda text: text.replace("\0", ""))


@given(st.lists(st.tuples(PATHS, st.sampled_from(["", "1", "2", "x"]), CELLS), min_size=1, max_size=12))
def test_every_row_is_an_image_or_a_rejection(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "every-row"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    text = "path,id,note\r\n" + "".join(",".join(map(quoted, row)) + "\r\n" for row in rows)
    manifest = read(folder, text)
    assert manifest.table.num_rows + manifest.rejected.num_rows == len(rows)
    ids = manifest.table.column("id").to_pylist()
    assert len(set(ids)) == len(ids) and all(ids)
    assert set(manifest.table.column("uri").to_pylist()) <= set(NAMES)
    assert all(uri and reason for uri, reason in rejections(manifest))


def test_real_sources_are_read_in_full(shared_data: Path) -> None:
    products = read_manifest(shared_data / "fashion" / "products.parquet", columns=Columns(label="article_type"))
    assert (products.table.num_rows, products.rejected.num_rows) == (12_000, 0)
    assert (
        products.table.column("uri")[17].as_py() == products.table.column("id")[17].as_py() == "products.parquet#row=17"
    )
    assert products.table.column("image_url")[0].as_py() == "data/images\\1165.jpg"
    assert products.table.schema.field("price").type == pa.float64()
    assert len(set(products.table.column("label").to_pylist())) == 126
    cars = read_manifest(shared_data / "cars" / "cars196-train-half.parquet")
    assert (cars.table.num_rows, cars.rejected.num_rows) == (8_144, 0)
    assert cars.table.column_names == ["id", "uri", "label", "file", "class_id", "split"]
    assert len(set(cars.table.column("label").to_pylist())) == 196
    assert cars.table.schema.field("class_id").type == pa.int16()
