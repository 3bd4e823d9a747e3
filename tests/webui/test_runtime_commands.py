"""Runtimes on the command line: asked for, tried, listed and refused; and where the time of a run went."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from retrieval import runtime_choice, runtimes
from tests.webui.commands import TINY, Run, as_json


def needs_openvino() -> None:
    """Skip where it is missing; importing it here would let it report what is converted in this process."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")


@pytest.fixture
def only_torch(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As on a machine where nothing but torch is installed, and nothing was measured yet."""
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path_factory.mktemp("conversions")))

    def missing(name: str) -> str | None:
        return next(iter(runtimes.RUNTIMES[name].modules), None)

    for room in (runtimes, runtime_choice):
        monkeypatch.setattr(room, "missing_module", missing)


def test_index_with_openvino_and_search_with_torch(
    tmp_path: Path, picture_folder: Path, weights: Path, run: Run
) -> None:
    needs_openvino()
    place = tmp_path / "shop"
    made = ("--backbone", TINY, "--weights", weights, "--device", "cpu", "--runtime", "openvino")
    summary = as_json(run("index", picture_folder, "--catalogue", place, *made, "--json"))
    assert (summary["runtime"], summary["embedded"]) == ("openvino", 24)
    again = as_json(run("index", picture_folder, "--catalogue", place, "--runtime", "openvino", "--json"))
    assert (again["runtime"], again["embedded"]) == (None, 0)
    assert as_json(run("info", place, "--json"))["vectors"] == {"openvino": 24}
    query = tmp_path / "query.jpg"  # the same pixels and other bytes, or its vector would come from the cache
    query.write_bytes((picture_folder / "Paint/Red/000.jpg").read_bytes() + b"more")
    search = ("search", place, query, "-k", 1, "--device", "cpu", "--json", "--runtime")
    for name in ("torch", "openvino"):
        (hit,) = as_json(run(*search, name))["hits"]
        assert hit["id"] == "Paint/Red/000.jpg"
        assert hit["similarity"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nonsense", 2, "there is no runtime 'nonsense'; choose auto, torch,"),
        ("tensorrt", 2, "the runtime tensorrt runs on cuda, not on cpu"),
        ("openvino", 5, "lookalike[openvino]"),
        ("int8", 5, "lookalike[int8]"),
    ],
)
def test_a_runtime_that_cannot_be_is_one_sentence_and_leaves_no_folder(
    tmp_path: Path, picture_folder: Path, weights: Path, run: Run, only_torch: None, name: str, code: int, message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    place = tmp_path / "made" / "shop"
    made = ("--backbone", TINY, "--weights", weights, "--device", "cpu", "--runtime", name)
    ended, out, err = run("index", picture_folder, "--catalogue", place, *made)
    assert (ended, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("lookalike: ")
    ended, out, _ = run("index", picture_folder, "--catalogue", place, *made, "--json")
    assert ended == code
    assert message in json.loads(out)["error"]["message"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["nonsense", "tensorrt", "openvino"])
@pytest.mark.parametrize("command", ["index", "search", "runtimes"])
def test_a_runtime_that_cannot_be_changes_no_catalogue(
    shop: Path, picture_folder: Path, run: Run, only_torch: None, command: str, name: str
) -> None:
    more = picture_folder / "Paint/Red/more.jpg"
    more.write_bytes((picture_folder / "Paint/Red/000.jpg").read_bytes() + b"more")
    arguments: dict[str, tuple[object, ...]] = {
        "index": (picture_folder, "--catalogue", shop),
        "search": (shop, more),
        "runtimes": (shop,),
    }
    before = sorted(shop.rglob("*"))
    code, _, err = run(command, *arguments[command], "--device", "cpu", "--runtime", name)
    assert code == (5 if name == "openvino" else 2)
    assert name in err.splitlines()[-1]
    assert "Traceback" not in err
    assert sorted(shop.rglob("*")) == before


STAGES = ["read", "decode", "prepare", "embed", "write", "commit"]


def test_index_says_and_draws_where_the_time_went(
    tmp_path: Path, picture_folder: Path, weights: Path, run: Run
) -> None:
    place = tmp_path / "shop"
    index = ("index", picture_folder, "--catalogue", place, "--profile")
    code, out, _ = run(*index, "--backbone", TINY, "--weights", weights)
    assert code == 0
    assert "24 items" in out
    assert out.rstrip().endswith(f"the picture: {place / 'profile.svg'}")
    for stage in STAGES:
        assert re.search(rf"^ *{stage} .*\d", out, re.M), stage  # its row
        assert re.search(rf"^ *{stage} *│.*│$", out, re.M), stage  # its lane
    picture = (place / "profile.svg").read_text()
    root = ET.fromstring(picture)
    assert root.tag.endswith("svg")
    assert set(STAGES) <= {text.text for text in root.iter() if text.text}
    assert run("verify", place, "--sources")[1].strip().endswith("all well")

    again = as_json(run(*index, "--json"))
    assert (again["unchanged"], again["embedded"]) == (24, 0)
    rows = {row["stage"]: row for row in again["profile"]}
    assert rows["read"]["images"] == rows["decode"]["images"] == 24
    assert "embed" not in rows  # all was known
    assert all(row["busy_s"] >= 0 and 0 <= row["share"] <= 1 for row in rows.values())
    assert (place / "profile.svg").read_text() != picture
    assert run("verify", place)[0] == 0
    assert "profile" not in as_json(run("index", picture_folder, "--catalogue", place, "--json"))


def test_runtimes_lists_what_there_is_and_what_to_install(run: Run, only_torch: None) -> None:
    rows = {row["runtime"]: row for row in as_json(run("runtimes", "--json"))["runtimes"]}
    assert set(rows) == set(runtimes.RUNTIMES)
    assert rows["torch"]["install"] is None
    assert rows["openvino"]["install"] == "pip install 'lookalike[openvino]'"
    assert rows["tensorrt"]["devices"] == ["cuda"]
    code, out, _ = run("runtimes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(runtimes.RUNTIMES)
    assert re.search(r"^openvino .*; not installed: pip install 'lookalike\[openvino\]'$", out, re.M)
    assert run("runtimes", "--runtime", "torch")[0] == 2  # on which images?


def test_runtimes_are_tried_on_the_catalogues_images_and_the_fastest_is_remembered(
    only_torch: None, shop: Path, picture_folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_choice, "SECONDS", 0.05)
    before = sorted(shop.rglob("*"))
    code, out, err = run("runtimes", shop, "--device", "cpu")
    assert (code, err) == (0, "")
    assert f"24 images of {shop}, on cpu" in out
    assert re.search(r"^torch +1 +\d+\.\d +1\.00000 +1\.00000 +\d+\.\d s$", out, re.M)
    assert re.search(r"^torch-bf16 +1 ", out, re.M)
    assert "openvino" not in out
    named = re.search(r"^(torch\S*) is used from now on: ", out, re.M)
    assert named
    found = as_json(run("runtimes", shop, "--device", "cpu", "--json"))
    assert found["remembered"] is True
    assert [row["runtime"] for row in found["measured"]] == ["torch", "torch-bf16"]
    fastest = max(
        (row for row in found["measured"] if row["minimum"] >= 0.995 and row["mean"] >= 0.999),
        key=lambda row: row["images_per_s"],
    )
    assert found["chosen"] == fastest["runtime"]
    assert sorted(shop.rglob("*")) == before

    # What is remembered is used, though there are few images.
    extra = picture_folder / "Paint/Red/more.jpg"
    extra.write_bytes((picture_folder / "Paint/Red/000.jpg").read_bytes() + b"more")
    index = ("index", picture_folder, "--catalogue", shop, "--device", "cpu", "--json")
    assert as_json(run(*index))["runtime"] == found["chosen"]


def test_one_runtime_is_tried_and_nothing_is_remembered(shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_choice, "SECONDS", 0.02)
    monkeypatch.setattr(runtime_choice, "remember", lambda *_: pytest.fail("remembered"))
    monkeypatch.setattr("retrieval.embedder.remember", lambda *_: pytest.fail("remembered"))
    runs = ("runtimes", shop, "--runtime", "torch", "--device", "cpu")
    found = as_json(run(*runs, "--json"))
    assert (found["chosen"], found["remembered"]) == ("torch", False)
    assert [row["runtime"] for row in found["measured"]] == ["torch"]
    code, out, _ = run(*runs)
    assert code == 0
    assert "from now on" not in out
    code, _, err = run("runtimes", shop, "--runtime", "auto", "--device", "cpu")
    assert code == 2
    assert "auto is what is measured here" in err


def test_runtimes_of_a_catalogue_whose_sources_have_moved_away(shop: Path, picture_folder: Path, run: Run) -> None:
    picture_folder.rename(picture_folder.with_name("elsewhere"))
    code, out, err = run("runtimes", shop, "--runtime", "torch", "--device", "cpu", "--json")
    assert code == 2
    assert "not one image of" in err
    assert json.loads(out)["error"]["message"]
    code, _, err = run("runtimes", shop.with_name("nowhere"))
    assert code == 2
    assert "there is no catalogue at" in err


def test_runtimes_do_without_the_images_that_have_moved_away(
    shop: Path, picture_folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_choice, "SECONDS", 0.02)
    for path in (picture_folder / "Paint/Red").iterdir():
        path.unlink()
    (picture_folder / "Paint/Blue/000.jpg").write_bytes(b"not a picture any more")
    code, out, _ = run("runtimes", shop, "--runtime", "torch", "--device", "cpu")
    assert code == 0
    assert f"17 images of {shop}" in out


def test_info_says_how_many_vectors_each_runtime_made(
    only_torch: None, shop: Path, picture_folder: Path, run: Run
) -> None:
    extra = picture_folder / "Paint/Red/more.jpg"
    extra.write_bytes((picture_folder / "Paint/Red/000.jpg").read_bytes() + b"more")
    index = ("index", picture_folder, "--catalogue", shop, "--device", "cpu", "--runtime", "torch-bf16")
    code, out, _ = run(*index)
    assert code == 0
    assert "by torch-bf16" in out
    about = as_json(run("info", shop, "--json"))
    assert about["vectors"] == {"torch": 24, "torch-bf16": 1}
    assert re.search(r"^  vectors   24 by torch, 1 by torch-bf16$", run("info", shop)[1], re.M)
