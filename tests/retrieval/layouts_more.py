"""Miniature copies of official layouts with tiny real images: ten benchmarks of products, pets and sketches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.retrieval.pictures import encoded, gradient

_JPEG = encoded(gradient(8, 6), "JPEG")
_PNG = encoded(gradient(8, 6), "PNG")

PAIRS = """4
image_pair_name_1 image_pair_name_2 item_id evaluation_status
img/CLOTHING/Blouse/id_1/comsumer_01.jpg img/CLOTHING/Blouse/id_1/shop_01.jpg id_1 train
img/CLOTHING/Blouse/id_2/comsumer_01.jpg img/CLOTHING/Blouse/id_2/shop_01.jpg id_2 val
img/DRESSES/Skirt/id_3/comsumer_01.jpg   img/DRESSES/Skirt/id_3/shop_01.jpg id_3 test
img/DRESSES/Skirt/id_3/comsumer_02.jpg   img/DRESSES/Skirt/id_3/shop_01.jpg id_3 test
"""
TRAIN_10K = "name,class,group\n1.jpg,7,2\n2.jpg,7,2\n3.jpg,9,1\n"
TEST_10K = "name,class,Usage\na.jpg,7,Public\nb.jpg,9,Private\n"
TRAINVAL_PETS = "Abyssinian_1 1 1 1\nBasset_hound_2 2 2 1\n"
TEST_PETS = "Basset_hound_10 2 2 1\nAbyssinian_3 1 1 1\n"
CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
GROCERY_CLASSES = """Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path
Gala,0,Apple,0,/iconic-images-and-descriptions/Fruit/Apple/Gala/Gala_Iconic.jpg
Fuji,1,Apple,0,/iconic-images-and-descriptions/Fruit/Apple/Fuji/Fuji_Iconic.jpg
Leek,2,Leek,1,/iconic-images-and-descriptions/Vegetables/Leek/Leek_Iconic.jpg
"""


def put(root: Path, *names: str) -> None:
    """Write an image under each of these names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_PNG if name.endswith(".png") else _JPEG)


def write(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def deepfashion(root: Path) -> None:
    write(root, {"Eval/list_eval_partition.txt": PAIRS})
    put(root, *(word for word in PAIRS.split() if word.startswith("img/")))


def coco(names: list[str], objects: list[tuple[int, int, int, list[float]]]) -> dict[str, Any]:
    """Annotations in COCO's form; an object is id, image (counted from 1), category and box."""
    return {
        "images": [{"id": place, "file_name": name, "width": 8, "height": 6} for place, name in enumerate(names, 1)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": 1, "iscrowd": 0}
            for number, image, category, box in objects
        ],
        "categories": [
            {"id": 1, "name": "1_puffed_food", "supercategory": "puffed_food"},
            {"id": 2, "name": "2_milk", "supercategory": "milk"},
        ],
        "licenses": [],
    }


def rpc(root: Path) -> None:
    files = {
        "train2019": coco(["a.jpg", "b.jpg"], [(1, 1, 1, [1.5, 1.0, 4.0, 3.0]), (2, 2, 2, [0, 0, 8, 6])]),
        "val2019": coco(["v.jpg"], [(1, 1, 2, [0.0, 0.0, 3.0, 2.0])]),
        "test2019": coco(
            ["x.jpg", "y.jpg"],
            [(5, 2, 2, [2.0, 1.0, 3.0, 2.0]), (4, 1, 1, [0, 0, 2.2, 2]), (6, 1, 2, [3, 3, 2, 2])],
        ),
    }
    for folder, document in files.items():
        put(root, *(f"{folder}/{image['file_name']}" for image in document["images"]))
        (root / f"instances_{folder}.json").write_text(json.dumps(document))


def products10k(root: Path) -> None:
    write(root, {"train.csv": TRAIN_10K, "test_kaggletest.csv": TEST_10K})
    put(root, "train/1.jpg", "train/2.jpg", "train/3.jpg", "test/a.jpg", "test/b.jpg")


def pets(root: Path) -> None:
    write(root, {"annotations/trainval.txt": TRAINVAL_PETS, "annotations/test.txt": TEST_PETS})
    put(root, *(f"images/{line.split()[0]}.jpg" for line in (TRAINVAL_PETS + TEST_PETS).splitlines()))
    put(root, "images/Abyssinian_34.jpg")  # official, and in neither list


def cifar_record(label: int, seed: int) -> bytes:
    return bytes([label]) + np.random.default_rng(seed).integers(0, 256, 3072, np.uint8).tobytes()


def cifar(root: Path) -> None:
    """Two records in each training batch, of the batch's number and the next class; three in the test batch."""
    write(root, {"batches.meta.txt": "\n".join(CIFAR_NAMES) + "\n\n"})
    for number in range(1, 6):
        records = cifar_record(number, number) + cifar_record(number + 1, 9 + number)
        (root / f"data_batch_{number}.bin").write_bytes(records)
    (root / "test_batch.bin").write_bytes(b"".join(cifar_record(label, 20 + label) for label in (3, 9, 3)))


def grocery(root: Path) -> None:
    lists = {
        "train": ["train/Fruit/Apple/Gala/1.jpg, 0, 0", "train/Fruit/Apple/Fuji/1.jpg, 1, 0", "train/Leek/1.jpg, 2, 1"],
        "val": ["val/Fruit/Apple/Fuji/1.jpg, 1, 0"],
        "test": ["test/Vegetables/Leek/1.jpg, 2, 1", "test/Fruit/Apple/Gala/1.jpg, 0, 0"],
    }
    write(root, {"classes.csv": GROCERY_CLASSES} | {f"{name}.txt": "\n".join(each) for name, each in lists.items()})
    put(root, *(line.split(",")[0] for each in lists.values() for line in each))
    put(root, *(line.split(",")[4].lstrip("/") for line in GROCERY_CLASSES.splitlines()[1:]))


def omniglot(root: Path) -> None:
    """Two characters of one background alphabet, one of an evaluation alphabet, 20 drawings each."""
    for place, number in (
        ("images_background/Magi/character01", 709),
        ("images_background/Magi/character02", 710),
        ("images_evaluation/Angelic/character01", 965),
    ):
        put(root, *(f"{place}/{number:04d}_{drawing:02d}.png" for drawing in range(1, 21)))


def qmul(root: Path) -> None:
    """The layout of four folders, without lists."""
    put(root, "trainA/10_1.png", "trainA/10_2.png", "trainB/10.png")
    put(root, "testA/20_1.png", "testA/21_3.png", "testA/20_2.png", "testB/20.png", "testB/21.png")


def qmul_lists(root: Path) -> None:
    """The layout of two folders and four lists, as in ``ShoeV2/ShoeV2_photo``."""
    put(root, *(f"ShoeV2/ShoeV2_sketch/{name}.png" for name in ("10_1", "10_2", "20_1", "21_3")))
    put(root, *(f"ShoeV2/ShoeV2_photo/{name}.png" for name in ("10", "20", "21")))
    write(
        root / "ShoeV2",
        {
            "sketch_train.txt": "10_1.png\n10_2.png\n",
            "photo_train.txt": "10.png\n",
            "sketch_test.txt": "ShoeV2_sketch/21_3.png\n20_1\n",
            "photo_test.txt": "20.png\n21.png\n",
        },
    )


def sketchy(root: Path) -> None:
    """Photos 1 and 2 of airplanes and 3 of bats; 2 and 3 are in the official test."""
    put(root, *(f"photo/tx_000000000000/{name}.jpg" for name in ("airplane/n_1", "airplane/n_2", "bat/n_3")))
    drawn = ("airplane/n_1-1", "airplane/n_2-1", "airplane/n_2-2", "bat/n_3-1", "bat/n_3-2")
    put(root, *(f"sketch/tx_000000000000/{name}.png" for name in drawn))
    put(root, *(f"EXTEND_image_sketchy/{name}.jpg" for name in ("airplane/n_1", "airplane/e_7", "bat/n_3", "bat/e_8")))
    write(
        root / "info",
        {
            "testset.txt": "bat/n_3.jpg\nairplane/n_2.jpg\n",
            "invalid-error.txt": "n_2-2\n",
            "invalid-ambiguous.txt": "n_9-1\n",
            "invalid-context.txt": "n_1-1\n",
            "invalid-pose.txt": "n_9-2\n",
        },
    )
