"""The command line, as its user meets it: exit codes, JSON on stdout, one sentence on stderr."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.webui.commands import TINY, Run, as_json


def test_index_says_what_it_did_and_does_nothing_twice(
    tmp_path: Path, picture_folder: Path, weights: Path, run: Run
) -> None:
    (picture_folder / "notes.txt").write_text("buy more red")
    place = tmp_path / "shop"
    code, out, err = run("index", picture_folder, "--catalogue", place, "--backbone", TINY, "--weights", weights)
    assert code == 0
    assert "24 items" in out
    assert "added 24, updated 0, unchanged 0, rejected 1" in out
    assert f"lookalike rejected {place}" in out
    assert "index" in err  # the progress bar
    again = as_json(run("index", picture_folder, "--catalogue", place, "--json"))
    assert (again["added"], again["unchanged"], again["embedded"], again["rejected"]) == (0, 24, 0, 1)


def test_search_by_picture_by_id_and_as_a_page(shop: Path, picture_folder: Path, tmp_path: Path, run: Run) -> None:
    query = picture_folder / "Paint/Red/000.jpg"
    hits = as_json(run("search", shop, query, "-k", 3, "--json"))["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert (hits[0]["id"], hits[0]["label"], hits[0]["query"]) == ("Paint/Red/000.jpg", "Paint/Red", str(query))
    assert hits[0]["similarity"] == pytest.approx(1)
    by_id = as_json(run("search", shop, "--id", "Paint/Red/000.jpg", "-k", 3, "--json"))["hits"]
    assert [hit["id"] for hit in by_id] == [hit["id"] for hit in hits]
    code, out, _ = run("search", shop, query, picture_folder / "Paint/Blue/001.jpg", "--html", tmp_path / "hits.html")
    assert code == 0
    assert re.search(r"^ +1 +1\.0000  Paint/Red  Paint/Red/000.jpg$", out, re.M)
    assert (tmp_path / "hits.html").read_text().count("data:image/jpeg") == 22


def test_evaluate_within_and_against_other_pictures(shop: Path, picture_folder: Path, run: Run) -> None:
    report = as_json(run("evaluate", shop, "--json"))
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert [name for name in figures if name.startswith("Recall@")] == ["Recall@1", "Recall@2", "Recall@4", "Recall@8"]
    assert (report["queries"], report["class_count"], report["left_out"], report["gallery"]) == (24, 4, 0, 24)
    assert report["embedder"]["backbone"] == TINY and report["out"] is None
    same = as_json(run("evaluate", shop, "--queries", picture_folder, "--json"))
    assert same["figures"] == report["figures"]  # by id, each query is excluded from its own neighbours
    code, out, _ = run("evaluate", shop, "-k", 3, "-k", 1)
    assert code == 0
    assert "24 queries of 4 classes against 24 images" in out
    first, second = re.findall(r"^Recall@(\d+) +(\d+\.\d+)% +\d+\.\d+% to +\d+\.\d+%", out, re.M)
    assert (first[0], second[0]) == ("1", "3")
    assert first[1] == f"{100 * figures['Recall@1']['value']:.2f}"


def test_info_verify_rejected_and_doctor(shop: Path, run: Run) -> None:
    assert as_json(run("info", shop, "--json"))["items"] == 24
    assert "24 items, 4 labels" in run("info", shop)[1]
    assert as_json(run("verify", shop, "--sources", "--json")) == {
        "ok": True,
        "version": 1,
        "items": 24,
        "problems": [],
    }
    assert "all well" in run("verify", shop)[1]
    assert as_json(run("rejected", shop, "--json")) == {"rejected": []}
    assert run("rejected", shop)[1] == "0 rejected\n"
    found = as_json(run("doctor", "--json"))
    assert found["weights"]["tf_efficientnet_lite0"] == "installed"
    assert "usable" in found["devices"]["cpu"]
    assert "weights that work offline" in run("doctor")[1]


def test_verify_ends_with_4_when_something_is_wrong(shop: Path, run: Run) -> None:
    (part,) = (shop / "vectors").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    code, out, _ = run("verify", shop, "--json")
    assert code == 4
    assert not json.loads(out)["ok"]
    code, out, _ = run("verify", shop)
    assert code == 4
    assert part.name in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("info", "{tmp}/nowhere"), 2, "there is no catalogue at"),
        (("search", "{shop}", "{tmp}/none.jpg"), 2, "there is no file"),
        (("search", "{shop}"), 2, "name one or more pictures"),
        (("search", "{shop}", "--id", "Paint/none"), 2, "no item with the id 'Paint/none'"),
        (("evaluate", "{shop}", "--by", "colour"), 2, "no column 'colour'"),
        (("evaluate", "{shop}", "--queries", "{tmp}/nowhere"), 2, "nowhere"),
        (("index", "{tmp}/nowhere", "--catalogue", "{tmp}/c"), 2, "nowhere"),
        (("index", "{tmp}/empty", "--catalogue", "{tmp}/c"), 2, "empty"),
        (("index", "{pictures}", "--catalogue", "{pictures}/c"), 2, "would lie inside the folder"),
        (("index", "{pictures}", "--catalogue", "{tmp}/c", "--backbone", "resnet_none"), 2, "no backbone named"),
        (("index", "{pictures}", "--catalogue", "{shop}", "--backbone", "resnet18"), 2, "make a new catalogue"),
        (("index", "{pictures}", "--catalogue", "{shop}", "--index", "IVF4,Nonsense"), 2, "Nonsense"),
        (("index", "{pictures}", "--catalogue", "{tmp}/c", "--device", "tpu"), 2, "no device 'tpu'"),
        (("index", "{pictures}", "--catalogue", "{shop}", "--label-column", "a"), 2, ""),
        (("serve", "{tmp}/nowhere"), 2, "there is no catalogue at"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    shop: Path, picture_folder: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"shop": shop, "tmp": tmp_path, "pictures": picture_folder}
    before = sorted(path for path in shop.rglob("*"))
    ended, out, err = run(*(argument.format(**places) for argument in arguments), "--json")
    assert ended == code
    assert message in err
    assert "Traceback" not in err + out
    assert json.loads(out)["error"]["message"]
    assert not (tmp_path / "c").exists()
    assert sorted(path for path in shop.rglob("*")) == before


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(
    tmp_path: Path, picture_folder: Path, weights: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.embedder import Embedder

    embed = Embedder.embed
    calls = iter(range(100))

    def interrupted(self: Embedder, images: Any, **kept: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return embed(self, images, **kept)

    place = tmp_path / "shop"
    index = ("index", picture_folder, "--catalogue", place, "--commit-every", 8)
    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "embed", interrupted)
        code, _, err = run(*index, "--backbone", TINY, "--weights", weights)
    assert code == 130
    assert "what was finished is kept" in err
    assert 0 < as_json(run("info", place, "--json"))["items"] < 24
    assert as_json(run(*index, "--json"))["items"] == 24
    assert run("verify", place)[0] == 0


def test_version_and_help(run: Run) -> None:
    assert run("--version")[1].startswith("lookalike, version 0.")
    code, out, _ = run("index", "--help")
    assert code == 0
    assert "--catalogue" in out


def test_demo_with_the_users_own_photos(tmp_path: Path, picture_folder: Path, run: Run) -> None:
    report = as_json(run("demo", picture_folder, "--folder", tmp_path / "demo", "--no-serve", "--json"))
    assert report["index"]["items"] == 24
    assert report["evaluation"]["queries"] == 24
    again = as_json(run("demo", picture_folder, "--folder", tmp_path / "demo", "--no-serve", "--json"))
    assert again["index"]["embedded"] == 0
