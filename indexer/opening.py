"""Opening a catalogue as the command line asks: made where there is none, else checked against the options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import InputError

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue


def open_or_create(
    path: Path,
    backbone: str | None,
    weights: Path | None,
    pooling: str | None,
    device: str,
    runtime: str,
    **about: str | None,
) -> Catalogue:
    """Open the catalogue at ``path``, or make one there, as the options of ``index`` say.

    Args:
        path: its folder.
        backbone: timm's name; None: the default, or whatever the catalogue has.
        weights: of the backbone; refused where the catalogue has its own.
        pooling: likewise.
        device: where network and index run.
        runtime: what runs the network.
        about: ``index``, ``name``, ``note``, as far as they were given.

    Raises:
        InputError: an option does not fit the catalogue that is there.
    """
    from indexer.catalogue import Catalogue
    from indexer.index import check_spec
    from indexer.place import ABOUT_FILE, check_place

    given = {key: value for key, value in about.items() if value is not None}
    spec = given.get("index")
    if not (path / ABOUT_FILE).exists():
        # What can be refused without loading the network is refused first.
        check_place(path.absolute(), locked=False)
        if spec is not None:
            check_spec(spec)
        from retrieval.backbones import DEFAULT_BACKBONE
        from retrieval.embedder import Embedder

        embedder = Embedder.create(
            backbone or DEFAULT_BACKBONE, weights=weights, pooling=pooling or "native", device=device, runtime=runtime
        )
        if spec is not None:
            _try_index(spec, embedder.dim, device)
        return Catalogue.create(path, embedder, device=device, **given)
    from retrieval.model_card import model_card

    opened = Catalogue.open(path, device=device, runtime=runtime)
    card = model_card(path / "embedder" / opened.digest, opened.digest)
    for what, wanted in (("backbone", backbone), ("pooling", pooling)):
        if wanted is not None and wanted != card[what]:
            raise InputError(
                f"{path} was made with {what} {card[what]}, not {wanted}; make a new catalogue for another embedder"
            )
    if weights is not None:
        raise InputError(f"{path} has its weights already; make a new catalogue for others")
    if spec is not None:
        _try_index(spec, opened.dim, device)
    if given:
        with opened.writing():
            opened.set_about(**given)
    return opened


def _try_index(spec: str, dim: int, device: str) -> None:
    """Build an empty index, so that a specification that cannot be is refused before anything is embedded."""
    from indexer.index import INDEX_KINDS, index_kind

    INDEX_KINDS[index_kind(spec)].build(dim, spec, device)
