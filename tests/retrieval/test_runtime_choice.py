"""The choice of a runtime: measured once, remembered, held to the bound, and never a silent change."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import runtime_choice
from retrieval.conversions import Conversions
from retrieval.errors import EmbedderError, InputError
from retrieval.runtime_choice import (
    MEASURE_FROM,
    THOROUGH_FROM,
    Drift,
    Measurement,
    best,
    choose,
    drift,
    measure,
    remembered,
)
from retrieval.runtimes import Site

SAMPLE = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), dtype=np.uint8)


class Fake:
    """The pixels as unit vectors, turned by some angle."""

    def __init__(self, cosine: float = 1.0, at_once: int = 1) -> None:
        self.at_once, self.batch, self.cosine = at_once, 8, cosine

    def run(self, pixels: np.ndarray) -> np.ndarray:
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) + 1
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        other = np.zeros_like(unit)
        other[:, :2] = np.stack([unit[:, 1], -unit[:, 0]], axis=1)  # perpendicular
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        return np.asarray(self.cosine * unit + np.sqrt(1 - self.cosine**2) * other, dtype=np.float32)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site("cpu", Conversions("0" * 64, cache=tmp_path), sample=SAMPLE)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand-ins for the runtimes, by name: a ``Fake``, or an error to raise; and ``calls``, what was built."""
    kinds: dict[str, Any] = {
        "torch": Fake(),
        "torch-bf16": Fake(0.9995),
        "openvino": Fake(),
        "openvino-bf16": Fake(0.9995),
        "openvino-int8": Fake(0.9),
        "onnxruntime": RuntimeError("will not load"),
        "calls": [],
    }
    rates = {"torch": 10.0, "torch-bf16": 12.0, "openvino": 20.0, "openvino-bf16": 30.0, "openvino-int8": 90.0}

    def build(name: str, network: object, site: Site) -> Fake:
        kinds["calls"].append((name, site.at_once))
        if isinstance(kinds[name], Exception):
            raise kinds[name]
        made = Fake(kinds[name].cosine, site.at_once)
        made.name = name  # type: ignore[attr-defined]
        return made

    monkeypatch.setattr(runtime_choice, "build_runtime", build)
    monkeypatch.setattr(runtime_choice, "missing_module", lambda name: None)
    names = [name for name in kinds if name in rates or name == "onnxruntime"]
    monkeypatch.setattr(
        runtime_choice,
        "variants",
        lambda device, given=None, thorough=True: [
            (name, 1) for name in given or [n for n in names if n != "openvino-int8"]
        ],
    )
    monkeypatch.setattr(runtime_choice, "_speed", lambda runtime, *_: rates[runtime.name])
    return kinds


def chosen(wanted: str, site: Site, expected: int = 5000, notice: Callable[[str], object] = lambda _: None) -> Any:
    return choose(wanted, object(), site, sample=SAMPLE, expected=expected, notice=notice)  # type: ignore[arg-type]


def test_auto_measures_once_and_remembers(site: Site, built: dict[str, Any]) -> None:
    said: list[str] = []
    runtime, choice = chosen("auto", site, notice=said.append)
    assert (choice.runtime, runtime.name) == ("openvino-bf16", "openvino-bf16")
    assert "the fastest of 5 in a short trial here (30 images/s, torch 10)" in choice.why
    assert said[0] == "measuring which runtime is fastest here (once for this embedder)"
    assert said[1] == "  torch: 10 images/s, mean cosine 1.00000, minimum 1.00000"
    assert said[-1] == "openvino-bf16 is the fastest of 5 in a short trial here (30 images/s, torch 10)"
    said.clear()
    built["calls"].clear()
    _, again = chosen("auto", site, expected=1, notice=said.append)
    assert again.runtime == "openvino-bf16"
    assert said == []
    assert built["calls"] == [("torch", 1), ("openvino-bf16", 1)]  # the reference, and the one remembered
    assert {m.runtime for m in again.measured} == {"torch", "torch-bf16", "openvino", "openvino-bf16", "onnxruntime"}


@pytest.mark.parametrize(("expected", "count"), [(MEASURE_FROM - 1, 32), (10**6, 7)])
def test_a_few_images_are_not_worth_measuring(site: Site, built: dict[str, Any], expected: int, count: int) -> None:
    _, choice = choose("auto", object(), site, sample=SAMPLE[:count], expected=expected)  # type: ignore[arg-type]
    assert choice.runtime == "torch"
    assert remembered(site) is None
    assert built["calls"] == [("torch", 1)]


def test_a_few_images_get_what_needs_no_compiling_and_all_cores(
    site: Site, built: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built["torch-compile"] = Fake()
    tried = [("torch", 1), ("openvino", 1), ("openvino", 8), ("torch-compile", 1)]
    monkeypatch.setattr(runtime_choice, "variants", lambda *_, **__: tried)
    rates = {("torch", 1): 1.0, ("openvino", 1): 2.0, ("openvino", 8): 3.0, ("torch-compile", 1): 9.0}
    monkeypatch.setattr(runtime_choice, "_speed", lambda runtime, *_: rates[(runtime.name, runtime.at_once)])
    many = chosen("auto", site)[1]
    few = chosen("auto", site, expected=1)[1]
    assert (many.runtime, many.provisional) == ("torch-compile", False)
    assert (few.runtime, few.at_once, few.provisional) == ("openvino", 1, True)


def test_speed_is_taken_with_whole_batches_and_enough_of_them() -> None:
    class Wide(Fake):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            with lock:
                calls.append(len(pixels))
            return super().run(pixels)

    lock, calls = threading.Lock(), list[int]()
    wide = Wide(at_once=6)
    wide.batch = 20
    assert runtime_choice._speed(wide, SAMPLE) > 0
    assert set(calls) == {20}
    assert len(calls) % 12 == 0


def test_some_hundred_images_get_a_quick_look_and_thousands_a_thorough_one(
    site: Site, built: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def several(device: str, given: object = None, *, thorough: bool = True) -> list[tuple[str, int]]:
        asked.append(thorough)
        return [("torch", 1), ("openvino", 1)] + ([("openvino-bf16", 1)] if thorough else [])

    monkeypatch.setattr(runtime_choice, "variants", several)
    assert chosen("auto", site, expected=THOROUGH_FROM - 1)[1].runtime == "openvino"
    assert chosen("auto", site, expected=THOROUGH_FROM - 1)[1].runtime == "openvino"
    assert asked == [False]
    assert chosen("auto", site, expected=THOROUGH_FROM)[1].runtime == "openvino-bf16"
    assert chosen("auto", site, expected=10**6)[1].runtime == "openvino-bf16"
    assert chosen("auto", site, expected=MEASURE_FROM)[1].runtime == "openvino-bf16"
    assert asked == [False, True]


def test_a_choice_that_cannot_be_kept_says_so(site: Site, built: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    chosen("auto", Site("cpu", Conversions("0" * 64, cache=tmp_path / "file"), sample=SAMPLE), notice=said.append)
    assert "; not remembered, since " in said[-1]


def test_who_is_told_may_end_the_measuring(site: Site, built: dict[str, Any]) -> None:
    def stop(text: str) -> None:
        if "openvino" in text:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        chosen("auto", site, notice=stop)
    assert ("openvino-bf16", 1) not in built["calls"]
    assert remembered(site) is None


def test_another_machine_or_version_measures_anew(
    site: Site, built: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen("auto", site)
    assert remembered(site) is not None
    monkeypatch.setattr(runtime_choice, "fingerprint", lambda *_: "another")
    assert remembered(site) is None


def test_a_damaged_note_counts_for_nothing(site: Site, built: dict[str, Any]) -> None:
    chosen("auto", site)
    (note,) = site.conversions.folder.glob("*.json")
    good = json.loads(note.read_text())
    for change in ({"runtime": "magic"}, {"at_once": 0}, {"measured": [{"x": 1}]}, {"measured": None}):
        note.write_text(json.dumps({**good, **change}))
        assert remembered(site) is None
    note.write_text("{")
    assert remembered(site) is None


def test_what_drifts_is_not_chosen_however_fast(site: Site, built: dict[str, Any]) -> None:
    built["openvino-bf16"] = Fake(0.998)
    assert chosen("auto", site)[1].runtime == "openvino"


def test_a_remembered_runtime_that_drifts_on_these_pictures_is_replaced_with_a_warning(
    site: Site, built: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    chosen("auto", site)
    built["openvino-bf16"] = Fake(0.99)
    with caplog.at_level(logging.WARNING, logger="lookalike"):
        runtime, choice = chosen("auto", site)
    assert (runtime.name, choice.runtime) == ("torch", "torch")
    (record,) = caplog.records
    assert "openvino-bf16 drifts beyond the bound on these pictures (mean cosine 0.99" in record.getMessage()


def test_a_runtime_that_was_asked_for_and_drifts_is_refused(site: Site, built: dict[str, Any]) -> None:
    built["openvino"] = Fake(0.9985)
    with pytest.raises(EmbedderError, match=r"openvino drifts beyond the bound .*choose --runtime auto"):
        chosen("openvino", site)


def test_eight_bits_are_exempt_when_asked_for(site: Site, built: dict[str, Any]) -> None:
    _, choice = chosen("openvino-int8", site)
    assert choice.runtime == "openvino-int8"
    assert "mean cosine 0.90000" in choice.why


@pytest.mark.parametrize("wanted", ["auto", "onnxruntime"])
def test_a_runtime_that_fails_to_load_is_replaced_with_one_warning_that_names_it(
    wanted: str, site: Site, built: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    if wanted == "auto":
        chosen("auto", site)
        built["openvino-bf16"] = OSError("libopenvino.so is broken")
    with caplog.at_level(logging.WARNING, logger="lookalike"):
        runtime, choice = chosen(wanted, site)
    assert runtime.name == "torch"
    assert choice.runtime == "torch"
    (record,) = caplog.records
    name, why = ("openvino-bf16", "is broken") if wanted == "auto" else ("onnxruntime", "will not load")
    assert name in record.getMessage()
    assert why in record.getMessage()
    assert "torch is used instead" in record.getMessage()


def test_what_the_caller_must_do_is_no_warning_but_an_error(site: Site, built: dict[str, Any]) -> None:
    built["openvino-int8"] = InputError("has to be calibrated")
    with pytest.raises(InputError, match="has to be calibrated"):
        chosen("openvino-int8", site)


def test_an_explicit_runtime_uses_the_streams_that_were_measured(
    site: Site, built: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_choice, "variants", lambda *_, **__: [("torch", 1), ("openvino", 1), ("openvino", 2)])
    rates = {("torch", 1): 1.0, ("openvino", 1): 2.0, ("openvino", 2): 3.0}
    monkeypatch.setattr(runtime_choice, "_speed", lambda runtime, *_: rates[(runtime.name, runtime.at_once)])
    chosen("auto", site)
    runtime, choice = chosen("openvino", site)
    assert (runtime.at_once, choice.at_once) == (2, 2)


def test_measuring_reports_failures_and_goes_on(site: Site, built: dict[str, Any]) -> None:
    seen: list[Measurement] = []
    rows = measure(object(), site, sample=SAMPLE, on_done=seen.append)  # type: ignore[arg-type]
    assert list(rows) == seen
    by_name = {row.runtime: row for row in rows}
    assert by_name["onnxruntime"].failure == "RuntimeError: will not load"
    assert not by_name["onnxruntime"].usable
    assert by_name["openvino"].images_per_s == 20.0
    assert by_name["openvino-bf16"].mean == pytest.approx(0.9995, abs=1e-6)


def test_best_of_nothing_usable_is_the_reference() -> None:
    assert best(()).runtime == "torch"
    assert best((Measurement("openvino", 1, failure="no"),)).runtime == "torch"
    only = best((Measurement("openvino", 2, 5.0, 1.0, 1.0),))
    assert (only.runtime, only.at_once) == ("openvino", 2)


@given(st.integers(1, 20), st.integers(2, 30), st.integers(0, 2**31))
def test_drift_is_the_cosine_a_picture(count: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((2, count, dim))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = [sum(a * b for a, b in zip(x, y, strict=True)) for x, y in zip(one, other, strict=True)]
    found = drift(one, other)
    assert found.mean == pytest.approx(sum(cosines) / count, abs=1e-12)
    assert found.minimum == pytest.approx(min(cosines), abs=1e-12)
    assert drift(one, one).bounded


@pytest.mark.parametrize(
    ("mean", "minimum", "bounded"),
    [(0.999, 0.995, True), (0.9989, 0.998, False), (0.9999, 0.9949, False), (float("nan"), 1.0, False)],
)
def test_the_bound(mean: float, minimum: float, bounded: bool) -> None:
    assert Drift(mean, minimum).bounded is bounded


def test_a_single_query_is_held_to_the_minimum_alone(site: Site, built: dict[str, Any]) -> None:
    built["openvino"] = Fake(0.998)

    def run(count: int) -> Any:
        return choose("openvino", object(), site, sample=SAMPLE[:count], expected=count)  # type: ignore[arg-type]

    assert run(1)[1].runtime == run(7)[1].runtime == "openvino"
    with pytest.raises(EmbedderError, match="drifts"):
        run(8)
    built["openvino"] = Fake(0.9949)
    with pytest.raises(EmbedderError, match="drifts"):
        run(1)
