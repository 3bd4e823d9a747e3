"""What is asked of the labels of a catalogue: its own items, and other pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexer.calibrating import calibrate
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.label_queries import Pictures, each_item, each_picture, held_out, same_bytes_numbers
from indexer.voters import Voters
from retrieval import calibration
from retrieval.calibration import fit
from retrieval.labels import Vocabulary
from retrieval.manifest import read_manifest
from tests.conftest import draw_pictures
from tests.embedders import ColourEmbedder
from tests.retrieval.crowds import crowd


@pytest.fixture
def voters() -> Voters:
    """A crowd of which the second image has the bytes of the first, and the last label one image only."""
    gallery = crowd(0, classes=8, each=8)
    digests = [b"%d" % max(1, at) for at in range(len(gallery.codes))]
    vocabulary = Vocabulary.of(gallery.labels, gallery.counts)
    return Voters(gallery, vocabulary, [f"{at:03d}" for at in range(len(digests))], digests)


def test_each_item_by_the_others_and_none_by_its_copies(voters: Voters) -> None:
    only_copies = Voters(voters.gallery, voters.vocabulary, voters.ids, [*voters.digests[:-2], b"same", b"same"])
    asked, fewer = each_item(voters), each_item(only_copies)
    assert asked.places.tolist() == list(range(len(voters.ids)))
    assert asked.groups[0][0] == asked.groups[1][1]
    assert fewer.ids == voters.ids[:-2]  # of the last label all pictures are one
    assert fewer.labels == [voters.vocabulary.labels[code] for code in fewer.codes.tolist()]


def test_other_pictures_do_not_find_their_own_bytes(voters: Voters) -> None:
    pictures = Pictures(
        "x", voters.gallery.vectors[:3], ["Kind0/00", "Kind9/99", "Kind0/00"], [b"1", b"a", b"b"], "abc"
    )
    asked = each_picture(pictures, voters)
    assert asked.codes.tolist() == [0, -1, 0]
    assert asked.groups[0][0] == asked.groups[1][0] == asked.groups[1][1]
    assert not set(asked.groups[0][1:].tolist()) & set(asked.groups[1].tolist())


def test_so_many_are_drawn_of_known_and_of_unknown(voters: Voters) -> None:
    asked = each_item(voters)
    whole = asked.drawn(1000)
    np.testing.assert_array_equal(whole.places, asked.places)
    few = asked.drawn(5)
    assert len(few.codes) == len(few.ids) == 5 and (np.diff(few.places) > 0).all()
    assert few.ids == [asked.ids[at] for at in few.places.tolist()]
    np.testing.assert_array_equal(few.groups[0], asked.groups[0][few.places])
    assert asked.drawn(5).ids == few.ids != asked.drawn(5, seed=1).ids
    strange = Pictures("x", voters.gallery.vectors[:9], ["new"] * 9, [b"%d" % at for at in range(50, 59)], "a" * 9)
    assert each_picture(strange, voters).drawn(4).codes.tolist() == [-1] * 4


def test_no_more_is_gathered_than_a_fit_looks_at(voters: Voters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.label_queries.MOST", 30)
    held = held_out(each_item(voters), voters, device="cpu")
    assert len(held.codes) == len(held.evidence) == len(held.foreign) == 30
    monkeypatch.setattr(calibration, "MOST", 30)
    assert fit(held, voters.vocabulary).pictures == 30


def test_a_large_catalogue_is_calibrated_on_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.label_queries.MOST", 25)
    with Catalogue.create(tmp_path / "shop", ColourEmbedder()) as shop:
        ingest(shop, read_manifest(draw_pictures(tmp_path / "pictures", per_class=12)))
        kept = calibrate(shop)
        assert (kept.calibration.pictures, kept.about["items"]) == (25, 48)


def test_equal_bytes_have_equal_numbers() -> None:
    first, second = same_bytes_numbers([b"a", b"b", b"a"], [b"c", b"b"])
    assert (first.tolist(), second.tolist()) == ([0, 1, 0], [2, 1])
