"""What is trained on and what is held out: never a test part, nothing twice, and everything left out is told."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from indexer.training_source import UNFIT, Asked, Found, find_lesson
from retrieval.errors import InputError, ManifestError, ProtocolError
from tests.conftest import PER_CLASS, draw_pictures
from tests.indexer.birds import BIRDS, fix_counts, write_birds

READING = dict.fromkeys(("image_column", "id_column", "label_column", "split_column", "root")) | {"prefix": ""}


def find(source: Path | None = None, said: list[str] | None = None, **asked: Any) -> Found:
    reading = {**READING, **asked.pop("reading", {})}
    values = {"protocol": None, "task": None, "validate": None, "hold_out": None, "share": 0.2, "seed": 0} | asked
    return find_lesson(Asked(source, reading=reading, **values), notice=(said if said is not None else []).append)


def listing(folder: Path, name: str, rows: list[dict[str, str]]) -> Path:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def rows_of(folder: Path, **more: Any) -> list[dict[str, str]]:
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.jpg"))
    return [
        {"path": str(path), "label": path.parts[-2]} | {name: value(at) for name, value in more.items()}
        for at, path in enumerate(paths)
    ]


def test_the_last_images_of_each_class_are_held_out(picture_folder: Path) -> None:
    found = find(picture_folder)
    lesson = found.lesson
    assert (lesson.by, lesson.source) == ("images", picture_folder.name)
    assert len(lesson.train.ids) == 4 * (PER_CLASS - 1)
    assert {Path(uri).name for uri in lesson.held_out.uris} == {f"{PER_CLASS - 1:03d}.jpg"}
    assert not set(lesson.train.uris) & set(lesson.held_out.uris)
    assert found.held_by == "the last image of each class"


def test_copies_of_what_is_held_out_are_not_trained_on(picture_folder: Path) -> None:
    last = f"{PER_CLASS - 1:03d}.jpg"
    (picture_folder / "Paint" / "Red" / "000.jpg").write_bytes((picture_folder / "Paint" / "Red" / last).read_bytes())
    others = sorted(folder for folder in picture_folder.glob("*/*") if folder.name != "Red")
    (others[0] / "001.jpg").write_bytes((picture_folder / "Paint" / "Red" / last).read_bytes())
    told: list[str] = []
    found = find(picture_folder, told)
    assert len(found.lesson.train.ids) == 4 * (PER_CLASS - 1) - 2
    assert len(found.lesson.held_out.ids) == 4
    (said,) = told
    assert said.startswith("2 pictures left out of training, such as ")
    assert said.endswith("because validation has the same bytes; 1 of them has another label there")


def test_nothing_is_left_where_validation_has_copies_of_all(picture_folder: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(picture_folder, same)
    with pytest.raises(
        InputError, match="nothing is left to train on: every picture of pictures is among the pictures of"
    ):
        find(picture_folder, validate=same)


def test_a_copy_without_a_label_has_no_other_label(picture_folder: Path) -> None:
    rows = rows_of(picture_folder)
    twin = picture_folder / "twin.jpg"
    last = next(row for row in reversed(rows))
    twin.write_bytes((picture_folder / last["path"]).read_bytes())
    source = listing(picture_folder, "some.csv", [*rows, {"path": "twin.jpg", "label": ""}])
    told: list[str] = []
    find(source, told, labelled=False, hold_out="images", share=0.4)
    assert any(said.endswith("because validation has the same bytes") for said in told)


def test_labels_that_only_validate_need_not_be_fit_for_it(picture_folder: Path, tmp_path: Path) -> None:
    one = listing(picture_folder, "one.csv", [{**row, "label": "all"} for row in rows_of(picture_folder)])
    alone = listing(picture_folder, "alone.csv", [{**row, "label": row["path"]} for row in rows_of(picture_folder)])
    for source in (one, alone, picture_folder):  # of a folder one image a class, which none of its class could find
        found = find(source, labelled=False)
        assert (len(found.lesson.held_out.ids), found.held_by) == (0, UNFIT)
        assert len(found.lesson.train.ids) == 4 * PER_CLASS
        with pytest.raises(InputError):
            find(source, labelled=False, hold_out="images")


def test_whole_classes_or_nothing_can_be_held_out(picture_folder: Path) -> None:
    lesson = find(picture_folder, hold_out="classes", share=0.5).lesson
    assert lesson.by == "classes"
    assert len(set(lesson.held_out.labels)) == 2
    assert not set(lesson.held_out.labels) & set(lesson.train.labels)
    nothing = find(picture_folder, hold_out="none")
    assert (len(nothing.lesson.train.ids), len(nothing.lesson.held_out.ids)) == (4 * PER_CLASS, 0)
    assert "nothing is held out" in nothing.held_by


def test_a_split_column_is_followed_and_its_test_part_is_never_seen(picture_folder: Path) -> None:
    splits = ["train", "Train ", "training", "val", "TEST", ""]
    source = listing(picture_folder, "list.csv", rows_of(picture_folder, split=lambda at: splits[at % 6]))
    said: list[str] = []
    lesson = find(source, said).lesson
    number = {Path(uri).stem for uri in lesson.train.uris}
    assert number == {"000", "001", "002", "005"}
    assert {Path(uri).stem for uri in lesson.held_out.uris} == {"003"}
    assert any("4 pictures of the test split" in line for line in said)


def test_folders_of_splits_are_splits_and_the_test_part_is_never_seen(tmp_path: Path) -> None:
    for at, split in enumerate(("Train", "val", "test")):
        draw_pictures(tmp_path / "photos" / split, seed=at)
    said: list[str] = []
    lesson = find(tmp_path / "photos", said).lesson
    assert {Path(uri).parts[0] for uri in lesson.train.uris} == {"Train"}
    assert {Path(uri).parts[0] for uri in lesson.held_out.uris} == {"val"}
    assert set(lesson.train.labels) == set(lesson.held_out.labels)
    assert not any("rain" in label for label in lesson.train.labels)
    assert any("Train, test, val in" in line and "taken for its splits" in line for line in said)
    assert any("24 pictures of the test split" in line for line in said)
    others = draw_pictures(tmp_path / "others", seed=9)
    given = find(others, said, validate=tmp_path / "photos").lesson
    assert {Path(uri).parts[0] for uri in given.held_out.uris} == {"val"}
    draw_pictures(tmp_path / "photos" / "more", seed=5)
    with pytest.raises(InputError, match=r"are splits, such as 'Train', but 'more' is none: give the folder to train"):
        find(tmp_path / "photos")


def test_classes_that_are_called_train_and_test_are_classes(tmp_path: Path) -> None:
    drawn = draw_pictures(tmp_path / "drawn", seed=1)
    (tmp_path / "toys").mkdir()
    for name, of in (("train", "Red"), ("test", "Blue")):
        next(drawn.rglob(of)).rename(tmp_path / "toys" / name)
    assert set(find(tmp_path / "toys").lesson.train.labels) == {"train", "test"}


@pytest.mark.parametrize("word", ["eval", "holdout"])
def test_a_word_for_a_split_that_may_mean_test_is_not_trained_on(picture_folder: Path, word: str) -> None:
    rows = rows_of(picture_folder, split=lambda at: word if at % 6 == 0 else "train")
    source = listing(picture_folder, "list.csv", rows)
    with pytest.raises(InputError, match=rf"says '{word}' \(4\).*train.*val.*test.*--split-column"):
        find(source)
    with pytest.raises(InputError, match=rf"split column of .*list.csv says '{word}'"):
        find(draw_pictures(picture_folder / "more", seed=5), validate=source)
    # nor is one that has a part to validate with, but that part is all that is looked at
    mixed = listing(
        picture_folder, "mixed.csv", [row | {"split": row["split"].replace("train", "val")} for row in rows]
    )
    said: list[str] = []
    lesson = find(draw_pictures(picture_folder / "others", seed=6), said, validate=mixed).lesson
    assert len(lesson.held_out.ids) == 20
    assert any("4 pictures of" in line and "left out" in line for line in said)


def test_nothing_of_a_test_split_is_validated_with(picture_folder: Path, tmp_path: Path) -> None:
    other = draw_pictures(tmp_path / "other", seed=5)
    rows = rows_of(other, split=lambda at: "test" if at % 2 else "train")
    said: list[str] = []
    lesson = find(picture_folder, said, validate=listing(other, "list.csv", rows)).lesson
    assert {Path(uri).stem for uri in lesson.held_out.uris} == {"000", "002", "004"}
    assert any("12 pictures of the test split of" in line and "no epoch is chosen on them" in line for line in said)
    only = listing(other, "only.csv", rows[1::2])
    with pytest.raises(InputError, match="no picture to validate with"):
        find(picture_folder, validate=only)


def test_pictures_to_train_on_alone(picture_folder: Path) -> None:
    rows = rows_of(picture_folder, split=lambda at: "val" if at % 6 == 0 else "train")
    said: list[str] = []
    lesson = find(listing(picture_folder, "list.csv", rows), said, whole=True).lesson
    assert (len(lesson.train.ids), len(lesson.held_out.ids)) == (20, 0)
    assert said == ["4 pictures of the validation split left out"]


def test_what_is_named_to_validate_with_wins_and_is_not_trained_on(picture_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(picture_folder, split=lambda at: "val" if at % 6 == 0 else "train")
    source = listing(picture_folder, "list.csv", rows)
    other = listing(picture_folder, "other.csv", [{"path": row["path"], "label": row["label"]} for row in rows[1::6]])
    said: list[str] = []
    lesson = find(source, said, validate=other).lesson
    assert {Path(uri).stem for uri in lesson.held_out.uris} == {"001"}
    assert {Path(uri).stem for uri in lesson.train.uris} == {"002", "003", "004", "005"}
    assert any("4 pictures of the validation split left out" in line for line in said)
    assert any("4 pictures left out of training" in line for line in said)


def test_the_same_names_in_another_folder_are_other_pictures(picture_folder: Path, tmp_path: Path) -> None:
    other = draw_pictures(tmp_path / "other", seed=5)
    lesson = find(picture_folder, validate=other).lesson
    assert len(lesson.train.ids) == len(lesson.held_out.ids) == 4 * PER_CLASS
    assert not set(lesson.train.ids) & set(lesson.held_out.ids)
    assert lesson.held_out.root == other.resolve()


def test_classes_to_validate_on_that_are_not_trained_on(picture_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(picture_folder)
    reds = [row for row in rows if row["label"] == "Red"]
    others = [row for row in rows if row["label"] != "Red"]
    said: list[str] = []
    train = listing(picture_folder, "train.csv", others[:-1])
    some = listing(picture_folder, "some.csv", [*reds, others[-1]])
    lesson = find(train, said, validate=some).lesson
    assert (lesson.by, len(lesson.held_out.ids)) == ("images", 1)
    assert any("6 pictures left out of validation" in line for line in said)
    lesson = find(train, validate=listing(picture_folder, "reds.csv", reds)).lesson
    assert (lesson.by, len(lesson.held_out.ids)) == ("classes", 6)
    with pytest.raises(InputError, match="no two are of one class"):
        find(train, validate=listing(picture_folder, "red.csv", reds[:1]))


def test_what_cannot_be_validated_on(picture_folder: Path) -> None:
    rows = rows_of(picture_folder)
    bare = listing(picture_folder, "bare.csv", [{"path": row["path"]} for row in rows[::6]])
    with pytest.raises(InputError, match=r"bare.csv have no labels to validate with; give others, or --hold-out"):
        find(listing(picture_folder, "list.csv", rows[1::2]), validate=bare)
    with pytest.raises(InputError, match="nothing is left to train on: every picture of"):
        find(picture_folder, validate=picture_folder)
    with pytest.raises(InputError, match="--hold-out classes goes by labels"):
        find(bare, hold_out="classes", labelled=False)


def test_pictures_without_a_label_are_left_out_and_told(picture_folder: Path) -> None:
    rows = [row | {"label": "" if at == 0 else row["label"]} for at, row in enumerate(rows_of(picture_folder))]
    said: list[str] = []
    found = find(listing(picture_folder, "list.csv", rows), said)
    assert len(found.lesson.train.ids) + len(found.lesson.held_out.ids) == 4 * PER_CLASS - 1
    assert list(found.refused) == [(rows[0]["path"], "no label")]
    assert "1 picture without a label left out" in said


def test_inputs_that_are_no_pictures_are_told(picture_folder: Path) -> None:
    (picture_folder / "Paint" / "Red" / "notes.xyz").write_text("no picture")
    found = find(picture_folder)
    assert [uri for uri, _ in found.refused] == ["Paint/Red/notes.xyz"]


def test_labels_that_nothing_can_be_learned_from(picture_folder: Path, tmp_path: Path) -> None:
    rows = rows_of(picture_folder)
    with pytest.raises(InputError, match="one class only, 'Red'"):
        find(listing(picture_folder, "one.csv", [row for row in rows if row["label"] == "Red"]))
    single = [row | {"label": f"class {at}"} for at, row in enumerate(rows)]
    with pytest.raises(InputError, match="one image only"):
        find(listing(picture_folder, "single.csv", single))
    with pytest.raises(InputError, match=r"no labels.*--label-column"):
        find(listing(picture_folder, "none.csv", [{"path": row["path"]} for row in rows]))
    with pytest.raises(ManifestError, match="there is no file or folder"):
        find(tmp_path / "nowhere")


def test_without_labels_everything_is_trained_on(picture_folder: Path) -> None:
    source = listing(picture_folder, "list.csv", [{"path": row["path"]} for row in rows_of(picture_folder)])
    lesson = find(source, labelled=False).lesson
    assert (len(lesson.train.ids), len(lesson.train.labels), len(lesson.held_out.ids)) == (4 * PER_CLASS, 0, 0)


def test_labels_that_are_not_learned_still_serve_to_validate(picture_folder: Path) -> None:
    lesson = find(picture_folder, labelled=False, share=0.4).lesson
    assert len(lesson.train.labels) == 0
    assert len(lesson.held_out.labels) == 8
    assert lesson.by == "classes"  # nothing of them is known in training


def test_a_benchmarks_training_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (3, 4, 5):
        monkeypatch.setitem(BIRDS, name, (40 * name, 90, 120))
    root = write_birds(tmp_path / "birds", each=6)
    fix_counts(monkeypatch, "cub", root)
    lesson = find(protocol="cub", reading={"root": root}, share=0.3).lesson
    assert (lesson.by, lesson.source.endswith(", train")) == ("classes", True)
    numbers = {int(label.split(".")[0]) for label in [*lesson.train.labels, *lesson.held_out.labels]}
    assert max(numbers) <= 100  # the classes of the test part are never seen
    both = find(protocol="cub", task="classification", reading={"root": root}).lesson
    assert both.by == "images"
    (root / "images" / "003.Bird" / "1.jpg").unlink()
    with pytest.raises(ProtocolError, match="train should have"):
        find(protocol="cub", reading={"root": root}, share=0.3)


def test_what_a_benchmark_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no training part; its task classification has one"):
        find(protocol="grocery", task="retrieval", reading={"root": tmp_path})
    with pytest.raises(InputError, match="no protocol 'cubs'"):
        find(protocol="cubs", reading={"root": tmp_path})
    with pytest.raises(ProtocolError, match="is not there"):
        find(protocol="cub", reading={"root": tmp_path / "nowhere"})


def test_a_benchmarks_own_validation_part_is_held_out(shared_photos: Path) -> None:
    found = find(protocol="grocery", reading={"root": shared_photos.parent})
    assert (len(found.lesson.train.ids), len(found.lesson.held_out.ids)) == (2_640, 296)
    assert "official val part" in found.held_by
    assert not any("test/" in uri for uri in [*found.lesson.train.uris, *found.lesson.held_out.uris])
