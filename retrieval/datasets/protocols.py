"""The table of benchmarks: a name, and what it fixes."""

from __future__ import annotations

from typing import Final

from retrieval.datasets.protocol import Protocol

PROTOCOLS: Final[dict[str, Protocol]] = {}
"""Name on the command line → protocol. A further one is a module that makes its ``Protocol``, and a line here."""
