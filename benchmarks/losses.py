"""Which loss gives the best embedding of classes that nobody trained on, under equal conditions?

Cars196-train-half, zero-shot: trained on classes 1 to 98, Recall@1 and MAP@R leave-one-out among 99 to 196. Backbone,
embedding size, image size, augmentation, batch (with four pictures of a class, for every loss), optimiser, schedule and
epochs are the same for all; no epoch is chosen: the last is kept. Learning rates are the same for all losses too, one
for the backbone, one for what is new, one for proxies; they and the default loss were chosen on 16 classes held out of
the 98 to train on (docs/decisions.md).

``default`` is what ``lookalike train`` chooses for these pictures, with the same size, batch and epochs. Every recipe
is run with each seed; the spread is a 95 % interval by Student's t over the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from benchmarks._zero_shot import Contest, default_recipe, parser_of
from retrieval.architecture import NONE
from retrieval.losses import LOSSES, parse

COMPARED: Final = ("triplet", "multi_similarity", "proxy_anchor", "arcface")


def main(arguments: Sequence[str]) -> None:
    """Train with every loss and seed, and print a table."""
    parser = parser_of("losses", __doc__, epochs=8)
    parser.add_argument("--losses", nargs="+", default=list(COMPARED), help=f"of {', '.join(LOSSES)}")
    asked = parser.parse_args(arguments)
    contest = Contest(asked.keep)
    default = default_recipe(contest, asked)
    frozen = contest.frozen(default)
    for loss in asked.losses:
        head = default.head if any(term.row.needs_head for term in parse(loss)) else NONE
        contest.run(loss, replace(default, loss=loss, head=head), asked.seeds)
    contest.run(f"default ({default.loss})", default, asked.seeds)
    contest.table(frozen)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
