"""Words and numbers of a report: text of any origin as HTML, shares as per cent, what each figure means."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from retrieval.report import Figure

LONGEST: Final = 240
"""Characters shown of one text; the rest is an ellipsis."""
_JOINERS: Final = "\u200c\u200d"  # zero width, yet letters of Persian, Hindi and many emoji are written with them

_MEANINGS: Final = (
    (
        r"Recall@\d+",
        "share of queries with at least one image of their class among the K nearest, the query itself excluded by "
        "id; as in the field, not the share of right images that are found",
    ),
    (r"Precision@\d+", "mean share of the K nearest images that are of the query's class"),
    (
        r"MAP@R",
        "mean over queries of 1/R times the sum of precision at each right image among the R nearest, R being the "
        "number of right images of the query (Musgrave et al., ECCV 2020)",
    ),
    (r"R-Precision", "mean share of right images among the R nearest, R being the number of right images of the query"),
    (r"MRR", "mean of 1 / rank of the nearest right image"),
    (r"mAP", "mean over queries of average precision over the whole ranking"),
    (r"CMC@\d+", "share of queries whose nearest right image has rank K or better"),
    (r"nDCG(@\d+)?", "mean of discounted cumulative gain, right images counting 1, over that of the best ranking"),
    (r"Accuracy@\d+", "share of queries whose own counterpart is among the K nearest"),
    (r"NMI", "normalised mutual information of classes and k-means clusters, as many clusters as classes"),
    (r"AMI", "mutual information of classes and k-means clusters, adjusted for chance"),
    (r"(?i:top-\d+)( accuracy)?", "share of queries whose class is among the K classes predicted first"),
    (
        r"Coarse accuracy",
        "share of queries whose coarse class is the most probable, a coarse class having the probabilities of all its "
        "fine ones together",
    ),
    (r"(?i:accuracy)", "share of queries whose predicted class is right"),
    (r"Macro precision", "mean over classes of the share of their predictions that are right"),
    (r"Macro recall", "mean over classes of the share of their queries that are predicted as them"),
    (r"Macro F1", "mean over classes of the harmonic mean of their precision and recall"),
    (
        r"(?i:.*calibration error)",
        "mean gap between confidence and accuracy over 15 bins (Guo et al., ICML 2017); less is better",
    ),
    (
        r"(?i:.*mistake distance)",
        "mean, over the queries whose nearest image is wrong, of the height of the lowest common ancestor of its class "
        "and the true one in the tree of labels (Bertinetto et al., CVPR 2020); less is better",
    ),
)


def text(value: object, *, longest: int = LONGEST) -> str:
    """Write any text so that it can stand in an HTML page: nothing in it is markup, and nothing in it is hidden.

    Line breaks, controls, marks that turn the direction of writing and bytes that are no UTF-8 become visible
    escapes such as ``\\n``, ``\\u202e`` and ``\\xff``.

    Args:
        value: anything; what is no string is written as one.
        longest: characters kept.
    """
    given = str(value)
    cut = given if len(given) <= longest else given[: longest - 1] + "…"
    return escape("".join(letter if letter.isprintable() or letter in _JOINERS else _shown(letter) for letter in cut))


def _shown(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # how Python holds a byte of a file name that is no UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def data(value: object) -> str:
    """Write text from outside as an element of its own direction, so that Arabic or Hebrew reorder nothing around."""
    return f"<bdi>{text(value)}</bdi>"


def label(value: str | None) -> str:
    """Write a class: its last part first, the parts of the path above it below in small."""
    if value is None:
        return '<span class="name soft">no label</span>'
    *parents, name = [part for part in value.split("/") if part] or [value]
    above = f'<span class="crumbs">{data(" / ".join(parents))}</span>' if parents else ""
    return f'<span class="name" title="{text(value)}">{data(name)}</span>{above}'


def percent(share: float, decimals: int = 2) -> str:
    """Write a share in per cent, without the sign."""
    return f"{100 * share:.{decimals}f}"


def sure(probability: float) -> str:
    """Write a probability as a whole per cent; what is not certain is not called 100 %, nor 0 %."""
    if 0 < probability < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= probability < 1 else f"{probability:.0%}"


def amount(given: float, unit: str, decimals: int = 2) -> str:
    """Write a value of a figure: a share in per cent, anything else as it is."""
    return percent(given, decimals) if unit == "share" else f"{given:.2f}"


def decimals_of_interval(figures: Sequence[Figure]) -> int:
    """How many decimals of a per cent the ends of intervals carry: one, or two where the leading one is under ±0.5."""
    ends = next(((figure.low, figure.high) for figure in figures if figure.low is not None), (None, None))
    return 2 if ends[0] is not None and ends[1] is not None and ends[1] - ends[0] < 0.01 else 1


def left_out(gallery: int) -> str:
    """Say why queries were not measured: searched among so many gallery images, or named by a head (0)."""
    return "whose class has no other image in the gallery" if gallery else "of a class that the head does not know"


def count(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: "1 query", "2,485 queries"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def value(given: Any) -> str:
    """Write a value of a card: a number with its thousands, a mapping or list as a line, None as "not said"."""
    if given is None:
        return '<span class="soft">not said</span>'
    if isinstance(given, Mapping):
        return ", ".join(f"{data(key)} {value(one)}" for key, one in given.items()) or value(None)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return ", ".join(map(value, given)) or value(None)
    if isinstance(given, bool):
        return "yes" if given else "no"
    if isinstance(given, int):
        return f"{given:,}"
    if isinstance(given, float):
        return f"{given:,.1f}"
    return data(given)


def command(given: Any) -> str:
    """Write a command line, given as one text or as a list of words."""
    words = given if isinstance(given, str) else shlex.join(map(str, given))
    return text(words, longest=4000)


def meanings(names: Sequence[str]) -> list[tuple[str, str]]:
    """Say what figures are: (names that share a meaning, the meaning in one line), in the order of the names."""
    found: dict[str, list[str]] = {}
    for name in names:
        meaning = next((meaning for pattern, meaning in _MEANINGS if re.fullmatch(pattern, name)), None)
        found.setdefault(meaning or "as whoever measured it defines it", []).append(name)
    return [(", ".join(group), meaning) for meaning, group in found.items()]
