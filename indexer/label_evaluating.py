"""Measure the labels that a catalogue gives: those of other pictures, or of its own items, each left out in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.calibrating import LEAVE_ONE_OUT, Kept
from indexer.catalogue import Catalogue
from indexer.evaluation import FLATTERING
from indexer.label_queries import ONLY, Pictures, each_item, each_picture, same_bytes_numbers
from indexer.report_words import count
from indexer.voters import head_of, labelled_items, learned_from, prior_factors, unit_vectors_of, voters_of
from retrieval.evidence import gather
from retrieval.few_shot import Episodes, FewShot, few_shot
from retrieval.label_evaluation import Asking, LabelReport, evaluate_labels
from retrieval.model_card import model_card


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
    learned = learned_from(catalogue)
    if learned is not None:
        notice(FLATTERING.format(learned=learned))
    fitted, own = "", None
    if pictures is None:
        how, queries = "each item by the others", each_item(voters)
        if kept.about["source"] == LEAVE_ONE_OUT:
            fitted = ", on which the calibration was fitted"
            notice("the calibration was fitted on these very items: the calibration error flatters a little")
        if alone := len(voters.ids) - len(queries.ids):
            notice(f"{count(alone, *ONLY)}, and cannot be asked of the others")
    else:
        how, queries = f"pictures of {pictures.source} by the items", each_picture(pictures, voters)
        if again := kept.fitted_on(pictures):
            fitted = f", on {again:,} of which the calibration was fitted"
            notice(
                f"the calibration was fitted on {again:,} of these {len(queries.ids):,} pictures: the figures flatter "
                "a little; measure with others"
            )
        of_bytes = dict(zip(voters.digests, voters.ids, strict=True))
        own = [of_bytes.get(digest) for digest in pictures.digests]
    logits = None if head is None else head.logits(queries.vectors)
    evidence = gather(queries.vectors, voters.gallery, without=queries.groups, logits=logits, device=catalogue.device)
    factors = prior_factors(labelled_items(catalogue, head), known or {}, own=own, unheard=notice)
    asking = Asking(queries.ids, queries.labels, queries.codes, evidence, factors)
    found, table = evaluate_labels(asking, voters.vocabulary, kept.calibration)
    given = f", given {' and '.join(known)}" if known else ""
    return LabelReport(
        title=str(catalogue.about["name"]),
        protocol=f"labels of {how}{given}, copies of the same bytes left out{fitted}",
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
    learned = learned_from(catalogue)
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
