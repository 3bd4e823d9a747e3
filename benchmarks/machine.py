"""What a figure was measured on, printed above every table."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from retrieval.machine import cores, processor, version

VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def print_machine(packages: Sequence[str]) -> None:
    """Print date, processor, load, versions of ``packages`` and the variables that move speed."""
    versions = ", ".join(f"{name} {version(name) or '(not installed)'}" for name in packages)
    settings = ", ".join(f"{name}={os.environ.get(name, '(unset)')}" for name in VARIABLES)
    print(f"{datetime.date.today()}, {processor()}, {cores()} cores, Python {platform.python_version()}")
    print(f"{load()} (an idle machine has none)\n{versions}\n{settings}\n", flush=True)


def load() -> str:
    """Say how busy the machine was in the last minute and the last five; what ran before counts too."""
    minute, five, _ = os.getloadavg()
    return f"load of the machine {minute:.2f}, over five minutes {five:.2f}"


def photo_folder() -> Path:
    """The folder of real photos: ``LOOKALIKE_DATA``, else ``../shared/data``."""
    return Path(os.environ.get("LOOKALIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
