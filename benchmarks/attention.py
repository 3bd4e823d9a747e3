"""Does attention or another pooling help fine-grained search, at equal budget?

Cars196-train-half, zero-shot, as in ``python -m benchmarks losses``: the default recipe of ``lookalike train`` with
each attention and each pooling in turn, all else equal, with several seeds. The author of timm warns that attention
like CBAM's can hurt fine-grained work; what wins here is the default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks._zero_shot import Contest
from benchmarks.losses import default_recipe
from benchmarks.machine import print_machine

PAIRS = (
    ("none", "average"),
    ("none", "gem"),
    ("none", "attention"),
    ("none", "bilinear"),
    ("none", "covariance"),
    ("cbam", "average"),
    ("parts", "average"),
)


def main(arguments: Sequence[str]) -> None:
    """Train with every attention and pooling and seed, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks attention", description=__doc__)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=96, help="image size, pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="file that finished runs are kept in, to go on from")
    chosen = parser.parse_args(arguments)
    print_machine(["lookalike", "torch", "lightning", "pytorch-metric-learning", "timm"])
    contest = Contest(chosen.keep)
    default = default_recipe(contest, chosen.backbone, chosen.size, chosen.epochs, chosen.batch)
    print(
        f"{default.loss}, {chosen.epochs} epochs at {chosen.size} px, batch {chosen.batch}, {default.dim} numbers a "
        f"vector, {chosen.seeds} seeds; measured on {len(contest.test.ids):,} pictures of classes not trained on\n"
    )
    frozen = contest.frozen(default)
    for attention, pooling in PAIRS:
        contest.run(
            f"attention {attention}, pooling {pooling}",
            replace(default, attention=attention, pooling=pooling),
            chosen.seeds,
        )
    contest.table(frozen)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
