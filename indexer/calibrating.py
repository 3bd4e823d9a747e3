"""The calibration of a catalogue's labels: fitted, kept with a version of the items, looked at for its age."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.files import write_bytes
from indexer.label_queries import Pictures, Queries, each_item, each_picture, held_out
from indexer.voters import head_of, learned_from, voters_of
from retrieval.calibration import LEAST, Calibration, fit
from retrieval.errors import DamagedError, InputError

KEY: Final = "calibration"
"""Of the metadata of a version; names the file by its digest."""
FOLDER: Final = "calibration"
FORMAT: Final = 3
CHANGED: Final = 0.1
"""Share of items that may have come, gone or changed their label before a calibration is called old."""
LEAVE_ONE_OUT: Final = "leave-one-out"
DIGITS: Final = 16
"""Of a SHA-256 in hexadecimal, by which a picture is known again."""
LESS_ALIKE: Final = (
    "of pictures that are less like the items than those are like each other it is too sure, and sets hold the right "
    "label less often than asked: calibrate on such pictures, with --on SOURCE"
)


@dataclass(frozen=True)
class Kept:
    """A calibration and where it comes from.

    Attributes:
        calibration: itself.
        about: ``source`` (what it was fitted on), ``when`` (ISO 8601), ``version`` that has it first, ``items``,
            ``labels``, ``caution`` (a sentence, or None).
        pictures: the first ``DIGITS`` of the SHA-256 of each picture that it was fitted on, where those are no items.
    """

    calibration: Calibration
    about: dict[str, Any]
    pictures: frozenset[str] = frozenset()

    def fitted_on(self, pictures: Pictures) -> int:
        """Count those of other pictures that it was fitted on."""
        return sum(_known_again(digest) in self.pictures for digest in pictures.digests)


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
            source, queries = LEAVE_ONE_OUT, each_item(voters)
            if len(queries.codes) < LEAST:
                raise InputError(
                    f"{catalogue.path} has {len(queries.codes):,} items whose label another item has too, and a "
                    f"calibration needs {LEAST}; calibrate on other labelled pictures with lookalike calibrate "
                    f"{catalogue.path} --on SOURCE"
                )
            learned = learned_from(catalogue)
            caution = LESS_ALIKE
            if learned is not None:
                caution = (
                    f"the embedder was trained on {learned}; if those are items of this catalogue, it is too sure of "
                    "other pictures: calibrate on some that it has not seen, with --on SOURCE"
                )
            notice(caution)
        else:
            source, queries = pictures.source, each_picture(pictures, voters)
            own = int(np.isin(*queries.groups).sum())
            if own:
                notice(
                    f"{own:,} of {len(queries.codes):,} pictures of {source} are items of the catalogue; each is asked "
                    "of the others, as without --on"
                )
        _tell_strangers(queries, source, notice)
        fitted = fit(held_out(queries, voters, head=head, device=catalogue.device), vocabulary, progress=progress)
        _tell_missing(queries, source, vocabulary.labels, notice)
        about = {
            "source": source,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": catalogue.version + 1,  # the one that it becomes
            "items": len(voters.ids),
            "labels": len(vocabulary.labels),
            "caution": caution,
        }
        kept = Kept(fitted, about, frozenset(map(_known_again, pictures.digests if pictures is not None else ())))
        _keep(catalogue, kept)
    return kept


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
    return Kept(Calibration.from_dict(read["calibration"]), read["about"], frozenset(read["pictures"]))


def age_of(catalogue: Catalogue, kept: Kept) -> str | None:
    """Say in a sentence how much the catalogue has changed since its calibration; None where that is little."""
    then, now = int(kept.about["version"]), catalogue.version
    if now == then:
        return None
    with Catalogue.open(catalogue.path, version=then) as earlier:
        before = _said(earlier)
    after = _said(catalogue)
    # A row is given once and never again, so the same row is the same item.
    at = pc.index_in(after.column("row"), value_set=before.column("row").combine_chunks())
    same = pc.equal(after.column("label"), before.column("label").take(at))
    kept_labels = int(pc.sum(pc.fill_null(same, False)).as_py() or 0)
    changed = 1 - kept_labels / max(1, before.num_rows, after.num_rows)
    known = before.column("label").combine_chunks()
    new = int(pc.sum(pc.invert(pc.is_in(pc.unique(after.column("label")), value_set=known))).as_py() or 0)
    if changed <= CHANGED and not new:
        return None
    what = [f"{changed:.0%} of the items have come, gone or changed their label"] if changed > CHANGED else []
    what += [f"{new:,} label{'s are' if new > 1 else ' is'} new"] if new else []
    return (
        f"since the calibration of {kept.about['when'][:10]} {', and '.join(what)}: run lookalike calibrate "
        f"{catalogue.path}"
    )


def _said(catalogue: Catalogue) -> pa.Table:
    items = catalogue.items(["row", "label"])
    return items.filter(pc.is_valid(items.column("label")))


def told(about: Mapping[str, Any]) -> str:
    """Say what a calibration was fitted on, and when, from ``Kept.about``."""
    own = about["source"] == LEAVE_ONE_OUT
    return f"{'its own items, each left out in turn' if own else about['source']}, {about['when'][:10]}"


def _tell_strangers(queries: Queries, source: str, notice: Callable[[str], object]) -> None:
    pairs = zip(queries.labels, queries.codes.tolist(), strict=True)
    strange = sorted({label for label, code in pairs if code < 0})
    if strange:
        notice(
            f"{int((queries.codes < 0).sum()):,} pictures of {source} have labels that no item has, such as "
            f"{strange[0]!r}; they serve as examples of what is unknown"
        )


def _tell_missing(queries: Queries, source: str, labels: Sequence[str], notice: Callable[[str], object]) -> None:
    there = set(queries.codes.tolist())
    missing = [label for code, label in enumerate(labels) if code not in there]
    if missing:
        what = "only one picture" if source == LEAVE_ONE_OUT else f"no picture in {source}"
        notice(
            f"{len(missing):,} of {len(labels):,} labels have {what}, such as {missing[0]!r}: how sure they are is "
            "taken from the others, and sets by label cannot be had"
        )


def _keep(catalogue: Catalogue, kept: Kept) -> None:
    written = {
        "format": FORMAT,
        "about": kept.about,
        "calibration": kept.calibration.to_dict(),
        "pictures": sorted(kept.pictures),
    }
    data = json.dumps(written, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    path = _path(catalogue, digest)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, data)
    catalogue.put_in_force({KEY: digest})


def _known_again(digest: bytes) -> str:
    return digest.hex()[:DIGITS]


def _path(catalogue: Catalogue, digest: str) -> Path:
    return catalogue.path / FOLDER / f"{digest}.json"
