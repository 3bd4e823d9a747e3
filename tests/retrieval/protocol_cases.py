"""What the readers of benchmarks of products, pets and sketches must find in the miniatures, and how to spoil these."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from retrieval.datasets.protocol import Counts, Task
from retrieval.datasets.protocols import PROTOCOLS
from tests.retrieval import layouts_more as layouts

Rows = list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class Case:
    """One task of a protocol, a miniature of it, what must be read, and how to spoil it.

    Attributes:
        draw: writes the miniature.
        rows: id, uri, label and part; the order counts.
        counts: images and classes of each part.
        lost: a file to take away → what must be told missing.
        stray: an image that no list names.
        damaged: list → (its spoilt content, what the error says).
        needed: lists and folders without which nothing is read.
        leaving: list → content that names a file outside the root.
    """

    name: str
    task: str
    draw: Callable[[Path], None]
    rows: Rows
    counts: dict[str, tuple[int, int]]
    lost: tuple[str, str] = ("", "")
    stray: str = ""
    damaged: dict[str, tuple[str, str]] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    leaving: dict[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> Task:
        """The task with the counts of the miniature."""
        return replace(
            PROTOCOLS[self.name].tasks[self.task], counts={part: Counts(*each) for part, each in self.counts.items()}
        )


def same(rows: list[tuple[str, str, str]]) -> Rows:
    """Rows whose uri is the id."""
    return [(name, name, label, part) for name, label, part in rows]


SHOP = "img/{}/shop_01.jpg"
CONSUMER = "img/{}/comsumer_0{}.jpg"
SPOILT = layouts.PAIRS.replace(" id_2 val", " val")
DEEPFASHION = Case(
    "deepfashion-c2s",
    "retrieval",
    layouts.deepfashion,
    same(
        [
            (CONSUMER.format("CLOTHING/Blouse/id_1", 1), "CLOTHING/Blouse/id_1", "train"),
            (SHOP.format("CLOTHING/Blouse/id_1"), "CLOTHING/Blouse/id_1", "train"),
            (SHOP.format("CLOTHING/Blouse/id_2"), "CLOTHING/Blouse/id_2", "gallery"),
            (CONSUMER.format("DRESSES/Skirt/id_3", 1), "DRESSES/Skirt/id_3", "query"),
            (SHOP.format("DRESSES/Skirt/id_3"), "DRESSES/Skirt/id_3", "gallery"),
            (CONSUMER.format("DRESSES/Skirt/id_3", 2), "DRESSES/Skirt/id_3", "query"),
        ]
    ),
    {"train": (2, 1), "query": (2, 1), "gallery": (2, 2)},
    ("img/CLOTHING/Blouse/id_2/comsumer_01.jpg", "img/CLOTHING/Blouse/id_2/comsumer_01.jpg"),
    "img/DRESSES/new.jpg",
    {"Eval/list_eval_partition.txt": (SPOILT, r"line 4 of .*list_eval_partition\.txt is not `consumer image")},
    ("Eval/list_eval_partition.txt",),
    {"Eval/list_eval_partition.txt": layouts.PAIRS.replace("img/CLOTHING/Blouse/id_2/shop", "../../etc/shop")},
)
QUERIES = [
    ("test2019/y.jpg/5", "test2019/y.jpg#xywh=2,1,3,2", "milk/2_milk"),
    ("test2019/x.jpg/4", "test2019/x.jpg#xywh=0,0,3,2", "puffed_food/1_puffed_food"),
    ("test2019/x.jpg/6", "test2019/x.jpg#xywh=3,3,2,2", "milk/2_milk"),
]
EXEMPLARS = [
    ("train2019/a.jpg/1", "train2019/a.jpg#xywh=1,1,5,3", "puffed_food/1_puffed_food"),
    ("train2019/b.jpg/2", "train2019/b.jpg#xywh=0,0,8,6", "milk/2_milk"),
]
LEAVING = layouts.coco(["../../x.jpg"], [])
RPC = Case(
    "rpc",
    "retrieval",
    layouts.rpc,
    [(*row, "query") for row in QUERIES] + [(*row, "gallery") for row in EXEMPLARS],
    {"query": (3, 2), "gallery": (2, 2)},
    ("test2019/x.jpg", "test2019/x.jpg"),
    "train2019/new.jpg",
    {"instances_test2019.json": ('{"images": [', r"instances_test2019\.json is no JSON")},
    ("instances_train2019.json", "instances_test2019.json"),
    {"instances_test2019.json": json.dumps(LEAVING)},
)
VALIDATION = Case(
    "rpc",
    "validation",
    layouts.rpc,
    [("val2019/v.jpg/1", "val2019/v.jpg#xywh=0,0,3,2", "milk/2_milk", "query")]
    + [(*row, "gallery") for row in EXEMPLARS],
    {"query": (1, 1), "gallery": (2, 2)},
)
TRAIN_10K = [("train/1.jpg", "2/7"), ("train/2.jpg", "2/7"), ("train/3.jpg", "1/9")]
TEST_10K = [("test/a.jpg", "2/7"), ("test/b.jpg", "1/9")]
PRODUCTS = Case(
    "products10k",
    "retrieval",
    layouts.products10k,
    same([(*row, "query") for row in TEST_10K] + [(*row, "gallery") for row in TRAIN_10K]),
    {"query": (2, 2), "gallery": (3, 2)},
    ("train/2.jpg", "train/2.jpg"),
    "test/new.jpg",
    {
        "train.csv": (layouts.TRAIN_10K.replace("2.jpg,7", "2.jpg,x"), r"line 3 of .*train\.csv is not a name"),
        "test_kaggletest.csv": ("image,label\n", r"line 1 of .*test_kaggletest\.csv is not `name,class,group`"),
    },
    ("train.csv", "test_kaggletest.csv"),
    {"train.csv": layouts.TRAIN_10K.replace("2.jpg", "../../2.jpg")},
)
PETS = Case(
    "pets",
    "classification",
    layouts.pets,
    same(
        [
            ("images/Abyssinian_1.jpg", "Cat/Abyssinian", "train"),
            ("images/Basset_hound_2.jpg", "Dog/Basset_hound", "train"),
            ("images/Basset_hound_10.jpg", "Dog/Basset_hound", "test"),
            ("images/Abyssinian_3.jpg", "Cat/Abyssinian", "test"),
        ]
    ),
    {"train": (2, 2), "test": (2, 2)},
    ("images/Abyssinian_3.jpg", "images/Abyssinian_3.jpg"),
    "images/Siamese_7.jpg",
    {
        "annotations/test.txt": ("Abyssinian_3 1 1 1\nBasset_hound_10 2 3 1\n", r"line 2 of .*test\.txt is not `Breed"),
        "annotations/trainval.txt": ("Abyssinian_1 1 1 1\nAbyssinian_2 2 1 1\n", r"line 2 .*gives Abyssinian another"),
    },
    ("annotations/trainval.txt", "annotations/test.txt"),
    {"annotations/test.txt": "../../Abyssinian_3 1 1 1\n"},
)
BATCHES = [
    (f"data_batch_{number}.bin#record={record}", layouts.CIFAR_NAMES[number + record], "gallery")
    for number in range(1, 6)
    for record in range(2)
]
TESTED = [(f"test_batch.bin#record={record}", name, "query") for record, name in enumerate(("cat", "truck", "cat"))]
CIFAR = Case(
    "cifar10",
    "retrieval",
    layouts.cifar,
    same(TESTED + BATCHES),
    {"query": (3, 2), "gallery": (10, 6)},
    ("data_batch_3.bin", "data_batch_3.bin"),
    "new.png",
    {
        "batches.meta.txt": ("airplane\n", r"batches\.meta\.txt does not name ten classes"),
        "test_batch.bin": ("x" * 3074, r"test_batch\.bin is cut: 3,074 bytes"),
        "data_batch_2.bin": ("x" * 3073, r"record 0 of .*data_batch_2\.bin has the label 120"),
    },
    ("batches.meta.txt",),
)
GALA, FUJI, LEEK = "Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Vegetables/Leek"
GROCERY_TEST = [("test/Vegetables/Leek/1.jpg", LEEK), ("test/Fruit/Apple/Gala/1.jpg", GALA)]
GROCERY_TRAIN = [
    ("train/Fruit/Apple/Gala/1.jpg", GALA),
    ("train/Fruit/Apple/Fuji/1.jpg", FUJI),
    ("train/Leek/1.jpg", LEEK),
]
SPOILT_LIST = "test/Vegetables/Leek/1.jpg, 2, 1\nwords\n"
GROCERY = Case(
    "grocery",
    "retrieval",
    layouts.grocery,
    same([(*row, "query") for row in GROCERY_TEST] + [(*row, "gallery") for row in GROCERY_TRAIN]),
    {"query": (2, 2), "gallery": (3, 3)},
    ("test/Fruit/Apple/Gala/1.jpg", "test/Fruit/Apple/Gala/1.jpg"),
    "train/Fruit/new.jpg",
    {
        "test.txt": (SPOILT_LIST, r"line 2 of .*test\.txt is not `path, fine id"),
        "train.txt": ("train/Leek/1.jpg, 3, 1\n", r"classes\.csv does not name the class 3 of train\.txt"),
        "classes.csv": ("x" * 200_000, r"cannot read .*classes\.csv"),
    },
    ("train.txt", "test.txt", "classes.csv"),
    {"train.txt": "../../1.jpg, 2, 1\n"},
)
COARSE = {GALA: "Fruit/Apple", FUJI: "Fruit/Apple", LEEK: LEEK}
GROCERY_COARSE = replace(
    GROCERY,
    task="coarse",
    rows=[(image, uri, COARSE[label], part) for image, uri, label, part in GROCERY.rows],
    counts={"query": (2, 2), "gallery": (3, 2)},
)
ICONIC = "iconic-images-and-descriptions"
GROCERY_ICONIC = Case(
    "grocery",
    "iconic",
    layouts.grocery,
    same(
        [(*row, "query") for row in GROCERY_TEST]
        + [(f"{ICONIC}/{label}/{label.split('/')[-1]}_Iconic.jpg", label, "gallery") for label in (GALA, FUJI, LEEK)]
    ),
    {"query": (2, 2), "gallery": (3, 3)},
    (f"{ICONIC}/{LEEK}/Leek_Iconic.jpg", f"{ICONIC}/{LEEK}/Leek_Iconic.jpg"),
    f"{ICONIC}/Fruit/new.jpg",
    {"classes.csv": (layouts.GROCERY_CLASSES + "Pear,3,Pear,2\n", r"line 5 of .*classes\.csv names no iconic picture")},
    ("classes.csv",),
    {"classes.csv": layouts.GROCERY_CLASSES.replace("/iconic-images-and-descriptions/Veg", "/../../Veg")},
)
GROCERY_CLASSIFICATION = Case(
    "grocery",
    "classification",
    layouts.grocery,
    same(
        [(*row, "train") for row in GROCERY_TRAIN]
        + [("val/Fruit/Apple/Fuji/1.jpg", FUJI, "val")]
        + [(*row, "test") for row in GROCERY_TEST]
    ),
    {"train": (3, 3), "val": (1, 1), "test": (2, 2)},
    needed=("val.txt",),
)
OMNIGLOT = Case(
    "omniglot",
    "retrieval",
    layouts.omniglot,
    same(
        [
            (f"images_{side}/{alphabet}/{character}/{number}_{n:02d}.png", f"{alphabet}/{character}", part)
            for side, alphabet, character, number, part in (
                ("background", "Magi", "character01", "0709", "train"),
                ("background", "Magi", "character02", "0710", "train"),
                ("evaluation", "Angelic", "character01", "0965", "test"),
            )
            for n in range(1, 21)
        ]
    ),
    {"train": (40, 2), "test": (20, 1)},
    ("images_background/Magi/character02/0710_07.png", "images_background/Magi/character02/0710_07.png"),
    "images_evaluation/Angelic/character01/0965_21.png",
    needed=("images_background", "images_evaluation"),
)
SHOES = Case(
    "shoev2",
    "retrieval",
    layouts.qmul,
    same(
        [
            ("trainB/10.png", "10", "train"),
            ("trainA/10_1.png", "10", "train"),
            ("trainA/10_2.png", "10", "train"),
            ("testB/20.png", "20", "gallery"),
            ("testB/21.png", "21", "gallery"),
            ("testA/20_1.png", "20", "query"),
            ("testA/20_2.png", "20", "query"),
            ("testA/21_3.png", "21", "query"),
        ]
    ),
    {"train": (3, 1), "query": (3, 2), "gallery": (2, 2)},
    ("testB/21.png", "testB/21.png"),
    "testA/new.png",
    needed=("testA", "trainB"),
)
CHAIRS = replace(SHOES, name="chairv2")
LISTED = Case(
    "shoev2",
    "retrieval",
    layouts.qmul_lists,
    [
        (f"ShoeV2_{kind}/{name}.png", f"ShoeV2/ShoeV2_{kind}/{name}.png", name.split("_")[0], part)
        for kind, name, part in (
            ("photo", "10", "train"),
            ("sketch", "10_1", "train"),
            ("sketch", "10_2", "train"),
            ("photo", "20", "gallery"),
            ("photo", "21", "gallery"),
            ("sketch", "21_3", "query"),
            ("sketch", "20_1", "query"),
        )
    ],
    {"train": (3, 1), "query": (2, 2), "gallery": (2, 2)},
    ("ShoeV2/ShoeV2_sketch/20_1.png", "ShoeV2/ShoeV2_sketch/20_1.png"),
    "ShoeV2/ShoeV2_photo/new.png",
    {
        "ShoeV2/sketch_test.txt": ("20_1.png\nshoe.png\n", r"line 2 of .*sketch_test\.txt is not a photo's name"),
        "ShoeV2/photo_test.txt": ("20.png\n", r"line 1 of .*sketch_test\.txt is a sketch of 21, which photo_test\.txt"),
    },
    ("ShoeV2/photo_test.txt", "ShoeV2/ShoeV2_photo"),
    {"ShoeV2/photo_train.txt": "../../10.png\n"},
)
UNSEEN = Case(
    "sketchy",
    "retrieval",
    layouts.sketchy,
    same(
        [
            ("sketch/tx_000000000000/airplane/n_1-1.png", "airplane", "train"),
            ("sketch/tx_000000000000/airplane/n_2-1.png", "airplane", "train"),
            ("sketch/tx_000000000000/airplane/n_2-2.png", "airplane", "train"),
            ("sketch/tx_000000000000/bat/n_3-1.png", "bat", "query"),
            ("sketch/tx_000000000000/bat/n_3-2.png", "bat", "query"),
            ("EXTEND_image_sketchy/airplane/e_7.jpg", "airplane", "train"),
            ("EXTEND_image_sketchy/airplane/n_1.jpg", "airplane", "train"),
            ("EXTEND_image_sketchy/bat/e_8.jpg", "bat", "gallery"),
            ("EXTEND_image_sketchy/bat/n_3.jpg", "bat", "gallery"),
        ]
    ),
    {"train": (5, 1), "query": (2, 1), "gallery": (2, 1)},
    ("EXTEND_image_sketchy/bat", "EXTEND_image_sketchy/bat"),
    "EXTEND_image_sketchy/new.jpg",
    needed=("sketch/tx_000000000000", "EXTEND_image_sketchy"),
)
INSTANCES = Case(
    "sketchy",
    "instance",
    layouts.sketchy,
    same(
        [
            ("photo/tx_000000000000/bat/n_3.jpg", "bat/n_3", "gallery"),
            ("photo/tx_000000000000/airplane/n_2.jpg", "airplane/n_2", "gallery"),
            ("sketch/tx_000000000000/airplane/n_2-1.png", "airplane/n_2", "query"),
            ("sketch/tx_000000000000/bat/n_3-1.png", "bat/n_3", "query"),
            ("sketch/tx_000000000000/bat/n_3-2.png", "bat/n_3", "query"),
        ]
    ),
    {"query": (3, 2), "gallery": (2, 2)},
    ("photo/tx_000000000000/airplane/n_1.jpg", "photo/tx_000000000000/airplane/n_1.jpg"),
    "sketch/tx_000000000000/bat/new.png",
    {"info/testset.txt": ("bat/n_3.jpg\nwords\n", r"line 2 of .*testset\.txt is not the name of a photo")},
    ("info/testset.txt", "info/invalid-pose.txt", "photo/tx_000000000000"),
    {"info/testset.txt": "../../bat/n_3.jpg\n"},
)
CASES = [
    *(DEEPFASHION, RPC, VALIDATION, PRODUCTS, PETS, CIFAR, GROCERY, GROCERY_COARSE, GROCERY_ICONIC),
    *(GROCERY_CLASSIFICATION, OMNIGLOT, SHOES, CHAIRS, LISTED, UNSEEN, INSTANCES),
]
