"""The readers of official layouts, on miniature copies: what they read, and every fault is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from retrieval.datasets.protocol import PARTS, SPLIT_SCHEMA, Counts, Reading, Task, differences
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import ProtocolError
from retrieval.sources import ImageSource
from tests.retrieval.layouts import Layout, layouts
from tests.retrieval.miniatures import TINY, write_dogs, write_flowers

HALF = "cars196-train-half"
LAYOUTS = layouts()
OF_IMAGES = {"images.txt", "Ebay_train.txt", "list_eval_partition.txt", "Eval/list_eval_partition.txt"}


def over(chosen: list[Layout]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("layout", chosen, ids=[f"{LAYOUTS.index(one)}-{one.id}" for one in chosen])


each = over(LAYOUTS)
each_of_files = over([one for one in LAYOUTS if one.protocol != HALF])  # its images are rows of one file
each_with_names = over([one for one in LAYOUTS if one.outside])
each_of_lines = over([one for one in LAYOUTS if OF_IMAGES & set(one.lists)])


def miniature(layout: Layout) -> Task:
    """The protocol's task with the counts of the miniature."""
    task = PROTOCOLS[layout.protocol].tasks[layout.task]
    counts = {
        part: Counts(
            sum(row[3] == part for row in layout.expected), len({row[2] for row in layout.expected if row[3] == part})
        )
        for part in task.counts
    }
    return replace(task, counts=counts)


def test_the_miniatures_are_of_every_task_read_here() -> None:
    ours = [
        "cub",
        "cars196",
        HALF,
        "sop",
        "inshop",
        "inat2018",
        "aircraft",
        "flowers102",
        "dogs",
        "nabirds",
        "birdsnap",
    ]
    assert list(PROTOCOLS)[: len(ours)] == ours
    assert {(one.protocol, one.task) for one in LAYOUTS} == {(n, task) for n in ours for task in PROTOCOLS[n].tasks}


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_a_protocol_is_complete(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.title and protocol.source and protocol.layout.startswith("The root")
    for task in protocol.tasks.values():
        assert set(task.counts) <= set(PARTS)
        assert ("query" in task.counts) == ("gallery" in task.counts)
        assert list(task.ks) == sorted(set(task.ks))
        assert task.rule.endswith(".")


@each
def test_the_split_is_read(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    task = miniature(layout)
    reading = task.read(tmp_path, False)
    assert reading.table.schema == SPLIT_SCHEMA
    assert [tuple(row.values()) for row in reading.table.to_pylist()] == layout.expected
    assert (list(reading.missing), list(reading.extra)) == ([], [])
    assert differences(task, reading, boxes=False) == []
    with ImageSource(tmp_path) as source:
        assert [source.read(row[1]) for row in layout.expected] == [TINY] * len(layout.expected)


@each
def test_other_counts_than_the_published_ones_are_told(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    task = PROTOCOLS[layout.protocol].tasks[layout.task]
    told = differences(task, task.read(tmp_path, False), boxes=False)
    for part, must in task.counts.items():
        assert any(line.startswith(f"{part} should have {must.images:,} images") for line in told)
        assert any(line.startswith(f"{part} should have {must.classes:,} classes") for line in told)


@each
def test_boxes_are_cut_to_where_there_are_any_and_told(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    task = miniature(layout)
    if layout.boxed is None:
        with pytest.raises(ProtocolError, match="to cut to"):
            task.read(tmp_path, True)
        return
    reading = task.read(tmp_path, True)
    uris = reading.table.column("uri").to_pylist()
    assert uris[0] == layout.boxed
    assert all(re.fullmatch(r"[^#]+#xywh=\d+,\d+,[1-9]\d*,[1-9]\d*", uri) for uri in uris)
    assert [uri.split("#")[0] for uri in uris] == [row[1] for row in layout.expected]
    assert differences(task, reading, boxes=True) == [
        "images are cut to their annotated boxes, which the protocol does not use"
    ]


@each_of_files
def test_a_missing_and_an_extra_image_are_told(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    gone = layout.expected[-1]
    (tmp_path / gone[1]).unlink()
    (tmp_path / layout.extra).write_bytes(TINY)
    (tmp_path / layout.extra).with_name("readme.txt").write_text("no image")
    task = miniature(layout)
    reading = task.read(tmp_path, False)
    assert (list(reading.missing), list(reading.extra)) == ([gone[1]], [layout.extra])
    assert [tuple(row.values()) for row in reading.table.to_pylist()] == layout.expected[:-1]
    told = differences(task, reading, boxes=False)
    assert f"1 missing: {gone[1]}" in told and f"1 that no list names: {layout.extra}" in told
    assert any(line.startswith(f"{gone[3]} should have") for line in told)


@each_of_files
def test_a_symlink_out_of_the_root_is_a_missing_image(layout: Layout, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    layout.write(root, None)
    gone = root / layout.expected[0][1]
    (tmp_path / "outside.jpg").write_bytes(TINY)
    gone.unlink()
    gone.symlink_to(tmp_path / "outside.jpg")
    assert list(miniature(layout).read(root, False).missing) == [layout.expected[0][1]]


@each
def test_classes_on_both_sides_are_told(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    task = miniature(layout)
    reading = task.read(tmp_path, False)
    place = reading.table.schema.get_field_index("label")
    same = reading.table.set_column(place, SPLIT_SCHEMA.field("label"), [["Auk"] * reading.table.num_rows])
    told = differences(task, Reading(same), boxes=False)
    assert any("on both sides: Auk" in line for line in told) == task.disjoint
    assert task.disjoint == (layout.task == "retrieval" and "train" in task.counts)


@each
def test_a_missing_list_is_an_error_that_says_what_the_root_must_hold(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    for name in layout.lists:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(ProtocolError) as caught:
            miniature(layout).read(tmp_path, False)
        assert Path(name).name in str(caught.value) and PROTOCOLS[layout.protocol].layout in str(caught.value)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ProtocolError, match="has no"):
        miniature(layout).read(tmp_path / "none", False)


@each
def test_a_damaged_list_is_an_error_with_file_and_line(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    for name, line in layout.lists.items():
        path = tmp_path / name
        content = path.read_bytes()
        for damage in (content[: len(content) // 2], b"", b"\xff\xfe" + content, b"\0" * 300):
            if line is not None and damage == content[: len(content) // 2]:
                damage = content + line.encode() + b"\n"
            path.write_bytes(damage)
            with pytest.raises(ProtocolError) as caught:
                miniature(layout).read(tmp_path, False)
            assert path.name in str(caught.value)
            if line is not None and damage.endswith(line.encode() + b"\n") and not name.endswith(".json"):
                known = name == "test_images.txt"  # a well-formed line, of an image that is in no list
                number = content.count(b"\n") + 1
                assert known or f"line {number} of " in str(caught.value)
        path.write_bytes(content)


@each_with_names
def test_a_name_outside_the_root_is_refused(layout: Layout, tmp_path: Path) -> None:
    files = ["../outside.jpg", "/etc/passwd", "a/../../outside.jpg", "C:\\outside.jpg", "a\\..\\..\\outside.jpg"]
    for number, name in enumerate(files):
        root = tmp_path / str(number)
        root.mkdir()
        (tmp_path / "outside.jpg").write_bytes(TINY)
        layout.write(root, name)
        with pytest.raises(ProtocolError, match="outside the root"):
            miniature(layout).read(root, False)


@each_of_lines
def test_an_image_listed_twice_is_an_error(layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, None)
    path = tmp_path / min(OF_IMAGES & set(layout.lists))
    text = path.read_text()
    longer = text.replace("4\n", "5\n", 1) if "partition" in path.name else text
    path.write_text(f"{longer}{text.splitlines()[-1]}\n")
    with pytest.raises(ProtocolError, match=r"twice|again"):
        miniature(layout).read(tmp_path, False)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Layout], Path]:
    """A miniature of each layout, written once."""
    made: dict[int, Path] = {}

    def root(layout: Layout) -> Path:
        if id(layout) not in made:
            made[id(layout)] = tmp_path_factory.mktemp("drawn")
            layout.write(made[id(layout)], None)
        return made[id(layout)]

    return root


WORDS = [
    "1",
    "2",
    "images",
    "../x",
    "/",
    "#",
    "\t",
    " ",
    "\n",
    "id_00000002",
    "train",
    "é",
    "\0",
    "{",
    "[]",
    '"images"',
]


@settings(max_examples=60)
@given(data=st.data(), place=st.integers(0, len(LAYOUTS) - 1))
def test_no_bytes_in_a_list_raise_anything_but_a_protocol_error(
    drawn: Callable[[Layout], Path], data: st.DataObject, place: int
) -> None:
    layout = LAYOUTS[place]
    root = drawn(layout)
    path = root / data.draw(st.sampled_from(sorted(layout.lists)))
    content = path.read_bytes()
    noise = st.binary(max_size=300) | st.lists(st.sampled_from(WORDS)).map(lambda words: "".join(words).encode())
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut] + data.draw(noise) + content[data.draw(st.integers(cut, len(content))) :])
    try:
        for boxes in (False, layout.boxed is not None):
            miniature(layout).read(root, boxes)
    except ProtocolError:
        pass
    finally:
        path.write_bytes(content)


def test_flowers_named_in_two_sets_are_an_error(tmp_path: Path) -> None:
    write_flowers(tmp_path, None)
    read = PROTOCOLS["flowers102"].tasks["classification"].read
    for third, words in (([3, 4], "names image 3 in tstid, again"), ([7], "names image 7 in tstid, and")):
        sets = {"trnid": np.array([[1, 3]]), "valid": np.array([[2]]), "tstid": np.array([third])}
        savemat(tmp_path / "setid.mat", sets)
        with pytest.raises(ProtocolError, match=words):
            read(tmp_path, False)


@pytest.mark.parametrize(
    "annotation",
    [
        '<!DOCTYPE a [<!ENTITY b "bbb">]><annotation>&b;</annotation>',
        "<annotation></annotation>",
        "<annotation>",
        "<annotation><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></annotation>",
        "<annotation><bndbox><xmin>one</xmin></bndbox></annotation>",
    ],
)
def test_a_dog_without_a_box_is_an_error(annotation: str, tmp_path: Path) -> None:
    write_dogs(tmp_path, None)
    (tmp_path / "Annotation/n02085620-Chihuahua/n02085620_1").write_text(annotation)
    read = PROTOCOLS["dogs"].tasks["retrieval"].read
    assert read(tmp_path, False).table.num_rows == 4
    with pytest.raises(ProtocolError, match="n02085620_1"):
        read(tmp_path, True)


def test_birds_whose_hierarchy_is_a_circle_are_an_error(tmp_path: Path) -> None:
    layout = next(one for one in LAYOUTS if one.protocol == "nabirds")
    layout.write(tmp_path, None)
    (tmp_path / "hierarchy.txt").write_text("1 0\n10 817\n295 1\n817 10\n")
    with pytest.raises(ProtocolError, match="in a circle"):
        miniature(layout).read(tmp_path, False)


def test_a_partition_cut_short_is_an_error(tmp_path: Path) -> None:
    layout = next(one for one in LAYOUTS if one.protocol == "inshop")
    layout.write(tmp_path, None)
    path = tmp_path / "Eval/list_eval_partition.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ProtocolError, match=r"line 1 of .* says that 4 images follow, and 3 do"):
        miniature(layout).read(tmp_path, False)


def test_the_local_half_of_cars_is_as_its_protocol_says(shared_data: Path) -> None:
    root = shared_data / "cars"
    task = PROTOCOLS[HALF].tasks["retrieval"]
    reading = task.read(root, False)
    assert differences(task, reading, boxes=False) == []
    assert Counter(reading.table.column("part").to_pylist()) == {"train": 4052, "test": 4092}
    last = reading.table.slice(reading.table.num_rows - 1).to_pylist()[0]
    pictures = pq.read_table(root / "cars196-train-half.parquet", columns=["file", "label", "image"])
    assert (last["id"], last["label"]) == (pictures["file"][-1].as_py(), pictures["label"][-1].as_py())
    with ImageSource(root) as source:
        assert source.read(last["uri"]) == pictures["image"][-1].as_py()
