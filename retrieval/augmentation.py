"""How training pictures are changed: each picture alone, a batch on the training device, and mixed with one another.

Every random number comes from generators that the caller keys by (seed, epoch, position): nothing from global state,
so worker counts, ranks and a resumed run do not matter. Pictures to validate with go through the embedder's own
``Preprocessing.preparation`` and never come here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from retrieval.recipe import Augmentation

_TRIES: Final = 10  # at a box that fits, as torchvision's RandomResizedCrop
_LUMA: Final = (0.299, 0.587, 0.114)
_ERASED: Final = (0.02, 1 / 3)  # share of the area
_ERASED_STRETCH: Final = 1 / 0.3


def training_view(image: np.ndarray, *, size: int, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Cut, mirror and distort one picture.

    Args:
        image: (h, w, 3) uint8, C-contiguous, writable; left as it is.
        size: of the view, pixels a side.
        augmentation: of it ``zoom``, ``stretch``, ``flip``, ``upside_down`` and ``randaugment``.
        rng: of this picture in this epoch.

    Returns:
        (size, size, 3) uint8, C-contiguous, its own memory.
    """
    top, left, high, wide = _box(image.shape[0], image.shape[1], augmentation, rng)
    mirrored, turned = rng.random(2) < (augmentation.flip, augmentation.upside_down)
    view = torch.from_numpy(image)[top : top + high, left : left + wide].permute(2, 0, 1)  # (3, high, wide)
    # Bicubic costs the same, and is how nearly every backbone saw its pictures.
    view = functional.resize(view, [size, size], InterpolationMode.BICUBIC, antialias=True)
    if mirrored or turned:
        view = view.flip([axis for axis, wanted in ((1, turned), (2, mirrored)) if wanted])
    if augmentation.randaugment > 0:
        view = _randaugment(view, augmentation.randaugment / 30, rng)
    return np.array(view.permute(1, 2, 0).numpy(), order="C")


def augment_batch(
    images: torch.Tensor, *, augmentation: Augmentation, rngs: Sequence[np.random.Generator]
) -> torch.Tensor:
    """Turn, tint and erase in the pictures of a batch, on their device; each by its own numbers.

    Args:
        images: (n, 3, s, s) float in [0, 1]; left as they are.
        augmentation: of it ``rotation``, ``colour`` and ``erasing``.
        rngs: n, each of one picture in this epoch: not those that ``training_view`` was given, or in the same order.

    Returns:
        (n, 3, s, s), same dtype and device, in [0, 1].
    """
    assert len(images) == len(rngs), "a generator a picture"
    if not len(images):
        return images
    # Always all eleven, so that one choice does not change what another draws.
    draws = np.stack([rng.random(11) for rng in rngs])  # (n, 11)
    # A training step's autocast would take the products of colours and places in bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        if augmentation.rotation > 0:
            images = _rotate(images, (2 * draws[:, 0] - 1) * math.radians(augmentation.rotation))
        if augmentation.colour > 0:
            images = _tint(images, 2 * draws[:, 1:7] - 1, augmentation.colour)
        if augmentation.erasing > 0:
            images = _erase(images, draws[:, 7:], augmentation.erasing)
    return images


def mix(
    images: torch.Tensor, *, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray, np.ndarray] | None:
    """Mix every picture with its neighbour by mixup or CutMix, one share for the whole batch as in the papers.

    Neighbours change places: 0 with 1, 2 with 3, and so on; batches come in random order. So ranks that hold stripes
    of even length and give the same ``rng`` mix as one process with the whole batch would. The last of an odd number
    is mixed with the one before it.

    Args:
        images: (n, 3, s, s) float; left as they are.
        augmentation: of it ``mixup`` and ``cutmix``.
        rng: of this step, the same on all ranks.

    Returns:
        None where the recipe mixes nothing or there is one picture. Else the mixed pictures; (n,) int64, whom each was
        mixed with; and (n,) float32 in [0, 1], the share of the picture itself.
    """
    ways = [way for way in ("mixup", "cutmix") if getattr(augmentation, way) > 0]
    n = len(images)
    if not ways or n < 2:
        return None
    way = ways[rng.integers(len(ways))]
    share = float(rng.beta(*[getattr(augmentation, way)] * 2))
    partner = np.arange(n) ^ 1
    if n % 2:
        partner[-1] = n - 2
    others = images[torch.from_numpy(partner).to(images.device)]
    if way == "mixup":
        mixed = torch.lerp(others, images, share)
    else:
        high, wide = images.shape[2:]
        middle, side = rng.random(2), math.sqrt(1 - share)
        top, left = (max(0, round(length * (at - side / 2))) for length, at in zip((high, wide), middle, strict=True))
        bottom, right = (
            min(length, round(length * (at + side / 2))) for length, at in zip((high, wide), middle, strict=True)
        )
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (high * wide)
    return mixed, partner, np.full(n, share, np.float32)


def _box(high: int, wide: int, augmentation: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a crop as Inception's: top, left, height and width, pixels; the middle square without zoom."""
    if augmentation.zoom < 1:
        stretch = math.log(augmentation.stretch)
        for area, ratio in rng.random((_TRIES, 2)):
            pixels = high * wide * (augmentation.zoom + (1 - augmentation.zoom) * area)
            root = math.exp(stretch * (2 * ratio - 1) / 2)
            h, w = max(1, round(math.sqrt(pixels) / root)), max(1, round(math.sqrt(pixels) * root))
            if h <= high and w <= wide:
                return int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1)), h, w
    side = min(high, wide)
    return (high - side) // 2, (wide - side) // 2, side, side


def _rotate(images: torch.Tensor, angles: np.ndarray) -> torch.Tensor:
    """Rotate by (n,) radians about the middle; what comes in at the corners is the picture's reflection."""
    cos, sin = np.cos(angles), np.sin(angles)
    none = np.zeros_like(angles)
    matrices = np.stack([np.stack([cos, -sin, none], 1), np.stack([sin, cos, none], 1)], 1)  # (n, 2, 3)
    grid = torch.nn.functional.affine_grid(_like(matrices, images), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _tint(images: torch.Tensor, draws: np.ndarray, strength: float) -> torch.Tensor:
    """Change brightness, contrast, saturation and white balance, in that order, by one product of matrices a picture.

    Args:
        images: (n, 3, s, s).
        draws: (n, 6) in [-1, 1): brightness, contrast, saturation, then red, green and blue.
        strength: of the three; a third of it for the balance.
    """
    factors = np.maximum(0, 1 + strength * draws[:, :3])  # (n, 3)
    gains = factors[:, :1] * np.maximum(0, 1 + strength / 3 * draws[:, 3:])  # (n, 3)
    contrast, saturation = factors[:, 1, None, None], factors[:, 2, None, None]
    luma = np.broadcast_to(np.array(_LUMA), (3, 3))
    # Towards the grey of the same brightness; rows are what comes out, columns what goes in.
    matrices = contrast * (saturation * np.eye(3) + (1 - saturation) * luma) * gains[:, None, :]  # (n, 3, 3)
    n, _, high, wide = images.shape
    flat = images.reshape(n, 3, high * wide)
    # The grey that contrast pulls to: the picture's mean brightness after the gains.
    grey = (flat.mean(2) * _like(gains * np.array(_LUMA), images)).sum(1)  # (n,)
    offset = (grey * _like(1 - factors[:, 1], images)).view(n, 1, 1)
    return torch.baddbmm(offset, _like(matrices, images), flat).clamp_(0, 1).view(n, 3, high, wide)


def _erase(images: torch.Tensor, draws: np.ndarray, probability: float) -> torch.Tensor:
    """Paint a rectangle with the picture's own mean colour, in a share of pictures.

    Args:
        images: (n, 3, s, s).
        draws: (n, 4) in [0, 1): whether and how large, how stretched, and where.
        probability: of erasing at all.
    """
    high, wide = images.shape[2:]
    # One number says whether and, given that, how large.
    area = (_ERASED[0] + (_ERASED[1] - _ERASED[0]) * np.minimum(draws[:, 0] / probability, 1)) * high * wide
    root = np.exp(math.log(_ERASED_STRETCH) * (draws[:, 1] - 0.5))
    erased = draws[:, 0] < probability
    tall = np.where(erased, np.clip(np.rint(np.sqrt(area) / root), 1, high), 0)
    broad = np.where(erased, np.clip(np.rint(np.sqrt(area) * root), 1, wide), 0)
    top = np.floor(draws[:, 2] * (high - tall + 1))
    left = np.floor(draws[:, 3] * (wide - broad + 1))
    ys, xs = np.arange(high), np.arange(wide)
    rows = (ys >= top[:, None]) & (ys < (top + tall)[:, None])  # (n, high)
    columns = (xs >= left[:, None]) & (xs < (left + broad)[:, None])  # (n, wide)
    mask = _like(rows, images, torch.bool)[:, None, :, None] & _like(columns, images, torch.bool)[:, None, None, :]
    return torch.where(mask, images.mean((2, 3), keepdim=True), images)


def _like(values: np.ndarray, images: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(images.device, dtype or images.dtype)


# RandAugment's fourteen operations and their ranges, as torchvision's v2.RandAugment has them. Drawn here, because that
# one draws from torch's global state, which threads share, and knows whole magnitudes only. Each is told the picture,
# (3, s, s) uint8, and the level in [-1, 1], whose sign matters to those that have two senses.


def _affine(
    image: torch.Tensor, *, angle: float = 0, move: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> torch.Tensor:
    fill = image.to(torch.float32).mean((1, 2)).tolist()  # black corners would be a sign of their own
    moved: torch.Tensor = functional.affine(
        image,
        angle=angle,
        translate=[round(pixels) for pixels in move],
        scale=1.0,
        shear=[math.degrees(math.atan(by)) for by in shear],
        interpolation=InterpolationMode.BILINEAR,
        fill=fill,
        center=[0, 0] if any(shear) else None,
    )
    return moved


_Operation = Callable[[torch.Tensor, float], Any]
_OPERATIONS: Final[dict[str, _Operation]] = {
    "identity": lambda image, level: image,
    "shear_x": lambda image, level: _affine(image, shear=(0.3 * level, 0)),
    "shear_y": lambda image, level: _affine(image, shear=(0, 0.3 * level)),
    "translate_x": lambda image, level: _affine(image, move=(150 / 331 * level * image.shape[2], 0)),
    "translate_y": lambda image, level: _affine(image, move=(0, 150 / 331 * level * image.shape[1])),
    "rotate": lambda image, level: _affine(image, angle=30 * level),
    "brightness": lambda image, level: functional.adjust_brightness(image, 1 + 0.9 * level),
    "saturation": lambda image, level: functional.adjust_saturation(image, 1 + 0.9 * level),
    "contrast": lambda image, level: functional.adjust_contrast(image, 1 + 0.9 * level),
    "sharpness": lambda image, level: functional.adjust_sharpness(image, 1 + 0.9 * level),
    "posterize": lambda image, level: functional.posterize(image, 8 - round(4 * abs(level))),
    "solarize": lambda image, level: functional.solarize(image, 255 * (1 - abs(level))),
    "autocontrast": lambda image, level: functional.autocontrast(image),
    "equalize": lambda image, level: functional.equalize(image),
}


def _randaugment(image: torch.Tensor, level: float, rng: np.random.Generator) -> torch.Tensor:
    """Apply two operations drawn with replacement, at a level in [0, 1] and of either sense."""
    operations = list(_OPERATIONS.values())
    for choice, sign in zip(rng.integers(len(operations), size=2), rng.choice((-1, 1), size=2), strict=True):
        image = operations[choice](image, float(sign) * level)
    return image
