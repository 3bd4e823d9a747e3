"""Does it help labels to be told what else is known of a picture?

12,000 fashion products, pictures of 60 by 80 pixels, labelled with one of 126 article types, a long tail. Besides,
each has a usage and a colour. Distinct pictures are parted at random: three fifths vote, a fifth fits the numbers of
the vote and says which columns help, and a fifth is measured with those, once, with and without.

    python -m benchmarks prior
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks._labelled import Photos, codes_of, embedded, fitted, gallery_of
from benchmarks.machine import photo_folder, print_machine
from indexer.opening import load_embedder
from retrieval.calibration import Calibration, steps
from retrieval.classification import calibration_error, confusion, precision_recall_f1, top_k_accuracy
from retrieval.columns import Columns
from retrieval.evidence import LabelledGallery, gather
from retrieval.labels import FLOOR, Vocabulary
from retrieval.manifest import read_manifest
from retrieval.prior import Prior, with_factors
from retrieval.uncertainty import paired_permutation

COLUMNS = ("usage", "colour")
TOP = (1, 5)


def main(arguments: Sequence[str]) -> None:
    """Print what each choice of columns comes to, and the best of them on what it was not chosen by."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks prior", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", default="default", help="folder of one, or a name")
    parser.add_argument("--products", type=Path, default=photo_folder() / "fashion" / "products.parquet")
    parser.add_argument("--seed", type=int, default=0, help="of the parts")
    given = parser.parse_args(arguments)
    print_machine(["numpy", "scipy", "torch"])
    embedder = load_embedder(given.embedder, None, None, device="cpu", runtime="auto")
    manifest = read_manifest(given.products, columns=Columns(image="image", id="product_id", label="article_type"))
    photos = embedded(manifest, embedder, columns=COLUMNS)
    _, distinct = np.unique(np.array(photos.digests, dtype=object), return_index=True)
    order = np.random.default_rng(given.seed).permutation(distinct)
    voting, choosing, measuring = map(photos.take, np.split(order, [len(order) * 3 // 5, len(order) * 4 // 5]))
    gallery = gallery_of(voting.vectors, voting.labels)
    vocabulary, calibration = fitted(
        gallery, embedder.classes, choosing.vectors, codes_of(choosing.labels, gallery.labels), choosing.logits
    )
    print(f"{given.embedder}: {embedder.dim} dimensions, digest {embedder.digest[:12]}")
    print(f"{len(order):,} distinct pictures, of which {len(voting.labels):,} of {len(gallery.labels)} labels vote\n")

    def shares_of(asked: Photos, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return _shares(asked, columns, voting, gallery, vocabulary, calibration)

    print(f"{'':26s}{'top-1':>9s}{'top-5':>9s}{'macro F1':>10s}{'log loss':>10s}{'ECE':>8s}")
    sets = [(), *(one for n in range(1, len(COLUMNS) + 1) for one in combinations(COLUMNS, n))]
    losses = {columns: _told("chosen by", columns, *shares_of(choosing, columns)) for columns in sets}
    best = min(losses, key=lambda columns: losses[columns])
    print()
    right = {}
    for columns in sets:
        shares, codes = shares_of(measuring, columns)
        _told("measured", columns, shares, codes)
        right[columns] = shares.argmax(axis=1) == codes
    found = paired_permutation(right[best], right[()], codes)
    print(
        f"\nchosen: {_name(best)}; against nothing, top-1 of {found.queries:,} pictures of {found.classes} labels "
        f"{found.difference:+.2%} (95 % over labels {found.low:+.2%} to {found.high:+.2%}, p {found.p:.4f})"
    )


def _shares(
    asked: Photos,
    columns: Sequence[str],
    voting: Photos,
    gallery: LabelledGallery,
    vocabulary: Vocabulary,
    calibration: Calibration,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of pictures whose label is known, given columns, and their right labels."""
    codes = codes_of(asked.labels, gallery.labels)
    asked, codes = asked.take(codes >= 0), codes[codes >= 0]
    evidence = gather(asked.vectors, gallery, logits=asked.logits)
    parts = [
        calibration.numbers.probabilities(evidence.take(part), vocabulary, vocabulary.sources[0])
        for part in steps(len(codes), len(vocabulary.labels))
    ]
    shares = np.concatenate(parts)
    for column in columns:
        prior = Prior.of(voting.columns[column], gallery.codes, len(gallery.labels))
        shares = with_factors(shares, prior.factors(asked.columns[column]))
    return shares, codes


def _told(how: str, columns: Sequence[str], shares: np.ndarray, codes: np.ndarray) -> float:
    """Print a row; gives the log loss."""
    first, five = top_k_accuracy(shares, codes, TOP).mean(axis=0).tolist()
    predicted = shares.argmax(axis=1)
    macro = precision_recall_f1(confusion(predicted, codes, shares.shape[1])).macro[2]
    own = np.take_along_axis(shares, codes[:, None], axis=1)[:, 0]
    loss = float(-np.log(np.maximum(own, FLOOR)).mean())
    error = calibration_error(np.minimum(shares.max(axis=1), 1.0), predicted == codes).error
    print(f"{f'{how}: {_name(columns)}':26s}{first:9.2%}{five:9.2%}{macro:10.2%}{loss:10.3f}{error:8.2%}", flush=True)
    return loss


def _name(columns: Sequence[str]) -> str:
    return " and ".join(columns) or "nothing"


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
