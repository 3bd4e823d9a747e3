"""How good a network is on pictures held out of its training: what a run is steered and its best epoch chosen by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from retrieval.classification import knn_vote, predict
from retrieval.evaluation import nearest, ranking
from retrieval.labelled import Coded, Labelled, code
from retrieval.metrics import map_at_r, recall_at_k
from retrieval.processes import in_parts
from retrieval.recognition import HEAD, KNN, NUMBERS, VOTERS

CPU_BATCH: Final = 16
CUDA_BATCH: Final = 128


@dataclass(frozen=True)
class Score:
    """What a validation found, each a share of the held-out pictures or a mean over them.

    Attributes:
        recall_at_1: nearest neighbour of the same class.
        map_at_r: mean average precision at R (Musgrave et al., ECCV 2020).
        knn: right class by the vote of the nearest training pictures; None where classes are held out.
        head: right class by the classifier head; None without one.
    """

    recall_at_1: float
    map_at_r: float
    knn: float | None = None
    head: float | None = None

    @property
    def deciding(self) -> str:
        """The field that epochs are ordered by: the best way to name the class where classes are known."""
        named = [field for field in (KNN, HEAD) if getattr(self, field) is not None]
        return max(named, key=lambda field: float(getattr(self, field)), default="recall_at_1")

    @property
    def merit(self) -> tuple[float, float]:
        """What epochs are ordered by; between even ones MAP@R decides."""
        return float(getattr(self, self.deciding)), self.map_at_r

    @property
    def classifier(self) -> str:
        """Which names classes better: "head" or "knn"."""
        return HEAD if self.deciding == HEAD else KNN


@dataclass(frozen=True)
class Confusion:
    """A held-out picture whose nearest neighbour is of another class.

    Attributes:
        id: of the picture.
        label: its class.
        nearest: id of its nearest neighbour.
        nearest_label: the class of that.
        similarity: cosine of the two.
    """

    id: str
    label: str
    nearest: str
    nearest_label: str
    similarity: float


@dataclass(frozen=True)
class Pictures:
    """Pictures as the network takes them, with what they are.

    Attributes:
        ids: n strings, none twice.
        labels: n classes.
        pixels: called with a place, gives (height, width, 3) uint8 at the network's size.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    pixels: Callable[[int], np.ndarray]


def findable(queries: Pictures, gallery: Pictures | None) -> int:
    """Count the queries that have another of their class where ``score`` searches for them."""
    if gallery is None:
        return sum(number for number in Counter(queries.labels).values() if number > 1)
    known = set(gallery.labels)
    return sum(label in known for label in queries.labels)


def embed(network: Any, pictures: Pictures, device: torch.device) -> np.ndarray:
    """Embed pictures with a network in inference mode, shared out among processes: (n, dim) float32."""
    batch = CPU_BATCH if device.type == "cpu" else CUDA_BATCH

    def some(chosen: np.ndarray) -> np.ndarray:
        parts = [np.zeros((0, 0), np.float32)]
        for start in range(0, len(chosen), batch):
            pixels = np.stack([pictures.pixels(int(place)) for place in chosen[start : start + batch]])
            with torch.inference_mode():
                parts.append(network(torch.from_numpy(pixels).to(device)).float().cpu().numpy())
        return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]

    parts = [part for part in in_parts(len(pictures.ids), some) if len(part[0])]
    vectors = np.empty((len(pictures.ids), parts[0][1].shape[1]), np.float32)
    for chosen, part in parts:
        vectors[chosen] = part
    return vectors


def score(
    network: Any,
    queries: Pictures,
    gallery: Pictures | None,
    *,
    classes: Sequence[str] = (),
    device: torch.device,
    confusions: int = 0,
) -> tuple[Score, list[Confusion]]:
    """Measure a network on held-out pictures.

    Args:
        network: in inference mode; called with pixels, and its ``logits`` with vectors.
        queries: held out of training.
        gallery: training pictures to search, where the classes are those of training; None: the classes are held out
            too, and each picture is searched among the others.
        classes: what the head tells apart; none without a head.
        device: where the network is.
        confusions: how many to give.

    Returns:
        The score, and the held-out pictures nearest to another class, most similar first.
    """
    asked = Labelled(embed(network, queries, device), queries.ids, queries.labels)
    searched = asked if gallery is None else Labelled(embed(network, gallery, device), gallery.ids, gallery.labels)
    coded = code(asked, searched)
    ranks = ranking(coded, "cpu")
    neighbours, similarities = nearest(coded, min(VOTERS, len(coded.gallery) - 1), "cpu")
    named = None
    if gallery is not None:
        codes = np.where(neighbours >= 0, coded.gallery_codes[neighbours], -1)
        step = max(1, NUMBERS // len(coded.names))
        named = float(
            np.mean(
                np.concatenate(
                    [
                        predict(knn_vote(codes[at : at + step], similarities[at : at + step], len(coded.names)))
                        for at in range(0, len(codes), step)
                    ]
                )
                == coded.query_codes
            )
        )
    known = None
    if classes and gallery is not None:
        known = _by_head(network, asked, classes, device)
    found = Score(float(recall_at_k(ranks, [1]).mean()), float(map_at_r(ranks).mean()), named, known)
    return found, _confusions(asked, searched, coded, neighbours, similarities, confusions)


def _by_head(network: Any, asked: Labelled, classes: Sequence[str], device: torch.device) -> float:
    with torch.inference_mode():
        logits = network.logits(torch.from_numpy(asked.vectors).to(device)).cpu().numpy()
    predicted = logits.argmax(axis=1)
    return float(np.mean([classes[at] == label for at, label in zip(predicted, asked.labels, strict=True)]))


def _confusions(
    asked: Labelled,
    searched: Labelled,
    coded: Coded,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    most: int,
) -> list[Confusion]:
    wrong = np.flatnonzero(coded.gallery_codes[neighbours[:, 0]] != coded.query_codes)
    worst = wrong[np.argsort(-similarities[wrong, 0], kind="stable")][:most]
    found = []
    for row in worst.tolist():
        query, nearest = int(coded.places[row]), int(neighbours[row, 0])
        label, other = asked.labels[query], searched.labels[nearest]
        assert label is not None
        assert other is not None
        found.append(Confusion(asked.ids[query], label, searched.ids[nearest], other, float(similarities[row, 0])))
    return found
