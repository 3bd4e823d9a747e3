"""The label of a picture: a vote of its nearest neighbours, a classifier head, and both together, as probabilities.

The vote is that of ``retrieval.classification.knn_vote`` with three additions: of near copies one votes, votes for a
label count less the more images it has, and one further vote goes to all labels alike, so that a picture with nothing
near is told as unsure. Vote and head are joined as logarithms with a weight each (logarithmic opinion pool; Genest and
Zidek, Statistical Science 1986), which sharpens or softens each as well: a head alone is temperature scaling (Guo et
al., ICML 2017). All numbers of it are fitted on held-out pictures by ``retrieval.calibration``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from retrieval.classification import knn_vote, softmax
from retrieval.evidence import Evidence, counted
from retrieval.recognition import HEAD, KNN
from retrieval.tree import LabelTree

FUSION: Final = "fusion"
Source = Literal["knn", "head", "fusion"]
SOURCES: Final = (FUSION, KNN, HEAD)
FLOOR: Final = 1e-12  # of a probability before its logarithm is taken


@dataclass(frozen=True)
class Voting:
    """How neighbours vote.

    Attributes:
        k: voters.
        temperature: of ``exp(similarity / temperature)``.
        background: similarity of the vote for all labels alike.
        tail: a vote for a label with n images counts n to the power of minus this; 0: 1.
        same_from: cosine from which two neighbours of one label are copies, of which one votes.
    """

    k: int = 20
    temperature: float = 0.07
    background: float = 0.0
    tail: float = 0.0
    same_from: float = 0.999


@dataclass(frozen=True)
class Weights:
    """What the logarithms of the vote's and the head's probabilities are multiplied with before they are added."""

    vote: float = 1.0
    head: float = 0.0


@dataclass(frozen=True)
class Vocabulary:
    """The labels that an answer may have, and what the sources know of them.

    Attributes:
        labels: c of them, sorted.
        counts: (c,) int64, images of each in the gallery.
        in_head: (c,) int64, the place of each among the head's classes; -1 where the head does not know it. All -1
            without a head.
    """

    labels: Sequence[str]
    counts: np.ndarray
    in_head: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[str], counts: np.ndarray, head: Sequence[str] = ()) -> Vocabulary:
        """Put together the labels of a gallery and the classes of a head; classes that no image has are no answers."""
        place = {name: at for at, name in enumerate(head)}
        return cls(labels, counts, np.array([place.get(label, -1) for label in labels], dtype=np.int64))

    @functools.cached_property
    def tree(self) -> LabelTree:
        """The tree of the labels; made once, which takes as long as thousands of answers."""
        return LabelTree.of(self.labels)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What can say a label: fusion and head only where the head knows two of them at least."""
        return SOURCES if np.count_nonzero(self.in_head >= 0) > 1 else (KNN,)


def vote(evidence: Evidence, vocabulary: Vocabulary, voting: Voting) -> np.ndarray:
    """Let neighbours vote: (n, c) float64, each above 0, rows summing to 1."""
    return knn_vote(
        counted(evidence, k=voting.k, same_from=voting.same_from),
        evidence.similarities,
        len(vocabulary.labels),
        temperature=voting.temperature,
        weights=np.maximum(vocabulary.counts, 1).astype(np.float64) ** -voting.tail,
        background=voting.background,
    )


def of_head(evidence: Evidence, vocabulary: Vocabulary, votes: np.ndarray) -> np.ndarray:
    """Give the head's probabilities of the labels, (n, c) float64, rows summing to 1.

    Labels that the head does not know have what the vote gives them, and the others share what is left.
    """
    assert evidence.logits is not None
    known = vocabulary.in_head >= 0
    shares = softmax(evidence.logits[:, vocabulary.in_head[known]])
    found = np.array(votes, dtype=np.float64)
    found[:, known] = shares * (1 - votes[:, ~known].sum(axis=1, keepdims=True))
    return found


def logarithms(evidence: Evidence, vocabulary: Vocabulary, voting: Voting) -> list[np.ndarray]:
    """Give the logarithms of the vote's and, where there is a head, of the head's probabilities: (n, c) each."""
    votes = vote(evidence, vocabulary, voting)
    found = [votes]
    if len(vocabulary.sources) > 1:
        found.append(of_head(evidence, vocabulary, votes))
    return [np.log(np.maximum(shares, FLOOR)) for shares in found]


def pool(logarithms: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Add weighted logarithms of probabilities, (n, c) each, and give the probabilities: (n, c), rows summing to 1."""
    mixed = sum(weight * one for weight, one in zip(weights, logarithms, strict=True))
    assert isinstance(mixed, np.ndarray)
    return softmax(mixed)


def probabilities(evidence: Evidence, vocabulary: Vocabulary, voting: Voting, weights: Weights) -> np.ndarray:
    """Say how probable each label is: (n, c) float64, rows summing to 1.

    Args:
        evidence: of n pictures; the caller passes as many at a time as there is room for.
        vocabulary: c labels.
        voting: of the neighbours.
        weights: of vote and head.
    """
    given = logarithms(evidence, vocabulary, voting)
    return pool(given, (weights.vote, weights.head)[: len(given)])
