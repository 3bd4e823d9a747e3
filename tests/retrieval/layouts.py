"""The tasks of benchmarks on miniature copies of their layouts, and what must be read from each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.retrieval.miniatures import (
    AIRCRAFT_LISTS,
    CUB_LISTS,
    DOGS,
    INSHOP_IMAGES,
    NABIRDS_LISTS,
    Expected,
    aircraft_rows,
    birdsnap_rows,
    cars_rows,
    cub_rows,
    dogs_rows,
    flowers_rows,
    inat_rows,
    inshop_rows,
    nabirds_rows,
    write_aircraft,
    write_aircraft_data,
    write_birdsnap,
    write_cars,
    write_cub,
    write_dogs,
    write_flowers,
    write_inat,
    write_inshop,
    write_inshop_flat,
    write_nabirds,
    write_sop,
    write_train_half,
)


@dataclass(frozen=True)
class Layout:
    """A task of a protocol on a miniature of its layout.

    Attributes:
        protocol: its name in PROTOCOLS.
        task: its name there.
        write: (root, name of the first image in the lists or None) writes the miniature.
        expected: id, uri, label and part of every image, in the order of the lists.
        lists: list that this task reads → a line that is none; None for a list that is no text.
        extra: where an image lies that no list names.
        boxed: uri of the first image with its box; None where there are no boxes.
        outside: whether the lists give names of files.
    """

    protocol: str
    task: str
    write: Callable[[Path, str | None], None]
    expected: Expected
    lists: dict[str, str | None]
    extra: str
    boxed: str | None = None
    outside: bool = True

    @property
    def id(self) -> str:
        return f"{self.protocol}-{self.task}"


def layouts() -> list[Layout]:
    """Every task of every protocol that is read here."""
    cub = "images/001.Black_footed_Albatross/a.jpg#xywh=60,27,325,305"
    nabirds = "images/0817/a.jpg#xywh=83,59,128,228"
    cars = "car_ims/000001.jpg#xywh=29,51,217,96"
    inshop = f"{INSHOP_IMAGES[0]}#xywh=49,48,159,187"
    plane = "images/0034309.jpg#xywh=2,143,996,288"
    dog = f"Images/{DOGS[0]}#xywh=25,5,296,494"
    jay = "images/Acadian_Flycatcher/1.jpg#xywh=105,91,207,190"
    half = "cars196-train-half.parquet"
    halves = [
        ("00001.jpg", f"{half}#row=0", "Audi TTS Coupe 2012", "train"),
        ("00002.jpg", f"{half}#row=1", "Acura TL Sedan 2012", "train"),
        ("00004.jpg", f"{half}#row=2", "Hyundai Veracruz SUV 2012", "test"),
    ]
    sop: Expected = [
        ("bicycle_final/11_0.JPG", "bicycle_final/11_0.JPG", "bicycle/1", "train"),
        ("bicycle_final/11_1.JPG", "bicycle_final/11_1.JPG", "bicycle/1", "train"),
        ("kettle_final/12_0.JPG", "kettle_final/12_0.JPG", "kettle/2", "train"),
        ("coffee_maker_final/13_0.JPG", "coffee_maker_final/13_0.JPG", "coffee_maker/3", "test"),
        ("coffee_maker_final/13_1.JPG", "coffee_maker_final/13_1.JPG", "coffee_maker/3", "test"),
    ]
    sop_lists: dict[str, str | None] = {"Ebay_train.txt": "1 1 bicycle_final/x.JPG", "Ebay_test.txt": "path"}
    partition: dict[str, str | None] = {"Eval/list_eval_partition.txt": "img/x.jpg id_00000004 probe"}
    flat: dict[str, str | None] = {"list_eval_partition.txt": "img/x.jpg id_00000004 probe"}
    splits: dict[str, str | None] = {f"Inat_dataset_splits/Inaturalist_{p}_set1.txt": "Aves" for p in ("train", "test")}
    jsons: dict[str, str | None] = {"train2018.json": "}", "val2018.json": "}"}
    flowers: dict[str, str | None] = {"imagelabels.mat": None}
    dogs: dict[str, str | None] = {"train_list.mat": None, "test_list.mat": None}
    snaps: dict[str, str | None] = {"images.txt": "x.jpg", "species.txt": "500", "test_images.txt": "Jay/none.jpg"}
    flat_planes = {name.removeprefix("data/"): line for name, line in AIRCRAFT_LISTS.items()}
    by_class = cub_rows("train", "train", "train", "test", "test", "test")
    by_list = cub_rows("train", "test", "test", "train", "test", "train")
    cub_lists = CUB_LISTS | {"train_test_split.txt": "7 2"}
    new, old = "images/new.jpg", "images/0817/new.PNG"
    search, classify = "retrieval", "classification"
    return [
        Layout("cub", search, write_cub, by_class, CUB_LISTS, new, cub),
        Layout("cub", classify, write_cub, by_list, cub_lists, new, cub),
        Layout("nabirds", search, write_nabirds, nabirds_rows("gallery", "query"), NABIRDS_LISTS, old, nabirds),
        Layout("nabirds", classify, write_nabirds, nabirds_rows("train", "test"), NABIRDS_LISTS, old, nabirds),
        Layout("cars196", search, write_cars, cars_rows("train", "train", "test", "test"), {"cars_annos.mat": None},
               "car_ims/9.jpg", cars),
        Layout("cars196", classify, write_cars, cars_rows("train", "test", "train", "test"), {"cars_annos.mat": None},
               "car_ims/9.jpg", cars),
        Layout("cars196-train-half", search, write_train_half, halves, {half: None}, "", outside=False),
        Layout("sop", search, write_sop, sop, sop_lists, "kettle_final/new.JPG"),
        Layout("inshop", search, write_inshop, inshop_rows("Img/"), partition, "Img/img/MEN/new.jpg", f"Img/{inshop}"),
        Layout("inshop", search, write_inshop_flat, inshop_rows(""), flat, "img/MEN/new.jpg", inshop),
        Layout("inat2018", search, write_inat, inat_rows((0, 1, 2), "train", "train", "test"), splits,
               "train_val2018/Aves/new.jpg"),
        Layout("inat2018", classify, write_inat, inat_rows((0, 2, 1), "train", "train", "val"), jsons,
               "train_val2018/Aves/new.jpg"),
        Layout("aircraft", search, write_aircraft, aircraft_rows("data/", "train", "train", "test", "test"),
               AIRCRAFT_LISTS, "data/images/new.jpg", f"data/{plane}", outside=False),
        Layout("aircraft", classify, write_aircraft_data, aircraft_rows("", "train", "train", "val", "test"),
               flat_planes, new, plane, outside=False),
        Layout("flowers102", search, write_flowers, flowers_rows("test", "test", "train", "train", "test", "train"),
               flowers, "jpg/new.jpg", outside=False),
        Layout("flowers102", classify, write_flowers, flowers_rows("train", "val", "train", "test", "val", "test"),
               flowers | {"setid.mat": None}, "jpg/new.jpg", outside=False),
        Layout("dogs", search, write_dogs, dogs_rows("train", "test", "test", "train"), dogs, "Images/new.jpg", dog),
        Layout("dogs", classify, write_dogs, dogs_rows("train", "train", "train", "test"), dogs, "Images/new.jpg", dog),
        Layout("birdsnap", search, write_birdsnap, birdsnap_rows("gallery", "query"), snaps, new, jay),
        Layout("birdsnap", classify, write_birdsnap, birdsnap_rows("train", "test"), snaps, new, jay),
    ]  # fmt: skip
