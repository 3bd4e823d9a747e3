"""A Chromium of the system, driven by Playwright; the tests are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from tests.webui.serving import serving
from webui.app import create_app

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A running browser without windows."""
    given = os.environ.get("LOOKALIKE_CHROMIUM")
    program = given or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None and os.environ.get("LOOKALIKE_REQUIRE_BROWSER"):
        pytest.fail("the browser tests must run here, and there is no Chromium")
    if program is None:
        pytest.skip(f"no Chromium here: none of {', '.join(NAMES)} is on the PATH, and LOOKALIKE_CHROMIUM names none")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra test has it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(catalogue: Catalogue) -> Iterator[str]:
    """The address of the drawn pictures, served."""
    with serving(create_app(catalogue, max_upload=1)) as address:
        yield address


@pytest.fixture
def open_page(chromium, site: str) -> Iterator[Callable[..., object]]:
    """Opens pages of the site; what a page complains of in the console fails the test."""
    contexts, complaints = [], []

    def open_one(path: str = "/", **context: object) -> object:
        made = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        made.set_default_timeout(20_000)
        contexts.append(made)
        page = made.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # An answer of 4xx is a message of the console too; those are looked for on purpose.
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if "Failed to load" not in message.text and message.type == "error"
                else None
            ),
        )
        page.goto(site + path)
        return page

    yield open_one
    for made in contexts:
        made.close()
    assert not complaints


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A red picture that is not in the catalogue."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(99)
    pixels = np.clip(np.array((200, 40, 40)) + rng.normal(0, 12, (40, 48, 3)), 0, 255).astype(np.uint8)
    path = tmp_path / "a red photo.jpg"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def open_file(chromium, files: dict[str, Path]) -> Iterator[Callable[..., object]]:
    """Opens one of the test's files; what it complains of or asks for beyond itself fails the test."""
    contexts, complaints, asked = [], [], []

    def open_one(name: str, **context: object) -> object:
        made = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        made.set_default_timeout(20_000)
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(files[name].as_uri())
        return page

    yield open_one
    for made in contexts:
        made.close()
    assert not complaints
    ours = {file.as_uri() for file in files.values()}
    assert [url for url in asked if not url.startswith("data:") and url not in ours] == []
