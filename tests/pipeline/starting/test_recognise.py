from __future__ import annotations

from pathlib import Path

import pytest
from own_data import write_own_data

from labelled_folders import camvid_root  # noqa: F401 (a fixture)
from scenepalette.pipeline.starting.recognise import recognise

TREES = [
    ("cityscapes", ["leftImg8bit/train/ulm/u_leftImg8bit.png", "gtFine/train/ulm/u_gtFine_labelIds.png"]),
    ("cityscapes", ["leftImg8bit/train/u_leftImg8bit.jpg", "gtFine/train/u_gtFine_labelIds.png"]),
    ("cityscapes", ["leftImg8bit/train/ulm/u_leftImg8bit.png", "gtFine/train/ulm/u_gtFine_labelTrainIds.png"]),
    (
        "cityscapes-25k",
        [
            "leftImg8bit/train/ulm/u_leftImg8bit.png",
            "gtFine/train/ulm/u_gtFine_labelIds.png",
            "leftImg8bit/train_extra/x/u_leftImg8bit.png",
            "refinement_final/train_extra/x/u.png",
        ],
    ),
    ("idd", ["leftImg8bit/train/1/u_leftImg8bit.png", "gtFine/train/1/u_gtFine_labelids.png"]),
    ("idd", ["leftImg8bit/train/1/u_leftImg8bit.png", "gtFine/train/1/u_gtFine_polygons.json"]),
    ("ade20k", ["images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png"]),
    ("ade20k", ["images/ADE/training/urban/street/ADE_train_1_seg.png"]),
    ("coco-stuff", ["images/train2017/1.jpg", "annotations/train2017/1.png"]),
    ("coco-stuff", ["train2017/1.jpg", "stuffthingmaps_trainval2017/train2017/1.png"]),
    ("celebamask-hq", ["CelebA-HQ-img/1.jpg", "CelebAMask-HQ-mask-anno/0/00001_hair.png"]),
    ("gta5", ["images/00001.png", "labels/00001.png", "split.mat"]),
    ("folder", ["images/training/1.jpg", "annotations/training/1.png"]),
]


@pytest.mark.parametrize(("name", "files"), TREES)
def test_published_layouts_are_told_apart(name: str, files: list[str], tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert recognise(tmp_path) == name


def test_camvid_is_recognised_unless_a_class_file_makes_it_ones_own(camvid_root: Path) -> None:  # noqa: F811
    assert recognise(camvid_root) == "camvid"
    (camvid_root / "classes.csv").write_text("name,red,green,blue\n")
    assert recognise(camvid_root) == "folder"


def test_any_other_folder_is_a_folder(tmp_path: Path) -> None:
    assert recognise(tmp_path) == "folder"
    assert recognise(write_own_data(tmp_path, train=2, val=2)) == "folder"
