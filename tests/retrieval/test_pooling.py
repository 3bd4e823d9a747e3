"""What each pooling computes, by a second implementation, in every layout of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.backbones import build_backbone
from retrieval.pooling import POOLINGS, Covariance, GeneralisedMean, square_root
from tests.retrieval.networks import LAST, MAPS, TOKENS


def values_of(channels: int, count: int = 2) -> torch.Tensor:
    """Features at 3 x 4 places, (count, 12, channels)."""
    return torch.randn(count, 12, channels, generator=torch.Generator().manual_seed(channels))


def laid_out(name: str, values: torch.Tensor) -> torch.Tensor:
    """As the backbone gives them."""
    if name == TOKENS:
        return torch.cat([torch.full_like(values[:, :1], 1e6), values], dim=1)  # the class token must not count
    grid = values.unflatten(1, (3, 4))
    return grid if name == LAST else grid.permute(0, 3, 1, 2)


def pool(name: str, pooling: str, values: torch.Tensor) -> tuple[torch.nn.Module, np.ndarray]:
    backbone = build_backbone(name)
    torch.manual_seed(0)
    module = POOLINGS[pooling].build(backbone, backbone.num_features, True)
    with torch.no_grad():
        pooled = module(backbone, laid_out(name, values))
    assert pooled.shape == (len(values), module.dim)
    return module, pooled.numpy()


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_statistics_are_what_their_names_say(name: str) -> None:
    values = values_of(build_backbone(name).num_features)
    plain = values.numpy().astype(np.float64)
    np.testing.assert_allclose(pool(name, "average", values)[1], plain.mean(1), atol=1e-6)
    np.testing.assert_allclose(pool(name, "max", values)[1], plain.max(1), atol=1e-6)
    cubes = np.cbrt((np.maximum(plain, 1e-6) ** 3).mean(1))
    np.testing.assert_allclose(pool(name, "gem", values)[1], cubes, atol=1e-5)


def test_the_native_pooling_is_the_backbones_own() -> None:
    for name in (MAPS, LAST, TOKENS):
        backbone = build_backbone(name)
        features = torch.randn(backbone.forward_features(torch.zeros(2, 3, 160, 160)).shape)
        module = POOLINGS["native"].build(backbone, backbone.num_features, True)
        with torch.no_grad():
            expected = backbone.forward_head(features, pre_logits=True)
            torch.testing.assert_close(module(backbone, features), expected)
        assert expected.shape == (2, module.dim)


def test_the_power_is_learned_where_it_may_be() -> None:
    backbone, values = build_backbone(MAPS), values_of(build_backbone(MAPS).num_features)
    fixed = GeneralisedMean(backbone.num_features, learned=False)
    learned = GeneralisedMean(backbone.num_features, learned=True)
    assert fixed.state_dict() == {} and list(learned.state_dict()) == ["power"]
    features = laid_out(MAPS, values)
    torch.testing.assert_close(fixed(backbone, features), learned(backbone, features).detach())
    with torch.no_grad():
        learned.power.fill_(1.0)
        expected = values.clamp(min=1e-6).mean(1)
        torch.testing.assert_close(learned(backbone, features), expected)


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_attention_weighs_places_and_begins_as_the_mean(name: str) -> None:
    values = values_of(build_backbone(name).num_features)
    module, pooled = pool(name, "attention", values)
    np.testing.assert_allclose(pooled, values.numpy().mean(1), atol=1e-6)
    with torch.no_grad():
        module.query.weight.normal_(std=0.2)
        got = module(build_backbone(name), laid_out(name, values)).numpy()
    weight = module.query.weight.detach().numpy()[0]
    for image, rows in enumerate(values.numpy()):
        shares = np.exp(rows @ weight)
        np.testing.assert_allclose(got[image], shares @ rows / shares.sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "dim"), [(MAPS, 4096), (LAST, 4096), (TOKENS, 4096)])
def test_bilinear_is_a_plain_loop(name: str, dim: int) -> None:
    values = values_of(build_backbone(name).num_features)
    module, pooled = pool(name, "bilinear", values)
    assert pooled.shape == (2, dim)
    weight = getattr(module.reduction, "weight", torch.eye(64)).detach().numpy().astype(np.float64)
    for image, rows in enumerate(values.numpy().astype(np.float64)):
        total = np.zeros((64, 64))
        for row in rows:
            total += np.outer(weight @ row, weight @ row)
        total /= len(rows)
        signed = np.sign(total) * np.sqrt(np.abs(total))
        # Signed roots of products near zero are told apart from zero by 1e-6 under the root.
        np.testing.assert_allclose(pooled[image], signed.ravel(), atol=2e-3)
        assert np.median(np.abs(pooled[image] - signed.ravel())) < 1e-5


def test_a_small_backbone_is_not_reduced() -> None:
    assert POOLINGS["bilinear"].build(None, 16, True).dim == 256
    assert POOLINGS["covariance"].build(None, 16, True).dim == 136
    assert not list(POOLINGS["covariance"].build(None, 64, True).parameters())


def test_the_square_root_is_that_by_eigenvalues() -> None:
    values = torch.randn(3, 200, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = values.transpose(1, 2) @ values / 200
    eigenvalues, vectors = torch.linalg.eigh(matrices)
    expected = vectors @ torch.diag_embed(eigenvalues.sqrt()) @ vectors.transpose(1, 2)
    torch.testing.assert_close(square_root(matrices, iterations=20), expected, rtol=1e-6, atol=1e-6)
    away = [float((square_root(matrices, iterations=steps) - expected).abs().max()) for steps in (1, 3, 5, 7)]
    assert away == sorted(away, reverse=True) and away[2] < 0.15


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_covariance_is_the_upper_triangle_of_its_root(name: str) -> None:
    values = values_of(build_backbone(name).num_features) + 5  # a covariance knows nothing of the mean
    module, pooled = pool(name, "covariance", values)
    weight = getattr(module.reduction, "weight", torch.eye(64)).detach().numpy().astype(np.float64)
    for image, rows in enumerate(values.numpy().astype(np.float64)):
        covariance = np.cov(rows @ weight.T, rowvar=False, bias=True)
        root = square_root(torch.from_numpy(covariance)[None])[0].numpy()
        np.testing.assert_allclose(pooled[image], root[np.triu_indices(64)], atol=1e-4)


def test_gradients_are_numbers_where_a_picture_has_one_colour() -> None:
    backbone = build_backbone(MAPS)
    for pooling in POOLINGS:
        module = POOLINGS[pooling].build(backbone, backbone.num_features, True)
        features = torch.zeros(2, backbone.num_features, 2, 2, requires_grad=True)
        module(backbone, features).sum().backward()
        assert torch.isfinite(features.grad).all(), pooling
        assert all(torch.isfinite(value.grad).all() for value in module.parameters()), pooling


def test_second_order_is_computed_in_full_precision_in_training_in_half() -> None:
    backbone = build_backbone(MAPS)
    torch.manual_seed(0)
    covariance = Covariance(backbone.num_features)
    features = torch.rand(2, backbone.num_features, 4, 4).to(torch.bfloat16)
    expected = covariance(backbone, features)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(covariance(backbone, features), expected, rtol=0, atol=0)
