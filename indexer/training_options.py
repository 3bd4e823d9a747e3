"""The choices of a training run as options: one table, from which the command line, the docs and summaries are made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from retrieval.choosing import LOSS_NAMES
from retrieval.recipe import Augmentation, Recipe


@dataclass(frozen=True)
class TrainingOption:
    """A field of ``Recipe`` or ``Augmentation`` as an option.

    Attributes:
        field: its name there.
        kind: of the value; ``bool`` makes a pair of switches.
        help: a clause; what stands there when nothing is given is added.
        low: least number.
        high: largest number; None: no limit.
        values: words that there are, where they are few.
        name: of the option; "" makes it of the field's.
        open_low: whether the least number itself is no choice.
    """

    field: str
    kind: type[Any]
    help: str
    low: float = 0
    high: float | None = None
    values: tuple[str, ...] = ()
    name: str = ""
    open_low: bool = False

    @property
    def flag(self) -> str:
        """What is typed: "--train-size"."""
        return f"--{self.name or self.field.replace('_', '-')}"


OPTIONS: Final = (
    TrainingOption("backbone", str, "timm's name of it"),
    TrainingOption("attention", str, "before pooling", values=("none", "cbam", "parts", "rollout")),
    TrainingOption(
        "pooling",
        str,
        "of the features",
        values=("native", "average", "max", "gem", "attention", "bilinear", "covariance"),
    ),
    TrainingOption("dim", int, "length of a vector; 0: as pooling gives it, without a linear layer"),
    TrainingOption("head", str, "classifier beside the vector", values=("none", "linear", "cosine")),
    TrainingOption(
        "loss",
        str,
        f"a loss, a sum such as proxy_anchor+0.5*ce, or xbm(...) around a loss of pairs: {', '.join(LOSS_NAMES)}",
    ),
    TrainingOption("smoothing", float, "label smoothing of cross-entropy", high=0.99),
    TrainingOption("image_size", int, "of the embedder, pixels a side", low=16),
    TrainingOption("train_size", int, "of training pictures, pixels a side", low=16),
    TrainingOption("first_size", int, "of the first epoch's pictures, which then grow; 0: they do not"),
    TrainingOption("batch", int, "pictures a step, over all processes", low=1),
    TrainingOption("per_class", int, "pictures of a class that a batch holds; 1: as they come", low=1),
    TrainingOption("optimizer", str, "the optimizer", values=("adamw", "adam")),
    TrainingOption("lr", float, "largest learning rate of the backbone and the projection", open_low=True),
    TrainingOption("head_lr", float, "that of attention, pooling and head", open_low=True),
    TrainingOption("proxy_lr", float, "that of the losses' proxies", open_low=True),
    TrainingOption("weight_decay", float, "of matrices and kernels; adam adds it to the gradient"),
    TrainingOption("layer_decay", float, "learning rate of a layer over that of the next", high=1, open_low=True),
    TrainingOption("schedule", str, "how learning rates fall", values=("cosine", "onecycle", "cyclic", "constant")),
    TrainingOption("warmup", float, "share of the steps over which they rise", high=0.9),
    TrainingOption("warmup_head", int, "epochs at the start that train only what is new"),
    TrainingOption("clip", float, "largest norm of the gradient; 0: any"),
    TrainingOption("ema", float, "decay of the weights' moving average; 0: none", high=0.99999),
    TrainingOption("batchnorm", str, "its statistics; scale and shift are trained", values=("frozen", "trained")),
    TrainingOption("precision", str, "of numbers; auto is bf16 on CUDA and 32 else", values=("auto", "32", "bf16")),
    TrainingOption("compiled", bool, "use torch.compile", name="compile"),
    TrainingOption("epochs", int, "times that every picture is shown", low=1),
    TrainingOption("patience", int, "validations without a better one, then stop; 0: never"),
    TrainingOption("validate_every", int, "epochs between validations; 0: so that they cost a tenth"),
    TrainingOption("seed", int, "of everything drawn", high=2**31 - 1),
    TrainingOption("deterministic", bool, "the same bits every time"),
    TrainingOption("zoom", float, "least share of a picture that a random crop keeps; 1: none", high=1, open_low=True),
    TrainingOption("stretch", float, "largest change of the crop's shape", low=1),
    TrainingOption("flip", float, "probability of a mirror image", high=1),
    TrainingOption("upside_down", float, "probability of a picture upside down", high=1),
    TrainingOption("rotation", float, "largest angle, degrees", high=180),
    TrainingOption("colour", float, "largest change of colours, as a share", high=1),
    TrainingOption("randaugment", float, "magnitude of RandAugment; 0: none", high=30),
    TrainingOption("erasing", float, "probability of an erased rectangle", high=1),
    TrainingOption("mixup", float, "alpha of mixup; 0: none"),
    TrainingOption("cutmix", float, "alpha of CutMix; 0: none"),
)
"""Every field of ``Recipe`` and ``Augmentation``, in their order."""

_OF_PICTURES: Final = ("loss", "head", "image_size", "train_size", "batch", "per_class", "ema", "epochs")
CHOSEN: Final = frozenset({"backbone", "pooling", "dim", "lr", *_OF_PICTURES})
"""What is chosen by the pictures and the backbone; the others have a usual value."""

_ZERO_IS_NONE: Final = frozenset({"dim", "first_size"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def seconds_of(time: str) -> float:
    """Read a time such as 90s, 30m, 2h or 1h30m.

    Raises:
        BadParameter: it is none.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smh])", time)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not seconds or "".join(map("".join, parts)) != time:
        raise click.BadParameter(f"{time!r} is no time: give it as 90s, 30m, 2h or 1h30m")
    return seconds


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every row of ``OPTIONS``."""
    for row in reversed(OPTIONS):
        command = _option(row)(command)
    return command


def given_choices(values: Mapping[str, Any]) -> dict[str, Any]:
    """Take what the user gave of ``OPTIONS`` from a command's values: field → value as a recipe has it.

    Raises:
        BadParameter: a number is not finite.
    """
    given = {row.field: values[row.field] for row in OPTIONS if values.get(row.field) is not None}
    for row in OPTIONS:
        value = given.get(row.field)
        if isinstance(value, float) and not math.isfinite(value):
            raise click.BadParameter(f"{value} is no number to train with", param_hint=row.flag)
    return {name: None if name in _ZERO_IS_NONE and value == 0 else value for name, value in given.items()}


def shown(value: Any) -> str:
    """Write a value of a recipe on one line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def usual(field: str) -> str:
    """What stands when an option is not given, as its help says."""
    if field in _ELSE:
        return f"{shown(_DEFAULTS[field])}; {_ELSE[field]}"
    return "chosen" if field in CHOSEN else shown(_DEFAULTS[field])


_SAMPLE: Final = Recipe("", 0, 0)
_DEFAULTS: Final[dict[str, Any]] = {**vars(_SAMPLE), **vars(Augmentation())}
_ELSE: Final = {
    "pooling": "native for a transformer, unless its attention is cbam or parts",
    "weight_decay": "0 for adam",
}
"""Field → what stands instead of its usual value, and when."""


class _NumberOrNone(click.IntRange):
    """A number that may be written "none" where that is what 0 means."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return int(super().convert(0 if value == "none" else value, param, ctx))


def _option(row: TrainingOption) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    said = row.help + (f": {', '.join(row.values)}" if row.values else "")
    text = f"{said if said.startswith('timm') else said[0].upper() + said[1:]}  [default: {usual(row.field)}]"
    if row.kind is bool:
        return click.option(f"{row.flag}/--no-{row.flag[2:]}", row.field, default=None, help=text)
    kind: Any = click.Choice(row.values) if row.values else str
    if row.kind is int:
        of = _NumberOrNone if row.field in _ZERO_IS_NONE else click.IntRange
        kind = of(int(row.low), None if row.high is None else int(row.high), min_open=row.open_low)
    elif row.kind is float:
        kind = click.FloatRange(row.low, row.high, min_open=row.open_low)
    return click.option(row.flag, row.field, type=kind, metavar="NAME" if row.kind is str else "N", help=text)
