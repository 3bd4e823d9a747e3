"""``python -m benchmarks NAME [options]``: run one benchmark."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> None:
    """Run the benchmark that is named, or say which there are."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name[0] != "_")
    runnable = [name for name in names if name not in ("machine", "peers")]
    if len(sys.argv) < 2 or sys.argv[1] not in runnable:
        print(f"usage: python -m benchmarks NAME [options]\nNAME: {', '.join(runnable)}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
