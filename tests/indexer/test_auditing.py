"""An audit of labels, and corrections: what is planted is found, and what is corrected stays."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from indexer.audit_page import audit_page
from indexer.auditing import CONFLICT, FINDINGS_SCHEMA, FOREIGN, LEAK, WRONG, Audit, audit
from indexer.calibrating import calibrate
from indexer.catalogue import Catalogue
from indexer.correcting import (
    BETWEEN,
    CORRECTION,
    apply_corrections,
    check_table,
    corrections_file,
    new_labels,
    read_corrections,
)
from indexer.ingest import ingest
from indexer.items import CORRECTED_FROM
from indexer.labelling import label
from retrieval.answers import Asked
from retrieval.errors import InputError, NotFoundError
from retrieval.evidence import Evidence, gather
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder


def move(folder: Path, name: str, to: str) -> str:
    """Put a picture where it does not belong; gives its new id."""
    place = folder / "Paint" / to / f"moved-{name.replace('/', '-')}"
    (folder / "Paint" / name).rename(place)
    return place.relative_to(folder).as_posix()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", per_class=14)


@pytest.fixture
def planted(folder: Path) -> dict[str, str]:
    """Id → right label of three pictures in the wrong folder."""
    return {
        move(folder, "Red/003.jpg", "Blue"): "Paint/Red",
        move(folder, "Green/005.jpg", "Red"): "Paint/Green",
        move(folder, "Sand/001.jpg", "Green"): "Paint/Sand",
    }


@pytest.fixture
def shop(folder: Path, planted: dict[str, str], tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as made:
        ingest(made, read_manifest(folder))
        yield made


def of_kind(found: Audit, kind: str) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in found.findings.to_pylist() if row["finding"] == kind}


def test_wrong_labels_are_found_with_what_speaks_against_them(shop: Catalogue, planted: dict[str, str]) -> None:
    found = audit(shop)
    assert found.findings.schema == FINDINGS_SCHEMA
    wrong = of_kind(found, WRONG)
    assert {id: row["suggested"] for id, row in wrong.items()} == planted
    for row in wrong.values():
        assert row["neighbours"]
        assert all(not str(id).startswith(f"{row['label']}/") for id in row["neighbours"])  # type: ignore[union-attr]
    assert (found.items, found.labels, found.left_out, found.version) == (56, 4, 0, shop.version)
    assert found.agreed == pytest.approx(53 / 56)
    assert not of_kind(found, CONFLICT) and not of_kind(found, LEAK)
    page = audit_page(shop, found)
    assert page.count("rather <b>") == 3
    assert "many that are called wrong will be right" not in page
    assert "agrees with only 89% of the labels, so many that are called wrong will be right" in audit_page(
        shop, replace(found, agreed=0.89)
    )
    assert "<small>Paint/<wbr>" in page
    assert "Wrong label: 3" in page


def test_one_picture_under_two_labels_and_in_two_splits(folder: Path, tmp_path: Path) -> None:
    twin = folder / "Paint" / "Blue" / "twin.jpg"
    twin.write_bytes((folder / "Paint" / "Red" / "000.jpg").read_bytes())
    lonely = folder / "Paint" / "Ink"
    lonely.mkdir()
    (lonely / "only.jpg").write_bytes((folder / "Paint" / "Sand" / "000.jpg").read_bytes())
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    lines = ["image,label,part"] + [
        f"{path},{path.rpartition('/')[0]},{'test' if path.endswith(('twin.jpg', 'only.jpg')) else 'train'}"
        for path in paths
    ]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        found = audit(shop, split="part")
        for kind in (CONFLICT, LEAK):
            pairs = {frozenset((id, row["other"])) for id, row in of_kind(found, kind).items()}
            assert pairs == {
                frozenset(("Paint/Blue/twin.jpg", "Paint/Red/000.jpg")),
                frozenset(("Paint/Ink/only.jpg", "Paint/Sand/000.jpg")),
            }
        assert found.left_out == 1
        assert "same picture, other label" in audit_page(shop, found).lower()
        assert not of_kind(audit(shop), LEAK)  # no column is called split
        with pytest.raises(NotFoundError, match="has no column 'shop'"):
            audit(shop, split="shop")
    (folder / "list.csv").write_text((folder / "list.csv").read_text().replace("image,label,part", "image,label,split"))
    with Catalogue.create(tmp_path / "again", ColourEmbedder()) as again:
        ingest(again, read_manifest(folder / "list.csv"))
        assert of_kind(audit(again), LEAK).keys() == of_kind(found, LEAK).keys()


def test_neighbours_are_looked_for_once_where_the_fit_looks_at_all(
    shop: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, searches = audit(shop), []

    def gathered(queries: np.ndarray, *given: Any, **more: Any) -> Evidence:
        searches.append(len(queries))
        return gather(queries, *given, **more)

    monkeypatch.setattr("indexer.auditing.gather", gathered)
    assert audit(shop).findings.equals(once.findings) and not searches
    monkeypatch.setattr("indexer.label_queries.MOST", 40)
    assert audit(shop).items == 56 and searches == [56]


def test_what_is_like_nothing_is_told(folder: Path, planted: dict[str, str], tmp_path: Path) -> None:
    stripes = np.zeros((40, 48, 3), np.uint8)
    stripes[:20] = 255  # at right angles to pictures of one colour
    Image.fromarray(stripes).save(folder / "Paint" / "Red" / "stripes.png")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder))
        found = audit(shop)
        assert of_kind(found, FOREIGN).keys() == {"Paint/Red/stripes.png"}
        assert of_kind(found, WRONG).keys() == planted.keys()
        assert "Like no label: 1" in audit_page(shop, found)


def test_a_correction_is_a_version_and_counts_at_once(shop: Catalogue, planted: dict[str, str], tmp_path: Path) -> None:
    calibrate(shop)
    path = tmp_path / "findings.csv"
    path.write_bytes(corrections_file(audit(shop)))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} >= set(planted)
    ids = set(shop.items().column("id").to_pylist())
    assert all(set(row["neighbours"].split(BETWEEN)) <= ids for row in rows if row["neighbours"])
    with pytest.raises(InputError, match=f"no row of .* has a {CORRECTION}"):
        read_corrections(path)
    for row in rows:
        row[CORRECTION] = planted.get(row["id"], "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    corrections = read_corrections(path)
    assert corrections == planted
    id, right = next(iter(planted.items()))
    wrong = id.rpartition("/")[0]
    alone = Asked(false_accept=1.0)
    before, version = label(shop, ids=[id], asked=alone).to_pylist()[0], shop.version
    assert apply_corrections(shop, corrections) == (3, shop.version)
    assert shop.version > version
    items = {row["id"]: row for row in shop.items().to_pylist()}
    assert {one: items[one]["label"] for one in planted} == planted
    assert items[id][CORRECTED_FROM] == wrong
    assert before["likeliest"] == right
    assert not of_kind(audit(shop), WRONG)
    assert apply_corrections(shop, corrections)[0] == 0  # and again nothing
    shop.rollback(version)
    assert {row["id"]: row["label"] for row in shop.items().to_pylist()}[id] == wrong


def test_indexing_again_keeps_corrections_unless_the_source_says_something_new(
    shop: Catalogue, folder: Path, planted: dict[str, str]
) -> None:
    apply_corrections(shop, planted)
    assert ingest(shop, read_manifest(folder)).updated == 0
    labels = {row["id"]: row["label"] for row in shop.items().to_pylist()}
    assert {id: labels[id] for id in planted} == planted
    manifest = read_manifest(folder)
    new = [f"{label}-new" for label in manifest.table.column("label").to_pylist()]
    at = manifest.table.column_names.index("label")
    ingest(shop, replace(manifest, table=manifest.table.set_column(at, "label", pa.array(new))))
    rows = shop.items().to_pylist()
    assert all(row["label"].endswith("-new") and row[CORRECTED_FROM] is None for row in rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\na,b\n", f"has no column '{CORRECTION}'"),
        (f"id,{CORRECTION}\na,b\na,c\n", "says two things of 'a'"),
        (f"id,{CORRECTION}\na,b//c\n", "has an empty part"),
        (f"id,{CORRECTION}\na,\n", f"no row of .* has a {CORRECTION}"),
    ],
)
def test_files_that_correct_nothing(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_corrections(tmp_path / "file.csv")
    with pytest.raises(InputError, match="cannot read the corrections"):
        read_corrections(tmp_path / "nowhere.csv")
    (tmp_path / "file.csv").write_text(f"id,{CORRECTION}\n" + "x" * 140_000 + ",b\n")
    with pytest.raises(InputError, match=r"cannot read the corrections .*field larger than"):
        read_corrections(tmp_path / "file.csv")
    (tmp_path / "file.csv").write_bytes(b"\xff\xd8")
    with pytest.raises(InputError, match="it is no text in UTF-8; save it as CSV UTF-8"):
        read_corrections(tmp_path / "file.csv")


def test_what_a_spreadsheet_takes_for_a_formula_is_written_as_text(folder: Path, tmp_path: Path) -> None:
    (folder / "Paint" / "Blue" / "=cmd|calc.jpg").write_bytes((folder / "Paint" / "Red" / "000.jpg").read_bytes())
    rows = [f"{path.relative_to(folder)},{path.name},=1+{path.parent.name}" for path in folder.rglob("*.jpg")]
    (folder / "list.csv").write_text("\n".join(["image,id,label", *(row.replace("000", "@0") for row in rows)]) + "\n")
    for name in ("Red", "Green", "Blue", "Sand"):
        (folder / "Paint" / name / "000.jpg").rename(folder / "Paint" / name / "@0.jpg")
    lines = (folder / "list.csv").read_text().splitlines()
    unlike = [lines[0], *(f"{line.split(',')[0]},{line.split(',')[0]},{line.split(',')[2]}" for line in lines[1:])]
    (folder / "list.csv").write_text("\n".join(unlike).replace("jpg,Paint/Blue/=cmd", "jpg,=cmd") + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        path = tmp_path / "found.csv"
        path.write_bytes(corrections_file(audit(shop)))
        with path.open(newline="") as file:
            rows_found = list(csv.DictReader(file))
        conflict = next(row for row in rows_found if row["finding"] == CONFLICT)
        cells = [cell for row in rows_found for cell in row.values()]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert "'=cmd|calc.jpg" in (conflict["id"], conflict["other"])
        path.write_text(f"id;{CORRECTION}\n'=cmd|calc.jpg;'=1+Red\n")
        assert read_corrections(path) == {"=cmd|calc.jpg": "=1+Red"}
        assert apply_corrections(shop, read_corrections(path))[0] == 1


def test_new_labels_are_told_with_the_one_that_may_be_meant(shop: Catalogue) -> None:
    corrections = {"Paint/Red/000.jpg": "Paint/red", "Paint/Red/001.jpg": "Ink", "Paint/Red/002.jpg": "Paint/Blue"}
    assert new_labels(shop, corrections) == {"Ink": None, "Paint/red": "Paint/Red"}


def test_findings_are_written_over_nothing_that_somebody_filled(shop: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    check_table(path)
    path.write_bytes(corrections_file(audit(shop)))
    check_table(path)  # nobody has filled it
    path.write_text(path.read_text().replace(",,wrong label", ",Paint/Red,wrong label", 1))
    with pytest.raises(InputError, match="holds corrections; give them back with --apply"):
        check_table(path)
    (tmp_path / "other.csv").write_bytes(b"\xff\xd8 a picture")
    with pytest.raises(InputError, match="is there already and holds no findings"):
        check_table(tmp_path / "other.csv")
    with pytest.raises(InputError, match="there is no folder"):
        check_table(tmp_path / "nowhere" / "found.csv")


def test_an_unknown_item_changes_nothing(shop: Catalogue, planted: dict[str, str]) -> None:
    version = shop.version
    with pytest.raises(NotFoundError, match="no item with the id 'nobody'; nothing was changed"):
        apply_corrections(shop, {**planted, "nobody": "x"})
    assert shop.version == version
