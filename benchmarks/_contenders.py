"""What runs in the processes of the benchmark of ingest: ``lookalike index``, its parts alone, a plain script."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

    from retrieval.embedder import Embedder
    from retrieval.manifest import Manifest

BACKBONE: Final = "tf_efficientnet_lite0"


def lookalike_index(listing: Path, out: Path, *, runtime: str) -> None:
    """Run the command; it prints one JSON object."""
    from webui.cli import main as lookalike

    options = ["--root", "/", "--catalogue", str(out), "--device", "cpu", "--runtime", runtime, "--json"]
    lookalike(["index", str(listing), *options])


def parts(listing: Path, out: Path, *, rounds: int) -> dict[str, Any]:
    """Measure decoding alone, embedding alone, and both in ``ingest``: the best images/s of each, and all rounds."""
    from indexer.pipeline import SAMPLE
    from retrieval.embedder import Embedder
    from retrieval.manifest import read_manifest

    manifest = read_manifest(listing, root=Path("/"))
    embedder = Embedder.create(device="cpu")
    pixels = _decode(manifest, embedder, keep=True)
    embedder.tune(pixels[:SAMPLE], expected=len(pixels))
    _embed(pixels[: 4 * SAMPLE], embedder)
    found: list[dict[str, float]] = []
    for turn in range(rounds):
        images = manifest.table.num_rows
        row = {
            "decode": images / _seconds(lambda: _decode(manifest, embedder, keep=False)),
            "embed": len(pixels) / _seconds(lambda: _embed(pixels, embedder)),
        }
        row["ingest"], row["steady"] = _ingest(manifest, embedder, out.with_name(f"{out.name}-{turn}"))
        found.append(row)
    best = {name: max(row[name] for row in found) for name in found[0]}
    return {**best, "rounds": found, "runtime": embedder.runtime, "at_once": embedder.at_once}


def _decode(manifest: Manifest, embedder: Embedder, *, keep: bool) -> list[np.ndarray]:
    from indexer.decoding import DecodeAhead, Memory
    from indexer.pipeline import MEMORY
    from retrieval.sources import ImageSource

    memory, kept, uris = Memory(MEMORY), [], manifest.table.column("uri").to_pylist()
    with (
        ImageSource(manifest.root) as source,
        DecodeAhead(source, uris, embedder, known=set(), memory=memory) as ahead,
    ):
        for decoded in ahead:
            memory.give_back(decoded.bytes)
            if keep and decoded.pixels is not None:
                kept.append(decoded.pixels)
    return kept


def _embed(pixels: list[np.ndarray], embedder: Embedder) -> None:
    from indexer.pipeline import BATCH

    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    with ThreadPoolExecutor(embedder.at_once) as threads:
        for _ in threads.map(lambda batch: embedder.embed(batch, prepared=True), batches):
            pass


def _ingest(manifest: Manifest, embedder: Embedder, place: Path) -> tuple[float, float]:
    """Make a catalogue: images/s of all of ``ingest``, and between the first and the last quarter of the photos."""
    from indexer.catalogue import Catalogue
    from indexer.ingest import ingest

    marks: list[tuple[int, float]] = []  # images done, when
    total = manifest.table.num_rows
    with Catalogue.create(place, embedder, device="cpu") as catalogue:
        began = time.perf_counter()
        ingest(catalogue, manifest, progress=lambda done, _, __: marks.append((done, time.perf_counter())))
        seconds = time.perf_counter() - began
    shutil.rmtree(place)
    # Outcomes come a batch at a time: its last one tells when it was embedded.
    ends = [mark for mark, after in pairwise(marks) if after[1] - mark[1] > 1e-3]
    middle = [mark for mark in ends if total / 4 <= mark[0] <= 3 * total / 4]
    if len(middle) < 2:
        return total / seconds, float("nan")
    return total / seconds, (middle[-1][0] - middle[0][0]) / (middle[-1][1] - middle[0][1])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plain_script(listing: Path, out: Path, *, channels_last: bool) -> None:
    """What one writes in ten minutes: timm, its transform, a DataLoader, FAISS."""
    import faiss
    import numpy as np
    import torch
    from PIL import Image
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    from retrieval.backbones import load_backbone

    model, _, _ = load_backbone(BACKBONE)  # for the offline weights; a plain model comes out
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
        vectors = np.concatenate([model(batch.to(memory_format=layout)).numpy() for batch in loader])
    faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(out))
