"""Labels of a catalogue: calibrated, kept with a version, and told as users meet them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from indexer.auditing import audit
from indexer.calibrating import LEAVE_ONE_OUT, age_of, calibrate, calibration_of
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.label_evaluating import evaluate_catalogue_labels
from indexer.label_queries import pictures_of
from indexer.labelling import LABELS_SCHEMA, label
from indexer.verification import verify
from retrieval.answers import LABEL, NONE, Asked
from retrieval.errors import BusyError, DamagedError, InputError, NotFoundError
from retrieval.manifest import read_manifest
from tests.conftest import COLOURS, draw_pictures
from tests.embedders import ColourEmbedder, HeadedEmbedder


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Catalogue]:
    """48 drawn pictures in four classes."""
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as made:
        ingest(made, read_manifest(folder))
        yield made


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Other pictures of the same classes."""
    return draw_pictures(tmp_path / "others", per_class=10, seed=7)


def painted(path: Path, colour: tuple[int, int, int]) -> Path:
    Image.fromarray(np.full((40, 48, 3), colour, np.uint8)).save(path)
    return path


def test_labels_of_new_pictures(shop: Catalogue, others: Path) -> None:
    kept = calibrate(shop)
    assert kept.about["source"] == LEAVE_ONE_OUT
    assert (kept.about["items"], kept.about["labels"]) == (48, 4)
    asked = sorted(others.rglob("*.jpg"))
    table = label(shop, images=asked, asked=Asked(coverage=0.8))
    assert table.schema == LABELS_SCHEMA
    for path, row in zip(asked, table.to_pylist(), strict=True):
        assert row["query"] == str(path)
        if row["answer"] == LABEL:
            assert row["label"] in (f"Paint/{path.parent.name}", "Paint")
        assert row["likeliest"] == f"Paint/{path.parent.name}"
        assert row["nearest_label"] == f"Paint/{path.parent.name}"
        assert row["candidates"][0]["label"] == row["likeliest"]
    by_bytes = label(shop, images=[path.read_bytes() for path in asked[:3]])
    assert by_bytes.column("query").to_pylist() == ["image 0", "image 1", "image 2"]
    assert by_bytes.column("likeliest").to_pylist() == table.column("likeliest").to_pylist()[:3]


def test_something_else_is_none_of_these(shop: Catalogue, others: Path, tmp_path: Path) -> None:
    calibrate(shop, pictures=pictures_of(shop, read_manifest(others)))
    stripes = np.zeros((40, 48, 3), np.uint8)
    stripes[:20] = 255  # at right angles to pictures of one colour
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    (row,) = label(shop, images=[tmp_path / "stripes.png"], asked=Asked(false_accept=0.0)).to_pylist()
    assert (row["answer"], row["label"], row["confidence"]) == (NONE, None, None)
    (row,) = label(shop, images=[tmp_path / "stripes.png"], asked=Asked(false_accept=1.0)).to_pylist()
    assert row["answer"] != NONE


def test_an_item_is_left_out_of_its_own_vote(shop: Catalogue) -> None:
    calibrate(shop)
    ids = ["Paint/Red/000.jpg", "Paint/Blue/003.jpg"]
    rows = label(shop, ids=ids).to_pylist()
    assert [row["query"] for row in rows] == ids
    assert all(row["nearest"] != row["query"] and row["similarity"] < 1 - 1e-6 for row in rows)
    with pytest.raises(NotFoundError):
        label(shop, ids=["nobody"])


def test_a_new_item_adds_its_class_at_once(shop: Catalogue, tmp_path: Path) -> None:
    calibrate(shop)
    place = tmp_path / "more" / "Paint" / "Black"
    place.mkdir(parents=True)
    for number in range(4):
        painted(place / f"{number}.png", (number, number, 2 * number))
    ingest(shop, read_manifest(tmp_path / "more"))
    (row,) = label(shop, images=[painted(tmp_path / "dark.png", (3, 1, 2))], asked=Asked(false_accept=1)).to_pylist()
    assert row["likeliest"] == "Paint/Black"


def test_the_head_counts_where_there_is_one(tmp_path: Path, others: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    head = HeadedEmbedder({f"Paint/{name}": colour for name, colour in COLOURS.items()})
    with Catalogue.create(tmp_path / "shop", head) as shop:
        ingest(shop, read_manifest(folder))
        kept = calibrate(shop, pictures=pictures_of(shop, read_manifest(others)))
        assert set(kept.calibration.losses) == {"fusion", "knn", "head"}
        asked = sorted(others.rglob("*.jpg"))
        for source in ("fusion", "knn", "head"):
            table = label(shop, images=asked, asked=Asked(source=source))  # type: ignore[arg-type]
            assert table.column("likeliest").to_pylist() == [f"Paint/{path.parent.name}" for path in asked]
        report, predictions = evaluate_catalogue_labels(shop, kept, pictures=pictures_of(shop, read_manifest(others)))
        assert [one.source for one in report.sources] == ["fusion", "knn", "head"]
        assert all(one.figures[0].value == 1 for one in report.sources)
        assert predictions.num_rows == 40


def test_the_calibration_belongs_to_a_version(shop: Catalogue, others: Path) -> None:
    assert calibration_of(shop) is None
    with pytest.raises(InputError, match="are not calibrated; run lookalike calibrate"):
        label(shop, ids=["Paint/Red/000.jpg"])
    before = shop.version
    first = calibrate(shop)
    after = shop.version
    assert after == before + 1
    second = calibrate(shop, pictures=pictures_of(shop, read_manifest(others)))
    assert calibration_of(shop) == second
    assert second.about["source"] == "others"
    with Catalogue.open(shop.path, version=after, embedder=ColourEmbedder()) as earlier:
        assert calibration_of(earlier) == first
    shop.rollback(after)
    assert calibration_of(shop) == first
    assert [row.as_py() for row in shop.items().column("row")] == list(range(48))
    shop.rollback(before)
    assert calibration_of(shop) is None


def test_a_calibration_ages_with_the_catalogue(shop: Catalogue, others: Path, tmp_path: Path) -> None:
    kept = calibrate(shop)
    assert age_of(shop, kept) is None
    few = tmp_path / "few" / "Paint" / "Red"
    few.mkdir(parents=True)
    painted(few / "x.png", (200, 40, 44))
    ingest(shop, read_manifest(tmp_path / "few"))
    assert age_of(shop, kept) is None  # one of 49
    (tmp_path / "few" / "Paint" / "Ink").mkdir()
    painted(tmp_path / "few" / "Paint" / "Ink" / "y.png", (2, 40, 44))
    ingest(shop, read_manifest(tmp_path / "few"))
    assert "since the calibration of 20" in str(age_of(shop, kept))
    assert " 1 label is new: run lookalike calibrate" in str(age_of(shop, kept))
    assert "0% of the items" not in str(age_of(shop, kept))
    ingest(shop, read_manifest(others, prefix="o-"))
    assert "% of the items have come, gone or changed their label" in str(age_of(shop, kept))


def test_a_damaged_calibration_is_told(shop: Catalogue) -> None:
    calibrate(shop)
    (path,) = (shop.path / "calibration").iterdir()
    assert verify(shop) == []
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DamagedError, match=r"is not what was written; run lookalike calibrate"):
        label(shop, ids=["Paint/Red/000.jpg"])
    (problem,) = verify(shop)
    assert (problem.where, problem.remedy) == ("calibration", f"run lookalike calibrate {shop.path}")
    path.unlink()
    with pytest.raises(DamagedError, match="cannot read the calibration"):
        calibration_of(shop)
    calibrate(shop)
    assert label(shop, ids=["Paint/Red/000.jpg"]).num_rows == 1


def test_a_catalogue_that_is_being_written_is_not_calibrated(shop: Catalogue) -> None:
    with Catalogue.open(shop.path, embedder=ColourEmbedder()) as other, other.writing(), pytest.raises(BusyError):
        calibrate(shop)


def test_unknown_labels_of_calibration_pictures_are_examples_of_the_unknown(
    shop: Catalogue, others: Path, tmp_path: Path
) -> None:
    strange = others / "Paint" / "Stripes"
    strange.mkdir()
    for number in range(6):
        stripes = np.zeros((40, 48, 3), np.uint8)
        stripes[:, :: 2 + number] = (250, 10, 250)
        Image.fromarray(stripes).save(strange / f"{number}.png")
    told: list[str] = []
    kept = calibrate(shop, pictures=pictures_of(shop, read_manifest(others)), notice=told.append)
    assert kept.calibration.pictures == 40
    assert told == [
        "6 pictures of others have labels that no item has, such as 'Paint/Stripes'; they serve as examples of what is "
        "unknown"
    ]


def test_what_is_known_besides_is_multiplied_in(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    rows = [("image", "label", "region")] + [
        (f"{path.relative_to(folder)}", path.parent.name, "north" if path.parent.name in ("Red", "Sand") else "south")
        for path in sorted(folder.rglob("*.jpg"))
    ]
    (folder / "list.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        calibrate(shop)
        between = painted(tmp_path / "between.png", (120, 110, 50))
        north, south = (
            label(shop, images=[between], asked=Asked(false_accept=1), known={"region": region}).to_pylist()[0]
            for region in ("north", "south")
        )
        assert north["likeliest"] in ("Red", "Sand")
        assert south["likeliest"] in ("Green", "Blue")
        with pytest.raises(NotFoundError, match="has no column 'shop'"):
            label(shop, images=[between], known={"shop": "mine"})
        with pytest.raises(InputError, match=r"no labelled item of .* has region 'moon'; they have 'north', 'south'"):
            label(shop, images=[between], known={"region": "moon"})


def test_an_item_has_no_say_in_its_own_prior(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    paths = sorted(folder.rglob("*.jpg"))
    rows = ["image,label,shop"]
    rows += [
        f"{path.relative_to(folder)},{path.parent.name},{'own' if at == 0 else 'any'}" for at, path in enumerate(paths)
    ]
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        calibrate(shop)
        first = shop.items().column("id").to_pylist()[0]
        plain, alone = (label(shop, ids=[first], known=known).to_pylist()[0] for known in (None, {"shop": "own"}))
        assert [one["probability"] for one in alone["candidates"]] == pytest.approx(
            [one["probability"] for one in plain["candidates"]]
        )


def test_values_that_no_item_has_are_told_when_measured(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parent.name[0]}" for path in folder.rglob("*.jpg")]
    (folder / "list.csv").write_text("\n".join(["image,label,initial", *rows]) + "\n")
    asked = [row[:-1] + ("?" if at < 3 else row[-1]) for at, row in enumerate(rows)]
    (folder / "asked.csv").write_text("\n".join(["image,label,initial", *asked]) + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        kept = calibrate(shop)
        pictures = pictures_of(shop, read_manifest(folder / "asked.csv"), columns=["initial"])
        told: list[str] = []
        report, _ = evaluate_catalogue_labels(shop, kept, pictures=pictures, known=pictures.values, notice=told.append)
        assert [one for one in told if "has initial '?'; they have 'B', 'G', 'R', 'S'" in one]
        assert "given initial" in report.protocol


def test_pictures_that_are_items_have_no_say_in_their_own_prior(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=12)
    paths = sorted(folder.rglob("*.jpg"))
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.stem}{path.parent.name}" for path in paths]
    (folder / "list.csv").write_text("\n".join(["image,label,shop", *rows]) + "\n")
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder / "list.csv"))
        kept = calibrate(shop)
        pictures = pictures_of(shop, read_manifest(folder / "list.csv"), columns=["shop"])
        plain, alone = (
            evaluate_catalogue_labels(shop, kept, pictures=pictures, known=known)[1].column("confidence").to_pylist()
            for known in (None, pictures.values)
        )
        assert alone == pytest.approx(plain)  # each is the only item of its shop


def test_figures_of_what_the_calibration_was_fitted_on_are_told(shop: Catalogue, others: Path, tmp_path: Path) -> None:
    calibrate(shop, pictures=pictures_of(shop, read_manifest(others)))
    kept = calibration_of(shop)
    assert kept is not None
    mixed = draw_pictures(tmp_path / "mixed", per_class=3, seed=11)
    shutil.copy(others / "Paint" / "Red" / "000.jpg", mixed / "Paint" / "Red" / "seen.jpg")
    told: list[str] = []
    report, _ = evaluate_catalogue_labels(
        shop, kept, pictures=pictures_of(shop, read_manifest(mixed)), notice=told.append
    )
    assert told == [
        "the calibration was fitted on 1 of these 13 pictures: the figures flatter a little; measure with others"
    ]
    assert report.protocol.endswith(", on 1 of which the calibration was fitted")
    (mixed / "Paint" / "Red" / "seen.jpg").unlink()
    told.clear()
    report, _ = evaluate_catalogue_labels(
        shop, kept, pictures=pictures_of(shop, read_manifest(mixed)), notice=told.append
    )
    assert not told and "fitted" not in report.protocol


def test_items_that_cannot_be_asked_of_the_others_are_told(shop: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "few" / "Paint" / "Ink").mkdir(parents=True)
    painted(tmp_path / "few" / "Paint" / "Ink" / "x.png", (2, 40, 44))
    ingest(shop, read_manifest(tmp_path / "few"))
    told: list[str] = []
    report, _ = evaluate_catalogue_labels(shop, calibrate(shop), notice=told.append)
    assert (report.queries, report.items) == (48, 49)
    assert "1 item is the only picture of its label, and cannot be asked of the others" in told
    assert report.protocol.endswith(", on which the calibration was fitted")


def test_one_item_a_label_is_enough_with_other_pictures_to_calibrate_on(tmp_path: Path, others: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", per_class=1)
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(folder))
        with pytest.raises(InputError, match="has 0 items whose label another item has too"):
            calibrate(shop)
        calibrate(shop, pictures=pictures_of(shop, read_manifest(others)))
        asked = sorted(others.rglob("*.jpg"))
        found = label(shop, images=asked, asked=Asked(coverage=0.8))
        assert found.column("likeliest").to_pylist() == [f"Paint/{path.parent.name}" for path in asked]


def test_labels_without_a_picture_to_calibrate_on_are_told(shop: Catalogue, others: Path) -> None:
    shutil.rmtree(others / "Paint" / "Blue")
    told: list[str] = []
    calibrate(shop, pictures=pictures_of(shop, read_manifest(others)), notice=told.append)
    assert told == [
        "1 of 4 labels have no picture in others, such as 'Paint/Blue': how sure they are is taken from the others, "
        "and sets by label cannot be had"
    ]
    with pytest.raises(InputError, match="need 4 pictures to be calibrated on, and of Paint/Blue there are 0"):
        label(shop, ids=["Paint/Red/000.jpg"], asked=Asked(coverage=0.8, by_label=True))


def test_pictures_of_which_no_label_is_known_are_told_before_anything_is_embedded(
    shop: Catalogue, others: Path
) -> None:
    (others / "Paint").rename(others / "Ink")
    seen = shop.embedder().seen  # type: ignore[attr-defined]
    with pytest.raises(
        InputError, match=r"no picture of .*others has a label that an item of .*; theirs are such as 'Ink"
    ):
        pictures_of(shop, read_manifest(others))
    assert shop.embedder().seen == seen  # type: ignore[attr-defined]


def test_pictures_that_are_items_are_told(shop: Catalogue, tmp_path: Path) -> None:
    told: list[str] = []
    calibrate(shop, pictures=pictures_of(shop, read_manifest(tmp_path / "pictures")), notice=told.append)
    assert told == [
        "48 of 48 pictures of pictures are items of the catalogue; each is asked of the others, as without --on"
    ]


def test_the_version_that_is_told_is_the_one_that_has_it(shop: Catalogue) -> None:
    kept = calibrate(shop)
    assert kept.about["version"] == shop.version
    with Catalogue.open(shop.path, version=shop.version, embedder=ColourEmbedder()) as same:
        assert calibration_of(same) == kept


def test_an_embedder_that_has_learned_the_items_is_too_sure_of_them(tmp_path: Path, others: Path) -> None:
    learned = ColourEmbedder(provenance={"training": {"pictures": 48, "source": "pictures"}})
    with Catalogue.create(tmp_path / "shop", learned) as shop:
        ingest(shop, read_manifest(draw_pictures(tmp_path / "pictures", per_class=12)))
        told: list[str] = []
        kept = calibrate(shop, notice=told.append)
        assert told == [kept.about["caution"]]
        assert "was trained on 48 images of pictures" in told[0] and "--on SOURCE" in told[0]
        found: list[str] = []
        audit(shop, notice=found.append)
        assert "learned by heart are not seen; a short training learns fewer" in found[0]
        assert calibrate(shop, pictures=pictures_of(shop, read_manifest(others))).about["caution"] is None


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([None] * 4, "no item of .* has a label; index a folder"),
        (["one"] * 4, "all items of .* have the label 'one'; there is nothing to tell apart"),
        (["a", "a//b", "a", "c"], r"the label 'a//b' has an empty part in its path"),
        (["a", "a//b", "a", "c/"], r"as those of 2 items of .*shop have, such as '1.png'; mend the source and index"),
        (
            ["a", "a", "b", "b"],
            "has 4 items whose label another item has too, and a calibration needs 20; calibrate on",
        ),
        (["a", "b", "c", "d"], r"has 0 items whose label .*lookalike calibrate .*shop --on SOURCE"),
    ],
)
def test_labels_that_cannot_be_calibrated(labels: list[str | None], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        painted(folder / f"{number}.png", (number * 60, 200 - number * 50, 90))
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        manifest = read_manifest(folder)
        table = manifest.table.set_column(
            manifest.table.column_names.index("label"), "label", pa.array(labels, pa.string())
        )
        ingest(shop, replace(manifest, table=table))
        before = shop.version
        with pytest.raises(InputError, match=said):
            calibrate(shop)
        assert shop.version == before
        assert not (shop.path / "calibration").exists()
