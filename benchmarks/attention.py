"""Does attention or another pooling help fine-grained search, at equal budget?

Cars196-train-half, zero-shot, as in ``python -m benchmarks losses``: the default recipe of ``lookalike train`` with
each attention and each pooling in turn, all else equal, with several seeds; what gives thousands of numbers a picture
is projected to 512, as ``lookalike train`` does. The author of timm warns that attention like CBAM's can hurt
fine-grained work; what wins here is the default. For transformers, named by ``--backbone``, native pooling (the class
token; of a convolutional network it is the average) and rollout are part of the contest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks._zero_shot import Contest, chosen, default_recipe, parser_of
from retrieval.choosing import traits_of

PAIRS: Final = (
    ("none", "average"),
    ("none", "max"),
    ("none", "gem"),
    ("none", "attention"),
    ("none", "bilinear"),
    ("none", "covariance"),
    ("cbam", "average"),
    ("parts", "average"),
)
OF_TRANSFORMERS: Final = (("none", "native"), ("rollout", "native"))


def main(arguments: Sequence[str]) -> None:
    """Train with every attention and pooling and seed, and print a table."""
    asked = parser_of("attention", __doc__, epochs=3).parse_args(arguments)
    contest = Contest(asked.keep, asked.hold_out)
    default = default_recipe(contest, asked)
    frozen = contest.frozen(default)
    pairs = PAIRS if not traits_of(asked.backbone)[1] else (*PAIRS, *OF_TRANSFORMERS)
    for attention, pooling in pairs:
        contest.run(
            f"attention {attention}, pooling {pooling}",
            chosen(contest, asked, attention=attention, pooling=pooling),
            asked.seeds,
        )
    contest.table(frozen)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
