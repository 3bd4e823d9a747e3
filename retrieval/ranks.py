"""Where the relevant images of each query stand in its full, exact ranking of the gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranks:
    """The ranks of all relevant images, query by query, one after the other.

    Every retrieval metric is a function of these. Rank 1 is the nearest; the query itself has no rank.

    Attributes:
        offsets: (n + 1,) int64, ascending from 0: query i has ``ranks[offsets[i] : offsets[i + 1]]``.
        ranks: (offsets[-1],) int64, ascending within a query; ``NEVER`` for those that a search did not return, which
            an exact one never leaves out.
        places: (offsets[-1],) int64, where in the gallery the image of each rank stands.
        candidates: (n,) int64, how many images the ranking of each query has.
    """

    offsets: np.ndarray
    ranks: np.ndarray
    places: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def relevant(self) -> np.ndarray:
        """How many relevant images each query has, (n,) int64."""
        return np.diff(self.offsets)


NEVER = np.iinfo(np.int64).max
"""The rank of what was not returned."""
