"""Official lists that are MATLAB files, read with distrust."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from retrieval.datasets.lists import bounded
from retrieval.datasets.matlab import variables
from retrieval.errors import ProtocolError

MAX_MATLAB_BYTES: Final = 16 * 2**20
"""Of a MATLAB file as it is and as it unpacks; the official ones have under one."""


def matlab(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the variables of a MATLAB file, as ``retrieval.datasets.matlab.variables`` makes them.

    Args:
        path: of the file; of MATLAB 5 to 7.2, as all official ones are.
        names: variables that it must have.

    Raises:
        ProtocolError: it cannot be read, is too large, is damaged, or has no such variable.
    """
    try:
        found = variables(bounded(path, MAX_MATLAB_BYTES), limit=MAX_MATLAB_BYTES)
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise ProtocolError(f"{path} is damaged ({reason}); get it anew from the data set's source") from error
    for name in names:
        if name not in found:
            raise ProtocolError(f"{path} has no variable {name}; get it anew from the data set's source")
    return found


def matlab_texts(values: np.ndarray, path: Path) -> list[str]:
    """Take the texts out of a cell array, or a field of a struct array, that ``matlab`` read.

    Args:
        values: of the cells.
        path: of the file, for the error.

    Raises:
        ProtocolError: one is no text.
    """
    found = values.ravel().tolist()
    for place, value in enumerate(found, 1):
        if not isinstance(value, str):
            raise ProtocolError(f"entry {place} of {path} is no text; get the file anew from the data set's source")
    return found


def matlab_numbers(values: np.ndarray, path: Path) -> list[int]:
    """Take the whole numbers out of an array, or a field of a struct array, that ``matlab`` read.

    Args:
        values: numbers of any kind, or cells with one each.
        path: of the file, for the error.

    Raises:
        ProtocolError: one is no whole number.
    """
    found = values.ravel().tolist()
    for place, value in enumerate(found):
        if not isinstance(value, (int, float)) or value != value or abs(value) > 2**53 or value != int(value):
            raise ProtocolError(
                f"entry {place + 1} of {path} is no whole number; get the file anew from the data set's source"
            )
    return [int(value) for value in found]
