"""Trainings that are told and never were, for the tests of their report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from indexer.training_account import Account
from indexer.training_source import NOTHING
from retrieval.choosing import BASELINES, Choice, Counts, choose
from retrieval.course import Row
from retrieval.validation import Confusion, Score

HOSTILE = "<script>alert(1)</script>\"'&"


def sample_choices(given: dict[str, object] | None = None) -> Sequence[Choice]:
    counts = Counts.of([f"class {at // 6}" for at in range(600)])
    return choose("test_efficientnet", counts, device="cpu", budget=None, native_size=224, given=given or {})[1]


def sample_rows(epochs: int, *, every: int = 2, head: bool = True, knn: bool = True, of: int = 90) -> list[Row]:
    """Make up epochs, validated on ``of`` images; 0: not at all."""
    rows = []
    for epoch in range(1, epochs + 1):
        score = None
        if of and (epoch % every == 0 or epoch == epochs):
            right = round((1 - 0.5 / epoch) * of)
            # MAP@R is a mean, and so no whole number of images.
            found, named, known = (min(of, max(0, right + more)) / of for more in (0, -2, 1))
            score = Score(found, 0.7 * found, named if knn else None, known if head else None)
        loss = 9.0 / epoch
        rows.append(
            Row(epoch, loss, {"proxy_anchor": loss - 0.5, "ce": 0.5}, 3e-4 / epoch, 192, 61.0, 40.0 * epoch, score)
        )
    return rows


def sample_account(
    names: Sequence[tuple[str, str]] = (),
    *,
    epochs: int = 12,
    held_out: int = 90,
    measured: int | None = None,
    by: str = "images",
    classes: int = 100,
    head: bool = True,
    refused: int = 3,
    choices: dict[str, object] | None = None,
) -> Account:
    """Tell a training of ``epochs`` epochs, the nth image being confused with the next of ``names``: (id, class)."""
    named = names or [(f"Paint/Red/{at:03d}.jpg", f"Paint/{'Red' if at % 2 else 'Sand'}") for at in range(31)]
    confusions = [
        Confusion(named[at][0], named[at][1], named[at + 1][0], named[at + 1][1], 0.99 - at / 100)
        for at in range(len(named) - 1)
    ]
    within = by == "images"
    searched = held_out if measured is None else measured
    rows = sample_rows(epochs, head=head and within, knn=within, of=searched)
    card = {"digest": "ab" * 32, "backbone": "test_efficientnet", "dim": 512}
    return Account(
        source=named[0][0] if names else "photos",
        pictures=510,
        classes=classes,
        held_out=held_out,
        measured=searched,
        held_by="the last 15% of the images of each class" if held_out else NOTHING,
        by=by,
        embedder=card | ({"head": "cosine", "classes": classes} if head and classes else {}),
        choices=sample_choices(dict(BASELINES["cbam"].choices) if choices is None else choices),
        rows=rows,
        untrained=None if rows[-1].score is None else replace(rows[-1].score, recall_at_1=1 / searched, head=None),
        best=rows[-1].score,
        best_epoch=epochs,
        confusions=confusions if held_out else [],
        refused=[(f"broken/{at}.jpg", "the file is cut") for at in range(refused)],
        seconds=40.0 * epochs,
        about={"command": "lookalike train photos --out birds", "versions": {"lookalike": "0.1.0"}, "cores": 2},
    )
