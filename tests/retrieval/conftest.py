"""What the tests of training share: drawn pictures and random weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.lesson import Examples
from tests.retrieval.lessons import draw_stripes, random_weights


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Eight classes of six striped pictures."""
    return draw_stripes(tmp_path_factory.mktemp("stripes"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny backbone."""
    return random_weights(tmp_path_factory.mktemp("weights"))
