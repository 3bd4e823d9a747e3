"""The command that finds duplicates and helps to be rid of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import DEVICE, JSON, RUNTIME, echo_json, notice, printable, progress_bar
from indexer.report_words import count
from retrieval.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from indexer.catalogue import Catalogue
    from indexer.duplicates import Found

ACTIONS: Final = ("move", "link", "forget")
LEFT_ALONE: Final = 4
"""What the command ends with where it did less than was asked, as ``verify`` does of what is not as it should be."""
FINDING: Final = ("precision", "effort", "between", "split_column", "new", "keep", "judged", "lookalike", "out")
"""Options of how copies are looked for and told, by the names of their parameters."""
PRINTED: Final = 20
"""Groups and lookalikes that the terminal shows."""


@click.command()
@click.argument("place", type=click.Path(path_type=Path), metavar="CATALOGUE|FOLDER")
@click.argument("other", type=click.Path(path_type=Path), required=False, metavar="[FOLDER]")
@click.option(
    "--precision",
    default=0.99,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Share of right ones wanted among the pairs that are called copies.",
)
@click.option(
    "--effort",
    default="usual",
    show_default=True,
    metavar="NAME",
    help="How many views of a picture are searched with: quick (none), usual or thorough.",
)
@click.option(
    "--between", nargs=2, metavar="SPLIT SPLIT", help="Only copies across these two splits, such as train test."
)
@click.option("--split-column", default="split", show_default=True, metavar="NAME", help="Column of the splits.")
@click.option("--new", is_flag=True, help="Only what has an item that came since the last run.")
@click.option(
    "--keep",
    metavar="RULE,...",
    help="Which copy to keep, by the first rule that tells: unframed, coloured, resolution (pixels that were not "
    "interpolated, if that is seen; twice is not), unscaled, whole, format, once (no coarser JPEG saved anew), "
    "sharpness, size (clearly more bytes), metadata, oldest, bytes, path:PATTERN (of paths or ids, such as "
    "path:originals/*); what you name takes the place of all of them  "
    "[default: all but path, in this order]",
)
@click.option(
    "--judged",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="pairs.csv with yes or no in its column copy; --out writes them again.",
)
@click.option(
    "--lookalike",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    metavar="COSINE",
    help="Similarity from which other photographs are listed, whatever their details say.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Write report.html, groups.csv, pairs.csv, ..."
)
@click.option(
    "--apply",
    "action",
    type=click.Choice(ACTIONS),
    help="Move the copies to a quarantine folder, make equal files hard links, or only forget them in the catalogue.",
)
@click.option(
    "--from",
    "decided",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --apply: groups.csv with your decisions.",
)
@click.option(
    "--quarantine",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With --apply move: where to  [default: quarantine in the CATALOGUE, .lookalike-quarantine in each FOLDER]",
)
@click.option("--undo", is_flag=True, help="Take the last --apply back.")
@click.option("--run", metavar="NAME", help="With --undo: which one, in place of the last; a wrong NAME lists all.")
@DEVICE
@RUNTIME
@JSON
@click.pass_context
def duplicates(
    ctx: click.Context,
    place: Path,
    other: Path | None,
    precision: float,
    effort: str,
    between: tuple[str, str] | None,
    split_column: str,
    new: bool,
    keep: str | None,
    judged: Path | None,
    lookalike: float,
    out: Path | None,
    action: str | None,
    decided: Path | None,
    quarantine: Path | None,
    undo: bool,
    run: str | None,
    device: str,
    runtime: str,
    as_json: bool,
) -> None:
    """Find the copies in a catalogue, or in one or two folders of pictures, edited ones too.

    Copies are one photograph: saved anew, resized, recoloured, cut, mirrored, turned, framed, written on, shown on a
    page. Lookalikes are other photographs of the same thing, and are listed apart, as is what was changed too much to
    tell (blurred, negative, seen at an angle). In a catalogue, copies with other labels come first; the folders in a
    FOLDER are no labels. Nothing is changed unless --apply says so, nothing is ever deleted, and --undo takes it back.
    Ends with 4 when --apply or --undo left something alone.
    """
    from indexer.duplicates_files import check_folder, read_decisions, read_judged
    from indexer.examining import check_effort
    from indexer.place import ABOUT_FILE
    from indexer.quarantine import refuse_interrupted

    if not undo and run is not None:
        raise click.UsageError("--run goes with --undo")
    if action != "move" and quarantine is not None:
        raise click.UsageError("--quarantine goes with --apply move")
    if action is None and decided is not None:
        raise click.UsageError("--from goes with --apply")
    if undo:
        _refuse_given(ctx, ("action", *FINDING), "does not go with --undo")
    if decided is not None:
        _refuse_given(ctx, FINDING, "does not go with --from")
    if action == "forget" and place.is_dir() and not (place / ABOUT_FILE).is_file():
        raise click.UsageError("a folder without a catalogue has nothing that could be forgotten; move or link")
    decisions = None if decided is None else read_decisions(decided)
    said = None if judged is None else read_judged(judged)
    if out is not None:
        check_folder(out, said)
    rules = _rules(keep)
    check_effort(effort)  # before a folder is indexed
    with _opened(place, other, device=device, runtime=runtime, as_found=undo or decisions is not None) as opened:
        if undo:
            ctx.exit(0 if _undo(opened, run, as_json) else LEFT_ALONE)
        if action is not None:
            with opened.writing():  # one that is running is not interrupted
                refuse_interrupted(opened)  # before what may take hours
        found = None
        if decisions is None:
            found = _find(
                opened,
                precision=precision,
                effort=effort,
                between=between,
                split=split_column,
                new=new,
                policy=rules,
                judged=said,
                lookalike=lookalike,
            )
            if out is not None:
                _write(opened, found, out, said)
        if action is not None:
            ctx.exit(0 if _apply(opened, found, decisions, action, quarantine, as_json) else LEFT_ALONE)
    assert found is not None
    if as_json:
        _print_json(found, catalogue=str(place), out=None if out is None else str(out))
        return
    _print(found)
    if out is not None:
        click.echo(f"\nthe report: {out / 'report.html'}")


def _refuse_given(ctx: click.Context, names: Sequence[str], why: str) -> None:
    """Raise UsageError for the first of these options that was typed, though it be as it is by default."""
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        if option.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}")


def _rules(keep: str | None) -> Sequence[str]:
    from indexer.keep_best import DEFAULT_POLICY, check_policy

    rules = DEFAULT_POLICY if keep is None else [rule.strip() for rule in keep.split(",") if rule.strip()]
    check_policy(rules)
    return rules


def _find(opened: Catalogue, **asked: Any) -> Found:
    from indexer.duplicates import find
    from indexer.folder_catalogue import not_examined

    return replace(find(opened, bars=progress_bar, notice=notice, **asked), not_examined=not_examined(opened))


def _write(opened: Catalogue, found: Found, out: Path, judged: dict[tuple[str, str], bool] | None) -> None:
    from indexer.duplicates_files import write_out
    from indexer.duplicates_page import duplicates_page
    from indexer.report_files import about_run

    write_out(out, found, duplicates_page(opened, found), about_run(), judged)


@contextlib.contextmanager
def _opened(place: Path, other: Path | None, *, device: str, runtime: str, as_found: bool) -> Iterator[Catalogue]:
    """Open the catalogue, or one of the folders that is kept in the user's cache and brought up to date first."""
    from indexer.catalogue import Catalogue
    from indexer.place import ABOUT_FILE

    if (place / ABOUT_FILE).is_file():
        if other is not None:
            raise InputError(f"{place} is a catalogue, and takes no second folder; index {other} into it")
        with Catalogue.open(place, device=device, runtime=runtime) as opened:
            yield opened
        return
    from indexer.folder_catalogue import open_folders

    folders = [place] if other is None else [place, other]
    with (
        progress_bar("index") as progress,
        open_folders(
            folders, device=device, runtime=runtime, update=not as_found, progress=progress, notice=notice
        ) as opened,
    ):
        yield opened


def _apply(
    opened: Catalogue, found: Found | None, decisions: Any, action: str, quarantine: Path | None, as_json: bool
) -> bool:
    """Do it and print what was done; says whether nothing was left alone."""
    from indexer.deciding import for_links
    from indexer.duplicates_files import decisions_of
    from indexer.quarantine import apply_decisions

    by_hand = decisions is not None
    if decisions is None:
        assert found is not None
        decisions = decisions_of(found.groups)
        line = found.threshold
        if not line.reached:
            notice(
                f"the wanted precision of {line.wanted:g} is not reached: of what is called a copy "
                f"{line.precision:.1%} is right by what is known; --undo takes this back"
            )
    if action == "link":  # of edited copies that is not asked, unless somebody has decided about each
        decisions = for_links(opened.items(["id", "sha256"]), decisions, alone=by_hand)
    if decisions.num_rows == 0:
        if as_json:
            echo_json({"catalogue": str(opened.called), "done": 0})
        else:
            what = "equal files" if action == "link" else "copies"
            click.echo(f"{opened.called}: no {what}, and nothing to do")
        return True
    try:
        with progress_bar(action, "files", "left alone") as progress:
            done = apply_decisions(opened, decisions, action=action, quarantine=quarantine, progress=progress)
    except KeyboardInterrupt as error:
        said = "interrupted half-way; take back what was done with --undo, and then apply again"
        raise KeyboardInterrupt(said) from error
    if as_json:
        echo_json({"catalogue": str(opened.called), **done.to_dict()})
    else:
        where = " and ".join(map(str, done.quarantines))
        did = {"move": f"moved to {where}", "link": "made hard links", "forget": "forgotten"}[action]
        size = f", {done.bytes / 2**20:,.1f} MiB" if done.bytes else ""
        already = f", {done.already:,} one file with the kept one already" if done.already else ""
        said = f"{count(done.done, 'copy', 'copies')} {did if done.done else 'done'}{size}{already}"
        click.echo(f"{opened.called}: {said}")
        _print_skipped(done.skipped)
        if done.run is not None:
            click.echo(f"  run {done.run}, version {done.version}; take it back with --undo")
    return not done.skipped.num_rows


def _undo(opened: Catalogue, run: str | None, as_json: bool) -> bool:
    """Undo it and print what was done; says whether nothing was left alone."""
    from indexer.undoing import undo as take_back

    with progress_bar("undo", "files", "left alone") as progress:
        undone = take_back(opened, run=run, progress=progress)
    if as_json:
        echo_json({"catalogue": str(opened.called), **undone.to_dict()})
    elif undone.already:
        click.echo(f"{opened.called}: the run {undone.run} was undone before; nothing to do")
    else:
        click.echo(
            f"{opened.called}: {count(undone.files, 'file')} and {count(undone.items, 'item')} brought back "
            f"(run {undone.run}, version {undone.version})"
        )
        _print_skipped(undone.skipped)
        if undone.skipped.num_rows:
            click.echo("  --undo goes on with this run once the reason is gone; --undo --run NAME takes another back")
    return not undone.skipped.num_rows


def _print_skipped(skipped: Any) -> None:
    rows = skipped.to_pylist()
    if rows:
        click.echo(f"  {count(len(rows), 'item')} left alone:")
    for row in rows[:PRINTED]:
        click.echo(f"    {printable(row['id'])}: {row['reason']}")
    if len(rows) > PRINTED:
        click.echo(f"    and {len(rows) - PRINTED:,} more; --json has all")


def _print_json(found: Found, **given: Any) -> None:
    from indexer.duplicates_files import as_json

    for piece in as_json(given | found.facts(), groups=found.groups, pairs=found.pairs):
        click.echo(piece, nl=False)
    click.echo()


def _print(found: Found) -> None:
    import pyarrow.compute as pc

    from indexer.duplicates_words import (
        COULD_GO,
        apart,
        apart_told,
        copies_of,
        not_examined_told,
        pairs_of,
        sorts,
        threshold_told,
    )

    copies, numbers = copies_of(found.groups), pc.unique(found.groups.column("group"))
    which = "" if found.between is None else f" across {found.between[0]} and {found.between[1]}"
    which += "" if found.new_since is None else f" with an item newer than version {found.new_since}"
    lookalikes = pairs_of(found.pairs).get("lookalike", 0)
    click.echo(
        f"{count(found.examined, 'picture')} of different bytes looked at, effort {found.effort}, "
        f"version {found.version}\n"
        f"{count(len(numbers), 'group')} of one photograph{which}; "
        f"{count(sum(copies.values()), 'copy', 'copies')} {COULD_GO}{': ' if copies else ''}{sorts(copies)}; "
        f"{count(lookalikes, 'pair')} of lookalikes (other photographs, or changed too much to tell)"
    )
    if besides := apart(found.groups, found.pairs):
        click.echo(f"{apart_told(besides)}; pairs.csv of --out has them")
    click.echo(threshold_told(found.threshold))
    if found.unreadable.num_rows:
        click.echo(
            f"{count(found.unreadable.num_rows, 'item')} could not be looked at; --out or --json has the reasons"
        )
    if found.not_examined is not None and found.not_examined.num_rows:
        click.echo(f"{not_examined_told(found.not_examined.num_rows)}; --out or --json has the reasons")
    for number in numbers.slice(0, PRINTED).to_pylist():
        _print_group(number, found.groups.filter(pc.equal(found.groups.column("group"), number)))
    if len(numbers) > PRINTED:
        click.echo(f"\nand {count(len(numbers) - PRINTED, 'more group')}; --out writes all")


def _print_group(number: int, members: pa.Table) -> None:
    """Print a group, the kept one first, and why it is kept over a copy where that is not its first reason."""
    kept, *copies = members.slice(0, PRINTED).to_pylist()
    click.echo(f"\ngroup {number}{', labels differ' if kept['conflict'] else ''}")
    for row in (kept, *copies):
        label = f"  [{printable(row['label'])}]" if kept["conflict"] and row["label"] else ""
        told = ": ".join(part for part in (row["kind"], row["how"]) if part)
        if row["keep"]:
            told = f"keep: {row['why']}"
        elif row["why"] != kept["why"]:
            told += f" (kept over it: {row['why']})"
        click.echo(f"  {printable(row['id'])}{label}  {told}")
    if members.num_rows > PRINTED:
        click.echo(f"  and {members.num_rows - PRINTED:,} more")
