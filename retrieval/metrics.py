"""Retrieval metrics, a query at a time, from the ranks of its relevant images; means over queries and over classes.

Each function of ``Ranks`` gives (n,) or (n, len(ks)) values in [0, 1], higher is better; the metric of a test set is
their mean. Every query has a relevant image: one without is left out before it is ranked, and counted apart. A rank of
``NEVER`` counts as not found, so that an approximate search can only lose by what it did not return. Memory is a few
times that of the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieval.ranks import NEVER, Ranks


def recall_at_k(ranks: Ranks, ks: Sequence[int]) -> np.ndarray:
    """Say for each query whether at least one relevant image is among its K nearest.

    Recall@K of a test set, as the field uses the word since Jegou et al. (TPAMI 2011), is the mean over queries. It is
    not the share of relevant images found, which is what information retrieval calls recall. Sketch-to-photo
    retrieval, where each sketch has one photo, calls the same number Accuracy@K.

    Args:
        ranks: of the relevant images.
        ks: the values of K, each at least 1; one above the number of candidates takes them all.

    Returns:
        (n, len(ks)) bool.
    """
    assert min(ks) >= 1
    return np.asarray(_nearest(ranks)[:, None] <= np.asarray(ks, dtype=np.int64))


def precision_at_k(ranks: Ranks, ks: Sequence[int]) -> np.ndarray:
    """Give the share of relevant images among the K nearest of each query.

    The divisor is K also where a query has fewer than K relevant images or candidates, as in trec_eval, so that 1 is
    out of reach for such a query.

    Args:
        ranks: of the relevant images.
        ks: the values of K, each at least 1.

    Returns:
        (n, len(ks)) float64.
    """
    assert min(ks) >= 1
    shares = np.empty((len(ranks), len(ks)))
    for place, k in enumerate(ks):
        shares[:, place] = _sums(ranks, ranks.ranks <= k) / k
    return shares


def map_at_r(ranks: Ranks) -> np.ndarray:
    """Give MAP@R of each query: precision at each relevant image among the R nearest, summed, divided by R.

    R is the number of relevant images of the query. It is 1 only where the R nearest are all relevant, and unlike
    R-Precision it asks for order among them (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020).

    Args:
        ranks: of the relevant images.

    Returns:
        (n,) float64.
    """
    return np.asarray(_sums(ranks, np.where(_within_r(ranks), _precisions(ranks), 0.0)) / ranks.relevant)


def r_precision(ranks: Ranks) -> np.ndarray:
    """Give the share of relevant images among the R nearest of each query, R being how many it has.

    It equals precision and recall (in the sense of information retrieval) at R.

    Args:
        ranks: of the relevant images.

    Returns:
        (n,) float64.
    """
    return np.asarray(_sums(ranks, _within_r(ranks)) / ranks.relevant)


def reciprocal_rank(ranks: Ranks) -> np.ndarray:
    """Give one over the rank of the nearest relevant image of each query, 0 where none was returned.

    Its mean over queries is MRR (Voorhees, TREC-8, 1999), taken over the full ranking, not cut at 10.

    Args:
        ranks: of the relevant images.

    Returns:
        (n,) float64.
    """
    nearest = _nearest(ranks)
    return np.where(nearest < NEVER, 1 / nearest, 0.0)


def average_precision(ranks: Ranks) -> np.ndarray:
    """Give the average precision of each query: precision at each of its relevant images, in the full ranking.

    Its mean over queries is mAP. Nothing is interpolated (PASCAL VOC did) and the steps are rectangles, as in
    trec_eval and scikit-learn; the revisited Oxford and Paris benchmarks use trapezia, which differ slightly.

    Args:
        ranks: of the relevant images.

    Returns:
        (n,) float64.
    """
    return np.asarray(_sums(ranks, _precisions(ranks)) / ranks.relevant)


def ndcg(ranks: Ranks, k: int | None = None) -> np.ndarray:
    """Give the normalised discounted cumulative gain of each query.

    An image is relevant or not (gain 1 or 0), and rank r is discounted by log2(1 + r) (Järvelin and Kekäläinen, TOIS
    2002, with the discount that has become usual; theirs leaves rank 2 undiscounted). The ideal ranking, which is 1,
    has the min(R, k) relevant images first.

    Args:
        ranks: of the relevant images.
        k: only the k nearest count; None: all.

    Returns:
        (n,) float64.
    """
    assert k is None or k >= 1
    deepest = NEVER - 1 if k is None else min(k, NEVER - 1)
    gains = np.zeros(len(ranks.ranks))
    counted = ranks.ranks <= deepest
    gains[counted] = 1 / np.log2(1.0 + ranks.ranks[counted])
    most = int(ranks.relevant.max(initial=0))
    ideal = np.cumsum(1 / np.log2(np.arange(2.0, most + 2.0)))  # (most,): of 1, 2, ... relevant images
    return np.asarray(_sums(ranks, gains) / ideal[np.minimum(ranks.relevant, deepest) - 1])


def cmc(ranks: Ranks, upto: int) -> np.ndarray:
    """Give the cumulative match characteristic: Recall@K of the test set for each K from 1 on.

    One relevant image is enough, and the gallery is taken as it is: person re-identification leaves out gallery images
    of the query's own camera, and some of its protocols draw one image an identity.

    Args:
        ranks: of the relevant images, of at least one query.
        upto: the last K.

    Returns:
        (upto,) float64, never falling.
    """
    assert len(ranks) and upto >= 1
    nearest = _nearest(ranks)
    found = np.bincount(nearest[nearest <= upto], minlength=upto + 1)[1:]  # (upto,): found at each rank
    return np.asarray(np.cumsum(found) / len(ranks))


def by_class(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average what queries scored over each class.

    Args:
        values: (n, m), what each query scored, m measures.
        labels: (n,) the class of each query, any integers or strings.

    Returns:
        The classes (c,) ascending, their queries (c,) int64, and their means (c, m) float64.
    """
    classes, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.empty((len(classes), values.shape[1]))
    for measure in range(values.shape[1]):
        means[:, measure] = np.bincount(place, weights=values[:, measure], minlength=len(classes)) / count
    return classes, count, means


def _sums(ranks: Ranks, values: np.ndarray) -> np.ndarray:
    # Over the relevant images of each query: (offsets[-1],) → (n,). An empty run would give its neighbour's value.
    assert (ranks.relevant > 0).all()
    wide = np.int64 if values.dtype == bool else np.float64
    return np.asarray(np.add.reduceat(values, ranks.offsets[:-1], dtype=wide))


def _nearest(ranks: Ranks) -> np.ndarray:
    # The rank of the nearest relevant image of each query, (n,) int64.
    assert (ranks.relevant > 0).all()
    return np.asarray(ranks.ranks[ranks.offsets[:-1]])


def _within_r(ranks: Ranks) -> np.ndarray:
    # Which ranks are among as many as the query has relevant images, (offsets[-1],) bool.
    return ranks.ranks <= np.repeat(ranks.relevant, ranks.relevant)


def _precisions(ranks: Ranks) -> np.ndarray:
    # The share of relevant images down to each of them, (offsets[-1],) float64; 0 for one that was not returned.
    order = np.arange(1, len(ranks.ranks) + 1) - np.repeat(ranks.offsets[:-1], ranks.relevant)  # 1, 2, ... a query
    return np.where(ranks.ranks < NEVER, order / ranks.ranks, 0.0)
