"""Which column means what, and which types come along."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from retrieval.columns import (
    RESERVED,
    Columns,
    as_text,
    assign_roles,
    class_names,
    find_image,
    own_name,
    read_types,
    storable,
)
from retrieval.errors import ManifestError

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("schema", "image"),
    [
        ({"path": pa.string()}, "path"),
        ({"Filename": pa.string(), "url": pa.string()}, "Filename"),
        ({"image_url": pa.string(), "image": pa.binary()}, "image"),
        ({"file": pa.string(), "picture": pa.large_binary()}, "picture"),
        ({"path": pa.string(), "scan": HF_IMAGE}, "scan"),
        ({"path": pa.string(), "fingerprint": pa.binary()}, "path"),
        ({"name": pa.string(), "scan": pa.binary()}, "scan"),
        ({"img": pa.dictionary(pa.int32(), pa.large_string())}, "img"),
        ({"image": pa.int64(), "file": pa.string_view()}, "file"),
        ({"front": pa.binary(), "back": pa.binary()}, None),
        ({"name": pa.string(), "title": pa.string()}, None),
    ],
)
def test_the_image_column_is_found_or_asked_for(schema: dict[str, pa.DataType], image: str | None) -> None:
    assert find_image(pa.schema(schema)) == image
    if image is None:
        with pytest.raises(ManifestError, match=f"x has no column that is plainly the image.*{', '.join(schema)}"):
            assign_roles(pa.schema(schema), Columns(), "x")
    else:
        assert assign_roles(pa.schema(schema), Columns(), "x").image == image


def test_the_other_roles_are_found_by_few_names_or_named() -> None:
    schema = pa.schema(
        {name: pa.string() for name in ("path", "ID", "class", "Split", "sku", "article_type", "subset")}
    )
    found = assign_roles(schema, Columns(), "x")
    assert (found.id, found.label, found.split, found.leaf) == ("ID", "class", "Split", None)
    named = assign_roles(schema, Columns(image="sku", id="path", label="article_type", split="subset"), "x")
    assert (named.image, named.id, named.label, named.split) == ("sku", "path", "article_type", "subset")
    nothing = assign_roles(pa.schema({"path": pa.string(), "category": pa.list_(pa.string())}), Columns(), "x")
    assert (nothing.id, nothing.label, nothing.split) == (None, None, None)


def test_a_column_serves_twice_only_where_it_is_named_twice() -> None:
    schema = pa.schema({"image": pa.string(), "label": pa.string()})
    roles = assign_roles(schema, Columns(image="label"), "x")
    assert (roles.image, roles.label) == ("label", None)
    assert assign_roles(schema, Columns(image="image", id="image"), "x").id == "image"


@pytest.mark.parametrize("role", ["image", "id", "label", "split"])
def test_a_named_column_that_is_not_there_is_an_error_that_lists_the_others(role: str) -> None:
    schema = pa.schema({"path": pa.string(), "a b": pa.string(), "new\nline": pa.string()})
    with pytest.raises(ManifestError, match=r"^x has no column 'none'; its columns are path, a b, 'new\\nline'$"):
        assign_roles(schema, Columns(**{role: "none"}), "x")


def test_an_image_column_of_numbers_and_doubled_names_are_errors() -> None:
    with pytest.raises(ManifestError, match="column 'n' of x holds int64, neither paths nor image bytes"):
        assign_roles(pa.schema({"n": pa.int64()}), Columns(image="n"), "x")
    with pytest.raises(ManifestError, match="x has two columns named 'a'"):
        assign_roles(pa.schema([("path", pa.string()), ("a", pa.string()), ("a", pa.string())]), Columns(), "x")


def test_the_bytes_of_a_struct_are_named_with_their_column() -> None:
    assert assign_roles(pa.schema({"image": HF_IMAGE}), Columns(), "x").leaf == "image.bytes"
    assert assign_roles(pa.schema({"image": pa.binary()}), Columns(), "x").leaf == "image"


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (["01", "1", ""], pa.string(), ["01", "1", None]),
        ([7, None], pa.int16(), ["7", None]),
        ([7.0, None, 2.0], pa.float64(), ["7", None, "2"]),
        ([7.0, float("nan")], pa.float64(), ["7", None]),
        ([0.5, 1.0], pa.float64(), ["0.5", "1"]),
        ([True, False], pa.bool_(), ["true", "false"]),
        ([datetime.date(2026, 1, 2)], pa.date32(), ["2026-01-02"]),
        ([b"ab"], pa.binary(), ["ab"]),
        ([None, None], pa.null(), [None, None]),
        (["a", "b"], pa.large_string(), ["a", "b"]),
    ],
)
def test_ids_and_labels_become_text(values: list[Any], kind: pa.DataType, text: list[str | None]) -> None:
    got = as_text(column(values, kind), "c", "x")
    assert got.type == pa.string() and got.to_pylist() == text
    coded = pa.chunked_array([pa.array(values, kind).dictionary_encode()])
    assert as_text(coded, "c", "x").to_pylist() == text


@pytest.mark.parametrize(("values", "kind"), [([["a"]], pa.list_(pa.string())), ([b"\xff"], pa.binary())])
def test_what_is_no_text_is_an_error(values: list[Any], kind: pa.DataType) -> None:
    with pytest.raises(ManifestError, match=r"column 'c' of x holds .* cannot be read as text"):
        as_text(column(values, kind), "c", "x")


def test_hugging_face_class_labels_become_their_names() -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "n": {"dtype": "int64", "_type": "Value"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema({"label": pa.int64(), "n": pa.int64()}, metadata=about)
    names = class_names(schema, "label")
    assert names == ["cat", "dog"]
    assert as_text(column([1, 0, None, -1, 7]), "label", "x", classes=names).to_pylist() == [
        "dog",
        "cat",
        None,
        "-1",
        "7",
    ]
    assert class_names(schema, "n") is None and class_names(schema, "none") is None
    assert class_names(pa.schema({"label": pa.int64()}, metadata={b"huggingface": b"[]"}), "label") is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "0"], pa.int64()),
        (["9223372036854775807", "1"], pa.int64()),
        (["9223372036854775808", "1"], pa.float64()),
        (["1", "2.50", "-0.1", "1e-05", "2.5E+3"], pa.float64()),
        (["true", "False", "TRUE"], pa.bool_()),
        (["2026-01-31", "1999-12-01"], pa.date32()),
        (["2026-01-31 10:20", "2026-01-31T10:20:30.5"], pa.timestamp("us")),
        (["2026-01-31T10:20:30Z", "2026-01-31 10:20:30+02:00"], pa.timestamp("us", "UTC")),
        (["01", "2"], pa.string()),
        (["+1"], pa.string()),
        (["1,5"], pa.string()),
        (["12E4"], pa.string()),
        (["1", "NA"], pa.string()),
        (["2026-02-31"], pa.string()),
        (["1", "true"], pa.string()),
        (["1\n"], pa.string()),
        ([], pa.string()),
    ],
)
def test_columns_of_text_are_typed_by_all_their_values(values: list[str], kind: pa.DataType) -> None:
    typed = read_types(column([*values, None], pa.string()))
    assert typed.type == kind
    assert typed.null_count == 1
    if kind == pa.string():
        assert typed.to_pylist() == [*values, None]


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.none()), min_size=1))
def test_integers_survive_being_text(values: list[int | None]) -> None:
    typed = read_types(column([None if value is None else str(value) for value in values], pa.string()))
    assert [None if value is None else int(value) for value in typed.to_pylist()] == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_survive_being_text(values: list[float]) -> None:
    typed = read_types(column([repr(value) for value in values], pa.string()))
    assert [float(value) for value in typed.to_pylist()] == values


@given(st.lists(st.text(), min_size=1))
def test_text_is_kept_as_it_is_or_means_the_same(values: list[str]) -> None:
    typed = read_types(column(values, pa.string()))
    if typed.type == pa.string():
        assert typed.to_pylist() == values


@given(st.lists(st.sampled_from(["", "a", "A", "a_", "id", "ID", "Label", "row", "row_", "query"]), max_size=8))
def test_own_names_meet_neither_ours_nor_each_other(names: list[str]) -> None:
    taken: list[str] = []
    for position, name in enumerate(names, 1):
        taken.append(own_name(name, taken, position))
        assert taken[-1].startswith(name or "column_")
    lowered = [name.lower() for name in taken]
    assert len(set(lowered)) == len(lowered) and not RESERVED & set(lowered)


def test_own_names_stay_where_they_can() -> None:
    assert own_name("Price (€)", ["a"], 1) == "Price (€)"
    assert [own_name(name, [], 1) for name in ("label", "Similarity")] == ["label_", "Similarity_"]


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("values", "kind", "stored", "after"),
    [
        ([250], pa.uint8(), pa.int16(), [250]),
        ([65535], pa.uint16(), pa.int32(), [65535]),
        ([2**32 - 1], pa.uint32(), pa.int64(), [2**32 - 1]),
        ([2**63 - 1], pa.uint64(), pa.int64(), [2**63 - 1]),
        ([2**64 - 1], pa.uint64(), pa.decimal128(20, 0), [decimal.Decimal(2**64 - 1)]),
        ([1.5], pa.float16(), pa.float32(), [1.5]),
        ([None], pa.null(), pa.string(), [None]),
        (["a"], pa.large_string(), pa.string(), ["a"]),
        (["a"], pa.string_view(), pa.string(), ["a"]),
        (["a"], pa.dictionary(pa.int8(), pa.large_string()), pa.string(), ["a"]),
        ([1500], pa.duration("ms"), pa.float64(), [1.5]),
        ([3661], pa.time32("s"), pa.string(), ["01:01:01"]),
        ([86_400_000], pa.date64(), pa.date32(), [datetime.date(1970, 1, 2)]),
        ([1_999_999], pa.timestamp("ns"), pa.timestamp("us"), [datetime.datetime(1970, 1, 1, 0, 0, 0, 1999)]),
        (
            [0],
            pa.timestamp("s", "Asia/Kolkata"),
            pa.timestamp("us", "UTC"),
            [datetime.datetime(1970, 1, 1, tzinfo=UTC)],
        ),
        ([decimal.Decimal("1.5")], pa.decimal256(60, 1), pa.string(), ["1.5"]),
        ([[1, None], None], pa.large_list(pa.uint8()), pa.list_(pa.int16()), [[1, None], None]),
        ([[0.5, 1.0]], pa.list_(pa.float16(), 2), pa.list_(pa.float32()), [[0.5, 1.0]]),
        ([{"a": 1}], pa.struct([("a", pa.uint8())]), pa.struct([("a", pa.int16())]), [{"a": 1}]),
    ],
)
def test_types_become_those_that_a_delta_table_keeps(
    tmp_path: Path, values: list[Any], kind: pa.DataType, stored: pa.DataType, after: list[Any]
) -> None:
    given = column(values, kind)
    got = storable(given)
    assert got is not None and got.type == stored and got.to_pylist() == after
    write_deltalake(tmp_path, pa.table({"c": got}))
    assert DeltaTable(tmp_path).to_pyarrow_table().column("c").to_pylist() == after


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string()])
def test_plain_types_stay(kind: pa.DataType) -> None:
    plain = column([None], kind)
    assert storable(plain) is plain


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([b"a"], pa.binary()),
        ([b"ab"], pa.binary(2)),
        ([bytes(16)], pa.uuid()),
        ([[b"a"]], pa.list_(pa.binary())),
        ([{"bytes": b"a", "path": None}], HF_IMAGE),
        ([{}], pa.struct([])),
        ([2**62], pa.timestamp("s")),
    ],
)
def test_bytes_and_what_no_table_keeps_stay_behind(values: list[Any], kind: pa.DataType) -> None:
    assert storable(column(values, kind)) is None
