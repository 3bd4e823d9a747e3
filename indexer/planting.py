"""How sure the duplicate finder is in this catalogue: copies of its own pictures are planted, and looked for.

Nothing is written to the catalogue: a planted copy is looked at and compared as an item would be, its candidates come
from the catalogue, and of those one is the original.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from indexer.candidates import BLOCK, Finder, Seen, look_at_pixels
from indexer.catalogue import Catalogue
from indexer.embeds import Embeds
from indexer.fingerprints import Fingerprints, unpack
from indexer.known_pairs import KnownPairs
from retrieval.copies import overlay
from retrieval.edits import EDITS, STRENGTHS, edited
from retrieval.errors import ImageError, InputError
from retrieval.images import decode, encode_jpeg
from retrieval.local_features import LocalFeatures
from retrieval.sources import ImageSource
from retrieval.threshold import CAUTIOUS, FLOOR, Evidence

PLANTED: Final = 600
"""Copies that are planted, as far as there are pictures: of each at most ``EACH``."""
EACH: Final = 8
PAIRS: Final = 0.25
"""Share of them that are edited twice."""
CERTAIN: Final = 0.9
"""Agreement with the original from which another picture of the catalogue may itself be a copy of it: pairs with it are
neither right nor wrong."""
BIN: Final = 0.1
FEW, SMALL = 5, 100
"""Pairs from ``CAUTIOUS`` on that may always be copies where so many pictures or fewer were copied: among these other
pictures seldom agree so well, and one picture with some copies that nobody knows of would draw the line above these."""
QUALITY: Final = 88
SMALLEST: Final = 16
"""Shorter side, in pixels, of pictures that are copied."""

PLANTED_SCHEMA: Final = pa.schema(
    [
        # SHA-256 of the original
        pa.field("original", pa.binary(), nullable=False),
        # names of ``EDITS`` joined with "+", and how strong
        pa.field("edit", pa.string(), nullable=False),
        pa.field("strength", pa.int8(), nullable=False),
        # SHA-256 of the picture that the planted copy was compared with; null in a row that stands for the copy itself
        pa.field("other", pa.binary()),
        # whether that picture is another planted copy of the same original
        pa.field("twin", pa.bool_(), nullable=False),
        pa.field("agreement", pa.float64(), nullable=False),
        # agreement of the original with that picture, straight; 1 where it is the original, or of the same pixels
        pa.field("original_agreement", pa.float64(), nullable=False),
    ]
)
"""A planted copy and a picture of the catalogue a row."""


def plant(
    catalogue: Catalogue,
    fingerprints: Fingerprints,
    *,
    effort: str,
    pool: ThreadPoolExecutor,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
    notice: Callable[[str], object] = lambda _: None,
) -> pa.Table:
    """Plant copies, look for them, and compare what is found.

    Args:
        catalogue: whose pictures are copied; stays at the version it has.
        fingerprints: of all of its pictures.
        effort: of ``EFFORTS``.
        pool: where it is done.
        seed: which pictures, and which edits.
        progress: told copies done and all of them.
        notice: told what takes long before the first picture is embedded.

    Returns:
        ``PLANTED_SCHEMA``.

    Raises:
        InputError: there is no picture to copy.
    """
    originals = _originals(catalogue, fingerprints, seed)
    if not originals:
        raise InputError(f"{catalogue.called} has no picture that could be copied to find out how sure the finder is")
    jobs = _jobs(len(originals), seed)
    finder, embedder = Finder(catalogue, fingerprints, seed=seed), catalogue.embedder()
    known = fingerprints.columns(["sha256", "pixels"])
    pixels = dict(zip(known.column(0).to_pylist(), known.column(1).to_pylist(), strict=True))

    def judge(made: tuple[_Job, _Planted], found: Sequence[bytes]) -> list[dict[str, Any]]:
        job, one = made
        original = originals[job.original]["sha256"]
        row = {"original": original, "edit": job.edit, "strength": job.strength, "twin": False}
        rows = [row | {"other": None, "agreement": 0.0, "original_agreement": 0.0}]
        for other in found:
            agreement = _agreement(one.seen.features, fingerprints.features(other))
            alike = other == original or pixels[other] == pixels[original]
            if alike or agreement < FLOOR:
                beside = float(alike)
            else:
                beside = _agreement(fingerprints.features(original), fingerprints.features(other))
            rows.append(row | {"other": other, "agreement": agreement, "original_agreement": beside})
        return rows

    def beside(one: tuple[_Job, _Planted], other: tuple[_Job, _Planted]) -> dict[str, Any]:
        job, twin = one[0], one[0].original == other[0].original
        return {
            "original": originals[job.original]["sha256"],
            "edit": job.edit,
            "strength": job.strength,
            "other": other[1].seen.sha256,
            "twin": True,
            "agreement": _agreement(one[1].seen.features, other[1].seen.features) if twin else 0.0,
            "original_agreement": 0.0,
        }

    rows: list[dict[str, Any]] = []
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(jobs), BLOCK):
            some = jobs[start : start + BLOCK]
            planted = pool.map(lambda job: _planted(originals[job.original], job, embedder, effort), some)
            made = [(job, one) for job, one in zip(some, planted, strict=True) if one is not None]
            if made:
                if not rows:
                    sample = [one.whole for _, one in made]
                    each = 1 + sum(len(one.seen.views) for _, one in made) / len(made)
                    embedder.tune(sample, expected=max(len(sample), round(len(jobs) * each)), notice=notice)
                stored = embedder.embed([one.whole for _, one in made], prepared=True)
                found = finder.find([one.seen for _, one in made], stored, embedder, remember=False)
                for of_one in pool.map(judge, made, found):
                    rows += of_one
                rows += pool.map(beside, made, made[1:])
            progress(min(start + BLOCK, len(jobs)), len(jobs))
    return pa.Table.from_pylist(rows, schema=PLANTED_SCHEMA)


def with_ways(planted: pa.Table, known: KnownPairs) -> pa.Table:
    """Raise how far originals agree with what copies of them were compared with, where a third picture says more.

    Two copies of one photograph may agree less than either does with the photograph itself. Such a way is as likely
    wrong as its weaker half is.

    Args:
        planted: ``PLANTED_SCHEMA``.
        known: the pairs of the catalogue.
    """
    rows = planted.to_pylist()
    unsure = [row for row in rows if row["agreement"] >= FLOOR and not row["twin"] and row["original_agreement"] < 1]
    ways = known.through_others([(row["original"], row["other"]) for row in unsure], least=FLOOR)
    for row, way in zip(unsure, np.minimum(ways, np.nextafter(1, 0)).tolist(), strict=True):
        row["original_agreement"] = max(row["original_agreement"], way)
    return pa.Table.from_pylist(rows, schema=planted.schema)


def evidence_of(planted: pa.Table, own: np.ndarray, judged: Iterable[tuple[float, bool]] = ()) -> Evidence:
    """What is known of pairs: from planted copies, and from pairs that somebody has judged.

    A planted copy that agrees with a picture that is not its original is wrong, unless that picture is itself a copy of
    the original, which nobody knows: the catalogue is full of what is looked for. From ``CERTAIN`` on it is taken for
    one. Below, real copies are taken to agree with each other as two planted copies of one picture do, since both may
    have been edited, so that from how many are certain it follows how many are to be expected in each ``BIN``; what is
    there beyond these counts as wrong, in a ``SMALL`` folder from ``CAUTIOUS`` on beyond a ``FEW``.

    Args:
        planted: ``PLANTED_SCHEMA``, as of ``with_ways``.
        own: (n,) agreement of the pairs of the catalogue that were compared, without those of the same pixels.
        judged: agreement of each, and whether it is a copy.
    """
    every = planted.to_pylist()
    twins = np.array([row["agreement"] for row in every if row["twin"]], np.float64)
    rows = [row for row in every if not row["twin"]]
    compared = [row for row in rows if row["other"] is not None]
    agreement = np.array([row["agreement"] for row in compared], np.float64)
    beside = np.array([row["original_agreement"] for row in compared], np.float64)
    right = beside == 1.0
    few = FEW if len({row["original"] for row in rows}) <= SMALL else 0
    weight = np.where(right, 1.0, wrong_share(own, twins, beside, few))
    best = [0.0]  # of each planted copy, whose rows follow the one that stands for it
    for row in rows:
        if row["other"] is None:
            best.append(0.0)
        elif row["original_agreement"] == 1.0:
            best[-1] = max(best[-1], row["agreement"])
    said = list(judged)
    return Evidence(
        agreement=np.concatenate([agreement, [value for value, _ in said]]),
        right=np.concatenate([right, np.array([copy for _, copy in said], bool)]),
        weight=np.concatenate([weight, np.ones(len(said))]),
        best=np.array(best[1:], np.float64),
        judged=len(said),
        ambiguous=int(np.rint((1.0 - weight).sum())),
    )


def wrong_share(own: np.ndarray, twins: np.ndarray, asked: np.ndarray, few: int = 0) -> np.ndarray:
    """How many in a hundred pairs of the catalogue that agree so much are no copies, as a share.

    Args:
        own: (n,) agreement of pictures of the catalogue with each other.
        twins: (m,) agreement of planted copies of one picture with each other.
        asked: (k,) agreements.
        few: pairs from ``CAUTIOUS`` on that may be copies in any case.

    Returns:
        (k,) float64 in [0, 1]: 0 from ``CERTAIN`` on, 1 below ``FLOOR``.
    """
    edges = np.arange(FLOOR, CERTAIN + BIN / 2, BIN)
    expected = np.histogram(twins, edges)[0] * (own >= CERTAIN).sum() / max(1, int((twins >= CERTAIN).sum()))
    expected = np.where(edges[:-1] > CAUTIOUS - BIN / 2, np.maximum(expected, few), expected)
    there = np.histogram(own, edges)[0]
    share = 1.0 - np.minimum(1.0, expected / np.maximum(there, 1))
    place = np.clip(np.searchsorted(edges, asked, side="right") - 1, 0, len(share) - 1)
    return np.asarray(np.where(asked >= CERTAIN, 0.0, np.where(asked < FLOOR, 1.0, share[place])))


@dataclass(frozen=True)
class _Job:
    """A copy to plant: place of the original, names of the edits, their strength, what draws the rest."""

    original: int
    edit: str
    strength: int
    number: int


@dataclass(frozen=True)
class _Planted:
    """A planted copy, and the picture as it is, prepared for the embedder."""

    seen: Seen
    whole: np.ndarray


def _jobs(originals: int, seed: int) -> list[_Job]:
    rng = np.random.default_rng((seed, 1))
    names, jobs = list(EDITS), []
    for number in range(min(PLANTED, EACH * originals)):
        twice = rng.random() < PAIRS
        edit = "+".join(rng.choice(names, 2 if twice else 1, replace=False).tolist())
        # Two strong edits can leave less than half of a picture.
        strength = int(rng.choice(STRENGTHS[:2] if twice else STRENGTHS))
        jobs.append(_Job(number // 2 % originals, edit, strength, number))
    return jobs


def _originals(catalogue: Catalogue, fingerprints: Fingerprints, seed: int) -> list[dict[str, Any]]:
    """Items to copy, of different bytes, that can be read: uri, source, sha256."""
    items = catalogue.items(["uri", "source", "sha256"])
    digests = items.column("sha256").to_pylist()
    chosen, met = [], set[bytes]()
    for at in np.random.default_rng((seed, 0)).permutation(len(digests)).tolist():
        if fingerprints.seen(digests[at]) and digests[at] not in met:
            chosen.append(at)
            met.add(digests[at])
        if len(chosen) == PLANTED:
            break
    return list(items.take(pa.array(chosen, pa.int64())).to_pylist())


def _planted(original: dict[str, Any], job: _Job, embedder: Embeds, effort: str) -> _Planted | None:
    """Make a planted copy and look at it; None where the original is gone or too small to edit."""
    try:
        with ImageSource(Path(original["source"])) as source:
            pixels = decode(source.read(original["uri"])).pixels
        if min(pixels.shape[:2]) < SMALLEST:
            return None
        rng = np.random.default_rng((job.number, job.strength))
        data = encode_jpeg(edited(pixels, job.edit, job.strength, rng), quality=QUALITY)
        copy = decode(data).pixels
    except ImageError:
        return None
    seen = look_at_pixels(copy, hashlib.sha256(data).digest(), embedder, effort)
    # Compared as items are, after what keeping them costs.
    return _Planted(replace(seen, features=unpack(seen.row)), embedder.prepare(copy))


def _agreement(a: LocalFeatures | None, b: LocalFeatures | None) -> float:
    found = None if a is None or b is None else overlay(a, b)
    return found.agreement if found is not None and found.is_copy(0) else 0.0
