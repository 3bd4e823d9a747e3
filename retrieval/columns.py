"""Which column of a table means what, and which types come along.

Names are found conservatively: a column that is not in the short lists below must be named by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from retrieval.errors import ManifestError

IMAGE_NAMES: Final[tuple[str, ...]] = (
    "image",
    "path",
    "file",
    "filename",
    "file_name",
    "image_path",
    "image_file",
    "filepath",
    "file_path",
    "img",
    "photo",
    "picture",
    "uri",
    "image_url",
    "url",
)
"""Names under which the image column is found, in this order, in any case."""
ID_NAMES: Final[tuple[str, ...]] = ("id", "image_id")
LABEL_NAMES: Final[tuple[str, ...]] = ("label", "class", "category")
SPLIT_NAMES: Final[tuple[str, ...]] = ("split",)

RESERVED: Final = frozenset(
    {"row", "id", "uri", "sha256", "width", "height", "label", "source", "query", "rank", "similarity"}
)
"""Names of our own columns; a user's column of that name, in any case, gets an underscore at its end."""

_UNSIGNED: Final = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
_INTEGER: Final = r"^-?(0|[1-9][0-9]{0,18})$"
# An exponent needs its sign, as every writer of floats gives it: 12E4 is an article number.
_FLOAT: Final = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-][0-9]{1,3})?$"
_BOOLEAN: Final = r"^(?i:true|false)$"
_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_READINGS: Final = (
    (_INTEGER, pa.int64()),
    (_FLOAT, pa.float64()),
    (_BOOLEAN, pa.bool_()),
    (_DATE, pa.date32()),
    (_TIME + "$", pa.timestamp("us")),
    (_TIME + r"(Z|[+-][0-9]{2}:?[0-9]{2})$", pa.timestamp("us", "UTC")),
)


@dataclass(frozen=True)
class Columns:
    """Names of columns in a source; None: found by the usual names, or absent.

    Attributes:
        image: paths, or image bytes in Parquet; must be there.
        id: the key; without one, the image's path or place is its id.
        label: the class.
        split: such as train and test; comes along as the column ``split``.
    """

    image: str | None = None
    id: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Roles:
    """The columns of one source that have a meaning for us; the others are the user's own.

    Attributes:
        image: always there.
        leaf: the dotted name of the image's bytes in Parquet, such as ``image.bytes``; None: paths.
        id: None without one.
        label: likewise.
        split: likewise.
    """

    image: str
    leaf: str | None
    id: str | None
    label: str | None
    split: str | None


def assign_roles(schema: pa.Schema, columns: Columns, where: str) -> Roles:
    """Decide which column is which.

    The image column is, in this order: the named one; bytes under one of ``IMAGE_NAMES``; the only Hugging Face
    image (a struct with a field ``bytes``); text under one of ``IMAGE_NAMES``; the only column of bytes.

    Args:
        schema: of the source.
        columns: what the caller named.
        where: the source's name, for messages.

    Raises:
        ManifestError: a named column is not there, two columns share a name, or no column can be the image.
    """
    names = schema.names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ManifestError(f"{where} has two columns named {doubled[0]!r}; rename one")
    for named in (columns.image, columns.id, columns.label, columns.split):
        if named is not None and named not in names:
            raise ManifestError(f"{where} has no column {named!r}; its columns are {_listing(names)}")
    image = columns.image or find_image(schema)
    if image is None:
        raise ManifestError(
            f"{where} has no column that is plainly the image; name it: its columns are {_listing(names)}"
        )
    field = schema.field(image)
    leaf = bytes_leaf(field)
    if leaf is None and not _is_text(field.type):
        raise ManifestError(f"column {image!r} of {where} holds {field.type}, neither paths nor image bytes")
    taken = [image, columns.id, columns.label, columns.split]
    plain = [name for name in names if name not in taken and not pa.types.is_nested(schema.field(name).type)]
    return Roles(
        image=image,
        leaf=leaf,
        id=columns.id or _find(plain, ID_NAMES),
        label=columns.label or _find(plain, LABEL_NAMES),
        split=columns.split or _find(plain, SPLIT_NAMES),
    )


def find_image(schema: pa.Schema) -> str | None:
    """Find the image column by the rules of ``assign_roles``, without a name given; None where they do not decide."""
    in_bytes = [field.name for field in schema if bytes_leaf(field) is not None]
    in_structs = [name for name in in_bytes if pa.types.is_struct(schema.field(name).type)]
    in_text = [field.name for field in schema if _is_text(field.type)]
    return (
        _find(in_bytes, IMAGE_NAMES)
        or (in_structs[0] if len(in_structs) == 1 else None)
        or _find(in_text, IMAGE_NAMES)
        or (in_bytes[0] if len(in_bytes) == 1 else None)
    )


def bytes_leaf(field: pa.Field) -> str | None:
    """Give the dotted name of a column's bytes, ``image`` or ``image.bytes``; None for a column of other things."""
    if _is_bytes(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type) and (place := field.type.get_field_index("bytes")) >= 0:
        return f"{field.name}.bytes" if _is_bytes(field.type.field(place).type) else None
    return None


def holds_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is bytes, or has bytes somewhere inside."""
    inside = [kind.field(place).type for place in range(kind.num_fields)]
    if pa.types.is_dictionary(kind):
        inside = [kind.value_type]
    return _is_bytes(kind) or pa.types.is_fixed_size_binary(kind) or any(map(holds_bytes, inside))


def class_names(schema: pa.Schema, name: str) -> Sequence[str] | None:
    """Read the names of a Hugging Face ``ClassLabel`` column from the schema's metadata; None for other columns."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][name]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(each) for each in names] if isinstance(names, list) else None


def as_text(column: pa.ChunkedArray, name: str, where: str, *, classes: Sequence[str] | None = None) -> pa.ChunkedArray:
    """Give an id, label or split as text: ``7`` for 7 and for 7.0, ``07`` for ``"07"``; empty text is null.

    Args:
        column: of any plain type.
        name: of the column, for messages.
        where: the source's name, for messages.
        classes: names that integers stand for.

    Raises:
        ManifestError: it holds lists, structs or bytes that are no text.
    """
    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        if classes is not None and pa.types.is_integer(column.type):
            inside = pc.if_else(pc.and_(pc.greater_equal(column, 0), pc.less(column, len(classes))), column, None)
            named = pc.take(pa.array(classes, pa.string()), inside.cast(pa.int64()))
            column = pc.coalesce(named, column.cast(pa.string()))
        if pa.types.is_floating(column.type):
            column = _whole(column)
        text = column.cast(pa.string())
    except pa.ArrowException as error:
        raise ManifestError(f"column {name!r} of {where} holds {kind}, which cannot be read as text") from error
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def read_types(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Type a column of text by what all its values are: int64, float64, bool, date32, timestamp, else text.

    Stricter than Arrow's own reading: ``01`` is a code and stays text, and so does every column with one value
    that does not fit.
    """
    for pattern, kind in _READINGS:
        if column.null_count == len(column):
            break
        if not pc.all(pc.match_substring_regex(column, pattern)).as_py():
            continue
        try:
            return pc.utf8_lower(column).cast(kind) if kind == pa.bool_() else column.cast(kind)
        except pa.ArrowInvalid:  # 2026-02-31, or an integer beyond 64 bits
            continue
    return column


def own_name(name: str, taken: Sequence[str], position: int) -> str:
    """Name a user's column so that it meets neither ours nor another: underscores are added at its end.

    Args:
        name: as it came; an empty one becomes ``column_`` and its position.
        taken: the names given so far; upper and lower case count as the same, as they do in Delta tables.
        position: of the column in the source, from 1.
    """
    name = name or f"column_{position}"
    used = RESERVED | {other.lower() for other in taken}
    while name.lower() in used:
        name += "_"
    return name


def storable(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Give a user's column in a type that a Delta table keeps; None when there is none.

    Widened: float16, unsigned integers. Made plain: large and view types, dictionaries, extensions. Durations become
    seconds (float64), times of day text, instants microseconds in UTC, columns of nulls text. Bytes are left out:
    a table of items holds no pictures.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return storable(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    try:
        if pa.types.is_duration(kind):
            micro = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
            return pc.divide(micro.cast(pa.float64()), 1e6)
        if pa.types.is_uint64(kind) and (pc.max(column).as_py() or 0) >= 2**63:
            return column.cast(pa.decimal128(20, 0))
        wanted = storable_type(kind)
        if wanted is None or wanted == kind:
            return None if wanted is None else column
        # Nanoseconds lose what is finer than microseconds; seconds beyond the years of microseconds are an error.
        return column.cast(wanted, safe=not (pa.types.is_timestamp(kind) and kind.unit == "ns"))
    except pa.ArrowException:
        return None


def storable_type(kind: pa.DataType) -> pa.DataType | None:
    """Give the type that ``storable`` casts to, None when a Delta table keeps nothing like it."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return storable_type(kind.value_type)
    if types.is_null(kind) or types.is_time(kind) or _is_text(kind):
        return pa.string()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind):
        inner = storable_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_map(kind):
        key, item = storable_type(kind.key_type), storable_type(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if types.is_struct(kind):
        fields = [(field.name, storable_type(field.type)) for field in kind]
        return pa.struct(fields) if fields and all(inner is not None for _, inner in fields) else None
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else pa.string()
    if types.is_date(kind):
        return pa.date32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_uint64(kind):
        return pa.int64()
    if types.is_boolean(kind) or types.is_signed_integer(kind) or types.is_floating(kind):
        return kind
    return _UNSIGNED.get(kind)


def _find(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    for want in wanted:
        for name in names:
            if name.lower() == want:
                return name
    return None


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:30])
    return f"{shown} and {len(names) - 30} more" if len(names) > 30 else shown


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo what pandas does to integers with nulls: NaN becomes null, and floats that are all whole, integers."""
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    whole = pc.all(pc.and_(pc.is_finite(column), pc.equal(pc.floor(column), column))).as_py()
    return column.cast(pa.int64()) if whole else column
