"""Recognition: what class an image is of, by the vote of its nearest training images → a Report."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from retrieval.classification import (
    calibration_error,
    confusion,
    knn_vote,
    precision_recall_f1,
    predict,
)
from retrieval.evaluation import Question, class_rows, figures_of, nearest
from retrieval.labelled import Labelled, code
from retrieval.processes import own_device
from retrieval.report import Classification, Figure, Report

VOTERS: Final = 20
"""Nearest training images that vote, as in DINO's evaluation (Caron et al., ICCV 2021)."""
NUMBERS: Final = 1 << 22  # of votes at a time: 32 MiB
CONFUSED: Final = 50
TOP: Final = (1, 5)
NOWHERE: Final = int(np.iinfo(np.int64).max)

PREDICTIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # its class
        pa.field("label", pa.string(), nullable=False),
        # the most probable class, and the share of the vote that it has
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        # the place of the right class by its share of the vote, from 1, equal shares in the order of the labels;
        # null: it has no vote
        pa.field("place", pa.int64()),
    ]
)
"""A measured query a row, ascending by id: enough to compute the confusion and every figure again."""


def recognise(
    queries: Labelled,
    train: Labelled,
    *,
    question: Question,
    embedder: dict[str, Any],
    device: str = "cpu",
) -> tuple[Report, pa.Table]:
    """Classify queries by their nearest training images, weighted by similarity, and measure how well that goes.

    Nothing is trained, so it measures the embedding. The share of the vote is the confidence; it is not calibrated.

    Args:
        queries: of the test split.
        train: of the training split.
        question: what is asked; its ks and metric are not looked at.
        embedder: the card of what made the vectors, for the report.
        device: where neighbours are computed.

    Returns:
        The report, and ``PREDICTIONS_SCHEMA``.

    Raises:
        InputError: there is nothing to measure, or an id that stands twice on one side.
    """
    coded = code(queries, train)
    neighbours, similarities = nearest(coded, VOTERS, own_device(device))
    codes = np.where(neighbours >= 0, coded.gallery_codes[neighbours], -1)
    classes, n = len(coded.names), len(codes)
    predicted, confidence, place = np.empty(n, np.int64), np.empty(n), np.empty(n, np.int64)
    step = max(1, NUMBERS // classes)
    for start in range(0, n, step):
        some = slice(start, start + step)
        votes = knn_vote(codes[some], similarities[some], classes)
        predicted[some], confidence[some] = predict(votes), votes.max(axis=1)
        own = np.take_along_axis(votes, coded.query_codes[some][:, None], axis=1)
        earlier = (votes == own) & (np.arange(classes) < coded.query_codes[some][:, None])
        # A class that nobody voted for is at no place: it is not recognised for coming early in the alphabet.
        place[some] = np.where(own[:, 0] > 0, 1 + ((votes > own) | earlier).sum(axis=1), NOWHERE)
    # Ten thousand classes would make a matrix of 800 MB, so only those that occur are counted.
    seen, small = np.unique(np.concatenate([predicted, coded.query_codes]), return_inverse=True)
    confused = confusion(small[:n], small[n:], len(seen))
    means = precision_recall_f1(confused)
    values = np.stack([place <= k for k in TOP], axis=1).astype(np.float64)
    figures = figures_of([f"Top-{k} accuracy" for k in TOP], values, coded.query_codes)
    # Over all queries together each of them is the accuracy, so only the means over classes say something new.
    for name, macro in zip(("precision", "recall", "F1"), means.macro.tolist(), strict=True):
        figures.append(Figure(f"Macro {name}", macro, None, None, None, None))
    calibration = calibration_error(np.minimum(confidence, 1.0), place == 1)
    wrong = confused * (1 - np.eye(len(seen), dtype=np.int64))
    most = [at for at in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED].tolist() if wrong.ravel()[at]]
    names = [coded.names[at] for at in seen.tolist()]
    labels = [coded.names[at] for at in coded.query_codes.tolist()]
    table = pa.table(
        [
            [queries.ids[at] for at in coded.places.tolist()],
            labels,
            [coded.names[at] for at in predicted.tolist()],
            confidence,
            pa.array(place, pa.int64(), mask=place == NOWHERE),
        ],
        schema=PREDICTIONS_SCHEMA,
    )
    return Report(
        title=question.title,
        protocol=f"{question.protocol.rstrip('.')}; class by the vote of the {VOTERS} nearest training images",
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
        gallery=len(train.ids),
        classification=Classification(
            confused=[(names[at // len(seen)], names[at % len(seen)], int(wrong.ravel()[at])) for at in most],
            bins=calibration.bins,
            calibration_error=calibration.error,
        ),
    ), table
