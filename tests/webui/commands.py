"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

TINY = "test_efficientnet"
ON_CPU = ("--device", "cpu", "--runtime", "torch")
Run = Callable[..., tuple[int, str, str]]


def as_json(output: tuple[int, str, str]) -> Any:
    code, out, _ = output
    assert code == 0
    assert len(out.splitlines()) == 1
    return json.loads(out)
