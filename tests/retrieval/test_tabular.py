"""CSV as people write it, and image bytes inside Parquet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.columns import Columns
from retrieval.errors import ImageError, ManifestError
from retrieval.manifest import Manifest, read_manifest
from retrieval.sources import ImageSource
from retrieval.tabular import read_csv

ROOT = Path(__file__).parents[2]
HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def csv_of(folder: Path, text: str | bytes, name: str = "list.csv") -> dict[str, list[Any]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return dict(read_csv(path, Columns()).table.to_pydict())


def parquet_of(path: Path, rows: int = 4, **columns: Any) -> Manifest:
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return read_manifest(path)


def images_of(manifest: Manifest) -> list[bytes | ImageError]:
    with ImageSource(manifest.root) as source:
        return list(source.read_many(manifest.table.column("uri").to_pylist()))


@pytest.mark.parametrize(
    "text",
    [
        "path,n,s\na,1,x\nb,2,y\n",
        "path,n,s\r\na,1,x\r\nb,2,y\r\n",
        "path,n,s\na,1,x\nb,2,y",
        "\ufeffpath,n,s\na,1,x\nb,2,y\n",
        "\n\npath,n,s\n\na,1,x\n\nb,2,y\n\n",
        '"path","n","s"\n"a","1","x"\n"b","2","y"\n',
        "path;n;s\na;1;x\nb;2;y\n",
        "path\tn\ts\na\t1\tx\nb\t2\ty\n",
    ],
)
def test_csv_is_read_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert csv_of(tmp_path, text) == {"path": ["a", "b"], "n": [1, 2], "s": ["x", "y"]}


def test_tsv_is_separated_by_tabs_alone(tmp_path: Path) -> None:
    assert csv_of(tmp_path, "path\tn,m\na,b\t1\n", "list.tsv") == {"path": ["a,b"], "n,m": [1]}


def test_quotes_hold_commas_newlines_and_quotes(tmp_path: Path) -> None:
    text = 'path,"no\nte"\n"a, ""b""\nc",5" pipe\n"ü\r\n",""\n'
    assert csv_of(tmp_path, text) == {"path": ['a, "b"\nc', "ü\r\n"], "no\nte": ['5" pipe', None]}


def test_columns_without_a_name_get_one(tmp_path: Path) -> None:
    assert csv_of(tmp_path, ",path,\n0,a,x\n") == {"column_1": [0], "path": ["a"], "column_3": ["x"]}


def test_lines_of_another_length_are_rejected_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "list.csv").write_text("path,n\na.jpg,1,2\n\na.jpg\na.jpg,3\n")
    manifest = read_manifest(tmp_path / "list.csv")
    assert manifest.table.column("n").to_pylist() == [3]
    assert manifest.rejected.to_pylist() == [
        {"uri": "list.csv#record=2", "reason": "3 values where the first line names 2"},
        {"uri": "list.csv#record=3", "reason": "1 values where the first line names 2"},
    ]


def test_a_list_whose_every_line_is_broken_is_all_rejected(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,n\na.jpg\n")
    manifest = read_manifest(tmp_path / "list.csv")
    assert (manifest.table.num_rows, manifest.rejected.num_rows) == (0, 1)


def test_a_value_longer_than_a_block_of_python_is_read(tmp_path: Path) -> None:
    long = "y" * 300_000
    assert csv_of(tmp_path, f'path,n\na,"{long}"\n')["n"] == [long]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.text("ab,;\"'\n\r\t é")
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_rfc_4180_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    text = "path,note\r\n" + "".join(f"{quoted(path)},{quoted('x' + note)}\r\n" for path, note in rows)
    read = csv_of(tmp_path_factory.getbasetemp(), text)
    assert read == {"path": [path for path, _ in rows], "note": ["x" + note for _, note in rows]}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), HF_IMAGE])
def test_image_bytes_are_pointed_at_and_read_later(tmp_path: Path, kind: pa.DataType) -> None:
    data = [b"one", b"two", b"three", b"four", b"five"]
    values = [{"bytes": each, "path": "x.jpg"} for each in data] if kind == HF_IMAGE else data
    manifest = parquet_of(tmp_path / "x.parquet", rows=2, image=pa.array(values, kind), n=[1, 2, 3, 4, 5])
    uris = [f"x.parquet#row={row}" for row in range(5)]
    assert manifest.table.column("uri").to_pylist() == manifest.table.column("id").to_pylist() == uris
    assert manifest.table.column_names == ["id", "uri", "label", "n"]
    assert images_of(manifest) == data


def test_rows_without_bytes_are_rejected_or_found_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "real.jpg").write_bytes(b"real")
    rows = [
        {"bytes": b"one", "path": None},
        None,
        {"bytes": None, "path": "real.jpg"},
        {"bytes": None, "path": "none.jpg"},
        {"bytes": None, "path": None},
        {"bytes": b"six", "path": "real.jpg"},
    ]
    manifest = parquet_of(tmp_path / "x.parquet", rows=4, image=pa.array(rows, HF_IMAGE))
    assert manifest.table.column("uri").to_pylist() == ["x.parquet#row=0", "real.jpg", "x.parquet#row=5"]
    assert images_of(manifest) == [b"one", b"real", b"six"]
    assert manifest.rejected.to_pylist() == [
        {"uri": "x.parquet#row=1", "reason": "no image in this row"},
        {"uri": "none.jpg", "reason": "no such file"},
        {"uri": "x.parquet#row=4", "reason": "no image in this row"},
    ]
    plain = parquet_of(tmp_path / "y.parquet", image=pa.array([b"a", None], pa.binary()))
    assert (plain.table.num_rows, plain.rejected.num_rows) == (1, 1)


def test_files_without_statistics_are_looked_through(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"a", None, b"c"], pa.binary())})
    pq.write_table(table, tmp_path / "x.parquet", write_statistics=False)
    manifest = read_manifest(tmp_path / "x.parquet")
    assert manifest.table.column("uri").to_pylist() == ["x.parquet#row=0", "x.parquet#row=2"]


def test_image_bytes_are_not_loaded_with_the_manifest(tmp_path: Path) -> None:
    image = [bytes([number]) * 2_000_000 for number in range(20)]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": image, "mask": image, "n": list(range(20))}), path, use_dictionary=False)
    # In a process of its own, since a pool's peak counts everything that was ever in it.
    program = (
        "import sys, pyarrow as pa, pyarrow.parquet as pq\n"
        "from retrieval.manifest import read_manifest\n"
        "read_manifest(sys.argv[1])\n"
        "print(pa.default_memory_pool().max_memory())\n"
        "pq.ParquetFile(sys.argv[1]).read(columns=['image'])\n"
        "print(pa.default_memory_pool().max_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    manifest_peak, image_peak = map(int, done.stdout.split())
    assert manifest_peak < 5_000_000 < 40_000_000 < image_peak
    manifest = read_manifest(path)
    assert manifest.table.column("n").to_pylist() == list(range(20))
    assert manifest.rejected.to_pylist() == [
        {"uri": "x.parquet#column=mask", "reason": "a column of binary, which does not come along"}
    ]


def test_the_named_one_of_two_image_columns_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"a", b"b"], "the back": [b"c", b"d"]}), tmp_path / "x.parquet")
    manifest = read_manifest(tmp_path / "x.parquet", columns=Columns(image="the back"))
    assert images_of(manifest) == [b"c", b"d"]
    assert len(set(manifest.table.column("uri").to_pylist())) == 2


def test_a_folder_of_shards_is_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# A data set")
    first = pa.table({"image": [b"a", b"b"], "n": pa.array([1, 2], pa.int32())})
    second = pa.table({"image": [b"c", None], "n": pa.array([3, 4], pa.int64()), "extra": ["x", "y"]})
    pq.write_table(first, folder / "data" / "train-00000.parquet")
    pq.write_table(second, folder / "data" / "train-00001.parquet")
    manifest = read_manifest(folder)
    assert manifest.table.select(["uri", "n", "extra"]).to_pylist() == [
        {"uri": "data/train-00000.parquet#row=0", "n": 1, "extra": None},
        {"uri": "data/train-00000.parquet#row=1", "n": 2, "extra": None},
        {"uri": "data/train-00001.parquet#row=0", "n": 3, "extra": "x"},
    ]
    assert images_of(manifest) == [b"a", b"b", b"c"]
    assert manifest.rejected.to_pylist() == [
        {"uri": "README.md", "reason": "text, not an image"},
        {"uri": "data/train-00001.parquet#row=1", "reason": "no image in this row"},
    ]


def test_shards_that_do_not_fit_together_are_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"a"], "n": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"image": [b"a"], "n": [["list"]]}), tmp_path / "2.parquet")
    with pytest.raises(ManifestError, match="do not have the same columns"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("image", [b"a", "a.jpg"])
def test_a_shard_without_the_image_column_is_rejected_row_by_row(tmp_path: Path, image: bytes | str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "photos" / "shards").mkdir()
    shards = tmp_path / "photos" / "shards"
    pq.write_table(pa.table({"image": [image], "n": [1]}), shards / "1.parquet")
    pq.write_table(pa.table({"n": [2, 3]}), shards / "2.parquet")
    manifest = read_manifest(shards, root=tmp_path / "photos")
    assert manifest.table.column("n").to_pylist() == [1]
    assert manifest.rejected.column("uri").to_pylist() == ["shards/2.parquet#row=0", "shards/2.parquet#row=1"]


def test_a_parquet_file_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no rows"):
        parquet_of(tmp_path / "x.parquet", image=pa.array([], pa.binary()))


def test_a_cut_parquet_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    parquet_of(tmp_path / "x.parquet", image=[b"a" * 1000] * 10, n=list(range(10)))
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(ManifestError, match=r"cannot read .*x\.parquet as Parquet"):
        read_manifest(tmp_path / "x.parquet")


def test_labels_that_are_numbers_of_classes_become_names(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": [b"a", b"b"], "label": [1, 0]}).replace_schema_metadata(
        {"huggingface": json.dumps(about)}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_manifest(tmp_path / "x.parquet").table.column("label").to_pylist() == ["dog", "cat"]
