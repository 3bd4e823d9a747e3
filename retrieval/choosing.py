"""A training recipe for a backbone and some pictures, and why it is so; read without loading torch.

The numbers come from experiments with small networks on photos of groceries and cars, and hold for fine-tuning, not for
training from nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from retrieval.errors import InputError
from retrieval.recipe import Augmentation, Recipe

ASKED: Final = "asked for"
USUAL: Final = "as usual"

FEW_PICTURES: Final = 3_000
SMALL_BATCH, BATCH = 32, 64
SHOWN: Final = {"cpu": 80_000, "cuda": 200_000}
"""Pictures that a run shows in all, by the kind of device."""
FEWEST_EPOCHS, MOST_EPOCHS, MOST_IN_A_BUDGET = 6, 40, 60
TRAIN_SHARE: Final = 0.857
"""Side of training pictures as a share of the embedder's: random crops make things look larger (Touvron et al.,
NeurIPS 2019, arXiv 1906.06423)."""
STEP: Final = 32
"""Image sizes are chosen in steps of this many pixels: what most backbones reduce a picture by."""
TRANSFORMER_LR: Final = 3e-5
CNN_LR: Final = 2.5e-4
CNN_LRS: Final = {"ce": 5e-4, "proxy_anchor": 1e-4}
"""Learning rates of losses that want another than ``CNN_LR``; of a sum the smallest counts."""
AVERAGE: Final = 0.99
FEW_A_CLASS: Final = 4

LOSS_NAMES: Final = (
    "triplet",
    "triplet_hard",
    "contrastive",
    "multi_similarity",
    "margin",
    "supcon",
    "proxy_nca",
    "proxy_anchor",
    "soft_triple",
    "arcface",
    "cosface",
    "subcenter_arcface",
    "softmax",
    "ce",
    "ntxent",
)
"""The keys of ``retrieval.losses.LOSSES``, which loads torch."""
COMPARING: Final = frozenset({"triplet", "triplet_hard", "contrastive", "multi_similarity", "margin", "supcon"})
"""Losses that need two pictures of a class in a batch."""
GROUPED: Final = COMPARING | {"proxy_anchor"}
"""Losses that are better off with several."""
WITH_HEAD: Final = frozenset({"ce"})
WITHOUT_LABELS: Final = "ntxent"
LONG: Final = frozenset({"bilinear", "covariance", "parts"})
"""Poolings, and an attention that pools, that give far longer vectors than the backbone is wide."""
AVERAGED: Final = {
    "cbam": "cbam changes the patches, and native pooling may read only the class token",
    "parts": "parts pools by itself, and native pooling would have nothing left to do",
}
"""Attention that native pooling does not go with → why."""


@dataclass(frozen=True)
class Counts:
    """What there is to train on.

    Attributes:
        pictures: of the training part.
        classes: 0 without labels.
        smallest: pictures of the smallest class.
        median: pictures of the class in the middle.
        largest: pictures of the largest class.
    """

    pictures: int
    classes: int = 0
    smallest: int = 0
    median: float = 0.0
    largest: int = 0

    @classmethod
    def of(cls, labels: Sequence[str], *, pictures: int | None = None) -> Counts:
        """Count.

        Args:
            labels: of the training pictures; none of them where there are no labels.
            pictures: how many there are, where that is not the number of labels.
        """
        sizes = sorted(Counter(labels).values())
        if not sizes:
            return cls(pictures or 0)
        middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
        return cls(len(labels), len(sizes), sizes[0], middle, sizes[-1])


@dataclass(frozen=True)
class Choice:
    """A field of a recipe or its augmentation, its value, and in a clause why it has that."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True)
class Baseline:
    """A configuration of the field.

    Attributes:
        source: what it is and where it was published.
        backbone: timm's name of it; None: the usual one.
        choices: field → value.
    """

    source: str
    backbone: str | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)


_CLASSIFIED: Final = {"loss": "ce", "head": "linear"}

BASELINES: Final[dict[str, Baseline]] = {
    "parts": Baseline(
        "part attention with a classifier, as in WS-DAN (Hu et al., arXiv 1901.09891)",
        None,
        {**_CLASSIFIED, "attention": "parts", "pooling": "average", "dim": 512},
    ),
    "bcnn": Baseline(
        "bilinear pooling of VGG-16 with a classifier: B-CNN (Lin et al., ICCV 2015), channels reduced to 64 before",
        "vgg16",
        {**_CLASSIFIED, "pooling": "bilinear", "dim": None},
    ),
    "transfg": Baseline(
        "the patches that a ViT-B/16's attention rolls out to, with a classifier: TransFG (He et al., AAAI 2022)",
        "vit_base_patch16_224.augreg_in21k",
        {**_CLASSIFIED, "attention": "rollout", "pooling": "native", "dim": None},
    ),
    "cbam": Baseline(
        "ResNet-50 with channel and spatial attention and a classifier (CBAM, Woo et al., ECCV 2018)",
        "resnet50",
        {**_CLASSIFIED, "attention": "cbam", "pooling": "average", "dim": None},
    ),
    "transfer": Baseline(
        "plain transfer learning: ResNet-18 with a new classifier (Kornblith et al., CVPR 2019)",
        "resnet18",
        {**_CLASSIFIED, "pooling": "average", "dim": None},
    ),
}
"""Word for ``--as`` → the configuration; every option still overrides it."""


def choose(
    backbone: str,
    counts: Counts,
    *,
    device: str,
    budget: float | None,
    native_size: int,
    given: Mapping[str, Any],
    transformer: bool = False,
    baseline: str | None = None,
) -> tuple[Recipe, list[Choice]]:
    """Choose all that nobody has chosen; what depends on a choice that was made follows it.

    Args:
        backbone: timm's name.
        counts: of the training pictures.
        device: "cpu", "cuda" or "cuda:N".
        budget: seconds that the run may take; None: no limit.
        native_size: image size that the backbone was pretrained at, pixels a side.
        given: fields of ``Recipe`` and ``Augmentation`` that were chosen → values.
        transformer: whether the backbone cuts pictures into patches.
        baseline: a key of ``BASELINES``, whose choices count where ``given`` has none.

    Returns:
        The recipe, and each of its fields with the reason, in their order.

    Raises:
        InputError: there is no such baseline.
    """
    if baseline is not None and baseline not in BASELINES:
        raise InputError(f"there is no configuration {baseline!r}; --as takes one of {', '.join(BASELINES)}")
    asked: dict[str, tuple[Any, str]] = {}
    if baseline is not None:
        asked = {name: (value, f"as {baseline} has it") for name, value in BASELINES[baseline].choices.items()}
    asked |= {name: (value, ASKED) for name, value in given.items()}
    made: dict[str, tuple[Any, str]] = {"backbone": (backbone, asked.get("backbone", (None, USUAL))[1])}
    if baseline is not None and "backbone" not in given and BASELINES[baseline].backbone:
        made["backbone"] = (backbone, f"as {baseline} has it")

    def settle(name: str, value: Any, why: str) -> Any:
        made[name] = asked.get(name, (value, why))
        return made[name][0]

    loss = settle("loss", *_loss(counts, {name: value for name, (value, _) in asked.items()}))
    names = set(re.findall("[a-z_]+", str(loss)))
    settle("head", *_head(names))
    per_class = settle("per_class", *_per_class(names, counts, asked.get("batch", (None, ""))[0]))
    settle("batch", *_batch(per_class, counts))
    if transformer:
        settle("pooling", *_pooling(asked.get("attention", ("none", ""))[0]))
    settle("dim", *_dim({name: value for name, (value, _) in asked.items()}))
    image_size = settle(
        "image_size", native_size, "what the backbone was pretrained at; more shows finer detail, and takes longer"
    )
    settle("train_size", *_train_size(image_size, transformer))
    settle("lr", *_rate(names, transformer))
    if asked.get("optimizer", ("", ""))[0] == "adam":
        settle("weight_decay", 0.0, "adam adds decay to the gradient, where AdamW's would erase the weights")
    settle("ema", AVERAGE, "the weights of many steps, not of the last one only, at next to no cost")
    settle("epochs", *_epochs(counts, device.partition(":")[0], budget))
    recipe, choices = _filled(made, asked)
    return recipe, choices


def traits_of(backbone: str) -> tuple[int, bool]:
    """Tell what ``choose`` has to know of a backbone: its native image size, and whether it is a transformer.

    Raises:
        InputError: timm knows no such model.
    """
    from retrieval.backbones import build_backbone

    model = build_backbone(backbone)
    size = getattr(model, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1]
    return int(size), hasattr(model, "patch_embed")


def _filled(made: Mapping[str, tuple[Any, str]], asked: Mapping[str, tuple[Any, str]]) -> tuple[Recipe, list[Choice]]:
    """Make the recipe of what was settled, what else was asked for, and the defaults."""
    changes = {spot.name for spot in fields(Augmentation)}
    known = {spot.name for spot in fields(Recipe)} - {"augmentation"}
    assert set(asked) <= changes | known, f"no such field: {set(asked) - changes - known}"
    settled = {**asked, **made}
    augmentation = Augmentation(**{name: value for name, (value, _) in settled.items() if name in changes})
    recipe = Recipe(**{name: value for name, (value, _) in settled.items() if name in known}, augmentation=augmentation)
    choices = []
    for spot in fields(Recipe):
        if spot.name != "augmentation":
            choices.append(Choice(spot.name, getattr(recipe, spot.name), settled.get(spot.name, (None, USUAL))[1]))
    for spot in fields(Augmentation):
        choices.append(Choice(spot.name, getattr(augmentation, spot.name), settled.get(spot.name, (None, USUAL))[1]))
    return recipe, choices


def _loss(counts: Counts, asked: Mapping[str, Any]) -> tuple[str, str]:
    """Choose a loss that goes with the head that was asked for, and with any batches and mixing."""
    if not counts.classes:
        return WITHOUT_LABELS, "there are no labels, so it learns which pictures are views of one"
    if asked.get("head") == "none":
        return "softmax", "learns as ce does, with directions of classes that are not kept: there is no head"
    return "ce", "the best of those tried on classes that were held out, and it names the class"


def _pooling(attention: str) -> tuple[str, str]:
    if attention in AVERAGED:
        return "average", AVERAGED[attention]
    return "native", "as the transformer was pretrained"


def _dim(asked: Mapping[str, Any]) -> tuple[int | None, str]:
    """Project only what is long: a projection costs points where pictures are few."""
    for name in (asked.get("pooling"), asked.get("attention")):
        if name in LONG:
            return 512, f"{name} gives many times as many, and 512 tell thousands of classes apart"
    return None, "as pooling gives it: a projection to fewer costs points where pictures are few"


def _head(names: set[str]) -> tuple[str, str]:
    if names & WITH_HEAD:
        return "cosine", "learns with ce, and names the class"
    return "none", "the loss does not train one"


def _per_class(names: set[str], counts: Counts, batch: int | None) -> tuple[int, str]:
    if WITHOUT_LABELS in names:
        return 1, "there are no classes in self-supervised training"
    if not names & GROUPED:
        return 1, "the loss sees one picture at a time"
    wanted = 2 if counts.median < FEW_A_CLASS else 4
    why = f"the loss sees pictures of a class together, and the median class has {counts.median:g}"
    if batch is not None:
        fitting = _groups(batch, wanted)
        if fitting and fitting[0] != wanted:
            return fitting[0], f"goes into a batch of {batch}"
        if not fitting and not names & COMPARING:
            return 1, f"a batch of {batch} cannot be parted into classes"
    return wanted, why


def _groups(batch: int, most: int) -> list[int]:
    """Pictures of a class that a batch can hold, at most so many: it is made of whole groups of two classes or more."""
    return [n for n in range(most, 1, -1) if batch % n == 0 and batch >= 2 * n]


def _batch(per_class: int, counts: Counts) -> tuple[int, str]:
    few = counts.pictures <= FEW_PICTURES
    wanted, why = (SMALL_BATCH, "few pictures, so small steps") if few else (BATCH, f"{counts.pictures:,} pictures")
    room = counts.classes * per_class if per_class > 1 else counts.pictures
    if room < wanted:
        what = f"{counts.classes:,} classes with {per_class} of each" if per_class > 1 else "there are no more pictures"
        wanted, why = max(room, 2 * per_class), what
    return max(2 * per_class, wanted // per_class * per_class), why


def _rate(names: set[str], transformer: bool) -> tuple[float, str]:
    if transformer:
        return TRANSFORMER_LR, "for a transformer"
    lowest = min(CNN_LRS.get(name, CNN_LR) for name in names & set(LOSS_NAMES) or {""})
    return lowest, "for a convolutional network that learns with this loss"


def _train_size(image_size: int, transformer: bool) -> tuple[int, str]:
    if transformer:
        return image_size, "a transformer's positions are of one size"
    size = min(image_size, max(STEP, round(TRAIN_SHARE * image_size / STEP) * STEP))
    if size == image_size:
        return size, "the size of the embedder"
    return size, "random crops make things look larger, and small pictures cost less"


def _epochs(counts: Counts, kind: str, budget: float | None) -> tuple[int, str]:
    if budget is not None:
        return MOST_IN_A_BUDGET, "at the most; as many as go into the budget"
    shown = SHOWN.get(kind, SHOWN["cpu"])
    epochs = round(shown / max(1, counts.pictures))
    if epochs > MOST_EPOCHS:
        return MOST_EPOCHS, "few pictures, and more only learns them by heart"
    if epochs < FEWEST_EPOCHS:
        return FEWEST_EPOCHS, "many pictures, and fewer would not settle"
    return epochs, f"so that about {shown:,} pictures are shown"
