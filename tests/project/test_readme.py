"""Every block of the README runs as printed, in its order, in a folder that has what it speaks of."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image

from retrieval import backbones, embedder
from retrieval.datasets.protocol import Counts
from retrieval.datasets.protocols import PROTOCOLS
from tests.conftest import draw_pictures
from webui.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()
NOT_RUN = {"serve": "runs until interrupted; the browser tests serve", "demo": "tested with the commands"}


TINY = "test_efficientnet"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network with random weights in place of the one that comes with it: training runs dozens of epochs."""
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model(TINY, pretrained=False).state_dict(), package / "tiny.pth")
    digest = hashlib.sha256((package / "tiny.pth").read_bytes()).hexdigest()
    bundled = backbones.BundledWeights("tiny_weights", "tiny.pth", digest, "tiny-weights")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(backbones, "BUNDLED", {TINY: bundled})
    for room in (backbones, embedder):  # both are loaded before, so that neither keeps the tiny one
        monkeypatch.setattr(room, "DEFAULT_BACKBONE", TINY)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the photos, tables and lists that the README speaks of."""
    photos = draw_pictures(tmp_path / "photos", per_class=6)
    draw_pictures(tmp_path / "new-photos", per_class=6, seed=3)
    draw_pictures(tmp_path / "test-photos", per_class=6, seed=4)
    shutil.copy(photos / "Paint/Red/000.jpg", tmp_path / "query.jpg")
    shutil.copy(photos / "Paint/Red/001.jpg", photos / "Paint/Red/copy-of-001.jpg")
    (tmp_path / "products.csv").write_text("photo,sku,category,price\nphotos/Paint/Red/001.jpg,r-1,paint,9.5\n")
    encoded = io.BytesIO()
    Image.new("RGB", (20, 30), "teal").save(encoded, "JPEG")
    pq.write_table(pa.table({"image": [encoded.getvalue()], "price": [3]}), tmp_path / "products.parquet")
    for split, seed in (("train", 1), ("test", 2)):
        draw_pictures(tmp_path / "dataset" / split, per_class=2, seed=seed)
        uris = sorted(
            p.relative_to(tmp_path / "dataset").as_posix() for p in (tmp_path / "dataset" / split).rglob("*.jpg")
        )
        lines = [f"{uri}, {place // 2}, 0\n" for place, uri in enumerate(uris)]
        (tmp_path / "dataset" / f"{split}.txt").write_text("".join(lines))
    classes = ["name,id,coarse name,coarse id,iconic image,description"]
    for place, name in enumerate(("Blue", "Green", "Red", "Yellow")):
        iconic = f"iconic-images-and-descriptions/Paint/{name}/{name}_Iconic.jpg"
        (tmp_path / "dataset" / iconic).parent.mkdir(parents=True)
        shutil.copy(tmp_path / "query.jpg", tmp_path / "dataset" / iconic)
        classes.append(f"{name},{place},Paint,0,/{iconic},/{name}.txt")
    (tmp_path / "dataset" / "classes.csv").write_text("\n".join(classes))
    # Its counts are not the published ones.
    grocery = PROTOCOLS["grocery"]
    task = grocery.tasks["retrieval"]
    counts = {"query": Counts(8, 4), "gallery": Counts(8, 4)}
    monkeypatch.setitem(PROTOCOLS, "grocery", replace(grocery, tasks={"retrieval": replace(task, counts=counts)}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_runs_as_printed(desk: Path, small: None, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^\$ lookalike (.+)$", README, re.M)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] in NOT_RUN:
            continue
        with pytest.raises(SystemExit) as ended:
            main(words)
        output = capsys.readouterr()
        assert ended.value.code == 0, f"lookalike {line}: {output.err}"
        assert output.out
    assert (desk / "hits.html").is_file()
    assert json.loads((desk / "mine" / "model.json").read_text())["architecture"]["backbone"] == TINY
    assert (desk / "frozen" / "report.html").is_file() and (desk / "report" / "report.html").is_file()


def test_the_python_block_runs_as_printed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    rank, id, similarity, label = lines[0].split()
    assert (rank, id, label) == ("1", "Paint/Red/000.jpg", "Paint/Red")
    assert float(similarity) == pytest.approx(1)
