"""The pictures of a training run: the same whether they are kept in memory or not, and none dropped in silence."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from retrieval.backbones import Preprocessing
from retrieval.datasets.cuts import CutSource
from retrieval.errors import ImageError, InputError
from retrieval.images import decode
from retrieval.picture_store import PictureStore, available_memory
from retrieval.sources import ImageSource
from tests.retrieval.pictures import encoded, gradient

SIZES = {"wide.jpg": (90, 60), "high.png": (50, 120), "small.png": (20, 30), "square.jpg": (64, 64)}
NAMES = list(SIZES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (wide, high) in SIZES.items():
        Image.fromarray(gradient(wide, high)).save(tmp_path / name)
    return tmp_path


@pytest.fixture(params=["in memory", "decoded each time"])
def memory(request: pytest.FixtureRequest) -> int:
    return 2**20 if request.param == "in memory" else 5000


def test_pictures_are_kept_with_their_shorter_side_at_the_size_and_never_enlarged(folder: Path, memory: int) -> None:
    store = PictureStore(ImageSource(folder), NAMES, size=40, memory=memory).fill(threads=2)
    assert store.in_memory == (memory > 5000)
    assert len(store) == 4
    assert store.refused == []
    assert [store[place].shape for place in range(4)] == [(40, 60, 3), (96, 40, 3), (30, 20, 3), (40, 40, 3)]
    for place, (wide, high) in enumerate(SIZES.values()):
        picture = store[place]
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        expected = Image.fromarray(gradient(wide, high)).resize(picture.shape[1::-1], Image.Resampling.BICUBIC)
        # A JPEG's own loss is larger than what the two resizes differ by.
        np.testing.assert_allclose(picture.astype(int), np.asarray(expected).astype(int), atol=12)


def test_what_is_kept_is_what_is_decoded_anew_to_the_bit(folder: Path) -> None:
    uris = [*NAMES, "wide.jpg#xywh=10,10,70,50"]
    kept = PictureStore(CutSource(folder), uris, size=40, memory=2**20).fill()
    anew = PictureStore(CutSource(folder), uris, size=40, memory=0).fill()
    assert kept.in_memory and not anew.in_memory
    assert kept.kept_bytes == sum(anew[place].size for place in range(5))
    assert anew.kept_bytes == 0
    for place in range(5):
        np.testing.assert_array_equal(kept[place], anew[place])


def test_at_its_own_size_the_embedder_sees_what_it_would_see_of_the_file(folder: Path) -> None:
    preprocessing = Preprocessing(32, 32, 0.8, "center", "bicubic", (0.5,) * 3, (0.5,) * 3)
    store = PictureStore(ImageSource(folder), NAMES, size=preprocessing.shorter_side, memory=2**20).fill()
    prepare = preprocessing.preparation()
    for place, name in enumerate(NAMES):
        whole = decode((folder / name).read_bytes(), size=preprocessing.shorter_side).pixels
        np.testing.assert_array_equal(prepare(store[place]), prepare(whole))


def test_writing_into_a_picture_does_not_change_the_kept_one(folder: Path) -> None:
    store = PictureStore(ImageSource(folder), NAMES, size=40, memory=2**20).fill()
    before = store[0].copy()
    store[0][:] = 0
    np.testing.assert_array_equal(store[0], before)


def test_pictures_that_cannot_be_used_are_told_and_the_others_keep_their_places(folder: Path, memory: int) -> None:
    (folder / "cut.jpg").write_bytes((folder / "wide.jpg").read_bytes()[:400])
    (folder / "text.jpg").write_text("no picture")
    uris = ["wide.jpg", "cut.jpg", "gone.jpg", "high.png", "text.jpg"]
    told: list[tuple[int, int, int]] = []
    store = PictureStore(ImageSource(folder), uris, size=40, memory=memory)
    store.fill(threads=2, progress=lambda done, total, refused: told.append((done, total, refused)))
    assert store.in_memory == (memory > 5000)
    if not store.in_memory:  # they are read when they are asked for, and refused then
        assert (store.refused, told) == ([], [])
        for place in (1, 2, 4):
            with pytest.raises(ImageError, match=uris[place]):
                store[place]
        assert store[3].shape[2] == 3
        return
    assert [place for place, _ in store.refused] == [1, 2, 4]
    reasons = [reason for _, reason in store.refused]
    assert reasons[1] == "no such file"
    assert all(reasons)
    assert store[0].shape == (40, 60, 3)
    assert store[3].shape == (96, 40, 3)
    assert told == [(1, 5, 0), (2, 5, 1), (3, 5, 2), (4, 5, 2), (5, 5, 3)]
    with pytest.raises(ImageError, match=r"the picture gone\.jpg cannot be used: no such file"):
        store[2]
    assert store.notice.startswith("2 pictures at 40 pixels")


def test_too_many_pictures_are_not_kept_and_the_notice_says_so_with_the_figures(folder: Path) -> None:
    store = PictureStore(ImageSource(folder), NAMES * 50, size=40, memory=2**20).fill()
    assert not store.in_memory
    # (40 x 60 + 96 x 40 + 30 x 20 + 40 x 40) x 3 x 50
    assert store.notice == (
        "200 pictures at 40 pixels would take about 1.2 MiB of memory, more than the 1.0 MiB they may take, "
        "so each is decoded again whenever it is shown"
    )
    enough = PictureStore(ImageSource(folder), NAMES * 50, size=40, memory=2 * 2**20).fill()
    assert enough.notice == "200 pictures at 40 pixels are kept in memory: 1.2 MiB of the 2.0 MiB they may take"
    assert all(np.array_equal(enough[place], store[place]) for place in (0, 7, 198))


def test_a_wrong_forecast_is_noticed_while_filling(folder: Path) -> None:
    # The 32 headers that are looked at are those of the small ones.
    looked_at = set(np.linspace(0, 199, 32).astype(int).tolist())
    uris = ["small.png" if place in looked_at else "high.png" for place in range(200)]
    store = PictureStore(ImageSource(folder), uris, size=40, memory=600_000).fill()
    assert not store.in_memory
    assert store.kept_bytes == 0
    assert "more than the" in store.notice
    assert store[1].shape == (96, 40, 3)


def test_rows_of_parquet_files_are_pictures_too(tmp_path: Path, memory: int) -> None:
    rows = [encoded(gradient(60 + row, 50), "PNG") for row in range(5)]
    pq.write_table(pa.table({"image": rows}), tmp_path / "shop.parquet")
    uris = [f"shop.parquet#row={row}" for row in (3, 0, 4)]
    store = PictureStore(ImageSource(tmp_path), uris, size=100, memory=memory * 5).fill()
    assert [store[place].shape[1] for place in range(3)] == [63, 60, 64]


def test_a_store_travels_to_another_process(folder: Path, memory: int) -> None:
    store = PictureStore(ImageSource(folder), NAMES, size=40, memory=memory).fill()
    again = pickle.loads(pickle.dumps(store))
    assert again.in_memory == store.in_memory
    for place in range(4):
        np.testing.assert_array_equal(again[place], store[place])


def test_workers_of_a_loader_that_are_spawned_give_the_same_pictures(folder: Path) -> None:
    kept = PictureStore(ImageSource(folder), NAMES, size=40, memory=2**20).fill()
    anew = PictureStore(ImageSource(folder), NAMES, size=40, memory=0).fill()
    both = torch.utils.data.ConcatDataset([kept, anew])  # type: ignore[arg-type,list-item]
    loader = torch.utils.data.DataLoader(
        both, batch_size=None, num_workers=1, multiprocessing_context="spawn", collate_fn=None
    )
    for place, picture in enumerate(loader):
        np.testing.assert_array_equal(picture, kept[place % 4])


def test_no_pictures_are_no_trouble(tmp_path: Path) -> None:
    assert len(PictureStore(ImageSource(tmp_path), [], size=40).fill()) == 0
    with pytest.raises(InputError, match="kept at one pixel or more, not at 0"):
        PictureStore(ImageSource(tmp_path), [], size=0)


def system(root: Path, available: int, groups: str, files: dict[str, int | str]) -> Path:
    """Draw what the kernel shows; sizes in kB where it says so."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 999999 kB\nMemAvailable:   {available} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, value in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def test_available_memory_is_what_the_system_or_the_tightest_group_leaves(tmp_path: Path) -> None:
    free = system(tmp_path / "free", 5000, "0::/\n", {})
    assert available_memory(free) == 5000 * 1024
    nested = system(
        tmp_path / "nested",
        5000,
        "0::/jobs/one\n",
        {
            "jobs/memory.max": 3_000_000,
            "jobs/memory.current": 2_500_000,
            "jobs/memory.stat": "anon 7\ninactive_file 100000",
            "jobs/one/memory.max": "max",
            "jobs/one/memory.current": 0,
            "jobs/one/memory.stat": "anon 0",
        },
    )
    assert available_memory(nested) == 600_000
    # The first version, in a container that sees its own group at the top.
    first = system(
        tmp_path / "first",
        5000,
        "4:cpu,memory:/docker/123\n1:cpu:/\n0::/\n",
        {
            "memory/memory.limit_in_bytes": 2_000_000,
            "memory/memory.usage_in_bytes": 1_500_000,
            "memory/memory.stat": "total_inactive_file 1000\ninactive_file 5",
        },
    )
    assert available_memory(first) == 501_000
    full = system(
        tmp_path / "full",
        5000,
        "0::/\n",
        {"memory.max": 1000, "memory.current": 2000, "memory.stat": "inactive_file 0"},
    )
    assert available_memory(full) == 0


def test_a_system_without_these_files_still_gets_an_answer(tmp_path: Path) -> None:
    assert available_memory(tmp_path) >= 2**28
    assert available_memory() > 0
