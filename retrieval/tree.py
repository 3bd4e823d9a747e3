"""The tree that labels span where they are paths: ``Fruit/Apple/Gala`` lies below ``Fruit/Apple`` below ``Fruit``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from retrieval.errors import InputError

NOWHERE = -1


def has_empty_part(label: str) -> bool:
    """Whether a part of a label's path is empty."""
    return not all(part.strip() for part in label.split("/"))


def check_paths(labels: Iterable[str]) -> None:
    """Check that no part of a label's path is empty.

    Raises:
        InputError: names the first label that has one.
    """
    for label in labels:
        if has_empty_part(label):
            raise InputError(
                f"the label {label!r} has an empty part in its path; write it like Fruit/Apple, with something between "
                "the slashes"
            )


@dataclass(frozen=True)
class LabelTree:
    """Labels and all that lies above them, in numbers.

    A label may lie above others: its node then holds its own probability and theirs.

    Attributes:
        labels: c of them, in the order of their codes.
        nodes: m paths, each label and every beginning of one, ordered by the parts of the path, so that what lies
            below a node follows it.
        depths: (m,) int64, parts of each path, from 1.
        parents: (m,) int64, the node above each; ``NOWHERE`` above the first part.
        places: (c,) int64, the node of each label.
    """

    labels: Sequence[str]
    nodes: Sequence[str]
    depths: np.ndarray
    parents: np.ndarray
    places: np.ndarray
    _order: np.ndarray = field(repr=False)  # labels in the order of the nodes
    _starts: np.ndarray = field(repr=False)  # (m,): the first label at or below a node, as a place in _order
    _ends: np.ndarray = field(repr=False)  # (m,): the one after the last

    @classmethod
    def of(cls, labels: Sequence[str]) -> LabelTree:
        """Make the tree of different labels.

        Raises:
            InputError: a label has an empty part in its path.
        """
        assert len(set(labels)) == len(labels)
        check_paths(labels)
        paths = [tuple(label.split("/")) for label in labels]
        named = sorted({path[:depth] for path in paths for depth in range(1, len(path) + 1)})
        node = {path: place for place, path in enumerate(named)}
        order = sorted(range(len(paths)), key=lambda code: paths[code])
        starts, ends = np.full(len(named), len(paths)), np.zeros(len(named), np.int64)
        for place, code in enumerate(order):
            for depth in range(1, len(paths[code]) + 1):
                above = node[paths[code][:depth]]
                starts[above], ends[above] = min(starts[above], place), place + 1
        return cls(
            labels=tuple(labels),
            nodes=tuple("/".join(path) for path in named),
            depths=np.array([len(path) for path in named], dtype=np.int64),
            parents=np.array([node.get(path[:-1], NOWHERE) for path in named], dtype=np.int64),
            places=np.array([node[path] for path in paths], dtype=np.int64),
            _order=np.array(order, dtype=np.int64),
            _starts=starts.astype(np.int64),
            _ends=ends,
        )

    @property
    def depth(self) -> int:
        """Parts of the longest path."""
        return int(self.depths.max(initial=0))

    def sums(self, probabilities: np.ndarray) -> np.ndarray:
        """Sum probabilities of labels, (n, c), up the tree: (n, m) float64, of the nodes."""
        through = np.zeros((len(probabilities), len(self.labels) + 1))
        np.cumsum(probabilities[:, self._order], axis=1, out=through[:, 1:])
        return np.asarray(through[:, self._ends] - through[:, self._starts])

    def level(self, depth: int) -> np.ndarray:
        """Map each label to the node at most ``depth`` parts deep that it is or lies below: (c,) int64."""
        nodes = self.places.copy()
        while (deep := self.depths[nodes] > depth).any():
            nodes[deep] = self.parents[nodes[deep]]
        return nodes

    def answers(self, probabilities: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Go down the tree, always to the most probable node, as far as that is at least as probable as asked.

        Above one half that is the deepest node of all that are probable enough.

        Args:
            probabilities: (n, c), rows summing to 1.
            confidence: in (0, 1].

        Returns:
            (n,) int64, nodes, ``NOWHERE`` where no first part is probable enough; and (n,) float64, their
            probability, where there is none that of the most probable first part.
        """
        sums = self.sums(probabilities)
        rows = np.arange(len(sums))
        found, sure = np.full(len(sums), NOWHERE), np.zeros(len(sums))
        going = np.ones(len(sums), bool)
        for depth in range(1, self.depth + 1):
            level = np.flatnonzero(self.depths == depth)
            below = np.where(self.parents[level] == found[:, None], sums[:, level], -np.inf)  # (n, nodes of the level)
            best = below.argmax(axis=1)
            probable = below[rows, best]
            if depth == 1:
                sure = probable.copy()
            going &= probable >= confidence
            found[going], sure[going] = level[best[going]], probable[going]
        return found, np.clip(sure, 0.0, 1.0)

    def likeliest_below(self, probabilities: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Give the most probable label at or below a node of each query, of all where it is ``NOWHERE``: (n,) codes."""
        ordered = probabilities[:, self._order]
        place = np.arange(len(self.labels))
        starts = np.where(nodes == NOWHERE, 0, self._starts[nodes])
        ends = np.where(nodes == NOWHERE, len(self.labels), self._ends[nodes])
        inside = (place >= starts[:, None]) & (place < ends[:, None])
        return np.asarray(self._order[np.where(inside, ordered, -np.inf).argmax(axis=1)])
