"""What lies in a folder, and the reason for everything that is no picture."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import ManifestError
from retrieval.folders import look_into, printable
from retrieval.manifest import FOUND, Columns, read_manifest
from tests.retrieval.pictures import encoded, gradient


def touch(folder: Path, *names: str, data: bytes = b"") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def rejected(folder: Path) -> dict[str, str]:
    manifest = read_manifest(folder)
    return dict(zip(*manifest.rejected.to_pydict().values(), strict=True))


def uris(folder: Path) -> list[str]:
    return [str(uri) for uri in read_manifest(folder).table.column("uri").to_pylist()]


def test_the_label_is_the_folder_and_null_at_the_top(tmp_path: Path) -> None:
    touch(tmp_path, "top.jpg", "Fruit/Apple/Granny-Smith/1.JPG", "Fruit/Apple/2.webp", "Fruit/Pear/1.jpg")
    manifest = read_manifest(tmp_path)
    assert manifest.table.to_pylist() == [
        {"id": "Fruit/Apple/2.webp", "uri": "Fruit/Apple/2.webp", "label": "Fruit/Apple"},
        {
            "id": "Fruit/Apple/Granny-Smith/1.JPG",
            "uri": "Fruit/Apple/Granny-Smith/1.JPG",
            "label": "Fruit/Apple/Granny-Smith",
        },
        {"id": "Fruit/Pear/1.jpg", "uri": "Fruit/Pear/1.jpg", "label": "Fruit/Pear"},
        {"id": "top.jpg", "uri": "top.jpg", "label": None},
    ]
    assert manifest.rejected.num_rows == 0 and manifest.root == tmp_path.resolve()


def test_a_root_above_gives_longer_uris_and_the_same_labels(tmp_path: Path) -> None:
    touch(tmp_path, "photos/Red/1.jpg", "photos/notes.txt", data=b"notes")
    manifest = read_manifest(tmp_path / "photos", root=tmp_path, prefix="x:")
    assert manifest.table.to_pylist() == [{"id": "x:photos/Red/1.jpg", "uri": "photos/Red/1.jpg", "label": "Red"}]
    assert manifest.rejected.column("uri").to_pylist() == ["photos/notes.txt"]
    assert manifest.root == tmp_path.resolve()
    with pytest.raises(ManifestError, match="lies outside the root"):
        read_manifest(tmp_path / "photos", root=tmp_path / "photos" / "Red")


@pytest.mark.parametrize(
    "name",
    ["with space.jpg", "q\"uote's.jpg", "new\nline.jpg", "साड़ी/साड़ी.jpg", "写真.png", "#1 & 50%.gif", "a\\b.jpg"],
)
def test_names_of_every_kind_are_kept(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert uris(tmp_path) == [name]


def test_names_that_are_no_utf8_are_rejected_readably(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such names")
    inside = os.fsdecode(os.fsencode(tmp_path) + b"/d\xffr")
    os.mkdir(inside)
    touch(Path(inside), "ok.jpg")
    touch(tmp_path, "ok.jpg")
    assert uris(tmp_path) == ["ok.jpg"]
    assert rejected(tmp_path) == {
        "caf\\xe9.jpg": "the file name is not UTF-8; rename the file",
        "d\\xffr/ok.jpg": "the name of a folder above it is not UTF-8; rename the folder",
    }


def test_contents_decide_where_the_name_says_nothing(tmp_path: Path) -> None:
    picture = encoded(gradient(), "JPEG")
    touch(tmp_path, "photo", "photo.jpg_large", "photo.txt", data=picture)
    touch(tmp_path, "notes.txt", data=b"Dear reader")
    touch(tmp_path, "paper.pdf", data=b"%PDF-1.7")
    touch(tmp_path, "nothing", data=b"")
    touch(tmp_path, "text.jpg", data=b"found out when it is decoded")
    assert uris(tmp_path) == ["photo", "photo.jpg_large", "photo.txt", "text.jpg"]
    reasons = rejected(tmp_path)
    assert reasons["notes.txt"] == "text, not an image" and reasons["nothing"] == "empty file"
    assert reasons["paper.pdf"].startswith("format PDF is not supported")


def test_what_is_hidden_is_rejected_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".hidden.jpg", ".cache/1.jpg", ".cache/2.jpg", "b/._c.jpg")
    assert uris(tmp_path) == ["a.jpg"]
    assert rejected(tmp_path) == {
        ".cache": "a hidden folder",
        ".hidden.jpg": "a hidden file",
        "b/._c.jpg": "a hidden file",
    }


def test_what_was_set_aside_is_no_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".lookalike-quarantine/1.jpg", "b/.lookalike-quarantine/2.jpg", "c/.lookalike-quarantine")
    assert uris(tmp_path) == ["a.jpg"]
    assert rejected(tmp_path) == {"c/.lookalike-quarantine": "a hidden file"}  # which is none of ours
    assert read_manifest(tmp_path / "b").table.num_rows == 0


def test_symlinks_never_lead_in_circles_or_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "outside.jpg")
    touch(root, "a/real.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "elsewhere").symlink_to(tmp_path)
    (root / "inside.jpg").symlink_to("a/real.jpg")
    (root / "leaves.jpg").symlink_to("../outside.jpg")
    (root / "nothing.jpg").symlink_to("none.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    assert uris(root) == ["a/real.jpg", "inside.jpg"]
    reasons = rejected(root)
    assert reasons["a/up"] == reasons["elsewhere"] == "a symlinked folder, which is not followed"
    assert reasons["leaves.jpg"] == "outside the source root (a symlink leads out of it)"
    assert reasons["nothing.jpg"] == "a symlink to nothing"
    assert "symbolic links" in reasons["self.jpg"] or reasons["self.jpg"] == "a symlink loop"
    assert len(reasons) == 5


def test_what_is_no_regular_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket.jpg")
        assert rejected(tmp_path) == {"fifo.jpg": "not a regular file", "socket.jpg": "not a regular file"}


def test_a_folder_that_may_not_be_read_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg", "odd.bin")
    scan, read = os.scandir, Path.open

    def scandir(place: str) -> object:
        if place.rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(place)

    def open_path(self: Path, *args: str) -> object:
        if self.name == "odd.bin":
            raise PermissionError(13, "Permission denied")
        return read(self, *args)

    monkeypatch.setattr("retrieval.folders.os.scandir", scandir)
    monkeypatch.setattr(Path, "open", open_path)
    assert rejected(tmp_path) == {"closed": "a folder: permission denied", "odd.bin": "permission denied"}
    assert uris(tmp_path) == ["a.jpg"]


def test_an_empty_folder_and_named_columns_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there are no pictures in .*: it is empty"):
        read_manifest(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(ManifestError, match="it is empty"):
        read_manifest(tmp_path)
    touch(tmp_path, "a.jpg")
    with pytest.raises(ManifestError, match="has no columns to name"):
        read_manifest(tmp_path, columns=Columns(label="class"))
    assert read_manifest(tmp_path, columns=FOUND).table.num_rows == 1


def test_a_folder_of_other_things_says_what_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", data=b"words")
    manifest = read_manifest(tmp_path)
    assert (manifest.table.num_rows, manifest.rejected.num_rows) == (0, 1)


def test_parquet_files_among_pictures_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.parquet")
    assert rejected(tmp_path) == {"b.parquet": "a Parquet file among pictures; give its path as a source"}


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4), max_size=12))
def test_every_file_is_listed_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    wanted = {"/".join([*path[:-1], path[-1] + ".jpg"]) for path in paths}
    touch(folder, *wanted)
    assert look_into(folder).images == sorted(wanted)


def test_names_are_printable_whatever_they_hold() -> None:
    assert printable("é\udcff\n") == "é\\xff\n"
