"""Neighbours as evidence, against loops over all pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputError
from retrieval.evidence import counted, gather
from retrieval.neighbours import top_k
from tests.retrieval.crowds import crowd, unit


@given(st.integers(0, 1000), st.integers(1, 30))
def test_the_nearest_with_their_labels_and_copies(seed: int, k: int) -> None:
    gallery, queries = crowd(seed, classes=5, each=6), crowd(seed + 1, classes=5, each=3).vectors
    found = gather(queries, gallery, k=k)
    for row, query in enumerate(queries):
        similar = gallery.vectors @ query
        order = sorted(range(len(similar)), key=lambda at: -similar[at])[:k]
        np.testing.assert_allclose(found.similarities[row], similar[order], atol=1e-6)
        assert found.codes[row].tolist() == [gallery.codes[at] for at in found.places[row]]
        for slot, place in enumerate(found.places[row].tolist()):
            nearer = [
                float(gallery.vectors[place] @ gallery.vectors[other])
                for other in found.places[row][:slot].tolist()
                if gallery.codes[other] == gallery.codes[place]
            ]
            assert found.copies[row, slot] == pytest.approx(max(nearer, default=-np.inf), abs=1e-5)


@given(st.integers(0, 1000))
def test_what_bears_the_number_of_the_query_is_not_found(seed: int) -> None:
    gallery = crowd(seed, classes=5, each=6)
    groups = np.arange(len(gallery.codes)) // 2
    found = gather(gallery.vectors, gallery, without=(groups, groups), k=len(groups))
    assert (found.places >= 0).sum(axis=1).tolist() == [int((groups != own).sum()) for own in groups]
    for own, places in zip(groups, found.places, strict=True):
        assert own not in groups[places[places >= 0]]
    without_class = gather(gallery.vectors, gallery, without=(gallery.codes, gallery.codes), k=50)
    assert not (without_class.codes == gallery.codes[:, None]).any()


def test_groups_and_the_query_itself_do_not_go_together() -> None:
    gallery = crowd(0)
    with pytest.raises(InputError, match="leaving out groups needs gallery_groups"):
        top_k(gallery.vectors, gallery.vectors, 1, query_groups=gallery.codes)
    with pytest.raises(InputError, match="and no exclude_self"):
        top_k(
            gallery.vectors,
            gallery.vectors,
            1,
            query_groups=gallery.codes,
            gallery_groups=gallery.codes,
            query_ids=gallery.codes,
            exclude_self=True,
        )


@given(st.integers(0, 1000), st.integers(1, 9), st.sampled_from([0.2, 0.6, 0.9, 2.0]))
def test_of_copies_the_nearest_votes(seed: int, k: int, same_from: float) -> None:
    gallery = crowd(seed, classes=4, each=8)
    evidence = gather(crowd(seed + 1, classes=4, each=3).vectors, gallery, k=20)
    for row, codes in enumerate(counted(evidence, k=k, same_from=same_from).tolist()):
        kept = [slot for slot in range(20) if evidence.copies[row, slot] < same_from][:k]
        assert [slot for slot, code in enumerate(codes) if code >= 0] == kept
        assert all(codes[slot] == evidence.codes[row, slot] for slot in kept)


def test_a_second_copy_changes_no_vote() -> None:
    gallery = crowd(3, classes=3, each=5)
    twice = replace(
        gallery,
        vectors=np.concatenate([gallery.vectors, gallery.vectors[:4]]),
        codes=np.concatenate([gallery.codes, gallery.codes[:4]]),
    )
    query = unit(gallery.vectors[:1] + 0.1)
    once, again = (counted(gather(query, some), k=15, same_from=0.9999) for some in (gallery, twice))
    assert np.bincount(once[once >= 0]).tolist() == np.bincount(again[again >= 0]).tolist()
