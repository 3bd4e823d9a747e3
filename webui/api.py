"""JSON for programs: the twins of the pages, from the same functions of ``webui.data``."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from webui import data
from webui.pages import current_site, item_id
from webui.uploads import read_upload

api = Blueprint("api", __name__)


@api.get("/api/catalogue")
def catalogue() -> Response:
    """Answer what the catalogue is and what may be asked of it."""
    return jsonify(current_site().about())


# No token against forged requests: see webui.pages.search.
@api.post("/api/search")
def search_picture() -> Response:
    """Answer the lookalikes of a picture: form field ``image``, or the bytes as the body; ``k`` in form or query."""
    site = current_site()
    picture = read_upload(request, max_upload=site.settings["max_upload"])
    k = data.hits_wanted(site, request.args.get("k") or request.form.get("k"))
    return jsonify(data.search_picture(site, picture, k=k))


@api.get("/api/search")
def search_item() -> Response:
    """Answer the lookalikes of the item ``id``; ``k`` says how many."""
    site = current_site()
    return jsonify(data.search_item(site, item_id(), k=data.hits_wanted(site, request.args.get("k"))))


@api.get("/api/item")
def item() -> Response:
    """Answer the item ``id`` and its nearest neighbours; ``k`` says how many."""
    site = current_site()
    k = data.hits_wanted(site, request.args.get("k"), default="neighbours")
    return jsonify(data.view_item(site, item_id(), k=k))


@api.get("/health")
def health() -> Response:
    """Answer that the catalogue can be read."""
    return jsonify(data.health(current_site()))
