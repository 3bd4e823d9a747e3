"""What a training is asked to learn from → the pictures to train on and those held out, never those of a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.opening import read_source
from indexer.report_words import count
from retrieval.errors import InputError, ProtocolError
from retrieval.folders import printable
from retrieval.held_out import CLASSES, IMAGES, check_labels, copies_of, hold_out

if TYPE_CHECKING:
    from retrieval.lesson import Lesson
    from retrieval.manifest import Manifest

NONE: Final = "none"
NOTHING: Final = "nothing is held out, and the last epoch is kept"
UNFIT: Final = "nothing is held out, since the labels are not fit to validate with, and the last epoch is kept"

SOME: Final = 5
TRAIN: Final = frozenset({"train", "training", "trainval"})
VALIDATION: Final = frozenset({"val", "valid", "validation", "dev"})
TEST: Final = frozenset({"test", "testing", "query", "gallery"})


@dataclass(frozen=True)
class Asked:
    """Where the pictures are, and what is held out of them.

    Attributes:
        source: a folder, a table or a list; None with a protocol.
        protocol: name of a benchmark, whose training part is meant.
        task: of the protocol; None: the first that has a training part.
        validate: a source of pictures to validate with.
        reading: how sources are read, as ``source_options`` say; ``root`` also of the benchmark.
        hold_out: "images", "classes" or "none"; None: what suits.
        share: of what is held out.
        seed: of what is held out.
        labelled: whether labels are learned; else they only serve to validate.
        whole: whether only pictures to train on are asked for, and nothing is held out of them.
    """

    source: Path | None
    protocol: str | None
    task: str | None
    validate: Path | None
    reading: dict[str, Any]
    hold_out: str | None
    share: float
    seed: int
    labelled: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        lesson: to train with.
        held_by: how pictures came to be held out, in a clause.
        refused: uri and reason of inputs that are no pictures or have no label.
    """

    lesson: Lesson
    held_by: str
    refused: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Rows:
    """Pictures of one root; ``labels`` None where there is none."""

    root: Path
    ids: list[str]
    uris: list[str]
    labels: list[str | None]

    def at(self, places: Sequence[int]) -> _Rows:
        return _Rows(
            self.root,
            [self.ids[at] for at in places],
            [self.uris[at] for at in places],
            [self.labels[at] for at in places],
        )

    def where(self, keep: Callable[[int], bool]) -> _Rows:
        return self.at([at for at in range(len(self.ids)) if keep(at)])


def find_lesson(asked: Asked, *, notice: Callable[[str], object]) -> Found:
    """Read the pictures and part them.

    Args:
        asked: what was asked for.
        notice: told in a sentence what is left out.

    Raises:
        InputError: there is nothing to learn from, or nothing to hold out; the message says what to do.
    """
    from retrieval.lesson import Examples, Lesson

    refused: list[tuple[str, str]] = []
    rows, held, name, disjoint = _of_protocol(asked, notice) if asked.protocol else _of_source(asked, refused, notice)
    if asked.labelled:
        check_labels(rows.labels, source=str(asked.source or name), how=_labels_from(asked))
        rows = _labelled(rows, refused, notice)
    if not rows.ids:
        raise InputError(f"{name} has no picture to train on")
    by = asked.hold_out or (CLASSES if disjoint else IMAGES)
    if held is not None:
        by = IMAGES
        given = _labelled(held[0], refused, notice)
        if not given.ids:
            raise InputError(f"{held[1]} have no labels to validate with; give others, or --hold-out")
        rows = _apart(rows, given, notice)
        out, how = given, held[1]
    elif asked.hold_out in (IMAGES, CLASSES) and not any(rows.labels):
        raise InputError(f"--hold-out {asked.hold_out} goes by labels, and {name} has none; leave it out")
    elif asked.whole or by == NONE or not any(rows.labels):
        out, how = rows.at([]), NOTHING
    else:
        rows, out, how = _parted_where_it_can_be(rows, by, asked)
    if asked.protocol is None or held is None or asked.validate is not None:  # a published split stays as it is
        rows = _unlike(rows, out, notice)
    if not rows.ids:
        raise InputError(f"nothing is left to train on: every picture of {name} is among {how} too")
    if asked.labelled:
        check_labels(rows.labels, source=f"the training part of {name}", how=_labels_from(asked))
    out, by = _fitting(rows, out, by, asked.labelled, notice) if out.ids else (out, CLASSES)
    labels = [label for label in rows.labels if label is not None] if asked.labelled else []
    train = Examples(rows.root, rows.ids, rows.uris, labels)
    taken = set(rows.ids)
    ids = [f"held out: {id}" if id in taken else id for id in out.ids]
    held_out = Examples(out.root, ids, out.uris, [str(label) for label in out.labels])
    return Found(Lesson(train, held_out, by, name), how, refused)


def _labels_from(asked: Asked) -> str:
    """What to do about labels that are not there."""
    if asked.source is not None and asked.source.is_dir():
        return "put each class into a folder of its own, or give the folder above"
    return "name another column with --label-column"


def _of_protocol(asked: Asked, notice: Callable[[str], object]) -> tuple[_Rows, tuple[_Rows, str] | None, str, bool]:
    from indexer.measuring import check_root, find_task
    from retrieval.datasets.protocol import differences
    from retrieval.datasets.protocols import PROTOCOLS

    assert asked.protocol is not None
    published, _, _ = find_task(asked.protocol, asked.task)
    with_train = [name for name, task in PROTOCOLS[asked.protocol].tasks.items() if "train" in task.counts]
    if not with_train or asked.task not in (None, *with_train):
        where = f"; its task {' and '.join(with_train)} has one" if with_train else ""
        raise InputError(f"{asked.task or asked.protocol} of {published.title} has no training part{where}")
    task = published.tasks[asked.task or with_train[0]]
    root = asked.reading["root"]
    check_root(published, root)
    reading = task.read(root, task.boxes)
    parts = reading.table.column("part")
    # Without a test part, val is what the benchmark is measured on.
    wanted = ["train", "val"] if "test" in task.counts and "val" in task.counts else ["train"]
    counted = replace(task, counts={part: task.counts[part] for part in wanted}, disjoint=False)
    seen = replace(reading, table=reading.table.filter(pc.is_in(parts, pa.array(wanted))), missing=(), extra=())
    found = differences(counted, seen, boxes=False)
    if found:
        raise ProtocolError(
            f"{root} is not {asked.protocol} as it was published: {'; '.join(found)}; mend the folder, or train on it "
            "as a source of its own"
        )
    train = _table_rows(reading.table.filter(pc.equal(parts, "train")), root.resolve())
    name = f"{published.title}, train"
    if asked.validate is not None or "val" not in wanted or asked.hold_out is not None:
        held = None if asked.validate is None else _validation_source(asked, notice)
        return train, held, name, task.disjoint
    val = _table_rows(reading.table.filter(pc.equal(parts, "val")), root.resolve())
    return train, (val, f"the official val part of {published.title}"), name, False


def _of_source(
    asked: Asked, refused: list[tuple[str, str]], notice: Callable[[str], object]
) -> tuple[_Rows, tuple[_Rows, str] | None, str, bool]:
    assert asked.source is not None
    manifest = read_source(asked.source, asked.reading)
    refused += zip(*(manifest.rejected.column(name).to_pylist() for name in ("uri", "reason")), strict=True)
    if refused:
        notice(f"{count(len(refused), 'input')} of {asked.source} cannot be used; the report says why")
    rows, splits = _read(manifest, asked.source, notice)
    _check_splits(splits, asked.source)
    tested = sum(split in TEST for split in splits)
    if tested:
        notice(f"{count(tested, 'picture')} of the test split of {asked.source} left out: no training sees them")
    train = rows.where(lambda at: splits[at] not in TEST | VALIDATION)
    whole = asked.source.resolve()
    name = whole.name if whole.is_dir() else f"{whole.parent.name}/{whole.name}"
    val = rows.where(lambda at: splits[at] in VALIDATION)
    if val.ids and asked.validate is None and asked.hold_out is None and not asked.whole:
        return train, (val, "the source's own validation split"), name, False
    if val.ids:
        given = ": --validate names others" if asked.validate is not None else ": --hold-out was given"
        notice(f"{count(len(val.ids), 'picture')} of the validation split left out{'' if asked.whole else given}")
    return train, None if asked.validate is None else _validation_source(asked, notice), name, False


def _validation_source(asked: Asked, notice: Callable[[str], object]) -> tuple[_Rows, str]:
    assert asked.validate is not None
    reading = {**asked.reading, "prefix": ""}
    if asked.protocol is not None or asked.validate.is_dir():  # the options speak of another source
        reading = {**dict.fromkeys(asked.reading), "prefix": ""}
    manifest = read_source(asked.validate, reading)
    if manifest.rejected.num_rows:
        notice(f"{count(manifest.rejected.num_rows, 'input')} of {asked.validate} cannot be used")
    rows, splits = _read(manifest, asked.validate, notice)
    validating = sum(split in VALIDATION for split in splits)
    if validating:
        others = len(splits) - validating
        if others:
            notice(f"{count(others, 'picture')} of {asked.validate} left out: its split column says which validate")
        rows = rows.where(lambda at: splits[at] in VALIDATION)
    else:
        _check_splits(splits, asked.validate)
        tested = sum(split in TEST for split in splits)
        if tested:
            notice(
                f"{count(tested, 'picture')} of the test split of {asked.validate} left out: no epoch is chosen on them"
            )
        rows = rows.where(lambda at: splits[at] not in TEST)
    if not rows.ids:
        raise InputError(f"{asked.validate} has no picture to validate with")
    return rows, f"the pictures of {asked.validate.name}"


def _table_rows(table: pa.Table, root: Path) -> _Rows:
    ids, uris, labels = (table.column(name).to_pylist() for name in ("id", "uri", "label"))
    return _Rows(root, ids, uris, labels)


def _read(manifest: Manifest, source: Path, notice: Callable[[str], object]) -> tuple[_Rows, list[str]]:
    """Rows of a source and the split that each is of, "" where none is said: by its column, or by its folders."""
    rows, table = _table_rows(manifest.table, manifest.root), manifest.table
    if "split" in table.column_names:
        return rows, [(split or "").strip().lower() for split in table.column("split").to_pylist()]
    if not source.is_dir():
        return rows, [""] * len(rows.ids)
    heads = [(label or "").partition("/") for label in rows.labels]
    splits = [head.lower() if rest else "" for head, _, rest in heads]
    if sum(any(split in kind for split in splits) for kind in (TRAIN, VALIDATION, TEST)) < 2:
        return rows, [""] * len(rows.ids)
    names = sorted({head for head, _, _ in heads if head})
    others = [name for name in names if name.lower() not in TRAIN | VALIDATION | TEST]
    if others or not all(rest for head, _, rest in heads if head):
        which = f"{printable(others[0])!r} is none" if others else "some of them hold pictures without a class"
        raise InputError(
            f"the folders of {source} are splits, such as {_one_of(names)!r}, but {which}: give the folder to train "
            "on, and the one to validate on by --validate"
        )
    told = ", ".join(map(printable, names))
    notice(f"{told} in {source} are taken for its splits, and the folders below them for classes")
    return replace(rows, labels=[rest or None for _, _, rest in heads]), splits


def _one_of(names: Sequence[str]) -> str:
    return next(name for name in names if name.lower() in TRAIN | VALIDATION | TEST)


def _check_splits(splits: Sequence[str], source: Path) -> None:
    """Refuse words that may mean a test part, which no training may see."""
    others = Counter(split for split in splits if split and split not in TRAIN | VALIDATION | TEST)
    if others:
        told = ", ".join(f"{printable(split)!r} ({number:,})" for split, number in sorted(others.items())[:SOME])
        more = f" and {len(others) - SOME:,} more words" if len(others) > SOME else ""
        known = "; ".join(", ".join(sorted(words)) for words in (TRAIN, VALIDATION, TEST))
        raise InputError(
            f"the split column of {source} says {told}{more}, which is none of {known}: write one of these or nothing "
            "there, or name another column with --split-column"
        )


def _labelled(rows: _Rows, refused: list[tuple[str, str]], notice: Callable[[str], object]) -> _Rows:
    """Leave out, and tell, what has no label."""
    without = [at for at, label in enumerate(rows.labels) if label is None]
    if not without:
        return rows
    refused += [(rows.uris[at], "no label") for at in without]
    notice(f"{count(len(without), 'picture')} without a label left out")
    return rows.where(lambda at: rows.labels[at] is not None)


def _apart(rows: _Rows, held: _Rows, notice: Callable[[str], object]) -> _Rows:
    """Leave out of training what is also held out, file by file."""
    both = {str(held.root / uri) for uri in held.uris}
    apart = rows.where(lambda at: str(rows.root / rows.uris[at]) not in both)
    if len(apart.ids) < len(rows.ids):
        number = len(rows.ids) - len(apart.ids)
        notice(f"{count(number, 'picture')} left out of training, because validation has the same files")
    return apart


def _unlike(rows: _Rows, held: _Rows, notice: Callable[[str], object]) -> _Rows:
    """Leave out of training copies of what is held out, byte by byte, where both are files of their own."""
    copies = copies_of([rows.root / uri for uri in rows.uris], [held.root / uri for uri in held.uris])
    if not copies:
        return rows
    other = sum(rows.labels[at] not in (None, held.labels[twin]) for at, twin in copies.items())
    told = f"; {count(other, 'of them has', 'of them have')} another label there" if other else ""
    notice(
        f"{count(len(copies), 'picture')} left out of training, such as {rows.uris[min(copies)]}, because validation "
        f"has the same bytes{told}"
    )
    return rows.where(lambda at: at not in copies)


def _parted_where_it_can_be(rows: _Rows, by: str, asked: Asked) -> tuple[_Rows, _Rows, str]:
    """Hold pictures out; none where labels only serve to validate, nobody asked, and they are not fit for it."""
    needless = not asked.labelled and asked.hold_out is None
    try:
        kept, out, how = _parted(rows, by, asked)
    except InputError:
        if needless:
            return rows, rows.at([]), UNFIT
        raise
    if needless and max(Counter(out.labels).values()) < 2:
        return rows, rows.at([]), UNFIT
    return kept, out, how


def _parted(rows: _Rows, by: str, asked: Asked) -> tuple[_Rows, _Rows, str]:
    if not asked.labelled:
        with_label = [at for at, label in enumerate(rows.labels) if label is not None]
        known = rows.at(with_label)
        _, chosen = hold_out(known.labels, known.uris, by=by, share=asked.share, seed=asked.seed)
        held = {with_label[at] for at in chosen.tolist()}
        return rows.where(lambda at: at not in held), rows.where(lambda at: at in held), _how(by, known, chosen)
    kept, chosen = hold_out(rows.labels, rows.uris, by=by, share=asked.share, seed=asked.seed)
    return rows.at(kept.tolist()), rows.at(chosen.tolist()), _how(by, rows, chosen)


def _how(by: str, rows: _Rows, chosen: np.ndarray) -> str:
    """Say in counts what was held out: shares of few are far from what was asked for."""
    classes, held = Counter(rows.labels), Counter(rows.labels[at] for at in chosen.tolist())
    if by == CLASSES:
        return f"{len(held):,} of the {len(classes):,} classes, drawn at random"
    least, most = min(held.values()), max(held.values())
    number = f"{most:,} images" if least == most else f"{least:,} to {most:,} images"
    which = "each class" if len(held) == len(classes) else f"{len(held):,} of the {len(classes):,} classes"
    return f"the last {'image' if most == 1 else number} of {which}"


def _fitting(rows: _Rows, out: _Rows, by: str, labelled: bool, notice: Callable[[str], object]) -> tuple[_Rows, str]:
    """Settle whether held-out pictures are searched for among training pictures or among themselves.

    Raises:
        InputError: no picture among them can be found either way.
    """
    known = set(rows.labels)
    within = [at for at, label in enumerate(out.labels) if label in known] if labelled and by != CLASSES else []
    if within:
        if len(within) < len(out.ids):
            notice(
                f"{count(len(out.ids) - len(within), 'picture')} left out of validation: "
                "no training picture is of their class"
            )
        return out.at(within), IMAGES
    if max(Counter(out.labels).values()) < 2:
        raise InputError(
            "the pictures held out are of classes that are not trained on, and no two are of one class, so none can "
            "be found; give others, or --hold-out none"
        )
    return out, CLASSES
