"""What is wrong with the labels of a catalogue; ``indexer.correcting`` puts it right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.catalogue import Catalogue
from indexer.label_queries import Queries, each_item, held_out
from indexer.voters import Voters, labelled_items, learned_from, voters_of
from retrieval.calibration import fit, steps
from retrieval.evidence import Evidence, gather
from retrieval.recognition import KNN
from retrieval.suspects import find_alike, find_suspects

WRONG: Final = "wrong label"
CONFLICT: Final = "same picture, other label"
FOREIGN: Final = "like no label"
LEAK: Final = "same picture in another split"
STRANGE: Final = 0.1
"""Probability of being known below which an item is listed as being like no label."""
POOR: Final = 0.9
"""Share of labels that the others agree with, below which many a suspected label is right."""
TOO_WEAK: Final = (
    "the embedder agrees with only {agreed:.0%} of the labels, so many that are called wrong will be right: train one "
    "on them first, with lookalike train"
)
SPLIT: Final = "split"
"""The column that says of which part of a data set an item is, unless another is named."""
BY_HEART: Final = (
    "the embedder was trained on {learned}; if those are items of this catalogue, wrong labels that it has learned by "
    "heart are not seen; a short training learns fewer"
)
SHOWN: Final = 5
"""Neighbours that a finding names."""

FINDINGS_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # one of the four sentences above
        pa.field("finding", pa.string(), nullable=False),
        # as the catalogue has it
        pa.field("label", pa.string(), nullable=False),
        # the most probable label, itself left out, and its probability in [0, 1]; null: no other picture has its label
        pa.field("suggested", pa.string()),
        pa.field("confidence", pa.float64()),
        # how much the label can be believed, in [0, 1]; null as before
        pa.field("quality", pa.float64()),
        # the other picture of a conflict or a leak; null for other findings
        pa.field("other", pa.string()),
        # the nearest items that do not have this label, nearest first
        pa.field("neighbours", pa.list_(pa.string()), nullable=False),
    ]
)
"""A finding a row."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        findings: ``FINDINGS_SCHEMA``.
        alike: (label, label, share of their images taken for the other one) of classes that may be one.
        items: labelled items that were looked at.
        labels: how many they have.
        left_out: items whose label no other picture has; nothing can be said of theirs.
        agreed: share of the other items whose label is the most probable by the others, in [0, 1]; where it is low,
            the embedder does not tell the labels apart, and findings are little to go by.
        version: of the catalogue.
    """

    findings: pa.Table
    alike: Sequence[tuple[str, str, float]]
    items: int
    labels: int
    left_out: int
    agreed: float
    version: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "items": self.items,
            "labels": self.labels,
            "left_out": self.left_out,
            "agreed": self.agreed,
            "version": self.version,
            "findings": self.findings.to_pylist(),
            "alike": [{"first": a, "second": b, "overlap": share} for a, b, share in self.alike],
        }


def audit(
    catalogue: Catalogue,
    *,
    split: str | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Audit:
    """Look for labels that are probably wrong.

    Each item is labelled by the vote of the others, its own copies left out, with numbers fitted on all of them; the
    embedder's classifier head, which may have learned the labels by heart, has no say.

    Args:
        catalogue: to look at.
        split: a column of the items; the same bytes with two values of it are a leak. None: ``split``, where there is
            such a column.
        progress: told steps done and all steps.
        notice: told what the findings cannot see.

    Raises:
        InputError: no labels, one label only, or too few items.
        NotFoundError: there is no such column.
        MissingExtraError: cleanlab is not installed.
    """
    learned = learned_from(catalogue)
    if learned is not None:
        notice(BY_HEART.format(learned=learned))
    voters = voters_of(catalogue, None)
    queries, vocabulary = each_item(voters), voters.vocabulary
    codes, some = queries.codes, queries.places
    held = held_out(queries, voters, device=catalogue.device)
    fitted = fit(held, vocabulary, progress=progress).numbers
    evidence = held.evidence
    if len(evidence) < len(some):  # a part was enough for the fit
        evidence = gather(queries.vectors, voters.gallery, without=queries.groups, device=catalogue.device)
    parts = [evidence.take(part) for part in steps(len(some), len(vocabulary.labels))]
    shares = np.concatenate([fitted.probabilities(part, vocabulary, KNN) for part in parts])
    known = fitted.openness.known(np.concatenate([fitted.known_scores(part, vocabulary) for part in parts]))
    suspects = find_suspects(shares, codes)
    best = shares.argmax(axis=1)
    rows = _Rows(voters, queries, evidence, best, shares.max(axis=1), suspects.quality)
    # What is certain comes first.
    found = _twins(catalogue, voters, rows, split)
    found += [rows.row(int(at), WRONG) for at in suspects.places]
    listed = {row["id"] for row in found}
    strange = np.flatnonzero(known < STRANGE)
    found += [
        rows.row(at, FOREIGN)
        for at in strange[np.argsort(known[strange], kind="stable")].tolist()
        if voters.ids[some[at]] not in listed
    ]
    labels = vocabulary.labels
    return Audit(
        findings=pa.Table.from_pylist(found, schema=FINDINGS_SCHEMA),
        alike=[
            (labels[pair.first], labels[pair.second], pair.overlap)
            for pair in find_alike(best, codes, classes=len(labels))
        ],
        items=len(voters.ids),
        labels=len(labels),
        left_out=len(voters.ids) - len(some),
        agreed=float((best == codes).mean()),
        version=catalogue.version,
    )


@dataclass(frozen=True)
class _Rows:
    """Makes rows of findings of the items that could be left out: (s,) arrays in their order."""

    voters: Voters
    queries: Queries
    evidence: Evidence
    best: np.ndarray
    confidence: np.ndarray
    quality: np.ndarray

    def of_item(self, place: int, finding: str, other: str) -> dict[str, Any]:
        """The row of an item by its place among the voters, also of one that nothing can be said of."""
        places = self.queries.places
        at = int(np.searchsorted(places, place))
        if at < len(places) and places[at] == place:
            return self.row(at, finding, other)
        voters = self.voters
        label = voters.vocabulary.labels[voters.gallery.codes[place]]
        return {"id": voters.ids[place], "finding": finding, "label": label, "other": other, "neighbours": []}

    def row(self, at: int, finding: str, other: str | None = None) -> dict[str, Any]:
        """The row of one of the items that could be left out."""
        labels, ids = self.voters.vocabulary.labels, self.voters.ids
        evidence = self.evidence
        of_others = (evidence.codes[at] != self.queries.codes[at]) & (evidence.codes[at] >= 0)
        return {
            "id": self.queries.ids[at],
            "finding": finding,
            "label": self.queries.labels[at],
            "suggested": labels[self.best[at]],
            "confidence": float(self.confidence[at]),
            "quality": float(self.quality[at]),
            "other": other,
            "neighbours": [ids[place] for place in evidence.places[at][of_others][:SHOWN].tolist()],
        }


def _twins(catalogue: Catalogue, voters: Voters, rows: _Rows, split: str | None) -> list[dict[str, Any]]:
    """Pairs of the same bytes with other labels, then those in other splits."""
    parts: list[Any] = [None] * len(voters.ids)
    if split is None and SPLIT in catalogue.items().column_names:
        split = SPLIT
    if split is not None:
        parts = labelled_items(catalogue, None).values(split)
    groups: dict[bytes, list[int]] = {}
    for place, digest in enumerate(voters.digests):
        groups.setdefault(digest, []).append(place)
    codes, found = voters.gallery.codes, []
    for finding, values in ((CONFLICT, codes.tolist()), (LEAK, parts)):
        for places in groups.values():
            # Of each value the first with the first of all: a hundred copies are no five thousand findings.
            first = {values[place]: place for place in reversed(places) if values[place] is not None}
            several = sorted(first.values())
            found += [rows.of_item(several[0], finding, voters.ids[other]) for other in several[1:]]
    return found
