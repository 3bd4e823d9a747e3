"""Two evaluations of the same queries, query by query: what each scored, and how sure the difference is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.evaluation import measures
from retrieval.ranks import NEVER, Ranks
from retrieval.recognition import COARSE, NOWHERE, TOP
from retrieval.report import QUERIES_SCHEMA, Gain
from retrieval.uncertainty import paired_permutation

AT_K: Final = re.compile(r"(Recall|Accuracy)@(\d+)")


def ranks_of(table: pa.Table) -> Ranks:
    """Take the ranks back from ``QUERIES_SCHEMA``; the places in the gallery are not kept there, and are -1."""
    column = table.column("ranks").combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy())]).astype(np.int64)
    ranks = column.flatten().fill_null(NEVER).to_numpy()
    candidates = table.column("candidates").to_numpy()
    return Ranks(offsets, ranks, np.full(len(ranks), -1, np.int64), candidates)


def scores(table: pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Say what each query scored: figure → (n,) float64, of the figures that are means over queries.

    Args:
        table: ``QUERIES_SCHEMA``, or ``retrieval.recognition.PREDICTIONS_SCHEMA``.
        names: the report's figures, which say for which K.
    """
    if not set(QUERIES_SCHEMA.names) <= set(table.column_names):
        place = table.column("place").combine_chunks().fill_null(NOWHERE).to_numpy()
        right = {f"Top-{k} accuracy": (place <= k).astype(np.float64) for k in TOP}
        # Reports of earlier versions have no such columns.
        if "coarse_label" in table.column_names and not table.column("coarse_label").null_count:
            same = pc.equal(table.column("coarse_predicted"), table.column("coarse_label"))
            right[COARSE] = same.fill_null(False).to_numpy().astype(np.float64)
        return right
    found = [match for name in names if (match := AT_K.fullmatch(name))]
    of, values = measures(ranks_of(table), [int(match[2]) for match in found], found[0][1])
    return {name: values[:, at] for at, name in enumerate(of)}


def gains(names: Sequence[str], table: pa.Table, other: pa.Table) -> list[Gain]:
    """Hold an evaluation against another of the same queries.

    Args:
        names: the figures of the report.
        table: of the evaluation, a row a query.
        other: of what it is held against.

    Returns:
        The first less the second, a figure that is a mean over queries each; none where the queries are not the same.
    """
    if table.select(["id", "label"]) != other.select(["id", "label"]):
        return []
    labels = np.unique(np.array(table.column("label").to_pylist()), return_inverse=True)[1]
    ours, theirs = scores(table, names), scores(other, names)
    found = []
    for name, values in ours.items():
        it = paired_permutation(values, theirs[name], labels)
        found.append(Gain(name, it.difference, it.low, it.high, it.p))
    return found
