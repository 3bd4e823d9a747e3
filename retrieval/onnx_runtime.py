"""The network run by ONNX Runtime: on the CPU, on CUDA, and by TensorRT; the only door to onnxruntime."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from retrieval.errors import EmbedderError
from retrieval.machine import cores, version
from retrieval.network import Network, on_cpu
from retrieval.runtimes import Runtime, Site

CPU_BATCH: Final = 4
CUDA_BATCH: Final = 64


class OnnxRuntime:
    """Runs an inference session.

    Attributes:
        at_once: one; a session spreads a call over the cores by itself.
        batch: 4 on the CPU, 64 on CUDA.
    """

    def __init__(self, model: Path, providers: list[Any], *, batch: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        # Threads that spin while they wait take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
        if wanted not in onnxruntime.get_available_providers():
            raise EmbedderError(f"the installed ONNX Runtime has no {wanted}")
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        # A provider that fails to start is left out without an error.
        if wanted not in self._session.get_providers():
            raise EmbedderError(f"ONNX Runtime could not start its {wanted}")
        self.at_once, self.batch = 1, batch

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """See ``Runtime.run``."""
        vectors: np.ndarray = self._session.run(None, {"pixels": np.ascontiguousarray(pixels)})[0]
        return vectors


def float32(network: Network, site: Site) -> Runtime:
    """float32 on the CPU or on CUDA."""
    model = _model(network, site)
    if site.device == "cpu":
        return OnnxRuntime(model, ["CPUExecutionProvider"], batch=CPU_BATCH)
    # TF32 would be faster and is off, since this row promises float32.
    cuda = ("CUDAExecutionProvider", {"device_id": _number(site), "use_tf32": 0})
    return OnnxRuntime(model, [cuda, "CPUExecutionProvider"], batch=CUDA_BATCH)


def tensorrt(network: Network, site: Site) -> Runtime:
    """bfloat16 by TensorRT, whose engines are kept with the conversions."""
    engines = site.conversions.folder / f"tensorrt-{version('tensorrt')}"
    options = {
        "device_id": _number(site),
        "trt_bf16_enable": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
    }
    providers = [("TensorrtExecutionProvider", options), "CUDAExecutionProvider", "CPUExecutionProvider"]
    return OnnxRuntime(_model(network, site), providers, batch=CUDA_BATCH)


def _model(network: Network, site: Site) -> Path:
    name = f"onnx-torch-{version('torch')}"
    return site.conversions.fetch(name, lambda folder: _export(network, folder)) / "model.onnx"


def _export(network: Network, folder: Path) -> None:
    import torch

    example = torch.zeros(2, network.height, network.width, 3, dtype=torch.uint8)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                on_cpu(network),
                (example,),
                folder / "model.onnx",
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
                input_names=["pixels"],
                output_names=["vectors"],
                external_data=True,
                verbose=False,
            )
    finally:
        chatter.setLevel(level)


def _number(site: Site) -> int:
    return int(site.device.partition(":")[2] or 0)
