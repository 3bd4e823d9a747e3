"""Whether fine-tuning is likely to pay: what frozen backbones already do on a sample of the user's own pictures."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from indexer.embedding import embed_apart
from retrieval.choosing import Counts
from retrieval.datasets.cuts import CutSource
from retrieval.errors import ImageError, InputError
from retrieval.images import decode
from retrieval.labelled import Labelled
from retrieval.sources import ImageSource

if TYPE_CHECKING:
    from retrieval.embedder import Embedder
    from retrieval.lesson import Examples

GOOD: Final = 0.97
"""Recall@1 of a frozen backbone from which on there is little to gain."""
ENOUGH: Final = 3
"""Images of the median class below which there is little to learn from."""
TIMED: Final = 64


@dataclass(frozen=True)
class Frozen:
    """What a frozen backbone does on a sample.

    Attributes:
        backbone: timm's name.
        dim: length of its vectors.
        image_size: pixels a side of its input.
        recall_at_1: leave-one-out, a share of ``queries``.
        low: lower end of its 95 % interval, by bootstrap over classes; None where there is one class.
        high: its upper end.
        map_at_r: mean average precision at R.
        images_per_second: resized and embedded, decoding left out.
        runtime: what computed them.
        queries: images of the sample with another of their class in it.
    """

    backbone: str
    dim: int
    image_size: int
    recall_at_1: float
    low: float | None
    high: float | None
    map_at_r: float
    images_per_second: float
    runtime: str
    queries: int

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Advice:
    """Whether fine-tuning is likely to pay, and in a sentence with its figures why."""

    likely: bool
    why: str


def advise(best: Frozen, counts: Counts) -> Advice:
    """Judge by a rule of thumb: is there something to gain, and something to learn from?

    Args:
        best: the frozen backbone with the highest Recall@1.
        counts: of all the pictures there are to train on.
    """
    reached = f"{best.backbone} frozen has Recall@1 {best.recall_at_1:.1%} of {best.queries:,} queries"
    if best.recall_at_1 >= GOOD:
        return Advice(False, f"little to gain: {reached}, and from {GOOD:.0%} on there is not much left")
    if best.high is not None and best.high >= 1.0:
        return Advice(
            False, f"little to gain: {reached}, and its 95 % interval reaches 100 % ({best.low:.1%} to {best.high:.1%})"
        )
    if counts.median < ENOUGH:
        return Advice(
            False,
            f"little to learn from: half of the {counts.classes:,} classes have {counts.median:g} images or fewer, "
            f"and below {ENOUGH} there is not much to see of what a class varies in; {reached}",
        )
    return Advice(
        True,
        f"{reached}, so there is something to gain, and half of the {counts.classes:,} classes have "
        f"{counts.median:g} images or more to learn from",
    )


def balanced_sample(labels: Sequence[str], size: int, *, seed: int = 0) -> np.ndarray:
    """Draw pictures so that classes have nearly as many each, and none that is drawn has one only if it has more.

    Args:
        labels: (n).
        size: pictures at the most, at least 2.
        seed: of the draw.

    Returns:
        Places in ``labels``, (k,) int64 ascending. Classes of one picture come last, where there is room.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for place in rng.permutation(len(labels)).tolist():
        members.setdefault(labels[place], []).append(place)
    several = [places for places in members.values() if len(places) > 1][: max(1, size // 2)]
    chosen = [place for places in several for place in places[:2]]
    for turn in range(2, max(map(len, several), default=0)):
        more = [places[turn] for places in several if len(places) > turn]
        chosen += more[: max(0, size - len(chosen))]
    chosen += [places[0] for places in members.values() if len(places) == 1][: max(0, size - len(chosen))]
    return np.array(sorted(chosen), np.int64)


def available_backbones() -> list[str]:
    """Name the backbones whose pretrained weights an installed package carries."""
    from retrieval.backbones import BUNDLED

    return [name for name, bundled in BUNDLED.items() if importlib.util.find_spec(bundled.package)]


def measure_frozen(
    examples: Examples,
    embedder: Embedder,
    name: str,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int, int], object] = lambda done, total, refused: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Frozen:
    """Measure a frozen embedder on pictures, each searched for among the others.

    Args:
        examples: the sample.
        embedder: to measure.
        name: of its backbone.
        cache: where vectors are kept; None: in the user's cache folder.
        progress: called with images embedded, images in all, images refused.
        notice: told in a sentence what takes long, and what cannot be used.

    Raises:
        InputError: not one picture can be used, or none has another of its class.
    """
    from retrieval.evaluation import Question, evaluate

    refused = 0

    def on_done(outcome: Any) -> None:
        nonlocal refused
        refused += outcome.reason is not None
        progress(outcome.position + 1, len(examples.uris), refused)

    with CutSource(examples.root) as source:
        outcomes, vectors = embed_apart(source, examples.uris, embedder, folder=cache, progress=on_done, notice=notice)
        used = [outcome.position for outcome in outcomes if outcome.reason is None]
        if not used:
            raise InputError(f"not one of the {len(outcomes):,} images of the sample can be used: {outcomes[0].reason}")
        if refused:
            notice(f"{refused:,} images of the sample cannot be used")
        speed = _speed(source, [examples.uris[at] for at in used[:TIMED]], embedder)
    labelled = Labelled(vectors[used], [examples.ids[at] for at in used], [examples.labels[at] for at in used])
    report, _ = evaluate(labelled, labelled, question=Question("", "", ks=(1,)), embedder={})
    figures = {figure.name: figure for figure in report.figures}
    recall = figures["Recall@1"]
    return Frozen(
        backbone=name,
        dim=embedder.dim,
        image_size=int(embedder.description["preprocessing"]["height"]),
        recall_at_1=recall.value,
        low=recall.low,
        high=recall.high,
        map_at_r=figures["MAP@R"].value,
        images_per_second=speed,
        runtime=embedder.runtime,
        queries=report.queries,
    )


def _speed(source: ImageSource, uris: Sequence[str], embedder: Embedder) -> float:
    """Images a second, resized and embedded; measured anew, since vectors may come from the cache."""
    pictures = []
    for data in source.read_many(uris):
        if isinstance(data, ImageError):
            raise data  # it could be read a moment ago
        pictures.append(decode(data, size=embedder.image_size).pixels)
    embedder.embed(pictures[:4])  # the first ones reserve memory
    began = time.monotonic()
    embedder.embed(pictures)
    return len(pictures) / max(1e-9, time.monotonic() - began)
