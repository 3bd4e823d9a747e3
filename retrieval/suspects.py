"""Labels that are probably wrong, and classes that are probably one: what cross-fitted probabilities say of a data set.

The only door to cleanlab.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.errors import InputError, MissingExtraError

NUMBERS: Final = 1 << 28
"""Probabilities that are held at once: 2 GiB."""
OVERLAP: Final = 0.3
"""Share of two classes' images taken for the other one from which they may be one; halves of one class have 0.5."""
UNLIKELY: Final = 0.1
"""Probability below which a label is suspected, whatever confident learning counts."""
SUGGESTED: Final = 0.3
"""Probability below which no other label is suggested: where nothing is likely, nothing speaks against a label."""
LEAST: Final = 4
"""Images of each of two classes before anything is said of them."""


@dataclass(frozen=True)
class Suspects:
    """Labels that are probably wrong, the most doubtful first.

    Attributes:
        places: (s,) int64, of the images.
        suggested: (s,) int64, the most probable label of each.
        confidence: (s,) float64, its probability.
        quality: (n,) float64 in [0, 1], of the labels of all images; low is doubtful.
    """

    places: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    quality: np.ndarray


def find_suspects(probabilities: np.ndarray, codes: np.ndarray) -> Suspects:
    """Find labels that are probably wrong, by confident learning (Northcutt et al., JAIR 2021).

    How many labels are wrong is counted: images that are more probable to be of another class than images of that
    class are on the average. As many are suspected, those whose own label is the least probable. That count leaves out
    about half of the wrong ones where probabilities are not all but certain, so what has a label of less than
    ``UNLIKELY`` is suspected as well; and nothing whose label is the most probable, or for which no other one has
    ``SUGGESTED`` at least.

    Args:
        probabilities: (n, c), rows summing to 1, of images that had no say in their own.
        codes: (n,) int64, their labels.

    Raises:
        MissingExtraError: cleanlab is not installed.
        InputError: too much for memory.
    """
    if probabilities.size > NUMBERS:
        raise InputError(
            f"{probabilities.shape[0]:,} images of {probabilities.shape[1]:,} labels are too many to audit at once; "
            "audit a part of them"
        )
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise MissingExtraError("cleanlab", "audit", "finding wrong labels") from error
    present, own = np.unique(codes, return_inverse=True)  # cleanlab wants every class to have an image
    shares = probabilities[:, present]
    shares = shares / shares.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few images: told by the report, which has their numbers
        doubted = find_label_issues(own, shares, filter_by="low_self_confidence", n_jobs=1)
        quality = get_label_quality_scores(own, shares, method="self_confidence")
    doubted |= shares[np.arange(len(own)), own] < UNLIKELY
    doubted &= (shares.argmax(axis=1) != own) & (shares.max(axis=1) >= SUGGESTED)
    places = np.flatnonzero(doubted)
    places = places[np.argsort(quality[places], kind="stable")]
    best = shares[places].argmax(axis=1)
    return Suspects(places, present[best], shares[places, best], quality)


@dataclass(frozen=True)
class Alike:
    """Two classes that are hard to tell apart: their codes, and the share of their images taken for the other one."""

    first: int
    second: int
    overlap: float


def find_alike(predicted: np.ndarray, codes: np.ndarray, *, classes: int) -> Sequence[Alike]:
    """Find pairs of classes that may be one, the most alike first.

    Args:
        predicted: (n,) int64, the most probable class of images that had no say in it.
        codes: (n,) int64, their labels.
        classes: c.
    """
    sizes = np.bincount(codes, minlength=classes)
    wrong = predicted != codes
    pairs, count = np.unique(
        np.sort(np.stack([codes[wrong], predicted[wrong]], axis=1), axis=1), axis=0, return_counts=True
    )
    found = []
    for (first, second), taken in zip(pairs.tolist(), count.tolist(), strict=True):
        whole = int(sizes[first] + sizes[second])
        if min(sizes[first], sizes[second]) >= LEAST and taken / whole >= OVERLAP:
            found.append(Alike(first, second, taken / whole))
    return sorted(found, key=lambda pair: (-pair.overlap, pair.first, pair.second))
