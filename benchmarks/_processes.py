"""Processes of their own for what is measured, and what runs in those of the benchmark of embedding.

Nothing heavy is imported in the process that starts them: what it holds would count in their peak memory.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.conversions import Conversions
from retrieval.machine import cores
from retrieval.runtimes import Runtime, Site, build_runtime

if TYPE_CHECKING:
    from retrieval.network import Network

PLAIN = "torch, default layout"
CALIBRATION = 64
SEED = 0
WARM_UP = 0.5  # seconds


@dataclass(frozen=True)
class Row:
    """What a process measures.

    Attributes:
        backbone: timm's name of it.
        runtime: a key of ``RUNTIMES``, or ``PLAIN``.
        at_once: streams, of a runtime that has them.
        device: "cpu" or "cuda".
        pixels: a ``.npy`` file, (n, height, width, 3) uint8.
        weights: None for those an installed package carries.
        sample: images that speed is measured on, over and over.
        seconds: of a round, about.
    """

    backbone: str
    runtime: str
    at_once: int
    device: str
    pixels: Path
    weights: Path | None
    sample: int
    seconds: float


class Process:
    """A fresh process in which the methods of an object are called."""

    def __init__(self, worker: Any) -> None:
        methods = multiprocessing.get_context("spawn")
        self._pipe, theirs = methods.Pipe()
        self._process = methods.Process(target=_serve, args=(theirs, worker), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, task: str, timeout: float) -> Any:
        """Call a method.

        Raises:
            RuntimeError: it raised, took too long, or the process died.
        """
        try:
            self._pipe.send(task)
            if not self._pipe.poll(timeout):
                raise RuntimeError(f"took more than {timeout:g} s")
            failure, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise RuntimeError(f"its process died with status {self._process.exitcode}") from error
        if failure is not None:
            raise RuntimeError(failure)
        return answer

    def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(5)
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, worker: Any) -> None:
    while (task := pipe.recv()) is not None:
        try:
            failure, answer = None, getattr(worker, task)()
        except Exception as error:  # a runtime's library raises of everything
            failure, answer = " ".join(f"{type(error).__name__}: {error}".split())[:160], None
        pipe.send((failure, answer))


@dataclass(frozen=True)
class Preparation:
    """Decodes photos and prepares them for a backbone, and makes weights for one that has none."""

    backbone: str
    photos: Sequence[Path]
    pixels: Path
    folder: Path

    def prepare(self) -> tuple[Path | None, str]:
        """Write (n, height, width, 3) uint8 to ``pixels``; give the file of weights, if any, and a clause on them."""
        import safetensors.torch
        import torch

        from retrieval.backbones import BUNDLED, build_backbone, load_backbone
        from retrieval.images import decode

        weights, origin = None, "pretrained weights"
        if self.backbone not in BUNDLED:
            torch.manual_seed(SEED)
            weights, origin = self.folder / "random.safetensors", f"RANDOM WEIGHTS (seed {SEED}: nothing is recognised)"
            safetensors.torch.save_file(build_backbone(self.backbone).state_dict(), weights)
        _, preprocessing, _ = load_backbone(self.backbone, weights=weights)
        prepare = preprocessing.preparation()
        shape = (len(self.photos), preprocessing.height, preprocessing.width, 3)
        written = np.lib.format.open_memmap(self.pixels, mode="w+", dtype=np.uint8, shape=shape)

        def fill(place: int) -> None:
            picture = decode(self.photos[place].read_bytes(), size=preprocessing.shorter_side)
            written[place] = prepare(picture.pixels)

        with ThreadPoolExecutor(cores()) as threads:
            for _ in threads.map(fill, range(len(self.photos))):
                pass
        written.flush()
        return weights, f"{origin}, {preprocessing.width} px"


@dataclass(frozen=True)
class Limit:
    """What the device could do if a network were one matrix product."""

    backbone: str
    weights: Path | None
    device: str

    def images(self) -> dict[str, float]:
        """Give images/s at the rate of a square product, by precision: the best of several, warm."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from retrieval.backbones import load_backbone

        model, preprocessing, _ = load_backbone(self.backbone, weights=self.weights)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.zeros(1, 3, preprocessing.height, preprocessing.width))
        found = {}
        side = 2048 if self.device == "cpu" else 8192
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            matrix = torch.ones(side, side, dtype=dtype, device=self.device)
            seconds = []
            for _ in range(8):
                if self.device != "cpu":
                    torch.cuda.synchronize()
                began = time.perf_counter()
                torch.mm(matrix, matrix)
                if self.device != "cpu":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - began)
            found[name] = 2 * side**3 / min(seconds) / counter.get_total_flops()
        return found


@dataclass
class Runner:
    """Runs one runtime on prepared pixels."""

    row: Row

    def build(self) -> float:
        """Build the runtime and embed a batch; gives the seconds, without those of reading the weights."""
        from retrieval.architecture import Architecture
        from retrieval.backbones import load_backbone
        from retrieval.memory import keep_freed_memory
        from retrieval.network import Network

        row = self.row
        if row.device == "cpu":
            keep_freed_memory()  # as the embedder does
        model, preprocessing, _ = load_backbone(row.backbone, weights=row.weights)
        network = Network(model, Architecture(row.backbone), preprocessing).eval()
        sample = self._read(0, CALIBRATION)
        began = time.perf_counter()
        site = Site(row.device, Conversions(row.backbone), at_once=row.at_once, sample=sample)
        self._runtime = _plain(network, site) if row.runtime == PLAIN else build_runtime(row.runtime, network, site)
        self._runtime.run(sample[: self._runtime.batch])
        seconds = time.perf_counter() - began
        self._threads = ThreadPoolExecutor(self._runtime.at_once)
        return seconds

    def warm(self) -> None:
        """Find out how many batches make a round."""
        batch, done = self._runtime.batch, 0
        self._sample = self._read(0, max(row_count := self.row.sample, batch))
        self._parts = [self._sample[at : at + batch] for at in range(0, row_count - batch + 1, batch)] or [self._sample]
        began = time.perf_counter()
        while (seconds := time.perf_counter() - began) < WARM_UP or done == 0:
            done += self._embed(self._runtime.at_once)
        self._count = max(2 * self._runtime.at_once, round(self.row.seconds * done / seconds / batch))

    def round(self) -> float:
        """Give images/s of one round."""
        began = time.perf_counter()
        images = self._embed(self._count)
        return images / (time.perf_counter() - began)

    def peak(self) -> float:
        """Give the most memory this process has had so far, MiB."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def vectors(self) -> np.ndarray:
        """Embed all photos: (n, dim) float32."""
        batch = self._runtime.batch
        images = len(np.load(self.row.pixels, mmap_mode="r"))

        def run(start: int) -> np.ndarray:
            return self._runtime.run(self._read(start, batch))

        return np.concatenate(list(self._threads.map(run, range(0, images, batch))))

    def _embed(self, batches: int) -> int:
        parts: Iterator[np.ndarray] = itertools.islice(itertools.cycle(self._parts), batches)
        return sum(len(vectors) for vectors in self._threads.map(self._runtime.run, parts))

    def _read(self, start: int, count: int) -> np.ndarray:
        # Mapped and let go each time: pages that stay mapped would count as memory of this process.
        return np.array(np.load(self.row.pixels, mmap_mode="r")[start : start + count])


def _plain(network: Network, site: Site) -> Runtime:
    """torch in float32 as it comes: weights and features with the channel before height and width."""
    import torch

    from retrieval.torch_runtime import TorchRuntime

    first = next(module for module in network.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    # The network gets pixels with the channel last, and convolutions keep what they get.
    first.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return TorchRuntime(network.to(site.device), site.device)
