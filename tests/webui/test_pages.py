"""Pages and their JSON twins: the same data, one error shape, dataclasses as contexts."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from html.parser import HTMLParser

import pytest
from flask import template_rendered

from indexer.catalogue import Catalogue
from tests.embedders import ColourEmbedder
from tests.webui.conftest import HOSTILE, form
from webui.app import create_app

ID = "Paint/Red/000.jpg"


@contextlib.contextmanager
def contexts(app):
    """Collect the contexts of the templates rendered within."""
    seen = []

    def note(sender, template, context, **extra):
        seen.append(context["page"])

    with template_rendered.connected_to(note, app):
        yield seen


def plain(app, value):
    return app.json.loads(app.json.dumps(value))


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.seen = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def all(self, name):
        return [attributes for tag, attributes in self.seen if tag == name]


@pytest.mark.parametrize("path", ["/", "/components", f"/item?id={ID}", f"/like?id={ID}", "/nowhere", "/item"])
def test_a_template_gets_one_frozen_dataclass(app, client, path):
    with contexts(app) as seen:
        client.get(path)
    assert len(seen) == 1
    assert dataclasses.is_dataclass(seen[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[0].about = None


def test_an_uploaded_picture_finds_its_class_first(client, red_photo):
    answer = client.post("/api/search", data=form(red_photo)).json
    assert answer["k"] == 24
    assert answer["query"] == {"kind": "picture", "width": 48, "height": 40, "item": None}
    hits = answer["hits"]
    assert [hit["rank"] for hit in hits] == list(range(1, 25))
    assert {hit["label"] for hit in hits[:6]} == {"Paint/Red"}
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)


def test_an_indexed_picture_finds_itself_first(client, picture_folder):
    answer = client.post("/api/search", data=form((picture_folder / ID).read_bytes()))
    assert answer.json["hits"][0]["id"] == ID


def test_the_page_of_an_upload_shows_what_its_twin_answers(app, client, red_photo):
    with contexts(app) as seen:
        page = client.post("/search", data=form(red_photo, k="12"))
    twin = client.post("/api/search", data=form(red_photo, k="12"))
    assert plain(app, seen[0].results) == twin.json
    assert len(twin.json["hits"]) == 12
    (preview,) = [image["src"] for image in Tags(page.text).all("img") if image.get("alt") == "Your picture"]
    assert preview.startswith("data:image/jpeg;base64,")


def test_the_page_of_an_item_shows_what_its_twin_answers(app, client):
    with contexts(app) as seen:
        client.get("/item", query_string={"id": ID})
        client.get("/like", query_string={"id": ID, "k": 12})
        client.get("/")
    assert plain(app, seen[0].view) == client.get("/api/item", query_string={"id": ID}).json
    assert plain(app, seen[1].results) == client.get("/api/search", query_string={"id": ID, "k": 12}).json
    assert plain(app, seen[2].about) == client.get("/api/catalogue").json


def test_an_item_is_no_lookalike_of_itself(client):
    answer = client.get("/api/search", query_string={"id": ID, "k": 5}).json
    assert answer["query"]["item"]["id"] == ID
    assert ID not in [hit["id"] for hit in answer["hits"]]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
    assert {hit["label"] for hit in answer["hits"]} == {"Paint/Red"}


def test_a_picture_may_be_the_whole_body(client, red_photo):
    sent = client.post("/api/search?k=3", data=red_photo, content_type="image/jpeg")
    assert sent.json == client.post("/api/search", data=form(red_photo, k="3")).json


def test_the_catalogue_is_described(client, catalogue):
    about = client.get("/api/catalogue").json
    assert about["items"] == 24 and about["labels"] == 4 and about["unlabelled"] == 0
    assert about["embedder"] == catalogue.digest
    assert about["limits"]["max_upload"] == 20
    assert client.get("/health").json == {"status": "ok", "items": 24, "version": catalogue.version}
    assert "24 items" in client.get("/").text and "4 labels" in client.get("/").text


def test_no_answer_names_a_folder_of_the_machine(client, catalogue, red_photo):
    folder = str(catalogue.path.parent)
    for path in ["/", "/api/catalogue", f"/api/item?id={ID}", f"/api/search?id={ID}", f"/item?id={ID}", "/health"]:
        assert folder not in client.get(path).text, path
    assert folder not in client.post("/api/search", data=form(red_photo)).text


@pytest.mark.parametrize("k", ["0", "97", "-1", "1.5", "x", " 5", "1_0", "٣", "9" * 40])
def test_a_number_of_hits_that_cannot_be_is_refused(client, k):
    answer = client.get("/api/search", query_string={"id": ID, "k": k})
    assert answer.status_code == 400
    assert "from 1 to 96" in answer.json["error"]["message"]


def test_settings_reach_the_pages(catalogue):
    client = create_app(catalogue, k=5, k_max=30, samples=3, neighbours=2).test_client()
    assert len(client.get("/api/search", query_string={"id": ID}).json["hits"]) == 5
    assert len(client.get("/api/item", query_string={"id": ID}).json["neighbours"]) == 2
    page = Tags(client.get("/").text)
    assert len([a for a in page.all("a") if a.get("class") == "more-like"]) == 3
    assert client.get("/api/catalogue").json["limits"]["k_choices"] == [5, 12, 24]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api/search?id=unknown", 404, "NotFoundError"),
        ("GET", "/api/item?id=unknown", 404, "NotFoundError"),
        ("GET", "/api/item", 400, "InputError"),
        ("GET", "/api/nowhere", 404, "NotFound"),
        ("DELETE", "/api/search", 405, "MethodNotAllowed"),
        ("POST", "/api/search", 400, "InputError"),
    ],
)
def test_errors_have_one_shape(client, method, path, status, kind):
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"status", "message", "kind"}
    assert (answer.json["error"]["status"], answer.json["error"]["kind"]) == (status, kind)
    assert re.fullmatch(r"[A-ZÄ].*[.!?…]", answer.json["error"]["message"], re.DOTALL)


def test_the_page_of_an_error_says_the_same_sentence(client):
    page, twin = client.get("/like?id=unknown"), client.get("/api/search?id=unknown")
    assert page.status_code == twin.status_code == 404
    assert page.mimetype == "text/html"
    assert "has no item with the id &#39;unknown&#39;" in page.text
    assert "has no item with the id 'unknown'" in twin.json["error"]["message"]


def test_a_mistake_of_ours_is_logged_and_told_without_its_details(app, client, monkeypatch, caplog):
    def break_down(*_):
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("webui.data.home", break_down)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "42" not in answer.text and "the secret is 42" in caplog.text


def test_a_damaged_catalogue_is_told_without_its_folder(client, catalogue, monkeypatch):
    from retrieval.errors import DamagedError

    def break_down():
        raise DamagedError(f"{catalogue.path} is damaged")

    monkeypatch.setattr(catalogue, "refresh", break_down)
    for path in ("/", "/api/catalogue"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert str(catalogue.path) not in answer.text
        assert "the log of the server" in answer.text


def test_the_address_of_an_upload_leads_back_to_the_start(client):
    answer = client.get("/search")
    assert (answer.status_code, answer.location) == (303, "/")


def test_an_empty_catalogue_says_how_to_fill_it(tmp_path, red_photo):
    with Catalogue.create(tmp_path / "empty", ColourEmbedder()) as empty:
        client = create_app(empty).test_client()
        assert "lookalike index" in client.get("/").text
        assert client.get("/components").status_code == 200
        assert client.post("/api/search", data=form(red_photo)).json["hits"] == []
        assert "nothing to compare with" in client.post("/search", data=form(red_photo)).text


def test_items_added_later_are_shown(catalogue, client, tmp_path, red_photo):
    from indexer.ingest import ingest
    from retrieval.manifest import read_manifest

    client.get("/")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.jpg").write_bytes(red_photo)
    with Catalogue.open(catalogue.path, embedder=ColourEmbedder()) as other:
        ingest(other, read_manifest(tmp_path / "more"))
    assert client.get("/api/catalogue").json["items"] == 25
    assert client.post("/api/search", data=form(red_photo)).json["hits"][0]["id"] == "new.jpg"


def test_values_from_a_catalogue_are_never_markup(hostile_catalogue):
    client = create_app(hostile_catalogue).test_client()
    ids = hostile_catalogue.items(["id"]).column("id").to_pylist()
    assert len(ids) == 4
    pages = ["/", "/components"] + [f"/{kind}" for kind in ("item", "like") for _ in ids]
    for path, id in zip(pages, [None, None, *ids, *ids], strict=True):
        answer = client.get(path, query_string={"id": id} if id else {})
        assert answer.status_code == 200, (path, id)
        assert "<script>" not in answer.text
        (script,) = Tags(answer.text).all("script")
        assert script["src"] == "/static/lookalike.js"
        assert not [a for _, a in Tags(answer.text).seen if any(name.startswith("on") for name in a)]
    assert client.get("/item", query_string={"id": f"{HOSTILE} unknown"}).status_code == 404
    assert "<script>" not in client.get("/item", query_string={"id": f"{HOSTILE} unknown"}).text


def test_links_carry_any_id(hostile_catalogue):
    client = create_app(hostile_catalogue).test_client()
    tags = Tags(client.get("/").text)
    for name in ("/like?", "/item?"):
        links = {a["href"] for a in tags.all("a") if a["href"].startswith(name)}
        assert len(links) == 4
        assert all(client.get(link).status_code == 200 for link in links)
    pictures = {image["src"] for image in tags.all("img") if "src" in image}
    assert len(pictures) == 4
    assert all(client.get(picture).status_code == 200 for picture in pictures)


def test_every_picture_has_words_and_every_field_a_label(client, red_photo):
    for page in (client.get("/"), client.post("/search", data=form(red_photo)), client.get(f"/item?id={ID}")):
        tags = Tags(page.text)
        assert tags.all("html")[0]["lang"] == "en"
        assert all(image.get("alt") for image in tags.all("img") if "src" in image)
        assert len(tags.all("h1")) == 1
        assert len(tags.all("label")) >= len([i for i in tags.all("input") if i.get("type") != "hidden"])


def test_column_values_are_fit_for_json_and_for_reading():
    import datetime
    import decimal

    from webui.data import _plain
    from webui.pages import text_of

    values = [None, True, 7, 0.1 + 0.2, float("nan"), decimal.Decimal("1.50"), datetime.date(2024, 2, 29), b"abc"]
    assert [_plain(value) for value in values] == [None, True, 7, 0.1 + 0.2, None, "1.50", "2024-02-29", "3 bytes"]
    assert _plain({"a": [datetime.datetime(2024, 1, 1), {"b": float("inf")}]}) == {
        "a": ["2024-01-01T00:00:00", {"b": None}]
    }
    assert [text_of(value) for value in (None, True, 7, 0.1 + 0.2, ["x", 1.5], {"a": None})] == [
        "–",
        "yes",
        "7",
        "0.3",
        "x, 1.5",
        "a: –",
    ]
