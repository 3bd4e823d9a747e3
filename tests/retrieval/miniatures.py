"""Writers of miniature copies of the official layouts of benchmarks, and by hand what must be read from each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat

from tests.retrieval.pictures import encoded, gradient

TINY = encoded(gradient(4, 4), "JPEG")
Expected = list[tuple[str, str, str, str]]


def files(root: Path, texts: dict[str, str] | None = None, pictures: list[str] | None = None) -> None:
    for name, text in (texts or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in pictures or []:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(TINY)


def cells(values: list[str]) -> np.ndarray:
    found = np.empty((len(values), 1), object)
    found[:, 0] = values
    return found


def structs(rows: list[dict[str, Any]]) -> np.ndarray:
    found = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        found[0, place] = tuple(row.values())
    return found


CUB_IMAGES = [
    "001.Black_footed_Albatross/a.jpg",
    "001.Black_footed_Albatross/b.jpg",
    "002.Laysan_Albatross/c.jpg",
    "101.White_Pelican/d.jpg",
    "101.White_Pelican/e.jpg",
    "150.Sage_Thrasher/f.jpg",
]


def write_cub(root: Path, first: str | None) -> None:
    listed = [first or CUB_IMAGES[0], *CUB_IMAGES[1:]]
    files(
        root,
        {
            "images.txt": "".join(f"{number} {name}\n" for number, name in enumerate(listed, 1)),
            "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n101 101.White_Pelican\n"
            "150 150.Sage_Thrasher\n",
            "image_class_labels.txt": "1 1\n2 1\n3 2\n4 101\n5 101\n6 150\n",
            "train_test_split.txt": "1 1\n2 0\n3 0\n4 1\n5 0\n6 1\n",
            "bounding_boxes.txt": "1 60.0 27.0 325.0 304.5\n" + "".join(f"{n} 0.0 0.0 2.0 2.0\n" for n in range(2, 7)),
        },
        [f"images/{name}" for name in CUB_IMAGES],
    )


def cub_rows(*parts: str) -> Expected:
    return [(name, f"images/{name}", name.split("/")[0], part) for name, part in zip(CUB_IMAGES, parts, strict=True)]


CUB_LISTS: dict[str, str | None] = {
    "images.txt": "7",
    "classes.txt": "name 7",
    "image_class_labels.txt": "7 seven",
}


def write_nabirds(root: Path, first: str | None) -> None:
    ids = ["0000-1a", "0000-1b", "0000-2a", "0000-2b"]
    names = ["0817/a.jpg", "0817/b.jpg", "0295/c.jpg", "0295/d.jpg"]
    listed = [first or names[0], *names[1:]]
    files(
        root,
        {
            "images.txt": "".join(f"{key} {name}\n" for key, name in zip(ids, listed, strict=True)),
            "image_class_labels.txt": "0000-1a 817\n0000-1b 817\n0000-2a 295\n0000-2b 295\n",
            "classes.txt": "0 Birds\n1 Ducks, Geese, and Swans\n10 Common Eider\n295 Cackling Goose\n"
            "817 Common Eider (Female/juvenile)\n",
            "hierarchy.txt": "1 0\n10 1\n295 1\n817 10\n",
            "train_test_split.txt": "0000-1a 1\n0000-1b 0\n0000-2a 0\n0000-2b 1\n",
            "bounding_boxes.txt": "0000-1a 83 59 128 228\n0000-1b 1 1 1 1\n0000-2a 1 1 1 1\n0000-2b 1 1 1 1\n",
        },
        [f"images/{name}" for name in names],
    )


def nabirds_rows(training: str, other: str) -> Expected:
    eider, goose = "Ducks, Geese, and Swans/Common Eider/Common Eider (Female-juvenile)", "Cackling Goose"
    goose = f"Ducks, Geese, and Swans/{goose}"
    return [
        ("0817/a.jpg", "images/0817/a.jpg", eider, training),
        ("0817/b.jpg", "images/0817/b.jpg", eider, other),
        ("0295/c.jpg", "images/0295/c.jpg", goose, other),
        ("0295/d.jpg", "images/0295/d.jpg", goose, training),
    ]


NABIRDS_LISTS: dict[str, str | None] = {
    "images.txt": "0000-3a",
    "image_class_labels.txt": "0000-3a",
    "classes.txt": "Birds",
    "hierarchy.txt": "3",
    "train_test_split.txt": "0000-3a 2",
}


def write_cars(root: Path, first: str | None) -> None:
    names = [f"car_ims/00000{number}.jpg" for number in range(1, 5)]
    of, test = [1, 98, 99, 196], [0, 1, 0, 1]
    rows = [
        {
            "relative_im_path": (first or names[0]) if place == 0 else names[place],
            "bbox_x1": 30 if place == 0 else 1,
            "bbox_y1": 52 if place == 0 else 1,
            "bbox_x2": 246 if place == 0 else 4,
            "bbox_y2": 147 if place == 0 else 4,
            "class": of[place],
            "test": test[place],
        }
        for place in range(4)
    ]
    classes = [f"Car {number} 2012" for number in range(1, 197)]
    classes[97] = "Chrysler PT/Cruiser"
    files(root, pictures=names)
    savemat(
        root / "cars_annos.mat",
        {"annotations": structs(rows), "class_names": cells(classes).T},
        do_compression=True,
    )


def cars_rows(*parts: str) -> Expected:
    labels = ["Car 1 2012", "Chrysler PT-Cruiser", "Car 99 2012", "Car 196 2012"]
    names = [f"car_ims/00000{number}.jpg" for number in range(1, 5)]
    return [(name, name, label, part) for name, label, part in zip(names, labels, parts, strict=True)]


def write_train_half(root: Path, first: str | None) -> None:
    columns = {
        "file": [first or "00001.jpg", "00002.jpg", "00004.jpg"],
        "class_id": pa.array([14, 3, 150], pa.int16()),
        "label": ["Audi TTS Coupe 2012", "Acura TL Sedan 2012", "Hyundai Veracruz SUV 2012"],
        "split": ["train", "train", "test"],
        "image": [TINY] * 3,
    }
    pq.write_table(pa.table(columns), root / "cars196-train-half.parquet")


def write_sop(root: Path, first: str | None) -> None:
    header = "image_id class_id super_class_id path\n"
    files(
        root,
        {
            "Ebay_train.txt": f"{header}1 1 1 {first or 'bicycle_final/11_0.JPG'}\n2 1 1 bicycle_final/11_1.JPG\n"
            "3 2 6 kettle_final/12_0.JPG\n",
            "Ebay_test.txt": f"{header}4 3 4 coffee_maker_final/13_0.JPG\n5 3 4 coffee_maker_final/13_1.JPG\n",
        },
        [
            "bicycle_final/11_0.JPG",
            "bicycle_final/11_1.JPG",
            "kettle_final/12_0.JPG",
            "coffee_maker_final/13_0.JPG",
            "coffee_maker_final/13_1.JPG",
        ],
    )


INSHOP_IMAGES = [
    "img/WOMEN/Dresses/id_00000002/02_1_front.jpg",
    "img/WOMEN/Dresses/id_00000002/02_2_side.jpg",
    "img/MEN/Denim/id_00000003/01_1_front.jpg",
    "img/MEN/Denim/id_00000003/01_7_additional.jpg",
]


def write_inshop(root: Path, first: str | None) -> None:
    listed = [first or INSHOP_IMAGES[0], *INSHOP_IMAGES[1:]]
    of = ["id_00000002", "id_00000002", "id_00000003", "id_00000003"]
    parts = ["train", "train", "query", "gallery"]
    files(
        root,
        {
            "Eval/list_eval_partition.txt": "4\nimage_name item_id evaluation_status\n"
            + "".join(f"{name}   {item} {part}\n" for name, item, part in zip(listed, of, parts, strict=True)),
            "Anno/list_bbox_inshop.txt": "4\nimage_name clothes_type pose_type x_1 y_1 x_2 y_2\n"
            + f"{listed[0]}  1 1 050 049 208 235\n"
            + "".join(f"{name}  1 1 001 001 002 002\n" for name in listed[1:]),
        },
        [f"Img/{name}" for name in INSHOP_IMAGES],
    )


def write_inshop_flat(root: Path, first: str | None) -> None:
    write_inshop(root, first)
    (root / "Eval/list_eval_partition.txt").rename(root / "list_eval_partition.txt")
    (root / "Anno/list_bbox_inshop.txt").rename(root / "list_bbox_inshop.txt")
    (root / "Img/img").rename(root / "img")


def inshop_rows(prefix: str) -> Expected:
    labels = ["WOMEN/Dresses/id_00000002"] * 2 + ["MEN/Denim/id_00000003"] * 2
    parts = ["train", "train", "query", "gallery"]
    return [(n, prefix + n, label, part) for n, label, part in zip(INSHOP_IMAGES, labels, parts, strict=True)]


INAT_IMAGES = [
    "train_val2018/Plantae/7477/3b60.jpg",
    "train_val2018/Aves/2820/98be.jpg",
    "train_val2018/Aves/2821/ab01.jpg",
]


def write_inat(root: Path, first: str | None) -> None:
    listed = [first or INAT_IMAGES[0], *INAT_IMAGES[1:]]
    images = [{"id": place, "file_name": name} for place, name in enumerate(listed)]
    files(
        root,
        {
            "Inat_dataset_splits/Inaturalist_train_set1.txt": f"{listed[0]}\n{listed[1]}\n",
            "Inat_dataset_splits/Inaturalist_test_set1.txt": f"{listed[2]}\n",
            "train2018.json": json.dumps({"images": [images[0], images[2]], "annotations": []}),
            "val2018.json": json.dumps({"images": [images[1]], "annotations": []}),
        },
        INAT_IMAGES,
    )


def inat_rows(order: tuple[int, ...], *parts: str) -> Expected:
    labels = ["Plantae/7477", "Aves/2820", "Aves/2821"]
    return [(INAT_IMAGES[n], INAT_IMAGES[n], labels[n], part) for n, part in zip(order, parts, strict=True)]


def write_aircraft(root: Path, first: str | None) -> None:
    lists = {
        "manufacturer": {"train": "0034309 Boeing\n0034310 ATR\n", "val": "0034311 Lockheed Martin\n"},
        "family": {"train": "0034309 Boeing 707\n0034310 ATR-42\n", "val": "0034311 F-16\n"},
        "variant": {"train": "0034309 707-320\n0034310 ATR-42\n", "val": "0034311 F-16A/B\n"},
    }
    tests = {"manufacturer": "Yakovlev", "family": "Yak-42", "variant": "Yak-42"}
    texts = {f"data/images_{level}_{part}.txt": text for level, parts in lists.items() for part, text in parts.items()}
    texts |= {f"data/images_{level}_test.txt": f"0034312 {name}\n" for level, name in tests.items()}
    boxes = "0034309 3 144 998 431\n" + "".join(f"00343{n} 1 1 2 2\n" for n in (10, 11, 12))
    files(
        root,
        texts | {"data/images_box.txt": boxes},
        [f"data/images/00343{number}.jpg" for number in ("09", 10, 11, 12)],
    )


def write_aircraft_data(root: Path, first: str | None) -> None:
    write_aircraft(root, first)
    for path in sorted((root / "data").iterdir()):
        path.rename(root / path.name)
    (root / "data").rmdir()


def aircraft_rows(prefix: str, *parts: str) -> Expected:
    labels = [
        "Boeing/Boeing 707/707-320",
        "ATR/ATR-42/ATR-42",
        "Lockheed Martin/F-16/F-16A-B",
        "Yakovlev/Yak-42/Yak-42",
    ]
    ids = ["0034309", "0034310", "0034311", "0034312"]
    return [(key, f"{prefix}images/{key}.jpg", label, p) for key, label, p in zip(ids, labels, parts, strict=True)]


AIRCRAFT_LISTS: dict[str, str | None] = {
    f"data/images_{level}_{part}.txt": "Boeing"
    for level in ("manufacturer", "family", "variant")
    for part in ("train", "val", "test")
}


def write_flowers(root: Path, first: str | None) -> None:
    files(root, pictures=[f"jpg/image_0000{number}.jpg" for number in range(1, 7)])
    savemat(root / "imagelabels.mat", {"labels": np.array([[77, 77, 5, 5, 102, 9]], np.uint8)})
    sets = {"trnid": np.array([[1, 3]], np.uint16), "valid": np.array([[2.0, 5.0]]), "tstid": np.array([[4, 6]])}
    savemat(root / "setid.mat", sets)


def flowers_rows(*parts: str) -> Expected:
    labels = ["077", "077", "005", "005", "102", "009"]
    names = [f"jpg/image_0000{number}.jpg" for number in range(1, 7)]
    return [(name, name, label, part) for name, label, part in zip(names, labels, parts, strict=True)]


DOGS = ["n02085620-Chihuahua/n02085620_1.jpg", "n02085782-Japanese_spaniel/n02085782_2.jpg"]
DOGS += ["n02086240-Shih-Tzu/n02086240_3.jpg", "n02085620-Chihuahua/n02085620_4.jpg"]


def write_dogs(root: Path, first: str | None) -> None:
    listed = [first or DOGS[0], *DOGS[1:]]
    box = (
        "<object><name>dog</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
    )
    drawn = {DOGS[0]: [(25, 10, 276, 498), (300, 5, 320, 90)]}
    annotations = {
        f"Annotation/{name.removesuffix('.jpg')}": "<annotation><filename>n</filename>"
        + "".join(box.format(*corners) for corners in drawn.get(name, [(0, 0, 3, 3)]))
        + "</annotation>"
        for name in DOGS
    }
    files(root, annotations, [f"Images/{name}" for name in DOGS])
    for name, chosen in (("train_list.mat", listed[:3]), ("test_list.mat", listed[3:])):
        savemat(root / name, {"file_list": cells(chosen), "labels": np.ones((len(chosen), 1))})


def dogs_rows(*parts: str) -> Expected:
    return [(n, f"Images/{n}", n.split("/")[0], part) for n, part in zip(DOGS, parts, strict=True)]


def write_birdsnap(root: Path, first: str | None) -> None:
    names = ["Acadian_Flycatcher/1.jpg", "Acadian_Flycatcher/2.jpg", "Blue_Jay/3.jpg", "Blue_Jay/4.jpg"]
    listed = [first or names[0], *names[1:]]
    header = "url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\tback_x\tback_y\n"
    corners = ["105\t91.5\t311\t280"] + ["0\t0\t3\t3"] * 3
    rows = zip(listed, (1, 1, 2, 2), corners, strict=True)
    files(
        root,
        {
            "images.txt": header + "".join(f"http://a/{n}\tabc\t{n}\t{of}\t{c}\t1\tnull\n" for n, of, c in rows),
            "species.txt": "id\tcommon\tscientific\tdir\n"
            "1\tAcadian Flycatcher\tEmpidonax virescens\tAcadian_Flycatcher\n"
            "2\tBlue Jay\tCyanocitta cristata\tBlue_Jay\n",
            "test_images.txt": f"path\n{listed[0]}\n{listed[3]}\n",
        },
        [f"images/{name}" for name in names],
    )


def birdsnap_rows(other: str, test: str) -> Expected:
    return [
        ("Acadian_Flycatcher/1.jpg", "images/Acadian_Flycatcher/1.jpg", "Acadian Flycatcher", test),
        ("Acadian_Flycatcher/2.jpg", "images/Acadian_Flycatcher/2.jpg", "Acadian Flycatcher", other),
        ("Blue_Jay/3.jpg", "images/Blue_Jay/3.jpg", "Blue Jay", other),
        ("Blue_Jay/4.jpg", "images/Blue_Jay/4.jpg", "Blue Jay", test),
    ]
