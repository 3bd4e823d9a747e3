"""A visit with a browser: choose, drop, paste, click, keyboard, phone, and what goes wrong."""

from __future__ import annotations

import base64

import pytest

pytestmark = pytest.mark.browser

GIVE = """async ([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carrier = new DataTransfer();
  carrier.items.add(new File([bytes], name, { type }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: carrier, bubbles: true })
    : new DragEvent(kind, { dataTransfer: carrier, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


def give(page, kind, path, type="image/jpeg"):
    page.evaluate(GIVE, [kind, path.name, type, base64.b64encode(path.read_bytes()).decode()])


def first_name(page):
    return page.locator(".grid .hit .name").first.inner_text()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_chosen_photo_finds_its_label_first(open_page, photo):
    page = open_page()
    page.set_input_files("input[type=file]", photo)
    page.wait_for_url("**/search")
    assert first_name(page) == "Red"
    assert page.locator(".hit").count() == 24
    assert page.locator(".query img").evaluate("image => image.naturalWidth") == 48
    assert page.locator(".hit img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert 0.9 < float(page.locator(".similarity").first.get_attribute("value")) <= 1


def test_a_click_on_a_hit_finds_more_like_it(open_page, photo):
    page = open_page()
    page.set_input_files("input[type=file]", photo)
    page.wait_for_url("**/search")
    page.locator(".hit .more-like", has=page.locator("img[alt='Paint/Blue']")).first.click()
    page.wait_for_url("**/like?**")
    assert "Blue" in page.locator("h1").inner_text()
    assert first_name(page) == "Blue"
    page.get_by_role("link", name="12", exact=True).click()
    page.wait_for_url("**k=12")
    assert page.locator(".hit").count() == 12
    page.locator(".hit .name").first.click()
    page.wait_for_url("**/item?**")
    assert page.locator("h1").inner_text() == "Blue"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_photo_is_searched_from_any_page(open_page, photo, kind):
    for path in ("/", "/item?id=Paint/Sand/001.jpg"):
        page = open_page(path)
        give(page, kind, photo)
        page.wait_for_url("**/search")
        assert first_name(page) == "Red"


def test_dragging_over_the_page_says_where_to_drop(open_page, photo):
    page = open_page()
    veil = page.locator(".veil")
    assert not veil.is_visible()
    give(page, "dragenter", photo)
    assert veil.is_visible() and "Drop the picture" in veil.inner_text()
    give(page, "dragleave", photo)
    assert not veil.is_visible()


def test_it_works_without_javascript(open_page, photo):
    page = open_page(java_script_enabled=False)
    page.set_input_files("input[type=file]", photo)
    page.select_option("select[name=k]", "12")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**/search")
    assert first_name(page) == "Red"
    assert page.locator(".hit").count() == 12


def test_the_keyboard_alone_is_enough(open_page, photo):
    page = open_page()
    # Said long before it is needed: Playwright begins to listen some time after it was asked to.
    page.on("filechooser", lambda chooser: chooser.set_files(photo))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "brand"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "image"
    assert page.locator(".drop").evaluate("drop => getComputedStyle(drop).outlineStyle") == "solid"
    page.keyboard.press("Space")
    page.wait_for_url("**/search")
    page.locator(".hit .more-like").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[...document.querySelectorAll('.more-like')].indexOf(document.activeElement)") == 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('.more-like')].indexOf(document.activeElement)") > 2
    wanted = page.evaluate("document.activeElement.href")
    page.keyboard.press("Enter")
    page.wait_for_url(wanted)
    assert "More like" in page.locator("h1").inner_text()


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_no_page_scrolls_sideways(open_page, photo, width):
    page = open_page(viewport={"width": width, "height": 800})
    home = page.url
    assert overflow(page) == 0
    for path in ("item?id=Paint/Red/000.jpg", "like?id=Paint/Red/000.jpg", "components", "nowhere"):
        page.goto(home + path)
        assert overflow(page) == 0, path
    page.goto(home)
    page.set_input_files("input[type=file]", photo)
    page.wait_for_url("**/search")
    assert overflow(page) == 0


def test_a_text_that_calls_itself_a_photo_is_answered_with_a_sentence(open_page, tmp_path, photo):
    path = tmp_path / "notes.jpg"
    path.write_text("just some words")
    page = open_page()
    page.set_input_files("input[type=file]", path)
    page.wait_for_url("**/search")
    assert page.locator("h1").inner_text().startswith("This picture cannot be used: ")
    page.set_input_files("input[type=file]", photo)
    page.wait_for_selector(".hit")
    assert first_name(page) == "Red"


def test_a_file_not_worth_sending_is_said_before_it_is_sent(open_page, tmp_path):
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    notice = page.locator(".notice")
    for name, size, sentence in (
        ("large.jpg", 1_000_001, "This picture is larger than 1 MB; choose a smaller one."),
        ("notes.txt", 10, "notes.txt is not a picture."),
        ("empty.jpg", 0, "empty.jpg is an empty file."),
    ):
        path = tmp_path / name
        path.write_bytes(b"\0" * size)
        page.set_input_files("input[type=file]", path)
        assert notice.is_visible() and notice.inner_text() == sentence
    assert "POST" not in sent


def test_a_search_shows_that_it_is_under_way(open_page, photo):
    page = open_page()
    # A server that never answers, as far as the page can tell.
    page.evaluate("HTMLFormElement.prototype.submit = () => {}")
    page.set_input_files("input[type=file]", photo)
    page.wait_for_selector(".veil[data-state=busy]")
    assert "Looking for lookalikes" in page.locator(".veil[role=status]").inner_text()
    assert page.locator(".veil img").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector(".veil", state="hidden")


def test_a_picture_that_is_gone_is_said_in_words(open_page, catalogue):
    (catalogue.path.parent / "pictures" / "Paint/Red/000.jpg").unlink()
    page = open_page("/item?id=Paint/Red/000.jpg")
    page.wait_for_selector(".item .picture.missing")


def test_light_and_dark_differ(open_page):
    grounds = [
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds[0] != grounds[1]


@pytest.fixture
def grocery(shared_photos, tmp_path):
    """Five kinds of groceries photographed in shops, seen by the default embedder."""
    pytest.importorskip("torch")
    from indexer.catalogue import Catalogue
    from indexer.ingest import ingest
    from retrieval.embedder import Embedder
    from retrieval.manifest import read_manifest

    for kind in ("Fruit/Banana", "Fruit/Pineapple", "Fruit/Avocado", "Vegetables/Asparagus", "Vegetables/Carrots"):
        place = tmp_path / "photos" / kind
        place.mkdir(parents=True)
        for path in sorted((shared_photos / "train" / kind).glob("*.jpg"))[:6]:
            (place / path.name).write_bytes(path.read_bytes())
    with Catalogue.create(tmp_path / "grocery", Embedder.create(device="cpu"), device="cpu") as made:
        ingest(made, read_manifest(tmp_path / "photos"))
        assert made.items().num_rows == 30
        yield made


def test_a_real_photo_finds_its_label_first(chromium, grocery, shared_photos):
    from tests.webui.serving import serving
    from webui.app import create_app

    with serving(create_app(grocery)) as address, chromium.new_context() as context:
        page = context.new_page()
        for kind in ("Fruit/Pineapple", "Fruit/Banana"):
            page.goto(address)
            page.set_input_files("input[type=file]", sorted((shared_photos / "test" / kind).rglob("*.jpg"))[0])
            page.wait_for_url("**/search")
            assert first_name(page) == kind.split("/")[1]
