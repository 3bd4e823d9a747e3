"""Losses of metric learning, a row each, and the small language of their sums.

``LOSSES`` maps a name to a ``Loss``; ``parse`` reads ``"proxy_anchor + 0.5*ce"`` or ``"xbm(contrastive)"``. Numbers are
those of the papers or of their authors' code, and stand in the row's ``help``. Proxies and class weights, of which only
directions count, all begin as normal numbers with standard deviation 0.1, near to what the authors of Proxy-Anchor and
ProxyNCA++ chose: how far a step turns them depends on their length, so one ``proxy_lr`` then suits every loss.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor
from torch.nn import functional

from retrieval.errors import InputError
from retrieval.mining import distance_weighted, semi_hard

PROXY_DEVIATION: Final = 0.1
MEMORY_LIMIT: Final = 8192
"""Largest number of vectors in a cross-batch memory: a step on two cores stays well below the network's own time."""
FEW_PICTURES: Final = 20
"""Pictures a class, on average, below which SoftTriple keeps two centres a class, as its authors do on SOP."""
SHORTEST_ANGLE: Final = 1e-6
"""Cosines stay this far from -1 and 1 where an angle is taken of them: arccos has no finite slope there, and with
torch before 2.15 the library's own clamp lets it through."""
MEMORY: Final = "xbm"

_Miner = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Sizes:
    """What losses are built for.

    Attributes:
        classes: to tell apart.
        dim: length of a vector.
        images: in the training set.
        smoothing: label smoothing of cross-entropy, in [0, 1).
    """

    classes: int
    dim: int
    images: int
    smoothing: float


@dataclass(frozen=True)
class Loss:
    """A row of ``LOSSES``.

    Attributes:
        build: makes the module. It takes L2-normalised vectors (n, dim), or logits (n, classes) with ``needs_head``,
            and int64 labels (n,); a mixable one gives a loss an image (n,), the others one number for the batch. With
            ``needs_pairs`` it also takes vectors (m, dim) and labels (m,) to compare with instead of the batch.
        help: what it is, its paper and its numbers.
        needs_labels: whether it needs classes; else a label is the position of a picture shown ``views`` times.
        needs_pairs: whether a batch must hold two images of a class; only these can have a cross-batch memory.
        mixable: whether it is a sum over images against classes, so that mixup and CutMix make sense.
        needs_head: whether it takes the logits of the network's head.
        views: times that a picture is shown in a batch.
    """

    build: Callable[[Sizes], torch.nn.Module]
    help: str
    needs_labels: bool = True
    needs_pairs: bool = False
    mixable: bool = False
    needs_head: bool = False
    views: int = 1


class BatchLoss(torch.nn.Module):
    """A loss of a whole batch, on what its miner chooses."""

    def __init__(self, loss: torch.nn.Module, miner: _Miner | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(
        self,
        vectors: Tensor,
        labels: Tensor,
        reference: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        """Give one number: of (n, dim) among each other, or against a reference (m, dim) that shares no row."""
        chosen = None if self.miner is None else self.miner(vectors, labels, reference, reference_labels)
        value: Tensor = self.loss(vectors, labels, chosen, reference, reference_labels)
        # Where nothing was chosen, parameters still get a gradient of zero, as on every other step.
        return value.squeeze() + sum(0.0 * parameter.sum() for parameter in self.loss.parameters())


class ImageLoss(torch.nn.Module):
    """A loss of each image against proxies or class weights."""

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Give a loss an image: (n, dim) → (n,)."""
        values: Tensor = self.loss(vectors, labels)["loss"]["losses"]
        return values  # (n,)


class SoftTriple(torch.nn.Module):
    """SoftTriple (Qian et al., ICCV 2019, arXiv 1909.05235): several centres a class, pulled together.

    The pull is written here: the library's compares the centres of all classes, whose number squared is soon too large.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        few = sizes.images < FEW_PICTURES * sizes.classes
        self.centres, self.pull = (2, 0.0) if few else (10, 0.2)
        kind = partial(losses.SoftTripleLoss, centers_per_class=self.centres, la=20, gamma=0.1, margin=0.01)
        self.images = _against_classes(kind, sizes)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Give a loss an image: (n, dim) → (n,), the pull in each."""
        values: Tensor = self.images(vectors, labels)
        if not self.pull:
            return values
        weights = self.images.loss.get_parameter("fc")  # (dim, classes x centres)
        centres = functional.normalize(weights, dim=0).T.reshape(-1, self.centres, len(weights))
        first, second = torch.triu_indices(self.centres, self.centres, offset=1, device=weights.device)
        similarity = (centres @ centres.transpose(1, 2))[:, first, second]  # (classes, pairs)
        pull: Tensor = (2.0 + 1e-5 - 2.0 * similarity).sqrt().mean() / 2.0
        return values + self.pull * pull


class CrossEntropy(torch.nn.Module):
    """Cross-entropy of a head's logits with label smoothing (Szegedy et al., CVPR 2016)."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give a loss an image: (n, classes) → (n,)."""
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)


class _Inside(distances.CosineSimilarity):  # type: ignore[misc]
    """Cosine similarity of which an angle can be taken, and its gradient."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        similarity: Tensor = super().compute_mat(query_emb, ref_emb)
        return similarity.clamp(SHORTEST_ANGLE - 1.0, 1.0 - SHORTEST_ANGLE)


def _against_classes(kind: Callable[..., Any], sizes: Sizes, **numbers: Any) -> ImageLoss:
    weights = {"num_classes": sizes.classes, "embedding_size": sizes.dim, "weight_init_func": _start}
    return ImageLoss(kind(**weights, reducer=reducers.DoNothingReducer(), **numbers))


def _start(weights: Tensor) -> None:
    torch.nn.init.normal_(weights, std=PROXY_DEVIATION)


def _triplet(sizes: Sizes) -> BatchLoss:
    return BatchLoss(losses.TripletMarginLoss(margin=0.2, distance=distances.LpDistance(power=2)), semi_hard)


def _triplet_hard(sizes: Sizes) -> BatchLoss:
    return BatchLoss(losses.TripletMarginLoss(margin=0.2), miners.BatchHardMiner())


def _contrastive(sizes: Sizes) -> BatchLoss:
    cosine = distances.CosineSimilarity()
    return BatchLoss(losses.ContrastiveLoss(pos_margin=1.0, neg_margin=0.5, distance=cosine))


def _multi_similarity(sizes: Sizes) -> BatchLoss:
    return BatchLoss(losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), miners.MultiSimilarityMiner(epsilon=0.1))


def _margin(sizes: Sizes) -> BatchLoss:
    learned = {"learn_beta": True, "num_classes": sizes.classes}
    return BatchLoss(losses.MarginLoss(margin=0.2, nu=0, beta=1.2, **learned), distance_weighted)


def _proxy_anchor(sizes: Sizes) -> BatchLoss:
    kind = partial(losses.ProxyAnchorLoss, margin=0.1, alpha=32)
    return BatchLoss(kind(num_classes=sizes.classes, embedding_size=sizes.dim, weight_init_func=_start))


def _contrast(sizes: Sizes) -> BatchLoss:
    return BatchLoss(losses.SupConLoss(temperature=0.1))


LOSSES: Final[dict[str, Loss]] = {
    "triplet": Loss(
        _triplet,
        "triplets with semi-hard negatives, squared distance, margin 0.2 (Schroff et al., CVPR 2015); the mean over"
        " those within the margin",
        needs_pairs=True,
    ),
    "triplet_hard": Loss(
        _triplet_hard,
        "triplets of the farthest positive and the nearest negative, margin 0.2 (Hermans et al., arXiv 1703.07737);"
        " the mean over those within the margin",
        needs_pairs=True,
    ),
    "contrastive": Loss(
        _contrastive,
        "pairs: positives to similarity 1, negatives below 0.5 (Hadsell et al., CVPR 2006, with the similarity and"
        " margin of Wang et al., CVPR 2020); the mean over pairs that are not there yet",
        needs_pairs=True,
    ),
    "multi_similarity": Loss(
        _multi_similarity,
        "pairs weighted by three similarities, with its miner: alpha 2, beta 50, base 0.5, epsilon 0.1 (Wang et al.,"
        " CVPR 2019)",
        needs_pairs=True,
    ),
    "margin": Loss(
        _margin,
        "pairs on either side of a learned boundary a class, with distance-weighted mining: margin 0.2, beta from 1.2"
        " (Wu et al., ICCV 2017)",
        needs_pairs=True,
    ),
    "supcon": Loss(
        _contrast,
        "supervised contrastive: positives against the whole batch, temperature 0.1 (Khosla et al., NeurIPS 2020)",
        needs_pairs=True,
    ),
    "proxy_nca": Loss(
        partial(_against_classes, losses.ProxyNCALoss, softmax_scale=9, distance=distances.LpDistance(power=2)),
        "ProxyNCA++: softmax over squared distances to a proxy a class, temperature 1/9 (Teh et al., ECCV 2020)",
        mixable=True,
    ),
    "proxy_anchor": Loss(
        _proxy_anchor,
        "each proxy as an anchor against the batch: margin 0.1, alpha 32 (Kim et al., CVPR 2020)",
    ),
    "soft_triple": Loss(
        SoftTriple,
        "softmax over softly chosen centres of a class: lambda 20, gamma 0.1, margin 0.01, 10 centres with pull 0.2,"
        f" 2 without it below {FEW_PICTURES} pictures a class (Qian et al., ICCV 2019)",
        mixable=True,
    ),
    "arcface": Loss(
        lambda sizes: _against_classes(losses.ArcFaceLoss, sizes, margin=28.6, scale=64, distance=_Inside()),
        "softmax with an angle added to the own class: 28.6 degrees, scale 64 (Deng et al., CVPR 2019)",
        mixable=True,
    ),
    "cosface": Loss(
        lambda sizes: _against_classes(losses.CosFaceLoss, sizes, margin=0.35, scale=64),
        "softmax with a margin on the own class's cosine: 0.35, scale 64 (Wang et al., CVPR 2018)",
        mixable=True,
    ),
    "subcenter_arcface": Loss(
        lambda sizes: _against_classes(
            losses.SubCenterArcFaceLoss, sizes, margin=28.6, scale=64, sub_centers=3, distance=_Inside()
        ),
        "ArcFace to the nearest of 3 centres a class, so that wrong labels do less harm (Deng et al., ECCV 2020)",
        mixable=True,
    ),
    "softmax": Loss(
        lambda sizes: _against_classes(losses.NormalizedSoftmaxLoss, sizes, temperature=0.05),
        "normalised softmax: cosines to a weight a class, temperature 0.05 (Zhai and Wu, BMVC 2019)",
        mixable=True,
    ),
    "ce": Loss(
        lambda sizes: CrossEntropy(sizes.smoothing),
        "cross-entropy of the head's logits, with label smoothing (Szegedy et al., CVPR 2016)",
        mixable=True,
        needs_head=True,
    ),
    # With one positive an anchor, supervised contrastive is NT-Xent; the library's NTXentLoss holds n³ numbers.
    "ntxent": Loss(
        _contrast,
        "self-supervised: two views of a picture against the rest of the batch, temperature 0.1 (Chen et al., ICML"
        " 2020)",
        needs_labels=False,
        views=2,
    ),
}


@dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Attributes:
        loss: a key of ``LOSSES``.
        weight: above 0.
        memory: whether it also compares with vectors of earlier batches.
    """

    loss: str
    weight: float = 1.0
    memory: bool = False

    @property
    def name(self) -> str:
        """What it is called, without its weight: "ce", "xbm(contrastive)"."""
        return f"{MEMORY}({self.loss})" if self.memory else self.loss

    @property
    def row(self) -> Loss:
        """What the loss is and needs."""
        return LOSSES[self.loss]


def parse(expression: str) -> tuple[Term, ...]:
    """Read a sum of losses, such as "proxy_anchor + 0.5*ce" or "xbm(contrastive)".

    Raises:
        InputError: an unknown name, a weight that is no number above 0, a memory around what compares no pairs, a loss
            twice, or a self-supervised loss beside another.
    """
    # The sign of an exponent, as in 1e+1, joins no terms.
    terms = tuple(_term(text.strip(), expression) for text in re.split(r"(?<![0-9.][eE])\+", expression))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the loss {expression!r} has {name} twice: give it once, with the sum of the weights")
    for term in terms:
        if len(terms) > 1 and not term.row.needs_labels:
            raise InputError(
                f"the loss {expression!r} adds {term.name}, which knows no classes, to others: it stands alone"
            )
    return terms


def _term(text: str, expression: str) -> Term:
    number, star, rest = text.rpartition("*")
    weight = _weight(number.strip(), expression) if star else 1.0
    name = rest.strip()
    inner = re.fullmatch(rf"{MEMORY}\s*\((.*)\)", name)
    memory = inner is not None
    name = inner[1].strip() if inner else name
    pairs = ", ".join(key for key, row in LOSSES.items() if row.needs_pairs)
    if memory and (name not in LOSSES or not LOSSES[name].needs_pairs):
        raise InputError(
            f"the loss {expression!r} puts a cross-batch memory around {name!r}, which is no loss of pairs: "
            f"{MEMORY}(...) goes around one of {pairs}"
        )
    if not name:
        raise InputError(f"the loss {expression!r} lacks a name before or after a sign: write it as ce+0.2*triplet")
    if name not in LOSSES:
        raise InputError(
            f"there is no loss {name!r}{_alike(name)}: choose from {', '.join(LOSSES)}, {MEMORY}(...) around a loss of "
            "pairs, or a sum such as proxy_anchor+0.5*ce"
        )
    return Term(name, weight, memory)


def _alike(name: str) -> str:
    near = difflib.get_close_matches(name, LOSSES, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _weight(number: str, expression: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(
            f"the loss {expression!r} has the weight {number!r}: give a number above 0, as in proxy_anchor+0.5*ce"
        )
    return weight
