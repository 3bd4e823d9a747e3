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
        wanted = _name(providers)
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
    providers: list[Any] = ["CPUExecutionProvider"]
    if site.device != "cpu":
        providers = [_cuda(site), *providers]
    _name(providers)
    return OnnxRuntime(_model(network, site), providers, batch=CPU_BATCH if site.device == "cpu" else CUDA_BATCH)


def tensorrt(network: Network, site: Site) -> Runtime:
    """bfloat16 by TensorRT, which builds an engine in each process: some minutes, for any number of images."""
    shape = f"{network.height}x{network.width}x3"
    options = {
        "device_id": _number(site),
        "trt_bf16_enable": True,
        # Without these the engine is built again for every number of images that is new.
        "trt_profile_min_shapes": f"pixels:1x{shape}",
        "trt_profile_opt_shapes": f"pixels:{CUDA_BATCH}x{shape}",
        "trt_profile_max_shapes": f"pixels:{CUDA_BATCH}x{shape}",
    }
    providers = [("TensorrtExecutionProvider", options), _cuda(site), "CPUExecutionProvider"]
    _name(providers)
    import tensorrt  # noqa: F401, loads the libraries that the provider looks for

    return OnnxRuntime(_model(network, site), providers, batch=CUDA_BATCH)


def _cuda(site: Site) -> tuple[str, dict[str, Any]]:
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries lie in packages, where the loader does not look
    # TF32 would be faster and is off, since float32 is promised.
    return "CUDAExecutionProvider", {"device_id": _number(site), "use_tf32": 0}


def _name(providers: list[Any]) -> str:
    """Name the first provider; raises EmbedderError when this build of ONNX Runtime lacks it."""
    import onnxruntime

    wanted = str(providers[0] if isinstance(providers[0], str) else providers[0][0])
    if wanted not in onnxruntime.get_available_providers():
        raise EmbedderError(f"the installed ONNX Runtime has no {wanted}")
    return wanted


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
