"""What ``lookalike advise`` says in the end, and words that it and ``train`` refuse before they read anything."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from indexer import training_cli
from tests.indexer.test_advising import measured
from tests.webui.commands import Run, as_json


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backbones of which the slower one gets one query more right."""
    rows = [measured("lite2", 161, 10.0), measured("lite0", 160, 70.0)]
    monkeypatch.setattr(training_cli, "_measured", lambda *_: rows)


def test_the_faster_of_two_that_are_alike_is_named_throughout(found: None, picture_folder: Path, run: Run) -> None:
    code, text, _ = run("advise", picture_folder)
    assert code == 0
    assert "lite2 cannot be told apart from lite0 (p = 1) on these 200 queries, and lite0 is preferred" in text
    assert "fine-tuning is likely to pay: lite2, frozen, finds the right class first for 80.5% of 200 queries" in text
    assert text.splitlines()[-1] == f"try it: lookalike train {picture_folder} --out EMBEDDER --backbone lite0"
    assert "as it is" not in text


def test_where_training_does_not_pay_using_it_comes_first(
    monkeypatch: pytest.MonkeyPatch, picture_folder: Path, run: Run
) -> None:
    monkeypatch.setattr(training_cli, "_measured", lambda *_: [measured("lite0", 199, 70.0)])
    code, text, _ = run("advise", picture_folder, "--prefix", "my shop/")
    assert code == 0
    source = f"{picture_folder} --prefix 'my shop/'"
    verdict, use, train = text.splitlines()[-3:]
    assert verdict.startswith("fine-tuning is not likely to pay: lite0, frozen, finds")
    assert verdict.count(":") == 1
    assert use == f"to use it as it is: lookalike index {source} --catalogue CATALOGUE --backbone lite0"
    assert train == f"to train all the same: lookalike train {source} --out EMBEDDER --backbone lite0"
    assert "try it" not in text
    assert "preferred" not in text  # there was none to choose from


def test_both_commands_are_told_as_json_and_can_be_given(found: None, picture_folder: Path, run: Run) -> None:
    from indexer.cli import index

    said = as_json(run("advise", picture_folder, "--json"))
    assert said["preferred"] == "lite0"
    assert "cannot be told apart" in said["preferred_why"]
    assert said["train"] == f"lookalike train {picture_folder} --out EMBEDDER --backbone lite0"
    words = shlex.split(said["index"])
    assert words[:2] == ["lookalike", "index"]
    index.make_context("index", words[2:])  # which refuses an option that it has not


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train", "--loss", "trplet"), "there is no loss 'trplet' (did you mean triplet?)"),
        (("train", "--loss", "triplet+0*ce"), "the loss 'triplet+0*ce' has the weight '0'"),
        (("train", "--backbone", "resnt50"), "timm has no backbone named 'resnt50' (did you mean resnet50?)"),
        (("advise", "--backbone", "resnt50"), "timm has no backbone named 'resnt50' (did you mean resnet50?)"),
    ],
)
def test_misspelt_words_are_told_before_anything_is_read_or_made(
    run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    command, *rest = words
    out = ("--out", tmp_path / "out") if command == "train" else ()
    code, said, told = run(command, tmp_path / "nowhere", *rest, *out)
    assert (code, said) == (2, "")
    assert told.startswith(f"lookalike: {sentence}")
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())
