"""``lookalike train`` and ``advise`` as their user meets them: a sentence for what is wrong, and no half files."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from indexer import advising, training_cli, training_run
from indexer.embeds import digest_of
from indexer.files import write_bytes
from indexer.training_files import METRICS, MODEL, PAGE, RECIPE, TRAINING, WEIGHTS, Metrics, training_folder
from retrieval.errors import CatalogueError
from retrieval.feeding import Feed
from retrieval.recipe import CHECKPOINT
from tests.conftest import draw_pictures
from tests.webui.commands import TINY, Run, as_json

ON_CPU = ("--device", "cpu", "--workers", "0")


Words = Callable[..., tuple[object, ...]]


@pytest.fixture
def words(weights: Path, picture_folder: Path, tmp_path: Path) -> Words:
    """The words of a small training of the drawn pictures."""

    def said(*more: object, epochs: int = 3) -> tuple[object, ...]:
        small = ("--backbone", TINY, "--weights", weights, "--image-size", 64, "--dim", 16, "--batch", 8)
        begin = ("train", picture_folder, "--out", tmp_path / "out", *small, "--per-class", 2, "--epochs", epochs)
        return (*begin, *ON_CPU, *more)

    return said


def test_a_training_from_pictures_to_search(words: Words, tmp_path: Path, picture_folder: Path, run: Run) -> None:
    out = tmp_path / "out"
    code, said, told = run(*words())
    assert code == 0, told
    assert {entry.name for entry in out.iterdir()} == {MODEL, WEIGHTS, PAGE, TRAINING, ".lock"}
    assert {entry.name for entry in (out / TRAINING).iterdir()} == {CHECKPOINT, METRICS, RECIPE}
    for line in ("best epoch", "on 4 images", "classes are named by", "the report:", "lookalike index", "evaluate"):
        assert line in said
    for line in (
        "train on 20 images of 4 classes",
        "per-class",
        "asked for",
        "it names the class",
    ):
        assert line in told
    assert len((out / TRAINING / METRICS).read_text().splitlines()) == 4
    assert "Worst confusions" in (out / PAGE).read_text()
    assert json.loads((out / TRAINING / RECIPE).read_text())["choices"]["epochs"] == {"value": 3, "why": "asked for"}

    card = json.loads((out / MODEL).read_text())
    assert card["provenance"]["training"]["recipe"]["batch"] == 8
    assert str(tmp_path) not in (out / MODEL).read_text()  # where it was made is nobody's business
    index = next(line for line in said.splitlines() if "lookalike index" in line).split("lookalike ")[1]
    named = index.replace("CATALOGUE", str(tmp_path / "shop")).split()
    code, _, told = run(*named, "--device", "cpu", "--runtime", "torch")
    assert code == 0, told
    found = as_json(
        run("search", tmp_path / "shop", picture_folder / "Paint/Red/000.jpg", "--runtime", "torch", "--json")
    )
    assert found["hits"][0]["label"] == "Paint/Red"
    measured = run("evaluate", tmp_path / "shop", "--out", tmp_path / "report", "--device", "cpu", "--runtime", "torch")
    assert "the embedder was trained on 20 images of pictures" in measured[2]
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("the embedder was trained on 20 images of pictures") == 1


def test_the_same_command_again_gives_the_same_and_trains_nothing(words: Words, tmp_path: Path, run: Run) -> None:
    first = as_json(run(*words("--json")))
    assert first["digest"] == digest_of(tmp_path / "out")
    assert first["recipe"]["per_class"] == 2
    assert first["validation"]["recall_at_1"] > 0.5
    assert (first["pictures"], first["held_out"], first["classes"]) == (20, 4, 4)
    about = json.loads((tmp_path / "out" / TRAINING / RECIPE).read_text())["about"]
    code, said, told = run(*words())
    assert code == 0
    assert "is finished already" in told
    assert "epoch 1/3" not in told
    assert digest_of(tmp_path / "out") == first["digest"]
    assert json.loads((tmp_path / "out" / TRAINING / RECIPE).read_text())["about"] == about  # when it was trained
    assert "  untrained    Recall@1 " in said
    assert first["untrained"]["recall_at_1"] <= first["validation"]["recall_at_1"]


def test_pictures_that_cannot_be_used_are_told_by_name_before_the_first_epoch(
    words: Words, tmp_path: Path, run: Run, picture_folder: Path
) -> None:
    red = sorted((picture_folder / "Paint" / "Red").iterdir())
    red[0].write_bytes(b"no picture")
    red[-1].write_bytes(b"no picture either")
    code, said, told = run(*words(epochs=1))
    assert code == 0, told
    assert "1 picture to train on cannot be used, such as Paint/Red/000.jpg: " in told
    assert f"1 picture held out cannot be used, such as Paint/Red/{red[-1].name}: " in told
    assert told.index("held out cannot be used") < told.index("epoch 1/1")
    assert "(the last image of each class, of which 1 cannot be used)" in said


def test_the_folder_of_a_stopped_run_is_no_embedder_yet(tmp_path: Path, run: Run, picture_folder: Path) -> None:
    (tmp_path / "out" / TRAINING).mkdir(parents=True)
    (tmp_path / "out" / TRAINING / CHECKPOINT).write_bytes(b"")
    code, _, told = run("index", picture_folder, "--catalogue", tmp_path / "shop", "--embedder", tmp_path / "out")
    assert code == 2
    assert "has not come to its end, and has no embedder yet" in told


def test_killed_in_the_middle_and_resumed_it_is_as_if_it_had_never_been_stopped(
    words: Words, tmp_path: Path, run: Run
) -> None:
    command = [str(word) for word in words("--deterministic", "--ema", "0.9", epochs=9)]
    whole = as_json(run(*command[:3], tmp_path / "whole", *command[4:], "--json"))
    metrics = tmp_path / "out" / TRAINING / METRICS
    process = subprocess.Popen([sys.executable, "-m", "webui.cli", *command], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / MODEL).exists()
    code, _, told = run(*command)
    assert code == 0, told
    assert "going on after epoch" in told
    assert "going on after epoch 9 of 9" not in told
    assert digest_of(tmp_path / "out") == whole["digest"]
    rows = metrics.read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(epoch) for epoch in range(1, 10)]


def test_other_choices_are_another_run(words: Words, run: Run, tmp_path: Path) -> None:
    before = as_json(run(*words("--json", epochs=1)))
    code, _, told = run(*words("--lr", "0.001", epochs=1))
    assert code == 2
    assert "--restart" in told.splitlines()[-1]
    assert digest_of(tmp_path / "out") == before["digest"]
    after = as_json(run(*words("--lr", "0.001", "--restart", "--json", epochs=1)))
    assert after["digest"] != before["digest"]
    assert len((tmp_path / "out" / TRAINING / METRICS).read_text().splitlines()) == 2


def test_a_restart_that_cannot_begin_leaves_what_was_there(words: Words, run: Run, tmp_path: Path) -> None:
    before = as_json(run(*words("--json", epochs=1)))
    place = tmp_path / "out" / TRAINING
    kept = {entry.name: entry.read_bytes() for entry in place.iterdir()}
    code, _, told = run(*words("--restart", "--loss", "magic", epochs=1))
    assert code == 2
    assert "'magic'" in told.splitlines()[-1]
    assert {entry.name: entry.read_bytes() for entry in place.iterdir()} == kept
    code, _, told = run(*words(epochs=1))
    assert code == 0
    assert "is finished already" in told
    assert digest_of(tmp_path / "out") == before["digest"]


def interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_the_last_epoch(words: Words, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Metrics.add

    def stop(metrics: Metrics, row: Any) -> None:
        add(metrics, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Feed, "__getitem__", interrupted)
        code, _, told = run(*words())
    assert code == 130
    assert told.splitlines()[-1].endswith("interrupted; no epoch was finished, so nothing is kept")
    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "add", stop)
        code, said, told = run(*words())
    assert code == 130
    assert said == ""
    assert "the same command goes on from there" in told.splitlines()[-1]
    assert not (tmp_path / "out" / MODEL).exists()
    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "add", stop)
        code, _, told = run(*words("--restart"))
    assert code == 130
    assert "the same command without --restart goes on" in told.splitlines()[-1]
    code, _, told = run(*words())
    assert code == 0
    assert "going on after epoch 1 of 3" in told
    digest = digest_of(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(Feed, "__getitem__", interrupted)
        code, _, told = run(*words("--restart"))
    assert code == 130
    assert "no epoch was finished" in told.splitlines()[-1]
    assert digest_of(tmp_path / "out") == digest


def test_a_full_disk_keeps_the_last_checkpoint(
    words: Words, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def full(path: Path, data: bytes) -> None:
        written.append(path.name)
        if written.count(CHECKPOINT) == 2:
            raise CatalogueError(f"the disk is full: {path} was not written; free some space and run it again")
        write_bytes(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(training_run, "write_bytes", full)
        code, _, told = run(*words("--deterministic"))
    assert code == 4
    assert "the disk is full" in told.splitlines()[-1]
    inside = {entry.name for entry in (tmp_path / "out").rglob("*")}
    assert inside == {".lock", TRAINING, CHECKPOINT, METRICS, RECIPE}
    code, _, told = run(*words("--deterministic"))
    assert code == 0
    assert "going on after epoch 1 of 3" in told


def test_a_loss_that_is_no_number_ends_with_a_sentence(words: Words, tmp_path: Path, run: Run) -> None:
    code, said, told = run(*words("--lr", "1e30", "--head-lr", "1e30", "--clip", "0", "--warmup", "0"))
    assert code == 3
    assert said == ""
    assert "the loss is" in told.splitlines()[-1]
    assert "--lr" in told.splitlines()[-1]
    assert not (tmp_path / "out" / MODEL).exists()


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (("--batch", "2", "--per-class", "4"), 2, "--batch"),
        (("--batch", "10", "--per-class", "4"), 2, "groups of 4"),
        (("--per-class", "1", "--loss", "triplet"), 2, "--per-class 2 or more"),
        (("--loss", "magic"), 2, "'magic'"),
        (("--backbone", "resnet_none"), 2, "no backbone named"),
        (("--weights", "nowhere.safetensors"), 2, "no weights file"),
        (("--loss", "triplet", "--mixup", "0.2"), 2, "mixup"),
        (("--attention", "rollout"), 2, "vision transformer"),
        (("--budget", "0.01s"), 2, "budget"),
        (("--device", "cuda:99"), 2, "--device cpu|CUDA devices"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_written(
    words: Words, tmp_path: Path, run: Run, more: tuple[str, ...], code: int, sentence: str
) -> None:
    ended, said, told = run(*words(*more))
    assert ended == code, told
    assert said == ""
    assert re.search(sentence, told.splitlines()[-1]), told
    assert not [entry for entry in (tmp_path / "out").rglob("*") if entry.is_file() and entry.name != ".lock"]


def test_sources_that_nothing_can_be_learned_from(words: Words, tmp_path: Path, run: Run, picture_folder: Path) -> None:
    command = words()
    one = picture_folder / "Paint" / "Red"
    for source, sentence in ((one, "has no labels"), (tmp_path / "nowhere", "no file or folder")):
        code, _, told = run(command[0], source, *command[2:])
        assert code == 2
        assert sentence in told.splitlines()[-1]
    for place in sorted((picture_folder / "Paint").iterdir()):
        for path in sorted(place.iterdir())[1:]:
            path.unlink()
    code, _, told = run(*command)
    assert code == 2
    assert f"each of the 4 classes of {picture_folder} has one image only" in told.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_places_that_are_taken(words: Words, tmp_path: Path, run: Run, picture_folder: Path) -> None:
    command = list(words())
    code, _, told = run(*command[:3], picture_folder / "out", *command[4:])
    assert code == 2
    assert "inside the folder" in told.splitlines()[-1]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, told = run(*command)
    assert code == 2
    assert "holds other things, such as thesis.txt" in told.splitlines()[-1]
    (tmp_path / "out" / "thesis.txt").unlink()
    with training_folder(tmp_path / "out", leading=True):
        code, _, told = run(*command)
    assert code == 4
    assert "another process is writing" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--out", "x"), "name a source"),
        (("photos", "--protocol", "cub", "--root", ".", "--out", "x"), "not both"),
        (("--protocol", "cub", "--out", "x"), "needs --root"),
        (("--protocol", "cub", "--root", ".", "--label-column", "kind", "--out", "x"), "--label-column is of a source"),
        (("photos", "--task", "retrieval", "--out", "x"), "goes with --protocol"),
        (("photos", "--validate", "v", "--hold-out", "images", "--out", "x"), "leave one of them out"),
        (("photos", "--budget", "30", "--out", "x"), "90s, 30m"),
        (("photos",), "--out"),
    ],
)
def test_usage(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    code, _, told = run("train", *arguments)
    assert code == 2
    assert sentence in told


def test_tensorboard_is_an_extra(words: Words, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    code, _, told = run(*words("--tensorboard"))
    assert code == 5
    assert "lookalike[tensorboard]" in told


def test_losses_are_written_for_tensorboard(words: Words, tmp_path: Path, run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, _, told = run(*words("--tensorboard", epochs=4))
    assert code == 0, told
    (events,) = (tmp_path / "out" / TRAINING / "tensorboard").glob("events.out.tfevents.*")
    losses = EventAccumulator(str(events)).Reload().Scalars("loss")
    assert losses
    assert all(0 < point.value < 100 for point in losses)


def test_only_the_first_process_of_several_speaks(
    words: Words, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / TRAINING).mkdir(parents=True)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(training_cli, "run_training", lambda *_, **__: None)
    assert run(*words()) == (0, "", "")
    assert [entry.name for entry in (tmp_path / "out").rglob("*")] == [TRAINING]


def test_a_configuration_by_its_word(weights: Path, tmp_path: Path, picture_folder: Path, run: Run) -> None:
    small = ("--backbone", TINY, "--weights", weights, "--image-size", 64, "--epochs", 1, "--batch", 8)
    said = as_json(run("train", picture_folder, "--out", tmp_path / "out", "--as", "cbam", *small, *ON_CPU, "--json"))
    assert (said["recipe"]["attention"], said["recipe"]["loss"], said["recipe"]["head"]) == ("cbam", "ce", "linear")
    assert (said["embedder"]["attention"], said["embedder"]["head"]) == ("cbam", "linear")


def test_without_labels(weights: Path, tmp_path: Path, run: Run) -> None:
    draw_pictures(tmp_path / "mess")
    flat = tmp_path / "flat"
    flat.mkdir()
    for at, path in enumerate(sorted((tmp_path / "mess").rglob("*.jpg"))):
        path.rename(flat / f"{at:03d}.jpg")
    small = ("--backbone", TINY, "--weights", weights, "--image-size", 64, "--epochs", 1, "--dim", 16, *ON_CPU)
    code, _, told = run("train", flat, "--out", tmp_path / "out", *small)
    assert code == 2
    assert "--loss ntxent" in told.splitlines()[-1]
    said = as_json(run("train", flat, "--out", tmp_path / "out", "--loss", "ntxent", *small, "--json"))
    assert (said["validation"], said["classes"], said["best_epoch"]) == (None, 0, 1)


def test_advice(weights: Path, picture_folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "available_backbones", lambda: [])
    asked = ("--backbone", TINY, "--weights", weights, "--sample", 12, "--device", "cpu", "--runtime", "torch")
    said = as_json(run("advise", picture_folder, *asked, "--json"))
    assert [row["backbone"] for row in said["backbones"]] == [TINY]
    assert said["backbones"][0]["queries"] == 12
    assert said["counts"]["classes"] == 4
    assert said["train"].startswith(f"lookalike train {picture_folder} --out EMBEDDER --backbone {TINY}")
    code, text, _ = run("advise", picture_folder, *asked)
    assert code == 0
    for word in ("Recall@1", "95 % interval", "on 12 of 24 images", "a rule of thumb", said["train"]):
        assert word in text
    assert ("not likely to pay" in text) != said["likely"]
    assert said["index"] == (
        f"lookalike index {picture_folder} --catalogue CATALOGUE --backbone {TINY} --weights {weights}"
    )
    assert (said["preferred"], said["preferred_why"]) == (TINY, "")


def test_advice_that_cannot_be_given(picture_folder: Path, run: Run, tmp_path: Path) -> None:
    code, _, told = run("advise", picture_folder, "--weights", tmp_path / "w.safetensors")
    assert code == 2
    assert "name it with --backbone" in told
    code, _, told = run("advise", picture_folder / "Paint" / "Red")
    assert code == 2
    assert "has no labels" in told
