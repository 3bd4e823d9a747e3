"""Which of several copies to keep: a policy, rule by rule in the order that the user states."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from retrieval.errors import InputError

_FORMATS: Final = ("TIFF", "PNG", "BMP", "JPEG", "AVIF", "WEBP", "GIF")
_PATH: Final = "path:"


@dataclass(frozen=True)
class Candidate:
    """What rules look at.

    Attributes:
        row: of the item.
        uri: of the item.
        width: pixels.
        height: pixels.
        bytes: of the file.
        format: of the file.
        sharpness: as of ``FINGERPRINTS_SCHEMA``.
        metadata: bytes of EXIF and the like.
        framed: whether it seems to have a frame or a page around what its copies show.
        modified: when the file was last written, seconds since 1970; None where nothing says so.
        grey: whether it has no colours.
        pixels: of ``indexer.keep_facts``, by which resolution is told; None: width times height.
        size: of ``indexer.keep_facts``, by which a file is told to be clearly larger; None: its bytes.
        scaled: whether it seems to be a copy made larger or stretched.
        hidden: share of a copy that it does not show, in [0, 1].
        resaved: whether it was a JPEG of less quality before.
        id: of the item, where that is another name than the uri.
    """

    row: int
    uri: str
    width: int
    height: int
    bytes: int
    format: str
    sharpness: float
    metadata: int
    framed: bool
    modified: float | None
    grey: bool = False
    pixels: int | None = None
    size: int | None = None
    scaled: bool = False
    hidden: float = 0.0
    resaved: bool = False
    id: str = ""


Rule = tuple[Callable[[Candidate], Any], Callable[[Candidate], str]]
"""What is compared, the lowest best; and what is said of the one that is kept for it."""

RULES: Final[Mapping[str, Rule]] = {
    "unframed": (lambda one: one.framed, lambda one: "no frame or page around it"),
    "coloured": (lambda one: one.grey, lambda one: "in colour"),
    "resolution": (
        lambda one: -(one.width * one.height if one.pixels is None else one.pixels),
        lambda one: f"{one.width} x {one.height} pixels",
    ),
    "unscaled": (lambda one: one.scaled, lambda one: "neither made larger nor stretched"),
    # By steps of a twentieth: what differs less is not seen.
    "whole": (lambda one: round(20 * one.hidden), lambda one: "shows more"),
    "format": (
        lambda one: _FORMATS.index(one.format) if one.format in _FORMATS else len(_FORMATS),
        lambda one: one.format,
    ),
    "once": (lambda one: one.resaved, lambda one: "not saved anew from a coarser JPEG"),
    # By halves of a power of two: what differs less is not seen.
    "sharpness": (lambda one: -round(2 * math.log2(1 + one.sharpness)), lambda one: "sharper"),
    "size": (lambda one: -(one.bytes if one.size is None else one.size), lambda one: f"{one.bytes:,} bytes"),
    "metadata": (lambda one: -one.metadata, lambda one: "more metadata"),
    "oldest": (
        lambda one: math.inf if one.modified is None else one.modified,
        lambda one: "the oldest file",
    ),
    "bytes": (lambda one: -one.bytes, lambda one: f"{one.bytes:,} bytes"),
}
"""Name → rule. Beside these, ``path:PATTERN`` prefers files whose path or id fits a pattern such as ``originals/*``."""

DEFAULT_POLICY: Final = tuple(RULES)


def check_policy(policy: Sequence[str]) -> None:
    """Raise InputError for a rule that does not exist, or none at all."""
    for name in policy:
        if name not in RULES and not (name.startswith(_PATH) and len(name) > len(_PATH)):
            raise InputError(
                f"there is no rule {name!r} for which copy to keep; there are {', '.join(RULES)} and path:PATTERN"
            )
    if not policy:
        raise InputError(f"name at least one rule for which copy to keep: {', '.join(RULES)} or path:PATTERN")


def best_first(candidates: Sequence[Candidate], policy: Sequence[str] = DEFAULT_POLICY) -> list[int]:
    """Order candidates: places, the one to keep first; what no rule tells apart by its row, the first indexed first.

    Raises:
        InputError: a rule that does not exist.
    """
    check_policy(policy)
    keys = [_rule(name)[0] for name in policy]
    return sorted(
        range(len(candidates)),
        key=lambda at: (*(key(candidates[at]) for key in keys), candidates[at].row),
    )


def why_kept(kept: Candidate, others: Sequence[Candidate], policy: Sequence[str] = DEFAULT_POLICY) -> str:
    """Say what the kept one has that another one lacks: by the first rule that tells it from any of the others."""
    for name in policy:
        key, say = _rule(name)
        if any(key(other) != key(kept) for other in others):
            return say(kept)
    return "indexed first"


def _rule(name: str) -> Rule:
    if name.startswith(_PATH):
        pattern = name[len(_PATH) :]
        # Of two folders an id begins with the name of the folder, and is what is printed.
        return (
            lambda one: not any(fnmatch.fnmatchcase(name, pattern) for name in (one.uri, one.id)),
            lambda one: f"its path fits {pattern}",
        )
    return RULES[name]
