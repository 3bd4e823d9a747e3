"""What a page and its JSON twin show: functions over a site that give frozen dataclasses; knows no Flask.

home(site)             Home       /              samples
about(site)            About      /api/catalogue (and the head of every page)
search_picture(site)   Results    /search        POST /api/search
search_item(site)      Results    /like          GET /api/search
view_item(site)        ItemView   /item          /api/item
health(site)           Health     /health
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.catalogue import Catalogue
from indexer.items import ITEMS_SCHEMA
from indexer.search import HITS_SCHEMA, item, search
from retrieval import images
from retrieval.errors import ImageError, InputError, LookalikeError, NotFoundError
from webui.gate import Gate
from webui.settings import K_CHOICES
from webui.thumbnails import Thumbnail, ThumbnailCache, draw

MEGABYTE: Final = 1_000_000
PREVIEW_SIZE: Final = 640
_OURS: Final = frozenset(ITEMS_SCHEMA.names) | frozenset(HITS_SCHEMA.names)


@dataclass(frozen=True)
class Limits:
    """What may be asked: megabytes an upload, hits by default, hits at most, and the numbers of hits offered."""

    max_upload: int
    k: int
    k_max: int
    k_choices: tuple[int, ...]


@dataclass(frozen=True)
class About:
    """A catalogue in a few words.

    Attributes:
        name: of the catalogue.
        note: a sentence for those who look at it, such as that its photos are synthetic.
        items: how many.
        labels: distinct ones.
        unlabelled: items without a label.
        columns: names of the user's own columns.
        version: of the items.
        embedder: digest.
        limits: what may be asked.
    """

    name: str
    note: str | None
    items: int
    labels: int
    unlabelled: int
    columns: tuple[str, ...]
    version: int
    embedder: str
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item of the catalogue.

    Attributes:
        id: the user's key.
        label: a path whose parents are the coarser labels; None: unlabelled.
        width: of the picture, pixels.
        height: of the picture, pixels.
        thumbnail: where its picture is, from the root of the site.
        columns: the user's own values by name, fit for JSON.
    """

    id: str
    label: str | None
    width: int
    height: int
    thumbnail: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Hit(Item):
    """An item found: its place, from 1, and its similarity to the query, cosine in [-1, 1], higher is nearer."""

    rank: int
    similarity: float


@dataclass(frozen=True)
class Query:
    """What was asked with: "picture" or "item" (then with the item), and the picture's size in pixels."""

    kind: str
    width: int
    height: int
    item: Item | None = None


@dataclass(frozen=True)
class Results:
    """The hits of a query, nearest first; an item is not a hit of its own. ``k`` is how many were asked for."""

    query: Query
    k: int
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class ItemView:
    """An item and its nearest neighbours."""

    item: Item
    neighbours: tuple[Hit, ...]


@dataclass(frozen=True)
class Home:
    """Where a visit starts: items spread over the catalogue."""

    samples: tuple[Item, ...]


@dataclass(frozen=True)
class Health:
    """A sign of life, with the items and the version that are served."""

    status: str
    items: int
    version: int


class Site:
    """A catalogue being shown, with what the visits share.

    Args:
        catalogue: open; stays the caller's to close.
        settings: complete, as ``webui.settings.validate`` gives them.
    """

    def __init__(self, catalogue: Catalogue, settings: Mapping[str, Any]) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.gate = Gate(settings["concurrency"], wait=settings["wait"], queue=settings["queue"])
        self.thumbnails = ThumbnailCache(settings["thumbnail_cache"] * MEGABYTE)
        self._about: About | None = None

    def about(self) -> About:
        """Describe the catalogue; counted once a version."""
        self.catalogue.refresh()
        if self._about is None or self._about.version != self.catalogue.version:
            items = self.catalogue.items()
            label = items.column("label")
            k, k_max = self.settings["k"], self.settings["k_max"]
            self._about = About(
                name=str(self.catalogue.about["name"]),
                note=self.catalogue.note,
                items=items.num_rows,
                labels=pc.count_distinct(label).as_py(),
                unlabelled=label.null_count,
                columns=tuple(name for name in items.column_names if name not in _OURS),
                version=self.catalogue.version,
                embedder=self.catalogue.digest,
                limits=Limits(
                    max_upload=self.settings["max_upload"],
                    k=k,
                    k_max=k_max,
                    k_choices=tuple(sorted({*(choice for choice in K_CHOICES if choice <= k_max), k})),
                ),
            )
        return self._about


def home(site: Site) -> Home:
    """Choose items to start from, evenly over the catalogue: in one sorted by label they differ most."""
    items = site.catalogue.items()
    count = min(site.settings["samples"], items.num_rows)
    # The middle of each of `count` equal stretches.
    rows = ((np.arange(count) + 0.5) * items.num_rows / max(count, 1)).astype(np.int64)
    return Home(samples=tuple(_item(site, row) for row in items.take(pa.array(rows)).to_pylist()))


def health(site: Site) -> Health:
    """Say that the catalogue can be read."""
    site.catalogue.refresh()
    return Health(status="ok", items=site.catalogue.items(["row"]).num_rows, version=site.catalogue.version)


def search_picture(site: Site, picture: bytes, *, k: int) -> Results:
    """Find the items most like a picture.

    Args:
        site: what is shown.
        picture: an encoded picture; forgotten afterwards.
        k: how many.

    Raises:
        ImageError: no usable picture.
        OverloadedError: too many searches at once.
    """
    with site.gate.enter():
        try:
            width, height = images.measure(picture, limits=_limits(site))
            found = search(site.catalogue, images=[picture], k=k)
        except ImageError as error:
            raise _refused(error) from error
    return Results(Query("picture", width, height), k, tuple(_hit(site, row) for row in found.to_pylist()))


def preview(site: Site, picture: bytes) -> bytes:
    """Draw an uploaded picture small, as a JPEG without metadata.

    Raises:
        ImageError: no usable picture.
        OverloadedError: too many searches at once.
    """
    with site.gate.enter():
        try:
            return images.thumbnail(picture, size=PREVIEW_SIZE, limits=_limits(site))
        except ImageError as error:
            raise _refused(error) from error


def search_item(site: Site, id: str, *, k: int) -> Results:
    """Find the items most like an item, itself left out.

    Raises:
        NotFoundError: no such item.
        OverloadedError: too many searches at once.
    """
    view = view_item(site, id, k=k)
    return Results(Query("item", view.item.width, view.item.height, view.item), k, view.neighbours)


def view_item(site: Site, id: str, *, k: int) -> ItemView:
    """Show an item and its ``k`` nearest neighbours.

    Raises:
        NotFoundError: no such item.
        OverloadedError: too many searches at once.
    """
    with site.gate.enter():
        found = search(site.catalogue, ids=[id], k=k + 1)
        own = item(site.catalogue, id).to_pylist()[0]
    others = [row for row in found.to_pylist() if row["id"] != id][:k]
    neighbours = tuple(_hit(site, {**row, "rank": rank}) for rank, row in enumerate(others, start=1))
    return ItemView(_item(site, own), neighbours)


def thumbnail(site: Site, id: str, *, size: int, have: str | None = None) -> Thumbnail:
    """Draw an item's picture small; ``have`` is the tag of a picture that the asker has.

    Raises:
        InputError: a size that is not offered.
        NotFoundError: no such item, or its picture cannot be read any more.
    """
    try:
        return draw(site.catalogue, id, size=size, cache=site.thumbnails, have=have)
    except ImageError as error:
        # The reason names a folder of this machine.
        raise NotFoundError("the picture of this item cannot be read any more") from error


def hits_wanted(site: Site, text: str | None, *, default: str = "k") -> int:
    """Read the number of hits out of a request; None or empty is the setting named by ``default``.

    Raises:
        InputError: not a whole number, or more than the setting ``k_max`` allows.
    """
    if not text:
        return int(site.settings[default])
    k_max = site.settings["k_max"]
    # Nothing but ASCII digits: int() also takes underscores, signs and spaces.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= k_max):
        raise InputError(f"k must be a whole number from 1 to {k_max}, not {text[:40]!r}")
    return int(text)


def public_message(error: LookalikeError) -> str:
    """Say an error as a sentence that names no folder of this machine."""
    message = str(error)
    if error.http_status == 423 or (error.http_status >= 500 and error.http_status not in (501, 503)):
        message = "the catalogue cannot be used just now; the log of the server says why"
    return sentence(message)


def sentence(message: str) -> str:
    """Begin with a capital letter and end with a full stop; cut at 400 characters."""
    message = message if len(message) <= 400 else message[:399] + "…"
    return message[:1].upper() + message[1:] + ("" if message[-1:] in ".!?…" else ".")


def _refused(error: ImageError) -> ImageError:
    # The search names the first of its pictures; here there is only the one.
    return ImageError(f"this picture cannot be used: {str(error).removeprefix('image 0: ')}")


def _limits(site: Site) -> images.ImageLimits:
    return images.ImageLimits(max_bytes=site.settings["max_upload"] * MEGABYTE)


def _item(site: Site, row: Mapping[str, Any]) -> Item:
    return Item(**_shown(site, row))


def _hit(site: Site, row: Mapping[str, Any]) -> Hit:
    return Hit(rank=row["rank"], similarity=round(float(row["similarity"]), 6), **_shown(site, row))


def _shown(site: Site, row: Mapping[str, Any]) -> dict[str, Any]:
    address = urlencode({"id": row["id"], "size": site.settings["thumbnail"]})
    return {
        # Neither `source` nor `sha256`: where the files lie is nobody's business.
        **{name: row[name] for name in ("id", "label", "width", "height")},
        "thumbnail": f"/thumbnail?{address}",
        "columns": {name: _plain(value) for name, value in row.items() if name not in _OURS},
    }


def _plain(value: Any) -> Any:
    """Turn a value of Arrow's into one that JSON knows."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
