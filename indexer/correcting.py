"""Corrections of labels: a file that somebody fills, and a new version of the catalogue."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.auditing import Audit
from indexer.catalogue import Catalogue
from indexer.items import CORRECTED_FROM
from indexer.spreadsheets import as_cell, as_text
from retrieval.errors import InputError, NotFoundError
from retrieval.tree import check_paths

CORRECTION: Final = "correction"
SIMILAR: Final = 0.8
"""Share of characters in common from which a new label may be an old one that was misspelt."""
BETWEEN: Final = " | "
"""Ids of neighbours in one cell; spaces are common in ids."""


def corrections_file(found: Audit) -> bytes:
    """Write findings as CSV, with an empty column ``correction`` to be filled by whoever has looked."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", CORRECTION, "finding", "label", "suggested", "confidence", "quality", "other", "neighbours"])
    for row in found.findings.to_pylist():
        numbers = ["" if row[name] is None else f"{row[name]:.3f}" for name in ("confidence", "quality")]
        texts = [row["id"], "", row["finding"], row["label"], row["suggested"] or ""]
        cells = [*texts, *numbers, row["other"] or "", BETWEEN.join(row["neighbours"])]
        writer.writerow(map(as_cell, cells))
    return text.getvalue().encode()


def check_table(path: Path) -> None:
    """Refuse to write findings over anything but findings that nobody has filled, or into a folder that is not there.

    Raises:
        InputError: it holds corrections, or something else.
    """
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    if not path.exists():
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            ours = {"id", CORRECTION, "finding"} <= set(rows.fieldnames or ())
            filled = ours and any((row[CORRECTION] or "").strip() for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error):
        ours = filled = False
    if filled:
        raise InputError(f"{path} holds corrections; give them back with --apply, or name another file with --csv")
    if not ours:
        raise InputError(f"{path} is there already and holds no findings; name another file with --csv")


def read_corrections(path: Path) -> dict[str, str]:
    """Read id → right label from a CSV file with columns ``id`` and ``correction``; rows without a correction are left.

    Raises:
        InputError: it is no such file, or it says two things of one item.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the corrections {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the corrections {path}: it is no text in UTF-8; save it as CSV UTF-8") from error
    # Spreadsheets of half of Europe write semicolons.
    first = text.partition("\n")[0]
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        names, rows = table.fieldnames or (), list(table)
    except csv.Error as error:
        raise InputError(f"cannot read the corrections {path}: {error}") from error
    missing = {"id", CORRECTION} - set(names)
    if missing:
        raise InputError(
            f"{path} has no column {min(missing)!r}; take the CSV file that lookalike audit --csv writes, and fill its "
            f"column {CORRECTION}"
        )
    found: dict[str, str] = {}
    for row in rows:
        id, label = as_text(row["id"] or ""), as_text((row[CORRECTION] or "").strip())
        if not label:
            continue
        if found.setdefault(id, label) != label:
            raise InputError(f"{path} says two things of {id!r}: {found[id]!r} and {label!r}")
    if not found:
        raise InputError(f"no row of {path} has a {CORRECTION}; write the right label there")
    check_paths(found.values())
    return found


def new_labels(catalogue: Catalogue, corrections: Mapping[str, str]) -> dict[str, str | None]:
    """Give the labels of corrections that no item has, each with the most similar one that there is, if any."""
    there = [label for label in pc.unique(catalogue.items(["label"]).column("label")).to_pylist() if label is not None]
    lower = {label.casefold(): label for label in there}
    found: dict[str, str | None] = {}
    for label in sorted(set(corrections.values()) - set(there)):
        close = get_close_matches(label.casefold(), lower, n=1, cutoff=SIMILAR)
        found[label] = lower[close[0]] if close else None
    return found


def apply_corrections(catalogue: Catalogue, corrections: dict[str, str]) -> tuple[int, int]:
    """Give items other labels, all or none of them; the next vote is by them.

    The label that the source gave is kept in the column ``corrected_from``, so that indexing the source again does not
    bring it back, unless the source itself says something new. The first time that column is added in a version of
    its own.

    Returns:
        How many labels were changed, and the version.

    Raises:
        NotFoundError: there is no such item; nothing was changed.
        BusyError: another process writes the catalogue.
    """
    check_paths(corrections.values())
    with catalogue.writing():
        items = catalogue.items()
        at = pc.index_in(items.column("id"), value_set=pa.array(corrections, pa.string()))
        rows = items.filter(pc.is_valid(at))
        unknown = set(corrections) - set(rows.column("id").to_pylist())
        if unknown:
            raise NotFoundError(f"{catalogue.path} has no item with the id {min(unknown)!r}; nothing was changed")
        old = rows.column("label").to_pylist()
        new = [corrections[id] for id in rows.column("id").to_pylist()]
        before = rows.column(CORRECTED_FROM).to_pylist() if CORRECTED_FROM in rows.column_names else [None] * len(old)
        source = [(was or "") if earlier is None else earlier for was, earlier in zip(old, before, strict=True)]
        rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(new, pa.string()))
        kept = pa.array(source, pa.string())
        if CORRECTED_FROM in rows.column_names:
            rows = rows.set_column(rows.column_names.index(CORRECTED_FROM), CORRECTED_FROM, kept)
        else:
            rows = rows.append_column(CORRECTED_FROM, kept)
        changed = pa.array([was != now for was, now in zip(old, new, strict=True)])
        version = catalogue.commit(rows.filter(changed), replacing=True)
        return int(pc.sum(changed).as_py() or 0), version
