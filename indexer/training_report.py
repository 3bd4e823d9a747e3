"""The report of a training as one HTML file that opens offline: every picture and curve is inside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from indexer.report_frame import framed, table
from indexer.report_pictures import Album, Picture
from indexer.report_style import STYLE
from indexer.report_words import command, count, data, label, percent, text, value
from indexer.training_account import SCORES, Account, Measure, chosen_by, measures
from indexer.training_charts import CURVE_STYLE, HUES, Series, curves_chart
from indexer.training_options import shown
from retrieval.choosing import USUAL, Choice

MAX_CONFUSIONS: Final = 40
MAX_REFUSED: Final = 100
_OPEN: Final = 12  # the others are folded away
_MEANT: Final = {
    "recall_at_1": "the share of held-out images whose nearest image is of their class",
    "knn": "the share of held-out images whose class is named right by the vote of the nearest training images",
    "head": "the share of held-out images whose class is named right by the classifier head",
}
_FILES: Final = (
    ("model.json", "architecture, preprocessing, recipe and provenance of the embedder"),
    ("weights.safetensors", "its weights"),
    ("training/metrics.csv", "an epoch a row: losses, learning rate, speed, and the validation if there was one"),
    ("training/recipe.json", "every choice with its reason"),
    ("training/last.ckpt", "what the same command goes on from; not needed once it has ended"),
)


def training_page(account: Account, picture: Picture) -> str:
    """Draw the report of a training as a page.

    Args:
        account: what is told.
        picture: gives a small JPEG for an image id; where it gives None or raises ImageError or NotFoundError, the
            page says why in the picture's place.

    Returns:
        A whole HTML document that loads nothing from elsewhere.
    """
    album = Album(picture)
    parts: list[tuple[str, str, Callable[[], str]]] = [
        ("trained", "What was trained", lambda: _trained(account)),
        ("choices", "What was chosen, and why", lambda: _choices(account.choices)),
        ("curves", "Curves", lambda: _curves(account)),
        ("confusions", "Worst confusions", lambda: _confusions(account, album)),
        ("refused", "Refused pictures", lambda: _refused(account.refused)),
        ("repeat", "How to repeat it", lambda: _repeat(account)),
    ]
    return framed(
        f"{account.embedder.get('backbone')} trained on {account.source}", STYLE + CURVE_STYLE, _head(account), parts
    )


def took(seconds: float) -> str:
    """Write a time: "45 s", "12 min 30 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _head(account: Account) -> str:
    return (
        '<header><p class="brand">lookalike <span>training</span></p>'
        f"<h1>{data(account.embedder.get('backbone'))} trained on {data(account.source)}</h1>"
        f'<p class="protocol">{_of_classes(account)}</p>{_leading(account)}</header>'
    )


def _of_classes(account: Account) -> str:
    classes = f" of {count(account.classes, 'class', 'classes')}" if account.classes else " without labels"
    return f"{count(account.pictures, 'image')}{classes}"


def _leading(account: Account) -> str:
    first = ("validation", "none", "nothing was held out to validate on")
    kept, speed, time = "the last one is kept", "in training", "interruptions left out"
    if account.best is not None:
        first = _headline(account)
        kept = f"epoch {account.best_epoch:,}, the best, is kept"
        speed, time = "in training, without validation", "validation included"
    cells = [
        first,
        ("epochs", f"{len(account.rows):,}", kept),
        ("images/s", f"{account.images_per_second:,.0f}", speed),
        ("took", took(account.seconds), time),
    ]
    told = "".join(
        f"<div><dt>{name}</dt><dd><strong>{number}</strong> <span>{note}</span></dd></div>"
        for name, number, note in cells
    )
    return f'<dl class="leading">{told}</dl>'


def _headline(account: Account) -> tuple[str, str, str]:
    """Tell Recall@1, how sure it is, and beside it what chose the epoch."""
    first, chose = _first_and_choosing(account)
    chosen = "it chose the epoch"
    if chose is not first:
        chosen = f"the epoch was chosen by {chosen_by(vars(account.best))}: {chose.name} {chose.told}"
    sure = ", ".join(filter(None, (first.interval("–"), f"on {count(first.of, 'image')} held out")))
    return first.name, _unbroken(first.told), _unbroken(f"{sure}; {chosen}")


def _first_and_choosing(account: Account) -> tuple[Measure, Measure]:
    """Give Recall@1, and the figure that chose the epoch, which may be the same."""
    found = {one.field: one for one in account.measures}
    assert account.best is not None
    return found["recall_at_1"], found[account.best.deciding]


def _unbroken(told: str) -> str:
    return told.replace(" %", "&nbsp;%")


def _trained(account: Account) -> str:
    card = account.embedder
    rows = [(text(key).replace("_", " "), value(given)) for key, given in card.items() if key != "digest"]
    rows.append(("digest", f"<code>{value(card['digest'])}</code>"))
    on = [("trained on", _of_classes(account))]
    if account.best is None:
        on.append(("validated on", text(account.held_by)))
    else:
        on += [
            ("validated on", f"{count(account.held_out, 'image')}: {text(account.held_by)}"),
            ("searched", _searched(account)),
        ]
    alone = account.held_out - account.measured
    if account.best is not None and alone > 0:
        what = count(alone, "held-out image has", "held-out images have")
        on.append(("not searched for", f"{what} no other image of the class to find"))
    on.append(("refused", f"{count(len(account.refused), 'image')} that could not be used"))
    on += [(one.name, ", ".join(filter(None, (one.told, one.interval("–"))))) for one in account.measures]
    if account.untrained is not None:
        before = measures(vars(account.untrained), account.held_out, account.measured)
        on.append(("before training", ", ".join(f"{one.name} {one.told}" for one in before)))
    if account.best is not None and account.best.head is not None:
        on.append(
            ("names classes better", "the head" if account.best.classifier == "head" else "the vote of neighbours")
        )
    return (
        f"{_worth(account)}"
        f'<div class="cards"><div><h3>Embedder</h3>{_list(rows)}</div><div><h3>Images</h3>{_list(on)}</div></div>'
    )


def _worth(account: Account) -> str:
    """Say what chose the epoch, and what the figures are worth."""
    if account.best is None:
        return (
            "<p>Nothing was held out, so no epoch is known to be better than another: the last one is kept. How good "
            "it is, <code>lookalike evaluate</code> tells on images with labels that were not trained on.</p>"
        )
    _, chose = _first_and_choosing(account)
    which = chosen_by(vars(account.best))
    here = f", here the {chose.name}" if which.startswith("the better") else ""
    return (
        f"<p>The epoch was chosen by {which}{here}: {_MEANT[chose.field]}. Between epochs even in this, "
        "MAP@R chose.</p>"
        "<p>The figures are of the epoch that is kept, on images that were not trained on. They chose that epoch, so "
        "they flatter it a little: the number to publish is that of a test set, by <code>lookalike evaluate</code>. "
        "Intervals take each image for itself; images of one class are often right or wrong together, and then they "
        "are too narrow.</p>"
    )


def _searched(account: Account) -> str:
    if account.by == "classes":
        if not account.classes:
            return "among the other held-out images"
        return "among the other held-out images: their classes were not trained on"
    return "among training images, up to 20 of each class"


def _list(rows: Sequence[tuple[str, str]], kind: str = "facts-list") -> str:
    return f'<dl class="{kind}">{"".join(f"<div><dt>{name}</dt><dd>{said}</dd></div>" for name, said in rows)}</dl>'


def _choices(choices: Sequence[Choice]) -> str:
    # What was trained leads, also where it is what is always trained.
    told = sorted(
        (choice for choice in choices if choice.why != USUAL or choice.field == "backbone"),
        key=lambda choice: choice.field != "backbone",
    )
    rest = [choice for choice in choices if choice not in told]
    usual = ""
    if rest:
        usual = (
            f"<details><summary>{len(rest):,} more, as usual</summary>"
            f"{table(('choice', 'value'), [(_name(one), _shown(one)) for one in rest], 'as usual')}</details>"
        )
    rows = [(_name(one), _shown(one), text(one.why)) for one in told]
    return (
        "<p>Every one of these is an option of <code>lookalike train</code>.</p>"
        f"{table(('choice', 'value', 'why'), rows, 'what was chosen')}{usual}"
    )


def _name(choice: Choice) -> str:
    return text(choice.field).replace("_", "-")


def _shown(choice: Choice) -> str:
    return data(shown(choice.value))


def _curves(account: Account) -> str:
    rows = account.rows
    if not rows:
        return '<p class="none">No epoch was finished.</p>'
    epochs = rows[-1].epoch
    losses = [Series("loss", [(row.epoch, row.loss) for row in rows])]
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    if len(names) > 1:
        losses += [
            Series(name, [(row.epoch, row.parts[name]) for row in rows if name in row.parts])
            for name in names[: HUES - 1]
        ]
    drawn = [_titled("Loss", curves_chart("loss", "Loss by epoch", losses, epochs=epochs, write=_number, floor=0.0))]
    shares = []
    for field, name in SCORES:
        points = [(row.epoch, getattr(row.score, field)) for row in rows if row.score is not None]
        if points and all(share is not None for _, share in points):
            shares.append(Series(name, points))
    if shares:
        chart = curves_chart(
            "validation",
            "Validation by epoch, in per cent",
            shares,
            epochs=epochs,
            write=lambda share: _number(100 * share),
            marked=account.best_epoch,
        )
        drawn.append(_titled("Validation, in per cent", chart))
    power = math.floor(math.log10(max(*(row.lr for row in rows), 1e-12)))
    rates = Series(f"learning rate of the backbone, in 1e{power}", [(row.epoch, row.lr / 10**power) for row in rows])
    drawn.append(
        _titled(
            "Learning rate",
            curves_chart("rate", "Learning rate by epoch", [rates], epochs=epochs, write=_number, floor=0.0),
        )
    )
    speeds = Series("images a second, in training", [(row.epoch, row.images_per_second) for row in rows])
    chart = curves_chart("speed", "Images a second by epoch", [speeds], epochs=epochs, write=_number, floor=0.0)
    drawn.append(_titled("Speed", chart))
    return f"{''.join(drawn)}{_epochs(account, names)}"


def _titled(title: str, chart: str) -> str:
    return f"<h3>{title}</h3>{chart}"


def _number(number: float) -> str:
    """Write a number so that it fits beside an axis."""
    return f"{number / 1000:.3g}k" if abs(number) >= 10_000 else f"{number:,.4g}"


def _epochs(account: Account, names: Sequence[str]) -> str:
    scored = [(field, name) for field, name in SCORES if any(_score(row, field) for row in account.rows)]
    rows = [
        (
            f"{row.epoch:,}",
            f"{row.loss:.4g}",
            *(f"{row.parts[name]:.4g}" if name in row.parts else "–" for name in names),
            *(_score(row, field) or "–" for field, _ in scored),
            f"{row.lr:.2g}",
            f"{row.image_size:,}",
            f"{row.images_per_second:,.0f}",
        )
        for row in account.rows
    ]
    columns = ("epoch", "loss", *map(text, names), *(f"{name}, %" for _, name in scored), "rate", "pixels", "images/s")
    drawn = table(columns, rows, "epoch by epoch", "numbers")
    return f"<details><summary>Epoch by epoch, as a table</summary>{drawn}</details>"


def _score(row: object, field: str) -> str:
    share = getattr(getattr(row, "score", None), field, None)
    return "" if share is None else percent(share)


def _confusions(account: Account, album: Album) -> str:
    if account.best is None:
        why = "Nothing was held out" if account.classes else "Training was without labels, and nothing was held out"
        return f'<p class="none">{why}, so none is known.</p>'
    if not account.confusions:
        return '<p class="none">No held-out image has a nearest image of another class.</p>'
    items = []
    for one in account.confusions[:MAX_CONFUSIONS]:
        sides = "".join(
            f'<figure class="tile pair-side">{album.show(id, f"{what}, {of}")}<figcaption>{label(of)}'
            f'<span class="id">{data(id)}</span></figcaption></figure>'
            for id, of, what in (
                (one.id, one.label, "held out"),
                (one.nearest, one.nearest_label, "the nearest to it"),
            )
        )
        items.append(
            f'<li class="pair"><p class="facts"><span>similarity</span><span>{one.similarity:.3f}</span></p>'
            f'<div class="sides">{sides}</div></li>'
        )
    first = f'<ol class="pairs">{"".join(items[:_OPEN])}</ol>'
    more = ""
    if len(items) > _OPEN:
        more = (
            f"<details><summary>{count(len(items) - _OPEN, 'more confusion')}</summary>"
            f'<ol class="pairs" start="{_OPEN + 1}">{"".join(items[_OPEN:])}</ol></details>'
        )
    which = (
        "The held-out image, left, whose nearest image, right, is of another class."
        if len(items) == 1
        else f"Held-out images, left, whose nearest image, right, is of another class: the {len(items):,} most similar."
    )
    return f"<p>{which} What looks the same to you too is often a wrong label.</p>{first}{more}"


def _refused(refused: Sequence[tuple[str, str]]) -> str:
    if not refused:
        return '<p class="none">Every picture could be used.</p>'
    rows = "".join(
        f"<li><span>{data(uri)}</span> <span class=soft>{data(reason)}</span></li>"
        for uri, reason in refused[:MAX_REFUSED]
    )
    more = len(refused) - MAX_REFUSED
    rest = f'<p class="soft">and {count(more, "more picture")}.</p>' if more > 0 else ""
    return f'<ul class="plain">{rows}</ul>{rest}'


def _repeat(account: Account) -> str:
    about = dict(account.about)
    called = about.pop("command", None)
    line = f"<pre><code>{command(called)}</code></pre>" if called else ""
    rows = [(text(key).replace("_", " "), value(given)) for key, given in about.items()]
    files = [(f"<code>{name}</code>", what) for name, what in _FILES]
    by_the_clock = ""
    if "--budget" in str(called):
        chosen = {choice.field: choice.value for choice in account.choices}
        epochs, done = chosen["epochs"], len(account.rows)
        cut = done < epochs and not chosen["patience"]
        by_the_clock = " A budget goes by the speed of the machine" + (
            f", and this one ended the run after {done} of {epochs} epochs, which cannot be repeated to the bit."
            if cut
            else f": give <code>--epochs {epochs}</code> in its place."
        )
    return (
        "<p>The same command on the same images draws the same numbers; with <code>--deterministic</code> and the same "
        f"versions on the same machine it gives the same weights to the bit.{by_the_clock}</p>"
        f"{line}{_list(rows)}<h3>Files beside this page</h3>{_list(files, 'facts-list wide')}"
    )
