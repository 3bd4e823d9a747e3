"""What the tests of training share: drawn pictures, made once."""

from __future__ import annotations

import pytest

from retrieval.lesson import Examples
from tests.retrieval.lessons import draw_stripes


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Eight classes of six striped pictures."""
    return draw_stripes(tmp_path_factory.mktemp("stripes"))
