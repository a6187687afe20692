"""Folders of no known layout: what is in them is said, with a remedy that fits; years in split names are understood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenepalette.common.errors import DataError
from scenepalette.data.readers.folder import open_folder
from scenepalette.data.sample import FolderOptions

COUNTS = {"train": 6, "val": 4}


def made(root: Path, image: str, label: str) -> Path:
    """Write pairs: {s} is the split, {n} the number; every label shows both classes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.csv").write_text("name\nsky\nroad\n")
    for split, count in COUNTS.items():
        for number in range(count):
            for form, pixels in ((image, np.zeros((8, 8, 3), np.uint8)), (label, np.eye(8, dtype=np.uint8))):
                path = root / form.format(s=split, n=f"{split}{number}")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def refusal(root: Path, options: FolderOptions | None = None) -> str:
    with pytest.raises(DataError) as caught:
        open_folder(root, "train", options=options or FolderOptions())
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize("year", ["2017", "_2012"])
def test_years_behind_the_names_of_splits_are_passed_over(tmp_path: Path, year: str) -> None:
    root = made(tmp_path, f"images/{{s}}{year}/{{n}}.png", f"labels/{{s}}{year}/{{n}}.png")
    assert [len(open_folder(root, split)) for split in COUNTS] == list(COUNTS.values())


def test_a_folder_below_that_has_a_layout_is_named(tmp_path: Path) -> None:
    root = made(tmp_path, "mine/{s}/images/{n}.png", "mine/{s}/labels/{n}.png")
    assert f"Set data.root to {root / 'mine'}, which has such a layout." in refusal(root)


def test_several_parts_with_a_layout_each_are_to_be_put_together(tmp_path: Path) -> None:
    root = made(tmp_path, "tile {s}/images/{n}.png", "tile {s}/masks/{n}.png")
    text = refusal(root)
    assert "tile train/, tile val/ have such a layout, each its own: put them together" in text


def test_images_and_labels_in_folders_of_other_depth_are_no_layout_each(tmp_path: Path) -> None:
    """BDD100K: images/10k/train holds images alone, and is no data set."""
    root = made(tmp_path, "images/10k/{s}/{n}.png", "labels/sem_seg/masks/{s}/{n}.png")
    text = refusal(root)
    assert "Set data.root" not in text
    assert "images/10k/train/ (6), images/10k/val/ (4), labels/sem_seg/masks/train/ (6)" in text


def test_labels_one_folder_deeper_are_reached_by_a_setting(tmp_path: Path) -> None:
    """Mapillary Vistas: training/v2.0/labels."""
    root = made(tmp_path, "{s}/images/{n}.png", "{s}/v2.0/labels/{n}.png")
    assert "train/v2.0/labels/ (6)" in refusal(root)
    options = FolderOptions(label_folder="v2.0/labels")
    assert [len(open_folder(root, split, options=options)) for split in COUNTS] == list(COUNTS.values())


def archive(root: Path) -> str:
    (root / "train.zip").write_bytes(b"PK\x03\x04")
    return "Unpack train.zip."


def annotations(root: Path) -> str:
    (root / "ds" / "ann").mkdir(parents=True)
    (root / "ds" / "ann" / "a.png.json").write_text("{}")
    return "Annotations such as a.png.json become labels by `scenepalette import`."


def volumes(root: Path) -> str:
    (root / "imagesTr").mkdir()
    (root / "imagesTr" / "la_000.nii.gz").write_bytes(b"\x1f\x8b")
    (root / "dataset.json").write_text("{}")
    return "There are no images, but files such as la_000.nii.gz; what is read are PNG"


def cityscapes(root: Path) -> str:
    (root / "leftImg8bit").mkdir()
    return "leftImg8bit/ is part of the layouts of data.name=cityscapes and idd."


@pytest.mark.parametrize("prepare", [archive, annotations, volumes, cityscapes])
def test_what_is_there_instead_decides_the_remedy(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    (tmp_path / "classes.csv").write_text("name\nsky\nroad\n")
    remedy, text = prepare(tmp_path), refusal(tmp_path)
    assert remedy in text and ("import" in remedy or "`scenepalette import`" not in text)


def test_a_published_layout_one_folder_below_is_named(tmp_path: Path) -> None:
    (tmp_path / "CamVid").mkdir()
    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / "CamVid" / folder).mkdir()
    remedy = f"CamVid/ has the layout of data.name=camvid: set that, and data.root to {tmp_path / 'CamVid'}."
    assert remedy in refusal(tmp_path)


def test_where_layout_and_class_file_are_missing_both_are_said(tmp_path: Path) -> None:
    root = made(tmp_path, "mine/{s}/images/{n}.png", "mine/{s}/labels/{n}.png")
    (root / "classes.csv").unlink()
    text = refusal(root)
    assert "needs exactly one class file" in text and f"Set data.root to {root / 'mine'}" in text


def test_images_of_cityscapes_in_the_folder_of_their_archive_are_told(tmp_path: Path) -> None:
    root = made(tmp_path, "a/leftImg8bit/{s}/{n}.png", "b/gtFine/{s}/{n}.png")
    assert "a/leftImg8bit/ is part of the layouts of data.name=cityscapes" in refusal(root)


def test_voc_without_a_class_file_is_told_of_its_import(tmp_path: Path) -> None:
    root = made(tmp_path, "JPEGImages/{n}.png", "SegmentationClass/{n}.png")
    (root / "classes.csv").unlink()
    assert f"`scenepalette import {root} --from voc`" in refusal(root)


def test_another_folder_that_may_hold_the_labels_is_named(tmp_path: Path) -> None:
    root = made(tmp_path, "JPEGImages/{n}.png", "SegmentationClassContext/{n}.png")
    assert "If SegmentationClassContext/ has them, set data.label_folder to it." in refusal(root)


@pytest.mark.parametrize(
    ("ending", "remedy"),
    [
        ("{n}.npy", "grey PNG file"),
        ("{n}.mat", "grey PNG file"),
        ("{n}.png.json", "`scenepalette import`"),
        ("{n}.txt", "export that, and `scenepalette import` it"),
        ("{n}.png.gz", "Unpack it"),
    ],
)
def test_labels_in_a_form_that_is_not_read_are_not_called_missing(tmp_path: Path, ending: str, remedy: str) -> None:
    root = made(tmp_path, "{s}/images/{n}.png", "{s}/labels/{n}.png")
    for path in list(root.rglob("labels/*.png")):
        path.rename(path.with_name(ending.format(n=path.stem)))
    text = refusal(root)
    assert "is in a form that is not read" in text and remedy in text and "missing" not in text


def test_folders_that_are_read_by_a_link_are_not_called_unread(tmp_path: Path) -> None:
    root = made(tmp_path, "store/{s}/images/{n}.png", "store/{s}/labels/{n}.png")
    for split in COUNTS:
        (root / split).symlink_to(root / "store" / split)
    assert open_folder(root, "train").notes == ()


def test_listed_images_whose_labels_are_arrays_are_told_of_that(tmp_path: Path) -> None:
    """SBD: img/a.jpg, cls/a.mat, train.txt and val.txt."""
    root = made(tmp_path, "img/{n}.jpg", "cls/{n}.png")
    for path in (root / "cls").iterdir():
        path.rename(path.with_suffix(".mat"))
    for split, count in COUNTS.items():
        (root / f"{split}.txt").write_text("".join(f"{split}{number}\n" for number in range(count)))
    assert "as theirs are in a form that is not read. Save the array" in refusal(
        root, FolderOptions(label_folder="cls")
    )


def test_of_label_maps_and_what_is_shown_of_them_a_setting_chooses(tmp_path: Path) -> None:
    """SYNTHIA: GT/LABELS and GT/COLOR."""
    root = made(made(tmp_path, "RGB/{n}.png", "GT/LABELS/{n}.png"), "RGB/{n}.png", "GT/COLOR/{n}.png")
    assert "if one folder has label maps, set data.label_folder to it" in refusal(root)
    assert "too few to divide" in refusal(root, FolderOptions(label_folder="GT/LABELS"))
