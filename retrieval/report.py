"""Report: everything an evaluation says, as plain values that go to JSON and come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from retrieval.errors import InputError

FORMAT: Final = 1
LEVEL: Final = 0.05
"""A gain is marked as maybe chance from this p on."""
NON_STANDARD: Final = " (non-standard)"
"""Ends the title of what differs from its protocol."""

QUERIES_SCHEMA: Final = pa.schema(
    [
        # the query's id
        pa.field("id", pa.string(), nullable=False),
        # its class
        pa.field("label", pa.string(), nullable=False),
        # images that its ranking has, the query itself left out
        pa.field("candidates", pa.int64(), nullable=False),
        # ranks of all images of its class, ascending from 1; null: an approximate search did not return it
        pa.field("ranks", pa.large_list(pa.int64()), nullable=False),
        # the image at rank 1, its class (null: unlabelled) and cosine similarity
        pa.field("nearest", pa.string(), nullable=False),
        pa.field("nearest_label", pa.string()),
        pa.field("nearest_similarity", pa.float32(), nullable=False),
        # the nearest image of the query's class, and its cosine similarity; null where it was not returned
        pa.field("right", pa.string()),
        pa.field("right_similarity", pa.float32()),
    ]
)
"""A measured query a row, ascending by id: enough to compute every retrieval metric again."""


@dataclass(frozen=True)
class Figure:
    """One measure of a test set.

    Attributes:
        name: "Recall@1", "MAP@R", ...
        value: mean over queries (micro); a share in [0, 1] unless ``unit`` says otherwise.
        low: lower end of the 95 % interval by bootstrap over classes; None where there is one class only.
        high: its upper end.
        macro: mean over classes of their means; None where the measure is not one of single queries.
        resolvable: the smallest true difference from another embedder on these queries that would be found in four
            of five trials at the 5 % level, were the two independent (a paired comparison resolves less); None where
            there is one class only.
        unit: "share", or "levels" of the tree of labels.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    macro: float | None
    resolvable: float | None
    unit: str = "share"


@dataclass(frozen=True)
class Gain:
    """A figure less that of another embedder on the same queries.

    Attributes:
        name: of the figure.
        difference: of the means.
        low: lower end of its 95 % interval, paired by query, by bootstrap over classes; None where there is one class.
        high: its upper end.
        p: two-sided, by exchanging the two for whole classes; not corrected for the number of figures.
    """

    name: str
    difference: float
    low: float | None
    high: float | None
    p: float


@dataclass(frozen=True)
class ClassRow:
    """One class: its label, measured queries, and the mean of each figure over them, in the report's order."""

    label: str
    queries: int
    values: Sequence[float]


@dataclass(frozen=True)
class Hit:
    """A gallery image that a query got: rank from 1, cosine similarity, and whether its class is the query's."""

    id: str
    label: str | None
    rank: int
    similarity: float
    right: bool


@dataclass(frozen=True)
class Failure:
    """A query whose nearest image is of another class: what it got, and the nearest image of its own class."""

    id: str
    label: str
    got: Sequence[Hit]
    right: Hit | None


@dataclass(frozen=True)
class Hub:
    """A gallery image that is among the ``k`` nearest of too many queries: of how many, and of how many by right."""

    id: str
    label: str | None
    count: int
    right: int


@dataclass(frozen=True)
class Point:
    """An image on the map, coordinates in [0, 1]."""

    id: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Pair:
    """Two images that are the same picture.

    Attributes:
        first: id.
        second: id.
        where: the parts of the two, such as "train/test" (leakage), "query/gallery", or "test/test".
        labels: the two classes, "" where there is none.
        kind: "same bytes" or "nearly the same vector".
        similarity: cosine; 1 for the same bytes.
    """

    first: str
    second: str
    where: str
    labels: tuple[str, str]
    kind: str
    similarity: float

    @property
    def leaking(self) -> bool:
        """Whether the two stand in different parts."""
        first, _, second = self.where.partition("/")
        return first != second

    @property
    def conflicting(self) -> bool:
        """Whether the two have different labels; no label, "", conflicts with none."""
        return self.labels[0] != self.labels[1] and "" not in self.labels


@dataclass(frozen=True)
class Report:
    """What was measured, on what, by what, and how sure it is.

    Attributes:
        title: the benchmark or catalogue, "non-standard" in it where the folder differs from the protocol.
        protocol: how, in words.
        differences: from the published protocol, a sentence each; empty where the number is standard.
        task: "retrieval" or "classification", or another task of the protocol.
        embedder: the card of ``retrieval.model_card``.
        figures: the measures, the leading one first.
        curve: (K, share of queries with one of their class among the K nearest), K ascending, up to 1,000.
        classes: a row a class, worst first by the leading figure.
        class_count: classes of the measured queries.
        queries: measured.
        left_out: queries whose class has no other image in the gallery, or is unknown to the head; not measured.
        unlabelled: queries without a label; not measured.
        gallery: images searched.
        rejected: (uri, reason) of images that could not be used.
        failures: some queries whose nearest image is wrong, the most confident first.
        failed: how many such queries there are.
        hubs: the images that appear too often among the ``hub_k`` nearest, most often first.
        hub_k: how many nearest the hubs are counted among.
        points: the embedding map; empty where it was not drawn.
        pairs: the same picture twice; leakage and conflicting labels first, candidates last.
        pairs_left_out: pairs beyond those listed.
        leaks: how many of all pairs of the same bytes stand in different parts.
        conflicts: how many of all pairs of the same bytes have different labels.
        candidates: how many of all pairs are nearly the same vector under different labels.
        frozen: figures of the same backbone with nothing trained; None for an embedder that is itself frozen.
        gains: figures less the frozen ones, paired by query.
        frozen_note: why there is no frozen row beside a trained embedder, or the tag of the frozen one.
        classification: confusion and calibration of a classification task, else None.
        about: command, when, versions, processor, seconds; what to be cautious of.
    """

    title: str
    protocol: str
    differences: Sequence[str]
    task: str
    embedder: dict[str, Any]
    figures: Sequence[Figure]
    curve: Sequence[tuple[int, float]]
    classes: Sequence[ClassRow]
    class_count: int
    queries: int
    left_out: int
    unlabelled: int
    gallery: int
    rejected: Sequence[tuple[str, str]] = ()
    failures: Sequence[Failure] = ()
    failed: int = 0
    hubs: Sequence[Hub] = ()
    hub_k: int = 10
    points: Sequence[Point] = ()
    pairs: Sequence[Pair] = ()
    pairs_left_out: int = 0
    leaks: int = 0
    conflicts: int = 0
    candidates: int = 0
    frozen: Sequence[Figure] | None = None
    gains: Sequence[Gain] = ()
    frozen_note: str | None = None
    classification: Classification | None = None
    about: dict[str, Any] | None = None

    def figure(self, name: str) -> Figure:
        """Find a figure by its name.

        Raises:
            InputError: it was not measured.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise InputError(f"{name} was not measured; there are {', '.join(figure.name for figure in self.figures)}")

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON values, with its format's number; ``from_dict`` takes them back."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """Take a report back from JSON values.

        Raises:
            InputError: they are no report, or one of another format.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise InputError(f"no evaluation report of format {FORMAT}")
        rest = {name: value for name, value in values.items() if name not in ("format", "queries_file")}
        try:
            return cls(
                **{
                    **rest,
                    "figures": [Figure(**row) for row in rest["figures"]],
                    "curve": [(int(k), float(value)) for k, value in rest["curve"]],
                    "classes": [ClassRow(**row) for row in rest["classes"]],
                    "rejected": [(uri, reason) for uri, reason in rest["rejected"]],
                    "failures": [
                        Failure(
                            row["id"],
                            row["label"],
                            [Hit(**hit) for hit in row["got"]],
                            None if row["right"] is None else Hit(**row["right"]),
                        )
                        for row in rest["failures"]
                    ],
                    "hubs": [Hub(**row) for row in rest["hubs"]],
                    "points": [Point(**row) for row in rest["points"]],
                    "pairs": [Pair(**{**row, "labels": tuple(row["labels"])}) for row in rest["pairs"]],
                    "gains": [Gain(**row) for row in rest.get("gains", ())],
                    "frozen": None if rest["frozen"] is None else [Figure(**row) for row in rest["frozen"]],
                    "classification": None
                    if rest["classification"] is None
                    else Classification(**rest["classification"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"no evaluation report: {error}") from error


@dataclass(frozen=True)
class Classification:
    """What a classification task shows beside its figures.

    Attributes:
        confused: (true class, predicted class, queries), most first, at most 50; the whole matrix is in the Parquet.
        bins: (mean confidence, accuracy, queries) of each of 15 equal bins of confidence; None where a bin is empty.
        calibration_error: expected calibration error over those bins (Guo et al., ICML 2017), in [0, 1].
    """

    confused: Sequence[tuple[str, str, int]]
    bins: Sequence[tuple[float | None, float | None, int]]
    calibration_error: float
