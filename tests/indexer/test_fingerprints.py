"""What is kept of pictures that were looked at: it comes back as it was, and damage is told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.candidates import look
from indexer.fingerprints import FINGERPRINTS_SCHEMA, Fingerprints, pack, unpack
from retrieval.errors import ImageError
from retrieval.local_features import describe
from tests.embedders import ColourEmbedder
from tests.indexer.copies import jpeg, photo

WHOLE = b"a" * 32, b"b" * 32, b"c" * 32


def row(sha256: bytes, number: int = 0, **more: Any) -> dict[str, Any]:
    seen = look(jpeg(photo(number)), _digest(jpeg(photo(number))), ColourEmbedder(), "quick")
    return seen.row | {"sha256": sha256, "candidates": b"", "similarities": b""} | more


def unreadable(sha256: bytes, reason: str = "is gone") -> dict[str, Any]:
    return {"sha256": sha256, "reason": reason}


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_features_come_back_nearly_as_they_were() -> None:
    features = describe(photo(0))
    again = unpack(pack(features))
    assert again.zoom == features.zoom
    np.testing.assert_allclose(again.points, features.points, atol=0.1)
    assert (again.descriptors * features.descriptors).sum(axis=1).min() > 0.999
    assert again.picture.shape == features.picture.shape
    assert np.abs(again.picture.astype(int) - features.picture).mean() < 6


def test_a_picture_without_features_comes_back() -> None:
    again = unpack(pack(describe(np.full((30, 40, 3), 90, np.uint8))))
    assert (again.points.shape, again.descriptors.shape) == ((0, 2), (0, 128))


def test_blocks_are_there_when_opened_again(tmp_path: Path) -> None:
    one = Fingerprints(tmp_path)
    assert (len(one), list(one.blocks), one.columns(["sha256"]).num_rows) == (0, [], 0)
    one.add([row(WHOLE[0], 0), unreadable(WHOLE[1])])
    one.add([row(WHOLE[2], 2, candidates=WHOLE[0])])
    for kept in (one, Fingerprints(tmp_path)):
        assert len(kept) == 3 and all(sha256 in kept for sha256 in WHOLE) and b"d" * 32 not in kept
        assert kept.columns(["sha256"]).column(0).to_pylist() == list(WHOLE)
        assert [kept.block(name).num_rows for name in kept.blocks] == [2, 1]
        assert kept.block(kept.blocks[0]).schema == FINGERPRINTS_SCHEMA
        assert kept.row(WHOLE[2], ["candidates", "format"]) == {"candidates": WHOLE[0], "format": "JPEG"}
        assert [kept.seen(sha256) for sha256 in (*WHOLE, b"d" * 32)] == [True, False, True, False]
        assert [kept.reason(sha256) for sha256 in (*WHOLE, b"d" * 32)] == [None, "is gone", None, None]
        assert kept.features(WHOLE[1]) is None and kept.features(b"d" * 32) is None
        np.testing.assert_array_equal(kept.features(WHOLE[0]).picture, one.features(WHOLE[0]).picture)
        assert kept.damaged == [] and kept.late == {}


def test_of_two_rows_the_newer_one_counts(tmp_path: Path) -> None:
    kept = Fingerprints(tmp_path)
    kept.add([unreadable(WHOLE[0]), unreadable(WHOLE[1])])
    assert kept.features(WHOLE[0]) is None
    kept.add([row(WHOLE[0]), unreadable(WHOLE[1], "has changed")])
    for again in (kept, Fingerprints(tmp_path)):
        assert again.features(WHOLE[0]) is not None
        assert again.row(WHOLE[0], ["reason"]) == {"reason": None}
        assert (again.reason(WHOLE[0]), again.reason(WHOLE[1])) == (None, "has changed")
        assert again.late == {WHOLE[0]: 1}
        assert len(again) == 2


def test_held_pictures_have_features_and_are_in_no_block(tmp_path: Path) -> None:
    kept = Fingerprints(tmp_path)
    kept.hold([row(WHOLE[0])])
    assert kept.features(WHOLE[0]) is not None
    assert WHOLE[0] not in kept and not kept.seen(WHOLE[0])
    assert (len(kept), kept.blocks, list(tmp_path.iterdir())) == (0, [], [])
    kept.hold([])
    assert kept.features(WHOLE[0]) is None


def test_what_was_unreadable_and_is_held_has_features_and_grain(tmp_path: Path) -> None:
    kept = Fingerprints(tmp_path)
    kept.add([unreadable(WHOLE[0])])
    assert kept.features(WHOLE[0]) is None
    kept.hold([row(WHOLE[0])])
    assert kept.features(WHOLE[0]) is not None
    assert len(kept.grain(WHOLE[0]).profiles[0]) == 198
    assert not kept.seen(WHOLE[0])


def test_a_name_never_comes_again(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        kept = Fingerprints(tmp_path)
        kept.add([row(WHOLE[0])])
        (path,) = tmp_path.glob("*.arrow")
        names.add(path.stem)
        path.unlink()
    assert len(names) == 3


def test_any_flipped_byte_that_could_lead_astray_is_told(tmp_path: Path) -> None:
    """The numbers by which Arrow finds its way in the file; it believes them, and crashes on one that is wrong."""
    Fingerprints(tmp_path / "whole").add([row(WHOLE[0], 0), row(WHOLE[1], 1), row(WHOLE[2], 2)])
    (path,) = (tmp_path / "whole").iterdir()
    data = path.read_bytes()
    batch = 8 + data[8:].index(b"\xff\xff\xff\xff") + 8  # skips the schema, which is read at the end
    batch = data.index(b"\xff\xff\xff\xff", batch)
    tries = range(batch, batch + 1400, 9)
    told = 0
    for at in tries:
        place = tmp_path / str(at)
        place.mkdir()
        (place / path.name).write_bytes(data[:at] + bytes((data[at] ^ 255,)) + data[at + 1 :])
        kept = Fingerprints(place)
        told += len(kept.damaged)
        for sha256 in kept.columns(["sha256"]).column(0).to_pylist():
            assert len(kept.row(sha256, ["descriptors"])["descriptors"]) % 128 == 0
    assert told > len(tries) // 8


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda data: b"x" * 500]
)
def test_a_damaged_block_is_moved_aside(tmp_path: Path, damage: Any) -> None:
    kept = Fingerprints(tmp_path)
    kept.add([row(WHOLE[0])])
    kept.add([row(WHOLE[1], 1)])
    first, second = sorted(tmp_path.iterdir())
    whole = first.read_bytes()
    first.write_bytes(damage(whole))
    again = Fingerprints(tmp_path)
    assert again.damaged == [first]
    assert WHOLE[0] not in again and WHOLE[1] in again
    assert first.with_suffix(".damaged").read_bytes() == damage(whole)
    again.add([row(WHOLE[0])])
    assert again.blocks[-1] > second.stem  # the oldest stays the first
    assert Fingerprints(tmp_path).damaged == []


def test_looking_at_what_is_no_such_picture() -> None:
    data = jpeg(photo(0))
    seen = look(data, _digest(data), ColourEmbedder(), "usual")
    assert (seen.row["bytes"], seen.row["format"], seen.row["reason"]) == (len(data), "JPEG", None)
    assert len(seen.views) == 5
    for given, said in (
        (ImageError("is gone"), "is gone"),
        (data + b"x", "has changed since it was indexed; index its source again"),
    ):
        seen = look(given, _digest(data), ColourEmbedder(), "usual")
        assert seen.row == {"sha256": _digest(data), "reason": said}
        assert (seen.features, len(seen.views)) == (None, 0)
    text = b"no picture"
    assert "image" in look(text, _digest(text), ColourEmbedder(), "usual").row["reason"]
