"""Opening what the command line names: a source, an embedder, or a catalogue, made where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrieval.errors import DamagedError, InputError, NotFoundError
from retrieval.recipe import CHECKPOINT

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue
    from retrieval.embedder import Embedder
    from retrieval.manifest import Manifest

DEFAULT: Final = "default"
"""Names the bundled embedder."""


def embedder_folder(path: Path) -> Path:
    """Find the files of the embedder that a path names: the folder itself, or of a catalogue the one in force.

    Raises:
        NotFoundError: there is nothing.
        InputError: it is neither an embedder nor a catalogue.
    """
    if (path / "model.json").is_file():
        return path
    if (path / "catalogue.json").is_file():
        from indexer.catalogue import Catalogue

        with Catalogue.open(path) as opened:
            return path / "embedder" / opened.digest
    from indexer.training_files import TRAINING

    if (path / TRAINING / CHECKPOINT).is_file():
        raise InputError(
            f"{path} is a training that has not come to its end, and has no embedder yet: let it go on or, if it was "
            "stopped, give its lookalike train command again"
        )
    if path.exists():
        raise InputError(
            f"{path} is neither an embedder (it has no model.json) nor a catalogue; give the folder of one"
        )
    raise NotFoundError(f"there is no embedder {path}; give the folder of one or of a catalogue")


def load_embedder(target: str, weights: Path | None, pooling: str | None, *, device: str, runtime: str) -> Embedder:
    """Load the embedder that a folder or a catalogue holds, or compose one of the backbone that ``target`` names.

    Args:
        target: a path, a name of timm's or ``DEFAULT``.
        weights: of the backbone; refused where the embedder has its own.
        pooling: likewise.
        device: where the network runs.
        runtime: what runs it.

    Raises:
        InputError: there is no such embedder, or it has what was given.
        NotFoundError: there is nothing at this path.
    """
    path = Path(target)
    if path.exists() or len(path.parts) > 1:
        folder = embedder_folder(path)
        if weights is not None or pooling is not None:
            raise InputError(f"{path} has its own weights and pooling; leave --weights and --pooling out")
        from retrieval.embedder import Embedder

        return Embedder.load(folder, device=device, runtime=runtime)
    from retrieval.backbones import DEFAULT_BACKBONE
    from retrieval.embedder import Embedder

    name = DEFAULT_BACKBONE if target == DEFAULT else target
    return Embedder.create(name, weights=weights, pooling=pooling or "native", device=device, runtime=runtime)


def open_or_create(
    path: Path,
    *,
    backbone: str | None,
    weights: Path | None,
    pooling: str | None,
    embedder: Path | None,
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
        embedder: folder of one, or another catalogue, in place of these three; None: as they say.
        device: where network and index run.
        runtime: what runs the network.
        about: ``index``, ``name``, ``note``, as far as they were given.

    Raises:
        InputError: an option does not fit the catalogue that is there, or there is no such embedder.
        NotFoundError: there is nothing where the embedder should be.
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
        folder = None if embedder is None else embedder_folder(embedder)
        from retrieval.backbones import DEFAULT_BACKBONE
        from retrieval.embedder import Embedder

        if folder is None:
            name = backbone or DEFAULT_BACKBONE
            loaded = Embedder.create(name, weights=weights, pooling=pooling or "native", device=device, runtime=runtime)
        else:
            loaded = Embedder.load(folder, device=device, runtime=runtime)
        if spec is not None:
            _try_index(spec, loaded.dim, device)
        return Catalogue.create(path, loaded, device=device, **given)
    from retrieval.model_card import model_card

    opened = Catalogue.open(path, device=device, runtime=runtime)
    card = model_card(path / "embedder" / opened.digest, opened.digest)
    if embedder is not None:
        _check_same(path, card, embedder)
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


def read_source(source: Path, reading: dict[str, Any]) -> Manifest:
    """Read a source as ``indexer.options.source_options`` say."""
    from retrieval.manifest import Columns, read_manifest

    columns = Columns(
        image=reading["image_column"],
        id=reading["id_column"],
        label=reading["label_column"],
        split=reading["split_column"],
    )
    return read_manifest(source, columns=columns, root=reading["root"], prefix=reading["prefix"])


def _check_same(path: Path, card: dict[str, Any], embedder: Path) -> None:
    """Raise InputError where the embedder that is asked for is not that of the catalogue at ``path``."""
    from indexer.embeds import digest_of
    from retrieval.model_card import model_card

    folder = embedder_folder(embedder)
    try:
        digest = digest_of(folder)
    except OSError as error:
        raise DamagedError(f"the embedder in {folder} is missing or damaged: {error}") from error
    if digest != card["digest"]:
        raise InputError(
            f"{path} was made with another embedder, {_named(card)}, and {embedder} is "
            f"{_named(model_card(folder, digest))}; leave --embedder out, or name a new catalogue with --catalogue"
        )


def _named(card: dict[str, Any]) -> str:
    from retrieval.model_card import name_of

    return f"{name_of(card)}{', trained' if card['trained'] else ''}, digest {card['digest'][:12]}"


def _try_index(spec: str, dim: int, device: str) -> None:
    """Build an empty index, so that a specification that cannot be is refused before anything is embedded."""
    from indexer.index import INDEX_KINDS, index_kind

    INDEX_KINDS[index_kind(spec)].build(dim, spec, device)
