"""SETTINGS: every setting of the web application with its default, unit and help.

The options of ``lookalike serve``, the checks of ``create_app`` and the documentation are made from this one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from retrieval.errors import InputError

THUMBNAIL_SIZES: Final = (128, 256, 384, 768, 1280)
"""Longest sides, in pixels, that ``/thumbnail`` draws; a fixed list, so that nobody can fill the cache with sizes."""

K_CHOICES: Final = (12, 24, 48, 96)
"""Numbers of hits that the pages offer, as far as the setting ``k_max`` allows them."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: keyword of ``create_app``; the option is ``--name`` with hyphens.
        default: also tells the type: int, float or str.
        unit: of the value; empty where there is none.
        help: what it does, in a sentence without a full stop.
        minimum: least value of a number.
        maximum: greatest value of a number.
        choices: the only values allowed; empty: all between minimum and maximum.
    """

    name: str
    default: int | float | str
    unit: str
    help: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[int, ...] = ()

    def check(self, value: Any) -> int | float | str:
        """Return the value in the setting's type.

        Raises:
            InputError: it is of another type or out of bounds; the message names the setting.
        """
        if isinstance(self.default, str):
            if not isinstance(value, str):
                raise InputError(f"setting {self.name} must be text, not {value!r}")
            return value
        try:
            # A bool is an int to Python, but nobody means True pictures.
            if isinstance(value, bool):
                raise ValueError
            number = type(self.default)(value)
            if number != float(value):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise InputError(f"setting {self.name} must be {kind}, not {value!r}") from None
        if self.choices:
            if number not in self.choices:
                raise InputError(f"setting {self.name} must be one of {_listed(self.choices)}, not {number}")
        elif not self.minimum <= number <= self.maximum:
            raise InputError(
                f"setting {self.name} must lie between {self.minimum:g} and {self.maximum:g}, not {number}"
            )
        return number


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("max_upload", 20, "MB", "Largest picture that may be uploaded", 1, 64),
    Setting("k", 24, "hits", "Hits shown when the visitor does not say how many", 1, 1000),
    Setting("k_max", 96, "hits", "Most hits that may be asked for at once", 1, 1000),
    Setting("samples", 12, "items", "Items shown on the first page to start from", 0, 60),
    Setting("neighbours", 12, "hits", "Lookalikes shown below an item", 1, 1000),
    Setting("thumbnail", 384, "px", "Longest side of a picture in the grid", choices=THUMBNAIL_SIZES),
    Setting("thumbnail_cache", 64, "MB", "Memory for thumbnails that were drawn already", 0, 4096),
    Setting("concurrency", 4, "searches", "Searches that run at once, sharing the network's batches", 1, 64),
    Setting("wait", 10.0, "s", "How long a search may wait for its turn before the answer is 503", 0, 600),
    Setting("queue", 16, "searches", "Searches that may wait at once; the answer to further ones is 503", 0, 256),
    Setting("hosts", "", "", "Host names the server answers to besides localhost and IP addresses; * for any"),
)
"""In the order of the documentation."""


def validate(**given: Any) -> dict[str, Any]:
    """Complete the given settings with the defaults.

    Args:
        **given: values by name.

    Returns:
        A value of the right type for every row of ``SETTINGS``.

    Raises:
        InputError: an unknown name, a value of another type or out of bounds, ``k`` or ``neighbours`` above ``k_max``.
    """
    names = [setting.name for setting in SETTINGS]
    for name in given:
        if name not in names:
            raise InputError(f"there is no setting {name}; there are {_listed(names)}")
    settings: dict[str, Any] = {
        setting.name: setting.check(given.get(setting.name, setting.default)) for setting in SETTINGS
    }
    for name in ("k", "neighbours"):
        if settings[name] > settings["k_max"]:
            if settings[name] != next(setting.default for setting in SETTINGS if setting.name == name):
                raise InputError(f"setting {name} ({settings[name]}) must not exceed k_max ({settings['k_max']})")
            # Whoever lowers only k_max means the defaults to follow.
            settings[name] = settings["k_max"]
    return settings


def _listed(values: tuple[int, ...] | list[str]) -> str:
    return ", ".join(map(str, values))
