"""The commands that measure: evaluate and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from indexer.options import DEVICE, JSON, RUNTIME, echo_json, notice, progress_bar, refuse, source_options
from retrieval.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from indexer.embeds import Embeds
    from indexer.evaluation import Measured
    from indexer.measuring import Run
    from retrieval.embedder import Embedder

POINTS: Final = 1500


@click.command()
@click.argument("target", metavar="CATALOGUE|EMBEDDER", required=False)
@click.option("--protocol", metavar="NAME", help="Measure by a published benchmark; --protocol list names them.")
@click.option("--task", metavar="NAME", help="Of the protocol: retrieval, classification, ...  [default: its first]")
@click.option(
    "--classifier",
    type=click.Choice(["auto", "knn", "head"]),
    help="What says the class in classification: the vote of the nearest training images, or EMBEDDER's own head  "
    "[default: auto, what its training found the better, if it knows the classes]",
)
@click.option("--boxes", is_flag=True, help="Cut images to their annotated boxes, which is not standard.")
@click.option("--anyway", is_flag=True, help="Measure a folder that differs from the protocol, as non-standard.")
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="Measure the images of a source against the catalogue; default: leave-one-out within it.",
)
@click.option(
    "--by",
    "label",
    default="label",
    show_default=True,
    metavar="NAME",
    help="Column of the catalogue and the queries that holds the class.",
)
@click.option(
    "--labels",
    "of_labels",
    is_flag=True,
    help="Measure the labels that CATALOGUE gives, and how far their confidence can be believed.",
)
@click.option(
    "--prior",
    "priors",
    multiple=True,
    metavar="COLUMN",
    help="With --labels: what is known of a picture besides; may be repeated.",
)
@click.option(
    "--few-shot",
    metavar="N-way-K-shot",
    help="Measure episodes of N classes with K examples each, such as 5-way-1-shot, drawn from CATALOGUE's items.",
)
@click.option("--through", metavar="SPEC", help="Search through this FAISS index, to see what it costs.")
@source_options
@click.option("-k", "--k", "ks", multiple=True, type=click.IntRange(min=1), help="K, repeated  [default: 1 2 4 8]")
@click.option("--clusters/--no-clusters", default=None, help="NMI and AMI by k-means  [default: up to 20,000 queries]")
@click.option("--weights", type=click.Path(path_type=Path), help="Local safetensors file for EMBEDDER, a timm name.")
@click.option("--pooling", metavar="NAME", help="Of EMBEDDER, a timm name: native, average, max or gem.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write report.html, .json and queries there."
)
@DEVICE
@RUNTIME
@JSON
def evaluate(
    target: str | None,
    protocol: str | None,
    task: str | None,
    classifier: str | None,
    boxes: bool,
    anyway: bool,
    queries: Path | None,
    label: str,
    of_labels: bool,
    priors: tuple[str, ...],
    few_shot: str | None,
    through: str | None,
    ks: tuple[int, ...],
    clusters: bool | None,
    weights: Path | None,
    pooling: str | None,
    out: Path | None,
    device: str,
    runtime: str,
    as_json: bool,
    **reading: Any,
) -> None:
    """Measure a CATALOGUE, or an EMBEDDER by a published protocol, exactly and with intervals.

    \b
    lookalike evaluate shop --queries new-photos --out report
    lookalike evaluate default --protocol cub --root CUB_200_2011

    EMBEDDER is the folder of one, a catalogue (its embedder is meant), a name of timm's, or "default".

    Recall@K is the share of queries with at least one image of their class among the K nearest, the query itself
    excluded by id. Queries whose class has no other image are counted apart. Intervals are 95 %, over classes; macro is
    the mean over classes; resolves is the smallest true difference from another embedder that would show in four of
    five trials. A protocol's report goes to reports/, a catalogue's only to --out.
    """
    if protocol == "list":
        return _list(as_json)
    if target is None:
        raise click.UsageError("name a catalogue, or an embedder with --protocol; --protocol list names the benchmarks")
    of_protocol: dict[str, object] = {"--task": task, "--classifier": classifier, "--boxes": boxes}
    of_protocol |= {"--anyway": anyway, "--weights": weights, "--pooling": pooling}
    of_source = {f"--{name.replace('_', '-')}": value for name, value in reading.items()}
    wanted = tuple(sorted(set(ks))) or None
    if of_labels:
        others: dict[str, object] = {"--protocol": protocol, **of_protocol, "--through": through, "-k": ks}
        refuse({**others, "--clusters": clusters is not None}, "does not go with --labels")
        if label != "label":
            raise click.UsageError("--labels measures the column label; --by does not go with it")
        if queries is None:
            refuse({"--root": of_source.pop("--root"), **of_source}, "goes with --queries")
        from indexer.labelling_cli import measure_labels

        return measure_labels(Path(target), queries, priors, out, device, runtime, reading, as_json=as_json)
    refuse({"--prior": priors}, "goes with --labels")
    if few_shot is not None:
        others = {"--protocol": protocol, **of_protocol, "--queries": queries, "--through": through, "-k": ks}
        refuse({**others, **of_source, "--out": out, "--clusters": clusters is not None}, "does not go with --few-shot")
        return _few_shot(Path(target), few_shot, label, device, runtime, as_json=as_json)
    if protocol is None:
        refuse(of_protocol, "goes with --protocol")
        if queries is None:
            refuse({"--root": of_source.pop("--root")}, "goes with --protocol or --queries")
            refuse(of_source, "goes with --queries")
        measured = _of_catalogue(Path(target), queries, label, through, wanted, clusters, out, device, runtime, reading)
    else:
        by = label if label != "label" else None
        of_catalogue = {"--queries": queries, "--through": through, "--by": by, **of_source, "--root": None}
        refuse(of_catalogue, "is of a catalogue, and --protocol measures an embedder; leave one of them out")
        from indexer.measuring import CLASSIFICATION, Run, check_root, find_task, fitting_classifier
        from indexer.opening import load_embedder
        from retrieval.recognition import choose_classifier
        from retrieval.runtimes import AUTO

        published, chosen, _ = find_task(protocol, task)
        if ks and chosen == CLASSIFICATION:
            raise click.UsageError("-k is of retrieval; classification has Top-1 and Top-5")
        if classifier is not None and chosen != CLASSIFICATION:
            raise click.UsageError("--classifier goes with --task classification")
        root = reading["root"]
        if root is None:
            raise click.UsageError(f"--protocol {protocol} needs --root, the benchmark's folder. {published.layout}")
        check_root(published, root)
        run = Run(
            task=task,
            boxes=boxes,
            anyway=anyway,
            ks=wanted,
            clusters=clusters,
            points=POINTS,
            device=device,
            runtime=None if runtime == AUTO else runtime,
        )
        if out is not None:
            _ready(out)
        embedder = load_embedder(target, weights, pooling, device=device, runtime=runtime)
        if classifier in (None, "auto"):
            by = fitting_classifier(protocol, root, embedder, run, description=embedder.description, notice=notice)
        else:
            by = choose_classifier(classifier, embedder.description)
        run = replace(run, classifier=by)
        # Another embedder's report must not take this one's place, or there would be nothing to compare; nor the
        # head's that of the vote.
        way = "-head" if chosen == CLASSIFICATION and run.classifier == "head" else ""
        out = out or Path("reports") / f"{protocol}-{chosen}{way}-{embedder.digest[:8]}"
        _ready(out, published.title, embedder.digest)
        measured = _by_protocol(embedder, protocol, root, run, device, runtime)
    report = measured.report
    if out is not None:
        from indexer.report_files import write_report

        write_report(out, report, measured.queries, measured.picture)
    if as_json:
        echo_json({**report.to_dict(), "out": None if out is None else str(out)})
        return
    from indexer.report_text import print_report

    print_report(report)
    if out is not None:
        click.echo(f"\nthe report: {out / 'report.html'}")


@click.command()
@click.argument("reports", nargs=-1, required=True, metavar="REPORT REPORT...")
@click.option("--all", "every", is_flag=True, help="Every figure, not only Recall@K, MAP@R and R-Precision.")
@JSON
def compare(reports: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Compare evaluations of the same queries with the first, query by query.

    REPORT is a report.json or its folder; several runs of one thing, with other seeds, are joined by commas:
    lookalike compare a1,a2,a3 b1,b2,b3
    """
    from indexer.comparison import compare_reports

    # A comma may be a part of a name.
    groups = [[group] if Path(group).exists() else group.split(",") for group in reports]
    if len(groups) == len(groups[0]) == 1:
        raise click.UsageError("name two reports or more, or several runs of one joined by commas")
    if not all(all(group) for group in groups):
        raise click.UsageError("there is no name before or after a comma; join runs as in a1,a2,a3")
    comparison = compare_reports([[Path(path) for path in group] for group in groups], every=every)
    if as_json:
        echo_json(comparison.to_dict())
        return
    click.echo(comparison.text())


def _list(as_json: bool) -> None:
    from retrieval.datasets.protocols import PROTOCOLS

    if as_json:
        echo_json(
            {
                name: {"title": it.title, "source": it.source, "layout": it.layout, "tasks": list(it.tasks)}
                for name, it in PROTOCOLS.items()
            }
        )
        return
    for name, it in PROTOCOLS.items():
        click.echo(f"{name:20s} {it.title}; {', '.join(it.tasks)}\n{'':20s} {it.source}\n{'':20s} {it.layout}")


def _few_shot(path: Path, text: str, label: str, device: str, runtime: str, *, as_json: bool) -> None:
    from indexer.catalogue import Catalogue
    from indexer.label_evaluating import few_shot_of_catalogue
    from retrieval.few_shot import Episodes

    episodes = Episodes.read(text)
    with Catalogue.open(path, device=device, runtime=runtime) as opened:
        found = few_shot_of_catalogue(opened, episodes, label=label, notice=notice)
    if as_json:
        echo_json({"catalogue": str(path), "episodes": vars(episodes), **vars(found)})
        return
    click.echo(
        f"{path}: {text}, {found.accuracy:.2%} right (95 % over episodes {found.low:.2%} to {found.high:.2%}) in "
        f"{episodes.number:,} episodes of up to {episodes.queries} queries a class, drawn from {found.classes:,} "
        f"classes; class = {label}"
    )


def _of_catalogue(
    path: Path,
    queries: Path | None,
    label: str,
    through: str | None,
    ks: tuple[int, ...] | None,
    clusters: bool | None,
    out: Path | None,
    device: str,
    runtime: str,
    reading: dict[str, Any],
) -> Measured:
    from indexer.catalogue import Catalogue
    from indexer.evaluation import evaluate_catalogue
    from indexer.opening import read_source
    from indexer.view import EXACT
    from retrieval.evaluation import KS, Question
    from retrieval.model_card import read_description

    if (path / "model.json").is_file() or not path.exists():
        raise NotFoundError(
            f"there is no catalogue {path}; lookalike index makes one, and an embedder is measured with --protocol "
            "NAME --root DIR"
        )
    with_report = out is not None
    with Catalogue.open(path, device=device, runtime=runtime) as opened:
        if out is not None:
            _ready(out, str(opened.about["name"]), opened.digest)
        question = Question(
            "", "", ks=ks or KS, clusters=clusters if with_report else bool(clusters),
            points=POINTS if with_report else 0, findings=with_report,
        )  # fmt: skip
        manifest = None if queries is None else read_source(queries, reading)
        with progress_bar("embed") as progress, progress_bar("rank", "queries") as ranking:
            measured = evaluate_catalogue(
                opened,
                queries=manifest,
                label=label,
                question=question,
                through=through or EXACT,
                frozen=_frozen(read_description(path / "embedder" / opened.digest), device, runtime),
                progress=progress,
                ranking=lambda done, total: ranking(done, total, 0),
                notice=notice,
            )
    return _with_about(measured)


def _by_protocol(embedder: Embedder, protocol: str, root: Path, run: Run, device: str, runtime: str) -> Measured:
    from indexer.measuring import measure_protocol
    from retrieval.model_card import card_of

    with progress_bar("embed") as progress, progress_bar("rank", "queries") as ranking:
        measured = measure_protocol(
            protocol,
            root,
            embedder,
            card=card_of(embedder.description, embedder.digest),
            run=run,
            frozen=_frozen(embedder.description, device, runtime),
            progress=progress,
            ranking=lambda done, total: ranking(done, total, 0),
            notice=notice,
        )
    return _with_about(measured)


def _frozen(description: dict[str, Any], device: str, runtime: str) -> Callable[[], Embeds] | None:
    """What gives the untrained backbone of an embedder that was trained; None for one that was not."""
    from retrieval.model_card import is_trained

    if not is_trained(description):
        return None

    def untrained() -> Embeds:
        from retrieval.frozen import frozen_like

        return frozen_like(description, device=device, runtime=runtime)

    return untrained


def _ready(out: Path, title: str | None = None, digest: str | None = None) -> None:
    from indexer.report_files import check_folder

    check_folder(out, title=title, digest=digest)


def _with_about(measured: Measured) -> Measured:
    from indexer.report_files import about_run

    about = {**about_run(), **(measured.report.about or {})}
    return replace(measured, report=replace(measured.report, about=about))
