"""Classifier heads: what they compute, and that they can be learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.heads import HEADS


def directions(count: int, dim: int) -> torch.Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(drawn, dim=1)


def test_heads_are_what_their_names_say() -> None:
    vectors = directions(5, 9)
    linear, cosine = HEADS["linear"].build(9, 4), HEADS["cosine"].build(9, 4)
    with torch.no_grad():
        for value in (linear.weight, linear.bias, cosine.weight):
            value.normal_()
        got = linear(vectors).numpy(), cosine(vectors).numpy()
    weight = linear.weight.detach().numpy()
    np.testing.assert_allclose(got[0], 3 * vectors.numpy() @ weight.T + linear.bias.detach().numpy(), rtol=1e-4)
    weight = cosine.weight.detach().numpy()
    cosines = vectors.numpy() @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
    np.testing.assert_allclose(got[1], 16 * cosines, rtol=1e-4, atol=1e-5)
    assert HEADS["none"].build is None


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_head_learns_to_tell_directions_apart(name: str) -> None:
    vectors, labels = directions(12, 8), torch.arange(12) % 6
    torch.manual_seed(0)
    head = HEADS[name].build(8, 6)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(vectors), labels).backward()
        optimizer.step()
    assert (head(vectors).argmax(1) == labels).all()


def test_logits_are_computed_in_full_precision_in_training_in_half() -> None:
    for name in ("linear", "cosine"):
        head = HEADS[name].build(8, 6)
        expected = head(directions(3, 8))
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(head(directions(3, 8)), expected, rtol=0, atol=0)
