"""Candidates: what may be a copy of what, by its vector, other views and its layout."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from indexer import candidates
from indexer.candidates import CANDIDATES, LAYOUTS, Finder, look, look_at_items, look_at_pixels, new_items
from indexer.catalogue import Catalogue
from indexer.fingerprints import Fingerprints
from indexer.layouts import LAYOUTS_SCHEMA
from tests.embedders import Blind, ColourEmbedder
from tests.indexer.copies import EDITS, draw, indexed, jpeg, on_page, photo, save


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Catalogue]:
    with indexed(draw(tmp_path / "pictures", {number: () for number in range(6)}), tmp_path / "shop") as catalogue:
        yield catalogue


def looked(catalogue: Catalogue, folder: Path, effort: str = "usual") -> Fingerprints:
    fingerprints = Fingerprints(folder)
    with ThreadPoolExecutor(2) as pool:
        look_at_items(catalogue, fingerprints, effort=effort, pool=pool, progress=lambda _: None, notice=lambda _: None)
    return fingerprints


def pairs_of(fingerprints: Fingerprints) -> set[frozenset[bytes]]:
    """Who is to be compared with whom, whichever of the two found the other."""
    pairs = set()
    for row in fingerprints.columns(["sha256", "candidates"]).to_pylist():
        for at in range(0, len(row["candidates"]), 32):
            pairs.add(frozenset((row["sha256"], row["candidates"][at : at + 32])))
    return pairs


def digests(catalogue: Catalogue) -> dict[str, bytes]:
    return dict(zip(*catalogue.items(["id", "sha256"]).to_pydict().values(), strict=True))


@pytest.mark.parametrize("edit", list(EDITS))
def test_the_original_is_among_the_candidates_of_a_copy(shop: Catalogue, tmp_path: Path, edit: str) -> None:
    fingerprints, embedder = looked(shop, tmp_path / "looked"), ColourEmbedder()
    data = jpeg(EDITS[edit](photo(2)))
    seen = look(data, hashlib.sha256(data).digest(), embedder, "usual")
    stored = embedder.embed([EDITS[edit](photo(2))])
    (found,) = Finder(shop, fingerprints).find([seen], stored, embedder, remember=False)
    assert digests(shop)["2/photo.png"] in found
    if edit in ("saved", "recoloured", "smaller"):
        assert next(iter(found)) == digests(shop)["2/photo.png"]
        assert found[digests(shop)["2/photo.png"]] > 0.9


def test_every_picture_has_others_and_not_itself(shop: Catalogue, tmp_path: Path) -> None:
    fingerprints = looked(shop, tmp_path / "looked")
    for row in fingerprints.columns(["sha256", "candidates", "similarities"]).to_pylist():
        keys = [row["candidates"][at : at + 32] for at in range(0, len(row["candidates"]), 32)]
        assert 0 < len(keys) <= CANDIDATES + LAYOUTS
        assert row["sha256"] not in keys and len(set(keys)) == len(keys)
        assert set(keys) <= set(digests(shop).values())
        cosine = np.frombuffer(row["similarities"], "<f4")
        assert len(cosine) == len(keys)
        told = {key: value for key, value in zip(keys, cosine.tolist(), strict=True) if not np.isnan(value)}
        vectors, _ = shop.vectors.read(pa.array([row["sha256"], *told], pa.binary()))
        wide = vectors.astype(np.float32)
        np.testing.assert_allclose(wide[1:] @ wide[0], list(told.values()), atol=2e-3)


def test_a_hundred_copies_of_one_file_are_one_candidate(tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", {0: ("cut",), 1: ()})
    for number in range(20):
        shutil.copy(folder / "1/photo.png", folder / f"1/{number}.png")
    with indexed(folder, tmp_path / "shop") as catalogue:
        assert new_items(catalogue, Fingerprints(tmp_path / "none")).num_rows == 3
        fingerprints = looked(catalogue, tmp_path / "looked")
        assert len(fingerprints) == 3
        cut = fingerprints.row(digests(catalogue)["0/cut.jpg"], ["candidates"])["candidates"]
        assert digests(catalogue)["0/photo.png"] in {cut[at : at + 32] for at in range(0, len(cut), 32)}


def test_layouts_find_what_was_mirrored_in_the_same_block_and_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the layout alone: the embedder sees nothing."""
    monkeypatch.setattr(candidates, "NEAREST", 0)
    folder = draw(tmp_path / "pictures", {0: ("mirrored", "turned"), 1: (), 2: (), 3: ("mirrored",)})
    with indexed(folder, tmp_path / "shop", Blind()) as catalogue:
        keys = digests(catalogue)
        for block in (128, 2):
            monkeypatch.setattr(candidates, "BLOCK", block)
            fingerprints = looked(catalogue, tmp_path / str(block), "quick")
            pairs = pairs_of(fingerprints)
            for one, other in (("0", "mirrored"), ("0", "turned"), ("3", "mirrored")):
                assert frozenset((keys[f"{one}/photo.png"], keys[f"{one}/{other}.jpg"])) in pairs, block


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Twelve photos, and three of them on white pages."""
    folder = draw(tmp_path / "pictures", {number: () for number in range(12)})
    for number, place in ((2, (40, 560)), (5, (380, 100)), (9, (200, 300))):
        save(folder / str(number) / "page.png", on_page(photo(number), place=place))
    return folder


def assert_pages_are_found(catalogue: Catalogue, fingerprints: Fingerprints) -> None:
    keys, pairs = digests(catalogue), pairs_of(fingerprints)
    for number in (2, 5, 9):
        assert frozenset((keys[f"{number}/photo.png"], keys[f"{number}/page.png"])) in pairs, number


@pytest.mark.parametrize("effort", ["quick", "usual", "thorough"])
def test_the_photo_on_a_page_is_found_by_its_vector(
    tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch, effort: str
) -> None:
    """By vectors alone, where the page itself is nearest to the other pages."""
    monkeypatch.setattr(candidates, "NEAREST", 1)
    monkeypatch.setattr(candidates, "LAYOUTS", 0)
    with indexed(pages, tmp_path / "shop") as catalogue:
        assert_pages_are_found(catalogue, looked(catalogue, tmp_path / "looked", effort))


@pytest.mark.parametrize("first", ["page.png", "photo.png"])
def test_the_photo_on_a_page_is_found_by_its_layout_whichever_comes_first(
    tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(candidates, "NEAREST", 0)
    monkeypatch.setattr(candidates, "LAYOUTS", 2)
    later = tmp_path / "later"
    for path in sorted(pages.rglob("*.png")):
        if path.name != first:
            (later / path.parent.name).mkdir(parents=True)
            path.rename(later / path.parent.name / path.name)
    with indexed(pages, tmp_path / "shop", Blind()) as catalogue:
        looked(catalogue, tmp_path / "looked", "quick")
    with indexed(later, tmp_path / "shop", Blind()) as catalogue:
        assert_pages_are_found(catalogue, looked(catalogue, tmp_path / "looked", "quick"))


def test_only_what_is_still_there_is_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gone would take the places of what is there."""
    monkeypatch.setattr(candidates, "NEAREST", 0)
    monkeypatch.setattr(candidates, "LAYOUTS", 1)
    with indexed(draw(tmp_path / "pictures", {0: ("saved",), 1: ()}), tmp_path / "shop", Blind()) as catalogue:
        looked(catalogue, tmp_path / "looked", "quick")
        keys = digests(catalogue)
        with catalogue.writing():
            catalogue.remove(["0/saved.jpg"])
    save(tmp_path / "later" / "again.jpg", photo(0), quality=86)
    with indexed(tmp_path / "later", tmp_path / "shop", Blind()) as catalogue:
        pairs = pairs_of(looked(catalogue, tmp_path / "looked", "quick"))
        again = digests(catalogue)["again.jpg"]
    assert frozenset((again, keys["0/photo.png"])) in pairs
    assert frozenset((again, keys["0/saved.jpg"])) not in pairs


@pytest.mark.parametrize("twice", [False, True])
def test_what_becomes_an_item_is_found_without_a_new_finder(tmp_path: Path, twice: bool) -> None:
    folder = draw(tmp_path / "pictures", {number: () for number in range(6)})
    if twice:  # then not all rows are searched
        shutil.copy(folder / "1/photo.png", folder / "1/again.png")
    embedder = ColourEmbedder()
    pixels = EDITS["cut"](photo(7))
    data = jpeg(pixels)
    seen = look(data, hashlib.sha256(data).digest(), embedder, "usual")
    stored = embedder.embed([pixels])
    with indexed(folder, tmp_path / "shop") as catalogue:
        fingerprints = looked(catalogue, tmp_path / "looked")
        finder = Finder(catalogue, fingerprints)
        assert len(finder.find([seen], stored, embedder, remember=False)[0]) <= 6
        with indexed(draw(folder, {number: () for number in range(6, 9)}), tmp_path / "shop") as grown:
            keys = [digests(grown)[f"{number}/photo.png"] for number in range(6, 9)]
            vectors, _ = grown.vectors.read(pa.array(keys, pa.binary()))
            known = looked(grown, tmp_path / "looked")
            finder.add([known.row(key, LAYOUTS_SCHEMA.names) for key in keys], vectors)
            (found,) = finder.find([seen], stored, embedder, remember=False)
            (expected,) = Finder(grown, known).find([seen], stored, embedder, remember=False)
        assert keys[1] in found
        assert list(found) == list(expected)
        np.testing.assert_array_equal(list(found.values()), list(expected.values()))


@pytest.mark.parametrize("twice", [False, True])
def test_what_is_gone_is_found_no_longer_until_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    monkeypatch.setattr(candidates, "NEAREST", 0)  # one neighbour
    monkeypatch.setattr(candidates, "LAYOUTS", 1)
    folder = draw(tmp_path / "pictures", {number: () for number in range(6)})
    if twice:
        shutil.copy(folder / "1/photo.png", folder / "1/again.png")
    embedder, data = ColourEmbedder(), jpeg(photo(2))
    seen, stored = look(data, hashlib.sha256(data).digest(), embedder, "quick"), embedder.embed([photo(2)])
    with indexed(folder, tmp_path / "shop") as catalogue:
        known, two = looked(catalogue, tmp_path / "looked", "quick"), digests(catalogue)["2/photo.png"]
        finder = Finder(catalogue, known)

        def found() -> set[bytes]:
            (keys,) = finder.find([seen], stored, embedder, remember=False)
            return set(keys)

        before = found()
        assert two in before
        finder.forget({two})
        now = found()
        assert now and two not in now  # others have its places
        vectors, _ = catalogue.vectors.read(pa.array([two], pa.binary()))
    with indexed(draw(folder, {6: ()}), tmp_path / "shop"):
        finder.add([known.row(two, LAYOUTS_SCHEMA.names)], vectors)
        assert found() == before


def test_the_background_stays_a_sample_of_all(shop: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "BACKGROUND", 8)
    new = np.eye(ColourEmbedder.dim, dtype=np.float16)[:18]
    shares = []
    for seed in range(40):
        finder = Finder(shop, Fingerprints(tmp_path / "none"), seed=seed)
        for number in range(18):
            finder.add([{"sha256": bytes([number]) * 32}], new[number : number + 1])
            shop.index().remove(np.array([6 + number]))  # the same index, for the next finder
        assert finder._background.shape == (8, ColourEmbedder.dim)
        shares.append((finder._background == 1).any(axis=1).mean())
    # Eighteen of 24 are new.
    assert 0.65 < np.mean(shares) < 0.85


@pytest.mark.parametrize("number", range(4))
def test_more_contrast_is_not_sharper_and_a_blur_is_less_sharp(number: int) -> None:
    def sharpness(pixels: np.ndarray) -> float:
        return float(look_at_pixels(pixels, bytes(32), ColourEmbedder(), "quick").row["sharpness"])

    pixels = photo(number) // 2 + 64  # none of it is cut off
    stronger = np.clip(1.5 * (pixels.astype(float) - 128) + 128, 0, 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))
    ratio = sharpness(stronger) / sharpness(pixels)
    assert 0.9 < ratio < 1.1  # a rule that tells by the root of two is not moved
    assert sharpness(blurred) < 0.5 * sharpness(pixels)
    assert sharpness(np.full((60, 80, 3), 90, np.uint8)) == 0


def test_into_nothing(tmp_path: Path) -> None:
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as catalogue:
        fingerprints = Fingerprints(tmp_path / "looked")
        data = jpeg(photo(0))
        seen = look(data, hashlib.sha256(data).digest(), ColourEmbedder(), "usual")
        stored = ColourEmbedder().embed([photo(0)])
        assert Finder(catalogue, fingerprints).find([seen], stored, ColourEmbedder()) == [{}]
        assert Finder(catalogue, fingerprints).find([], stored[:0], ColourEmbedder()) == []
        assert new_items(catalogue, fingerprints).num_rows == 0
