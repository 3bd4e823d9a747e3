"""The sum of losses: its language, its memories, mixed pictures, and what it refuses."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retrieval.errors import InputError
from retrieval.losses import LOSSES, MEMORY_LIMIT, Term, parse
from retrieval.objective import Mixed, Objective
from tests.retrieval.plain_losses import (
    DIM,
    EVERY,
    PAIRS,
    N,
    dot,
    draw,
    logits,
    mean,
    objective,
    one_thread,
    positive,
)

__all__ = ["one_thread"]

pytestmark = pytest.mark.usefixtures("one_thread")


weights = st.floats(0.01, 100)


@given(weights, weights, st.integers(0, 10_000))
@settings(max_examples=30)
def test_a_sum_is_linear_in_its_weights(first: float, second: float, seed: int) -> None:
    vectors, labels = draw(seed)
    vectors.requires_grad_()

    def gradient(expression: str) -> tuple[float, Tensor, dict[str, Tensor]]:
        total, parts = objective(expression)(vectors, labels, logits())
        return total.item(), torch.autograd.grad(total, vectors)[0], parts

    total, slope, parts = gradient(f"{first!r} * supcon + {second!r}*contrastive")
    one, one_slope, _ = gradient("supcon")
    other, other_slope, _ = gradient("contrastive")
    assert total == pytest.approx(first * one + second * other, rel=1e-4)
    assert torch.allclose(slope, first * one_slope + second * other_slope, rtol=1e-3, atol=1e-4 * (first + second))
    assert {name: part.item() for name, part in parts.items()} == pytest.approx({"supcon": one, "contrastive": other})


def batches(n: int, of: int = 8) -> list[tuple[Tensor, Tensor]]:
    return [draw(seed, of) for seed in range(n)]


def test_a_memory_compares_with_the_batches_before() -> None:
    made, alone = objective("xbm(contrastive)", images=16), objective("contrastive")
    values = [made(*batch)[0].item() for batch in batches(6)]
    plain = [alone(*batch)[0].item() for batch in batches(6)]
    assert values[:3] == pytest.approx(plain[:3])  # two batches of warm-up, and the third meets an empty memory
    for step in (3, 4, 5):
        vectors, labels = batches(6)[step]
        kept = batches(6)[2:step][-2:]  # 16 vectors are two batches
        near, away = [], []
        for (v, label), (other, theirs) in product(
            zip(vectors.double().tolist(), labels.tolist(), strict=True),
            [pair for old in kept for pair in zip(old[0].double().tolist(), old[1].tolist(), strict=True)],
        ):
            if label == theirs:
                near.append(1 - dot(v, other))
            else:
                away.append(dot(v, other) - 0.5)
        assert values[step] == pytest.approx(plain[step] + mean(positive(near)) + mean(positive(away)), rel=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_a_memory_goes_on_after_a_stop(name: str) -> None:
    whole, stopped = objective(f"xbm({name})", images=12), objective(f"xbm({name})", images=12)
    for batch in batches(3):
        whole(*batch), stopped(*batch)
    resumed = objective(f"xbm({name})", images=12, seed=8)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    for batch in batches(6)[3:]:
        torch.manual_seed(1)
        expected = whole(*batch)[0]
        torch.manual_seed(1)
        assert torch.equal(resumed(*batch)[0], expected)
    assert not torch.equal(expected, objective(name)(*batch)[0])


def test_a_memory_is_not_filled_by_validation_nor_larger_than_is_good() -> None:
    made = objective("xbm(contrastive)", images=1).eval()
    first, *_ = [made(*batches(1)[0])[0] for _ in range(4)]
    assert torch.equal(made(*batches(1)[0])[0], first)
    assert objective("xbm(contrastive)", images=10**9).state_dict()["losses.0.vectors"].shape == (MEMORY_LIMIT, DIM)


def test_two_steps_can_be_taken_before_gradients() -> None:
    made = objective("xbm(multi_similarity)", images=4)
    vectors = [batch[0].requires_grad_() for batch in batches(4)]
    sum(made(v, labels)[0] for v, (_, labels) in zip(vectors, batches(4), strict=True)).backward()
    assert all(v.grad is not None and bool(v.grad.any()) for v in vectors)


@pytest.mark.parametrize("name", [name for name, row in LOSSES.items() if row.mixable])
def test_a_mixed_picture_has_two_classes_by_share(name: str) -> None:
    vectors, labels = draw(0)
    partners, share = labels.flip(0), torch.linspace(0, 1, N)
    made = objective(name)
    total, _ = made(vectors, labels, logits(), Mixed(partners, share))
    values = []
    for i in range(N):
        one = [made(vectors[i : i + 1], of[i : i + 1], logits()[i : i + 1])[0].item() for of in (labels, partners)]
        values.append(share[i].item() * one[0] + (1 - share[i].item()) * one[1])
    assert total.item() == pytest.approx(mean(values), rel=1e-5)
    assert total.item() != pytest.approx(made(vectors, labels, logits())[0].item(), rel=1e-3)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in LOSSES or not LOSSES[name].mixable])
def test_whole_pictures_are_not_mixed(name: str) -> None:
    vectors, labels = draw(0)
    made = objective(f"{name} + ce" if name != "ntxent" else name)
    with pytest.raises(InputError, match=r"compares whole images.*turn them off"):
        made.check(mixing=True, per_class=4, batch=32, head=True)
    with pytest.raises(InputError, match="compares whole images"):
        made(vectors, labels, logits(), Mixed(labels, torch.ones(N)))


@pytest.mark.parametrize("name", EVERY)
def test_sixteen_bits_around_change_nothing(name: str) -> None:
    vectors, labels = draw(0)
    made = objective(name)
    torch.manual_seed(0)
    expected, _ = made(vectors, labels, logits())
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = made(vectors, labels, logits())
    assert total.dtype == torch.float32 and total.item() == expected.item()
    coarse, _ = made(vectors.bfloat16(), labels, logits().bfloat16())
    assert coarse.dtype == torch.float32 and bool(coarse.isfinite())


def test_a_seed_gives_the_proxies_and_leaves_the_generator() -> None:
    before = torch.get_rng_state()
    one, same, other = (objective("proxy_anchor+softmax", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) and not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("ce", (Term("ce"),)),
        ("proxy_anchor+0.5*ce", (Term("proxy_anchor"), Term("ce", 0.5))),
        (" triplet + 1e-1 * ce ", (Term("triplet"), Term("ce", 0.1))),
        ("1e+1*triplet+2E+0*ce", (Term("triplet", 10.0), Term("ce", 2.0))),
        ("xbm(contrastive)", (Term("contrastive", memory=True),)),
        ("0.5 * xbm( triplet ) + triplet", (Term("triplet", 0.5, memory=True), Term("triplet"))),
    ],
)
def test_sums_are_read(expression: str, terms: tuple[Term, ...]) -> None:
    assert parse(expression) == terms


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("proxy-anchor", r"no loss 'proxy-anchor' \(did you mean proxy_anchor\?\): choose from triplet, .*ntxent, xbm"),
        ("", "the loss '' lacks a name"),
        ("ce+", r"the loss 'ce\+' lacks a name"),
        ("ce*0.5", "the weight 'ce': give a number above 0"),
        ("0*ce", "the weight '0'"),
        ("-1*ce", "the weight '-1'"),
        ("nan*ce", "the weight 'nan'"),
        ("inf*ce", "the weight 'inf'"),
        ("*ce", "the weight ''"),
        ("2*3*ce", r"the weight '2\*3'"),
        (
            "xbm(proxy_anchor)",
            r"around 'proxy_anchor', which is no loss of pairs: xbm\(...\) goes around one of triplet,",
        ),
        ("xbm(xbm(triplet))", r"around 'xbm\(triplet\)', which is no"),
        ("xbm(ntxent)", "which is no loss of pairs"),
        ("xbm()", "around '', which is no loss of pairs"),
        ("triplet+ce+0.5*triplet", "has triplet twice: give it once"),
        ("ntxent+ce", "adds ntxent, which knows no classes, to others"),
    ],
)
def test_what_is_no_sum_is_refused_with_what_would_be(expression: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse(expression)


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="'softmax' tells classes apart, and the training pictures have 1"):
        Objective("softmax", classes=1, dim=DIM, images=10)


@pytest.mark.parametrize(
    ("expression", "per_class", "batch", "head", "says"),
    [
        ("ce + triplet", 1, 32, True, "triplet compares images of one class, and a batch holds 1 of each"),
        ("xbm(contrastive)", 4, 7, False, r"xbm\(contrastive\) compares classes, .*give --batch 8 or more"),
        ("softmax + ce", 1, 32, False, "learns from the classifier head, and the network has none: give --head"),
        ("ntxent", 1, 1, False, "give --batch 2 or more, not 1"),
    ],
)
def test_batches_and_networks_that_cannot_teach_are_refused_before(
    expression: str, per_class: int, batch: int, head: bool, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        objective(expression).check(mixing=False, per_class=per_class, batch=batch, head=head)


def test_what_can_teach_passes() -> None:
    objective("triplet + proxy_anchor").check(mixing=False, per_class=4, batch=8, head=False)
    objective("ce + 0.3*arcface").check(mixing=True, per_class=1, batch=1, head=True)
    objective("ntxent").check(mixing=False, per_class=1, batch=2, head=False)
    made = objective("triplet + 0.1*ce")
    assert (made.needs_labels, made.needs_head, made.views) == (True, True, 1)


def test_an_objective_can_be_copied() -> None:
    made = objective("xbm(triplet) + margin + arcface + soft_triple")
    made(*draw(0))
    made(*draw(0))[0].backward()
    torch.manual_seed(0)
    expected = made(*draw(1))[0]
    torch.manual_seed(0)
    assert torch.equal(copy.deepcopy(made)(*draw(1))[0], expected)
