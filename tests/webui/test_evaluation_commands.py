"""The commands that measure, as their user meets them: figures, reports, comparisons, a sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from indexer import evaluation_cli
from indexer.report_files import PAGE, QUERIES, VALUES, read_report
from retrieval.datasets.protocols import PROTOCOLS
from tests.conftest import draw_pictures
from tests.embedders import HeadedEmbedder
from tests.indexer.birds import BIRDS, fix_counts, write_birds
from tests.webui.commands import TINY, Run, as_json

TEST = 4 * sum(name > 100 for name in BIRDS)
NAMES = {PAGE, QUERIES, VALUES}
ON_CPU = ("--device", "cpu", "--runtime", "torch")


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of CUB that the protocol takes for the whole, seen from a folder of our own."""
    monkeypatch.chdir(tmp_path)
    root = write_birds(tmp_path / "birds")
    fix_counts(monkeypatch, "cub", root)
    return root


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map: it takes longer than all the rest."""
    monkeypatch.setattr(evaluation_cli, "POINTS", 0)


@pytest.fixture(scope="module")
def tiny(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an embedder."""
    from retrieval.embedder import Embedder

    folder = tmp_path_factory.mktemp("tiny")
    Embedder.create(TINY, weights=weights, device="cpu").save(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled embedder after a little training, as far as can be told from outside."""
    import torch

    from retrieval.architecture import Architecture
    from retrieval.backbones import DEFAULT_BACKBONE, load_backbone
    from retrieval.embedder import Embedder
    from retrieval.network import Network

    frozen = Embedder.create(device="cpu")
    model, preprocessing, _ = load_backbone(DEFAULT_BACKBONE)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.2 * value.abs().mean())
    description = json.loads(json.dumps(frozen.description))
    description["provenance"]["training"] = {"loss": "proxy anchor", "epochs": 1}
    folder = tmp_path_factory.mktemp("trained")
    network = Network(model, Architecture.from_dict(description["architecture"]), preprocessing)
    Embedder(network, description, device="cpu").save(folder)
    return folder


def figures(report: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in report["figures"]}


def test_a_catalogue_with_a_report(shop: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "reports" / "shop"
    code, said, _ = run("evaluate", shop, "--out", out)
    assert code == 0
    assert f"the report: {out / PAGE}" in said
    assert {path.name for path in out.iterdir()} == NAMES
    report, table = read_report(out)
    assert (report.queries, table.num_rows) == (24, 24)
    assert report.about is not None and report.about["command"] and report.about["versions"]["lookalike"]
    assert len(report.embedder["digest"]) == 64 and report.embedder["image_size"]
    assert "<html" in (out / PAGE).read_text() and "Recall@1" in (out / PAGE).read_text()
    # With a report closer looks are taken; the figures are the same, and clusters beside them.
    plain, again = as_json(run("evaluate", shop, "--json")), as_json(run("evaluate", shop, "--out", out, "--json"))
    assert again["out"] == str(out) and plain["out"] is None
    assert figures(again).items() >= figures(plain).items()
    assert {"NMI", "AMI"} == figures(again).keys() - figures(plain).keys()
    assert {name: figures(again)[name] for name in figures(plain)} == figures(plain)
    assert "NMI" in figures(as_json(run("evaluate", shop, "--clusters", "--json")))
    assert "NMI" not in figures(as_json(run("evaluate", shop, "--out", out, "--no-clusters", "--json")))


def test_a_head_of_other_classes_gives_way_to_the_vote_unless_it_was_asked_for(
    birds: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trained(HeadedEmbedder):
        description: Any = {"provenance": {"training": {"classifier": "head"}}}  # noqa: RUF012 - nobody changes it

    embedder = Trained({"300.Dodo": (9, 9, 9), "301.Moa": (90, 9, 9)})
    monkeypatch.setattr("indexer.opening.load_embedder", lambda *_, **__: embedder)
    monkeypatch.setattr(evaluation_cli, "_frozen", lambda *_: None)
    asked = ("evaluate", "birds-embedder", "--protocol", "cub", "--root", birds, "--task", "classification", "--json")
    code, said, told = run(*asked)
    assert code == 0, told
    assert "is of other classes" in told
    assert json.loads(said)["protocol"].endswith("by the vote of the 20 nearest training images")
    assert json.loads(said)["out"] == str(Path("reports") / f"cub-classification-{embedder.digest[:8]}")
    code, _, told = run(*asked, "--classifier", "head")
    assert code == 2
    assert "is of other classes" in told.splitlines()[-1]


def test_queries_of_a_source_by_a_column_and_through_an_index(
    shop: Path, picture_folder: Path, tmp_path: Path, weights: Path, run: Run
) -> None:
    others = draw_pictures(tmp_path / "others", 2, seed=4)
    (others / "Paint/Red/bad.jpg").write_bytes(b"no picture")
    against = as_json(run("evaluate", shop, "--queries", others, "--prefix", "new/", "--json"))
    assert (against["queries"], against["gallery"], against["rejected"][0][0]) == (8, 24, "Paint/Red/bad.jpg")
    assert "  rejected Paint/Red/bad.jpg: " in run("evaluate", shop, "--queries", others)[1]
    through = as_json(run("evaluate", shop, "--through", "IVF1,Flat", "--json"))
    assert figures(through) == figures(as_json(run("evaluate", shop, "--json")))
    assert "approximate search through IVF1,Flat" in through["protocol"]

    rows = [(path.relative_to(picture_folder), int(path.name[2]) % 2) for path in sorted(picture_folder.rglob("*.jpg"))]
    (picture_folder / "list.csv").write_text("path,odd\n" + "".join(f"{path},{odd}\n" for path, odd in rows))
    place = tmp_path / "listed"
    made = ("--catalogue", place, "--backbone", TINY, "--weights", weights)
    assert run("index", picture_folder / "list.csv", *made)[0] == 0
    report = as_json(run("evaluate", place, "--by", "odd", "--json"))
    assert (report["class_count"], report["queries"]) == (2, 24) and "class = odd" in report["protocol"]


def test_the_bundled_embedder_by_a_protocol(birds: Path, run: Run) -> None:
    report = as_json(run("evaluate", "default", "--protocol", "cub", "--root", birds, *ON_CPU, "--json"))
    assert (report["title"], report["differences"], report["task"]) == ("CUB-200-2011", [], "retrieval")
    assert (report["queries"], report["class_count"], report["gallery"]) == (TEST, 3, TEST)
    assert report["embedder"]["tag"].startswith("tf_efficientnet_lite0") and report["embedder"]["dim"] == 1280
    assert report["embedder"]["runtimes"] == {"torch": TEST}
    assert (report["frozen"], report["frozen_note"]) == (None, None)
    assert report["out"] == str(Path(f"reports/cub-retrieval-{report['embedder']['digest'][:8]}"))
    read, table = read_report(Path(report["out"]))
    assert table.num_rows == TEST and figures(read.to_dict()) == figures(report)

    # An image too many makes it another benchmark, and that stands everywhere.
    shutil.copy(birds / "images/001.Bird/0.jpg", birds / "images/more.jpg")
    asked = ("evaluate", "default", "--protocol", "cub", "--root", birds, *ON_CPU, "-k", 2, "--out", "odd")
    code, out, err = run(*asked)
    assert code == 2 and not Path("odd").exists()
    assert "  - 1 that no list names: images/more.jpg" in err and "--anyway" in err
    code, out, err = run(*asked, "--anyway")
    assert code == 0
    assert out.startswith("CUB-200-2011 (non-standard)\n") and "NON-STANDARD: this number does not compare" in out
    assert "Recall@2 " in out and "Recall@1 " not in out
    assert "non-standard" in Path("odd/report.html").read_text()


def test_an_embedder_by_its_folder_its_catalogue_and_its_name_with_weights(
    birds: Path, tiny: Path, shop: Path, weights: Path, run: Run
) -> None:
    asked = ("--protocol", "cub", "--root", birds, *ON_CPU, "--no-clusters", "--json")
    by_folder = as_json(run("evaluate", tiny, *asked))
    by_catalogue = as_json(run("evaluate", shop, *asked))
    by_name = as_json(run("evaluate", TINY, "--weights", weights, *asked))
    assert by_folder["embedder"] == by_catalogue["embedder"] == by_name["embedder"]
    assert by_folder["embedder"]["backbone"] == TINY and by_folder["frozen"] is None
    assert by_folder["figures"] == by_catalogue["figures"] == by_name["figures"]
    gem = as_json(run("evaluate", TINY, "--weights", weights, "--pooling", "gem", *asked))
    assert gem["embedder"]["pooling"] == "gem" and gem["embedder"]["digest"] != by_name["embedder"]["digest"]
    told = as_json(run("evaluate", tiny, *asked[:-1], "--task", "classification", "--json"))
    assert told["task"] == "classification" and Path(told["out"]).name.startswith("cub-classification-")
    assert told["classification"]["bins"] and "Top-1 accuracy" in figures(told)
    text = run("evaluate", tiny, *asked[:-1], "--task", "classification")[1]
    assert "Top-1 accuracy " in text and "expected calibration error" in text


def test_a_trained_embedder_stands_beside_itself_frozen(birds: Path, trained: Path, run: Run) -> None:
    asked = ("--protocol", "cub", "--root", birds, *ON_CPU)
    frozen = as_json(run("evaluate", "default", *asked, "--out", "frozen", "--json"))
    report = as_json(run("evaluate", trained, *asked, "--out", "trained", "--json"))
    assert report["frozen"] == frozen["figures"]
    assert {gain["name"] for gain in report["gains"]} == figures(report).keys() - {"NMI", "AMI"}
    assert report["figures"] != frozen["figures"]
    card = frozen["embedder"]
    assert report["frozen_note"] == (
        f"{card['tag']}, {card['dim']} dimensions, at the {card['image_size']} px of the trained embedder, "
        f"digest {card['digest'][:12]}"
    )
    read = read_report(Path("trained"))[0]
    assert read.frozen is not None and {f.name: f.value for f in read.frozen} == figures(frozen)

    code, out, err = run("evaluate", trained, *asked, "--out", "trained")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("mAP ")]
    ours, theirs = figures(report)["mAP"], figures(frozen)["mAP"]
    assert f"{ours:.2%}" in line and line.endswith(f"{theirs:7.2%}  {ours - theirs:+7.2%}†")
    assert "† the gain may be chance" in out
    assert "frozen     gain" in out and f"frozen: {report['frozen_note']}" in out
    assert "measuring the same backbone frozen" in err
    page = Path("trained/report.html").read_text()
    assert "the same backbone with nothing trained" in page and report["frozen_note"] in page
    assert "the same backbone with nothing trained" not in Path("frozen/report.html").read_text()


def test_a_trained_embedder_whose_beginning_is_lost_says_so(birds: Path, tiny: Path, tmp_path: Path, run: Run) -> None:
    folder = shutil.copytree(tiny, tmp_path / "own")
    description = json.loads((folder / "model.json").read_text())
    assert description["provenance"]["weights"].startswith("file ")
    description["provenance"]["training"] = {"loss": "triplet"}
    (folder / "model.json").write_text(json.dumps(description))
    code, out, _ = run("evaluate", folder, "--protocol", "cub", "--root", birds, *ON_CPU)
    assert code == 0
    assert f"frozen: the same backbone frozen could not be measured: its weights came from the file {TINY}" in out
    assert "frozen     gain" not in out
    [page] = Path("reports").glob("cub-retrieval-*/report.html")
    assert "No frozen row beside it" in page.read_text()


def test_a_stopped_run_goes_on(birds: Path, tiny: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval.embedder import Embedder

    monkeypatch.setenv("LOOKALIKE_CACHE", str(birds.parent / "cache"))

    def interrupted(self: Embedder, images: Any, **kept: Any) -> Any:
        raise KeyboardInterrupt

    asked = ("evaluate", tiny, "--protocol", "cub", "--root", birds, *ON_CPU)
    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "embed", interrupted)
        code, _, err = run(*asked)
    assert code == 130 and "the same command goes on from there" in err
    assert not Path("reports").exists()
    assert as_json(run(*asked, "--json"))["queries"] == TEST


def test_the_list_of_protocols(run: Run) -> None:
    code, out, _ = run("evaluate", "--protocol", "list")
    assert code == 0
    assert all(
        f"{name:20s} {protocol.title}; " in out and protocol.source in out for name, protocol in PROTOCOLS.items()
    )
    listed = as_json(run("evaluate", "default", "--protocol", "list", "--json"))
    assert list(listed) == list(PROTOCOLS)
    assert listed["cub"]["tasks"] == ["retrieval", "classification"] and "CUB_200_2011" in listed["cub"]["layout"]


def test_compare(shop: Path, tmp_path: Path, weights: Path, run: Run) -> None:
    exact, through, comma = tmp_path / "exact", tmp_path / "through", tmp_path / "a,b"
    assert run("evaluate", shop, "--out", exact)[0] == 0
    assert run("evaluate", shop, "--through", "IVF1,Flat", "--out", through)[0] == 0
    shutil.copytree(exact, comma)
    code, out, _ = run("compare", exact, through / VALUES)
    assert code == 0
    assert "WARNING: " in out and "approximate search through IVF1,Flat" in out
    assert "B Recall@1 " in out and "24 queries of 4 classes, paired" in out and "MRR" not in out
    values = as_json(run("compare", exact, comma, "--all", "--json"))
    assert {row["paired"]["p"] for row in values["rows"]} == {1.0} and not values["warnings"]
    assert "MRR" in {row["figure"] for row in values["rows"]}
    runs = as_json(run("compare", f"{exact},{through}", f"{comma}/report.json", "--json"))
    assert [side["runs"] for side in runs["sides"]] == [2, 1]
    alone = run("compare", f"{exact},{through}")
    assert alone[0] == 0 and "(2 runs)" in alone[1]


BY_CUB = ("--protocol", "cub", "--root", "{birds}")
BAD = {
    "nothing": ((), 2, "name a catalogue, or an embedder with --protocol"),
    "a protocol that is not": (("default", "--protocol", "nope", "--root", "{birds}"), 2, "choose one of cub, cars196"),
    "a task that is not": (("default", *BY_CUB, "--task", "nope"), 2, "choose one of retrieval, classification"),
    "no root": (
        ("default", "--protocol", "cub"),
        2,
        "--protocol cub needs --root, the benchmark's folder. The root is",
    ),
    "a root that is not": (("default", "--protocol", "cub", "--root", "{tmp}/none"), 2, "none is not there; give the"),
    "a file as root": (("default", "--protocol", "cub", "--root", "{tmp}/file"), 2, "file is no folder; give the fol"),
    "another data set": (("{tiny}", "--protocol", "sop", "--root", "{birds}"), 2, "birds has no Ebay_train.txt. The"),
    "other counts": (("{tiny}", "--protocol", "nabirds", "--root", "{birds}"), 2, "birds has no hierarchy.txt"),
    "queries": (("default", *BY_CUB, "--queries", "{tmp}"), 2, "--queries is of a catalogue, and --protocol measures"),
    "through": (("default", *BY_CUB, "--through", "Flat"), 2, "--through is of a catalogue"),
    "by": (("default", *BY_CUB, "--by", "colour"), 2, "--by is of a catalogue"),
    "a column": (("default", *BY_CUB, "--label-column", "a"), 2, "--label-column is of a catalogue"),
    "task alone": (("{shop}", "--task", "classification"), 2, "--task goes with --protocol"),
    "boxes alone": (("{shop}", "--boxes"), 2, "--boxes goes with --protocol"),
    "pooling alone": (("{shop}", "--pooling", "gem"), 2, "--pooling goes with --protocol"),
    "root alone": (("{shop}", "--root", "{birds}"), 2, "--root goes with --protocol or --queries"),
    "column alone": (("{shop}", "--id-column", "a"), 2, "--id-column goes with --queries"),
    "weights twice": (("{tiny}", *BY_CUB, "--weights", "{tmp}/file"), 2, "has its own weights and pooling; leave"),
    "a plain folder": (("{tmp}/plain", *BY_CUB), 2, "plain is neither an embedder (it has no model.json) nor a cat"),
    "no embedder": (("{tmp}/none", *BY_CUB), 2, "there is no embedder {tmp}/none; give the folder of one"),
    "a name timm has not": (("resnet_none", *BY_CUB), 2, "timm has no backbone named 'resnet_none'"),
    "no pooling": (("default", *BY_CUB, "--pooling", "nope"), 2, "there is no pooling 'nope'; choose one of"),
    "no runtime": (("{tiny}", *BY_CUB, "--runtime", "nope"), 2, "nope"),
    "no catalogue": (("{tmp}/none",), 2, "there is no catalogue {tmp}/none; lookalike index makes one, and an embed"),
    "an embedder alone": (("{tiny}",), 2, "there is no catalogue {tiny}; lookalike index makes one, and an embedder"),
    "a folder alone": (("{tmp}/plain",), 2, "there is no catalogue at {tmp}/plain"),
    "a file as out": (("{shop}", "--out", "{tmp}/file"), 2, "file is a file, and a report is a folder"),
    "other things in out": (("{tiny}", *BY_CUB, "--out", "{tmp}/plain"), 2, "plain holds other things than a report"),
    "the catalogue as out": (("{shop}", "--out", "{shop}"), 2, "shop holds other things than a report"),
    "below a file": (("{shop}", "--out", "{tmp}/file/deep"), 4, "cannot write {tmp}/file/deep: {tmp}/file is a file"),
    "k of 0": (("{shop}", "-k", "0"), 2, "0 is not in the range x>=1"),
    "no such index": (("{shop}", "--through", "Rubbish"), 2, "Rubbish"),
    "no such column": (("{shop}", "--by", "colour", "--out", "{tmp}/new"), 2, "no column 'colour'"),
    "no such source": (("{shop}", "--queries", "{tmp}/none", "--out", "{tmp}/new"), 2, "{tmp}/none"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), list(BAD.values()), ids=list(BAD))
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    birds: Path,
    tiny: Path,
    tmp_path: Path,
    run: Run,
    request: pytest.FixtureRequest,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "photo.txt").write_text("mine")
    places: dict[str, Path] = {"birds": birds, "tiny": tiny, "tmp": tmp_path}
    if any("{shop}" in argument for argument in arguments):
        places["shop"] = request.getfixturevalue("shop")
    before = sorted(tmp_path.rglob("*"))
    ended, out, err = run("evaluate", *(argument.format(**places) for argument in arguments), "--json")
    assert ended == code
    assert message.format(**places) in " ".join(err.split())
    assert "Traceback" not in out + err
    assert json.loads(out)["error"]["message"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument"),
        (("{tmp}/one",), 2, "name two reports or more, or several runs of one joined by commas"),
        (("{tmp}/none", "{tmp}/one"), 2, "there is no report {tmp}/none; lookalike evaluate ... --out DIR writes one"),
        (("{tmp}/one", "{tmp}/one"), 2, "there is no report {tmp}/one/report.json; lookalike evaluate"),
        (("{tmp}/one,", "{tmp}/one"), 2, "there is no name before or after a comma"),
        (("{tmp}/one.json", "{tmp}/two.json"), 2, "one.json is no evaluation report of format 1"),
        (("{tmp}/half.json", "{tmp}/two.json"), 2, "half.json is no report of lookalike evaluate"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    tmp_path: Path, run: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "one").mkdir()
    for name, text in {"one.json": "{}", "two.json": '{"format": 1}', "half.json": '{"format'}.items():
        (tmp_path / name).write_text(text)
    ended, out, err = run("compare", *(argument.format(tmp=tmp_path) for argument in arguments), "--json")
    assert ended == code
    assert message.format(tmp=tmp_path) in " ".join(err.split())
    assert "Traceback" not in out + err and json.loads(out)["error"]["message"]
