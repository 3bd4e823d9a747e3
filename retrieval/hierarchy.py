"""How bad mistakes are, where labels are paths: ``Fruit/Apple/Granny-Smith`` is nearer to ``Fruit/Apple/Gala``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def mistake_distance(
    predicted: Sequence[str], true: Sequence[str], *, labels: Iterable[str] | None = None
) -> np.ndarray:
    """Give the height of the lowest common ancestor of each prediction and the truth, 0 where they are the same.

    The tree is that of the labels, whose levels "/" parts, under one nameless root; the height of a place in it is the
    number of levels down to the deepest label below it (Bertinetto et al., "Making Better Mistakes", CVPR 2020). Two
    sister classes whose parent has no deeper descendants are 1 apart; two that share nothing, as far apart as the tree
    is high. A label may have labels below it: to predict the parent is then a mistake of the parent's height. Labels
    without "/" are all 1 apart.

    Args:
        predicted: n labels.
        true: n labels.
        labels: all labels of the tree; None: those predicted and those true. A report names its classes, so that the
            tree does not depend on what was predicted.

    Returns:
        (n,) float64, whole numbers.
    """
    assert len(predicted) == len(true)
    named = sorted({*predicted, *true, *(() if labels is None else labels)})
    paths = [tuple(label.split("/")) for label in named]
    heights: dict[tuple[str, ...], int] = {}
    for path in paths:
        for depth in range(len(path) + 1):
            heights[path[:depth]] = max(heights.get(path[:depth], 0), len(path) - depth)
    # A distance for each pair of labels that occurs, not for each query.
    code = {label: place for place, label in enumerate(named)}
    pairs = np.array([[code[label] for label in predicted], [code[label] for label in true]], dtype=np.int64)
    keys, back = np.unique(pairs[0] * len(named) + pairs[1], return_inverse=True)
    distances = [
        0 if here == there else heights[_shared(paths[here], paths[there])]
        for here, there in (divmod(key, len(named)) for key in keys.tolist())
    ]
    return np.array(distances, dtype=np.float64)[back]


def _shared(here: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    depth = 0
    while depth < min(len(here), len(there)) and here[depth] == there[depth]:
        depth += 1
    return here[:depth]
