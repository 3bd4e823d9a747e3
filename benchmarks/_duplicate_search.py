"""A folder or list of pictures made a catalogue and searched for copies, with the seconds of each stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue
    from indexer.duplicates import Found

COPIES: Final = ("same bytes", "same pixels", "copy")
LOOKALIKE: Final = "lookalike"


@dataclass(frozen=True)
class Looked:
    """What came of it.

    Attributes:
        found: the product's own answer.
        uri: by id, the path below the root of the source.
        items: pictures in the catalogue.
        seconds: by stage.
        disk: bytes of the catalogue.
    """

    found: Found
    uri: dict[str, str]
    items: int
    seconds: dict[str, float]
    disk: int

    @property
    def notes(self) -> list[str]:
        """Sentences for the reader."""
        line = self.found.threshold
        return [
            f"line at agreement {line.agreement:.3f}, by {line.planted} planted copies: estimated precision "
            f"{line.precision:.2%} ({line.low:.2%} to {line.high:.2%}), recall {line.recall:.2%}; "
            f"{self.found.unreadable.num_rows} unreadable"
        ]

    @property
    def figures(self) -> dict[str, Any]:
        """Numbers for JSON."""
        line = self.found.threshold
        return {
            "items": self.items,
            "disk": self.disk,
            "examined": self.found.examined,
            "unreadable": self.found.unreadable.num_rows,
            "kinds": {kind: int(self._of(kind).num_rows) for kind in (*COPIES, LOOKALIKE)},
            "threshold": line.to_dict(),
        }

    def _of(self, kind: str) -> pa.Table:
        return self.found.pairs.filter(
            pa.array([value == kind for value in self.found.pairs.column("kind").to_pylist()])
        )

    def copies(self, *, same: float) -> list[tuple[str, str, float]]:
        """The pairs called copies: both paths, and the agreement or ``same``."""
        return [pair for kind in COPIES for pair in self._told(kind, same)]

    def pairs_with_agreement(self, *, same: float) -> list[tuple[str, str, float]]:
        """These and the lookalikes that were compared."""
        alike = [pair for pair in self._told(LOOKALIKE, float("nan")) if not np.isnan(pair[2])]
        return self.copies(same=same) + alike

    def _told(self, kind: str, otherwise: float) -> list[tuple[str, str, float]]:
        return [
            (
                self.uri[row["a"]],
                self.uri[row["b"]],
                otherwise if kind in COPIES[:2] or row["agreement"] is None else float(row["agreement"]),
            )
            for row in self._of(kind).select(["a", "b", "agreement"]).to_pylist()
        ]


def search(source: Path, *, root: Path | None, place: Path, precision: float, effort: str) -> Looked:
    """Make a catalogue of a source with the default embedder, and find the copies in it.

    Args:
        source: a folder, or a list of pictures.
        root: of the paths in a list.
        place: where the catalogue is made; what is there goes.
        precision: as ``find`` wants it.
        effort: likewise.
    """
    with made(source, root=root, place=place) as (catalogue, seconds):
        return found_in(catalogue, seconds, precision=precision, effort=effort)


@contextlib.contextmanager
def made(source: Path, *, root: Path | None, place: Path) -> Iterator[tuple[Catalogue, dict[str, float]]]:
    """Make a catalogue and give it with the seconds that took."""
    import shutil

    from indexer.catalogue import Catalogue
    from indexer.ingest import ingest
    from indexer.opening import DEFAULT, load_embedder
    from indexer.options import notice, progress_bar
    from retrieval.manifest import read_manifest

    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    manifest = read_manifest(source, root=root)
    embedder = load_embedder(DEFAULT, None, None, device="cpu", runtime="auto")
    with Catalogue.create(place, embedder, device="cpu") as catalogue:
        with progress_bar("indexing") as progress:
            ingest(catalogue, manifest, progress=progress, notice=notice)
        yield catalogue, {"index": time.perf_counter() - began}


def found_in(catalogue: Catalogue, seconds: dict[str, float], *, precision: float, effort: str) -> Looked:
    """Find the copies in a catalogue."""
    from indexer.duplicates import find
    from indexer.options import notice

    began = time.perf_counter()
    stages = Stages()
    found = find(catalogue, precision=precision, effort=effort, bars=stages, notice=notice)
    whole = time.perf_counter() - began
    items = catalogue.items(["id", "uri"])
    uri = dict(zip(items.column("id").to_pylist(), items.column("uri").to_pylist(), strict=True))
    disk = sum(path.stat().st_size for path in catalogue.path.rglob("*") if path.is_file())
    rest = {"find, the rest": max(0.0, whole - sum(stages.seconds.values()))}
    return Looked(found, uri, items.num_rows, seconds | stages.seconds | rest, disk)


class Stages:
    """Bars on standard error for the stages of ``find``, and their seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, what: str, unit: str) -> Iterator[Callable[[int, int, int], object]]:
        """Be the bar of a stage."""
        from indexer.options import progress_bar

        began = time.perf_counter()
        try:
            with progress_bar(what, unit) as show:
                yield show
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began
