"""``lookalike label``, ``calibrate``, ``audit`` and ``evaluate --labels`` as their user meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from indexer import labelling_cli
from retrieval.labels import SOURCES
from tests.conftest import draw_pictures
from tests.webui.commands import TINY, Run, as_json

ON_CPU = ("--device", "cpu", "--runtime", "torch")


@pytest.fixture
def shelf(tmp_path: Path, weights: Path, run: Run) -> Path:
    """48 drawn pictures, indexed."""
    folder = draw_pictures(tmp_path / "photos", per_class=12)
    made = run("index", folder, "--catalogue", tmp_path / "shelf", "--backbone", TINY, "--weights", weights, *ON_CPU)
    assert made[0] == 0, made[2]
    return tmp_path / "shelf"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "others", per_class=8, seed=5)


def test_a_label_at_once_and_calibrated_anew(shelf: Path, others: Path, run: Run) -> None:
    red, blue = others / "Paint/Red/001.jpg", others / "Paint/Blue/002.jpg"
    code, said, told = run("label", shelf, red, blue, *ON_CPU)
    assert code == 0, told
    assert "calibrating the labels of" in told
    assert str(red) in said and "nearest item: Paint/Red/" in said
    assert "how sure that is was fitted on its own items, each left out in turn, 20" in said
    assert "labels    calibrated on its own items, each left out in turn, 20" in run("info", shelf)[1]
    code, said, told = run("label", shelf, red, *ON_CPU)
    assert "calibrating" not in told  # it was kept
    found = as_json(run("calibrate", shelf, "--on", others, *ON_CPU, "--json"))
    assert (found["source"], found["pictures"], found["labels"]) == ("others", 32, 4)
    assert 0.5 <= found["auroc"] <= 1
    code, said, told = run("calibrate", shelf, *ON_CPU)
    assert code == 0
    assert "of pictures that are less like the items than those are like each other it is too sure" in told
    assert "calibrated on 48 pictures of its own items, each left out in turn" in said
    assert "none of these is said of 4.2% of the known pictures" in said  # of 2 in 48; of 3 would be above one in 20
    assert "new ones pass more often" not in said  # nothing was trained
    table = as_json(run("label", shelf, red, "--coverage", "0.8", "--false-accept", "1", *ON_CPU, "--json"))
    (row,) = table["labels"]
    assert row["likeliest"] == "Paint/Red"
    assert set(row["set"]) <= {"Paint/Red"}
    assert table["calibration"]["source"] == "leave-one-out"
    assert "sets hold the right label less often than asked" in table["calibration"]["caution"]
    assert table["calibration"]["caution"] in run("label", shelf, red, *ON_CPU)[1]


def test_a_set_is_told_with_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "query": "x.jpg",
        "answer": "none of these",
        "label": None,
        "confidence": None,
        "likeliest": "a",
        "likeliest_confidence": 0.3,
        "nearest": "1",
        "similarity": 0.5,
        "set": ["a", "b"],
    }
    labelling_cli._print_answer(row, 0.8)
    labelling_cli._print_answer({**row, "set": [f"l{at}" for at in range(27)]}, 0.995)
    labelling_cli._print_answer({**row, "set": []}, 0.8)
    labelling_cli._print_answer({**row, "answer": "label", "label": "a", "confidence": 0.9, "set": []}, 0.8)
    said = capsys.readouterr().out
    assert "  set at 80%: a, b, if it is any\n" in said
    assert "  set at 99.5%: 27 labels, l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, ...\n" in said
    assert "  set at 80%: empty: none of these\n" in said
    assert "  set at 80%: empty: less like the items than that share of what is known\n" in said


def test_an_item_by_the_others(shelf: Path, run: Run) -> None:
    found = as_json(run("label", shelf, "--id", "Paint/Sand/004.jpg", *ON_CPU, "--json"))
    assert found["labels"][0]["nearest"] != "Paint/Sand/004.jpg"
    code, _, told = run("label", shelf, "--id", "nobody", *ON_CPU)
    assert code == 2
    assert "no item with the id 'nobody'" in told


def test_labels_are_measured(shelf: Path, others: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report"
    report = as_json(run("evaluate", shelf, "--labels", "--queries", others, "--out", out, *ON_CPU, "--json"))
    assert (report["queries"], report["items"], report["foreign"]) == (32, 48, 0)
    assert report["sources"][0]["source"] == "knn"
    assert report["sources"][0]["figures"][0]["name"] == "Top-1"
    assert json.loads((out / "report.json").read_text())["queries_file"]["name"] == "queries.parquet"
    page = (out / "report.html").read_text()
    assert '<th scope="col">held, %</th>' in page and "foreign empty" not in page
    assert "Sets of labels" in page and "Known or not" in page and "a coarser one that is right" in page
    code, said, told = run("evaluate", shelf, "--labels", *ON_CPU)
    assert code == 0, told
    assert "labels of each item by the others" in said and "expected calibration error" in said
    assert "answers as lookalike label gives them, at a confidence of 80%: " in said
    assert "the calibration was fitted on these very items" in told


def test_an_audit_and_its_corrections(shelf: Path, tmp_path: Path, run: Run) -> None:
    found = as_json(run("audit", shelf, "--csv", tmp_path / "found.csv", "--html", tmp_path / "found.html", "--json"))
    assert found["items"] == 48
    assert "Labels of" in (tmp_path / "found.html").read_text()
    with (tmp_path / "found.csv").open(newline="") as file:
        assert "correction" in next(csv.reader(file))
    (tmp_path / "right.csv").write_text("id,correction\nPaint/Red/000.jpg,Paint/Rust\n")
    code, said, told = run("audit", shelf, "--apply", tmp_path / "right.csv")
    assert code == 0
    assert "'Paint/Rust' is a new label" in told
    assert "1 label corrected" in said
    assert as_json(run("info", shelf, "--json"))["labels"] == 5
    code, said, _ = run("audit", shelf)
    assert code == 0
    assert "1 item is the only picture of its label" in said
    assert "the others agree with" in said


def test_each_kind_of_finding_is_told_with_what_speaks_against(
    tmp_path: Path, weights: Path, others: Path, run: Run
) -> None:
    red, blue = others / "Paint/Red", others / "Paint/Blue"
    for name in ("001.jpg", "002.jpg", "003.jpg"):
        (red / name).rename(blue / f"moved-{name}")
    (blue / "twin.jpg").write_bytes((red / "004.jpg").read_bytes())
    run("index", others, "--catalogue", tmp_path / "shelf", "--backbone", TINY, "--weights", weights, *ON_CPU)
    found = as_json(run("audit", tmp_path / "shelf", "--json"))
    wrong = [row for row in found["findings"] if row["finding"] == "wrong label"]
    code, said, told = run("audit", tmp_path / "shelf", "--most", "1")
    assert code == 0, told
    assert f"\nwrong label: {len(wrong)}\n" in said
    assert "; beside Paint/" in said
    assert f"and {len(wrong) - 1} more: --csv or --html has all of them" in said
    assert "\nsame picture, other label: 1\n  Paint/Blue/twin.jpg: Paint/Blue; as Paint/Red/004.jpg" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("label", "SHELF"), "name one or more pictures"),
        (("label", "SHELF", "x.jpg", "--by-label"), "--by-label goes with --coverage"),
        (("label", "SHELF", "x.jpg", "--prior", "region"), "is no COLUMN=VALUE"),
        (("label", "SHELF", "x.jpg", "--prior", "region=a", "--prior", "region=b"), "says two things of 'region'"),
        (("label", "SHELF", "nowhere.jpg"), "there is no file"),
        (
            ("label", "SHELF", "--id", "Paint/Red/000.jpg", "--source", "head"),
            "need an embedder with a classifier head",
        ),
        (("label", "SHELF", "--id", "Paint/Red/000.jpg", "--coverage", "0.999"), "need 999 pictures"),
        (("label", "SHELF", "--id", "Paint/Red/000.jpg", "--prior", "shop=1"), "has no column 'shop'"),
        (("calibrate", "SHELF", "--label-column", "x"), "goes with --on"),
        (("audit", "SHELF", "--apply", "nowhere.csv"), "cannot read the corrections"),
        (("audit", "SHELF", "--apply", "nowhere.csv", "--csv", "x.csv"), "does not go with --apply"),
        (("audit", "SHELF", "--split-column", "x"), "has no column 'x'"),
        (("label", "SHELF", "--id", "Paint/Red/000.jpg", "--prior", "source=1"), "has source '1'; they have '"),
        (("evaluate", "SHELF", "--labels", "--through", "Flat"), "does not go with --labels"),
        (("evaluate", "SHELF", "--prior", "x"), "goes with --labels"),
        (("evaluate", "SHELF", "--labels", "--prior", "x"), "--prior goes with --queries"),
    ],
)
def test_what_cannot_be_asked(shelf: Path, run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, told = run(*(shelf if word == "SHELF" else word for word in arguments))
    assert code == 2
    assert said in told
    assert "Traceback" not in told


def test_a_picture_that_cannot_be_read_is_told_before_anything_is_written(
    shelf: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    code, _, told = run("label", shelf, tmp_path / "bad.jpg", *ON_CPU)
    assert code == 2
    assert "bad.jpg" in told.splitlines()[-1]
    assert not (shelf / "calibration").exists()


def test_the_words_for_sources_are_those_that_there_are() -> None:
    assert labelling_cli.SOURCES == SOURCES


def test_an_unlabelled_catalogue(tmp_path: Path, others: Path, weights: Path, run: Run) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for at, path in enumerate(sorted(others.rglob("*.jpg"))):
        path.rename(flat / f"{at}.jpg")
    run("index", flat, "--catalogue", tmp_path / "shop", "--backbone", TINY, "--weights", weights, *ON_CPU)
    for command in (
        ("label", tmp_path / "shop", flat / "0.jpg"),
        ("calibrate", tmp_path / "shop"),
        ("audit", tmp_path / "shop"),
    ):
        code, _, told = run(*command)
        assert code == 2
        assert "has a label; index a folder with a subfolder a label" in told.splitlines()[-1]
