"""What looks for copies in a folder of pictures, each in a process of its own: lookalike, imagededup, difPy, czkawka.

Every contender gets the same flat folder and says which pairs it takes for copies with its own settings. Those with a
threshold also give all pairs up to a much looser one, so that their best line can be found in hindsight; that is not
timed. The peers run in the environment that ``benchmarks.peers`` tells how to make.

imagededup's CNN wants weights of MobileNet from the network. It gets the model that lookalike uses by default through
its door for models of one's own. difPy and czkawka answer with groups: all pairs of a group count as said. czkawka
keeps no distances outside its groups, so its line in hindsight is found from its hashes.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import peers
from benchmarks._duplicate_figures import Pairs

OWN: Final = "lookalike"
FARTHEST: Final = 16  # of 64 bits; chance pairs of photos come from here on
NEAREST_UNTOLD: Final = 0.85  # cosine; default of imagededup is 0.9
SURE: Final = 2.0  # nearness of same bytes and same pixels: above every agreement


@dataclass
class Finding:
    """What a contender found.

    Attributes:
        said: by setting, the pairs it takes for copies.
        loose: pairs up to a looser threshold, with nearness; None where it has no threshold, or tells none.
        seconds: by stage, what a user waits for; the first setting is the one that was timed.
        notes: sentences for the reader.
        figures: other numbers for JSON.
        peak: memory of the process without its workers, MiB.
    """

    said: dict[str, Pairs]
    loose: Pairs | None
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    peak: float = float("nan")

    def write(self, path: Path) -> None:
        """Write everything into one ``.npz`` file."""
        parts = self.said | ({} if self.loose is None else {"": self.loose})
        arrays = {
            f"{at}.{name}": getattr(parts[key], name) for at, key in enumerate(parts) for name in ("a", "b", "nearness")
        }
        told = {"said": list(parts), "seconds": self.seconds, "notes": self.notes, "figures": self.figures}
        np.savez(path, told=np.array(json.dumps(told)), **arrays)

    @classmethod
    def read(cls, path: Path) -> Finding:
        """Read what was written."""
        with np.load(path) as stored:
            told = json.loads(str(stored["told"]))
            parts = {
                key: Pairs(*(stored[f"{at}.{name}"] for name in ("a", "b", "nearness")))
                for at, key in enumerate(told["said"])
            }
        return cls(
            {key: pairs for key, pairs in parts.items() if key},
            parts.get(""),
            told["seconds"],
            told["notes"],
            told["figures"],
        )


def _places(folder: Path) -> dict[str, int]:
    return {name: place for place, name in enumerate(sorted(path.name for path in folder.iterdir()))}


def _named(places: Mapping[str, int], pairs: Iterable[tuple[str, str, float]]) -> Pairs:
    rows = [(places[Path(a).name], places[Path(b).name], nearness) for a, b, nearness in pairs]
    a, b, nearness = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Pairs.of(a, b, nearness)


def _within(groups: Iterable[Iterable[str]]) -> Iterable[tuple[str, str, float]]:
    return ((a, b, float("nan")) for group in groups for a, b in itertools.combinations(group, 2))


def lookalike(folder: Path, *, work: Path, precision: float, effort: str) -> Finding:
    """Make a catalogue of the folder with the default embedder and ask it for copies."""
    from benchmarks._duplicate_search import search

    places = _places(folder)
    looked = search(folder, root=None, place=work / "catalogue", precision=precision, effort=effort)
    loose = _named(places, looked.pairs_with_agreement(same=SURE))
    setting = f"precision {precision:g}"
    return Finding(
        {setting: _named(places, looked.copies(same=SURE))}, loose, looked.seconds, looked.notes, looked.figures
    )


def _phash(folder: Path, **_: Any) -> Finding:
    from imagededup.methods import PHash  # type: ignore[import-not-found]

    places = _places(folder)
    hasher = PHash(verbose=True)
    began = time.perf_counter()
    hashes: dict[str, str] = hasher.encode_images(image_dir=folder)
    hashed = time.perf_counter()
    found: dict[str, list[tuple[str, float]]] = hasher.find_duplicates(encoding_map=hashes, scores=True)
    seconds = {"hash": hashed - began, "search": time.perf_counter() - hashed}
    said = _named(places, ((a, b, -float(off)) for a, others in found.items() for b, off in others))
    codes = np.array([int(code, 16) for code in hashes.values()], dtype=np.uint64)
    loose = _near_codes(codes, np.array([places[name] for name in hashes]))
    return Finding({"max_distance_threshold 10 (default)": said}, loose, seconds)


def _cnn(folder: Path, **_: Any) -> Finding:
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel  # type: ignore[import-not-found]

    places = _places(folder)
    model, transform = peers.plain_backbone()
    encoder = CNN(verbose=True, model_config=CustomModel(name=peers.BACKBONE, model=model, transform=transform))
    began = time.perf_counter()
    vectors: dict[str, np.ndarray] = encoder.encode_images(image_dir=folder, num_enc_workers=0)
    encoded = time.perf_counter()
    found: dict[str, list[str]] = encoder.find_duplicates(encoding_map=vectors)
    seconds = {"embed": encoded - began, "search": time.perf_counter() - encoded}
    said = _named(places, ((a, b, float("nan")) for a, others in found.items() for b in others))
    loose = _near_vectors(np.stack(list(vectors.values())), np.array([places[name] for name in vectors]))
    notes = [f"its own MobileNet cannot be fetched here: it has {peers.BACKBONE} through CustomModel"]
    return Finding({"min_similarity_threshold 0.9 (default)": said}, loose, seconds, notes)


def _difpy(folder: Path, **_: Any) -> Finding:
    import difPy  # type: ignore[import-not-found]

    places = _places(folder)
    began = time.perf_counter()
    built = difPy.build(str(folder))
    done = time.perf_counter()
    seconds, said = {"build": done - began}, {}
    for similarity, setting in (("duplicates", "duplicates (default)"), ("similar", "similar")):
        searched = difPy.search(built, similarity=similarity)
        groups = [[key, *(match for match, _ in matches)] for key, matches in searched.result.items()]
        said[setting] = _named(places, _within(groups))
        seconds[f"search, {similarity}"] = time.perf_counter() - done
        done = time.perf_counter()
    return Finding(said, None, seconds, ["compares only pictures of the same size by default; seconds are of both"])


def _czkawka(folder: Path, **_: Any) -> Finding:
    from czkawka import ImageSimilarity  # type: ignore[import-not-found]

    places = _places(folder)
    finder = ImageSimilarity()
    finder.set_directories([folder])
    began = time.perf_counter()
    groups = finder.find_similar_with_distances()
    seconds = {"whole": time.perf_counter() - began}
    said = _named(places, ((str(a), str(b), -float(off)) for group in groups for a, b, off in group))
    codes = [finder.hash_image(folder / name) for name in places]
    raw = b"".join(base64.b64decode(code + "=" * (-len(code) % 4)) for code in codes)
    loose = _near_codes(np.frombuffer(raw, np.uint64), np.array(list(places.values())))
    return Finding({"default level": said}, loose, seconds)


def _near_codes(codes: np.ndarray, places: np.ndarray) -> Pairs:
    """All pairs of 64-bit codes (n,) uint64 that differ in at most ``FARTHEST`` bits."""
    found = []
    for start in range(0, len(codes), 256):
        off = np.bitwise_count(codes[start : start + 256, None] ^ codes[None, start:])
        a, b = np.nonzero(off <= FARTHEST)
        found.append((places[a + start], places[b + start], -off[a, b].astype(np.float64)))
    return Pairs.of(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _near_vectors(vectors: np.ndarray, places: np.ndarray) -> Pairs:
    """All pairs of vectors (n, d) with a cosine of at least ``NEAREST_UNTOLD``."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for start in range(0, len(unit), 512):
        cosine = unit[start : start + 512] @ unit[start:].T
        a, b = np.nonzero(cosine >= NEAREST_UNTOLD)
        later = a < b
        a, b = a[later], b[later]
        found.append((places[a + start], places[b + start], cosine[a, b].astype(np.float64)))
    return Pairs.of(*(np.concatenate(column) for column in zip(*found, strict=True)))


@dataclass(frozen=True)
class Contender:
    """One of them: what it is imported as, of which package it is, and the function that looks."""

    module: str | None
    package: str
    look: Callable[..., Finding]


CONTENDERS: Final[dict[str, Contender]] = {
    OWN: Contender(None, "lookalike", lookalike),
    "imagededup pHash": Contender("imagededup.methods", "imagededup", _phash),
    "imagededup CNN": Contender("imagededup.methods", "imagededup", _cnn),
    "difPy": Contender("difPy", "difPy", _difpy),
    "czkawka": Contender("czkawka", "czkawka", _czkawka),
}


def version_or_reason(name: str) -> tuple[str | None, str | None]:
    """The version of a peer that can run here, or why it cannot."""
    contender = CONTENDERS[name]
    assert contender.module is not None, "ours always runs"
    reason = peers.importable(contender.module)
    if reason is not None:
        return None, reason
    program = f"import importlib.metadata as m; print(m.version({contender.package!r}))"
    done = subprocess.run([peers.interpreter(), "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip(), None


class ContenderError(Exception):
    """A contender that ended badly, or not in time."""


def look_apart(name: str, folder: Path, work: Path, options: Sequence[str], *, timeout: float) -> Finding:
    """Run a contender in a process of its own; what it prints goes to standard error.

    Raises:
        ContenderError: it failed or took too long.
    """
    out = _found_by(name, work)
    out.unlink(missing_ok=True)
    program = sys.executable if CONTENDERS[name].module is None else peers.interpreter()
    command = [program, "-W", "ignore", "-m", "benchmarks", "duplicates", "--contender", name, "--work", str(work)]
    # What a peer remembers of the same pictures would make the next run look fast.
    cache: dict[str, str] = (
        {} if CONTENDERS[name].module is None else {"XDG_CACHE_HOME": str(work / "cache" / uuid.uuid4().hex)}
    )
    peak = run([*command, "--folder", str(folder), "--out", str(out), *options], timeout=timeout, more=cache)
    finding = Finding.read(out)
    finding.figures["peak"] = finding.peak = peak
    finding.write(out)
    return finding


def look_up(name: str, work: Path) -> Finding:
    """What a contender found in an earlier run in the same folder.

    Raises:
        ContenderError: there was none.
    """
    out = _found_by(name, work)
    if not out.exists():
        raise ContenderError(f"{out} is not there")
    finding = Finding.read(out)
    finding.peak = float(finding.figures.get("peak", "nan"))
    return finding


def _found_by(name: str, work: Path) -> Path:
    return work / f"{name.replace(' ', '-')}.npz"


def run(command: Sequence[str], *, timeout: float, more: dict[str, str] | None = None) -> float:
    """Run a process to its end; gives its peak memory without that of its children, MiB.

    Raises:
        ContenderError: it failed or took too long.
    """
    own = os.environ | peers.ENVIRONMENT | (more or {})
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stdout=sys.stderr, env=own, cwd=root, start_new_session=True)
    until = time.perf_counter() + timeout
    try:
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            if time.perf_counter() > until:
                raise ContenderError(f"took more than {timeout / 60:.0f} minutes")
            time.sleep(0.05)
    except BaseException:
        os.killpg(process.pid, 9)  # with its workers
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ContenderError(f"ended with status {process.returncode}")
    return usage.ru_maxrss / 1024
