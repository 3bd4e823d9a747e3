"""What finding copies costs in a catalogue that grows: seconds, memory, bytes on disk."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._duplicate_contenders import SURE, ContenderError, Finding, run
from benchmarks._duplicate_edits import Copy, Photo, photos, plant, same_photograph, truth_of
from benchmarks._duplicate_figures import Pairs, Truth, figures
from retrieval.edits import EDITS

COPIES_EACH: Final = 100_000 / 25_565
"""Files for a photo, itself among them: as many as make 100,000 of Fashion, Grocery and Cars."""
MILD: Final = 1


def sequence(every: Sequence[Photo], files: int, *, seed: int) -> tuple[list[int], list[Copy]]:
    """The photos and copies that make so many files, of which those for fewer files are the first.

    Photos come in random order, each followed by its copies, so that every size has the same share of copies.

    Returns:
        Places of the photos, and the copies; both of them in the order in which they come.
    """
    order = np.random.default_rng([seed, 2]).permutation(len(every)).tolist()
    places: list[int] = []
    copies: list[Copy] = []
    for at, place in enumerate(order):
        if len(places) + len(copies) >= files:
            break
        places.append(place)
        count = int((at + 1) * COPIES_EACH) - int(at * COPIES_EACH) - 1
        edits = np.random.default_rng([seed, 3, place]).choice(list(EDITS), count, replace=False)
        copies += [Copy(place, str(edit), MILD) for edit in edits[: files - len(places) - len(copies)]]
    return places, copies


def growth(
    data: Path,
    work: Path,
    sizes: Sequence[int],
    *,
    found: bool,
    sheets: Path | None,
    precision: float,
    effort: str,
    timeout: float,
) -> list[Any]:
    """Print a row a size; each is searched in a process of its own, or what that ``found`` before is counted again.

    Where there is a folder for ``sheets`` wrong pairs of the largest size that nobody has judged are laid out.
    """
    from benchmarks._duplicate_judging import check_empty, disputed, lay_out, verdicts, with_verdicts
    from indexer.options import progress_bar

    if sheets is not None:
        check_empty(sheets)  # before hours of looking
    every, judged = photos(data, "gcf"), verdicts()
    with progress_bar("reading") as progress:
        number = with_verdicts(every, same_photograph(every, progress=progress), judged)
    places, copies = sequence(every, max(sizes), seed=0)
    if len(places) + len(copies) < max(sizes):
        raise SystemExit(f"there are photos for {len(places) + len(copies)} files only, fewer than {max(sizes)}")
    folder = work / "images"
    with progress_bar("planting") as progress:
        plant(folder, every, places, copies, seed=0, record={"part": "growth"}, progress=progress)
    print(f"growth: Fashion, Grocery and Cars with mild copies, {COPIES_EACH:.2f} files a photo; effort {effort}")
    print(
        f"{'images':>8s} {'photos':>7s} {'seconds':>8s} {'s/1,000':>8s} {'peak MiB':>9s} {'disk MiB':>9s} "
        f"{'copies':>8s} {'lookalikes':>10s}  recall; precision; stages"
    )
    told = []
    for size in sorted(sizes):
        places, copies = sequence(every, size, seed=0)
        truth = truth_of(every, number, places, copies)
        listing = work / f"{size}.csv"
        with listing.open("w", newline="") as file:
            csv.writer(file).writerows([["path"], *([name] for name in truth.names)])
        out = work / f"{size}.npz"
        if found and out.exists():
            told.append(_print(truth, len(places), Finding.read(out), float("nan")))
            continue
        out.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "duplicates", "--contender", "growth"]
        options = ["--folder", str(folder), "--list", str(listing), "--out", str(out), "--work", str(work)]
        asked = ["--precision", str(precision), "--effort", effort]
        try:
            peak = run([*command, *options, *asked], timeout=timeout)
        except ContenderError as error:
            print(f"{size:8d}  {error}")
            break
        told.append(_print(truth, len(places), Finding.read(out), peak))
    if sheets is not None and out.exists():
        left = [pair for pair in disputed(every, truth, Finding.read(out).said.values()) if pair not in judged]
        print(f"{len(left)} pairs of photos to judge: {lay_out(sheets, every, left, seed=0)}")
    (work / "figures.json").write_text(json.dumps(told, indent=2))
    return told


def _print(truth: Truth, originals: int, finding: Finding, peak: float) -> dict[str, Any]:
    size = len(truth.names)
    (pairs,) = finding.said.values()
    found = figures(truth, pairs)
    whole = sum(finding.seconds.values())
    kinds = finding.figures["kinds"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in finding.seconds.items())
    print(
        f"{size:8d} {originals:7d} {whole:8.0f} {1000 * whole / size:8.1f} {peak:9.0f} "
        f"{finding.figures['disk'] / 2**20:9.0f} {len(pairs):8d} {kinds['lookalike']:10d}  "
        f"{found.recall}; {found.precision}; {stages}",
        flush=True,
    )
    return {
        "size": size, "photos": originals, "seconds": finding.seconds, "peak": peak, **finding.figures,
        **found.to_dict(),
    }  # fmt: skip


def look(listing: Path, folder: Path, work: Path, *, precision: float, effort: str) -> Finding:
    """Index and search one size; runs in a process of its own."""
    from benchmarks._duplicate_search import search

    looked = search(listing, root=folder, place=work / "catalogue", precision=precision, effort=effort)
    with listing.open(newline="") as file:
        places = {row["path"]: place for place, row in enumerate(csv.DictReader(file))}
    rows = [(places[a], places[b], nearness) for a, b, nearness in looked.copies(same=SURE)]
    a, b, nearness = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Finding({"found": Pairs.of(a, b, nearness)}, None, looked.seconds, looked.notes, looked.figures)
