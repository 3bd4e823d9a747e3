"""The bytes behind the uris of one root: files, and rows of Parquet files.

Nothing outside the root is read, whatever a list says or a symlink points to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path, PureWindowsPath
from types import TracebackType
from typing import Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.columns import bytes_leaf, find_image
from retrieval.errors import ImageError
from retrieval.images import DEFAULT_LIMITS

_PARQUET_ROW: Final = re.compile(r"(.+\.(?:parquet|pq))#row=([0-9]{1,15})(?:&column=(.+))?", re.IGNORECASE | re.DOTALL)
_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)
_BATCH_BYTES: Final = 16 * 2**20
_BUFFER_BYTES: Final = 2**20
# On Windows some of these do not exist. Not blocking: a fifo that appears after the check must not hang a run.
_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)
_MISSING: Final = {errno.ENOENT, errno.ENOTDIR}


def parquet_uri(file: str, row: int, column: str | None = None) -> str:
    """Name a row of a Parquet file: ``products.parquet#row=17``.

    Args:
        file: POSIX path of the file, relative to the root.
        row: counted from 0 through the whole file.
        column: of the image, where it is another than ``find_image`` finds.
    """
    return f"{file}#row={row}" + ("" if column is None else f"&column={quote(column)}")


def parquet_file(uri: str) -> str | None:
    """The Parquet file that a uri names a row of; None where it names a file of its own."""
    found = _PARQUET_ROW.fullmatch(uri)
    return None if found is None else found[1]


class Root:
    """A folder, and the question whether a path lies in it.

    Args:
        path: the folder; relative paths are relative to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._text = str(self.path)
        self._folders: dict[str, str] = {}

    def locate(self, value: str) -> str:
        """Turn a path as a list gives it into a uri: POSIX, relative to the root, of a regular file that is there.

        Backslashes are separators, unless only a file with such a name is there. Names are tried as written and in
        both Unicode normal forms.

        Args:
            value: relative to the root, or absolute.

        Raises:
            ImageError: it is no such path; the message is the reason.
        """
        if _URL.match(value):
            raise ImageError("a URL; fetching is not supported")
        posix = value.replace("\\", "/")
        try:
            return self._uri(posix)
        except ImageError:
            others = (unicodedata.normalize("NFC", posix), unicodedata.normalize("NFD", posix), value)
            for other in dict.fromkeys(others):
                if other != posix:
                    try:
                        return self._uri(other)
                    except ImageError:
                        continue
            if PureWindowsPath(value).is_absolute() and not Path(value).is_absolute():
                raise ImageError("outside the source root (an absolute Windows path)") from None
            raise

    def file(self, uri: str) -> str:
        """Give the real path of a uri's file.

        Args:
            uri: POSIX, relative to the root.

        Raises:
            ImageError: there is no such regular file within the root.
        """
        return self._real(self._relative(uri))

    def _real(self, relative: str) -> str:
        """Find the file of a path that ``_relative`` made; a folder is resolved once, however many files it has."""
        folder, _, name = relative.rpartition("/")
        with _reasons():
            real = self._folders.get(folder)
            if real is None:
                real = os.path.realpath(f"{self._text}/{folder}", strict=True)
                self._check_inside(real, folder)
                self._folders[folder] = real
            path = f"{real}/{name}"
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                path = os.path.realpath(path, strict=True)
                self._check_inside(path, "a symlink")
                mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            return path
        raise ImageError("a folder" if stat.S_ISDIR(mode) else "not a regular file")

    def _uri(self, path: str) -> str:
        relative = self._relative(path)
        self._real(relative)
        return relative

    def _relative(self, path: str) -> str:
        """Make a path relative to the root and free of dots, or refuse it."""
        if "\0" in path:
            raise ImageError("a path with a zero byte")
        if not path.strip():
            raise ImageError("no image")
        if os.path.isabs(path):  # noqa: PTH117 - a Path for each of a million lines costs seconds
            with _reasons():
                real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
            for known in (os.path.normpath(path), real):
                if Path(known).is_relative_to(self.path):
                    path = Path(known).relative_to(self.path).as_posix()
                    break
            else:
                raise ImageError("outside the source root; name another with --root")
        elif os.name == "nt" and PureWindowsPath(path).drive:
            raise ImageError("outside the source root")
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                if not parts:
                    raise ImageError("outside the source root")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        if not parts:
            raise ImageError("a folder")
        return "/".join(parts)

    def _check_inside(self, real: str, what: str) -> None:
        if not Path(real).is_relative_to(self.path):
            raise ImageError(f"outside the source root ({what} leads out of it)")


class ImageSource:
    """Reads images by uri; a context manager. ``read`` may be called from many threads.

    Args:
        root: the folder that uris are relative to.
        max_bytes: of one image.
    """

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> None:
        self._root = Root(root)
        self._max_bytes = max_bytes
        self._metadata: dict[str, tuple[tuple[int, int], pq.FileMetaData]] = {}

    def __enter__(self) -> ImageSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, uri: str) -> bytes:
        """Read one image.

        Args:
            uri: of a file, or ``file.parquet#row=N``.

        Raises:
            ImageError: it is not there, leads out of the root, is no regular file, or is too large.
        """
        found = _PARQUET_ROW.fullmatch(uri)
        if found is None:
            return self._read_file(uri)
        rows = self._open_rows(found[1], found[3])
        try:
            return rows.read(int(found[2]))
        finally:
            rows.close()

    def read_many(self, uris: Iterable[str]) -> Iterator[bytes | ImageError]:
        """Read images in order; what cannot be read comes as its error, and the others go on.

        Rows of a Parquet file that come in ascending order are streamed: each part of the file is read once, only the
        image column, and what is in memory is a page of the file, as large as its writer made it, and some 16 MiB.

        Args:
            uris: as for ``read``.
        """
        rows: _ParquetRows | None = None
        of: tuple[str, str | None] | None = None
        try:
            for uri in uris:
                result: bytes | ImageError
                try:
                    found = _PARQUET_ROW.fullmatch(uri)
                    if found is None:
                        result = self._read_file(uri)
                    else:
                        if rows is None or of != (found[1], found[3]):
                            if rows is not None:
                                rows.close()
                            rows, of = None, (found[1], found[3])
                            rows = self._open_rows(*of)
                        result = rows.read(int(found[2]))
                except ImageError as error:
                    result = error
                yield result
        finally:
            if rows is not None:
                rows.close()

    def close(self) -> None:
        """Forget what was cached; no file stays open between calls."""
        self._metadata.clear()

    def _read_file(self, uri: str) -> bytes:
        path = self._root.file(uri)
        with _reasons(), open(os.open(path, _OPEN_FLAGS), "rb", buffering=0) as file:  # noqa: PTH123
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ImageError("not a regular file")
            self._check_bytes(about.st_size)
            data = file.readall()
        self._check_bytes(len(data))
        return data

    def _open_rows(self, file: str, column: str | None) -> _ParquetRows:
        path = self._root.file(file)
        with _reasons():
            about = os.lstat(path)
            stamp = (about.st_mtime_ns, about.st_size)
            known = self._metadata.get(path)
            if known is None or known[0] != stamp:
                known = self._metadata[path] = (stamp, pq.read_metadata(path))
            return _ParquetRows(path, known[1], None if column is None else unquote(column), self._check_bytes)

    def _check_bytes(self, size: int) -> None:
        if size > self._max_bytes:
            raise ImageError(f"{size / 2**20:,.1f} MiB, limit {self._max_bytes / 2**20:,.1f} MiB")


class _ParquetRows:
    """The images of one Parquet file, fast when asked for in ascending order, in bounded memory."""

    def __init__(self, path: str, metadata: pq.FileMetaData, column: str | None, check: Callable[[int], None]) -> None:
        # A small buffer instead of pre-buffering: pages stream through instead of whole column chunks.
        self._file = pq.ParquetFile(path, metadata=metadata, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        schema = self._file.schema_arrow
        name = column if column is not None else find_image(schema)
        place = -1 if name is None else schema.get_field_index(name)
        leaf = bytes_leaf(schema.field(place)) if place >= 0 else None
        if leaf is None:
            self._file.close()
            raise ImageError("the Parquet file has no such column of image bytes")
        self._leaf, self._check = leaf, check
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        self._starts = list(accumulate((group.num_rows for group in groups), initial=0))
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._first = 0  # the row that the current batch begins with

    def read(self, row: int) -> bytes:
        """Read the image of a row; raises ImageError."""
        if row >= self._starts[-1]:
            raise ImageError(f"no such row: the Parquet file has {self._starts[-1]:,}")
        with _reasons():
            group = bisect_right(self._starts, row) - 1
            if group != self._group or row < self._first:
                self._enter(group)
            while self._batch is None or row >= self._first + self._batch.num_rows:
                self._first += 0 if self._batch is None else self._batch.num_rows
                self._batch = next(self._batches, None)
                if self._batch is None:
                    raise ImageError("damaged Parquet file (it has fewer rows than it says)")
            value = self._batch.column(0)[row - self._first].as_py()
        image = value["bytes"] if isinstance(value, dict) else value
        if image is None:
            raise ImageError("no image in this row")
        self._check(len(image))
        return bytes(image)

    def close(self) -> None:
        self._batch, self._batches = None, iter(())
        self._file.close()

    def _enter(self, group: int) -> None:
        about = self._file.metadata.row_group(group)
        size = sum(
            about.column(place).total_uncompressed_size
            for place in range(about.num_columns)
            if about.column(place).path_in_schema == self._leaf
        )
        rows = max(1, min(1024, _BATCH_BYTES * about.num_rows // max(1, size)))
        self._batches = self._file.iter_batches(
            batch_size=rows, row_groups=[group], columns=[self._leaf], use_threads=False
        )
        self._group, self._batch, self._first = group, None, self._starts[group]


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Word the errors of the system and of Arrow as reasons."""
    try:
        yield
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError("permission denied") from error
    except OSError as error:
        if error.errno in _MISSING:
            raise ImageError("no such file") from error
        if error.errno == errno.ELOOP:
            raise ImageError("a symlink loop") from error
        if error.errno == errno.ENAMETOOLONG:
            raise ImageError("the name is too long") from error
        raise ImageError(f"cannot be read ({error.strerror or _short(error)})") from error
    except UnicodeError as error:
        raise ImageError("no such file (its name is no text)") from error
    except (pa.ArrowException, ValueError) as error:
        raise ImageError(f"damaged Parquet file ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
