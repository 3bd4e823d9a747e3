"""The commands that train: train and advise."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import DEVICE, JSON, RUNTIME, echo_json, notice, progress_bar, refuse, source_options
from indexer.report_words import count
from indexer.training_files import check_out, training_folder
from indexer.training_options import OPTIONS, given_choices, seconds_of, shown, training_options
from indexer.training_run import finish_training, run_training
from indexer.training_source import NONE, Asked, Found, find_lesson
from retrieval.choosing import BASELINES, USUAL, Choice, Counts, choose, traits_of
from retrieval.errors import InputError, MissingExtraError
from retrieval.held_out import WAYS

if TYPE_CHECKING:
    import pyarrow as pa

    from indexer.advising import Frozen
    from retrieval.lesson import Examples
    from retrieval.recipe import Recipe

SHARE: Final = 0.15
_FIELDS: Final = frozenset(row.field for row in OPTIONS)


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="EMBEDDER", help="Folder to make.")
@click.option("--protocol", metavar="NAME", help="Train on a benchmark's official training part, below --root.")
@click.option("--task", metavar="NAME", help="Of the protocol  [default: its first with a training part]")
@click.option(
    "--validate", type=click.Path(path_type=Path), metavar="SOURCE", help="Pictures to choose the best epoch on."
)
@click.option(
    "--hold-out",
    type=click.Choice([*WAYS, NONE]),
    help="What of SOURCE is held out to choose the best epoch on, where it has no validation split: the last images "
    "of each class, or whole classes, for searching among new ones  [default: images; classes for a zero-shot "
    "protocol]",
)
@click.option(
    "--hold-out-share",
    type=click.FloatRange(0, 0.9, min_open=True),
    default=SHARE,
    show_default=True,
    metavar="N",
    help="How much of it.",
)
@click.option("--as", "like", type=click.Choice(list(BASELINES)), help="A configuration of the field to begin from.")
@source_options
@click.option("--weights", type=click.Path(path_type=Path), help="Local safetensors file for the backbone.")
@click.option("--budget", type=seconds_of, metavar="TIME", help="Fit the run into 90s, 30m or 2h.")
@training_options
@DEVICE
@click.option("--workers", type=click.IntRange(min=0), metavar="N", help="Processes that make batches.")
@click.option("--tensorboard", is_flag=True, help="Write losses for TensorBoard too.")
@click.option(
    "--restart",
    is_flag=True,
    help="Begin anew, not after the last epoch of what an earlier run left, which stays up to the first epoch.",
)
@JSON
def train(
    source: Path | None,
    out: Path,
    protocol: str | None,
    task: str | None,
    validate: Path | None,
    hold_out: str | None,
    hold_out_share: float,
    like: str | None,
    weights: Path | None,
    budget: float | None,
    device: str,
    workers: int | None,
    tensorboard: bool,
    restart: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train an embedder on the labelled images of SOURCE, and choose the best epoch on images held out of it.

    \b
    lookalike train photos --out my-embedder
    lookalike train --protocol cub --root CUB_200_2011 --out birds --budget 2h

    SOURCE is what lookalike index takes. What is not given is chosen for the images and the backbone, and told with the
    reason. A run that was stopped goes on after its last epoch when the same command is given again. To use several
    GPUs, start it with torchrun.
    """
    if (source is None) == (protocol is None):
        raise click.UsageError("name a source, or a benchmark with --protocol NAME --root DIR, and not both")
    if protocol is not None and values["root"] is None:
        raise click.UsageError("--protocol needs --root, the folder of the benchmark")
    columns = {f"--{name.replace('_', '-')}": value for name, value in values.items() if name not in _FIELDS}
    if protocol is not None:
        refuse({**columns, "--root": None}, "is of a source, and --protocol names a benchmark; leave one of them out")
    if task is not None and protocol is None:
        raise click.UsageError("--task goes with --protocol")
    if validate is not None and hold_out is not None:
        raise click.UsageError("--validate names what is validated on, and --hold-out makes it; leave one of them out")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "tensorboard", "--tensorboard")
    given = given_choices(values)
    _check_words(given)
    # Of the processes that torchrun starts, the first one speaks and writes.
    leading = os.environ.get("RANK", "0") == "0"
    say: Callable[[str], object] = notice if leading else lambda _: None

    if leading:
        check_out(out, *(place for place in (source, validate) if place is not None), restart=restart)
    reading = {name: value for name, value in values.items() if name not in _FIELDS}
    asked = Asked(
        source,
        protocol,
        task,
        validate,
        reading,
        hold_out,
        hold_out_share,
        given.get("seed", 0),
        labelled="ntxent" not in str(given.get("loss", "")),
    )
    found = find_lesson(asked, notice=say)
    recipe, choices = _choose(found, given, like, device, budget)
    if leading:
        _tell(found, choices)
    with training_folder(out, leading=leading, restart=restart) as place:
        trained = run_training(
            found,
            recipe,
            choices,
            place,
            leading=leading,
            notice=say,
            weights=weights,
            budget=budget,
            device=device,
            workers=workers,
            tensorboard=tensorboard,
            restart=restart,
        )
        if trained is None:
            return
        said = finish_training(found, trained, choices, out, place)
    said |= {"next": _next(source, protocol, task, reading, out, labelled=bool(found.lesson.train.labels))}
    if as_json:
        echo_json(said)
        return
    _summary(said)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--backbone", "backbones", multiple=True, metavar="NAME", help="timm's name of one to try too; may be repeated."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Local safetensors file for the one --backbone.")
@click.option(
    "--sample", type=click.IntRange(min=2), default=1000, show_default=True, metavar="N", help="Images that are tried."
)
@source_options
@DEVICE
@RUNTIME
@JSON
def advise(
    source: Path,
    backbones: tuple[str, ...],
    weights: Path | None,
    sample: int,
    device: str,
    runtime: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Say whether training on the labelled images of SOURCE is likely to pay.

    Frozen backbones embed a sample in which classes have nearly as many images each, and every image is searched for
    among the others. Those are tried whose weights are installed here, and those that --backbone names.
    """
    from indexer.advising import advise as judge
    from indexer.advising import available_backbones, prefer
    from retrieval.backbones import check_backbone

    if weights is not None and len(backbones) != 1:
        raise click.UsageError("--weights is of one backbone: name it with --backbone, once")
    for name in backbones:
        check_backbone(name)
    source_of = Asked(source, None, None, None, values, None, SHARE, 0, whole=True)
    train = find_lesson(source_of, notice=notice).lesson.train
    counts = Counts.of(train.labels)
    names = list(dict.fromkeys([*backbones, *available_backbones()]))
    if not names:
        raise InputError("no backbone's weights are installed here: name one with --backbone")
    measured = _measured(train, names, sample, weights, backbones, device, runtime)
    found, preferred = [row for row, _ in measured], prefer(measured)
    best = preferred.row
    said = judge(max(found, key=lambda row: row.recall_at_1), counts)
    own = ["--weights", str(weights)] if weights is not None and best.backbone in backbones else []
    of_source, chosen = [str(source), *_words(values)], ["--backbone", best.backbone, *own]
    run = shlex.join(["lookalike", "train", *of_source, "--out", "EMBEDDER", *chosen])
    use = shlex.join(["lookalike", "index", *of_source, "--catalogue", "CATALOGUE", *chosen])
    if as_json:
        about = {"likely": said.likely, "why": said.why, "preferred": best.backbone, "preferred_why": preferred.why}
        echo_json(
            {"backbones": [row.to_dict() for row in found], "counts": vars(counts), **about, "train": run, "index": use}
        )
        return
    width = max(len(row.backbone) for row in found)
    click.echo(f"{'frozen':{width}s}   dim  px  Recall@1    95 % interval    MAP@R  images/s")
    for row in found:
        between = "-" if row.low is None or row.high is None else f"{row.low:.2%} to {row.high:.2%}"
        click.echo(
            f"{row.backbone:{width}s}  {row.dim:4d} {row.image_size:3d}  {row.recall_at_1:8.2%}  {between:>17s}  "
            f"{row.map_at_r:7.2%}  {row.images_per_second:8,.0f}"
        )
    click.echo(
        f"on {best.queries:,} of {count(counts.pictures, 'image')}, each among the others of the sample"
        + ("; among all of them there is more to confuse" if best.queries < counts.pictures else "")
    )
    if preferred.why:
        click.echo(f"\n{preferred.why}")
    likely = "fine-tuning is likely to pay" if said.likely else "fine-tuning is not likely to pay"
    click.echo(f"\n{likely}: {said.why} (a rule of thumb, not a measurement)")
    if said.likely:
        click.echo(f"try it: {run}")
    else:
        click.echo(f"to use it as it is: {use}\nto train all the same: {run}")


def _measured(
    train: Examples,
    names: Sequence[str],
    sample: int,
    weights: Path | None,
    named: Sequence[str],
    device: str,
    runtime: str,
) -> list[tuple[Frozen, pa.Table]]:
    from indexer.advising import balanced_sample, measure_frozen
    from retrieval.embedder import Embedder
    from retrieval.lesson import Examples

    places = balanced_sample(train.labels, sample).tolist()
    some = Examples(train.root, *([column[at] for at in places] for column in (train.ids, train.uris, train.labels)))
    found = []
    for name in names:
        own = weights if name in named else None
        embedder = Embedder.create(name, weights=own, device=device, runtime=runtime)
        with progress_bar(name) as progress:
            found.append(measure_frozen(some, embedder, name, progress=progress, notice=notice))
    return found


def _check_words(given: dict[str, Any]) -> None:
    """Refuse a loss or a backbone that there is not, before anything is read or made."""
    if "loss" in given:
        from retrieval.losses import parse

        parse(given["loss"])
    if "backbone" in given:
        from retrieval.backbones import check_backbone

        check_backbone(given["backbone"])


def _choose(
    found: Found, given: dict[str, Any], like: str | None, device: str, budget: float | None
) -> tuple[Recipe, list[Choice]]:
    from retrieval.backbones import DEFAULT_BACKBONE
    from retrieval.embedder import choose_device

    backbone = given.get("backbone") or (BASELINES[like].backbone if like else None) or DEFAULT_BACKBONE
    size, transformer = traits_of(backbone)
    train = found.lesson.train
    return choose(
        backbone,
        Counts.of(train.labels, pictures=len(train.ids)),
        device=choose_device(device),
        budget=budget,
        native_size=size,
        given=given,
        transformer=transformer,
        baseline=like,
    )


def _tell(found: Found, choices: Sequence[Choice]) -> None:
    """Say on standard error what will be done, and why."""
    lesson = found.lesson
    classes = f" of {len(set(lesson.train.labels)):,} classes" if lesson.train.labels else " without labels"
    notice(f"train on {len(lesson.train.ids):,} images{classes}")
    held = f"validate on {len(lesson.held_out.ids):,}: " if lesson.held_out.ids else "validation: "
    notice(f"{held}{found.held_by}")
    told = [choice for choice in choices if choice.why != USUAL]
    width = max(len(choice.field) for choice in told)
    wide = max(len(shown(choice.value)) for choice in told)
    for choice in told:
        notice(f"  {choice.field.replace('_', '-'):{width}s}  {shown(choice.value):{wide}s}  {choice.why}")


def _next(
    source: Path | None, protocol: str | None, task: str | None, reading: dict[str, Any], out: Path, *, labelled: bool
) -> list[str]:
    """What to run next: use the embedder, and measure it on pictures that it has not seen."""
    if protocol is not None:
        named = ["--task", task] if task else []
        measure = ["evaluate", str(out), "--protocol", protocol, "--root", str(reading["root"]), *named]
        return [
            shlex.join(["lookalike", "index", "PHOTOS", "--catalogue", "CATALOGUE", "--embedder", str(out)]),
            shlex.join(["lookalike", *measure]),
        ]
    index = ["index", str(source), *_words(reading), "--catalogue", "CATALOGUE", "--embedder", str(out)]
    against = "lookalike evaluate CATALOGUE --queries NEW-PHOTOS --out report"
    return [shlex.join(["lookalike", *index]), *([against] if labelled else [])]


def _words(reading: dict[str, Any]) -> list[str]:
    """Write again the options that say how a source is read."""
    given = {name: str(value) for name, value in reading.items() if value}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def _summary(said: dict[str, Any]) -> None:
    from indexer.training_account import chosen_by, measures
    from indexer.training_report import took

    card, score = said["embedder"], said["validation"]
    head = f", {card['head']} head of {count(card['classes'], 'class', 'classes')}" if card.get("head") else ""
    dim = count(card["dim"], "dimension")
    click.echo(f"{said['out']}: {card['backbone']}, {dim}{head}, digest {said['digest'][:12]}")
    if score is None:
        click.echo(f"  last epoch   {said['best_epoch']:,}, kept")
        click.echo(f"  validation   none: {said['held_by']}")
    else:
        click.echo(f"  best epoch   {said['best_epoch']:,} of {said['epochs']:,}, chosen by {chosen_by(score)}")
        found = measures(score, said["held_out"], said["measured"])
        sure = f" ({found[0].interval('to')})" if found[0].interval("to") else ""
        figures = ", ".join(f"{one.name} {one.told}{sure if one is found[0] else ''}" for one in found)
        click.echo(f"  validation   {figures} on {count(said['held_out'], 'image')} ({said['held_by']})")
        if score["head"] is not None:
            by = "the head" if score["classifier"] == "head" else "the vote of the nearest training images"
            click.echo(f"               classes are named by {by}")
        if said["untrained"] is not None:
            before = measures(said["untrained"], said["held_out"], said["measured"])
            click.echo(f"  untrained    {', '.join(f'{one.name} {one.told}' for one in before)}")
    click.echo(f"  took         {took(said['seconds'])}, {said['images_per_second']:,.0f} images/s in training")
    if said["refused"]:
        click.echo(f"  refused      {count(len(said['refused']), 'image')}; the report says why")
    click.echo(f"the report: {said['report']}\nnext: " + "\n      ".join(said["next"]))
