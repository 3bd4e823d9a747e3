"""Is a picture of any label that is known? Scores by which it can be told, and how well they tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.evidence import Evidence, counted
from retrieval.labels import Vocabulary, Voting
from retrieval.likelihood import minimise, sigmoid

NEAREST: Final = "nearest similarity"
ENERGY: Final = "energy of the vote"
MARGIN: Final = "margin of the vote"
CONFIDENCE: Final = "confidence"
HEAD_ENERGY: Final = "energy of the head"
KEPT: Final = 0.95
"""Share of known pictures that are not called foreign, where nobody says how many foreign ones may pass."""
QUANTILES: Final = 1001  # numbers that stand for a distribution of scores


def scores(
    evidence: Evidence, vocabulary: Vocabulary, voting: Voting, probabilities: np.ndarray
) -> dict[str, np.ndarray]:
    """Score pictures by how much they look like something known.

    Args:
        evidence: of n pictures.
        vocabulary: c labels.
        voting: of the neighbours.
        probabilities: (n, c) of the labels.

    Returns:
        Name → (n,) float64, higher is more like something known: the similarity of the nearest neighbour; the energy
        of the vote, ``temperature * log(sum(exp(similarity / temperature)))``; the share of the vote that the first
        label has over the second; the probability of the first label; and the energy of the head's logits (Liu et al.,
        "Energy-based out-of-distribution detection", NeurIPS 2020), where there is a head.
    """
    codes = counted(evidence, k=voting.k, same_from=voting.same_from)
    similarities = np.where(codes >= 0, evidence.similarities.astype(np.float64), -np.inf)
    nearest = np.maximum(similarities.max(axis=1, initial=-1.0), -1.0)
    votes = np.exp((similarities - nearest[:, None]) / voting.temperature)
    energy = nearest + voting.temperature * np.log(np.maximum(votes.sum(axis=1), np.finfo(float).tiny))
    found = {
        NEAREST: nearest,
        ENERGY: energy,
        MARGIN: _margin(codes, votes),
        CONFIDENCE: probabilities.max(axis=1),
    }
    if len(vocabulary.sources) > 1:
        assert evidence.logits is not None
        logits = evidence.logits[:, vocabulary.in_head[vocabulary.in_head >= 0]].astype(np.float64)
        highest = logits.max(axis=1)
        found[HEAD_ENERGY] = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return found


def _margin(codes: np.ndarray, votes: np.ndarray) -> np.ndarray:
    # Of each slot what its whole label has, so nothing as wide as the labels is made.
    sums = ((codes[:, :, None] == codes[:, None, :]) * votes[:, None, :]).sum(axis=2)
    sums = np.where(codes >= 0, sums, 0.0)
    first = sums.max(axis=1, initial=0.0)
    leader = codes[np.arange(len(codes)), sums.argmax(axis=1)]
    second = np.where(codes == leader[:, None], 0.0, sums).max(axis=1, initial=0.0)
    whole = votes.sum(axis=1)
    return np.asarray(np.divide(first - second, whole, out=np.zeros(len(codes)), where=whole > 0))


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Give the area under the ROC curve: how often a known picture scores above an unknown one, ties as one half."""
    _, places, counts = np.unique(np.concatenate([known, unknown]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1; equal ones share the mean of theirs
    n, m = len(known), len(unknown)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def false_accepts_at(known: np.ndarray, unknown: np.ndarray, *, recall: float = 0.95) -> float:
    """Give the share of unknown pictures that are taken for known where this share of the known ones is: FPR at 95 %.

    The threshold is the highest that keeps at least ``recall`` of the known.
    """
    kept = math.ceil(recall * len(known) - 1e-9)
    threshold = np.sort(known)[len(known) - kept]
    return float(np.mean(unknown >= threshold))


@dataclass(frozen=True)
class Openness:
    """How it is told whether a picture is of a known label.

    Attributes:
        score: its name, one of those that ``scores`` gives.
        slope: of the logistic curve from score to the probability of being known, where known and unknown pictures are
            equally frequent.
        intercept: of it.
        unknown: ``QUANTILES`` scores or fewer of pictures whose label was taken away, ascending.
        familiar: the same of pictures of known labels.
        auroc: of the score on the pictures that it was chosen on.
        fpr_at_95: of it.
        compared: name → AUROC of every score.
    """

    score: str
    slope: float
    intercept: float
    unknown: tuple[float, ...]
    familiar: tuple[float, ...]
    auroc: float
    fpr_at_95: float
    compared: Mapping[str, float]

    def known(self, scores: np.ndarray) -> np.ndarray:
        """Give the probability of being known, in [0, 1], for scores (n,)."""
        return sigmoid(self.slope * scores + self.intercept)

    def threshold(self, false_accept: float | None = None) -> float:
        """Give the score below which a picture is "none of these".

        Args:
            false_accept: share of unknown pictures that may pass, in [0, 1]; 0 lets none pass of those that it was
                fitted on. None: as many as do where ``KEPT`` of the known ones pass, so that a score that tells little
                refuses little.
        """
        if false_accept is None:
            return self.familiar[len(self.familiar) - math.ceil(KEPT * len(self.familiar) - 1e-9)]
        passing = math.floor(false_accept * len(self.unknown) + 1e-9)
        if passing >= len(self.unknown):
            return -math.inf
        return float(np.nextafter(self.unknown[len(self.unknown) - passing - 1], np.inf))

    def refused(self, false_accept: float | None = None) -> float:
        """Give the share of known pictures that the threshold calls "none of these"."""
        return float(np.mean(np.array(self.familiar) < self.threshold(false_accept)))

    def passed(self, false_accept: float | None = None) -> float:
        """Give the share of unknown pictures that the threshold takes for known."""
        return float(np.mean(np.array(self.unknown) >= self.threshold(false_accept)))


def fit_openness(known: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray]) -> Openness:
    """Choose the score that tells known pictures from unknown ones best, and fit the probability.

    Args:
        known: name → scores of pictures whose label is in the gallery.
        unknown: name → scores of pictures whose label is not.
    """
    compared = {name: auroc(known[name], unknown[name]) for name in known}
    best = max(compared, key=lambda name: compared[name])
    given = [known[best], unknown[best]]
    middle, spread = float(np.mean(np.concatenate(given))), float(np.std(np.concatenate(given))) or 1.0
    a, b = ((part - middle) / spread for part in given)

    ridge = 1 / (len(a) + len(b))

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        # Known and unknown weigh alike, and a little ridge keeps two that do not overlap finite.
        logits = (-(x[0] * a + x[1]), x[0] * b + x[1])
        of_known, of_unknown = (np.logaddexp(0, one).mean() for one in logits)
        wrong = [sigmoid(one) for one in logits]
        slope = np.array([(wrong[1] * b).mean() - (wrong[0] * a).mean(), wrong[1].mean() - wrong[0].mean()])
        return float(of_known + of_unknown + ridge * x @ x), slope + 2 * ridge * x

    slope, intercept = minimise(loss, np.array([1.0, 0.0])).tolist()
    slope = max(slope, 1e-6)  # a higher score is never less known
    return Openness(
        score=best,
        slope=slope / spread,
        intercept=intercept - slope / spread * middle,
        unknown=_quantiles(unknown[best]),
        familiar=_quantiles(known[best]),
        auroc=compared[best],
        fpr_at_95=false_accepts_at(known[best], unknown[best]),
        compared=compared,
    )


def _quantiles(scores: np.ndarray) -> tuple[float, ...]:
    ordered = np.sort(scores)
    if len(ordered) > QUANTILES:
        ordered = np.quantile(ordered, np.linspace(0, 1, QUANTILES))
    return tuple(ordered.tolist())
