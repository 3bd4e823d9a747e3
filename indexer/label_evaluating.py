"""Measure the labels that a catalogue gives: those of other pictures, or of its own items, each left out in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.calibrating import (
    LEAVE_ONE_OUT,
    Kept,
    Pictures,
    Voters,
    codes_of,
    head_of,
    labelled_items,
    leavable,
    same_bytes_numbers,
    unit_vectors_of,
    voters_of,
)
from indexer.catalogue import Catalogue
from indexer.evaluation import FLATTERING
from retrieval.evidence import gather
from retrieval.few_shot import Episodes, FewShot, few_shot
from retrieval.label_evaluation import Asking, LabelReport, evaluate_labels
from retrieval.model_card import model_card, read_description, trained_on
from retrieval.prior import Prior


def evaluate_catalogue_labels(
    catalogue: Catalogue,
    kept: Kept,
    *,
    pictures: Pictures | None = None,
    known: Mapping[str, Sequence[str | None]] | None = None,
    notice: Callable[[str], object] = lambda _: None,
) -> tuple[LabelReport, pa.Table]:
    """Measure labels.

    Args:
        catalogue: whose items vote.
        kept: the calibration.
        pictures: with right labels; those of a label that no item has measure "none of these". None: the items.
        known: column → what each of the pictures has in it, as a prior; None: nothing is known.
        notice: told what the user should know.

    Returns:
        The report, and a row a query (``retrieval.label_evaluation.PREDICTIONS_SCHEMA``).

    Raises:
        InputError: there is nothing to measure.
        NotFoundError: the catalogue has no such column.
    """
    head = head_of(catalogue)
    voters = voters_of(catalogue, head)
    described = catalogue.path / "embedder" / catalogue.digest
    learned = trained_on(read_description(described))
    if learned is not None:
        notice(FLATTERING.format(learned=learned))
    if pictures is None:
        how = "each item by the others"
        (numbers,) = same_bytes_numbers(voters.digests)
        some = leavable(voters.gallery.codes, numbers)
        vectors, codes = voters.gallery.vectors[some], voters.gallery.codes[some]
        ids = [voters.ids[at] for at in some.tolist()]
        labels = [voters.vocabulary.labels[code] for code in codes.tolist()]
        groups = (numbers[some], numbers)
        if kept.about["source"] == LEAVE_ONE_OUT:
            notice("the calibration was fitted on these very items: the calibration error flatters a little")
    else:
        how = f"pictures of {pictures.source} by the items"
        vectors, ids, labels = pictures.vectors, list(pictures.ids), list(pictures.labels)
        codes = codes_of(pictures.labels, voters.vocabulary.labels)
        own, others = same_bytes_numbers(pictures.digests, voters.digests)
        groups = (own, others)
    logits = None if head is None else head.logits(vectors)
    evidence = gather(vectors, voters.gallery, without=groups, logits=logits, device=catalogue.device)
    factors = _factors(catalogue, voters, known or {})
    found, table = evaluate_labels(Asking(ids, labels, codes, evidence, factors), voters.vocabulary, kept.calibration)
    given = f", given {' and '.join(known)}" if known else ""
    return LabelReport(
        title=str(catalogue.about["name"]),
        protocol=f"labels of {how}{given}, copies of the same bytes left out",
        embedder=model_card(described, catalogue.digest),
        calibration=kept.about,
        unlabelled=pictures.unlabelled if pictures is not None else _unlabelled(catalogue),
        **found,
    ), table


def few_shot_of_catalogue(
    catalogue: Catalogue,
    episodes: Episodes,
    *,
    label: str = "label",
    notice: Callable[[str], object] = lambda _: None,
) -> FewShot:
    """Measure few-shot episodes drawn from the items of a catalogue, copies of the same bytes counted once.

    Args:
        catalogue: whose items are drawn.
        episodes: what is drawn.
        label: the column of the classes.
        notice: told what the user should know.

    Raises:
        InputError: too few classes have images enough.
        NotFoundError: there is no such column.
    """
    learned = trained_on(read_description(catalogue.path / "embedder" / catalogue.digest))
    if learned is not None:
        notice(FLATTERING.format(learned=learned))
    items = catalogue.items(["id", "sha256", label])
    items = items.filter(pc.is_valid(items.column(label)))
    (numbers,) = same_bytes_numbers(items.column("sha256").to_pylist())
    items = items.take(pa.array(np.unique(numbers, return_index=True)[1]))
    codes = pc.dictionary_encode(items.column(label).combine_chunks()).indices.to_numpy().astype(np.int64)
    return few_shot(unit_vectors_of(catalogue, items), codes, episodes)


def _unlabelled(catalogue: Catalogue) -> int:
    return int(catalogue.items(["label"]).column("label").null_count)


def _factors(catalogue: Catalogue, voters: Voters, known: Mapping[str, Sequence[str | None]]) -> np.ndarray | None:
    factors = None
    for column, values in known.items():
        items = labelled_items(catalogue, [column]).column(column).to_pylist()
        of_items = [None if value is None else str(value) for value in items]
        prior = Prior.of(of_items, voters.gallery.codes, len(voters.vocabulary.labels))
        factor = prior.factors(values)
        factors = factor if factors is None else factors * factor
    return factors
