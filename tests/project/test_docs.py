"""What is written down is true: the README's commands, docstrings' Args, the design's words for names."""

from __future__ import annotations

import configparser
import importlib
import inspect
import itertools
import re
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from tests.project import protocol_page, training_page
from tests.project.test_imports import modules
from webui.cli import COMMANDS, root

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def public_functions() -> dict[str, object]:
    found: dict[str, object] = {}
    for name in modules():
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            if attribute.startswith("_") or getattr(value, "__module__", None) != name:
                continue
            if inspect.isfunction(value):
                found[f"{name}.{attribute}"] = value
            elif inspect.isclass(value):
                found |= {
                    f"{name}.{attribute}.{method}": function
                    for method, function in vars(value).items()
                    if inspect.isfunction(function) and not method.startswith("_")
                }
    return found


@pytest.mark.parametrize("name", list(public_functions()))
def test_docstring_arguments_are_those_of_the_signature(name: str) -> None:
    function = public_functions()[name]
    text = inspect.getdoc(function)
    assert text, f"{name} has no docstring"
    section = re.search(r"^Args:\n((?:[ ]{2,}.*\n?|\n)+)", text, re.M)
    if section is None:
        return
    documented = set(re.findall(r"^ {4}\*{0,2}(\w+)(?: \(.*\))?:", section[1], re.M))
    signature = set(inspect.signature(function).parameters) - {"self", "cls"}
    assert documented == signature


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("host", "port"):
            assert parameter.help, f"{name} --{parameter.name}"
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


def test_commands_in_the_readme_exist_with_their_options() -> None:
    commands = re.findall(r"^(?:\$ )?lookalike (.+)$", README, re.M)
    assert commands
    for line in commands:
        name, *words = line.split("#")[0].split()
        command = root.get_command(click.Context(root), name)
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("-"):
                assert word.split("=")[0] in known, line


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets | {"sure"}


def test_the_readme_is_short_and_starts_quickly() -> None:
    lines = README.splitlines()
    assert len(lines) < 150
    assert any(line.startswith("make demo") or line.startswith("$ make demo") for line in lines[:25])


def test_every_requirement_has_its_reason_and_its_pin() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pins = {
        line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    block = (ROOT / "setup.cfg").read_text().split("install_requires =")[1].split("[options.packages.find]")[0]
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    for before, line in itertools.pairwise(lines):
        if not line.startswith("#"):
            assert before.startswith("#"), f"{line} has no reason"
            assert re.split(r"[><=]", line)[0].lower() in pins, f"{line} has no pin"
    for extra in ("test", "bench", "faiss"):
        for line in config["options.extras_require"][extra].splitlines():
            if line and not line.startswith("#"):
                assert re.split(r"[><=;]", line)[0].lower() in pins, f"{line} has no pin"


def test_every_pin_lies_within_its_bounds() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pins = dict(
        line.strip().lower().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    extras = config["options.extras_require"]
    lines = "\n".join([config["options"]["install_requires"], *(extras[extra] for extra in ("faiss", "test", "bench"))])
    wanted = [Requirement(line) for line in lines.splitlines() if line.strip() and not line.startswith("#")]
    assert len(wanted) > 20
    for requirement in wanted:
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement


def test_every_protocol_is_documented_as_it_is() -> None:
    assert protocol_page.PAGE.read_text() == protocol_page.page(), "run python -m tests.project.protocol_page"


def test_training_is_documented_as_it_is() -> None:
    assert training_page.DOC.read_text() == training_page.page(), "run python -m tests.project.training_page"
    assert "docs/training.md" in README


@pytest.mark.parametrize("package", ["retrieval", "indexer", "webui"])
def test_every_room_is_named_where_its_package_begins(package: str) -> None:
    guide = importlib.import_module(package).__doc__ or ""
    rooms = {name for name in modules() if name.startswith(f"{package}.") and name.count(".") == 1}
    assert set(re.findall(r"``([a-z_]+\.[a-z_0-9]+)``", guide)) == rooms
