"""Does the audit find labels that are wrong?

- The synthetic sarees: 20 labels are wrong on purpose, half of them within one tradition. An embedder is trained on
  them as a user would, wrong labels and all; precision and recall of what the audit calls a wrong label.
- Cars196-train-half: some photos stand there twice, byte for byte, with two labels; which is counted here apart.

    python -m benchmarks audit --draw sarees
    lookalike train sarees/sarees.csv --out trained --budget 4m
    python -m benchmarks audit --sarees sarees --embedder trained
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from benchmarks.machine import photo_folder, print_machine
from indexer.auditing import CONFLICT, WRONG, Audit, audit
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.opening import load_embedder
from retrieval.columns import Columns
from retrieval.datasets.sarees import draw_sarees
from retrieval.manifest import Manifest, read_manifest
from retrieval.uncertainty import interval_of_share


def main(arguments: Sequence[str]) -> None:
    """Print a row an embedder for the sarees, and a line for the cars."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="only draw the sarees there")
    parser.add_argument("--seed", type=int, default=7, help="of the drawing")
    parser.add_argument("--sarees", type=Path, metavar="FOLDER", help="where they were drawn")
    parser.add_argument("--embedder", action="append", default=[], help="trained on them; may be repeated")
    parser.add_argument("--cars", type=Path, default=photo_folder() / "cars" / "cars196-train-half.parquet")
    given = parser.parse_args(arguments)
    if given.draw is not None:
        print(draw_sarees(given.draw, seed=given.seed))
        return
    print_machine(["numpy", "torch", "cleanlab"])
    if given.sarees is not None:
        print(
            f"{'sarees, labels wrong on purpose':34s}{'agreed':>8s}{'found':>7s}  precision, recall (95 %), named right"
        )
        for name in ["default", *given.embedder]:
            _sarees(given.sarees, name)
    _cars(given.cars)


def _audited(manifest: Manifest, embedder: str) -> tuple[Audit, float]:
    """Index a source, audit it, and say how many seconds the audit took."""
    with TemporaryDirectory() as folder:
        loaded = load_embedder(embedder, None, None, device="cpu", runtime="auto")
        with Catalogue.create(Path(folder) / "audited", loaded, device="cpu") as catalogue:
            ingest(catalogue, manifest)
            began = time.perf_counter()
            return audit(catalogue), time.perf_counter() - began


def _sarees(folder: Path, embedder: str) -> None:
    manifest = read_manifest(folder / "sarees.csv")
    ids = dict(zip(*(manifest.table.column(name).to_pylist() for name in ("uri", "id")), strict=True))
    with (folder / "ground_truth.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "wrong-label"]
    planted = {ids[row["image"]]: row["true_label"] for row in rows}
    found, seconds = _audited(manifest, embedder)
    said = {row["id"]: row["suggested"] for row in found.findings.to_pylist() if row["finding"] == WRONG}
    hits = said.keys() & planted.keys()
    named = sum(said[id] == planted[id] for id in hits)
    low, high = interval_of_share(len(hits), len(planted))
    print(
        f"{embedder:34s}{found.agreed:8.1%}{len(said):7d}  {len(hits) / max(1, len(said)):.2f}, "
        f"{len(hits) / len(planted):.2f} ({low:.2f} to {high:.2f}), {named} of {len(hits)}; missed "
        f"{sorted(planted.keys() - hits) or 'none'}; {seconds:.1f} s",
        flush=True,
    )


def _cars(path: Path) -> None:
    table = pq.read_table(path, columns=["file", "label", "image"])
    of_bytes: dict[bytes, list[tuple[str, str]]] = {}
    for file, label, image in zip(*(table.column(at).to_pylist() for at in range(3)), strict=True):
        of_bytes.setdefault(hashlib.sha256(image).digest(), []).append((file, label))
    planted = {
        frozenset((first[0], second[0]))
        for same in of_bytes.values()
        for first, second in combinations(same, 2)
        if first[1] != second[1]
    }
    manifest = read_manifest(path, columns=Columns(image="image", id="file", label="label"))
    found, seconds = _audited(manifest, "default")
    pairs = [frozenset((row["id"], row["other"])) for row in found.findings.to_pylist() if row["finding"] == CONFLICT]
    print(
        f"\ncars: {len(planted & set(pairs))} of {len(planted)} pairs of equal bytes with two labels found, "
        f"{len(set(pairs) - planted)} others called so; {found.items:,} items of {found.labels} labels, "
        f"{found.agreed:.1%} agreed; {seconds:.1f} s"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
