"""Losses: each against its paper's formula written plainly, what they choose, and that they teach."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from retrieval.losses import FEW_PICTURES, LOSSES
from retrieval.mining import distance_weighted, semi_hard
from retrieval.objective import Objective
from tests.retrieval.plain_losses import (
    CLASSES,
    DIM,
    EVERY,
    PLAIN,
    N,
    dot,
    draw,
    far,
    logits,
    lse,
    mean,
    objective,
    one_thread,
    plain_semi_hard,
    plain_soft_triple,
    positive,
    proxies_of,
)

__all__ = ["one_thread"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLAIN)
def test_a_loss_is_its_papers_formula(name: str, seed: int) -> None:
    vectors, labels = draw(seed)
    made = objective(name, seed=seed)
    total, parts = made(vectors, labels)
    expected = PLAIN[name](vectors.double().tolist(), labels.tolist(), proxies_of(made))
    assert expected > 0.01
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert parts[name].item() == total.item() and not parts[name].requires_grad


@pytest.mark.parametrize(("images", "centres"), [(FEW_PICTURES * CLASSES, 10), (FEW_PICTURES * CLASSES - 1, 2)])
def test_soft_triple_keeps_fewer_centres_where_classes_are_small(images: int, centres: int) -> None:
    vectors, labels = draw(0)
    made = objective("soft_triple", images=images)
    proxies = proxies_of(made)
    assert len(proxies) == CLASSES * centres
    expected = plain_soft_triple(vectors.double().tolist(), labels.tolist(), proxies)
    assert made(vectors, labels)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_gives_a_share_of_each_label_to_all_classes(smoothing: float) -> None:
    vectors, labels = draw(0)
    total, _ = objective("ce", smoothing=smoothing)(vectors, labels, logits())
    values = []
    for row, label in zip(logits().double().tolist(), labels.tolist(), strict=True):
        shares = [smoothing / CLASSES + (1 - smoothing) * (c == label) for c in range(CLASSES)]
        values.append(sum(share * (lse(row) - score) for share, score in zip(shares, row, strict=True)))
    assert total.item() == pytest.approx(mean(values), rel=1e-5)


def test_ntxent_finds_the_other_view_of_a_picture() -> None:
    vectors, _ = draw(0)
    positions = torch.arange(N) % (N // 2)
    rows, values = vectors.double().tolist(), []
    for a in range(N):
        others = [dot(rows[a], rows[i]) / 0.1 for i in range(N) if i != a]
        values.append(lse(others) - dot(rows[a], rows[(a + N // 2) % N]) / 0.1)
    made = Objective("ntxent", classes=0, dim=DIM, images=N)
    assert made(vectors, positions)[0].item() == pytest.approx(mean(values), rel=1e-5)
    assert made.views == 2 and not made.needs_labels


def test_margin_puts_pairs_on_either_side_of_their_class_boundary() -> None:
    vectors, labels = draw(0)
    made = objective("margin")
    beta = made.losses[0].loss.beta
    with torch.no_grad():
        beta += torch.tensor([-0.3, 0.0, 0.1, 0.2])
    torch.manual_seed(5)
    chosen = torch.stack(distance_weighted(vectors, labels)).T.tolist()
    torch.manual_seed(5)
    total, _ = made(vectors, labels)
    rows, near, away = vectors.double().tolist(), [], []
    for a, p, n in chosen:
        near.append(far(rows[a], rows[p]) - beta[labels[a]].item() + 0.2)
        away.append(beta[labels[a]].item() - far(rows[a], rows[n]) + 0.2)
    expected = (sum(positive(near)) + sum(positive(away))) / (len(positive(near)) + len(positive(away)))
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_a_negative_as_far_as_the_positive_is_not_semi_hard() -> None:
    vectors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    chosen = torch.stack(semi_hard(vectors, torch.tensor([0, 0, 1, 2]))).T.tolist()
    assert chosen[0] == [0, 1, 3]


def test_distance_weighted_mining_forgets_no_anchor_in_many_dimensions() -> None:
    """In the library's, the weights of all anchors but those with the very nearest negatives are zero."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 512, generator=generator) + 1.2 * torch.randn(32, 512, generator=generator)
    vectors[1] = vectors[0] + 0.3 * torch.randn(512, generator=generator)
    vectors, labels = functional.normalize(vectors, dim=1), torch.arange(32) % 8
    chosen = torch.stack(distance_weighted(vectors, labels)).T.tolist()
    same = [(a, p) for a, p in product(range(32), repeat=2) if a != p and labels[a] == labels[p]]
    assert [(a, p) for a, p, _ in chosen] == same
    assert all(labels[a] != labels[n] for a, _, n in chosen)


@pytest.mark.parametrize("dim", [3, 8, 64])
def test_distance_weighted_mining_draws_evenly_over_distances(dim: int) -> None:
    """An anchor with 20,000 positives draws as often: near ones count as 0.5 away, those from 1.4 on never."""
    distances = [0.1, 0.5, 0.6, 0.9, 1.2, 1.39, 1.45, 1.9]
    angles = [2 * math.asin(distance / 2) for distance in distances] + [1.0] * 20_000
    reference = torch.zeros(len(angles), dim)
    reference[:, 0], reference[:, 1] = torch.tensor(angles).cos(), torch.tensor(angles).sin()
    labels = torch.tensor([1] * len(distances) + [0] * 20_000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        anchors, positives, negatives = distance_weighted(torch.eye(1, dim), labels[-1:], reference, labels)
    assert not anchors.any() and torch.equal(positives, torch.arange(8, len(angles)))
    found = torch.bincount(negatives, minlength=8) / 20_000
    cut = [max(distance, 0.5) for distance in distances]
    expected = [d ** (2 - dim) * (1 - d * d / 4) ** ((3 - dim) / 2) * (d < 1.4) for d in cut]
    assert found.tolist() == pytest.approx([share / sum(expected) for share in expected], abs=0.015)


def test_distance_weighted_mining_takes_what_there_is() -> None:
    vectors = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    chosen = distance_weighted(vectors, torch.tensor([0, 0, 1]))
    assert [part.tolist() for part in chosen] == [[0, 1], [1, 0], [2, 2]]


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=60)
def test_semi_hard_mining_is_its_rule(seed: int, n: int, m: int, classes: int) -> None:
    vectors, labels = draw(seed, n + m)
    labels = labels % classes
    assert list(zip(*[chosen.tolist() for chosen in semi_hard(vectors, labels)], strict=True)) == plain_semi_hard(
        vectors.double().tolist(), labels.tolist()
    )
    against = semi_hard(vectors[:n], labels[:n], vectors[n:], labels[n:])
    rows, expected = vectors.double(), []
    for a, p in product(range(n), range(n, n + m)):
        others = sorted(
            (i for i in range(n, n + m) if labels[i] != labels[a]), key=lambda i: -(rows[a] @ rows[i]).item()
        )
        if labels[a] == labels[p] and others:
            farther = [i for i in others if rows[a] @ rows[i] < rows[a] @ rows[p]]
            expected.append((a, p - n, (farther or others[::-1])[0] - n))
    assert list(zip(*[chosen.tolist() for chosen in against], strict=True)) == expected


@given(
    st.sampled_from([name for name in LOSSES if name != "margin"]), st.integers(0, 10_000), st.permutations(range(N))
)
@settings(max_examples=100)
def test_the_order_of_a_batch_changes_no_loss(name: str, seed: int, order: list[int]) -> None:
    """Margin draws its pairs, so that its loss is another each time."""
    vectors, labels = draw(seed)
    made = objective(name)
    total, _ = made(vectors, labels, logits())
    again, _ = made(vectors[order], labels[order], logits()[order])
    assert again.item() == pytest.approx(total.item(), rel=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_every_loss_teaches_a_small_network(name: str) -> None:
    """8 classes of 4 noisy points: Recall@1 below 80 % at first, 100 % after 60 steps."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(8).repeat_interleave(4)
    points = torch.randn(8, 16, generator=generator)[labels] + 0.5 * torch.randn(32, 16, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
        head = torch.nn.Linear(16, 8)
        made = Objective(name, classes=8, dim=16, images=64, smoothing=0.1)
        groups = [{"params": [*network.parameters(), *head.parameters()], "lr": 0.02}]
        if own := list(made.parameters()):
            groups.append({"params": own, "lr": 0.01})
        optimizer = torch.optim.Adam(groups)
        recalls, reached = [], dict.fromkeys(made.state_dict(), False)
        for _ in range(60):
            vectors = functional.normalize(network(points), dim=1)
            similarity = (vectors @ vectors.T).detach().fill_diagonal_(-2)
            recalls.append((labels[similarity.argmax(dim=1)] == labels).float().mean().item())
            optimizer.zero_grad()
            total, _ = made(vectors, labels, 3 * head(vectors))
            total.backward()
            for key, parameter in made.named_parameters():
                assert parameter.grad is not None and bool(parameter.grad.isfinite().all())
                reached[key] |= bool(parameter.grad.any())
            optimizer.step()
    assert recalls[0] < 0.8 and recalls[-1] == 1.0
    assert all(reached[key] for key, _ in made.named_parameters())


CASES = {
    "at right angles": (torch.eye(DIM), torch.arange(DIM) % CLASSES),
    "all of one class": (draw(0, 5)[0], torch.zeros(5, dtype=torch.int64)),
    "one image": (draw(0, 1)[0], torch.zeros(1, dtype=torch.int64)),
    "one image a class": (draw(0, 4)[0], torch.arange(4)),
    "all the same": (draw(0, 1)[0].repeat(6, 1), torch.arange(6) % 3),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("case", CASES)
def test_a_batch_with_nothing_to_compare_gives_a_gradient_all_the_same(name: str, case: str) -> None:
    vectors, labels = CASES[case]
    vectors = vectors.clone().requires_grad_()
    made = objective(name, images=1)
    for _ in range(3):  # the last with a full memory
        made.zero_grad()
        vectors.grad = None
        head = torch.ones(DIM, CLASSES)
        total, _ = made(vectors, labels, functional.normalize(vectors, dim=1) @ head)
        total.backward()
        assert vectors.grad is not None and bool(total.isfinite()) and bool(vectors.grad.isfinite().all())
        for parameter in made.parameters():
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all())
    if name in ("triplet", "triplet_hard", "margin", "multi_similarity", "supcon") and "one" in case:
        assert total.item() == 0.0 and not vectors.grad.any()


@pytest.mark.parametrize("name", ["arcface", "subcenter_arcface"])
def test_a_vector_on_its_class_weight_has_a_gradient(name: str) -> None:
    """The slope of the arc cosine is infinite there."""
    made = objective(name)
    [weights] = made.parameters()
    with torch.no_grad():
        weights.copy_(torch.eye(DIM)[:, torch.arange(weights.shape[1]) * CLASSES // weights.shape[1]])
    vectors = torch.eye(DIM)[:CLASSES]
    vectors = torch.cat([vectors, -vectors]).requires_grad_()
    total, _ = made(vectors, torch.arange(2 * CLASSES) % CLASSES)
    total.backward()
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())
    assert weights.grad is not None and bool(weights.grad.isfinite().all())
    # The gradient alone tells nothing with a torch whose clamp has no slope at its ends.
    assert made.losses[0].loss.get_cosine(vectors).abs().max() < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", [name for name in EVERY if "margin" not in name])
def test_a_gpu_finds_the_same_loss_and_gradient(name: str) -> None:
    on_cpu, on_gpu = objective(name, images=1), objective(name, images=1).cuda()
    for seed in range(3):
        (vectors, labels), scores = draw(seed), logits()
        there = vectors.cuda().requires_grad_()
        vectors.requires_grad_()
        expected, _ = on_cpu(vectors, labels, scores)
        total, _ = on_gpu(there, labels.cuda(), scores.cuda())
        torch.testing.assert_close(total.cpu(), expected, atol=1e-5, rtol=1e-4)
        if name != "ce":
            slopes = [torch.autograd.grad(value, v)[0].cpu() for value, v in ((total, there), (expected, vectors))]
            torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-3)
