"""Probabilities of labels → an answer a picture: a label, a coarser one, "none of these", or a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from retrieval.calibration import Calibration, steps
from retrieval.conformal import sets
from retrieval.errors import InputError
from retrieval.evidence import Evidence
from retrieval.labels import SOURCES, Source, Vocabulary
from retrieval.prior import with_factors
from retrieval.tree import NOWHERE

LABEL: Final = "label"
UNSURE: Final = "unsure"
NONE: Final = "none of these"
COPY: Final = 0.9995
"""Cosine to the nearest item from which a picture is that item's, and so is not of none of the labels."""

ANSWERS_SCHEMA: Final = pa.schema(
    [
        # which picture: the path or id as given
        pa.field("query", pa.string(), nullable=False),
        # "label": `label` is said of it; "unsure": not even a first part is probable enough; "none of these": it looks
        # like no picture of any label
        pa.field("answer", pa.string(), nullable=False),
        # the deepest place in the tree of labels that is at least as probable as asked; null: there is none
        pa.field("label", pa.string()),
        # its probability, in [0, 1], if the picture is of any of the labels; null without a label
        pa.field("confidence", pa.float64()),
        # the most probable whole label at or below `label`, and its probability
        pa.field("likeliest", pa.string(), nullable=False),
        pa.field("likeliest_confidence", pa.float64(), nullable=False),
        # probability, in [0, 1], that the picture is of any of the labels, were others as frequent
        pa.field("known", pa.float64(), nullable=False),
        # labels of which one is right with the coverage asked for, the most probable first; null: none was asked for
        pa.field("set", pa.list_(pa.string())),
        # the most probable labels, with their probabilities
        pa.field(
            "candidates",
            pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())])),
            nullable=False,
        ),
    ]
)
"""A picture a row, in the order given."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of an answer.

    Attributes:
        source: what says the label: "fusion", "knn" or "head"; None: fusion where there is a head, else the vote.
        confidence: least probability of the label that is said, in (0, 1].
        false_accept: share of pictures of unknown labels that may pass for known, in [0, 1]; None: as many as do where
            ``retrieval.openness.KEPT`` of the known ones pass.
        coverage: how often a set of labels shall hold the right one, in (0, 1); None: no sets.
        by_label: whether sets shall do so for the pictures of each label.
        candidates: how many of the most probable labels are given.
    """

    source: Source | None = None
    confidence: float = 0.8
    false_accept: float | None = None
    coverage: float | None = None
    by_label: bool = False
    candidates: int = 5

    def check(self, vocabulary: Vocabulary) -> Source:
        """Give the source, and refuse what cannot be had.

        Raises:
            InputError: a share is none, or there is no such source.
        """
        if not 0 < self.confidence <= 1:
            raise InputError(f"confidence must be above 0 and at most 1, not {self.confidence:g}")
        if self.false_accept is not None and not 0 <= self.false_accept <= 1:
            raise InputError(f"the share of false accepts must be from 0 to 1, not {self.false_accept:g}")
        if self.source is not None and self.source not in SOURCES:
            raise InputError(f"there is no source {self.source!r} of labels; choose one of {', '.join(SOURCES)}")
        if self.source is not None and self.source not in vocabulary.sources:
            raise InputError(
                f"labels by {self.source} need an embedder with a classifier head that knows two labels of the "
                "catalogue at least; lookalike train makes one, or choose knn"
            )
        return self.source or vocabulary.sources[0]


def answer(
    names: Sequence[str],
    evidence: Evidence,
    vocabulary: Vocabulary,
    calibration: Calibration,
    *,
    asked: Asked = Asked(),
    factors: np.ndarray | None = None,
) -> pa.Table:
    """Answer for each picture what it is.

    Args:
        names: what the pictures are called.
        evidence: of them.
        vocabulary: the labels that an answer may have.
        calibration: of them.
        asked: what is wanted.
        factors: (n, c), what is known of each picture besides; see ``retrieval.prior``. Sets do not heed it, since
            they were not calibrated with it.

    Returns:
        ``ANSWERS_SCHEMA``.

    Raises:
        InputError: what is asked for cannot be had.
    """
    source = asked.check(vocabulary)
    tree = vocabulary.tree
    limit = _limit(asked, calibration, vocabulary, source)
    threshold = calibration.numbers.openness.threshold(asked.false_accept)
    labels = np.array(vocabulary.labels, dtype=object)
    nodes = np.array(tree.nodes, dtype=object)
    tables = [ANSWERS_SCHEMA.empty_table()]
    for some in steps(len(evidence), len(labels)):
        part = evidence.take(some)
        shares = calibration.numbers.probabilities(part, vocabulary, source)
        shares = with_factors(shares, None if factors is None else factors[some])
        scores = calibration.numbers.known_scores(part, vocabulary)
        found, sure = tree.answers(shares, asked.confidence)
        likeliest = tree.likeliest_below(shares, found)
        copies = part.similarities[:, 0] >= COPY
        kind = np.where((scores < threshold) & ~copies, NONE, np.where(found == NOWHERE, UNSURE, LABEL))
        best = np.argsort(-shares, axis=1, kind="stable")[:, : asked.candidates]
        probable = np.take_along_axis(shares, best, axis=1)
        rows = range(len(part))
        chosen: list[list[str] | None] = [None] * len(part)
        if limit is not None:
            within = sets(calibration.of_sets.nonconformities(part, vocabulary, source), limit)
            chosen = [_ordered(shares[row], within[row], labels) for row in rows]
        silent = kind != LABEL
        tables.append(
            pa.table(
                [
                    list(names[some]),
                    kind.tolist(),
                    pa.array(nodes[np.maximum(found, 0)].tolist(), pa.string(), mask=silent),
                    pa.array(sure, pa.float64(), mask=silent),
                    labels[likeliest].tolist(),
                    np.take_along_axis(shares, likeliest[:, None], axis=1)[:, 0],
                    np.where(copies, 1.0, calibration.numbers.openness.known(scores)),
                    chosen,
                    [
                        [{"label": labels[at], "probability": p} for at, p in zip(*pair, strict=True)]
                        for pair in zip(best.tolist(), probable.tolist(), strict=True)
                    ],
                ],
                schema=ANSWERS_SCHEMA,
            )
        )
    return pa.concat_tables(tables)


def _limit(asked: Asked, calibration: Calibration, vocabulary: Vocabulary, source: Source) -> float | np.ndarray | None:
    if asked.coverage is None:
        if asked.by_label:
            raise InputError("sets by label need a coverage")
        return None
    conformal = calibration.conformal[source]
    if asked.by_label:
        return conformal.limits(asked.coverage, list(vocabulary.labels))
    return conformal.limit(asked.coverage)


def _ordered(shares: np.ndarray, within: np.ndarray, labels: np.ndarray) -> list[str]:
    places = np.flatnonzero(within)
    return [str(name) for name in labels[places[np.argsort(-shares[places], kind="stable")]]]
