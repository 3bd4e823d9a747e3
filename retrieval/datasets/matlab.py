"""The variables of a MATLAB file (versions 5 to 7.2), read so that no damage to it can do harm.

``scipy.io.loadmat`` is not used: its compiled reader ends the process on some damaged files. What official lists need
is little: numbers, texts, cells and structs, packed or not. The format is MathWorks' "MAT-File Format", level 5: a
header of 128 bytes, then elements, each a tag of type and size, and its bytes filled up to a multiple of eight.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

_HEADER: Final = 128
_DEEPEST: Final = 8
_MATRIX: Final = 14
_PACKED: Final = 15
# type of an element → how its numbers are stored
_STORED: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# type of an element of text → its encoding
_ENCODED: Final = {1: "latin-1", 2: "latin-1", 16: "utf-8", 17: "utf-16"}
# class of a matrix → what it holds
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS: Final = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX: Final = 0x0800


class _Bytes:
    """Bytes and a place in them; whoever reads past the end, or goes too deep, gets a ValueError."""

    def __init__(self, data: bytes, order: str, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise ValueError("cells within cells without end")
        self.data, self.order, self.depth, self.place = data, order, depth, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.place

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError("it ends too early")
        self.place += size
        return self.data[self.place - size : self.place]

    def element(self) -> tuple[int, bytes]:
        """Read the next element: its type and its bytes."""
        kind, size = struct.unpack(f"{self.order}II", self.take(8))
        if kind >> 16:  # a small one: both numbers in the first four bytes, up to four bytes in the others
            if kind >> 16 > 4:
                raise ValueError("an element of an impossible size")
            return kind & 0xFFFF, self.data[self.place - 4 : self.place - 4 + (kind >> 16)]
        body = self.take(size)
        if kind != _PACKED:
            self.place = min(len(self.data), self.place + -size % 8)
        return kind, body

    def numbers(self) -> np.ndarray:
        """Read the next element as an array (n,) of numbers."""
        kind, body = self.element()
        if kind not in _STORED:
            raise ValueError("an element that is no array of numbers")
        return np.frombuffer(body, np.dtype(self.order + _STORED[kind]))


def variables(data: bytes, *, limit: int) -> dict[str, np.ndarray]:
    """Read the variables of a file: arrays of numbers, of text and cells (both object), and of structs (fields object).

    Dimensions of one are dropped, but for the last; a number or a text in a cell is that, not an array.

    Args:
        data: the file.
        limit: bytes that packed variables may have together when unpacked.

    Raises:
        ValueError: it is damaged, or holds what is none of these.
    """
    if not data.startswith(b"MATLAB 5.0") or len(data) < _HEADER:
        raise ValueError("no file of MATLAB 5 to 7.2")
    order = ">" if data[126:128] == b"MI" else "<"
    found: dict[str, np.ndarray] = {}
    for kind, body in _unpacked(_Bytes(data[_HEADER:], order), limit):
        if kind != _MATRIX:
            raise ValueError("an element that is no variable")
        name, value = _matrix(_Bytes(body, order))
        if isinstance(value, str):
            value = np.array([value], object)
        found[name] = np.atleast_1d(value)
    return found


def _unpacked(source: _Bytes, room: int) -> Iterator[tuple[int, bytes]]:
    while source.left >= 8:
        kind, body = source.element()
        if kind != _PACKED:
            yield kind, body
            continue
        packed = zlib.decompressobj()
        try:
            plain = packed.decompress(body, room + 1)
        except zlib.error as error:
            raise ValueError("a packed variable cannot be unpacked") from error
        room -= len(plain)
        if room < 0:
            raise ValueError("it unpacks to more than any official list has")
        if not packed.eof:
            raise ValueError("it ends too early")
        inside = _Bytes(plain, source.order, source.depth + 1)
        while inside.left >= 8:
            element = inside.element()
            if element[0] == _PACKED:  # each would have the whole room again
                raise ValueError("a packed variable inside a packed one")
            yield element


def _matrix(source: _Bytes) -> tuple[str, Any]:
    """Read a variable or the inside of a cell: its name, and a number, a text, or an array."""
    if not source.left:
        return "", np.empty(0)
    flags = source.numbers()
    shape = [int(length) for length in source.numbers()]
    name = _text(source)
    if not len(flags) or not 2 <= len(shape) <= 8 or min(shape) < 0:
        raise ValueError("a matrix without a shape")
    count = math.prod(shape)
    kind = int(flags[0]) & 0xFF
    value: np.ndarray
    if kind == _CHAR:
        text = _text(source)
        if shape[0] <= 1:
            return name, text
        if len(text) != count:
            raise ValueError("a text of another length than it says")
        rows = np.array(list(text), object).reshape(shape[0], -1, order="F")
        return name, np.array(["".join(row) for row in rows], object)
    if kind == _CELL:
        _check_count(count, source)
        value = np.empty(count, object)
        for place in range(count):
            value[place] = _inner(source)
    elif kind == _STRUCT:
        value = _struct(source, count)
    elif kind in _NUMBERS and not int(flags[0]) & _COMPLEX:
        stored = source.numbers()
        if len(stored) != count:
            raise ValueError("an array of another length than it says")
        # Small whole numbers that are stored for wide ones stay small, or a list would grow eightfold beyond the limit.
        wider = np.dtype(_NUMBERS[kind]).itemsize > stored.itemsize
        with np.errstate(invalid="ignore"):
            value = stored.copy() if wider else stored.astype(_NUMBERS[kind])
    else:
        raise ValueError("a variable that is neither numbers nor text, cells or structs")
    value = value.reshape([length for length in shape if length != 1], order="F")
    return name, value.item() if value.ndim == 0 and value.dtype.names is None and kind != _CELL else value


def _struct(source: _Bytes, count: int) -> np.ndarray:
    """Read an array (count,) of structs."""
    lengths = source.numbers()
    _, body = source.element()
    length = int(lengths[0]) if len(lengths) else 0
    if length < 1 or len(body) % length:
        raise ValueError("a struct without names of fields")
    names = [body[place : place + length].split(b"\0")[0].decode() for place in range(0, len(body), length)]
    if not names or len(set(names)) != len(names) or "" in names:
        raise ValueError("a struct without names of fields")
    _check_count(count * len(names), source)
    value = np.empty(count, [(name, object) for name in names])
    for place in range(count):
        value[place] = tuple(_inner(source) for _ in names)
    return value


def _inner(source: _Bytes) -> Any:
    kind, body = source.element()
    if kind != _MATRIX:
        raise ValueError("a cell that holds no matrix")
    return _matrix(_Bytes(body, source.order, source.depth + 1))[1]


def _text(source: _Bytes) -> str:
    kind, body = source.element()
    if kind == 4:
        return body.decode("utf-16-be" if source.order == ">" else "utf-16-le")
    if kind not in _ENCODED:
        raise ValueError("an element that is no text")
    return body.decode(_ENCODED[kind])


def _check_count(count: int, source: _Bytes) -> None:
    if count * 8 > source.left:
        raise ValueError("more cells than it has bytes for")
