"""Folders of pictures without a catalogue: one is kept for them in the user's cache, and brought up to date when asked.

It is as good as temporary: what it holds can be made again from the folders, all but the journals of what was moved. It
is kept so that a run that was stopped goes on, and so that this can be brought back; without it, files that were set
aside are still found in the folders, under the paths they had.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.ingest import Progress, ingest
from indexer.journal import stray
from indexer.opening import open_or_create
from indexer.place import ABOUT_FILE, Called
from indexer.report_words import count
from retrieval.conversions import cache_folder
from retrieval.errors import InputError, NotFoundError
from retrieval.manifest import REJECTED_SCHEMA, Manifest, read_manifest

FOLDER: Final = "folder"
"""Column of the folder that an item lies in, where there are two."""
FOLDERS: Final = "folders"
"""Where in the user's cache the catalogues of folders are."""


def catalogue_of(folders: Sequence[Path]) -> Path:
    """Where the catalogue of these folders is kept, whichever is named first; it need not be there."""
    named = "\n".join(sorted(str(folder.resolve()) for folder in folders))
    return cache_folder() / FOLDERS / hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextlib.contextmanager
def open_folders(
    folders: Sequence[Path],
    *,
    device: str,
    runtime: str,
    update: bool,
    progress: Progress,
    notice: Callable[[str], object],
) -> Iterator[Catalogue]:
    """Open the catalogue of one or two folders, by the bundled embedder.

    Args:
        folders: of pictures, none inside another.
        device: where the network runs.
        runtime: what runs it.
        update: whether to bring it up to date with the folders first, which makes it where there is none.
        progress: as of ``ingest``.
        notice: told sentences.

    Raises:
        NotFoundError: there is no such folder, and it is to be brought up to date; or no catalogue of it yet, and none
            is to be made.
        InputError: it is no folder, one lies inside the other or is the other, or they hold no picture that can be
            read.
        BusyError: another process is writing it.
    """
    path, called = catalogue_of(folders), Called(tuple(folders), kept=True)
    known = (path / ABOUT_FILE).exists()
    for folder in folders:
        if not folder.exists():
            if known and not update:  # what was set aside in the other one can be brought back
                continue
            raise NotFoundError(f"there is no catalogue and no folder at {folder}")
        if not folder.is_dir():
            raise InputError(f"{folder} is neither a catalogue nor a folder of pictures; index it with lookalike index")
    places = [folder.resolve() for folder in folders]
    if update and len(places) == 2 and places[0].samefile(places[1]):  # by another path, as where it is mounted twice
        raise InputError(f"{folders[0]} and {folders[1]} are one folder; name it once")
    if len(places) == 2 and (places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0])):
        raise InputError(f"{folders[0]} and {folders[1]} lie inside each other; name the outer one alone")
    if not update and not known:
        besides = stray(folders)
        besides = f"; but {besides}" if besides else ""
        raise NotFoundError(f"nothing is known of {called}: run lookalike duplicates {called.words} first{besides}")
    manifests = _manifests(places) if update else []
    if update and not any(manifest.table.num_rows for manifest in manifests):
        raise InputError(f"there is no picture in {' or '.join(map(str, folders))}")
    with open_or_create(
        path,
        backbone=None,
        weights=None,
        pooling=None,
        embedder=None,
        device=device,
        runtime=runtime,
        name=" and ".join(place.name for place in places),
    ) as opened:
        opened.called = called
        for folder, manifest in zip(folders, manifests, strict=False):  # none where nothing is brought up to date
            summary = ingest(opened, manifest, progress=progress, notice=notice)
            if summary.rejected:
                were = "was" if summary.rejected == 1 else "were"
                notice(
                    f"{count(summary.rejected, 'file')} of {folder} {were} not examined; for the reasons type "
                    f"lookalike rejected {path}"
                )
        if update:
            _forget_gone(opened, manifests)
            if not opened.items(["row"]).num_rows:
                hold = "holds" if len(folders) == 1 else "hold"
                raise InputError(f"{called} {hold} no picture that can be read; see why with lookalike rejected {path}")
        yield opened


def not_examined(catalogue: Catalogue) -> pa.Table | None:
    """What lies in the folders of a catalogue and is no item of it: columns file and reason, sorted.

    Returns:
        Files are named as they are in their folder, with the folder where there are two; a folder that was not entered
        is one of them. None where the catalogue is not one of ``open_folders``.
    """
    if catalogue.path.resolve().parent != (cache_folder() / FOLDERS).resolve():
        return None
    table = catalogue.rejected.read(["source", "uri", "reason"])
    file = table.column("uri")
    if FOLDER in catalogue.items().column_names:
        file = pc.binary_join_element_wise(table.column("source"), file, "/")
    named = pa.table({"file": file, "reason": table.column("reason")})
    return named.sort_by([("file", "ascending"), ("reason", "ascending")])


def _files(place: Path, *, prefix: str = "") -> Manifest:
    """In a folder that nobody has tidied folders are no labels, and a symlink to a picture is no copy of it."""
    manifest = read_manifest(place, prefix=prefix)
    table, uris = manifest.table, manifest.table.column("uri").to_pylist()
    known = {str(manifest.root / uri) for uri in uris}
    links = [uri for uri in uris if (at := manifest.root / uri).is_symlink() and str(at.resolve()) in known]
    if links:
        table = table.filter(pc.invert(pc.is_in(table.column("uri"), value_set=pa.array(links, pa.string()))))
    table = table.set_column(table.column_names.index("label"), "label", pa.nulls(table.num_rows, pa.string()))
    told = [{"uri": uri, "reason": "a symlink to another picture here"} for uri in links]
    rejected = pa.concat_tables([manifest.rejected, pa.Table.from_pylist(told, schema=REJECTED_SCHEMA)])
    return replace(manifest, table=table, rejected=rejected)


def _manifests(places: Sequence[Path]) -> list[Manifest]:
    if len(places) == 1:
        return [_files(places[0])]
    names = [place.name for place in places]
    if names[0] == names[1]:
        names = [str(place) for place in places]
    manifests = []
    for place, name in zip(places, names, strict=True):
        manifest = _files(place, prefix=f"{name}/")
        column = pa.array([name] * manifest.table.num_rows, pa.string())
        manifests.append(replace(manifest, table=manifest.table.append_column(FOLDER, column)))
    return manifests


def _forget_gone(catalogue: Catalogue, manifests: Sequence[Manifest]) -> None:
    """Take out the items whose files are no longer there."""
    there = pa.concat_arrays([manifest.table.column("id").combine_chunks() for manifest in manifests])
    ids = catalogue.items(["id"]).column("id")
    gone = ids.filter(pc.invert(pc.is_in(ids, value_set=there))).to_pylist()
    if gone:
        with catalogue.writing():
            catalogue.remove(gone)
