"""Settings: one table, checked by name."""

from __future__ import annotations

import pytest

from retrieval.errors import InputError
from webui.settings import SETTINGS, validate


def test_the_defaults_are_valid_and_complete():
    assert validate() == {setting.name: setting.default for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_explained_and_fits_a_command_line(setting):
    assert setting.name.isidentifier()
    assert setting.help[0].isupper() and not setting.help.endswith(".")
    assert type(setting.default) in (int, float, str)
    assert setting.check(setting.default) == setting.default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_upload", 0),
        ("max_upload", 65),
        ("max_upload", "many"),
        ("max_upload", 2.5),
        ("max_upload", True),
        ("max_upload", None),
        ("k", float("nan")),
        ("k", float("inf")),
        ("wait", -1),
        ("wait", "soon"),
        ("thumbnail", 255),
        ("hosts", 7),
        ("concurrency", 0),
        ("k_max", 10**30),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"setting {name} "):
        validate(**{name: value})


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"no setting colour; there are max_upload, k, "):
        validate(colour="blue")


def test_numbers_come_in_the_type_of_the_default():
    settings = validate(wait=3, k="48")
    assert (settings["wait"], settings["k"]) == (3.0, 48)
    assert type(settings["wait"]) is float and type(settings["k"]) is int


def test_lowering_k_max_takes_the_defaults_along_but_contradicts_no_one():
    assert validate(k_max=10)["k"] == 10
    with pytest.raises(InputError, match="setting k "):
        validate(k_max=10, k=20)
