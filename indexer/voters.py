"""What says labels in a catalogue: its labelled items, the embedder's classifier head, and what is known besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from retrieval.errors import InputError, NotFoundError
from retrieval.evidence import LabelledGallery
from retrieval.labelled import unit_length
from retrieval.labels import Vocabulary
from retrieval.model_card import read_description, trained_on
from retrieval.prior import NOT_COUNTED, Prior
from retrieval.recognition import Classifies
from retrieval.tree import has_empty_part

NAMED: Final = 8
"""Values of a column that a message names."""


@dataclass(frozen=True)
class Voters:
    """The labelled items of a catalogue's version.

    Attributes:
        gallery: their vectors and labels.
        vocabulary: the labels, and which of them the head knows.
        ids: of the items.
        digests: SHA-256 of their bytes.
    """

    gallery: LabelledGallery
    vocabulary: Vocabulary
    ids: Sequence[str]
    digests: Sequence[bytes]


@dataclass(frozen=True)
class LabelledItems:
    """The items of a version that have a label.

    Attributes:
        table: a row an item, ascending by ``row``, with all columns.
        vocabulary: their labels, and which of them the head knows.
        codes: (m,) int64, the place of each item's label in it.
        every: whether the version has no other items.
        path: of the catalogue, for messages.
    """

    table: pa.Table
    vocabulary: Vocabulary
    codes: np.ndarray
    every: bool
    path: Path

    def values(self, column: str) -> list[Any]:
        """What the items have in a column.

        Raises:
            NotFoundError: there is no such column.
        """
        if column not in self.table.column_names:
            raise NotFoundError(
                f"{self.path} has no column {column!r}; it has {', '.join(map(repr, self.table.column_names))}"
            )
        values: list[Any] = self.table.column(column).to_pylist()
        return values


_LATEST: WeakKeyDictionary[Catalogue, tuple[pa.Table, Sequence[str], LabelledItems]] = WeakKeyDictionary()


def labelled_items(catalogue: Catalogue, head: Classifies | None, *, items: pa.Table | None = None) -> LabelledItems:
    """Give the items that have a label.

    Those of the last version that was asked for are kept, since a server asks for them with each picture, and ten
    thousand labels make a tree in a tenth of a second.

    Args:
        catalogue: whose items they are.
        head: its classifier head; None: it has no say.
        items: those of a snapshot; None: of the version that is open.

    Raises:
        InputError: none has one, or all have the same, or one has an empty part in its path.
    """
    items = catalogue.items() if items is None else items
    classes = () if head is None else head.classes
    kept = _LATEST.get(catalogue)
    if kept is None or kept[0] is not items or kept[1] != classes:
        kept = _LATEST[catalogue] = (items, classes, _labelled(items, classes, catalogue.path))
    return kept[2]


def _labelled(items: pa.Table, classes: Sequence[str], path: Path) -> LabelledItems:
    every = items.column("label").null_count == 0
    table = items if every else items.filter(pc.is_valid(items.column("label"))).combine_chunks()
    column = table.column("label").combine_chunks()
    labels = sorted(pc.unique(column).to_pylist())
    if not labels:
        raise InputError(
            f"no item of {path} has a label; index a folder with a subfolder a label, or a list with --label-column"
        )
    if len(labels) == 1:
        raise InputError(f"all items of {path} have the label {labels[0]!r}; there is nothing to tell apart")
    bad = [label for label in labels if has_empty_part(label)]
    if bad:
        of_bad = pc.is_in(column, value_set=pa.array(bad, pa.string()))
        ids = table.column("id").filter(of_bad)
        raise InputError(
            f"the label {bad[0]!r} has an empty part in its path, as those of {len(ids):,} items of {path} have, such "
            f"as {ids[0].as_py()!r}; mend the source and index it again, or give them other labels with lookalike "
            f"audit {path} --apply FILE, a CSV file with the columns id and correction"
        )
    codes = pc.index_in(column, value_set=pa.array(labels, pa.string())).to_numpy().astype(np.int64)
    vocabulary = Vocabulary.of(labels, np.bincount(codes, minlength=len(labels)), classes)
    return LabelledItems(table, vocabulary, codes, every, path)


def learned_from(catalogue: Catalogue) -> str | None:
    """Say in words on what the catalogue's embedder was trained here; None where it was not."""
    return trained_on(_described(catalogue))


def head_of(catalogue: Catalogue) -> Classifies | None:
    """Give the catalogue's embedder where it has a classifier head; loads it only then."""
    if not _described(catalogue).get("architecture", {}).get("classes"):
        return None
    embedder = catalogue.embedder()
    return embedder if isinstance(embedder, Classifies) and embedder.classes else None


def _described(catalogue: Catalogue) -> dict[str, Any]:
    return read_description(catalogue.path / "embedder" / catalogue.digest)


def unit_vectors_of(catalogue: Catalogue, items: pa.Table) -> np.ndarray:
    """Read the vectors of items with ``id`` and ``sha256``, (n, dim) float32, L2-normalised.

    Raises:
        InputError: an item has none, or one that is zero or not finite.
    """
    vectors, present = catalogue.vectors.read(items.column("sha256"))
    lost = int((~present).sum())
    if lost:
        raise InputError(f"{lost:,} items of {catalogue.path} have no vector; index their source again first")
    return unit_length(vectors, items.column("id").to_pylist())


def voters_of(catalogue: Catalogue, head: Classifies | None) -> Voters:
    """Read the labelled items with their vectors.

    Raises:
        InputError: see ``labelled_items``; or an item has no vector.
    """
    labelled = labelled_items(catalogue, head)
    vectors = unit_vectors_of(catalogue, labelled.table)
    gallery = LabelledGallery(vectors, labelled.codes, labelled.vocabulary.labels)
    return Voters(gallery, labelled.vocabulary, labelled.values("id"), labelled.values("sha256"))


def prior_factors(
    labelled: LabelledItems,
    known: Mapping[str, Sequence[str | None]],
    *,
    own: Sequence[str | None] | None = None,
    unheard: Callable[[str], object],
) -> np.ndarray | None:
    """Say how much likelier each label is by what is known of n pictures besides: (n, c); None: nothing is known.

    Args:
        labelled: the items that are counted.
        known: column → what each picture has in it; None: nothing.
        own: the id of the item that each picture is, which has no say in its own, None of one that is none; None: they
            are no items.
        unheard: told in a sentence of values that no item has, and that therefore say nothing.

    Raises:
        NotFoundError: there is no such column.
    """
    factors = None
    ids = labelled.table.column("id").combine_chunks()
    at = None if own is None else pc.index_in(pa.array(own, pa.string()), value_set=ids).to_pylist()
    for column, values in known.items():
        of_items = [None if value is None else str(value) for value in labelled.values(column)]
        prior = Prior.of(of_items, labelled.codes, len(labelled.vocabulary.labels))
        strange = sorted({value for value in values if value is not None} - set(prior.values))
        if strange:
            there = ", ".join(map(repr, prior.values[:NAMED])) + (", ..." if len(prior.values) > NAMED else "")
            more = f" or {len(strange) - 1:,} other values" if len(strange) > 1 else ""
            unheard(f"no labelled item of {labelled.path} has {column} {strange[0]!r}{more}; they have {there}")
        counted = None
        if at is not None:
            # What an item counted for is its own value, which need not be the one that is asked for.
            itself = [
                labelled.codes[place] if place is not None and of_items[place] == value else NOT_COUNTED
                for place, value in zip(at, values, strict=True)
            ]
            counted = np.array(itself, dtype=np.int64)
        found = prior.factors(values, counted=counted)
        factors = found if factors is None else factors * found
    return factors
