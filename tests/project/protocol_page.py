"""docs/protocols.md, made from the table of protocols: ``python -m tests.project.protocol_page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from retrieval.datasets.protocol import Counts
from retrieval.datasets.protocols import PROTOCOLS

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
HEAD = """# Protocols

What `lookalike evaluate EMBEDDER --protocol NAME --root DIR [--task TASK]` measures, and what the folder must hold. A
folder that differs (counts, files that are missing or that no list names, classes on both sides, images that cannot be
decoded, `--boxes` where the protocol uses none) is refused with the differences; `--anyway` measures it as
non-standard. A `-` is a count that no source gives; it is not checked.

Retrieval: `test` is query and gallery at once, the query itself left out by id; `query` is searched in `gallery`.
Classification: `test` (`val` where the test has no labels) against the nearest images of `train`, nothing trained; or
by the classifier head of an embedder that was trained on `train` (`--classifier`).
"""


def page() -> str:
    """The page."""
    return HEAD + "".join(section(name) for name in PROTOCOLS)


def section(name: str) -> str:
    """What one protocol fixes."""
    protocol = PROTOCOLS[name]
    lines = [f"\n## {protocol.title}: `{name}`\n", f"{protocol.source}.\n{protocol.layout}\n"]
    lines += ["| task | parts: images (classes) | K | rule |", "|---|---|---|---|"]
    for task, it in protocol.tasks.items():
        parts = ", ".join(f"{part} {shown(counts)}" for part, counts in it.counts.items())
        lines.append(f"| {task} | {parts} | {', '.join(map(str, it.ks))} | {it.rule} |")
    if protocol.notes:
        lines += ["", *(f"- {note}" for note in protocol.notes)]
    return "\n".join(lines) + "\n"


def shown(counts: Counts) -> str:
    """Images, and classes in brackets."""
    images, classes = ("-" if count is None else f"{count:,}" for count in (counts.images, counts.classes))
    return f"{images} ({classes})"


if __name__ == "__main__":
    PAGE.write_text(page())
