"""Batches of unit vectors, and the losses' formulas as papers write them: loops over lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.losses import LOSSES
from retrieval.objective import Objective

CLASSES, DIM, N = 4, 6, 14
PAIRS = [name for name, row in LOSSES.items() if row.needs_pairs]
EVERY = [*LOSSES, *(f"xbm({name})" for name in PAIRS)]

Vectors = list[list[float]]
Plain = Callable[[Vectors, list[int], Vectors], float]


def draw(seed: int, n: int = N, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """Give unit vectors (n, dim) and labels (n,) of which every class has some."""
    generator = torch.Generator().manual_seed(seed)
    vectors = functional.normalize(torch.randn(n, dim, generator=generator), dim=1)
    return vectors, torch.arange(n)[torch.randperm(n, generator=generator)] % CLASSES


def objective(
    expression: str, *, images: int = 1000, dim: int = DIM, smoothing: float = 0.1, seed: int = 3
) -> Objective:
    return Objective(expression, classes=CLASSES, dim=dim, images=images, smoothing=smoothing, seed=seed)


def logits(n: int = N) -> Tensor:
    return torch.randn(n, CLASSES, generator=torch.Generator().manual_seed(99))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def far(a: list[float], b: list[float]) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small are sooner done than shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def positive(values: list[float]) -> list[float]:
    return [value for value in values if value > 0]


def lse(values: list[float]) -> float:
    return math.log(sum(math.exp(value) for value in values))


def pairs(labels: list[int], anchor: int, *, same: bool) -> list[int]:
    return [i for i, label in enumerate(labels) if i != anchor and (label == labels[anchor]) == same]


def plain_contrastive(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    near = [1 - dot(v[a], v[b]) for a, b in permutations(range(len(v)), 2) if labels[a] == labels[b]]
    away = [dot(v[a], v[b]) - 0.5 for a, b in permutations(range(len(v)), 2) if labels[a] != labels[b]]
    return mean(positive(near)) + mean(positive(away))


def plain_semi_hard(v: Vectors, labels: list[int]) -> list[tuple[int, int, int]]:
    found = []
    for a in range(len(v)):
        for p in pairs(labels, a, same=True):
            others = sorted(pairs(labels, a, same=False), key=lambda n: far(v[a], v[n]))
            farther = [n for n in others if far(v[a], v[n]) > far(v[a], v[p])]
            found += [(a, p, (farther or others[::-1])[0])] if others else []
    return found


def plain_triplet(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    chosen = plain_semi_hard(v, labels)
    return mean(positive([far(v[a], v[p]) ** 2 - far(v[a], v[n]) ** 2 + 0.2 for a, p, n in chosen]))


def plain_triplet_hard(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    values = []
    for a in range(len(v)):
        farthest = max(far(v[a], v[p]) for p in pairs(labels, a, same=True))
        values.append(farthest - min(far(v[a], v[n]) for n in pairs(labels, a, same=False)) + 0.2)
    return mean(positive(values))


def plain_multi_similarity(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    total = 0.0
    for a in range(len(v)):
        near = [dot(v[a], v[p]) for p in pairs(labels, a, same=True)]
        away = [dot(v[a], v[n]) for n in pairs(labels, a, same=False)]
        hard_near = [s for s in near if s - 0.1 < max(away)]
        hard_away = [s for s in away if s + 0.1 > min(near)]
        total += math.log(1 + sum(math.exp(-2 * (s - 0.5)) for s in hard_near)) / 2
        total += math.log(1 + sum(math.exp(50 * (s - 0.5)) for s in hard_away)) / 50
    return total / len(v)


def plain_supcon(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    values = []
    for a in range(len(v)):
        others = [dot(v[a], v[i]) / 0.1 for i in range(len(v)) if i != a]
        near = pairs(labels, a, same=True)
        values += [-mean([dot(v[a], v[p]) / 0.1 - lse(others) for p in near])] if near else []
    return mean(values)


def plain_proxy_anchor(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    near, away = 0.0, 0.0
    for label, proxy in enumerate(proxies):
        cosines = [(dot(proxy, vector), own == label) for vector, own in zip(v, labels, strict=True)]
        near += math.log(1 + sum(math.exp(-32 * (s - 0.1)) for s, own in cosines if own))
        away += math.log(1 + sum(math.exp(32 * (s + 0.1)) for s, own in cosines if not own))
    return near / len(set(labels)) + away / len(proxies)


def cross_entropy(scores: list[list[float]], labels: list[int]) -> float:
    return mean([lse(row) - row[label] for row, label in zip(scores, labels, strict=True)])


def plain_proxy_nca(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    return cross_entropy([[-9 * far(vector, proxy) ** 2 for proxy in proxies] for vector in v], labels)


def plain_softmax(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    return cross_entropy([[dot(vector, proxy) / 0.05 for proxy in proxies] for vector in v], labels)


def plain_cosface(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    return cross_entropy(
        [
            [64 * (dot(x, proxies[c]) - 0.35 * (c == own)) for c in range(CLASSES)]
            for x, own in zip(v, labels, strict=True)
        ],
        labels,
    )


def with_angle(cosine: float) -> float:
    angle, margin = math.acos(cosine), math.radians(28.6)
    return math.cos(angle + margin) if angle <= math.pi - margin else cosine - margin * math.sin(margin)


def plain_arcface(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    each = len(proxies) // CLASSES
    scores = []
    for vector, own in zip(v, labels, strict=True):
        cosines = [max(dot(vector, centre) for centre in proxies[c * each : (c + 1) * each]) for c in range(CLASSES)]
        scores.append([64 * (with_angle(s) if c == own else s) for c, s in enumerate(cosines)])
    return cross_entropy(scores, labels)


def plain_soft_triple(v: Vectors, labels: list[int], proxies: Vectors) -> float:
    each = len(proxies) // CLASSES
    classes = [proxies[c * each : (c + 1) * each] for c in range(CLASSES)]
    scores = []
    for vector, own in zip(v, labels, strict=True):
        row = []
        for c, centres in enumerate(classes):
            cosines = [dot(vector, centre) for centre in centres]
            shares = [math.exp(s / 0.1 - lse([t / 0.1 for t in cosines])) for s in cosines]
            row.append(20 * (dot(shares, cosines) - 0.01 * (c == own)))
        scores.append(row)
    apart = [math.sqrt(2 + 1e-5 - 2 * dot(a, b)) for centres in classes for a, b in permutations(centres, 2)]
    pull = 0.2 * sum(apart) / 2 / (CLASSES * each * (each - 1)) if each == 10 else 0.0
    return cross_entropy(scores, labels) + pull


PLAIN: dict[str, Plain] = {
    "triplet": plain_triplet,
    "triplet_hard": plain_triplet_hard,
    "contrastive": plain_contrastive,
    "multi_similarity": plain_multi_similarity,
    "supcon": plain_supcon,
    "proxy_nca": plain_proxy_nca,
    "proxy_anchor": plain_proxy_anchor,
    "soft_triple": plain_soft_triple,
    "arcface": plain_arcface,
    "subcenter_arcface": plain_arcface,
    "cosface": plain_cosface,
    "softmax": plain_softmax,
}


def proxies_of(made: Objective) -> Vectors:
    """Read class weights, however they lie in memory, as unit rows."""
    rows: Vectors = []
    for weights in made.parameters():
        weights = weights.detach().double()
        rows += functional.normalize(weights if weights.shape[1] == DIM else weights.T, dim=1).tolist()
    return rows
