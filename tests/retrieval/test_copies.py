"""Pictures laid over each other: against edits whose transform is known, and other photographs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.copies import NOISE, STRONG, TEXTURE, WINDOW, Overlay, how_made, overlay
from retrieval.edits import EDITS, STRENGTHS, edited
from retrieval.images import decode
from retrieval.local_features import SIDE, LocalFeatures, describe
from tests.retrieval.scenes import even, scene

WIDTH, HEIGHT = 320, 240
SIZE = WIDTH, HEIGHT


@dataclass(frozen=True)
class Planted:
    """An edit whose transform is known: the copy, (2, 3) from the original to it, and the shares that both show."""

    pixels: np.ndarray
    transform: np.ndarray
    covered: tuple[float, float]


def known(name: str, pixels: np.ndarray) -> Planted:
    """Make a copy without the code that is tested."""
    height, width = pixels.shape[:2]
    right, bottom = width - 1, height - 1
    if name == "same":
        return Planted(pixels, np.array([[1, 0, 0], [0, 1, 0]]), (1, 1))
    if name == "cut":
        part = pixels[40:210, 30:270]
        return Planted(part, np.array([[1, 0, -30], [0, 1, -40]]), (part.size / pixels.size, 1))
    if name == "half":
        return Planted(pixels[:, : width // 2], np.array([[1, 0, 0], [0, 1, 0]]), (0.5, 1))
    if name == "mirrored":
        return Planted(pixels[:, ::-1], np.array([[-1, 0, right], [0, 1, 0]]), (1, 1))
    if name == "upside down":
        return Planted(pixels[::-1], np.array([[1, 0, 0], [0, -1, bottom]]), (1, 1))
    if name == "turned left":
        return Planted(np.rot90(pixels), np.array([[0, 1, 0], [-1, 0, right]]), (1, 1))
    if name == "turned round":
        return Planted(np.rot90(pixels, 2), np.array([[-1, 0, right], [0, -1, bottom]]), (1, 1))
    if name == "transposed":
        return Planted(pixels.transpose(1, 0, 2), np.array([[0, 1, 0], [1, 0, 0]]), (1, 1))
    if name in ("smaller", "larger", "stretched"):
        size = {"smaller": (160, 120), "larger": (640, 480), "stretched": (320, 336)}[name]
        drawn = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        x, y = size[0] / width, size[1] / height
        return Planted(drawn, np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]]), (1, 1))
    if name == "framed":
        framed = np.full((height + 70, width + 90, 3), 230, np.uint8)
        framed[20 : 20 + height, 60 : 60 + width] = pixels
        return Planted(framed, np.array([[1, 0, 60], [0, 1, 20]]), (1, pixels.size / framed.size))
    assert name == "cut and mirrored"
    part = pixels[:200, 50:][:, ::-1]
    return Planted(part, np.array([[-1, 0, right], [0, 1, 0]]), (part.size / pixels.size, 1))


KNOWN = (
    "same",
    "cut",
    "half",
    "mirrored",
    "upside down",
    "turned left",
    "turned round",
    "transposed",
    "smaller",
    "larger",
    "stretched",
    "framed",
    "cut and mirrored",
)


def laid(one: np.ndarray, other: np.ndarray) -> Overlay:
    found = overlay(describe(one), describe(other))
    assert found is not None
    return found


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    found = overlay(describe(one), describe(other))
    return 0.0 if found is None else found.agreement


def shared_corners(planted: Planted, original: np.ndarray) -> np.ndarray:
    """Points (n, 2) of the original, on a grid, that the copy shows."""
    height, width = original.shape[:2]
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)), axis=-1).reshape(-1, 2)
    there = grid @ planted.transform[:, :2].T + planted.transform[:, 2]
    return grid[((there >= 0) & (there <= np.array(planted.pixels.shape[1::-1]) - 1)).all(axis=1)]


@pytest.mark.parametrize("name", KNOWN)
def test_how_a_copy_was_made_is_found_to_a_pixel(name: str) -> None:
    pixels = scene(1, *SIZE)
    planted = known(name, pixels)
    found = laid(pixels, planted.pixels)
    # Features of a stretched picture lie less exactly.
    assert found.agreement > (0.65 if name == "stretched" else 0.85) and found.matches >= 20
    points = shared_corners(planted, pixels)
    assert len(points) > 20
    off = points @ (found.transform - planted.transform)[:, :2].T + (found.transform - planted.transform)[:, 2]
    # Pictures are compared at SIDE pixels: one of those, in pixels of the copy.
    assert np.linalg.norm(off, axis=1).max() < max(planted.pixels.shape) / SIDE
    assert found.covered == pytest.approx(planted.covered, abs=0.03)
    assert found.colour < 10


def test_no_part_of_a_pixel_is_lost_in_scaling() -> None:
    pixels = scene(2, 896, 672)
    small = pixels.reshape(168, 4, 224, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    found = laid(pixels, small).transform
    middle = np.array([447.5, 335.5])  # of both
    assert found[:, :2] @ middle + found[:, 2] == pytest.approx((middle + 0.5) / 4 - 0.5, abs=0.15)


@pytest.mark.parametrize("name", KNOWN)
def test_the_other_way_round_it_is_the_inverse(name: str) -> None:
    pixels = scene(3, *SIZE)
    planted = known(name, pixels)
    there, back = laid(pixels, planted.pixels), laid(planted.pixels, pixels)
    assert back.agreement == pytest.approx(there.agreement, abs=0.1 if name == "stretched" else 0.05)
    assert back.covered == pytest.approx(there.covered[::-1], abs=0.03)
    assert back.beyond == pytest.approx(there.beyond[::-1], abs=0.1)
    assert back.colour == pytest.approx(there.colour, abs=3)
    points = shared_corners(planted, pixels)
    off = points @ (back.swapped().transform - there.transform)[:, :2].T
    off = off + (back.swapped().transform - there.transform)[:, 2]
    assert np.linalg.norm(off, axis=1).max() < 2 * max(planted.pixels.shape) / SIDE


def test_in_a_wide_frame_it_agrees_as_much_whichever_of_the_two_comes_first() -> None:
    for seed in (1, 2, 3):
        pixels = scene(seed, *SIZE)
        framed = np.full((430, 570, 3), 230, np.uint8)
        framed[40 : 40 + HEIGHT, 50 : 50 + WIDTH] = pixels
        there, back = agreement(pixels, framed), agreement(framed, pixels)
        assert min(there, back) > 0.92 and abs(there - back) < 0.05


@given(st.integers(0, 2**32 - 1))
def test_swapped_twice_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (np.linalg.qr(rng.normal(size=(2, 2)))[0] for _ in range(2))
    transform = np.column_stack([one @ np.diag(rng.uniform(0.2, 5, 2)) @ other, rng.uniform(-900, 900, 2)])
    shares = rng.random(6)
    first = Overlay(shares[0], 9, transform, (shares[1], shares[2]), shares[3], (shares[4], shares[5]))
    back = first.swapped()
    point = rng.uniform(0, 500, 2)
    there = transform[:, :2] @ point + transform[:, 2]
    assert back.transform[:, :2] @ there + back.transform[:, 2] == pytest.approx(point, abs=1e-6)
    assert (back.covered, back.beyond) == (first.covered[::-1], first.beyond[::-1])
    again = back.swapped()
    assert again.transform == pytest.approx(transform, abs=1e-6)
    assert (again.agreement, again.matches, again.covered, again.colour, again.beyond) == (
        first.agreement,
        first.matches,
        first.covered,
        first.colour,
        first.beyond,
    )


def test_of_nothing_and_of_the_same() -> None:
    assert Overlay.none().swapped().agreement == Overlay.none().agreement == 0
    assert Overlay.same().agreement == 1 and how_made(Overlay.same(), SIZE) == "saved anew"
    assert how_made(Overlay.same().swapped(), SIZE) == "saved anew"


def plainly(one: np.ndarray, other: np.ndarray) -> float:
    """How much two pictures of one frame agree, window by window: correlation, weighted by deviation."""
    first, second = one.mean(axis=2), other.mean(axis=2)
    values, weights = [], []
    for top in range(first.shape[0] - WINDOW + 1):
        for left in range(first.shape[1] - WINDOW + 1):
            a = first[top : top + WINDOW, left : left + WINDOW]
            b = second[top : top + WINDOW, left : left + WINDOW]
            strength = max(a.std(), b.std())
            if strength > TEXTURE:
                together = ((a - a.mean()) * (b - b.mean())).mean()
                values.append(max(0.0, together / np.sqrt(a.var() * b.var() + NOISE)))
                weights.append(min(strength, STRONG))
    return float(np.average(values, weights=weights))


@pytest.mark.parametrize("noise", [1, 2, 4])
def test_agreement_is_that_of_a_plain_loop(noise: float) -> None:
    pixels = scene(8, SIDE, 56)
    grain = np.random.default_rng(0).normal(0, noise, (56, SIDE, 1))
    noisy = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    found = laid(pixels, noisy)
    assert found.agreement == pytest.approx(plainly(pixels, noisy), abs=0.03)
    assert found.colour == pytest.approx(np.median(np.abs(pixels.astype(int) - noisy).mean(axis=2)), abs=1.5)


LEAST = {("overlay", 3): 0.4, ("recompress", 3): 0.55}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_planted_copies_agree_whichever_of_the_two_comes_first(name: str, strength: int) -> None:
    for seed in range(2):
        pixels = scene(30 + seed, *SIZE)
        copy = edited(pixels, name, strength, np.random.default_rng(seed))
        there, back = agreement(pixels, copy), agreement(copy, pixels)
        assert min(there, back) > LEAST.get((name, strength), 0.7), (seed, there, back)
        assert abs(there - back) < 0.15, (seed, there, back)


def test_other_photographs_are_no_copies() -> None:
    pictures = [describe(scene(seed, *SIZE)) for seed in range(50, 58)]
    for at, one in enumerate(pictures):
        for other in pictures[at + 1 :]:
            found = overlay(one, other)
            assert found is None or found.agreement < 0.4


def test_another_view_of_the_same_things_is_no_copy() -> None:
    for seed in range(60, 63):
        still, moved = scene(seed, *SIZE), scene(seed, *SIZE, moved=0.03)
        assert agreement(still, moved) < 0.6
        assert agreement(moved, still) < 0.6
        assert agreement(still, edited(still, "recompress", 2, np.random.default_rng(0))) > 0.75


def test_black_and_white_is_a_copy_and_another_colour_on_the_same_ground_is_none() -> None:
    pixels = scene(70, *SIZE)
    grey = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    warm = np.clip(pixels * np.array([1.1, 1.0, 0.8]), 0, 255).astype(np.uint8)
    for copy in (grey, warm):
        assert agreement(pixels, copy) > 0.85
        assert agreement(copy, pixels) > 0.85
    shirts = pixels.copy(), pixels.copy()
    weave = np.random.default_rng(0).normal(0, 15, (120, 150))
    for shirt, colour in zip(shirts, ((190, 60, 60), (60, 80, 190)), strict=True):
        shirt[60:180, 80:230] = np.clip(np.array(colour) + weave[..., None], 0, 255)
    assert agreement(shirts[0], shirts[0]) > 0.95
    assert max(agreement(*shirts), agreement(*shirts[::-1])) < 0.8


@pytest.mark.parametrize(
    "pixels",
    [even(), even(0, 16, 16), even(255, 400, 1), even(7, 1, 1), scene(1, 16, 16)[:1], scene(1, 40, 40)[:2, :2]],
)
def test_what_shows_nothing_is_laid_over_nothing(pixels: np.ndarray) -> None:
    found, other = describe(pixels), describe(scene(1, *SIZE))
    assert overlay(found, found) is None
    assert overlay(found, other) is None and overlay(other, found) is None


@pytest.mark.parametrize("size", [(16, 16), (24, 18), (40, 12)])
def test_tiny_pictures_can_be_compared(size: tuple[int, int]) -> None:
    pixels = scene(2, *size)
    for copy in (pixels, pixels[:, ::-1], scene(3, *size)):
        found = overlay(describe(pixels), describe(copy))
        assert found is None or 0 <= found.agreement <= 1


def test_all_numbers_are_shares() -> None:
    pixels = scene(5, 200, 150)
    for name in EDITS:
        found = laid(pixels, edited(pixels, name, 3, np.random.default_rng(5)))
        assert all(0 <= share <= 1 for share in (found.agreement, *found.covered, *found.beyond))
        assert 0 <= found.colour <= 255 and np.isfinite(found.transform).all()


def test_threads_do_not_disturb_each_other() -> None:
    pixels = scene(4, *SIZE)
    first = describe(pixels)
    pairs = [(first, describe(known(name, pixels).pixels)) for name in KNOWN[:6]]
    alone = [overlay(*pair) for pair in pairs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda pair: overlay(*pair), pairs * 3))
    for one, other in zip(found, alone * 3, strict=True):
        assert one is not None and other is not None
        assert one.agreement == other.agreement and np.array_equal(one.transform, other.transform)


@pytest.mark.parametrize(
    ("name", "words", "back"),
    [
        ("same", "saved anew", "saved anew"),
        ("cut", "cut to 53 %", "with more around it"),
        ("half", "cut to 50 %", "with more around it"),
        ("mirrored", "mirrored", "mirrored"),
        ("upside down", "mirrored top to bottom", "mirrored top to bottom"),
        ("turned left", "turned by 90° anticlockwise", "turned by 90° clockwise"),
        ("turned round", "turned by 180°", "turned by 180°"),
        ("transposed", "mirrored, turned by 90° anticlockwise", "mirrored, turned by 90° anticlockwise"),
        ("smaller", "scaled to 50 %", "scaled to 200 %"),
        ("larger", "scaled to 200 %", "scaled to 50 %"),
        ("framed", "with a frame or a page around it", "without the frame or page around it"),
        ("cut and mirrored", "mirrored, cut to 70 %", "mirrored, with more around it"),
    ],
)
def test_how_it_was_made_is_said(name: str, words: str, back: str) -> None:
    pixels = scene(5, *SIZE)
    copy = known(name, pixels).pixels
    found = laid(pixels, copy)
    assert _rounded(how_made(found, SIZE)) == _rounded(words)
    assert _rounded(how_made(found.swapped(), copy.shape[1::-1])) == _rounded(back)
    assert _rounded(how_made(laid(copy, pixels), copy.shape[1::-1])) == _rounded(back)


def _rounded(words: str) -> str:
    """The same with shares in steps of 5 %."""
    return " ".join(str(5 * round(int(word) / 5)) if word.isdigit() else word for word in words.split(" "))


def test_stretched_recoloured_turned_a_little_and_written_on_are_said() -> None:
    pixels = scene(6, *SIZE)
    assert "stretched" in how_made(laid(pixels, known("stretched", pixels).pixels), SIZE)
    light = (255 * (pixels / 255) ** 0.6).astype(np.uint8)
    assert how_made(laid(pixels, light), SIZE) == "recoloured"
    assert how_made(laid(light, pixels), SIZE) == "recoloured"
    turned = np.asarray(Image.fromarray(pixels).rotate(7, Image.Resampling.BICUBIC, expand=True))
    found = laid(pixels, turned)
    assert how_made(found, SIZE) == "turned by 7° anticlockwise, with a frame or a page around it"
    assert how_made(found.swapped(), SIZE) == "turned by 7° clockwise, without the frame or page around it"
    labelled = edited(pixels, "overlay", 3, np.random.default_rng(1))
    assert how_made(laid(pixels, labelled), SIZE) in ("written on or much compressed", "recoloured")
    assert how_made(laid(pixels, edited(pixels, "recompress", 1, np.random.default_rng(0))), SIZE) == "saved anew"


def test_a_thin_edge_that_was_cut_off_is_no_frame() -> None:
    pixels = scene(7, *SIZE)
    assert _rounded(how_made(laid(pixels, pixels[3:-3, 4:-4]), SIZE)) == "cut to 95 %"


def test_a_screenshot_has_a_page_around_it() -> None:
    pixels = scene(9, *SIZE)
    shot = edited(pixels, "screenshot", 3, np.random.default_rng(3))
    found = laid(pixels, shot)
    assert "with a frame or a page around it" in how_made(found, SIZE)
    assert "without the frame or page around it" in how_made(found.swapped(), shot.shape[1::-1])


@pytest.fixture(scope="session")
def photographs(shared_photos: Path) -> list[tuple[np.ndarray, LocalFeatures]]:
    files = sorted((shared_photos / "test").rglob("*.jpg"))[::250][:6]
    pictures = [decode(file.read_bytes()).pixels for file in files]
    return [(pixels, describe(pixels)) for pixels in pictures]


@pytest.mark.parametrize("name", EDITS)
def test_copies_of_real_photos_are_told_from_other_photos(
    photographs: list[tuple[np.ndarray, LocalFeatures]], name: str
) -> None:
    rng = np.random.default_rng(0)
    copies = [describe(edited(pixels, name, 2, rng)) for pixels, _ in photographs]
    for at, (_, one) in enumerate(photographs):
        own, other = overlay(copies[at], one), overlay(copies[at - 1], one)
        assert own is not None and own.agreement > 0.7
        assert other is None or other.agreement < 0.4


def test_a_detail_that_two_pictures_share_makes_no_copy_of_either() -> None:
    detail = replace(Overlay.same(), agreement=0.9, covered=(0.3, 0.45))
    assert not detail.is_copy(0.6) and not detail.swapped().is_copy(0.6)
    assert replace(detail, covered=(0.3, 0.55)).is_copy(0.6)  # half of the second is in the first
    assert not replace(detail, covered=(1.0, 1.0)).is_copy(0.95)
