"""Measure an embedder by a published protocol: read the split, embed it, evaluate, look for leakage."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.embedding import embed_apart, own_cache
from indexer.embeds import Embeds
from indexer.evaluation import Measured, Progress, with_pairs
from indexer.frozen_row import with_frozen_row
from indexer.pipeline import Outcome
from indexer.report_pictures import PICTURE_SIZE
from indexer.report_words import count, left_out
from retrieval import images
from retrieval.conversions import cache_folder
from retrieval.datasets.cuts import CutSource
from retrieval.datasets.protocol import Protocol, Task, differences
from retrieval.datasets.protocols import PROTOCOLS
from retrieval.errors import ImageError, InputError, NotFoundError, ProtocolError
from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled
from retrieval.recognition import (
    AUTO,
    BY_VOTE,
    HEAD,
    KNN,
    Classifier,
    Classifies,
    check_head,
    choose_classifier,
    other_classes,
    recognise,
    recognise_by_head,
)
from retrieval.report import NON_STANDARD, Report
from retrieval.twins import same_bytes

SOME: Final = 5
CLASSIFICATION: Final = "classification"


@dataclass(frozen=True)
class Run:
    """How a protocol is run.

    Attributes:
        task: of the protocol; None: its first.
        boxes: whether images are cut to their annotated boxes.
        anyway: whether a folder that differs from the protocol is measured all the same, as non-standard.
        ks: values of K; None: the protocol's own.
        clusters: see ``retrieval.evaluation.Question``.
        points: of the embedding map, 0 for none.
        cache: where vectors are kept; None: in the user's cache folder.
        device: where neighbours are computed.
        runtime: what computes the vectors, where it was named: its vectors are then kept apart from all others.
        classifier: what says the class of an image in classification: "knn", or "head", the embedder's own; see
            ``retrieval.recognition.choose_classifier``.
    """

    task: str | None = None
    boxes: bool = False
    anyway: bool = False
    ks: Sequence[int] | None = None
    clusters: bool | None = None
    points: int = 1500
    cache: Path | None = None
    device: str = "cpu"
    runtime: str | None = None
    classifier: Classifier = KNN

    @property
    def folder(self) -> Path | None:
        """Where the vectors are, None for the usual place."""
        if self.runtime is None:
            return self.cache
        return (self.cache or cache_folder() / "vectors") / self.runtime


def find_task(name: str, task: str | None) -> tuple[Protocol, str, Task]:
    """Look a protocol and one of its tasks up.

    Raises:
        InputError: there is no such protocol or task; the message names those that there are.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    chosen = task or next(iter(protocol.tasks))
    if chosen not in protocol.tasks:
        raise InputError(f"{name} has no task {chosen!r}; choose one of {', '.join(protocol.tasks)}")
    return protocol, chosen, protocol.tasks[chosen]


def check_root(protocol: Protocol, root: Path) -> None:
    """Raise ProtocolError where the folder of a benchmark is not there, or is a file."""
    if not root.is_dir():
        what = "is no folder" if root.exists() else "is not there"
        raise ProtocolError(
            f"{root} {what}; give the folder of {protocol.title} as it was published. {protocol.layout}"
        )


def fitting_classifier(
    name: str, root: Path, embedder: Embeds, run: Run, *, description: dict[str, Any], notice: Callable[[str], object]
) -> Classifier:
    """Choose what says the class of an image, where nobody has: the better one by training, if it can here.

    Args:
        name: a key of ``PROTOCOLS``.
        root: folder of the benchmark.
        embedder: to measure.
        run: how; its classifier is not looked at.
        description: what ``model.json`` of the embedder holds.
        notice: told in a sentence why the better one is not taken.

    Raises:
        InputError: there is no such protocol or task.
        ProtocolError: the folder is no such benchmark.
    """
    classifier = choose_classifier(AUTO, description)
    protocol, chosen, task = find_task(name, run.task)
    if classifier != HEAD or chosen != CLASSIFICATION or not isinstance(embedder, Classifies):
        return classifier
    check_root(protocol, root)
    split = _Split(root, task.read(root, run.boxes or task.boxes).table, task, classification=True)
    other = other_classes(embedder, split.searched_labels())
    if other:
        notice(f"{other}; so the class is said {BY_VOTE}")
        return KNN
    return classifier


def measure_protocol(
    name: str,
    root: Path,
    embedder: Embeds,
    *,
    card: dict[str, Any],
    run: Run = Run(),
    frozen: Callable[[], Embeds] | None = None,
    progress: Progress = lambda done, total, rejected: None,
    ranking: Callable[[int, int], object] = lambda done, total: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Measured:
    """Measure an embedder on a benchmark, exactly as its protocol says.

    Vectors go into a cache by the SHA-256 of the image bytes, so a run that was stopped goes on where it was, and
    another task of the same images embeds nothing.

    Args:
        name: a key of ``PROTOCOLS``.
        root: folder of the benchmark, laid out as it was published.
        embedder: to measure.
        card: of the embedder, for the report.
        run: how.
        frozen: gives the same backbone with nothing trained, where the embedder is trained; its figures stand beside.
            What it raises is told in the report.
        progress: called with images embedded, images in all, images refused so far.
        ranking: called with queries ranked and queries in all.
        notice: told in a sentence what takes long.

    Raises:
        InputError: there is no such protocol or task, nothing to measure, or no head for the classes of the protocol.
        ProtocolError: the folder is no such benchmark, or differs from it and ``run.anyway`` is not set.
        BusyError: another process embeds with this embedder into the same cache.
    """
    started = time.monotonic()
    protocol, chosen, task = find_task(name, run.task)
    check_root(protocol, root)
    reading = task.read(root, run.boxes or task.boxes)
    found = differences(task, reading, boxes=run.boxes)
    _check(name, root, found, anyway=run.anyway)
    recognised = chosen == CLASSIFICATION
    own = whole = _Split(root, reading.table, task, classification=recognised)
    head, coarser = None, task.coarser(root) if recognised and task.coarser is not None else None
    if recognised and run.classifier == HEAD:
        head = check_head(embedder, whole.searched_labels())
        own = _Split(root, reading.table, task, classification=True, alone=True)
    question = Question(
        title=protocol.title,
        protocol=task.rule,
        task=chosen,
        metric=task.metric,
        ks=run.ks or task.ks,
        clusters=run.clusters,
        points=run.points,
        findings=True,
    )

    def answer(
        embedder: Embeds, head: Classifies | None, question: Question, card: dict[str, Any]
    ) -> tuple[Report, pa.Table, list[Outcome]]:
        split = whole if head is None else own
        outcomes, vectors = _embed(split, embedder, run, progress, notice)
        refused = [(split.ids[outcome.position], outcome.reason) for outcome in outcomes if outcome.reason is not None]
        told = [*found, _unusable(refused)] if refused else found
        _check(name, root, told, anyway=run.anyway)
        title = f"{question.title}{NON_STANDARD if told else ''}"
        queries, gallery = split.sides(outcomes, vectors)
        asked = replace(question, title=title, differences=told)
        if head is not None:
            report, table = recognise_by_head(queries, head, question=asked, embedder=card, coarser=coarser)
        elif recognised:
            report, table = recognise(
                queries, gallery, question=asked, embedder=card, coarser=coarser, device=run.device
            )
        else:
            report, table = evaluate(
                queries, gallery, question=asked, embedder=card, device=run.device, progress=ranking
            )
        if report.left_out:
            apart = f"{count(report.left_out, 'query', 'queries')} {left_out(report.gallery)}"
            told = [*told, f"{apart}, not in the mean"]
            _check(name, root, told, anyway=run.anyway)
            report = replace(report, title=question.title + NON_STANDARD, differences=told)
        used = pa.array([outcome.sha256 for outcome in outcomes if outcome.reason is None], pa.binary())
        runtimes = own_cache(embedder, run.folder).runtimes(used)
        return replace(report, rejected=refused, embedder={**card, "runtimes": runtimes}), table, outcomes

    report, table, outcomes = answer(embedder, head, question, card)
    plain = replace(question, points=0, findings=False)
    report = with_frozen_row(
        report, table, frozen=frozen, answer=lambda untrained: answer(untrained, None, plain, {})[:2], notice=notice
    )
    if head is not None and report.frozen is not None:
        report = replace(report, frozen_note=f"{report.frozen_note}, {BY_VOTE}, as it has no head")
    notice("looking for pictures that are there twice, training images included")
    ids, parts, labels, digests = _all_images(own, outcomes)
    notes = list(protocol.notes)
    unread = sum(digest is None for digest in digests) - len(report.rejected)
    if unread > 0:
        notes.append(f"{unread:,} training images could not be read, and were not compared with the others.")
    report = replace(
        with_pairs(report, same_bytes(ids, parts, labels, digests)),
        about={
            "seconds": round(time.monotonic() - started, 1),
            "notes": notes,
            **{name: list(files) for name, files in (("missing", reading.missing), ("extra", reading.extra)) if files},
        },
    )
    return Measured(report, table, Pictures(root, dict(zip(whole.all_ids, whole.all_uris, strict=True))))


class _Split:
    """A protocol's images, and those of them that are embedded.

    Attributes:
        root: of the benchmark.
        table: ``SPLIT_SCHEMA``, all images.
        all_ids: what each is called: the same name for the same file, and for no other.
        all_uris: theirs.
        ids: of those that are embedded.
        uris: theirs.
    """

    def __init__(self, root: Path, table: pa.Table, task: Task, *, classification: bool, alone: bool = False) -> None:
        self._asked, self._searched = ("test", "train") if classification else ("query", "gallery")
        if classification and "test" not in task.counts:  # iNaturalist's test has no published labels
            self._asked = "val"
        if not classification and task.one_set:
            self._asked = self._searched = "test"
        if alone:  # a classifier searches nothing
            self._searched = self._asked
        self.root, self.table = root, table
        self.all_ids, self.all_uris = _names(table), table.column("uri").to_pylist()
        wanted = pc.is_in(table.column("part"), pa.array([self._asked, self._searched]))
        rows = np.flatnonzero(wanted.to_numpy(zero_copy_only=False)).tolist()
        self.ids = [self.all_ids[row] for row in rows]
        self.uris = [self.all_uris[row] for row in rows]
        chosen = table.take(pa.array(rows, pa.int64()))
        self._parts, self._labels = chosen.column("part").to_pylist(), chosen.column("label").to_pylist()

    def searched_labels(self) -> set[str]:
        """The classes of the images that are searched."""
        return {label for label, part in zip(self._labels, self._parts, strict=True) if part == self._searched}

    def sides(self, outcomes: Sequence[Outcome], vectors: np.ndarray) -> tuple[Labelled, Labelled]:
        """Queries and gallery of what could be embedded; one object where they are one set."""
        sides = []
        for part in (self._asked, self._searched):
            rows = [o.position for o in outcomes if o.reason is None and self._parts[o.position] == part]
            sides.append(Labelled(vectors[rows], [self.ids[row] for row in rows], [self._labels[row] for row in rows]))
            if self._asked == self._searched:
                return sides[0], sides[0]
        return sides[0], sides[1]


def _names(table: pa.Table) -> list[str]:
    """Ids of a table's rows; where one stands for two different files, the part goes before it."""
    ids, uris, parts = (table.column(name).to_pylist() for name in ("id", "uri", "part"))
    meant: dict[str, str] = {}
    twice = {id for id, uri in zip(ids, uris, strict=True) if meant.setdefault(id, uri) != uri}
    return [f"{part}/{id}" if id in twice else id for id, part in zip(ids, parts, strict=True)]


def _unusable(refused: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{id}: {reason}" for id, reason in refused[:SOME])
    return f"{count(len(refused), 'image')} cannot be used ({named}{', ...' if len(refused) > SOME else ''})"


def _check(name: str, root: Path, found: Sequence[str], *, anyway: bool) -> None:
    if found and not anyway:
        listed = "\n".join(f"  - {difference}" for difference in found)
        raise ProtocolError(
            f"{root} is not {name} as it was published, so its number would not compare:\n{listed}\n"
            "mend the folder, or give --anyway for a number that is marked as non-standard"
        )


def _embed(
    split: _Split, embedder: Embeds, run: Run, progress: Progress, notice: Callable[[str], object]
) -> tuple[list[Outcome], np.ndarray]:
    """Embed what is not in the cache: outcomes in the order of the uris, and (n, dim) float16."""
    refused = 0

    def on_done(outcome: Outcome) -> None:
        nonlocal refused
        refused += outcome.reason is not None
        progress(outcome.position + 1, len(split.uris), refused)

    with CutSource(split.root) as source:
        return embed_apart(source, split.uris, embedder, folder=run.folder, progress=on_done, notice=notice)


def _all_images(
    split: _Split, outcomes: Sequence[Outcome]
) -> tuple[list[str], list[str], list[str | None], list[bytes | None]]:
    """Ids, parts, labels and SHA-256 of every image of the benchmark, those of training included."""
    known: dict[str, bytes | None] = {
        uri: outcome.sha256 if outcome.reason is None else None
        for uri, outcome in zip(split.uris, outcomes, strict=True)
    }
    others = [uri for uri in dict.fromkeys(split.all_uris) if uri not in known]
    with CutSource(split.root) as source:
        for uri, data in zip(others, source.read_many(others), strict=True):
            known[uri] = None if isinstance(data, ImageError) else hashlib.sha256(data).digest()
    parts, labels = split.table.column("part").to_pylist(), split.table.column("label").to_pylist()
    return split.all_ids, parts, labels, [known[uri] for uri in split.all_uris]


class Pictures:
    """Small pictures of a benchmark's images, by their ids.

    Args:
        root: of the benchmark.
        uris: id → uri.
    """

    def __init__(self, root: Path, uris: dict[str, str]) -> None:
        self._root, self._uris = root, uris

    def __call__(self, id: str, size: int = PICTURE_SIZE) -> bytes:
        """Give a JPEG; raises ImageError or NotFoundError."""
        if id not in self._uris:
            raise NotFoundError(f"there is no image {id}")
        with CutSource(self._root) as source:
            return images.thumbnail(source.read(self._uris[id]), size=size)
