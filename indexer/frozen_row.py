"""The frozen row: what the same backbone does with nothing trained, beside a trained embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.embedding import embed_apart
from indexer.embeds import Embeds
from indexer.pipeline import Outcome
from retrieval.errors import EmbedderError, LookalikeError
from retrieval.model_card import name_of
from retrieval.pairing import gains
from retrieval.report import Report
from retrieval.sources import ImageSource


def with_frozen_row(
    report: Report,
    table: pa.Table,
    *,
    frozen: Callable[[], Embeds] | None,
    answer: Callable[[Embeds], tuple[Report, pa.Table]],
    notice: Callable[[str], object],
) -> Report:
    """Put the figures of the untrained backbone into a report, or why there are none.

    Args:
        report: of the trained embedder.
        table: a row a query.
        frozen: gives the untrained backbone; None: the embedder is not trained.
        answer: measures it on the same images.
        notice: told before that begins.
    """
    if frozen is None:
        return report
    card = report.embedder
    try:
        untrained = frozen()
        notice("measuring the same backbone frozen")
        other, its_table = answer(untrained)
    except LookalikeError as error:  # what was measured is not lost over what stands beside it
        return replace(report, frozen_note=f"the same backbone frozen could not be measured: {error}")
    return replace(
        report,
        frozen=other.figures,
        gains=gains([figure.name for figure in report.figures], table, its_table),
        frozen_note=(
            f"{name_of(card)}, {untrained.dim} dimensions, at the {card['image_size']} px of the trained embedder, "
            f"digest {untrained.digest[:12]}"
        ),
    )


def embed_again(
    images: Sequence[tuple[Path, str, bytes | None]],
    embedder: Embeds,
    *,
    progress: Callable[[int, int, int], object],
    notice: Callable[[str], object],
) -> np.ndarray:
    """Embed images that were embedded before, by another embedder.

    Args:
        images: root, uri and SHA-256 of each.
        embedder: the other one.
        progress: called with images done, images in all, images refused so far.
        notice: told what takes long.

    Returns:
        (n, dim) float16.

    Raises:
        EmbedderError: some are gone, or are no longer what they were.
    """
    vectors = np.zeros((len(images), embedder.dim), np.float16)
    lost, done = 0, 0

    def on_done(outcome: Outcome) -> None:
        nonlocal done, lost
        done += 1
        lost += outcome.reason is not None
        progress(done, len(images), lost)

    for root in dict.fromkeys(root for root, _, _ in images):
        places = [at for at, (own, _, _) in enumerate(images) if own == root]
        with ImageSource(root) as source:
            uris = [images[at][1] for at in places]
            outcomes, found = embed_apart(source, uris, embedder, progress=on_done, notice=notice)
        lost += sum(
            outcome.reason is None and outcome.sha256 != images[at][2]
            for outcome, at in zip(outcomes, places, strict=True)
        )
        vectors[places] = found
    if lost:
        raise EmbedderError(f"{lost:,} of {len(images):,} images are gone or are not what they were")
    return vectors
