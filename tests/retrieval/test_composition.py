"""Networks to be trained: gradients everywhere, any size, and embedders made of them that come back as they were."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from retrieval.backbones import build_backbone
from retrieval.classification import softmax
from retrieval.conversions import Conversions
from retrieval.embedder import Embedder
from retrieval.errors import DamagedError, EmbedderError, InputError
from retrieval.frozen import frozen_like
from retrieval.model_card import card_of
from retrieval.runtimes import Site, build_runtime
from tests.retrieval.networks import (
    ALL,
    CLASSES,
    EACH,
    LAST,
    MAPS,
    SIZE,
    TOKENS,
    composed,
    images_of,
    pixels_of,
    shaken,
    trained,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize(("name", "attention", "pooling"), ALL)
def test_gradients_reach_every_parameter(name: str, attention: str, pooling: str, weights: Path) -> None:
    network = shaken(composed(name, weights, attention=attention, pooling=pooling)[0])
    for half in (False, True):  # as trained on CUDA
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            vectors = network.embed(images_of())
            assert vectors.dtype == torch.float32
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
            loss = torch.nn.functional.cross_entropy(network.logits(vectors), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        assert set(network.new_parameters()) >= {"head.weight", "projection.weight"}
        for what, value in network.named_parameters():
            if value.requires_grad:
                assert value.grad is not None and torch.isfinite(value.grad).all(), what
                # A covariance is the same whatever is added to all places.
                assert value.grad.abs().max() > 0 or (pooling, what) == ("covariance", "backbone.norm.bias"), what
    left_out = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert all(name.startswith("backbone.") for name in left_out)
    assert len(left_out) < 10  # the backbone's own head, where another pooling takes its place


@pytest.mark.parametrize(("name", "attention", "pooling"), EACH)
def test_an_embedder_comes_back_with_the_same_bits(
    name: str, attention: str, pooling: str, weights: Path, tmp_path: Path
) -> None:
    network = shaken(composed(name, weights, attention=attention, pooling=pooling)[0])
    embedder = trained(network, {"weights": "hub"})
    embedder.save(tmp_path)
    again = Embedder.load(tmp_path, device="cpu", runtime="torch")
    pixels = pixels_of()
    vectors = again.embed(list(pixels), prepared=True)
    assert again.digest == embedder.digest and again.description == embedder.description
    with torch.inference_mode():
        np.testing.assert_allclose(vectors, network(torch.from_numpy(pixels)).numpy(), atol=1e-5)
        logits = network.logits(torch.from_numpy(vectors))
    assert again.classes == CLASSES
    kept = again.logits(vectors.astype(np.float16))
    assert kept.dtype == np.float32
    np.testing.assert_allclose(softmax(kept), logits.softmax(1), atol=1e-3)
    assert np.abs(vectors @ vectors.T - 1).max() > 1e-4  # it tells pictures apart


@pytest.mark.parametrize(
    ("name", "attention", "pooling"), [row for row in EACH if row[0] != LAST or row[1] != "none" or row[2] == "max"]
)
def test_a_converted_network_gives_what_torch_gives(
    name: str, attention: str, pooling: str, weights: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    network = shaken(composed(name, weights, attention=attention, pooling=pooling)[0]).requires_grad_(False)
    runtime = build_runtime("openvino", network, Site("cpu", Conversions("1" * 64, cache=tmp_path)))
    pixels = pixels_of(5)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(runtime.run(pixels), expected, atol=2e-5)
    np.testing.assert_allclose(runtime.run(pixels[:1]), expected[:1], atol=2e-5)


def test_training_begins_from_the_pretrained_function(weights: Path) -> None:
    network = composed(MAPS, weights, dim=None, head="none", attention="cbam", pooling="attention")[0]
    frozen = composed(MAPS, weights, dim=None, head="none", pooling="average")[0]
    with torch.no_grad():
        torch.testing.assert_close(network.embed(images_of()), frozen.embed(images_of()))
        # A projection to fewer numbers keeps similarities as far as it can.
        wide = composed(MAPS, weights, dim=256, head="none", pooling="average")[0].embed(images_of())
        torch.testing.assert_close(wide @ wide.T, frozen.embed(images_of()) @ frozen.embed(images_of()).T)


def test_what_is_new_is_drawn_by_the_seed_alone(weights: Path) -> None:
    composed(MAPS, weights)  # writes the weights
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = composed(MAPS, weights, attention="parts", seed=1)[0]
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(6)
    same = composed(MAPS, weights, attention="parts", seed=1)[0].tensors()
    other = composed(MAPS, weights, attention="parts", seed=2)[0].tensors()
    for name, value in first.tensors().items():
        assert value.equal(same[name])
    for name in ("lookalike.attention.maps.weight", "lookalike.projection.weight", "lookalike.head.weight"):
        assert not first.tensors()[name].equal(other[name])


@pytest.mark.parametrize("name", [MAPS, LAST, TOKENS])
def test_training_goes_through_several_sizes(name: str, weights: Path) -> None:
    network = composed(name, weights)[0]
    step = network.multiple
    assert step == (16 if name == TOKENS else 1)
    for size in (48, 96):
        assert network.embed(images_of(2, size)).shape == (2, 24)
    assert (network.height, network.preprocessing.width) == (SIZE, SIZE)
    if name == TOKENS:
        assert network.backbone.pos_embed.shape[1] == 1 + 16
        with pytest.raises(InputError, match=r"test_vit takes no images of 50 x 50 pixels: .*divisible by patch size"):
            composed(name, weights, image_size=50)


def test_a_transformer_at_its_own_size_is_as_pretrained(weights: Path) -> None:
    network = composed(TOKENS, weights, image_size=160, dim=None, head="none", pooling="native")[0]
    plain = build_backbone(TOKENS)
    state = safetensors.torch.load_file(weights / f"{TOKENS}-0.safetensors")
    plain.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")})
    images = images_of(2, 160)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(plain((images - network.mean) / network.std), dim=1)
        torch.testing.assert_close(network.embed(images), expected)
    with pytest.raises(InputError, match="give test_efficientnet 1 place, and the pooling covariance needs 2"):
        composed(MAPS, weights, image_size=32, pooling="covariance")


def test_names_in_the_file_are_timms_and_ours(weights: Path, tmp_path: Path) -> None:
    network, provenance = composed(MAPS, weights, pooling="gem")
    trained(network, provenance).save(tmp_path)
    state = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    ours = {name for name in state if name.startswith("lookalike.")}
    assert ours == {
        "lookalike.head.weight",
        "lookalike.pooling.power",
        "lookalike.projection.bias",
        "lookalike.projection.weight",
    }
    assert state.keys() - ours == build_backbone(MAPS).state_dict().keys()
    written = json.loads((tmp_path / "model.json").read_text())
    assert written["format"] == 2
    assert written["architecture"] == {
        "backbone": MAPS,
        "pooling": "gem",
        "dim": 24,
        "projected": True,
        "head": "cosine",
        "classes": list(CLASSES),
    }
    card = card_of(written, "0")
    assert (card["projected"], card["head"], card["classes"], card["trained"]) == (True, "cosine", 3, True)
    assert "attention" not in card
    assert set(card) - {"projected", "head", "classes"} == set(card_of({}, "0"))


def test_training_may_go_on_after_an_embedder_was_made(weights: Path) -> None:
    network, provenance = composed(MAPS, weights)
    embedder = trained(network, provenance)
    before = embedder.embed(list(pixels_of()), prepared=True)
    with torch.no_grad():
        for value in network.backbone.parameters():
            value.add_(1.0)
    assert all(value.requires_grad for value in network.new_parameters().values())
    np.testing.assert_array_equal(embedder.embed(list(pixels_of()), prepared=True), before)
    assert trained(network, provenance).digest != embedder.digest


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda d, s: d["architecture"]["classes"].pop(),
            DamagedError,
            r"head.weight should be \(2, 24\) and is \(3, 24",
        ),
        (lambda d, s: d["architecture"].update(classes=["a", "a", "b"]), DamagedError, "no list of different names"),
        (lambda d, s: d["architecture"].update(dim=25), DamagedError, r"should be \(3, 25\) and is \(3, 24\)"),
        (lambda d, s: d["architecture"].update(colour=1), DamagedError, "unexpected keyword argument 'colour'"),
        (lambda d, s: d.update(architecture=[]), DamagedError, "the architecture is no JSON object"),
        (lambda d, s: d.update(preprocessing={}), DamagedError, "is damaged"),
        (lambda d, s: s.pop("lookalike.projection.bias"), DamagedError, "projection.bias should be .* and is None"),
        (lambda d, s: s.update({"lookalike.more": s["conv_stem.weight"].clone()}), DamagedError, "more should be None"),
        (lambda d, s: d.update(format=1), DamagedError, "is damaged"),
        (lambda d, s: d.update(format=3), EmbedderError, "embedder format 3; this version of lookalike reads 1 and 2"),
        (lambda d, s: s.pop("conv_stem.weight"), EmbedderError, "does not fit the installed version of timm"),
        (lambda d, s: d["architecture"].update(pooling="no"), EmbedderError, "there is no pooling 'no'"),
    ],
)
def test_a_damaged_folder_is_refused(weights: Path, tmp_path: Path, change, error, message) -> None:
    trained(*composed(MAPS, weights, pooling="gem")).save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    state = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    change(description, state)
    (tmp_path / "model.json").write_text(json.dumps(description))
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(error, match=message):
        Embedder.load(tmp_path, device="cpu")


def test_vectors_of_another_length_than_written_are_refused(weights: Path, tmp_path: Path) -> None:
    trained(*composed(MAPS, weights, dim=None, head="none")).save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["architecture"]["dim"] = 255
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(DamagedError, match="vectors have length 256, and 255 is written"):
        Embedder.load(tmp_path, device="cpu")


def test_without_a_head_nothing_is_classified(weights: Path) -> None:
    embedder = trained(*composed(MAPS, weights, head="none"))
    assert embedder.classes == ()
    with pytest.raises(InputError, match="has no classifier head"):
        embedder.logits(np.zeros((1, 24), np.float32))
    with pytest.raises(InputError, match=r"vectors must be \(n, 24\), not \(1, 23\)"):
        trained(*composed(MAPS, weights)).logits(np.zeros((1, 23), np.float32))
    with pytest.raises(InputError, match="the head cosine and 0 classes"):
        composed(MAPS, weights, classes=())


def test_what_has_to_be_trained_is_no_frozen_embedder(weights: Path) -> None:
    with pytest.raises(InputError, match="bilinear has to be trained with lookalike train; choose one of native, av"):
        Embedder.create(MAPS, pooling="bilinear")


@pytest.mark.parametrize(("pooling", "frozen"), [("gem", "gem"), ("covariance", "native")])
def test_the_frozen_one_beside_it_is_at_its_size(pooling: str, frozen: str, weights: Path, monkeypatch) -> None:
    network, provenance = composed(TOKENS, weights, pooling=pooling)
    embedder = trained(network, {**provenance, "weights": "hub"})
    monkeypatch.setattr("retrieval.backbones._from_hub", lambda name: _filled(name, weights))
    beside = frozen_like(embedder.description, device="cpu")
    assert beside.description["architecture"] == {"backbone": TOKENS, "pooling": frozen, "dim": 64}
    assert beside.description["format"] == 1
    assert beside.prepare(np.zeros((90, 90, 3), np.uint8)).shape == (SIZE, SIZE, 3)
    assert beside.embed(list(pixels_of()), prepared=True).shape == (4, 64)


def _filled(name: str, folder: Path) -> torch.nn.Module:
    model = build_backbone(name)
    state = safetensors.torch.load_file(folder / f"{name}-0.safetensors")
    model.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")})
    return model
