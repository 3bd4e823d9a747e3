"""How good labels are: head, vote and fusion side by side, how far confidence can be believed, what is foreign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.answers import LABEL, NONE, UNSURE, Asked, answer
from retrieval.calibration import Calibration, steps
from retrieval.classification import (
    Calibration as Reliability,
)
from retrieval.classification import (
    calibration_error,
    confusion,
    most_confused,
    precision_recall_f1,
    predict,
    top_k_accuracy,
)
from retrieval.conformal import sets
from retrieval.errors import InputError
from retrieval.evaluation import figures_of, mistakes_of
from retrieval.evidence import Evidence
from retrieval.labels import FLOOR, Source, Vocabulary
from retrieval.metrics import by_class
from retrieval.openness import auroc, false_accepts_at
from retrieval.prior import with_factors
from retrieval.recognition import CONFUSED
from retrieval.report import Classification, Figure

COVERAGES: Final = (0.8, 0.9, 0.95, 0.99)
RISK_POINTS: Final = 50
TOP: Final = (1, 5)
FORMAT: Final = "labels 1"

PREDICTIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # its label; of one that the catalogue does not have, too
        pa.field("label", pa.string(), nullable=False),
        # whether the catalogue has that label
        pa.field("in_catalogue", pa.bool_(), nullable=False),
        # the most probable label by the first source, and its probability
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        # probability of being of any label, and the score that it comes from
        pa.field("known", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""A query a row, ascending by id."""


@dataclass(frozen=True)
class Coverage:
    """Sets of labels that were to hold the right one this often.

    Attributes:
        asked: coverage, in (0, 1).
        achieved: share of queries whose set holds their label.
        size: labels of a set in the mean.
        empty: share of sets without a label.
        foreign_empty: the same of queries whose label the catalogue does not have; None where there are none.
    """

    asked: float
    achieved: float
    size: float
    empty: float
    foreign_empty: float | None


@dataclass(frozen=True)
class OfSource:
    """What one source of labels came to.

    Attributes:
        source: "fusion", "knn" or "head".
        figures: Top-1, Top-5, Top-1 of each coarser level and the distance of mistakes in the tree, with intervals;
            macro F1.
        loss: mean negative log probability of the right label, in nats.
        classification: calibration of its confidence, and what it takes for what.
        risk: (share of queries answered, share of wrong answers among them), the surest first.
        risk_area: area under it (AURC; Geifman and El-Yaniv, NeurIPS 2017), lower is better.
        coverages: of sets; empty where too few pictures were held out for them.
    """

    source: Source
    figures: Sequence[Figure]
    loss: float
    classification: Classification
    risk: Sequence[tuple[float, float]]
    risk_area: float
    coverages: Sequence[Coverage]


@dataclass(frozen=True)
class Given:
    """What answers come to as a user gets them, unless something else is asked for: shares of queries of known labels.

    Attributes:
        confidence: least probability of the label that is said.
        whole: the right label is said.
        coarser: a part of it that is right.
        wrong: a label that is wrong.
        unsure: none is probable enough.
        none: they are called none of these.
        foreign_none: the last of queries whose label the catalogue does not have; None where there are none.
    """

    confidence: float
    whole: float
    coarser: float
    wrong: float
    unsure: float
    none: float
    foreign_none: float | None

    def rows(self) -> list[tuple[str, float]]:
        """What is said, and how often."""
        return [
            ("the right label", self.whole),
            ("a coarser one that is right", self.coarser),
            ("a wrong one", self.wrong),
            ("unsure", self.unsure),
            ("none of these", self.none),
        ]


@dataclass(frozen=True)
class LabelReport:
    """Labels, measured.

    Attributes:
        title: of the catalogue.
        protocol: what was asked of what, in words.
        embedder: its card.
        calibration: where it comes from; see ``indexer.calibrating.Kept``.
        sources: the first is what an answer is made of.
        answers: what they come to as they are given.
        classes: (label, queries, share recognised, share recognised within five) by the first source, worst first.
        queries: of labels that the catalogue has.
        foreign: queries of labels that it does not have.
        unlabelled: queries without a label, left out.
        items: that voted.
        labels: of them.
        known_by: the score that tells known from foreign.
        auroc: of known against foreign queries by it; None where there are none.
        fpr_at_95: share of foreign queries that pass where 95 % of the known do; None as before.
        about: command, when, versions.
    """

    title: str
    protocol: str
    embedder: dict[str, Any]
    calibration: dict[str, Any]
    sources: Sequence[OfSource]
    answers: Given
    classes: Sequence[tuple[str, int, float, float]]
    queries: int
    foreign: int
    unlabelled: int
    items: int
    labels: int
    known_by: str
    auroc: float | None
    fpr_at_95: float | None
    about: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class Asking:
    """Labelled queries.

    Attributes:
        ids: n strings.
        labels: of each.
        codes: (n,) int64, places in the vocabulary; -1: a label that it does not have.
        evidence: of each.
        factors: (n, c), what is known besides; None: nothing.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    codes: np.ndarray
    evidence: Evidence
    factors: np.ndarray | None = None


def evaluate_labels(
    asking: Asking, vocabulary: Vocabulary, calibration: Calibration
) -> tuple[dict[str, Any], pa.Table]:
    """Measure labels.

    Args:
        asking: the queries.
        vocabulary: labels that an answer may have.
        calibration: of them.

    Returns:
        The fields of ``LabelReport`` that can be told here, and ``PREDICTIONS_SCHEMA``.

    Raises:
        InputError: no query is of a label that the catalogue has.
    """
    own = np.flatnonzero(asking.codes >= 0)
    if not len(own):
        raise InputError(
            "there is nothing to measure: no query has a label that an item of the catalogue has; how well others are "
            "told from those is measured where there are some of both"
        )
    codes = asking.codes[own]
    first = _shares(asking, vocabulary, calibration, vocabulary.sources[0])
    sources = [_of_source(vocabulary.sources[0], first, asking, own, vocabulary, calibration)]
    for source in vocabulary.sources[1:]:
        shares = _shares(asking, vocabulary, calibration, source)
        sources.append(_of_source(source, shares, asking, own, vocabulary, calibration))
    predicted = predict(first)
    scores = _scores(asking.evidence, vocabulary, calibration)
    known, foreign = scores[own], scores[asking.codes < 0]
    top = top_k_accuracy(first[own], codes, TOP).astype(np.float64)
    seen, counts, means = by_class(top, codes)
    worst = np.lexsort((seen, means[:, 0]))
    labels = vocabulary.labels
    order = np.argsort(np.array(asking.ids, dtype=object), kind="stable")
    table = pa.table(
        [
            list(asking.ids),
            list(asking.labels),
            asking.codes >= 0,
            [labels[code] for code in predicted.tolist()],
            first.max(axis=1),
            calibration.numbers.openness.known(scores),
            scores,
        ],
        schema=PREDICTIONS_SCHEMA,
    ).take(pa.array(order))
    return {
        "sources": sources,
        "answers": _given(asking, own, vocabulary, calibration),
        "classes": [
            (labels[seen[at]], int(counts[at]), float(means[at, 0]), float(means[at, 1])) for at in worst.tolist()
        ],
        "queries": len(own),
        "foreign": len(foreign),
        "labels": len(labels),
        "items": int(vocabulary.counts.sum()),
        "known_by": calibration.numbers.openness.score,
        "auroc": auroc(known, foreign) if len(foreign) else None,
        "fpr_at_95": false_accepts_at(known, foreign) if len(foreign) else None,
    }, table


def _of_source(
    source: Source,
    every: np.ndarray,
    asking: Asking,
    own: np.ndarray,
    vocabulary: Vocabulary,
    calibration: Calibration,
) -> OfSource:
    shares, codes, labels = every[own], asking.codes[own], vocabulary.labels
    predicted, sure = predict(shares), np.minimum(shares.max(axis=1), 1.0)
    right = predicted == codes
    reliability: Reliability = calibration_error(sure, right)
    of_right = np.take_along_axis(shares, codes[:, None], axis=1)[:, 0]
    points, area = risk_coverage(sure, right)
    return OfSource(
        source=source,
        figures=_figures(shares, codes, vocabulary),
        loss=float(-np.log(np.maximum(of_right, FLOOR)).mean()),
        classification=Classification(
            [(labels[true], labels[taken], n) for true, taken, n in most_confused(predicted, codes, CONFUSED)],
            reliability.bins,
            reliability.error,
        ),
        risk=points,
        risk_area=area,
        coverages=_coverages(source, asking, own, vocabulary, calibration),
    )


def _given(asking: Asking, own: np.ndarray, vocabulary: Vocabulary, calibration: Calibration) -> Given:
    asked = Asked()
    table = answer(asking.ids, asking.evidence, vocabulary, calibration, asked=asked, factors=asking.factors)
    kinds = np.array(table.column("answer").to_pylist(), dtype=object)
    said = zip(table.column("label").to_pylist(), asking.labels, strict=True)
    right = np.array([label is not None and f"{true}/".startswith(f"{label}/") for label, true in said])
    same = np.array(pc.fill_null(pc.equal(table.column("label"), pa.array(asking.labels, pa.string())), False))
    told, foreign = kinds[own] == LABEL, kinds[asking.codes < 0]
    return Given(
        confidence=asked.confidence,
        whole=float(np.mean(told & same[own])),
        coarser=float(np.mean(told & right[own] & ~same[own])),
        wrong=float(np.mean(told & ~right[own])),
        unsure=float(np.mean(kinds[own] == UNSURE)),
        none=float(np.mean(kinds[own] == NONE)),
        foreign_none=float(np.mean(foreign == NONE)) if len(foreign) else None,
    )


def _shares(asking: Asking, vocabulary: Vocabulary, calibration: Calibration, source: Source) -> np.ndarray:
    evidence, factors = asking.evidence, asking.factors
    parts = [
        with_factors(
            calibration.numbers.probabilities(evidence.take(some), vocabulary, source),
            None if factors is None else factors[some],
        )
        for some in steps(len(evidence), len(vocabulary.labels))
    ]
    return np.concatenate(parts)


def _scores(evidence: Evidence, vocabulary: Vocabulary, calibration: Calibration) -> np.ndarray:
    some = steps(len(evidence), len(vocabulary.labels))
    return np.concatenate([calibration.numbers.known_scores(evidence.take(part), vocabulary) for part in some])


def _figures(shares: np.ndarray, codes: np.ndarray, vocabulary: Vocabulary) -> list[Figure]:
    """Top-1 and Top-5, Top-1 of the coarser levels by summed probabilities, the distance of mistakes, macro F1."""
    measured = {f"Top-{k}": column for k, column in zip(TOP, top_k_accuracy(shares, codes, TOP).T, strict=True)}
    tree = vocabulary.tree
    sums = tree.sums(shares)
    for depth in range(tree.depth - 1, 0, -1):
        of_label = tree.level(depth)
        nodes = np.unique(of_label)
        if len(nodes) > 1:
            best = nodes[sums[:, nodes].argmax(axis=1)]
            measured[f"Top-1 at level {depth}"] = best == of_label[codes]
    values = np.stack(list(measured.values()), axis=1).astype(np.float64)
    figures = figures_of(list(measured), values, codes)
    predicted = predict(shares)
    # Ten thousand labels would make a matrix of 800 MB, so only those that occur are counted.
    seen, small = np.unique(np.concatenate([predicted, codes]), return_inverse=True)
    macro = precision_recall_f1(confusion(small[: len(codes)], small[len(codes) :], len(seen))).macro[2]
    figures += mistakes_of(predicted, codes, vocabulary.labels)
    return [*figures, Figure("Macro F1", float(macro), None, None, None, None)]


def _coverages(
    source: Source, asking: Asking, own: np.ndarray, vocabulary: Vocabulary, calibration: Calibration
) -> list[Coverage]:
    """What sets come to; ``asked`` only as far as enough pictures were held out."""
    limits: dict[float, float] = {}
    for coverage in COVERAGES:
        try:
            limits[coverage] = calibration.conformal[source].limit(coverage)
        except InputError:
            break
    held = {coverage: np.zeros(len(asking.ids), bool) for coverage in limits}
    sizes = {coverage: np.zeros(len(asking.ids), np.int64) for coverage in limits}
    for some in steps(len(asking.ids), len(vocabulary.labels)):
        found = calibration.of_sets.nonconformities(asking.evidence.take(some), vocabulary, source)
        codes = asking.codes[some]
        for coverage, limit in limits.items():
            within = sets(found, limit)
            sizes[coverage][some] = within.sum(axis=1)
            held[coverage][some] = within[np.arange(len(codes)), np.maximum(codes, 0)]
    foreign = asking.codes < 0
    return [
        Coverage(
            asked=coverage,
            achieved=float(held[coverage][own].mean()),
            size=float(sizes[coverage][own].mean()),
            empty=float((sizes[coverage][own] == 0).mean()),
            foreign_empty=float((sizes[coverage][foreign] == 0).mean()) if foreign.any() else None,
        )
        for coverage in limits
    ]


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """Give the share of wrong answers over the share of queries that are answered, the surest first, and its area.

    Args:
        confidence: (n,).
        right: (n,) bool.

    Returns:
        At most ``RISK_POINTS`` (coverage, risk), and the mean of the risk over all n coverages; equally sure queries
        are answered together.
    """
    order = np.argsort(-confidence, kind="stable")
    n = len(order)
    wrong = np.cumsum(~right[order]) / np.arange(1, n + 1)
    # What is equally sure cannot be told apart: it has the risk at the end of its group.
    last = np.append(np.flatnonzero(np.diff(confidence[order])), n - 1)
    wrong = wrong[last[np.searchsorted(last, np.arange(n))]]
    shown = np.unique(np.linspace(0, n - 1, min(n, RISK_POINTS)).round().astype(int))
    return [((at + 1) / n, float(wrong[at])) for at in shown.tolist()], float(wrong.mean())
