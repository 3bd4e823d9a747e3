"""Hits as one HTML file that opens offline: every picture is inside it, small and without metadata."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from indexer.catalogue import Catalogue
from indexer.search import HITS_SCHEMA, thumbnail
from retrieval import images
from retrieval.errors import ImageError, NotFoundError

SIZE: Final = 240

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; overflow-wrap: anywhere; }
.query { display: flex; gap: 1rem; align-items: end; margin: 2.5rem 0 1rem; }
.query img { max-width: 160px; max-height: 160px; border-radius: .4rem; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr)); }
li { border: 1px solid color-mix(in srgb, currentColor 15%, transparent); border-radius: .6rem; overflow: hidden; }
figure { margin: 0; } figure > div { aspect-ratio: 1; display: grid; place-items: center;
  background: color-mix(in srgb, currentColor 5%, transparent); }
li img { width: 100%; height: 100%; object-fit: contain; }
figcaption { padding: .6rem .7rem; overflow-wrap: anywhere; }
b { font-variant-numeric: tabular-nums; float: right; margin-left: .5rem; }
small { display: block; opacity: .7; } p.none { opacity: .7; padding: 1rem; }
"""


def hits_page(catalogue: Catalogue, hits: pa.Table, *, pictures: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """Draw a table of hits as a page.

    Args:
        catalogue: where the pictures of the hits come from; one that cannot be read is replaced by the reason.
        hits: what ``search`` gave.
        pictures: encoded query pictures by the name in the column ``query``; a query without one is an item's id.

    Returns:
        A whole HTML document.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in hits.to_pylist():
        groups.setdefault(row["query"], []).append(row)
    parts = [_group(catalogue, query, rows, pictures.get(query)) for query, rows in groups.items()]
    name = escape(str(catalogue.about["name"]))
    note = f"<p>{escape(catalogue.note)}</p>" if catalogue.note else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Lookalikes in {name}</title><style>{_STYLE}</style><h1>Lookalikes in {name}</h1>{note}"
        f"{''.join(parts) or '<p>No hits: the catalogue is empty.</p>'}</html>\n"
    )


def _group(catalogue: Catalogue, query: str, rows: list[dict[str, Any]], encoded: bytes | None) -> str:
    picture = ""
    if encoded is not None:
        picture = _inline(images.thumbnail(encoded, size=SIZE), f"query {query}")
    elif any(row["id"] == query for row in rows):
        picture = _hit_picture(catalogue, query)
    cells = "".join(f"<li>{_hit(catalogue, row)}</li>" for row in rows)
    return f'<section><div class="query">{picture}<h2>{escape(query)}</h2></div><ol>{cells}</ol></section>'


def _hit(catalogue: Catalogue, row: dict[str, Any]) -> str:
    extra = "".join(
        f"<small>{escape(name)}: {escape(str(value))}</small>"
        for name, value in row.items()
        if name not in HITS_SCHEMA.names and value is not None
    )
    return (
        f"<figure><div>{_hit_picture(catalogue, row['id'])}</div><figcaption><b>{row['similarity']:.3f}</b>"
        f"{row['rank']}. {escape(row['label'] or 'no label')}<small>{escape(row['id'])}</small>{extra}</figcaption>"
        "</figure>"
    )


def _hit_picture(catalogue: Catalogue, id: str) -> str:
    try:
        return _inline(thumbnail(catalogue, id, size=SIZE), id)
    except (ImageError, NotFoundError) as error:
        return f'<p class="none">{escape(str(error))}</p>'


def _inline(jpeg: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
