"""The network run by torch itself: eager or compiled, float32 or bfloat16, on CPU or CUDA."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch

from retrieval.errors import EmbedderError
from retrieval.network import Network
from retrieval.runtimes import Runtime, Site

# Feature maps of more pictures outgrow the heaps that glibc gives a thread (64 MiB) and are mapped anew each time.
CPU_BATCH: Final = 8
CUDA_BATCH: Final = 64


class TorchRuntime:
    """Runs a module.

    Attributes:
        at_once: two on CUDA, where the host prepares the next batch while one is computed.
        batch: 8 on the CPU, 64 on CUDA.
    """

    def __init__(self, network: Any, device: str, *, compiled: bool = False) -> None:
        # One compilation for any number of images, and one for a single one; height and width are fixed.
        self._network, self._device = torch.compile(network) if compiled else network, device
        self._compiled = compiled
        on_cpu = device == "cpu"
        self.at_once, self.batch = (1, CPU_BATCH) if on_cpu else (2, CUDA_BATCH)
        # OpenMP raises a team of threads for every thread that computes; one thread is enough.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="torch") if on_cpu else None

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """See ``Runtime.run``.

        Raises:
            EmbedderError: the device has no memory left.
        """
        return self._thread.submit(self._run, pixels).result() if self._thread else self._run(pixels)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels)
        try:
            with torch.inference_mode():
                if self._device != "cpu":
                    batch = batch.pin_memory().to(self._device, non_blocking=True)
                if self._compiled and len(batch) > 1:
                    torch._dynamo.mark_dynamic(batch, 0)
                vectors: np.ndarray = self._network(batch).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise EmbedderError(f"{self._device} has no memory left for {len(pixels)} images at once") from error
        return vectors


def eager(network: Network, site: Site) -> Runtime:
    """float32 in channels-last, up to several times faster on a CPU than the default layout, and never much slower."""
    return TorchRuntime(_placed(network, site), site.device)


def eager_bf16(network: Network, site: Site) -> Runtime:
    """bfloat16 weights and features; pooling's result is normalised in float32."""
    return TorchRuntime(_halved(network, site), site.device)


def compiled(network: Network, site: Site) -> Runtime:
    """``torch.compile`` of ``eager``; the first batch takes up to a minute."""
    return TorchRuntime(_placed(network, site), site.device, compiled=True)


def compiled_bf16(network: Network, site: Site) -> Runtime:
    """``torch.compile`` of ``eager_bf16``."""
    return TorchRuntime(_halved(network, site), site.device, compiled=True)


def _placed(network: Network, site: Site) -> Any:
    if site.device != "cpu":
        # TF32 keeps 10 bits of 23, and this is the reference that all are held to; bfloat16 is not touched by it.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    return network.to(site.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _halved(network: Network, site: Site) -> Any:
    half = copy.deepcopy(network)
    half.backbone.to(torch.bfloat16)
    return _placed(half, site)
