"""Labelled pictures that a catalogue's labels are fitted on or measured with: its own items, or others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.evaluation import embed_queries
from indexer.voters import Voters
from retrieval.calibration import MOST, Held, hold
from retrieval.errors import InputError, NotFoundError
from retrieval.labelled import unit_length
from retrieval.manifest import Manifest
from retrieval.recognition import Classifies
from retrieval.tree import check_paths

ONLY: Final = ("item is the only picture of its label", "items are the only pictures of their labels")


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures outside a catalogue.

    Attributes:
        source: what they are called.
        vectors: (n, dim) float32, L2-normalised, of the catalogue's embedder.
        labels: n of them.
        digests: SHA-256 of their bytes.
        ids: n strings.
        values: column → what each has in it, as text; of those that were asked for.
        unlabelled: pictures of the source that have no label, and are not among these.
    """

    source: str
    vectors: np.ndarray
    labels: Sequence[str]
    digests: Sequence[bytes]
    ids: Sequence[str]
    values: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    unlabelled: int = 0


@dataclass(frozen=True)
class Queries:
    """Pictures with right labels, and what each of them must not find.

    Attributes:
        vectors: (n, dim) float32, L2-normalised.
        codes: (n,) int64, places of the right labels in the vocabulary; -1: of a label that it does not have.
        ids: n strings.
        labels: n of them.
        groups: (n,) and (m,) int64, of queries and voters: one does not find what has its number, which is itself and
            its copies.
        places: (n,) int64, of the queries among the voters; empty where they are others.
    """

    vectors: np.ndarray
    codes: np.ndarray
    ids: Sequence[str]
    labels: Sequence[str]
    groups: tuple[np.ndarray, np.ndarray]
    places: np.ndarray

    def drawn(self, most: int, *, seed: int = 0) -> Queries:
        """At most so many of known labels, and as many of unknown ones, at random and in their order."""
        rng = np.random.default_rng(seed)
        sides = [np.flatnonzero(self.codes >= 0), np.flatnonzero(self.codes < 0)]
        some = np.sort(np.concatenate([rng.permutation(side)[:most] for side in sides]))
        return Queries(
            vectors=self.vectors[some],
            codes=self.codes[some],
            ids=[self.ids[at] for at in some.tolist()],
            labels=[self.labels[at] for at in some.tolist()],
            groups=(self.groups[0][some], self.groups[1]),
            places=self.places[some] if len(self.places) else self.places,
        )


def each_item(voters: Voters) -> Queries:
    """Ask for each item by the others; those of a label that no other bytes have cannot be, and are left out."""
    (numbers,) = same_bytes_numbers(voters.digests)
    codes = voters.gallery.codes
    distinct = np.unique(np.stack([codes, numbers], axis=1), axis=0)
    of_label = np.bincount(distinct[:, 0], minlength=len(voters.vocabulary.labels))
    some = np.flatnonzero(of_label[codes] > 1)
    return Queries(
        vectors=voters.gallery.vectors[some],
        codes=codes[some],
        ids=[voters.ids[at] for at in some.tolist()],
        labels=[voters.vocabulary.labels[code] for code in codes[some].tolist()],
        groups=(numbers[some], numbers),
        places=some,
    )


def each_picture(pictures: Pictures, voters: Voters) -> Queries:
    """Ask for pictures by the items, of which those of the same bytes have no say."""
    known = pa.array(voters.vocabulary.labels, pa.string())
    places = pc.index_in(pa.array(pictures.labels, pa.string()), value_set=known)
    own, others = same_bytes_numbers(pictures.digests, voters.digests)
    return Queries(
        vectors=pictures.vectors,
        codes=np.asarray(pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)),
        ids=pictures.ids,
        labels=pictures.labels,
        groups=(own, others),
        places=np.empty(0, dtype=np.int64),
    )


def held_out(queries: Queries, voters: Voters, *, head: Classifies | None = None, device: str) -> Held:
    """Gather what speaks for the labels of queries, to fit numbers on; of many, as many as a fit looks at.

    Args:
        queries: that were held out.
        voters: by which they are labelled.
        head: the classifier head; None: it has no say.
        device: where neighbours are computed.
    """
    some = queries.drawn(MOST)
    return hold(
        some.vectors,
        some.codes,
        voters.gallery,
        voters.vocabulary,
        logits=None if head is None else head.logits(some.vectors),
        groups=some.groups,
        device=device,
    )


def same_bytes_numbers(*sides: Sequence[bytes]) -> list[np.ndarray]:
    """Number digests so that equal ones have equal numbers: an (n,) int64 array a side."""
    number: dict[bytes, int] = {}
    return [np.array([number.setdefault(digest, len(number)) for digest in side], dtype=np.int64) for side in sides]


def pictures_of(
    catalogue: Catalogue,
    manifest: Manifest,
    *,
    columns: Sequence[str] = (),
    progress: Callable[[int, int, int], object] = lambda done, total, rejected: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Pictures:
    """Embed the labelled pictures of a source with a catalogue's embedder; the vectors go into its cache.

    Args:
        catalogue: whose embedder it is.
        manifest: the source.
        columns: of it, to be kept beside the labels.
        progress: called with images done, images in all, images rejected so far.
        notice: told what is left out.

    Raises:
        NotFoundError: the source has no such column.
        InputError: no picture of it has a label and can be read, or none has a label that an item has.
        BusyError: another process writes the catalogue.
    """
    missing = [name for name in columns if name not in manifest.table.column_names]
    if missing:
        raise NotFoundError(f"{manifest.listing} has no column {missing[0]!r}")
    items = catalogue.items(["id", "sha256", "label"])
    given_labels = manifest.table.column("label")
    if given_labels.null_count < len(given_labels):
        shared = pc.is_in(given_labels, value_set=pc.drop_null(items.column("label").combine_chunks()))
        if not pc.any(shared).as_py():
            # Told before an hour of embedding, not after.
            other = pc.drop_null(given_labels)[0].as_py()
            raise InputError(
                f"no picture of {manifest.listing} has a label that an item of {catalogue.path} has; theirs are such "
                f"as {other!r}. Pictures of labels that it lacks are of use beside some of labels that it has"
            )
    known = dict(zip(items.column("id").to_pylist(), items.column("sha256").to_pylist(), strict=True))
    given, uris, digests, refused = embed_queries(
        catalogue, manifest, catalogue.embedder(), "label", known, progress, notice
    )
    good = [at for at, label in enumerate(given.labels) if label is not None]
    name = manifest.listing.name
    if refused:
        notice(f"{len(refused):,} pictures of {name} cannot be read, such as {refused[0][0]}: {refused[0][1]}")
    if not good:
        raise InputError(
            f"no picture of {manifest.listing} has a label; use a folder with a subfolder a label, or --label-column"
        )
    if len(good) < len(given.ids):
        notice(f"{len(given.ids) - len(good):,} pictures of {name} have no label and are left out")
    labels, ids = [str(given.labels[at]) for at in good], [given.ids[at] for at in good]
    check_paths(set(labels))
    return Pictures(
        source=name,
        vectors=unit_length(given.vectors[good], ids),
        labels=labels,
        digests=[bytes(digests[at] or b"") for at in good],
        ids=ids,
        values={name: _values(manifest, name, [uris[id] for id in ids]) for name in columns},
        unlabelled=len(given.ids) - len(good),
    )


def _values(manifest: Manifest, name: str, uris: Sequence[str]) -> list[str | None]:
    of_uri = dict(zip(manifest.table.column("uri").to_pylist(), manifest.table.column(name).to_pylist(), strict=True))
    return [None if of_uri[uri] is None else str(of_uri[uri]) for uri in uris]
