"""The table of options is the recipe's fields, and says of each what stands when nothing is given."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

import click
import pytest
from click.testing import CliRunner

from indexer.training_options import CHOSEN, OPTIONS, given_choices, seconds_of, shown, training_options, usual
from retrieval.attention import ATTENTIONS
from retrieval.choosing import USUAL, Counts, choose
from retrieval.heads import HEADS
from retrieval.losses import LOSSES
from retrieval.optimisation import OPTIMIZERS, SCHEDULES
from retrieval.pooling import POOLINGS
from retrieval.recipe import Augmentation, Recipe


def given(*arguments: str) -> dict[str, object]:
    """What a command takes these arguments for."""
    taken: dict[str, object] = {}

    @click.command()
    @training_options
    def command(**values: object) -> None:
        taken.update(given_choices(values))

    result = CliRunner().invoke(command, arguments)
    if result.exit_code:
        raise ValueError(result.output)
    return taken


def test_every_field_of_a_recipe_is_an_option_in_its_order() -> None:
    names = [spot.name for spot in (*fields(Recipe), *fields(Augmentation)) if spot.name != "augmentation"]
    assert sorted(row.field for row in OPTIONS) == sorted(names)


def test_words_are_those_that_there_are() -> None:
    words = {row.field: set(row.values) for row in OPTIONS if row.values}
    tables = {
        "attention": ATTENTIONS,
        "pooling": POOLINGS,
        "head": HEADS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
    }
    for name, table in tables.items():
        assert words[name] == set(table), name


@pytest.mark.parametrize("transformer", [False, True])
def test_what_is_said_to_be_usual_is_what_stands(transformer: bool) -> None:
    choices = choose(
        "x",
        Counts(100, 10, 9, 10, 11),
        device="cpu",
        budget=None,
        native_size=64,
        given={},
        transformer=transformer,
    )[1]
    for choice in choices:
        if choice.field not in CHOSEN:
            said = usual(choice.field).partition("; ")[0]
            assert (choice.why, said) == (USUAL, shown(choice.value)), choice.field
    pooling = {choice.field: choice.value for choice in choices}["pooling"]
    assert usual("pooling").partition("; ")[2 * transformer].startswith(pooling)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_decay_that_is_said_to_be_usual_is_that_of_the_optimizer(optimizer: str) -> None:
    given = {"optimizer": optimizer}
    counts = Counts(100, 10, 9, 10, 11)
    recipe, _ = choose("x", counts, device="cpu", budget=None, native_size=64, given=given)
    usually, _, otherwise = usual("weight_decay").partition("; ")
    assert otherwise.endswith(" for adam")
    assert shown(recipe.weight_decay) == (otherwise.removesuffix(" for adam") if optimizer == "adam" else usually)


def test_the_help_names_the_losses_and_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "from webui.cli import root\n"
        "try: root.main(['train', '--help'], prog_name='lookalike')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'pytorch_metric_learning'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(LOSSES) <= set(re.findall(r"\w+", done.stdout))


def test_values_come_as_a_recipe_has_them() -> None:
    assert given() == {}
    taken = given("--lr", "3e-5", "--dim", "0", "--first-size", "0", "--flip", "0", "--compile", "--per-class", "2")
    assert taken == {"lr": 3e-5, "dim": None, "first_size": None, "flip": 0.0, "compiled": True, "per_class": 2}
    assert given("--dim", "none", "--first-size", "none") == {"dim": None, "first_size": None}
    assert given("--no-deterministic") == {"deterministic": False}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lr", "nan"),
        ("--clip", "inf"),
        ("--lr", "0"),
        ("--flip", "1.5"),
        ("--batch", "0"),
        ("--pooling", "mean"),
        ("--epochs", "none"),
    ],
)
def test_what_is_no_value_is_refused(arguments: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=arguments[0]):
        given(*arguments)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-5m", "0s", "5d", "1h?"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="90s, 30m"):
        seconds_of(text)


def test_values_are_shown_on_one_line() -> None:
    assert [shown(value) for value in (None, True, 3e-4, 512, "ce")] == ["none", "yes", "0.0003", "512", "ce"]
