"""One step of the training, and its parameters with their learning rates, for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from retrieval.augmentation import augment_batch, mix
from retrieval.errors import EmbedderError
from retrieval.feeding import Feed, loader_of
from retrieval.objective import Mixed, Objective
from retrieval.optimisation import optimizer_of, parameter_groups, rate
from retrieval.recipe import Recipe
from retrieval.sampling import generator


class Fitting(lightning.LightningModule):
    """The network and its objective, one step at a time.

    Attributes:
        network: that is trained.
        objective: the losses, with their own parameters.
        average: a moving average of the network's weights; None without.
        unread: places in the store of pictures that could not be read in this process, and others were shown for.
        losses: of each step of this epoch.
        parts: the same of each term.
    """

    def __init__(self, network: Any, objective: Objective, recipe: Recipe, feed: Feed, workers: int) -> None:
        super().__init__()
        self.network, self.objective = network, objective
        self._recipe, self.feed, self._workers = recipe, feed, workers
        self._embed = torch.compile(network.embed) if recipe.compiled else network.embed
        self.average: AveragedModel | None = None
        if recipe.ema:
            self.average = AveragedModel(network, multi_avg_fn=_moving_average(recipe.ema), use_buffers=True)
            self.average.requires_grad_(False)
        self.unread: set[int] = set()
        self.losses: list[Tensor] = []
        self.parts: dict[str, list[Tensor]] = {}

    @property
    def judged(self) -> Any:
        """The network that is validated and kept."""
        return self.network if self.average is None else self.average.module

    def train_dataloader(self) -> Any:
        """Give the batches of the epoch that begins."""
        self.feed.enter(self.current_epoch)
        return loader_of(self.feed, self._workers)

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before; norms and all that is frozen stay in inference mode."""
        self.losses, self.parts = [], {}
        set_mode(self.network, self._recipe)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """Augment, embed, gather from all processes, and compute the loss."""
        recipe, step, epoch = self._recipe, int(batch["step"]), int(batch["epoch"])
        # Dropout draws from torch's generator: the same numbers after a resume.
        seeds = generator(recipe.seed, epoch, step).integers(2**31, size=2).tolist()
        torch.manual_seed(seeds[0])
        images, codes = batch["pixels"].to(torch.float32).div_(255.0), batch["codes"]
        n, views = len(codes), len(batch["pixels"]) // len(codes)
        places = range(int(batch["first"]), int(batch["first"]) + n)
        rngs = [generator(recipe.seed, epoch, step, at, view, 0) for view in range(views) for at in places]
        images = augment_batch(images, augmentation=recipe.augmentation, rngs=rngs)
        mixed = mix(images, augmentation=recipe.augmentation, rng=generator(recipe.seed, epoch, step, 0))
        labels, others = codes.repeat(views), None
        if mixed is not None:
            images, partner, share = mixed
            others = Mixed(labels[torch.from_numpy(partner)], torch.from_numpy(share).to(images.device))
        vectors: Tensor = self._embed(images.contiguous(memory_format=torch.channels_last)).float()
        logits = self.network.logits(vectors) if self.objective.needs_head else None
        if self.trainer.world_size > 1:
            vectors, labels, logits, others = self._gathered(vectors, labels, logits, others)
        torch.manual_seed(seeds[1])  # and so do miners: the same on all processes, whatever dropout drew
        loss: Tensor
        loss, parts = self.objective(vectors, labels, logits, others)
        if not torch.isfinite(loss):
            raise EmbedderError(f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}: {advice(recipe)}")
        self.unread.update(batch["unread"])
        self.losses.append(loss.detach())
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)
        if self.logger is not None:
            self.log("loss", loss.detach())
        return loss

    def _gathered(
        self, vectors: Tensor, labels: Tensor, logits: Tensor | None, others: Mixed | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Mixed | None]:
        """Bring the stripes of all processes together, with gradients, in the order that one process would have."""
        views = self.objective.views

        def together(values: Tensor, *, grads: bool = False) -> Tensor:
            parts: Any = self.all_gather(values, sync_grads=grads)  # (world, views * n, ...)
            joined: Tensor = parts.unflatten(1, (views, -1)).movedim(0, 1).flatten(0, 2)
            return joined

        gathered = None
        if others is not None:
            gathered = Mixed(together(others.partners), together(others.share))
        return (
            together(vectors, grads=True),
            together(labels),
            None if logits is None else together(logits, grads=True),
            gathered,
        )

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average of the weights."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def configure_optimizers(self) -> Any:
        """Give the optimizer and the learning rates of every step."""
        recipe = self._recipe
        new = self.network.new_parameters()
        groups = parameter_groups(recipe, self.network.backbone, new, self.objective.parameters())
        # Lightning clips no gradients of a fused optimizer under autocast.
        optimizer = optimizer_of(recipe, groups, fused=str(self.trainer.precision).startswith("32"))
        steps_an_epoch = len(self.feed)
        steps = steps_an_epoch * recipe.epochs

        def share(name: str) -> Callable[[int], float]:
            return lambda step: rate(recipe, step, steps, backbone=name == "backbone", steps_an_epoch=steps_an_epoch)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [share(str(group["name"])) for group in groups])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def advice(recipe: Recipe) -> str:
    """What to do about a run that blew up."""
    return f"lower the learning rates (--lr {recipe.lr / 3:.1g}) or --clip, or choose another loss"


def set_mode(network: Any, recipe: Recipe) -> None:
    """Set a network to training, its BatchNorms to inference where they are frozen."""
    network.train()
    if recipe.batchnorm == "frozen":
        for part in network.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.eval()


def _moving_average(decay: float) -> Callable[..., None]:
    """An average that follows quickly at first, when it has seen little (as TensorFlow's)."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        seen = float(count)
        share = min(decay, (1.0 + seen) / (10.0 + seen))
        with torch.no_grad():
            for ours, theirs in zip(averaged, current, strict=True):
                if ours.is_floating_point():
                    ours.lerp_(theirs, 1.0 - share)
                else:
                    ours.copy_(theirs)

    return update
