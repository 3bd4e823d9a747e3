"""Augmentation: what each choice does to a picture, and that nothing but the given numbers decides it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval.augmentation import _OPERATIONS, augment_batch, mix, training_view
from retrieval.backbones import Preprocessing
from retrieval.recipe import Augmentation
from retrieval.sampling import generator
from tests.retrieval.pictures import gradient

NONE = Augmentation(zoom=1.0, stretch=1.0, flip=0.0, colour=0.0)
EVERYTHING = Augmentation(
    upside_down=0.3, rotation=15.0, randaugment=9.5, erasing=0.5, colour=0.4, mixup=0.4, cutmix=1.0
)
BATCH = {
    "rotation": replace(NONE, rotation=20.0),
    "colour": replace(NONE, colour=0.4),
    "erasing": replace(NONE, erasing=0.7),
    "all": EVERYTHING,
}


def batch_of(n: int = 8, side: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, 3, side, side), dtype=np.float32))


def rngs(places: range, epoch: int = 0) -> list[np.random.Generator]:
    return [generator(0, epoch, place) for place in places]


def test_without_any_choice_a_view_is_the_middle_square_as_the_embedder_prepares_it() -> None:
    preparation = Preprocessing(32, 32, 1.0, "center", "bicubic", (0.5,) * 3, (0.5,) * 3).preparation()
    for image in (gradient(90, 61), gradient(61, 90), gradient(32, 32)):
        view = training_view(image, size=32, augmentation=NONE, rng=generator(0))
        assert view.flags.c_contiguous
        # Cropping before or after the resize moves the grid by part of a pixel.
        np.testing.assert_allclose(view.astype(int), preparation(image).astype(int), atol=6)


def test_a_view_depends_on_its_numbers_alone_and_leaves_the_picture_as_it_is() -> None:
    image = gradient(90, 60)
    before = image.copy()
    torch.manual_seed(1)
    first = [training_view(image, size=24, augmentation=EVERYTHING, rng=generator(7, place)) for place in range(20)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = [training_view(image, size=24, augmentation=EVERYTHING, rng=generator(7, place)) for place in range(20)]
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({view.tobytes() for view in first}) > 15
    for view in first:
        view[:] = 0
    np.testing.assert_array_equal(image, before)


def test_a_view_owns_its_memory_even_where_nothing_is_to_do() -> None:
    image = gradient(24, 24)
    view = training_view(image, size=24, augmentation=NONE, rng=generator(0))
    np.testing.assert_array_equal(view, image)
    assert not np.shares_memory(view, image)


def test_flips_mirror_and_turn_upside_down() -> None:
    image = gradient(40, 40)
    plain = training_view(image, size=20, augmentation=NONE, rng=generator(0))
    mirrored = training_view(image, size=20, augmentation=replace(NONE, flip=1.0), rng=generator(0))
    turned = training_view(image, size=20, augmentation=replace(NONE, upside_down=1.0), rng=generator(0))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    np.testing.assert_array_equal(turned, plain[::-1])
    half = replace(NONE, flip=0.5)
    seen = [training_view(image, size=20, augmentation=half, rng=generator(place)) for place in range(200)]
    assert 70 < sum(np.array_equal(view, mirrored) for view in seen) < 130


def test_crops_keep_between_the_zoom_and_everything_within_the_stretch() -> None:
    # Levels are coordinates, so a view tells which box it shows.
    high, wide = 240, 200
    image = np.zeros((high, wide, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(wide), np.arange(high)[:, None]
    areas, ratios = [], []
    for place in range(200):
        view = training_view(
            image, size=60, augmentation=Augmentation(zoom=0.25, stretch=4 / 3, flip=0.0), rng=generator(1, place)
        ).astype(float)
        # From the middle of the first to the middle of the last pixel is 59 sixtieths of the box.
        w, h = ((view[..., at].max() - view[..., at].min()) * 60 / 59 for at in (0, 1))
        areas.append(w * h / (high * wide))
        ratios.append(w / h)
    assert 0.23 < min(areas) < 0.35
    assert 0.8 < max(areas) <= 1.03
    assert 0.72 < min(ratios) < 0.85
    assert 1.18 < max(ratios) < 1.37


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 7)])
def test_tiny_and_narrow_pictures_give_whole_views(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    view = training_view(image, size=16, augmentation=Augmentation(), rng=generator(0))
    np.testing.assert_array_equal(view, np.full((16, 16, 3), 77))


@pytest.mark.parametrize("name", [name for name in _OPERATIONS if name != "identity"])
def test_every_operation_of_randaugment_changes_more_at_a_larger_magnitude(name: str) -> None:
    # Sharpness needs edges to find; to all that moves pixels, noise is as different a pixel further as anywhere.
    noise = np.random.default_rng(0).integers(-25, 26, (48, 48, 3)) if name == "sharpness" else 0
    image = torch.from_numpy((gradient(48, 48) // 2 + 50 + noise).astype(np.uint8)).permute(2, 0, 1)
    changes = []
    for level in (0.05, 0.9):
        changed = _OPERATIONS[name](image, level)
        assert changed.shape == image.shape
        assert changed.dtype == torch.uint8
        changes.append(float((changed.float() - image.float()).abs().mean()))
    assert changes[1] > 0.5
    assert changes[1] >= changes[0] if name in ("autocontrast", "equalize") else changes[1] > 2 * changes[0]


@pytest.mark.parametrize("name", list(BATCH))
def test_two_stripes_are_augmented_as_the_whole_batch_is(name: str) -> None:
    images = batch_of()
    before = images.clone()
    whole = augment_batch(images, augmentation=BATCH[name], rngs=rngs(range(8)))
    assert whole.shape == images.shape
    assert whole.dtype == images.dtype
    assert whole.min() >= 0 and whole.max() <= 1 + 1e-6
    assert torch.equal(images, before)
    assert not torch.allclose(whole, images, atol=0.01)
    stripes = [
        augment_batch(images[start : start + 4], augmentation=BATCH[name], rngs=rngs(range(start, start + 4)))
        for start in (0, 4)
    ]
    torch.testing.assert_close(torch.cat(stripes), whole, atol=1e-6, rtol=0)
    other = augment_batch(images, augmentation=BATCH[name], rngs=rngs(range(8), epoch=1))
    assert not torch.allclose(whole, other, atol=0.01)


def test_autocast_does_not_coarsen_colours_or_places() -> None:
    expected = augment_batch(batch_of(), augmentation=EVERYTHING, rngs=rngs(range(8)))
    with torch.autocast("cpu", torch.bfloat16):
        inside = augment_batch(batch_of(), augmentation=EVERYTHING, rngs=rngs(range(8)))
    torch.testing.assert_close(inside, expected, atol=1e-6, rtol=0)


def test_without_a_choice_a_batch_is_left_alone() -> None:
    assert torch.equal(augment_batch(batch_of(), augmentation=NONE, rngs=rngs(range(8))), batch_of())
    assert mix(batch_of(), augmentation=NONE, rng=generator(0)) is None
    assert len(augment_batch(batch_of(0), augmentation=EVERYTHING, rngs=[])) == 0


def test_rotation_keeps_the_middle_and_brings_no_black_corners() -> None:
    images = torch.full((6, 3, 21, 21), 0.6)
    images[:, :, 10, 10] = 1.0
    turned = augment_batch(images, augmentation=replace(NONE, rotation=45.0), rngs=rngs(range(6)))
    torch.testing.assert_close(turned[:, :, 10, 10], images[:, :, 10, 10], atol=1e-4, rtol=0)
    torch.testing.assert_close(turned[:, :, 0, 0], images[:, :, 0, 0], atol=1e-4, rtol=0)


def test_rotation_stays_within_its_angle() -> None:
    # A bright bar to the right: where it goes tells the angle.
    images = torch.zeros(60, 3, 101, 101)
    images[:, :, 50, 80] = 1.0
    turned = augment_batch(images, augmentation=replace(NONE, rotation=20.0), rngs=rngs(range(60)))[:, 0]
    at = turned.flatten(1).argmax(1)
    angles = torch.rad2deg(torch.atan2(at // 101 - 50.0, at % 101 - 50.0))
    assert angles.abs().max() < 22
    assert angles.min() < -12 and angles.max() > 12


def test_colour_changes_brightness_contrast_saturation_and_balance_and_no_place() -> None:
    images = 0.3 + 0.4 * batch_of(64)  # far from the ends, so that nothing is cut off
    images[0] = 0.5  # one grey: contrast and saturation cannot change it, brightness and balance can
    tinted = augment_batch(images, augmentation=replace(NONE, colour=0.3), rngs=rngs(range(64)))
    gains = tinted[0].mean((1, 2)) / 0.5
    assert tinted[0].std((1, 2)).max() < 1e-5
    assert gains.min() >= 0.7 * 0.9 and gains.max() <= 1.3 * 1.1
    assert gains.std() > 1e-3
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    brightness = (tinted.mean((2, 3)) * luma[:, 0, 0]).sum(1) / (images.mean((2, 3)) * luma[:, 0, 0]).sum(1)
    assert brightness.min() < 0.85 and brightness.max() > 1.15
    contrast = (tinted * luma).sum(1).std((1, 2))[1:] / (images * luma).sum(1).std((1, 2))[1:] / brightness[1:]
    assert contrast.min() < 0.85 and contrast.max() > 1.15
    saturation = tinted.std(1).mean((1, 2))[1:] / images.std(1).mean((1, 2))[1:] / (contrast * brightness[1:])
    assert saturation.min() < 0.9 and saturation.max() > 1.1


def test_erasing_paints_one_rectangle_with_the_pictures_mean_in_the_share_of_pictures_asked_for() -> None:
    images = batch_of(200, side=32)
    erased = augment_batch(images, augmentation=replace(NONE, erasing=0.4), rngs=rngs(range(200)))
    changed = (erased != images).any(1)
    touched = [place for place in range(200) if changed[place].any()]
    assert 55 < len(touched) < 105
    for place in touched:
        rows, columns = changed[place].any(1), changed[place].any(0)
        assert bool(changed[place][rows][:, columns].all())
        assert 0.01 < float(changed[place].float().mean()) < 0.37
        colours = erased[place][:, changed[place]]
        expected = images[place].mean((1, 2), keepdim=True)[:, 0].expand_as(colours)
        torch.testing.assert_close(colours, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_says_whom_and_how_much(way: str) -> None:
    images = batch_of(7)
    before = images.clone()
    shares = []
    for seed in range(30):
        mixed = mix(images, augmentation=replace(NONE, **{way: 1.0}), rng=generator(seed))
        assert mixed is not None
        pictures, partner, share = mixed
        assert partner.tolist() == [1, 0, 3, 2, 5, 4, 5]
        assert partner.dtype == np.int64
        assert share.shape == (7,)
        assert share.dtype == np.float32
        assert len(set(share.tolist())) == 1
        own = float(share[0])
        shares.append(own)
        others = images[torch.from_numpy(partner)]
        if way == "mixup":
            torch.testing.assert_close(pictures, own * images + (1 - own) * others, atol=1e-6, rtol=0)
        else:
            kept = (pictures == images).all(1)
            assert float(kept.float().mean()) == pytest.approx(own, abs=1e-6)
            assert bool(((pictures == others).all(1) | kept).all())
    assert torch.equal(images, before)
    assert min(shares) < 0.3 and max(shares) > 0.7


def test_two_even_stripes_are_mixed_as_the_whole_batch_is() -> None:
    images = batch_of(8)
    for seed in range(6):
        whole = mix(images, augmentation=EVERYTHING, rng=generator(seed))
        stripes = [mix(images[start : start + 4], augmentation=EVERYTHING, rng=generator(seed)) for start in (0, 4)]
        assert whole is not None and stripes[0] is not None and stripes[1] is not None
        assert torch.equal(torch.cat([stripes[0][0], stripes[1][0]]), whole[0])
        np.testing.assert_array_equal(np.concatenate([stripes[0][1], stripes[1][1] + 4]), whole[1])
        np.testing.assert_array_equal(np.concatenate([stripes[0][2], stripes[1][2]]), whole[2])


def test_one_picture_has_nobody_to_be_mixed_with() -> None:
    assert mix(batch_of(1), augmentation=EVERYTHING, rng=generator(0)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_augments_as_the_cpu_does() -> None:
    images = batch_of()
    on_cpu = augment_batch(images, augmentation=EVERYTHING, rngs=rngs(range(8)))
    on_gpu = augment_batch(images.cuda(), augmentation=EVERYTHING, rngs=rngs(range(8)))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=2e-3, rtol=0)
    mixed = mix(images.cuda(), augmentation=EVERYTHING, rng=generator(0))
    expected = mix(images, augmentation=EVERYTHING, rng=generator(0))
    assert mixed is not None and expected is not None
    torch.testing.assert_close(mixed[0].cpu(), expected[0], atol=1e-6, rtol=0)
