"""Which loss gives the best embedding of classes that nobody trained on, under equal conditions?

Cars196-train-half, zero-shot: trained on classes 1 to 98, Recall@1 and MAP@R leave-one-out among 99 to 196. Backbone,
embedding size, image size, augmentation, batch (with four pictures of a class, for every loss), optimiser, schedule and
epochs are the same for all; no epoch is chosen: the last is kept. Learning rates were chosen on classes 85 to 98 of
the training half, for all losses alike: one for the backbone, one for what is new, one for proxies.

``default`` is what ``lookalike train`` chooses for these pictures, with the same size, batch and epochs. Every recipe
is run with each seed; the spread is a 95 % interval by Student's t over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks._zero_shot import Contest
from benchmarks.machine import print_machine
from retrieval.architecture import NONE
from retrieval.choosing import Counts, choose
from retrieval.losses import LOSSES, parse
from retrieval.recipe import Recipe

LOSSES_COMPARED = ("triplet", "multi_similarity", "proxy_anchor", "arcface")


def main(arguments: Sequence[str]) -> None:
    """Train with every loss and seed, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks losses", description=__doc__)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES_COMPARED), help=f"of {', '.join(LOSSES)}")
    parser.add_argument("--size", type=int, default=96, help="image size, pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="file that finished runs are kept in, to go on from")
    chosen = parser.parse_args(arguments)
    print_machine(["lookalike", "torch", "lightning", "pytorch-metric-learning", "timm"])
    contest = Contest(chosen.keep)
    default = default_recipe(contest, chosen.backbone, chosen.size, chosen.epochs, chosen.batch)
    print(
        f"{len(contest.train.ids):,} pictures of {len(set(contest.train.labels))} classes, {chosen.epochs} epochs at "
        f"{chosen.size} px, batch {chosen.batch} with {default.per_class} of a class, {default.dim} numbers a vector; "
        f"measured on {len(contest.test.ids):,} of {len(set(contest.test.labels))} other classes; seeds {chosen.seeds}"
    )
    print(f"default: {default.loss}, lr {default.lr:g}, head {default.head_lr:g}, proxies {default.proxy_lr:g}\n")
    frozen = contest.frozen(default)
    for loss in chosen.losses:
        head = default.head if any(term.row.needs_head for term in parse(loss)) else NONE
        contest.run(loss, replace(default, loss=loss, head=head), chosen.seeds)
    contest.run(f"default ({default.loss})", default, chosen.seeds)
    contest.table(frozen)


def default_recipe(contest: Contest, backbone: str, size: int, epochs: int, batch: int) -> Recipe:
    """What ``lookalike train`` chooses, at this size, batch and number of epochs."""
    given = {"image_size": size, "train_size": size, "epochs": epochs, "batch": batch}
    counts = Counts.of(contest.train.labels)
    return choose(backbone, counts, device="cpu", budget=None, native_size=224, given=given)[0]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
