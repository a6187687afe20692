"""COCO-Stuff's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.readers.coco_stuff import open_coco_stuff

Write = Callable[[Path, np.ndarray], None]


def test_values_are_class_ids_and_255_is_ignored(coco_stuff_root: Path) -> None:
    dataset = open_coco_stuff(coco_stuff_root, "train")
    assert dataset.ids == ("000000000009", "000000000030")
    stored = np.asarray(Image.open(coco_stuff_root / "annotations/train2017/000000000009.png"))
    assert np.array_equal(dataset[0].label, stored)
    assert dataset[0].label[0, :3].tolist() == [0, 181, 255]
    assert open_coco_stuff(coco_stuff_root, "val").ids == ("000000000139",)


@pytest.mark.parametrize("labels", ["stuffthingmaps_trainval2017", "stuffthingmaps"])
def test_archives_may_be_unpacked_under_their_own_names(coco_stuff_root: Path, labels: str) -> None:
    expected = open_coco_stuff(coco_stuff_root, "train").ids
    (coco_stuff_root / "annotations").rename(coco_stuff_root / labels)
    (coco_stuff_root / "images/train2017").rename(coco_stuff_root / "train2017")
    assert open_coco_stuff(coco_stuff_root, "train").ids == expected


def test_converted_labels_beside_the_published_ones_are_passed_over(coco_stuff_root: Path, write: Write) -> None:
    write(
        coco_stuff_root / "annotations/train2017/000000000009_labelTrainIds.png", np.full((1, 1), 200, dtype=np.uint8)
    )
    assert len(open_coco_stuff(coco_stuff_root, "train")) == 2


def test_every_kind_of_damage_is_listed_with_its_file(coco_stuff_root: Path, write: Write) -> None:
    images, labels = coco_stuff_root / "images/train2017", coco_stuff_root / "annotations/train2017"
    write(images / "000000000001.jpg", np.zeros((6, 8, 3), dtype=np.uint8))
    write(labels / "000000000002.png", np.zeros((6, 8), dtype=np.uint8))
    write(labels / "000000000009.png", np.full((6, 7), 182, dtype=np.uint8))
    cut = labels / "000000000030.png"
    cut.write_bytes(cut.read_bytes()[:-15])
    with pytest.raises(DataError) as caught:
        open_coco_stuff(coco_stuff_root, "train")
    *others, last = caught.value.problems
    assert others == [
        "images/train2017/000000000001.jpg: no label for it, annotations/train2017/000000000001.png is missing",
        "annotations/train2017/000000000002.png: no image for it",
        "annotations/train2017/000000000009.png: 6 x 7 pixels (height x width), but its image "
        "images/train2017/000000000009.jpg has 6 x 8; both must be equal",
        "annotations/train2017/000000000009.png: label values 182 in 42 pixels; allowed are the class ids 0 to 181 "
        "and, as ignored, 255",
    ]
    assert last.startswith("annotations/train2017/000000000030.png: it is damaged")


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_coco_stuff(tmp_path, "val")
    assert caught.value.problems == ("images/val2017/", "annotations/val2017/")
