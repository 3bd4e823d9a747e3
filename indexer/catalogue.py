"""Catalogue: a folder that holds items, their vectors, an embedder and a view of them to search.

    catalogue.json        what it is called, which index it wants, a note for those who look at it
    items/                the truth (Delta); a version of it names a state of the whole catalogue
    rejected/             inputs that are no items, each with the reason (Delta)
    vectors/<digest>/     a cache
    index/<digest>/       a view
    embedder/<digest>/    model.json + weights.safetensors
    duplicates/journal/   what was done about duplicates, so that it can be undone; quarantine/ holds files set aside
    calibration/          how labels are told, a file each; the metadata of a version names the one in force
    .lock                 held by the one process that writes

Reading needs no lock. Every write is one Delta commit, made after the vectors it needs are on disk.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer import view
from indexer.embeds import Embeds
from indexer.files import read_json, sweep, write_json
from indexer.index import VectorIndex
from indexer.items import VersionedTable, numbered
from indexer.place import ABOUT_FILE, LOCK, Called, check_place, held, lay_out, lock_of, looking
from indexer.vectors import VectorCache
from retrieval.errors import CatalogueError, DamagedError, InputError, NotFoundError
from retrieval.runtimes import resolve

FORMAT: Final = 1


class Catalogue:
    """An open catalogue; use it as a context manager or call ``close``.

    Safe to read from several threads. An object opened at no particular version follows the newest one.

    Attributes:
        path: the folder.
        digest: of the embedder in force.
        dim: length of its vectors.
        about: what ``catalogue.json`` holds: name, index, note.
        vectors: the cache of the embedder in force.
        rejected: the table of rejected inputs.
        called: what messages call it; whoever keeps it for others says what these call it.
    """

    def __init__(
        self,
        path: Path,
        items: VersionedTable,
        *,
        pinned: bool,
        embedder: Embeds | None,
        device: str,
        runtime: str,
    ) -> None:
        self.path = path
        self.called = Called((path,))
        self.about = read_json(path / ABOUT_FILE)
        if self.about.get("format") != FORMAT:
            raise CatalogueError(
                f"{path} has catalogue format {self.about.get('format')}; this version of lookalike reads {FORMAT}"
            )
        self.rejected = VersionedTable.open(path / "rejected")
        self._items = items
        self._pinned = pinned
        metadata = items.metadata()
        try:
            self.digest, self.dim = metadata["embedder"], int(metadata["dim"])
        except (KeyError, ValueError) as error:
            raise DamagedError(f"version {items.version} of {path / 'items'} does not name its embedder") from error
        if embedder is not None and embedder.digest != self.digest:
            raise InputError(
                f"{path} was made with embedder {self.digest[:12]}, not {embedder.digest[:12]}; "
                "make a new catalogue for another embedder"
            )
        self.vectors = VectorCache(path / "vectors" / self.digest, self.dim)
        self.device = device
        self._runtime = runtime
        self._embedder = embedder
        self._lock = lock_of(path)
        self._guard = threading.RLock()
        self._loading = threading.Lock()
        self._writer: int | None = None
        self._table: pa.Table | None = None
        self._view: view.View | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        embedder: Embeds,
        *,
        name: str | None = None,
        index: str = "exact",
        note: str | None = None,
        device: str = "auto",
    ) -> Catalogue:
        """Create an empty catalogue.

        Args:
            path: a folder that does not exist or is empty.
            embedder: will embed everything in it.
            name: for those who look at it; None: that of the folder.
            index: "exact" or a FAISS factory string.
            note: a sentence for those who look at the catalogue, such as that its photos are synthetic.
            device: where the index and a loaded embedder run.

        Raises:
            CatalogueError: there is something in the folder, or it cannot be written.
        """
        path = path.absolute()
        check_place(path, locked=False)
        with looking(path):
            path.mkdir(parents=True, exist_ok=True)
        with held(lock_of(path), path):
            lay_out(path, embedder, {"format": FORMAT, "name": name or path.name, "index": index, "note": note})
        return cls.open(path, embedder=embedder, device=device)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        version: int | None = None,
        embedder: Embeds | None = None,
        device: str = "auto",
        runtime: str = "auto",
    ) -> Catalogue:
        """Open a catalogue.

        Args:
            path: the folder.
            version: of the items; None follows the newest.
            embedder: used in place of the one on disk, whose digest it must have.
            device: where the index and the embedder run: "auto", "cpu", "cuda".
            runtime: what runs the embedder, when it is loaded from disk; see ``retrieval.runtimes``.

        Raises:
            NotFoundError: there is no catalogue, or no such version.
            DamagedError: what stands on disk is not what was written.
            InputError: the embedder is another one, or there is no such runtime.
            MissingExtraError: the runtime's package is not installed.
        """
        resolve(runtime, device)  # before anything is changed or the network is loaded
        path = path.absolute()
        with looking(path):
            if not (path / ABOUT_FILE).is_file():
                raise NotFoundError(
                    f"there is no catalogue at {path}; make one with lookalike index SOURCE --catalogue DIR"
                )
        items = VersionedTable.open(path / "items", version=version)
        return cls(path, items, pinned=version is not None, embedder=embedder, device=device, runtime=runtime)

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held in memory, and of the lock."""
        self._lock.release(force=True)
        with self._guard:
            self._table = self._view = self._embedder = None

    @property
    def version(self) -> int:
        """The version of the items that this object shows."""
        return self._items.version

    @property
    def note(self) -> str | None:
        """A sentence for those who look at the catalogue."""
        note = self.about.get("note")
        return None if note is None else str(note)

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The items of this version in ascending ``row``; schema ``ITEMS_SCHEMA`` and the user's columns.

        Raises:
            NotFoundError: there is no such column.
            DamagedError: a file of the table is missing or cut.
        """
        with self._guard:
            if self._table is None:
                table = self._items.read()
                row = table.column("row").to_numpy()
                if not (np.diff(row) > 0).all():
                    table = table.sort_by("row")
                self._table = table.combine_chunks()
            table = self._table
        if columns is None:
            return table
        unknown = [name for name in columns if name not in table.column_names]
        if unknown:
            raise NotFoundError(
                f"{self.path} has no column {unknown[0]!r}; it has {', '.join(map(repr, table.column_names))}"
            )
        return table.select(list(columns))

    def index(self) -> VectorIndex:
        """The index over the items of this version, opened or built when first asked for."""
        return self._open_view().index

    def snapshot(self) -> tuple[pa.Table, VectorIndex]:
        """The items and the index of one and the same version, however many others write meanwhile."""
        with self._guard:
            return self.items(), self.index()

    def _open_view(self) -> view.View:
        with self._guard:
            if self._view is None:
                self._view = view.open_view(
                    self.path / "index" / self.digest,
                    spec=str(self.about["index"]),
                    items=self.items(["row", "sha256"]),
                    vectors=self.vectors,
                    device=self.device,
                )
            return self._view

    def embedder(self) -> Embeds:
        """The embedder in force, loaded when first asked for.

        Raises:
            DamagedError: its files are not those whose digest the catalogue names.
        """
        # Not the guard: loading takes seconds, and nothing else has to wait for it.
        with self._loading:
            if self._embedder is None:
                from retrieval.embedder import Embedder

                folder = self.path / "embedder" / self.digest
                loaded = Embedder.load(folder, device=self.device, runtime=self._runtime)
                if loaded.digest != self.digest:
                    raise DamagedError(f"the embedder in {folder} is not the one the catalogue was made with")
                self._embedder = loaded
            return self._embedder

    def refresh(self) -> bool:
        """Move on to the newest version, unless a version was asked for when opening; says whether it moved.

        Raises:
            CatalogueError: the newest version has another embedder; open the catalogue anew.
        """
        with self._guard:
            # An object that writes is at the newest version by its own doing, and only its writer moves it.
            if self._pinned or self._writer not in (None, threading.get_ident()):
                return False
            if not self._items.superseded():
                return False
            newest = VersionedTable.open(self.path / "items")
            if newest.version <= self.version:
                return False
            if newest.metadata().get("embedder") != self.digest:
                raise CatalogueError(f"{self.path} has another embedder now; open it anew")
            self.rejected = VersionedTable.open(self.path / "rejected")
            self._items, self._table, self._view = newest, None, None
            self.about = read_json(self.path / ABOUT_FILE)
        return True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the catalogue's lock, on its newest version; the system lets go of it when the process dies.

        Raises:
            BusyError: another process holds it.
            CatalogueError: this object shows an earlier version.
        """
        if self._pinned:
            raise CatalogueError(f"version {self.version} of {self.path} is open for reading; open the newest to write")
        with held(self._lock, self.path, self.called):
            with self._guard:
                self._writer = threading.get_ident()
            try:
                sweep(self.path, lock=LOCK)  # copies are looked for under a lock of their own
                self.refresh()
                # Refused inputs have versions of their own, which move without the items.
                self.rejected = VersionedTable.open(self.path / "rejected")
                yield
            finally:
                with self._guard:
                    self._writer = None

    def commit(self, rows: pa.Table, *, replacing: bool = False) -> int:
        """Add items, or replace those with the same id, in one commit; call it inside ``writing``.

        Args:
            rows: as ``ITEMS_SCHEMA`` with the user's columns; a null ``row`` is given the next number.
            replacing: whether some of the ids are in the catalogue already.

        Returns:
            The new version.
        """
        assert self._lock.is_locked
        if rows.num_rows == 0:
            return self.version
        metadata = self._items.metadata()
        rows, next_row = numbered(rows, int(metadata["next_row"]))
        metadata["next_row"] = str(next_row)
        if replacing:
            self._items.merge(rows, on=["id"], metadata=metadata)
        else:
            self._items.append(rows, metadata)
        with self._guard:
            self._table = self._view = None
        return self.version

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out, in one commit; call it inside ``writing``.

        Their rows are not given to others, their vectors stay in the cache, and earlier versions still show them.

        Returns:
            The new version.

        Raises:
            NotFoundError: there is no item with one of the ids; nothing was changed.
        """
        assert self._lock.is_locked
        items = self.items(["row", "id"])
        gone = items.filter(pc.is_in(items.column("id"), value_set=pa.array(ids, pa.string())))
        unknown = set(ids).difference(gone.column("id").to_pylist())
        if unknown:
            raise NotFoundError(f"{self.path} has no item with the id {min(unknown)!r}; nothing was changed")
        if gone.num_rows:
            self._items.remove(gone.select(["row"]), metadata=self._items.metadata())
            with self._guard:
                self._table = self._view = None
        return self.version

    def in_force(self, key: str) -> str | None:
        """What the metadata of this version says of something beside the items; None where it says nothing."""
        return self._items.metadata().get(key)

    def put_in_force(self, changes: Mapping[str, str]) -> int:
        """Change what the metadata says, as a new version with the same items; call it inside ``writing``."""
        assert self._lock.is_locked
        self._items.append(self.items().slice(0, 0), {**self._items.metadata(), **changes})
        with self._guard:
            self._table = self._view = None
        return self.version

    def settle(self) -> None:
        """Join small files and bring the stored view up to date; call it inside ``writing``, when the work is done."""
        assert self._lock.is_locked
        self.vectors.compact()
        self._items.compact(self._items.metadata())
        self._table = self._view = None
        if view.is_stored(str(self.about["index"])) and view.is_stored((shown := self._open_view()).spec):
            view.save_view(self.path / "index" / self.digest, shown, version=self.version)

    def set_about(self, **changes: Any) -> None:
        """Change what ``catalogue.json`` says (``name``, ``index``, ``note``); call it inside ``writing``."""
        assert self._lock.is_locked
        self.about = {**self.about, **changes}
        write_json(self.path / ABOUT_FILE, self.about)
        self._view = None

    def versions(self) -> list[dict[str, Any]]:
        """The versions, newest first: version, timestamp (ms since 1970), operation, embedder."""
        entries = self._items.history()
        return [
            {key: entry[key] for key in ("version", "timestamp", "operation")}
            | {"embedder": entry["metadata"].get("embedder")}
            for entry in entries
        ]

    def rollback(self, version: int) -> int:
        """Make the newest version equal to an earlier one, embedder and all; takes the lock itself.

        Rows given out since are not given again. Where it is the newest already, there is nothing to do.

        Returns:
            The number of the newest version now.

        Raises:
            NotFoundError: there is no such version.
        """
        with self.writing():
            if version == self.version:
                return version
            before = VersionedTable.open(self.path / "items", version=version).metadata()
            self._items.restore(version, {**before, "next_row": self._items.metadata()["next_row"]})
            with self._guard:
                self._table = self._view = None
                if before["embedder"] != self.digest:
                    self.digest, self.dim, self._embedder = before["embedder"], int(before["dim"]), None
                    self.vectors = VectorCache(self.path / "vectors" / self.digest, self.dim)
            return self.version
