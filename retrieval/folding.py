"""Frozen BatchNorm folded into the convolutions before it: the same function and gradients, in less time.

With frozen statistics BatchNorm is a scale and a shift a channel, so it can be applied to the kernel instead of to
the feature map, which is a thousand times larger. Both stay parameters and both are trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

TOLERANCE: Final = 1e-3


class Folded(nn.Module):
    """A convolution and the frozen BatchNorm behind it, with its activation where it has one."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (n, channels, height, width) with the scaled kernel."""
        norm, convolution = self.norm, self.convolution
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        shift = norm.bias - mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        changed = {"weight": convolution.weight * scale.view(-1, 1, 1, 1), "bias": shift}
        # Not conv2d itself: some backbones pad by the size of the picture in a forward of their own.
        features: Tensor = torch.func.functional_call(convolution, changed, (images,))
        for name in ("drop", "act"):  # timm's BatchNormAct2d
            if isinstance(part := getattr(norm, name, None), nn.Module):
                features = part(features)
        return features


@dataclass(frozen=True)
class Folding:
    """What was folded, so that it can be undone.

    Attributes:
        module: in which.
        pairs: names of the convolution and the norm, and both.
    """

    module: nn.Module
    pairs: tuple[tuple[str, str, nn.Conv2d, nn.BatchNorm2d], ...]

    def undo(self) -> None:
        """Put convolutions and norms back where they were."""
        for convolution_name, norm_name, convolution, norm in self.pairs:
            _put(self.module, convolution_name, convolution)
            _put(self.module, norm_name, norm)


def fold(module: nn.Module, images: Tensor) -> Folding:
    """Fold every BatchNorm that directly follows a convolution, in place; the module must be in inference mode.

    Args:
        module: a backbone without its head's forward: ``forward_features`` is called where there is one.
        images: (n, 3, height, width) to find the pairs with; also shows that nothing changed.

    Returns:
        What was folded; nothing where folding would change the result (a convolution whose output others use too).
    """
    forward = getattr(module, "forward_features", module)
    with torch.no_grad():
        before, found = _trace(module, forward, images)
        folding = Folding(module, found)
        for convolution_name, norm_name, convolution, norm in found:
            _put(module, convolution_name, Folded(convolution, norm))
            _put(module, norm_name, nn.Identity())
        after = forward(images)
    if not torch.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE * float(before.abs().max())):
        folding.undo()
        return Folding(module, ())
    return folding


def _trace(
    module: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor
) -> tuple[Tensor, tuple[tuple[str, str, nn.Conv2d, nn.BatchNorm2d], ...]]:
    """Run once and see which norm is given just what a convolution gave."""
    made_by: dict[int, tuple[str, nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[str, str, nn.Conv2d, nn.BatchNorm2d]] = []

    def after(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(part: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(part, nn.Conv2d):
                made_by[id(output)] = name, part, output  # the tensor too, or its id would be used again
            elif (maker := made_by.get(id(given[0]))) and isinstance(part, nn.BatchNorm2d) and part.affine:
                pairs.append((maker[0], name, maker[1], part))

        return hook

    hooks = [
        part.register_forward_hook(after(name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        output = forward(images)
    finally:
        for hook in hooks:
            hook.remove()
    once = {name for name, *_ in pairs if sum(name == other for other, *_ in pairs) == 1}
    return output, tuple(pair for pair in pairs if pair[0] in once)


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    above, _, last = name.rpartition(".")
    setattr(module.get_submodule(above), last, part)
