"""Which loss gives the best embedding of classes that nobody trained on, under equal conditions?

Cars196-train-half, zero-shot: trained on classes 1 to 98, Recall@1 and MAP@R leave-one-out among 99 to 196. Every loss
runs as ``lookalike train --loss LOSS`` does with the same size, batch and epochs: backbone, embedding size,
augmentation, optimiser and schedule are the same for all; the learning rate is that of the loss, and losses that
compare pictures of a class have four of each in a batch. No epoch is chosen: the last is kept. The rates were
chosen on 16 classes held out of the 98 to train on, as ``--hold-out 16`` does it, and the default loss on 16 others
(docs/decisions.md).

Every recipe is run with each seed; the spread is a 95 % interval by Student's t over the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks._zero_shot import Contest, chosen, default_recipe, parser_of
from retrieval.losses import LOSSES

COMPARED: Final = ("triplet", "multi_similarity", "proxy_anchor", "arcface")


def main(arguments: Sequence[str]) -> None:
    """Train with every loss and seed, and print a table."""
    parser = parser_of("losses", __doc__, epochs=8)
    parser.add_argument("--losses", nargs="+", default=list(COMPARED), help=f"of {', '.join(LOSSES)}")
    parser.add_argument(
        "--lrs", nargs="+", type=float, default=[None], help="of the backbone; default: as train chooses"
    )
    asked = parser.parse_args(arguments)
    contest = Contest(asked.keep, asked.hold_out)
    default = default_recipe(contest, asked)
    frozen = contest.frozen(default)
    for loss in asked.losses:
        for lr in asked.lrs:
            given = {"loss": loss} if lr is None else {"loss": loss, "lr": lr}
            recipe = chosen(contest, asked, **given)
            contest.run(f"{loss}, lr {recipe.lr:g}", recipe, asked.seeds)
    if asked.lrs == [None]:
        contest.run(f"default: {default.loss}, lr {default.lr:g}", default, asked.seeds)
    contest.table(frozen)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
