"""Readers of benchmarks of products, pets and sketches, on miniature copies of their official layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.datasets import sketchy
from retrieval.datasets.cuts import CutSource
from retrieval.datasets.protocol import SPLIT_SCHEMA, Counts, Reading, differences
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import ProtocolError
from retrieval.images import decode
from tests.retrieval import layouts_more as layouts
from tests.retrieval.layouts_more import put, write
from tests.retrieval.protocol_cases import (
    CASES,
    CIFAR,
    DEEPFASHION,
    GROCERY,
    INSTANCES,
    LEEK,
    OMNIGLOT,
    PETS,
    RPC,
    SHOES,
    Case,
)

OFFICIAL_UNSEEN = sketchy.UNSEEN
IDS = [f"{case.name}-{case.task}-{case.draw.__name__}" for case in CASES]
every = pytest.mark.parametrize("case", CASES, ids=IDS)


@pytest.fixture(autouse=True)
def two_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 21 unseen classes of Sketchy one is drawn."""
    monkeypatch.setattr(sketchy, "UNSEEN", frozenset({"bat"}))


def read(case: Case, root: Path) -> Reading:
    return case.expected.read(root, False)


@every
def test_the_split_is_exactly_the_official_one(tmp_path: Path, case: Case) -> None:
    case.draw(tmp_path)
    found = read(case, tmp_path)
    assert found.table.schema == SPLIT_SCHEMA
    assert [tuple(row.values()) for row in found.table.to_pylist()] == case.rows
    assert differences(case.expected, found, boxes=False) == []
    with CutSource(tmp_path) as source:
        for data in source.read_many(found.table.column("uri").to_pylist()):
            assert isinstance(data, bytes)
            decode(data)


@every
def test_wrong_counts_are_told(tmp_path: Path, case: Case) -> None:
    case.draw(tmp_path)
    found = read(case, tmp_path)
    for part, (images, classes) in case.counts.items():
        for wrong, what in (
            (Counts(images + 1, classes), f"{images + 1} images and has {images}"),
            (Counts(images, classes + 1), f"{classes + 1} classes and has {classes}"),
        ):
            task = replace(case.expected, counts={**case.expected.counts, part: wrong})
            assert differences(task, found, boxes=False) == [f"{part} should have {what}"]
            unpublished = replace(task, counts={**case.expected.counts, part: Counts(None, None)})
            assert differences(unpublished, found, boxes=False) == []
    task = PROTOCOLS[case.name].tasks[case.task]
    published = differences(task, found, boxes=False)
    assert {told.split(" should ")[0] for told in published} == {
        part for part, counts in task.counts.items() if counts != Counts(None, None)
    }


@pytest.mark.parametrize("case", [case for case in CASES if case.stray], ids=lambda case: f"{case.name}-{case.task}")
def test_a_missing_and_an_extra_file_are_told(tmp_path: Path, case: Case) -> None:
    case.draw(tmp_path)
    put(tmp_path, case.stray)
    found = read(case, tmp_path)
    assert (list(found.missing), list(found.extra)) == ([], [case.stray])
    (tmp_path / case.stray).unlink()
    lost, told = case.lost
    if (tmp_path / lost).is_dir():
        (tmp_path / lost).rename(tmp_path / "elsewhere")
    else:
        (tmp_path / lost).unlink()
    found = read(case, tmp_path)
    assert (list(found.missing), list(found.extra)) == ([told], [])
    uris = found.table.column("uri").to_pylist()
    assert uris == [row[1] for row in case.rows if not row[1].startswith(lost)]
    assert f"1 missing: {told}" in differences(case.expected, found, boxes=False)


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in case.damaged],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_damaged_list_is_an_error_with_its_place(tmp_path: Path, case: Case, name: str) -> None:
    case.draw(tmp_path)
    content, told = case.damaged[name]
    write(tmp_path, {name: content})
    with pytest.raises(ProtocolError, match=told):
        read(case, tmp_path)
    if name.endswith((".txt", ".csv")):
        (tmp_path / name).write_bytes(b"caf\xe9\n")
        with pytest.raises(ProtocolError, match="is not UTF-8"):
            read(case, tmp_path)


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in case.needed],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_missing_list_is_an_error_that_says_what_the_root_must_hold(tmp_path: Path, case: Case, name: str) -> None:
    case.draw(tmp_path)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(ProtocolError, match=rf"{name}|testA.*[Tt]he root") as caught:
        read(case, tmp_path)
    assert "he root" in str(caught.value)
    with pytest.raises(ProtocolError, match="he root"):
        read(case, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in case.leaving],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_no_list_names_a_file_outside_the_root(tmp_path: Path, case: Case, name: str) -> None:
    case.draw(tmp_path)
    write(tmp_path, {name: case.leaving[name]})
    with pytest.raises(ProtocolError, match=r"outside the root|is not `Breed"):
        read(case, tmp_path)


@every
def test_boxes_are_cut_or_refused(tmp_path: Path, case: Case) -> None:
    case.draw(tmp_path)
    if case.name == "rpc":
        assert case.expected.read(tmp_path, True).table == read(case, tmp_path).table
        assert case.expected.boxes
    else:
        with pytest.raises(ProtocolError, match=r"has no (annotated boxes|Anno/list_bbox)|\(its boxes are of heads\)"):
            case.expected.read(tmp_path, True)


def test_boxes_of_deepfashion(tmp_path: Path) -> None:
    layouts.deepfashion(tmp_path)
    images = [row[0] for row in DEEPFASHION.rows]
    lines = [f"{image} 1 2 1 2 {5 + place} 4" for place, image in enumerate(images)]
    anno = "Anno/list_bbox_consumer2shop.txt"
    head = ["6", "image_name clothes_type source_type x_1 y_1 x_2 y_2"]
    write(tmp_path, {anno: "\n".join(head + lines)})
    found = DEEPFASHION.expected.read(tmp_path, True)
    assert found.table.column("uri").to_pylist() == [
        f"{image}#xywh=0,1,{5 + place},3" for place, image in enumerate(images)
    ]
    assert "does not use" in differences(DEEPFASHION.expected, found, boxes=True)[0]
    write(tmp_path, {anno: "\n".join(head + lines[1:])})
    with pytest.raises(ProtocolError, match="the list of boxes has none of img/CLOTHING"):
        DEEPFASHION.expected.read(tmp_path, True)
    write(tmp_path, {anno: "\n".join([*head, "words"])})
    with pytest.raises(ProtocolError, match=r"line 3 of .*list_bbox_consumer2shop\.txt is not"):
        DEEPFASHION.expected.read(tmp_path, True)


def test_photos_of_deepfashion_may_lie_in_their_official_folder(tmp_path: Path) -> None:
    layouts.deepfashion(tmp_path)
    (tmp_path / "Img").mkdir()
    (tmp_path / "img").rename(tmp_path / "Img" / "img")
    found = read(DEEPFASHION, tmp_path)
    assert differences(DEEPFASHION.expected, found, boxes=False) == []
    assert found.table.column("uri").to_pylist() == [f"Img/{row[1]}" for row in DEEPFASHION.rows]


def test_a_cut_list_of_pairs_is_noticed(tmp_path: Path) -> None:
    layouts.deepfashion(tmp_path)
    pairs = layouts.PAIRS.splitlines(keepends=True)
    write(tmp_path, {"Eval/list_eval_partition.txt": "".join(pairs[:-1])})
    with pytest.raises(ProtocolError, match=r"line 5 of .* is the last, and line 1 says that 4 pairs follow"):
        read(DEEPFASHION, tmp_path)
    more = [layouts.PAIRS, pairs[4].replace(" id_3 ", " id_4 ")]
    write(tmp_path, {"Eval/list_eval_partition.txt": "".join(more)})
    with pytest.raises(ProtocolError, match="line 1 says that 4 pairs follow"):
        read(DEEPFASHION, tmp_path)
    write(tmp_path, {"Eval/list_eval_partition.txt": "".join(more).replace("4", "5", 1)})
    with pytest.raises(ProtocolError, match=r"line 7 of .* another item than a line above"):
        read(DEEPFASHION, tmp_path)


def test_consumers_of_validation_pairs_ask_too(tmp_path: Path) -> None:
    layouts.deepfashion(tmp_path)
    found = PROTOCOLS["deepfashion-c2s"].tasks["validation"].read(tmp_path, False)
    assert [(row["id"], row["part"]) for row in found.table.to_pylist()] == [
        ("img/CLOTHING/Blouse/id_2/comsumer_01.jpg", "query"),
        ("img/CLOTHING/Blouse/id_2/shop_01.jpg", "gallery"),
        ("img/DRESSES/Skirt/id_3/shop_01.jpg", "gallery"),
    ]
    assert not found.missing and not found.extra


@pytest.mark.parametrize("name", ["data_batch_1", "cifar-10-batches-py/data_batch_1"])
def test_pickles_of_cifar_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "cposix\nsystem\n(S'false'\ntR."})
    with pytest.raises(ProtocolError, match=r"download the binary version instead, cifar-10-binary\.tar\.gz"):
        read(CIFAR, tmp_path)


def test_layouts_may_lie_in_the_folder_that_their_archive_makes(tmp_path: Path) -> None:
    for case, folder in (
        (CIFAR, "cifar-10-batches-bin"),
        (PETS, "oxford-iiit-pet"),
        (GROCERY, "dataset"),
        (OMNIGLOT, "omniglot-py"),
        (SHOES, "ShoeV2"),
        (INSTANCES, "256x256"),
    ):
        root = tmp_path / case.name
        case.draw(root / folder)
        found = read(case, root)
        assert differences(case.expected, found, boxes=False) == []
        assert found.table.column("uri").to_pylist() == [f"{folder}/{row[1]}" for row in case.rows]


def test_a_character_without_drawings_is_missing(tmp_path: Path) -> None:
    layouts.omniglot(tmp_path)
    (tmp_path / "images_background/Magi/character01").rename(tmp_path / "elsewhere")
    assert list(read(OMNIGLOT, tmp_path).missing) == ["images_background/Magi/character01"]


def test_lists_beside_the_four_folders_are_held_against_them(tmp_path: Path) -> None:
    layouts.qmul(tmp_path)
    write(tmp_path, {"photo_test.txt": "21.png\n20.png\n22.png\n", "sketch_test.txt": "21_3.png\n20_1.png\n"})
    found = read(SHOES, tmp_path)
    assert (list(found.missing), list(found.extra)) == (["testB/22.png"], ["testA/20_2.png"])
    parts = found.table.to_pylist()
    assert [row["id"] for row in parts if row["part"] in ("query", "gallery")] == [
        *("testB/21.png", "testB/20.png", "testA/21_3.png", "testA/20_1.png"),
    ]


def test_the_unseen_classes_are_those_of_the_paper() -> None:
    names = (
        "bat cabin cow dolphin door giraffe helicopter mouse pear raccoon rhinoceros saw scissors seagull skyscraper"
    )
    names += " songbird sword tree wheelchair windmill window"
    assert set(names.split()) == OFFICIAL_UNSEEN
    assert len(OFFICIAL_UNSEEN) == 21


@pytest.mark.parametrize(
    ("of", "change", "told"),
    [
        ("annotations", {"bbox": [0, 0, 0, 2]}, "entry 1 of annotations .* has no box"),
        ("annotations", {"bbox": [0, 0, 1e30, 2]}, "has no box"),
        ("annotations", {"bbox": [0, 0, float("nan"), 2]}, "has no box"),
        ("annotations", {"bbox": "0,0,1,2"}, "has no box"),
        ("annotations", {"bbox": [True, 0, 1, 2]}, "has no box"),
        ("annotations", {"image_id": 9}, "is of an image or category that the file does not name"),
        ("annotations", {"category_id": "1"}, "has no whole number category_id"),
        ("annotations", {"id": True}, "has no whole number id"),
        ("annotations", {"id": 4}, "lists 'test2019/x.jpg/4' twice"),
        ("images", {"file_name": 7}, "entry 1 of images .* has no file_name"),
        ("images", {"file_name": "a\ud800.jpg"}, "has no file_name"),
        ("images", {"file_name": "/etc/passwd"}, "outside the root"),
        ("categories", {"supercategory": None}, "entry 1 of categories .* has no supercategory"),
    ],
)
def test_malformed_annotations_of_rpc_are_told(tmp_path: Path, of: str, change: dict[str, Any], told: str) -> None:
    layouts.rpc(tmp_path)
    path = tmp_path / "instances_test2019.json"
    document = json.loads(path.read_text())
    document[of][0] |= change
    if change.get("id") == 4:
        document[of][0]["image_id"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(ProtocolError, match=told):
        read(RPC, tmp_path)
    for broken in ([], {"images": {}}, {"images": [1], "categories": [], "annotations": []}, "[" * 100_000):
        path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
        with pytest.raises(ProtocolError):
            read(RPC, tmp_path)


LISTS = [(case, name) for case in CASES for name in case.damaged if "batch_" not in name]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "image_id", "category_id", "bbox", "file_name", "name"]), inner)
    ),
    max_leaves=12,
)
"""Anything, with the keys that a reader looks for."""


@pytest.fixture
def drawn(tmp_path: Path, case: Case) -> Path:
    case.draw(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("case", "name"), LISTS, ids=lambda value: value if isinstance(value, str) else f"{value.name}-{value.task}"
)
@settings(max_examples=25)
@given(data=st.data())
def test_nothing_in_a_list_raises_anything_but_a_protocol_error(
    drawn: Path, case: Case, name: str, data: st.DataObject
) -> None:
    path = drawn / name
    content = path.read_bytes()
    if name.endswith(".json"):
        whole = {key: data.draw(st.lists(JSON, max_size=3) | JSON) for key in ("images", "annotations", "categories")}
        mutated = json.dumps(data.draw(st.sampled_from([whole]) | JSON)).encode()
    else:
        place = data.draw(st.integers(0, len(content)))
        middle = data.draw(st.binary(max_size=20) | st.text(max_size=20).map(lambda text: text.encode()))
        mutated = content[:place] + middle + content[place + data.draw(st.integers(0, 30)) :]
    path.write_bytes(mutated)
    try:
        found = read(case, drawn)
    except ProtocolError:
        pass
    else:
        differences(case.expected, found, boxes=False)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("task", PROTOCOLS["grocery"].tasks)
def test_the_real_grocery_photos_are_the_protocol(shared_photos: Path, task: str) -> None:
    protocol = PROTOCOLS["grocery"].tasks[task]
    found = protocol.read(shared_photos, False)
    assert differences(protocol, found, boxes=False) == []


def test_the_coarse_classes_of_the_real_grocery_photos_are_those_of_its_coarse_task(shared_photos: Path) -> None:
    tasks = PROTOCOLS["grocery"].tasks
    fine, coarse = (tasks[name].read(shared_photos, False).table for name in ("retrieval", "coarse"))
    above = tasks["classification"].coarser(shared_photos)
    assert (len(above), len(set(above.values()))) == (81, 43)
    assert [above[label] for label in fine.column("label").to_pylist()] == coarse.column("label").to_pylist()


def test_coarse_classes_are_read_from_the_lists_and_must_agree(tmp_path: Path) -> None:
    coarser = PROTOCOLS["grocery"].tasks["classification"].coarser
    layouts.grocery(tmp_path)
    assert coarser(tmp_path) == {"Fruit/Apple/Gala": "Fruit/Apple", "Fruit/Apple/Fuji": "Fruit/Apple", LEEK: LEEK}
    (tmp_path / "val.txt").write_text("val/Fruit/Apple/Fuji/1.jpg, 1, 1\n")
    with pytest.raises(
        ProtocolError, match=r"val\.txt puts Fruit/Apple/Fuji of val/.*/1\.jpg under Fruit/Leek, and ano"
    ):
        coarser(tmp_path)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(ProtocolError, match=r"has no val\.txt"):
        coarser(tmp_path)


def test_protocols_say_what_they_are() -> None:
    for name in {case.name for case in CASES}:
        protocol = PROTOCOLS[name]
        assert protocol.layout.endswith(".") and "he root" in protocol.layout and protocol.notes
        for task in protocol.tasks.values():
            assert task.rule.endswith(".") and list(task.ks) == sorted(task.ks)
            assert ("query" in task.counts) == ("gallery" in task.counts)
    for name, task_name in (("shoev2", "retrieval"), ("chairv2", "retrieval"), ("sketchy", "instance")):
        task = PROTOCOLS[name].tasks[task_name]
        assert (task.metric, task.ks) == ("Accuracy", (1, 5, 10))
