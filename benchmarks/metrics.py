"""How fast are exact retrieval metrics, in how much memory, beside pytorch-metric-learning and a plain product?

Random unit vectors in the shape of Stanford Online Products are asked for each other, leave-one-out; or, with
``--million``, ten thousand queries for a million. From vectors to all metrics counts as 2 n m d operations, so that the
rate can be held against that of a plain float32 product of two large square matrices in the same run; in leave-one-out
only half of these are done, since the similarity of a pair serves both its ends, and all are counted. Each contender
has a process of its own, and they take turns. What memory it takes is the most its process had, less what it had once
libraries and inputs stood in it.

The values of both stand side by side. On vectors that tell their classes apart a little, small enough for
pytorch-metric-learning to look at the whole gallery, all metrics that both have are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from benchmarks._metrics_workers import PEER_NAMES, WHOLE, Ours, Outcome, Peer, Product, Shape
from benchmarks._processes import Process
from benchmarks.machine import load, print_machine

KS: Final = (1, 10, 100, 1000)
ROWS, DIM, CLASSES = 60_502, 512, 11_316  # of SOP's test half
MILLION, MILLION_DIM = 1_000_000, 128
A_QUERY, A_CLASS = 100, 50  # of so many of the million vectors
COMPARED: Final = 4000  # rows of the comparison in which both look at the whole gallery
SIGNAL: Final = 0.45
PRODUCTS: Final = 3  # before and after each turn
REST: Final = 0.3  # seconds before each turn: idle threads of the one before spin for a while
PATIENCE: Final = 7200.0  # seconds
AGREEMENT: Final = 1e-6
SHARE_GOAL, MEMORY_GOAL, MILLION_GOAL = 0.7, 2e9, 8e9
OURS, PEER = "lookalike", "pytorch-metric-learning"


def main(arguments: list[str]) -> None:
    """Print seconds, rate, share of the machine's rate and peak memory of each contender, and what both found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks metrics", description=__doc__)
    parser.add_argument("--million", action="store_true", help="10,000 queries in a million, 20,000 classes")
    parser.add_argument("--rows", type=int, help=f"vectors of the gallery, {ROWS} or {MILLION}; the rest scales")
    parser.add_argument("--dim", type=int, help=f"their dimension, {DIM} or {MILLION_DIM}")
    parser.add_argument("--rounds", type=int, default=3, help="each contender runs so often")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--limit", type=float, default=16.0, help=f"GiB of memory that {PEER} may take")
    parser.add_argument("--no-peer", action="store_true", help=f"leave out {PEER}")
    given = parser.parse_args(arguments)
    print_machine(["numpy", "torch", "pytorch-metric-learning", "faiss-cpu"])
    if given.million:
        rows = given.rows or MILLION
        shape = Shape(rows, given.dim or MILLION_DIM, max(1, rows // A_CLASS), max(1, rows // A_QUERY))
        asked = f"{shape.queries} queries in {rows} x {shape.dim}, {shape.classes} classes"
    else:
        rows = given.rows or ROWS
        shape = Shape(rows, given.dim or DIM, max(1, round(rows * CLASSES / ROWS)), None)
        asked = f"{rows} x {shape.dim}, {shape.classes} classes of 2 to 12 images, leave-one-out"
    print(f"random unit vectors, {asked}; K = {', '.join(map(str, KS))}; median of {given.rounds} rounds\n")

    device, limit = given.device, int(given.limit * 2**30)
    contenders: dict[str, Ours | Peer] = {OURS: Ours(shape, KS, device)}
    if not given.no_peer:
        for depth in ("max_bin_count", WHOLE):
            contenders[f"{PEER}, {depth}"] = Peer(shape, depth, device, limit)
        needed = shape.operations / (2 * shape.dim) * 12 / 2**30
        print(f"{PEER} needs {needed:.1f} GiB for distances and positions of {WHOLE}; it may take {given.limit:g}")
    outcomes, rates = _take_turns(contenders, Product(device), given.rounds)
    machine = float(np.median(rates))
    _print_speed(shape, outcomes, machine, max(rates), device)
    _print_goals(outcomes[OURS], shape, machine)
    if given.no_peer:
        return
    _print_values("these vectors", outcomes)

    small = Shape(COMPARED, shape.dim, round(COMPARED * CLASSES / ROWS), None, SIGNAL)
    _print_values(
        f"{small.rows} x {small.dim}, {small.classes} classes that have {SIGNAL:g} times the noise in common",
        _take_turns({OURS: Ours(small, KS, device), PEER: Peer(small, WHOLE, device, limit)}, None, 1)[0],
    )


def _take_turns(
    contenders: Mapping[str, Ours | Peer], product: Product | None, rounds: int
) -> tuple[dict[str, list[Outcome]], list[float]]:
    """Run each contender so often; give what came of those that could, and the rates of products in between."""
    outcomes: dict[str, list[Outcome]] = {}
    rates: list[float] = []
    plain = Process(product) if product else None
    processes = {name: Process(contender) for name, contender in contenders.items()}
    try:
        if plain:
            for task in ("draw", "rate"):  # the first warms up
                plain.ask(task, PATIENCE)
        for name, process in list(processes.items()):
            _ask(process, "draw", name, processes)
        for _ in range(rounds):
            for name, process in list(processes.items()):
                if plain:
                    rates += _rates(plain)
                time.sleep(REST)
                outcome = _ask(process, "run", name, processes)
                if outcome is not None:
                    outcomes.setdefault(name, []).append(outcome)
        if plain:
            rates += _rates(plain)
    finally:
        for process in (*processes.values(), *([plain] if plain else [])):
            process.stop()
    return outcomes, rates


def _ask(process: Process, task: str, name: str, processes: dict[str, Process]) -> Outcome | None:
    """Call a method; a peer that cannot is stopped, and says why."""
    try:
        answer: Outcome | None = process.ask(task, PATIENCE)
    except RuntimeError as error:
        if name == OURS:
            raise
        print(f"{name}: left out: {error}", flush=True)
        process.stop()
        del processes[name]
        return None
    return answer


def _rates(plain: Process) -> list[float]:
    time.sleep(REST)
    return [plain.ask("rate", PATIENCE) for _ in range(PRODUCTS)]


def _print_speed(
    shape: Shape, outcomes: Mapping[str, list[Outcome]], machine: float, fastest: float, device: str
) -> None:
    head = f"{'contender':40s} {'seconds':>9s} {'GFLOP/s':>8s} {'of machine':>10s} {'best round':>10s}"
    print(f"{head} {'MiB above':>10s} {'MiB in all':>10s}")
    library = "NumPy" if device == "cpu" else "torch"
    print(f"{f'{library} product of squares (the machine)':40s} {'':9s} {machine / 1e9:8.1f} {1:10.0%} {1:10.0%}")
    for name, rounds in outcomes.items():
        seconds = [outcome.seconds["all"] for outcome in rounds]
        rate, best = shape.operations / float(np.median(seconds)), shape.operations / min(seconds)
        above, whole = (max(getattr(outcome, kind) for outcome in rounds) / 2**20 for kind in ("above", "whole"))
        shares = f"{rate / machine:10.1%} {best / fastest:10.1%}"
        print(f"{name:40s} {np.median(seconds):9.2f} {rate / 1e9:8.1f} {shares} {above:10.0f} {whole:10.0f}")
        for part in rounds[0].seconds:
            if part != "all":
                middle = float(np.median([outcome.seconds[part] for outcome in rounds]))
                print(f"{f'  of it {part}':40s} {middle:9.2f}")
        if rounds[0].on_device:
            print(f"  on the GPU at most {max(outcome.on_device for outcome in rounds) / 2**20:.0f} MiB")
    print("of machine: median rate / median rate of the product; best round: fastest / fastest")
    print(f"memory: the most of all rounds, above libraries and inputs, and in all; afterwards {load()}")
    for name, rounds in outcomes.items():
        if name != OURS:
            ours = outcomes[OURS]
            slower = np.median([one.seconds["all"] for one in rounds]) / np.median([one.seconds["all"] for one in ours])
            more = max(one.above for one in rounds) / max(one.above for one in ours)
            print(f"{name}: {slower:.2f} times the seconds of {OURS}, {more:.1f} times its memory")


def _print_goals(ours: list[Outcome], shape: Shape, machine: float) -> None:
    share = shape.operations / float(np.median([outcome.seconds["all"] for outcome in ours])) / machine
    above, whole = max(one.above for one in ours), max(one.whole for one in ours)
    if shape.queries is None:
        print(f"\ngoal: {SHARE_GOAL:.0%} of the machine's rate: {share:.1%}, {_reached(share >= SHARE_GOAL)}")
        print(
            f"goal: under {MEMORY_GOAL / 1e9:g} GB above the inputs: {above / 1e9:.2f}, {_reached(above < MEMORY_GOAL)}"
        )
    else:
        print(f"\ngoal: {MILLION_GOAL / 1e9:g} GB in all: {whole / 1e9:.2f}, {_reached(whole <= MILLION_GOAL)}")


def _reached(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def _print_values(title: str, outcomes: Mapping[str, list[Outcome]]) -> None:
    """Print every metric of ours, beside it what the other found where it has it."""
    ours = outcomes[OURS][0].values
    others = [rounds[0].values for name, rounds in outcomes.items() if name != OURS]
    print(f"\n{title}\n{'metric':16s} {OURS:>12s} {PEER:>24s} {'difference':>11s}")
    theirs: Mapping[str, float] = others[0] if others else {}
    worst = 0.0
    for name, value in ours.items():
        if name in theirs:
            difference = theirs[name] - value
            worst = max(worst, abs(difference))
            print(f"{name:16s} {value:12.8f} {theirs[name]:24.8f} {difference:+11.1e}")
        elif not name.endswith("cut"):
            print(f"{name:16s} {value:12.8f}")
    if not theirs:
        return
    verdict = "agree" if worst <= AGREEMENT else "DO NOT AGREE"
    print(f"{len(theirs)} of {len(PEER_NAMES)} metrics of {PEER} {verdict} to {AGREEMENT:g}")
    if worst > AGREEMENT:
        print("it ranks by float32 distances: images whose order lies within their error may change places")
    if any(name.endswith("cut") for name in theirs):
        print("cut: it looks at no more neighbours than the largest class has others, and finds nothing beyond")
