"""How fast is each runtime, what memory and preparation does it need, and are its vectors those of torch?

Every runtime is a fresh process with nothing in it but the network. All processes of a backbone stay and take turns,
round after round, so that a busy minute of the machine hits them alike; the best round counts. They get pixels that
were prepared before, in batches of the runtime's own size, from as many threads as the runtime takes. A runtime that
has streams is tried with one and with one a core, and the faster of the two is printed.

"First" is the seconds to build a runtime and embed its first batch when nothing was converted before, "again" the
same in a second process; peak memory is of that second process, up to the end of the rounds. "Of product" is the share
of the images/s there would be if the network's multiplications were one square matrix product of torch, in the same
precision. Drift is the cosine to what "torch" says of the same pixels. Recall@1 is measured as ``lookalike evaluate``
does: test list against training list of the Grocery Store Dataset, same class, exact search. A backbone that no
installed package has weights for gets random ones with a fixed seed: its Recall@1 says only whether the runtimes agree.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._processes import PLAIN, Limit, Preparation, Process, Row, Runner
from benchmarks.machine import load, photo_folder, print_machine
from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled
from retrieval.machine import cores
from retrieval.manifest import read_manifest
from retrieval.report import Report
from retrieval.runtime_choice import Drift, drift
from retrieval.runtimes import REFERENCE, RUNTIMES, missing_module

DEFAULT = "tf_efficientnet_lite0"
BACKBONES = (DEFAULT, "resnet50", "vit_small_patch16_224")
SLOW_IMAGES = 600  # of each list, for all backbones but the default
GOAL = 3.0
REST = 0.3  # seconds before each turn: idle OpenMP threads of the one before spin for a while


@dataclass
class Result:
    """What was found of a row; ``failure`` says why nothing was."""

    row: Row
    failure: str | None = None
    first: float = float("nan")
    again: float = float("nan")
    rates: list[float] = field(default_factory=lambda: [0.0])
    peak: float = float("nan")
    limit: float = float("nan")
    away: Drift | None = None
    report: Report | None = None


def main(arguments: list[str]) -> None:
    """Print a table a backbone, and the verdict."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks embedding", description=__doc__)
    parser.add_argument("--source", type=Path, default=photo_folder() / "grocery" / "dataset")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), metavar="NAME")
    parser.add_argument("--runtimes", nargs="+", default=[PLAIN, *RUNTIMES], choices=[PLAIN, *RUNTIMES], metavar="NAME")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--images", type=int, help=f"of each list; default: all for {DEFAULT}, else {SLOW_IMAGES}")
    parser.add_argument("--sample", type=int, default=256, help="photos that drift and speed are measured on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round, about")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a runtime may take for one step")
    given = parser.parse_args(arguments)
    packages = ["torch", "timm", "openvino", "nncf", "onnxruntime", *(["tensorrt"] if given.device == "cuda" else [])]
    print_machine(packages)
    for backbone in given.backbones:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LOOKALIKE_CACHE"] = str(Path(folder, "conversions"))
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder, "compiled"))
            results = _measure(backbone, given, Path(folder))
        _print(results)
        if backbone == DEFAULT:
            verdict = _verdict(results)
    if DEFAULT in given.backbones:
        print(verdict)


def _measure(backbone: str, given: argparse.Namespace, folder: Path) -> list[Result]:
    gallery, queries = _choose(given.source, given.images or (None if backbone == DEFAULT else SLOW_IMAGES))
    pixels = folder / "pixels.npy"
    preparing = Process(Preparation(backbone, [path for path, _ in [*gallery, *queries]], pixels, folder))
    weights, origin = preparing.ask("prepare", given.timeout)
    preparing.stop()
    print(f"{backbone} on {given.device}, {origin}; {len(gallery)} photos of train.txt, {len(queries)} of test.txt")
    print(f"{load()}; {given.rounds} rounds of about {given.seconds:g} s in turn, best of each", flush=True)
    limiting = Process(Limit(backbone, weights, given.device))
    limits: dict[str, float] = limiting.ask("images", given.timeout)
    limiting.stop()
    names = list(dict.fromkeys([REFERENCE, *given.runtimes]))
    results = []
    for name in [PLAIN, *RUNTIMES]:
        if name not in names:
            continue
        why = _unusable(name, given.device)
        streams = name != PLAIN and RUNTIMES[name].streams and why is None
        for at_once in sorted({1, cores()}) if streams else [1]:
            row = Row(backbone, name, at_once, given.device, pixels, weights, given.sample, given.seconds)
            precision = "bfloat16" if name.endswith("bf16") or name == "tensorrt" else "float32"
            limit = float("nan") if name.endswith("int8") else limits[precision]
            results.append(Result(row, failure=why, limit=limit))
    processes = _start(results, given.timeout)
    _each(results, processes, "warm", given.timeout, lambda result, _: None)
    for _ in range(given.rounds):
        _each(results, processes, "round", given.timeout, lambda result, rate: result.rates.append(rate))
    _each(results, processes, "peak", given.timeout, lambda result, peak: setattr(result, "peak", peak))
    best = [
        _fastest([other for other in results if other.row.runtime == name]) for name in dict.fromkeys([PLAIN, *names])
    ]
    results = [result for result in results if any(result is kept for kept in best)]
    vectors: dict[int, np.ndarray] = {}
    _each(results, processes, "vectors", given.timeout, lambda result, found: vectors.update({id(result): found}))
    for process in processes.values():
        process.stop()
    reference = next(vectors[id(result)] for result in results if result.row.runtime == REFERENCE)
    sample = np.linspace(0, len(reference) - 1, min(given.sample, len(reference))).astype(int)
    for result in results:
        if (found := vectors.get(id(result))) is not None:
            result.away = drift(found[sample], reference[sample])
            result.report = _recall(found, gallery, queries)
    others = reference[sample] @ reference[sample].T
    spread = (others.sum() - np.trace(others)) / (others.size - len(sample))
    print(f"cosine of two different photos: {spread:.3f} on average; the nearer to 1, the less drift says\n")
    return results


def _start(results: list[Result], timeout: float) -> dict[int, Process]:
    """Build each runtime in a process that ends, then in one that stays."""
    converted: dict[str, float] = {}
    for result in results:
        name = result.row.runtime
        if result.failure is None and name not in converted:
            once = {id(result): Process(Runner(result.row))}
            _each([result], once, "build", timeout, lambda result, seconds: setattr(result, "first", seconds))
            for process in once.values():
                process.stop()
            converted[name] = result.first
        result.first = converted.get(name, float("nan"))
    processes = {id(result): Process(Runner(result.row)) for result in results if result.failure is None}
    _each(results, processes, "build", timeout, lambda result, seconds: setattr(result, "again", seconds))
    return processes


def _each(
    results: Sequence[Result],
    processes: dict[int, Process],
    task: str,
    timeout: float,
    keep: Callable[[Result, Any], object],
) -> None:
    """Give every process that lives its turn; one that fails is stopped, and its row says why."""
    for result in results:
        process = processes.get(id(result))
        if process is None:
            continue
        time.sleep(REST)
        try:
            keep(result, process.ask(task, timeout))
        except RuntimeError as error:
            result.failure = str(error)
            processes.pop(id(result)).stop()


def _fastest(results: list[Result]) -> Result | None:
    return max(results, key=lambda result: max(result.rates) if result.failure is None else -1.0, default=None)


def _unusable(name: str, device: str) -> str | None:
    if name == PLAIN:
        return None
    if device not in RUNTIMES[name].devices:
        return f"not for {device}"
    missing = missing_module(name)
    return None if missing is None else f"{missing} is not installed"


def _choose(source: Path, images: int | None) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Path and label of the gallery's and the queries' photos: all, or some, with every class of a query in both."""
    lists = []
    for name in ("train.txt", "test.txt"):
        manifest = read_manifest(source / name)
        pairs = zip(*(manifest.table.column(column).to_pylist() for column in ("uri", "label")), strict=True)
        lists.append([(manifest.root / uri, label) for uri, label in pairs])
    gallery, queries = lists
    if images is None:
        return gallery, queries
    queries = [queries[place * len(queries) // images] for place in range(min(images, len(queries)))]
    classes: dict[str, list[tuple[Path, str]]] = {label: [] for _, label in queries}
    for photo in gallery:
        classes.setdefault(photo[1], []).append(photo)
    turns = itertools.zip_longest(*classes.values())  # one of each class, then another of each
    return [photo for turn in turns for photo in turn if photo is not None][:images], queries


def _recall(vectors: np.ndarray, gallery: list[tuple[Path, str]], queries: list[tuple[Path, str]]) -> Report:
    there, asked = (
        Labelled(part, [str(path) for path, _ in photos], [label for _, label in photos])
        for part, photos in ((vectors[: len(gallery)], gallery), (vectors[len(gallery) :], queries))
    )
    question = Question("Grocery", "test to train, same class, exact search", ks=[1])
    return evaluate(asked, there, question=question, embedder={})[0]


def _print(results: list[Result]) -> None:
    torch = next(result for result in results if result.row.runtime == REFERENCE)
    print(f"{'runtime':22s} {'streams':>7s} {'images/s':>9s} {'ratio':>7s} {'of product':>10s} {'first s':>8s}", end="")
    print(f" {'again s':>8s} {'peak MiB':>9s} {'drift: mean':>11s} {'least':>8s} {'R@1 %':>7s}  95 % interval")
    for result in results:
        row, report, away = result.row, result.report, result.away
        if result.failure is not None or report is None or away is None:
            print(f"{row.runtime:22s} left out: {result.failure}")
            continue
        rate, recall = max(result.rates), report.figure("Recall@1")
        low, high = recall.low or recall.value, recall.high or recall.value
        print(
            f"{row.runtime:22s} {row.at_once:7d} {rate:9.1f} {rate / max(torch.rates):6.2f}x "
            f"{_share(rate / result.limit):>10s} {result.first:8.1f} "
            f"{result.again:8.1f} {result.peak:9.0f} {away.mean:11.6f} {away.minimum:8.5f} "
            f"{100 * recall.value:7.2f}  {100 * low:.2f} to {100 * high:.2f}"
            + ("" if row.runtime == PLAIN or RUNTIMES[row.runtime].bounded else "  only when asked for")
            + ("" if away.bounded else "  beyond the bound")
        )
    if torch.report is not None:
        print(f"{torch.report.queries} queries of {torch.report.classes} classes in {torch.report.gallery} photos\n")


def _share(part: float) -> str:
    return "-" if part != part else f"{part:.0%}"


def _verdict(results: list[Result]) -> str:
    torch = next(result for result in results if result.row.runtime == REFERENCE)
    fit = [
        result
        for result in results
        if result.away is not None
        and result.away.bounded
        and result.row.runtime != PLAIN
        and RUNTIMES[result.row.runtime].bounded
    ]
    best = _fastest(fit)
    if best is None or best.report is None or torch.report is None:
        return f"no verdict for {DEFAULT}"
    ratio = max(best.rates) / max(torch.rates)
    apart = best.report.figure("Recall@1").value - torch.report.figure("Recall@1").value
    return (
        f"{DEFAULT}: {best.row.runtime} / torch eager channels-last = {ratio:.2f}x (goal {GOAL:g}x), "
        f"Recall@1 {100 * apart:+.2f} percentage points"
    )
