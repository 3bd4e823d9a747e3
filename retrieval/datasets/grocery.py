"""The lists of the Grocery Store Dataset (Klasson et al., WACV 2019, arXiv 1901.00711).

``train.txt``, ``val.txt`` and ``test.txt`` hold a line an image, ``path, fine id, coarse id``:

    train/Fruit/Apple/Golden-Delicious/Golden-Delicious_001.jpg, 0, 0

``classes.csv`` beside them gives the ids names, and by the place of its iconic picture each class its path. The
folders of the photos are not that path: brown cap mushrooms lie in ``Vegetables/Brown-Cap-Mushroom`` in training and in
``Vegetables/Mushroom/Brown-Cap-Mushroom`` in the test. The published counts are 2,640, 296 and 2,485 images of 81 fine
and 42 coarse classes (the lists have 43; the validation list has 296 lines, its README says 292). Report test → train,
never a random split: the photos of the two were taken in different shops.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from retrieval.errors import ManifestError

_LINE: Final = re.compile(r"(.+?)\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})")
_ID: Final = re.compile(r"\s*[0-9]{1,9}\s*")
_SCHEMA: Final = pa.schema(
    [
        # as the list has it, POSIX
        ("image", pa.string()),
        # the class's path, Fruit/Apple/Golden-Delicious; without classes.csv the folders between split and file
        ("label", pa.string()),
        # the first folder: train, val or test
        ("split", pa.string()),
        # class names of classes.csv, else the ids
        ("fine", pa.string()),
        ("coarse", pa.string()),
    ]
)


def read_list(path: Path) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Read one list; the images themselves are not looked at.

    Args:
        path: of the list.

    Returns:
        A table of the columns image, label, split, fine, coarse (all text), and the lines that are none, as
        ``(train.txt#line=7, reason)``.

    Raises:
        ManifestError: it cannot be read, is empty, or no line of it has the form.
    """
    lines = _text(path).split("\n")
    fine_names, coarse_names, class_paths = _class_names(path.with_name("classes.csv"))
    rows: list[tuple[str, str | None, str | None, str, str]] = []
    rejected = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            rejected.append((f"{path.name}#line={number}", "not `path, fine id, coarse id`"))
            continue
        image = match[1].replace("\\", "/")
        parts = image.split("/")
        split = parts[0] if len(parts) > 1 else None
        rows.append(
            (
                image,
                class_paths.get(int(match[2])) or "/".join(parts[1:-1]) or None,
                split,
                fine_names.get(int(match[2]), match[2]),
                coarse_names.get(int(match[3]), match[3]),
            )
        )
    if not rows:
        what = "is empty" if not rejected else "is no list of images: no line is `path, fine id, coarse id`"
        raise ManifestError(f"{path} {what}")
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA), rejected


def _class_names(path: Path) -> tuple[dict[int, str], dict[int, str], dict[int, str]]:
    """Read the names of fine and coarse ids, and the paths of fine ids; ids without one keep their number."""
    fine: dict[int, str] = {}
    coarse: dict[int, str] = {}
    paths: dict[int, str] = {}
    if path.is_file():
        try:
            rows = list(csv.reader(_text(path).splitlines()))
        except csv.Error as error:
            raise ManifestError(f"cannot read {path}: {error}") from error
        for row in rows:
            if len(row) >= 4 and _ID.fullmatch(row[1]) and _ID.fullmatch(row[3]):
                fine[int(row[1])] = row[0].strip()
                coarse[int(row[3])] = row[2].strip()
                if len(row) >= 5 and row[4].count("/") >= 3:
                    # /iconic-images-and-descriptions/Fruit/Apple/Golden-Delicious/Golden-Delicious_Iconic.jpg
                    paths[int(row[1])] = "/".join(row[4].strip().strip("/").split("/")[1:-1])
    return fine, coarse, paths


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"line {line} of {path} is not UTF-8; save the file as UTF-8 and run again") from error
