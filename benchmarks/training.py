"""Does ``lookalike train`` learn as well as other loops with the same network, data and loss, and how much faster?

Trained on the classes 1 to 98 of Cars196-train-half, measured on the other 98: Recall@1 among pictures of classes that
nobody was trained on, by ``retrieval.evaluation`` for all. Every loop starts from the same weights, makes the same
number of steps with batches of the same size and make-up, and has the same loss (checked on fixed vectors),
optimiser, learning rates, embedding size, image size, crops and flips. The peers are the loops of the examples of
pytorch-metric-learning and Open Metric Learning (``benchmarks/_training_peers.py``). They run as their examples show,
which are the rows that count; with the channels last in memory; and with BatchNorm frozen too, as ours has it unless
told otherwise: so one sees what is the layout, what is BatchNorm, and what is the loop.

Images/s is all images shown / seconds of training, reading and decoding included; ours counts loading weights and
writing checkpoints and the embedder too. Each run is a process of its own, one after another. Peak memory leaves out
loader processes, whose pictures ours has in its own.

Open Metric Learning wants numpy 1, so it lives in an environment of its own that borrows torch and timm from ours. Its
imports need omegaconf, which it does not ask for. From the repository::

    python3.11 -m venv ../oml
    site='import sysconfig; print(sysconfig.get_path("purelib"))'
    .venv/bin/python -c "$site" > "$(../oml/bin/python -c "$site")/lookalike.pth"
    ../oml/bin/pip install 'open-metric-learning==4.0.0' omegaconf
    .venv/bin/python -m benchmarks training --oml-python ../oml/bin/python

pip warns that numpy no longer suits lookalike: true of that environment, which runs only the peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import peers
from benchmarks._training_job import ARCFACE, OML, OURS, PLAIN, TRIPLET_HARD, UNTRAINED, Job, Outcome
from benchmarks._zero_shot import last_classes_apart
from benchmarks.machine import load, photo_folder, print_machine
from retrieval.evaluation import Question, evaluate
from retrieval.labelled import Labelled
from retrieval.pairing import scores
from retrieval.report import Figure
from retrieval.sampling import Batches
from retrieval.uncertainty import difference_over_seeds, over_seeds, paired_permutation

BACKBONE = "tf_efficientnet_lite0"
RECALL = "Recall@1"
GOAL = 1.3
A_CLASS = 8  # pictures of a class where only some are taken
AGREEMENT = 1e-5
ENVIRONMENT = peers.ENVIRONMENT | {"NO_ALBUMENTATIONS_UPDATE": "1"}
HOW_TO_GET = "how to get it: python -m benchmarks training --help, or the top of benchmarks/training.py"


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        name: of the row.
        loop: what runs.
        channels_last: layout in memory.
        frozen: BatchNorm.
        counts: whether it is a peer as its example shows.
    """

    name: str
    loop: str
    channels_last: bool = False
    frozen: bool = False
    counts: bool = False


CONTENDERS = (
    Contender(UNTRAINED, UNTRAINED),
    Contender(OURS, OURS, channels_last=True, frozen=True),
    Contender(f"{OURS}, BatchNorm trained", OURS, channels_last=True),
    *(
        contender
        for peer in (PLAIN, OML)
        for contender in (
            Contender(peer, peer, counts=True),
            Contender(f"{peer}, channels last", peer, channels_last=True),
            Contender(f"{peer}, the same, BatchNorm frozen", peer, channels_last=True, frozen=True),
        )
    ),
)


@dataclass(frozen=True)
class Pictures:
    """The test pictures, in the order of their vectors."""

    ids: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class Run:
    """A training run, measured: what it gave, its Recall@1, and of each query (n,) whether it was right."""

    outcome: Outcome
    recall: Figure
    right: np.ndarray
    labels: np.ndarray


def main(arguments: list[str]) -> None:
    """Print Recall@1, images/s and peak memory of each loop, the ratios, and what was wanted of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=photo_folder() / "cars" / "cars196-train-half.parquet")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=96, help="of pictures, pixels a side")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=4, help="pictures of a class in a batch")
    parser.add_argument("--dim", type=int, default=0, help="of the embedding; 0: as many as the backbone gives")
    parser.add_argument("--loss", choices=[ARCFACE, TRIPLET_HARD], default=ARCFACE)
    parser.add_argument("--lr", type=float, default=1e-4, help="of the backbone; Adam, constant")
    parser.add_argument("--head-lr", type=float, default=1e-3, help="of the linear layer")
    parser.add_argument("--proxy-lr", type=float, default=1e-2, help="of ArcFace's class weights")
    parser.add_argument("--zoom", type=float, default=0.35, help="smallest share of the area that a crop keeps")
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the peers")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with other random numbers")
    parser.add_argument(
        "--hold-out", type=int, default=0, metavar="N", help="measure on the last N training classes: to choose rates"
    )
    parser.add_argument("--images", type=int, help=f"of each half, {A_CLASS} a class; default: all")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows with one of these in their name")
    parser.add_argument("--oml-python", type=Path, help="an interpreter that has Open Metric Learning, see above")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds that a run may take")
    given = parser.parse_args(arguments)
    print_machine(["torch", "timm", "torchvision", "lightning", PLAIN, "pillow", "simplejpeg", "numpy"])
    taking = [one for one in CONTENDERS if any(text in one.name for text in given.only)]
    if any(one.loop == OML for one in taking) and (reason := _lacking(given)):
        print(f"{OML} is left out: {reason}\n{HOW_TO_GET}\n")
        taking = [one for one in taking if one.loop != OML]
    with tempfile.TemporaryDirectory() as folder:
        job, pictures = _prepare(given, Path(folder))
        runs: dict[str, list[Run]] = {}
        for seed in range(given.seeds):
            for one in list(taking):
                if one.loop == UNTRAINED and seed:
                    continue
                try:
                    found = _run(one, replace(job, seed=seed), pictures, given)
                except ContenderError as error:
                    if one.loop == OURS:
                        raise SystemExit(f"{one.name}: {error}") from error
                    print(f"{one.name}: left out: {error}", flush=True)
                    taking.remove(one)
                    runs.pop(one.name, None)
                    continue
                runs.setdefault(one.name, []).append(found)
    rows = {one: runs[one.name] for one in taking}
    _print_table(rows, given.seeds)
    _print_against(rows)


class ContenderError(Exception):
    """A run that ended badly, or not in time."""


def _lacking(given: argparse.Namespace) -> str | None:
    """Say why Open Metric Learning cannot run, or None if it can."""
    program = (
        "import importlib.metadata as m, torch, timm, safetensors, oml.datasets, oml.losses, oml.samplers; "
        "print(', '.join(f'{n} {m.version(n)}' for n in ('open-metric-learning', 'torch', 'timm', 'numpy', 'pillow')))"
    )
    try:
        done = subprocess.run(
            [_interpreter(given), "-W", "ignore", "-c", program],
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return f"--oml-python: {error}"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    print(f"the environment of {OML}: {done.stdout.strip()}\n")
    return None


def _interpreter(given: argparse.Namespace) -> str:
    return peers.interpreter() if given.oml_python is None else str(given.oml_python.absolute())


def _prepare(given: argparse.Namespace, folder: Path) -> tuple[Job, Pictures]:
    """Write the training pictures, the prepared test pictures and the weights that all start from."""
    import safetensors.torch

    from retrieval.backbones import load_backbone
    from retrieval.images import decode

    table = pq.read_table(given.source, columns=["file", "label", "split", "image"])
    if given.hold_out:
        table = last_classes_apart(table, given.hold_out)
    train, test = (_part(table, name, given.images) for name in ("train", "test"))
    labels = np.unique(train.column("label").to_pylist(), return_inverse=True)[1]
    for label, file, image in zip(*_columns(train), strict=True):
        place = folder / "train" / label.replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(image)

    model, native, _ = load_backbone(BACKBONE)
    safetensors.torch.save_file(model.state_dict(), folder / "start.safetensors")
    preprocessing = replace(native, height=given.size, width=given.size)
    prepare = preprocessing.preparation()
    asked, files, images = _columns(test)
    np.save(
        folder / "test.npy",
        np.stack([prepare(decode(image, size=preprocessing.shorter_side).pixels) for image in images]),
    )
    job = Job(
        loop="",
        train=str(folder / "train"),
        pixels=str(folder / "test.npy"),
        weights=str(folder / "start.safetensors"),
        vectors=str(folder / "vectors.npy"),
        backbone=BACKBONE,
        mean=preprocessing.mean,
        std=preprocessing.std,
        dim=given.dim,
        size=given.size,
        batch=given.batch,
        per_class=given.per_class,
        epochs=given.epochs,
        steps=Batches(labels, batch=given.batch, per_class=given.per_class).steps,
        loss=given.loss,
        classes=len(set(labels.tolist())),
        lr=given.lr,
        head_lr=given.head_lr,
        proxy_lr=given.proxy_lr,
        zoom=given.zoom,
        channels_last=False,
        frozen=False,
        workers=given.workers,
        threads=given.threads,
        seed=0,
    )
    print(
        f"{train.num_rows} pictures of {len(set(labels.tolist()))} classes to train on, {test.num_rows} of "
        f"{len(set(asked))} others to measure; {BACKBONE}, {given.size} px, {given.dim or 'pooled'} dimensions"
    )
    rates = f"Adam {given.lr:g}, linear layer {given.head_lr:g}, class weights {given.proxy_lr:g}"
    print(f"{given.loss}, {given.epochs} epochs of {job.steps} steps of {given.batch}, {given.per_class} a class")
    print(f"{rates}; crops of {given.zoom:g} to 1, flips")
    print(f"{given.threads} threads, peers with {given.workers} loader processes beside\n", flush=True)
    return job, Pictures(files, asked)


def _part(table: pa.Table, split: str, images: int | None) -> pa.Table:
    part = table.filter(pa.compute.equal(table.column("split"), split))
    if images is None:
        return part
    labels, kept = part.column("label").to_pylist(), []
    for label in sorted(set(labels))[: images // A_CLASS]:
        kept += [place for place, other in enumerate(labels) if other == label][:A_CLASS]
    return part.take(kept)


def _columns(table: pa.Table) -> tuple[list[str], list[str], list[bytes]]:
    labels, files, images = (table.column(name).to_pylist() for name in ("label", "file", "image"))
    return labels, files, images


def _run(one: Contender, job: Job, pictures: Pictures, given: argparse.Namespace) -> Run:
    """Run a contender in a process of its own, and measure what it learned.

    Raises:
        ContenderError: it failed or took too long.
    """
    job = replace(job, loop=one.loop, channels_last=one.channels_last, frozen=one.frozen)
    if one.loop == UNTRAINED:
        job = replace(job, dim=0)
    place = Path(job.vectors).with_name("job.json")
    place.write_text(json.dumps(asdict(job)))
    program = _interpreter(given) if one.loop == OML else sys.executable
    try:
        done = subprocess.run(
            [program, "-W", "ignore", "-m", "benchmarks._training_peers", str(place)],
            env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(job.threads)},
            capture_output=True,
            text=True,
            timeout=given.timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise ContenderError(f"took more than {given.timeout:g} s") from error
    if done.returncode:
        raise ContenderError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200])
    outcome = Outcome(**json.loads(done.stdout.strip().splitlines()[-1]))
    vectors = np.load(job.vectors)
    Path(job.vectors).unlink()  # so that no run is ever measured by the vectors of another
    there = Labelled(vectors, pictures.ids, pictures.labels)
    question = Question("Cars196-train-half", "the classes that were not trained on, leave-one-out", ks=[1])
    report, table = evaluate(there, there, question=question, embedder={})
    recall = next(figure for figure in report.figures if figure.name == RECALL)
    labels = np.unique(table.column("label").to_pylist(), return_inverse=True)[1]
    steps = f"loss {outcome.first:.4f} to {outcome.last:.4f}, " if outcome.images else ""
    print(f"{one.name}, seed {job.seed}: {steps}{RECALL} {recall.value:.2%}, {load()}", flush=True)
    return Run(outcome, recall, scores(table, [RECALL])[RECALL], labels)


def _print_table(rows: dict[Contender, list[Run]], seeds: int) -> None:
    head = f"{'R@1 %':>6s}  {'95 % over classes':17s} {'over seeds':>10s}"
    print(f"\n{'loop':52s} {head} {'images/s':>8s} {'seconds':>8s} {'peak MiB':>8s}")
    for one, runs in rows.items():
        first = runs[0].recall
        spread = over_seeds([100 * run.recall.value for run in runs])
        interval = "" if first.low is None or first.high is None else f"{100 * first.low:.2f} to {100 * first.high:.2f}"
        deviation = "" if spread.deviation is None else f"+- {spread.deviation:.2f}"
        print(f"{one.name:52s} {spread.mean:6.2f}  {interval:17s} {deviation:>10s}", end="")
        if runs[0].outcome.images:
            seconds = float(np.median([run.outcome.seconds for run in runs]))
            memory = max(run.outcome.memory for run in runs)
            print(f" {_rate(runs):8.1f} {seconds:8.1f} {memory:8.0f}", end="")
        print()
    over = f"mean of {seeds} seeds, the interval is the first one's; images/s: median" if seeds > 1 else "one seed"
    print(f"{over}; afterwards {load()}")
    checks = {one.loop: runs[0].outcome.check for one, runs in rows.items() if runs[0].outcome.check is not None}
    if len(checks) > 1:
        away = max(checks.values()) - min(checks.values())
        verdict = "agree" if away <= AGREEMENT * max(checks.values()) else "DO NOT AGREE"
        print(f"the losses of {', '.join(checks)} {verdict} on fixed vectors: {', '.join(map(str, checks.values()))}")


def _print_against(rows: dict[Contender, list[Run]]) -> None:
    """Hold every peer against ours: against each of ours where it counts, else against that with its BatchNorm."""
    for own, ours in rows.items():
        if own.loop != OURS:
            continue
        others = [one for one in rows if one.loop not in (OURS, UNTRAINED)]
        for one in others:
            if not one.counts and one.frozen != own.frozen:
                continue
            theirs = rows[one]
            ratio = _rate(ours) / _rate(theirs)
            goal = f", goal {GOAL:g}x {'reached' if ratio >= GOAL else 'MISSED'}" if one.counts else ""
            it = paired_permutation(
                np.mean([run.right for run in ours], axis=0),
                np.mean([run.right for run in theirs], axis=0),
                ours[0].labels,
            )
            ends = "" if it.low is None or it.high is None else f", {100 * it.low:+.2f} to {100 * it.high:+.2f}"
            print(f"\n{own.name} against {one.name}: {ratio:.2f} times its images/s{goal}")
            print(f"  {RECALL} {100 * it.difference:+.2f} points (over classes{ends}, p {it.p:.2g})", end="")
            if len(ours) > 1:
                seeds = difference_over_seeds(*([100 * run.recall.value for run in side] for side in (ours, theirs)))
                print(f"; over seeds {seeds.low:+.2f} to {seeds.high:+.2f}", end="")
            if one.counts and it.high is not None:
                print(f"; goal not below: {'reached' if it.high >= 0 else 'MISSED'}", end="")
            print()


def _rate(runs: list[Run]) -> float:
    return float(np.median([run.outcome.images / run.outcome.seconds for run in runs]))
