"""Vectors of many images at once, from whatever cache has them: a catalogue's, or the user's own for benchmarks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.embeds import Embeds
from indexer.files import write_error
from indexer.ingest import COMMIT_EVERY
from indexer.pipeline import Outcome, embed_uris
from indexer.place import held, lock_of
from indexer.vectors import VectorCache
from retrieval.conversions import cache_folder
from retrieval.errors import BusyError, CatalogueError, DamagedError
from retrieval.sources import ImageSource


def embed_all(
    source: ImageSource,
    uris: Sequence[str],
    embedder: Embeds,
    cache: VectorCache,
    *,
    progress: Callable[[Outcome], object],
    notice: Callable[[str], object],
) -> tuple[list[Outcome], np.ndarray]:
    """Embed what is not in the cache; the caller may write it.

    Returns:
        Outcomes in the order of the uris, and (n, dim) float16, zero where an image was refused.
    """
    outcomes: list[Outcome] = []
    chunks = embed_uris(source, uris, embedder, cache, chunk=COMMIT_EVERY, on_done=progress, notice=notice)
    with contextlib.closing(chunks):
        for chunk in chunks:
            outcomes.extend(chunk)
    cache.compact()
    vectors, _ = cache.read(pa.array([outcome.sha256 or bytes(32) for outcome in outcomes], pa.binary()))
    return outcomes, vectors


def own_cache(embedder: Embeds, folder: Path | None = None) -> VectorCache:
    """The cache of an embedder's vectors that belongs to no catalogue; ``folder`` in place of the user's."""
    return VectorCache((folder or cache_folder() / "vectors") / embedder.digest, embedder.dim)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache of the user's, which may be put elsewhere."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock_of(folder), folder))
        except BusyError:
            raise
        except CatalogueError as error:
            raise CatalogueError(f"{error}; set LOOKALIKE_CACHE to a folder that can be written") from error
        yield


def embed_apart(
    source: ImageSource,
    uris: Sequence[str],
    embedder: Embeds,
    *,
    folder: Path | None = None,
    progress: Callable[[Outcome], object],
    notice: Callable[[str], object],
) -> tuple[list[Outcome], np.ndarray]:
    """Do what ``embed_all`` does, with the cache that belongs to no catalogue.

    Raises:
        BusyError: another process writes it.
        CatalogueError: it cannot be written.
        DamagedError: a part of it is damaged; the message says which.
    """
    cache = own_cache(embedder, folder)
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = write_error(cache.folder, error)
        raise type(told)(f"{told}; set LOOKALIKE_CACHE to a folder that can be written") from error
    with _held(cache.folder):
        try:
            return embed_all(source, uris, embedder, cache, progress=progress, notice=notice)
        except DamagedError as error:
            damaged = ", ".join(str(part) for part, _ in cache.verify())
            if not damaged:
                raise
            raise DamagedError(
                f"{damaged} is damaged; delete it and run again, which embeds its images anew"
            ) from error
