"""create_app: a Flask application over one open catalogue."""

from __future__ import annotations

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from indexer.catalogue import Catalogue
from retrieval.errors import InputError, LookalikeError, OverloadedError
from webui import pages
from webui.api import api
from webui.data import Site, public_message, sentence
from webui.pages import ErrorPage, Problem
from webui.settings import THUMBNAIL_SIZES, validate
from webui.uploads import MemoryRequest, form_config, too_large

HEADERS: Final = {
    # Everything from here, pictures also from the page itself and from the visitor's own choice (preview).
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Other sites cannot learn by embedding our thumbnails what a catalogue on this machine holds.
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer."""


def create_app(catalogue: Catalogue, **settings: Any) -> Flask:
    """Make the web application over a catalogue.

    Args:
        catalogue: open; must stay so while the application runs.
        **settings: see ``webui.settings.SETTINGS``.

    Raises:
        InputError: a setting that is unknown or cannot be used.
    """
    complete = validate(**settings)
    app = Flask("webui")
    app.request_class = MemoryRequest
    app.config.update(form_config(complete["max_upload"]))
    app.extensions["lookalike"] = Site(catalogue, complete)
    # A dictionary keeps the order it was made in, as the tables do.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        text=pages.text_of, crumbs=pages.crumbs_of, fits_square=pages.fits_square, two_places=pages.two_places
    )
    app.jinja_env.globals.update(small=complete["thumbnail"], sharp=_next_size(complete["thumbnail"]))
    app.register_blueprint(pages.pages)
    app.register_blueprint(api)
    allowed = frozenset(complete["hosts"].lower().replace(",", " ").split())

    @app.before_request
    def _check_host() -> None:
        if not trusts_host(request.environ.get("HTTP_HOST"), allowed):
            # A stranger is told nothing of the catalogue.
            g.stranger = True
            raise InputError("this server does not answer to that host name; the setting hosts names those it does")

    @app.after_request
    def _add_headers(response: Response) -> Response:
        response.headers.extend((name, value) for name, value in HEADERS.items() if name not in response.headers)
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-cache"
        return response

    @app.errorhandler(Exception)
    def _answer_error(error: Exception) -> Response:
        problem = _problem(app, error, max_upload=complete["max_upload"])
        response = _error_response(app, problem)
        if isinstance(error, HTTPException):
            # Such as Allow beside 405.
            response.headers.extend(
                (name, value) for name, value in error.get_headers() if name.lower() not in ("content-type",)
            )
        if isinstance(error, OverloadedError):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    return app


def trusts_host(header: str | None, allowed: frozenset[str]) -> bool:
    """Whether to answer a request with this Host header.

    A page of a stranger can make its own name point at this machine (DNS rebinding) and then read a server that
    takes any name. It cannot make an IP address or ``localhost`` its name, so those are answered without asking;
    other names must be in ``allowed``, where * stands for any.
    """
    # Browsers always send one.
    if header is None or "*" in allowed:
        return True
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _problem(app: Flask, error: Exception, *, max_upload: int) -> Problem:
    if isinstance(error, RequestEntityTooLarge) and (request.content_length or 0) > app.config["MAX_CONTENT_LENGTH"]:
        error = too_large(max_upload)
    if isinstance(error, LookalikeError):
        if error.http_status >= 500:
            app.logger.error("%s %s: %s: %s", request.method, request.path, type(error).__name__, error)
        return Problem(error.http_status, public_message(error), type(error).__name__)
    if isinstance(error, HTTPException):
        return Problem(error.code or 500, sentence(error.description or error.name), type(error).__name__)
    app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return Problem(500, "Something went wrong here; the log of the server says what.", "InternalError")


def _error_response(app: Flask, problem: Problem) -> Response:
    if request.path.startswith("/api/") or request.path == "/health":
        response = jsonify(error=problem)
    else:
        site: Site = app.extensions["lookalike"]
        try:
            about = None if g.get("stranger") else site.about()
        except LookalikeError:
            # A broken catalogue has nothing to tell either.
            about = None
        response = make_response(render_template("error.html", page=ErrorPage(about, problem)))
    response.status_code = problem.status
    return response


def _next_size(size: int) -> int:
    """The thumbnail for screens with two dots a pixel."""
    return next((larger for larger in THUMBNAIL_SIZES if larger >= 2 * size), THUMBNAIL_SIZES[-1])
