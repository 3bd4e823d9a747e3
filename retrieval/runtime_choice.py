"""Which runtime an embedder uses here: measured once on the user's own pictures, remembered, and held to the bound.

Drift is the cosine between a runtime's vectors and those of the float32 reference for the same pixels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retrieval.conversions import cache_folder
from retrieval.errors import EmbedderError, InputError, MissingExtraError
from retrieval.machine import fingerprint
from retrieval.runtimes import AUTO, REFERENCE, RUNTIMES, Runtime, Site, build_runtime, missing_module, variants

if TYPE_CHECKING:
    from retrieval.network import Network

MEAN_BOUND: Final = 0.999
MIN_BOUND: Final = 0.995
MEASURE_FROM: Final = 1000
"""Images still to embed from which a quick measurement pays for itself; below, what is not remembered is torch."""
THOROUGH_FROM: Final = 5000
"""Images from which it pays to try all there is, for as long as it takes to tell them apart."""
SAMPLE: Final = 32
"""Images that drift is taken on and speed is measured with."""
FEWEST: Final = 8
"""Images below which nothing is measured or remembered."""
SECONDS, QUICK_SECONDS = 0.8, 0.3
"""Of each runtime's turn, at least; the second when the search is not thorough."""
ROUNDS: Final = 3
DISTRIBUTIONS: Final = ("lookalike", "torch", "openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt")

logger: Final = logging.getLogger("lookalike")


@dataclass(frozen=True)
class Drift:
    """Cosine to the reference, over a sample.

    Attributes:
        mean: in [-1, 1].
        minimum: of the picture that drifts farthest.
        images: how many pictures that was taken on.
    """

    mean: float
    minimum: float
    images: int = SAMPLE

    @property
    def bounded(self) -> bool:
        """Whether the vectors may stand for the reference's; of a few pictures the mean says nothing yet."""
        return self.minimum >= MIN_BOUND and (self.mean >= MEAN_BOUND or self.images < FEWEST)  # false for NaN

    def __str__(self) -> str:
        return f"mean cosine {self.mean:.5f}, minimum {self.minimum:.5f}"


@dataclass(frozen=True)
class Measurement:
    """One runtime, tried on this machine.

    Attributes:
        runtime: a key of ``RUNTIMES``.
        at_once: calls side by side.
        images_per_s: 0 when it failed.
        mean: cosine to the reference.
        minimum: likewise.
        build_s: seconds until it was ready, conversion included.
        failure: why it cannot be used; None when it can.
    """

    runtime: str
    at_once: int
    images_per_s: float = 0.0
    mean: float = 0.0
    minimum: float = 0.0
    build_s: float = 0.0
    failure: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it ran and kept to the bound."""
        return self.failure is None and self.drift.bounded

    @property
    def drift(self) -> Drift:
        """How far its vectors lie from the reference's."""
        return Drift(self.mean, self.minimum)

    def __str__(self) -> str:
        if self.failure is not None:
            return f"{self.runtime}: {self.failure}"
        beyond = "" if self.usable else ", beyond the bound"
        calls = f", {self.at_once} calls at once" if self.at_once > 1 else ""
        return f"{self.runtime}{calls}: {self.images_per_s:.0f} images/s, {self.drift}{beyond}"


@dataclass(frozen=True)
class Choice:
    """The runtime in use, and why.

    Attributes:
        runtime: a key of ``RUNTIMES``.
        at_once: calls side by side.
        why: a clause for people.
        measured: everything that was tried, now or when it was remembered.
        provisional: whether more images would be a reason to choose again.
        thorough: whether all there is was tried.
    """

    runtime: str
    at_once: int
    why: str
    measured: tuple[Measurement, ...] = ()
    provisional: bool = False
    thorough: bool = True


def drift(vectors: np.ndarray, reference: np.ndarray) -> Drift:
    """Compare vectors with the reference's; both (n, dim), L2-normalised, n > 0."""
    cosines = np.einsum("nd,nd->n", vectors.astype(np.float64), reference.astype(np.float64))
    return Drift(float(cosines.mean()), float(cosines.min()), len(cosines))


def choose(
    wanted: str,
    network: Network,
    site: Site,
    *,
    sample: np.ndarray,
    expected: int,
    notice: Callable[[str], object] = lambda _: None,
) -> tuple[Runtime, Choice]:
    """Build the runtime that is wanted, or the best one, and hold it to the bound.

    Args:
        wanted: "auto" or a key of ``RUNTIMES``, as ``resolve`` gave it.
        network: the float32 network.
        site: where it runs.
        sample: (n, height, width, 3) uint8 pixels of the user, n > 0.
        expected: images that will be embedded, as far as is known.
        notice: told in a sentence what is being done, when it takes seconds.

    Raises:
        EmbedderError: the runtime asked for drifts beyond the bound on these pictures.
        InputError: the runtime asked for has to be calibrated, and was not.
    """
    sample = sample[:SAMPLE]
    reference = build_runtime(REFERENCE, network, site)
    if wanted == AUTO:
        choice = remembered(site)
        thorough = expected >= THOROUGH_FROM
        lacking = choice is None or (thorough and not choice.thorough)
        if lacking and expected >= MEASURE_FROM and len(sample) >= FEWEST:
            notice("measuring which runtime is fastest here (once for this embedder)")
            tried = measure(network, site, sample=sample, thorough=thorough, on_done=lambda m: notice(f"  {m}"))
            choice = replace(best(tried), thorough=thorough)
            kept = "" if remember(site, choice) else f"; not remembered, since {cache_folder()} cannot be written"
            notice(f"{choice.runtime} is {choice.why}{kept}")
        if choice is None:
            why = f"the reference; others are tried once there are {MEASURE_FROM} images to embed"
            choice = Choice(REFERENCE, 1, why, provisional=True)
        elif expected < MEASURE_FROM:
            choice = for_a_few(choice)
    else:
        choice = Choice(wanted, 1, "asked for", _remembered_measurements(site))
        before = [m for m in choice.measured if m.runtime == wanted and m.failure is None]
        if before:
            choice = replace(choice, at_once=max(before, key=lambda m: m.images_per_s).at_once)
    if choice.runtime == REFERENCE:
        return reference, choice
    try:
        runtime = build_runtime(choice.runtime, network, replace(site, at_once=choice.at_once))
        vectors = _embed(runtime, sample)
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # a runtime's library raises of everything
        logger.warning("the runtime %s cannot be used (%s); %s is used instead", choice.runtime, error, REFERENCE)
        return reference, Choice(REFERENCE, 1, f"{choice.runtime} cannot be used", choice.measured)
    found = drift(vectors, _embed(reference, sample))
    if RUNTIMES[choice.runtime].bounded and not found.bounded:
        what = f"the runtime {choice.runtime} drifts beyond the bound on these pictures ({found})"
        if wanted != AUTO:
            raise EmbedderError(f"{what}: at least {MEAN_BOUND} and {MIN_BOUND} are needed; choose --runtime auto")
        logger.warning("%s; %s is used instead", what, REFERENCE)
        return reference, Choice(REFERENCE, 1, f"{choice.runtime} drifts too far", choice.measured)
    return runtime, replace(choice, why=f"{choice.why}, {found}")


def measure(
    network: Network,
    site: Site,
    *,
    sample: np.ndarray,
    names: Sequence[str] | None = None,
    thorough: bool = True,
    on_done: Callable[[Measurement], object] = lambda _: None,
) -> tuple[Measurement, ...]:
    """Try runtimes on a sample: speed and drift of each.

    Args:
        network: the float32 network.
        site: where it runs.
        sample: (n, height, width, 3) uint8, n > 0.
        names: keys of ``RUNTIMES``; None: those that ``auto`` tries.
        thorough: see ``variants``.
        on_done: called with each measurement; what it raises ends the measuring.
    """
    reference = _embed(build_runtime(REFERENCE, network, site), sample)
    found: list[Measurement] = []
    seconds = SECONDS if thorough else QUICK_SECONDS
    for name, at_once in variants(site.device, names, thorough=thorough):
        began = time.perf_counter()
        try:
            runtime = build_runtime(name, network, replace(site, at_once=at_once))
            vectors = _embed(runtime, sample)
            ready = time.perf_counter() - began
            away = drift(vectors, reference)
            found.append(Measurement(name, at_once, _speed(runtime, sample, seconds), away.mean, away.minimum, ready))
        except Exception as error:
            found.append(Measurement(name, at_once, failure=f"{type(error).__name__}: {error}"[:300]))
        on_done(found[-1])
    return tuple(found)


def best(measured: tuple[Measurement, ...]) -> Choice:
    """Choose the fastest of those that ran and kept to the bound; the reference where there are none."""
    usable = [m for m in measured if m.usable]
    if not usable:
        return Choice(REFERENCE, 1, "the reference", measured)
    fastest = max(usable, key=lambda m: m.images_per_s)
    reference = [m.images_per_s for m in usable if m.runtime == REFERENCE]
    # Rates and no ratio: a short trial on a machine that does other work too is no benchmark.
    beside = f", {REFERENCE} {reference[0]:.0f}" if reference and fastest.runtime != REFERENCE else ""
    tried = len({m.runtime for m in measured})
    why = f"the fastest of {tried} in a short trial here ({fastest.images_per_s:.0f} images/s{beside})"
    return Choice(fastest.runtime, fastest.at_once, why, measured)


def for_a_few(choice: Choice) -> Choice:
    """Choose among the same for a few images: what needs no compiling, and has all cores for one call."""
    few = [m for m in choice.measured if m.at_once == 1 and not RUNTIMES[m.runtime].compiles]
    return replace(best(tuple(few)), measured=choice.measured, provisional=True)


def remember(site: Site, choice: Choice) -> bool:
    """Keep a choice for this machine and these versions; says whether that worked."""
    note: dict[str, Any] = {**asdict(choice), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return site.conversions.write(_note_name(site), note)


def remembered(site: Site) -> Choice | None:
    """The choice made on this machine with these versions, unless its packages have gone since."""
    note = site.conversions.read(_note_name(site))
    try:
        assert note is not None
        measured = tuple(Measurement(**row) for row in note["measured"])
        thorough = bool(note["thorough"])
        choice = Choice(str(note["runtime"]), int(note["at_once"]), str(note["why"]), measured, thorough=thorough)
        assert choice.runtime in RUNTIMES and choice.at_once >= 1
    except (AssertionError, KeyError, TypeError, ValueError):
        return None  # made anew by the next run that measures
    return choice if missing_module(choice.runtime) is None else None


def _remembered_measurements(site: Site) -> tuple[Measurement, ...]:
    choice = remembered(site)
    return choice.measured if choice else ()


def _note_name(site: Site) -> str:
    device = site.device
    if device != "cpu":
        import torch

        device = torch.cuda.get_device_name(device)
    return f"runtime-{fingerprint(DISTRIBUTIONS, device)}"


def _embed(runtime: Runtime, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([runtime.run(part) for part in _parts(runtime, pixels)])


def _parts(runtime: Runtime, pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[start : start + runtime.batch] for start in range(0, len(pixels), runtime.batch)]


def _speed(runtime: Runtime, sample: np.ndarray, at_least: float = SECONDS) -> float:
    """Images/s of the best round, of ``ROUNDS`` and some seconds at least: others may use the machine meanwhile."""
    # As in a long run: whole batches, and enough of them that no call is missing side by side.
    count = runtime.batch * max(2 * runtime.at_once, len(sample) // runtime.batch)
    parts = _parts(runtime, sample[np.arange(count) % len(sample)])
    best_rate = 0.0
    with ThreadPoolExecutor(runtime.at_once) as pool:
        began, rounds = time.perf_counter(), 0
        while True:
            start = time.perf_counter()
            for _ in pool.map(runtime.run, parts):
                pass
            now = time.perf_counter()
            best_rate, rounds = max(best_rate, count / (now - start)), rounds + 1
            if now - began >= at_least and rounds >= ROUNDS:
                return best_rate
