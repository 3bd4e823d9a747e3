"""Calibration: how neighbours vote, what vote and head weigh, what is foreign, and how sure all of that is.

Fitted on pictures that nothing was trained on. All of them give the numbers of the probabilities. Sets of labels have
numbers of their own, from one half, and nonconformities from the other half, which those numbers have not seen: so the
coverage of the sets is exact (``retrieval.conformal``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from retrieval.conformal import Conformal, nonconformities
from retrieval.errors import InputError
from retrieval.evidence import Evidence, LabelledGallery, gather
from retrieval.labels import (
    FLOOR,
    FUSION,
    Source,
    Vocabulary,
    Voting,
    Weights,
    logarithms,
    pool,
    probabilities,
    vote,
)
from retrieval.likelihood import minimise
from retrieval.openness import Openness, fit_openness, scores
from retrieval.recognition import HEAD, KNN

LEAST: Final = 20
"""Pictures that a calibration needs; below it nothing can be said of a share."""
MOST: Final = 5000
"""Pictures that it is fitted on; more change nothing that could be seen."""
NUMBERS: Final = 1 << 22  # of probabilities at a time: 32 MiB
GRID: Final[dict[str, tuple[float, ...]]] = {
    "temperature": (0.01, 0.02, 0.04, 0.07, 0.12, 0.2),
    "k": (1, 3, 5, 10, 20, 50),
    "tail": (0.0, 0.5, 1.0),
    "same_from": (0.9995, 0.99, 0.97, 0.94),
}
"""What is tried for each number of a ``Voting``; the background's similarities come from the data."""
BACKGROUND: Final = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Quantiles of the nearest similarity that the background is tried at."""
ROUNDS: Final = 3


@dataclass(frozen=True)
class Held:
    """Held-out pictures with their right labels, and the evidence as if there were none of their label.

    Attributes:
        evidence: of n pictures.
        codes: (n,) int64, right labels as places in the vocabulary; -1: of a label that it does not have.
        foreign: of the same pictures, each without all images of its own label, and without what the head says of it.
    """

    evidence: Evidence
    codes: np.ndarray
    foreign: Evidence


@dataclass(frozen=True)
class Numbers:
    """What turns evidence into probabilities.

    Attributes:
        voting: of neighbours.
        weights: source → weights of vote and head.
        openness: what is of no known label, by the first source's probabilities among others.
    """

    voting: Voting
    weights: Mapping[Source, Weights]
    openness: Openness

    def probabilities(self, evidence: Evidence, vocabulary: Vocabulary, source: Source) -> np.ndarray:
        """Say how probable each label is, by one source: (n, c) float64, rows summing to 1."""
        return probabilities(evidence, vocabulary, self.voting, self.weights[source])

    def known_scores(self, evidence: Evidence, vocabulary: Vocabulary) -> np.ndarray:
        """Score how much pictures look like something known: (n,) float64; ``openness`` says what it means."""
        best = self.probabilities(evidence, vocabulary, vocabulary.sources[0])
        return scores(evidence, vocabulary, self.voting, best)[self.openness.score]

    def nonconformities(self, evidence: Evidence, vocabulary: Vocabulary, source: Source) -> np.ndarray:
        """Give the nonconformity of each label, (n, c); see ``retrieval.conformal``."""
        known = self.openness.known(self.known_scores(evidence, vocabulary))
        return nonconformities(self.probabilities(evidence, vocabulary, source), known)


@dataclass(frozen=True)
class Calibration:
    """All that turns evidence into answers.

    Attributes:
        numbers: fitted on all held-out pictures.
        of_sets: fitted on one half of them, for sets of labels only.
        conformal: source → nonconformities of the other half.
        pictures: held-out pictures of known labels.
        losses: source → mean negative log probability of the right label over all of them, in nats.
    """

    numbers: Numbers
    of_sets: Numbers
    conformal: Mapping[Source, Conformal]
    pictures: int
    losses: Mapping[Source, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Calibration:
        """Build it from what ``to_dict`` gave, also after JSON."""
        return cls(
            numbers=_numbers(given["numbers"]),
            of_sets=_numbers(given["of_sets"]),
            conformal={
                source: Conformal(tuple(one["values"]), {label: tuple(own) for label, own in one["by_label"].items()})
                for source, one in given["conformal"].items()
            },
            pictures=given["pictures"],
            losses=dict(given["losses"]),
        )


def _numbers(given: Mapping[str, Any]) -> Numbers:
    openness = given["openness"]
    return Numbers(
        voting=Voting(**given["voting"]),
        weights={source: Weights(**one) for source, one in given["weights"].items()},
        openness=Openness(**{**openness, **{name: tuple(openness[name]) for name in ("unknown", "familiar")}}),
    )


def fit(
    held: Held,
    vocabulary: Vocabulary,
    *,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Calibration:
    """Fit everything.

    Args:
        held: what it is fitted on.
        vocabulary: labels of the gallery.
        seed: of the halves.
        progress: told steps done and all steps.

    Raises:
        InputError: too few pictures are of a label that the gallery has.
    """
    own = np.flatnonzero(held.codes >= 0)
    if len(own) < LEAST:
        raise InputError(
            f"a calibration needs {LEAST} held-out pictures of labels that the catalogue has; there are {len(own):,}"
        )
    order = np.random.default_rng(seed).permutation(own)[:MOST]
    strangers = np.flatnonzero(held.codes < 0)
    first, second = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    numbers, losses = _fit_numbers(held, order, strangers, vocabulary, lambda done, all: progress(done, 2 * all))
    halves = np.array_split(strangers, 2)
    of_sets, _ = _fit_numbers(held, first, halves[0], vocabulary, lambda done, all: progress(all + done, 2 * all))
    labels = [vocabulary.labels[code] for code in held.codes[second].tolist()]
    conformal = {
        source: Conformal.of(right_nonconformities(of_sets, held, second, vocabulary, source), labels)
        for source in vocabulary.sources
    }
    return Calibration(numbers, of_sets, conformal, len(order), losses)


def right_nonconformities(
    numbers: Numbers, held: Held, some: np.ndarray, vocabulary: Vocabulary, source: Source
) -> np.ndarray:
    """Give the nonconformity of the right label of some of the held-out pictures, (n,)."""
    evidence, codes = held.evidence.take(some), held.codes[some]
    found = np.empty(len(codes))
    for part in steps(len(codes), len(vocabulary.labels)):
        found[part] = _own(numbers.nonconformities(evidence.take(part), vocabulary, source), codes[part])
    return found


def steps(n: int, classes: int) -> list[slice]:
    """Cut n pictures so that the probabilities of each part have room."""
    step = max(1, NUMBERS // max(1, classes))
    return [slice(start, start + step) for start in range(0, n, step)]


def hold(
    queries: np.ndarray,
    codes: np.ndarray,
    gallery: LabelledGallery,
    vocabulary: Vocabulary,
    *,
    logits: np.ndarray | None = None,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
) -> Held:
    """Gather the evidence for held-out pictures, and the same without all images of their label.

    Args:
        queries: (n, dim) float32, L2-normalised.
        codes: (n,) int64, right labels as places in the vocabulary; -1: of a label that it does not have.
        gallery: what votes.
        vocabulary: its labels.
        logits: (n, h) of the classifier head.
        groups: (n,) and (m,) int64, not negative: a query does not find an image of its number, such as itself.
        device: where neighbours are computed.
    """
    evidence = gather(queries, gallery, without=groups, logits=logits, device=device)
    hidden = logits
    if logits is not None:
        own = np.where(codes >= 0, vocabulary.in_head[codes], -1)
        hidden = np.where(np.arange(logits.shape[1]) == own[:, None], -np.inf, logits)
    # A picture of no known label finds what it finds; the number of none of them is never asked for.
    own, others = np.where(codes >= 0, codes, len(vocabulary.labels)), gallery.codes
    return Held(evidence, codes, gather(queries, gallery, without=(own, others), logits=hidden, device=device))


def _own(shares: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.take_along_axis(shares, codes[:, None], axis=1)[:, 0]


def _fit_numbers(
    held: Held,
    some: np.ndarray,
    strangers: np.ndarray,
    vocabulary: Vocabulary,
    progress: Callable[[int, int], object],
) -> tuple[Numbers, dict[Source, float]]:
    evidence, codes = held.evidence.take(some), held.codes[some]
    voting = _fit_voting(evidence, codes, vocabulary, progress)
    given = [
        (logarithms(evidence.take(part), vocabulary, voting), codes[part])
        for part in steps(len(codes), len(vocabulary.labels))
    ]
    fitted = {source: _fit_weights(given, source) for source in vocabulary.sources}
    weights = {source: one for source, (one, _) in fitted.items()}
    foreign = held.foreign.take(np.concatenate([some, strangers]))
    openness = _fit_openness(evidence, foreign, vocabulary, voting, weights[vocabulary.sources[0]])
    return Numbers(voting, weights, openness), {source: loss for source, (_, loss) in fitted.items()}


def _fit_voting(
    evidence: Evidence, codes: np.ndarray, vocabulary: Vocabulary, progress: Callable[[int, int], object]
) -> Voting:
    """Try the numbers of the vote one after the other, as long as that makes right labels more probable."""
    nearest = evidence.similarities[:, 0].astype(np.float64)
    nearest = nearest[np.isfinite(nearest)]
    tried = dict(GRID)
    tried["background"] = tuple(np.quantile(nearest, BACKGROUND).tolist()) if len(nearest) else (0.0,)
    parts = steps(len(codes), len(vocabulary.labels))

    def loss(voting: Voting) -> float:
        own = [_own(vote(evidence.take(some), vocabulary, voting), codes[some]) for some in parts]
        return float(-np.log(np.maximum(np.concatenate(own), FLOOR)).mean())

    best = Voting(background=tried["background"][0])
    least, before = loss(best), np.inf
    done, total = 0, ROUNDS * sum(map(len, tried.values()))
    while least < before and done < total:
        before = least
        for name, values in tried.items():
            for value in values:
                other = replace(best, **{name: type(getattr(best, name))(value)})
                if other != best and (found := loss(other)) < least:
                    best, least = other, found
                done += 1
                progress(done, total)
    progress(total, total)
    return best


def _fit_weights(given: Sequence[tuple[Sequence[np.ndarray], np.ndarray]], source: Source) -> tuple[Weights, float]:
    """Fit the weights of a source's logarithms: a convex problem, with a normal prior of width 1 about equal shares."""
    used = {KNN: [0], HEAD: [1], FUSION: [0, 1]}[source]
    middle = np.full(len(used), 1 / len(used))
    n = sum(len(codes) for _, codes in given)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        away = weights - middle
        whole, slope = float(away @ away) / 2, away.copy()
        for every, codes in given:
            taken = [every[at] for at in used]
            shares = pool(taken, weights.tolist())
            whole -= float(np.log(np.maximum(_own(shares, codes), FLOOR)).sum())
            slope += [float((shares * one).sum() - _own(one, codes).sum()) for one in taken]
        return whole / n, slope / n

    found = minimise(loss, middle, least=0.0).tolist()
    weights = dict(zip(used, found, strict=True))
    fitted = Weights(weights.get(0, 0.0), weights.get(1, 0.0))
    own = [_own(pool([every[at] for at in used], found), codes) for every, codes in given]
    return fitted, float(-np.log(np.maximum(np.concatenate(own), FLOOR)).mean())


def _fit_openness(
    known: Evidence, foreign: Evidence, vocabulary: Vocabulary, voting: Voting, weights: Weights
) -> Openness:
    """Score pictures with and without their own label in the gallery, and choose what tells them apart."""

    def of(evidence: Evidence) -> dict[str, np.ndarray]:
        parts = [
            scores(part, vocabulary, voting, probabilities(part, vocabulary, voting, weights))
            for part in map(evidence.take, steps(len(evidence), len(vocabulary.labels)))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return fit_openness(of(known), of(foreign))
