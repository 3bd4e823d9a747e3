"""How long until something happens: ``lookalike --help``, and opening and searching a catalogue of 100,000 items."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.machine import print_machine


class _Noise:
    """Stands for an embedder: the benchmark writes vectors itself."""

    digest = "0" * 64
    image_size = 256
    runtime = "none"
    at_once = 1

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def prepare(self, image: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is embedded here")

    def tune(self, sample: Sequence[np.ndarray], *, expected: int, notice: Callable[[str], object]) -> None:
        raise AssertionError("nothing is embedded here")

    def embed(self, images: Sequence[np.ndarray], *, prepared: bool = False) -> np.ndarray:
        raise AssertionError("nothing is embedded here")

    def save(self, folder: Path, *, write: Callable[[Path, bytes], object]) -> None:
        write(folder / "model.json", b"{}")
        write(folder / "weights.safetensors", b"")


def main(arguments: list[str]) -> None:
    """Print the median of several fresh processes for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    print_machine(["numpy", "pyarrow", "deltalake"])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "catalogue"
        _fill(place, given.items, given.dim)
        opening = (
            "from pathlib import Path; from indexer.catalogue import Catalogue; "
            f"c = Catalogue.open(Path({str(place)!r}))"
        )
        print(f"{'what':64s} {'median s':>9s}")
        for what, command in {
            "lookalike --help, whole process": [sys.executable, "-m", "webui.cli", "--help"],
            f"open {given.items:,} items and read them, whole process": [sys.executable, "-c", opening + "; c.items()"],
            f"open and search by id, {given.dim} dimensions, whole process": [
                sys.executable,
                "-c",
                opening + "; from indexer.search import search; search(c, ids=['item 7'])",
            ],
        }.items():
            print(f"{what:64s} {_median(command, given.rounds):9.3f}")
        for what, seconds in _inside(place, given.rounds).items():
            print(f"{what:64s} {seconds:9.3f}")


def _inside(place: Path, rounds: int) -> dict[str, float]:
    from indexer.catalogue import Catalogue
    from indexer.search import search

    times: dict[str, list[float]] = {}

    def clock(what: str, action: Callable[[], object]) -> None:
        began = time.perf_counter()
        action()
        times.setdefault(what, []).append(time.perf_counter() - began)

    for _ in range(rounds):
        catalogue = Catalogue.open(place)
        clock("  of which: read the items", catalogue.items)
        clock("  of which: open the index", catalogue.index)
        clock("  of which: search by id", lambda catalogue=catalogue: search(catalogue, ids=["item 7"]))  # type: ignore[misc]
        catalogue.close()
    return {what: statistics.median(values) for what, values in times.items()}


def _median(command: list[str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _fill(place: Path, items: int, dim: int) -> None:
    from indexer.catalogue import Catalogue

    rng = np.random.default_rng(0)
    catalogue = Catalogue.create(place, _Noise(dim))
    keys = [rng.bytes(32) for _ in range(items)]
    with catalogue.writing():
        for start in range(0, items, 10_000):
            part = keys[start : start + 10_000]
            vectors = rng.standard_normal((len(part), dim), dtype=np.float32)
            catalogue.vectors.append(part, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            names = [f"item {n}" for n in range(start, start + len(part))]
            catalogue.commit(
                pa.table(
                    {
                        "row": pa.nulls(len(part), pa.int64()),
                        "id": names,
                        "uri": names,
                        "source": ["/photos"] * len(part),
                        "sha256": pa.array(part, pa.binary()),
                        "width": pa.array([640] * len(part), pa.int32()),
                        "height": pa.array([480] * len(part), pa.int32()),
                        "label": [f"class {n % 500}" for n in range(start, start + len(part))],
                        "price": rng.random(len(part)),
                    }
                )
            )
        catalogue.settle()
    catalogue.close()
