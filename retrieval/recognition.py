"""Recognition: what class an image is of, by its nearest training images or by a classifier head → a Report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from retrieval.classification import (
    calibration_error,
    confusion,
    knn_vote,
    most_confused,
    precision_recall_f1,
    predict,
    softmax,
    sum_up,
)
from retrieval.errors import InputError
from retrieval.evaluation import Question, class_rows, figures_of, nearest
from retrieval.labelled import Coded, Labelled, code, code_alone
from retrieval.model_card import TRAINING
from retrieval.processes import own_device
from retrieval.report import Classification, Figure, Report

HEAD: Final = "head"
KNN: Final = "knn"
AUTO: Final = "auto"
Classifier = Literal["knn", "head"]
CLASSIFIERS: Final = (AUTO, KNN, HEAD)
"""What says the class of an image; "auto" is what training found the better one of the two."""
VOTERS: Final = 20
"""Nearest training images that vote, as in DINO's evaluation (Caron et al., ICCV 2021)."""
BY_VOTE: Final = f"by the vote of the {VOTERS} nearest training images"
NUMBERS: Final = 1 << 22  # of probabilities at a time: 32 MiB
CONFUSED: Final = 50
TOP: Final = (1, 5)
COARSE: Final = "Coarse accuracy"
NOWHERE: Final = int(np.iinfo(np.int64).max)

PREDICTIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # its class
        pa.field("label", pa.string(), nullable=False),
        # the most probable class, and its probability or the share of the vote that it has
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        # the place of the right class by its probability, from 1, equal ones in the order of the labels; null: it has
        # none
        pa.field("place", pa.int64()),
        # its coarse class, and the most probable one; null where the protocol has no coarse classes, the second also
        # where none has a vote
        pa.field("coarse_label", pa.string()),
        pa.field("coarse_predicted", pa.string()),
    ]
)
"""A measured query a row, ascending by id: enough to compute the confusion and every figure again."""


@runtime_checkable
class Classifies(Protocol):
    """What is asked of an embedder that has a classifier head; ``retrieval.embedder.Embedder`` is one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What the head tells apart, sorted; () without a head."""
        ...

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Say how probable each class is, as logarithms up to a number a row: (n, dim) → (n, classes) float32."""
        ...


def choose_classifier(wanted: str, description: Mapping[str, Any]) -> Classifier:
    """Resolve "auto" to what training found the better on its validation images, "knn" where it says nothing.

    Args:
        wanted: one of ``CLASSIFIERS``.
        description: what ``model.json`` of the embedder holds.

    Raises:
        InputError: there is no such classifier.
    """
    if wanted not in CLASSIFIERS:
        raise InputError(f"there is no classifier {wanted!r}; choose one of {', '.join(CLASSIFIERS)}")
    if wanted == AUTO:
        training = description.get("provenance", {}).get(TRAINING)
        wanted = str(training.get("classifier")) if isinstance(training, Mapping) else KNN
    return HEAD if wanted == HEAD else KNN


def check_head(embedder: object, labels: Iterable[str]) -> Classifies:
    """Check that an embedder has a head that tells just these classes apart.

    Args:
        embedder: any.
        labels: the classes, in any order.

    Returns:
        The embedder.

    Raises:
        InputError: it has no head, or one of other classes.
    """
    if not isinstance(embedder, Classifies) or not embedder.classes:
        raise InputError("this embedder has no classifier head; choose --classifier knn")
    other = other_classes(embedder, labels)
    if other:
        raise InputError(f"{other}; choose --classifier knn, or train with the classes of these images")
    return embedder


def other_classes(embedder: Classifies, labels: Iterable[str]) -> str:
    """Say in a clause how the classes of an embedder's head differ from others; "" where they are the same.

    Args:
        embedder: with a head.
        labels: the classes, in any order.
    """
    asked, known = set(labels), set(embedder.classes)
    for classes, wrong in (
        (asked - known, "there are training images of {}, which it does not know"),
        (known - asked, "it knows {}, of which there are no training images"),
    ):
        if classes:
            some = min(classes) + (f" and {len(classes) - 1:,} more" if len(classes) > 1 else "")
            return f"the classifier head of this embedder is of other classes: {wrong.format(some)}"
    return ""


def recognise(
    queries: Labelled,
    train: Labelled,
    *,
    question: Question,
    embedder: dict[str, Any],
    coarser: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> tuple[Report, pa.Table]:
    """Classify queries by their nearest training images, weighted by similarity, and measure how well that goes.

    Nothing is trained, so it measures the embedding. The share of the vote is the confidence; it is not calibrated.

    Args:
        queries: of the test split.
        train: of the training split.
        question: what is asked; its ks and metric are not looked at.
        embedder: the card of what made the vectors, for the report.
        coarser: class → coarse class; a class that is not in it stands for itself. None: there are no coarse classes.
        device: where neighbours are computed.

    Returns:
        The report, and ``PREDICTIONS_SCHEMA``.

    Raises:
        InputError: there is nothing to measure, or an id that stands twice on one side.
    """
    coded = code(queries, train)
    neighbours, similarities = nearest(coded, VOTERS, own_device(device))
    codes = np.where(neighbours >= 0, coded.gallery_codes[neighbours], -1)

    def votes(some: slice) -> np.ndarray:
        return knn_vote(codes[some], similarities[some], len(coded.names))

    answers = _answers(coded, votes, coarser)
    return _report(queries, coded, answers, question, embedder, BY_VOTE)


def recognise_by_head(
    queries: Labelled,
    head: Classifies,
    *,
    question: Question,
    embedder: dict[str, Any],
    coarser: Mapping[str, str] | None = None,
) -> tuple[Report, pa.Table]:
    """Classify queries by a classifier head, and measure how well that goes; nothing is searched.

    Args:
        queries: of the test split; those of a class that the head does not know are left out.
        head: gives the probabilities.
        question: as for ``recognise``.
        embedder: as for ``recognise``.
        coarser: as for ``recognise``.

    Returns:
        The report, and ``PREDICTIONS_SCHEMA``.

    Raises:
        InputError: there is nothing to measure, or an id that stands twice.
    """
    coded = code_alone(queries, head.classes)
    answers = _answers(coded, lambda some: softmax(head.logits(coded.queries[some])), coarser)
    return _report(queries, coded, answers, question, embedder, "by the embedder's own classifier head")


@dataclass(frozen=True)
class _Answers:
    """What was said of each measured query.

    Attributes:
        predicted: (q,) int64, places in the labels.
        confidence: (q,) float64, of the predicted class.
        place: (q,) int64, of the right class, ``NOWHERE`` where it has no probability at all.
        coarse: (right, predicted) of the coarse classes, None where there is no vote; None where there are none.
    """

    predicted: np.ndarray
    confidence: np.ndarray
    place: np.ndarray
    coarse: tuple[list[str], list[str | None]] | None


def _answers(coded: Coded, probabilities: Callable[[slice], np.ndarray], coarser: Mapping[str, str] | None) -> _Answers:
    """Ask for (k, c) probabilities of some queries at a time."""
    classes, n = len(coded.names), len(coded.query_codes)
    predicted, confidence, place = np.empty(n, np.int64), np.empty(n), np.empty(n, np.int64)
    above = [coarser.get(name, name) for name in coded.names] if coarser is not None else []
    coarse_names, up = np.unique(np.array(above, dtype=object), return_inverse=True)
    coarse = np.full(n, -1)
    step = max(1, NUMBERS // classes)
    for start in range(0, n, step):
        some = slice(start, start + step)
        shares = probabilities(some)
        predicted[some], confidence[some] = predict(shares), shares.max(axis=1)
        own = np.take_along_axis(shares, coded.query_codes[some][:, None], axis=1)
        earlier = (shares == own) & (np.arange(classes) < coded.query_codes[some][:, None])
        # A class that nobody voted for is at no place: it is not recognised for coming early in the alphabet.
        place[some] = np.where(own[:, 0] > 0, 1 + ((shares > own) | earlier).sum(axis=1), NOWHERE)
        if above:
            summed = sum_up(shares, up)
            coarse[some] = np.where(summed.max(axis=1) > 0, predict(summed), -1)
    both = None
    if above:
        right = [above[at] for at in coded.query_codes.tolist()]
        both = right, [coarse_names[at] if at >= 0 else None for at in coarse.tolist()]
    return _Answers(predicted, confidence, place, both)


def _report(
    queries: Labelled, coded: Coded, answers: _Answers, question: Question, embedder: dict[str, Any], how: str
) -> tuple[Report, pa.Table]:
    predicted, place, n = answers.predicted, answers.place, len(coded.query_codes)
    # Ten thousand classes would make a matrix of 800 MB, so only those that occur are counted.
    seen, small = np.unique(np.concatenate([predicted, coded.query_codes]), return_inverse=True)
    confused = confusion(small[:n], small[n:], len(seen))
    means = precision_recall_f1(confused)
    measured = {f"Top-{k} accuracy": place <= k for k in TOP}
    coarse: tuple[pa.Array, pa.Array] = (pa.nulls(n, pa.string()), pa.nulls(n, pa.string()))
    if answers.coarse is not None:
        measured[COARSE] = np.array([is_so == said for is_so, said in zip(*answers.coarse, strict=True)])
        coarse = (pa.array(answers.coarse[0], pa.string()), pa.array(answers.coarse[1], pa.string()))
    values = np.stack(list(measured.values()), axis=1).astype(np.float64)
    figures = figures_of(list(measured), values, coded.query_codes)
    # Over all queries together each of them is the accuracy, so only the means over classes say something new.
    for name, macro in zip(("precision", "recall", "F1"), means.macro.tolist(), strict=True):
        figures.append(Figure(f"Macro {name}", macro, None, None, None, None))
    calibration = calibration_error(np.minimum(answers.confidence, 1.0), place == 1)
    most = most_confused(predicted, coded.query_codes, CONFUSED)
    labels = [coded.names[at] for at in coded.query_codes.tolist()]
    table = pa.table(
        [
            [queries.ids[at] for at in coded.places.tolist()],
            labels,
            [coded.names[at] for at in predicted.tolist()],
            answers.confidence,
            pa.array(place, pa.int64(), mask=place == NOWHERE),
            *coarse,
        ],
        schema=PREDICTIONS_SCHEMA,
    )
    return Report(
        title=question.title,
        protocol=f"{question.protocol.rstrip('.')}; class {how}",
        differences=list(question.differences),
        task=question.task,
        embedder=embedder,
        figures=figures,
        curve=[],
        classes=class_rows(values, coded),
        class_count=len(np.unique(coded.query_codes)),
        queries=n,
        left_out=coded.left_out,
        unlabelled=coded.unlabelled,
        gallery=len(coded.gallery),
        classification=Classification(
            confused=[(coded.names[right], coded.names[taken], number) for right, taken, number in most],
            bins=calibration.bins,
            calibration_error=calibration.error,
        ),
    ), table
