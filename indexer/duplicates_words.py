"""What is said of duplicates as a whole, in the same words and figures on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.copy_tables import COPY, LOOKALIKE, SAME_BYTES, SAME_PIXELS
from indexer.report_words import count, percent
from retrieval.threshold import Threshold

COPIES: Final = {SAME_BYTES: "of the same bytes", SAME_PIXELS: "of the same pixels", COPY: "edited or saved anew"}
"""Kinds of copies, and what is said of them."""
COULD_GO: Final = "that could go"


def copies_of(groups: pa.Table) -> dict[str, int]:
    """Count the copies that could go, which are all of a group but the one that is kept, by kind; none of 0."""
    return _counted(groups.filter(pc.invert(groups.column("keep"))), COPIES)


def pairs_of(pairs: pa.Table) -> dict[str, int]:
    """Count pairs by kind; none of 0."""
    return _counted(pairs, (*COPIES, LOOKALIKE))


def sorts(copies: Mapping[str, int]) -> str:
    """Say of which kinds copies are, such as "2 of the same bytes, 64 edited or saved anew"."""
    return ", ".join(f"{number:,} {COPIES[kind]}" for kind, number in copies.items())


def apart(groups: pa.Table, pairs: pa.Table) -> int:
    """Count pairs of copies whose pictures are in no group together: each is a copy of the other, not of a kept one."""
    copies = pairs.filter(pc.not_equal(pairs.column("kind"), LOOKALIKE))
    one, other = (groups.column("group").take(_places(copies.column(side), groups)) for side in ("a", "b"))
    together = pc.fill_null(pc.equal(one, other), False)
    return int(pc.sum(pc.invert(together)).as_py() or 0)


def apart_told(number: int) -> str:
    """Say how many pairs ``apart`` has counted."""
    return f"{count(number, 'pair')} of copies besides, of pictures that are in no group together"


def not_examined_told(number: int) -> str:
    """Say how many files of a folder were not examined."""
    return f"{count(number, 'file')} {'was' if number == 1 else 'were'} not examined: no pictures, unreadable or hidden"


def threshold_told(given: Threshold, strong: Callable[[str], str] = str) -> str:
    """Say from where on a pair is called a copy, and how far that can be trusted, in sentences.

    Args:
        given: where the line is.
        strong: writes what matters most.
    """
    wanted = f"{100 * given.wanted:.6g} %"
    line = f"Pairs that agree by {given.agreement:.3f} or more are called copies"
    if not given.planted and not given.judged:
        return (
            f"{line}. Whether that has the wanted precision of {wanted} is not known, since no copy could be planted "
            "and no pair is judged."
        )
    told = [f"{line}, for a precision of {wanted}."]
    if not given.reached:
        told = [f"{line}: there precision is highest, but below the wanted {wanted}."]
    right = (
        f"Of those called copies {strong(f'{percent(given.precision, 1)} %')} are right (95 % interval "
        f"{percent(given.low, 1)} to {percent(given.high, 1)} %)"
    )
    if given.low == 0 and given.high == 1:
        right = "How many of those called copies are right is not known, since nothing that is known agrees as much"
    judged = f"{count(given.judged, 'judged pair')}" if given.judged else ""
    if not given.planted:
        return " ".join([*told, f"{right}; by {judged}."])
    made = f"{count(given.planted, 'copy', 'copies')} made of these pictures for the purpose"
    left = f"; {count(given.ambiguous, 'pair')} left out that may be real copies" if given.ambiguous else ""
    told.append(f"{right}, and {strong(f'{percent(given.recall, 1)} %')} of {made} are found.")
    if given.reached and given.low < given.wanted:
        told.append(f"The interval goes below what was wanted, so that {wanted} may not be reached.")
    beside = (
        f"that has one copy of every picture, and with {judged}" if judged else "that has one copy of every picture"
    )
    told.append(f"Estimated as for a collection {beside}{left}.")
    return " ".join(told)


def _counted(table: pa.Table, kinds: Mapping[str, str] | tuple[str, ...]) -> dict[str, int]:
    counted = {row["values"]: row["counts"] for row in pc.value_counts(table.column("kind")).to_pylist()}
    return {kind: counted[kind] for kind in kinds if kind in counted}


def _places(ids: pa.ChunkedArray, groups: pa.Table) -> pa.ChunkedArray:
    """Rows of ids in groups; null where they are in none."""
    return pc.index_in(ids, value_set=groups.column("id").combine_chunks())
