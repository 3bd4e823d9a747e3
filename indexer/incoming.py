"""Which of several copies to take while pictures come in: by the rules of ``indexer.keep_best``, but for files' times.

The time of a file on its way in mostly says when it was copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from indexer.copy_groups import is_grey
from indexer.holdings import Held
from indexer.keep_best import DEFAULT_POLICY, Candidate, best_first, why_kept
from indexer.keep_facts import candidate_of, standings
from retrieval.copies import Overlay
from retrieval.grain import Grain
from retrieval.local_features import LocalFeatures

FACTS: Final = ("bytes", "format", "sharpness", "metadata", "resaved")
"""Columns of ``FINGERPRINTS_SCHEMA`` that the rules look at."""
VISIBLE: Final = tuple(rule for rule in DEFAULT_POLICY if rule not in ("size", "metadata", "oldest", "bytes"))
"""Rules by which a picture is worth taking an item away for: the others tell apart what nobody sees."""


@dataclass(frozen=True)
class Picture:
    """A picture that could be looked at.

    Attributes:
        held: what it is as an item, or would be.
        facts: ``FACTS`` of it, at least.
        features: None where only pictures of the same pixels are chosen from.
    """

    held: Held
    facts: Mapping[str, Any]
    features: LocalFeatures | None = None


def in_order(
    pictures: Sequence[Picture], overlays: Mapping[tuple[int, int], Overlay], grain: Callable[[bytes], Grain]
) -> list[int]:
    """Order pictures: places, the best first; what no rule tells apart as it comes.

    Args:
        pictures: that are copies of each other, some of some.
        overlays: (place, place) → from one to the other, of those that are.
        grain: of a picture, by its SHA-256; asked where one of two is the larger.
    """
    return best_first(_candidates(pictures, overlays, grain))


def why_better(one: Picture, item: Picture, over: Overlay, grain: Callable[[bytes], Grain]) -> str | None:
    """Say by which rule a picture would be kept in place of an item; None where nobody would see it.

    Args:
        one: the picture.
        item: that it is a copy of.
        over: from the item to the picture.
        grain: as for ``in_order``.
    """
    of_item, of_one = both = _candidates([item, one], {(0, 1): over}, grain)
    if best_first(both, VISIBLE)[0] == 0:
        return None
    mine, its = why_kept(of_one, [of_item], VISIBLE), why_kept(of_item, [of_one], VISIBLE)
    return mine if mine == its else f"{mine} against {its}"


def _candidates(
    pictures: Sequence[Picture], overlays: Mapping[tuple[int, int], Overlay], grain: Callable[[bytes], Grain]
) -> list[Candidate]:
    beside = standings(
        [(one.held.width, one.held.height) for one in pictures],
        [one.facts for one in pictures],
        ((one, other, over) for (one, other), over in overlays.items()),
        lambda at: grain(pictures[at].held.sha256),
    )
    return [
        candidate_of(
            {**one.facts, "width": one.held.width, "height": one.held.height},
            beside.get(place),
            row=place,
            uri=one.held.id,
            grey=is_grey(one.features),
        )
        for place, one in enumerate(pictures)
    ]
