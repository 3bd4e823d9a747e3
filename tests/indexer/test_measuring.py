"""Measuring by a protocol: what is embedded and against what, what is refused, and what stands beside the number."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.measuring import Run, measure_protocol
from indexer.place import held, lock_of
from indexer.vectors import VectorCache
from retrieval import images
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import (
    BusyError,
    CatalogueError,
    DamagedError,
    EmbedderError,
    InputError,
    NotFoundError,
    ProtocolError,
)
from retrieval.report import QUERIES_SCHEMA
from tests.embedders import ColourEmbedder
from tests.indexer.birds import BIRDS, fix_counts, write_birds

CARD = {"image_size": 16, "digest": "d", "tag": "colours"}
EACH = 10
TRAIN, TEST = 2 * EACH, 3 * EACH


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of CUB that the protocol takes for the whole."""
    root = write_birds(tmp_path / "birds", each=EACH)
    fix_counts(monkeypatch, "cub", root)
    return root


def vectors_of(paths: Sequence[Path]) -> np.ndarray:
    """What the embedder says of images, as it is kept and brought to length 1 again: (n, dim) float64."""
    kept = ColourEmbedder().embed([images.decode(path.read_bytes()).pixels for path in paths])
    wide = kept.astype(np.float16).astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def test_a_standard_run(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    told: list[tuple[int, int, int]] = []
    run = Run(cache=tmp_path / "cache")
    measured = measure_protocol(
        "cub", birds, embedder, card=CARD, run=run, progress=lambda *counts: told.append(counts)
    )
    report = measured.report
    published = PROTOCOLS["cub"]
    assert (report.title, report.protocol, report.task) == (
        "CUB-200-2011",
        published.tasks["retrieval"].rule,
        "retrieval",
    )
    assert (report.differences, report.rejected, report.frozen, report.frozen_note) == ([], [], None, None)
    assert (report.queries, report.class_count, report.gallery, report.left_out) == (TEST, 3, TEST, 0)
    assert embedder.seen == TEST  # and none of the training images
    assert told[-1] == (TEST, TEST, 0)
    assert report.embedder == {**CARD, "runtimes": {"numpy": TEST}}
    assert report.about is not None and report.about["seconds"] >= 0

    names = [f"images/{name:03d}.Bird/{number}.jpg" for name in BIRDS if name > 100 for number in range(EACH)]
    vectors = vectors_of([birds / name for name in names])
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -2)
    labels = np.repeat(range(3), EACH)
    order = np.argsort(-similarities, axis=1)
    for k in (1, 2, 4, 8):
        expected = np.mean((labels[order[:, :k]] == labels[:, None]).any(axis=1))
        assert report.figure(f"Recall@{k}").value == pytest.approx(expected, abs=1e-12)
    assert 0.3 < report.figure("Recall@1").value < 1
    assert measured.queries.schema == QUERIES_SCHEMA
    assert measured.queries.column("id").to_pylist() == [name.removeprefix("images/") for name in sorted(names)]
    first = measured.queries.column("id").to_pylist()[0]
    assert measured.picture(first) == images.thumbnail((birds / "images" / first).read_bytes(), size=256)
    with pytest.raises(NotFoundError, match="there is no image none"):
        measured.picture("none")


def test_the_ks_the_clusters_and_the_map_are_those_that_are_asked_for(
    birds: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    run = Run(cache=tmp_path / "cache", ks=(3,), clusters=True, points=5)
    report = measure_protocol("cub", birds, embedder, card=CARD, run=run).report
    names = {figure.name for figure in report.figures}
    assert {"Recall@3", "NMI", "AMI"} <= names and "Recall@1" not in names
    assert len(report.points) == 5
    none = measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, clusters=False, points=0)).report
    assert "NMI" not in {figure.name for figure in none.figures} and not none.points


def test_every_difference_is_listed_and_nothing_is_embedded(
    birds: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    (birds / "images/101.Bird/0.jpg").unlink()
    shutil.copy(birds / "images/102.Bird/0.jpg", birds / "images/extra.jpg")
    run = Run(cache=tmp_path / "cache")
    with pytest.raises(ProtocolError) as caught:
        measure_protocol("cub", birds, embedder, card=CARD, run=run)
    message = str(caught.value)
    listed = [line for line in message.splitlines() if line.startswith("  - ")]
    assert len(listed) == 3
    assert listed[0] == "  - 1 missing: images/101.Bird/0.jpg"
    assert listed[1] == "  - 1 that no list names: images/extra.jpg"
    assert "29" in listed[2] and "30" in listed[2] and "test" in listed[2]
    assert str(birds) in message and "--anyway" in message
    assert embedder.seen == 0
    assert not (tmp_path / "cache").exists()

    report = measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, anyway=True)).report
    assert report.title == "CUB-200-2011 (non-standard)"
    assert [f"  - {difference}" for difference in report.differences] == listed
    assert report.queries == TEST - 1


def test_the_published_counts_are_what_a_folder_is_held_to(tmp_path: Path, embedder: ColourEmbedder) -> None:
    root = write_birds(tmp_path / "birds", each=2)
    with pytest.raises(ProtocolError, match=r"5,924") as caught:
        measure_protocol("cub", root, embedder, card=CARD, run=Run(cache=tmp_path / "cache"))
    assert "5,864" in str(caught.value) and embedder.seen == 0


def test_boxes_are_cut_to_and_are_a_difference(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    run = Run(cache=tmp_path / "cache", boxes=True)
    with pytest.raises(ProtocolError, match="images are cut to their annotated boxes"):
        measure_protocol("cub", birds, embedder, card=CARD, run=run)
    assert embedder.seen == 0
    measured = measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, anyway=True))
    whole = measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, boxes=False))
    assert "non-standard" in measured.report.title and len(measured.report.differences) == 1
    # A bird without its background is of one colour.
    assert measured.report.figure("MAP@R").value == 1.0
    assert whole.report.figure("MAP@R").value < 0.9 and whole.report.differences == []
    assert embedder.seen == 2 * TEST


def test_an_image_that_cannot_be_decoded_is_a_difference(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    (birds / "images/101.Bird/0.jpg").write_bytes(b"no picture")
    (birds / "images/001.Bird/0.jpg").write_bytes(b"no picture either, and not looked at")
    run = Run(cache=tmp_path / "cache")
    with pytest.raises(ProtocolError, match=r"  - 1 images? cannot be used \(101.Bird/0.jpg: .+\)"):
        measure_protocol("cub", birds, embedder, card=CARD, run=run)
    report = measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, anyway=True)).report
    assert embedder.seen == TEST - 1
    assert "non-standard" in report.title and "101.Bird/0.jpg" in report.differences[0]
    assert [id for id, _ in report.rejected] == ["101.Bird/0.jpg"]
    assert (report.queries, report.gallery) == (TEST - 1, TEST - 1)


def test_images_that_cannot_be_used_are_not_taken_for_each_other(
    birds: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    before = measure_protocol("cub", birds, embedder, card=CARD, run=Run(cache=tmp_path / "cache")).report
    for name in ("101.Bird/0.jpg", "102.Bird/0.jpg"):
        (birds / "images" / name).write_bytes(name.encode())
    run = Run(cache=tmp_path / "cache", anyway=True)
    report = measure_protocol("cub", birds, embedder, card=CARD, run=run).report
    assert len(report.rejected) == 2 and report.leaks == before.leaks and report.conflicts == before.conflicts


def test_leakage_from_training_is_found_by_the_bytes(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    shutil.copy(birds / "images/101.Bird/3.jpg", birds / "images/001.Bird/7.jpg")
    shutil.copy(birds / "images/101.Bird/4.jpg", birds / "images/102.Bird/5.jpg")
    shutil.copy(birds / "images/001.Bird/0.jpg", birds / "images/001.Bird/1.jpg")
    report = measure_protocol("cub", birds, embedder, card=CARD, run=Run(cache=tmp_path / "cache")).report
    of_bytes = {(pair.first, pair.second): pair for pair in report.pairs if pair.kind == "same bytes"}
    assert {names: pair.where for names, pair in of_bytes.items()} == {
        ("001.Bird/7.jpg", "101.Bird/3.jpg"): "train/test",
        ("101.Bird/4.jpg", "102.Bird/5.jpg"): "test/test",
        ("001.Bird/0.jpg", "001.Bird/1.jpg"): "train/train",
    }
    assert report.pairs[0].where == "train/test"  # it harms most: of another class, and across the split
    assert report.pairs[0].labels == ("001.Bird", "101.Bird") and report.pairs[0].conflicting
    assert embedder.seen == TEST - 1  # training images are read, and not embedded


def test_a_second_run_embeds_nothing_and_says_the_same(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    run = Run(cache=tmp_path / "cache")
    first = measure_protocol("cub", birds, embedder, card=CARD, run=run)
    again = measure_protocol("cub", birds, embedder, card=CARD, run=run)
    assert embedder.seen == TEST
    assert again.queries.equals(first.queries)
    assert replace(again.report, about=None) == replace(first.report, about=None)
    # Another task embeds only what the first did not.
    measure_protocol("cub", birds, embedder, card=CARD, run=replace(run, task="classification"))
    assert embedder.seen == TRAIN + TEST
    third = measure_protocol("cub", birds, embedder, card=CARD, run=run).report
    assert third.embedder["runtimes"] == {"numpy": TEST}  # of its own vectors, not of all that are kept


@pytest.mark.usefixtures("fours")
def test_an_interrupted_run_goes_on_where_it_was(birds: Path, tmp_path: Path) -> None:
    class Interrupted(ColourEmbedder):
        calls = 0

        def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().embed(images, prepared=prepared)

    run = Run(cache=tmp_path / "cache")
    stopped, whole = Interrupted(), ColourEmbedder()
    with pytest.raises(KeyboardInterrupt):
        measure_protocol("cub", birds, stopped, card=CARD, run=run)
    assert 0 < stopped.seen < TEST
    measured = measure_protocol("cub", birds, whole, card=CARD, run=run)
    assert stopped.seen + whole.seen == TEST
    fresh = measure_protocol("cub", birds, ColourEmbedder(), card=CARD, run=Run(cache=tmp_path / "other"))
    assert measured.queries.equals(fresh.queries)


class Grey(ColourEmbedder):
    """Sees brightness alone."""

    def __init__(self) -> None:
        super().__init__("grey grid")

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        grey = [np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) for image in images]
        return super().embed(grey, prepared=prepared)


def test_the_frozen_backbone_stands_beside(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    run, untrained = Run(cache=tmp_path / "cache", clusters=True), Grey()
    said: list[str] = []
    report = measure_protocol(
        "cub", birds, embedder, card=CARD, run=run, frozen=lambda: untrained, notice=said.append
    ).report
    alone = measure_protocol("cub", birds, Grey(), card=CARD, run=run).report
    assert report.frozen == alone.figures
    assert [figure.name for figure in report.frozen or ()] == [figure.name for figure in report.figures]
    assert report.frozen != report.figures
    assert report.frozen_note == (
        f"colours, {untrained.dim} dimensions, at the {report.embedder['image_size']} px of the trained embedder, "
        f"digest {untrained.digest[:12]}"
    )
    assert any("frozen" in text for text in said)
    of = {figure.name: figure.value for figure in report.figures}
    before = {figure.name: figure.value for figure in report.frozen or ()}
    assert [gain.name for gain in report.gains] == [name for name in of if name not in ("NMI", "AMI")]
    for gain in report.gains:
        assert gain.difference == pytest.approx(of[gain.name] - before[gain.name], abs=1e-12)
        assert gain.low is not None and gain.high is not None and gain.low <= gain.difference <= gain.high
        assert 0 < gain.p <= 1
    assert report.embedder["runtimes"] == {"numpy": TEST}  # of the embedder itself
    plain = measure_protocol("cub", birds, embedder, card=CARD, run=run).report
    assert plain.figures == report.figures
    assert (plain.frozen, plain.frozen_note, plain.gains) == (None, None, ())


def test_a_frozen_backbone_that_cannot_be_had_is_told(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    def lost() -> ColourEmbedder:
        raise EmbedderError("there is no network")

    run = Run(cache=tmp_path / "cache")
    report = measure_protocol("cub", birds, embedder, card=CARD, run=run, frozen=lost).report
    assert report.frozen is None and report.gains == ()
    assert report.frozen_note == "the same backbone frozen could not be measured: there is no network"
    assert report.queries == TEST


def test_classification_is_the_vote_of_the_nearest_training_images(
    birds: Path, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    run = Run(cache=tmp_path / "cache", task="classification")
    measured = measure_protocol("cub", birds, embedder, card=CARD, run=run)
    report = measured.report
    half = 5 * EACH // 2
    assert (report.queries, report.gallery, report.class_count, embedder.seen) == (half, half, 5, 2 * half)

    listed = [(f"{name:03d}.Bird", number) for name in BIRDS for number in range(EACH)]
    train, test = ([one for one in listed if one[1] % 2 == side] for side in (1, 0))
    from_train, from_test = (
        vectors_of([birds / f"images/{name}/{number}.jpg" for name, number in part]) for part in (train, test)
    )
    right = 0
    rows = {row["id"]: row for row in measured.queries.to_pylist()}
    for (name, number), vector in zip(test, from_test, strict=True):
        similarities = from_train @ vector
        votes: dict[str, float] = {}
        for at in np.argsort(-similarities)[:20]:
            votes[train[at][0]] = votes.get(train[at][0], 0.0) + float(np.exp(similarities[at] / 0.07))
        best = max(votes, key=lambda label: votes[label])
        row = rows[f"{name}/{number}.jpg"]
        assert (row["label"], row["predicted"]) == (name, best)
        assert row["confidence"] == pytest.approx(votes[best] / sum(votes.values()), abs=1e-5)
        right += best == name
    assert report.figure("Top-1 accuracy").value == pytest.approx(right / half)
    assert half // 5 < right < half
    assert report.classification is not None
    assert sum(count for *_, count in report.classification.confused) == half - right


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("nope", None, r"there is no protocol 'nope'; choose one of cub, .*sketchy"),
        ("cub", "nope", r"cub has no task 'nope'; choose one of retrieval, classification"),
    ],
)
def test_an_unknown_protocol_or_task_names_those_there_are(
    name: str, task: str | None, message: str, tmp_path: Path, embedder: ColourEmbedder
) -> None:
    with pytest.raises(InputError, match=message):
        measure_protocol(name, tmp_path, embedder, card=CARD, run=Run(task=task))


def test_a_root_that_is_no_folder_says_what_is_wanted(tmp_path: Path, embedder: ColourEmbedder) -> None:
    (tmp_path / "file").write_text("")
    for name, message in (("nowhere", "is not there"), ("file", "is no folder")):
        with pytest.raises(ProtocolError, match=rf"{name} {message}; .*CUB-200-2011.*images.txt"):
            measure_protocol("cub", tmp_path / name, embedder, card=CARD)


def test_a_cache_that_cannot_be_written_is_one_sentence(
    birds: Path, tmp_path: Path, embedder: ColourEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match=r"^cannot write .*file/below.*$"):
        measure_protocol("cub", birds, embedder, card=CARD, run=Run(cache=tmp_path / "file" / "below"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CatalogueError, match=r"^the disk is full: .*\.parquet was not written; free some space"):
        measure_protocol("cub", birds, embedder, card=CARD, run=Run(cache=tmp_path / "cache"))


def test_a_damaged_cache_names_the_file_to_delete(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    run = Run(cache=tmp_path / "cache")
    whole = measure_protocol("cub", birds, embedder, card=CARD, run=run)
    (part,) = VectorCache(tmp_path / "cache" / embedder.digest, embedder.dim).parts()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DamagedError, match=r"part-.*\.parquet is damaged; delete it and run again"):
        measure_protocol("cub", birds, embedder, card=CARD, run=run)
    part.unlink()
    assert measure_protocol("cub", birds, embedder, card=CARD, run=run).queries.equals(whole.queries)
    assert embedder.seen == 2 * TEST


def test_two_at_once_are_told_busy(birds: Path, tmp_path: Path, embedder: ColourEmbedder) -> None:
    run = Run(cache=tmp_path / "cache")
    folder = tmp_path / "cache" / embedder.digest
    folder.mkdir(parents=True)
    with held(lock_of(folder), folder), pytest.raises(BusyError, match=r"another process is writing .*cache"):
        measure_protocol("cub", birds, embedder, card=CARD, run=run)
    assert embedder.seen == 0
    assert measure_protocol("cub", birds, embedder, card=CARD, run=run).report.queries == TEST
