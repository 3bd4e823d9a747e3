"""The cache of vectors: what one embedder says of some bytes, keyed by the SHA-256 of the bytes.

A folder an embedder, ``vectors/<digest>/part-*.parquet``, each with the columns ``sha256`` (32 bytes) and
``embedding`` (little-endian float16 x dimension, L2-normalised) and ``runtime`` (what computed it, see
``retrieval.runtimes``), uncompressed and with page checksums.
Append-only; losing a part costs the time to embed its images again, never data.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.files import atomic_write
from retrieval.errors import DamagedError

MAX_PARTS: Final = 32
TRIES: Final = 50  # a writer that joins parts takes them away one by one
PART_BYTES: Final = 256 * 2**20
UNKNOWN: Final = "unknown"


Result = TypeVar("Result")


class VectorCache:
    """The vectors of one embedder.

    Attributes:
        folder: where the parts lie.
        dim: length of a vector.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim

    def parts(self) -> list[Path]:
        """The files, in order of name."""
        return sorted(self.folder.glob("part-*.parquet"))

    def append(self, sha256: Sequence[bytes], vectors: np.ndarray, *, runtime: str = UNKNOWN) -> None:
        """Add vectors as one new part.

        Args:
            sha256: the keys, 32 bytes each, length n.
            vectors: (n, dim), L2-normalised; stored as float16.
            runtime: what computed them.

        Raises:
            CatalogueError: the disk is full or the folder cannot be written.
        """
        if len(sha256) == 0:
            return
        stored = np.ascontiguousarray(vectors, dtype="<f2")
        assert stored.shape == (len(sha256), self.dim)
        table = pa.Table.from_arrays(
            [
                pa.array(sha256, pa.binary(32)),
                pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(2 * self.dim), len(sha256), [None, pa.py_buffer(stored.tobytes())]
                ),
                pa.array([runtime] * len(sha256), pa.string()),
            ],
            names=["sha256", "embedding", "runtime"],
        )
        self._write([table])

    def runtimes(self, sha256: pa.Array | None = None) -> dict[str, int]:
        """How many vectors each runtime has computed; parts that are older than this record count as "unknown".

        Args:
            sha256: keys of the vectors that are meant; None: all of them.
        """

        def count() -> dict[str, int]:
            found: Counter[str] = Counter()
            for part in self.parts():
                table = self._read_part(part, ["sha256", "runtime"])
                if sha256 is not None:
                    table = table.filter(pc.is_in(table.column("sha256"), pc.cast(sha256, pa.binary(32))))
                for entry in pc.value_counts(table.column("runtime")).to_pylist():
                    found[entry["values"]] += entry["counts"]
            return dict(found.most_common())

        return _again(count)

    def keys(self) -> set[bytes]:
        """The SHA-256 of every image that has a vector here; about 100 bytes of memory each."""

        def gather() -> set[bytes]:
            found: set[bytes] = set()
            for part in self.parts():
                found.update(self._read_part(part, ["sha256"]).column("sha256").to_pylist())
            return found

        return _again(gather)

    def read(self, sha256: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Read the vectors of some images.

        Args:
            sha256: keys, length n; the same key may stand more than once.

        Returns:
            (n, dim) float16 in the order of ``sha256``, zero where there is none; and (n,) bool, whether there is one.

        Raises:
            DamagedError: a part is cut or its checksums do not hold.
        """
        return _again(lambda: self._gather(sha256))

    def _gather(self, sha256: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        wanted = pc.cast(sha256, pa.binary(32))
        if isinstance(wanted, pa.ChunkedArray):
            wanted = wanted.combine_chunks()
        vectors = np.zeros((len(wanted), self.dim), dtype=np.float16)
        present = np.zeros(len(wanted), dtype=bool)
        if len(wanted) == 0:
            return vectors, present
        # A key may be wanted more than once: `rows` leads from a distinct key to all the places that want it.
        encoded = wanted.dictionary_encode()
        distinct, slot = encoded.dictionary, encoded.indices.to_numpy()
        rows = np.argsort(slot, kind="stable")
        count = np.bincount(slot, minlength=len(distinct))
        start = np.cumsum(count) - count
        # Newest first: what has just come in is found without reading what was there before.
        for part in sorted(self.parts(), key=lambda part: part.stat().st_mtime_ns, reverse=True):
            if present.all():
                break
            with self._open(part) as file:
                keys = self._read(part, file, ["sha256"]).column("sha256")
                place = pc.fill_null(pc.index_in(keys, value_set=distinct), -1).to_numpy()
                first = 0
                for group in range(file.metadata.num_row_groups):
                    last = first + file.metadata.row_group(group).num_rows
                    held = np.flatnonzero(place[first:last] >= 0)
                    if len(held):  # for a few keys only the groups that hold them are read
                        matrix = self._matrix(self._read(part, file, ["embedding"], groups=[group]))
                        found = place[first:last][held]
                        times = count[found]
                        step = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
                        into = rows[np.repeat(start[found], times) + step]
                        vectors[into] = matrix[np.repeat(held, times)]
                        present[into] = True
                    first = last
        return vectors, present

    def verify(self) -> list[tuple[Path, str]]:
        """Read every part whole, checksums and all.

        Returns:
            The damaged parts, each with the reason.
        """

        def look() -> list[tuple[Path, str]]:
            damaged = []
            for part in self.parts():
                try:
                    table = self._read_part(part, ["sha256", "embedding"])
                except DamagedError as error:
                    damaged.append((part, str(error)))
                    continue
                norms = np.linalg.norm(self._matrix(table).astype(np.float32), axis=1)
                if not (np.abs(norms - 1.0) < 1e-2).all():
                    damaged.append((part, "holds vectors that are not of length 1"))
            return damaged

        return _again(look)

    def compact(self) -> None:
        """Join small parts when there are many; a reader of the old ones must list the folder anew.

        A crash leaves some vectors twice, which changes nothing: equal keys have equal vectors.
        """
        small = [part for part in self.parts() if part.stat().st_size < PART_BYTES // 2]
        if len(small) <= MAX_PARTS:
            return
        gathered: list[pa.Table] = []
        done: list[Path] = []
        size = 0
        for part in [*small, None]:
            if part is not None:
                table = self._read_part(part, ["sha256", "embedding", "runtime"])
                gathered.append(table)
                done.append(part)
                size += part.stat().st_size
            if gathered and (part is None or size >= PART_BYTES):
                self._write(gathered)
                for old in done:
                    old.unlink(missing_ok=True)
                gathered, done, size = [], [], 0

    def _write(self, tables: list[pa.Table]) -> None:
        path = self.folder / f"part-{uuid.uuid4().hex}.parquet"
        schema = tables[0].schema
        with (
            atomic_write(path) as file,
            pq.ParquetWriter(
                file,
                schema,
                compression="none",
                use_dictionary=["runtime"],
                write_statistics=False,
                write_page_checksum=True,
            ) as writer,
        ):
            for table in tables:
                writer.write_table(table)

    def _read_part(self, part: Path, columns: list[str]) -> pa.Table:
        with self._open(part) as file:
            return self._read(part, file, columns)

    @contextlib.contextmanager
    def _open(self, part: Path) -> Iterator[pq.ParquetFile]:
        with _damage(part), pq.ParquetFile(part, page_checksum_verification=True) as file:
            if file.schema_arrow.field("embedding").type != pa.binary(2 * self.dim):
                raise DamagedError(f"{part} does not hold vectors of dimension {self.dim}")
            yield file

    def _read(
        self, part: Path, file: pq.ParquetFile, columns: list[str], *, groups: list[int] | None = None
    ) -> pa.Table:
        unsaid = "runtime" in columns and "runtime" not in file.schema_arrow.names
        with _damage(part):
            asked = [name for name in columns if name != "runtime" or not unsaid]
            table = file.read(asked) if groups is None else file.read_row_groups(groups, asked)
        if unsaid:  # written before runtimes were recorded
            table = table.append_column("runtime", pa.array([UNKNOWN] * table.num_rows, pa.string()))
        return table

    def _matrix(self, table: pa.Table) -> np.ndarray:
        column = table.column("embedding")
        pieces = [_as_float16(chunk, self.dim) for chunk in column.chunks if len(chunk)]
        if not pieces:
            return np.zeros((0, self.dim), dtype=np.float16)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _again(read: Callable[[], Result]) -> Result:
    """Read once more when a part vanished meanwhile: a writer has joined it with others, which are there now."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            return read()
    try:
        return read()
    except FileNotFoundError as error:
        raise DamagedError(f"{error.filename or error} vanished while it was read; run the command again") from error


@contextlib.contextmanager
def _damage(part: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise  # joined with others by a writer; see _again
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedError(
            f"{part} is damaged; run lookalike verify --repair on the catalogue, then index its sources again"
        ) from error


def _as_float16(chunk: pa.FixedSizeBinaryArray, dim: int) -> np.ndarray:
    # Without a copy: the buffer holds the vectors end to end, and a slice begins at its offset.
    flat = np.frombuffer(chunk.buffers()[1], dtype="<f2")
    return flat[chunk.offset * dim : (chunk.offset + len(chunk)) * dim].reshape(len(chunk), dim)
