"""Every runtime gives the vectors of a plain timm script, for any number of images, from any thread."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from retrieval import runtimes
from retrieval.architecture import Architecture
from retrieval.backbones import load_backbone
from retrieval.conversions import Conversions
from retrieval.errors import EmbedderError, InputError, MissingExtraError
from retrieval.network import Network
from retrieval.runtime_choice import drift
from retrieval.runtimes import ALIASES, AUTO, RUNTIMES, Site, build_runtime, missing_module, resolve, variants
from retrieval.torch_runtime import TorchRuntime

BACKBONES = ["test_efficientnet", "test_vit", "test_resnet", "test_convnext"]
ON_CPU = [
    pytest.param(name, marks=pytest.mark.slow if "compile" in name else ())
    for name, kind in RUNTIMES.items()
    if "cpu" in kind.devices
]


def network_of(name: str, folder: Path) -> Network:
    torch.manual_seed(3)
    path = folder / f"{name}.safetensors"
    safetensors.torch.save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    backbone, preprocessing, _ = load_backbone(name, weights=path)
    return Network(backbone, Architecture(name), preprocessing).eval()


def pictures(network: Network, count: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures, as photos are, and not noise that averages to one and the same."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3)).astype(np.float32)
    rows = np.linspace(0, 5, network.height).round().astype(int)
    columns = np.linspace(0, 5, network.width).round().astype(int)
    return np.ascontiguousarray(coarse[:, rows][:, :, columns]).astype(np.uint8)


def plain(network: Network, pixels: np.ndarray) -> np.ndarray:
    """What one writes with timm alone."""
    mean, std = network.mean.cpu(), network.std.cpu()
    with torch.inference_mode():
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous() / 255 - mean) / std
        vectors = network.backbone(images).numpy()
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return network_of("test_efficientnet", tmp_path_factory.mktemp("weights"))


@pytest.fixture
def site(tmp_path: Path, tiny: Network) -> Site:
    return Site("cpu", Conversions("0" * 64, cache=tmp_path), sample=pictures(tiny, 32, seed=9))


def usable(name: str) -> None:
    if (missing := missing_module(name)) is not None:
        pytest.skip(f"{missing} is not installed")


def build(name: str, network: Network, site: Site):
    usable(name)
    try:
        return build_runtime(name, network, site)
    except EmbedderError as error:
        pytest.skip(str(error))  # a processor without bfloat16


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", ON_CPU)
def test_a_runtime_gives_what_timm_gives(name: str, backbone: str, tmp_path: Path) -> None:
    network = network_of(backbone, tmp_path)
    pixels = pictures(network, 13)
    site = Site("cpu", Conversions("1" * 64, cache=tmp_path), sample=pictures(network, 32, seed=1))
    runtime = build(name, network, site)
    expected = plain(network, pixels)
    got = np.concatenate([runtime.run(pixels[:8]), runtime.run(pixels[8:])])
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-3 if "bf16" in name else 1e-5)
    away = drift(got, expected)
    if RUNTIMES[name].bounded:
        assert away.bounded, away
    else:
        assert away.mean > 0.9, away
    if "bf16" not in name and "int8" not in name:
        np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("name", ["torch", "openvino", "onnxruntime"])
def test_any_number_of_images_from_several_threads(name: str, tiny: Network, site: Site) -> None:
    runtime = build(name, tiny, Site("cpu", site.conversions, at_once=2))
    pixels = pictures(tiny, 36, seed=4)
    expected = plain(tiny, pixels)
    parts = [slice(start, start + count) for count, start in zip(range(1, 9), np.cumsum(range(8)), strict=True)]
    got: dict[int, np.ndarray] = {}

    def run(at: int) -> None:
        got[at] = runtime.run(pixels[parts[at]])

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, part in enumerate(parts):
        np.testing.assert_allclose(got[at], expected[part], atol=2e-5)


def test_an_answer_stays_as_it_was_given(tiny: Network, site: Site) -> None:
    runtime = build("openvino", tiny, site)
    pixels = pictures(tiny, 8)
    first = runtime.run(pixels[:4])
    kept = first.copy()
    runtime.run(pixels[4:])
    np.testing.assert_array_equal(first, kept)


def test_a_conversion_is_used_again_and_a_damaged_one_made_anew(tiny: Network, site: Site) -> None:
    before = build("openvino", tiny, site).run(pictures(tiny, 2))
    (folder,) = site.conversions.folder.iterdir()
    made = (folder / "model.bin").stat().st_mtime_ns
    np.testing.assert_array_equal(build("openvino", tiny, site).run(pictures(tiny, 2)), before)
    assert (folder / "model.bin").stat().st_mtime_ns == made
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:-100])
    np.testing.assert_array_equal(build("openvino", tiny, site).run(pictures(tiny, 2)), before)


def test_eight_bits_want_images_to_calibrate_with(tiny: Network, site: Site) -> None:
    usable("openvino-int8")
    with pytest.raises(InputError, match="calibrated once, on 32 images or more"):
        build_runtime("openvino-int8", tiny, Site("cpu", site.conversions))
    with pytest.raises(InputError, match="32 images or more"):  # one query must not calibrate it for good
        build_runtime("openvino-int8", tiny, Site("cpu", site.conversions, sample=pictures(tiny, 31)))


def test_nothing_is_reported_to_the_makers_of_a_runtime(tmp_path: Path) -> None:
    usable("openvino-int8")
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.retrieval.test_runtimes import network_of, pictures
from retrieval.conversions import Conversions
from retrieval.runtimes import Site, build_runtime
folder = Path(sys.argv[1])
network = network_of("test_resnet", folder)
site = Site("cpu", Conversions("2" * 64, cache=folder / "cache"), sample=pictures(network, 32))
build_runtime("openvino-int8", network, site)
sent = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
assert not sent, sent
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home)}
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), root]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # it goes before the --json of commands
    assert not (home / "intel").exists()


def test_a_signal_after_runtimes_went_in_any_order_does_not_end_python(tmp_path: Path) -> None:
    usable("openvino-int8")
    script = """
import signal, sys
from pathlib import Path
from tests.retrieval.test_runtimes import network_of, pictures
from retrieval.conversions import Conversions
from retrieval.runtimes import Site, build_runtime
folder = Path(sys.argv[1])
network = network_of("test_resnet", folder)
site = Site("cpu", Conversions("2" * 64, cache=folder / "cache"), sample=pictures(network, 32))
first, *others = [build_runtime(name, network, site) for name in ("openvino", "openvino-int8", "openvino")]
del first
del others
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_every_row_leads_to_a_function_and_says_what_it_needs(name: str) -> None:
    kind = RUNTIMES[name]
    module, _, function = kind.build.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert (kind.extra is not None) == bool(kind.modules)
    assert set(kind.tried) <= set(kind.devices)
    assert kind.help


def test_names_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(AUTO, "cpu") == AUTO
    assert resolve("torch", "cuda:1") == "torch"
    with pytest.raises(InputError, match="there is no runtime 'fast'; choose auto, torch, "):
        resolve("fast", "cpu")
    with pytest.raises(InputError, match="the runtime tensorrt runs on cuda, not on cpu"):
        resolve("tensorrt", "cpu")
    with pytest.raises(InputError, match="the runtime openvino runs on cpu, not on cuda:0"):
        resolve("openvino", "cuda:0")
    monkeypatch.setattr(runtimes, "missing_module", lambda name: "nncf" if "int8" in name else None)
    with pytest.raises(MissingExtraError, match=r"needs the package nncf.*lookalike\[int8\]"):
        resolve("int8", "cpu")
    assert ALIASES["int8"] in RUNTIMES


def test_auto_tries_what_is_installed_and_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "cores", lambda: 4)
    monkeypatch.setattr(runtimes, "missing_module", lambda name: None)
    here = variants("cpu")
    assert here[0] == ("torch", 1)
    assert {("openvino-bf16", 1), ("openvino-bf16", 4), ("onnxruntime", 1)} <= set(here)
    assert not {name for name, _ in here} & {"openvino-int8", "torch-compile", "tensorrt"}
    there = {name for name, _ in variants("cuda:0")}
    assert there == {"torch", "torch-bf16", "torch-compile", "torch-compile-bf16", "onnxruntime", "tensorrt"}
    monkeypatch.setattr(runtimes, "missing_module", lambda name: "x" if "torch" not in name else None)
    assert variants("cpu") == [("torch", 1), ("torch-bf16", 1)]


def test_a_provider_that_onnx_runtime_lacks_is_no_silent_change_to_the_cpu(tiny: Network, site: Site) -> None:
    usable("onnxruntime")
    with pytest.raises(EmbedderError, match="has no TensorrtExecutionProvider"):
        build_runtime("tensorrt", tiny, Site("cuda:0", site.conversions))


def test_the_road_to_a_device_copies_from_pinned_memory_and_back(
    tiny: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logic of the CUDA path, with the CPU standing for the device."""
    road: list[str] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: road.append("pinned") or self)

    def device(batch: torch.Tensor) -> torch.Tensor:
        road.append("computed")
        return tiny(batch)

    runtime = TorchRuntime(device, "meta")
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *to_what, **how: (
            (road.append(f"sent {how}"), self)[1] if to_what == ("meta",) else to(self, *to_what, **how)
        ),
    )
    pixels = pictures(tiny, 3)
    np.testing.assert_allclose(runtime.run(pixels), plain(tiny, pixels), atol=2e-5)
    assert road == ["pinned", "sent {'non_blocking': True}", "computed"]
    assert (runtime.at_once, runtime.batch) == (2, 64)


def test_a_full_device_is_told_in_a_sentence() -> None:
    def full(batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EmbedderError, match="cpu has no memory left for 2 images at once"):
        TorchRuntime(full, "cpu").run(np.zeros((2, 4, 4, 3), np.uint8))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, kind in RUNTIMES.items() if "cuda" in kind.devices])
def test_cuda_keeps_to_the_bound(name: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    network = network_of("test_vit", tmp_path)
    pixels = pictures(network, 100)
    expected = plain(network, pixels)
    runtime = build(name, network, Site("cuda", Conversions("3" * 64, cache=tmp_path)))
    got = np.concatenate([runtime.run(pixels[:64]), runtime.run(pixels[64:])])
    assert drift(got, expected).bounded
