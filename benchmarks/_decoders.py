"""Ways from a JPEG to an array, for the benchmark of decoding."""

from __future__ import annotations

import functools
import importlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from retrieval.images import decode

SIDE = 256
REFERENCE = "Pillow, whole"


@dataclass(frozen=True)
class Contender:
    """A way from a file to an array.

    Attributes:
        whole: a JPEG's bytes → pixels, (height, width, 3) uint8, possibly a view; of those that can, reduced.
        small: a JPEG's bytes → the same with a shorter side of ``SIDE``.
        prepared: whether ``small`` gives what the embedder's ``prepare`` gives, cropped.
    """

    whole: Callable[[bytes], np.ndarray]
    small: Callable[[bytes], np.ndarray]
    prepared: bool = False


def contenders(names: Sequence[str] | None = None) -> dict[str, Contender]:
    """Those of ``names`` that can be used here; None is all, and says of the others why not."""
    found = {}
    for name in names or WAYS:
        try:
            found[name] = WAYS[name]()
        except (ImportError, OSError, RuntimeError) as error:
            if names is None:
                print(f"{name}: not usable: {' '.join(str(error).split())[:110]}")
    return found


def _target(width: int, height: int) -> tuple[int, int]:
    """Width and height with a shorter side of ``SIDE``, rounded as torchvision does."""
    shorter = min(width, height)
    return int(SIDE * width / shorter), int(SIDE * height / shorter)


def _resized(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize(_target(*picture.size), Image.Resampling.BICUBIC))


def _by_pillow(work: Callable[[bytes], np.ndarray]) -> Contender:
    return Contender(work, lambda data: _resized(Image.fromarray(work(data))))


def own_whole(data: bytes) -> np.ndarray:
    """Decode as an index run does."""
    return decode(data, size=SIDE).pixels


def own_small(data: bytes) -> np.ndarray:
    """Decode and prepare as an index run does."""
    return _preparation()(decode(data, size=SIDE).pixels)


@functools.cache
def _preparation() -> Callable[[np.ndarray], np.ndarray]:
    from retrieval.embedder import Embedder

    embedder = Embedder.create(device="cpu")
    assert embedder.image_size == SIDE
    return embedder.prepare


def one_thread() -> None:
    """Give torch one thread in this process; the threads that are compared are ours."""
    import torch

    torch.set_num_threads(1)


def _pillow(*, draft: bool) -> Contender:
    def opened(data: bytes) -> Image.Image:
        picture = Image.open(io.BytesIO(data))
        if draft:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        return picture.convert("RGB")

    return Contender(lambda data: np.asarray(opened(data)), lambda data: _resized(opened(data)))


def _simplejpeg() -> Contender:
    simplejpeg = importlib.import_module("simplejpeg")
    return _by_pillow(lambda data: simplejpeg.decode_jpeg(data))


def _pyturbojpeg() -> Contender:
    decoder = importlib.import_module("turbojpeg").TurboJPEG()
    return _by_pillow(lambda data: decoder.decode(data, pixel_format=0))  # 0: RGB


def _opencv() -> Contender:
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)

    def whole(data: bytes) -> np.ndarray:
        pixels: np.ndarray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return pixels

    def small(data: bytes) -> np.ndarray:
        pixels = whole(data)
        done: np.ndarray = cv2.resize(pixels, _target(*pixels.shape[1::-1]), interpolation=cv2.INTER_CUBIC)
        return done

    return Contender(whole, small)


def _torchvision() -> Contender:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import InterpolationMode, functional

    def tensor(data: bytes) -> Any:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)

    def array(pixels: Any) -> np.ndarray:
        done: np.ndarray = pixels.permute(1, 2, 0).numpy()  # (3, height, width) → (height, width, 3), a view
        return done

    def small(data: bytes) -> np.ndarray:
        return array(functional.resize(tensor(data), [SIDE], InterpolationMode.BICUBIC, antialias=True))

    return Contender(lambda data: array(tensor(data)), small)


def _pyvips() -> Contender:
    os.environ["VIPS_CONCURRENCY"] = "1"  # read when it is loaded
    pyvips = importlib.import_module("pyvips")

    def whole(data: bytes) -> np.ndarray:
        pixels: np.ndarray = pyvips.Image.new_from_buffer(data, "", access="sequential").numpy()
        return pixels

    def small(data: bytes) -> np.ndarray:
        header = pyvips.Image.new_from_buffer(data, "", access="sequential")
        width, height = _target(header.width, header.height)
        pixels: np.ndarray = pyvips.Image.thumbnail_buffer(data, width, height=height, size="force").numpy()
        return pixels

    return Contender(whole, small)


WAYS: dict[str, Callable[[], Contender]] = {
    REFERENCE: lambda: _pillow(draft=False),
    "Pillow, draft": lambda: _pillow(draft=True),
    "lookalike": lambda: Contender(own_whole, own_small, prepared=True),
    "simplejpeg": _simplejpeg,
    "PyTurboJPEG": _pyturbojpeg,
    "OpenCV": _opencv,
    "torchvision": _torchvision,
    "libvips": _pyvips,
}
