"""Classification: probabilities or neighbours' votes against true classes, which are codes from 0 to c - 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BINS: Final = 15
TEMPERATURE: Final = 0.07


def top_k_accuracy(probabilities: np.ndarray, true: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Say for each query whether its class is among the K most probable; of equal ones, those of lower code come first.

    Args:
        probabilities: (n, c), or any figures of which higher is likelier.
        true: (n,) int64 class codes.
        ks: the values of K, each at least 1; one above c takes all classes.

    Returns:
        (n, len(ks)) bool; top-K accuracy is the mean over queries.
    """
    assert min(ks) >= 1
    own = np.take_along_axis(probabilities, true[:, None], axis=1)  # (n, 1)
    before = (probabilities == own) & (np.arange(probabilities.shape[1]) < true[:, None])
    places = np.count_nonzero((probabilities > own) | before, axis=1)  # (n,): classes that come first
    return np.asarray(places[:, None] < np.asarray(ks, dtype=np.int64))


def predict(probabilities: np.ndarray) -> np.ndarray:
    """Give the most probable class of each query, of equal ones that of the lowest code.

    Args:
        probabilities: (n, c).

    Returns:
        (n,) int64 class codes.
    """
    return np.asarray(probabilities.argmax(axis=1).astype(np.int64))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logarithms of probabilities, each row up to a number, into probabilities: (n, c) float64, rows sum to 1."""
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def sum_up(probabilities: np.ndarray, coarser: np.ndarray) -> np.ndarray:
    """Sum the probabilities of classes up to those of the coarser classes that hold them.

    Args:
        probabilities: (n, c), or shares of a vote.
        coarser: (c,) int64, the coarser class of each class; every code from 0 to m - 1 occurs.

    Returns:
        (n, m) float64.
    """
    order = np.argsort(coarser, kind="stable")
    starts = np.flatnonzero(np.diff(coarser[order], prepend=-1))
    return np.asarray(np.add.reduceat(probabilities[:, order], starts, axis=1, dtype=np.float64))


def confusion(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Count how often each class was taken for each.

    Args:
        predicted: (n,) int64 class codes.
        true: (n,) int64 class codes.
        classes: c, how many there are.

    Returns:
        (c, c) int64: row true class, column predicted class.
    """
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_confused(predicted: np.ndarray, true: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Give the pairs of classes that were confused most often: (true, predicted, how often), equal ones by their codes.

    Args:
        predicted: (n,) int64 class codes.
        true: (n,) int64 class codes.
        most: pairs at most.
    """
    wrong = predicted != true
    pairs, count = np.unique(np.stack([true[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-count, kind="stable")[:most]
    return [(*pair, number) for pair, number in zip(pairs[order].tolist(), count[order].tolist(), strict=True)]


@dataclass(frozen=True)
class PrecisionRecallF1:
    """Precision, recall and F1, in [0, 1]: in this order along the last axis.

    Attributes:
        by_class: (c, 3) float64; 0 where nothing divides: precision of a class never predicted, recall of one without
            queries.
        macro: (3,) mean over the classes that have queries or were predicted. F1 is the mean of F1s, not that of the
            mean precision and recall.
        micro: (3,) over all queries together; each is the accuracy, as every query has one class and one prediction.
        weighted: (3,) mean over classes weighted by their queries; its recall is the accuracy.
        queries: (c,) int64 of each class.
    """

    by_class: np.ndarray
    macro: np.ndarray
    micro: np.ndarray
    weighted: np.ndarray
    queries: np.ndarray


def precision_recall_f1(confused: np.ndarray) -> PrecisionRecallF1:
    """Give precision, recall and F1 of each class and their means, as scikit-learn does with ``zero_division=0``.

    Args:
        confused: (c, c) int64 of ``confusion``, of at least one query.
    """
    right = np.diagonal(confused)
    queries, predictions = confused.sum(axis=1), confused.sum(axis=0)
    by_class = np.stack(
        [_share(right, predictions), _share(right, queries), _share(2 * right, queries + predictions)], axis=1
    )
    there = queries + predictions > 0
    return PrecisionRecallF1(
        by_class=by_class,
        macro=by_class[there].mean(axis=0),
        micro=np.full(3, right.sum() / queries.sum()),
        weighted=queries @ by_class / queries.sum(),
        queries=queries,
    )


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be taken at its word.

    Attributes:
        error: expected calibration error, in [0, 1].
        bins: (mean confidence, accuracy, queries) of equal bins of confidence, ascending; None where a bin is empty.
    """

    error: float
    bins: Sequence[tuple[float | None, float | None, int]]


def calibration_error(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> Calibration:
    """Give the expected calibration error: the mean gap between confidence and accuracy over equal bins of confidence.

    Bin b of B holds the confidences in (b / B, (b + 1) / B], the first 0 as well; each weighs by its queries (Guo et
    al., "On Calibration of Modern Neural Networks", ICML 2017). It depends on the bins and grows with fewer queries, so
    it compares only on the same test set.

    Args:
        confidence: (n,) of the predicted class, in [0, 1], n at least 1.
        right: (n,) bool, whether the prediction is.
        bins: B.
    """
    assert len(confidence) == len(right) > 0 and confidence.min() >= 0 and confidence.max() <= 1
    edges = np.arange(1, bins) / bins
    place = np.searchsorted(edges, confidence, side="left")  # an edge belongs to the bin below it
    count = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    correct = np.bincount(place, weights=right, minlength=bins)
    rows = zip(sure.tolist(), correct.tolist(), count.tolist(), strict=True)
    return Calibration(
        error=float(np.abs(sure - correct).sum() / len(confidence)),
        bins=[(s / n, c / n, n) if n else (None, None, 0) for s, c, n in rows],
    )


def knn_vote(
    neighbour_codes: np.ndarray,
    similarities: np.ndarray,
    classes: int,
    *,
    temperature: float = TEMPERATURE,
    weights: np.ndarray | None = None,
    background: float = -np.inf,
) -> np.ndarray:
    """Let neighbours vote for their class, each by exp(similarity / temperature), as shares of the whole vote.

    The weighted nearest-neighbour classifier of Wu et al. (CVPR 2018) that DINO (Caron et al., ICCV 2021) reports: the
    order of the classes is the same, and the shares sum to 1 here where those leave the sums. The shares are no
    calibrated probabilities.

    Args:
        neighbour_codes: (n, k) int64 class codes; -1 in an empty slot or for an unlabelled image, which has no vote.
        similarities: (n, k) cosine; those of -1 are not looked at.
        classes: c, how many there are.
        temperature: 0.07 in both papers; the smaller, the more the nearest decide. DINO takes k = 10, 20, 100 and 200
            and reports the best.
        weights: (c,), what a vote for each class counts; None: 1.
        background: similarity of a vote that is shared out among all classes, so that none has nothing, and the less
            is near, the more even the shares are; -inf: there is none.

    Returns:
        (n, c) float64, each row summing to 1, or all 0 where nobody votes. The caller passes as many queries at a time
        as that has room for.
    """
    counted = neighbour_codes >= 0
    wide = np.where(counted, similarities.astype(np.float64), -np.inf)
    # The nearest weighs 1 before shares are taken: a small temperature overflows nothing.
    nearest = np.maximum(wide.max(axis=1, initial=-np.inf, keepdims=True), background)
    nearest = np.where(np.isfinite(nearest), nearest, 0.0)
    votes = np.exp((wide - nearest) / temperature)  # (n, k), 0 in empty slots
    if weights is not None:
        votes *= weights[neighbour_codes]  # of the last class in empty slots, where it is 0 times that
    rows = np.arange(len(neighbour_codes))[:, None] * classes
    cells = np.where(counted, neighbour_codes, 0) + rows
    sums: np.ndarray = np.bincount(cells.ravel(), weights=votes.ravel(), minlength=len(neighbour_codes) * classes)
    sums = sums.reshape(len(neighbour_codes), classes) + np.exp((background - nearest) / temperature) / classes
    return _share(sums, sums.sum(axis=1, keepdims=True))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # part / whole, 0 where whole is 0.
    whole = np.broadcast_to(whole, part.shape)
    return np.asarray(np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0))
