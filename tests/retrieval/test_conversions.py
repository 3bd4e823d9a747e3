"""Conversions: made once, checked when found, made again when damaged, and never half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.conversions import SEAL, Conversions, cache_folder

DIGEST = "ab" * 32


class Maker:
    """Writes two files, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        assert list(folder.iterdir()) == []
        self.calls += 1
        (folder / "model.xml").write_text("<net/>")
        (folder / "model.bin").write_bytes(bytes(range(256)))


@pytest.fixture
def conversions(tmp_path: Path) -> Conversions:
    return Conversions(DIGEST, cache=tmp_path / "cache")


def whole(folder: Path) -> bool:
    return (folder / "model.xml").read_text() == "<net/>" and (folder / "model.bin").read_bytes() == bytes(range(256))


def test_a_conversion_is_made_once_and_found_by_the_next_process(conversions: Conversions, tmp_path: Path) -> None:
    make = Maker()
    folder = conversions.fetch("openvino-1", make)
    assert whole(folder)
    assert conversions.fetch("openvino-1", make) == folder
    assert Conversions(DIGEST, cache=tmp_path / "cache").fetch("openvino-1", make) == folder
    assert make.calls == 1
    assert folder == tmp_path / "cache" / DIGEST / "openvino-1"


def test_another_version_and_another_embedder_are_other_conversions(conversions: Conversions, tmp_path: Path) -> None:
    make = Maker()
    conversions.fetch("openvino-1", make)
    conversions.fetch("openvino-2", make)
    Conversions("cd" * 32, cache=tmp_path / "cache").fetch("openvino-1", make)
    assert make.calls == 3


@given(st.data())
def test_whatever_is_damaged_is_made_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    conversions = Conversions(DIGEST, cache=tmp_path_factory.mktemp("cache"))
    make = Maker()
    folder = conversions.fetch("net", make)
    victim = folder / data.draw(st.sampled_from(["model.xml", "model.bin", SEAL]))
    content = victim.read_bytes()
    damage = data.draw(st.sampled_from(["cut", "flip", "lose", "empty"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if damage == "lose":
        victim.unlink()
    else:
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        victim.write_bytes({"cut": content[:at], "flip": flipped, "empty": b""}[damage])
    again = conversions.fetch("net", make)
    assert whole(again)
    assert conversions.fetch("net", make) == again
    assert make.calls <= 2  # once where the damage does not matter, such as a space in the seal
    assert [path.name for path in conversions.folder.iterdir()] == ["net"]


def test_what_fails_half_way_leaves_nothing_behind(conversions: Conversions) -> None:
    def make(folder: Path) -> None:
        (folder / "model.xml").write_text("half")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        conversions.fetch("net", make)
    assert list(conversions.folder.iterdir()) == []
    assert whole(conversions.fetch("net", Maker()))


def test_a_process_killed_half_way_does_no_harm(conversions: Conversions) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom retrieval.conversions import Conversions\n"
        "def make(folder):\n"
        "    (folder / 'model.xml').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
        f"Conversions({DIGEST!r}, cache=Path(sys.argv[1])).fetch('net', make)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(conversions.folder.parent)], check=False)
    assert done.returncode == -9
    assert whole(conversions.fetch("net", Maker()))


def test_several_at_once_agree_on_one(conversions: Conversions) -> None:
    gate = threading.Barrier(6)
    got: list[Path] = []

    def fetch() -> None:
        own = Conversions(DIGEST, cache=conversions.folder.parent)
        gate.wait()
        got.append(own.fetch("net", Maker()))

    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert all(whole(folder) for folder in set(got))
    assert [path.name for path in conversions.folder.iterdir()] == ["net"]


def test_where_nothing_can_be_written_it_is_made_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    conversions = Conversions(DIGEST, cache=tmp_path / "file")
    make = Maker()
    folder = conversions.fetch("net", make)
    assert whole(folder)
    assert conversions.fetch("net", make) == folder
    assert make.calls == 1
    assert not conversions.write("note", {"a": 1})
    assert conversions.read("note") is None


def test_notes_are_read_as_written_and_damaged_ones_do_not_count(conversions: Conversions) -> None:
    assert conversions.read("note") is None
    assert conversions.write("note", {"runtime": "torch", "rate": 1.5})
    assert conversions.read("note") == {"runtime": "torch", "rate": 1.5}
    for damage in (b"", b"{", b"[1]", b"\xff\xfe"):
        (conversions.folder / "note.json").write_bytes(damage)
        assert conversions.read("note") is None
    assert conversions.write("note", {})
    assert sorted(path.name for path in conversions.folder.iterdir()) == ["note.json"]


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("LOOKALIKE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg" / "lookalike"
    assert "lookalike" in os.fspath(cache_folder())


def test_the_seal_names_every_file(conversions: Conversions) -> None:
    folder = conversions.fetch("net", Maker())
    assert set(json.loads((folder / SEAL).read_text())) == {"model.xml", "model.bin"}
