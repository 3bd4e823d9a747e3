"""Files moved, linked and copied so that a kill at any moment leaves each of them whole under a name that is known.

No symlink is followed, whether it is the file or a folder above it, and nothing is ever overwritten or deleted: a name
is taken away only while the same bytes stand under another one that is known to be on disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from indexer.files import sync_folder
from retrieval.errors import ImageError

_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
_CHUNK: Final = 2**20
# Another file system, one without hard links, a file of somebody else's, or one with too many names.
_NO_LINK: Final = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Hindrance(Exception):
    """Why a file is left as it is; the message is one clause."""


@dataclass(frozen=True)
class Likeness:
    """What a file is under whatever name, and is again when it was brought back.

    Attributes:
        sha256: of its bytes, 32 bytes.
        mode: permission bits.
        mtime_ns: time of modification, nanoseconds since 1970.
        owner: numbers of its user and its group; None: not known.
    """

    sha256: bytes
    mode: int
    mtime_ns: int
    owner: tuple[int, int] | None


@contextlib.contextmanager
def hindrances() -> Iterator[None]:
    """Word the errors of the system and of a source as hindrances."""
    try:
        yield
    except ImageError as error:
        raise Hindrance(str(error)) from error
    except FileNotFoundError as error:
        raise Hindrance("no such file") from error
    except FileExistsError as error:
        raise Hindrance("another file is there already") from error
    except PermissionError as error:
        places = ", ".join(str(place) for place in (error.filename, error.filename2) if place is not None)
        raise Hindrance(f"permission denied: {places}" if places else "permission denied") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Hindrance("the disk is full" if full else (error.strerror or str(error)).lower()) from error


def state_of(path: Path) -> os.stat_result | None:
    """What stands under a name, be it a symlink; None for nothing."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two names are of one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def unchanged(before: os.stat_result, now: os.stat_result | None) -> bool:
    """Whether a file is the one it was, and nobody has written to it."""
    return (
        now is not None
        and same_file(before, now)
        and (before.st_size, before.st_mtime_ns, stat.S_IFMT(before.st_mode))
        == (now.st_size, now.st_mtime_ns, stat.S_IFMT(now.st_mode))
    )


def digest_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Hash a regular file, not through a symlink.

    Returns:
        SHA-256, 32 bytes, and the state in which the file has them.

    Raises:
        Hindrance: it is no such file, it cannot be read, or it was written to meanwhile.
    """
    with hindrances(), open(os.open(path, os.O_RDONLY | _FLAGS), "rb") as file:  # noqa: PTH123
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise Hindrance("not a regular file")
        digest = hashlib.file_digest(file, "sha256").digest()
        if not unchanged(before, os.fstat(file.fileno())):
            raise Hindrance("somebody is writing to it")
    return digest, before


def dress(path: Path, like: Likeness) -> None:
    """Give a regular file a mode and a time of modification, where it has others."""
    now = os.lstat(path)
    if stat.S_IMODE(now.st_mode) != like.mode:
        os.chmod(path, like.mode)  # noqa: PTH101
    if now.st_mtime_ns != like.mtime_ns:
        os.utime(path, ns=(now.st_atime_ns, like.mtime_ns))


def discard(path: Path) -> None:
    """Take away a temporary file of ours, or one more name of a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def copy_file(path: Path, temporary: Path, like: Likeness, *, attributes: bool) -> None:
    """Copy a file to a temporary one that is on disk, and read again, when this returns.

    Args:
        path: a regular file.
        temporary: what a killed run left there is replaced.
        like: what the copy must be; of whom, only where the system lets us.
        attributes: whether extended attributes are copied, where the system lets us.

    Raises:
        Hindrance: the copy has other bytes.
        OSError: it could not be written; there is no copy.
    """
    discard(temporary)
    source = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        into = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            while data := memoryview(os.read(source, _CHUNK)):
                while data:
                    data = data[os.write(into, data) :]
            about = os.fstat(source)
            _give(temporary, like.owner or (about.st_uid, about.st_gid))
            if attributes:
                shutil.copystat(path, temporary, follow_symlinks=False)
            os.utime(temporary, ns=(about.st_atime_ns, like.mtime_ns))
            os.chmod(temporary, like.mode)  # noqa: PTH101
            os.fsync(into)
            os.lseek(into, 0, os.SEEK_SET)
            digest = hashlib.sha256()
            while data := memoryview(os.read(into, _CHUNK)):
                digest.update(data)
        finally:
            os.close(into)
        if digest.digest() != like.sha256:
            raise Hindrance("its bytes changed while it was copied")
    except (OSError, Hindrance):
        discard(temporary)
        raise
    finally:
        os.close(source)


def publish(temporary: Path, target: Path) -> None:
    """Give a temporary file its name, without overwriting what may be there.

    Raises:
        OSError: something is there, or the folder cannot be written.
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        # No hard links here: a file that appears between this look and the next line would be overwritten.
        if state_of(target) is not None:
            raise FileExistsError(errno.EEXIST, "File exists", str(target)) from error
        os.rename(temporary, target)  # noqa: PTH104
        return
    discard(temporary)


def can_belong(probe: Path, owner: tuple[int, int] | None) -> bool:
    """Whether a file that is made here can be somebody's; without an owner, yes.

    Args:
        probe: a name that is free, or of a temporary file of ours; where no file can be without a name, an empty one is
            made there and taken away.
        owner: numbers of the user and the group.

    Raises:
        OSError: no file can be made there.
    """
    if owner is None or not hasattr(os, "fchown"):  # Windows
        return True
    named = False
    try:
        handle = os.open(probe.parent, os.O_RDWR | os.O_TMPFILE | _FLAGS, 0o600)
    except (OSError, AttributeError):
        named = True
        discard(probe)
        handle = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        with contextlib.suppress(OSError):  # we are not root, or files have no owners here
            os.fchown(handle, *owner)
        now = os.fstat(handle)
        return (now.st_uid, now.st_gid) == owner
    finally:
        os.close(handle)
        if named:
            discard(probe)


def relocate(path: Path, target: Path, *, temporary: Path, probe: Path, state: os.stat_result, like: Likeness) -> None:
    """Move a file to a free name, on the same file system or another.

    A kill leaves it under its old name, under both, or under the new one, and perhaps a temporary file.

    Args:
        path: a regular file.
        target: its new name, in a folder that is there.
        temporary: a name beside ``target``.
        probe: one in the folder where the file belongs, be that the old or the new one; a kill may leave it.
        state: of the file when it was hashed.
        like: what a copy must be, where there can be no second name.

    Raises:
        Hindrance: it is as it was, or has been changed by somebody else.
        OSError: it is as it was.
    """
    linked = True
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        if not can_belong(probe, like.owner):  # a copy would not be his any more
            _rename(path, target, state)
            return
        linked = False
        copy_file(path, temporary, like, attributes=True)
        try:
            publish(temporary, target)
        except OSError:
            discard(temporary)
            raise
    try:
        if linked:
            sync_folder(target.parent)
        else:
            _sync(target)
        if not unchanged(state, state_of(path)) or (linked and not unchanged(state, state_of(target))):
            raise Hindrance("it changed while it was moved")
        os.unlink(path)  # noqa: PTH108
    except (OSError, Hindrance) as error:
        # The new name may be taken back only while the old one is of the same file, or of the one that was copied.
        now = state_of(path)
        if now is None or not (same_file(now, os.lstat(target)) or unchanged(state, now)):
            raise Hindrance(f"it changed while it was moved; what it was is kept as {target}") from error
        discard(target)
        raise


def become_link(path: Path, kept: Path, *, temporary: Path, state: os.stat_result, kept_state: os.stat_result) -> None:
    """Make a file a hard link of another one with the same bytes, in one step that is seen whole or not at all.

    Args:
        path: a regular file, no link of ``kept`` yet.
        kept: the other one, on the same file system.
        temporary: a name beside ``path``; a kill may leave it.
        state: of the file when it was hashed.
        kept_state: of the other one when it was.

    Raises:
        Hindrance: one of them was changed by somebody else; the file is as it was.
        OSError: the file is as it was.
    """
    discard(temporary)
    os.link(kept, temporary)
    try:
        if not unchanged(kept_state, state_of(temporary)) or not unchanged(state, state_of(path)):
            raise Hindrance("it changed while it was linked")
        os.replace(temporary, path)  # noqa: PTH105
    except (OSError, Hindrance):
        discard(temporary)
        raise


def make_independent(path: Path, *, temporary: Path, state: os.stat_result, like: Likeness) -> None:
    """Give a hard link bytes of its own again, in one step that is seen whole or not at all.

    Args:
        path: a regular file.
        temporary: a name beside it; a kill may leave it.
        state: of the file before it was hashed.
        like: what it gets; it is of whom it was.

    Raises:
        Hindrance: it has other bytes, or belongs to somebody else; it is as it was.
        OSError: it is as it was.
    """
    if not can_belong(temporary, like.owner and (state.st_uid, state.st_gid)):
        raise Hindrance("it belongs to another user or group, and a copy of it would not; do it as root")
    copy_file(path, temporary, replace(like, owner=None), attributes=False)
    try:
        if not unchanged(state, state_of(path)):
            raise Hindrance("it changed while it was copied")
        os.replace(temporary, path)  # noqa: PTH105
    except (OSError, Hindrance):
        discard(temporary)
        raise
    sync_folder(path.parent)


def _rename(path: Path, target: Path, state: os.stat_result) -> None:
    """Move a file of somebody else's within its file system, so that it stays his.

    What appears as ``target`` between the look and the next line would be overwritten, as by ``publish``.
    """
    if state_of(target) is not None:
        raise FileExistsError(errno.EEXIST, "File exists", str(target))
    if not unchanged(state, state_of(path)):
        raise Hindrance("it changed while it was moved")
    try:
        os.rename(path, target)  # noqa: PTH104
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        why = "it belongs to another user or group, and a copy on another disk would not"
        raise Hindrance(f"{why}; do it as root, or with a --quarantine on the same disk") from error
    if unchanged(state, state_of(target)):
        with contextlib.suppress(OSError):  # after a crash it is here or there, and either is whole
            _sync(target)
        return
    if state_of(path) is None:
        with contextlib.suppress(OSError):
            os.rename(target, path)  # noqa: PTH104
            raise Hindrance("it changed while it was moved")
    raise Hindrance(f"it changed while it was moved; it is kept as {target}")


def _sync(path: Path) -> None:
    """Have a file and its name on disk; on FAT a new name has no bytes before the file itself is written."""
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)


def _give(path: Path, owner: tuple[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # we are not root; files have no owners here; Windows
        os.chown(path, *owner)
