"""The synthetic saree catalogue: deterministic, complete, and true to its own ground truth."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.datasets import saree_fields, saree_tiles, sarees
from retrieval.datasets.saree_cloth import weave
from retrieval.datasets.saree_designs import TRADITIONS
from retrieval.datasets.saree_drape import PRESENTATIONS
from retrieval.datasets.saree_motifs import MOTIFS, motif
from retrieval.datasets.sarees import Photo, draw_photo, draw_sarees, edit_photo, plan
from retrieval.errors import InputError, LookalikeError

SMALL = {"photos": 2, "size": 48}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sarees")
    draw_sarees(folder, workers=1, **SMALL)
    return folder


def test_the_tables_hold_twelve_traditions_of_four_designs() -> None:
    assert len(TRADITIONS) == 12
    assert {len(kind.designs) for kind in TRADITIONS} == {4}
    assert len({sarees.label_of(t, d) for t in range(12) for d in range(4)}) == 48
    for kind in TRADITIONS:
        assert len(kind.colours) == len(kind.palettes) > 1
        for one, other in pairwise(kind.designs):
            assert (one.field, one.border, one.pallu) != (other.field, other.border, other.pallu)


def test_every_name_in_the_tables_can_be_drawn() -> None:
    for kind in TRADITIONS:
        for design in kind.designs:
            assert design.field.kind in saree_fields.FIELDS
            for band in (*design.border, *design.pallu):
                assert band.kind in saree_tiles.BANDS
                assert not band.motif or band.motif in MOTIFS
                for palette in kind.palettes:
                    assert {band.ink, band.on, *band.swap.values()} <= palette.keys()


@pytest.mark.parametrize("name", MOTIFS)
def test_a_motif_stays_near_its_box_and_uses_known_inks(name: str) -> None:
    inks = {ink for ink, _ in motif(name)}
    assert inks <= {"zari", "accent", "second", "ground", "dark"}
    reach = max(float(np.abs(outline).max()) for _, outline in motif(name))
    assert 0.85 < reach < 1.45


def test_csv_columns_counts_and_types(drawn: Path) -> None:
    table = rows(drawn / "sarees.csv")
    assert tuple(table[0]) == ("image", "id", "label", "tradition", "region", "weave", "colour", "price")
    assert len(table) == 48 * 2 + 60
    assert len({row["id"] for row in table}) == len({row["image"] for row in table}) == len(table)
    on_disk = {path.relative_to(drawn).as_posix() for path in drawn.rglob("*.jpg")}
    assert on_disk == {row["image"] for row in table}
    for row in table:
        assert row["label"].split("/")[0] == row["tradition"]
        assert 2_000 <= int(row["price"]) <= 100_000
        assert int(row["price"]) % 50 == 0
    assert "synthetic" in (drawn / "README.txt").read_text()


def test_every_picture_is_a_photo_of_the_asked_size(drawn: Path) -> None:
    for path in drawn.glob("photos/[!m]*/*/*.jpg"):
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, max(picture.size)) == ("JPEG", "RGB", 48)
            assert np.asarray(picture).std() > 10


def test_the_full_size_plan_holds_the_promised_numbers() -> None:
    decided = plan(seed=7, photos=20)
    assert len(decided.photos) == 960
    assert Counter(edit for _, edit in decided.copies.values()) == {
        "": 20,
        "crop": 10,
        "flip": 10,
        "rescale": 10,
        "recompress": 10,
    }
    assert len(decided.labels) == 20
    originals = [photo for photo, _ in decided.copies.values()]
    assert len(set(originals) | set(decided.labels)) == 80  # no photo is touched twice


def test_planted_faults_are_what_the_ground_truth_says(drawn: Path) -> None:
    truth, table = rows(drawn / "ground_truth.csv"), {row["image"]: row for row in rows(drawn / "sarees.csv")}
    assert tuple(truth[0]) == ("image", "kind", "original", "edit", "true_label")
    assert Counter(row["kind"] for row in truth) == {"exact-duplicate": 20, "edited-copy": 40, "wrong-label": 20}
    for row in truth:
        listed = table[row["image"]]
        if row["kind"] == "wrong-label":
            assert listed["label"] != row["true_label"]
            assert row["image"].split("/")[1:3] == row["true_label"].lower().split("/")
            assert (row["original"], row["edit"]) == ("", "")
            continue
        copy, original = (drawn / row["image"]).read_bytes(), (drawn / row["original"]).read_bytes()
        assert (copy == original) == (row["kind"] == "exact-duplicate") == (row["edit"] == "")
        assert listed["label"] == table[row["original"]]["label"] == row["true_label"]
        assert row["image"].startswith("photos/more/")


def test_labels_are_right_where_nothing_was_planted(drawn: Path) -> None:
    wrong = {row["image"] for row in rows(drawn / "ground_truth.csv") if row["kind"] == "wrong-label"}
    for row in rows(drawn / "sarees.csv"):
        if row["image"] not in wrong and "/more/" not in row["image"]:
            assert row["image"].split("/")[1:3] == row["label"].lower().split("/")


def test_wrong_labels_fall_within_and_outside_the_tradition(drawn: Path) -> None:
    truth = [row for row in rows(drawn / "ground_truth.csv") if row["kind"] == "wrong-label"]
    table = {row["image"]: row["label"] for row in rows(drawn / "sarees.csv")}
    within = sum(row["true_label"].split("/")[0] == table[row["image"]].split("/")[0] for row in truth)
    assert within == 10


def test_edits_do_what_their_names_say() -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, :40] = (200, 30, 30)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    data, rng = file.getvalue(), np.random.default_rng(0)
    assert edit_photo(data, "", rng) == data
    edited = {edit: Image.open(io.BytesIO(edit_photo(data, edit, rng))) for edit in sarees.EDITS}
    assert edited["recompress"].size == edited["flip"].size == (80, 60)
    assert edited["flip"].getpixel((70, 30))[0] > 150 > edited["flip"].getpixel((10, 30))[0]
    assert edited["recompress"].getpixel((10, 30))[0] > 150 > edited["recompress"].getpixel((70, 30))[0]
    for edit in ("crop", "rescale"):
        assert 0.45 < edited[edit].width / 80 < 0.95
        assert 0.45 < edited[edit].height / 60 < 0.95


def test_designs_of_one_tradition_share_every_column_but_the_design(drawn: Path) -> None:
    wrong = {row["image"] for row in rows(drawn / "ground_truth.csv") if row["kind"] == "wrong-label"}
    shared: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    designs = defaultdict(set)
    for row in rows(drawn / "sarees.csv"):
        if row["image"] in wrong or "/more/" in row["image"]:
            continue
        key = row["tradition"], Path(row["image"]).stem
        shared[key].add((row["region"], row["weave"], row["colour"], row["price"]))
        designs[row["tradition"]].add(row["label"])
    assert {len(values) for values in shared.values()} == {1}
    assert len({next(iter(values))[:2] for values in shared.values()}) == 12
    assert {len(labels) for labels in designs.values()} == {4}


def test_every_presentation_comes_in_every_colour() -> None:
    seen = {(n % len(PRESENTATIONS), Photo(0, 0, n).colourway) for n in range(20)}
    assert len(seen) == len(PRESENTATIONS) * 2


@pytest.mark.parametrize("name", PRESENTATIONS)
def test_designs_of_one_tradition_look_different_however_shown(name: str) -> None:
    number = list(PRESENTATIONS).index(name)
    pictures = [np.asarray(Image.open(io.BytesIO(draw_photo(Photo(1, d, number), seed=7, size=96)))) for d in range(4)]
    again = np.asarray(Image.open(io.BytesIO(draw_photo(Photo(1, 0, number), seed=7, size=96))))
    assert np.array_equal(pictures[0], again)
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_the_cloth_differs_between_designs_and_keeps_the_ground() -> None:
    cloths = [weave(1, d, 0, 120).levels[0] for d in range(4)]
    ground = TRADITIONS[1].palettes[0]["ground"][:3]
    for one, other in pairwise(cloths):
        assert (one != other).mean() > 0.05
    for texels in cloths:
        colours = texels.view(np.uint8).reshape(-1, 4)[:, :3].astype(int)
        assert (np.abs(colours - ground).sum(axis=1) < 60).mean() > 0.15


def test_two_workers_and_one_draw_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw_sarees(tmp_path, workers=2, **SMALL)
    assert contents(tmp_path) == contents(drawn)


def test_order_of_drawing_does_not_matter() -> None:
    wanted = [Photo(t, d, n) for t in (0, 5) for d in (0, 3) for n in (0, 4)]
    first = {photo: draw_photo(photo, seed=3, size=48) for photo in wanted}
    random.Random(1).shuffle(wanted)
    weave.cache_clear()
    assert {photo: draw_photo(photo, seed=3, size=48) for photo in wanted} == first


def test_another_seed_draws_other_pictures_and_plants_elsewhere() -> None:
    photo = Photo(2, 1, 3)
    assert draw_photo(photo, seed=7, size=48) != draw_photo(photo, seed=8, size=48)
    assert plan(seed=7, photos=20).labels != plan(seed=8, photos=20).labels
    assert plan(seed=7, photos=20) == plan(seed=7, photos=20)


def test_an_interrupted_run_is_resumed_without_drawing_twice(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = draw_photo, []

    def interrupted(photo: Photo, *, seed: int, size: int) -> bytes:
        calls.append(photo)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return real(photo, seed=seed, size=size)

    monkeypatch.setattr(sarees, "draw_photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_sarees(tmp_path, workers=1, **SMALL)
    assert not (tmp_path / "sarees.csv").exists()
    assert json.loads((tmp_path / "sarees.json").read_text())["complete"] is False
    cut = sorted(tmp_path.glob("photos/[!m]*/*/*.jpg"))[0]
    cut.write_bytes(cut.read_bytes()[:100])
    cut.with_name(".001.jpg.123.part").write_bytes(b"left by a killed run")
    seen: list[tuple[int, int]] = []
    draw_sarees(tmp_path, workers=1, progress=lambda done, total: seen.append((done, total)), **SMALL)
    assert contents(tmp_path) == contents(drawn)
    assert len(calls) == 96 + 1 + 1  # all, the one that was interrupted, and the one that was cut
    assert seen[0] == (28, 156)
    assert seen[-1] == (156, 156)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_finished_catalogue_is_left_alone_and_a_lost_file_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_sarees(tmp_path, workers=1, **SMALL)
    before = contents(tmp_path)
    drawn_again: list[Photo] = []
    real = draw_photo

    def noted(photo: Photo, *, seed: int, size: int) -> bytes:
        drawn_again.append(photo)
        return real(photo, seed=seed, size=size)

    monkeypatch.setattr(sarees, "draw_photo", noted)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert draw_sarees(tmp_path, workers=1, **SMALL) == tmp_path / "sarees.csv"
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "photos" / "more" / "007.jpg").unlink()
    (tmp_path / "photos" / "patola" / "pan-bhat" / "001.jpg").unlink()
    (tmp_path / "ground_truth.csv").unlink()
    draw_sarees(tmp_path, workers=1, **SMALL)
    assert contents(tmp_path) == before
    assert [photo.image for photo in drawn_again] == ["photos/patola/pan-bhat/001.jpg"]


def test_other_arguments_in_the_same_folder_leave_nothing_stale(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir(parents=True)
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"the user's own")
    draw_sarees(tmp_path, workers=1, seed=1, photos=3, size=32)
    draw_sarees(tmp_path, workers=1, seed=2, photos=2, size=32)
    listed = {row["image"] for row in rows(tmp_path / "sarees.csv")}
    on_disk = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")}
    assert on_disk == listed | {"photos/mine.jpg"}


@pytest.mark.parametrize(
    "wrong", [{"photos": 1}, {"photos": 1000}, {"size": 8}, {"size": 5000}, {"seed": -1}, {"workers": 0}]
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        draw_sarees(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(LookalikeError, match="taken"):
        draw_sarees(tmp_path / "taken", workers=1, **SMALL)
