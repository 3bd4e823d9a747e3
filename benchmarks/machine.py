"""What a figure was measured on, printed above every table."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from retrieval.machine import processor

VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def print_machine(packages: Sequence[str]) -> None:
    """Print date, processor, versions of ``packages`` and the variables that move speed."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    settings = ", ".join(f"{name}={os.environ.get(name, '(unset)')}" for name in VARIABLES)
    print(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{versions}\n{settings}\n")


def photo_folder() -> Path:
    """The folder of real photos: ``LOOKALIKE_DATA``, else ``../shared/data``."""
    return Path(os.environ.get("LOOKALIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
