"""Commands that are given an embedder's folder: index with it, measure its head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indexer import evaluation_cli
from retrieval.recognition import CLASSIFIERS
from tests.indexer.birds import BIRDS, fix_counts, write_birds
from tests.webui.commands import TINY, Run, as_json

HALF = 4 * len(BIRDS) // 2
ON_CPU = ("--device", "cpu", "--runtime", "torch")


@pytest.fixture(scope="module")
def headed(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an embedder with a head for the birds, of which training found the head the better classifier."""
    from retrieval.composition import compose
    from retrieval.embedder import Embedder
    from retrieval.recipe import Recipe

    recipe = Recipe(TINY, image_size=64, train_size=64, dim=16, head="cosine")
    classes = [f"{number:03d}.Bird" for number in BIRDS]
    network, _, provenance = compose(recipe, classes=classes, weights=weights)
    folder = tmp_path_factory.mktemp("headed")
    Embedder.from_network(network, provenance={**provenance, "training": {"classifier": "head"}}, device="cpu").save(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def tiny(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an embedder with nothing trained."""
    from retrieval.embedder import Embedder

    folder = tmp_path_factory.mktemp("tiny")
    Embedder.create(TINY, weights=weights, device="cpu").save(folder)
    return folder


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of CUB that the protocol takes for the whole; no map is drawn, as it takes the longest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation_cli, "POINTS", 0)
    root = write_birds(tmp_path / "birds")
    fix_counts(monkeypatch, "cub", root)
    return root


def test_what_training_found_the_better_classifies(birds: Path, headed: Path, run: Run) -> None:
    asked = ("evaluate", headed, "--protocol", "cub", "--root", birds, "--task", "classification", *ON_CPU)
    report = as_json(run(*asked, "--json"))
    assert report["protocol"].endswith("class by the embedder's own classifier head")
    assert (report["queries"], report["gallery"], report["embedder"]["runtimes"]) == (HALF, 0, {"torch": HALF})
    assert as_json(run(*asked, "--classifier", "head", "--json"))["figures"] == report["figures"]
    text = run(*asked)[1]
    assert f"{HALF} queries of 5 classes; left out" in text
    page = (Path(report["out"]) / "report.html").read_text()
    assert "the classifier needs none" in page and "none: a classifier decides" in page

    vote = as_json(run(*asked, "--classifier", "knn", "--json"))
    assert vote["protocol"].endswith("class by the vote of the 20 nearest training images") and vote["gallery"] == HALF
    # Neither takes the other's place, so that the two can be compared.
    assert vote["out"] != report["out"]
    code, out, _ = run("compare", report["out"], vote["out"])
    assert code == 0 and "B Top-1 accuracy" in out and "was measured otherwise: " in out


def test_the_head_of_a_catalogues_embedder(
    birds: Path, headed: Path, picture_folder: Path, tmp_path: Path, run: Run
) -> None:
    place = tmp_path / "made"
    assert run("index", picture_folder, "--catalogue", place, "--embedder", headed)[0] == 0
    asked = ("--protocol", "cub", "--root", birds, "--task", "classification", *ON_CPU, "--json")
    assert as_json(run("evaluate", place, *asked))["figures"] == as_json(run("evaluate", headed, *asked))["figures"]


def test_the_classifiers_of_the_command_are_those_there_are() -> None:
    (option,) = [option for option in evaluation_cli.evaluate.params if option.name == "classifier"]
    assert tuple(option.type.choices) == CLASSIFIERS


def test_index_with_an_embedder(
    tiny: Path, headed: Path, picture_folder: Path, tmp_path: Path, run: Run, weights: Path
) -> None:
    place, other = tmp_path / "made", tmp_path / "other"
    made = as_json(run("index", picture_folder, "--catalogue", place, "--embedder", headed, "--json"))
    assert (made["added"], made["embedded"]) == (24, 24)
    about = as_json(run("info", place, "--json"))["embedder"]
    assert (about["backbone"], about["dim"], about["trained"]) == (TINY, 16, True)
    (saved,) = (place / "embedder").iterdir()
    for name in ("model.json", "weights.safetensors"):
        assert (saved / name).read_bytes() == (headed / name).read_bytes()
    # By the folder again, by the catalogue itself, and without.
    for given in (("--embedder", headed), ("--embedder", place), ()):
        again = as_json(run("index", picture_folder, "--catalogue", place, *given, "--json"))
        assert (again["unchanged"], again["embedded"]) == (24, 0)
    # A catalogue's embedder makes another catalogue of the same digest.
    assert as_json(run("index", picture_folder, "--catalogue", other, "--embedder", place, "--json"))["added"] == 24
    assert as_json(run("info", other, "--json"))["embedder"] == about

    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("index", picture_folder, "--catalogue", place, "--embedder", tiny)
    assert code == 2
    said = " ".join(err.split())
    assert f"{place} was made with another embedder, {TINY} (weights from the file {weights.name}" in said
    assert f", trained, digest {about['digest'][:12]}, and {tiny} is {TINY}" in said
    assert said.endswith("leave --embedder out, or name a new catalogue with --catalogue")
    assert sorted(tmp_path.rglob("*")) == before


BAD = {
    "no classifier": (("evaluate", "{tiny}", "--classifier", "svm"), "'svm' is not one of 'auto', 'knn', 'head'"),
    "a catalogue's": (("evaluate", "{tmp}", "--classifier", "head"), "--classifier goes with --protocol"),
    "of retrieval": (
        ("evaluate", "{tiny}", "--protocol", "cub", "--root", "{birds}", "--classifier", "head"),
        "--classifier goes with --task classification",
    ),
    "no head": (
        (
            *("evaluate", "{tiny}", "--protocol", "cub", "--root", "{birds}", *ON_CPU),
            *("--task", "classification", "--classifier", "head"),
        ),
        "this embedder has no classifier head; choose --classifier knn",
    ),
    "backbone": (
        ("index", "{images}", "--embedder", "{tiny}", "--backbone", TINY),
        "--backbone makes an embedder, and",
    ),
    "weights": (("index", "{images}", "--embedder", "{tiny}", "--weights", "{tmp}/w"), "--weights makes an embedder"),
    "pooling": (("index", "{images}", "--embedder", "{tiny}", "--pooling", "gem"), "--pooling makes an embedder, and"),
    "nothing": (("index", "{images}", "--embedder", "{tmp}/none"), "there is no embedder {tmp}/none; give the folder"),
    "a name": (("index", "{images}", "--embedder", TINY), f"there is no embedder {TINY}; give the folder of one or of"),
    "a folder": (("index", "{images}", "--embedder", "{birds}"), "birds is neither an embedder (it has no model.json)"),
}


@pytest.mark.parametrize(("arguments", "message"), list(BAD.values()), ids=list(BAD))
def test_what_is_wrong_is_one_sentence_and_nothing_is_made(
    birds: Path, tiny: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], message: str
) -> None:
    places = {"birds": birds, "tiny": tiny, "tmp": tmp_path, "images": birds / "images"}
    before = sorted(tmp_path.rglob("*"))
    command, *rest = (argument.format(**places) for argument in arguments)
    code, out, err = run(command, *rest, *(("--catalogue", tmp_path / "c") if command == "index" else ()), "--json")
    assert code == 2
    assert message.format(**places) in " ".join(err.split())
    assert "Traceback" not in out + err and json.loads(out)["error"]["message"]
    assert sorted(tmp_path.rglob("*")) == before
