"""How well the classes of a test set fall into clusters: NMI and AMI of k-means."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from retrieval.machine import cores

SEEDS: Final = (0, 1, 2)
ITERATIONS: Final = 50


@dataclass(frozen=True)
class Clustering:
    """How much k-means clusters and classes say of each other, one value a seed.

    Attributes:
        clusters: k, which is the number of classes.
        seeds: of the first centres.
        iterations: that each took.
        nmi: normalised mutual information, in [0, 1], arithmetic mean of the two entropies. It favours many clusters:
            with few images a class it is high for random vectors too.
        ami: adjusted mutual information, 0 on average for random clusters of these sizes, at most 1, may be below 0.
        mean_nmi: over seeds.
        mean_ami: over seeds.
    """

    clusters: int
    seeds: Sequence[int]
    iterations: Sequence[int]
    nmi: Sequence[float]
    ami: Sequence[float]
    mean_nmi: float
    mean_ami: float


def clustering_quality(
    vectors: np.ndarray, labels: np.ndarray, *, seeds: Sequence[int] = SEEDS, iterations: int = ITERATIONS
) -> Clustering:
    """Cluster the vectors into as many clusters as there are classes, and compare the two.

    Lloyd's algorithm from random images as first centres, once a seed, by scikit-learn; NMI as Song et al. (CVPR 2016)
    brought it to metric learning, AMI by Vinh et al. (JMLR 2010). Published NMIs come from other k-means with other
    first centres, and move by about a point with them; Musgrave et al. (ECCV 2020) advise against them.

    Each seed works with one thread: scikit-learn adds up the parts of its threads in the order in which they are
    done, and with two of them no two runs are sure to round alike. The seeds run beside each other instead. So the
    same installation on the same kind of processor gives the same figures, however many cores it has.

    Cost: an iteration is 2 n k dim operations, and memory a copy of the vectors and three of the centres for each seed
    at work. 60,502 x 512 into 11,316 clusters took 200 seconds and 0.6 GB for three seeds on two cores that had other
    work: 7 seconds an iteration, 2 to 7 iterations a seed, then 19 seconds for AMI, which looks at each pair of a class
    and a cluster. For so many classes one seed says as much: over seeds the figures differ in the third place.

    Args:
        vectors: (n, dim) float32, as they are searched, that is of length 1.
        labels: (n,) the class of each, any integers or strings; n at least 1.
        seeds: of the random first centres, at least one.
        iterations: of Lloyd's algorithm at most; it ends before, once the centres stand still.
    """
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.metrics import (  # type: ignore[import-untyped]
        adjusted_mutual_info_score,
        normalized_mutual_info_score,
    )

    assert len(vectors) == len(labels) > 0 and len(seeds) > 0
    _, codes = np.unique(labels, return_inverse=True)
    clusters = int(codes.max()) + 1

    def measure(seed: int) -> tuple[float, float, int]:
        with threadpool_limits(1, user_api="openmp"):  # of this thread alone
            kmeans = KMeans(clusters, init="random", n_init=1, max_iter=iterations, random_state=seed).fit(vectors)
        found = kmeans.labels_
        return (
            float(normalized_mutual_info_score(codes, found)),
            float(adjusted_mutual_info_score(codes, found)),
            int(kmeans.n_iter_),
        )

    with (
        warnings.catch_warnings(),
        # Once for all: each fit sets the threads of BLAS for the whole process, and sets them back when it is done.
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(min(len(seeds), cores())) as pool,
    ):
        # Fewer clusters than classes, where images are the same: so be it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        nmi, ami, taken = zip(*pool.map(measure, seeds), strict=True)
    return Clustering(
        clusters=clusters,
        seeds=tuple(seeds),
        iterations=taken,
        nmi=nmi,
        ami=ami,
        mean_nmi=float(np.mean(nmi)),
        mean_ami=float(np.mean(ami)),
    )
