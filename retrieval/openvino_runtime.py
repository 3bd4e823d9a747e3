"""The network run by OpenVINO on the CPU; the only door to openvino and nncf."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import queue
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from retrieval.conversions import Conversions
from retrieval.errors import EmbedderError, InputError
from retrieval.machine import cores, version
from retrieval.network import Network, on_cpu
from retrieval.runtimes import Runtime, Site

BATCH: Final = 8
CALIBRATION: Final = 64
"""Images that 8-bit numbers are calibrated with, at most; half as many at least."""


class OpenVinoRuntime:
    """Runs a compiled model, each call side by side in a request of its own.

    Attributes:
        at_once: streams of the model; each has its share of the cores.
        batch: images of a call.
    """

    def __init__(self, model: Any, *, precision: str, at_once: int) -> None:
        core = _core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EmbedderError("this processor has no bfloat16")
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": at_once,
                "INFERENCE_NUM_THREADS": cores(),
                # Decoding shares the cores; a pinned thread would wait while another core is free.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self.at_once, self.batch = at_once, BATCH
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(at_once):
            self._requests.put(compiled.create_infer_request())

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """See ``Runtime.run``."""
        request = self._requests.get()
        try:
            vectors = request.infer({0: np.ascontiguousarray(pixels)}, share_outputs=True)[0]
            # A new array: the request's own is written again by the next call. With 8-bit numbers it is also not
            # quite of length 1.
            unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            return unit
        finally:
            self._requests.put(request)


def float32(network: Network, site: Site) -> Runtime:
    """float32 throughout, also where the processor could do with less."""
    return OpenVinoRuntime(_model(network, site.conversions), precision="f32", at_once=site.at_once)


def bf16(network: Network, site: Site) -> Runtime:
    """bfloat16 products, summed in float32.

    Raises:
        EmbedderError: the processor has no bfloat16.
    """
    return OpenVinoRuntime(_model(network, site.conversions), precision="bf16", at_once=site.at_once)


def int8(network: Network, site: Site) -> Runtime:
    """8-bit weights and features, calibrated once on images of the user (nncf's post-training quantisation).

    Raises:
        InputError: it was not calibrated before and there are no images to do it with.
    """
    return OpenVinoRuntime(_quantised(network, site), precision="f32", at_once=site.at_once)


def _model(network: Network, conversions: Conversions) -> Any:
    folder = conversions.fetch(f"openvino-{version('openvino')}", lambda folder: _convert(network, folder))
    return _core().read_model(folder / "model.xml")


def _convert(network: Network, folder: Path) -> None:
    import torch

    openvino = _openvino()
    example = torch.zeros(2, network.height, network.width, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that are constant here
        model = openvino.convert_model(on_cpu(network), example_input=example)
    model.reshape({0: openvino.PartialShape([-1, network.height, network.width, 3])})
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _quantised(network: Network, site: Site) -> Any:
    openvino = _openvino()

    def make(folder: Path) -> None:
        if site.sample is None or len(site.sample) < CALIBRATION // 2:
            raise InputError(
                f"int8 has to be calibrated once, on {CALIBRATION // 2} images or more: "
                "index so many with --runtime int8 first"
            )
        with _no_telemetry(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            import nncf

            nncf.set_log_level(logging.ERROR)
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA runtime is found"
            images: Iterable[np.ndarray] = [image[None] for image in site.sample[:CALIBRATION]]
            transformer = hasattr(network.backbone, "blocks") and hasattr(network.backbone, "patch_embed")
            quantised = nncf.quantize(
                _model(network, site.conversions),
                nncf.Dataset(images),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                fast_bias_correction=False,
                subset_size=CALIBRATION,
            )
        openvino.save_model(quantised, folder / "model.xml", compress_to_fp16=False)

    name = f"openvino-{version('openvino')}-int8-nncf-{version('nncf')}"
    return _core().read_model(site.conversions.fetch(name, make) / "model.xml")


@functools.cache
def _core() -> Any:
    """The one core of the process.

    Each core gives its thread a signal stack and puts the former one back when it dies; where two do not die in the
    order opposite to their birth, a freed stack stays in place and the next signal (Ctrl-C, a child's end) ends Python.
    """
    return _openvino().Core()


def _openvino() -> Any:
    with _no_telemetry():
        import openvino
    return openvino


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Keep OpenVINO's converter and nncf, imported within, from reporting to their makers what is converted here."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    # A module that is None cannot be imported, and they then take a stub of their own.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
