"""Items taken out of a catalogue, and the views that follow."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.items import ITEMS_SCHEMA
from indexer.search import search
from indexer.verification import verify
from retrieval.errors import NotFoundError
from retrieval.manifest import read_manifest
from tests.embedders import ColourEmbedder


class CatalogueAgainstDict(RuleBasedStateMachine):
    """Adds, removes, brings back, rolls back and opens anew, beside a dict of id → row."""

    def __init__(self):
        super().__init__()
        self.place = Path(tempfile.mkdtemp()) / "catalogue"
        self.catalogue = Catalogue.create(self.place, ColourEmbedder())
        self.model: dict[str, int] = {}
        self.versions: dict[int, dict[str, int]] = {self.catalogue.version: {}}
        self.given = 0
        self.removed = pa.table({})

    def teardown(self):
        self.catalogue.close()
        shutil.rmtree(self.place.parent)

    def vector(self, row):
        return np.eye(ColourEmbedder.dim)[row % ColourEmbedder.dim]

    @rule(count=st.integers(1, 4))
    def add(self, count):
        ids = [f"{self.given + number} é\n'\"" for number in range(count)]
        digests = [bytes([self.given + number]) * 32 for number in range(count)]
        values = [[None] * count, ids, ids, ["/s"] * count, digests, [1] * count, [1] * count, [None] * count]
        schema = ITEMS_SCHEMA.set(0, ITEMS_SCHEMA.field("row").with_nullable(True))
        with self.catalogue.writing():
            self.catalogue.vectors.append(digests, np.stack([self.vector(self.given + n) for n in range(count)]))
            self.catalogue.commit(pa.table(values, schema=schema))
        self.model |= {id: self.given + number for number, id in enumerate(ids)}
        self.given += count
        self.versions[self.catalogue.version] = dict(self.model)

    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True)) if self.model else []
        items = self.catalogue.items()
        self.removed = items.filter(pc.is_in(items.column("id"), value_set=pa.array(ids, pa.string())))
        before = self.catalogue.version
        with self.catalogue.writing():
            assert self.catalogue.remove(ids) == self.catalogue.version == before + bool(ids)
        for id in ids:
            del self.model[id]
        self.versions[self.catalogue.version] = dict(self.model)

    @rule()
    def bring_back(self):
        if self.removed.num_rows and not set(self.removed.column("id").to_pylist()) & set(self.model):
            with self.catalogue.writing():
                self.catalogue.commit(self.removed)
            self.model |= dict(
                zip(self.removed.column("id").to_pylist(), self.removed.column("row").to_pylist(), strict=True)
            )
            self.versions[self.catalogue.version] = dict(self.model)

    @rule(data=st.data())
    def roll_back(self, data):
        earlier = sorted(self.versions)[:-1]
        if not earlier:
            return
        version = data.draw(st.sampled_from(earlier))
        self.catalogue.rollback(version)
        self.model = dict(self.versions[version])
        self.versions[self.catalogue.version] = dict(self.model)

    @rule()
    def open_anew(self):
        self.catalogue.close()
        self.catalogue = Catalogue.open(self.place, embedder=ColourEmbedder())

    @invariant()
    def is_as_the_dict(self):
        items = self.catalogue.items(["id", "row"])
        assert dict(zip(items.column("id").to_pylist(), items.column("row").to_pylist(), strict=True)) == self.model
        assert len(self.catalogue.index()) == len(self.model)
        for id, row in list(self.model.items())[-2:]:
            nearest, _ = self.catalogue.index().search(self.vector(row).astype(np.float32)[None], 1)
            assert (nearest[0, 0] - row) % ColourEmbedder.dim == 0, id
        assert verify(self.catalogue) == []


CatalogueAgainstDict.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestCatalogueAgainstDict = CatalogueAgainstDict.TestCase


def test_removed_items_are_not_found_and_earlier_versions_still_show_them(
    catalogue: Catalogue, embedder: ColourEmbedder
) -> None:
    before, red = catalogue.version, [f"Paint/Red/{number:03d}.jpg" for number in range(6)]
    with catalogue.writing():
        version = catalogue.remove(red)
    assert version == before + 1
    assert catalogue.items().num_rows == 18
    assert not set(search(catalogue, ids=["Paint/Sand/000.jpg"], k=24).column("id").to_pylist()) & set(red)
    with Catalogue.open(catalogue.path, version=before, embedder=embedder) as earlier:
        assert earlier.items().num_rows == len(earlier.index()) == 24
    assert verify(catalogue) == []


def test_what_indexing_brings_back_gets_another_row(
    catalogue: Catalogue, embedder: ColourEmbedder, picture_folder: Path
) -> None:
    with catalogue.writing():
        catalogue.remove(["Paint/Red/000.jpg"])
    seen = embedder.seen
    assert ingest(catalogue, read_manifest(picture_folder)).added == 1
    assert embedder.seen == seen
    assert catalogue.items().column("row").to_pylist()[-1] == 24


def test_an_unknown_id_is_named_and_nothing_is_removed(catalogue: Catalogue) -> None:
    version = catalogue.version
    with catalogue.writing(), pytest.raises(NotFoundError, match=r"no item with the id 'nowhere'; nothing was changed"):
        catalogue.remove(["Paint/Red/000.jpg", "nowhere"])
    assert (catalogue.version, catalogue.items().num_rows) == (version, 24)


@pytest.mark.parametrize("spec", ["Flat", "IVF2,Flat", "HNSW8", "IVF2,PQ4x4fs"])
def test_a_stored_view_follows_items_that_go_and_come_back(
    tmp_path: Path, picture_folder: Path, embedder: ColourEmbedder, spec: str
) -> None:
    pytest.importorskip("faiss")
    with Catalogue.create(tmp_path / "made", embedder, index=spec) as made:
        ingest(made, read_manifest(picture_folder))
        items = made.items()
        gone = items.slice(3, 5)
        with made.writing():
            made.remove(gone.column("id").to_pylist())
            made.settle()
    with Catalogue.open(tmp_path / "made", embedder=embedder) as opened:
        assert len(opened.index()) == 19
        with opened.writing():
            opened.commit(gone)
            opened.settle()
    with Catalogue.open(tmp_path / "made", embedder=embedder) as opened:
        assert opened.items().equals(items)
        assert len(opened.index()) == 24
        vectors, _ = opened.vectors.read(items.column("sha256"))
        if "PQ" not in spec:
            if "IVF" in spec:
                opened.index().nprobe = 2
            found, _ = opened.index().search(vectors.astype(np.float32), 1)
            np.testing.assert_array_equal(found[:, 0], items.column("row").to_numpy())
        assert verify(opened) == []
