"""Fixtures that every room of the tests may use."""

from __future__ import annotations

import os
import signal

# Two workers of two threads each on two cores took four times as long over training; torch reads it once, when loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder
from tests.webui.commands import TINY, Run
from webui.cli import main

settings.register_profile(
    "lookalike", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("lookalike")

COLOURS = {"Red": (200, 40, 40), "Green": (40, 180, 60), "Blue": (40, 60, 200), "Sand": (220, 190, 140)}
PER_CLASS = 6


@pytest.fixture(autouse=True)
def interruptible() -> None:
    """Ctrl-C as users have it: jobs in the background ignore it, and Lightning leaves it ignored when interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of converted networks for the tests and the processes they start, apart from the user's own."""
    folder = tmp_path_factory.mktemp("conversions")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LOOKALIKE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos; the test is skipped where it is absent."""
    place = os.environ.get("LOOKALIKE_DATA")
    folder = Path(place) if place else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real photos are not here: set LOOKALIKE_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def shared_photos(shared_data: Path) -> Path:
    """The folder of the Grocery Store Dataset's lists."""
    return shared_data / "grocery" / "dataset"


def draw_pictures(folder: Path, per_class: int = PER_CLASS, seed: int = 0) -> Path:
    """Draw ``Paint/<colour>/<n>.jpg``: four classes of noisy pictures of one colour, all different."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        place = folder / "Paint" / name
        place.mkdir(parents=True)
        for number in range(per_class):
            noise = rng.normal(0, 12, (40, 48, 3)) + rng.normal(0, 6, 3)
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number:03d}.jpg", quality=92)
    return folder


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """24 drawn pictures in four classes, ``pictures/Paint/Red/000.jpg`` and so on."""
    return draw_pictures(tmp_path / "pictures")


@pytest.fixture
def embedder() -> ColourEmbedder:
    return ColourEmbedder()


@pytest.fixture
def catalogue(tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder) -> Iterator[Catalogue]:
    """The drawn pictures, indexed."""
    with Catalogue.create(tmp_path / "catalogue", embedder) as made:
        ingest(made, read_manifest(picture_folder))
        yield made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny backbone."""
    from tests.weights import random_weights

    return random_weights(tmp_path_factory.mktemp("weights"), TINY)
