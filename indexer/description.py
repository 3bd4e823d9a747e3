"""What a catalogue holds, in numbers and words."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from indexer.calibrating import calibration_of
from indexer.catalogue import Catalogue
from retrieval.errors import DamagedError
from retrieval.model_card import model_card


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Describe a catalogue without loading its embedder or its index.

    Returns:
        ``name``, ``note``, ``items``, ``labels`` (distinct), ``unlabelled``, ``version``, ``embedder`` (its card),
        ``vectors`` (runtime → how many it computed), ``index`` (specification), ``columns`` (the user's own),
        ``sources`` (folder → items), ``rejected``, ``bytes`` on disk, ``calibration`` of its labels (see
        ``indexer.calibrating.Kept.about``; ``damaged``, a sentence, where it cannot be read; None: there is none).
    """
    items = catalogue.items()
    label = items.column("label")
    sources = pc.value_counts(items.column("source")).to_pylist()
    ours = {"row", "id", "uri", "source", "sha256", "width", "height", "label"}
    return {
        "name": catalogue.about["name"],
        "note": catalogue.note,
        "items": items.num_rows,
        "labels": pc.count_distinct(label).as_py(),
        "unlabelled": label.null_count,
        "version": catalogue.version,
        "embedder": model_card(catalogue.path / "embedder" / catalogue.digest, catalogue.digest),
        "vectors": catalogue.vectors.runtimes(),
        "index": catalogue.about["index"],
        "columns": [name for name in items.column_names if name not in ours],
        "sources": {entry["values"]: entry["counts"] for entry in sources},
        "calibration": _calibration(catalogue),
        "rejected": catalogue.rejected.read(["uri"]).num_rows,
        "bytes": sum(path.stat().st_size for path in catalogue.path.rglob("*") if path.is_file()),
    }


def _calibration(catalogue: Catalogue) -> dict[str, Any] | None:
    try:
        kept = calibration_of(catalogue)
    except DamagedError as error:
        return {"damaged": str(error)}
    return None if kept is None else kept.about
