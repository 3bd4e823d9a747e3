"""Backbones by name, and where their weights come from: what is wrong is one sentence, told soon."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging

from retrieval.backbones import BUNDLED, build_backbone, check_backbone, load_backbone, synchronised
from retrieval.errors import EmbedderError, InputError
from tests.weights import random_weights

TINY = "test_efficientnet"
HUB = r"https://huggingface\.co/timm/test_efficientnet\.r160_in1k"


@pytest.mark.parametrize("name", [TINY, "test_resnet", "test_vit"])
def test_batchnorms_that_see_all_processes_keep_what_the_network_does(name: str) -> None:
    torch.manual_seed(0)
    model = build_backbone(name).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        before = model(images)
        if name == "test_vit":
            assert torch.equal(synchronised(model)(images), before)
            return
        own = synchronised(model)
        assert any(isinstance(part, torch.nn.SyncBatchNorm) for part in own.modules())
        assert torch.allclose(own(images), before, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnt50", "resnet50"),
        ("resnt50.a1_in1k", "resnet50"),
        ("tf_efficientnet_lit0", "tf_efficientnet_lite0"),
        ("efficientnet_lit0", "tf_efficientnet_lite0"),  # its weights are at hand, those of efficientnet_lite0 are not
        ("efficientnet_b0x", "efficientnet_b0"),  # and this is not near enough to them
    ],
)
def test_a_misspelt_name(name: str, meant: str) -> None:
    with pytest.raises(InputError) as told:
        build_backbone(name)
    assert str(told.value) == f"timm has no backbone named {name!r} (did you mean {meant}?)"


def test_a_name_like_no_other() -> None:
    with pytest.raises(InputError, match=r"no backbone named 'qqq': timm.list_models\(\) lists"):
        check_backbone("qqq")


def test_a_name_is_checked_without_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    check_backbone("resnet50.a1_in1k")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that answers, keeps nothing here, and whose download fails; each can be changed."""
    it = SimpleNamespace(cached=None, answer=None, error=OSError("no route to host\nmore of it"), asked=[], levels=[])
    create = timm.create_model

    def ask(url: str, *, timeout: float) -> None:
        it.asked.append((url, timeout))
        if it.answer is not None:
            raise it.answer

    def download(name: str, **options: Any) -> Any:
        if not options.get("pretrained"):
            return create(name, **options)
        it.levels.append(hub_logging.get_verbosity())
        if it.error is not None:
            raise it.error
        return create(name, **{**options, "pretrained": False})

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: it.cached)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr(timm, "create_model", download)
    return it


def test_a_hub_that_does_not_answer_is_asked_once(hub: Any) -> None:
    hub.answer = ConnectionError("[Errno -3] Temporary failure in name resolution")
    with pytest.raises(EmbedderError) as told:
        load_backbone(TINY)
    assert str(told.value) == (
        "the pretrained weights of test_efficientnet could not be fetched from "
        "https://huggingface.co/timm/test_efficientnet.r160_in1k, which does not answer: connect to the network, or "
        "give a local safetensors file with --weights FILE"
    )
    assert len(hub.asked) == 1
    assert 0 < hub.asked[0][1] <= 10
    assert not hub.levels


def test_a_download_that_fails_says_why_without_class_names(hub: Any) -> None:
    with pytest.raises(EmbedderError, match=rf"fetched from {HUB} \(no route to host\): .*--weights FILE$") as told:
        load_backbone(TINY)
    assert "OSError" not in str(told.value)


def test_an_answer_that_is_an_error_is_left_to_the_download(hub: Any) -> None:
    hub.answer = HfHubHTTPError.__new__(HfHubHTTPError)
    with pytest.raises(EmbedderError, match="no route to host"):
        load_backbone(TINY)


def test_weights_in_the_cache_need_no_answer(hub: Any) -> None:
    hub.cached, hub.error = "/cache/model.safetensors", None
    assert load_backbone(TINY)[2]["weights"] == "hub"
    assert not hub.asked


def test_the_hubs_client_is_quiet_and_gets_its_voice_back(hub: Any) -> None:
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.INFO)
    try:
        with pytest.raises(EmbedderError):
            load_backbone(TINY)
        assert hub.levels == [logging.ERROR]
        assert hub_logging.get_verbosity() == logging.INFO
    finally:
        hub_logging.set_verbosity(before)


def test_a_package_that_has_them_is_named(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = type(BUNDLED["tf_efficientnet_lite1"])("no_such_package", "none", "", "lite1-weights")
    monkeypatch.setitem(BUNDLED, "tf_efficientnet_lite1", gone)
    with pytest.raises(EmbedderError, match="install the package lite1-weights, or give a local safetensors file"):
        load_backbone("tf_efficientnet_lite1")


def test_a_model_without_pretrained_weights(hub: Any) -> None:
    with pytest.raises(EmbedderError, match=r"timm has no pretrained weights of cs3darknet_s: .*--weights FILE"):
        load_backbone("cs3darknet_s")
    assert not hub.asked


def test_without_a_network_it_ends_soon_and_in_silence(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: who calls is refused, and nobody else can listen
        taken.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{taken.getsockname()[1]}"
        program = (
            "import time\n"
            "from retrieval.backbones import load_backbone\n"
            "began = time.monotonic()\n"
            "try:\n    load_backbone('resnet18')\n"
            "except Exception as error:\n    print(time.monotonic() - began, error)\n"
        )
        quiet = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        for name in ("HF_HUB_OFFLINE", "HF_HUB_VERBOSITY"):
            quiet.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**quiet, "HF_ENDPOINT": where, "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    seconds, _, said = done.stdout.partition(" ")
    assert done.stderr == ""
    assert f"of resnet18 could not be fetched from {where}/timm/resnet18.a1_in1k, which does not answer" in said
    assert float(seconds) < 20  # its client would wait for 46


def test_weights_of_another_backbone_name_the_one_they_do_not_fit(tmp_path: Path) -> None:
    path = random_weights(tmp_path, "test_resnet")
    with pytest.raises(EmbedderError) as told:
        load_backbone(TINY, weights=path)
    said = str(told.value)
    assert said.startswith(f"the weights in {path} do not fit the backbone {TINY}: they lack ")
    assert said.endswith("with --backbone, or give others with --weights")
    assert ". " not in said


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    path = random_weights(tmp_path, TINY)
    state = safetensors.torch.load_file(path)
    state["conv_stem.weight"] = torch.zeros(1, 3, 3, 3)
    safetensors.torch.save_file(state, path)
    with pytest.raises(EmbedderError, match=r"lack 0 of .* have 1 in another shape \(the first is conv_stem.weight\)"):
        load_backbone(TINY, weights=path)


def test_counters_of_batches_are_loaded_where_there_are_any(tmp_path: Path) -> None:
    path = random_weights(tmp_path, TINY)
    state = safetensors.torch.load_file(path)
    counter = next(name for name in state if name.endswith("num_batches_tracked"))
    state[counter] = torch.tensor(7)
    safetensors.torch.save_file(state, path)
    assert load_backbone(TINY, weights=path)[0].state_dict()[counter] == 7
    del state[counter]
    safetensors.torch.save_file(state, path)
    assert load_backbone(TINY, weights=path)[0].state_dict()[counter] == 0
