"""Runtimes: what runs the network. ``RUNTIMES`` has a row for each; the embedder runs one of them.

``torch`` is the reference in float32; every other runtime's vectors are held against it (``retrieval.runtime_choice``).
A runtime's room is imported when it is built, so that none has to be installed but torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from retrieval.conversions import Conversions
from retrieval.errors import InputError, MissingExtraError
from retrieval.machine import cores

if TYPE_CHECKING:
    from retrieval.network import Network

REFERENCE: Final = "torch"
AUTO: Final = "auto"


class Runtime(Protocol):
    """A network, ready to run.

    Attributes:
        at_once: calls of ``run`` side by side that still add speed.
        batch: images a call takes at the best speed.
    """

    at_once: int
    batch: int

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Embed (n, height, width, 3) uint8 pixels: (n, dim) float32, L2-normalised. Safe in any thread."""
        ...


@dataclass(frozen=True)
class Site:
    """What a runtime is built for.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        conversions: where converted networks are kept.
        at_once: calls side by side wanted; a runtime without a choice ignores it.
        sample: (n, height, width, 3) uint8 pixels of the user, to calibrate 8-bit numbers with; None: there are none.
    """

    device: str
    conversions: Conversions
    at_once: int = 1
    sample: np.ndarray | None = None


@dataclass(frozen=True)
class RuntimeKind:
    """A row of ``RUNTIMES``.

    Attributes:
        build: "module:function", called as ``function(network, site)``.
        help: a clause for the command line's help and the documentation.
        devices: where it runs.
        modules: what must be importable, in order.
        extra: that brings them; None: part of every installation.
        bounded: whether vectors that drift beyond the bound are refused.
        tried: the devices on which ``auto`` tries it; compiling takes a minute on a CPU.
        streams: whether it has a choice of calls side by side.
        compiles: whether it takes long to start in every process.
        quick: whether ``auto`` tries it also when a thorough search would cost more than it saves.
    """

    build: str
    help: str
    devices: tuple[str, ...] = ("cpu",)
    modules: tuple[str, ...] = ()
    extra: str | None = None
    bounded: bool = True
    tried: tuple[str, ...] = ("cpu",)
    streams: bool = False
    compiles: bool = False
    quick: bool = False


_BOTH: Final = ("cpu", "cuda")
RUNTIMES: Final[dict[str, RuntimeKind]] = {
    "torch": RuntimeKind("retrieval.torch_runtime:eager", "the reference, float32", _BOTH, tried=_BOTH, quick=True),
    "torch-bf16": RuntimeKind(
        "retrieval.torch_runtime:eager_bf16", "torch in bfloat16", _BOTH, tried=_BOTH, quick=True
    ),
    "torch-compile": RuntimeKind(
        "retrieval.torch_runtime:compiled", "torch.compile, float32", _BOTH, tried=("cuda",), compiles=True
    ),
    "torch-compile-bf16": RuntimeKind(
        "retrieval.torch_runtime:compiled_bf16", "torch.compile, bfloat16", _BOTH, tried=("cuda",), compiles=True
    ),
    "openvino": RuntimeKind(
        "retrieval.openvino_runtime:float32",
        "OpenVINO, float32",
        modules=("openvino",),
        extra="openvino",
        streams=True,
        quick=True,
    ),
    "openvino-bf16": RuntimeKind(
        "retrieval.openvino_runtime:bf16",
        "OpenVINO, bfloat16, on processors that have it",
        modules=("openvino",),
        extra="openvino",
        streams=True,
        quick=True,
    ),
    "openvino-int8": RuntimeKind(
        "retrieval.openvino_runtime:int8",
        "OpenVINO, 8-bit numbers, only when asked for",
        modules=("openvino", "nncf"),
        extra="int8",
        bounded=False,
        tried=(),
        streams=True,
    ),
    "onnxruntime": RuntimeKind(
        "retrieval.onnx_runtime:float32",
        "ONNX Runtime, float32",
        _BOTH,
        modules=("onnxruntime", "onnxscript"),
        extra="onnx",
        tried=_BOTH,
    ),
    "tensorrt": RuntimeKind(
        "retrieval.onnx_runtime:tensorrt",
        "TensorRT through ONNX Runtime, bfloat16",
        ("cuda",),
        modules=("onnxruntime", "onnxscript", "tensorrt"),
        extra="tensorrt",
        tried=("cuda",),
        compiles=True,
    ),
}
ALIASES: Final = {"int8": "openvino-int8"}


def resolve(name: str, device: str) -> str:
    """Check a runtime's name, as a user gives it.

    Args:
        name: "auto", a key of ``RUNTIMES`` or of ``ALIASES``.
        device: where it is to run; "auto" leaves that open.

    Returns:
        "auto", or a key of ``RUNTIMES`` that runs on ``device`` and whose packages are installed.

    Raises:
        InputError: there is no such runtime, or not on this device.
        MissingExtraError: a package it needs is not installed.
    """
    if name == AUTO:
        return name
    name = ALIASES.get(name, name)
    kind = RUNTIMES.get(name)
    if kind is None:
        raise InputError(f"there is no runtime {name!r}; choose auto, {', '.join(RUNTIMES)} or int8")
    if device.split(":")[0] not in (*kind.devices, AUTO):
        raise InputError(f"the runtime {name} runs on {' and '.join(kind.devices)}, not on {device}")
    if (missing := missing_module(name)) is not None:
        raise MissingExtraError(missing, str(kind.extra), f"the runtime {name}")
    return name


def missing_module(name: str) -> str | None:
    """The first module that a runtime needs and that is not installed."""
    return next((module for module in RUNTIMES[name].modules if importlib.util.find_spec(module) is None), None)


def build_runtime(name: str, network: Network, site: Site) -> Runtime:
    """Build a runtime of ``RUNTIMES``; whatever its library raises goes through.

    Raises:
        InputError: it needs a sample to calibrate with and there is none.
    """
    module, _, function = RUNTIMES[name].build.partition(":")
    build: Callable[[Network, Site], Runtime] = getattr(importlib.import_module(module), function)
    return build(network, site)


def variants(device: str, names: Sequence[str] | None = None, *, thorough: bool = True) -> list[tuple[str, int]]:
    """List what to try on a device: runtimes, each with the numbers of calls side by side.

    Args:
        device: where.
        names: keys of ``RUNTIMES``; None: those that ``auto`` tries and that are installed, the reference first.
        thorough: also those that take long to prepare, and several calls side by side.
    """
    kind = device.split(":")[0]
    if names is None:
        fit = [name for name, row in RUNTIMES.items() if kind in row.tried and (thorough or row.quick)]
        names = [name for name in fit if missing_module(name) is None]
    several = {1, cores()} if thorough else {1}
    return [(name, at_once) for name in names for at_once in sorted(several if RUNTIMES[name].streams else {1})]
