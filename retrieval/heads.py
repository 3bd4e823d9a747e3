"""From a vector to what it may be: ``HEADS`` has a row for each classifier head.

A head is a module called with L2-normalised vectors (n, dim) that gives logits (n, classes). It reads the vector that
is kept, so that the classes of indexed images cost one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from retrieval.pooling import in_float32

COSINE_SCALE: Final = 16.0


class LinearHead(torch.nn.Module):
    """``W v + b`` of the vector at length sqrt(dim), so that its numbers are about 1 in size."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self._scale = math.sqrt(dim)
        self.weight = torch.nn.Parameter(torch.empty(classes, dim))
        self.bias = torch.nn.Parameter(torch.zeros(classes))
        torch.nn.init.normal_(self.weight, std=0.01)

    def forward(self, vectors: Tensor) -> Tensor:
        """See the module's docstring."""
        with in_float32(vectors):
            return torch.nn.functional.linear(vectors.float() * self._scale, self.weight, self.bias)


class CosineHead(torch.nn.Module):
    """Cosine to a direction a class, times 16 (Wang et al., NormFace, ACM MM 2017).

    A scale that is learned grows, and what is new to the network is then told apart less well.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(classes, dim))
        torch.nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """See the module's docstring."""
        with in_float32(vectors):
            directions = torch.nn.functional.normalize(self.weight, dim=1)
            return COSINE_SCALE * torch.nn.functional.linear(vectors.float(), directions)


@dataclass(frozen=True)
class HeadKind:
    """A row of ``HEADS``.

    Attributes:
        help: a clause for the command line's help and the documentation.
        build: called as ``build(dim, classes)``; None: there is no head.
    """

    help: str
    build: Callable[[int, int], torch.nn.Module] | None


HEADS: Final[dict[str, HeadKind]] = {
    "none": HeadKind("vectors only", None),
    "linear": HeadKind("a weight for each number of the vector, and one beside them", LinearHead),
    "cosine": HeadKind("similarity to a direction a class, scaled", CosineHead),
}
