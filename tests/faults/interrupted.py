"""Runs that end at the n-th call of the system, as a kill or a failing disk would end them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer.catalogue import Catalogue
from indexer.files import write_error
from indexer.items import VersionedTable
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from tests.embedders import ColourEmbedder
from tests.indexer.files import FILES, GO, catalogue_of, decided, write

CALLS = (
    "link",
    "replace",
    "rename",
    "unlink",
    "fsync",
    "write",
    "mkdir",
    "rmdir",
    "chmod",
    "utime",
    "open",
    "ftruncate",
)
"""Of ``os``: all that writing goes through, but for the commits of Delta tables, which are counted too."""


class Killed(BaseException):
    """The process is no more; nothing that it would still do happens."""


@contextmanager
def ending(at: int, how: Callable[[], None], *, lasting: bool, refused: int | None = None) -> Iterator[list[str]]:
    """Call ``how`` in place of the call number ``at``, a write having written half; yields the names of the calls.

    Args:
        at: counted from 0.
        how: raises, or does not return.
        lasting: whether all later calls end so too.
        refused: the error of every hard link, as between two file systems or where there are none.
    """
    made: list[str] = []

    def end(name: str) -> None:
        try:
            how()
        except OSError as error:
            if name not in CALLS:  # a table words its errors
                raise write_error(Path(name), error) from error
            raise

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **kept: Any) -> Any:
            made.append(name)
            number = len(made) - 1
            if number == at and name == "write":
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if number == at or (lasting and number > at):
                end(name)
            if refused is not None and name == "link":
                raise OSError(refused, os.strerror(refused))
            result = real(*arguments, **kept)
            if name in ("append", "remove"):  # a commit may be made and its maker killed before it knows
                made.append(f"after {name}")
                if len(made) - 1 == at or (lasting and len(made) - 1 > at):
                    end(name)
            return result

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, counted(name, getattr(os, name)))
        for name in ("append", "remove"):
            patched.setattr(VersionedTable, name, counted(name, getattr(VersionedTable, name)))
        yield made


def main() -> None:
    """Apply or undo in the catalogue beside the photos at ``argv[1]``, and be killed at call ``argv[4]``."""
    place, verb, action, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    if not place.exists():
        catalogue_of(place / "catalogue", write(place / "photos", FILES)).close()
    with Catalogue.open(place / "catalogue", embedder=ColourEmbedder()) as catalogue:
        with ending(at, lambda: os.kill(os.getpid(), signal.SIGKILL), lasting=False) as made:
            if verb == "apply":
                apply_decisions(catalogue, decided(GO), action=action)
            else:
                undo(catalogue)
        print(len(made))


if __name__ == "__main__":
    main()
