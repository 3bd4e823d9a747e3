"""What a training refuses, tells and keeps when something goes wrong."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from retrieval import lesson as lesson_room
from retrieval import training
from retrieval.backbones import load_backbone
from retrieval.course import Row
from retrieval.errors import DamagedError, EmbedderError, ImageError, InputError, LookalikeError
from retrieval.feeding import Feed
from retrieval.fitting import Fitting
from retrieval.held_out import IMAGES
from retrieval.keeping import Keeper
from retrieval.lesson import Examples, Lesson
from retrieval.listener import Listener
from retrieval.objective import Objective
from retrieval.recipe import CHECKPOINT
from retrieval.sampling import Batches
from tests.retrieval.lessons import BACKBONE, PLAIN, draw_stripes, lesson_of, quick, train


def test_ctrl_c_is_what_it_is_elsewhere(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(lesson_of(stripes), quick(), tmp_path, weights, listener=Listener(row=interrupt))
    assert signal.getsignal(signal.SIGINT) is before
    assert [row.epoch for row in train(lesson_of(stripes), quick(), tmp_path, weights).course.rows] == [1, 2, 3, 4]


def test_sigterm_is_no_success(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(
            lesson_of(stripes),
            quick(),
            tmp_path,
            weights,
            listener=Listener(row=lambda row: os.kill(os.getpid(), signal.SIGTERM)),
        )
    assert [row.epoch for row in train(lesson_of(stripes), quick(), tmp_path, weights).course.rows] == [1, 2, 3, 4]


def test_a_finished_run_says_so(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    told: list[str] = []
    train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)
    train(lesson_of(stripes), quick(epochs=1), tmp_path, weights, listener=Listener(notice=told.append))
    assert told == [f"the run in {tmp_path} is finished already; --restart begins it anew"]


def test_batches_that_cannot_be_are_told_before_anything_is_decoded(
    stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    decoded: list[int] = []
    for changes, said in (({"batch": 5000}, "a batch of 5,000"), ({"per_class": 8}, "no class has 8 pictures")):
        with pytest.raises(InputError, match=said):
            train(
                lesson_of(stripes),
                quick(**changes),
                tmp_path,
                weights,
                listener=Listener(filling=lambda done, total, refused: decoded.append(done)),
            )
    assert decoded == []


def test_a_head_that_nothing_trains_is_refused(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not train the classifier head linear: add \+ce"):
        train(lesson_of(stripes), quick(loss="triplet", head="linear"), tmp_path, weights)


def test_another_run_in_the_folder_is_refused(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)
    with pytest.raises(InputError, match=r"with other choices \(lr 0.003, not 1e-05\); give --restart"):
        train(lesson_of(stripes), quick(epochs=1, lr=1e-5), tmp_path, weights)


def test_a_loss_that_is_no_number_keeps_the_checkpoint_before(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes] = []
    whole = Objective.forward

    def broken(self: Objective, vectors: torch.Tensor, *given: Any) -> Any:
        return whole(self, vectors * (float("nan") if kept else 1.0), *given)

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(EmbedderError, match=r"loss is nan in epoch 2, step 1: lower the learning rates \(--lr 0.001\)"):
        train(
            lesson_of(stripes),
            quick(loss="softmax", head="none"),
            tmp_path,
            weights,
            listener=Listener(row=lambda row: kept.append((tmp_path / CHECKPOINT).read_bytes())),
        )
    assert [(tmp_path / CHECKPOINT).read_bytes()] == kept


def test_weights_that_blew_up_in_the_last_step_are_not_kept(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    def blow_up(self: Fitting, *_: Any) -> None:
        with torch.no_grad():
            self.network.projection.bias.fill_(float("inf"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Fitting, "on_train_batch_end", blow_up)
        # One step an epoch, so that no loss is looked at afterwards.
        with pytest.raises(EmbedderError, match="weights are no numbers any more after epoch 1: lower the learning"):
            train(lesson_of(stripes), quick(batch=48, epochs=1), tmp_path, weights)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_full_disk_keeps_the_checkpoint_before(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    written: list[bytes] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise LookalikeError("no space left on the disk")
        written.append(data)
        path.write_bytes(data)

    with pytest.raises(LookalikeError, match="no space left"):
        train(lesson_of(stripes), quick(), tmp_path, weights, write=write)
    assert (tmp_path / CHECKPOINT).read_bytes() == written[1]
    resumed = train(lesson_of(stripes), quick(), tmp_path, weights)
    assert [row.epoch for row in resumed.course.rows] == [1, 2, 3, 4]


def test_damaged_pictures_are_told_and_left_out(weights: Path, tmp_path: Path) -> None:
    examples = draw_stripes(tmp_path / "pictures")
    (tmp_path / "pictures" / "c0" / "0.png").write_bytes(b"no picture")
    trained = train(lesson_of(examples), quick(epochs=1), tmp_path, weights)
    assert [uri for uri, _ in trained.refused] == ["c0/0.png"]
    assert trained.embedder.description["provenance"]["training"]["pictures"] == len(examples.ids) - 1


def test_a_class_without_a_usable_picture_is_told_and_left_out(weights: Path, tmp_path: Path) -> None:
    examples, told = draw_stripes(tmp_path / "pictures", classes=3), list[str]()
    for picture in (tmp_path / "pictures" / "c1").iterdir():
        picture.write_bytes(b"no picture")
    held_out = draw_stripes(tmp_path / "others", classes=3, per_class=1, seed=1)
    lesson, recipe = lesson_of(examples, held_out), quick(epochs=2)

    def stop(row: Row) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(lesson, recipe, tmp_path, weights, listener=Listener(row=stop))
    trained = train(lesson, recipe, tmp_path, weights, listener=Listener(notice=told.append))  # and goes on
    assert trained.embedder.classes == ("c0", "c2")
    assert (trained.classes, trained.course.held_out) == (2, 2)
    assert len(trained.refused) == 6
    (tmp_path / "new").mkdir()
    again = train(lesson, recipe, tmp_path / "new", weights, listener=Listener(notice=told.append))
    assert "left out, because not one picture to train on can be used: c1" in told
    assert again.embedder.digest == trained.embedder.digest


def test_held_out_pictures_of_classes_that_are_left_out_choose_nothing(weights: Path, tmp_path: Path) -> None:
    examples = draw_stripes(tmp_path / "pictures", classes=3)
    for picture in (tmp_path / "pictures" / "c1").iterdir():
        picture.write_bytes(b"no picture")
    held_out = draw_stripes(tmp_path / "others", classes=3, per_class=1, seed=1).only({"c1"})
    with pytest.raises(InputError, match="all pictures held out are of classes that are left out, c1: give others by"):
        train(lesson_of(examples, held_out), quick(epochs=1), tmp_path, weights)


def test_what_another_run_is_of_is_told(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    other = draw_stripes(tmp_path / "more", per_class=1, seed=1)
    train(lesson_of(stripes, other), quick(epochs=1), tmp_path, weights)
    fewer = Examples(stripes.root, stripes.ids[1:], stripes.uris[1:], stripes.labels[1:])
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(weights.read_bytes() + b" ")
    for lesson, options, said in (
        (lesson_of(fewer, other), {}, "other pictures to train on"),
        (lesson_of(stripes), {}, "other pictures to validate on"),
        (lesson_of(stripes, other), {"budget": 60.0}, "another budget"),
    ):
        with pytest.raises(InputError, match=f"holds a run with {said}; give --restart"):
            train(lesson, quick(epochs=1), tmp_path, weights, **options)
    with pytest.raises(InputError, match="holds a run with other weights to begin from; give --restart"):
        train(lesson_of(stripes, other), quick(epochs=1), tmp_path, copied)


def test_one_class_with_usable_pictures_is_too_few(weights: Path, tmp_path: Path) -> None:
    examples = draw_stripes(tmp_path / "pictures", classes=2)
    for picture in (tmp_path / "pictures" / "c1").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"drawn stripes has one class only, 'c0', .*: mend or replace the pictures"):
        train(lesson_of(examples), quick(epochs=1), tmp_path, weights)
    for picture in (tmp_path / "pictures" / "c0").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"not one of the 12 pictures to train on .* \(the first, c0/0.png: "):
        train(lesson_of(examples), quick(epochs=1), tmp_path, weights)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "triplet", "head": "none", "per_class": 1}, "--per-class"),
        ({"first_size": 20}, "--first-size"),
        ({"augmentation": replace(PLAIN, mixup=0.2), "loss": "contrastive", "head": "none"}, "mix"),
        ({"batch": 1}, "per"),
        ({"loss": "nothing"}, "nothing"),
        ({"pooling": "nothing"}, "pooling"),
        ({"schedule": "nothing"}, "schedule"),
        ({"smoothing": 0.1, "loss": "softmax"}, "--smoothing"),
        ({"warmup_head": 4}, "all 4 epochs: give fewer than --warmup-head 4"),
        ({"loss": "ntxent", "head": "linear", "per_class": 1}, "the classifier head linear: give --head none"),
    ],
)
def test_choices_that_do_not_go_together(
    changes: dict[str, Any], said: str, stripes: Examples, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        train(lesson_of(stripes), quick(**changes), tmp_path, weights)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_batch_that_processes_cannot_share_is_refused(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "join", lambda device: (0, 3))
    with pytest.raises(InputError, match="a multiple of 3"):
        train(lesson_of(stripes), quick(), tmp_path, weights)


def test_a_file_that_is_no_checkpoint_of_ours_is_told(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    torch.save({"state": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(DamagedError, match=r"last\.ckpt is no checkpoint of a training"):
        train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)
    (tmp_path / CHECKPOINT).write_bytes(b"cut")
    with pytest.raises(DamagedError, match=r"last\.ckpt is damaged"):
        train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)
    train(lesson_of(stripes), quick(epochs=1), tmp_path, weights, restart=True)


def test_a_picture_that_vanishes_is_told_and_others_are_shown(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too little memory to keep them, so they are read when they are shown.
    monkeypatch.setattr(lesson_room, "available_memory", lambda: 1000)
    examples, gone = draw_stripes(tmp_path / "pictures"), tmp_path / "pictures" / "c3" / "1.png"
    listener = Listener(row=lambda row: gone.unlink(missing_ok=True))
    trained = train(lesson_of(examples), quick(), tmp_path, weights, listener=listener)
    assert trained.refused == [("c3/1.png", "cannot be read (any more)")]
    assert len(trained.course.rows) == 4


def test_what_is_shown_for_a_picture_is_none_that_failed(tmp_path: Path) -> None:
    class Half:
        def __getitem__(self, place: int) -> np.ndarray:
            if place < 2:
                raise ImageError(f"{place} cannot be used")
            return np.full((8, 8, 3), place, np.uint8)

    codes = np.zeros(3, np.int64)
    made = Batches(codes, batch=3, per_class=1, seed=0)
    feed = Feed(Half(), range(3), codes, made, quick(train_size=32))  # type: ignore[arg-type]
    for epoch in range(20):
        feed.enter(epoch)
        batch = feed[0]
        assert set(batch["unread"]) >= {0, 1}
        assert batch["pixels"].float().mean() == 2  # the one that is left, in all three places


def test_both_views_of_a_place_are_of_the_picture_that_stands_in(tmp_path: Path) -> None:
    class Some:
        def __getitem__(self, place: int) -> np.ndarray:
            if place % 2:
                raise ImageError(f"{place} cannot be used")
            return np.full((8, 8, 3), place, np.uint8)

    codes = np.arange(8)  # as where there are no labels: every picture is a class of its own
    made = Batches(codes, batch=8, per_class=1, seed=0)
    feed = Feed(Some(), range(8), codes, made, quick(train_size=32), views=2)  # type: ignore[arg-type]
    for epoch in range(10):
        feed.enter(epoch)
        first, second = feed[0]["pixels"].float().mean(dim=(1, 2, 3)).chunk(2)
        assert torch.equal(first, second)


def test_what_was_damaged_between_two_parts_of_a_run_is_told(weights: Path, tmp_path: Path) -> None:
    examples = draw_stripes(tmp_path / "pictures")
    with pytest.raises(KeyboardInterrupt):
        train(lesson_of(examples), quick(epochs=3), tmp_path, weights, listener=Listener(row=interrupted))
    (tmp_path / "pictures" / "c0" / "0.png").write_bytes(b"no picture")
    trained = train(lesson_of(examples), quick(epochs=3), tmp_path, weights)
    assert [uri for uri, _ in trained.refused] == ["c0/0.png"]
    assert trained.course.pictures == len(examples.ids) - 1
    assert [row.epoch for row in trained.course.rows] == [1, 2, 3]


def interrupted(_: Row) -> NoReturn:
    raise KeyboardInterrupt


def test_a_checkpoint_of_another_version_is_told(stripes: Examples, weights: Path, tmp_path: Path) -> None:
    train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)
    found = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del found["callbacks"][Keeper.__qualname__]["course"]["measured"]
    torch.save(found, tmp_path / CHECKPOINT)
    with pytest.raises(DamagedError, match="another version of lookalike; give --restart"):
        train(lesson_of(stripes), quick(epochs=1), tmp_path, weights)


def test_damaged_pictures_end_no_self_supervised_run(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson_room, "available_memory", lambda: 1000)
    examples = draw_stripes(tmp_path / "pictures", per_class=3)
    (tmp_path / "pictures" / "c0" / "0.png").write_bytes(b"no picture")
    unlabelled = Examples(examples.root, examples.ids, examples.uris, [])
    recipe = quick(loss="ntxent", per_class=1, head="none", epochs=2)
    decoded: list[int] = []
    listener = Listener(filling=lambda done, total, refused: decoded.append(done))
    trained = train(lesson_of(unlabelled), recipe, tmp_path, weights, listener=listener)
    assert [uri for uri, _ in trained.refused] == ["c0/0.png"]
    assert decoded[-1] == len(examples.ids)  # found before the first epoch, and seen to be looked for


def test_a_gpu_that_all_processes_would_take_is_refused(
    stripes: Examples, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(training, "choose_device", lambda device: "cuda:0")
    with pytest.raises(InputError, match="give --device cuda, not cuda:0"):
        train(lesson_of(stripes), quick(), tmp_path, weights)


def test_damaged_pictures_that_are_not_kept_end_no_validation(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson_room, "available_memory", lambda: 1000)
    whole = draw_stripes(tmp_path / "pictures", per_class=4)
    for name in ("c0/0.png", "c1/3.png"):
        (tmp_path / "pictures" / name).write_bytes(b"no picture")
    train_on, held = (
        Examples(whole.root, *([column[at] for at in places] for column in (whole.ids, whole.uris, whole.labels)))
        for places in (
            [at for at, uri in enumerate(whole.uris) if not uri.endswith("3.png")],
            [at for at, uri in enumerate(whole.uris) if uri.endswith("3.png")],
        )
    )
    lesson = Lesson(train_on, held, IMAGES, "stripes")
    trained = train(lesson, quick(epochs=2), tmp_path, weights)
    assert sorted(uri for uri, _ in trained.refused) == ["c0/0.png", "c1/3.png"]
    assert trained.course.best is not None
    again = train(lesson, quick(epochs=2), tmp_path, weights)  # the run is over, and still knows
    assert sorted(uri for uri, _ in again.refused) == ["c0/0.png", "c1/3.png"]


def test_held_out_classes_stay_whole(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson_room, "MOST_VALIDATED", 12)
    examples = draw_stripes(tmp_path / "pictures", per_class=3)
    preprocessing = load_backbone(BACKBONE, weights=weights)[1]
    pictures, _ = lesson_room.held_out_of(examples, preprocessing, whole_classes=True)
    assert sorted(Counter(pictures.labels).values()) == [3, 3, 3, 3]
    spread, _ = lesson_room.held_out_of(examples, preprocessing, whole_classes=False)
    assert len(spread.ids) == 12
    alone = Examples(examples.root, examples.ids[:2], examples.uris[:2], ["a", "b"])
    with pytest.raises(InputError, match="no class that is held out has two pictures"):
        lesson_room.held_out_of(alone, preprocessing, whole_classes=True)
