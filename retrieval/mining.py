"""Which triplets of a batch a loss looks at; the library's miners do the rest."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

NEAREST: Final = 0.5
"""Distance below which distance-weighted mining takes all for equally near: pairs nearer still teach mostly noise."""
FARTHEST: Final = 1.4
"""Distance from which a negative has no part in distance-weighted mining, since margin losses are content with it."""


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
    similarity = vectors @ (vectors if reference is None else reference).T  # (n, m)
    other, positive = _related(labels, reference_labels)
    ordered, places = torch.where(other, -similarity, math.inf).sort(dim=1)  # nearest first, positives at the end
    anchors, positives = positive.nonzero(as_tuple=True)
    farther = torch.searchsorted(ordered, -similarity, right=True)[anchors, positives]
    return anchors, positives, places[anchors, torch.minimum(farther, other.sum(dim=1)[anchors] - 1)]


@torch.no_grad()
def distance_weighted(
    vectors: Tensor, labels: Tensor, reference: Tensor | None = None, reference_labels: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each anchor and positive a negative, evenly over distances (Wu et al., ICCV 2017, section 4).

    A negative's weight is one over how many points of the sphere are as far: q(D)⁻¹ = D^(2-d) (1 - D²/4)^((3-d)/2). As
    in the authors' code, an anchor without a negative nearer than 1.4 draws from all. The library's miner divides by
    the largest weight of the batch instead of the anchor's, so that in 512 dimensions most anchors are lost to
    underflow, and it needs memory for triplets times references.

    Args:
        vectors: (n, dim), L2-normalised.
        labels: (n,).
        reference: (m, dim) to choose from; None: the others of ``vectors``.
        reference_labels: (m,).

    Returns:
        Anchors, positives and negatives, (triplets,) int64 each, drawn from torch's generator.
    """
    similarity = vectors @ (vectors if reference is None else reference).T  # (n, m)
    other, positive = _related(labels, reference_labels)
    distance = (2.0 - 2.0 * similarity).clamp(NEAREST**2, FARTHEST**2).sqrt()
    dim = vectors.shape[1]
    logarithms = (2.0 - dim) * distance.log() + (3.0 - dim) / 2.0 * (1.0 - distance.square() / 4.0).log()
    near = other & (distance < FARTHEST)
    near |= other & ~near.any(dim=1, keepdim=True)
    anchors, positives = positive.nonzero(as_tuple=True)
    if not len(anchors):
        return anchors, positives, positives
    rows = positive.any(dim=1).nonzero()[:, 0]
    weights = torch.where(near, logarithms, -math.inf)[rows].softmax(dim=1)  # (rows, m)
    counts = positive.sum(dim=1)  # (n,)
    drawn = torch.multinomial(weights, int(counts.max()), replacement=True)  # (rows, draws)
    wanted = torch.arange(drawn.shape[1], device=drawn.device) < counts[rows][:, None]
    return anchors, positives, drawn[wanted]


def _related(labels: Tensor, reference_labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Say who is a negative and who a positive of whom, both (n, m); anchors without negatives have no positives."""
    other = labels[:, None] != (labels if reference_labels is None else reference_labels)[None]
    positive = ~other & other.any(dim=1, keepdim=True)
    if reference_labels is None:
        positive.fill_diagonal_(False)
    return other, positive
