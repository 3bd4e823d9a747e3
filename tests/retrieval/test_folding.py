"""Folding frozen BatchNorm changes neither what a network gives nor what it learns."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from retrieval.backbones import build_backbone
from retrieval.folding import fold


def _seen(name: str) -> nn.Module:
    """A backbone whose norms have seen something, or folding them would be no change."""
    torch.manual_seed(0)
    backbone = build_backbone(name)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
    return backbone.requires_grad_(True)


# The last two pad by the size of the picture, and have squeeze-and-excitation and residual sums.
@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "tf_mobilenetv3_small_minimal_100"])
def test_folded_gives_the_same_and_the_same_gradients(name: str) -> None:
    plain = _seen(name)
    folded = copy.deepcopy(plain)
    images = torch.rand(2, 3, 64, 64)
    folding = fold(folded, images)
    assert len(folding.pairs) >= 10
    expected, given = (model.forward_features(images) for model in (plain, folded))  # type: ignore[operator]
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (given * weights).sum().backward()
    folding.undo()
    of_folded = dict(folded.named_parameters())
    for parameter_name, parameter in plain.named_parameters():
        wanted, found = parameter.grad, of_folded[parameter_name].grad
        if wanted is None:
            assert found is None
            continue
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()) + 1e-6)


def test_undone_has_the_same_names_and_tensors() -> None:
    backbone = _seen("test_efficientnet")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    folding = fold(backbone, torch.rand(2, 3, 64, 64))
    assert list(backbone.state_dict()) != list(before)
    folding.undo()
    assert list(backbone.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


class _Branching(nn.Module):
    """The norm's input is used elsewhere too, so it must not be folded away."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.convolution(images)
        return self.norm(features) + features


def test_what_would_change_is_left_alone() -> None:
    torch.manual_seed(0)
    module = _Branching().eval()
    assert module.norm.running_mean is not None
    module.norm.running_mean.fill_(1.0)
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        before = module(images)
        assert fold(module, images).pairs == ()
        assert torch.equal(module(images), before)


def test_a_network_without_batchnorm_is_left_alone() -> None:
    backbone = build_backbone("test_vit")
    assert fold(backbone, torch.rand(1, 3, 160, 160)).pairs == ()
