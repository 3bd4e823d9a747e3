"""Few-shot episodes: how well new classes are told from few examples of each, with nothing trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.errors import InputError
from retrieval.uncertainty import over_seeds

EPISODES: Final = 600
QUERIES: Final = 15
"""Of each class in an episode, as in the field's protocols (Vinyals et al., NeurIPS 2016; Snell et al., 2017)."""


@dataclass(frozen=True)
class Episodes:
    """What episodes are made of.

    Attributes:
        ways: classes of an episode.
        shots: examples of each.
        queries: of each class, asked.
        number: of episodes.
    """

    ways: int
    shots: int
    queries: int = QUERIES
    number: int = EPISODES

    @classmethod
    def read(cls, text: str) -> Episodes:
        """Read "5-way-1-shot".

        Raises:
            InputError: it is written otherwise.
        """
        found = re.fullmatch(r"([0-9]{1,5})-way[- ]([0-9]{1,5})-shot", text)
        if not found or int(found[1]) < 2 or int(found[2]) < 1:
            raise InputError(f"{text!r} names no episodes; write them as 5-way-1-shot, of two ways or more")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class FewShot:
    """The mean accuracy over episodes, in [0, 1], with the ends of its 95 % interval; and how many classes are able."""

    accuracy: float
    low: float
    high: float
    classes: int


def few_shot(vectors: np.ndarray, codes: np.ndarray, episodes: Episodes, *, seed: int = 0) -> FewShot:
    """Name queries by the nearest mean of a class's examples, by cosine (Snell et al., NeurIPS 2017).

    Args:
        vectors: (n, dim) float32, L2-normalised.
        codes: (n,) int64, classes.
        episodes: what is drawn.
        seed: of the draw.

    Raises:
        InputError: too few classes have images enough for one episode.
    """
    wanted = episodes.shots + 1
    members = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    able = [places for places in members if len(places) >= wanted]
    if len(able) < episodes.ways:
        raise InputError(
            f"{episodes.ways}-way-{episodes.shots}-shot needs {episodes.ways} classes of {wanted} images or more, and "
            f"there are {len(able)}"
        )
    rng = np.random.default_rng(seed)
    accuracies = np.empty(episodes.number)
    for number in range(episodes.number):
        drawn = [
            rng.permutation(able[at])[: episodes.shots + episodes.queries]
            for at in rng.choice(len(able), episodes.ways, replace=False)
        ]
        middles = np.stack([vectors[places[: episodes.shots]].mean(axis=0) for places in drawn])  # (ways, dim)
        middles /= np.linalg.norm(middles, axis=1, keepdims=True)
        asked = [places[episodes.shots :] for places in drawn]
        true = np.repeat(np.arange(episodes.ways), [len(places) for places in asked])
        said = (vectors[np.concatenate(asked)] @ middles.T).argmax(axis=1)
        # Each class counts alike, also one with few images left to ask.
        accuracies[number] = np.mean([np.mean(said[true == way] == way) for way in range(episodes.ways)])
    spread = over_seeds(accuracies.tolist())
    low, high = (spread.mean if end is None else end for end in (spread.low, spread.high))
    return FewShot(spread.mean, low, high, len(able))
