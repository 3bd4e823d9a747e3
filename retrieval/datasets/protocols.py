"""The table of benchmarks: a name, and what it fixes."""

from __future__ import annotations

from typing import Final

from retrieval.datasets.aircraft import AIRCRAFT
from retrieval.datasets.birdsnap import BIRDSNAP
from retrieval.datasets.cars import CARS196, CARS196_TRAIN_HALF
from retrieval.datasets.cifar import CIFAR10
from retrieval.datasets.cub import CUB, NABIRDS
from retrieval.datasets.deepfashion import DEEPFASHION_C2S
from retrieval.datasets.dogs import DOGS
from retrieval.datasets.flowers import FLOWERS102
from retrieval.datasets.grocery_protocol import GROCERY
from retrieval.datasets.inaturalist import INAT2018
from retrieval.datasets.omniglot import OMNIGLOT
from retrieval.datasets.pets import PETS
from retrieval.datasets.products import INSHOP, SOP
from retrieval.datasets.products10k import PRODUCTS_10K
from retrieval.datasets.protocol import Protocol
from retrieval.datasets.rpc import RPC
from retrieval.datasets.sketches import CHAIR_V2, SHOE_V2
from retrieval.datasets.sketchy import SKETCHY

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
    "deepfashion-c2s": DEEPFASHION_C2S,
    "rpc": RPC,
    "products10k": PRODUCTS_10K,
    "pets": PETS,
    "cifar10": CIFAR10,
    "grocery": GROCERY,
    "omniglot": OMNIGLOT,
    "shoev2": SHOE_V2,
    "chairv2": CHAIR_V2,
    "sketchy": SKETCHY,
}
"""Name on the command line → protocol. A further one is a module that makes its ``Protocol``, and a line here."""
