"""MATLAB files: as scipy reads them, and what is damaged is refused."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from retrieval.datasets.matlab_lists import matlab, matlab_numbers, matlab_texts
from retrieval.errors import ProtocolError
from tests.retrieval.miniatures import cells, structs


@pytest.mark.parametrize("packed", [True, False])
def test_matlab_files_are_read_as_by_scipy(packed: bool, tmp_path: Path) -> None:
    variables = {
        "row": np.array([[1, 2, 300]], np.uint16),
        "table": np.arange(6.0).reshape(2, 3),
        "one": np.array([[7]], np.int8),
        "names": cells(["a", "Citroën 北京", ""]),
        "annotations": structs([{"class": 3, "fname": "a.jpg"}, {"class": 4.0, "fname": "b.jpg"}]),
        "text": "header",
    }
    path = tmp_path / "a.mat"
    savemat(path, variables, do_compression=packed)
    ours, theirs = matlab(path), loadmat(path, squeeze_me=True)
    assert set(ours) == set(variables)
    for name in ("row", "table", "one"):
        assert np.array_equal(ours[name], np.atleast_1d(theirs[name]))
    assert matlab_texts(ours["names"], path) == ["a", "Citroën 北京", ""]
    assert matlab_numbers(ours["annotations"]["class"], path) == [3, 4] == theirs["annotations"]["class"].tolist()
    assert matlab_texts(ours["annotations"]["fname"], path) == theirs["annotations"]["fname"].tolist()
    assert ours["text"].tolist() == ["header"]
    for wrong in (ours["names"], np.array([1.5]), np.array([np.nan])):
        with pytest.raises(ProtocolError, match="whole number"):
            matlab_numbers(wrong, path)
    with pytest.raises(ProtocolError, match="no text"):
        matlab_texts(ours["row"], path)


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body


def test_what_unpacks_to_more_than_its_room_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    bomb = element(15, zlib.compress(bytes(64 * 2**20)))
    path.write_bytes(head + bomb)
    with pytest.raises(ProtocolError, match="unpacks to more"):
        matlab(path)
    path.write_bytes(head + element(15, zlib.compress(element(15, zlib.compress(bytes(1000))))))
    with pytest.raises(ProtocolError, match="inside a packed one"):
        matlab(path)


def test_small_numbers_of_a_wide_type_stay_small(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"wide": np.ones((1, 100_000))}, do_compression=True)
    numbers = matlab(tmp_path / "a.mat")["wide"]
    assert numbers.nbytes <= 8 * 100_000 and numbers.sum() == 100_000


@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_matlab_file_is_read_or_refused(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    annotations = structs([{"class": number, "fname": f"{number}.jpg"} for number in range(9)])
    savemat(path, {"annotations": annotations, "names": cells(["a", "b"])}, do_compression=packed)
    whole = path.read_bytes()
    drawn = random.Random(0)
    refused = 0
    for _ in range(800):
        data = bytearray(whole)
        for _ in range(drawn.randint(1, 6)):
            data[drawn.randrange(128, len(data))] = drawn.randrange(256)
        path.write_bytes(data[: drawn.randrange(len(data))] if drawn.random() < 0.2 else data)
        try:
            matlab(path)
        except ProtocolError:
            refused += 1
    assert refused > 600


def test_a_matlab_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"zeros": np.zeros(3 * 2**20)}, do_compression=True)
    assert path.stat().st_size < 2**20
    with pytest.raises(ProtocolError, match="unpacks to more"):
        matlab(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file" + b"\0" * 200)
    with pytest.raises(ProtocolError, match=r"a\.mat is damaged \(no file of MATLAB 5"):
        matlab(path)
