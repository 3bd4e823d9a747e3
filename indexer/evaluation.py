"""Measure a catalogue: leave-one-out within it, or the pictures of another source against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.catalogue import Catalogue
from indexer.embedding import embed_all
from indexer.embeds import Embeds
from indexer.frozen_row import embed_again, with_frozen_row
from indexer.index import INDEX_KINDS, check_spec, index_kind
from indexer.pipeline import Outcome
from indexer.report_pictures import PICTURE_SIZE
from indexer.search import thumbnail
from indexer.view import EXACT
from retrieval import images
from retrieval.errors import InputError
from retrieval.evaluation import Question, Search, evaluate
from retrieval.labelled import Labelled
from retrieval.manifest import Manifest
from retrieval.model_card import model_card, read_description, trained_on
from retrieval.report import Pair, Report
from retrieval.sources import ImageSource
from retrieval.twins import in_order, same_bytes

PAIRS: Final = 200
"""Pairs of equal pictures that a report lists; the others are counted."""

FLATTERING: Final = (
    "the embedder was trained on {learned}; on those, the figures flatter: measure it on images that it has not seen"
)

Progress = Callable[[int, int, int], object]


@dataclass(frozen=True)
class Measured:
    """What came of a measurement.

    Attributes:
        report: everything it says.
        queries: a row a query.
        picture: id → a small JPEG; raises ImageError or NotFoundError.
    """

    report: Report
    queries: pa.Table
    picture: Callable[[str], bytes] = field(repr=False)


def evaluate_catalogue(
    catalogue: Catalogue,
    *,
    queries: Manifest | None = None,
    label: str = "label",
    question: Question | None = None,
    through: str = EXACT,
    embedder: Embeds | None = None,
    frozen: Callable[[], Embeds] | None = None,
    progress: Progress = lambda done, total, rejected: None,
    ranking: Callable[[int, int], object] = lambda done, total: None,
    notice: Callable[[str], object] = lambda _: None,
) -> Measured:
    """Measure a catalogue, by exact search whatever index it has.

    The vectors of ``queries`` go into the cache, so measuring again embeds nothing; they become no items. A query is
    left out of its own gallery when an item has its id and its bytes.

    Args:
        catalogue: the gallery.
        queries: None measures leave-one-out within the catalogue.
        label: the column that holds the class, in the catalogue and in the queries.
        question: what else is asked: ks, clusters, points, findings; its title and protocol are written here.
        through: an index to search through in place of exact search, a FAISS factory string, to see what it costs.
        embedder: the catalogue's own when None.
        frozen: gives the same backbone with nothing trained, where the embedder is trained; its figures stand beside.
        progress: called with images done, images in all, images rejected so far.
        ranking: called with queries ranked and queries in all.
        notice: told what takes long before the first query is embedded.

    Returns:
        The report, whose card of the embedder also says how many vectors each runtime computed (``runtimes``), and in
        ``rejected`` which queries were refused.

    Raises:
        InputError: there is nothing to measure, or the queries have no such column.
        NotFoundError: the catalogue has no such column.
        BusyError: the queries need embedding while another process writes the catalogue.
        MissingExtraError: the index needs a package that is not installed.
    """
    check_spec(through)
    items = catalogue.items(list(dict.fromkeys(["id", "sha256", "source", "uri", label])))
    vectors, present = catalogue.vectors.read(items.column("sha256"))
    lost = int((~present).sum())
    if lost:
        raise InputError(f"{lost} items of {catalogue.path} have no vector; index their source again first")
    gallery = Labelled(vectors, items.column("id").to_pylist(), _labels(items, label))
    given, sources, refused = gallery, dict[str, str](), list[tuple[str, str]]()
    how = "leave-one-out within the catalogue"
    digests: list[bytes | None] = items.column("sha256").to_pylist()
    ids, parts, labels = list(gallery.ids), ["test"] * len(gallery.ids), list(gallery.labels)
    if queries is not None:
        if label not in queries.table.column_names:
            raise InputError(f"the queries have no column {label!r}; they have {', '.join(queries.table.column_names)}")
        own = catalogue.embedder() if embedder is None else embedder
        known = dict(zip(gallery.ids, digests, strict=True))
        given, sources, of_queries, refused = embed_queries(catalogue, queries, own, label, known, progress, notice)
        how = f"queries of {queries.listing.name} against the catalogue"
        parts = ["gallery"] * len(ids) + ["query"] * len(given.ids)
        ids, labels, digests = [*ids, *given.ids], [*labels, *given.labels], [*digests, *of_queries]
    search = None if through == EXACT else _through(through, catalogue)
    how += f", class = {label}, " + ("exact search" if search is None else f"approximate search through {through}")
    asked = replace(question or Question(title="", protocol=""), title=str(catalogue.about["name"]), protocol=how)
    described = catalogue.path / "embedder" / catalogue.digest
    card, learned = model_card(described, catalogue.digest), trained_on(read_description(described))
    flattering = None if learned is None else FLATTERING.format(learned=learned)
    if flattering is not None:
        notice(flattering)
    runtimes = catalogue.vectors.runtimes(pa.array(digests, pa.binary()))
    report, table = evaluate(
        given,
        gallery,
        question=asked,
        embedder={**card, "runtimes": runtimes},
        device=catalogue.device,
        search=search,
        progress=ranking,
    )

    def again(untrained: Embeds) -> tuple[Report, pa.Table]:
        places = [
            (Path(source), uri)
            for source, uri in zip(*(items.column(n).to_pylist() for n in ("source", "uri")), strict=True)
        ]
        if queries is not None:
            places += [(queries.root, sources[id]) for id in given.ids]
        every = [(root, uri, digest) for (root, uri), digest in zip(places, digests, strict=True)]
        found = embed_again(every, untrained, progress=progress, notice=notice)
        searched = replace(gallery, vectors=found[: len(gallery.ids)])
        asking = searched if queries is None else replace(given, vectors=found[len(gallery.ids) :])
        plain = replace(asked, points=0, findings=False)
        return evaluate(asking, searched, question=plain, embedder={}, device=catalogue.device, search=search)

    report = with_frozen_row(report, table, frozen=frozen, answer=again, notice=notice)

    def picture(id: str) -> bytes:
        if id not in sources or queries is None:
            return thumbnail(catalogue, id, size=PICTURE_SIZE)
        with ImageSource(queries.root) as source:
            return images.thumbnail(source.read(sources[id]), size=PICTURE_SIZE)

    twins = same_bytes(ids, parts, labels, digests) if asked.findings else []
    # A query that is an item is left out of its own gallery, so it is no leak.
    report = with_pairs(report, [pair for pair in twins if pair.first != pair.second])
    about = {**(report.about or {}), **({"caution": flattering} if flattering else {})}
    return Measured(replace(report, rejected=refused, about=about), table, picture)


def with_pairs(report: Report, same: Sequence[Pair]) -> Report:
    """Put pairs of equal bytes before the report's own of nearly equal vectors, the most harmful first."""
    known = {frozenset((pair.first, pair.second)) for pair in same}
    near = [pair for pair in report.pairs if frozenset((pair.first, pair.second)) not in known]
    pairs = in_order([*same, *near])
    return replace(
        report,
        pairs=pairs[:PAIRS],
        pairs_left_out=max(0, len(pairs) - PAIRS),
        leaks=sum(pair.leaking for pair in same),
        conflicts=sum(pair.conflicting for pair in same),
        candidates=len(near),
    )


def _through(spec: str, catalogue: Catalogue) -> Search:
    """Search through an index of this kind, built from the gallery's vectors."""
    kind = INDEX_KINDS[index_kind(spec)]

    def search(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
        index = kind.build(catalogue.dim, spec, catalogue.device)
        index.add(np.arange(len(gallery)), gallery)
        return index.search(queries, min(k, len(gallery)))[0]

    return search


def embed_queries(
    catalogue: Catalogue,
    queries: Manifest,
    embedder: Embeds,
    label: str,
    known: dict[str, bytes | None],
    progress: Progress,
    notice: Callable[[str], object],
) -> tuple[Labelled, dict[str, str], list[bytes | None], list[tuple[str, str]]]:
    """The queries' vectors, ids → uris, SHA-256, and what was refused with the reason."""
    refused: list[tuple[str, str]] = [(row["uri"], row["reason"]) for row in queries.rejected.to_pylist()]
    total = queries.table.num_rows + len(refused)
    uris = queries.table.column("uri").to_pylist()

    def on_done(outcome: Outcome) -> None:
        if outcome.reason is not None:
            refused.append((uris[outcome.position], outcome.reason))
        progress(len(queries.rejected) + outcome.position + 1, total, len(refused))

    with catalogue.writing(), ImageSource(queries.root) as source:
        outcomes, vectors = embed_all(source, uris, embedder, catalogue.vectors, progress=on_done, notice=notice)
    good = [at for at, outcome in enumerate(outcomes) if outcome.reason is None]
    positions = [outcomes[at].position for at in good]
    digests: list[bytes | None] = [outcomes[at].sha256 for at in good]
    part = queries.table.take(pa.array(positions, pa.int64()))
    # Two folders may both have an Apple/001.jpg: an id is the same image only when the bytes are the same too.
    ids = [
        id if known.get(id, digest) == digest else f"query {id}"
        for id, digest in zip(part.column("id").to_pylist(), digests, strict=True)
    ]
    given = Labelled(vectors[good], ids, _labels(part, label))
    return given, dict(zip(ids, (uris[at] for at in positions), strict=True)), digests, refused


def _labels(table: pa.Table, name: str) -> list[str | None]:
    values: list[Any] = table.column(name).to_pylist()
    return [None if value is None else str(value) for value in values]
