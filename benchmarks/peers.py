"""Two published encoders as contenders of the ingest benchmark, on our backbone: imagededup and clip-retrieval.

Both get the model that ``load_backbone`` gives and timm's transform for it. imagededup has a door for models of one's
own; clip-retrieval has none, so a loader is put into the private table of its package all_clip. Reading, batching and
writing stay theirs. What each stores: imagededup hands back a dictionary, written here with one ``numpy.savez``;
clip-retrieval writes its float16 ``.npy`` and its Parquet file itself.

They want older packages than ours (clip-retrieval: numpy 1, pyarrow below 16), so they live in an environment of
their own that borrows torch and timm from ours; ``LOOKALIKE_PEERS`` names its interpreter. From the repository::

    python3.11 -m venv ../peers
    site='import sysconfig; print(sysconfig.get_path("purelib"))'
    .venv/bin/python -c "$site" > "$(../peers/bin/python -c "$site")/lookalike.pth"
    ../peers/bin/pip install 'imagededup==0.3.3.post2' 'clip-retrieval==2.45.0' 'setuptools<81'
    ../peers/bin/pip install 'difPy==4.2.1' 'czkawka==0.1.2'  # for the benchmark of duplicates
    LOOKALIKE_PEERS=../peers/bin/python .venv/bin/python -m benchmarks ingest

pip warns that numpy and pyarrow no longer suit lookalike: true of that environment, which runs only the peers.
``setuptools<81`` is for clip-anytorch, which imports ``pkg_resources``.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

BACKBONE: Final = "tf_efficientnet_lite0"

# The CPU is what is measured, and nothing may be fetched.
ENVIRONMENT: Final = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


@dataclass(frozen=True)
class Peer:
    """One contender.

    Attributes:
        module: what its package is imported as.
        encode: takes the list (a CSV file with a column ``path``) and the place of the vectors.
    """

    module: str
    encode: Callable[[Path, Path], None]


def interpreter() -> str:
    """The Python that has the peers: ``LOOKALIKE_PEERS``, else this one."""
    return os.environ.get("LOOKALIKE_PEERS") or sys.executable


def usable(name: str) -> str | None:
    """Say why the contender ``name`` cannot run, or None if it can; takes the seconds of its imports."""
    return importable(PEERS[name].module)


def importable(module: str) -> str | None:
    """Say why ``module`` cannot be imported where the peers are, or None if it can."""
    program = f"import retrieval.backbones, {module}"
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            [str(_absolute(interpreter())), "-W", "ignore", "-c", program],
            cwd=root,
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return f"LOOKALIKE_PEERS: {error}"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _absolute(program: str) -> Path | str:
    return Path(program).absolute() if os.sep in program else program  # resolve() would leave the environment


def _imagededup(listing: Path, out: Path, *, workers: int) -> None:
    os.environ.update(ENVIRONMENT)
    import numpy as np
    from imagededup.methods import CNN  # type: ignore[import-not-found]
    from imagededup.utils import CustomModel  # type: ignore[import-not-found]

    model, transform = plain_backbone()
    encoder = CNN(verbose=False, model_config=CustomModel(name=BACKBONE, model=model, transform=transform))
    with _folder(listing) as photos:
        vectors = encoder.encode_images(image_dir=photos, num_enc_workers=workers)
    with out.open("wb") as file:
        np.savez(file, names=list(vectors), vectors=np.stack(list(vectors.values())))


def _clip_retrieval(listing: Path, out: Path, *, batch_size: int, workers: int) -> None:
    os.environ.update(ENVIRONMENT)
    import all_clip.main  # type: ignore[import-not-found]
    from clip_retrieval import clip_inference  # type: ignore[import-not-found]

    # The loaders are tried in order and the last takes every name; ours comes first. Warming up (two batches of the
    # chosen size, before the first photo) stays: users of clip-retrieval wait for it too.
    loaders = all_clip.main._CLIP_REGISTRY
    others = dict(loaders)
    loaders.clear()
    loaders.update({"lookalike:": _load_clip, **others})
    with _folder(listing) as photos:
        clip_inference(
            input_dataset=str(photos),
            output_folder=str(out),
            batch_size=batch_size,
            num_prepro_workers=workers,
            enable_text=False,
            clip_model=f"lookalike:{BACKBONE}",
        )


def _load_clip(name: str, use_jit: bool, device: str, cache: str | None) -> tuple[Any, Any, Any]:
    """Load a model as all_clip's loaders do: the model, its preprocessing, its tokenizer. Pictures only."""
    import torch

    model, transform = plain_backbone()

    class Pictures:
        def encode_image(self, batch: torch.Tensor) -> torch.Tensor:
            vectors: torch.Tensor = model(batch)
            return vectors

        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:  # only warming up calls it
            return tokens

    return Pictures(), lambda image: transform(image.convert("RGB")), lambda texts: torch.zeros(len(texts), 1)


def plain_backbone() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    """The default backbone with its bundled weights, as timm has it, and timm's transform for it."""
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    from retrieval.backbones import load_backbone

    model, _, _ = load_backbone(BACKBONE)  # for the offline weights; a plain model comes out
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    transform: Callable[[Any], torch.Tensor] = create_transform(**config, is_training=False)
    return model, transform


@contextmanager
def _folder(listing: Path) -> Iterator[Path]:
    """Give the listed photos as a folder of links, in the order of the list; a millisecond for a hundred photos."""
    with tempfile.TemporaryDirectory() as folder, listing.open(newline="") as file:
        for place, row in enumerate(csv.DictReader(file)):
            photo = Path(row["path"])
            Path(folder, f"{place:08d}{photo.suffix}").symlink_to(photo)
        yield Path(folder)


# Each with its own defaults, and with documented settings that were clearly faster than those on two cores. Batches of
# 8, 16 and 32 could not be told apart for clip-retrieval, nor 2 and 3 workers for imagededup.
PEERS: Final[dict[str, Peer]] = {
    "imagededup": Peer("imagededup.methods", partial(_imagededup, workers=0)),
    "imagededup, 2 workers": Peer("imagededup.methods", partial(_imagededup, workers=2)),
    "clip-retrieval": Peer("clip_retrieval", partial(_clip_retrieval, batch_size=256, workers=4)),
    "clip-retrieval, batch 16": Peer("clip_retrieval", partial(_clip_retrieval, batch_size=16, workers=2)),
}
