"""What an embedder is made of, in words: the ``architecture`` of ``model.json``; read without loading torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

NONE: Final = "none"


@dataclass(frozen=True)
class Architecture:
    """Backbone → attention → pooling → projection → L2, and beside it a classifier head on the vector.

    Attributes:
        backbone: timm's name.
        attention: a key of ``retrieval.attention.ATTENTIONS``.
        pooling: a key of ``retrieval.pooling.POOLINGS``.
        dim: length of a vector.
        projected: whether a linear layer brings the pooled features to ``dim``; else ``dim`` is what pooling gives.
        head: a key of ``retrieval.heads.HEADS``.
        classes: what the head tells apart, sorted; none without a head.
    """

    backbone: str
    attention: str = NONE
    pooling: str = "native"
    dim: int = 0
    projected: bool = False
    head: str = NONE
    classes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values; what is as in a frozen embedder is left out, so that digests of those stay."""
        values: dict[str, Any] = {"backbone": self.backbone, "pooling": self.pooling, "dim": self.dim}
        if self.attention != NONE:
            values["attention"] = self.attention
        if self.projected:
            values["projected"] = True
        if self.head != NONE:
            values |= {"head": self.head, "classes": list(self.classes)}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """Read what ``to_dict`` gave."""
        return cls(**{**values, "classes": tuple(values.get("classes", ()))})
