"""The process that the kill tests start and kill: index a folder with the NumPy embedder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder


def say(line: str) -> None:
    """Write a line whole: several threads do, and the test counts lines."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


class Paced(ColourEmbedder):
    """Says on standard output how far it is, so that the test kills by progress and not by the clock."""

    def embed(self, images, *, prepared=False):
        if "slow" in sys.argv:
            # Long enough that the reader is ahead and the main thread waits for this, as with a real network.
            for _ in range(60):
                super().embed(images)
            self.seen -= 60 * len(images)
        vectors = super().embed(images)
        say(f"embedded {len(images)}")
        return vectors


def main() -> None:
    """Index ``argv[1]`` into ``argv[2]``, committing every ``argv[3]`` images."""
    source, place, commit_every = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    embedder = Paced()
    if (place / "catalogue.json").exists():
        catalogue = Catalogue.open(place, embedder=embedder)
    else:
        catalogue = Catalogue.create(place, embedder)
    say("open")
    with catalogue:
        summary = ingest(
            catalogue,
            read_manifest(source),
            commit_every=commit_every,
            progress=lambda done, *_: say(str(done)),
        )
    say(f"done {summary.items}")


if __name__ == "__main__":
    main()
