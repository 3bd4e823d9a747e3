"""The lists of the Grocery Store Dataset, drawn and real."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.datasets.grocery import read_list
from retrieval.errors import ManifestError
from retrieval.manifest import Columns, read_manifest

APPLE = "train/Fruit/Apple/Golden-Delicious/Golden-Delicious_001.jpg"
CLASSES = """Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str)
Golden-Delicious,0,Apple,0,/iconic/Fruit/Apple/Golden-Delicious/Golden-Delicious_Iconic.jpg
"Milk, sour",7,Dairy,3,/iconic/Carton/Sour-Milk/Milk_Iconic.jpg
Pear,8,Pear,4,
"""


def write(folder: Path, text: str, classes: str | None = CLASSES) -> Path:
    for name in (APPLE, "train/Carton/Milk/Milk_001.jpg", "train/Loose/1.jpg", "top.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if classes is not None:
        (folder / "classes.csv").write_text(classes)
    (folder / "train.txt").write_text(text)
    return folder / "train.txt"


def test_a_line_is_an_image_with_its_classes(tmp_path: Path) -> None:
    text = f"{APPLE}, 0, 0\ntrain\\Carton\\Milk\\Milk_001.jpg,7,3\r\n\ntrain/Loose/1.jpg, 9, 9\ntop.jpg, 8, 4\n"
    manifest = read_manifest(write(tmp_path, text))
    assert manifest.rejected.num_rows == 0
    rows = manifest.table.to_pylist()
    assert rows[0] == {
        "id": APPLE,
        "uri": APPLE,
        "label": "Fruit/Apple/Golden-Delicious",
        "split": "train",
        "fine": "Golden-Delicious",
        "coarse": "Apple",
    }
    assert [(row["label"], row["split"], row["fine"], row["coarse"]) for row in rows[1:]] == [
        ("Carton/Sour-Milk", "train", "Milk, sour", "Dairy"),  # the class's own path, not the folder's
        ("Loose", "train", "9", "9"),
        (None, None, "Pear", "Pear"),
    ]


def test_without_the_names_the_ids_stand(tmp_path: Path) -> None:
    table, _ = read_list(write(tmp_path, f"{APPLE}, 0, 12\n", classes=None))
    assert table.select(["fine", "coarse"]).to_pylist() == [{"fine": "0", "coarse": "12"}]


def test_every_line_is_accounted_for(tmp_path: Path) -> None:
    text = f"{APPLE}, 0, 0\nwords\n{APPLE}, zero, 0\ntrain/none.jpg, 0, 0\n../x.jpg, 0, 0\n{APPLE}, 0, 0\n"
    manifest = read_manifest(write(tmp_path, text))
    assert manifest.table.num_rows == 1
    assert sorted((row["uri"], row["reason"]) for row in manifest.rejected.to_pylist()) == [
        ("../x.jpg", "outside the source root"),
        ("train.txt#line=2", "not `path, fine id, coarse id`"),
        ("train.txt#line=3", "not `path, fine id, coarse id`"),
        (APPLE, f"the id '{APPLE}' is there already, of {APPLE}"),
        ("train/none.jpg", "no such file"),
    ]


def test_another_label_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, f"{APPLE}, 0, 0\n")
    manifest = read_manifest(path, columns=Columns(label="coarse"))
    assert manifest.table.select(["label", "label_", "fine"]).to_pylist() == [
        {"label": "Apple", "label_": "Fruit/Apple/Golden-Delicious", "fine": "Golden-Delicious"}
    ]


def test_what_is_no_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"train\.txt is empty"):
        read_list(write(tmp_path, "\n\n"))
    with pytest.raises(ManifestError, match=r"train\.txt is no list of images"):
        read_list(write(tmp_path, "Dear reader,\n"))
    path = write(tmp_path, "")
    path.write_bytes(b"a.jpg, 0, 0\ncaf\xe9.jpg, 0, 0\n")
    with pytest.raises(ManifestError, match=r"line 2 of .*train\.txt is not UTF-8"):
        read_list(path)
    with pytest.raises(ManifestError, match="cannot read"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(ManifestError, match=r"train\.txt is no list"):
        read_list(write(tmp_path, f"{APPLE}, {'9' * 5000}, 0\n"))
    with pytest.raises(ManifestError, match=r"cannot read .*classes\.csv"):
        read_list(write(tmp_path, f"{APPLE}, 0, 0\n", classes="x" * 200_000))


@pytest.mark.parametrize(("name", "images", "fine"), [("train", 2640, 81), ("val", 296, 60), ("test", 2485, 81)])
def test_the_real_lists_are_complete(shared_data: Path, name: str, images: int, fine: int) -> None:
    manifest = read_manifest(shared_data / "grocery" / "dataset" / f"{name}.txt")
    assert (manifest.table.num_rows, manifest.rejected.num_rows) == (images, 0)
    columns = {
        column: set(manifest.table.column(column).to_pylist()) for column in ("label", "split", "fine", "coarse")
    }
    assert len(columns["label"]) == len(columns["fine"]) == fine
    assert columns["split"] == {name}
    if fine == 81:
        assert len(columns["coarse"]) == 43
    assert "Golden-Delicious" in columns["fine"] and "Fruit/Apple/Golden-Delicious" in columns["label"]


def test_train_and_test_have_the_same_classes(shared_data: Path) -> None:
    lists = [read_manifest(shared_data / "grocery" / "dataset" / f"{name}.txt").table for name in ("train", "test")]
    labels = [set(table.column("label").to_pylist()) for table in lists]
    assert labels[0] == labels[1]
    assert "Vegetables/Mushroom/Brown-Cap-Mushroom" in labels[0]
