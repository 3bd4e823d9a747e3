"""How fast is ``lookalike index`` beside other ways to the same vectors, and how near to its parts alone?

Contenders: ``lookalike index`` with the runtime that ``auto`` measured and remembered, the same with a runtime asked
for, a plain timm + DataLoader + FAISS script, and imagededup and clip-retrieval (``benchmarks.peers``). Every one is a
fresh process on the same photos, one after another, the default backbone in all of them. Figures include everything a
user waits for: imports, weights, reading, embedding, storing. A first run of ``lookalike index``, which counts for
nothing, converts and measures what later runs find in a cache that is the benchmark's own; its seconds are printed.

Parts: one process, its network loaded and its runtime tuned, in turn, round after round: "decode alone" reads,
decodes and prepares all photos with the product's threads and throws the pixels away; "embed alone" embeds prepared
pixels from memory, in the pipeline's batches and as many threads as it takes; "ingest" makes a new catalogue of all
photos by the very call that ``lookalike index`` makes, the first photo read to the last commit. So its rate leaves
out the start of a process, conversion and tuning, but neither the filling of the pipeline nor writing and committing.
"Steady" is its rate between the first and the last quarter of the photos. An ideal pipeline would be as fast as its
slower part if each had a machine of its own; decoding and embedding on the same cores take turns at best, and then
1 / (1 / decode + 1 / embed) is the ceiling.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks._contenders import lookalike_index, parts, plain_script
from benchmarks.machine import load, photo_folder, print_machine
from retrieval.manifest import read_manifest

OWN = "lookalike index"
PLAIN = ("plain script", "plain script, channels-last")
GOAL_PLAIN, GOAL_PARTS = 4.0, 0.9
PARTS = "parts"
CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    OWN: partial(lookalike_index, runtime="auto"),
    f"{OWN} --runtime torch": partial(lookalike_index, runtime="torch"),
    f"{OWN} --runtime openvino": partial(lookalike_index, runtime="openvino"),
    PLAIN[0]: partial(plain_script, channels_last=False),
    PLAIN[1]: partial(plain_script, channels_last=True),
}
CONTENDERS |= {name: peer.encode for name, peer in peers.PEERS.items()}


class ContenderError(Exception):
    """A contender that ended badly, or not in time."""


@dataclass(frozen=True)
class Run:
    """Seconds and peak memory (MiB) of a whole process, and the JSON object that it printed last, if any."""

    seconds: float
    memory: float
    said: dict[str, Any]


def main(arguments: list[str]) -> None:
    """Print images/s and peak memory of each contender, then the parts, then what was wanted of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--source", type=Path, default=photo_folder() / "grocery" / "dataset" / "train.txt")
    parser.add_argument("--images", type=int, default=2048, help="photos every contender indexes")
    parser.add_argument("--rounds", type=int, default=2, help="each contender runs so often; the best counts")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="see benchmarks/peers.py")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a process may take")
    parser.add_argument("--contender", choices=[*CONTENDERS, PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contender == PARTS:
        print(json.dumps(parts(given.list, given.out, rounds=given.rounds)))
        return
    if given.contender:
        CONTENDERS[given.contender](given.list, given.out)
        return
    print_machine(["torch", "timm", "openvino", "onnxruntime", "pillow", "faiss-cpu", "deltalake", "pyarrow"])
    print(f"{given.images} photos of {given.source.name}, best of {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOOKALIKE_CACHE"] = str(Path(folder, "cache"))
        _compare(given, Path(folder))


def _compare(given: argparse.Namespace, folder: Path) -> None:
    sizes = {"all": given.images, "quarter": given.images // 4}
    lists = {name: _write_list(given.source, folder / f"{name}.csv", size) for name, size in sizes.items()}
    taking = [name for name in CONTENDERS if name not in peers.PEERS or (given.peers and _can_run(name))]
    first = _run(OWN, lists["all"], folder / "first", given)
    print(f"first run of {OWN}: {first.seconds:.1f} s; runtime {first.said['runtime']}")
    if given.images < 1000:
        print("FEWER THAN 1,000 PHOTOS: auto measured nothing, and is torch unless somebody measured before")
    print(load(), flush=True)
    best: dict[str, Run] = {}
    for turn in range(given.rounds):
        for name in list(taking):
            try:
                run = _run(name, lists["all"], folder / f"{name}-{turn}", given)
            except ContenderError as error:
                if name == OWN:
                    raise SystemExit(str(error)) from error
                print(f"{error}: left out")
                taking.remove(name)
                best.pop(name, None)
                continue
            if name not in best or run.seconds < best[name].seconds:
                best[name] = run
    small = _run(OWN, lists["quarter"], folder / "small", given)
    measured = _run(PARTS, lists["all"], folder / "parts", given).said

    print(f"\n{'contender':34s} {'seconds':>8s} {'images/s':>9s} {'peak MiB':>9s} {'ratio':>7s}  runtime")
    for name, run in best.items():
        print(
            f"{name:34s} {run.seconds:8.1f} {given.images / run.seconds:9.1f} {run.memory:9.0f} "
            f"{run.seconds / best[OWN].seconds:6.2f}x  {run.said.get('runtime', '')}"
        )
    print(f"\nratio: images/s of {OWN} divided by the contender's; goal {GOAL_PLAIN:g}x for the plain script: ", end="")
    print(", ".join(f"{best[name].seconds / best[OWN].seconds:.2f}x {name}" for name in PLAIN if name in best))
    print(f"peak memory leaves out the loader processes of a contender; of {OWN}: {small.memory:.0f} MiB for ", end="")
    print(f"{sizes['quarter']} photos, {best[OWN].memory:.0f} MiB for {sizes['all']}\n")
    _print_parts(measured, given.images / best[OWN].seconds)


def _print_parts(measured: dict[str, Any], whole: float) -> None:
    decode, embed, ingest, steady = (float(measured[name]) for name in ("decode", "embed", "ingest", "steady"))
    slower, shared = min(decode, embed), 1 / (1 / decode + 1 / embed)
    print(f"parts, {measured['runtime']}, {measured['at_once']} at once, best of {len(measured['rounds'])} rounds")
    rows = {"decode alone": decode, "embed alone": embed, "ceiling on shared cores": shared}
    for name, rate in rows.items():
        print(f"{name:28s} {rate:9.1f} images/s")
    print(f"{'':28s} {'images/s':>9s} {'of the slower part':>20s} {'of the ceiling':>16s}")
    for name, rate in {"ingest": ingest, "ingest, steady": steady, f"{OWN}, whole process": whole}.items():
        print(f"{name:28s} {rate:9.1f} {rate / slower:20.1%} {rate / shared:16.1%}")
    print(
        f"goal: ingest at {GOAL_PARTS:.0%} of the slower part: {ingest / slower:.1%}, and {ingest / shared:.1%} of ",
        end="",
    )
    print("what shared cores allow")


def _can_run(name: str) -> bool:
    reason = peers.usable(name)
    if reason is not None:
        print(f"{name} is left out: {reason}")
        return False
    if name == next(iter(peers.PEERS)):
        names = ["imagededup", "clip-retrieval", "numpy", "pyarrow", "torch", "timm"]
        program = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        done = subprocess.run([peers.interpreter(), "-c", program, *names], capture_output=True, text=True)
        print(f"the peers' own environment: {(done.stdout or done.stderr).strip().splitlines()[-1]}")
    return True


def _write_list(source: Path, path: Path, images: int) -> Path:
    manifest = read_manifest(source)
    uris = manifest.table.column("uri").to_pylist()
    if len(uris) < images:
        sys.exit(f"{source} has {len(uris)} photos, fewer than {images}")
    chosen = [uris[place * len(uris) // images] for place in range(images)]
    path.write_text("path\n" + "".join(f'"{manifest.root / uri}"\n' for uri in chosen))
    return path


def _run(contender: str, listing: Path, out: Path, given: argparse.Namespace) -> Run:
    """Run a contender in a process of its own.

    Raises:
        ContenderError: it failed or took too long.
    """
    program = peers.interpreter() if contender in peers.PEERS else sys.executable
    command = [program, "-W", "ignore", "-m", "benchmarks", "ingest", "--contender", contender]
    options = ["--list", str(listing), "--out", str(out), "--rounds", str(given.rounds)]
    with out.with_suffix(".out").open("w+") as said, out.with_suffix(".err").open("w+") as complaints:
        began = time.perf_counter()
        process = subprocess.Popen([*command, *options], stdout=said, stderr=complaints, start_new_session=True)
        try:
            status, memory = _wait(process.pid, began + given.timeout)
        except BaseException:
            os.killpg(process.pid, 9)  # with its loader processes
            process.wait()
            raise
        seconds = time.perf_counter() - began
        process.returncode = status
        said.seek(0)
        complaints.seek(0)
        if status:
            last = (complaints.read().strip().splitlines() or [""])[-1]
            raise ContenderError(f"{contender} ended with status {status}: {last[:200]}")
        lines = [line for line in said.read().splitlines() if line.startswith("{")]
    return Run(seconds, memory, json.loads(lines[-1]) if lines else {})


def _wait(pid: int, until: float) -> tuple[int, float]:
    """Wait for a process: its exit status and its peak memory in MiB, without that of its children."""
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
        if time.perf_counter() > until:
            raise ContenderError(f"process {pid} took too long")
        time.sleep(0.02)
