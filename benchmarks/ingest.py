"""How fast is ``lookalike index`` beside a plain timm + DataLoader + FAISS script, and does its memory grow?

Every contender is a fresh process on the same photos, one after another, the default backbone in all of them.
Figures include everything a user waits for: imports, weights, reading, embedding, storing.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import photo_folder, print_machine


def main(arguments: list[str]) -> None:
    """Print images/s and peak memory of each contender, and the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--source", type=Path, default=photo_folder() / "grocery" / "dataset" / "train.txt")
    parser.add_argument("--images", type=int, default=1024, help="photos every contender indexes")
    parser.add_argument("--rounds", type=int, default=2, help="each contender runs so often; the best counts")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contender:
        CONTENDERS[given.contender](given.list, given.out)
        return
    print_machine(["torch", "timm", "pillow", "faiss-cpu", "deltalake", "pyarrow"])
    print(f"{given.images} photos of {given.source.name}, {given.rounds} rounds, best of each\n")
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"all": given.images, "quarter": given.images // 4}
        lists = {name: _write_list(given.source, Path(folder) / f"{name}.csv", size) for name, size in sizes.items()}
        best: dict[str, tuple[float, float]] = {}
        for turn in range(given.rounds):
            for name in CONTENDERS:
                seconds, memory = _run(name, lists["all"], Path(folder) / f"{name}-{turn}")
                best[name] = min(best.get(name, (float("inf"), 0.0)), (seconds, memory))
        _, small = _run("lookalike index", lists["quarter"], Path(folder) / "small")
    print(f"{'contender':28s} {'seconds':>8s} {'images/s':>9s} {'peak MiB':>9s} {'ratio':>7s}")
    reference = best["lookalike index"][0]
    for name, (seconds, memory) in best.items():
        print(f"{name:28s} {seconds:8.1f} {given.images / seconds:9.1f} {memory:9.0f} {seconds / reference:6.2f}x")
    print("\nratio: images/s of lookalike index divided by the contender's")
    grown = best["lookalike index"][1] - small
    print(
        f"peak memory of lookalike index: {small:.0f} MiB for {sizes['quarter']} photos, "
        f"{small + grown:.0f} MiB for {sizes['all']}"
    )


def _write_list(source: Path, path: Path, images: int) -> Path:
    from retrieval.manifest import read_manifest

    manifest = read_manifest(source)
    uris = manifest.table.column("uri").to_pylist()
    step = max(1, len(uris) // images)
    chosen = uris[::step][:images]
    if len(chosen) < images:
        sys.exit(f"{source} has {len(uris)} photos, fewer than {images}")
    path.write_text("path\n" + "".join(f'"{manifest.root / uri}"\n' for uri in chosen))
    return path


def _run(contender: str, listing: Path, out: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks", "ingest", "--contender", contender]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--list", str(listing), "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = _wait(process.pid)
    if status:
        sys.exit(f"{contender} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def _wait(pid: int) -> tuple[int, int, resource.struct_rusage]:
    import os

    return os.wait4(pid, 0)


def _lookalike(listing: Path, out: Path) -> None:
    from webui.cli import main as lookalike

    root = Path("/")
    lookalike(["index", str(listing), "--root", str(root), "--catalogue", str(out), "--device", "cpu", "--json"])


def _plain(listing: Path, out: Path, *, channels_last: bool) -> None:
    """What one writes in ten minutes: timm, its transform, a DataLoader, FAISS."""
    import csv

    import faiss
    import numpy as np
    import torch
    from PIL import Image
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    from retrieval.backbones import load_backbone

    model, _, _ = load_backbone("tf_efficientnet_lite0")  # for the offline weights; a plain model comes out
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    paths = [row["path"] for row in csv.DictReader(listing.open())]

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, place: int) -> torch.Tensor:
            tensor: torch.Tensor = transform(Image.open(paths[place]).convert("RGB"))
            return tensor

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    loader = torch.utils.data.DataLoader(Photos(), batch_size=32, num_workers=2)
    with torch.inference_mode():
        parts = [model(batch.to(memory_format=layout)).numpy() for batch in loader]
    vectors = np.concatenate(parts)
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(out))


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "lookalike index": _lookalike,
    "plain script": lambda listing, out: _plain(listing, out, channels_last=False),
    "plain script, channels-last": lambda listing, out: _plain(listing, out, channels_last=True),
}
