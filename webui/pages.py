"""Pages: HTML for people; what they show comes from ``webui.data``, as their JSON twins in ``webui.api`` do.

A template gets one thing, ``page``: one of the dataclasses below.
"""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from retrieval.errors import InputError
from webui import data
from webui.data import About, Hit, Home, Item, ItemView, Query, Results, Site
from webui.uploads import read_upload

pages = Blueprint("pages", __name__)


@dataclass(frozen=True)
class Problem:
    """What went wrong: the HTTP status, a sentence, and the name of the error."""

    status: int
    message: str
    kind: str


@dataclass(frozen=True)
class HomePage:
    """Context of ``home.html``."""

    about: About
    home: Home


@dataclass(frozen=True)
class ResultsPage:
    """Context of ``results.html``; ``preview`` is the uploaded picture as a data: URL."""

    about: About
    results: Results
    preview: str | None = None


@dataclass(frozen=True)
class ItemPage:
    """Context of ``item.html``."""

    about: About
    view: ItemView


@dataclass(frozen=True)
class ErrorPage:
    """Context of ``error.html``; without ``about`` there is no form to try again with."""

    about: About | None
    problem: Problem


@dataclass(frozen=True)
class ComponentsPage:
    """Context of ``components.html``: the parts in their usual and in their hardest states."""

    about: About
    hits: tuple[Hit, ...]
    picture: Results
    like: Results
    unlabelled: Results
    problem: Problem


def current_site() -> Site:
    """The site that the running application shows."""
    site: Site = current_app.extensions["lookalike"]
    return site


def item_id() -> str:
    """The id that the request names; in the query, since ids hold slashes and anything else.

    Raises:
        InputError: it names none.
    """
    id = request.args.get("id")
    if not id:
        raise InputError("the address names no item: add ?id=…")
    return id


@pages.get("/")
def home() -> str:
    """Show where a visit starts."""
    site = current_site()
    about = site.about()
    return render_template("home.html", page=HomePage(about, data.home(site)))


# No token against forged requests: a search changes nothing, so a forged one does nothing for its
# author, who cannot read the answer either.
@pages.post("/search")
def search() -> str:
    """Show the lookalikes of an uploaded picture."""
    site = current_site()
    picture = read_upload(request, max_upload=site.settings["max_upload"])
    k = data.hits_wanted(site, request.form.get("k"))
    small = base64.b64encode(data.preview(site, picture)).decode()
    results = data.search_picture(site, picture, k=k)
    return render_template("results.html", page=ResultsPage(site.about(), results, f"data:image/jpeg;base64,{small}"))


@pages.get("/search")
def search_again() -> BaseResponse:
    """Send those who come back to the address of an upload, which is gone, to the start."""
    return redirect(url_for("pages.home"), 303)


@pages.get("/like")
def like() -> str:
    """Show the lookalikes of an item."""
    site = current_site()
    results = data.search_item(site, item_id(), k=data.hits_wanted(site, request.args.get("k")))
    return render_template("results.html", page=ResultsPage(site.about(), results))


@pages.get("/item")
def item() -> str:
    """Show an item, its columns and its nearest neighbours."""
    site = current_site()
    view = data.view_item(site, item_id(), k=data.hits_wanted(site, request.args.get("k"), default="neighbours"))
    return render_template("item.html", page=ItemPage(site.about(), view))


@pages.get("/thumbnail")
def thumbnail() -> Response:
    """Serve an item's picture, drawn anew; never the file itself."""
    site = current_site()
    size = request.args.get("size", str(site.settings["thumbnail"]))
    if not (size.isascii() and size.isdigit() and len(size) < 6):
        raise InputError(f"size must be a number of pixels, not {size[:40]!r}")
    # The asker may have several pictures; ours are told apart by item and size, so the first tag will do.
    have = next(iter(request.if_none_match.as_set()), None)
    drawn = data.thumbnail(site, item_id(), size=int(size), have=have)
    response = make_response(b"" if drawn.jpeg is None else drawn.jpeg, 304 if drawn.jpeg is None else 200)
    response.mimetype = "image/jpeg"
    response.set_etag(drawn.tag)
    response.cache_control.private = True
    response.cache_control.max_age = 3600
    return response


@pages.get("/components")
def components() -> str:
    """Show every part of the pages, in its usual and in its hardest states."""
    site = current_site()
    samples = data.home(site).samples
    missing = Item(id="missing", label=None, width=600, height=400, thumbnail="/thumbnail?id=", columns={})
    first, second, third = (samples + (missing,) * 3)[:3]
    long = {"label": "Fruit/Stone-Fruit/" + "Nectarine-from-the-" + "very-" * 8 + "long-valley"}
    many: dict[str, Any] = {f"column {number}": "value " * number for number in range(1, 21)}
    hits = (
        _as_hit(first, 1, 1.0, label="Fruit/Apple/Granny-Smith", columns={"price": 12.5, "colour": "green"}),
        _as_hit(second, 2, 0.874, **long, columns=many),
        _as_hit(third, 3, 0.5, label=None, columns={}),
        _as_hit(missing, 4, -0.12, id="a/very/" + "long" * 30 + ".jpg", columns={"empty": None, "a": "<b>&"}),
    )
    page = ComponentsPage(
        about=site.about(),
        hits=hits,
        picture=Results(Query("picture", 4032, 3024), site.settings["k"], hits),
        like=Results(Query("item", first.width, first.height, hits[1]), site.settings["k"], hits),
        unlabelled=Results(Query("item", third.width, third.height, hits[2]), site.settings["k"], ()),
        problem=Problem(415, "This picture cannot be used: not an image.", "ImageError"),
    )
    return render_template("components.html", page=page)


def _as_hit(item: Item, rank: int, similarity: float, **changes: Any) -> Hit:
    fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(Item)}
    return Hit(rank=rank, similarity=similarity, **{**fields, **changes})


def text_of(value: Any) -> str:
    """Say a value of a column in as few characters as are of use."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(text_of, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text_of(inner)}" for key, inner in value.items())
    return str(value)


def crumbs_of(label: str | None) -> list[str]:
    """Split a label into its parts, coarsest first."""
    return [part for part in (label or "").split("/") if part]


def fits_square(item: Item) -> bool:
    """Whether a picture loses little when it is cropped to a square."""
    return 0.62 <= item.width / max(item.height, 1) <= 1.6


def two_places(similarity: float) -> str:
    """Write a similarity with two decimals and a true minus."""
    return f"{similarity:.2f}".replace("-0.00", "0.00").replace("-", "−")
