"""The calibration of a catalogue's labels: fitted, kept with a version of the items, looked at for its age."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.evaluation import embed_queries
from indexer.files import write_bytes
from retrieval.calibration import Calibration, fit, hold
from retrieval.errors import DamagedError, InputError, NotFoundError
from retrieval.evidence import LabelledGallery
from retrieval.labelled import unit_length
from retrieval.labels import Vocabulary
from retrieval.manifest import Manifest
from retrieval.model_card import read_description, trained_on
from retrieval.recognition import Classifies
from retrieval.tree import check_paths

KEY: Final = "calibration"
"""Of the metadata of a version; names the file by its digest."""
FOLDER: Final = "calibration"
FORMAT: Final = 1
CHANGED: Final = 0.1
"""Share of items that may have come, gone or changed their label before a calibration is called old."""
LEAVE_ONE_OUT: Final = "leave-one-out"


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
class Kept:
    """A calibration and where it comes from.

    Attributes:
        calibration: itself.
        about: ``source`` (what it was fitted on), ``when`` (ISO 8601), ``version`` of the items, ``items``, ``labels``,
            ``caution`` (a sentence, or None).
    """

    calibration: Calibration
    about: dict[str, Any]


def labelled_items(catalogue: Catalogue, columns: Sequence[str] = ()) -> pa.Table:
    """Give the items that have a label, with ``row``, ``id``, ``sha256``, ``label`` and some other columns.

    Raises:
        InputError: none has one, or all have the same, or one has an empty part in its path.
    """
    items = catalogue.items(list(dict.fromkeys(["row", "id", "sha256", "label", *columns])))
    labelled = items.filter(pc.is_valid(items.column("label")))
    names = pc.unique(labelled.column("label")).to_pylist()
    if not names:
        raise InputError(
            f"no item of {catalogue.path} has a label; index a folder with a subfolder a label, or a list with "
            "--label-column"
        )
    if len(names) == 1:
        raise InputError(f"all items of {catalogue.path} have the label {names[0]!r}; there is nothing to tell apart")
    check_paths(names)
    return labelled


def head_of(catalogue: Catalogue) -> Classifies | None:
    """Give the catalogue's embedder where it has a classifier head; loads it only then."""
    if not read_description(catalogue.path / "embedder" / catalogue.digest).get("architecture", {}).get("classes"):
        return None
    embedder = catalogue.embedder()
    return embedder if isinstance(embedder, Classifies) and embedder.classes else None


def vocabulary_of(labelled: pa.Table, head: Classifies | None) -> tuple[Vocabulary, np.ndarray]:
    """Give the labels of items, and the place of each item's label among them: (m,) int64."""
    column = labelled.column("label").combine_chunks()
    labels = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, value_set=pa.array(labels, pa.string())).to_numpy().astype(np.int64)
    counts = np.bincount(codes, minlength=len(labels))
    return Vocabulary.of(labels, counts, () if head is None else head.classes), codes


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
    labelled = labelled_items(catalogue)
    vocabulary, codes = vocabulary_of(labelled, head)
    vectors = unit_vectors_of(catalogue, labelled)
    gallery = LabelledGallery(vectors, codes, vocabulary.labels)
    return Voters(gallery, vocabulary, labelled.column("id").to_pylist(), labelled.column("sha256").to_pylist())


def same_bytes_numbers(*sides: Sequence[bytes]) -> list[np.ndarray]:
    """Number digests so that equal ones have equal numbers: an (n,) int64 array a side."""
    number: dict[bytes, int] = {}
    return [np.array([number.setdefault(digest, len(number)) for digest in side], dtype=np.int64) for side in sides]


def calibrate(
    catalogue: Catalogue,
    *,
    pictures: Pictures | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Kept:
    """Fit how labels are told, and put it in force as a new version of the catalogue.

    Args:
        catalogue: whose labelled items vote.
        pictures: held out, to be fitted on; None: the items themselves, each left out in turn with its copies.
        progress: told steps done and all steps.
        notice: told what the user should know of the pictures.

    Raises:
        InputError: no labels, one label only, an empty part in a label's path, or too few pictures to be fitted on.
        BusyError: another process writes the catalogue.
    """
    with catalogue.writing():
        head = head_of(catalogue)
        voters = voters_of(catalogue, head)
        vocabulary, caution = voters.vocabulary, None
        if pictures is None:
            source = LEAVE_ONE_OUT
            learned = trained_on(read_description(catalogue.path / "embedder" / catalogue.digest))
            if learned is not None:
                caution = (
                    f"the embedder was trained on {learned}; if those are items of this catalogue, it is too sure of "
                    "them: calibrate on pictures that it has not seen, with --on SOURCE"
                )
            (numbers,) = same_bytes_numbers(voters.digests)
            some = leavable(voters.gallery.codes, numbers)
            vectors, codes = voters.gallery.vectors[some], voters.gallery.codes[some]
            groups = (numbers[some], numbers)
        else:
            source, vectors = pictures.source, pictures.vectors
            codes = codes_of(pictures.labels, vocabulary.labels)
            _tell_strangers(pictures, codes, notice)
            own, others = same_bytes_numbers(pictures.digests, voters.digests)
            groups = (own, others)
        if caution is not None:
            notice(caution)
        logits = None if head is None else head.logits(vectors)
        held = hold(vectors, codes, voters.gallery, vocabulary, logits=logits, groups=groups, device=catalogue.device)
        fitted = fit(held, vocabulary, progress=progress)
        about = {
            "source": source,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": catalogue.version,
            "items": len(voters.ids),
            "labels": len(vocabulary.labels),
            "caution": caution,
        }
        kept = Kept(fitted, about)
        _keep(catalogue, kept)
    return kept


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
        InputError: no picture of it has a label and can be read.
        BusyError: another process writes the catalogue.
    """
    missing = [name for name in columns if name not in manifest.table.column_names]
    if missing:
        raise NotFoundError(f"{manifest.listing} has no column {missing[0]!r}")
    items = catalogue.items(["id", "sha256"])
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


def codes_of(labels: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Give the place of each label among those that are known: (n,) int64, -1 where it is not."""
    places = pc.index_in(pa.array(labels, pa.string()), value_set=pa.array(known, pa.string()))
    return np.asarray(pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64))


def calibration_of(catalogue: Catalogue) -> Kept | None:
    """Read the calibration in force; None where there is none.

    Raises:
        DamagedError: its file is gone or is not what was written.
    """
    digest = catalogue.in_force(KEY)
    if digest is None:
        return None
    path = _path(catalogue, digest)
    remedy = f"run lookalike calibrate {catalogue.path}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"cannot read the calibration {path}: {error.strerror or error}; {remedy}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedError(f"the calibration {path} is not what was written; {remedy}")
    read = json.loads(data)
    if read["format"] != FORMAT:
        raise DamagedError(f"the calibration {path} is of another version of lookalike; {remedy}")
    return Kept(Calibration.from_dict(read["calibration"]), read["about"])


def age_of(catalogue: Catalogue, kept: Kept) -> str | None:
    """Say in a sentence how much the catalogue has changed since its calibration; None where that is little."""
    then, now = int(kept.about["version"]), catalogue.version
    if then == now:
        return None
    with Catalogue.open(catalogue.path, version=then) as earlier:
        before = _said(earlier)
    after = _said(catalogue)
    changed = 1 - len(before & after) / max(1, len(before), len(after))
    new = len({label for _, label in after} - {label for _, label in before})
    if changed <= CHANGED and not new:
        return None
    what = f"{changed:.0%} of the items have come, gone or changed their label"
    what += f", and {new:,} label{'s are' if new > 1 else ' is'} new" if new else ""
    return f"since the calibration of {kept.about['when'][:10]} {what}: run lookalike calibrate {catalogue.path}"


def _said(catalogue: Catalogue) -> set[tuple[int, str]]:
    items = catalogue.items(["row", "label"])
    return {
        (row, label)
        for row, label in zip(items.column("row").to_pylist(), items.column("label").to_pylist(), strict=True)
        if label is not None
    }


def leavable(codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The items that can be left out: of a label that other bytes have too."""
    distinct = np.unique(np.stack([codes, numbers], axis=1), axis=0)
    of_label = np.bincount(distinct[:, 0], minlength=int(codes.max()) + 1)
    return np.flatnonzero(of_label[codes] > 1)


def _tell_strangers(pictures: Pictures, codes: np.ndarray, notice: Callable[[str], object]) -> None:
    strange = sorted({label for label, code in zip(pictures.labels, codes.tolist(), strict=True) if code < 0})
    if strange:
        notice(
            f"{int((codes < 0).sum()):,} pictures of {pictures.source} have labels that no item has, such as "
            f"{strange[0]!r}; they serve as examples of what is unknown"
        )


def _keep(catalogue: Catalogue, kept: Kept) -> None:
    data = json.dumps(
        {"format": FORMAT, "about": kept.about, "calibration": kept.calibration.to_dict()}, sort_keys=True
    ).encode()
    digest = hashlib.sha256(data).hexdigest()
    path = _path(catalogue, digest)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, data)
    catalogue.put_in_force({KEY: digest})


def _path(catalogue: Catalogue, digest: str) -> Path:
    return catalogue.path / FOLDER / f"{digest}.json"
