"""Every choice of a training run; read without loading torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

CHECKPOINT: Final = "last.ckpt"
"""Of a run, in its folder: what a stopped one goes on from."""


@dataclass(frozen=True)
class Augmentation:
    """How a training picture is changed each time it is shown.

    Attributes:
        zoom: smallest share of the picture's area that a random crop keeps, in (0, 1]; 1: no random crop.
        stretch: largest change of the sides' ratio by that crop, at least 1.
        flip: probability of a mirror image.
        upside_down: probability of a picture upside down, for things without a top.
        rotation: largest angle to either side, degrees.
        colour: largest change of brightness, contrast and saturation, as a share; a third of it for the balance of
            red, green and blue.
        randaugment: magnitude of RandAugment's two operations (Cubuk et al., arXiv 1909.13719), 0 to 30; 0: none.
        erasing: probability that a rectangle is erased (Zhong et al., arXiv 1708.04896).
        mixup: alpha of mixup's Beta distribution (Zhang et al., arXiv 1710.09412); 0: none.
        cutmix: alpha of CutMix's (Yun et al., arXiv 1905.04899); 0: none. With both, every batch draws one of them.
    """

    zoom: float = 0.35
    stretch: float = 4 / 3
    flip: float = 0.5
    upside_down: float = 0.0
    rotation: float = 0.0
    colour: float = 0.3
    randaugment: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run.

    Attributes:
        backbone: timm's name.
        attention: a key of ``retrieval.attention.ATTENTIONS``.
        pooling: a key of ``retrieval.pooling.POOLINGS``.
        dim: length of a vector; None: what pooling gives, without a linear layer.
        head: a key of ``retrieval.heads.HEADS``.
        loss: an expression of ``retrieval.losses.parse``, such as "proxy_anchor+0.5*ce".
        smoothing: label smoothing of cross-entropy, in [0, 1).
        image_size: of the embedder and of validation, pixels a side.
        train_size: of training pictures, pixels a side; random crops look larger, so it may be smaller.
        first_size: of the first epoch, growing to ``train_size`` over the first half; None: always ``train_size``.
        batch: pictures a step, over all processes.
        per_class: pictures of a class that a batch holds; 1: classes are drawn as they come.
        augmentation: of training pictures.
        optimizer: "adamw" or "adam".
        lr: largest learning rate of the backbone's last layers and of the projection.
        head_lr: largest learning rate of what begins as noise: attention, pooling, head.
        proxy_lr: largest learning rate of proxies and other parameters of losses.
        weight_decay: of matrices and kernels; vectors have none.
        layer_decay: learning rate of a layer as a share of that of the layer above it, in (0, 1].
        schedule: "cosine", "cyclic" or "constant", each after the warm-up, or "onecycle", which has its own.
        warmup: share of the steps over which learning rates rise.
        warmup_head: epochs at the start in which only what is new is trained.
        clip: largest norm of the gradient; 0: any.
        ema: decay a step of the moving average of weights that is validated and kept; 0: the weights themselves.
        batchnorm: "frozen": statistics stay as pretrained, and scale and shift are trained; "trained": all is.
        precision: "auto": bfloat16 on CUDA, float32 else; "32"; "bf16".
        compiled: whether torch.compile is used.
        epochs: times that every picture is shown.
        patience: validations without a better one after which training stops; 0: never.
        validate_every: epochs between two validations; 0: chosen so that they cost a tenth of the time.
        seed: of everything drawn.
        deterministic: whether only algorithms are used that give the same bits every time.
    """

    backbone: str
    image_size: int
    train_size: int
    attention: str = "none"
    pooling: str = "average"
    dim: int | None = 512
    head: str = "cosine"
    loss: str = "ce"
    smoothing: float = 0.0
    first_size: int | None = None
    batch: int = 32
    per_class: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: str = "adamw"
    lr: float = 5e-4
    head_lr: float = 1e-2
    proxy_lr: float = 1e-2
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    schedule: str = "cosine"
    warmup: float = 0.1
    warmup_head: int = 0
    clip: float = 5.0
    ema: float = 0.0
    batchnorm: str = "frozen"
    precision: str = "auto"
    compiled: bool = False
    epochs: int = 12
    patience: int = 0
    validate_every: int = 0
    seed: int = 0
    deterministic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Give the choices as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Read what ``to_dict`` gave."""
        return cls(**{**values, "augmentation": Augmentation(**values["augmentation"])})
