"""Evaluation: labelled queries against a labelled gallery → a Report, and a table with every query's ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from retrieval.clustering import clustering_quality
from retrieval.errors import InputError
from retrieval.findings import SHOWN, failures_of, hubs_of, near_pairs, points_of
from retrieval.hierarchy import mistake_distance
from retrieval.labelled import Coded, Labelled, code
from retrieval.metrics import (
    average_precision,
    by_class,
    cmc,
    map_at_r,
    ndcg,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
)
from retrieval.neighbours import top_k
from retrieval.processes import in_parts, own_device
from retrieval.ranks import NEVER, Ranks, joined, positions_of, ranks_of_found, relevant_ranks
from retrieval.report import QUERIES_SCHEMA, ClassRow, Figure, Report
from retrieval.shortlist import Gallery, similarities_at
from retrieval.uncertainty import interval_over_classes, resolvable

KS: Final = (1, 2, 4, 8)
CURVE_TO: Final = 1000
CURVE_POINTS: Final = 60
HUB_K: Final = 10
Search = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Queries (q, dim) float32, gallery (m, dim) float32, k → positions (q, k) int64, nearest first, -1 in empty slots."""

CLUSTERED: Final = 20_000
"""Queries up to which clusters are made unless they are asked for: k-means into thousands of classes takes hours."""


@dataclass(frozen=True)
class Question:
    """What is asked, and how closely the answer is looked at; goes into the report as it is.

    Attributes:
        title: the benchmark or catalogue.
        protocol: how, in words.
        task: "retrieval", "classification", or another task of a protocol.
        differences: from the published protocol, a sentence each.
        metric: "Recall", or "Accuracy" for instance-level search.
        ks: values of K, each at least 1.
        clusters: whether NMI and AMI are measured; None: where there are at most ``CLUSTERED`` queries.
        points: of the embedding map, 0 for none.
        findings: whether failures, hubs and nearly equal pairs are looked for.
    """

    title: str
    protocol: str
    task: str = "retrieval"
    differences: Sequence[str] = field(default=())
    metric: str = "Recall"
    ks: Sequence[int] = KS
    clusters: bool | None = False
    points: int = 0
    findings: bool = False


def evaluate(
    queries: Labelled,
    gallery: Labelled,
    *,
    question: Question,
    embedder: dict[str, Any],
    device: str = "cpu",
    search: Search | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Report, pa.Table]:
    """Measure how well queries find their class in a gallery, by exact search of all of it.

    A query is never its own neighbour: gallery images with its id are left out. Ties are broken by id, in the order of
    its characters, so the order of the inputs changes nothing. In a torch.distributed run each process searches for its
    share of the queries, on a GPU of its own, and all get the whole report.

    Args:
        queries: may be the gallery itself (leave-one-out).
        gallery: its unlabelled images stay in as distractors.
        question: what is asked.
        embedder: the card of what made the vectors, for the report.
        device: where neighbours are computed.
        search: an approximate search in place of the exact one, to be measured; what it does not return is not found.
        progress: called with queries ranked and queries in all.

    Returns:
        The report, and ``QUERIES_SCHEMA``.

    Raises:
        InputError: there is nothing to measure, a K below 1, or an id that stands twice.
    """
    ks = sorted(set(question.ks))
    if not ks or ks[0] < 1:
        raise InputError(f"K must be at least 1; got {list(question.ks)}")
    coded = code(queries, gallery)
    device = own_device(device)
    protocol = question.protocol
    if search is None:
        ranks = ranking(coded, device, progress)
        neighbours, similarities = nearest(coded, max(HUB_K, SHOWN) if question.findings else 1, device)
    else:
        # MAP@R looks at as many images as a class has; one more, where the query finds itself.
        most = int(np.bincount(coded.gallery_codes[coded.gallery_codes >= 0]).max())
        wanted = min(len(coded.gallery), max(*ks, HUB_K, SHOWN, most) + 1)
        ranks, neighbours, similarities = _found(coded, search, wanted)
        protocol += f", which returns the first {wanted:,} images; what lies beyond counts as not found"
    names, values = measures(ranks, ks, question.metric)
    figures = figures_of(names, values, coded.query_codes)
    figures += _of_mistakes(coded, neighbours)
    classes = class_rows(values, coded)
    if len(classes) > 1 and (question.clusters or (question.clusters is None and len(coded.queries) <= CLUSTERED)):
        figures += _of_clusters(coded)
    steps = cmc(ranks, min(CURVE_TO, int(ranks.candidates.max())))
    shown = {*np.geomspace(1, len(steps), CURVE_POINTS).round().astype(int).tolist(), *ks, 10, 100}
    table = _table(queries, gallery, coded, ranks, neighbours, similarities)
    found: dict[str, Any] = {}
    if question.findings:
        found["failures"], found["failed"] = failures_of(table, gallery, coded.gallery_codes, neighbours, similarities)
        found["hubs"] = hubs_of(gallery, coded.query_codes, coded.gallery_codes, neighbours[:, :HUB_K])
        found["pairs"] = near_pairs(table, gallery, neighbours, similarities, one_set=queries.ids is gallery.ids)
    if question.points:
        found["points"] = points_of(table, coded.queries, coded.query_codes, question.points)
    return Report(
        title=question.title,
        protocol=protocol,
        differences=list(question.differences),
        task=question.task,
        embedder=embedder,
        figures=figures,
        curve=[(k, float(steps[k - 1])) for k in sorted(shown) if k <= len(steps)],
        classes=classes,
        class_count=len(classes),
        queries=len(coded.queries),
        left_out=coded.left_out,
        unlabelled=coded.unlabelled,
        gallery=len(gallery.ids),
        hub_k=HUB_K,
        **found,
    ), table


def measures(ranks: Ranks, ks: Sequence[int], metric: str = "Recall") -> tuple[list[str], np.ndarray]:
    """Compute every retrieval metric of each query.

    Args:
        ranks: of the relevant images.
        ks: values of K, ascending.
        metric: what Recall@K is called.

    Returns:
        Their names, the leading one first, and (n, m) float64.
    """
    deeper = [k for k in ks if k > 1]
    columns = [
        recall_at_k(ranks, ks),
        map_at_r(ranks)[:, None],
        r_precision(ranks)[:, None],
        reciprocal_rank(ranks)[:, None],
        average_precision(ranks)[:, None],
        ndcg(ranks)[:, None],
        precision_at_k(ranks, deeper) if deeper else np.empty((len(ranks), 0)),
    ]
    names = [f"{metric}@{k}" for k in ks]
    names += ["MAP@R", "R-Precision", "MRR", "mAP", "nDCG", *(f"Precision@{k}" for k in deeper)]
    return names, np.concatenate(columns, axis=1, dtype=np.float64)


def figures_of(names: Sequence[str], values: np.ndarray, codes: np.ndarray) -> list[Figure]:
    """Sum up what queries scored: (n, m) values of n queries of some classes → m figures."""
    ends, least = interval_over_classes(values, codes), resolvable(values, codes)
    macro = by_class(values, codes)[2].mean(axis=0)
    mean = values.mean(axis=0)
    return [
        Figure(
            name,
            float(mean[at]),
            None if ends is None else float(ends[0][at]),
            None if ends is None else float(ends[1][at]),
            float(macro[at]),
            None if least is None else float(least[at]),
        )
        for at, name in enumerate(names)
    ]


def class_rows(values: np.ndarray, coded: Coded) -> list[ClassRow]:
    """A row a class, worst first by the first measure, then by its label."""
    classes, counts, means = by_class(values, coded.query_codes)
    order = np.lexsort((classes, means[:, 0]))
    return [ClassRow(coded.names[classes[at]], int(counts[at]), means[at].tolist()) for at in order.tolist()]


def nearest(coded: Coded, k: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of each query: positions in the gallery (q, k), -1 in empty slots, and similarities."""

    def some(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return top_k(
            coded.queries[chosen],
            coded.gallery,
            k,
            query_ids=coded.query_ids[chosen],
            gallery_ids=coded.gallery_ids,
            exclude_self=True,
            device=device,
        )

    ids = np.empty((len(coded.queries), k), np.int64)
    similarities = np.empty((len(coded.queries), k), np.float32)
    for chosen, part in in_parts(len(coded.queries), some):
        ids[chosen], similarities[chosen] = part
    return positions_of(ids, coded.gallery_ids), similarities


def ranking(coded: Coded, device: str, progress: Callable[[int, int], object] = lambda done, total: None) -> Ranks:
    """Rank the gallery for each query, shared out among processes: where the right images stand."""

    def some(chosen: np.ndarray) -> Ranks:
        return relevant_ranks(
            coded.queries[chosen] if len(chosen) < len(coded.queries) else coded.queries,
            coded.gallery,
            coded.query_codes[chosen],
            coded.gallery_codes,
            query_ids=coded.query_ids[chosen],
            gallery_ids=coded.gallery_ids,
            device=device,
            progress=progress,
        )

    return joined(in_parts(len(coded.queries), some))


def _found(coded: Coded, search: Search, k: int) -> tuple[Ranks, np.ndarray, np.ndarray]:
    """Ranks, neighbours (q, k - 1) and similarities of an approximate search for k images."""
    own = positions_of(coded.query_ids, coded.gallery_ids)
    positions = search(coded.queries, coded.gallery, k)
    ranks = ranks_of_found(positions, coded.query_codes, coded.gallery_codes, own=own)
    real = (positions >= 0) & (positions != own[:, None])
    order = np.argsort(~real, axis=1, kind="stable")[:, : max(1, k - 1)]
    neighbours = np.take_along_axis(np.where(real, positions, -1), order, axis=1)
    if not (neighbours[:, 0] >= 0).all():
        raise InputError("the index returned nothing for some queries; give it more to look at (nprobe)")
    similarities = np.full(neighbours.shape, -np.inf, np.float32)
    there = np.nonzero(neighbours >= 0)
    similarities[there] = similarities_at(coded.queries, there[0], Gallery(coded.gallery), neighbours[there])
    return ranks, neighbours, similarities


def _of_mistakes(coded: Coded, neighbours: np.ndarray) -> list[Figure]:
    """How far wrong nearest images are from the truth in the tree of labels, where labels are paths."""
    return mistakes_of(coded.gallery_codes[neighbours[:, 0]], coded.query_codes, coded.names)


def mistakes_of(taken: np.ndarray, true: np.ndarray, names: Sequence[str]) -> list[Figure]:
    """Say how far wrong labels are from the truth in their tree; nothing where none is wrong, or labels are no paths.

    Args:
        taken: (n,) int64, places in ``names``; -1: nothing was taken.
        true: (n,) int64.
        names: all labels.
    """
    wrong = (taken != true) & (taken >= 0)
    if not wrong.any() or not any("/" in name for name in names):
        return []
    of = true[wrong]
    distances = mistake_distance(
        [names[at] for at in taken[wrong].tolist()], [names[at] for at in of.tolist()], labels=names
    )
    (figure,) = figures_of(["Mistake distance"], distances[:, None], of)
    return [Figure(figure.name, figure.value, figure.low, figure.high, figure.macro, figure.resolvable, "levels")]


def _of_clusters(coded: Coded) -> list[Figure]:
    quality = clustering_quality(coded.queries, coded.query_codes)
    return [
        Figure("NMI", quality.mean_nmi, None, None, None, None),
        Figure("AMI", quality.mean_ami, None, None, None, None),
    ]


def _table(
    queries: Labelled, gallery: Labelled, coded: Coded, ranks: Ranks, neighbours: np.ndarray, similarities: np.ndarray
) -> pa.Table:
    first = ranks.offsets[:-1]
    returned = ranks.ranks[first] != NEVER
    right = ranks.places[first]
    near = neighbours[:, 0]
    exact = similarities_at(coded.queries, np.arange(len(right)), Gallery(coded.gallery), right)
    numbers = pa.array(ranks.ranks, pa.int64(), mask=ranks.ranks == NEVER)
    columns = [
        [queries.ids[at] for at in coded.places.tolist()],
        [coded.names[at] for at in coded.query_codes.tolist()],
        ranks.candidates,
        pa.LargeListArray.from_arrays(pa.array(ranks.offsets), numbers),
        [gallery.ids[at] for at in near.tolist()],
        [gallery.labels[at] for at in near.tolist()],
        similarities[:, 0],
        pa.array([gallery.ids[at] for at in right.tolist()], pa.string(), mask=~returned),
        pa.array(exact, pa.float32(), mask=~returned),
    ]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, kind.type)
        for column, kind in zip(columns, QUERIES_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=QUERIES_SCHEMA)
