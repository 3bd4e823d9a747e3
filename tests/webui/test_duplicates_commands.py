"""``lookalike duplicates`` and the screening of ``lookalike index`` as their user meets them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer import planting, quarantine
from indexer.folder_catalogue import catalogue_of
from retrieval.threshold import Threshold, choose_threshold
from tests.indexer.copies import EDITS, draw, jpeg, photo, save
from tests.webui.commands import ON_CPU, TINY, Run, as_json


@pytest.fixture(autouse=True)
def few_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planting, "PLANTED", 16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos with a copy each, one of them under another label, and one without; with a list of splits."""
    folder = draw(tmp_path / "photos", {0: ("mirrored",), 1: (), 2: ()})
    save(folder / "elsewhere" / "cut.png", EDITS["cut"](photo(1)))
    shutil.copy(folder / "0/photo.png", folder / "0/same.png")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.*"))]
    lines = [f"{name},{name.partition('/')[0]},{'test' if 'cut' in name else 'train'}" for name in names]
    (folder / "list.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    return folder


@pytest.fixture
def shelf(tmp_path: Path, photos: Path, weights: Path, run: Run) -> Path:
    place = tmp_path / "shelf"
    made = run(*("index", photos / "list.csv", "--catalogue", place, "--backbone", TINY, "--weights", weights, *ON_CPU))
    assert made[0] == 0, made[2]
    return place


def groups(found: dict[str, Any]) -> set[frozenset[str]]:
    return {
        frozenset(row["id"] for row in found["groups"] if row["group"] == number)
        for number in {row["group"] for row in found["groups"]}
    }


FOUND = {frozenset(("0/photo.png", "0/same.png", "0/mirrored.jpg")), frozenset(("1/photo.png", "elsewhere/cut.png"))}


def test_what_the_terminal_says(shelf: Path, run: Run) -> None:
    code, said, told = run("duplicates", shelf, *ON_CPU)
    assert code == 0, told
    lines = said.splitlines()
    assert lines[0] == "5 pictures of different bytes looked at, effort usual, version 1"
    copies = "3 copies that could go: 1 of the same bytes, 2 edited or saved anew"
    lookalikes = "0 pairs of lookalikes (other photographs, or changed too much to tell)"
    assert lines[1] == f"2 groups of one photograph; {copies}; {lookalikes}"
    assert re.match(
        r"Pairs that agree by 0\.\d+ or more are called copies, for a precision of 99 %\. Of those", lines[2]
    )
    assert "of 16 copies made of these pictures for the purpose are found. The interval goes below what" in lines[2]
    assert lines[3:7] == [
        "",
        "group 1, labels differ",
        "  1/photo.png  [1]  keep: 200 x 150 pixels",
        "  elsewhere/cut.png  [elsewhere]  copy: cut to 58 %",
    ]
    assert "group 2" in lines
    assert "  0/mirrored.jpg  copy: mirrored" in lines
    assert any(line.startswith("  0/same.png  same bytes (kept over it: ") for line in lines)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_terminal_and_the_page_say_the_same_figures_in_the_same_words(
    shelf: Path, tmp_path: Path, run: Run
) -> None:
    for more in ((), ("--between", "train", "test"), ("--precision", "0.5")):
        said = run("duplicates", shelf, *ON_CPU, *more, "--out", tmp_path / "out")[1].splitlines()
        page = words((tmp_path / "out/report.html").read_text().partition("<header>")[2].partition("</header>")[0])
        groups, copies, lookalikes = re.match(
            r"(\d+) groups? of one photograph.*; (\d+) (?:copy|copies) that could go: .*; (\d+) pairs? of lookalikes",
            said[1],
        ).groups()  # type: ignore[union-attr]
        kinds = said[1].partition("could go: ")[2].partition(";")[0]
        assert f"groups of one photograph {groups}" in page and f"copies that could go {copies} {kinds}" in page
        assert f"pairs of lookalikes {lookalikes}" in page
        assert said[2] in page
        assert ("may not be reached" in said[2]) == (more != ("--precision", "0.5"))


def test_one_picture_alone_is_enough_for_no_precision(photos: Path, kept_for_folders: None, run: Run) -> None:
    for path in photos.rglob("*.*"):
        if path.name != "photo.png" or path.parent.name != "0":
            path.unlink()
    code, said, told = run("duplicates", photos, *ON_CPU)
    assert code == 0, told
    assert said.startswith("1 picture of different bytes looked at")
    assert "0 groups of one photograph; 0 copies that could go; 0 pairs of lookalikes" in said
    assert "The interval goes below what was wanted, so that 99 % may not be reached." in said
    save(photos / "0/photo.png", photo(0)[:9, :9])
    code, said, told = run("duplicates", photos, *ON_CPU)
    assert code == 0, told
    assert "Whether that has the wanted precision of 99 % is not known, since no copy could be planted" in said


def test_a_folder_says_which_files_were_not_examined(
    photos: Path, tmp_path: Path, kept_for_folders: None, run: Run
) -> None:
    (photos / "list.csv").unlink()
    whole = (photos / "2/photo.png").read_bytes()
    (photos / "2/half.png").write_bytes(whole[: len(whole) // 2])
    code, said, told = run("duplicates", photos, *ON_CPU, "--out", tmp_path / "out")
    assert code == 0, told
    sentence = "1 file was not examined: no pictures, unreadable or hidden"
    assert f"\n{sentence}; --out or --json has the reasons\n" in said
    page = words((tmp_path / "out/report.html").read_text())
    assert "not examined 1 1 file" in page and sentence in page and "2/half.png :" in page
    values = json.loads((tmp_path / "out/duplicates.json").read_text())
    assert [row["file"] for row in values["not_examined"]] == ["2/half.png"] and values["not_examined"][0]["reason"]
    assert as_json(run("duplicates", photos, *ON_CPU, "--json"))["not_examined"] == values["not_examined"]


def test_why_one_is_kept_is_told_of_each_copy(photos: Path, tmp_path: Path, kept_for_folders: None, run: Run) -> None:
    (photos / "list.csv").unlink()
    save(photos / "0/grey.png", EDITS["grey"](photo(0)))
    save(photos / "0/smaller.png", EDITS["smaller"](photo(0)))
    code, said, told = run("duplicates", photos, *ON_CPU, "--out", tmp_path / "out")
    assert code == 0, told
    with (tmp_path / "out/groups.csv").open(newline="") as file:
        why = {row["id"]: row["why"] for row in csv.DictReader(file)}
    assert why["0/photo.png"] == why["0/grey.png"] == "in colour"
    assert why["0/smaller.png"] == "200 x 150 pixels" and why["0/mirrored.jpg"] == "PNG"
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "0/photo.png keep: in colour" in lines
    assert any(line.startswith("0/smaller.png copy: ") and "(kept over it: 200 x 150" in line for line in lines)
    assert "kept over it: in colour" not in said
    page = words((tmp_path / "out/report.html").read_text())
    assert page.count("✓ kept in colour") == 1 and page.count("✓ kept 200 x 150 pixels") == 2


def test_json_is_one_object(shelf: Path, run: Run) -> None:
    found = as_json(run("duplicates", shelf, *ON_CPU, "--json"))
    assert groups(found) == FOUND
    assert (found["catalogue"], found["out"], found["new_since"]) == (str(shelf), None, None)
    again = as_json(run("duplicates", shelf, *ON_CPU, "--new", "--json"))
    assert (again["groups"], again["pairs"], again["new_since"]) == ([], [], found["version"])
    across = as_json(run("duplicates", shelf, *ON_CPU, "--between", "train", "test", "--json"))
    assert groups(across) == {frozenset(("1/photo.png", "elsewhere/cut.png"))}
    kept = as_json(run("duplicates", shelf, *ON_CPU, "--keep", "path:*cut.png, oldest", "--json"))
    assert "elsewhere/cut.png" in {row["id"] for row in kept["groups"] if row["keep"]}


def test_before_anything_is_done_it_says_that_the_precision_is_not_reached(
    shelf: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missed(*given: Any, **asked: Any) -> Threshold:
        return replace(choose_threshold(*given, **asked), reached=False, precision=0.9)

    monkeypatch.setattr("indexer.duplicates.choose_threshold", missed)
    code, _, told = run("duplicates", shelf, *ON_CPU, "--apply", "forget")
    assert code == 0, told
    assert "the wanted precision of 0.99 is not reached: of what is called a copy 90.0% is right" in told


def test_items_that_cannot_be_looked_at_are_counted(shelf: Path, photos: Path, run: Run) -> None:
    (photos / "2/photo.png").write_bytes(b"")
    code, said, _ = run("duplicates", shelf, *ON_CPU)
    assert code == 0
    assert "1 item could not be looked at; --out or --json has the reasons" in said
    found = as_json(run("duplicates", shelf, *ON_CPU, "--json"))
    assert [row["id"] for row in found["unreadable"]] == ["2/photo.png"]


def test_a_report_and_what_somebody_writes_into_it(shelf: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "report"
    code, said, told = run("duplicates", shelf, *ON_CPU, "--out", out)
    assert code == 0, told
    assert f"the report: {out / 'report.html'}" in said
    assert {path.name for path in out.iterdir()} == {
        *("report.html", "groups.csv", "pairs.csv", "groups.parquet", "pairs.parquet", "duplicates.json")
    }
    assert as_json(run("duplicates", shelf, *ON_CPU, "--out", out, "--json"))["out"] == str(out)
    with (out / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["copy"] = "no" if "elsewhere/cut.png" in (row["a"], row["b"]) else ""
    with (out / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    code, _, told = run("duplicates", shelf, *ON_CPU, "--out", out)
    assert code == 2
    assert "pairs.csv was changed since it was written" in told
    found = as_json(run("duplicates", shelf, *ON_CPU, "--judged", out / "pairs.csv", "--json"))
    assert groups(found) == {frozenset(("0/photo.png", "0/same.png", "0/mirrored.jpg"))}
    assert found["threshold"]["judged"] == 1


def test_a_judgement_of_what_was_set_aside_stands_in_nobodys_way(shelf: Path, tmp_path: Path, run: Run) -> None:
    judged = tmp_path / "judged.csv"
    judged.write_text("a,b,copy\n0/photo.png,gone.jpg,yes\n")
    code, _, told = run("duplicates", shelf, *ON_CPU, "--judged", judged, "--out", tmp_path / "out")
    assert code == 0 and "1 of 1 judgements name a picture that is not here (any more), such as 'gone.jpg'" in told
    assert "0/photo.png,gone.jpg,yes" in (tmp_path / "out/pairs.csv").read_text().replace(",,", ",")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("SHELF", "--precision", "1"), "--precision"),
        (("SHELF", "--precision", "0"), "--precision"),
        (("SHELF", "--precision", "often"), "--precision"),
        (("SHELF", "--lookalike", "2"), "--lookalike"),
        (("SHELF", "--effort", "hard"), "no effort 'hard'"),
        (("SHELF", "--keep", "newest"), "no rule 'newest'"),
        (("SHELF", "--keep", " , "), "at least one rule"),
        (("SHELF", "--between", "train", "nowhere"), "no item has 'nowhere' in column 'split'"),
        (("SHELF", "--between", "train", "train"), "is named twice"),
        (("SHELF", "--between", "a", "b", "--split-column", "part"), "has no column 'part'"),
        (("SHELF", "--judged", "JUDGED"), "none of the pictures that were judged is here"),
        (("SHELF", "--judged", "nowhere.csv"), "cannot read nowhere.csv"),
        (("SHELF", "--out", "PHOTOS"), "holds other things"),
        (("SHELF", "--out", "FILE"), "is a file"),
        (("SHELF", "PHOTOS"), "is a catalogue, and takes no second folder"),
        (("FILE",), "is neither a catalogue nor a folder"),
        (("nowhere",), "no catalogue and no folder at nowhere"),
        (("PHOTOS", "nowhere"), "no catalogue and no folder at nowhere"),
        (("SHELF", "--from", "nowhere.csv"), "--from goes with --apply"),
        (("SHELF", "--apply", "move", "--from", "nowhere.csv"), "cannot read nowhere.csv"),
        (("SHELF", "--quarantine", "x"), "--quarantine goes with"),
        (("SHELF", "--run", "x"), "--run goes with"),
        (("SHELF", "--undo", "--new"), "does not go with --undo"),
    ],
)
def test_what_cannot_be_asked(
    shelf: Path, photos: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    judged = tmp_path / "judged.csv"
    judged.write_text("a,b,copy\nno one,nobody,yes\n")
    words = {"SHELF": shelf, "PHOTOS": photos, "JUDGED": judged, "FILE": judged}
    code, out, told = run("duplicates", *(words.get(word, word) for word in arguments), *ON_CPU)
    assert code == 2
    assert said in told
    assert out == "" and "Traceback" not in told


def test_as_json_an_error_is_one_object_too(shelf: Path, run: Run) -> None:
    code, out, told = run("duplicates", shelf, "--effort", "hard", "--json")
    assert code == 2
    assert "no effort" in json.dumps(json.loads((out or told).strip().splitlines()[-1]))


@pytest.mark.parametrize("damage", ["catalogue.json", "items", "rejected", "vectors", "embedder"])
def test_a_damaged_catalogue_is_told_in_a_sentence(shelf: Path, run: Run, damage: str) -> None:
    for path in [shelf / damage] if damage.endswith("json") else (shelf / damage).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, told = run("duplicates", shelf, *ON_CPU)
    assert code != 0
    assert out == "" and "Traceback" not in told and str(shelf) in told


@pytest.mark.usefixtures("kept_for_folders")
def test_two_folders(photos: Path, tmp_path: Path, run: Run) -> None:
    (photos / "list.csv").unlink()
    save(tmp_path / "more" / "turned.jpg", EDITS["turned"](photo(2)))
    found = as_json(run("duplicates", photos, tmp_path / "more", *ON_CPU, "--json"))
    assert groups(found) == {
        *(frozenset(f"photos/{id}" for id in ids) for ids in FOUND),
        frozenset(("photos/2/photo.png", "more/turned.jpg")),
    }
    (tmp_path / "more/turned.jpg").write_bytes(jpeg(photo(7)))
    found = as_json(run("duplicates", photos, tmp_path / "more", *ON_CPU, "--json"))
    assert groups(found) == {frozenset(f"photos/{id}" for id in ids) for ids in FOUND}


@pytest.mark.usefixtures("kept_for_folders")
@pytest.mark.parametrize("asked", [("--effort", "hard"), ("--keep", "newest"), ("--judged", "nowhere.csv")])
def test_what_cannot_be_asked_is_told_before_a_folder_is_indexed(
    photos: Path, run: Run, asked: tuple[str, str]
) -> None:
    code, _, told = run("duplicates", photos, *asked, *ON_CPU)
    assert code == 2
    assert asked[1] in told
    assert not catalogue_of([photos]).exists()


def test_copies_are_rejected_or_flagged_while_indexing(shelf: Path, tmp_path: Path, run: Run) -> None:
    incoming = tmp_path / "incoming"
    save(incoming / "framed.png", EDITS["framed"](photo(2)))
    save(incoming / "new.png", photo(8))
    code, _, told = run(*("index", incoming, "--catalogue", shelf, *ON_CPU, "--reject-duplicates", "--flag-duplicates"))
    assert code == 2
    assert "leave one of --reject-duplicates, --flag-duplicates out" in told
    for _ in range(2):
        code, _, told = run("index", incoming, "--catalogue", shelf, *ON_CPU, "--reject-duplicates")
        assert code == 0, told
        assert "lookalike duplicates" in told  # which draws the line
        assert "a copy of 2/photo.png (with a frame or a page around it)" in run("rejected", shelf)[1]
    about = as_json(run("info", shelf, "--json"))
    assert about["items"] == 7
    flagged = as_json(run("index", incoming, "--catalogue", shelf, *ON_CPU, "--flag-duplicates", "--json"))
    assert (flagged["added"], flagged["rejected"], flagged["items"]) == (1, 0, 8)


def test_a_folder_has_nothing_to_forget(photos: Path, kept_for_folders: None, run: Run) -> None:
    (photos / "list.csv").unlink()
    code, said, told = run("duplicates", photos, "--apply", "forget", "--out", photos / "out", *ON_CPU)
    assert code == 2 and not said
    assert "has nothing that could be forgotten" in told
    assert not catalogue_of([photos]).exists() and not (photos / "out").exists()  # and it is said at once


def test_an_interrupted_run_says_how_it_is_taken_back(
    shelf: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quarantine, "apply_decisions", interrupted)
    hidden = photos / ".aside"  # the photos lie beside the catalogue
    code, said, told = run("duplicates", shelf, "--apply", "move", "--quarantine", hidden, *ON_CPU)
    assert code == 130 and not said
    assert "--undo" in told and "goes on from there" not in told


@pytest.mark.usefixtures("kept_for_folders")
def test_what_is_done_about_folders_and_taken_back(
    photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "list.csv").unlink()
    save(tmp_path / "more" / "turned.jpg", EDITS["turned"](photo(2)))
    monkeypatch.chdir(tmp_path)
    typed = ("duplicates", "photos", "more")
    cache = str(catalogue_of([photos, tmp_path / "more"]))
    before = sorted(path.relative_to(tmp_path) for name in typed[1:] for path in (tmp_path / name).rglob("*"))

    code, _, told = run(*typed, *ON_CPU, "--undo")
    assert code == 2 and "nothing is known of photos and more: run lookalike duplicates photos more first" in told

    code, said, told = run(*typed, *ON_CPU, "--keep", "oldest", "--apply", "move")
    assert code == 0, told
    assert said.startswith("photos and more: 4 copies moved to ") and cache not in said + told
    assert {path.name for path in Path("more/.lookalike-quarantine").rglob("*.*") if path.is_file()} == {"turned.jpg"}
    assert len([path for path in Path("photos/.lookalike-quarantine").rglob("*.*") if path.is_file()]) == 3
    assert "is no picture" not in told

    (again := tmp_path / "more" / "turned.jpg").write_bytes(b"mine")
    code, said, told = run(*typed, *ON_CPU, "--undo")
    assert code == 4, told
    assert said.startswith("photos and more: 3 files and 3 items brought back")
    assert "1 item left alone:" in said and "another file is in its place now" in said and cache not in said + told
    assert "--undo goes on with this run once the reason is gone" in said
    again.unlink()
    assert as_json(run(*typed, *ON_CPU, "--undo", "--json"))["catalogue"] == "photos and more"
    assert sorted(path.relative_to(tmp_path) for name in typed[1:] for path in (tmp_path / name).rglob("*")) == before

    code, _, told = run(*typed, *ON_CPU, "--undo")
    assert code == 2 and cache not in told
    assert "photos and more has no run of duplicates to undo: there is 0001-" in told and "undone)" in told


def test_less_than_was_asked_is_told_by_the_exit_code(shelf: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    decided = tmp_path / "groups.csv"
    decided.write_text("group,decision,id,kind\n1,keep,0/photo.png,\n1,remove,0/same.png,same bytes\n")
    given = ("duplicates", shelf, *ON_CPU, "--apply", "forget", "--from", decided)
    assert run(*given)[0] == 0
    code, said, _ = run(*given)
    assert code == 4 and "0 copies done" in said and "0/same.png: there is no such item in the catalogue" in said
    code, said, _ = run(*given, "--json")
    assert code == 4 and json.loads(said)["skipped"][0]["id"] == "0/same.png"
    assert run("duplicates", shelf, *ON_CPU, "--undo")[0] == 0
    assert "4" in run("duplicates", "--help")[1].partition("Ends with")[2][:10]
