"""How fast do JPEGs become arrays, how fast the network's input, and does the way change what is found?

All contenders take the same photos from memory, in one process, in turn, round after round; each one's best round
counts. An embedder has been created before, as when indexing, so freed memory is kept. "Input" is decoding and
resizing to a shorter side of 256, of which the network's 224 x 224 pixels are a view; each contender resizes in its
own best way: OpenCV's bicubic does not average, libvips' thumbnail uses Lanczos, lookalike's is the embedder's own
and crops as well. Quality is that of the default
embedder, against decoding whole with Pillow; "same" is the share of photos whose pixels are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._decoders import REFERENCE, Contender, contenders, one_thread, own_small, own_whole
from benchmarks.machine import photo_folder, print_machine
from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled
from retrieval.manifest import read_manifest

LARGE = (3000, 4000)


def main(arguments: list[str]) -> None:
    """Print images/s and quality of each contender, on photos as they are and on large ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks decoding", description=__doc__)
    parser.add_argument("--source", type=Path, default=photo_folder() / "grocery" / "dataset")
    parser.add_argument("--images", type=int, default=400, help="photos of train.txt and of test.txt")
    parser.add_argument("--large", type=int, default=6, help=f"photos enlarged to {LARGE[0]} x {LARGE[1]}")
    parser.add_argument("--rounds", type=int, default=5, help="each contender runs so often; the best counts")
    given = parser.parse_args(arguments)
    import torch

    print_machine(["pillow", "simplejpeg", "torch", "torchvision"])
    judge = _Judge()
    ways = contenders()
    gallery, queries = (_chosen(given.source / name, given.images) for name in ("train.txt", "test.txt"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of each contender's own; the threads that are compared are ours
    photos = [data for data, _, _ in queries]
    speeds = _measure(ways, photos, given.rounds)
    large = [_enlarged(data) for data in photos[:: max(1, len(photos) // given.large)][: given.large]]
    large_speeds = _measure(ways, large, given.rounds)
    torch.set_num_threads(threads)
    print("on a machine with a load of its own, two threads have less than two cores")
    quality = {name: judge.quality(way, gallery, queries) for name, way in ways.items()}
    print(f"\n{len(photos)} photos of the test set; Recall@1 of {judge.measured} of them in {len(gallery)} of training")
    _print(speeds, quality)
    print(f"\n{len(large)} photos enlarged to {LARGE[0]} x {LARGE[1]}, of {len(large[0]) / 2**20:.1f} MiB")
    unlabelled = [(data, str(place), "") for place, data in enumerate(large)]
    _print(large_speeds, {name: judge.quality(way, [], unlabelled) for name, way in ways.items()})


Photo = tuple[bytes, str, str]  # file, uri, label


def _chosen(source: Path, images: int) -> list[Photo]:
    manifest = read_manifest(source)
    step = max(1, len(manifest.table) // images)
    rows = manifest.table.select(["uri", "label"]).to_pylist()[::step][:images]
    return [((manifest.root / row["uri"]).read_bytes(), row["uri"], row["label"]) for row in rows]


def _enlarged(data: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).resize(LARGE, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def _measure(contenders: dict[str, Contender], photos: Sequence[bytes], rounds: int) -> dict[str, list[float]]:
    """Give images/s of each row: decoding with 1 and 2 threads, the input with 1 and 2 threads; nan: not measured."""
    tasks: dict[tuple[str, int], Callable[[], object]] = {}
    methods = multiprocessing.get_context("spawn")  # threads are running, so nothing is forked
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=methods, initializer=one_thread) as processes,
    ):
        for name, way in contenders.items():
            for place, work in enumerate((way.whole, way.small)):
                tasks[name, 2 * place] = _alone(work, photos)
                tasks[name, 2 * place + 1] = _together(threads, work, photos)
        chunk = max(1, min(8, len(photos) // 4))
        for place, work in ((1, own_whole), (3, own_small)):
            tasks["lookalike, 2 processes", place] = _together(processes, work, photos, chunk)
        for task in tasks.values():
            task()
        best = dict.fromkeys(tasks, float("inf"))
        for _ in range(rounds):
            for key, task in tasks.items():
                began = time.perf_counter()
                task()
                best[key] = min(best[key], time.perf_counter() - began)
    names = dict.fromkeys(name for name, _ in tasks)
    return {name: [len(photos) / best.get((name, at), float("nan")) for at in range(4)] for name in names}


def _alone(work: Callable[[bytes], object], photos: Sequence[bytes]) -> Callable[[], object]:
    def run() -> None:
        for data in photos:
            work(data)

    return run


def _together(
    pool: ThreadPoolExecutor | ProcessPoolExecutor,
    work: Callable[[bytes], object],
    photos: Sequence[bytes],
    chunk: int = 1,
) -> Callable[[], object]:
    def run() -> None:
        for _ in pool.map(work, photos, chunksize=chunk):
            pass

    return run


class _Judge:
    """Says what a way of decoding does to the vectors, and to what is found."""

    def __init__(self) -> None:
        from retrieval.embedder import Embedder

        self._embedder = Embedder.create(device="cpu", runtime="torch")  # the reference
        self._known: dict[bytes, np.ndarray] = {}  # SHA-256 of pixels → vector, since most ways give the same pixels
        self.measured = 0  # queries whose class has a photo in the gallery

    def quality(self, way: Contender, gallery: Sequence[Photo], queries: Sequence[Photo]) -> list[float]:
        """Give the share of same pixels, then mean and least cosine and Recall@1, decoded and as input."""
        everything = [*gallery, *queries]
        reference = contenders([REFERENCE])[REFERENCE]
        right = self._vectors(reference.whole, everything)
        same = [np.array_equal(way.whole(data), reference.whole(data)) for data, _, _ in everything]
        figures = [float(np.mean(same))]
        for work in (way.whole, way.small):
            vectors = self._vectors(work, everything, prepared=way.prepared and work is way.small)
            cosines = np.einsum("nd,nd->n", right, vectors)
            found = self._recall(vectors, gallery, queries) if gallery else float("nan")
            figures += [float(cosines.mean()), float(cosines.min()), found]
        return figures

    def _vectors(
        self, work: Callable[[bytes], np.ndarray], photos: Sequence[Photo], *, prepared: bool = False
    ) -> np.ndarray:
        keys = []
        for start in range(0, len(photos), 32):
            pictures = [np.array(work(data), order="C") for data, _, _ in photos[start : start + 32]]
            names = [
                hashlib.sha256(repr((picture.shape, prepared)).encode() + picture.tobytes()).digest()
                for picture in pictures
            ]
            new = {name: picture for name, picture in zip(names, pictures, strict=True) if name not in self._known}
            found = self._embedder.embed(list(new.values()), prepared=prepared)
            self._known.update(zip(new, found, strict=True))
            keys += names
        return np.stack([self._known[key] for key in keys])

    def _recall(self, vectors: np.ndarray, gallery: Sequence[Photo], queries: Sequence[Photo]) -> float:
        parts = vectors[: len(gallery)], vectors[len(gallery) :]
        there, asked = (
            Labelled(part, [uri for _, uri, _ in photos], [label for _, _, label in photos])
            for part, photos in zip(parts, (gallery, queries), strict=True)
        )
        report, _ = evaluate(asked, there, question=Question("Grocery", "test to train", ks=[1]), embedder={})
        self.measured = report.queries
        return report.figure("Recall@1").value


def _print(speeds: dict[str, list[float]], quality: dict[str, list[float]]) -> None:
    print(f"{'images/s':24s} {'decode':>16s} {'input':>16s}   {'same':>5s}  {'decode: cosine, R@1':>24s}", end="")
    print(f"  {'input: cosine, R@1':>24s}\n{'threads':24s}" + f" {1:7d} {2:8d}" * 2 + " " * 8, end="")
    print(f"  {'mean':>8s} {'least':>8s} {'%':>6s}" * 2)
    for name, rates in speeds.items():
        line = f"{name:24s}" + "".join(f" {rate:{7 + at % 2}.1f}" for at, rate in enumerate(rates))
        if name in quality:
            same, *rest = quality[name]
            line += f"   {100 * same:4.0f}%"
            for mean, least, found in (rest[:3], rest[3:]):
                line += f"  {mean:8.5f} {least:8.5f} {100 * found:6.2f}"
        print(line.replace("nan", "  -"))
