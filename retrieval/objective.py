"""What training makes small: a weighted sum of losses with their parameters and memories, as one module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.errors import InputError
from retrieval.losses import MEMORY_LIMIT, Sizes, Term, parse


@dataclass(frozen=True)
class Mixed:
    """What mixup or CutMix made of a batch's labels.

    Attributes:
        partners: (n,) int64, the class of the picture mixed in.
        share: (n,), of the picture's own class in it, in [0, 1].
    """

    partners: Tensor
    share: Tensor


class Memory(torch.nn.Module):
    """Cross-batch memory around a loss of pairs (Wang et al., CVPR 2020, arXiv 1912.06798).

    The batch's loss, plus the loss of its vectors against those kept of earlier batches, as in the authors' code; but
    the memory does not hold the batch itself, whose pairs would count twice. Vectors are kept as they were, since
    networks drift slowly, but not before ``after`` of them went by: at first they drift fast.

    Attributes:
        vectors: (size, dim), newest first; the first ``held`` count.
        labels: (size,) likewise.
    """

    def __init__(self, loss: torch.nn.Module, *, size: int, dim: int, after: int) -> None:
        super().__init__()
        self.loss = loss
        self.size, self.after = size, after
        self.vectors: Tensor
        self.labels: Tensor
        self.seen: Tensor
        self.held: Tensor
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("held", torch.tensor(0))

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Give one number for (n, dim) vectors and, in training, keep them."""
        held = int(self.held)
        value: Tensor = self.loss(vectors, labels)
        if held:
            value = value + self.loss(vectors, labels, self.vectors[:held], self.labels[:held])
        if self.training:
            self._keep(vectors.detach(), labels)
        return value

    def _keep(self, vectors: Tensor, labels: Tensor) -> None:
        if int(self.seen) >= self.after:
            # New tensors: the old ones are part of a graph that has not been gone back through yet.
            self.vectors = torch.cat([vectors, self.vectors])[: self.size]
            self.labels = torch.cat([labels, self.labels])[: self.size]
            self.held = (self.held + len(vectors)).clamp(max=self.size)
        self.seen = self.seen + len(vectors)


class Objective(torch.nn.Module):
    """A sum of losses with weights, computed in float32 on the device of what it is given.

    Its parameters are proxies, class weights and boundaries; its state also holds the memories, so that a resumed run
    goes on as if never stopped. It draws random numbers only in mining, from torch's generator.

    Attributes:
        terms: what is summed.
        classes: to tell apart; 0 without labels.
    """

    def __init__(
        self, expression: str, *, classes: int, dim: int, images: int, smoothing: float = 0.0, seed: int = 0
    ) -> None:
        """Build the losses.

        Args:
            expression: as ``parse`` reads it.
            classes: to tell apart.
            dim: length of a vector.
            images: in the training set: a memory keeps as many vectors, 8192 at most, and begins after as many.
            smoothing: label smoothing of cross-entropy, in [0, 1).
            seed: of the first proxies; the global generators stay as they are.

        Raises:
            InputError: an expression that ``parse`` refuses, or labels are needed and there are not two classes.
        """
        super().__init__()
        self.expression = expression
        self.terms = parse(expression)
        self.classes = classes
        if self.needs_labels and classes < 2:
            raise InputError(
                f"the loss {expression!r} tells classes apart, and the training pictures have {classes}: give labels "
                "of at least two classes, or choose ntxent, which learns without labels"
            )
        sizes = Sizes(classes=classes, dim=dim, images=images, smoothing=smoothing)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the GPUs too, which are not forked.
            torch.default_generator.manual_seed(seed)
            self.losses = torch.nn.ModuleList(_build(term, sizes) for term in self.terms)

    @property
    def needs_labels(self) -> bool:
        """Whether labels are classes; else they are positions of pictures."""
        return any(term.row.needs_labels for term in self.terms)

    @property
    def needs_head(self) -> bool:
        """Whether the network must have a head."""
        return any(term.row.needs_head for term in self.terms)

    @property
    def views(self) -> int:
        """Times that a picture is shown in a batch."""
        return max(term.row.views for term in self.terms)

    def check(self, *, mixing: bool, per_class: int, batch: int, head: bool) -> None:
        """Refuse, before training, batches and a network that the losses cannot learn from.

        Args:
            mixing: whether mixup or CutMix is on.
            per_class: images of a class that a batch holds.
            batch: images a step.
            head: whether the network has a head.

        Raises:
            InputError: with what to change.
        """
        pairs = ", ".join(term.name for term in self.terms if term.row.needs_pairs)
        if pairs and per_class < 2:
            raise InputError(
                f"the loss {pairs} compares images of one class, and a batch holds {per_class} of each: give "
                "--per-class 2 or more"
            )
        if pairs and batch < 2 * per_class:
            raise InputError(
                f"the loss {pairs} compares classes, and a batch of {batch} images with {per_class} of a class holds "
                f"fewer than two: give --batch {2 * per_class} or more"
            )
        if self.views > 1 and batch < 2:
            raise InputError(
                f"the loss {self.expression!r} compares pictures with each other: give --batch 2 or more, not {batch}"
            )
        if mixing:
            self._check_mixing()
        if self.needs_head and not head:
            raise InputError(
                f"the loss {self.expression!r} learns from the classifier head, and the network has none: give --head "
                "cosine or linear, or a loss without ce"
            )

    def forward(
        self, vectors: Tensor, labels: Tensor, logits: Tensor | None = None, mixed: Mixed | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses of a batch.

        Args:
            vectors: (n, dim), L2-normalised.
            labels: (n,) int64, classes; for a loss without labels positions of pictures, each as often as ``views``.
            logits: (n, classes) of the head, for ``needs_head``.
            mixed: what the pictures were mixed with.

        Returns:
            The sum, of no dimensions; and by name each loss as it is before its weight, detached.

        Raises:
            InputError: pictures are mixed and a loss makes no sense with that.
        """
        if mixed is not None:
            self._check_mixing()
        total = vectors.new_zeros((), dtype=torch.float32)
        parts = {}
        with torch.autocast(device_type=vectors.device.type, enabled=False):
            # Anew, since vectors that come in 16 bits are unit vectors to three digits only.
            units = functional.normalize(vectors.float(), dim=1)
            for term, loss in zip(self.terms, self.losses, strict=True):
                assert not term.row.needs_head or logits is not None, "the network gave no logits"
                given = logits.float() if term.row.needs_head and logits is not None else units
                value = loss(given, labels)  # (n,) or ()
                if mixed is not None:
                    value = mixed.share * value + (1.0 - mixed.share) * loss(given, mixed.partners)
                value = value.mean()
                parts[term.name] = value.detach()
                total = total + term.weight * value
        return total, parts

    def _check_mixing(self) -> None:
        whole = ", ".join(term.name for term in self.terms if not term.row.mixable)
        if whole:
            raise InputError(
                f"the loss {whole} compares whole images, and mixup or CutMix makes images of two classes: turn them "
                "off, or choose a loss of each image against its class, such as ce or proxy_nca"
            )


def _build(term: Term, sizes: Sizes) -> torch.nn.Module:
    loss = term.row.build(sizes)
    if not term.memory:
        return loss
    return Memory(loss, size=max(1, min(sizes.images, MEMORY_LIMIT)), dim=sizes.dim, after=sizes.images)
