"""Are all copies found, and none falsely, and what does it cost?

- edits: photos of Grocery and Cars with planted copies, every edit at three strengths and two edits together, all
  others as distractors: recall and precision by edit and strength, of ``lookalike`` at the line that ``--precision``
  gives, and of imagededup (pHash and CNN), difPy and czkawka on the same files, with their own settings and, where
  they have a threshold, at the one that hindsight shows to be best for them. Seconds are measured in the same run, one
  contender at a time; the peers need an environment of their own (``benchmarks.peers``).
- bursts: Grocery's test photos, many of which show one shelf again and again, and the eleven pairs of Cars that are
  the same photograph: which are called copies, which lookalikes.
- sarees: the drawn catalogue with its planted copies.
- growth: Fashion, Grocery, Cars and mild copies of them, up to 100,000 pictures. Only when asked for: it takes long.

A pair of files counts for the original and the copy that was made of it. Two copies of one original are right if they
are found, and nobody misses them ("strict" leaves them out). Photos that are known to be one photograph are neither
right nor wrong: those of the same bytes, eleven pairs of Cars, and those that were judged to be one by somebody who did
not know who had found them (``_duplicate_judging.py``; --sheets writes what is left to judge). Where photos are the
same and nobody knows it, precision is told too low, for everyone alike.
Intervals are of 95 %, by originals.

    python -m benchmarks duplicates --part edits --originals 500 --copies-each 3 --work ../duplicates
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._duplicate_contenders import (
    CONTENDERS,
    OWN,
    ContenderError,
    Finding,
    look_apart,
    look_up,
    version_or_reason,
)
from benchmarks._duplicate_figures import Figures, Pairs, Truth, best_point, figures
from benchmarks.machine import load, photo_folder, print_machine

PARTS: Final = ("edits", "bursts", "sarees", "growth")
GOAL_RECALL: Final = 0.95
GROWTH: Final = "growth"
MOST_JUDGED: Final = 200
"""Pairs of photos that one contender may leave to be judged by eye."""


def main(arguments: list[str]) -> None:
    """Print a table a question."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all but growth; may be repeated")
    parser.add_argument("--data", type=Path, default=photo_folder(), help="folder of the real photos")
    parser.add_argument("--work", type=Path, help="made pictures and figures stay here, for the next run")
    parser.add_argument("--precision", type=float, default=0.99, help="what lookalike is asked for")
    parser.add_argument("--effort", help="of lookalike; default: usual, and quick for growth")
    parser.add_argument("--timeout", type=float, default=120, help="minutes that a contender may take")
    parser.add_argument("--originals", type=int, default=500, help="photos that are copied, half of them Grocery's")
    parser.add_argument("--copies-each", type=_count, default=3, help="of an original, drawn by lot; or all")
    parser.add_argument("--pairs", type=int, default=6, help="copies with two edits, beside the 27 with one")
    parser.add_argument("--photos", type=int, help="of Grocery and Cars, drawn by lot; default: all")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="folder for pictures of pairs to look at")
    parser.add_argument(
        "--found", action="store_true", help="count again what edits or growth found before in the same --work"
    )
    parser.add_argument("--sarees", type=int, default=20, help="photos of each saree")
    parser.add_argument("--sizes", type=_sizes, default=[12_500, 25_000, 50_000, 100_000], help="of growth, 1000,2000")
    for hidden in ("--contender", "--folder", "--list", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contender:
        _look(given)
        return
    if given.found and given.work is None:
        parser.error("--found goes with --work, the folder of the earlier run")
    packages = ["numpy", "opencv-python-headless", "torch", "timm", "openvino", "simplejpeg", "pillow"]
    print_machine(packages)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(given.work or temporary).absolute()
        for part in given.part or PARTS[:3]:
            _run(part, work / part, given)
            print(f"{load()}\n", flush=True)


def _count(text: str) -> int | None:
    return None if text == "all" else int(text)


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _look(given: argparse.Namespace) -> None:
    """Be the process of one contender."""
    settings: dict[str, Any] = {
        "work": Path(given.work), "precision": given.precision, "effort": given.effort or "usual",
    }  # fmt: skip
    if given.contender == GROWTH:
        from benchmarks._duplicate_growth import look

        finding = look(Path(given.list), Path(given.folder), **settings)
    else:
        finding = CONTENDERS[given.contender].look(Path(given.folder), **settings)
    finding.write(Path(given.out))


def _run(part: str, work: Path, given: argparse.Namespace) -> None:
    work.mkdir(parents=True, exist_ok=True)
    asked = {"precision": given.precision, "effort": given.effort or ("quick" if part == GROWTH else "usual")}
    if part == "edits":
        told: Any = edits(work, given)
    elif part == GROWTH:
        from benchmarks._duplicate_growth import growth

        how = {"found": given.found, "sheets": given.sheets, "timeout": 60 * given.timeout}
        told = growth(given.data, work, given.sizes, **how, **asked)
    else:
        from benchmarks._duplicate_scenes import bursts, sarees

        if part == "bursts":
            told = bursts(given.data, work, given.sheets, **asked)
        else:
            told = sarees(work, photos_each=given.sarees, **asked)
    (work / "figures.json").write_text(json.dumps(told, indent=2, default=str))


def edits(work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Plant copies, let every contender look for them, and print what each found."""
    if given.sheets is not None:
        from benchmarks._duplicate_judging import check_empty

        check_empty(given.sheets)  # before hours of looking
    truth = _planted(work, given)
    originals, copies = int((~truth.planted).sum()), int(truth.planted.sum())
    print(
        f"edits: {originals} photos of Grocery and Cars, {copies} copies of {given.originals} of them; "
        f"{int(truth.cell('+').sum())} copies have two edits; seed {given.seed}"
    )
    told: dict[str, Any] = {"photos": originals, "copies": copies}
    options = ["--precision", str(given.precision), "--effort", given.effort or "usual"]
    findings: dict[str, Finding] = {}
    for name in given.contenders:
        if name != OWN and not given.found:
            version, reason = version_or_reason(name)
            if reason is not None:
                print(f"{name} is left out: {reason}")
                continue
            print(f"{name}: {CONTENDERS[name].package} {version}", flush=True)
        try:
            if given.found:
                findings[name] = look_up(name, work)
            else:
                findings[name] = look_apart(name, work / "images", work, options, timeout=60 * given.timeout)
        except ContenderError as error:
            print(f"{name} is left out: {error}")
    points = {name: _points(truth, finding, given.precision) for name, finding in findings.items()}
    if given.sheets is not None:
        _lay_out(given, truth, points)
    _print_summary(truth, findings, points)
    for name, finding in findings.items():
        told[name] = {"seconds": finding.seconds, "peak": finding.peak, "notes": finding.notes, **finding.figures}
        for setting, pairs in points[name].items():
            told[name][setting] = _print_table(truth, f"{name}, {setting}", pairs)
    if OWN in findings:
        _print_goal(truth, next(iter(points[OWN].values())))
    return told


def _lay_out(given: argparse.Namespace, truth: Truth, points: dict[str, dict[str, Pairs]]) -> None:
    """Write the pairs of two photographs, as far as is known, that anybody calls copies and nobody has judged."""
    from benchmarks._duplicate_edits import photos
    from benchmarks._duplicate_judging import disputed, lay_out, verdicts

    every, judged = photos(given.data), verdicts()
    asked: dict[tuple[str, str], None] = {}
    for name, settings in points.items():
        for setting, pairs in settings.items():
            left = [pair for pair in disputed(every, truth, [pairs]) if pair not in judged]
            if len(left) > MOST_JUDGED:
                print(f"{name}, {setting}: {len(left)} pairs of photos are too many to judge, and count as wrong")
            else:
                asked |= dict.fromkeys(left)
    print(f"{len(asked)} pairs of photos to judge: {lay_out(given.sheets, every, sorted(asked), seed=given.seed)}")


def _planted(work: Path, given: argparse.Namespace) -> Truth:
    from benchmarks._duplicate_edits import (
        choose_copies,
        choose_originals,
        photos,
        plant,
        same_photograph,
        truth_of,
        write_truth,
    )
    from benchmarks._duplicate_judging import verdicts, with_verdicts
    from indexer.options import progress_bar

    every = photos(given.data)
    with progress_bar("reading") as progress:
        number = same_photograph(every, progress=progress)
    of_each = {"g": given.originals - given.originals // 2, "c": given.originals // 2}
    originals = choose_originals(every, number, of_each=of_each, seed=given.seed)
    places = list(range(len(every)))
    if given.photos is not None and given.photos < len(every):
        others = np.setdiff1d(places, originals)
        more = np.random.default_rng(given.seed).permutation(others)[: max(0, given.photos - len(originals))]
        places = sorted([*originals, *more.tolist()])
    copies = choose_copies(originals, each=given.copies_each, pairs=given.pairs, seed=given.seed)
    asked = {name: getattr(given, name) for name in ("originals", "copies_each", "pairs", "photos")}
    folder = work / "images"
    with progress_bar("planting") as progress:
        plant(folder, every, places, copies, seed=given.seed, record=asked, progress=progress)
    # Only now, so that what somebody has seen does not decide what is copied.
    truth = truth_of(every, with_verdicts(every, number, verdicts()), places, copies)
    there = sorted(path.name for path in folder.iterdir())
    if there != list(truth.names):
        raise SystemExit(f"{folder} holds files of nobody's making; give another --work")
    write_truth(truth, work / "truth.csv")
    return truth


def _points(truth: Truth, finding: Finding, precision: float) -> dict[str, Pairs]:
    """Its own settings, then the best line in hindsight if it has one."""
    points = dict(finding.said)
    if finding.loose is not None:
        line = best_point(truth, finding.loose, precision=precision)
        if line is None:
            finding.notes.append(f"no line of it reaches precision {precision:g}")
        else:
            if line <= np.nanmin(finding.loose.nearness):
                finding.notes.append("its best line may lie beyond the pairs that were looked at")
            points[f"best line in hindsight ({line:.3f})"] = finding.loose.take(finding.loose.nearness >= line)
    return points


def _print_summary(truth: Truth, findings: dict[str, Finding], points: dict[str, dict[str, Pairs]]) -> None:
    titles = ("recall, %", "in a group, %", "precision, %", "strict, %")
    print(f"\n{'':58s}" + "".join(f"{title:>20s}" for title in titles) + f"{'pairs':>9s}{'s/1,000':>9s}{'MiB':>7s}")
    for name, finding in findings.items():
        cost = f"{1000 * sum(finding.seconds.values()) / len(truth.names):9.1f}{finding.peak:7.0f}"
        for setting, pairs in points[name].items():
            found = figures(truth, pairs)
            shares = (found.recall, found.linked, found.precision, found.strict)
            row = "".join(f"{each!s:>20s}" for each in shares)
            print(f"{f'{name}, {setting}':58s}{row}{len(pairs):9d}{cost}")
            cost = ""
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in finding.seconds.items())
        print("  " + "; ".join([stages, *finding.notes]))
    print(
        "in a group: found with its original, or with a copy of it that is; precision counts pairs of distractors too"
    )
    print("MiB leave out workers, such as imagededup's and difPy's")


def _print_table(truth: Truth, title: str, pairs: Pairs) -> dict[str, Any]:
    from retrieval.edits import EDITS, STRENGTHS

    print(f"\n{title}: recall / precision of pairs with such a copy, %")
    print(f"{'':12s}" + "".join(f"{name:>44s}" for name in ("mild", "plain", "strong")))
    told: dict[str, Any] = {}

    def measure(name: str, kind: np.ndarray | None) -> str:
        found: Figures = figures(truth, pairs, kind)
        told[name] = found.to_dict()
        return f"{found.recall} / {found.precision}"

    for edit in EDITS:
        cells = [measure(f"{edit} {strength}", truth.cell(edit, strength)) for strength in STRENGTHS]
        print(f"{edit:12s}" + "".join(f"{cell:>44s}" for cell in cells))
    cells = [measure(f"single {strength}", truth.cell("*", strength)) for strength in STRENGTHS]
    print(f"{'any one':12s}" + "".join(f"{cell:>44s}" for cell in cells))
    print(f"{'two':12s}{'':44s}{measure('two', truth.cell('+')):>44s}")
    print(f"{'all one':12s}{measure('single', truth.cell('*')):>44s}")
    told["all"] = figures(truth, pairs).to_dict()
    return told


def _print_goal(truth: Truth, pairs: Pairs) -> None:
    single, whole = figures(truth, pairs, truth.cell("*")), figures(truth, pairs)
    told: Callable[[bool], str] = lambda reached: "reached" if reached else "MISSED"  # noqa: E731
    print(f"\ngoal: recall of single edits at least {GOAL_RECALL:.0%}: {single.recall}, ", end="")
    print(told(single.recall.value >= GOAL_RECALL), end="; ")
    print(f"precision of all pairs at least 99 %: {whole.precision}, {told(whole.precision.value >= 0.99)}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
