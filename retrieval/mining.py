"""Which triplets of a batch a loss looks at."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def semi_hard(
    vectors: Tensor, labels: Tensor, reference: Tensor | None = None, reference_labels: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose for each anchor and positive the nearest negative that is farther than the positive, else the farthest.

    Semi-hard mining of FaceNet (Schroff et al., CVPR 2015), with TensorFlow's rule for pairs that no negative is
    farther than, without which an anchor amid strangers would learn nothing. The library's miner lists all triplets,
    whose number grows with the cube; this one needs the square.

    Args:
        vectors: (n, dim), L2-normalised.
        labels: (n,).
        reference: (m, dim) to choose from; None: the others of ``vectors``.
        reference_labels: (m,).

    Returns:
        Anchors, positives and negatives, (triplets,) int64 each.
    """
    alone = reference is None or reference_labels is None
    similarity = vectors @ (vectors if reference is None else reference).T  # (n, m)
    same = labels[:, None] == (labels if reference_labels is None else reference_labels)[None]
    negatives = (~same).sum(dim=1)  # (n,)
    positive = (same.fill_diagonal_(False) if alone else same) & (negatives > 0)[:, None]
    other = labels[:, None] != (labels if reference_labels is None else reference_labels)[None]
    ordered, places = torch.where(other, -similarity, math.inf).sort(dim=1)  # nearest first, positives at the end
    anchors, positives = positive.nonzero(as_tuple=True)
    farther = torch.searchsorted(ordered, -similarity, right=True)[anchors, positives]
    return anchors, positives, places[anchors, torch.minimum(farther, negatives[anchors] - 1)]
