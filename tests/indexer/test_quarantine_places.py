"""Where files are moved to: each folder's own hidden one or the one that was named; gone once all is back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.journal import runs
from indexer.place import Called
from indexer.quarantine import apply_decisions
from indexer.undoing import undo
from retrieval.errors import BusyError, CatalogueError, InputError, NotFoundError
from retrieval.folders import ASIDE
from tests.embedders import ColourEmbedder
from tests.indexer.files import GO, add, catalogue_of, decided, items_of, reasons, tree, write

BOTH = {"b.jpg": "a.jpg", "below/c d.jpg": "a.jpg", "more/x.jpg": "a.jpg"}


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return write(tmp_path / "more of them", {"x.jpg": b"A", "y.jpg": b"Y"})


@pytest.fixture
def two(tmp_path: Path, photos: Path, more: Path) -> Iterator[Catalogue]:
    """What is kept for two folders, which were named by relative paths."""
    with catalogue_of(tmp_path / "cache", photos) as made:
        add(made, more, {"more/x.jpg": "x.jpg", "more/y.jpg": "y.jpg"})
        made.called = Called((Path("photos"), Path("more of them")), kept=True)
        yield made


def folders(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir())


def test_files_of_each_folder_are_set_aside_in_it_and_come_back(two: Catalogue, photos: Path, more: Path) -> None:
    before, items = (tree(photos), tree(more), folders(photos), folders(more)), items_of(two)
    done = apply_decisions(two, decided(BOTH), action="move")
    assert done.quarantines == (more / ASIDE / done.run, photos / ASIDE / done.run)
    assert {path.rpartition("/")[2] for path in tree(photos / ASIDE)} == {"b.jpg", "c d.jpg"}
    assert {path.rpartition("/")[2] for path in tree(more / ASIDE)} == {"x.jpg"}
    assert tree(two.path / "quarantine") == {}
    assert runs(two)[0].quarantines == done.quarantines
    json.dumps([done.to_dict(), runs(two)[0].to_dict()])
    assert undo(two).files == 3
    assert (tree(photos), tree(more), folders(photos), folders(more)) == before  # and no empty folder is left
    assert items_of(two) == items


def test_a_folder_of_which_nothing_is_moved_gets_no_quarantine(two: Catalogue, photos: Path, more: Path) -> None:
    (more / "x.jpg").chmod(0o600)
    (more / "x.jpg").write_bytes(b"changed")
    done = apply_decisions(two, decided(BOTH), action="move")
    assert reasons(done) == {"more/x.jpg": "its file has other bytes than when it was indexed"}
    assert done.quarantines == (photos / ASIDE / done.run,)
    assert folders(more) == []


def test_what_somebody_put_into_a_quarantine_keeps_it(two: Catalogue, photos: Path, more: Path) -> None:
    apply_decisions(two, decided(BOTH), action="move")
    (photos / ASIDE / "mine.txt").write_text("mine")
    undo(two)
    assert (photos / ASIDE / "mine.txt").read_text() == "mine"
    assert folders(photos / ASIDE) == []
    assert not (more / ASIDE).exists()


def test_a_quarantine_that_was_named_goes_with_the_last_run_if_it_was_made_for_one(
    small: Catalogue, photos: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    made = there / "far" / "away"
    one = apply_decisions(small, decided({"b.jpg": "a.jpg"}), action="move", quarantine=made)
    two = apply_decisions(small, decided({"below/c d.jpg": "a.jpg"}), action="move", quarantine=made)
    undo(small, run=one.run)
    assert (made / two.run).is_dir()
    undo(small)
    assert list(there.iterdir()) == []
    apply_decisions(small, decided(GO), action="move", quarantine=there)
    undo(small)
    assert there.is_dir()


def test_the_catalogues_own_quarantine_goes_too(small: Catalogue) -> None:
    apply_decisions(small, decided(GO), action="move")
    undo(small)
    assert not (small.path / "quarantine").exists()


def test_no_file_is_moved_through_a_symlink_out_of_its_folder(two: Catalogue, photos: Path, more: Path) -> None:
    (photos / ASIDE).symlink_to(more)
    before = tree(photos), tree(more)
    with pytest.raises(InputError, match=r"\.lookalike-quarantine is a symlink"):
        apply_decisions(two, decided(BOTH), action="move")
    assert (tree(photos), tree(more)) == before


def test_one_that_cannot_be_made_leaves_none_behind(two: Catalogue, photos: Path, more: Path) -> None:
    before = tree(photos), tree(more), folders(photos)
    with pytest.MonkeyPatch.context() as patched:
        real = Path.mkdir

        def full(path: Path, *given: object, **asked: object) -> None:
            if path.parent == photos / ASIDE:  # the run's, and that above it is made
                raise PermissionError(13, "Permission denied", str(path))
            real(path, *given, **asked)  # type: ignore[arg-type]

        patched.setattr(Path, "mkdir", full)
        with pytest.raises(CatalogueError, match=r"cannot write .*\.lookalike-quarantine"):
            apply_decisions(two, decided(BOTH), action="move")
    assert (tree(photos), tree(more), folders(photos)) == before
    assert folders(more) == [] and runs(two) == []


def test_files_of_a_run_whose_journal_is_lost_are_told_where_they_stand(
    two: Catalogue, photos: Path, more: Path
) -> None:
    two.called = Called((photos, more), kept=True)
    done = apply_decisions(two, decided({"b.jpg": "a.jpg"}), action="move")
    with pytest.raises(NotFoundError, match=r"has no run '0001' .*applied\)$"):  # and no word of where it is
        undo(two, run="0001")
    assert done.journal is not None
    done.journal.rename(done.journal.with_suffix(".lost"))
    (more / ASIDE / "0007-20200101T000000Z").mkdir(parents=True)  # nothing is in it
    where = re.escape(str(photos / ASIDE / str(done.run)))
    told = rf"there are no runs, but copies stand in {where}, set aside by a run that is not known any more.* by hand"
    with pytest.raises(NotFoundError, match="has no run of duplicates to undo: " + told):
        undo(two)
    with pytest.raises(NotFoundError, match="has no run '0001' of duplicates; " + told):
        undo(two, run="0001")
    (aside,) = (photos / ASIDE / str(done.run)).iterdir()
    assert set(tree(aside)) == {"b.jpg"}  # under the path that it had
    done.journal.with_suffix(".lost").rename(done.journal)
    assert undo(two).files == 1
    with pytest.raises(NotFoundError, match=r"undone\)$"):
        undo(two)


def test_a_journal_of_one_quarantine_for_all_is_still_undone(small: Catalogue, photos: Path) -> None:
    before = tree(photos)
    done = apply_decisions(small, decided(GO), action="move")
    first, _, rest = done.journal.read_bytes().partition(b"\n")
    header = json.loads(first)
    place = header["quarantine"][str(photos)]
    old = {**header, "format": 1, "quarantine": place}
    del old["made"]
    done.journal.write_bytes(json.dumps(old).encode() + b"\n" + rest)
    assert runs(small)[0].quarantines == done.quarantines
    assert undo(small).files == 2
    assert tree(photos) == before


def test_what_is_kept_for_folders_is_called_by_their_names(two: Catalogue) -> None:
    with pytest.raises(
        NotFoundError, match=r"^photos and more of them has no run of duplicates to undo: there are no runs$"
    ):
        undo(two)
    done = apply_decisions(two, decided(BOTH), action="move")
    whole = done.journal.read_bytes()
    done.journal.write_bytes(whole[: whole.index(b'{"applied"')])
    with pytest.raises(
        CatalogueError,
        match=r"of photos and more of them was interrupted; bring it back with lookalike duplicates photos "
        r"'more of them' --undo, then",
    ):
        apply_decisions(two, decided({"more/y.jpg": "a.jpg"}, "copy"), action="move")
    with (
        Catalogue.open(two.path, embedder=ColourEmbedder()) as other,
        other.writing(),
        pytest.raises(BusyError, match="another process is at work on photos and more of them"),
    ):
        undo(two)
