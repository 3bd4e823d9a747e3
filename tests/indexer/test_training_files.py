"""The folder of a training: what it may be, who may write it, and that nothing in it is ever half of something."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.embeds import digest_of
from indexer.training_files import (
    METRICS,
    MODEL,
    TRAINING,
    WEIGHTS,
    Metrics,
    check_out,
    save_embedder,
    training_folder,
    write_recipe,
)
from retrieval.errors import BusyError, CatalogueError, InputError
from retrieval.recipe import CHECKPOINT
from tests.embedders import ColourEmbedder
from tests.indexer.accounts import sample_choices, sample_rows


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_an_empty_or_a_training_folder_will_do(tmp_path: Path) -> None:
    check_out(tmp_path / "a" / "new" / "one")
    check_out(tmp_path)
    with training_folder(tmp_path / "out", leading=True) as place:
        assert place == tmp_path / "out" / TRAINING
        assert place.is_dir()
        (place / METRICS).write_bytes(b"")
        (place / CHECKPOINT).write_bytes(b"")
    save_embedder(ColourEmbedder(), tmp_path / "out")
    check_out(tmp_path / "out")


def test_an_embedder_whose_checkpoint_was_deleted_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with training_folder(out, leading=True) as place:
        (place / METRICS).write_bytes(b"")
        save_embedder(ColourEmbedder(), out)
    before = digest_of(out)
    with pytest.raises(InputError, match=r"holds a trained embedder, whose last\.ckpt was deleted: give --restart"):
        check_out(out)
    with pytest.raises(InputError, match="--restart"), training_folder(out, leading=True):
        pass
    check_out(out, restart=True)
    assert digest_of(out) == before


def test_other_folders_are_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="is a catalogue"):
        check_out(tmp_path / "catalogue")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_out(tmp_path / "file")
    with pytest.raises(InputError, match=r"holds other things, such as .*--out"):
        check_out(tmp_path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    ColourEmbedder().save(foreign, write=Path.write_bytes)
    with pytest.raises(InputError, match="was not trained there"):
        check_out(foreign)


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    with training_folder(tmp_path / "out", leading=True) as place:
        with pytest.raises(BusyError), training_folder(tmp_path / "out", leading=True):
            pass
        assert place.is_dir()
        # but the other processes of this run come in
        with training_folder(tmp_path / "out", leading=False) as place:
            assert place.is_dir()


def test_a_run_that_was_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError), training_folder(tmp_path / "a" / "out", leading=True):
        raise InputError("no such loss")
    assert not (tmp_path / "a" / "out").exists()
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError), training_folder(tmp_path, leading=True):
        pass
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_what_a_run_left_is_there_for_the_next(tmp_path: Path) -> None:
    with training_folder(tmp_path / "out", leading=True) as place:
        (place / METRICS).write_bytes(b"old")
    with training_folder(tmp_path / "out", leading=True):
        assert (place / METRICS).read_bytes() == b"old"


def test_metrics_go_on_where_a_run_was_stopped(tmp_path: Path) -> None:
    rows = sample_rows(4)
    metrics = Metrics(tmp_path / METRICS)
    for row in rows[:3]:
        metrics.add(row)
    again = Metrics(tmp_path / METRICS)
    again.add(rows[2])  # the third epoch was told before its checkpoint was written, and is run again
    again.add(rows[3])
    told = read(tmp_path / METRICS)
    assert [row["epoch"] for row in told] == ["1", "2", "3", "4"]
    assert float(told[1]["recall_at_1"]) == pytest.approx(0.75, abs=0.01)
    assert (told[0]["recall_at_1"], float(told[0]["loss ce"])) == ("", 0.5)
    again.replace(rows)
    whole = (tmp_path / METRICS).read_bytes()
    assert [row["epoch"] for row in read(tmp_path / METRICS)] == ["1", "2", "3", "4"]
    Metrics(tmp_path / METRICS).add(rows[3])
    assert (tmp_path / METRICS).read_bytes() == whole


def test_metrics_of_another_run_do_not_stay(tmp_path: Path) -> None:
    Metrics(tmp_path / METRICS).replace(sample_rows(9))
    Metrics(tmp_path / METRICS).add(sample_rows(1)[0])
    assert [row["epoch"] for row in read(tmp_path / METRICS)] == ["1"]


def test_no_description_is_left_beside_weights_of_another_training(tmp_path: Path) -> None:
    save_embedder(ColourEmbedder("first"), tmp_path)

    class Full(ColourEmbedder):
        def save(self, folder, *, write):
            write(folder / WEIGHTS, b"new")
            raise CatalogueError("the disk is full")

    with pytest.raises(CatalogueError, match="disk is full"):
        save_embedder(Full(), tmp_path)
    assert not (tmp_path / MODEL).exists()


def test_every_choice_is_written_with_its_reason(tmp_path: Path) -> None:
    from indexer.files import read_json

    write_recipe(tmp_path, sample_choices({"lr": 0.1}), {"source": "photos"})
    written = read_json(tmp_path / "recipe.json")
    assert written["choices"]["lr"] == {"value": 0.1, "why": "asked for"}
    assert written["source"] == "photos"
