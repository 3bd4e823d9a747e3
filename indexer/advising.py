"""Whether fine-tuning is likely to pay: what frozen backbones already do on a sample of the user's own pictures."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from indexer.embedding import embed_apart
from indexer.report_words import count
from retrieval.choosing import Counts
from retrieval.datasets.cuts import CutSource
from retrieval.errors import ImageError, InputError
from retrieval.images import decode
from retrieval.labelled import Labelled
from retrieval.pairing import gains
from retrieval.sources import ImageSource

if TYPE_CHECKING:
    import pyarrow as pa

    from indexer.decoding import Outcome
    from retrieval.embedder import Embedder
    from retrieval.lesson import Examples

GOOD: Final = 0.97
"""Recall@1 of a frozen backbone from which on there is little to gain."""
ENOUGH: Final = 3
"""Images of the median class below which there is little to learn from."""
TIMED: Final = 64
UNSURE: Final = 0.05
"""From this p-value on, two backbones cannot be told apart."""
FASTER: Final = 1.5
"""Times as fast as another that a backbone must be to be preferred for it: speed is measured on few pictures, on a
machine that may be busy."""
PORTION: Final = 8
"""Pictures between two movements of the progress bar; a CPU takes no more at once anyway."""
LEADING: Final = "Recall@1"


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


@dataclass(frozen=True)
class Preferred:
    """The backbone that would be used, and in a clause why; "" where there was none to choose from."""

    row: Frozen
    why: str


def prefer(measured: Sequence[tuple[Frozen, pa.Table]]) -> Preferred:
    """Choose the backbone with the highest Recall@1, or the fastest that cannot be told apart from it.

    Args:
        measured: what each does and its ``QUERIES_SCHEMA``, on the same sample; at least one.
    """
    best, table = max(measured, key=lambda it: it[0].recall_at_1)
    if len(measured) == 1:
        return Preferred(best, "")
    ps = {}
    for row, other in measured:
        if row is not best:
            # The same queries: what one gets right and the other gets wrong says more than two intervals.
            ps[row] = next((gain.p for gain in gains([LEADING], table, other) if gain.name == LEADING), 0.0)
    alike = [row for row, p in ps.items() if p >= UNSURE]
    those = _listed([f"{row.backbone} (p = {p:.2g})" for row, p in ps.items() if row in alike or not alike])
    queries = count(best.queries, "query", "queries")
    if not alike:
        return Preferred(best, f"{best.backbone} is better than {those} on these {queries}, by more than chance")
    apart = f"{best.backbone} cannot be told apart from {those} on these {queries}"
    fastest = max(alike, key=lambda row: row.images_per_second)
    times = fastest.images_per_second / best.images_per_second
    if times < FASTER:
        return Preferred(best, f"{apart}, and is preferred because no other is much faster")
    return Preferred(fastest, f"{apart}, and {fastest.backbone} is preferred because it is {times:.1f} times as fast")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def advise(best: Frozen, counts: Counts) -> Advice:
    """Judge by a rule of thumb: is there something to gain, and something to learn from?

    Args:
        best: the frozen backbone of the highest Recall@1, whichever is preferred for its speed.
        counts: of all the pictures there are to train on.
    """
    reached = (
        f"{best.backbone}, frozen, finds the right class first for {best.recall_at_1:.1%} of "
        f"{count(best.queries, 'query', 'queries')}"
    )
    if best.recall_at_1 >= GOOD:
        return Advice(False, f"{reached}, and from {GOOD:.0%} on there is little to gain")
    if best.high is not None and best.high >= 1.0:
        return Advice(
            False,
            f"{reached}, and there may be little to gain, since the 95 % interval ({best.low:.1%} to "
            f"{best.high:.1%}) reaches 100 %",
        )
    images = f"{counts.median:g} {'image' if counts.median == 1 else 'images'}"
    half = f"half of the {count(counts.classes, 'class', 'classes')} have {images}"
    if counts.median < ENOUGH:
        return Advice(
            False,
            f"{half} or fewer, and below {ENOUGH} there is little to learn from, as not much is seen of what a class "
            f"varies in ({reached})",
        )
    return Advice(True, f"{reached}, so there is something to gain, and {half} or more to learn from")


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
) -> tuple[Frozen, pa.Table]:
    """Measure a frozen embedder on pictures, each searched for among the others.

    Args:
        examples: the sample.
        embedder: to measure.
        name: of its backbone.
        cache: where vectors are kept; None: in the user's cache folder.
        progress: called with images embedded, images in all, images refused.
        notice: told in a sentence what takes long, and what cannot be used.

    Returns:
        What it does, and ``QUERIES_SCHEMA``.

    Raises:
        InputError: not one picture can be used, or none has another of its class.
    """
    from retrieval.evaluation import Question, evaluate

    shown = _Shown(len(examples.uris), progress)
    watched = _Watched(embedder, shown.embedded)
    with CutSource(examples.root) as source:
        outcomes, vectors = embed_apart(
            source, examples.uris, watched, folder=cache, progress=shown.settled, notice=notice
        )
        used = [outcome.position for outcome in outcomes if outcome.reason is None]
        if not used:
            whole = f"not one of the {len(outcomes):,} images of the sample can be used"
            whole = "the one image of the sample cannot be used" if len(outcomes) == 1 else whole
            raise InputError(f"{whole}: {outcomes[0].reason}")
        if shown.refused:
            notice(f"{count(shown.refused, 'image')} of the sample cannot be used")
        speed = _speed(source, [examples.uris[at] for at in used[:TIMED]], embedder)
    labelled = Labelled(vectors[used], [examples.ids[at] for at in used], [examples.labels[at] for at in used])
    report, table = evaluate(labelled, labelled, question=Question("", "", ks=(1,)), embedder={})
    figures = {figure.name: figure for figure in report.figures}
    recall = figures[LEADING]
    row = Frozen(
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
    return row, table


class _Shown:
    """Where a sample is: images that are settled, and those that the network is through with before their batch is."""

    def __init__(self, total: int, progress: Callable[[int, int, int], object]) -> None:
        self.refused = 0
        self._total, self._progress = total, progress
        self._settled = self._embedded = 0
        self._one = threading.Lock()  # embedding threads tell as well

    def settled(self, outcome: Outcome) -> None:
        with self._one:
            self._settled = outcome.position + 1
            self.refused += outcome.reason is not None
            self._tell()

    def embedded(self, images: int) -> None:
        with self._one:
            self._embedded += images
            self._tell()

    def _tell(self) -> None:
        # Only what is settled is the end: there the bar closes, and must not be told of more.
        done = max(self._settled, min(self._embedded, self._total - 1))
        self._progress(done, self._total, self.refused)


class _Watched:
    """An embedder that tells what it is through with portion by portion: a batch of a slow network takes seconds."""

    def __init__(self, embedder: Embedder, on_done: Callable[[int], object]) -> None:
        self._embedder, self._on_done = embedder, on_done
        self.digest, self.dim, self.image_size = embedder.digest, embedder.dim, embedder.image_size
        self.prepare, self.tune, self.save = embedder.prepare, embedder.tune, embedder.save

    @property
    def runtime(self) -> str:
        return self._embedder.runtime

    @property
    def at_once(self) -> int:
        return self._embedder.at_once

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        # A GPU wants the whole batch, and is through with it in no time.
        size = PORTION if self._embedder.device == "cpu" else max(1, len(images))
        parts = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), size):
            some = images[start : start + size]
            parts.append(self._embedder.embed(some, prepared=prepared))
            self._on_done(len(some))
        return np.concatenate(parts)


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
