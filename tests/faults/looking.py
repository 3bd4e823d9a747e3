"""The process that the kill tests of duplicates start and kill: find the duplicates of a catalogue, in small blocks."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from indexer import candidates, comparing, duplicates, fingerprints, planting
from indexer.catalogue import Catalogue
from indexer.files import atomic_write
from tests.embedders import ColourEmbedder

BLOCK, AT_ONCE, PLANTED = 3, 4, 12


def shrink() -> None:
    """Make blocks so small that a few pictures have several."""
    candidates.BLOCK, planting.BLOCK, comparing._AT_ONCE, planting.PLANTED = BLOCK, BLOCK, AT_ONCE, PLANTED


class Process:
    """Says on standard output how far it is, and waits to be killed at the moment that it was told.

    Args:
        moment: such as "look 2", the second time that the bar of looking moves; "" never comes.
    """

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self._times: Counter[str] = Counter()

    def say(self, what: str) -> None:
        """Count a moment and say it."""
        self._times[what] += 1
        line = f"{what} {self._times[what]}"
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
        if line == self._moment:
            sys.stdin.read()

    @contextmanager
    def bars(self, what: str, unit: str) -> Iterator[object]:
        """Progress bars that are moments."""
        yield lambda done, total, refused: self.say(what)

    @contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """Writing a file, with a moment before it has its name."""
        with atomic_write(path) as file:
            yield file
            file.flush()
            self.say(f"writing {path.parent.name if path.parent.name in ('looked', 'pairs') else path.stem}")


def main() -> None:
    """Find the duplicates of ``argv[1]``, and wait at the moment ``argv[2]``."""
    shrink()
    process = Process(sys.argv[2])
    for room in (fingerprints, comparing, duplicates):
        room.atomic_write = process.writing
    with Catalogue.open(Path(sys.argv[1]), embedder=ColourEmbedder()) as catalogue:
        duplicates.find(catalogue, bars=process.bars)


if __name__ == "__main__":
    main()
