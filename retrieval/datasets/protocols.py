"""The table of benchmarks: a name, and what it fixes."""

from __future__ import annotations

from typing import Final

from retrieval.datasets.aircraft import AIRCRAFT
from retrieval.datasets.birdsnap import BIRDSNAP
from retrieval.datasets.cars import CARS196, CARS196_TRAIN_HALF
from retrieval.datasets.cub import CUB, NABIRDS
from retrieval.datasets.dogs import DOGS
from retrieval.datasets.flowers import FLOWERS102
from retrieval.datasets.inaturalist import INAT2018
from retrieval.datasets.products import INSHOP, SOP
from retrieval.datasets.protocol import Protocol

PROTOCOLS: Final[dict[str, Protocol]] = {
    "cub": CUB,
    "cars196": CARS196,
    "cars196-train-half": CARS196_TRAIN_HALF,
    "sop": SOP,
    "inshop": INSHOP,
    "inat2018": INAT2018,
    "aircraft": AIRCRAFT,
    "flowers102": FLOWERS102,
    "dogs": DOGS,
    "nabirds": NABIRDS,
    "birdsnap": BIRDSNAP,
}
"""Name on the command line → protocol. A further one is a module that makes its ``Protocol``, and a line here."""
