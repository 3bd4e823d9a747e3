"""What this machine is, as far as speed depends on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def processor() -> str:
    """Name the processor, as well as the system says."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(distribution: str) -> str | None:
    """The installed version of a distribution; None when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def fingerprint(distributions: Sequence[str], *more: str) -> str:
    """Sixteen hexadecimal digits that change with the processor, its cores, the versions named, and ``more``."""
    flags = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    what = [processor(), flags, cores(), platform.system(), *more, {name: version(name) for name in distributions}]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
